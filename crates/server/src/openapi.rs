//! The OpenAPI document, made from the table: what is not routed is not in it, and what is routed is.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::Value;
use service::{App, Refusal};
use utoipa::openapi::{
    ArrayBuilder, ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder,
    PathItem, PathsBuilder, Ref, RefOr, Required, ResponseBuilder, Schema,
    path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::{SchemaType, Type},
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use crate::{
    fga::{self, refusal::RefusalBody},
    input::Takes,
    problem::{PROBLEM_JSON, Problem, ProblemBody},
    route::{Guard, Route, Shape, Verb, Visit, collect},
    routes, sample,
};

const SECURITY: &str = "api_key";
const OPERATOR_SECURITY: &str = "operator_key";

/// The document as JSON, made once.
static DOCUMENT: LazyLock<Option<String>> = LazyLock::new(|| document(routes::table()).to_json().ok());

/// The document as it is answered.
pub(crate) fn text() -> Result<&'static str, Problem> {
    Ok(DOCUMENT.as_deref().ok_or(Refusal::Internal("the OpenAPI document", None))?)
}

/// Answers the document.
pub(crate) async fn answer(_app: std::sync::Arc<App>, _visit: Visit<()>) -> Result<Response, Problem> {
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text()?).into_response())
}

/// Makes the document of a table.
pub fn document(table: &[Route]) -> OpenApi {
    let mut schemas = Vec::new();
    collect::<ProblemBody>(&mut schemas);
    collect::<RefusalBody>(&mut schemas);
    let mut paths = PathsBuilder::new();
    for route in table {
        if let Some((_, collect)) = route.schema {
            collect(&mut schemas);
        }
        if let Shape::Json { collect, .. } = route.answers.shape {
            collect(&mut schemas);
        }
        let path = template(route.path);
        for (word, method) in methods(route.method) {
            paths = paths.path(path.as_str(), PathItem::new(method.clone(), operation(route, word)));
        }
    }
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some("An API key, `kh_…`.".to_owned());
    let mut operator = Http::new(HttpAuthScheme::Bearer);
    operator.description = Some(
        "The key of one of the operator's persons, `kho_…`; one that publishes statements is taken where that is done, and nowhere else."
            .to_owned(),
    );
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(SECURITY, SecurityScheme::Http(bearer))
        .security_scheme(OPERATOR_SECURITY, SecurityScheme::Http(operator));
    let info = InfoBuilder::new()
        .title("Keyholder")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Act on your customers' accounts, within their mandates, and never see a key. Refusals are problems (RFC 9457), \
             in the order 401, 404, 403, 422. An act that is refused because its platform fails (503 \
             `urn:keyholder:problem:provider-unavailable`) or wants to be left alone (429 `urn:keyholder:problem:provider-rate-limited`) \
             has taken nothing: it may come again under the same key after `Retry-After`. Lists are pages: give `next` as `before`.",
        ));
    OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components.build())).build()
}

/// The methods of a row, each with the word that tells its operation from the others'.
fn methods(verb: Verb) -> &'static [(&'static str, HttpMethod)] {
    match verb {
        Verb::Get => &[("get", HttpMethod::Get)],
        Verb::Post => &[("post", HttpMethod::Post)],
        Verb::Put => &[("put", HttpMethod::Put)],
        Verb::Delete => &[("delete", HttpMethod::Delete)],
        Verb::Any => &[
            ("get", HttpMethod::Get),
            ("post", HttpMethod::Post),
            ("put", HttpMethod::Put),
            ("patch", HttpMethod::Patch),
            ("delete", HttpMethod::Delete),
        ],
    }
}

/// A row's path as OpenAPI writes it.
pub(crate) fn template(path: &str) -> String {
    path.replace("{*", "{")
}

fn operation(route: &Route, word: &str) -> Operation {
    let (security, description) = match route.guard {
        Guard::ApiKey(permission) => {
            (Some(SecurityRequirement::new(SECURITY, [] as [&str; 0])), format!("Permission: `{permission}`."))
        }
        Guard::Operator(permission) => (
            Some(SecurityRequirement::new(OPERATOR_SECURITY, [] as [&str; 0])),
            format!(
                "For a person of the operator's. Permission: `{permission}`. Every use is in the installation's trail."
            ),
        ),
        Guard::Public(why) => (None, format!("Open to everybody: {why}.")),
    };
    let mut operation = OperationBuilder::new()
        .operation_id(Some(operation_id(route.path, word)))
        .tag(tag(route.path))
        .summary(Some(route.summary))
        .description(Some(description));
    for name in captures(route.path) {
        let example = route.sample.path.iter().find(|(known, _)| *known == name);
        let example = example.map(|(_, value)| Value::String(sample::replaced(value, &sample::examples())));
        operation = operation.parameter(parameter(&name, ParameterIn::Path, "From the path.").example(example));
    }
    for (name, meaning) in route.query.known() {
        operation = operation.parameter(parameter(name, ParameterIn::Query, meaning));
    }
    for (name, meaning) in route.headers {
        operation = operation.parameter(parameter(name, ParameterIn::Header, meaning));
    }
    if let Some(security) = security {
        operation = operation.security(security);
    }
    let body = body(route).filter(|_| word != "get");
    let problem = if fga::is_ours(route.path) {
        let refusal = content(Ref::from_schema_name("FgaError").into()).build();
        ResponseBuilder::new().description("A refusal as OpenFGA has them.").content("application/json", refusal)
    } else {
        let problem = content(Ref::from_schema_name("Problem").into()).build();
        ResponseBuilder::new().description("A problem (RFC 9457).").content(PROBLEM_JSON, problem)
    };
    operation
        .request_body(body.map(RequestBodyBuilder::build))
        .response(route.answers.status.to_string(), answers(route))
        .response("default", problem.build())
        .build()
}

