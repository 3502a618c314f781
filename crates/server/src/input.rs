//! Input: what arrives is read strictly, once, into types, and every fault is told with its place.
//!
//! Nothing here has an effect, and nothing here asks who the caller is: that was asked before.

pub(crate) mod members;

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use domain::{
    budget::{Period, Unit},
    id::{ConnectionId, Id, KeyId, MandateId, ObjectId},
    object::Subject,
    problem::Fault,
};
use http::{HeaderMap, Uri};
use serde_json::{Map, Value};
use service::Role;
use time::{OffsetDateTime, Time, format_description::well_known::Rfc3339, macros::format_description};
use utoipa::openapi::{RefOr, Schema};

use crate::problem::{MOST_FAULTS, Problem};

/// What body a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// A JSON object; nothing at all stands for `{}`.
    Json,
    /// The fields of an HTML form.
    Form,
    /// JSON that somebody else will read, as it was sent; or nothing.
    RawJson,
}

/// A body, read as far as its route's [`Takes`] says.
#[derive(Debug, Default)]
pub(crate) enum Body {
    #[default]
    Nothing,
    Json(Value),
    Form(Vec<(String, String)>),
    Raw(bytes::Bytes),
}

/// A request after it was let in: nothing of it is interpreted yet but the form of its body.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) method: http::Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// The captures of the route's path, decoded.
    pub(crate) path: BTreeMap<String, String>,
    pub(crate) body: Body,
}

/// The schema of a JSON body, for the document: its name, and what collects it with what it refers to.
pub(crate) type BodySchema = (&'static str, fn(&mut Vec<(String, RefOr<Schema>)>));

/// What query a route takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Query {
    /// These parameters, each at most once: name and meaning.
    Known(&'static [(&'static str, &'static str)]),
    /// Somebody else's parameters: what is not known is not for us to refuse.
    Foreign(&'static [(&'static str, &'static str)]),
}

impl Query {
    /// The parameters that have a meaning here.
    pub(crate) fn known(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Known(known) | Self::Foreign(known) => known,
        }
    }
}

/// What a handler takes.
pub(crate) trait Input: Sized + Send + 'static {
    /// The body that it is read from.
    const TAKES: Takes = Takes::Nothing;
    /// The query parameters that it knows.
    const QUERY: Query = Query::Known(&[]);
    /// The headers that it knows: name and meaning.
    const HEADERS: &'static [(&'static str, &'static str)] = &[];
    /// The schema of its JSON body.
    const SCHEMA: Option<BodySchema> = None;

    /// Reads it. Faults go to the reader, and with one, whatever is returned counts for nothing; `None` only with one.
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

/// A handler that takes nothing.
impl Input for () {
    fn read(_from: &mut Reader<'_>) -> Option<Self> {
        Some(())
    }
}

/// Reads an input, gathering faults.
pub(crate) struct Reader<'a> {
    arrived: &'a Arrived,
    query: BTreeMap<String, String>,
    /// Parameters that the query has more than once.
    repeated: BTreeSet<String>,
    faults: Vec<Fault>,
    /// A capture of the path is not one that could exist.
    nowhere: bool,
    /// The members of the body that were asked for.
    pub(crate) asked: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(arrived: &'a Arrived) -> Self {
        let (mut query, mut repeated) = (BTreeMap::new(), BTreeSet::new());
        for (name, value) in url::form_urlencoded::parse(arrived.uri.query().unwrap_or_default().as_bytes()) {
            if query.insert(name.to_string(), value.into_owned()).is_some() {
                repeated.insert(name.into_owned());
            }
        }
        Self { arrived, query, repeated, faults: Vec::new(), nowhere: false, asked: BTreeSet::new() }
    }

    /// The request itself.
    pub(crate) fn arrived(&self) -> &'a Arrived {
        self.arrived
    }

    /// A capture of the path. One that is of the wrong form names nothing that could exist: not found.
    pub(crate) fn path<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let value = self.arrived.path.get(name).and_then(|text| text.parse().ok());
        self.nowhere |= value.is_none();
        value
    }

    /// A header that may be there once.
    pub(crate) fn header<T: FromStr>(&mut self, name: &'static str, form: &str) -> Option<T> {
        let mut values = self.arrived.headers.get_all(name).iter();
        let parsed = values.next()?.to_str().ok().and_then(|text| text.parse().ok());
        if values.next().is_some() || parsed.is_none() {
            self.fault(name, format!("is given once, as {form}"));
        }
        parsed
    }

    /// A parameter of the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether the query has this parameter more than once.
    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        self.repeated.contains(name)
    }

    fn refuse_odd_query(&mut self, known: &[(&str, &str)]) {
        let unknown: Vec<_> = self
            .query
            .keys()
            .filter(|name| !known.iter().any(|(known, _)| known == name))
            .map(|name| shown(name))
            .collect();
        for name in unknown {
            self.fault(format!("?{name}"), "is not a parameter of this route");
        }
        for name in self.repeated.clone() {
            self.fault(format!("?{}", shown(&name)), "is given more than once");
        }
        // No text of the database can hold it.
        let holds_nul = self.query.iter().filter(|(_, value)| value.contains('\0'));
        let holds_nul: Vec<_> = holds_nul.map(|(name, _)| shown(name)).collect();
        for name in holds_nul {
            self.fault(format!("?{name}"), "holds U+0000");
        }
    }

    /// The members of the JSON body.
    pub(crate) fn body(&mut self) -> Option<Fields<'a>> {
        if let Body::Json(Value::Object(members)) = &self.arrived.body {
            return Some(Fields::new(members, String::new()));
        }
        self.fault("", "is an object");
        None
    }

    /// The JSON body, all of it.
    pub(crate) fn whole<T: FromJson>(&mut self) -> Option<T> {
        if let Body::Json(body) = &self.arrived.body {
            return T::from_json(body, "", self);
        }
        self.fault("", "is an object");
        None
    }

    /// Notes a fault.
    pub(crate) fn fault(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault::at(pointer, message));
        }
    }

    /// Reads an input to its end.
    pub(crate) fn read<I: Input>(arrived: &'a Arrived) -> Result<I, Problem> {
        let mut reader = Self::new(arrived);
        if let Query::Known(known) = I::QUERY {
            reader.refuse_odd_query(known);
        }
        let input = I::read(&mut reader);
        if reader.nowhere {
            return Err(Problem::new(domain::problem::Kind::NotFound));
        }
        match input {
            Some(input) if reader.faults.is_empty() || domain::sabotaged!(StrictInput) => Ok(input),
            _ => Err(Problem::invalid(reader.faults)),
        }
    }
}

