//! Connections: accounts at a provider that an owner has entrusted to a workspace. Their beginning is `connect`'s; here is the rest.

use std::time::Duration;

use domain::{
    audit::Event,
    connection::{Certificate, Connection, Verdict},
    id::{ConnectionId, JobId, RequestId, WorkspaceId},
    principal::{Cause, Principal},
};
use egress::HostSet;
use relation::{
    action::{Disconnect, FinishDisconnect, OpenForKillDrill, ReadConnection},
    authorize,
};
use seal::{Credential, Field};
use store::{StoreError, Tenant, credential::Stored};

use crate::{
    App, Refusal,
    gateway::workspace_of,
    jobs::{ABANDON, DISCONNECT},
    oauth::{self, Account},
    refresh,
    step::Step,
};

/// How long the node that disconnects has for itself before another may finish the work.
const HEAD_START: Duration = Duration::from_mins(1);

/// One connection that is not gone.
///
/// # Errors
/// `NotFound`.
pub async fn get(app: &App, caller: &Principal, id: ConnectionId) -> Result<Connection, Refusal> {
    let (_, snapshot) = app.permit::<ReadConnection>(caller, workspace_of(caller)?, id).await?;
    snapshot.connection(id).cloned().ok_or(Refusal::NotFound)
}

/// The connections that the caller may know of, newest first, after a given one.
///
/// # Errors
/// As for any use case.
pub async fn list(
    app: &App,
    caller: &Principal,
    before: Option<ConnectionId>,
    most: usize,
) -> Result<Vec<Connection>, Refusal> {
    let snapshot = app.workspace_of(caller).await?;
    let visible =
        |known: &&Connection| authorize::<ReadConnection>(&snapshot.facts, caller, known.id, &app.clock).is_ok();
    let mut connections: Vec<_> = snapshot.connections.iter().filter(visible).cloned().collect();
    connections.sort_by_key(|connection| std::cmp::Reverse(connection.id));
    Ok(connections.into_iter().filter(|known| before.is_none_or(|before| known.id < before)).take(most).collect())
}

/// The certificate of a connection that was taken apart.
///
/// # Errors
/// `NotFound` where the connection is not gone, or was never there.
pub async fn certificate(app: &App, caller: &Principal, id: ConnectionId) -> Result<Certificate, Refusal> {
    let (mut tenant, _) = app.enter::<ReadConnection>(caller, workspace_of(caller)?, id).await?;
    let certificate = store::connection::certificate(&mut tenant).await?;
    tenant.finish().await?;
    Ok(certificate)
}

/// Deletes a connection and everything that could still open it.
///
/// No act is admitted from the first commit on. Then the provider is told and the old token is tried once more, so that the
/// certificate can say *dead* and not merely *deleted*. A provider that cannot be reached does not stop the deletion; a node
/// that dies on the way leaves a job that another one finishes.
///
/// # Errors
/// `NotFound` where the caller may not know that the connection exists, or it is gone already.
pub async fn disconnect(app: &App, caller: &Principal, id: ConnectionId) -> Result<Certificate, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<Disconnect>(caller, workspace, id).await?;
    store::connection::begin_disconnect(&mut tenant, false).await?;
    begun(app, tenant, "connection.disconnecting").await?;
    finish(app, workspace, id, caller.request).await
}

/// Takes apart a connection whose code nobody redeemed: its grant would live on, and nobody would ever give it back.
///
/// # Errors
/// As for a disconnection.
pub(crate) async fn abandon(app: &App, workspace: WorkspaceId, id: ConnectionId) -> Result<(), Refusal> {
    let principal = Principal::system(Cause::Disconnect(id), app.clock.now());
    let (mut tenant, _) = app.enter::<Disconnect>(&principal, workspace, id).await?;
    match store::connection::begin_disconnect(&mut tenant, true).await {
        // It was redeemed, or taken apart, in this very moment; whoever did that has removed the job.
        Err(StoreError::NotFound) => return Ok(()),
        begun => begun?,
    }
    begun(app, tenant, "connection.abandoned").await?;
    finish(app, workspace, id, None).await.map(drop)
}

/// Acts have stopped: leaves the job that finishes what this node may not live to finish.
async fn begun(app: &App, mut tenant: Tenant<Disconnect>, event: &'static str) -> Result<(), Refusal> {
    let id = tenant.object();
    store::job::done(&mut tenant, ABANDON, id).await?;
    let job = JobId::new(&app.clock);
    store::job::enqueue(&mut tenant, job, DISCONNECT, id, app.clock.now() + HEAD_START).await?;
    tenant.commit(Event::new(event, format!("connection:{id}"))).await?;
    Ok(())
}

