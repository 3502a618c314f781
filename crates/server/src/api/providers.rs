//! Providers: what this installation knows of the platforms, and what can be done at each.

use std::sync::Arc;

use axum::response::Response;
use domain::provider::{Action, Field, FieldKind, Provider, TextRules};
use serde::Serialize;
use serde_json::{Map, Value, json};
use service::{App, action::ListWorkspace};
use utoipa::ToSchema;

use crate::{answer, guard::Caller, problem::Problem};

/// A platform.
#[derive(Serialize, ToSchema)]
#[schema(as = Provider)]
pub(crate) struct ProviderView {
    /// Its name in this API.
    name: String,
    /// Its name for people.
    title: String,
    /// Whether accounts can be connected there: the operator has a client at it.
    connectable: bool,
    /// What can be done there.
    actions: Vec<ActionView>,
}

/// Something that can be done at a platform.
#[derive(Serialize, ToSchema)]
#[schema(as = Action)]
pub(crate) struct ActionView {
    /// Its name in mandates and acts.
    name: String,
    /// Its name for people.
    title: String,
    /// `read`, `write` or `send`.
    effect: &'static str,
    /// What it takes, as JSON Schema.
    #[schema(value_type = Object)]
    input: Value,
}

pub(crate) async fn list(app: Arc<App>, _caller: Caller<ListWorkspace>, (): ()) -> Result<Response, Problem> {
    let providers: Vec<_> = app.providers.iter().map(|(provider, connectable)| view(provider, connectable)).collect();
    let most = providers.len();
    answer::page(providers, most, |provider| provider.name.clone(), |provider| provider)
}

fn view(provider: &Provider, connectable: bool) -> ProviderView {
    ProviderView {
        name: provider.name.clone(),
        title: provider.title.clone(),
        connectable,
        actions: provider.actions().map(|action| action_view(action)).collect(),
    }
}

fn action_view(action: &Action) -> ActionView {
    ActionView {
        name: action.name.clone(),
        title: action.title.clone(),
        effect: action.effect.as_str(),
        input: input_schema(action),
    }
}

fn input_schema(action: &Action) -> Value {
    let properties: Map<_, _> = action.input.iter().map(|(name, field)| (name.clone(), field_schema(field))).collect();
    let required: Vec<_> = action.input.iter().filter(|(_, field)| field.required).map(|(name, _)| name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn field_schema(field: &Field) -> Value {
    match &field.kind {
        FieldKind::String(rules) => text_schema(rules),
        FieldKind::Integer(rules) => {
            let mut schema = json!({ "type": "integer", "minimum": rules.minimum, "maximum": rules.maximum });
            if !rules.allowed.is_empty() {
                put(&mut schema, "enum", json!(rules.allowed));
            }
            schema
        }
        FieldKind::Boolean => json!({ "type": "boolean" }),
        FieldKind::Strings { each, min_items, max_items } => {
            json!({ "type": "array", "items": text_schema(each), "minItems": min_items, "maxItems": max_items })
        }
    }
}

fn text_schema(rules: &TextRules) -> Value {
    let mut schema = json!({ "type": "string", "minLength": rules.min_length, "maxLength": rules.max_length });
    if let Some(pattern) = &rules.pattern
        && let Ok(Value::String(source)) = serde_json::to_value(pattern)
    {
        put(&mut schema, "pattern", Value::String(format!("^(?:{source})$")));
    }
    if !rules.allowed.is_empty() {
        put(&mut schema, "enum", json!(rules.allowed));
    }
    schema
}

fn put(schema: &mut Value, name: &str, value: Value) {
    if let Some(members) = schema.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::provider::Catalogue;

    #[test]
    fn a_field_is_told_as_a_schema() {
        let catalogue = Catalogue::embedded().unwrap();
        let x = catalogue.get("x").unwrap();
        let reply = input_schema(x.action("post.reply").unwrap());
        assert_eq!(reply["additionalProperties"], false);
        assert_eq!(reply["properties"]["text"]["type"], "string");
        assert!(reply["properties"]["text"]["maxLength"].as_u64().unwrap() > 0);
        assert!(reply["required"].as_array().unwrap().contains(&json!("text")));
        assert_eq!(input_schema(x.action("profile.read").unwrap())["properties"], json!({}));
    }
}
