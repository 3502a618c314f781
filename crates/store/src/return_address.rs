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

/// Removes an address, and ends every link that leads there: none is opened, called back or redeemed any more, and what is on its way comes to
/// nothing. Returns how many that were.
///
/// # Errors
/// `NotFound` where it is not registered; `Unavailable`.
pub async fn remove(tenant: &mut Tenant<ManageReturnAddresses>, url: &str) -> Result<u64, StoreError> {
    let workspace = tenant.workspace().uuid();
    let ended = sqlx::query!(
        "update connect_links set state_hash = null, code_hash = null, verifier = null, verifier_key = null, \
         expires_at = least(expires_at, clock_timestamp()) where workspace_id = $1 and return_url = $2 and redeemed_at is null \
         and (expires_at > clock_timestamp() or verifier is not null or code_hash is not null)",
        workspace,
        url
    )
    .execute(tenant.sql())
    .await?;
    let gone = sqlx::query!("delete from return_addresses where workspace_id = $1 and url = $2", workspace, url)
        .execute(tenant.sql())
        .await?;
    if gone.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(ended.rows_affected()) }
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
