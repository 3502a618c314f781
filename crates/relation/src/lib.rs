//! Who may do what: relationship facts, the rules over them, and the permit that says a rule was met.
//!
//! Pure. Reads no clock, no database: facts come in with the revision at which they were true, and a [`Permit`] carries that
//! revision to the place where it is spent. Nothing else mints permits.

pub mod action;
mod check;
pub mod condition;
pub mod expand;
mod facts;
pub mod language;
mod list_objects;
mod list_users;
pub mod model;
mod permit;
pub mod query;
mod relationship;
mod schema;
pub mod tuples;

pub use action::Action;
pub use check::{batch_check, check};
pub use expand::expand;
pub use facts::{Facts, Tuple};
pub use list_objects::list_objects;
pub use list_users::list_users;
pub use permit::{Denied, Permit, authorize};
pub use relationship::{BoundCondition, ObjectRef, Relationship, UserRef, is_plain_object_id};
pub use schema::{Schema, TupleFault};
pub use tuples::Snapshot;
