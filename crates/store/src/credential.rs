//! Sealed credentials, one row a field, and the lease under which one node at a time refreshes them.
//!
//! Bytes in, bytes out: this module cannot open what it stores. A refresh raises no revision; it raises the credential's version.
//! Whoever leases, stores or replaces a credential holds the row of its lease first, and reads state and version after that: so a
//! refresh, a consent and a disconnection are in one order.

use std::time::Duration;

use domain::{
    connection::State,
    id::{ConnectionId, DataKeyId, Id, NodeId},
};
use relation::{
    Action,
    action::{Disconnect, OpenForKillDrill, RecoverCredential, Refresh, ResealCredential},
};
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    StoreError, Tenant,
    connection::{self, ReceivesConnection},
};

/// One sealed field, and the data key that opens it.
#[derive(Debug, Clone)]
pub struct SealedField {
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// The data key.
    pub key: DataKeyId,
}

/// A connection's credential, sealed.
#[derive(Debug)]
pub struct Stored {
    /// The connection.
    pub connection: ConnectionId,
    /// The provider file's name, to which the seal is bound.
    pub provider: String,
    /// The connection's state.
    pub state: State,
    /// The access token.
    pub access: SealedField,
    /// The refresh token, where the provider gave one.
    pub refresh: Option<SealedField>,
    /// How often it was refreshed.
    pub version: i64,
    /// When the access token dies.
    pub expires_at: Option<OffsetDateTime>,
}

/// A credential to be stored.
pub struct NewCredential {
    /// The access token.
    pub access: SealedField,
    /// The refresh token, where the provider gave one.
    pub refresh: Option<SealedField>,
    /// When it was given.
    pub issued_at: OffsetDateTime,
    /// When the access token dies.
    pub expires_at: Option<OffsetDateTime>,
}

/// A credential as a refresh needs to know it.
#[derive(Debug)]
pub struct ToRefresh {
    /// What is stored.
    pub stored: Stored,
    /// Which consent it comes from: tokens of one consent are one grant at the provider.
    pub consent: i64,
    /// Whether it was made because the provider refused the version before.
    pub after_refusal: bool,
    /// When it was given.
    pub issued_at: OffsetDateTime,
}

/// A provider's answer to a refresh, sealed: what is to take the place of the version that was refreshed.
pub struct Renewed {
    /// The connection.
    pub connection: ConnectionId,
    /// The lease under which the provider was asked.
    pub fence: i64,
    /// The version that was refreshed.
    pub version: i64,
    /// The consent that it comes from.
    pub consent: i64,
    /// Whether it was refreshed because the provider refused it.
    pub after_refusal: bool,
    /// The new credential.
    pub new: NewCredential,
}

/// What became of a provider's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// It is stored.
    Stored,
    /// It could be stored, and the connection waits for its owner: only a change of facts lets it live again.
    NeedsRevival,
    /// A later credential of the same consent is stored: this answer, or one that came after it. It is the same grant, so it must not be
    /// revoked.
    Superseded,
    /// A new consent has taken its place.
    Replaced,
    /// The connection is being taken apart, or is gone.
    Gone,
}

/// What may read a connection's sealed credential, by the permit's own object.
pub trait ReadsCredential: Action {}
impl ReadsCredential for Refresh {}
impl ReadsCredential for OpenForKillDrill {}
impl ReadsCredential for ResealCredential {}

/// What may put a refresh's answer in place. Only an action that changes facts lets a connection live again.
pub trait BringsIn: Action<Object = ConnectionId> {}
impl BringsIn for Refresh {}
impl BringsIn for RecoverCredential {}

/// The sealed credential of the permit's connection.
///
/// # Errors
/// `NotFound` where it has none.
pub async fn of_connection<A: ReadsCredential<Object = ConnectionId>>(
    tenant: &mut Tenant<A>,
) -> Result<Stored, StoreError> {
    let connection = tenant.object().uuid();
    Ok(read(tenant, connection).await?.stored)
}

/// The same, with what a refresh needs to know of it.
///
/// # Errors
/// `NotFound` where it has none.
pub async fn to_refresh(tenant: &mut Tenant<Refresh>) -> Result<ToRefresh, StoreError> {
    let connection = tenant.object().uuid();
    read(tenant, connection).await
}

async fn read<A: Action>(tenant: &mut Tenant<A>, connection: Uuid) -> Result<ToRefresh, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select c.provider, c.state, d.field, d.data_key_id, d.sealed, d.version, d.consent, d.after_refusal, d.issued_at, d.expires_at \
         from credentials d join connections c on c.workspace_id = d.workspace_id and c.id = d.connection_id \
         where d.workspace_id = $1 and d.connection_id = $2",
        workspace,
        connection,
    )
    .fetch_all(tenant.sql())
    .await?;
    let field = |name: &str| {
        rows.iter()
            .find(|row| row.field == name)
            .map(|row| SealedField { sealed: row.sealed.clone(), key: DataKeyId::from_uuid(row.data_key_id) })
    };
    let first = rows.iter().find(|row| row.field == "access").ok_or(StoreError::NotFound)?;
    let stored = Stored {
        connection: ConnectionId::from_uuid(connection),
        provider: first.provider.clone(),
        state: State::from_row(&first.state).ok_or(StoreError::Corrupt("a connection's state"))?,
        access: field("access").ok_or(StoreError::NotFound)?,
        refresh: field("refresh"),
        version: first.version,
        expires_at: first.expires_at,
    };
    Ok(ToRefresh { stored, consent: first.consent, after_refusal: first.after_refusal, issued_at: first.issued_at })
}