/// Tells the provider, tries the old token, deletes. May be done again from its beginning: a revoked token stays revoked.
pub(crate) async fn finish(
    app: &App,
    workspace: WorkspaceId,
    id: ConnectionId,
    request: Option<RequestId>,
) -> Result<Certificate, Refusal> {
    let principal = Principal { request, ..Principal::system(Cause::Disconnect(id), app.clock.now()) };
    refresh::forget(app, id).await;
    app.step(Step::DisconnectRevoke);
    let (revoked_at_provider, old_token) = kill(app, &principal, workspace, id).await?;
    app.step(Step::DisconnectDelete);
    let (mut tenant, _) = app.enter::<FinishDisconnect>(&principal, workspace, id).await?;
    let certificate = Certificate { connection: id, revoked_at_provider, old_token, deleted_at: app.clock.now() };
    match store::connection::finish_disconnect(&mut tenant, &certificate).await {
        // Another node was quicker; its certificate is the one that counts.
        Err(StoreError::NotFound) => {
            let first = store::connection::certificate(&mut tenant).await?;
            store::job::done(&mut tenant, DISCONNECT, id).await?;
            tenant.commit(Event::new("connection.disconnect_repeated", format!("connection:{id}"))).await?;
            return Ok(first);
        }
        written => written?,
    }
    store::job::done(&mut tenant, DISCONNECT, id).await?;
    let detail = serde_json::to_value(&certificate).unwrap_or_default();
    tenant.commit(Event::new("connection.disconnected", format!("connection:{id}")).with(detail)).await?;
    Ok(certificate)
}

/// Revokes at the provider, then tries the old access token with one harmless read: never with a refresh, which could revive it.
async fn kill(
    app: &App,
    principal: &Principal,
    workspace: WorkspaceId,
    id: ConnectionId,
) -> Result<(bool, Verdict), Refusal> {
    let (mut tenant, _) = app.enter::<OpenForKillDrill>(principal, workspace, id).await?;
    let stored = match store::credential::of_connection(&mut tenant).await {
        Ok(stored) => stored,
        Err(StoreError::NotFound) => return Ok((false, Verdict::RefusedToSay)),
        Err(error) => return Err(error.into()),
    };
    let Some(to) = app.providers.get(&stored.provider) else { return Ok((false, Verdict::RefusedToSay)) };
    // What does not open cannot be shown to the provider either; it is deleted all the same.
    let refresh = open_field(app, &mut tenant, &stored, Field::Refresh).await;
    let (token, hint) = match refresh {
        Some(refresh) => (Some(refresh), "refresh_token"),
        None => (open_field(app, &mut tenant, &stored, Field::Access).await, "access_token"),
    };
    let tried = open_field(app, &mut tenant, &stored, Field::Access).await;
    tenant.finish().await?;
    let revoked = match token {
        Some(Credential { secret, hosts }) => match HostSet::parse(&hosts) {
            Ok(hosts) => oauth::revoke(to, secret, hint, &hosts).await,
            Err(_) => false,
        },
        None => false,
    };
    let Some(Credential { secret, hosts }) = tried else { return Ok((revoked, Verdict::RefusedToSay)) };
    let Ok(hosts) = HostSet::parse(&hosts) else { return Ok((revoked, Verdict::RefusedToSay)) };
    let verdict = match oauth::account(to, secret, &hosts).await {
        Ok(Account::Refused) => Verdict::Dead,
        Ok(Account::Known(..)) => Verdict::Alive,
        Err(_) => Verdict::RefusedToSay,
    };
    Ok((revoked, verdict))
}

/// Opens one field under its own data key, if it opens.
async fn open_field(
    app: &App,
    tenant: &mut Tenant<OpenForKillDrill>,
    stored: &Stored,
    field: Field,
) -> Option<Credential> {
    let key = match field {
        Field::Access => stored.access.key,
        Field::Refresh => stored.refresh.as_ref()?.key,
    };
    let key = app.custody.key(tenant, Some(key)).await.ok()?;
    let opened = app.custody.open_credential(&key, stored, field);
    if let Err(error) = &opened {
        tracing::warn!(connection = %stored.connection, %field, %error, "a credential that is to be revoked does not open");
    }
    opened.ok()
}
