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
    FgaError,
    model::schema,
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
    model: RelationModelId,
    assertions: Vec<Assertion>,
) -> Result<(), FgaError> {
    if assertions.len() > MOST {
        return Err(FgaError::Invalid(format!("assertions: has at most {MOST} items")));
    }
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ManageStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    let schema = schema(app, &mut tenant, store, model).await?;
    for assertion in &assertions {
        check(&schema, assertion)?;
    }
    let count = assertions.len();
    let all = Value::Array(assertions.into_iter().map(|assertion| assertion.json).collect());
    store::fga::assertion::write(&mut tenant, store, model, &all).await?;
    let detail = json!({ "model": model.to_string(), "assertions": count });
    tenant.commit(Event::new("relation_assertions.written", reference(store)).with(detail)).await?;
    Ok(())
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
    model: RelationModelId,
) -> Result<Value, FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    schema(app, &mut tenant, store, model).await?;
    let found = store::fga::assertion::read(&mut tenant, store, model).await?;
    tenant.finish().await?;
    Ok(found.unwrap_or_else(|| json!([])))
}
