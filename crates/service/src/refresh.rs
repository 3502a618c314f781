//! Refresh: a credential that is about to expire is exchanged once, whoever and however many ask, on however many nodes.
//!
//! The intent is written before the provider is called, and the answer is put in place only if fence and version are still those of
//! the lease. No transaction is open while the network is.

use std::{sync::Arc, time::Duration};

use domain::{
    audit::Event,
    connection::State,
    id::{ConnectionId, WorkspaceId},
    principal::{Cause, Principal},
    provider::Replay,
};
use egress::HostSet;
use relation::action::{Refresh, RequireReconnect};
use seal::{Credential, DataKey, Field};
use store::{
    StoreError,
    credential::{self, Lease, NewCredential, Stored},
};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::{
    App, Refusal, UpstreamFault,
    custody::{DoesNotOpen, KeyError},
    oauth::{self, TokenError, Tokens},
    step::Step,
};

/// A credential is refreshed when it has less than this left to live.
const AHEAD: Duration = Duration::from_mins(1);
/// With less than this left, an old token might die on its way.
const SPARE: Duration = Duration::from_secs(5);
/// How long a node may hold the lease: longer than its call may take.
const TERM: Duration = Duration::from_secs(20);
/// How long a caller waits for another node's refresh.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Until when the stored credential is known to be good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh {
    expires_at: Option<OffsetDateTime>,
}

impl Fresh {
    fn is_good(self, now: OffsetDateTime, ahead: Duration) -> bool {
        self.expires_at.is_none_or(|end| now + ahead < end)
    }
}

/// Why a credential is not fresh.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error("only the owner can mend this connection")]
    ReconnectRequired,
    #[error("the stored credential does not open")]
    Unopened(#[source] DoesNotOpen),
    #[error("the provider could not be asked")]
    Upstream(UpstreamFault),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<KeyError> for RefreshError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Closed(cause) => Self::Unopened(cause),
            KeyError::Store(StoreError::NotFound) => Self::Unopened(DoesNotOpen::gone()),
            KeyError::Store(error) => error.into(),
        }
    }
}

/// Sees to it that the connection's credential will live long enough for a call.
///
/// All callers of this node wait for one of them, and that one waits for another node's refresh rather than make its own.
pub(crate) async fn ensure(app: &App, workspace: WorkspaceId, connection: ConnectionId) -> Result<(), RefreshError> {
    let slot = app.fresh.get_with(connection, async { Arc::new(Mutex::new(None)) }).await;
    let mut fresh = slot.lock().await;
    let now = app.clock.now();
    if fresh.is_some_and(|fresh: Fresh| fresh.is_good(now, AHEAD)) {
        return Ok(());
    }
    *fresh = Some(run(app, workspace, connection).await?);
    Ok(())
}

/// Forgets what is known of a connection's credential: it was replaced, refused or removed.
pub(crate) async fn forget(app: &App, connection: ConnectionId) {
    app.fresh.invalidate(&connection).await;
}

async fn run(app: &App, workspace: WorkspaceId, connection: ConnectionId) -> Result<Fresh, RefreshError> {
    let principal = Principal::system(Cause::Refresh(connection), app.clock.now());
    let give_up = app.clock.since_boot() + PATIENCE;
    loop {
        let (mut tenant, _) = app.enter::<Refresh>(&principal, workspace, connection).await?;
        let stored = credential::of_connection(&mut tenant).await.map_err(gone)?;
        // What is being taken apart must not be revived, and what the provider has refused is the owner's.
        if !matches!(stored.state, State::Active | State::Inert) {
            return Err(RefreshError::ReconnectRequired);
        }
        let fresh = Fresh { expires_at: stored.expires_at };
        if fresh.is_good(app.clock.now(), AHEAD) {
            return Ok(fresh);
        }
        if stored.refresh.is_none() {
            drop(tenant);
            return if fresh.is_good(app.clock.now(), Duration::ZERO) {
                Ok(fresh)
            } else {
                give_to_owner(app, &principal, workspace, connection).await
            };
        }
        let lease = credential::lease(&mut tenant, stored.version, app.node, TERM).await?;
        tenant.finish().await?;
        let renewed = match lease {
            Some(lease) => renew(app, &principal, workspace, stored, lease).await,
            None if app.clock.since_boot() > give_up => Err(RefreshError::Upstream(UpstreamFault::Timeout)),
            None => {
                tokio::time::sleep(POLL).await;
                continue;
            }
        };
        return match renewed {
            // What failed for a passing reason may be tried again as long as the old token lives.
            Err(RefreshError::Upstream(_)) if fresh.is_good(app.clock.now(), SPARE) => Ok(fresh),
            renewed => renewed,
        };
    }
}

/// A connection without a credential is one that is being taken apart.
fn gone(error: StoreError) -> RefreshError {
    match error {
        StoreError::NotFound => RefreshError::ReconnectRequired,
        error => error.into(),
    }
}

