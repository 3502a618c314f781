//! To which objects of a type a user stands in a relation.
//!
//! Searched from the user: to every object that his tuples lead to, and on from there along what hangs on the relation in which he
//! stands to it. Where that alone is not enough for an answer, because something else must hold too or must not, the object is
//! asked about by itself. What is taken away leads nowhere and is not followed.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use crate::{
    budget::Budget,
    check::{Asker, FEW_CHILDREN, Place, Search, Verdict},
    query::{Limits, ListObjectsRequest, QueryError, checked_user, lay, listed},
    relationship::{BoundCondition, UserRef, is_of_type},
    schema::{AT_ONCE, AllowedShape, By, RelationId, Rule, Schema},
    tuples::{Name, Overlay, Tuples, User},
};

/// The objects, sorted; no more of them than the limits say.
///
/// # Errors
/// [`QueryError`].
pub fn list_objects<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    request: ListObjectsRequest<'_>,
    limits: &Limits,
) -> Result<Vec<String>, QueryError> {
    list(schema, tuples, request, limits, Unsaid::IsAnError)
}

/// The same, for whoever takes what cannot be said of an object for a no: one to which somebody's tuples lead too far does not keep the others
/// from being listed.
pub(crate) fn list_said_objects<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    request: ListObjectsRequest<'_>,
    limits: &Limits,
) -> Result<Vec<String>, QueryError> {
    list(schema, tuples, request, limits, Unsaid::IsANo)
}

/// What becomes of an object of which the bound on depth or a condition withholds the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsaid {
    IsAnError,
    IsANo,
}

fn list<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    request: ListObjectsRequest<'_>,
    limits: &Limits,
    unsaid: Unsaid,
) -> Result<Vec<String>, QueryError> {
    let target = listed(schema, request.object_type, request.relation)?;
    let user = checked_user(schema, request.user)?;
    let mut budget = Budget::new(limits, request.brought);
    let mut overlay = lay(schema, tuples, request.brought, limits, &mut budget)?;
    let asker = Asker::new(schema, &mut overlay, user)?;
    budget.spend(schema.ways() / AT_ONCE)?;
    let relevant = relevant(schema, target);
    let mut walk = Walk {
        schema,
        tuples: &overlay,
        request,
        limits,
        unsaid,
        relevant,
        seen: HashMap::new(),
        queue: VecDeque::new(),
        budget,
    };
    walk.begin(user)?;
    walk.run()?;
    let Walk { seen, budget, .. } = walk;
    let mut search = Search::new(schema, &overlay, asker, request.brought, (limits.depth, budget));
    let reached = seen.into_iter().filter(|((_, relation), _)| *relation == target);
    let mut reached: Vec<_> = reached.map(|((object, _), sure)| (overlay.name(object), object, sure)).collect();
    reached.sort_unstable_by_key(|(name, ..)| *name);
    let mut objects = Vec::new();
    for (name, object, sure) in reached {
        if objects.len() >= limits.results {
            break;
        }
        let stands = sure
            || match search.region((object, target), None, 0)?.verdict {
                Verdict::Yes => true,
                Verdict::Unknown(error) if unsaid == Unsaid::IsAnError => return Err(error),
                Verdict::No | Verdict::Unknown(_) => false,
            };
        if stands {
            objects.push(name.to_owned());
        }
    }
    Ok(objects)
}

/// The relations on which the target may hang.
fn relevant(schema: &Schema, target: RelationId) -> HashSet<RelationId> {
    let mut under: HashMap<RelationId, Vec<RelationId>> = HashMap::new();
    for (relation, rules) in schema.relations() {
        for dependent in &rules.dependents {
            under.entry(dependent.relation).or_default().push(relation);
        }
    }
    let mut relevant = HashSet::new();
    let mut open = vec![target];
    while let Some(relation) = open.pop() {
        if relevant.insert(relation) {
            open.extend(under.get(&relation).into_iter().flatten());
        }
    }
    relevant
}

struct Walk<'a, T: Tuples> {
    schema: &'a Schema,
    tuples: &'a Overlay<'a, T>,
    request: ListObjectsRequest<'a>,
    limits: &'a Limits,
    unsaid: Unsaid,
    relevant: HashSet<RelationId>,
    /// Where the user may stand, and whether he surely does.
    seen: HashMap<Place<T::Object>, bool>,
    queue: VecDeque<(Name<T::Object>, RelationId, usize)>,
    budget: Budget<'a>,
}

