//! What a probe makes for itself in its own workspace over HTTP alone, and ends again: also where the probe breaks off, and, where this
//! process does not live to do it, by the next one.
//!
//! Never ends anything that it did not make. What has no end by HTTP is not made: a return address stays for good.

use std::{panic::AssertUnwindSafe, time::Duration};

use domain::clock::Clock;
use futures_util::FutureExt;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    caller::Caller,
    evidence::{Failure, Outcome},
    owner::{expect, text},
};

/// How everything is called that is made here.
pub(crate) const NAME: &str = "probe-belongings";
/// A key ends by itself after this. What is older, and is called so, is nobody's any more.
pub(crate) const LIFE: Duration = Duration::from_mins(10);
/// What is done with it ends before whoever runs the probe breaks it off.
const PATIENCE: Duration = Duration::from_secs(150);

/// One of each kind of thing that an admin can make over HTTP.
pub struct Belongings {
    admin: Caller,
    /// The addresses at which they are ended, in the order in which they were made.
    ends: Vec<String>,
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
}

impl Belongings {
    /// Makes them, after what an earlier process has left was ended.
    ///
    /// # Errors
    /// `Unproven` where one of them is not made; then those before it are ended.
    pub async fn make(admin: &Caller) -> Result<Self, Failure> {
        end_leftovers(admin).await?;
        let mut made = Self {
            admin: admin.clone(),
            ends: Vec::new(),
            key: String::new(),
            budget: String::new(),
            object: String::new(),
            template: String::new(),
            store: String::new(),
            model: String::new(),
        };
        match made.fill().await {
            Ok(()) => Ok(made),
            Err(failure) => {
                made.end().await?;
                Err(failure)
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        let ends = Clock::system().now() + LIFE;
        let key = json!({ "label": NAME, "role": "service", "expires_at": ends.format(&Rfc3339)? });
        self.key = self.one("/v1/api-keys", &key).await?;
        let budget = json!({ "scope": "principal", "subject": self.key, "unit": "acts", "per": "month", "cap": 1_000 });
        expect(&self.admin.post("/v1/budgets", &budget).await?, 200)?;
        let known = listed(&self.admin, "/v1/budgets", "data").await?;
        let own = known.iter().find(|budget| text(budget, "/subject") == self.key);
        self.budget = own.map(|budget| text(budget, "/id").to_owned()).unwrap_or_default();
        self.ends.push(format!("/v1/budgets/{}", self.budget));
        self.object = self.one("/v1/objects", &json!({ "type": "folder", "name": NAME })).await?;
        let bundle = json!({ "name": NAME, "permissions": ["audit.read"] });
        self.template = self.one("/v1/role-templates", &bundle).await?;
        self.store = self.one("/fga/stores", &json!({ "name": NAME })).await?;
        let models = format!("/fga/stores/{}/authorization-models", self.store);
        let model = expect(&self.admin.post(&models, &model()).await?, 201)?;
        text(&model, "/authorization_model_id").clone_into(&mut self.model);
        if [&self.key, &self.budget, &self.object, &self.template, &self.store, &self.model]
            .iter()
            .any(|it| it.is_empty())
        {
            return Err(Failure::unproven("what was made has no id"));
        }
        Ok(())
    }

    /// Makes one thing, and notes where it is ended.
    async fn one(&mut self, path: &str, wanted: &Value) -> Result<String, Failure> {
        let made = expect(&self.admin.post(path, wanted).await?, 201)?;
        let id = text(&made, "/id").to_owned();
        self.ends.push(format!("{path}/{id}"));
        Ok(id)
    }

    /// Works with them, and ends them whatever the work comes to: a panic and a bound are `Unproven`.
    ///
    /// # Errors
    /// The work's own; `Unproven` where the work was good and something could not be ended.
    pub async fn lent_to(&self, work: impl Future<Output = Outcome>) -> Outcome {
        let outcome = match AssertUnwindSafe(tokio::time::timeout(PATIENCE, work)).catch_unwind().await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::unproven(format!("it took longer than {} s", PATIENCE.as_secs()))),
            Err(_panic) => Err(Failure::unproven("the probe itself failed")),
        };
        let ended = self.end().await;
        let evidence = outcome?;
        ended.map(|()| evidence)
    }

    async fn end(&self) -> Result<(), Failure> {
        let mut left = Vec::new();
        for address in self.ends.iter().rev() {
            if !end(&self.admin, address).await {
                left.push(address.as_str());
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        Err(Failure::unproven(format!("these of a probe were not ended: {}", left.join(", "))))
    }
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
    admin.delete(address).await.is_ok_and(|reply| reply.status.is_success() || reply.status == 404)
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
