//! What would make a no a yes: sets of tuples that were tried, and what stands in the way of those that are there.
//!
//! The rules are read backwards from the question: what would have to hold for this to hold? First near it, then farther away. Whatever
//! comes of it is put beside the tuples that are there, and the check has the last word.

use std::collections::{HashMap, HashSet};

use super::{Hindrance, Lack, Proof, prove};
use crate::{
    budget::Budget,
    check::{Asker, Search, Verdict},
    condition::Context,
    list_objects,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, QueryError, checked_user, lay},
    relationship::{BoundCondition, Relationship, UserRef, is_of_type},
    schema::{AllowedShape, RelationId, RelationRules, Rule, Schema},
    tuples::{Overlay, Tuples},
};

/// How far from the question is searched, in steps of the rules.
const FAR: usize = 8;
/// How many tuples a set has at most.
const TUPLES: usize = 4;
/// How many sets are told, how many are kept at a place on the way, and how many are tried.
const TOLD: usize = 8;
const WAYS: usize = 24;
const TRIED: usize = 200;
/// How many tuples are looked at of one relation of an object, and how many objects are taken in which the user stands already.
const ROWS: usize = 200;
const KNOWN: usize = 3;
/// How many places are gone into, and how many steps all searches on the way take together.
const PLACES: usize = 2_000;
const STEPS: usize = 300_000;
/// How many steps are taken to find the objects of one type in which the user stands already.
const LISTING: usize = 50_000;

/// Tuples that together might do.
type Way = Vec<Relationship>;

/// A user of a tuple that is there.
struct Present {
    object: String,
    relation: Option<String>,
    condition: Option<BoundCondition>,
}

pub(super) struct Inquiry<'a, T: Tuples> {
    schema: &'a Schema,
    kept: &'a T,
    overlay: Overlay<'a, T>,
    request: CheckRequest<'a>,
    user: UserRef<'a>,
    limits: Limits,
    /// How many places may still be gone into.
    places: usize,
    /// What was found out before: where the user stands, by place and part of its rule, and to which objects of a type.
    stands: HashMap<(String, RelationId, Option<usize>), bool>,
    known: HashMap<(String, String), Vec<String>>,
    hindrances: Vec<Hindrance>,
    is_complete: bool,
}

impl<'a, T: Tuples> Inquiry<'a, T> {
    pub(super) fn new(
        schema: &'a Schema,
        kept: &'a T,
        overlay: Overlay<'a, T>,
        request: CheckRequest<'a>,
        limits: &Limits,
    ) -> Result<Self, QueryError> {
        let user = checked_user(schema, request.user)?;
        // The tuples that are tried come on top of those that the question brought along.
        let limits = Limits {
            contextual: limits.contextual + TUPLES,
            results: KNOWN,
            steps: limits.steps.min(STEPS),
            ..*limits
        };
        Ok(Self {
            schema,
            kept,
            overlay,
            request,
            user,
            limits,
            places: PLACES,
            stands: HashMap::new(),
            known: HashMap::new(),
            hindrances: Vec::new(),
            is_complete: true,
        })
    }

    /// What the answer lacks for being a yes.
    pub(super) fn lack(mut self, object: &str, relation: RelationId) -> Result<Lack, QueryError> {
        let (mut told, mut tried) = (Vec::<Way>::new(), HashSet::new());
        for far in 1..=FAR {
            let mut ways = self.place(object, relation, far)?;
            ways.sort_by_key(Vec::len);
            for way in ways {
                if tried.len() >= TRIED || self.limits.steps == 0 {
                    self.is_complete = false;
                    break;
                }
                if tried.insert(key(&way)) && told.len() < TOLD && self.suffices((object, relation), &way)? {
                    let way = self.without_the_superfluous((object, relation), way)?;
                    let covered = |known: &Way| known.iter().all(|tuple| way.contains(tuple));
                    if !told.iter().any(covered) {
                        told.retain(|known| !way.iter().all(|tuple| known.contains(tuple)));
                        told.push(way);
                    }
                }
            }
        }
        told.sort_by_key(Vec::len);
        Ok(Lack { needed: told, hindrances: self.hindrances, is_complete: self.is_complete })
    }

    /// What stands in the way of tuples that are there.
    pub(super) fn hindrances(mut self, object: &str, relation: RelationId) -> Result<Vec<Hindrance>, QueryError> {
        self.place(object, relation, FAR)?;
        Ok(self.hindrances)
    }