impl<'a, T: Tuples> Walk<'a, T> {
    /// Where the user's own tuples lead, and those of all of his type.
    fn begin(&mut self, user: UserRef<'a>) -> Result<(), QueryError> {
        let (schema, type_name) = (self.schema, user.type_name());
        if let Some(relation) = user.relation.and_then(|relation| schema.relation_of(type_name, relation).ok()) {
            if let Some(object) = self.tuples.object(user.object)? {
                self.reach(object, relation, true, 0);
            }
            return Ok(());
        }
        let one = if user.is_wildcard() { None } else { self.tuples.object(user.object)? };
        let everybody = self.tuples.object(&format!("{type_name}:*"))?;
        for (relation, rules) in schema.relations() {
            if !self.relevant.contains(&relation) {
                continue;
            }
            self.budget.spend(rules.cost())?;
            let of_type = || rules.allowed.iter().filter(|allowed| allowed.type_name == type_name);
            let enough = Self::is_enough(&rules.rule);
            for (shape, user) in [(AllowedShape::Object, one), (AllowedShape::Wildcard, everybody)] {
                if let Some(object) = user
                    && of_type().any(|allowed| allowed.shape == shape)
                {
                    self.along(User { object, relation: None }, relation, relation, enough, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a tuple is enough for the relation that it is of.
    fn is_enough(rule: &Rule) -> bool {
        match rule {
            Rule::Direct => true,
            Rule::Union(children) => children.iter().any(Self::is_enough),
            _ => false,
        }
    }

    fn run(&mut self) -> Result<(), QueryError> {
        let schema = self.schema;
        while let Some((object, relation, depth)) = self.queue.pop_front() {
            let rules = schema.rules(relation);
            self.budget.spend(1 + rules.dependents.len() / FEW_CHILDREN)?;
            if depth >= self.limits.depth {
                if self.unsaid == Unsaid::IsAnError {
                    return Err(QueryError::TooComplex);
                }
                // The nearest come first: what still waits lies at the bound, and is for the check to tell.
                let waiting =
                    std::mem::take(&mut self.queue).into_iter().map(|(object, relation, _)| (object, relation));
                self.seen.extend(waiting.chain([(object, relation)]).map(|place| (place, false)));
                return Ok(());
            }
            let sure = self.seen.get(&(object, relation)).copied().unwrap_or(false);
            for dependent in &rules.dependents {
                if !self.relevant.contains(&dependent.relation) {
                    continue;
                }
                let enough = sure && dependent.enough;
                match dependent.by {
                    By::Computed => self.reach(object, dependent.relation, enough, depth + 1),
                    By::Userset => {
                        let user = User { object, relation: Some(rules.name.as_str()) };
                        self.along(user, dependent.relation, dependent.relation, enough, depth + 1)?;
                    }
                    By::From(tupleset) => {
                        let user = User { object, relation: None };
                        self.along(user, tupleset, dependent.relation, enough, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Follows the tuples of a user in one relation, to another relation of their objects.
    fn along(
        &mut self,
        user: User<'_, Name<T::Object>>,
        written: RelationId,
        reached: RelationId,
        sure: bool,
        depth: usize,
    ) -> Result<(), QueryError> {
        let (schema, tuples) = (self.schema, self.tuples);
        let rules = schema.rules(written);
        for row in tuples.objects(user, &rules.name)? {
            self.budget.spend(rules.cost())?;
            let user = UserRef { object: tuples.name(row.user.object), relation: row.user.relation };
            if is_of_type(tuples.name(row.object), &rules.type_name)
                && rules.allows(schema, user, row.condition)
                && let Some(sure) = self.met(row.condition, sure)?
            {
                self.reach(row.object, reached, sure, depth);
            }
        }
        Ok(())
    }

    /// Whether a tuple leads on, and then whether surely: what a condition withholds is for the check to tell.
    fn met(&mut self, condition: Option<&BoundCondition>, sure: bool) -> Result<Option<bool>, QueryError> {
        Ok(match self.budget.holds(self.schema, condition, self.request.brought.context)? {
            Ok(true) => Some(sure),
            Ok(false) => None,
            Err(_) => Some(false),
        })
    }

    fn reach(&mut self, object: Name<T::Object>, relation: RelationId, sure: bool, depth: usize) {
        let news = match self.seen.get(&(object, relation)) {
            None => true,
            Some(known) => sure && !known,
        };
        if news {
            self.seen.insert((object, relation), sure);
            self.queue.push_back((object, relation, depth));
        }
    }
}
