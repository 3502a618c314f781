//! Who may do what: an authorization engine that speaks OpenFGA (models, tuples, conditions, and the questions that they answer), and on
//! it Keyholder's own: its model, the facts of a workspace, and the permit that says a question had a yes.
//!
//! Pure. Reads no clock, no database: facts come in with the revision at which they were true, and a [`Permit`] carries that
//! revision to the place where it is spent. Nothing else mints permits.
//!
//! ```
//! use keyholder_relation::{Relationship, Schema, Snapshot, check, language, query::{Brought, CheckRequest, Limits}};
//!
//! let model = language::read_model("model\n  schema 1.1\ntype user\ntype document\n  relations\n    define viewer: [user]\n")?;
//! let schema = Schema::new(model)?;
//! let tuples = Snapshot::new(&[Relationship::new("document:1", "viewer", "user:anne")]).unwrap_or_default();
//! let request = CheckRequest { object: "document:1", relation: "viewer", user: "user:anne", brought: Brought::default() };
//! assert!(check(&schema, &tuples, request, &Limits::default()).is_ok_and(|stands| stands));
//! # Ok::<(), Vec<keyholder_relation::model::Fault>>(())
//! ```

pub mod action;
mod budget;
mod check;
pub mod condition;
pub mod expand;
pub mod explain;
mod facts;
pub mod language;
mod list_objects;
mod list_users;
pub mod model;
pub mod permission;
mod permit;
pub mod plan;
pub mod query;
mod relationship;
mod schema;
pub mod tuples;

pub use action::Action;
pub use budget::StopSign;
pub use check::{batch_check, check};
pub use expand::expand;
pub use explain::explain;
pub use facts::Facts;
pub use list_objects::list_objects;
pub use list_users::list_users;
pub use permit::{Denied, Permit, authorize, permitted};
pub use relationship::{BoundCondition, ObjectRef, Relationship, UserRef, is_plain_object_id};
pub use schema::{Schema, TupleFault};
pub use tuples::Snapshot;
