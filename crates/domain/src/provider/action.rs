//! Actions: what can be done at a provider, what it takes, and the request that does it.
//!
//! A request is always rendered from parsed input. Nothing that a caller sent is ever forwarded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    field::{Field, FieldKind, Goes, Taken},
    place::{Pointer, Scalar},
    predicate::When,
    template::{PathTemplate, escape},
};
use crate::{
    budget::{MOST_CAP, Unit},
    json,
};

/// How many faults of one input are told.
const TOLD: usize = 32;

/// What an action does to the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing.
    Read,
    /// It changes something that can be changed again.
    Write,
    /// It reaches other people, and cannot be called back.
    Send,
}

impl Effect {
    /// The word in files and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Send => "send",
        }
    }
}

/// The methods that an action may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads, and nothing else (RFC 9110 §9.2.1).
    Get,
    /// The only method that may be of any effect.
    Post,
    /// Writes or sends.
    Put,
    /// Writes or sends.
    Patch,
    /// Writes or sends; has no body here (RFC 9110 §9.3.5 gives it no meaning).
    Delete,
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    pub(super) fn may_have_body(self) -> bool {
        !matches!(self, Self::Get | Self::Delete)
    }
}

/// How many of a unit an act takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Always so many.
    Fixed(u64),
    /// As many as the list in this field has items.
    Count(String),
    /// As many as the text in this field has bytes in UTF-8.
    Bytes(String),
    /// The number in this field.
    Value(String),
}

/// Where an answer says what an act has really used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reported {
    /// A number of 0 or more stands there.
    At(Pointer),
    /// The answer's body itself is what was used: its bytes.
    Answer,
}

/// What is expected to come back.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Answer {
    /// The content types that are taken, without parameters, in lower case.
    pub types: BTreeSet<String>,
    /// Where the answer names what was made.
    pub id: Option<Pointer>,
}

/// One thing that can be done at a provider. Only a provider file makes one.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Action {
    /// Its name, such as `post.reply`.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What it does to the account.
    pub effect: Effect,
    /// The scopes that it needs, sorted.
    pub scopes: BTreeSet<String>,
    /// The request's method.
    pub method: Method,
    /// Where the request goes: one of the provider's hosts.
    pub host: String,
    /// The request's path.
    pub path: PathTemplate,
    /// Parameters that never vary.
    pub query: BTreeMap<String, String>,
    /// Members of the body that never vary.
    pub body: BTreeMap<Pointer, Scalar>,
    /// What tells it apart from actions of the same method and path.
    pub when: When,
    /// What it takes from budgets; one act at least.
    pub units: BTreeMap<Unit, Measure>,
    /// Of which of them the answer says what was really used; `units` is then what is reserved.
    pub used: BTreeMap<Unit, Reported>,
    /// What it takes from the caller, by name.
    pub input: BTreeMap<String, Field>,
    /// What comes back.
    pub answer: Answer,
    /// The largest body, in bytes: the provider's limit.
    pub(super) request_bytes: usize,
}

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputFault {
    /// A JSON pointer into the input; empty for the input itself.
    pub pointer: String,
    /// Words for the caller. They never repeat what he sent.
    pub message: String,
}

/// Input that one action has taken. It knows its action, so that no other can be rendered from it.
#[derive(Clone)]
pub struct ValidInput {
    action: Arc<Action>,
    values: BTreeMap<String, Taken>,
}

/// A request, complete but for the credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The method.
    pub method: Method,
    /// The host, one of the provider's.
    pub host: String,
    /// Path and query, escaped.
    pub path_and_query: String,
    /// `accept`, and `content-type` where there is a body.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
}

impl Action {
    /// Whether its requests have a body.
    pub fn has_body(&self) -> bool {
        !self.body.is_empty() || self.body_fields().next().is_some()
    }

    pub(super) fn body_fields(&self) -> impl Iterator<Item = (&str, &Field, &Pointer)> {
        self.input.iter().filter_map(|(name, field)| match &field.goes {
            Goes::Body(pointer) => Some((name.as_str(), field, pointer)),
            _ => None,
        })
    }

    /// Where something stands in its bodies.
    pub(super) fn body_places(&self) -> impl Iterator<Item = &Pointer> {
        self.body_fields().map(|(_, _, pointer)| pointer).chain(self.body.keys())
    }

    /// The field that fills a place of the path.
    pub(super) fn field_of_param(&self, param: &str) -> Option<(&str, &Field)> {
        let fills = |field: &Field| matches!(&field.goes, Goes::Path(name) if name == param);
        self.input.iter().find(|(_, field)| fills(field)).map(|(name, field)| (name.as_str(), field))
    }

    /// What an act has really used, as its answer says. A unit of which the answer says nothing that can be believed is not named: of that
    /// the act has used what it reserved.
    pub fn used(&self, body: &[u8]) -> Vec<(Unit, u64)> {
        let asked = self.used.values().any(|reported| matches!(reported, Reported::At(_)));
        let value = asked.then(|| json::parse_strict(body, json::Limits::bytes(body.len())).ok()).flatten();
        let read = |reported: &Reported| match reported {
            Reported::Answer => u64::try_from(body.len()).ok(),
            Reported::At(pointer) => pointer.find(value.as_ref()?)?.as_u64(),
        };
        self.used.iter().filter_map(|(unit, reported)| Some((*unit, read(reported)?.min(MOST_CAP)))).collect()
    }

