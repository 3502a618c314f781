//! Tuples of one question, laid over those that are kept.
//!
//! A question brings along a hundred tuples at most, and most often none, so that they are looked through one by one.

use super::{ReadError, Row, Tuples, User};
use crate::relationship::{BoundCondition, Relationship, UserRef};

/// An object: one that is kept, or one that only the question names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Name<O> {
    Kept(O),
    Local(u32),
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

/// The rows of a question's tuples, then those of kept ones.
pub(crate) struct OverlayRows<'a, T: Tuples + 'a> {
    brought: std::vec::IntoIter<Row<'a, Name<T::Object>>>,
    kept: Option<T::Rows<'a>>,
}

impl<'a, T: Tuples> Iterator for OverlayRows<'a, T> {
    type Item = Row<'a, Name<T::Object>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(row) = self.brought.next() {
            return Some(row);
        }
        let row = self.kept.as_mut()?.next()?;
        let user = User { object: Name::Kept(row.user.object), relation: row.user.relation };
        Some(Row { object: Name::Kept(row.object), user, condition: row.condition })
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
        let brought: Vec<_> = self.brought.iter().filter(belongs).map(Brought::row).collect();
        OverlayRows { brought: brought.into_iter(), kept }
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
