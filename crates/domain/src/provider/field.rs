//! An action's input fields: what a caller may give, and where it goes in the request.

use std::{borrow::Cow, collections::BTreeSet};

use regex::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    place::{Place, Pointer},
    template::unfit_for_segment,
};

/// One input field.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Field {
    /// What it takes.
    #[serde(flatten)]
    pub kind: FieldKind,
    /// Whether an act without it is refused.
    pub required: bool,
    /// Whether people will read it at the provider: the guard looks at such fields.
    pub content: bool,
    /// Where its value goes.
    pub goes: Goes,
}

/// What a field takes.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FieldKind {
    /// One text.
    String(TextRules),
    /// A whole number.
    Integer(IntegerRules),
    /// True or false.
    Boolean,
    /// A list of texts, each under the same rules.
    Strings {
        /// The rules of each.
        #[serde(flatten)]
        each: TextRules,
        /// The fewest.
        min_items: usize,
        /// The most.
        max_items: usize,
    },
}

/// Bounds on a text.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct TextRules {
    /// In Unicode scalar values.
    pub min_length: usize,
    /// In Unicode scalar values.
    pub max_length: usize,
    /// What the whole text must match.
    pub pattern: Option<Pattern>,
    /// The only texts that are taken, if any are named.
    pub allowed: BTreeSet<String>,
}

/// Bounds on a number.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct IntegerRules {
    /// The least.
    pub minimum: i64,
    /// The greatest.
    pub maximum: i64,
    /// The only numbers that are taken, if any are named.
    pub allowed: BTreeSet<i64>,
}

/// Where a field's value goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Goes {
    /// Into the path, as the segment of this name.
    Path(String),
    /// Into the query, under this name.
    Query(String),
    /// Into the JSON body.
    Body(Pointer),
}

impl Goes {
    /// The place, as a predicate would name it. A path has none: its segments tell actions apart by themselves.
    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Path(_) => None,
            Self::Query(name) => Some(Place::Query(name.clone())),
            Self::Body(pointer) => Some(Place::Body(pointer.clone())),
        }
    }
}

/// An expression that the *whole* text must match. It is anchored here, so that no file can forget to.
#[derive(Debug)]
pub struct Pattern {
    source: String,
    compiled: Regex,
}

/// Bounds on an expression: its text, and its compiled form in bytes. Matching takes time linear in the text (no
/// backtracking).
const PATTERN_LENGTH: usize = 256;
const PATTERN_BYTES: usize = 256 * 1024;

impl Pattern {
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        if source.is_empty() || source.len() > PATTERN_LENGTH {
            return Err(format!("a pattern has 1 to {PATTERN_LENGTH} bytes"));
        }
        let compile = |text: &str| {
            RegexBuilder::new(text).size_limit(PATTERN_BYTES).build().map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "the pattern is too big when compiled".to_owned(),
                _ => "not a regular expression of the regex crate's syntax".to_owned(),
            })
        };
        // Alone first: `a)|(b` would be sound between the anchors' brackets, and escape them.
        compile(source)?;
        let compiled = compile(&format!(r"\A(?:{source})\z"))?;
        Ok(Self { source: source.to_owned(), compiled })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The expression as the file has it.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl TextRules {
    /// What is wrong with a text, if anything is.
    pub(super) fn refuses(&self, text: &str) -> Option<Cow<'static, str>> {
        let length = text.chars().take(self.max_length + 1).count();
        if length < self.min_length {
            return Some(format!("must have at least {} characters", self.min_length).into());
        }
        if length > self.max_length {
            return Some(format!("may have at most {} characters", self.max_length).into());
        }
        if text.contains('\0') {
            return Some("may not have the character U+0000".into());
        }
        if self.pattern.as_ref().is_some_and(|pattern| !pattern.matches(text)) {
            return Some("does not have the form that the action asks for".into());
        }
        let unlisted = !self.allowed.is_empty() && !self.allowed.contains(text);
        unlisted.then(|| one_of(self.allowed.iter()))
    }
}

impl IntegerRules {
    /// What is wrong with a number, if anything is.
    pub(super) fn refuses(&self, number: i64) -> Option<Cow<'static, str>> {
        if !(self.minimum..=self.maximum).contains(&number) {
            return Some(format!("must be from {} to {}", self.minimum, self.maximum).into());
        }
        let unlisted = !self.allowed.is_empty() && !self.allowed.contains(&number);
        unlisted.then(|| one_of(self.allowed.iter()))
    }
}

fn one_of(values: impl Iterator<Item = impl ToString>) -> Cow<'static, str> {
    let values: Vec<_> = values.map(|value| value.to_string()).collect();
    format!("must be one of: {}", values.join(", ")).into()
}

/// A value that its field has taken.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Taken {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Texts(Vec<String>),
}

