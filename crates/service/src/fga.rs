//! Relation stores: OpenFGA's operations on the stores of a workspace.
//!
//! Owns what each operation does and what it is refused for, in OpenFGA's own terms: whoever points a client of theirs here gets the
//! answers that he knows. A question is answered by one model and one state of the store, or not at all; see [`question`]. Nothing here
//! decides what may be done in Keyholder itself.

mod assertion;
mod cache;
mod model;
mod paged;
mod question;
mod refused;
mod store;
mod tuple;

pub use assertion::{Assertion, read as read_assertions, write as write_assertions};
pub(crate) use cache::Relations;
pub use model::{ListedModel, list as list_models, read as read_model, write as write_model};
pub use question::{Answer, Asked, Bounds, Check, Question, ask};
pub use refused::{FgaError, Refused};
pub use relation::{BoundCondition, Relationship, condition::Context, expand::Node};
pub(crate) use store::{PURGE, purge};
pub use store::{RelationStore, create, delete, find, list};
pub use tuple::{
    Change, ChangePlace, Changes, ChangesPage, ChangesWanted, Filter, Page, Stored, WrittenTuples, read as read_tuples,
    read_changes, write as write_tuples,
};

/// The longest continuation token that is read, in bytes.
pub const MOST_TOKEN_BYTES: usize = 5_120;
