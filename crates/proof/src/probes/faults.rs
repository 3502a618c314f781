//! Faults: what a parameter or a field must not take, by what the API's document says of it.

use serde_json::{Value, json};

use crate::document::Place;

/// Fields that take any text of a fitting length: what is not a known word is no fault there.
const FREE: [&str; 4] = ["label", "name", "reason", "text"];
/// The characters of a text that is too long for every field.
const TOO_LONG: usize = 50_000;
/// The characters of one that is too long for every parameter, and goes through whatever stands in front of a server.
const TOO_LONG_OF_A_PARAMETER: usize = 5_000;

/// How many of them are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every one.
    Every,
    /// For each parameter and field one by its type and one by its size.
    Few,
}

/// A fault of a field: what it is, the value, and with which statuses it may be refused; the first is the one that says so.
pub(super) type FieldFault = (&'static str, Value, &'static [u16]);

/// What is wrong with the input itself, and is found before anything is looked up.
pub(super) const FAULT: &[u16] = &[422];
/// What may be found after something was looked up.
const ANY: &[u16] = &[422, 400, 403, 404, 409];

/// The values of a parameter that are none, as they stand in an address or a header.
pub(super) fn of_parameter(place: Place, depth: Depth) -> Vec<String> {
    let long = "x".repeat(TOO_LONG_OF_A_PARAMETER);
    let values = match (depth, place) {
        (Depth::Every, _) => {
            vec!["", "%27%20or%201=1--", "%00", "-1", "99999999999999999999", "%F0%9F%98%80", long.as_str()]
        }
        // What is too long for an id has no id's form either.
        (Depth::Few, Place::Path) => vec![long.as_str()],
        (Depth::Few, Place::Query) => vec!["%00", long.as_str()],
        (Depth::Few, Place::Header) => vec!["", long.as_str()],
    };
    values.into_iter().map(str::to_owned).collect()
}

/// What a field must not take.
pub(super) fn of_field(pointer: &str, schema: &Value, depth: Depth) -> Vec<FieldFault> {
    let mut wrong = every(pointer, schema);
    if depth == Depth::Few {
        let is_text = is_of(schema, "string");
        wrong.retain(|(what, ..)| match *what {
            "is a number" | "is too long" | "is huge" | "has a field that is not known" => true,
            "is a text" => !is_text,
            _ => false,
        });
    }
    wrong
}

fn every(pointer: &str, schema: &Value) -> Vec<FieldFault> {
    let name = pointer.rsplit('/').next().unwrap_or_default();
    let is_map = is_of(schema, "object") && schema.get("properties").is_none();
    let mut wrong: Vec<FieldFault> = Vec::new();
    if is_of(schema, "string") {
        wrong.push(("is a number", json!(7), FAULT));
        wrong.push(("is a list", json!(["x"]), FAULT));
        wrong.push(("is an object", json!({ "$gt": "" }), FAULT));
        wrong.push(("is too long", json!("x".repeat(TOO_LONG)), ANY));
        wrong.push(("is empty", json!(""), ANY));
        if !FREE.contains(&name) {
            wrong.push(("is a word that is none", json!("no such value"), ANY));
        }
    } else if is_of(schema, "integer") || is_of(schema, "number") {
        wrong.push(("is a text", json!("7"), FAULT));
        wrong.push(("is negative", json!(-1), FAULT));
        wrong.push(("is huge", json!(1e300), FAULT));
        wrong.push(("is a fraction", json!(0.5), FAULT));
    } else if is_of(schema, "array") {
        wrong.push(("is a text", json!("x"), FAULT));
        wrong.push(("is an object", json!({}), FAULT));
        wrong.push(("is too long", json!(vec!["x"; 10_000]), FAULT));
        wrong.push(("holds a number", json!([7]), FAULT));
    } else if is_of(schema, "boolean") {
        wrong.push(("is a text", json!("true"), FAULT));
    } else if is_of(schema, "object") {
        wrong.push(("is a text", json!("x"), FAULT));
        wrong.push(("is a list", json!([]), FAULT));
        if !is_map {
            wrong.push(("has a field that is not known", json!({ "no_such_field": 1 }), FAULT));
        }
    }
    wrong
}

