//! The API as its own document describes it: which requests there are, and of what parts. What is documented is attacked, without
//! anybody adding it here.

use http::Method;
use serde_json::Value;

use crate::{
    caller::{Caller, Reply},
    evidence::Failure,
    owner::{expect, text},
};

/// Whose key an operation wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// None: it is open to everybody.
    None,
    /// A workspace's.
    ApiKey,
    /// One of the operator's persons'.
    OperatorKey,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// In a header.
    Header,
}

/// A parameter of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// An example of its value; empty where the document has none.
    pub example: String,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for what varies.
    pub path: String,
    /// Whose key it wants.
    pub credential: Credential,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// The schema of its JSON body, with references followed; null where it takes none.
    pub schema: Value,
    /// An example of that body.
    pub example: Value,
}

/// Reads the document of a server.
///
/// # Errors
/// `Unproven` where it is not answered, or describes nothing.
pub async fn operations(caller: &Caller) -> Result<Vec<Operation>, Failure> {
    let document = expect(&caller.get("/openapi.json").await?, 200)?;
    let operations = read(&document);
    if operations.is_empty() { Err(Failure::unproven("/openapi.json describes no operation")) } else { Ok(operations) }
}

fn read(document: &Value) -> Vec<Operation> {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        let item = item.as_object().into_iter().flatten();
        item.filter_map(move |(method, operation)| {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).ok()?;
            Some(operation_of(document, method, path, operation))
        })
    });
    all.collect()
}

fn operation_of(document: &Value, method: Method, path: &str, operation: &Value) -> Operation {
    let security = operation.get("security").map(Value::to_string).unwrap_or_default();
    let credential = match (security.contains("operator_key"), security.contains("api_key")) {
        (true, _) => Credential::OperatorKey,
        (false, true) => Credential::ApiKey,
        (false, false) => Credential::None,
    };
    let json = operation.pointer("/requestBody/content/application~1json");
    let schema = json.and_then(|json| json.get("schema")).map(|schema| followed(document, schema, 0));
    Operation {
        method,
        path: path.to_owned(),
        credential,
        parameters: operation
            .get("parameters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(parameter)
            .collect(),
        schema: schema.unwrap_or_default(),
        example: json.and_then(|json| json.get("example")).cloned().unwrap_or_default(),
    }
}

fn parameter(of: &Value) -> Option<Parameter> {
    let place = match text(of, "/in") {
        "path" => Place::Path,
        "query" => Place::Query,
        "header" => Place::Header,
        _ => return None,
    };
    Some(Parameter { name: text(of, "/name").to_owned(), place, example: text(of, "/example").to_owned() })
}

/// Whether a reply is a structured refusal: a problem (RFC 9457), or what OpenFGA's clients read, with a problem's members beside it.
pub fn is_problem(path: &str, reply: &Reply) -> bool {
    let (body, kind) = (reply.json(), reply.header("content-type"));
    let is_whole = !text(&body, "/type").is_empty() && body.get("status").is_some();
    if path.starts_with(OPENFGA) {
        return is_whole && kind == "application/json" && !text(&body, "/code").is_empty();
    }
    is_whole && kind == "application/problem+json"
}

/// The addresses of OpenFGA's API, whose form is its clients'.
pub const OPENFGA: &str = "/fga/";

/// A schema with its references replaced by what they refer to. Deeper than any of ours it is left as it is.
fn followed(document: &Value, schema: &Value, depth: usize) -> Value {
    if depth > 12 {
        return schema.clone();
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        return target.map_or(Value::Null, |target| followed(document, target, depth + 1));
    }
    match schema {
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), followed(document, member, depth + 1))).collect()
        }
        Value::Array(items) => items.iter().map(|item| followed(document, item, depth + 1)).collect(),
        scalar => scalar.clone(),
    }
}

impl Operation {
    /// The path with the examples of its parameters in it, each handed to `real`, which may know a better one.
    pub fn target(&self, real: impl Fn(&str) -> String) -> String {
        self.parameters
            .iter()
            .filter(|parameter| parameter.place == Place::Path)
            .fold(self.path.clone(), |path, parameter| {
                path.replace(&format!("{{{}}}", parameter.name), &real(&parameter.example))
            })
    }

    /// The example of the body, each of its texts handed to `real`.
    pub fn body(&self, real: impl Fn(&str) -> String) -> Value {
        replaced(&self.example, &real)
    }
}

fn replaced(value: &Value, real: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(real(text)),
        Value::Array(items) => items.iter().map(|item| replaced(item, real)).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), replaced(value, real))).collect(),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_read_with_their_parts() {
        let document = json!({
            "paths": { "/v1/things/{id}": { "post": {
                "security": [{ "api_key": [] }],
                "parameters": [{ "name": "id", "in": "path", "example": "thi_1" }, { "name": "wait", "in": "query" }],
                "requestBody": { "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Thing" }, "example": { "name": "thi_1", "many": ["a"] },
                } } },
            } } },
            "components": { "schemas": {
                "Thing": { "properties": { "name": { "$ref": "#/components/schemas/Name" } } },
                "Name": { "type": "string" },
            } },
        });
        let read = read(&document);
        let [operation] = &read[..] else { panic!("{read:?}") };
        assert_eq!((operation.method.as_str(), operation.credential), ("POST", Credential::ApiKey));
        assert_eq!(operation.parameters.len(), 2);
        assert_eq!(operation.schema.pointer("/properties/name/type"), Some(&json!("string")));
        let other = |example: &str| if example == "thi_1" { "thi_9".to_owned() } else { example.to_owned() };
        assert_eq!(operation.target(other), "/v1/things/thi_9");
        assert_eq!(operation.body(other), json!({ "name": "thi_9", "many": ["a"] }));
    }
}
