//! The table of routes and the kinds of jobs, as the program under test tells them: what the walks go through.
//!
//! Nothing here names a route. What a row wants is read from its sample, so that a row that is added is walked without anybody's doing.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::{
    caller::{Caller, Reply},
    evidence::Failure,
    ground::Ground,
};

/// What stands for the placeholders of a sample.
pub type Values = BTreeMap<String, String>;

/// What `keyholder routes --json` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Table {
    /// The routes.
    pub routes: Vec<Route>,
    /// The kinds of jobs.
    pub jobs: Vec<Job>,
}

/// A kind of job.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// Its name.
    pub kind: String,
    /// What its cause is permitted.
    pub permissions: Vec<String>,
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// Somebody with an API key.
    ApiKey,
    /// One of the operator's persons.
    OperatorKey,
    /// Everybody.
    Public,
}

/// A route.
#[derive(Debug, Clone, Deserialize)]
pub struct Route {
    /// Its method; `ANY` for all.
    pub method: String,
    /// Its path, captures in braces.
    pub path: String,
    /// Who may come in.
    pub guard: Guard,
    /// The permission that is asked; empty behind a public row.
    pub permission: String,
    /// The relation to its object that this permission needs.
    pub relation: Option<String>,
    /// What it is asked on.
    object: Option<AskedOn>,
    /// Why everybody may come in.
    pub why: Option<String>,
    /// What a request leaves.
    pub record: Option<Record>,
    /// One valid request.
    pub sample: Sample,
}

/// What a permission is asked on.
#[derive(Debug, Clone, Deserialize)]
struct AskedOn {
    /// Whence its id comes: `callers-workspace`, `path`, `body`, `installation`.
    from: String,
    /// Where it stands there: a capture's name, or a JSON pointer.
    name: Option<String>,
}

/// What a request leaves.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// Where: `audit`, `installation-audit`, `row`.
    #[serde(rename = "in")]
    pub place: String,
    /// The event, or the table.
    pub name: String,
}

/// One valid request with placeholders.
#[derive(Debug, Clone, Deserialize)]
pub struct Sample {
    method: String,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Option<SampleBody>,
}

/// The body of a sample.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SampleBody {
    Json(Value),
    Form(Vec<(String, String)>),
}

impl Route {
    /// The row for people: method and path.
    pub fn title(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// What its permission is asked on, by the placeholder that stands for it in the sample; none where that is the workspace or the
    /// installation, of which everybody knows who comes in there.
    pub fn object(&self) -> Option<String> {
        let asked = self.object.as_ref()?;
        let name = asked.name.as_deref().unwrap_or_default();
        let text = match (asked.from.as_str(), &self.sample.body) {
            ("path", _) => {
                self.sample.path.iter().find(|(capture, _)| capture == name).map(|(_, value)| value.as_str())
            }
            ("body", Some(SampleBody::Json(body))) => body.pointer(name).and_then(Value::as_str),
            ("body", _) => None,
            _ => return None,
        };
        let text = text.unwrap_or_default();
        Some(names_in(text).into_iter().next().unwrap_or_else(|| text.to_owned()))
    }

    /// The placeholders of its sample.
    pub fn placeholders(&self) -> BTreeSet<String> {
        let mut texts = Vec::new();
        for (_, value) in self.sample.path.iter().chain(&self.sample.query).chain(&self.sample.headers) {
            texts.push(value.clone());
        }
        match &self.sample.body {
            Some(SampleBody::Json(body)) => collect(body, &mut texts),
            Some(SampleBody::Form(fields)) => texts.extend(fields.iter().map(|(_, value)| value.clone())),
            None => {}
        }
        texts.iter().flat_map(|text| names_in(text)).collect()
    }

    /// Whether one of these placeholders stands in its path.
    pub fn names_in_path(&self, names: &[&str]) -> bool {
        self.sample.path.iter().flat_map(|(_, value)| names_in(value)).any(|name| names.contains(&name.as_str()))
    }

    /// Sends its sample. A placeholder without a value stays as it is.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send(&self, caller: &Caller, values: &Values, more: &[(&str, &str)]) -> Result<Reply, Failure> {
        self.send_as(caller, values, more, true).await
    }

