//! Places in a request: a member of the JSON body, or a parameter of the query.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// How many members deep a pointer may lead, and how long a member's name may be.
const TOKENS: usize = 8;
const TOKEN_LENGTH: usize = 64;

/// A JSON pointer (RFC 6901) to something inside a document: one or more named members.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Reads a pointer such as `/reply/in_reply_to_tweet_id`.
    ///
    /// # Errors
    /// Words for a fault: no leading slash, an empty or overlong name, a stray `~`, too many names.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(tokens) = text.strip_prefix('/') else {
            return Err("a pointer begins with a slash, such as \"/data/id\"".to_owned());
        };
        let tokens: Vec<_> = tokens.split('/').map(unescape).collect::<Option<_>>().ok_or("`~` is written `~0`")?;
        if tokens.len() > TOKENS {
            return Err(format!("a pointer has at most {TOKENS} names"));
        }
        if tokens.iter().any(|token| token.is_empty() || token.chars().count() > TOKEN_LENGTH) {
            return Err(format!("each name of a pointer has 1 to {TOKEN_LENGTH} characters"));
        }
        Ok(Self(tokens))
    }

    /// The value that the pointer leads to in a provider's answer. A number leads into a list.
    pub fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.pointer(&self.to_string())
    }

    /// The member that the pointer leads to in a request's body, through objects only: a name that is a number must not
    /// mean a list's item to one rule and a member to another.
    pub(super) fn member<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |value, token| value.as_object()?.get(token))
    }

    /// Whether this is the other, or leads to something inside it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The pointer to a member of what this one leads to.
    pub(super) fn child(parent: Option<&Self>, name: &str) -> Self {
        let mut tokens = parent.map(|parent| parent.0.clone()).unwrap_or_default();
        tokens.push(name.to_owned());
        Self(tokens)
    }

    /// Puts a value there, making the objects on the way. The linter has shown that no two places of an action collide.
    pub(super) fn put(&self, body: &mut Map<String, Value>, value: Value) {
        let Some((last, way)) = self.0.split_last() else { return };
        let mut object = body;
        for token in way {
            let next = object.entry(token.as_str()).or_insert_with(|| Value::Object(Map::new()));
            match next {
                Value::Object(inner) => object = inner,
                _ => return,
            }
        }
        object.insert(last.clone(), value);
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut text = String::with_capacity(token.len());
    let mut letters = token.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(text)
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

impl Serialize for Pointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place that a predicate speaks of: `/a/b` in the body, or `?name` in the query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A member of the body.
    Body(Pointer),
    /// A parameter of the query, by its decoded name.
    Query(String),
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('?') {
            Some(name) if is_query_name(name) => Ok(Self::Query(name.to_owned())),
            Some(_) => Err(QUERY_NAME.to_owned()),
            None => Pointer::parse(text).map(Self::Body),
        }
    }

    /// Whether something at this place implies something at the other: it is the other, or inside it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Body(this), Self::Body(other)) => this.is_within(other),
            (this, other) => this == other,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(pointer) => pointer.fmt(f),
            Self::Query(name) => write!(f, "?{name}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) const QUERY_NAME: &str = "a query's name has 1 to 64 of A-Z a-z 0-9 . _ ~ - [ ] :";

pub(super) fn is_query_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-[]:".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(letter)
}

/// A value that never varies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

impl Scalar {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Integer(integer) => (*integer).into(),
            Self::Boolean(boolean) => (*boolean).into(),
        }
    }
}

/// A request's query and body, parsed, before it is known which action they belong to.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Decoded parameters; a repeated one was refused.
    pub(super) query: BTreeMap<String, String>,
    /// An object; empty where there is no body.
    pub(super) body: Value,
}

impl Parsed {
    /// What stands at a place.
    pub(super) fn has(&self, place: &Place) -> bool {
        match place {
            Place::Body(pointer) => pointer.member(&self.body).is_some(),
            Place::Query(name) => self.query.contains_key(name),
        }
    }

    pub(super) fn equals(&self, place: &Place, value: &Scalar) -> bool {
        match (place, value) {
            (Place::Body(pointer), value) => pointer.member(&self.body) == Some(&value.to_json()),
            (Place::Query(name), Scalar::Text(text)) => self.query.get(name) == Some(text),
            (Place::Query(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pointers_keep_their_text() {
        for text in ["/a", "/data/id", "/a~1b/~0c", "/0"] {
            assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "a", "/", "/a/", "//a", "/~", "/~2", "/a~", "/1/2/3/4/5/6/7/8/9", &format!("/{}", "a".repeat(65))]
        {
            assert!(Pointer::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_number_leads_into_lists_of_answers_only() {
        let pointer = Pointer::parse("/a/0").unwrap();
        let (list, object) = (json!({"a": ["x"]}), json!({"a": {"0": "x"}}));
        assert_eq!(pointer.find(&list), Some(&json!("x")));
        assert_eq!(pointer.member(&list), None);
        assert_eq!(pointer.member(&object), Some(&json!("x")));
    }
}