    /// Whether the check says yes with these tuples beside the others.
    fn suffices(&mut self, (object, relation): (&str, RelationId), way: &[Relationship]) -> Result<bool, QueryError> {
        if way.len() > TUPLES || way.iter().any(|tuple| self.schema.admit(tuple).is_err()) {
            return Ok(false);
        }
        let tuples: Way = self.request.brought.tuples.iter().chain(way).cloned().collect();
        let brought = Brought { tuples: &tuples, ..self.request.brought };
        let mut budget = Budget::new(&self.limits, brought);
        let mut overlay = match lay(self.schema, self.kept, brought, &self.limits, &mut budget) {
            // What cannot be tried within the bound does not suffice as far as was found.
            Err(QueryError::TooComplex) => {
                self.limits.steps = 0;
                return Ok(false);
            }
            laid => laid?,
        };
        let (place, asker) = (overlay.place(object)?, Asker::new(self.schema, &mut overlay, self.user)?);
        let mut search = Search::new(self.schema, &overlay, asker, brought, (self.limits.depth, budget));
        let found = search.answer(place, relation);
        self.limits.steps = search.left();
        match found {
            Ok(stands) => Ok(stands),
            Err(error) if error.ends_all() => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn without_the_superfluous(&mut self, place: (&str, RelationId), mut way: Way) -> Result<Way, QueryError> {
        let mut at = 0;
        while at < way.len() {
            let mut fewer = way.clone();
            fewer.remove(at);
            if self.suffices(place, &fewer)? { way = fewer } else { at += 1 }
        }
        Ok(way)
    }

    /// The ways to a place; one of nothing, where the user stands there.
    fn place(&mut self, object: &str, relation: RelationId, far: usize) -> Result<Vec<Way>, QueryError> {
        if self.places == 0 || far == 0 {
            self.is_complete &= self.places > 0;
            return Ok(Vec::new());
        }
        self.places -= 1;
        if self.stands(object, relation, None)? {
            return Ok(vec![Way::new()]);
        }
        let schema = self.schema;
        self.rule(object, relation, &schema.rules(relation).rule, far)
    }

    /// The ways to meet a rule. Calls itself as deep as the bound and the model's operators are.
    fn rule(&mut self, object: &str, relation: RelationId, rule: &'a Rule, far: usize) -> Result<Vec<Way>, QueryError> {
        let mut ways = Vec::new();
        match rule {
            Rule::Direct => ways = self.direct(object, relation, far)?,
            Rule::Computed(computed) => ways = self.place(object, *computed, far - 1)?,
            Rule::From { tupleset, computed } => ways = self.from(object, *tupleset, computed, far)?,
            Rule::Union(children) => {
                for child in children {
                    ways.extend(self.rule(object, relation, child, far)?);
                }
            }
            Rule::Intersection(children) => {
                ways.push(Way::new());
                for child in children {
                    if !self.stands(object, relation, Some(child))? {
                        let more = self.rule(object, relation, child, far)?;
                        ways = together(&ways, &more);
                    }
                }
            }
            Rule::Difference(pair) => {
                ways = if self.stands(object, relation, Some(&pair.0))? {
                    vec![Way::new()]
                } else {
                    self.rule(object, relation, &pair.0, far)?
                };
                if !ways.is_empty() && self.is_excluded(object, relation, &pair.1)? {
                    ways.clear();
                }
            }
        }
        ways.sort_by_key(Vec::len);
        self.is_complete &= ways.len() <= WAYS;
        ways.truncate(WAYS);
        Ok(ways)
    }

    /// Tuples of the place itself: for the user, and for those in whose relation he stands or could stand.
    fn direct(&mut self, object: &str, relation: RelationId, far: usize) -> Result<Vec<Way>, QueryError> {
        let (schema, user) = (self.schema, self.user);
        let rules = schema.rules(relation);
        let present = self.present(object, rules)?;
        let mut ways = self.own(object, rules);
        for tuple in &present {
            let bound = tuple.condition.as_ref();
            let named = UserRef { object: &tuple.object, relation: tuple.relation.as_deref() };
            let his = named == user
                || (named.is_wildcard() && user.relation.is_none() && named.type_name() == user.type_name());
            let next = rules.userset(schema, named, bound);
            if (his || next.is_some())
                && self.applies(object, rules, tuple)
                && let Some(next) = next
            {
                ways.extend(self.place(&tuple.object, next, far - 1)?);
            }
        }
        let listed = |known: &str, name: &str| {
            present.iter().any(|tuple| tuple.object == known && tuple.relation.as_deref() == Some(name))
        };
        for allowed in &rules.allowed {
            let AllowedShape::Userset(next) = allowed.shape else { continue };
            let name = &schema.rules(next).name;
            for known in self.known(&allowed.type_name, name)? {
                if !listed(&known, name) {
                    ways.push(vec![written(object, rules, format!("{known}#{name}"), allowed.condition.as_deref())]);
                }
            }
        }
        Ok(ways)
    }

    /// The tuples that would name the user himself; all of his type only where nothing narrower may be written.
    fn own(&self, object: &str, rules: &RelationRules) -> Vec<Way> {
        let user = self.user;
        let of = |shape: &dyn Fn(AllowedShape) -> bool, text: &str| -> Vec<Way> {
            let fitting =
                rules.allowed.iter().filter(|allowed| allowed.type_name == user.type_name() && shape(allowed.shape));
            fitting.map(|allowed| vec![written(object, rules, text.to_owned(), allowed.condition.as_deref())]).collect()
        };
        let everybody = format!("{}:*", user.type_name());
        if let Some(relation) = user.relation {
            let is_his =
                |shape| matches!(shape, AllowedShape::Userset(next) if self.schema.rules(next).name == relation);
            return of(&is_his, &user.to_string());
        }
        let one = if user.is_wildcard() { Vec::new() } else { of(&|shape| shape == AllowedShape::Object, user.object) };
        if one.is_empty() { of(&|shape| shape == AllowedShape::Wildcard, &everybody) } else { one }
    }

    /// Over the tuples of a relation: those that are there, or one that leads where the user stands already, or where he could.
    fn from(
        &mut self,
        object: &str,
        tupleset: RelationId,
        computed: &'a [RelationId],
        far: usize,
    ) -> Result<Vec<Way>, QueryError> {
        let schema = self.schema;
        let (rules, mut ways) = (schema.rules(tupleset), Vec::new());
        let present = self.present(object, rules)?;
        for tuple in &present {
            let next = computed.iter().find(|next| is_of_type(&tuple.object, &schema.rules(**next).type_name));
            if let Some(next) = next
                && self.applies(object, rules, tuple)
            {
                ways.extend(self.place(&tuple.object, *next, far - 1)?);
            }
        }
        for next in computed {
            let of = schema.rules(*next);
            let admitted = rules
                .allowed
                .iter()
                .find(|allowed| allowed.shape == AllowedShape::Object && allowed.type_name == of.type_name);
            let Some(admitted) = admitted else { continue };
            let lead = |to: &str| written(object, rules, to.to_owned(), admitted.condition.as_deref());
            let known = self.known(&of.type_name, &of.name)?;
            for known in known.iter().filter(|known| present.iter().all(|tuple| tuple.object != **known)) {
                ways.push(vec![lead(known)]);
            }
            if known.is_empty() && present.is_empty() {
                let new = format!("{}:new", of.type_name);
                let there = self.place(&new, *next, far - 1)?;
                ways.extend(together(&[vec![lead(&new)]], &there));
            }
        }
        Ok(ways)
    }

    /// Objects of a type to which the user stands in a relation already.
    fn known(&mut self, type_name: &str, relation: &str) -> Result<Vec<String>, QueryError> {
        let asked = (type_name.to_owned(), relation.to_owned());
        if let Some(known) = self.known.get(&asked) {
            return Ok(known.clone());
        }
        let request = ListObjectsRequest {
            object_type: type_name,
            relation,
            user: self.request.user,
            brought: self.request.brought,
        };
        let limits = Limits { steps: self.limits.steps.min(LISTING), ..self.limits };
        let known = match list_objects(self.schema, self.kept, request, &limits) {
            Ok(objects) => objects,
            Err(error) if error.ends_all() => return Err(error),
            Err(_) => {
                self.is_complete = false;
                Vec::new()
            }
        };
        self.known.insert(asked, known.clone());
        Ok(known)
    }

    /// The users of the relation's tuples that are the model's.
    fn present(&mut self, object: &str, rules: &RelationRules) -> Result<Vec<Present>, QueryError> {
        let at = self.overlay.place(object)?;
        let (mut present, mut rows) = (Vec::new(), self.overlay.users(at, &rules.name)?);
        for row in rows.by_ref().take(ROWS) {
            let user = UserRef { object: self.overlay.name(row.user.object), relation: row.user.relation };
            if rules.allows(self.schema, user, row.condition) {
                let (object, relation) = (user.object.to_owned(), user.relation.map(str::to_owned));
                present.push(Present { object, relation, condition: row.condition.cloned() });
            }
        }
        let all = rows.next().is_none();
        drop(rows);
        self.is_complete &= all;
        Ok(present)
    }

    /// Whether a tuple's condition is met; if not, it is a hindrance.
    fn applies(&mut self, object: &str, rules: &RelationRules, present: &Present) -> bool {
        // The search that comes to it pays for it.
        let mut unpaid = Budget::new(&Limits::default(), self.request.brought);
        let error = match unpaid.holds(self.schema, present.condition.as_ref(), self.request.brought.context) {
            Ok(Ok(true)) => return true,
            Ok(Ok(false)) => None,
            Ok(Err(QueryError::Condition { source, .. })) => Some(source),
            Ok(Err(_)) | Err(_) => return false,
        };
        let user = UserRef { object: &present.object, relation: present.relation.as_deref() }.to_string();
        let tuple = Relationship {
            object: object.to_owned(),
            relation: rules.name.clone(),
            user,
            condition: present.condition.clone(),
        };
        self.hinder(Hindrance::Condition { tuple, error });
        false
    }

    /// Whether the user is taken out by a rule; if he is, how he came under it is a hindrance.
    fn is_excluded(&mut self, object: &str, relation: RelationId, rule: &'a Rule) -> Result<bool, QueryError> {
        let place = (self.overlay.place(object)?, relation);
        let asker = Asker::new(self.schema, &mut self.overlay, self.user)?;
        let budget = Budget::new(&self.limits, self.request.brought);
        let brought = (self.request.brought, (self.limits.depth, budget));
        match prove(self.schema, &self.overlay, asker, brought, (place, Some(rule))) {
            Ok(Proof::Stands(by)) => {
                let relation = self.schema.rules(relation).name.clone();
                self.hinder(Hindrance::Excluded { object: object.to_owned(), relation, by });
                Ok(true)
            }
            Ok(Proof::DoesNot { .. } | Proof::Withheld(_)) => Ok(false),
            Err(error) if error.ends_all() => Err(error),
            Err(_) => Ok(true),
        }
    }

    fn hinder(&mut self, hindrance: Hindrance) {
        if self.hindrances.len() < TOLD && !self.hindrances.contains(&hindrance) {
            self.hindrances.push(hindrance);
        }
    }

    /// Whether the user stands at a place, or meets a part of its rule. What is withheld is no yes.
    fn stands(&mut self, object: &str, relation: RelationId, operand: Option<&'a Rule>) -> Result<bool, QueryError> {
        // A rule of the schema stays where it is for as long as this takes.
        let key = (object.to_owned(), relation, operand.map(|rule| std::ptr::from_ref(rule).addr()));
        if let Some(stands) = self.stands.get(&key) {
            return Ok(*stands);
        }
        let place = (self.overlay.place(object)?, relation);
        let asker = Asker::new(self.schema, &mut self.overlay, self.user)?;
        let bounds = (self.limits.depth, Budget::new(&self.limits, self.request.brought));
        let mut search = Search::new(self.schema, &self.overlay, asker, self.request.brought, bounds);
        let found = search.region(place, operand, 0);
        let left = search.left();
        // All that is asked on the way comes out of one allowance.
        self.limits.steps = left;
        let stands = match found {
            Ok(found) => matches!(found.verdict, Verdict::Yes),
            Err(error) if error.ends_all() => return Err(error),
            Err(_) => false,
        };
        self.stands.insert(key, stands);
        Ok(stands)
    }
}

/// A tuple that could be written.
fn written(object: &str, rules: &RelationRules, user: String, condition: Option<&str>) -> Relationship {
    let tuple = Relationship::new(object, rules.name.clone(), user);
    match condition {
        Some(name) => tuple.under(name, Context::new()),
        None => tuple,
    }
}

/// Each of the one with each of the other.
fn together(ones: &[Way], others: &[Way]) -> Vec<Way> {
    let mut both = Vec::new();
    for one in ones {
        for other in others {
            let mut way = one.clone();
            way.extend(other.iter().filter(|tuple| !one.contains(tuple)).cloned());
            if way.len() <= TUPLES && both.len() < WAYS * WAYS {
                both.push(way);
            }
        }
    }
    both
}

/// What two sets of the same tuples have in common.
fn key(way: &Way) -> Vec<String> {
    let mut all: Vec<String> = way.iter().map(super::tuple_text).collect();
    all.sort();
    all
}
