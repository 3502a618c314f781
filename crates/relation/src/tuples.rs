//! How tuples are read: the one seam between the engine and where tuples are kept.
//!
//! A snapshot in memory reads them here; for a store that is too large for that, whoever reads pages from a database keeps them until
//! a question is answered, and answers [`ReadError`] for what it does not have yet: then it fetches that and asks again. The engine
//! itself never waits.

mod names;
mod overlay;
mod snapshot;

pub(crate) use overlay::Overlay;
pub use snapshot::{Snapshot, SnapshotFull};

use crate::relationship::{BoundCondition, UserRef};

/// A tuple that was read. Which of its three parts were asked for the reader knows.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The object.
    pub object: &'a str,
    /// The user.
    pub user: UserRef<'a>,
    /// The condition.
    pub condition: Option<&'a BoundCondition>,
}

/// Tuples could not be read.
#[derive(Debug, thiserror::Error)]
#[error("tuples could not be read")]
pub struct ReadError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where tuples are kept. During one question it must answer from one state of the store.
pub trait Tuples {
    /// Tuples in a row.
    type Rows<'a>: Iterator<Item = Row<'a>>
    where
        Self: 'a;

    /// The tuples of just this object, relation and user: one, or none; several only where their conditions differ.
    ///
    /// # Errors
    /// [`ReadError`].
    fn tuple<'a>(&'a self, object: &str, relation: &str, user: UserRef<'_>) -> Result<Self::Rows<'a>, ReadError>;

    /// All tuples of an object and a relation.
    ///
    /// # Errors
    /// [`ReadError`].
    fn users<'a>(&'a self, object: &str, relation: &str) -> Result<Self::Rows<'a>, ReadError>;

    /// Those whose user is all who stand in a relation to an object (`group:1#member`).
    ///
    /// # Errors
    /// [`ReadError`].
    fn usersets<'a>(&'a self, object: &str, relation: &str) -> Result<Self::Rows<'a>, ReadError>;

    /// All tuples of a user and a relation to objects of a type.
    ///
    /// # Errors
    /// [`ReadError`].
    fn objects<'a>(&'a self, user: UserRef<'_>, relation: &str, object_type: &str)
    -> Result<Self::Rows<'a>, ReadError>;
}
