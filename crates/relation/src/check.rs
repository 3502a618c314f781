//! Whether a user stands in a relation to an object.
//!
//! A relation that is a union of others, and of those who stand in relations to other objects, is searched like a graph: every place
//! once, the nearest first, until the user is found. Where all of several things must hold, or one and not another, each is a search
//! of its own. What such a thing depends on may be itself; that is no for the time being, which is right wherever nothing is taken
//! away. Where the circle itself runs through something that is taken away the answer is no for good: such a circle never makes a
//! yes. One that is wholly below what is taken away is a sure no like any other, and who is not there keeps what he has.
//!
//! An answer that a bound or a condition withholds is withheld only if nothing else decides: one yes makes a union yes, one no an
//! intersection no.

use std::{collections::VecDeque, hash::Hash};

use foldhash::{HashSet, HashSetExt as _};

use crate::{
    budget::Budget,
    query::{Brought, CheckRequest, Limits, QueryError, checked_node, checked_user, lay},
    relationship::{BoundCondition, UserRef, is_of_type},
    schema::{AT_ONCE, AllowedShape, RelationId, RelationRules, Rule, Schema, TypeId},
    tuples::{Name, Overlay, ReadError, Row, Tuples, User},
};

/// How many operators may be open at once: the depth of one model's operators, many times over, and far from the end of a stack.
const OPEN: usize = 200;
/// How many parts of a union are looked at as one step: each may be a look at tuples of its own.
pub(crate) const FEW_CHILDREN: usize = 4;

/// Whether a user stands in a relation to an object.
///
/// # Errors
/// [`QueryError`]; never a yes or a no by half of what would have to be known.
pub fn check<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    request: CheckRequest<'_>,
    limits: &Limits,
) -> Result<bool, QueryError> {
    let (object, relation) = checked_node(schema, request.object, request.relation)?;
    let user = checked_user(schema, request.user)?;
    let mut budget = Budget::new(limits, request.brought);
    let mut overlay = lay(schema, tuples, request.brought, limits, &mut budget)?;
    let (object, user) = (overlay.place(object)?, Asker::new(schema, &mut overlay, user)?);
    Search::new(schema, &overlay, user, request.brought, (limits.depth, budget)).answer(object, relation)
}

/// Several checks, each with its own answer.
///
/// # Errors
/// [`QueryError::Invalid`] for more than a batch may have.
pub fn batch_check<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    requests: &[CheckRequest<'_>],
    limits: &Limits,
) -> Result<Vec<Result<bool, QueryError>>, QueryError> {
    if requests.len() > limits.batch {
        return Err(QueryError::Invalid(format!("more than {} checks", limits.batch)));
    }
    Ok(requests.iter().map(|request| check(schema, tuples, *request, limits)).collect())
}

/// A relation of an object.
pub(crate) type Place<O> = (Name<O>, RelationId);

/// Who is told how a search goes. The check has nobody watch, which costs nothing.
pub(crate) trait Watch<'a, O> {
    /// A search through unions begins at a place, or at one operand of its rule.
    fn begins(&mut self, _at: Place<O>, _operand: Option<&'a Rule>) {}

    /// It goes on to a place, over a tuple of a relation or by the rule alone.
    fn goes(&mut self, _from: Place<O>, _to: Place<O>, _over: Option<Over<'a, O>>) {}

    /// It has found the user.
    fn finds(&mut self, _at: Place<O>, _by: Find<'a, O>) {}

    /// It is over.
    fn ends(&mut self, _stands: bool) {}

    /// The searches for the operands of an operator begin.
    fn opens(&mut self, _operator: &'a Rule) {}

    /// They are over.
    fn closes(&mut self, _stands: bool) {}
}

impl<O> Watch<'_, O> for () {}

/// A tuple of a relation.
pub(crate) type Over<'a, O> = (RelationId, Row<'a, Name<O>>);

/// By what a search has found the user.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Find<'a, O> {
    /// The place is what was asked for.
    Itself,
    /// This tuple.
    Tuple(Row<'a, Name<O>>),
    /// The operands of an operator, which were just closed.
    Operands,
}

/// The user who is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<O> {
    object: Name<O>,
    type_id: Option<TypeId>,
    is_wildcard: bool,
    /// The relation that he names.
    relation: Option<RelationId>,
    /// All of his type, if there is a tuple that names them.
    everybody: Option<Name<O>>,
}

impl<O: Copy> Asker<O> {
    /// Places a user that the model knows.
    pub(crate) fn new<T: Tuples<Object = O>>(
        schema: &Schema,
        overlay: &mut Overlay<'_, T>,
        user: UserRef<'_>,
    ) -> Result<Self, ReadError> {
        let type_name = user.type_name();
        let type_id = schema.type_of(type_name).ok();
        let relation = user.relation.and_then(|relation| schema.relation(type_id?, relation));
        let object = overlay.place(user.object)?;
        let everybody = if user.is_wildcard() { Some(object) } else { overlay.object(&format!("{type_name}:*"))? };
        Ok(Self { object, type_id, is_wildcard: user.is_wildcard(), relation, everybody })
    }
}

/// How many places a search comes by, most often.
const FEW: usize = 28;

/// Depends on nothing that is still open.
const FREE: usize = usize::MAX;

#[derive(Debug)]
pub(crate) enum Verdict {
    Yes,
    No,
    Unknown(QueryError),
}

/// An answer, and how it came about.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) verdict: Verdict,
    /// The outermost open place that was taken for a no.
    on: usize,
    /// Whether it is a no only because a circle runs through something that is taken away. Nothing is made a yes by such a no.
    doubtful: bool,
}

