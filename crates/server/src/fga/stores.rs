//! Stores: made, listed, read, deleted.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::id::RelationStoreId;
use http::StatusCode;
use serde::Serialize;
use service::{
    App,
    action::{ManageStores, ReadStores},
    fga::{self, FgaError, RelationStore},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::input::page;
use crate::{
    answer,
    guard::Caller,
    input::{BodySchema, Input, Query, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// A store.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaStore)]
pub(crate) struct StoreView {
    /// Its id, a ULID.
    id: String,
    /// What its maker called it.
    name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When its tuples or models were last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Stores, a page of them.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaStores)]
pub(crate) struct StoresView {
    /// The oldest first.
    stores: Vec<StoreView>,
    /// What to give for the next page; empty where there is none.
    continuation_token: String,
}

fn view(store: RelationStore) -> StoreView {
    let RelationStore { id, name, created_at, updated_at } = store;
    StoreView { id: id.to_string(), name, created_at, updated_at }
}

/// A store to be made.
#[derive(ToSchema)]
#[schema(as = FgaNewStore)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct StoreBody {
    /// 3 to 64 characters.
    name: String,
}

/// A store to be made, read.
pub(crate) struct NewStore(String);

impl Input for NewStore {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaNewStore", collect::<StoreBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut body = from.body()?;
        let name = body.required(from, "name");
        body.finish(from);
        Some(Self(name?))
    }
}

pub(crate) async fn create(
    app: Arc<App>,
    caller: Caller<ManageStores>,
    NewStore(name): NewStore,
) -> Result<Response, Problem> {
    let store = fga::create(&app, caller.principal(), &name).await?;
    answer::json(StatusCode::CREATED, &view(store))
}

/// Which stores are listed.
pub(crate) struct Wanted {
    name: Option<String>,
    size: usize,
    token: Option<String>,
}

impl Input for Wanted {
    const QUERY: Query = Query::Known(&[
        ("page_size", "The most items, 1 to 100; 50 if not given."),
        ("continuation_token", "What the page before ended with."),
        ("name", "Only stores of this name."),
    ]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let name = from.query("name").map(str::to_owned).filter(|name| !name.is_empty());
        if name.as_deref().is_some_and(|name| name.chars().count() > 64 || name.chars().any(char::is_control)) {
            from.fault("?name", "has at most 64 characters, and no control characters");
        }
        let (size, token) = page(from)?;
        Some(Self { name, size, token })
    }
}

pub(crate) async fn list(app: Arc<App>, caller: Caller<ReadStores>, wanted: Wanted) -> Result<Response, Problem> {
    let Wanted { name, size, token } = wanted;
    let after = token.map(|token| token.parse().map_err(|_| FgaError::InvalidToken)).transpose()?;
    let mut stores = fga::list(&app, caller.principal(), name.as_deref(), after, size).await?;
    let more = stores.len() > size;
    stores.truncate(size);
    let last = stores.last().filter(|_| more).map(|store| store.id.to_string());
    answer::ok(&StoresView {
        stores: stores.into_iter().map(view).collect(),
        continuation_token: last.unwrap_or_default(),
    })
}

/// One store, by the path.
pub(crate) struct One(pub(super) RelationStoreId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("store").map(Self)
    }
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadStores>, One(id): One) -> Result<Response, Problem> {
    answer::ok(&view(fga::find(&app, caller.principal(), id).await?))
}

pub(crate) async fn delete(app: Arc<App>, caller: Caller<ManageStores>, One(id): One) -> Result<Response, Problem> {
    fga::delete(&app, caller.principal(), id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
