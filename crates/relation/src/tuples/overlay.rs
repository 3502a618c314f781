//! Tuples of one question, laid over those that are kept: one stands in the place of what is kept of its object, relation and user, as
//! OpenFGA has it in a check, so that a question can take a condition away or add one.
//!
//! A question brings along a hundred tuples at most, and most often none, so that they are looked through one by one.

use std::hash::{Hash, Hasher};

use super::{ReadError, Row, Tuples, User};
use crate::relationship::{BoundCondition, Relationship, UserRef};

/// An object: one that is kept, or one that only the question names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<O> {
    Kept(O),
    Local(u32),
}

/// By the number alone: a question names few objects itself, and most places of a search are looked up more than once.
impl<O: Hash> Hash for Name<O> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Kept(object) => object.hash(state),
            Self::Local(at) => at.hash(state),
        }
    }
}

/// Kept tuples, and beside them those that a question brings along.
#[derive(Debug)]
pub(crate) struct Overlay<'t, T: Tuples> {
    kept: &'t T,
    local: Vec<String>,
    brought: Vec<Brought<T::Object>>,
}

#[derive(Debug)]
struct Brought<O> {
    object: Name<O>,
    relation: String,
    user: Name<O>,
    user_relation: Option<String>,
    condition: Option<BoundCondition>,
}

impl<'t, T: Tuples> Overlay<'t, T> {
    pub(crate) fn new(kept: &'t T) -> Self {
        Self { kept, local: Vec::new(), brought: Vec::new() }
    }

    /// Adds a tuple of the question.
    pub(crate) fn bring(&mut self, tuple: &Relationship) -> Result<(), ReadError> {
        let Some(user) = UserRef::parse(&tuple.user) else { return Ok(()) };
        let brought = Brought {
            object: self.place(&tuple.object)?,
            relation: tuple.relation.clone(),
            user: self.place(user.object)?,
            user_relation: user.relation.map(str::to_owned),
            condition: tuple.condition.clone(),
        };
        self.brought.push(brought);
        Ok(())
    }

    /// What stands for a name, which is taken in if it is new.
    pub(crate) fn place(&mut self, name: &str) -> Result<Name<T::Object>, ReadError> {
        if let Some(known) = self.object(name)? {
            return Ok(known);
        }
        self.local.push(name.to_owned());
        Ok(Name::Local(u32::try_from(self.local.len() - 1).unwrap_or(u32::MAX)))
    }
}

/// The rows of a question's tuples, then those of kept ones which none of these hides.
pub(crate) struct OverlayRows<'a, T: Tuples + 'a> {
    brought: Vec<Row<'a, Name<T::Object>>>,
    given: usize,
    kept: Option<T::Rows<'a>>,
}

impl<'a, T: Tuples> Iterator for OverlayRows<'a, T> {
    type Item = Row<'a, Name<T::Object>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(row) = self.brought.get(self.given) {
            self.given += 1;
            return Some(*row);
        }
        let (brought, kept) = (&self.brought, self.kept.as_mut()?);
        let rows = kept.map(|row| {
            let user = User { object: Name::Kept(row.user.object), relation: row.user.relation };
            Row { object: Name::Kept(row.object), user, condition: row.condition }
        });
        // What is read together has one relation.
        let mut seen = rows.filter(|row| !brought.iter().any(|own| own.object == row.object && own.user == row.user));
        seen.next()
    }
}

impl<T: Tuples> Overlay<'_, T> {
    fn rows<'a>(
        &'a self,
        kept: Option<T::Rows<'a>>,
        relation: &str,
        wanted: impl Fn(&Brought<T::Object>) -> bool,
    ) -> OverlayRows<'a, T> {
        let belongs = |row: &&Brought<T::Object>| row.relation == relation && wanted(row);
        OverlayRows { brought: self.brought.iter().filter(belongs).map(Brought::row).collect(), given: 0, kept }
    }
}

impl<O: Copy> Brought<O> {
    fn row(&self) -> Row<'_, Name<O>> {
        let user = User { object: self.user, relation: self.user_relation.as_deref() };
        Row { object: self.object, user, condition: self.condition.as_ref() }
    }
}

