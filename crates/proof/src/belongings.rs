//! One of each thing that a probe can make for itself in its own workspace over HTTP alone, to be ended by [`Undoing`]; and the end of what
//! an earlier process did not live to end.
//!
//! Never ends anything that no probe made.

use domain::clock::Clock;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    caller::Caller,
    evidence::Failure,
    owner::{expect, text},
    undoing::{self, LIFE, NAME, NOWHERE, Undoing, is_ended},
};

/// One of each kind of thing that an admin can make over HTTP.
pub struct Belongings {
    /// By which they are ended, and whatever is made beside them.
    pub undoing: Undoing,
    /// A service's key: its id.
    pub key: String,
    /// A budget of that key.
    pub budget: String,
    /// A folder.
    pub object: String,
    /// A role template.
    pub template: String,
    /// A relation store.
    pub store: String,
    /// Its model.
    pub model: String,
    /// A return address.
    pub return_address: String,
}

impl Belongings {
    /// Makes them, after what an earlier process has left was ended.
    ///
    /// # Errors
    /// `Unproven` where one of them is not made; then those before it are ended.
    pub async fn make(admin: &Caller) -> Result<Self, Failure> {
        end_leftovers(admin).await?;
        let undoing = Undoing::of(admin);
        match one_of_each(admin, &undoing).await {
            Ok([key, budget, object, template, store, model, return_address]) => {
                Ok(Self { undoing, key, budget, object, template, store, model, return_address })
            }
            Err(failure) => {
                undoing.end().await?;
                Err(failure)
            }
        }
    }
}

/// The ids of a key, its budget, a folder, a role template, a relation store and its model; and a return address.
async fn one_of_each(admin: &Caller, undoing: &Undoing) -> Result<[String; 7], Failure> {
    let (_, key) = undoing.key("service").await?;
    let budget = undoing.budget(&key, 1_000).await?;
    let object = undoing.folder(None).await?;
    let template = undoing.template(&["audit.read"]).await?;
    let store = undoing.store().await?;
    let models = format!("/fga/stores/{store}/authorization-models");
    let made = expect(&admin.post(&models, &model()).await?, 201)?;
    let model = text(&made, "/authorization_model_id").to_owned();
    if model.is_empty() {
        return Err(Failure::unproven("a model that was made has no id"));
    }
    Ok([key, budget, object, template, store, model, undoing.return_address().await?])
}

/// A model of two types.
pub fn model() -> Value {
    let direct = json!({ "relations": { "viewer": { "directly_related_user_types": [{ "type": "user" }] } } });
    let document = json!({ "type": "document", "relations": { "viewer": { "this": {} } }, "metadata": direct });
    json!({ "schema_version": "1.1", "type_definitions": [{ "type": "user" }, document] })
}

/// Ends what an answer says was made, if something was: for a request that should have been refused. What it made ends with what it stands
/// under, or has no end.
///
/// # Errors
/// `Unproven` where it is not ended.
pub async fn end_made(admin: &Caller, path: &str, made: &Value) -> Result<(), Failure> {
    let id = text(made, "/id");
    let kinds = [("key_", "/v1/api-keys/"), ("obj_", "/v1/objects/"), ("rol_", "/v1/role-templates/")];
    let known = kinds.iter().find(|(prefix, _)| id.starts_with(prefix)).map(|(_, at)| *at);
    let at = known.or_else(|| (path == "/fga/stores" && !id.is_empty()).then_some("/fga/stores/"));
    match at.map(|at| format!("{at}{id}")) {
        Some(address) if !end(admin, &address).await => {
            Err(Failure::unproven(format!("{address}, which a probe has made, was not ended")))
        }
        _ => Ok(()),
    }
}

async fn end(admin: &Caller, address: &str) -> bool {
    is_ended(admin.delete(address).await)
}

/// Ends what is called as what is made here and is so old that nobody works with it.
async fn end_leftovers(admin: &Caller) -> Result<(), Failure> {
    let before = Clock::system().now() - LIFE;
    let kinds = [
        ("/v1/objects", "?limit=100", "data"),
        ("/v1/role-templates", "?limit=100", "data"),
        ("/fga/stores", "?page_size=100", "stores"),
    ];
    for (path, query, list) in kinds {
        for old in listed(admin, &format!("{path}{query}"), list).await?.iter().filter(|it| is_left(it, before)) {
            end(admin, &format!("{path}/{}", text(old, "/id"))).await;
        }
    }
    let keys = listed(admin, "/v1/api-keys?limit=100", "data").await?;
    let old = |key: &&Value| text(key, "/label") == NAME && is_older(key, before);
    let old: Vec<_> = keys.iter().filter(old).map(|key| text(key, "/id")).collect();
    for budget in listed(admin, "/v1/budgets", "data").await? {
        if old.contains(&text(&budget, "/subject")) {
            end(admin, &format!("/v1/budgets/{}", text(&budget, "/id"))).await;
        }
    }
    for url in listed(admin, "/v1/workspace", "return_addresses").await?.iter().filter_map(Value::as_str) {
        let made =
            url.strip_prefix(NOWHERE).map(|rest| rest.split('/').next().unwrap_or_default().parse().unwrap_or(0));
        if made.is_some_and(|made: i64| made < before.unix_timestamp()) {
            end(admin, &undoing::return_address(url)).await;
        }
    }
    Ok(())
}

fn is_left(it: &Value, before: OffsetDateTime) -> bool {
    text(it, "/name") == NAME && is_older(it, before)
}

fn is_older(it: &Value, before: OffsetDateTime) -> bool {
    OffsetDateTime::parse(text(it, "/created_at"), &Rfc3339).is_ok_and(|made| made < before)
}

async fn listed(admin: &Caller, address: &str, list: &str) -> Result<Vec<Value>, Failure> {
    let all = expect(&admin.get(address).await?, 200)?;
    Ok(all.get(list).and_then(Value::as_array).cloned().unwrap_or_default())
}
