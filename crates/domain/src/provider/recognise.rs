//! Reading a request that was written for the platform's own API as one declared action and its input.
//!
//! The request itself goes no further: what is sent is rendered from the input. So everything in it must have a meaning
//! here, and whatever has none is refused by name, never dropped.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{
    Provider,
    action::Action,
    field::Goes,
    place::{Parsed, Pointer},
    template::{Malformed, segments, unescape},
};
use crate::json::{self, JsonFault};

/// The longest query, in bytes, and the most parameters in it.
const QUERY_BYTES: usize = 8192;
const PARAMETERS: usize = 64;

/// Why a request is no action of the provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecogniseError {
    /// No action has this method, path and distinguishing members.
    #[error("no declared action has this method and path")]
    NoSuchAction,
    /// The path can be read in two ways, or not at all.
    #[error("the path is refused")]
    Path(#[source] Malformed),
    /// The query cannot be read.
    #[error("the query is refused")]
    Query(#[source] Malformed),
    /// A parameter is there twice.
    #[error("the query has {name:?} twice")]
    RepeatedQuery {
        /// The parameter, at most its first 64 characters.
        name: String,
    },
    /// The action has no such parameter.
    #[error("the action has no query parameter {name:?}")]
    UnknownQuery {
        /// The parameter, at most its first 64 characters.
        name: String,
    },
    /// The action has no body, and the request has one.
    #[error("the action has no body")]
    UnexpectedBody,
    /// The body is not strict JSON.
    #[error("the body is refused")]
    InvalidJson(#[source] JsonFault),
    /// The body, or a member that must be one, is no object.
    #[error("{pointer:?} must be an object")]
    NotAnObject {
        /// A JSON pointer into the body; empty for the body itself.
        pointer: String,
    },
    /// The action has no such member.
    #[error("the action has no body member {pointer:?}")]
    UnknownBodyField {
        /// A JSON pointer into the body; its last name at most its first 64 characters.
        pointer: String,
    },
    /// Something that never varies has another value.
    #[error("{place:?} must have the value that the action declares")]
    FixedDiffers {
        /// `?name` in the query, `/pointer` in the body.
        place: String,
    },
}

impl Provider {
    /// Reads a request as exactly one declared action and its input, which is yet to be validated.
    ///
    /// `path` and `query` are as on the wire, escapes and all; the host is of no account, so the linter keeps actions
    /// apart without it. A parameter or member that never varies may be left out.
    ///
    /// # Errors
    /// [`RecogniseError`], naming what has no meaning.
    pub fn recognise(
        &self,
        method: &str,
        path: &str,
        query: Option<&str>,
        body: Option<&[u8]>,
    ) -> Result<(&Arc<Action>, Value), RecogniseError> {
        let segments = segments(path).map_err(RecogniseError::Path)?;
        let of_path: Vec<_> = self
            .actions()
            .filter(|action| action.method.as_str() == method)
            .filter_map(|action| Some((action, captured(action, &segments)?)))
            .collect();
        if of_path.is_empty() {
            return Err(RecogniseError::NoSuchAction);
        }
        let body = body.filter(|body| !body.is_empty());
        if body.is_some() && !of_path.iter().any(|(action, _)| action.has_body()) {
            return Err(RecogniseError::UnexpectedBody);
        }
        let request = Parsed { query: read_query(query.unwrap_or_default())?, body: self.read_body(body)? };

        let mut of_request = of_path.into_iter().filter(|(action, _)| action.when.holds(&request));
        let (action, mut input) = of_request.next().ok_or(RecogniseError::NoSuchAction)?;
        // The linter has proven that there is no second; were there one, guessing would be the worst answer.
        if of_request.next().is_some() {
            return Err(RecogniseError::NoSuchAction);
        }
        if body.is_some() && !action.has_body() {
            return Err(RecogniseError::UnexpectedBody);
        }
        input_from_query(action, &request, &mut input)?;
        input_from_body(action, &request.body, None, &mut input)?;
        Ok((action, Value::Object(input)))
    }

    fn read_body(&self, body: Option<&[u8]>) -> Result<Value, RecogniseError> {
        let Some(body) = body else {
            return Ok(Value::Object(Map::new()));
        };
        let limits = json::Limits::bytes(self.limits.request_bytes);
        let value = json::parse_strict(body, limits).map_err(RecogniseError::InvalidJson)?;
        if value.is_object() { Ok(value) } else { Err(RecogniseError::NotAnObject { pointer: String::new() }) }
    }
}

/// The input that is in the path, if the path is the action's: each segment must be a value that its field takes, which
/// is also what the linter goes by.
fn captured(action: &Action, segments: &[String]) -> Option<Map<String, Value>> {
    let mut input = Map::new();
    for (param, text) in action.path.capture(segments)? {
        let (name, field) = action.field_of_param(param)?;
        if !field.admits(text) {
            return None;
        }
        input.insert(name.to_owned(), field.read_text(text));
    }
    Some(input)
}

fn read_query(query: &str) -> Result<BTreeMap<String, String>, RecogniseError> {
    let too_long = || RecogniseError::Query(Malformed::TooLong);
    if query.len() > QUERY_BYTES {
        return Err(too_long());
    }
    let mut parameters = BTreeMap::new();
    if query.is_empty() {
        return Ok(parameters);
    }
    for parameter in query.split('&') {
        // A plus is a blank in every form that a browser or client library writes.
        let decode = |text: &str| {
            let text = text.replace('+', "%20");
            if text.contains('#') { Err(Malformed::Encoding) } else { unescape(&text) }
        };
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = decode(name).map_err(RecogniseError::Query)?;
        let value = decode(value).map_err(RecogniseError::Query)?;
        if parameters.contains_key(&name) {
            return Err(RecogniseError::RepeatedQuery { name: cut(&name) });
        }
        if parameters.len() == PARAMETERS {
            return Err(too_long());
        }
        parameters.insert(name, value);
    }
    Ok(parameters)
}

fn input_from_query(action: &Action, request: &Parsed, input: &mut Map<String, Value>) -> Result<(), RecogniseError> {
    for (parameter, value) in &request.query {
        if let Some(fixed) = action.query.get(parameter) {
            if fixed != value {
                return Err(RecogniseError::FixedDiffers { place: format!("?{parameter}") });
            }
            continue;
        }
        let goes = |goes: &Goes| matches!(goes, Goes::Query(name) if name == parameter);
        let Some((name, field)) = action.input.iter().find(|(_, field)| goes(&field.goes)) else {
            return Err(RecogniseError::UnknownQuery { name: cut(parameter) });
        };
        input.insert(name.clone(), field.read_text(value));
    }
    Ok(())
}

/// Walks an object of the body. It goes down only where a place of the action lies deeper, so no deeper than the file's
/// pointers.
fn input_from_body(
    action: &Action,
    object: &Value,
    at: Option<&Pointer>,
    input: &mut Map<String, Value>,
) -> Result<(), RecogniseError> {
    let Value::Object(members) = object else {
        return Err(RecogniseError::NotAnObject { pointer: at.map(Pointer::to_string).unwrap_or_default() });
    };
    // An empty object on the way would be lost in rendering: it has no meaning, and what has none is refused.
    if let Some(at) = at.filter(|_| members.is_empty()) {
        return Err(RecogniseError::UnknownBodyField { pointer: at.to_string() });
    }
    for (name, value) in members {
        let here = Pointer::child(at, name);
        if let Some((field, _, _)) = action.body_fields().find(|(_, _, pointer)| **pointer == here) {
            input.insert(field.to_owned(), value.clone());
        } else if let Some(fixed) = action.body.get(&here) {
            if fixed.to_json() != *value {
                return Err(RecogniseError::FixedDiffers { place: here.to_string() });
            }
        } else if action.body_places().any(|pointer| pointer.is_within(&here)) {
            input_from_body(action, value, Some(&here), input)?;
        } else {
            return Err(RecogniseError::UnknownBodyField { pointer: Pointer::child(at, &cut(name)).to_string() });
        }
    }
    Ok(())
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
