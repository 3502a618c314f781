//! The form of a store file, as it is written: what it may say and what it must.
//!
//! A key that is not in here is a fault: a slip in a test's name for something would otherwise be a test that never ran.

use std::collections::BTreeMap;

use relation::condition::Context;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// A store file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// The store's name.
    pub(crate) name: Option<String>,
    /// The model; goes before `model_file`.
    pub(crate) model: Option<Spanned<String>>,
    pub(crate) model_file: Option<Spanned<String>>,
    /// Tuples of all tests. Those of files come in addition.
    pub(crate) tuples: Option<Vec<Spanned<Tuple>>>,
    pub(crate) tuple_file: Option<Spanned<String>>,
    pub(crate) tuple_files: Option<Vec<Spanned<String>>>,
    pub(crate) tests: Option<Vec<Spanned<Test>>>,
}

/// A test: tuples of its own, and what is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    pub(crate) name: Option<String>,
    /// For people.
    #[serde(rename = "description")]
    _description: Option<String>,
    pub(crate) tuples: Option<Vec<Spanned<Tuple>>>,
    pub(crate) tuple_file: Option<Spanned<String>>,
    pub(crate) check: Option<Vec<Spanned<Check>>>,
    pub(crate) list_objects: Option<Vec<Spanned<ListObjects>>>,
    pub(crate) list_users: Option<Vec<Spanned<ListUsers>>>,
}

/// A tuple, of a store file or of a tuple file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tuple {
    pub(crate) user: String,
    pub(crate) relation: String,
    pub(crate) object: String,
    pub(crate) condition: Option<Condition>,
}

/// The condition of a tuple.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) name: String,
    pub(crate) context: Option<Context>,
}

/// Whether users stand in relations to objects: each of the users to each of the objects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    pub(crate) user: Option<String>,
    pub(crate) users: Option<Vec<String>>,
    pub(crate) object: Option<String>,
    pub(crate) objects: Option<Vec<String>>,
    pub(crate) context: Option<Context>,
    pub(crate) assertions: BTreeMap<String, bool>,
}

/// To which objects of a type a user stands in relations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListObjects {
    pub(crate) user: String,
    #[serde(rename = "type")]
    pub(crate) object_type: String,
    pub(crate) context: Option<Context>,
    pub(crate) assertions: BTreeMap<String, Option<Vec<String>>>,
}

/// Which users stand in relations to an object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListUsers {
    pub(crate) object: String,
    pub(crate) user_filter: Vec<UserFilter>,
    pub(crate) context: Option<Context>,
    pub(crate) assertions: BTreeMap<String, Users>,
}

/// Of which type the users are; with a relation, those that are all who stand in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserFilter {
    #[serde(rename = "type")]
    pub(crate) user_type: String,
    pub(crate) relation: Option<String>,
}

/// The users that a list must have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Users {
    pub(crate) users: Option<Vec<String>>,
}
