//! The models of a store: validated when they are written, immutable from then on.

use std::sync::Arc;

use domain::{
    audit::Event,
    id::{RelationModelId, RelationStoreId},
    principal::Principal,
};
use relation::{
    Schema,
    action::{ManageStores, ReadStores},
    model::Model,
};
use serde_json::{Value, json};
use store::{
    StoreError, Tenant,
    fga::{
        UsesStores,
        model::{MOST_MODELS, Written},
    },
};

use super::{FgaError, cache::weight, refused::store_or_not_found, store::reference};
use crate::{App, Refusal, gateway::workspace_of};

/// How many bytes of models one page of their list has, about.
const PAGE_BYTES: i64 = 1024 * 1024;

/// A model in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedModel {
    /// Its place: the first that was written has 1.
    pub number: i32,
    /// The model as OpenFGA's API shows it, with its id.
    pub json: Value,
}

/// Writes a model, and answers its id. It is the newest from then on.
///
/// # Errors
/// `ModelForm`, `InvalidModel`; `StoreNotFound`; `Exceeded`.
pub async fn write(
    app: &App,
    caller: &Principal,
    store: RelationStoreId,
    model: Value,
) -> Result<RelationModelId, FgaError> {
    let workspace = workspace_of(caller)?;
    // Who may not is refused before the work.
    app.allows::<ManageStores>(caller, workspace).await?;
    let place = app.fga.model_place().await?;
    let (schema, text) = app.fga.work_at(&place, move || compiled(&model)).await??;
    drop(place);
    let id = RelationModelId::new(&app.clock);
    let (mut tenant, _) = app.enter::<ManageStores>(caller, workspace, workspace).await?;
    match store::fga::model::write(&mut tenant, store, id, &text).await.map_err(store_or_not_found)? {
        Written::Yes => {}
        Written::TooMany => {
            return Err(FgaError::Exceeded { what: "models", limit: u64::from(MOST_MODELS.unsigned_abs()) });
        }
        Written::TooLarge => return Err(FgaError::no_room()),
    }
    let (detail, epoch) = (json!({ "model": id.to_string() }), tenant.epoch());
    tenant.commit(Event::new("relation_model.written", reference(store)).with(detail)).await?;
    let weight = weighed(&schema, &text);
    app.fga.schemas.insert((store, epoch, id), (Arc::new(schema), weight)).await;
    Ok(id)
}

fn compiled(json: &Value) -> Result<(Schema, String), FgaError> {
    let model = Model::from_json(json).map_err(FgaError::ModelForm)?;
    let text = model.to_json().to_string();
    Ok((Schema::new(model).map_err(FgaError::InvalidModel)?, text))
}

/// About how many bytes a schema takes that was made of this text: what is kept of the text, and what was made of it.
fn weighed(schema: &Schema, text: &str) -> u32 {
    weight(text.len().saturating_mul(4).saturating_add(schema.bytes()))
}

/// A model that was found: in memory, or as the text of which its schema is to be made.
pub(super) enum Found {
    Schema(Arc<Schema>),
    Text(String),
}

/// Looks for a model: in memory, then in the store.
pub(super) async fn find<A: UsesStores>(
    app: &App,
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    id: RelationModelId,
) -> Result<Found, FgaError> {
    match app.fga.schemas.get(&(store, tenant.epoch(), id)).await {
        Some((schema, _)) => Ok(Found::Schema(schema)),
        None => text(tenant, store, id).await.map(Found::Text),
    }
}

/// The schema of a model that was found in this epoch. It may have to wait for its turn to be made: no transaction is open meanwhile.
pub(super) async fn schema(
    app: &App,
    (store, epoch, id): (RelationStoreId, i64, RelationModelId),
    found: Found,
) -> Result<Arc<Schema>, FgaError> {
    let text = match found {
        Found::Schema(schema) => return Ok(schema),
        Found::Text(text) => text,
    };
    let place = app.fga.model_place().await?;
    // Whoever had the place before may have made it.
    if let Some((schema, _)) = app.fga.schemas.get(&(store, epoch, id)).await {
        return Ok(schema);
    }
    let made = app.fga.work_at(&place, move || {
        let json: Value = serde_json::from_str(&text).map_err(|error| Refusal::internal("a model's text", error))?;
        // A model that was taken once and is not now would be a fault of ours: nothing is answered by it.
        compiled(&json).map(|(schema, _)| (weighed(&schema, &text), Arc::new(schema)))
    });
    let (weight, schema) = made.await??;
    app.fga.schemas.insert((store, epoch, id), (Arc::clone(&schema), weight)).await;
    Ok(schema)
}

/// Whether a store has a model.
pub(super) async fn exists<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    id: RelationModelId,
) -> Result<(), FgaError> {
    text(tenant, store, id).await.map(|_| ())
}

async fn text<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    id: RelationModelId,
) -> Result<String, FgaError> {
    store::fga::model::read(tenant, store, id).await.map_err(|error| match error {
        StoreError::NotFound => FgaError::ModelNotFound(id.to_string()),
        error => error.into(),
    })
}

fn shown(id: RelationModelId, text: &str) -> Result<Value, FgaError> {
    let mut json: Value = serde_json::from_str(text).map_err(|error| Refusal::internal("a model's text", error))?;
    if let Some(members) = json.as_object_mut() {
        members.insert("id".to_owned(), json!(id.to_string()));
        members.entry("conditions").or_insert_with(|| json!({}));
        members.entry("type_definitions").or_insert_with(|| json!([]));
    }
    Ok(json)
}

/// One model, as OpenFGA's API shows it.
///
/// # Errors
/// `StoreNotFound`, `ModelNotFound`.
pub async fn read(
    app: &App,
    caller: &Principal,
    store: RelationStoreId,
    id: RelationModelId,
) -> Result<Value, FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    let text = text(&mut tenant, store, id).await?;
    tenant.finish().await?;
    shown(id, &text)
}

/// The models of a store, newest first, at most so many, and whether there are more.
///
/// # Errors
/// `StoreNotFound`.
pub async fn list(
    app: &App,
    caller: &Principal,
    store: RelationStoreId,
    before: Option<i32>,
    most: usize,
) -> Result<(Vec<ListedModel>, bool), FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let found = store::fga::model::list(&mut tenant, store, before, limit, PAGE_BYTES).await?;
    tenant.finish().await?;
    // Numbers have no gaps: the first model is the last of the list.
    let more = found.last().is_some_and(|last| last.number > 1);
    let models: Result<Vec<ListedModel>, FgaError> = found
        .into_iter()
        .map(|model| Ok(ListedModel { number: model.number, json: shown(model.id, &model.text)? }))
        .collect();
    Ok((models?, more))
}