impl Found {
    const fn sure(verdict: Verdict) -> Self {
        Self { verdict, on: FREE, doubtful: false }
    }

    pub(crate) const fn is_sure(&self) -> bool {
        self.on == FREE && !self.doubtful
    }
}

/// Checks of one user.
pub(crate) struct Search<'a, T: Tuples, W = ()> {
    schema: &'a Schema,
    tuples: &'a Overlay<'a, T>,
    user: Asker<T::Object>,
    brought: Brought<'a>,
    depth: usize,
    budget: Budget<'a>,
    /// Where the user is known to stand, and where not.
    yes: HashSet<Place<T::Object>>,
    no: HashSet<Place<T::Object>>,
    /// The places whose operators are being worked out, the outermost first.
    open: Vec<Place<T::Object>>,
    watch: W,
}

/// One search through unions.
struct Region<O> {
    seen: HashSet<Place<O>>,
    queue: VecDeque<(Place<O>, usize)>,
    withheld: Option<QueryError>,
    on: usize,
    doubtful: bool,
}

impl<O: Copy + Eq + Hash> Region<O> {
    /// Whether the place is a new one.
    fn enqueue(&mut self, place: Place<O>, depth: usize) -> bool {
        let new = self.seen.insert(place);
        if new {
            self.queue.push_back((place, depth));
        }
        new
    }

    fn withhold(&mut self, error: QueryError) {
        self.withheld.get_or_insert(error);
    }
}

