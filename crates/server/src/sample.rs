//! Sample requests: one valid request a route, as data, with placeholders that a battery fills in.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// The placeholders of samples: name, what stands there in a live request, and an example for the document.
pub const PLACEHOLDERS: [(&str, &str, &str); 28] = [
    ("connection", "an active connection of the workspace, at the provider `x`", "con_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("gone_connection", "a connection that was taken apart", "con_01k5w8v9s6f7q8r9t0v1w2x3y5"),
    ("mandate", "a mandate of the caller's on that connection, for `account.read`", "man_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("key", "an API key of the workspace that is not the caller's", "key_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("act", "an act of the caller's", "act_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("budget", "a budget of the workspace that is no mandate's", "bud_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("code", "the one-time code of a new connection", "8v9s6f7q8r9t0v1w2x3y48v9s6f7q8r9t0v1w2x3y4a"),
    ("return_url", "a registered return address", "https://app.example.com/connected"),
    (
        "own_return_url",
        "a return address that no other workspace has registered",
        "https://app.example.com/connected/2",
    ),
    ("fresh", "a text that is not used twice", "5f0c8e1e-8f0d-4a57-9d3b-0c1f5a8e2b44"),
    ("provider", "a provider at which accounts can be connected", "x"),
    ("action", "an action that only reads, needs no input, and is in the connection's ceiling", "profile.read"),
    ("token", "the last part of a connect link's address", "8v9s6f7q8r9t0v1w2x3y48v9s6f7q8r9t0v1w2x3y4a"),
    ("kill_drill", "a kill drill that another person has proposed", "kd_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    (
        "statement",
        "the payload of a statement for this installation that is newer than all before, in base64",
        "eyJzdGF0ZW1lbnQiOjF9",
    ),
    (
        "signature",
        "that statement's signature by a trusted key, in base64",
        "kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZblWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA==",
    ),
    ("object", "a folder of the workspace", "obj_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("viewer", "an API key that stands in the relation `viewer` to that folder", "key_01k5w8v9s6f7q8r9t0v1w2x3y5"),
    ("role_template", "a role template of the workspace", "rol_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("assignee", "an API key that holds that role template", "key_01k5w8v9s6f7q8r9t0v1w2x3y6"),
    (
        "confirm",
        "what the sample's change of that role template answers without it",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
    ("system_object", "a folder of the system's own in the workspace", "obj_01k5w8v9s6f7q8r9t0v1w2x3y5"),
    ("feature", "a feature that the workspace's plan opens", "content-sync"),
    ("plan", "a plan that is configured", "PRO"),
    ("workspace", "the workspace", "ws_01k5w8v9s6f7q8r9t0v1w2x3y4"),
    ("relation_store", "a relation store of the workspace that has a model", "01K5W8V9S6F7Q8R9T0V1W2X3Y4"),
    ("relation_model", "the newest model of that store", "01K5W8V9S6F7Q8R9T0V1W2X3Y5"),
    ("path", "a path of the platform's own API that the mandate allows", "2/users/me"),
];

/// What is escaped in a capture or a parameter.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The body of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleBody {
    /// None.
    Nothing,
    /// JSON.
    Json(Value),
    /// The fields of a form.
    Form(Vec<(&'static str, &'static str)>),
}

/// One valid request, with placeholders.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The method.
    pub method: &'static str,
    /// What stands for the path's captures.
    pub path: Vec<(&'static str, &'static str)>,
    /// Query parameters.
    pub query: Vec<(&'static str, &'static str)>,
    /// Headers beyond the credential and the content type.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: SampleBody,
}

/// A sample with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The method.
    pub method: &'static str,
    /// Path and query, escaped.
    pub target: String,
    /// Headers, the content type with them; not the credential.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty where there is none.
    pub body: String,
}

impl Sample {
    pub(crate) fn new(method: &'static str) -> Self {
        Self { method, path: Vec::new(), query: Vec::new(), headers: Vec::new(), body: SampleBody::Nothing }
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn path(mut self, name: &'static str, value: &'static str) -> Self {
        self.path.push((name, value));
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: &'static str) -> Self {
        self.query.push((name, value));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn json(mut self, body: Value) -> Self {
        self.body = SampleBody::Json(body);
        self
    }

    pub(crate) fn form(mut self, fields: &[(&'static str, &'static str)]) -> Self {
        self.body = SampleBody::Form(fields.to_vec());
        self
    }

    /// The request for a row's path, each placeholder replaced. A placeholder without a value stays as it is.
    pub fn fill(&self, path: &str, values: &BTreeMap<String, String>) -> Filled {
        let mut target = path.to_owned();
        for (name, value) in &self.path {
            let value = replaced(value, values);
            target = target.replace(&format!("{{*{name}}}"), &value);
            target = target.replace(&format!("{{{name}}}"), &utf8_percent_encode(&value, ESCAPED).to_string());
        }
        for (place, (name, value)) in self.query.iter().enumerate() {
            let value = replaced(value, values);
            let value = utf8_percent_encode(&value, ESCAPED).to_string();
            target.push(if place == 0 { '?' } else { '&' });
            target.extend([name, "=", &value]);
        }
        let mut headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, replaced(value, values))).collect();
        let body = match &self.body {
            SampleBody::Nothing => String::new(),
            SampleBody::Json(body) => {
                headers.push(("content-type", "application/json".to_owned()));
                replaced_in(body, values).to_string()
            }
            SampleBody::Form(fields) => {
                headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
                let fields: Vec<_> = fields.iter().map(|(name, value)| (name, replaced(value, values))).collect();
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
            }
        };
        Filled { method: self.method, target, headers, body }
    }

    /// The JSON body with examples in it.
    pub(crate) fn example_body(&self) -> Option<Value> {
        match &self.body {
            SampleBody::Json(body) => Some(replaced_in(body, &examples())),
            SampleBody::Nothing | SampleBody::Form(_) => None,
        }
    }
}

/// The placeholders' examples.
pub(crate) fn examples() -> BTreeMap<String, String> {
    PLACEHOLDERS.iter().map(|(name, _, example)| ((*name).to_owned(), (*example).to_owned())).collect()
}

/// The text with every placeholder replaced for which there is a value.
pub(crate) fn replaced(text: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

fn replaced_in(value: &Value, values: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(replaced(text, values)),
        Value::Array(items) => items.iter().map(|item| replaced_in(item, values)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), replaced_in(member, values))).collect()
        }
        scalar => scalar.clone(),
    }
}
