//! Who may do what: relationship facts, the rules over them, and the permit that says a rule was met.
//!
//! Pure. Reads no clock, no database: facts come in with the revision at which they were true, and a [`Permit`] carries that
//! revision to the place where it is spent. Nothing else mints permits.

pub mod action;
mod facts;
pub mod language;
pub mod model;
mod permit;

pub use action::Action;
pub use facts::{Facts, Tuple};
pub use permit::{Denied, Permit, authorize};