impl<'a, T: Tuples> Search<'a, T> {
    pub(crate) fn new(
        schema: &'a Schema,
        tuples: &'a Overlay<'a, T>,
        user: Asker<T::Object>,
        brought: Brought<'a>,
        bounds: (usize, Budget<'a>),
    ) -> Self {
        Self::watched(schema, tuples, user, (brought, bounds), ())
    }
}

impl<'a, T: Tuples, W: Watch<'a, T::Object>> Search<'a, T, W> {
    /// One that somebody watches.
    pub(crate) fn watched(
        schema: &'a Schema,
        tuples: &'a Overlay<'a, T>,
        user: Asker<T::Object>,
        (brought, (depth, budget)): (Brought<'a>, (usize, Budget<'a>)),
        watch: W,
    ) -> Self {
        let (yes, no, open) = (HashSet::new(), HashSet::new(), Vec::new());
        Self { schema, tuples, user, brought, depth, budget, yes, no, open, watch }
    }

    /// Whoever watched.
    pub(crate) fn into_watch(self) -> W {
        self.watch
    }

    /// Whether the user stands there.
    pub(crate) fn answer(&mut self, object: Name<T::Object>, relation: RelationId) -> Result<bool, QueryError> {
        self.stands((object, relation), None)
    }

    /// Whether the user stands there, or by one operand of its rule.
    pub(crate) fn stands(&mut self, place: Place<T::Object>, operand: Option<&'a Rule>) -> Result<bool, QueryError> {
        match self.region(place, operand, 0)?.verdict {
            Verdict::Yes => Ok(true),
            Verdict::No => Ok(false),
            Verdict::Unknown(error) => Err(error),
        }
    }

    /// How many steps are left.
    pub(crate) fn left(&self) -> usize {
        self.budget.left()
    }

    /// What else belongs to the same question takes its steps here.
    pub(crate) fn budget(&mut self) -> &mut Budget<'a> {
        &mut self.budget
    }

    fn user_ref(&self, user: User<'a, Name<T::Object>>) -> UserRef<'a> {
        UserRef { object: self.tuples.name(user.object), relation: user.relation }
    }

    /// Searches from a place, or from one operand of its rule.
    pub(crate) fn region(
        &mut self,
        place: Place<T::Object>,
        operand: Option<&'a Rule>,
        depth: usize,
    ) -> Result<Found, QueryError> {
        let mut region = Region {
            seen: HashSet::with_capacity(FEW),
            queue: VecDeque::new(),
            withheld: None,
            on: FREE,
            doubtful: false,
        };
        let mut yes = false;
        self.watch.begins(place, operand);
        match operand {
            Some(rule) => {
                self.budget.spend(1)?;
                yes = self.follow(&mut region, place, rule, depth)?;
            }
            None => _ = region.enqueue(place, depth),
        }
        while !yes && let Some((next, depth)) = region.queue.pop_front() {
            yes = self.arrive(&mut region, next, depth)?;
        }
        self.watch.ends(yes);
        if yes {
            if operand.is_none() {
                self.yes.insert(place);
            }
            return Ok(Found::sure(Verdict::Yes));
        }
        let Region { mut seen, withheld, on, doubtful, .. } = region;
        let verdict = withheld.map_or(Verdict::No, Verdict::Unknown);
        let found = Found { verdict, on, doubtful };
        if matches!(found.verdict, Verdict::No) && found.is_sure() {
            // Whoever is not found from here is not found from anywhere that was come by. The smaller set goes into the larger.
            if self.no.len() < seen.len() {
                std::mem::swap(&mut self.no, &mut seen);
            }
            self.no.extend(seen);
        }
        Ok(found)
    }

    /// Whether the user stands at this place, as far as it is not left to places further on.
    fn arrive(
        &mut self,
        region: &mut Region<T::Object>,
        place: Place<T::Object>,
        depth: usize,
    ) -> Result<bool, QueryError> {
        self.budget.spend(1)?;
        if self.user.relation == Some(place.1) && self.user.object == place.0 {
            self.watch.finds(place, Find::Itself);
            return Ok(true);
        }
        if self.yes.contains(&place) {
            return Ok(true);
        }
        if self.no.contains(&place) {
            return Ok(false);
        }
        if let Some(at) = self.open.iter().position(|open| *open == place) {
            region.on = region.on.min(at);
            return Ok(false);
        }
        if depth >= self.depth && !domain::sabotaged!(RelationDepth) {
            region.withhold(QueryError::TooComplex);
            return Ok(false);
        }
        let schema = self.schema;
        self.follow(region, place, &schema.rules(place.1).rule, depth)
    }

    fn follow(
        &mut self,
        region: &mut Region<T::Object>,
        place: Place<T::Object>,
        rule: &'a Rule,
        depth: usize,
    ) -> Result<bool, QueryError> {
        match rule {
            Rule::Direct => self.direct(region, place, depth),
            Rule::Computed(relation) => {
                self.go(region, place, (place.0, *relation), depth, None);
                Ok(false)
            }
            Rule::From { tupleset, computed } => self.from(region, place, (*tupleset, computed), depth),
            Rule::Union(children) => {
                // The first ones are paid for by the place.
                self.budget.spend(rule.children() / FEW_CHILDREN)?;
                for child in children {
                    if self.follow(region, place, child, depth)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Rule::Intersection(_) | Rule::Difference(_) => {
                let found = self.operators(place, rule, depth)?;
                region.on = region.on.min(found.on);
                region.doubtful |= found.doubtful;
                match found.verdict {
                    Verdict::Yes => {
                        self.watch.finds(place, Find::Operands);
                        return Ok(true);
                    }
                    Verdict::No => {}
                    Verdict::Unknown(error) => region.withhold(error),
                }
                Ok(false)
            }
        }
    }

    fn go(
        &mut self,
        region: &mut Region<T::Object>,
        from: Place<T::Object>,
        to: Place<T::Object>,
        depth: usize,
        over: Option<Over<'a, T::Object>>,
    ) {
        if region.enqueue(to, depth + 1) {
            self.watch.goes(from, to, over);
        }
    }

    /// The tuples of the place itself: the user, all of his type, those who stand somewhere else.
    fn direct(
        &mut self,
        region: &mut Region<T::Object>,
        place: Place<T::Object>,
        depth: usize,
    ) -> Result<bool, QueryError> {
        let (schema, tuples, user) = (self.schema, self.tuples, self.user);
        let rules = schema.rules(place.1);
        self.budget.spend(rules.cost() - 1)?;
        let lets_in = |shape: AllowedShape| {
            rules.allowed.iter().any(|allowed| allowed.shape == shape && Some(allowed.of) == user.type_id)
        };
        if user.relation.is_none() {
            let one = (!user.is_wildcard && lets_in(AllowedShape::Object)).then_some(user.object);
            let all = user.everybody.filter(|_| lets_in(AllowedShape::Wildcard));
            for object in [one, all].into_iter().flatten() {
                let rows = tuples.tuple(place.0, &rules.name, User { object, relation: None })?;
                if self.written(region, place, rules, rows)? {
                    return Ok(true);
                }
            }
        }
        if rules.allowed.iter().any(|allowed| matches!(allowed.shape, AllowedShape::Userset(_))) {
            for row in tuples.usersets(place.0, &rules.name)? {
                self.budget.spend(rules.cost())?;
                if let Some(relation) = rules.userset(schema, self.user_ref(row.user), row.condition)
                    && self.holds(region, row.condition)?
                {
                    self.go(region, place, (row.user.object, relation), depth, Some((place.1, row)));
                }
            }
        }
        Ok(false)
    }

    /// Whether one of these tuples lets the user stand there.
    fn written(
        &mut self,
        region: &mut Region<T::Object>,
        place: Place<T::Object>,
        rules: &RelationRules,
        rows: impl Iterator<Item = Row<'a, Name<T::Object>>>,
    ) -> Result<bool, QueryError> {
        for row in rows {
            self.budget.spend(rules.cost())?;
            if rules.allows(self.schema, self.user_ref(row.user), row.condition) && self.holds(region, row.condition)? {
                self.watch.finds(place, Find::Tuple(row));
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn from(
        &mut self,
        region: &mut Region<T::Object>,
        place: Place<T::Object>,
        (tupleset, computed): (RelationId, &[RelationId]),
        depth: usize,
    ) -> Result<bool, QueryError> {
        let (schema, tuples) = (self.schema, self.tuples);
        let rules = schema.rules(tupleset);
        let cost = rules.cost() + computed.len() / AT_ONCE;
        for row in tuples.users(place.0, &rules.name)? {
            self.budget.spend(cost)?;
            if !rules.allows(schema, self.user_ref(row.user), row.condition) {
                continue;
            }
            let parent = row.user.object;
            let name = tuples.name(parent);
            let relation = computed.iter().find(|relation| is_of_type(name, &schema.rules(**relation).type_name));
            if let Some(relation) = relation
                && self.holds(region, row.condition)?
            {
                self.go(region, place, (parent, *relation), depth, Some((tupleset, row)));
            }
        }
        Ok(false)
    }

    /// Whether a tuple's condition is met; an answer that is withheld is noted.
    fn holds(
        &mut self,
        region: &mut Region<T::Object>,
        condition: Option<&BoundCondition>,
    ) -> Result<bool, QueryError> {
        let held = self.budget.holds(self.schema, condition, self.brought.context)?;
        Ok(held.unwrap_or_else(|error| {
            region.withhold(error);
            false
        }))
    }

    /// What must hold with or without something else.
    fn operators(&mut self, place: Place<T::Object>, rule: &'a Rule, depth: usize) -> Result<Found, QueryError> {
        if self.open.len() >= OPEN {
            return Err(QueryError::TooComplex);
        }
        let own = self.open.len();
        self.open.push(place);
        self.watch.opens(rule);
        let found = match rule {
            Rule::Intersection(children) => self.all(place, children, depth),
            Rule::Difference(pair) => self.without(place, pair, depth),
            _ => self.region(place, Some(rule), depth),
        };
        self.open.pop();
        let mut found = found?;
        self.watch.closes(matches!(found.verdict, Verdict::Yes));
        if found.on >= own {
            found.on = FREE;
        }
        Ok(found)
    }

    /// A sure no decides; then one that is not sure, then what is withheld.
    fn all(&mut self, place: Place<T::Object>, children: &'a [Rule], depth: usize) -> Result<Found, QueryError> {
        let mut all = Found::sure(Verdict::Yes);
        for child in children {
            let found = self.region(place, Some(child), depth)?;
            match (&found.verdict, &all.verdict) {
                (Verdict::Yes, _) => {}
                (Verdict::No, _) if found.is_sure() => return Ok(found),
                (Verdict::No, _) | (Verdict::Unknown(_), Verdict::Yes) => all = found,
                (Verdict::Unknown(_), _) => all.on = all.on.min(found.on),
            }
        }
        Ok(all)
    }

    fn without(&mut self, place: Place<T::Object>, pair: &'a (Rule, Rule), depth: usize) -> Result<Found, QueryError> {
        let base = self.region(place, Some(&pair.0), depth)?;
        if matches!(base.verdict, Verdict::No) {
            return Ok(base);
        }
        let subtract = self.region(place, Some(&pair.1), depth)?;
        match subtract.verdict {
            Verdict::Yes => Ok(Found::sure(Verdict::No)),
            Verdict::No if subtract.is_sure() => Ok(base),
            Verdict::No => Ok(Found { doubtful: true, ..subtract }),
            Verdict::Unknown(_) => Ok(Found { on: subtract.on.min(base.on), ..subtract }),
        }
    }
}
