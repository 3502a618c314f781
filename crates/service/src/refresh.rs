//! Refresh: a credential that is about to expire is exchanged once, whoever and however many ask, on however many nodes.
//!
//! The intent is written before the provider is called. The answer is sealed and durable on this node's disk before the database is
//! told, and is put in place only if nobody has replaced the version that was refreshed. No transaction is open while the network is.
//!
//! What one node knows is `slot`'s, the call and its answer are `journal`'s, the files are `spill`'s, what is left of a node that died, or
//! of a database that was away, is `recover`'s, what only this process's memory holds of that is `owed`'s, and what an owner brought back
//! goes the same way by `consent`.

mod calls;
mod consent;
mod journal;
mod owed;
mod recover;
mod slot;
mod spill;

use std::{sync::Arc, time::Duration};

use domain::{
    audit::Event,
    connection::{ReconnectReason, State},
    id::{ConnectionId, WorkspaceId},
    principal::{Cause, Principal},
};
use relation::action::{Refresh, RequireReconnect};
use serde_json::json;
use store::{
    StoreError,
    credential::{self, Asker},
};

use crate::{
    App, Refusal, UpstreamFault,
    custody::{DoesNotOpen, KeyError},
};
use slot::{Fault, Fresh, Turn};

pub(crate) use calls::{Calls, forget_gone};
pub(crate) use consent::Consent;
pub(crate) use owed::Owed;
pub(crate) use recover::{purge, watch};
pub(crate) use slot::Slot;
pub use spill::Spills;

/// How long a node may hold the lease: longer than its call may take.
const TERM: Duration = Duration::from_secs(20);
/// How long a caller waits for another's refresh, on this node or another.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

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

impl From<Fault> for RefreshError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Upstream(fault) => Self::Upstream(fault),
            Fault::Unavailable => Self::Refused(Refusal::Unavailable(None)),
        }
    }
}

impl RefreshError {
    /// What may pass by itself: it is remembered for a while, and an act goes on with the old token as long as that lives.
    fn passing(&self) -> Option<Fault> {
        match self {
            Self::Upstream(fault) => Some(Fault::Upstream(*fault)),
            Self::Refused(Refusal::Unavailable(_)) => Some(Fault::Unavailable),
            Self::ReconnectRequired | Self::Unopened(_) | Self::Refused(_) => None,
        }
    }
}

/// Sees to it that the connection's credential will live long enough for a call.
///
/// One caller of this node refreshes. The others go on with the old token while that lives, and wait for him otherwise; a failure is
/// everybody's answer for a while, so that there is one call to the provider however many ask, also while it fails.
pub(crate) async fn ensure(app: &App, workspace: WorkspaceId, connection: ConnectionId) -> Result<(), RefreshError> {
    let slot = slot(app, connection).await;
    let give_up = app.clock.since_boot() + PATIENCE;
    let _turn = match tokio::time::timeout(PATIENCE, slot.turn(&app.clock)).await {
        Ok(Turn::Answer(answer)) => return Ok(answer?),
        Ok(Turn::Ours(turn)) => turn,
        Err(_) => {
            tracing::warn!(%connection, "a caller has waited too long for another's refresh");
            return Err(RefreshError::Upstream(UpstreamFault::Timeout));
        }
    };
    let Err(error) = run(app, &slot, workspace, connection, give_up).await else { return Ok(()) };
    let Some(fault) = error.passing() else { return Err(error) };
    slot.failed(&app.clock, fault, None);
    if slot.lives(app.clock.now()) { Ok(()) } else { Err(error) }
}

/// What this node knows of a connection's credential. Whoever has its turn is not met by the one who looks through the state folder.
pub(crate) async fn slot(app: &App, connection: ConnectionId) -> Arc<Slot> {
    app.fresh.get_with(connection, async { Arc::new(Slot::default()) }).await
}

/// Forgets what is known of a connection's credential: it was replaced or removed.
pub(crate) async fn forget(app: &App, connection: ConnectionId) {
    app.fresh.invalidate(&connection).await;
}

