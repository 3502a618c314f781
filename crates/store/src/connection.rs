//! Connections: rows and facts. Their credentials are `credential`'s.

use domain::{
    connection::{Certificate, Connection, Reconnect, ReconnectReason, State},
    id::{AccountId, ConnectionId, Id, MandateId},
};
use relation::{
    Facts,
    action::{Disconnect, FinishDisconnect, ImportCredential, ReceiveCredential, RedeemConnection, RequireReconnect},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{StoreError, Tenant, credential, kill_drill, mandate, tuple};

/// A new connection, before anybody may use it.
pub struct NewConnection<'a> {
    /// Its id.
    pub id: ConnectionId,
    /// The provider file's name.
    pub provider: &'a str,
    /// The provider file's digest at the moment of consent.
    pub provider_digest: &'a [u8],
    /// The account at the provider: id and name.
    pub account: (&'a str, &'a str),
    /// The person who consented.
    pub owner: AccountId,
    /// What the owner allowed.
    pub ceiling: &'a [String],
    /// The scopes that the provider granted.
    pub scopes: &'a [String],
}

/// All connections that are not gone. Their ceilings are facts.
pub(crate) async fn all(sql: &mut PgConnection, facts: &Facts) -> Result<Vec<Connection>, StoreError> {
    let rows = sqlx::query!(
        "select id, provider, account_id, account_name, state, reconnect_reason, reconnect_since, scopes, created_at \
         from connections where workspace_id = $1 and state <> 'disconnected'",
        facts.workspace().uuid()
    )
    .fetch_all(sql)
    .await?;
    rows.into_iter()
        .map(|row| {
            let id = ConnectionId::from_uuid(row.id);
            let ceiling = facts.subjects(&format!("connection:{id}"), "ceiling").into_iter();
            Ok(Connection {
                id,
                provider: row.provider,
                account_id: row.account_id,
                account_name: row.account_name,
                state: State::from_row(&row.state).ok_or(StoreError::Corrupt("a connection's state"))?,
                reconnect: row
                    .reconnect_reason
                    .as_deref()
                    .and_then(ReconnectReason::from_row)
                    .zip(row.reconnect_since)
                    .map(|(reason, since)| Reconnect { reason, since }),
                ceiling: ceiling.filter_map(|action| action.strip_prefix("action:")).map(str::to_owned).collect(),
                scopes: row.scopes,
                created_at: row.created_at,
            })
        })
        .collect()
}

/// What may store a connection with its credential: an owner's consent, or the operator's import.
pub trait ReceivesConnection: relation::Action<Object = domain::id::WorkspaceId> {}
impl ReceivesConnection for ReceiveCredential {}
impl ReceivesConnection for ImportCredential {}

/// Stores a connection that nobody can use yet.
///
/// # Errors
/// `Unavailable`.
pub async fn create<A: ReceivesConnection>(
    tenant: &mut Tenant<A>,
    new: &NewConnection<'_>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace();
    sqlx::query!(
        "insert into connections (workspace_id, id, provider, provider_digest, account_id, account_name, owner_id, state, scopes, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, 'inert', $8, $9)",
        workspace.uuid(),
        new.id.uuid(),
        new.provider,
        new.provider_digest,
        new.account.0,
        new.account.1,
        new.owner.uuid(),
        new.scopes,
        now,
    )
    .execute(tenant.sql())
    .await?;
    let object = format!("connection:{}", new.id);
    tuple::add(tenant, &object, "workspace", &format!("workspace:{workspace}")).await?;
    tuple::add(tenant, &object, "owner", &format!("account:{}", new.owner)).await?;
    set_ceiling(tenant, new.id, new.ceiling).await
}

/// The owner consented anew: what was allowed before no longer counts, and the connection lives again.
///
/// # Errors
/// `NotFound` where the connection is gone, or belongs to another account at the provider.
pub async fn reconsent(tenant: &mut Tenant<ReceiveCredential>, new: &NewConnection<'_>) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let renewed = sqlx::query!(
        "update connections set provider_digest = $3, account_name = $4, scopes = $5, \
           state = case state when 'reconnect_required' then 'active' else state end, \
           reconnect_reason = null, reconnect_since = null \
         where workspace_id = $1 and id = $2 and provider = $6 and account_id = $7 and owner_id = $8 \
           and state in ('active', 'reconnect_required')",
        workspace,
        new.id.uuid(),
        new.provider_digest,
        new.account.1,
        new.scopes,
        new.provider,
        new.account.0,
        new.owner.uuid(),
    )
    .execute(tenant.sql())
    .await?;
    if renewed.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    set_ceiling(tenant, new.id, new.ceiling).await
}

async fn set_ceiling<A: ReceivesConnection>(
    tenant: &mut Tenant<A>,
    connection: ConnectionId,
    ceiling: &[String],
) -> Result<(), StoreError> {
    let object = format!("connection:{connection}");
    tuple::remove_of_relation(tenant, &object, "ceiling").await?;
    for action in ceiling {
        tuple::add(tenant, &object, "ceiling", &format!("action:{action}")).await?;
    }
    Ok(())
}