fn parameter(name: &str, place: ParameterIn, meaning: &str) -> ParameterBuilder {
    let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(meaning))
        .schema(Some(text_schema()))
}

fn text_schema() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build().into()
}

fn content(schema: RefOr<Schema>) -> ContentBuilder {
    ContentBuilder::new().schema(Some(schema))
}

fn body(route: &Route) -> Option<RequestBodyBuilder> {
    let anything = || RefOr::from(ObjectBuilder::new().build());
    let (media, schema) = match route.takes {
        Takes::Nothing => return None,
        Takes::Json => {
            ("application/json", route.schema.map_or_else(anything, |(name, _)| Ref::from_schema_name(name).into()))
        }
        Takes::RawJson => ("application/json", anything()),
        Takes::Form => ("application/x-www-form-urlencoded", anything()),
    };
    let content = content(schema).example(route.sample.example_body()).build();
    Some(RequestBodyBuilder::new().content(media, content))
}

fn answers(route: &Route) -> utoipa::openapi::Response {
    let response = ResponseBuilder::new();
    match route.answers.shape {
        Shape::Empty => response.description("Done.").build(),
        Shape::Media(media) => response.description("As it is.").content(media, content(text_schema()).build()).build(),
        Shape::Json { name, list, .. } => {
            let item = RefOr::from(Ref::from_schema_name(name()));
            let schema = if list { page_of(item) } else { item };
            response.description("Done.").content("application/json", content(schema).build()).build()
        }
    }
}

fn page_of(item: RefOr<Schema>) -> RefOr<Schema> {
    let next = ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
        .description(Some("What to give as `before` for the next page; null where there is none."));
    ObjectBuilder::new()
        .property("data", ArrayBuilder::new().items(item).build())
        .property("next", next.build())
        .required("data")
        .required("next")
        .build()
        .into()
}

/// The names of a path's captures.
fn captures(path: &str) -> Vec<String> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| name.trim_start_matches('*').to_owned()).collect()
}

/// The noun that an operation is shown under.
fn tag(path: &str) -> String {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some("v1"), Some(noun)) => noun.replace('-', " "),
        (Some("fga"), _) => "relation stores".to_owned(),
        (Some("connect"), _) => "connect pages".to_owned(),
        (Some("health"), _) => "health".to_owned(),
        _ => "documents".to_owned(),
    }
}

fn operation_id(path: &str, word: &str) -> String {
    let parts: Vec<_> = path
        .split(['/', '-', '.'])
        .map(|part| part.trim_matches(['{', '}', '*']))
        .filter(|part| !part.is_empty() && *part != "v1")
        .collect();
    format!("{word}_{}", parts.join("_"))
}

/// All operations of a document, as (path, method) in lower case.
#[cfg(test)]
pub(crate) fn operations(document: &Value) -> std::collections::BTreeSet<(String, String)> {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().map(move |(method, _)| (path.clone(), method.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn made() -> Value {
        serde_json::from_str(text().unwrap()).unwrap()
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else_is() {
        let table: BTreeSet<_> = routes::table()
            .iter()
            .flat_map(|route| methods(route.method).iter().map(|(word, _)| (template(route.path), (*word).to_owned())))
            .collect();
        assert!(table.len() > 20);
        assert_eq!(operations(&made()), table);
    }

    #[test]
    fn it_is_of_version_3_1_and_complete_in_itself() {
        let document = made();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
        let text = document.to_string();
        let mut referred = 0;
        for part in text.split("\"$ref\":\"").skip(1) {
            let pointer = part.split('"').next().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} is nowhere");
            referred += 1;
        }
        assert!(referred > 20);
    }

    #[test]
    fn guards_keys_and_examples_are_told() {
        let document = made();
        let ids: Vec<_> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "ids are unique");
        assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
        for route in routes::table() {
            let word = methods(route.method).last().unwrap().0;
            let operation = &document["paths"][template(route.path)][word];
            let secured = operation["security"].as_array().is_some_and(|list| !list.is_empty());
            assert_eq!(secured, !matches!(route.guard, Guard::Public(_)), "{route:?}");
            let scheme = operation["security"][0].as_object().and_then(|scheme| scheme.keys().next());
            match route.guard {
                Guard::ApiKey(_) => assert_eq!(scheme.unwrap(), SECURITY, "{route:?}"),
                Guard::Operator(_) => assert_eq!(scheme.unwrap(), OPERATOR_SECURITY, "{route:?}"),
                Guard::Public(_) => assert_eq!(scheme, None, "{route:?}"),
            }
            let form = if fga::is_ours(route.path) { "application/json" } else { PROBLEM_JSON };
            assert!(operation["responses"]["default"]["content"][form].is_object(), "{route:?}");
            if route.takes == Takes::Json {
                let example = &operation["requestBody"]["content"]["application/json"]["example"];
                assert!(example.is_object() && !example.to_string().contains("{}{"), "{route:?}");
            }
        }
        for path in ["/v1/acts", "/v1/proxy/{mandate}/{path}"] {
            let parameters = document["paths"][path]["post"]["parameters"].to_string();
            assert!(parameters.contains("Idempotency-Key"), "{path}");
        }
    }
}
