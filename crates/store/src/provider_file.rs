//! Provider files, as far as they redirect tokens: which hosts and endpoints were approved, when and by whom.
//!
//! Rows are the installation's own, under its own context. What was approved before stays, as the record of it.

use domain::id::{ConnectionId, DataKeyId, Id, InstallationId, WorkspaceId};
use relation::action::{ApproveProviderFile, ResealCredential};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Lookup, Store, StoreError, Tenant,
    context::Kind,
    credential::{SealedField, Stored},
    installation::Installation,
};

/// What was last approved of one provider's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    /// The provider's name.
    pub name: String,
    /// How often something was approved for it.
    pub number: i32,
    /// The digest of hosts and endpoints.
    pub digest: Vec<u8>,
    /// Hosts and endpoints.
    pub terms: Value,
    /// Who approved.
    pub approved_by: String,
    /// When.
    pub approved_at: OffsetDateTime,
    /// Whether every credential has been sealed with these hosts since.
    pub resealed: bool,
}

/// Hosts and endpoints to be approved.
pub struct Approval<'a> {
    /// The provider's name.
    pub name: &'a str,
    /// One more than what was approved before, or 1.
    pub number: i32,
    /// The digest of hosts and endpoints.
    pub digest: &'a [u8; 32],
    /// Hosts and endpoints.
    pub terms: &'a Value,
    /// Whether there is nothing to be sealed anew.
    pub resealed: bool,
}

impl Store {
    /// What was last approved, of every provider.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn approved_provider_files(&self) -> Result<Vec<Approved>, StoreError> {
        let (mut transaction, _) = self.begin(&self.app, Kind::Installation, InstallationId::ONE, false).await?;
        let rows = sqlx::query!(
            "select distinct on (name) name, number, digest, terms, approved_by, approved_at, resealed_at is not null as \"resealed!\" \
             from provider_files order by name, number desc"
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let approved = rows.into_iter().map(|row| Approved {
            name: row.name,
            number: row.number,
            digest: row.digest,
            terms: row.terms,
            approved_by: row.approved_by,
            approved_at: row.approved_at,
            resealed: row.resealed,
        });
        Ok(approved.collect())
    }
}

/// Writes an approval down. Whoever approves is the permit's principal.
///
/// # Errors
/// `Conflict` where another has approved meanwhile; `Unavailable`.
pub async fn approve(
    installation: &mut Installation<ApproveProviderFile>,
    approval: &Approval<'_>,
) -> Result<(), StoreError> {
    let by = installation.principal().reference();
    sqlx::query!(
        "insert into provider_files (name, number, digest, terms, approved_by, resealed_at) \
         values ($1, $2, $3, $4, $5, case when $6 then clock_timestamp() end)",
        approval.name,
        approval.number,
        approval.digest.as_slice(),
        approval.terms,
        by,
        approval.resealed,
    )
    .execute(installation.sql())
    .await?;
    Ok(())
}

/// Writes down that every credential is sealed with the hosts of that approval: acts pass again.
///
/// # Errors
/// `Conflict` where it is not the newest approval; `Unavailable`.
pub async fn resealed(
    installation: &mut Installation<ApproveProviderFile>,
    name: &str,
    number: i32,
) -> Result<(), StoreError> {
    let written = sqlx::query!(
        "update provider_files set resealed_at = coalesce(resealed_at, clock_timestamp()) where name = $1 and number = $2 \
         and not exists (select from provider_files n where n.name = $1 and n.number > $2)",
        name,
        number
    )
    .execute(installation.sql())
    .await?;
    if written.rows_affected() == 0 { Err(StoreError::Conflict) } else { Ok(()) }
}

impl Lookup {
    /// The connections at a provider after a given one, across all workspaces, in a fixed order.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn connections_of(
        &self,
        provider: &str,
        after: Option<(WorkspaceId, ConnectionId)>,
        most: i32,
    ) -> Result<Vec<(WorkspaceId, ConnectionId)>, StoreError> {
        let (workspace, connection) =
            after.map_or((Uuid::nil(), Uuid::nil()), |(workspace, connection)| (workspace.uuid(), connection.uuid()));
        let rows = sqlx::query!(
            "select workspace_id as \"workspace_id!\", id as \"id!\" from lookup_connections_of($1, $2, $3, $4)",
            provider,
            workspace,
            connection,
            most
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (WorkspaceId::from_uuid(row.workspace_id), ConnectionId::from_uuid(row.id)))
            .collect())
    }
}

