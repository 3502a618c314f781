//! API keys. A key's text is answered once, by the request that makes it.

use std::sync::Arc;

use axum::response::Response;
use domain::id::KeyId;
use http::StatusCode;
use serde::Serialize;
use service::{
    App, Listed, Role,
    action::{ListKeys, ManageKeys},
    api_key,
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{Input, Page, Reader, members::members},
    problem::Problem,
};

members! {
    /// A key to be made.
    pub(crate) struct NewKey as NewApiKey {
        /// What to call it, 1 to 200 characters.
        label: String,
        /// `admin` (manages the workspace), `support_agent` (sees what an admin sees, and changes nothing), `user` (invites owners, and acts
        /// under mandates) or `service` (acts under mandates).
        #[schema(value_type = String)]
        role: Role,
        /// When it ends by itself.
        expires_at: Option<OffsetDateTime>,
    }
}

/// A new key. Its text is nowhere else.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedApiKey)]
pub(crate) struct Created<'a> {
    /// Its id, `key_…`.
    id: String,
    /// Its text, `kh_…`, shown this once.
    key: &'a str,
}

pub(crate) async fn create(app: Arc<App>, caller: Caller<ManageKeys>, input: NewKey) -> Result<Response, Problem> {
    let NewKey { label, role, expires_at } = input;
    let (id, text) = api_key::create(&app, caller.principal(), &label, role, expires_at).await?;
    answer::json(StatusCode::CREATED, &Created { id: id.to_string(), key: &text })
}

/// A key as it may be shown.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct KeyView {
    /// Its id, `key_…`.
    id: String,
    /// What its maker called it.
    label: String,
    /// `admin`, `support_agent`, `user` or `service`.
    role: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it ends by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// When it was ended.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
}

fn view(key: Listed) -> KeyView {
    let Listed { id, label, role, created_at, expires_at, revoked_at } = key;
    KeyView { id: id.to_string(), label, role, created_at, expires_at, revoked_at }
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ListKeys>,
    Page { before, limit }: Page<KeyId>,
) -> Result<Response, Problem> {
    let found = api_key::list(&app, caller.principal(), before, answer::and_one(limit)).await?;
    answer::page(found, limit, |key| key.id.to_string(), view)
}

/// One key, by the path.
pub(crate) struct One(KeyId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn revoke(app: Arc<App>, caller: Caller<ManageKeys>, One(id): One) -> Result<Response, Problem> {
    api_key::revoke(&app, caller.principal(), id).await?;
    Ok(axum::response::IntoResponse::into_response(StatusCode::NO_CONTENT))
}
