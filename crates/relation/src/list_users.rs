//! Which users stand in a relation to an object.
//!
//! Searched from the object, through everything that can let somebody stand there. Who is found on a way where nothing else must hold
//! is in the list; everybody else who was come by is asked about by himself. Where all of a type are in the list, whoever stands there
//! only as one of them is not in it besides, as in OpenFGA's. A condition that cannot be evaluated ends the question: a list that may lack
//! somebody is no list.

mod named;

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt as _};

use self::named::Naming;
use crate::{
    budget::Budget,
    check::{Asker, FEW_CHILDREN, Place, Search},
    query::{Limits, ListUsersRequest, QueryError, checked_object, lay, listed, listed_type},
    relationship::{BoundCondition, UserRef, is_of_type},
    schema::{AT_ONCE, RelationId, Rule, Schema},
    tuples::{Name, Overlay, Tuples},
};

/// The users, sorted; no more of them than the limits say. `type:*` stands for all of the type.
///
/// # Errors
/// [`QueryError`].
pub fn list_users<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    request: ListUsersRequest<'_>,
    limits: &Limits,
) -> Result<Vec<String>, QueryError> {
    let object = checked_object(request.object)?;
    let relation = listed(schema, object.type_name, request.relation)?;
    let wanted = match request.user_relation {
        Some(relation) => Some(listed(schema, request.user_type, relation)?),
        None => listed_type(schema, request.user_type).map(|_| None)?,
    };
    let mut budget = Budget::new(limits, request.brought);
    let mut overlay = lay(schema, tuples, request.brought, limits, &mut budget)?;
    let object = overlay.place(object.text)?;
    let mut walk = Walk {
        schema,
        tuples: &overlay,
        request,
        limits,
        wanted,
        seen: HashMap::new(),
        queue: VecDeque::new(),
        users: HashMap::new(),
        budget,
    };
    walk.reach((object, relation), true, 0);
    walk.run()?;
    budget.leave(walk.budget.left());
    let users = walk.users;
    let mut users: Vec<(String, bool)> =
        users.into_iter().map(|(user, sure)| (overlay.name(user).to_owned(), sure)).collect();
    users.sort();
    let mut stands = |user: UserRef<'_>, must_be_named: bool| -> Result<bool, QueryError> {
        let asker = Asker::new(schema, &mut overlay, user)?;
        let name = overlay.place(user.object)?;
        let mut search = Search::new(schema, &overlay, asker, request.brought, (limits.depth, budget));
        let stands = search.answer(object, relation)?
            && (!must_be_named
                || Naming::new(schema, &overlay, request.brought, (name, &mut search)).names((object, relation))?);
        budget.leave(search.left());
        Ok(stands)
    };
    let everybody = UserRef { object: &format!("{}:*", request.user_type), relation: None };
    let has_everybody = match users.iter().find(|(user, _)| wanted.is_none() && *user == everybody.object) {
        Some((_, sure)) => *sure || stands(everybody, false)?,
        None => false,
    };
    let mut found = Vec::new();
    for (user, sure) in &users {
        if found.len() >= limits.results {
            break;
        }
        let user = UserRef { object: user, relation: request.user_relation };
        let is_listed = *sure || if user == everybody { has_everybody } else { stands(user, has_everybody)? };
        if is_listed {
            found.push(user.to_string());
        }
    }
    Ok(found)
}

struct Walk<'a, T: Tuples> {
    schema: &'a Schema,
    tuples: &'a Overlay<'a, T>,
    request: ListUsersRequest<'a>,
    limits: &'a Limits,
    /// The relation of the users that are asked for.
    wanted: Option<RelationId>,
    /// Whether who stands there surely stands where it is asked about.
    seen: HashMap<Place<T::Object>, bool>,
    queue: VecDeque<(Place<T::Object>, usize)>,
    /// By object; whether surely.
    users: HashMap<Name<T::Object>, bool>,
    budget: Budget<'a>,
}

impl<T: Tuples> Walk<'_, T> {
    fn run(&mut self) -> Result<(), QueryError> {
        let schema = self.schema;
        while let Some((place, depth)) = self.queue.pop_front() {
            self.budget.spend(1)?;
            if depth >= self.limits.depth {
                return Err(QueryError::TooComplex);
            }
            let sure = self.seen.get(&place).copied().unwrap_or(false);
            if self.wanted == Some(place.1) {
                self.found(place.0, sure);
            }
            let mut open = vec![(&schema.rules(place.1).rule, sure)];
            while let Some((rule, sure)) = open.pop() {
                self.budget.spend(rule.children() / FEW_CHILDREN)?;
                match rule {
                    Rule::Direct => self.direct(place, sure, depth)?,
                    Rule::Computed(relation) => self.reach((place.0, *relation), sure, depth + 1),
                    Rule::From { tupleset, computed } => self.from(place.0, *tupleset, computed, sure, depth)?,
                    Rule::Union(children) => open.extend(children.iter().map(|child| (child, sure))),
                    Rule::Intersection(children) => open.extend(children.iter().map(|child| (child, false))),
                    // Who is taken away may have to be named: all of a type, but not him.
                    Rule::Difference(pair) => open.extend([(&pair.0, false), (&pair.1, false)]),
                }
            }
        }
        Ok(())
    }

    fn direct(&mut self, place: Place<T::Object>, sure: bool, depth: usize) -> Result<(), QueryError> {
        let (schema, tuples) = (self.schema, self.tuples);
        let rules = schema.rules(place.1);
        for row in tuples.users(place.0, &rules.name)? {
            self.budget.spend(rules.cost())?;
            let user = UserRef { object: tuples.name(row.user.object), relation: row.user.relation };
            if !rules.allows(schema, user, row.condition) || !self.holds(row.condition)? {
                continue;
            }
            match rules.userset(schema, user, row.condition) {
                Some(relation) => self.reach((row.user.object, relation), sure, depth + 1),
                None if self.wanted.is_none() && is_of_type(user.object, self.request.user_type) => {
                    self.found(row.user.object, sure);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn from(
        &mut self,
        object: Name<T::Object>,
        tupleset: RelationId,
        computed: &[RelationId],
        sure: bool,
        depth: usize,
    ) -> Result<(), QueryError> {
        let (schema, tuples) = (self.schema, self.tuples);
        let rules = schema.rules(tupleset);
        let cost = rules.cost() + computed.len() / AT_ONCE;
        for row in tuples.users(object, &rules.name)? {
            self.budget.spend(cost)?;
            let parent = row.user.object;
            let user = UserRef { object: tuples.name(parent), relation: row.user.relation };
            let relation =
                computed.iter().find(|relation| is_of_type(user.object, &schema.rules(**relation).type_name));
            if let Some(relation) = relation
                && rules.allows(schema, user, row.condition)
                && self.holds(row.condition)?
            {
                self.reach((parent, *relation), sure, depth + 1);
            }
        }
        Ok(())
    }

    fn holds(&mut self, condition: Option<&BoundCondition>) -> Result<bool, QueryError> {
        self.budget.holds(self.schema, condition, self.request.brought.context)?
    }

    fn found(&mut self, object: Name<T::Object>, sure: bool) {
        let known = self.users.entry(object).or_insert(sure);
        *known |= sure;
    }

    fn reach(&mut self, place: Place<T::Object>, sure: bool, depth: usize) {
        let news = match self.seen.get(&place) {
            None => true,
            Some(known) => sure && !known,
        };
        if news {
            self.seen.insert(place, sure);
            self.queue.push_back((place, depth));
        }
    }
}