/// Stores what an owner brought back from the provider, in place of what was there. With `retire`, the grant that was there is kept
/// aside, sealed as it was, until it is revoked at the provider. Whether there was one.
///
/// # Errors
/// `Unavailable`.
pub async fn receive<A: ReceivesConnection>(
    tenant: &mut Tenant<A>,
    connection: ConnectionId,
    new: &NewCredential,
    retire: bool,
) -> Result<bool, StoreError> {
    void_lease(tenant, connection).await?;
    let workspace = tenant.workspace().uuid();
    let before = sqlx::query!(
        "select coalesce(max(version), 0) as \"version!\", coalesce(max(consent), 0) as \"consent!\" from credentials \
         where workspace_id = $1 and connection_id = $2",
        workspace,
        connection.uuid()
    )
    .fetch_one(tenant.sql())
    .await?;
    let retired = if retire { self::retire(tenant, connection).await? } else { false };
    sqlx::query!(
        "delete from credentials where workspace_id = $1 and connection_id = $2",
        workspace,
        connection.uuid()
    )
    .execute(tenant.sql())
    .await?;
    let made = Made { version: before.version + 1, consent: before.consent + 1, after_refusal: false };
    write(tenant, connection, new, made).await?;
    Ok(retired)
}

/// Of a grant, the refresh token is revoked, which ends its access tokens too (RFC 7009 §2.1); without one, the access token.
async fn retire<A: Action>(tenant: &mut Tenant<A>, connection: ConnectionId) -> Result<bool, StoreError> {
    let workspace = tenant.workspace().uuid();
    let retired = sqlx::query!(
        "insert into retired_credentials (workspace_id, connection_id, version, field, data_key_id, sealed) \
         select workspace_id, connection_id, version, field, data_key_id, sealed from credentials \
         where workspace_id = $1 and connection_id = $2 order by field = 'refresh' desc limit 1",
        workspace,
        connection.uuid()
    )
    .execute(tenant.sql())
    .await?;
    Ok(retired.rows_affected() > 0)
}

/// Where a version comes from.
struct Made {
    version: i64,
    consent: i64,
    after_refusal: bool,
}

async fn write<A: Action>(
    tenant: &mut Tenant<A>,
    connection: ConnectionId,
    new: &NewCredential,
    made: Made,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    for (name, field) in [("access", Some(&new.access)), ("refresh", new.refresh.as_ref())] {
        let Some(field) = field else { continue };
        sqlx::query!(
            "insert into credentials (workspace_id, connection_id, field, data_key_id, sealed, version, consent, after_refusal, issued_at, \
               expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            workspace,
            connection.uuid(),
            name,
            field.key.uuid(),
            field.sealed,
            made.version,
            made.consent,
            made.after_refusal,
            new.issued_at,
            new.expires_at,
        )
        .execute(tenant.sql())
        .await?;
    }
    Ok(())
}

/// The right to refresh a connection's credential once. `interrupted` says that an earlier holder wrote down its intent for the
/// same version and never came back: its call may have reached the provider. It stays so for that version, whoever leases it since.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its number: only its holder may release it.
    pub fence: i64,
    /// The version that it is for.
    pub version: i64,
    /// An earlier holder never came back.
    pub interrupted: bool,
}

/// Who asks for a lease.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The node.
    pub node: NodeId,
    /// Whether a lease of this very node's that is still on record was surely not called under: the answer to its commit was lost, or it
    /// could not be given back. It then holds nobody off and interrupts nothing.
    pub own_lease_is_unused: bool,
}

