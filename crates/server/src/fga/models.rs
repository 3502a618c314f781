//! Models: written, listed, read.

use std::sync::Arc;

use axum::response::Response;
use domain::id::{RelationModelId, RelationStoreId};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use service::{
    App,
    action::{ManageStores, ReadStores},
    fga::{self, FgaError},
};
use utoipa::ToSchema;

use super::input::{Anything, Items, model_at, page, word};
use crate::{
    answer,
    guard::Caller,
    input::{BodySchema, Input, Query, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// A model, as OpenFGA's language writes it in JSON.
#[derive(ToSchema)]
#[schema(as = FgaNewModel)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct ModelBody {
    /// `1.1`, or `1.2` for one that was put together from modules.
    schema_version: String,
    /// The types.
    #[schema(value_type = Vec<Object>)]
    type_definitions: Vec<Value>,
    /// The conditions by their names.
    #[schema(value_type = Option<Object>)]
    conditions: Option<Map<String, Value>>,
    /// Of a model that was read elsewhere; it is given another.
    id: Option<String>,
}

/// A model to be written, with its store.
pub(crate) struct NewModel {
    store: RelationStoreId,
    model: Value,
}

impl Input for NewModel {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaNewModel", collect::<ModelBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let version = word(&mut body, from, "schema_version");
        let types = body.required::<Items<Anything>>(from, "type_definitions");
        let conditions = body.optional::<Anything>(from, "conditions");
        let _other = model_at(&mut body, from, "id");
        body.finish(from);
        let mut model = Map::new();
        model.insert("schema_version".to_owned(), Value::String(version?));
        let types = types?.0.into_iter().map(|Anything(kind)| Value::Object(kind)).collect();
        model.insert("type_definitions".to_owned(), Value::Array(types));
        if let Some(Anything(conditions)) = conditions {
            model.insert("conditions".to_owned(), Value::Object(conditions));
        }
        Some(Self { store: store?, model: Value::Object(model) })
    }
}

/// What a model is called from now on.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaWrittenModel)]
pub(crate) struct WrittenView {
    /// Its id, a ULID.
    authorization_model_id: String,
}

pub(crate) async fn write(
    app: Arc<App>,
    caller: Caller<ManageStores>,
    NewModel { store, model }: NewModel,
) -> Result<Response, Problem> {
    let id = fga::write_model(&app, caller.principal(), store, model).await?;
    answer::json(StatusCode::CREATED, &WrittenView { authorization_model_id: id.to_string() })
}

/// A model with its id.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaModel)]
pub(crate) struct ModelAnswer {
    /// The model.
    #[schema(value_type = Object)]
    authorization_model: Value,
}

/// Models, a page of them.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaModels)]
pub(crate) struct ModelsView {
    /// The newest first.
    #[schema(value_type = Vec<Object>)]
    authorization_models: Vec<Value>,
    /// What to give for the next page; empty where there is none.
    continuation_token: String,
}

/// One model, by the path.
pub(crate) struct One {
    pub(super) store: RelationStoreId,
    pub(super) model: RelationModelId,
}

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (store, model) = (from.path("store"), from.path("model"));
        Some(Self { store: store?, model: model? })
    }
}

pub(crate) async fn get(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    One { store, model }: One,
) -> Result<Response, Problem> {
    let model = fga::read_model(&app, caller.principal(), store, model).await?;
    answer::ok(&ModelAnswer { authorization_model: model })
}

/// Which models are listed.
pub(crate) struct Wanted {
    store: RelationStoreId,
    size: usize,
    token: Option<String>,
}

impl Input for Wanted {
    const QUERY: Query = Query::Known(&[
        ("page_size", "The most items, 1 to 100; 50 if not given."),
        ("continuation_token", "What the page before ended with."),
    ]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let (size, token) = page(from)?;
        Some(Self { store: store?, size, token })
    }
}

pub(crate) async fn list(app: Arc<App>, caller: Caller<ReadStores>, wanted: Wanted) -> Result<Response, Problem> {
    let Wanted { store, size, token } = wanted;
    let before =
        token.map(|token| token.parse::<i32>().ok().filter(|number| *number > 1).ok_or(FgaError::InvalidToken));
    let (models, more) = fga::list_models(&app, caller.principal(), store, before.transpose()?, size).await?;
    let last = models.last().filter(|_| more).map(|model| model.number.to_string());
    answer::ok(&ModelsView {
        authorization_models: models.into_iter().map(|model| model.json).collect(),
        continuation_token: last.unwrap_or_default(),
    })
}
