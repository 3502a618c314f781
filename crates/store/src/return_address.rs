//! Return addresses: where a browser may be sent with the one-time code of a new connection, and nowhere else.

use domain::id::Id;
use relation::action::{ManageReturnAddresses, ReadWorkspace};
use time::OffsetDateTime;

use crate::{StoreError, Tenant};

/// Registers an address; one that is there stays.
///
/// # Errors
/// `Unavailable`.
pub async fn register(
    tenant: &mut Tenant<ManageReturnAddresses>,
    url: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "insert into return_addresses (workspace_id, url, created_at) values ($1, $2, $3) on conflict do nothing",
        workspace,
        url,
        now
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// The registered addresses, oldest first.
///
/// # Errors
/// `Unavailable`.
pub async fn list(tenant: &mut Tenant<ReadWorkspace>) -> Result<Vec<(String, OffsetDateTime)>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select url, created_at from return_addresses where workspace_id = $1 order by created_at, url limit 1000",
        workspace
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows.into_iter().map(|row| (row.url, row.created_at)).collect())
}
