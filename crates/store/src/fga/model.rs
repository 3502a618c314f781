//! The models of a relation store: written once, never changed. The newest is the store's own choice where a question names none.

use domain::id::{Id, RelationModelId, RelationStoreId};
use relation::action::ManageStores;

use super::{UsesStores, weigh};
use crate::{StoreError, Tenant};

/// The most models that a store has.
pub const MOST_MODELS: i32 = 1_000;

/// What the writing of a model came to. All but `Yes` leave nothing behind once the transaction is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is the newest now.
    Yes,
    /// The store has as many as it may.
    TooMany,
    /// The stores of the workspace together have no room for it.
    TooLarge,
}

/// Writes a model, as the text of its JSON. It is the newest from the commit on.
///
/// # Errors
/// `NotFound` where there is no such store; `Unavailable`.
pub async fn write(
    tenant: &mut Tenant<ManageStores>,
    store: RelationStoreId,
    id: RelationModelId,
    text: &str,
) -> Result<Written, StoreError> {
    let workspace = tenant.workspace().uuid();
    let principal = tenant.principal().reference();
    let number = sqlx::query_scalar!(
        "update fga_stores set models = models + 1, updated_at = greatest(clock_timestamp(), updated_at) \
         where workspace_id = $1 and id = $2 and deleted_at is null returning models",
        workspace,
        store.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?;
    if number > MOST_MODELS && !domain::sabotaged!(RelationModelNumber) {
        return Ok(Written::TooMany);
    }
    sqlx::query!(
        "insert into fga_models (workspace_id, store_id, id, number, model, created_by) values ($1, $2, $3, $4, $5, $6)",
        workspace,
        store.uuid(),
        id.uuid(),
        number,
        text,
        principal,
    )
    .execute(tenant.sql())
    .await?;
    let bytes = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if weigh(tenant, store, bytes).await?.is_too_large() {
        return Ok(Written::TooLarge);
    }
    Ok(Written::Yes)
}

/// The text of a model.
///
/// # Errors
/// `NotFound`; `Unavailable`.
pub async fn read<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    id: RelationModelId,
) -> Result<String, StoreError> {
    let workspace = tenant.workspace().uuid();
    Ok(sqlx::query_scalar!(
        "select model from fga_models where workspace_id = $1 and store_id = $2 and id = $3",
        workspace,
        store.uuid(),
        id.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?)
}

/// A model in a list: its number in the store, its id, its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedModel {
    /// The first has 1, the newest the greatest.
    pub number: i32,
    /// Its id.
    pub id: RelationModelId,
    /// The text of its JSON.
    pub text: String,
}

/// The models of a store, newest first, at most so many and together of so many bytes, but at least one.
///
/// # Errors
/// `Unavailable`.
pub async fn list<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    before: Option<i32>,
    most: i64,
    most_bytes: i64,
) -> Result<Vec<ListedModel>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select m.number, m.id, m.model from ( \
           select number, id, model, sum(octet_length(model)) over (order by number desc) - octet_length(model) as before \
             from fga_models where workspace_id = $1 and store_id = $2 and ($3::integer is null or number < $3) \
             order by number desc limit $4) m \
         where m.before < $5 order by m.number desc",
        workspace,
        store.uuid(),
        before,
        most,
        most_bytes,
    )
    .fetch_all(tenant.sql())
    .await?;
    let models = rows.into_iter().map(|row| ListedModel {
        number: row.number,
        id: RelationModelId::from_uuid(row.id),
        text: row.model,
    });
    Ok(models.collect())
}