/// The members of an object, of which each must be asked for, or it is unknown.
pub(crate) struct Fields<'a> {
    members: &'a Map<String, Value>,
    pointer: String,
    asked: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(members: &'a Map<String, Value>, pointer: String) -> Self {
        Self { members, pointer, asked: BTreeSet::new() }
    }

    /// The members of what must be an object.
    pub(crate) fn of(value: &'a Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let members = or_fault(value.as_object(), at, from, "is an object")?;
        Some(Self::new(members, at.to_owned()))
    }

    /// Where a member stands.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escaped(name))
    }

    /// The member, if it is there and not null.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.insert(name);
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A member that must be there.
    pub(crate) fn required<T: FromJson>(&mut self, from: &mut Reader<'_>, name: &'static str) -> Option<T> {
        let at = self.at(name);
        let Some(value) = self.value(name) else {
            from.fault(at, "is required");
            return None;
        };
        T::from_json(value, &at, from)
    }

    /// A member that may be there.
    pub(crate) fn optional<T: FromJson>(&mut self, from: &mut Reader<'_>, name: &'static str) -> Option<T> {
        let at = self.at(name);
        self.value(name).and_then(|value| T::from_json(value, &at, from))
    }

    /// Members that nobody asked for are unknown.
    pub(crate) fn finish(self, from: &mut Reader<'_>) {
        for name in self.members.keys().filter(|name| !self.asked.contains(name.as_str())) {
            from.fault(self.at(&shown(name)), "is not a known field");
        }
        if self.pointer.is_empty() {
            from.asked = self.asked;
        }
    }
}

/// A member's name in a pointer (RFC 6901 §3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A stranger's name, at most its first 64 characters.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// What can be read from a JSON value.
pub(crate) trait FromJson: Sized {
    /// Reads it; a fault is noted at the pointer.
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self>;
}

