//! Retired credentials: what a renewed consent replaced, sealed as it was, until its provider has been told.
//!
//! Written by `credential::receive`, in the transaction of the consent. Bytes in, bytes out.

use domain::{
    connection::State,
    id::{DataKeyId, Id},
};
use relation::action::RevokeRetired;
use time::OffsetDateTime;

use crate::{
    StoreError, Tenant,
    credential::{SealedField, Stored},
};

/// One grant that is to be given back.
pub struct Retired {
    /// The version that it had. Of its fields only the one to be shown is there, as `access` or as both.
    pub version: i64,
    /// The credential, with the token to be shown in the field that it was sealed as.
    pub stored: Stored,
    /// When a consent replaced it.
    pub retired_at: OffsetDateTime,
}

/// The grants of the permit's connection that are still to be given back, at most 100, the oldest first.
///
/// # Errors
/// `Unavailable`; `Corrupt`.
pub async fn of_connection(tenant: &mut Tenant<RevokeRetired>) -> Result<Vec<Retired>, StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object());
    let rows = sqlx::query!(
        "select r.version, r.field, r.data_key_id, r.sealed, r.retired_at, c.provider, c.state from retired_credentials r \
         join connections c on c.workspace_id = r.workspace_id and c.id = r.connection_id \
         where r.workspace_id = $1 and r.connection_id = $2 order by r.version limit 100",
        workspace,
        connection.uuid()
    )
    .fetch_all(tenant.sql())
    .await?;
    rows.into_iter()
        .map(|row| {
            let token = SealedField { sealed: row.sealed, key: DataKeyId::from_uuid(row.data_key_id) };
            let stored = Stored {
                connection,
                provider: row.provider,
                state: State::from_row(&row.state).ok_or(StoreError::Corrupt("a connection's state"))?,
                refresh: (row.field == "refresh").then(|| token.clone()),
                access: token,
                version: row.version,
                expires_at: None,
            };
            Ok(Retired { version: row.version, stored, retired_at: row.retired_at })
        })
        .collect()
}

/// Deletes one: its provider was told, or never will be.
///
/// # Errors
/// `Unavailable`.
pub async fn remove(tenant: &mut Tenant<RevokeRetired>, version: i64) -> Result<(), StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object().uuid());
    sqlx::query!(
        "delete from retired_credentials where workspace_id = $1 and connection_id = $2 and version = $3",
        workspace,
        connection,
        version
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}