impl<T: Tuples> Tuples for Overlay<'_, T> {
    type Object = Name<T::Object>;
    type Rows<'a>
        = OverlayRows<'a, T>
    where
        Self: 'a;

    fn object(&self, name: &str) -> Result<Option<Self::Object>, ReadError> {
        if let Some(kept) = self.kept.object(name)? {
            return Ok(Some(Name::Kept(kept)));
        }
        let local = self.local.iter().position(|local| local == name);
        Ok(local.and_then(|at| u32::try_from(at).ok()).map(Name::Local))
    }

    fn name(&self, object: Self::Object) -> &str {
        match object {
            Name::Kept(kept) => self.kept.name(kept),
            Name::Local(at) => self.local.get(at as usize).map_or("", String::as_str),
        }
    }

    fn tuple<'a>(
        &'a self,
        object: Self::Object,
        relation: &str,
        user: User<'_, Self::Object>,
    ) -> Result<Self::Rows<'a>, ReadError> {
        let kept = match (object, user.object) {
            (Name::Kept(object), Name::Kept(kept)) => {
                Some(self.kept.tuple(object, relation, User { object: kept, relation: user.relation })?)
            }
            _ => None,
        };
        Ok(self.rows(kept, relation, |row| {
            row.object == object && row.user == user.object && row.user_relation.as_deref() == user.relation
        }))
    }

    fn users<'a>(&'a self, object: Self::Object, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        let kept = match object {
            Name::Kept(kept) => Some(self.kept.users(kept, relation)?),
            Name::Local(_) => None,
        };
        Ok(self.rows(kept, relation, |row| row.object == object))
    }

    fn usersets<'a>(&'a self, object: Self::Object, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        let kept = match object {
            Name::Kept(kept) => Some(self.kept.usersets(kept, relation)?),
            Name::Local(_) => None,
        };
        Ok(self.rows(kept, relation, |row| row.object == object && row.user_relation.is_some()))
    }

    fn objects<'a>(&'a self, user: User<'_, Self::Object>, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        let kept = match user.object {
            Name::Kept(kept) => Some(self.kept.objects(User { object: kept, relation: user.relation }, relation)?),
            Name::Local(_) => None,
        };
        Ok(self.rows(kept, relation, |row| row.user == user.object && row.user_relation.as_deref() == user.relation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuples::Snapshot;

    fn names(rows: OverlayRows<'_, Snapshot>, overlay: &Overlay<'_, Snapshot>) -> Vec<String> {
        let shown = |row: Row<'_, Name<u32>>| {
            let condition = row.condition.map_or("always", |bound| bound.name.as_str());
            let relation = row.user.relation.map(|relation| format!("#{relation}")).unwrap_or_default();
            format!("{} {}{relation} {condition}", overlay.name(row.object), overlay.name(row.user.object))
        };
        rows.map(shown).collect()
    }

    #[test]
    fn a_tuple_of_the_question_stands_in_the_place_of_the_kept_one_of_its_key() {
        let one = |user: &str| Relationship::new("doc:1", "viewer", user);
        let kept = Snapshot::new(&[one("user:anne"), one("user:bob"), one("group:1#member")]).unwrap();
        let mut overlay = Overlay::new(&kept);
        for user in ["user:anne", "group:1#member", "user:new"] {
            overlay.bring(&one(user).under("small", crate::condition::Context::new())).unwrap();
        }
        let (doc, anne) = (overlay.object("doc:1").unwrap().unwrap(), overlay.object("user:anne").unwrap().unwrap());
        let of_anne = User { object: anne, relation: None };
        let small = ["doc:1 user:anne small".to_owned()];
        assert_eq!(names(overlay.tuple(doc, "viewer", of_anne).unwrap(), &overlay), small);
        assert_eq!(names(overlay.objects(of_anne, "viewer").unwrap(), &overlay), small);
        assert_eq!(names(overlay.usersets(doc, "viewer").unwrap(), &overlay), ["doc:1 group:1#member small"]);
        let all = ["user:anne small", "group:1#member small", "user:new small", "user:bob always"];
        assert_eq!(names(overlay.users(doc, "viewer").unwrap(), &overlay), all.map(|user| format!("doc:1 {user}")));
        // Of another relation it hides nothing.
        assert!(overlay.tuple(doc, "owner", of_anne).unwrap().next().is_none());
    }
}