/// What became of sealing one credential anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resealed {
    /// It is in place.
    Done,
    /// Somebody is refreshing it at this moment: come back.
    BeingRefreshed,
    /// It was refreshed, renewed or taken apart since it was read: read it again.
    Changed,
    /// Another file was approved meanwhile.
    Outdated,
}

/// Grants of the permit's connection that a renewed consent replaced, and which are still to be revoked.
///
/// # Errors
/// `Unavailable`.
pub async fn retired(tenant: &mut Tenant<ResealCredential>) -> Result<Vec<RetiredField>, StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object().uuid());
    let rows = sqlx::query!(
        "select version, field, data_key_id, sealed from retired_credentials \
         where workspace_id = $1 and connection_id = $2 order by version",
        workspace,
        connection
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| RetiredField {
            version: row.version,
            field: row.field,
            sealed: SealedField { sealed: row.sealed, key: DataKeyId::from_uuid(row.data_key_id) },
        })
        .collect())
}

/// A token that is still to be revoked, as it was sealed.
pub struct RetiredField {
    /// The version that it had.
    pub version: i64,
    /// The field that it was sealed as.
    pub field: String,
    /// The sealed bytes.
    pub sealed: SealedField,
}

/// What was read of a connection, and the same secrets sealed with other hosts.
pub struct Anew<'a> {
    /// The number of the approval whose hosts they are.
    pub number: i32,
    /// The credential that was read.
    pub was: &'a Stored,
    /// Its access token, where that is to be replaced.
    pub access: Option<&'a SealedField>,
    /// Its refresh token, where that is to be replaced.
    pub refresh: Option<&'a SealedField>,
    /// What was retired, each beside its new seal.
    pub retired: &'a [(RetiredField, SealedField)],
}

/// Puts the same secrets, sealed with other hosts, in the place of what was read. The version stays: they are the same tokens, and what
/// a refresh has still to bring in belongs to that version.
///
/// The lease's row comes first, the credentials after it: the order of everybody who changes them.
///
/// # Errors
/// `Unavailable`.
pub async fn reseal(tenant: &mut Tenant<ResealCredential>, anew: &Anew<'_>) -> Result<Resealed, StoreError> {
    let (workspace, connection, was) = (tenant.workspace().uuid(), tenant.object().uuid(), anew.was);
    // The same row lock that a lease takes: whoever refreshes afterwards reads what is written here.
    let held = sqlx::query_scalar!(
        "insert into refreshes (workspace_id, connection_id, fence, version, node_id, leased_until) \
         values ($1, $2, 0, 0, $3, '-infinity') \
         on conflict (workspace_id, connection_id) do update set fence = refreshes.fence \
         returning leased_until > clock_timestamp() as \"held!\"",
        workspace,
        connection,
        Uuid::nil(),
    )
    .fetch_one(tenant.sql())
    .await?;
    if held {
        return Ok(Resealed::BeingRefreshed);
    }
    let newest = sqlx::query_scalar!("select provider_file_number($1)", was.provider).fetch_one(tenant.sql()).await?;
    if newest != Some(anew.number) {
        return Ok(Resealed::Outdated);
    }
    let fields = [("access", Some(&was.access).zip(anew.access)), ("refresh", was.refresh.as_ref().zip(anew.refresh))];
    for (name, field) in fields {
        let Some((was_sealed, sealed)) = field else { continue };
        let written = sqlx::query!(
            "update credentials d set sealed = $6, data_key_id = $7 \
             where d.workspace_id = $1 and d.connection_id = $2 and d.field = $3 and d.version = $4 and d.sealed = $5 \
               and exists (select from connections c where c.workspace_id = d.workspace_id and c.id = d.connection_id \
                 and c.state not in ('disconnecting', 'disconnected'))",
            workspace,
            connection,
            name,
            was.version,
            was_sealed.sealed,
            sealed.sealed,
            sealed.key.uuid(),
        )
        .execute(tenant.sql())
        .await?;
        if written.rows_affected() == 0 {
            return Ok(Resealed::Changed);
        }
    }
    // One that was revoked meanwhile is gone, and needs nothing.
    for (retired, sealed) in anew.retired {
        sqlx::query!(
            "update retired_credentials set sealed = $5, data_key_id = $6 \
             where workspace_id = $1 and connection_id = $2 and version = $3 and sealed = $4",
            workspace,
            connection,
            retired.version,
            retired.sealed.sealed,
            sealed.sealed,
            sealed.key.uuid(),
        )
        .execute(tenant.sql())
        .await?;
    }
    Ok(Resealed::Done)
}