async fn renew(
    app: &App,
    principal: &Principal,
    workspace: WorkspaceId,
    stored: Stored,
    lease: Lease,
) -> Result<Fresh, RefreshError> {
    let connection = stored.connection;
    let Some(to) = app.providers.get(&stored.provider) else {
        release(app, principal, workspace, connection, &lease).await;
        return Err(Refusal::Unavailable(None).into());
    };
    let replay = to.provider.auth.refresh.replay;
    if lease.interrupted && replay == Replay::ReuseDetected {
        // The lost call may have spent this token: to show it again would end the grant for certain, as theft.
        tracing::warn!(%connection, "an interrupted refresh cannot be repeated at this provider");
        return give_to_owner(app, principal, workspace, connection).await;
    }
    let (opened, hosts) = match open(app, principal, workspace, &stored).await {
        Ok(opened) => opened,
        Err(error) => {
            release(app, principal, workspace, connection, &lease).await;
            return Err(error);
        }
    };
    app.step(Step::RefreshCall);
    metrics::counter!("keyholder_refreshes_total", "provider" => stored.provider.clone()).increment(1);
    match oauth::refresh(to, opened.secret, &hosts).await {
        Ok(tokens) => {
            app.step(Step::RefreshStore);
            store_renewed(app, principal, workspace, &stored, &lease, tokens, &opened.hosts).await
        }
        Err(error) => {
            metrics::counter!("keyholder_refresh_failures_total", "provider" => stored.provider.clone()).increment(1);
            tracing::warn!(%connection, %error, "a refresh failed");
            match &error {
                // The lease is kept: whoever waits for it would show the same token once more.
                TokenError::Refused => give_to_owner(app, principal, workspace, connection).await,
                // An answer that cannot be read has spent the token all the same.
                TokenError::Unknown(_) | TokenError::Malformed if replay == Replay::ReuseDetected => {
                    give_to_owner(app, principal, workspace, connection).await
                }
                _ => {
                    release(app, principal, workspace, connection, &lease).await;
                    Err(RefreshError::Upstream(error.upstream()))
                }
            }
        }
    }
}

/// Unseals the refresh token, with the hosts that were sealed with it.
async fn open(
    app: &App,
    principal: &Principal,
    workspace: WorkspaceId,
    stored: &Stored,
) -> Result<(Credential, HostSet), RefreshError> {
    let (mut tenant, _) = app.enter::<Refresh>(principal, workspace, stored.connection).await?;
    let key = app.custody.key(&mut tenant, stored.refresh.as_ref().map(|field| field.key)).await?;
    tenant.finish().await?;
    let opened = app.custody.open_credential(&key, stored, Field::Refresh).map_err(RefreshError::Unopened)?;
    let hosts = HostSet::parse(&opened.hosts).map_err(|error| Refusal::internal("a sealed host", error))?;
    Ok((opened, hosts))
}

async fn store_renewed(
    app: &App,
    principal: &Principal,
    workspace: WorkspaceId,
    stored: &Stored,
    lease: &Lease,
    tokens: Tokens,
    hosts: &[String],
) -> Result<Fresh, RefreshError> {
    let connection = stored.connection;
    let lifetime = app.providers.get(&stored.provider).map(|to| to.provider.auth.refresh.access_token_lifetime_s);
    let lifetime = tokens.expires_in.or(lifetime.map(Duration::from_secs));
    let expires_at = lifetime.map(|life| app.clock.now() + life);
    let (mut tenant, _) = app.enter::<Refresh>(principal, workspace, connection).await?;
    let key = app.custody.key(&mut tenant, None).await.map_err(Refusal::from)?;
    let seal =
        |field, secret| app.custody.seal_credential(&key, (connection, stored.provider.as_str(), field), secret, hosts);
    let refresh = match tokens.refresh {
        Some(token) => Some(seal(Field::Refresh, token)?),
        // A provider that does not rotate answers no refresh token: the old one stays.
        None => stored.refresh.clone(),
    };
    let new = NewCredential { access: seal(Field::Access, tokens.access)?, refresh, expires_at };
    if let Err(error) = credential::replace(&mut tenant, lease, &new).await {
        drop(tenant);
        if matches!(error, StoreError::Stale) {
            // The connection was taken apart, or renewed, while the provider answered: nobody else will ever know of this pair.
            let provider = stored.provider.clone();
            let NewCredential { access, refresh, .. } = new;
            give_back(app, &key, &Stored { access, refresh, provider, ..*stored }).await;
        }
        return Err(error.into());
    }
    let event = Event::new("credential.refreshed", format!("connection:{connection}"));
    tenant.commit(event).await?;
    Ok(Fresh { expires_at })
}

/// Revokes a pair that could not be kept.
async fn give_back(app: &App, key: &DataKey, unkept: &Stored) {
    let (field, hint) =
        if unkept.refresh.is_some() { (Field::Refresh, "refresh_token") } else { (Field::Access, "access_token") };
    let Some(to) = app.providers.get(&unkept.provider) else { return };
    if let Ok(opened) = app.custody.open_credential(key, unkept, field)
        && let Ok(hosts) = HostSet::parse(&opened.hosts)
    {
        tracing::warn!(connection = %unkept.connection, "a refreshed credential could not be kept and is given back");
        oauth::revoke(to, opened.secret, hint, &hosts).await;
    }
}

async fn release(app: &App, principal: &Principal, workspace: WorkspaceId, connection: ConnectionId, lease: &Lease) {
    let released = async {
        let (mut tenant, _) = app.enter::<Refresh>(principal, workspace, connection).await?;
        credential::release(&mut tenant, lease).await?;
        tenant.finish().await?;
        Ok::<_, Refusal>(())
    };
    if let Err(error) = released.await {
        tracing::warn!(%connection, %error, "a refresh's lease was not given back and must run out");
    }
}

/// Says to everybody, the owner first, that only a new consent helps.
async fn give_to_owner(
    app: &App,
    principal: &Principal,
    workspace: WorkspaceId,
    connection: ConnectionId,
) -> Result<Fresh, RefreshError> {
    let (mut tenant, _) = app.enter::<RequireReconnect>(principal, workspace, connection).await?;
    match store::connection::require_reconnect(&mut tenant).await {
        Ok(()) => {
            tenant.commit(Event::new("connection.reconnect_required", format!("connection:{connection}"))).await?;
        }
        Err(StoreError::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    Err(RefreshError::ReconnectRequired)
}
