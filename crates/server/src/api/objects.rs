//! Objects of a workspace: made, read, renamed, removed. Those of the system's own by the operator's super-admins.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::{
    id::{ObjectId, WorkspaceId},
    object::{Object, is_name},
};
use http::StatusCode;
use serde::Serialize;
use service::{
    App, Wanted,
    action::{CreateObject, CreateObjectUnder, ListWorkspace, ManageObject, ManageSystemObjects, ReadObject},
    object::{self, New},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{Input, Page, Query, Reader, members::members},
    problem::Problem,
};

/// A thing of the workspace that permission is asked on.
#[derive(Serialize, ToSchema)]
#[schema(as = Object)]
pub(crate) struct ObjectView {
    /// Its id, `obj_…`.
    id: String,
    /// Its type in the model.
    r#type: String,
    /// What it stands under; null at the top of the workspace, and where the caller may not know of what is above it.
    parent: Option<String>,
    /// What people call it.
    name: String,
    /// Whether it is the system's own: nobody of the workspace changes it.
    system: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

fn view(object: Object) -> ObjectView {
    let Object { id, type_name, parent, name, is_system, created_at } = object;
    let parent = parent.map(|parent| parent.to_string());
    ObjectView { id: id.to_string(), r#type: type_name, parent, name, system: is_system, created_at }
}

members! {
    /// An object to be made.
    pub(crate) struct NewObject as NewObject {
        /// A type that the model lets stand there.
        r#type: String,
        /// What to call it, 1 to 200 characters.
        name: String,
    }
}

fn new(NewObject { r#type: type_name, name }: NewObject) -> New {
    New { type_name, name }
}

pub(crate) async fn create(app: Arc<App>, caller: Caller<CreateObject>, body: NewObject) -> Result<Response, Problem> {
    let made = object::create(&app, caller.principal(), &new(body)).await?;
    answer::json(StatusCode::CREATED, &view(made))
}

pub(crate) async fn create_under(
    app: Arc<App>,
    caller: Caller<CreateObjectUnder>,
    (One(parent), body): (One, NewObject),
) -> Result<Response, Problem> {
    let made = object::create_under(&app, caller.principal(), parent, &new(body)).await?;
    answer::json(StatusCode::CREATED, &view(made))
}

/// Which objects.
pub(crate) struct Listing(Wanted, Page<ObjectId>);

impl Input for Listing {
    const QUERY: Query = Query::Known(&[
        ("limit", "The most items, 1 to 100; 50 if not given."),
        ("before", "Only what is older than this id."),
        ("type", "Only objects of this type."),
        ("parent", "Only objects right under the one of this id."),
    ]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let type_name = from.query("type").map(str::to_owned);
        if type_name.as_deref().is_some_and(|name| !is_name(name)) {
            from.fault("?type", "has 1 to 50 small letters, digits, `_` and `-`");
        }
        let parent = from.query("parent").map(|text| text.parse().ok());
        if parent == Some(None) {
            from.fault("?parent", "is an object's id, obj_ and 26 characters");
        }
        let page = Page::read(from);
        Some(Self(Wanted { type_name, parent: parent.flatten() }, page?))
    }
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ListWorkspace>,
    Listing(wanted, Page { before, limit }): Listing,
) -> Result<Response, Problem> {
    let found = object::list(&app, caller.principal(), &wanted, (before, limit.saturating_add(1))).await?;
    answer::page(found, limit, |object| object.id.to_string(), view)
}

/// One object, by the path.
pub(crate) struct One(ObjectId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadObject>, One(id): One) -> Result<Response, Problem> {
    answer::ok(&view(object::get(&app, caller.principal(), id).await?))
}

members! {
    /// What an object is to be called.
    pub(crate) struct Rename as ObjectChange {
        /// 1 to 200 characters.
        name: String,
    }
}

pub(crate) async fn rename(
    app: Arc<App>,
    caller: Caller<ManageObject>,
    (One(id), Rename { name }): (One, Rename),
) -> Result<Response, Problem> {
    answer::ok(&view(object::rename(&app, caller.principal(), id, &name).await?))
}

pub(crate) async fn remove(app: Arc<App>, caller: Caller<ManageObject>, One(id): One) -> Result<Response, Problem> {
    object::remove(&app, caller.principal(), id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

members! {
    /// An object of the system's own, to be made.
    pub(crate) struct NewSystemObject as NewSystemObject {
        /// A type that the model lets stand there.
        r#type: String,
        /// What to call it, 1 to 200 characters.
        name: String,
        /// Another of the system's own, under which it is to stand; at the top, if not given.
        #[schema(value_type = Option<String>)]
        parent: Option<ObjectId>,
    }
}

/// A workspace, by the path.
pub(crate) struct Of(WorkspaceId);

impl Input for Of {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("workspace").map(Self)
    }
}

pub(crate) async fn create_system(
    app: Arc<App>,
    caller: Caller<ManageSystemObjects>,
    (Of(workspace), NewSystemObject { r#type: type_name, name, parent }): (Of, NewSystemObject),
) -> Result<Response, Problem> {
    let new = New { type_name, name };
    let made = object::create_system(&app, caller.principal(), workspace, (parent, &new)).await?;
    answer::json(StatusCode::CREATED, &view(made))
}

/// One object of the system's own, by the path.
pub(crate) struct OneOfSystem(WorkspaceId, ObjectId);

impl Input for OneOfSystem {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let workspace = from.path("workspace");
        let id = from.path("id");
        Some(Self(workspace?, id?))
    }
}

pub(crate) async fn remove_system(
    app: Arc<App>,
    caller: Caller<ManageSystemObjects>,
    OneOfSystem(workspace, id): OneOfSystem,
) -> Result<Response, Problem> {
    object::remove_system(&app, caller.principal(), workspace, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
