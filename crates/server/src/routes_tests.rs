use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::*;
use crate::{
    input::{self, Arrived, Takes},
    openapi,
    route::{Guard, ObjectFrom, Record, Verb},
    sample::{self, Filled, PLACEHOLDERS, SampleBody},
};

/// A row's sample as it would arrive.
fn arrived(route: &Route) -> Arrived {
    let values = sample::examples();
    let Filled { target, headers, body, .. } = route.sample.fill(route.path, &values);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let body = match route.takes {
        Takes::Nothing => input::Body::Nothing,
        Takes::Json => input::Body::Json(serde_json::from_str(&body).unwrap()),
        Takes::Form => input::Body::Form(url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()),
        Takes::RawJson => input::Body::Raw(body.into()),
    };
    let path = route.sample.path.iter();
    let path = path.map(|(name, value)| ((*name).to_owned(), sample::replaced(value, &values))).collect();
    Arrived { method: route.sample.method.parse().unwrap(), uri: target.parse().unwrap(), headers: map, path, body }
}

#[test]
fn every_sample_is_one_that_its_handler_takes() {
    for route in table() {
        assert!((route.reads)(&arrived(route)).is_ok(), "{route:?}: {:?}", (route.reads)(&arrived(route)));
    }
}

/// What is asked by POST because the question has a body, and changes nothing.
const QUESTIONS: [&str; 1] = ["/v1/permissions/explain"];

/// Whether it is asked of a relation store, in OpenFGA's API.
fn asks_a_store(route: &Route) -> bool {
    route.guard == Guard::ApiKey("relation_store.read")
}

#[test]
fn every_mutating_row_leaves_a_record() {
    for route in table() {
        let is_question = QUESTIONS.contains(&route.path) || asks_a_store(route);
        if route.method != Verb::Get && !is_question {
            assert_ne!(route.record, Record::Nothing, "{route:?}");
        }
        if let Some(event) = route.record.audit_event() {
            assert!(event.contains('.'), "{route:?}");
        }
    }
}

#[test]
fn every_row_under_v1_is_behind_a_key_and_every_public_one_says_why() {
    for route in table() {
        match route.guard {
            Guard::ApiKey(permission) => {
                let is_ours = ["/v1/", "/fga/"].iter().any(|root| route.path.starts_with(root));
                assert!(is_ours && permission.contains('.'), "{route:?}");
                assert_ne!(route.object, ObjectFrom::None, "{route:?}");
            }
            Guard::Operator(permission) => {
                assert!(route.path.starts_with("/v1/installation/") && permission.contains('.'), "{route:?}");
                assert!(matches!(route.record, Record::InstallationAudit(_)), "{route:?} leaves no trace");
                assert!(matches!(route.object, ObjectFrom::Path(_) | ObjectFrom::Installation), "{route:?}");
            }
            Guard::Public(why) => {
                assert!(
                    !route.path.starts_with("/v1") && !route.path.starts_with("/fga") && why.len() > 10,
                    "{route:?}"
                );
            }
        }
    }
}

#[test]
fn an_object_is_where_its_row_says() {
    for route in table() {
        match route.object {
            ObjectFrom::Path(name) => assert!(route.path.contains(&format!("{{{name}}}")), "{route:?}"),
            ObjectFrom::Body(pointer) => match &route.sample.body {
                SampleBody::Json(body) => assert!(body.pointer(pointer).is_some_and(Value::is_string), "{route:?}"),
                other => panic!("{route:?} has {other:?}"),
            },
            ObjectFrom::CallersWorkspace | ObjectFrom::Installation | ObjectFrom::None => {}
        }
    }
}

#[test]
fn rows_are_all_different() {
    let all: BTreeSet<_> = table().iter().map(|route| (route.method, route.path)).collect();
    assert_eq!(all.len(), table().len());
}

#[test]
fn samples_use_known_placeholders_and_fill_every_capture() {
    let known: BTreeSet<_> = PLACEHOLDERS.iter().map(|(name, ..)| format!("{{{name}}}")).collect();
    let nothing_known = BTreeMap::new();
    for route in table() {
        let raw = format!("{:?} {:?} {:?}", route.sample.path, route.sample.headers, route.sample.query);
        let body = match &route.sample.body {
            SampleBody::Json(body) => texts(body).join(" "),
            SampleBody::Form(fields) => format!("{fields:?}"),
            SampleBody::Nothing => String::new(),
        };
        for part in format!("{raw} {body}").split('{').skip(1) {
            let name = format!("{{{}}}", part.split('}').next().unwrap());
            assert!(known.contains(&name), "{route:?} uses {name}");
        }
        let filled = route.sample.fill(route.path, &sample::examples());
        assert!(!filled.target.contains('{') && !filled.body.contains("{connection"), "{filled:?}");
        let unfilled = route.sample.fill(route.path, &nothing_known);
        assert_eq!(unfilled.method, filled.method);
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The document's schema of a body has the fields that its reader asks for, and no others.
#[test]
fn readers_and_schemas_agree() {
    let document: Value = serde_json::from_str(openapi::text().unwrap()).unwrap();
    let mut compared = 0;
    for route in table() {
        let Some((name, _)) = route.schema else {
            assert_ne!(route.takes, Takes::Json, "{route:?} takes JSON of no schema");
            continue;
        };
        let schema = &document["components"]["schemas"][name];
        let properties: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let asked = (route.asks)(&arrived(route));
        assert_eq!(asked.iter().copied().collect::<BTreeSet<_>>(), properties, "{route:?}");

        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let SampleBody::Json(full) = &route.sample.body else { panic!("{route:?} has no JSON sample") };
        for field in &properties {
            let mut cut = arrived(route);
            let mut members = full.as_object().unwrap().clone();
            if members.remove(*field).is_none() {
                assert!(!required.contains(&Value::from(*field)), "{route:?} {field} is not in the sample");
                continue;
            }
            let values = sample::examples();
            let text = members
                .iter()
                .fold(Value::Object(members.clone()).to_string(), |text, _| sample::replaced(&text, &values));
            cut.body = input::Body::Json(serde_json::from_str(&text).unwrap());
            let needed = (route.reads)(&cut).is_err();
            let conditional = route.path == "/v1/budgets" && *field == "subject";
            assert_eq!(needed, required.contains(&Value::from(*field)) || conditional, "{route:?} without {field}");
        }
        compared += 1;
    }
    assert!(compared >= 8);
}
