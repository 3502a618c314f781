//! Data keys: one or more a workspace, wrapped. The newest seals; the older ones still open.

use domain::id::{DataKeyId, Id};
use relation::Action;

use crate::{StoreError, Tenant, workspace::WrappedKey};

/// The key to seal with, or the one with that id.
///
/// # Errors
/// `NotFound`: then nothing that was sealed under it opens ever again.
pub async fn get<A: Action>(tenant: &mut Tenant<A>, id: Option<DataKeyId>) -> Result<WrappedKey, StoreError> {
    let workspace = tenant.workspace().uuid();
    let row = sqlx::query!(
        "select id, epoch, wrapped from data_keys where workspace_id = $1 and ($2::uuid is null or id = $2) \
         order by generation desc limit 1",
        workspace,
        id.map(Id::uuid),
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(WrappedKey { id: DataKeyId::from_uuid(row.id), epoch: row.epoch, wrapped: row.wrapped })
}