    /// Takes an input, or says what is wrong with it: an object whose members are the action's fields and nothing else.
    ///
    /// # Errors
    /// Every fault, up to 32.
    pub fn validate(self: &Arc<Self>, input: &Value) -> Result<ValidInput, Vec<InputFault>> {
        let Value::Object(members) = input else {
            return Err(vec![InputFault { pointer: String::new(), message: "must be an object".to_owned() }]);
        };
        let mut faults = Vec::new();
        let mut fault = |pointer: String, message: String| {
            if faults.len() < TOLD {
                faults.push(InputFault { pointer, message });
            }
        };
        let mut values = BTreeMap::new();
        for (name, value) in members {
            let Some(field) = self.input.get(name) else {
                let name: String = name.chars().take(64).collect();
                fault(Pointer::child(None, &name).to_string(), "unknown field".to_owned());
                continue;
            };
            match field.take(value) {
                Ok(taken) => drop(values.insert(name.clone(), taken)),
                Err(refusals) => {
                    for (below, words) in refusals {
                        fault(format!("/{name}{below}"), words.into_owned());
                    }
                }
            }
        }
        for (name, _) in self.input.iter().filter(|(name, field)| field.required && !members.contains_key(*name)) {
            fault(format!("/{name}"), "is required".to_owned());
        }
        let valid = ValidInput { action: Arc::clone(self), values };
        if faults.is_empty() && valid.render_body().is_some_and(|body| body.len() > self.request_bytes) {
            let message = format!("the request would have more than {} bytes", self.request_bytes);
            faults.push(InputFault { pointer: String::new(), message });
        }
        if faults.is_empty() { Ok(valid) } else { Err(faults) }
    }
}

impl ValidInput {
    /// The action that took it.
    pub fn action(&self) -> &Arc<Action> {
        &self.action
    }

    /// The input as JSON.
    pub fn to_value(&self) -> Value {
        Value::Object(self.values.iter().map(|(name, taken)| (name.clone(), taken.to_json())).collect())
    }

    /// The one text of this input, to be hashed: for approvals, and to tell a retry from another request.
    pub fn canonical(&self) -> Vec<u8> {
        json::canonical(&self.to_value())
    }

    /// The texts that people will read at the provider, each with its field's name.
    pub fn content(&self) -> impl Iterator<Item = (&str, &str)> {
        let shown = |name: &String| self.action.input.get(name).is_some_and(|field| field.content);
        self.values.iter().filter(move |(name, _)| shown(name)).flat_map(|(name, taken)| {
            let texts = match taken {
                Taken::Text(text) => std::slice::from_ref(text),
                Taken::Texts(texts) => texts.as_slice(),
                Taken::Integer(_) | Taken::Boolean(_) => &[],
            };
            texts.iter().map(move |text| (name.as_str(), text.as_str()))
        })
    }

    /// What the act takes from budgets.
    pub fn units(&self) -> Vec<(Unit, u64)> {
        self.action.units.iter().map(|(unit, measure)| (*unit, self.measure(measure))).collect()
    }

    fn measure(&self, measure: &Measure) -> u64 {
        let (Measure::Count(field) | Measure::Bytes(field) | Measure::Value(field)) = measure else {
            return if let Measure::Fixed(units) = measure { *units } else { 0 };
        };
        match self.values.get(field) {
            Some(Taken::Texts(texts)) => texts.len() as u64,
            Some(Taken::Text(text)) => text.len() as u64,
            // The linter wants a minimum of 0 or more.
            Some(Taken::Integer(number)) => u64::try_from(*number).unwrap_or(0),
            Some(Taken::Boolean(_)) | None => 0,
        }
    }

    /// The request that does it, made anew from the parsed input.
    pub fn render(&self) -> Rendered {
        let action = &self.action;
        let mut headers =
            vec![("accept", action.answer.types.iter().map(String::as_str).collect::<Vec<_>>().join(", "))];
        let body = self.render_body();
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let path_and_query = self.render_path() + &self.render_query();
        Rendered { method: action.method, host: action.host.clone(), path_and_query, headers, body }
    }

    fn placed(&self) -> impl Iterator<Item = (&Goes, &Taken)> {
        self.values.iter().filter_map(|(name, taken)| Some((&self.action.input.get(name)?.goes, taken)))
    }

    fn render_path(&self) -> String {
        let values: BTreeMap<&str, String> = self
            .placed()
            .filter_map(|(goes, taken)| match goes {
                Goes::Path(param) => Some((param.as_str(), taken.to_text())),
                _ => None,
            })
            .collect();
        // The linter has shown that each place of the path has a required field.
        self.action.path.render(|param| values.get(param).map_or("", String::as_str))
    }

    fn render_query(&self) -> String {
        let fixed = self.action.query.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let given = self.placed().filter_map(|(goes, taken)| match goes {
            Goes::Query(name) => Some((name.as_str(), taken.to_text())),
            _ => None,
        });
        let parameters: BTreeMap<&str, String> = fixed.chain(given).collect();
        let mut query = String::new();
        for (name, value) in parameters {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&escape(name));
            query.push('=');
            query.push_str(&escape(&value));
        }
        query
    }

    fn render_body(&self) -> Option<Vec<u8>> {
        if !self.action.has_body() {
            return None;
        }
        let mut body = Map::new();
        for (pointer, value) in &self.action.body {
            pointer.put(&mut body, value.to_json());
        }
        for (goes, taken) in self.placed() {
            if let Goes::Body(pointer) = goes {
                pointer.put(&mut body, taken.to_json());
            }
        }
        Some(json::canonical(&Value::Object(body)))
    }
}

impl fmt::Debug for ValidInput {
    /// Names the action alone: the values are somebody's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidInput").field("action", &self.action.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Rendered {
    /// Leaves out path, query and body: they carry somebody's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("method", &self.method).field("host", &self.host).finish_non_exhaustive()
    }
}

impl FieldKind {
    /// The word in files.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Integer(_) => "integer",
            Self::Boolean => "boolean",
            Self::Strings { .. } => "strings",
        }
    }
}