/// The places of a schema's fields as pointers into a body, with each field's own schema.
pub(super) fn fields<'s>(schema: &'s Value, at: &str, into: &mut Vec<(String, &'s Value)>) {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, field) in properties {
        let pointer = format!("{at}/{name}");
        let inner = inner(field);
        into.push((pointer.clone(), inner));
        fields(inner, &pointer, into);
        if let Some(items) = inner.get("items") {
            fields(self::inner(items), &format!("{pointer}/0"), into);
        }
    }
}

/// A field's schema where it may also be null.
fn inner(schema: &Value) -> &Value {
    let either = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    let other =
        either.and_then(|either| either.iter().find(|one| one.get("type").and_then(Value::as_str) != Some("null")));
    other.unwrap_or(schema)
}

fn is_of(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(many)) => many.iter().any(|one| one == kind),
        _ => false,
    }
}

/// A body with another value at a place; `None` where the body has no such place to put it.
pub(super) fn with(body: &Value, pointer: &str, value: Value) -> Option<Value> {
    let mut body = body.clone();
    let (parent, name) = pointer.rsplit_once('/')?;
    match body.pointer_mut(parent)? {
        Value::Object(members) => drop(members.insert(name.to_owned(), value)),
        Value::Array(items) => *items.get_mut(name.parse::<usize>().ok()?)? = value,
        _ => return None,
    }
    Some(body)
}

/// Whether a refusal names the place of a fault: the place itself, what is in it, or what it is in. One that names none says nothing else
/// either.
pub(super) fn is_named(refusal: &Value, place: &str) -> bool {
    let Some(faults) = refusal.get("errors").and_then(Value::as_array).filter(|faults| !faults.is_empty()) else {
        return true;
    };
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    faults.iter().filter_map(|fault| fault.get("pointer").and_then(Value::as_str)).any(|pointer| {
        pointer.eq_ignore_ascii_case(place) || within(pointer, place) || (within(place, pointer) && !pointer.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_every_depth_is_found_and_can_be_replaced() {
        let schema = json!({ "properties": {
            "name": { "type": "string" },
            "limits": { "type": ["array", "null"], "items": { "properties": { "cap": { "type": "integer" } } } },
            "when": { "oneOf": [{ "type": "null" }, { "type": "object", "properties": { "from": { "type": "string" } } }] },
        } });
        let mut found = Vec::new();
        fields(&schema, "", &mut found);
        let mut places: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        places.sort_unstable();
        assert_eq!(places, ["/limits", "/limits/0/cap", "/name", "/when", "/when/from"]);
        for (pointer, schema) in &found {
            let kinds = |depth| of_field(pointer, schema, depth).into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>();
            let (every, few) = (kinds(Depth::Every), kinds(Depth::Few));
            assert!(
                few.len() == 2 && every.len() > 2 && few.iter().all(|kind| every.contains(kind)),
                "{pointer}: {few:?}"
            );
        }
        let body = json!({ "name": "x", "limits": [{ "cap": 1 }] });
        assert_eq!(with(&body, "/limits/0/cap", json!(-1)).unwrap()["limits"][0]["cap"], -1);
        assert_eq!(with(&body, "/when", json!("x")).unwrap()["when"], "x");
        assert_eq!(with(&body, "/when/from", json!("x")), None);
    }

    #[test]
    fn a_refusal_is_for_what_it_names() {
        let naming = |pointer: &str| json!({ "errors": [{ "pointer": "/other" }, { "pointer": pointer }] });
        for (pointer, place) in [
            ("/a", "/a"),
            ("/a/0/b", "/a"),
            ("/a", "/a/from"),
            ("?limit", "?limit"),
            ("Idempotency-Key", "idempotency-key"),
            ("", ""),
        ] {
            assert!(is_named(&naming(pointer), place), "{pointer} {place}");
        }
        for (pointer, place) in [("/ab", "/a"), ("/a", "/ab"), ("?before", "?limit"), ("", "/a")] {
            assert!(!is_named(&naming(pointer), place), "{pointer} {place}");
        }
        assert!(is_named(&json!({ "errors": [] }), "/a") && is_named(&json!({}), "/a"));
    }
}
