//! The way by which a search found the user, written down while it searches.

use foldhash::{HashMap, HashMapExt as _};

use super::{By, Step, rule_text};
use crate::{
    check::{Find, Over, Place, Watch},
    relationship::{Relationship, UserRef},
    schema::{RelationId, Rule, Schema},
    tuples::{Name, Overlay, Row, Tuples},
};

/// Writes down how a search goes.
pub(super) struct Recorder<'a, O> {
    /// The searches that are going on, the outermost first.
    searches: Vec<Going<'a, O>>,
    /// The ways of searches that are over and said yes.
    trails: Vec<Trail<'a, O>>,
    /// The operators that are open, each with how many ways there were before it.
    opened: Vec<(&'a Rule, usize)>,
    /// The operator that was just closed with a yes, and the ways of its operands.
    closed: Option<(&'a Rule, Vec<Trail<'a, O>>)>,
}

/// A place at the one end of a step, and the tuple over which it goes.
type Leg<'a, O> = (Place<O>, Option<Over<'a, O>>);

/// A search that is going on.
struct Going<'a, O> {
    start: Place<O>,
    operand: Option<&'a Rule>,
    /// From where each place was come to.
    came: HashMap<Place<O>, Leg<'a, O>>,
    found: Option<(Place<O>, End<'a, O>)>,
}

/// A way.
struct Trail<'a, O> {
    start: Place<O>,
    operand: Option<&'a Rule>,
    /// The places after the start, each with the tuple that led there.
    legs: Vec<Leg<'a, O>>,
    end: End<'a, O>,
}

enum End<'a, O> {
    Itself,
    Tuple(Row<'a, Name<O>>),
    Operands(&'a Rule, Vec<Trail<'a, O>>),
}

impl<O> Default for Recorder<'_, O> {
    fn default() -> Self {
        Self { searches: Vec::new(), trails: Vec::new(), opened: Vec::new(), closed: None }
    }
}

impl<'a, O: Copy + Eq + std::hash::Hash> Watch<'a, O> for Recorder<'a, O> {
    fn begins(&mut self, at: Place<O>, operand: Option<&'a Rule>) {
        self.searches.push(Going { start: at, operand, came: HashMap::new(), found: None });
    }

    fn goes(&mut self, from: Place<O>, to: Place<O>, over: Option<Over<'a, O>>) {
        if let Some(going) = self.searches.last_mut() {
            going.came.insert(to, (from, over));
        }
    }

    fn finds(&mut self, at: Place<O>, by: Find<'a, O>) {
        let end = match by {
            Find::Itself => Some(End::Itself),
            Find::Tuple(row) => Some(End::Tuple(row)),
            Find::Operands => self.closed.take().map(|(operator, trails)| End::Operands(operator, trails)),
        };
        if let (Some(going), Some(end)) = (self.searches.last_mut(), end) {
            going.found = Some((at, end));
        }
    }

    fn ends(&mut self, stands: bool) {
        if let Some(going) = self.searches.pop()
            && stands
            && let Some((at, end)) = going.found
        {
            let (mut legs, mut place) = (Vec::new(), at);
            while place != going.start
                && let Some((from, over)) = going.came.get(&place)
            {
                legs.push((place, *over));
                place = *from;
            }
            legs.reverse();
            self.trails.push(Trail { start: going.start, operand: going.operand, legs, end });
        }
    }

    fn opens(&mut self, operator: &'a Rule) {
        self.opened.push((operator, self.trails.len()));
    }

    fn closes(&mut self, stands: bool) {
        if let Some((operator, before)) = self.opened.pop() {
            let trails = self.trails.split_off(before.min(self.trails.len()));
            self.closed = stands.then_some((operator, trails));
        }
    }
}

impl<'a, O: Copy> Recorder<'a, O> {
    /// The way of the one search that was watched, if it said yes.
    pub(super) fn step<T: Tuples<Object = O>>(self, schema: &Schema, tuples: &Overlay<'a, T>) -> Option<Step> {
        let writer = Writer { schema, tuples };
        self.trails.last().map(|trail| writer.step(trail))
    }
}

/// Puts names to a way.
struct Writer<'w, 't, T: Tuples> {
    schema: &'w Schema,
    tuples: &'w Overlay<'t, T>,
}

impl<T: Tuples> Writer<'_, '_, T> {
    /// Calls itself for operators inside each other, which the search bounds.
    fn step(&self, trail: &Trail<'_, T::Object>) -> Step {
        let last = trail.legs.last().map_or(trail.start, |(place, _)| *place);
        let mut by = self.end(last.1, &trail.end);
        for (to, over) in trail.legs.iter().rev() {
            let tuple = over.map(|(relation, row)| self.tuple(relation, row));
            by = By::Next { tuple, step: Box::new(self.at(*to, None, by)) };
        }
        self.at(trail.start, trail.operand, by)
    }

    fn at(&self, place: Place<T::Object>, operand: Option<&Rule>, by: By) -> Step {
        let rules = self.schema.rules(place.1);
        Step {
            object: self.tuples.name(place.0).to_owned(),
            relation: rules.name.clone(),
            rule: rule_text(self.schema, place.1, operand.unwrap_or(&rules.rule)),
            by,
        }
    }

    fn end(&self, relation: RelationId, end: &End<'_, T::Object>) -> By {
        match end {
            End::Itself => By::Itself,
            End::Tuple(row) => By::Tuple(self.tuple(relation, *row)),
            End::Operands(operator, trails) => {
                let mut steps: Vec<Step> = trails.iter().map(|trail| self.step(trail)).collect();
                match operator {
                    Rule::Difference(pair) if steps.len() == 1 => By::Without {
                        step: Box::new(steps.remove(0)),
                        excluded: rule_text(self.schema, relation, &pair.1),
                    },
                    _ => By::All(steps),
                }
            }
        }
    }

    fn tuple(&self, relation: RelationId, row: Row<'_, Name<T::Object>>) -> Relationship {
        let user = UserRef { object: self.tuples.name(row.user.object), relation: row.user.relation };
        Relationship {
            object: self.tuples.name(row.object).to_owned(),
            relation: self.schema.rules(relation).name.clone(),
            user: user.to_string(),
            condition: row.condition.cloned(),
        }
    }
}