fn or_fault<T>(value: Option<T>, at: &str, from: &mut Reader<'_>, must: &str) -> Option<T> {
    if value.is_none() {
        from.fault(at, must);
    }
    value
}

impl FromJson for String {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        or_fault(value.as_str().map(str::to_owned), at, from, "is a text")
    }
}

impl FromJson for u64 {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        or_fault(value.as_u64(), at, from, "is a whole number, 0 or more")
    }
}

impl FromJson for u32 {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let number = value.as_u64().and_then(|number| Self::try_from(number).ok());
        or_fault(number, at, from, "is a whole number, 0 to 4294967295")
    }
}

impl FromJson for Value {
    fn from_json(value: &Value, _at: &str, _from: &mut Reader<'_>) -> Option<Self> {
        Some(value.clone())
    }
}

impl FromJson for OffsetDateTime {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let time = value.as_str().and_then(|text| Self::parse(text, &Rfc3339).ok());
        or_fault(time, at, from, "is a time as RFC 3339 writes it, such as 2030-01-31T12:00:00Z")
    }
}

/// A minute of the day.
impl FromJson for Time {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let form = format_description!("[hour]:[minute]");
        let time = value.as_str().and_then(|text| Self::parse(text, form).ok());
        or_fault(time, at, from, "is a minute of the day as HH:MM")
    }
}

/// An object whose members are named by the caller.
impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let members = or_fault(value.as_object(), at, from, "is an object")?;
        let read = members
            .iter()
            .map(|(name, value)| Some((name.clone(), T::from_json(value, &format!("{at}/{}", escaped(name)), from)?)));
        // All are read before any counts, so that each fault is told.
        read.collect::<Vec<_>>().into_iter().collect()
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let items = or_fault(value.as_array(), at, from, "is a list")?;
        let read: Vec<_> =
            items.iter().enumerate().map(|(place, item)| T::from_json(item, &format!("{at}/{place}"), from)).collect();
        read.into_iter().collect()
    }
}

impl FromJson for Role {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let role = Self::ALL.into_iter().find(|role| value.as_str() == Some(role.as_str()));
        or_fault(role, at, from, "is one of admin, support_agent, user, service")
    }
}

macro_rules! from_text {
    ($($kind:ty => $must:expr),+ $(,)?) => {$(
        impl FromJson for $kind {
            fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
                or_fault(value.as_str().and_then(|text| text.parse().ok()), at, from, $must)
            }
        }
    )+};
}

from_text! {
    ConnectionId => "is a connection's id, con_ and 26 characters",
    MandateId => "is a mandate's id, man_ and 26 characters",
    KeyId => "is an API key's id, key_ and 26 characters",
    ObjectId => "is an object's id, obj_ and 26 characters",
    Subject => "is an API key's id, a role template's id, or an object's id, `#` and a relation",
    Unit => "is one of acts, posts, messages, recipients, tokens, bytes, cents",
    Period => "is one of minute, hour, day, month",
}

/// Which page of a list.
#[derive(Debug)]
pub(crate) struct Page<I> {
    /// Only what is older than this.
    pub(crate) before: Option<I>,
    /// The most items, 1 to 100.
    pub(crate) limit: usize,
}

const MOST_ITEMS: usize = 100;
const ITEMS: usize = 50;

impl<I: Id + FromStr> Input for Page<I> {
    const QUERY: Query = Query::Known(&[
        ("limit", "The most items, 1 to 100; 50 if not given."),
        ("before", "Only what is older than this id."),
    ]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let limit = limit(from)?;
        let before = match from.query("before").map(str::parse) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => or_fault(None, "?before", from, &format!("is an id, {}_ and 26 characters", I::PREFIX))?,
        };
        Some(Self { before, limit })
    }
}

/// How many items a page has at most, as the query says.
pub(crate) fn limit(from: &mut Reader<'_>) -> Option<usize> {
    match from.query("limit").map(str::parse) {
        None => Some(ITEMS),
        Some(Ok(limit)) if (1..=MOST_ITEMS).contains(&limit) => Some(limit),
        Some(_) => or_fault(None, "?limit", from, "is a whole number from 1 to 100"),
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
