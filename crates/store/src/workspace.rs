//! Workspaces: the tenants.

use domain::id::{DataKeyId, Id};
use relation::action::CreateWorkspace;
use time::OffsetDateTime;

use crate::{StoreError, Tenant};

/// A data key as it is stored: wrapped under an epoch key, and useless without it.
pub struct WrappedKey {
    /// The key's id.
    pub id: DataKeyId,
    /// The epoch that it is wrapped under.
    pub epoch: i64,
    /// The wrapped bytes.
    pub wrapped: Vec<u8>,
}

/// Makes the workspace of the permit, with its first data key.
///
/// # Errors
/// `Conflict`; `Unavailable`.
pub async fn create(
    tenant: &mut Tenant<CreateWorkspace>,
    name: &str,
    key: &WrappedKey,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let id = tenant.workspace().uuid();
    sqlx::query!("insert into workspaces (workspace_id, name, created_at) values ($1, $2, $3)", id, name, now)
        .execute(tenant.sql())
        .await?;
    sqlx::query!(
        "insert into data_keys (workspace_id, id, epoch, wrapped, created_at) values ($1, $2, $3, $4, $5)",
        id,
        key.id.uuid(),
        key.epoch,
        key.wrapped,
        now,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}
