//! What a team expects of a model, kept beside it as one list. Nothing here is checked: clients read it and ask.

use domain::id::{Id, RelationModelId, RelationStoreId};
use relation::action::ManageStores;
use serde_json::Value;

use super::{UsesStores, weigh};
use crate::{StoreError, Tenant};

/// Puts a model's assertions in the place of those that were there. `false`: the stores of the workspace together have no room for them, and
/// nothing is left behind once the transaction is dropped.
///
/// # Errors
/// `Conflict` where the store has no such model; `Unavailable`.
pub async fn write(
    tenant: &mut Tenant<ManageStores>,
    store: RelationStoreId,
    model: RelationModelId,
    assertions: &Value,
) -> Result<bool, StoreError> {
    let workspace = tenant.workspace().uuid();
    let before = sqlx::query_scalar!(
        "select octet_length(assertions::text)::bigint as \"bytes!\" from fga_assertions \
         where workspace_id = $1 and store_id = $2 and model_id = $3",
        workspace,
        store.uuid(),
        model.uuid(),
    )
    .fetch_optional(tenant.sql())
    .await?;
    let now = sqlx::query_scalar!(
        "insert into fga_assertions (workspace_id, store_id, model_id, assertions) values ($1, $2, $3, $4) \
         on conflict (workspace_id, store_id, model_id) do update set assertions = excluded.assertions \
         returning octet_length(assertions::text)::bigint as \"bytes!\"",
        workspace,
        store.uuid(),
        model.uuid(),
        assertions,
    )
    .fetch_one(tenant.sql())
    .await?;
    let more = now - before.unwrap_or(0);
    Ok(!weigh(tenant, store, more).await?.is_too_large() || more <= 0)
}

/// A model's assertions; none where none were written.
///
/// # Errors
/// `Unavailable`.
pub async fn read<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    model: RelationModelId,
) -> Result<Option<Value>, StoreError> {
    let workspace = tenant.workspace().uuid();
    Ok(sqlx::query_scalar!(
        "select assertions from fga_assertions where workspace_id = $1 and store_id = $2 and model_id = $3",
        workspace,
        store.uuid(),
        model.uuid(),
    )
    .fetch_optional(tenant.sql())
    .await?)
}
