//! Connect links. Tokens, cookies, states and codes are stored as SHA-256 only: a copy of the database opens no link.

use std::time::Duration;

use domain::{
    id::{ConnectionId, DataKeyId, Id, LinkId},
    principal::{Cause, Identity},
};
use relation::{
    Action,
    action::{FollowLink, InviteOwner, ReceiveCredential, RedeemConnection},
};
use time::OffsetDateTime;

use crate::{StoreError, Tenant, context::sha256, epoch::interval};

/// A link to be made.
pub struct NewLink<'a> {
    /// Its id.
    pub id: LinkId,
    /// The token in its address.
    pub token: &'a str,
    /// The provider's name.
    pub provider: &'a str,
    /// The actions that are wanted.
    pub actions: &'a [String],
    /// A registered return address.
    pub return_url: &'a str,
    /// The connection that is to be consented to anew.
    pub reconnects: Option<ConnectionId>,
    /// How long it lives.
    pub life: Duration,
}

/// The hash under which a token, cookie, state or code is stored and looked up.
pub fn digest(text: &str) -> Vec<u8> {
    sha256(text.as_bytes())
}

/// Makes a link, and tells when it dies: by the database's clock, which is asked when it is opened.
///
/// # Errors
/// `Conflict` where the return address is not a registered one, or the connection is not there.
pub async fn create(tenant: &mut Tenant<InviteOwner>, new: &NewLink<'_>) -> Result<OffsetDateTime, StoreError> {
    let workspace = tenant.workspace().uuid();
    let creator = tenant.principal().reference();
    let expires_at = sqlx::query_scalar!(
        "insert into connect_links (workspace_id, id, token_hash, provider, actions, return_url, reconnects, created_by, created_at, \
         expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(), clock_timestamp() + $9::interval) returning expires_at",
        workspace,
        new.id.uuid(),
        digest(new.token),
        new.provider,
        new.actions,
        new.return_url,
        new.reconnects.map(Id::uuid),
        creator,
        interval(new.life)?,
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(expires_at)
}

/// The link that this transaction is the consequence of.
fn link_of<A: Action>(tenant: &Tenant<A>) -> Result<LinkId, StoreError> {
    match tenant.principal().identity {
        Identity::System(Cause::ConnectCallback(link)) => Ok(link),
        _ => Err(StoreError::Corrupt("only a link's own browser follows it")),
    }
}

/// The owner has chosen: what is allowed, the state that the callback must bring back, and the sealed PKCE verifier.
///
/// # Errors
/// `NotFound` where the link is dead, spent, or another browser's.
pub async fn follow(
    tenant: &mut Tenant<FollowLink>,
    cookie: &str,
    state: &str,
    allowed: &[String],
    (verifier, key): (&[u8], DataKeyId),
) -> Result<(), StoreError> {
    let (workspace, link) = (tenant.workspace().uuid(), link_of(tenant)?);
    let allowed = allowed.to_vec();
    let changed = sqlx::query!(
        "update connect_links set state_hash = $3, allowed = $4, verifier = $5, verifier_key = $6 \
         where workspace_id = $1 and id = $2 and cookie_hash = $7 and called_back_at is null and expires_at > clock_timestamp()",
        workspace,
        link.uuid(),
        digest(state),
        &allowed,
        verifier,
        key.uuid(),
        digest(cookie),
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// Ties the link to the connection that came of it. `code` is what the back end will redeem; a renewed consent has none.
///
/// # Errors
/// `NotFound` where the link was not called back, or was closed since ([`close`]).
pub async fn attach(
    tenant: &mut Tenant<ReceiveCredential>,
    connection: ConnectionId,
    code: Option<&str>,
) -> Result<(), StoreError> {
    let (workspace, link) = (tenant.workspace().uuid(), link_of(tenant)?);
    let changed = sqlx::query!(
        "update connect_links set connection_id = $3, code_hash = $4, verifier = null, verifier_key = null \
         where workspace_id = $1 and id = $2 and called_back_at is not null and connection_id is null and verifier is not null",
        workspace,
        link.uuid(),
        connection.uuid(),
        code.map(digest),
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// Ends the callback of the link: whether a connection came of it. Where none did, none will: [`attach`] needs the verifier, which goes
/// here, and one that is about to commit is waited for.
///
/// # Errors
/// `NotFound` where the link was not called back, or is gone with its workspace.
pub async fn close(tenant: &mut Tenant<FollowLink>) -> Result<bool, StoreError> {
    let (workspace, link) = (tenant.workspace().uuid(), link_of(tenant)?);
    let tied = sqlx::query_scalar!(
        "update connect_links set verifier = null, verifier_key = null \
         where workspace_id = $1 and id = $2 and called_back_at is not null returning connection_id is not null as \"tied!\"",
        workspace,
        link.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(tied)
}

/// Spends the one-time code, within ten minutes of the callback: the connection that it stands for.
///
/// # Errors
/// `NotFound` where there is no such code in this workspace, or it was spent, or it is too late.
pub async fn redeem(tenant: &mut Tenant<RedeemConnection>, code: &str) -> Result<ConnectionId, StoreError> {
    let workspace = tenant.workspace().uuid();
    let connection = sqlx::query_scalar!(
        "update connect_links set redeemed_at = clock_timestamp() where workspace_id = $1 and code_hash = $2 and redeemed_at is null \
         and called_back_at > clock_timestamp() - interval '10 minutes' returning connection_id as \"connection_id!\"",
        workspace,
        digest(code),
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok(ConnectionId::from_uuid(connection))
}