    /// The same with a body that nobody can read, but where it is the body that names the object: who is let in who should not be learns so
    /// by another answer, and nothing has come of it.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send_unreadable(
        &self,
        caller: &Caller,
        values: &Values,
        more: &[(&str, &str)],
    ) -> Result<Reply, Failure> {
        let names_object = self.object.as_ref().is_some_and(|object| object.from == "body");
        self.send_as(caller, values, more, names_object).await
    }

    async fn send_as(
        &self,
        caller: &Caller,
        values: &Values,
        more: &[(&str, &str)],
        is_readable: bool,
    ) -> Result<Reply, Failure> {
        let mut target = self.path.clone();
        for (name, value) in &self.sample.path {
            let value = filled(value, values);
            target = target.replace(&format!("{{*{name}}}"), &value).replace(&format!("{{{name}}}"), &value);
        }
        for (place, (name, value)) in self.sample.query.iter().enumerate() {
            let value: String = form_urlencoded::byte_serialize(filled(value, values).as_bytes()).collect();
            target.push(if place == 0 { '?' } else { '&' });
            target.extend([name.as_str(), "=", &value]);
        }
        let mut headers: Vec<(&str, String)> =
            self.sample.headers.iter().map(|(name, value)| (name.as_str(), filled(value, values))).collect();
        let body = match &self.sample.body {
            None => String::new(),
            Some(_) if !is_readable => {
                headers.push(("content-type", "application/json".to_owned()));
                "{".to_owned()
            }
            Some(SampleBody::Json(body)) => {
                headers.push(("content-type", "application/json".to_owned()));
                filled_in(body, values).to_string()
            }
            Some(SampleBody::Form(fields)) => {
                headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
                let fields = fields.iter().map(|(name, value)| (name, filled(value, values)));
                form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
            }
        };
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
        let method: Method = self.sample.method.parse()?;
        Ok(caller.send(method, &target, &headers, body.into()).await?)
    }
}

impl Ground {
    /// The table of the program under test.
    ///
    /// # Errors
    /// `Unproven` where it does not tell.
    pub async fn table(&self) -> Result<Table, Failure> {
        let told = self.run(&["routes", "--json"], &[]).await?;
        let table: Table = serde_json::from_slice(&told.stdout)?;
        if table.routes.is_empty() || table.jobs.is_empty() {
            return Err(Failure::unproven("the program tells no routes or no jobs"));
        }
        Ok(table)
    }
}

fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(members) => members.values().for_each(|member| collect(member, into)),
        _ => {}
    }
}

/// The names between braces.
fn names_in(text: &str) -> Vec<String> {
    text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name.to_owned()).collect()
}

fn filled(text: &str, values: &Values) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

fn filled_in(value: &Value, values: &Values) -> Value {
    match value {
        Value::String(text) => Value::String(filled(text, values)),
        Value::Array(items) => items.iter().map(|item| filled_in(item, values)).collect(),
        Value::Object(members) => members.iter().map(|(name, it)| (name.clone(), filled_in(it, values))).collect(),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_names_what_it_needs_wherever_it_stands() {
        let row = json!({
            "method": "POST", "path": "/v1/things/{id}", "guard": "api-key", "permission": "thing.do", "relation": "can_do",
            "why": null, "object": { "from": "path", "name": "id" }, "record": { "in": "audit", "name": "thing.done" },
            "sample": {
                "method": "POST", "path": [["id", "{thing}"]], "query": [["at", "{when}"]], "headers": [["idempotency-key", "{fresh}"]],
                "body": { "json": { "deep": ["{one}", { "deeper": "x{two}y" }] } },
            },
        });
        let row: Route = serde_json::from_value(row).unwrap();
        let names: Vec<_> = row.placeholders().into_iter().collect();
        assert_eq!(names, ["fresh", "one", "thing", "two", "when"]);
        assert!(row.names_in_path(&["thing"]) && !row.names_in_path(&["one"]));
        assert_eq!(row.object().as_deref(), Some("thing"));
    }
}