/// The back end has shown the one-time code: the connection may be used.
///
/// # Errors
/// `NotFound` where it is not inert.
pub async fn activate(tenant: &mut Tenant<RedeemConnection>, id: ConnectionId) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let changed = sqlx::query!(
        "update connections set state = 'active' where workspace_id = $1 and id = $2 and state = 'inert'",
        workspace,
        id.uuid()
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// Stops all acts on the permit's connection, for good. A disconnection that was interrupted may begin again.
///
/// # Errors
/// `NotFound` where it is gone already, or, with `only_inert`, where somebody may use it.
pub async fn begin_disconnect(tenant: &mut Tenant<Disconnect>, only_inert: bool) -> Result<(), StoreError> {
    credential::fence_off(tenant).await?;
    let (workspace, id) = (tenant.workspace().uuid(), tenant.object().uuid());
    let changed = sqlx::query!(
        "update connections set state = 'disconnecting', reconnect_reason = null, reconnect_since = null \
         where workspace_id = $1 and id = $2 and state <> 'disconnected' and (state = 'inert' or not $3)",
        workspace,
        id,
        only_inert
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// Deletes the permit's connection with all that could open it, and keeps the certificate.
///
/// # Errors
/// `NotFound` where another node has finished meanwhile.
pub async fn finish_disconnect(
    tenant: &mut Tenant<FinishDisconnect>,
    certificate: &Certificate,
) -> Result<(), StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), tenant.object());
    let json = serde_json::to_value(certificate).map_err(|_| StoreError::Corrupt("a certificate"))?;
    // The lease's row comes before the credentials, as it does for everybody who changes them.
    credential::hold_lease_row(tenant, id).await?;
    let changed = sqlx::query!(
        "update connections set state = 'disconnected', certificate = $3 \
         where workspace_id = $1 and id = $2 and state = 'disconnecting'",
        workspace,
        id.uuid(),
        json
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    if !domain::sabotaged!(Disconnect) {
        sqlx::query!("delete from credentials where workspace_id = $1 and connection_id = $2", workspace, id.uuid())
            .execute(tenant.sql())
            .await?;
    }
    sqlx::query!("delete from refreshes where workspace_id = $1 and connection_id = $2", workspace, id.uuid())
        .execute(tenant.sql())
        .await?;
    let mandates = sqlx::query_scalar!(
        "update mandates set revoked_at = clock_timestamp() where workspace_id = $1 and connection_id = $2 and revoked_at is null \
         returning id",
        workspace,
        id.uuid()
    )
    .fetch_all(tenant.sql())
    .await?;
    let mandates: Vec<_> = mandates.into_iter().map(MandateId::from_uuid).collect();
    mandate::end(tenant, &mandates).await?;
    kill_drill::note(tenant, certificate).await?;
    // Who may read the certificate stays; what may be done ends.
    tuple::remove_of_relation(tenant, &format!("connection:{id}"), "ceiling").await
}

/// The certificate of a connection that is gone.
///
/// # Errors
/// `NotFound`; `Corrupt`.
pub async fn certificate<A: relation::Action<Object = ConnectionId>>(
    tenant: &mut Tenant<A>,
) -> Result<Certificate, StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), tenant.object().uuid());
    let json =
        sqlx::query_scalar!("select certificate from connections where workspace_id = $1 and id = $2", workspace, id)
            .fetch_one(tenant.sql())
            .await?
            .ok_or(StoreError::NotFound)?;
    serde_json::from_value(json).map_err(|_| StoreError::Corrupt("a certificate"))
}

/// Says that only the owner can mend the permit's connection, and why: its credential of this version is beyond refreshing.
///
/// # Errors
/// `NotFound` where it is not active, or its credential is another by now.
pub async fn require_reconnect(
    tenant: &mut Tenant<RequireReconnect>,
    version: i64,
    reason: ReconnectReason,
) -> Result<(), StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), tenant.object());
    credential::hold_lease_row(tenant, id).await?;
    let changed = sqlx::query!(
        "update connections c set state = 'reconnect_required', reconnect_reason = $4, reconnect_since = clock_timestamp() \
         where c.workspace_id = $1 and c.id = $2 and c.state = 'active' and exists (select from credentials d \
           where d.workspace_id = c.workspace_id and d.connection_id = c.id and d.field = 'access' and d.version = $3)",
        workspace,
        id.uuid(),
        version,
        reason.as_str()
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// What was thought lost is there: the connection need not wait for its owner any longer.
pub(crate) async fn revive<A: relation::Action>(tenant: &mut Tenant<A>, id: ConnectionId) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "update connections set state = 'active', reconnect_reason = null, reconnect_since = null \
         where workspace_id = $1 and id = $2 and state = 'reconnect_required'",
        workspace,
        id.uuid()
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}