/// The provider answered 401 to an act with this version of the credential: the next act refreshes first.
///
/// Once a version only. A version that was itself made for this reason is not refreshed for it again: a provider that always says 401
/// must not cause a refresh per act.
pub(crate) async fn refused(app: &App, connection: ConnectionId, version: i64) {
    slot(app, connection).await.refused(version);
    metrics::counter!("keyholder_credential_refusals_total").increment(1);
    tracing::info!(%connection, version, "the provider refused a credential; the next act refreshes it first");
}

async fn run(
    app: &App,
    slot: &Slot,
    workspace: WorkspaceId,
    connection: ConnectionId,
    give_up: Duration,
) -> Result<(), RefreshError> {
    let principal = Principal::system(Cause::Refresh(connection), app.clock.now());
    loop {
        let Some(mut call) = app.calls.begin(workspace, connection) else {
            wait(app, give_up).await?;
            continue;
        };
        // What this node was answered and could not store comes first: what is stored was spent for it.
        let settled = recover::pending(app, workspace, connection).await;
        let (mut tenant, _) = app.enter::<Refresh>(&principal, workspace, connection).await?;
        let held = credential::to_refresh(&mut tenant).await.map_err(gone)?;
        // What is being taken apart must not be revived, and what the provider has refused is the owner's.
        if !matches!(held.stored.state, State::Active | State::Inert) {
            settled?;
            return Err(RefreshError::ReconnectRequired);
        }
        let fresh = Fresh::of(&held);
        if slot.learn(fresh, app.clock.now()) {
            return Ok(());
        }
        settled?;
        if held.stored.refresh.is_none() {
            drop(tenant);
            return give_to_owner(app, &principal, workspace, &held.stored, ReconnectReason::Expired).await;
        }
        let asker = Asker { node: app.node, own_lease_is_unused: call.own_lease_is_unused() };
        let lease = credential::lease(&mut tenant, held.stored.version, asker, TERM).await?;
        tenant.finish().await?;
        match lease {
            Some(lease) => {
                let job = journal::Job { principal: &principal, workspace, held, lease };
                if journal::renew(app, slot, &mut call, job).await? {
                    return Ok(());
                }
            }
            // Another node is at it.
            None if slot.lives(app.clock.now()) => {
                slot.rest(&app.clock);
                return Ok(());
            }
            None => {
                drop(call);
                wait(app, give_up).await?;
            }
        }
    }
}

/// Waits a moment for whoever is at it.
async fn wait(app: &App, give_up: Duration) -> Result<(), RefreshError> {
    if app.clock.since_boot() > give_up {
        return Err(RefreshError::Upstream(UpstreamFault::Timeout));
    }
    tokio::time::sleep(POLL).await;
    Ok(())
}

/// A connection without a credential is one that is being taken apart.
fn gone(error: StoreError) -> RefreshError {
    match error {
        StoreError::NotFound => RefreshError::ReconnectRequired,
        error => error.into(),
    }
}

/// Says to everybody, the owner first, that only a new consent helps, and why.
async fn give_to_owner<T>(
    app: &App,
    principal: &Principal,
    workspace: WorkspaceId,
    stored: &credential::Stored,
    reason: ReconnectReason,
) -> Result<T, RefreshError> {
    let connection = stored.connection;
    let (mut tenant, _) = app.enter::<RequireReconnect>(principal, workspace, connection).await?;
    match store::connection::require_reconnect(&mut tenant, stored.version, reason).await {
        Ok(()) => {
            let event = Event::new("connection.reconnect_required", format!("connection:{connection}"));
            tenant.commit(event.with(json!({ "reason": reason.as_str() }))).await?;
            metrics::counter!("keyholder_reconnect_required_total", "provider" => stored.provider.clone(), "reason" => reason.as_str())
                .increment(1);
            tracing::warn!(%connection, reason = reason.as_str(), "only the owner can mend this connection");
        }
        // It is taken apart, waits already, or has another credential by now.
        Err(StoreError::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    Err(RefreshError::ReconnectRequired)
}
