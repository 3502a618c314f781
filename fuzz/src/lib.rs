//! What must hold of the authorization engine whatever a stranger hands to it, as functions of bytes that panic where it does not.
//!
//! cargo-fuzz drives them here; an ordinary test of `crates/storefile` drives the same functions with a fixed number of inputs, so that
//! what is in here cannot rot. Nothing in here knows which of the two it is.

pub mod check;
mod choices;
pub mod condition;
pub mod language;
pub mod store_file;
