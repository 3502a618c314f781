//! Role templates: named bundles of permissions, and the difference that a change of one makes.
//!
//! Owns the canonical text of a bundle, which is what digests and MACs are made over. Never decides who may grant what.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    jcs,
    json::{Limits, parse_strict},
};

/// The most templates of a workspace.
pub const MOST_TEMPLATES: i64 = 200;
/// The most permissions of a template.
pub const MOST_PERMISSIONS: usize = 100;
/// The most who hold templates in a workspace, each counted with each.
pub const MOST_ASSIGNMENTS: i64 = 5_000;
/// The longest canonical text, in bytes.
const MOST_BYTES: usize = 16 * 1024;
const NAME: &str = "name";
const PERMISSIONS: &str = "permissions";

/// What a template says: its name and what it permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What people call it, 1 to 100 characters.
    pub name: String,
    /// Names of permissions.
    pub permissions: BTreeSet<String>,
}

impl Bundle {
    /// Its canonical JSON (RFC 8785).
    pub fn body(&self) -> String {
        let value = json!({ NAME: self.name, PERMISSIONS: self.permissions });
        // There is no number in it.
        jcs::canonical(&value).unwrap_or_default()
    }

    /// Reads a canonical text, and no other.
    pub fn from_body(body: &str) -> Option<Self> {
        let value = parse_strict(body.as_bytes(), Limits::bytes(MOST_BYTES)).ok()?;
        let permissions = value.get(PERMISSIONS)?.as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
        let bundle = Self {
            name: value.get(NAME).and_then(Value::as_str)?.to_owned(),
            permissions: permissions.collect::<Option<_>>()?,
        };
        (bundle.body() == body).then_some(bundle)
    }

    /// What another bundle in its place would change.
    pub fn difference(&self, new: &Self) -> Difference {
        Difference {
            renamed: (self.name != new.name).then(|| (self.name.clone(), new.name.clone())),
            added: new.permissions.difference(&self.permissions).cloned().collect(),
            removed: self.permissions.difference(&new.permissions).cloned().collect(),
        }
    }
}

/// What a change of a template changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The former name and the new one, where they differ.
    pub renamed: Option<(String, String)>,
    /// The permissions that whoever holds it gets.
    pub added: Vec<String>,
    /// The permissions that whoever holds it loses.
    pub removed: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str, permissions: &[&str]) -> Bundle {
        Bundle { name: name.to_owned(), permissions: permissions.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_bundle_has_one_text_and_no_other_is_read() {
        let it = bundle("Auditor", &["budget.read", "audit.read"]);
        let body = r#"{"name":"Auditor","permissions":["audit.read","budget.read"]}"#;
        assert_eq!(it.body(), body);
        assert_eq!(Bundle::from_body(body), Some(it));
        for other in [
            r#"{"permissions":["audit.read","budget.read"],"name":"Auditor"}"#,
            r#"{"name":"Auditor","permissions":["budget.read","audit.read"]}"#,
            r#"{"name":"Auditor","permissions":["audit.read","audit.read"]}"#,
            r#"{"name":"Auditor", "permissions":["audit.read"]}"#,
            r#"{"more":1,"name":"Auditor","permissions":["audit.read"]}"#,
            r#"{"name":"Auditor","permissions":[1]}"#,
            r#"{"name":"Auditor"}"#,
            "[]",
            "",
        ] {
            assert_eq!(Bundle::from_body(other), None, "{other}");
        }
    }

    #[test]
    fn a_difference_names_what_comes_and_what_goes() {
        let (old, new) = (bundle("A", &["a.one", "a.two"]), bundle("B", &["a.two", "a.three"]));
        let difference = old.difference(&new);
        assert_eq!(difference.renamed, Some(("A".to_owned(), "B".to_owned())));
        assert_eq!((difference.added, difference.removed), (vec!["a.three".to_owned()], vec!["a.one".to_owned()]));
        let none = Difference { renamed: None, added: Vec::new(), removed: Vec::new() };
        assert_eq!(new.difference(&new), none);
    }
}