impl Taken {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Integer(integer) => (*integer).into(),
            Self::Boolean(boolean) => (*boolean).into(),
            Self::Texts(texts) => texts.iter().map(String::as_str).collect(),
        }
    }

    /// The value as it stands in a path or a query.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(integer) => integer.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
            // The linter lets lists go into the body only.
            Self::Texts(texts) => texts.join(","),
        }
    }
}

/// What is wrong with a value: the pointer below the field (empty, or `/3` for a list's item) and the words.
pub(super) type Refusal = (String, Cow<'static, str>);

impl Field {
    /// Takes a value, or says all that is wrong with it.
    pub(super) fn take(&self, value: &Value) -> Result<Taken, Vec<Refusal>> {
        let refuse = |words: Cow<'static, str>| Err(vec![(String::new(), words)]);
        match (&self.kind, value) {
            (FieldKind::String(rules), Value::String(text)) => match self.refuses_text(rules, text) {
                Some(words) => refuse(words),
                None => Ok(Taken::Text(text.clone())),
            },
            (FieldKind::Integer(rules), Value::Number(number)) => match number.as_i64() {
                None => refuse("must be a whole number".into()),
                Some(number) => match rules.refuses(number) {
                    Some(words) => refuse(words),
                    None => Ok(Taken::Integer(number)),
                },
            },
            (FieldKind::Boolean, Value::Bool(boolean)) => Ok(Taken::Boolean(*boolean)),
            (FieldKind::Strings { each, min_items, max_items }, Value::Array(items)) => {
                if !(*min_items..=*max_items).contains(&items.len()) {
                    return refuse(format!("must have {min_items} to {max_items} items").into());
                }
                take_texts(each, items).map(Taken::Texts)
            }
            (FieldKind::String(_), _) => refuse("must be a string".into()),
            (FieldKind::Integer(_), _) => refuse("must be a whole number".into()),
            (FieldKind::Boolean, _) => refuse("must be true or false".into()),
            (FieldKind::Strings { .. }, _) => refuse("must be a list of strings".into()),
        }
    }

    fn refuses_text(&self, rules: &TextRules, text: &str) -> Option<Cow<'static, str>> {
        let unfit = if matches!(self.goes, Goes::Path(_)) { unfit_for_segment(text) } else { None };
        rules.refuses(text).or(unfit.map(Cow::Borrowed))
    }

    /// A text of a path or query as the JSON value that the field wants; the text itself where it is none, so that
    /// [`Field::take`] says why.
    pub(super) fn read_text(&self, text: &str) -> Value {
        let typed = match self.kind {
            FieldKind::Integer(_) => {
                text.parse::<i64>().ok().filter(|number| number.to_string() == text).map(Value::from)
            }
            FieldKind::Boolean => text.parse::<bool>().ok().map(Value::from),
            FieldKind::String(_) | FieldKind::Strings { .. } => None,
        };
        typed.unwrap_or_else(|| text.into())
    }

    /// Whether a decoded segment of a path could be a value of this field.
    pub(super) fn admits(&self, text: &str) -> bool {
        self.take(&self.read_text(text)).is_ok()
    }

    /// The one value that the field takes, if there is only one.
    pub(super) fn only_value(&self) -> Option<Value> {
        match &self.kind {
            FieldKind::String(TextRules { allowed, .. }) if allowed.len() == 1 => {
                allowed.first().map(|text| text.as_str().into())
            }
            FieldKind::Integer(IntegerRules { allowed, .. }) if allowed.len() == 1 => {
                allowed.first().map(|number| (*number).into())
            }
            _ => None,
        }
    }
}

fn take_texts(rules: &TextRules, items: &[Value]) -> Result<Vec<String>, Vec<Refusal>> {
    let (mut texts, mut refusals) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        match item.as_str().map(|text| (text, rules.refuses(text))) {
            Some((text, None)) => texts.push(text.to_owned()),
            Some((_, Some(words))) => refusals.push((format!("/{index}"), words)),
            None => refusals.push((format!("/{index}"), "must be a string".into())),
        }
    }
    if refusals.is_empty() { Ok(texts) } else { Err(refusals) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_whole_text() {
        for (pattern, text, matches) in [
            ("[0-9]{1,3}", "12", true),
            ("[0-9]{1,3}", "12a", false),
            ("[0-9]{1,3}", "12\n", false),
            ("a|b", "ab", false),
            ("(?m)^a$", "a\na", false),
            ("(?x) a # a comment\n", "a", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(text), matches, "{pattern} {text:?}");
        }
        let long = "a".repeat(257);
        for pattern in ["", "(", "a)|(b", "(?x) a # swallows the anchor", r"(a)\1", "(?=a)", r"(\w{100}){100}", &long] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern:?}");
        }
    }
}
