//! The models of this probe, each of a size that is told.

use serde_json::{Map, Value, json};

use super::key;

fn directly(types: &[Value]) -> Value {
    json!({ "directly_related_user_types": types })
}

fn of(type_name: &str) -> Value {
    json!({ "type": type_name })
}

fn model(types: &[Value], conditions: &Map<String, Value>) -> Value {
    json!({ "schema_version": "1.1", "type_definitions": types, "conditions": conditions })
}

/// Documents in documents, and a condition that reads a text to its end, at each letter of which it may be at any of some thirty places.
pub(super) fn bound() -> Value {
    let this = json!({ "this": {} });
    let viewer = json!({ "union": { "child": [
        { "computedUserset": { "relation": "owner" } },
        { "tupleToUserset": { "tupleset": { "relation": "parent" }, "computedUserset": { "relation": "viewer" } } },
    ] } });
    let document = json!({
        "type": "document",
        "relations": { "owner": this, "parent": this, "reader": this, "viewer": viewer },
        "metadata": { "relations": {
            "owner": directly(&[of("user")]),
            "parent": directly(&[of("document")]),
            "reader": directly(&[json!({ "type": "user", "condition": "ends" })]),
        } },
    });
    let group = json!({
        "type": "group",
        "relations": { "member": this },
        "metadata": { "relations": { "member": directly(&[of("user")]) } },
    });
    model(&[of("user"), document, group], &Map::from_iter([condition("ends", "a{30}$")]))
}

/// A tuple of the one type of that model that is not a document.
pub(super) fn far() -> Value {
    key("group:far", "member", "user:anne")
}

fn condition(name: &str, pattern: &str) -> (String, Value) {
    let parameters = json!({ "text": { "type_name": "TYPE_NAME_STRING" } });
    let expression = format!("text.matches('{pattern}')");
    (name.to_owned(), json!({ "name": name, "expression": expression, "parameters": parameters }))
}

/// Groups in groups, into which so many other types may be written as well, each in two ways.
pub(super) fn wide(others: usize) -> Value {
    let names: Vec<String> = (0..others).map(|at| format!("t{at}")).collect();
    let mut members = vec![of("user"), json!({ "type": "group", "relation": "member" })];
    members.extend(names.iter().flat_map(|name| [of(name), json!({ "type": name, "wildcard": {} })]));
    let group = json!({
        "type": "group",
        "relations": { "member": { "this": {} } },
        "metadata": { "relations": { "member": directly(&members) } },
    });
    let types: Vec<Value> = [of("user"), group].into_iter().chain(names.iter().map(|name| of(name))).collect();
    model(&types, &Map::new())
}

/// A condition whose pattern has so many classes of letters.
pub(super) fn one_pattern(classes: usize) -> Value {
    conditional([condition("c0", &"[a]".repeat(classes))])
}

/// So many conditions with a pattern of a usual size.
pub(super) fn many_patterns(conditions: usize) -> Value {
    conditional((0..conditions).map(|at| condition(&format!("c{at}"), "^[a-z]+@example$")))
}

fn conditional(conditions: impl IntoIterator<Item = (String, Value)>) -> Value {
    let conditions: Map<String, Value> = conditions.into_iter().collect();
    let users: Vec<Value> = conditions.keys().map(|name| json!({ "type": "user", "condition": name })).collect();
    let document = json!({
        "type": "document",
        "relations": { "reader": { "this": {} } },
        "metadata": { "relations": { "reader": directly(&users) } },
    });
    model(&[of("user"), document], &conditions)
}

/// So many relations that each lead to a relation of so many types: ways grow with the square of the words.
pub(super) fn many_ways(wide: usize) -> Value {
    let parents: Vec<String> = (0..wide).map(|at| format!("t{at}")).collect();
    let x = json!({ "x": directly(&[of("user")]) });
    let types = parents
        .iter()
        .map(|name| json!({ "type": name, "relations": { "x": { "this": {} } }, "metadata": { "relations": x } }));
    let from =
        json!({ "tupleToUserset": { "tupleset": { "relation": "parent" }, "computedUserset": { "relation": "x" } } });
    let mut relations: Map<String, Value> = (0..wide).map(|at| (format!("r{at}"), from.clone())).collect();
    relations.insert("parent".to_owned(), json!({ "this": {} }));
    let all: Vec<Value> = parents.iter().map(|name| of(name)).collect();
    let all = directly(&all);
    let document =
        json!({ "type": "document", "relations": relations, "metadata": { "relations": { "parent": all } } });
    let types: Vec<Value> = [of("user"), document].into_iter().chain(types).collect();
    model(&types, &Map::new())
}
