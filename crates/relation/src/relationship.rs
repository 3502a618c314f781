//! Relationship tuples: that a user stands in a relation to an object, perhaps under a condition.
//!
//! Owns how objects and users are written. Whether a tuple is one of a model is for [`crate::Schema::admit`] to say.

use std::fmt;

use serde_json::Value;

use crate::condition::Context;

/// The longest object and the longest user, in bytes.
const OBJECT_BYTES: usize = 256;
const USER_BYTES: usize = 512;

/// A relationship tuple.
#[derive(Debug, Clone, PartialEq)]
pub struct Relationship {
    /// `type:id`
    pub object: String,
    /// The relation's name.
    pub relation: String,
    /// `type:id`, `type:*` for all of a type, or `type:id#relation` for all who stand in it.
    pub user: String,
    /// The condition under which it holds.
    pub condition: Option<BoundCondition>,
}

/// A condition of the model, with what the tuple says of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundCondition {
    /// The condition's name.
    pub name: String,
    /// The parameters that the tuple fixes.
    pub context: Context,
}

impl BoundCondition {
    /// About how many bytes it takes in memory, rather more than fewer: two letters of JSON may be dozens of bytes here.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + members_bytes(&self.context)
    }
}

/// What the members of a JSON object take: a tree of nodes, of which the first has room for several.
fn members_bytes(members: &Context) -> usize {
    const NODE: usize = 640;
    const MEMBER: usize = 2 * (size_of::<String>() + size_of::<Value>());
    let each = members.iter().map(|(name, value)| MEMBER + name.len() + inner_bytes(value));
    if members.is_empty() { 0 } else { NODE + each.sum::<usize>() }
}

/// What a JSON value takes beside itself.
fn inner_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        // What grows by doubling may have twice the room that it needs.
        Value::Array(values) => values.iter().map(|value| 2 * size_of::<Value>() + inner_bytes(value)).sum(),
        Value::Object(members) => members_bytes(members),
    }
}

impl Relationship {
    /// About how many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        let condition = self.condition.as_ref().map_or(0, BoundCondition::bytes);
        size_of::<Self>() + self.object.len() + self.relation.len() + self.user.len() + condition
    }

    /// A tuple that holds without a condition.
    pub fn new(object: impl Into<String>, relation: impl Into<String>, user: impl Into<String>) -> Self {
        Self { object: object.into(), relation: relation.into(), user: user.into(), condition: None }
    }

    /// The same under a condition.
    #[must_use]
    pub fn under(mut self, name: impl Into<String>, context: Context) -> Self {
        self.condition = Some(BoundCondition { name: name.into(), context });
        self
    }
}

/// An object's type and id, as it is written: `type:id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectRef<'a> {
    /// The whole.
    pub text: &'a str,
    /// The type.
    pub type_name: &'a str,
    /// The id.
    pub id: &'a str,
}

impl<'a> ObjectRef<'a> {
    /// Reads an object.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (type_name, id) = text.split_once(':')?;
        let sound = text.len() <= OBJECT_BYTES && is_part(type_name) && is_part(id);
        sound.then_some(Self { text, type_name, id })
    }
}

/// A user as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserRef<'a> {
    /// The object, `type:*` for all of the type.
    pub object: &'a str,
    /// The relation, if it is those who stand in it.
    pub relation: Option<&'a str>,
}

impl<'a> UserRef<'a> {
    /// Reads a user.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > USER_BYTES {
            return None;
        }
        let (object, relation) = match text.split_once('#') {
            Some((object, relation)) => (object, Some(relation)),
            None => (text, None),
        };
        let user = Self { object, relation };
        ObjectRef::parse(object)?;
        let sound = relation.is_none_or(|relation| is_part(relation) && !object.ends_with(":*"));
        sound.then_some(user)
    }

    /// The type of the object.
    pub fn type_name(&self) -> &'a str {
        type_of(self.object)
    }

    /// Whether it is all of a type.
    pub fn is_wildcard(&self) -> bool {
        self.relation.is_none() && self.object.ends_with(":*")
    }
}

impl fmt::Display for UserRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.relation {
            Some(relation) => write!(f, "{}#{relation}", self.object),
            None => f.write_str(self.object),
        }
    }
}

/// Whether an object that was read before is of a type.
pub(crate) fn is_of_type(object: &str, type_name: &str) -> bool {
    object.strip_prefix(type_name).is_some_and(|rest| rest.starts_with(':'))
}

/// The type of an object that was read before.
pub(crate) fn type_of(object: &str) -> &str {
    object.split_once(':').map_or("", |(type_name, _)| type_name)
}

fn is_part(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|letter: char| matches!(letter, ':' | '#') || letter.is_whitespace() || letter.is_control())
}

/// Whether an id is one that OpenFGA's tools take in files: letters, digits and `_ | * @ . + / -`, no star first.
///
/// Stricter than what a tuple may hold: files are written by hand, and there a comma is a slip.
pub fn is_plain_object_id(id: &str) -> bool {
    let known = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '_' | '|' | '*' | '@' | '.' | '+' | '/' | '-')
    };
    !id.is_empty() && !id.starts_with('*') && id.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_object_and_what_is_a_user() {
        for object in ["document:1", "a:b|c@d", "a:*"] {
            assert!(ObjectRef::parse(object).is_some(), "{object}");
        }
        for object in ["", "a", "a:", ":b", "a:b:c", "a:b c", "a:b#c", "a b:c", "a:b\u{0}"] {
            assert!(ObjectRef::parse(object).is_none(), "{object}");
        }
        for user in ["user:anne", "user:*", "group:1#member"] {
            assert_eq!(UserRef::parse(user).map(|user| user.to_string()).as_deref(), Some(user));
        }
        for user in ["user", "user:*#member", "group:1#", "group:1#a#b", "a:b:c", "#a"] {
            assert!(UserRef::parse(user).is_none(), "{user}");
        }
        assert!(ObjectRef::parse(&format!("a:{}", "b".repeat(OBJECT_BYTES))).is_none());
    }
}
