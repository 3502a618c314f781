//! How tuples are read: the one seam between the engine and where tuples are kept.
//!
//! A snapshot in memory reads them here; for a store that is too large for that, whoever reads pages from a database keeps them until
//! a question is answered, and answers [`ReadError`] for what it does not have yet: then it fetches that and asks again. The engine
//! itself never waits.

mod names;
mod overlay;
mod snapshot;

pub(crate) use overlay::{Name, Overlay};
pub use snapshot::{Snapshot, SnapshotFault};

use std::{fmt::Debug, hash::Hash};

use crate::relationship::BoundCondition;

/// A tuple that was read: all but its relation, which was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a, O> {
    /// The object.
    pub object: O,
    /// The user.
    pub user: User<'a, O>,
    /// The condition.
    pub condition: Option<&'a BoundCondition>,
}

/// A user: an object, all of a type (whose name is `type:*`), or all who stand in a relation to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct User<'a, O> {
    /// The object.
    pub object: O,
    /// The relation.
    pub relation: Option<&'a str>,
}

/// Tuples could not be read.
#[derive(Debug, thiserror::Error)]
#[error("tuples could not be read")]
pub struct ReadError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where tuples are kept. During one question it must answer from one state of the store.
pub trait Tuples {
    /// What stands for an object here, most often a number. One stands for one name and no other.
    type Object: Copy + Eq + Hash + Debug;

    /// Tuples in a row.
    type Rows<'a>: Iterator<Item = Row<'a, Self::Object>>
    where
        Self: 'a;

    /// What stands for the object of that name, or for `type:*`; none if no tuple has it.
    ///
    /// # Errors
    /// [`ReadError`].
    fn object(&self, name: &str) -> Result<Option<Self::Object>, ReadError>;

    /// The name of an object.
    fn name(&self, object: Self::Object) -> &str;

    /// The tuples of just this object, relation and user: one, or none; several only where their conditions differ.
    ///
    /// # Errors
    /// [`ReadError`].
    fn tuple<'a>(
        &'a self,
        object: Self::Object,
        relation: &str,
        user: User<'_, Self::Object>,
    ) -> Result<Self::Rows<'a>, ReadError>;

    /// All tuples of an object and a relation.
    ///
    /// # Errors
    /// [`ReadError`].
    fn users<'a>(&'a self, object: Self::Object, relation: &str) -> Result<Self::Rows<'a>, ReadError>;

    /// Those whose user is all who stand in a relation to an object (`group:1#member`).
    ///
    /// # Errors
    /// [`ReadError`].
    fn usersets<'a>(&'a self, object: Self::Object, relation: &str) -> Result<Self::Rows<'a>, ReadError>;

    /// All tuples of a user and a relation, whatever the type of their objects.
    ///
    /// # Errors
    /// [`ReadError`].
    fn objects<'a>(&'a self, user: User<'_, Self::Object>, relation: &str) -> Result<Self::Rows<'a>, ReadError>;
}
