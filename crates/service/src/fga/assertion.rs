//! Assertions: what a team expects of a model, kept for its own clients to check.

use domain::{
    audit::Event,
    id::{RelationModelId, RelationStoreId},
    principal::Principal,
};
use relation::{
    Relationship, Schema,
    action::{ManageStores, ReadStores},
};
use serde_json::{Value, json};

use super::{
    FgaError, model,
    refused::store_or_not_found,
    store::reference,
    tuple::{about, well_formed},
};
use crate::{App, gateway::workspace_of};

/// The most assertions of a model.
const MOST: usize = 100;

/// One expectation.
#[derive(Debug, Clone)]
pub struct Assertion {
    /// Of which object, relation and user.
    pub of: Relationship,
    /// Tuples that count for it only.
    pub contextual: Vec<Relationship>,
    /// It as OpenFGA's API shows it.
    pub json: Value,
}

/// Puts a model's assertions in the place of those that were there.
///
/// # Errors
/// `StoreNotFound`, `ModelNotFound`; `Invalid` for one that is not about the model; `Exceeded`.
pub async fn write(
    app: &App,
    caller: &Principal,
    store: RelationStoreId,
    id: RelationModelId,
    assertions: Vec<Assertion>,
) -> Result<(), FgaError> {
    if assertions.len() > MOST {
        return Err(FgaError::Invalid(format!("assertions: has at most {MOST} items")));
    }
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ManageStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    let (found, epoch) = (model::find(app, &mut tenant, store, id).await?, tenant.epoch());
    tenant.finish().await?;
    let schema = model::schema(app, (store, epoch, id), found).await?;
    let assertions = app.fga.work(move || about_the_model(&schema, assertions)).await??;
    let count = assertions.len();
    let (mut tenant, _) = app.enter::<ManageStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    let all = Value::Array(assertions.into_iter().map(|assertion| assertion.json).collect());
    if !store::fga::assertion::write(&mut tenant, store, id, &all).await? {
        return Err(FgaError::no_room());
    }
    let detail = json!({ "model": id.to_string(), "assertions": count });
    tenant.commit(Event::new("relation_assertions.written", reference(store)).with(detail)).await?;
    Ok(())
}

/// Assertions of which each is about the model.
fn about_the_model(schema: &Schema, assertions: Vec<Assertion>) -> Result<Vec<Assertion>, FgaError> {
    assertions.iter().try_for_each(|assertion| check(schema, assertion))?;
    Ok(assertions)
}

fn check(schema: &Schema, assertion: &Assertion) -> Result<(), FgaError> {
    about(schema, &assertion.of)?;
    assertion.contextual.iter().try_for_each(|tuple| well_formed(schema, tuple))
}

/// A model's assertions, as OpenFGA's API shows them.
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
    model::exists(&mut tenant, store, id).await?;
    let found = store::fga::assertion::read(&mut tenant, store, id).await?;
    tenant.finish().await?;
    Ok(found.unwrap_or_else(|| json!([])))
}