/// Takes the lease, if nobody holds it: the intent is durable before the provider is called.
///
/// # Errors
/// `Unavailable`. That another node holds it, or that the connection is in no state to be refreshed, is no error: there is no lease then.
pub async fn lease(
    tenant: &mut Tenant<Refresh>,
    version: i64,
    asker: Asker,
    term: Duration,
) -> Result<Option<Lease>, StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object().uuid());
    let term = PgInterval::try_from(term).map_err(|_| StoreError::Corrupt("a lease of whole microseconds"))?;
    // The row lock orders the nodes; state and version are read under it.
    let prior = sqlx::query!(
        "insert into refreshes (workspace_id, connection_id, fence, version, node_id, leased_until) \
         values ($1, $2, 0, 0, $3, '-infinity') \
         on conflict (workspace_id, connection_id) do update set fence = refreshes.fence \
         returning fence, version, node_id, interrupted, leased_until > clock_timestamp() as \"held!\", \
           leased_until = '-infinity' as \"released!\"",
        workspace,
        connection,
        asker.node.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?;
    let current = sqlx::query_scalar!(
        "select d.version from credentials d join connections c on c.workspace_id = d.workspace_id and c.id = d.connection_id \
         where d.workspace_id = $1 and d.connection_id = $2 and d.field = 'access' and c.state in ('active', 'inert')",
        workspace,
        connection
    )
    .fetch_optional(tenant.sql())
    .await?;
    // A lease over an older credential is void, and so is one of this node's own that was never used.
    let over_another = prior.version != version;
    let void = over_another || (asker.own_lease_is_unused && prior.node_id == asker.node.uuid());
    if (prior.held && !void) || current != Some(version) {
        return Ok(None);
    }
    let fence = prior.fence + 1;
    // What befell the version stays on record until the version goes: who takes the lease after an interruption may do nothing with it.
    let interrupted = !over_another && (prior.interrupted || (!prior.released && !void));
    sqlx::query!(
        "update refreshes set fence = $3, version = $4, node_id = $5, leased_until = clock_timestamp() + $6, interrupted = $7 \
         where workspace_id = $1 and connection_id = $2",
        workspace,
        connection,
        fence,
        version,
        asker.node.uuid(),
        term,
        interrupted,
    )
    .execute(tenant.sql())
    .await?;
    Ok(Some(Lease { fence, version, interrupted }))
}

/// Gives the lease back: the call surely had no effect, or may be repeated. An interruption before it is not forgotten by that: only
/// another version, or a lease that was voided, ends it.
///
/// # Errors
/// `Unavailable`.
pub async fn release(tenant: &mut Tenant<Refresh>, lease: &Lease) -> Result<(), StoreError> {
    let connection = tenant.object();
    free(tenant, connection, lease.fence).await
}

async fn free<A: Action>(tenant: &mut Tenant<A>, connection: ConnectionId, fence: i64) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "update refreshes set leased_until = '-infinity' where workspace_id = $1 and connection_id = $2 and fence = $3",
        workspace,
        connection.uuid(),
        fence
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Voids whatever lease is held on the permit's connection, because the connection is being taken apart: its holder's answer is not
/// stored any more, and nobody leases it again.
///
/// # Errors
/// `Unavailable`.
pub async fn fence_off(tenant: &mut Tenant<Disconnect>) -> Result<(), StoreError> {
    let connection = tenant.object();
    void_lease(tenant, connection).await
}

async fn void_lease<A: Action>(tenant: &mut Tenant<A>, connection: ConnectionId) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "update refreshes set fence = fence + 1, leased_until = '-infinity', interrupted = false \
         where workspace_id = $1 and connection_id = $2",
        workspace,
        connection.uuid()
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Puts a refresh's answer in place of the version that was refreshed, if that is still the one that is stored: a compare-and-set. An
/// answer may come late, from a node whose lease ran out or from a file; what counts is that nobody has replaced the version meanwhile.
///
/// # Errors
/// `Unavailable`. What it could not be is no error: see [`Brought`].
pub async fn bring_in<A: BringsIn>(tenant: &mut Tenant<A>, renewed: &Renewed) -> Result<Brought, StoreError> {
    let (workspace, connection) = (tenant.workspace().uuid(), tenant.object());
    hold_lease_row(tenant, connection).await?;
    let found = sqlx::query!(
        "select c.state, d.version, d.consent from credentials d \
         join connections c on c.workspace_id = d.workspace_id and c.id = d.connection_id \
         where d.workspace_id = $1 and d.connection_id = $2 and d.field = 'access'",
        workspace,
        connection.uuid()
    )
    .fetch_optional(tenant.sql())
    .await?;
    let Some(found) = found else { return Ok(Brought::Gone) };
    let waits = match State::from_row(&found.state).ok_or(StoreError::Corrupt("a connection's state"))? {
        State::Disconnecting | State::Disconnected => return Ok(Brought::Gone),
        State::ReconnectRequired => true,
        State::Active | State::Inert => false,
    };
    if found.consent != renewed.consent {
        return Ok(Brought::Replaced);
    }
    if found.version != renewed.version {
        return Ok(Brought::Superseded);
    }
    if waits && !A::CHANGES_FACTS {
        return Ok(Brought::NeedsRevival);
    }
    sqlx::query!(
        "delete from credentials where workspace_id = $1 and connection_id = $2 and version = $3",
        workspace,
        connection.uuid(),
        renewed.version
    )
    .execute(tenant.sql())
    .await?;
    let made = Made { version: renewed.version + 1, consent: renewed.consent, after_refusal: renewed.after_refusal };
    write(tenant, connection, &renewed.new, made).await?;
    free(tenant, connection, renewed.fence).await?;
    if waits {
        connection::revive(tenant, connection).await?;
    }
    Ok(Brought::Stored)
}

/// Takes the row of a connection's lease, and with it the turn: what is read after this is not changed by another refresh.
pub(crate) async fn hold_lease_row<A: Action>(
    tenant: &mut Tenant<A>,
    connection: ConnectionId,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "select fence from refreshes where workspace_id = $1 and connection_id = $2 for update",
        workspace,
        connection.uuid()
    )
    .fetch_optional(tenant.sql())
    .await?;
    Ok(())
}
