//! Files that people write in TOML for this program: provider files, claims, blueprints. Read strictly, each value with its place.
//!
//! Owns places, faults, and reading a table field by field, so that everything that is wrong with a file is told at once. Knows what
//! no field means, and never opens a file.

pub(crate) mod fault;
pub(crate) mod section;
pub(crate) mod tree;

pub use self::fault::Fault;
