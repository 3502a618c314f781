//! The reader of the OpenAPI document: the same facts for people, rendered here, with no script and nothing from elsewhere.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use askama::Template;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::problem::Kind;
use http::{HeaderValue, header};
use serde_json::Value;
use service::{App, Refusal};

use crate::{headers::PagePolicy, openapi, problem::Problem, route::Visit};

/// How deep a schema is told.
const DEPTH: usize = 4;

#[derive(Template)]
#[template(path = "docs.html")]
struct DocsPage {
    title: String,
    version: String,
    openapi: String,
    description: String,
    groups: Vec<Group>,
    problems: Vec<(u16, String, &'static str)>,
}

struct Group {
    name: String,
    operations: Vec<Shown>,
}

struct Shown {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<Row>,
    body: Vec<Row>,
    example: Option<String>,
    status: String,
    answer: Vec<Row>,
    answer_words: String,
}

struct Row {
    name: String,
    kind: String,
    required: bool,
    words: String,
}

/// Answers the reader.
pub(crate) async fn read(_app: Arc<App>, _visit: Visit<()>) -> Result<Response, Problem> {
    let page = PAGE.clone().ok_or(Refusal::Internal("the OpenAPI document", None))?;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = ([(header::CONTENT_TYPE, html)], page).into_response();
    response.extensions_mut().insert(PagePolicy::reading());
    Ok(response)
}

/// The page, made once: whoever asks for it again and again costs no more than its bytes.
static PAGE: LazyLock<Option<Bytes>> = LazyLock::new(|| {
    let document = serde_json::from_str(openapi::text().ok()?).ok()?;
    page(&document).render().ok().map(Bytes::from)
});

fn page(document: &Value) -> DocsPage {
    let mut groups: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for (path, item) in members(document.get("paths")) {
        for (method, operation) in members(Some(item)) {
            let tag = text(operation.pointer("/tags/0"));
            groups.entry(tag).or_default().push(shown(document, path, method, operation));
        }
    }
    DocsPage {
        title: text(document.pointer("/info/title")),
        version: text(document.pointer("/info/version")),
        openapi: text(document.get("openapi")),
        description: text(document.pointer("/info/description")),
        groups: groups.into_iter().map(|(name, operations)| Group { name, operations }).collect(),
        problems: Kind::ALL.iter().map(|kind| (kind.status(), kind.urn(), kind.describe().2)).collect(),
    }
}

fn shown(document: &Value, path: &str, method: &str, operation: &Value) -> Shown {
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let content =
        operation.pointer("/requestBody/content").and_then(Value::as_object).and_then(|media| media.values().next());
    let answer = members(operation.get("responses")).find(|(status, _)| *status != "default");
    let (status, answer) = answer.map_or((String::new(), &Value::Null), |(status, answer)| (status.clone(), answer));
    let example = content.and_then(|content| content.get("example"));
    Shown {
        id: text(operation.get("operationId")),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(operation.get("summary")),
        description: text(operation.get("description")),
        parameters: parameters
            .map(|parameter| Row {
                name: text(parameter.get("name")),
                kind: text(parameter.get("in")),
                required: parameter.get("required").and_then(Value::as_bool).unwrap_or(false),
                words: text(parameter.get("description")),
            })
            .collect(),
        body: content
            .and_then(|content| content.get("schema"))
            .map(|schema| rows(document, schema))
            .unwrap_or_default(),
        example: example.and_then(|example| serde_json::to_string_pretty(example).ok()),
        status,
        answer: answer
            .pointer("/content/application~1json/schema")
            .map(|schema| rows(document, schema))
            .unwrap_or_default(),
        answer_words: text(answer.get("description")),
    }
}

/// The fields of a schema, those inside others with their path.
fn rows(document: &Value, schema: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    walk(document, schema, "", DEPTH, &mut rows);
    rows
}

fn walk(document: &Value, schema: &Value, prefix: &str, depth: usize, rows: &mut Vec<Row>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let schema = resolved(document, schema);
    let required: Vec<_> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in members(schema.get("properties")) {
        let inner = resolved(document, property);
        let path = format!("{prefix}{name}");
        rows.push(Row {
            kind: kind(inner),
            required: required.contains(&name.as_str()),
            words: [property, inner]
                .into_iter()
                .map(|at| text(at.get("description")))
                .find(|words| !words.is_empty())
                .unwrap_or_default(),
            name: path.clone(),
        });
        let (below, prefix) = match inner.get("items").or_else(|| inner.get("additionalProperties")) {
            Some(items) => (items, format!("{path}[].")),
            None => (inner, format!("{path}.")),
        };
        walk(document, below, &prefix, depth, rows);
    }
}

/// The schema itself: a reference followed, and of a schema that may also be null the other one.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let variants = ["oneOf", "anyOf", "allOf"].into_iter().find_map(|word| schema.get(word)?.as_array());
    let schema = variants.into_iter().flatten().find(|variant| text(variant.get("type")) != "null").unwrap_or(schema);
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| document.pointer(pointer)).unwrap_or(schema)
}

fn kind(schema: &Value) -> String {
    let name = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        kind => text(kind),
    };
    match text(schema.get("format")) {
        format if format.is_empty() => name,
        format => format!("{name} ({format})"),
    }
}

fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_told_with_its_fields() {
        let document: Value = serde_json::from_str(openapi::text().unwrap()).unwrap();
        let page = page(&document);
        let told: usize = page.groups.iter().map(|group| group.operations.len()).sum();
        assert_eq!(told, openapi::operations(&document).len());
        let rendered = page.render().unwrap();
        for part in
            ["/v1/mandates", "limits[].cap", "conditions.hours.from", "urn:keyholder:problem:stale", "data[].id"]
        {
            assert!(rendered.contains(part), "{part} is missing");
        }
    }
}
