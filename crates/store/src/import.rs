//! Imports: connections that the operator brings along from another store, by the machine's own hand.
//!
//! What an owner once decided stands: a ceiling is never widened here, and what an owner took apart is never put together again.

use domain::{
    connection::State,
    id::{ConnectionId, Id},
};
use relation::action::ImportCredential;

use crate::{StoreError, Tenant};

/// The connection that the workspace has, or had, to an account. One in use goes before one that is gone.
///
/// # Errors
/// `Unavailable`; `Corrupt`.
pub async fn known(
    tenant: &mut Tenant<ImportCredential>,
    provider: &str,
    account: &str,
) -> Result<Option<(ConnectionId, State)>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let row = sqlx::query!(
        "select id, state from connections where workspace_id = $1 and provider = $2 and account_id = $3 \
         order by array_position(array['active', 'reconnect_required', 'inert', 'disconnecting', 'disconnected'], state), id desc limit 1",
        workspace,
        provider,
        account,
    )
    .fetch_optional(tenant.sql())
    .await?;
    row.map(|row| {
        let state = State::from_row(&row.state).ok_or(StoreError::Corrupt("a connection's state"))?;
        Ok((ConnectionId::from_uuid(row.id), state))
    })
    .transpose()
}

/// Puts an imported connection into use: a new one, or one whose credential the provider had ceased to accept.
///
/// # Errors
/// `NotFound` where it is in neither state.
pub async fn put_in_use(tenant: &mut Tenant<ImportCredential>, id: ConnectionId) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let changed = sqlx::query!(
        "update connections set state = 'active', reconnect_reason = null, reconnect_since = null \
         where workspace_id = $1 and id = $2 and state in ('inert', 'reconnect_required')",
        workspace,
        id.uuid()
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}
