//! Role templates: made, shown, changed after the difference was shown, given to keys.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::{
    id::{KeyId, RoleTemplateId},
    role_template::{Bundle, Difference},
};
use http::StatusCode;
use serde::Serialize;
use service::{
    App,
    action::{ListRoleTemplates, ManageRoleTemplates},
    role_template::{self, Change, Template},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{Input, Page, Reader, members::members},
    problem::Problem,
};

/// A named bundle of permissions.
#[derive(Serialize, ToSchema)]
#[schema(as = RoleTemplate)]
pub(crate) struct TemplateView {
    /// Its id, `rol_…`.
    id: String,
    /// How often it was written.
    version: i64,
    /// What people call it; null for one that drifted.
    name: Option<String>,
    /// What it permits on the workspace; nothing, for one that drifted.
    permissions: Vec<String>,
    /// Whether somebody else than Keyholder wrote it: then it grants nothing until it is changed.
    drifted: bool,
    /// SHA-256 of its canonical JSON (RFC 8785), in hexadecimal digits, as it is stored.
    sha256: String,
    /// The keys that hold it; not told in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    assignees: Option<Vec<String>>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was changed last.
    #[serde(with = "time::serde::rfc3339")]
    changed_at: OffsetDateTime,
}

fn view(template: Template, assignees: Option<Vec<KeyId>>) -> TemplateView {
    let Template { id, version, bundle, sha256, created_at, changed_at } = template;
    let drifted = bundle.is_none();
    let (name, permissions) = bundle.map(|Bundle { name, permissions }| (name, permissions)).unzip();
    TemplateView {
        id: id.to_string(),
        version,
        name,
        permissions: permissions.unwrap_or_default().into_iter().collect(),
        drifted,
        sha256: hex::encode(sha256),
        assignees: assignees.map(|keys| keys.iter().map(ToString::to_string).collect()),
        created_at,
        changed_at,
    }
}

members! {
    /// A template to be made.
    pub(crate) struct NewTemplate as NewRoleTemplate {
        /// What to call it, 1 to 100 characters.
        name: String,
        /// 1 to 100 names of permissions on the workspace, each one that the caller has himself.
        permissions: Vec<String>,
    }
}

pub(crate) async fn create(
    app: Arc<App>,
    caller: Caller<ManageRoleTemplates>,
    NewTemplate { name, permissions }: NewTemplate,
) -> Result<Response, Problem> {
    let bundle = Bundle { name, permissions: permissions.into_iter().collect() };
    let made = role_template::create(&app, caller.principal(), bundle).await?;
    answer::json(StatusCode::CREATED, &view(made, None))
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ListRoleTemplates>,
    Page { before, limit }: Page<RoleTemplateId>,
) -> Result<Response, Problem> {
    let found = role_template::list(&app, caller.principal(), before, answer::and_one(limit)).await?;
    answer::page(found, limit, |template| template.id.to_string(), |template| view(template, None))
}

/// One template, by the path.
pub(crate) struct One(RoleTemplateId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ListRoleTemplates>, One(id): One) -> Result<Response, Problem> {
    let (template, assignees) = role_template::get(&app, caller.principal(), id).await?;
    answer::ok(&view(template, Some(assignees)))
}

members! {
    /// What a template is to be.
    pub(crate) struct Wanted as RoleTemplateChange {
        /// What to call it, 1 to 100 characters.
        name: String,
        /// All that it is to permit.
        permissions: Vec<String>,
        /// What the same request answered without it. Not given, nothing is changed, and the difference is answered.
        confirm: Option<String>,
    }
}

/// What a change of a template changes.
#[derive(Serialize, ToSchema)]
#[schema(as = RoleTemplateDifference)]
pub(crate) struct ChangeView {
    /// Whether it was done; else it is only shown.
    done: bool,
    /// The version that it would change; the one that it made, once it is done.
    version: i64,
    /// The former name, where there is another now.
    former_name: Option<String>,
    /// The permissions that whoever holds it gets.
    added: Vec<String>,
    /// The permissions that whoever holds it loses.
    removed: Vec<String>,
    /// The keys that hold it.
    affected: Vec<String>,
    /// What confirms just this change, of this version, for these keys; null, once it is done.
    confirm: Option<String>,
}

pub(crate) async fn change(
    app: Arc<App>,
    caller: Caller<ManageRoleTemplates>,
    (One(id), Wanted { name, permissions, confirm }): (One, Wanted),
) -> Result<Response, Problem> {
    let bundle = Bundle { name, permissions: permissions.into_iter().collect() };
    let change = role_template::change(&app, caller.principal(), (id, bundle), confirm.as_deref()).await?;
    let Change { version, difference: Difference { renamed, added, removed }, affected, confirm } = change;
    answer::ok(&ChangeView {
        done: confirm.is_none(),
        version,
        former_name: renamed.map(|(former, _)| former),
        added,
        removed,
        affected: affected.iter().map(ToString::to_string).collect(),
        confirm,
    })
}

pub(crate) async fn remove(
    app: Arc<App>,
    caller: Caller<ManageRoleTemplates>,
    One(id): One,
) -> Result<Response, Problem> {
    role_template::remove(&app, caller.principal(), id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

members! {
    /// Who is to hold a template.
    pub(crate) struct NewAssignee as NewAssignee {
        /// An API key's id.
        #[schema(value_type = String)]
        key: KeyId,
    }
}

pub(crate) async fn assign(
    app: Arc<App>,
    caller: Caller<ManageRoleTemplates>,
    (One(id), NewAssignee { key }): (One, NewAssignee),
) -> Result<Response, Problem> {
    role_template::assign(&app, caller.principal(), id, key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Who holds a template, by the path.
pub(crate) struct Assignee(RoleTemplateId, KeyId);

impl Input for Assignee {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let id = from.path("id");
        let key = from.path("key");
        Some(Self(id?, key?))
    }
}

pub(crate) async fn unassign(
    app: Arc<App>,
    caller: Caller<ManageRoleTemplates>,
    Assignee(id, key): Assignee,
) -> Result<Response, Problem> {
    role_template::unassign(&app, caller.principal(), id, key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
