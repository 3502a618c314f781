//! Objects: things of a customer's own that permission is asked on, of types that the authorization model describes, one under another.
//!
//! Owns what an object is and how its place and its relationships are written as tuples. Never decides what a type is or what a relation
//! gives: that is the model's.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;

use crate::id::{KeyId, ObjectId, RoleTemplateId, WorkspaceId};

/// The most objects of a workspace.
pub const MOST_OBJECTS: i64 = 10_000;
/// The most relationships to objects in a workspace.
pub const MOST_RELATIONSHIPS: i64 = 20_000;
/// How many objects stand above one at most, itself counted: a question goes up that far.
pub const MOST_DEPTH: i16 = 10;

/// The relation in which an object stands to what it stands under.
pub const PARENT: &str = "parent";
/// The relation in which an object at the top stands to its workspace.
pub const WORKSPACE: &str = "workspace";
/// The relation in which one of the system's own at the top stands to the workspace that sees it.
pub const SYSTEM: &str = "system";

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its id.
    pub id: ObjectId,
    /// Its type in the model.
    pub type_name: String,
    /// What it stands under; none at the top of its workspace.
    pub parent: Option<ObjectId>,
    /// What people call it.
    pub name: String,
    /// Whether it is the system's own: nobody of the workspace changes it.
    pub is_system: bool,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// Where an object stands: what facts know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: ObjectId,
    /// Its type.
    pub type_name: String,
    /// What it stands under, with its type.
    pub parent: Option<(String, ObjectId)>,
    /// Whether it is the system's own.
    pub is_system: bool,
}

impl Place {
    /// The object as tuples write it.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.type_name, self.id)
    }

    /// The tuple that says where it stands: its relation and its subject.
    pub fn tuple(&self, workspace: WorkspaceId) -> (&'static str, String) {
        match &self.parent {
            Some((type_name, parent)) => (PARENT, format!("{type_name}:{parent}")),
            None if self.is_system && !crate::sabotaged!(SystemObjects) => (SYSTEM, format!("workspace:{workspace}")),
            None => (WORKSPACE, format!("workspace:{workspace}")),
        }
    }
}

/// Who is given a relation to an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An API key.
    Key(KeyId),
    /// Whoever holds a role template.
    Role(RoleTemplateId),
    /// Whoever stands in a relation to another object.
    Members(ObjectId, String),
}

impl Subject {
    /// As tuples write it. The type of another object is to be handed in: its id does not say it.
    pub fn reference(&self, type_of: impl Fn(ObjectId) -> Option<String>) -> Option<String> {
        Some(match self {
            Self::Key(key) => format!("api_key:{key}"),
            Self::Role(role) => format!("role:{role}#assignee"),
            Self::Members(object, relation) => format!("{}:{object}#{relation}", type_of(*object)?),
        })
    }
}

/// The text is no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is an API key's id, a role template's id, or an object's id, `#` and a relation")]
pub struct SubjectError;

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{key}"),
            Self::Role(role) => write!(f, "{role}"),
            Self::Members(object, relation) => write!(f, "{object}#{relation}"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if let Some((object, relation)) = text.split_once('#') {
            let object = object.parse().map_err(|_| SubjectError)?;
            return is_name(relation).then(|| Self::Members(object, relation.to_owned())).ok_or(SubjectError);
        }
        let key = text.parse().map(Self::Key);
        key.or_else(|_| text.parse().map(Self::Role)).map_err(|_| SubjectError)
    }
}

/// Whether a text may be a type or a relation of objects: 1 to 50 letters, digits, `_` and `-`, small, a letter first.
pub fn is_name(text: &str) -> bool {
    text.len() <= 50
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_subject_is_read_as_it_is_written() {
        let clock = Clock::system();
        for subject in [
            Subject::Key(KeyId::new(&clock)),
            Subject::Role(RoleTemplateId::new(&clock)),
            Subject::Members(ObjectId::new(&clock), "member".to_owned()),
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        let object = ObjectId::new(&clock);
        for text in ["", "key_", "anyone", &object.to_string(), &format!("{object}#"), &format!("{object}#a b"), "#a"] {
            assert_eq!(text.parse::<Subject>(), Err(SubjectError), "{text}");
        }
    }

    #[test]
    fn an_object_stands_under_another_or_in_its_workspace_and_the_systems_own_apart() {
        let clock = Clock::system();
        let (workspace, id, above) = (WorkspaceId::new(&clock), ObjectId::new(&clock), ObjectId::new(&clock));
        let place =
            |parent: Option<(String, ObjectId)>, is_system| Place { id, type_name: "a".into(), parent, is_system };
        let under = Some(("b".to_owned(), above));
        assert_eq!(place(under.clone(), false).tuple(workspace), ("parent", format!("b:{above}")));
        assert_eq!(place(under, true).tuple(workspace), ("parent", format!("b:{above}")));
        assert_eq!(place(None, false).tuple(workspace), ("workspace", format!("workspace:{workspace}")));
        assert_eq!(place(None, true).tuple(workspace), ("system", format!("workspace:{workspace}")));
    }
}
