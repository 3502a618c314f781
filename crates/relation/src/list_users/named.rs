//! Whether somebody who stands somewhere is named there, or stands there only as one of all of his type.
//!
//! Owns what OpenFGA means by a user of a list that has everybody in it: whoever is found otherwise than by that. Must never say of
//! itself that somebody stands: that is the check's.

use foldhash::{HashSet, HashSetExt as _};

use crate::{
    check::{FEW_CHILDREN, Place, Search},
    query::{Brought, QueryError},
    relationship::{BoundCondition, UserRef, is_of_type},
    schema::{AT_ONCE, RelationId, Rule, Schema},
    tuples::{Name, Overlay, Tuples, User},
};

/// How somebody is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum As {
    /// As one who stands there.
    Standing,
    /// As one who does not, though others do: taken away from those who are taken away, he stands again.
    TakenAway,
}

/// The search for one user's name.
pub(super) struct Naming<'s, 'a, T: Tuples> {
    schema: &'a Schema,
    tuples: &'a Overlay<'a, T>,
    brought: Brought<'a>,
    user: Name<T::Object>,
    /// The checks of that user.
    search: &'s mut Search<'a, T>,
    seen: HashSet<(Place<T::Object>, As)>,
    open: Vec<(Place<T::Object>, &'a Rule, As)>,
}

impl<'s, 'a, T: Tuples> Naming<'s, 'a, T> {
    /// For a user whose checks these are.
    pub(super) fn new(
        schema: &'a Schema,
        tuples: &'a Overlay<'a, T>,
        brought: Brought<'a>,
        (user, search): (Name<T::Object>, &'s mut Search<'a, T>),
    ) -> Self {
        Self { schema, tuples, brought, user, search, seen: HashSet::new(), open: Vec::new() }
    }

    /// Whether the user is named at a place where he stands.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(super) fn names(mut self, place: Place<T::Object>) -> Result<bool, QueryError> {
        self.reach(place, As::Standing);
        while let Some((place, rule, how)) = self.open.pop() {
            self.search.budget().spend(1 + rule.children() / FEW_CHILDREN)?;
            match (rule, how) {
                (Rule::Direct, _) => {
                    if self.direct(place, how)? {
                        return Ok(true);
                    }
                }
                (Rule::Computed(relation), _) => self.reach((place.0, *relation), how),
                (Rule::From { tupleset, computed }, _) => self.from(place.0, *tupleset, computed, how)?,
                (Rule::Union(children), As::Standing) => self.open(place, children, how),
                (Rule::Intersection(children), As::Standing) => {
                    if self.search.stands(place, Some(rule))? {
                        self.open(place, children, how);
                    }
                }
                // Among several it is not asked who was taken away from one.
                (Rule::Union(_) | Rule::Intersection(_), As::TakenAway) => {}
                (Rule::Difference(pair), As::Standing) => {
                    if self.search.stands(place, Some(rule))? {
                        self.open.extend([(place, &pair.0, how), (place, &pair.1, As::TakenAway)]);
                    }
                }
                (Rule::Difference(pair), As::TakenAway) => {
                    if !self.search.stands(place, Some(rule))? {
                        self.open.push((place, &pair.0, how));
                        if self.search.stands(place, Some(&pair.0))? {
                            self.open.extend([&pair.0, &pair.1].map(|rule| (place, rule, As::Standing)));
                        }
                    }
                }
            }
        }
        Ok(false)
    }

    fn open(&mut self, place: Place<T::Object>, rules: &'a [Rule], how: As) {
        self.open.extend(rules.iter().map(|rule| (place, rule, how)));
    }

    fn reach(&mut self, place: Place<T::Object>, how: As) {
        if self.seen.insert((place, how)) {
            self.open.push((place, &self.schema.rules(place.1).rule, how));
        }
    }

    /// Whether a tuple of the place itself names the user.
    fn direct(&mut self, place: Place<T::Object>, how: As) -> Result<bool, QueryError> {
        let (schema, tuples) = (self.schema, self.tuples);
        let rules = schema.rules(place.1);
        if how == As::Standing {
            for row in tuples.tuple(place.0, &rules.name, User { object: self.user, relation: None })? {
                self.search.budget().spend(rules.cost())?;
                let user = UserRef { object: tuples.name(row.user.object), relation: row.user.relation };
                if rules.allows(schema, user, row.condition) && self.holds(row.condition)? {
                    return Ok(true);
                }
            }
        }
        for row in tuples.usersets(place.0, &rules.name)? {
            self.search.budget().spend(rules.cost())?;
            let user = UserRef { object: tuples.name(row.user.object), relation: row.user.relation };
            if let Some(relation) = rules.userset(schema, user, row.condition)
                && self.holds(row.condition)?
            {
                self.reach((row.user.object, relation), how);
            }
        }
        Ok(false)
    }

    fn from(
        &mut self,
        object: Name<T::Object>,
        tupleset: RelationId,
        computed: &[RelationId],
        how: As,
    ) -> Result<(), QueryError> {
        let (schema, tuples) = (self.schema, self.tuples);
        let rules = schema.rules(tupleset);
        let cost = rules.cost() + computed.len() / AT_ONCE;
        for row in tuples.users(object, &rules.name)? {
            self.search.budget().spend(cost)?;
            let user = UserRef { object: tuples.name(row.user.object), relation: row.user.relation };
            let relation =
                computed.iter().find(|relation| is_of_type(user.object, &schema.rules(**relation).type_name));
            if let Some(relation) = relation
                && rules.allows(schema, user, row.condition)
                && self.holds(row.condition)?
            {
                self.reach((row.user.object, *relation), how);
            }
        }
        Ok(())
    }

    fn holds(&mut self, condition: Option<&BoundCondition>) -> Result<bool, QueryError> {
        self.search.budget().holds(self.schema, condition, self.brought.context)?
    }
}
