//! Connections: accounts at a provider that an owner has entrusted to a workspace. Their beginning is `connect`'s; here is the rest.

use std::{sync::Arc, time::Duration};

use domain::{
    audit::Event,
    connection::{Certificate, Connection, Finding, Met, Presented},
    id::{ConnectionId, JobId, RequestId, WorkspaceId},
    principal::{Cause, Principal},
};
use egress::HostSet;
use relation::{
    action::{Disconnect, FinishDisconnect, OpenForKillDrill, ReadConnection},
    authorize,
};
use seal::{Credential, DataKey, Field, Plain};
use store::{
    StoreError, Tenant,
    credential::{SealedField, Stored},
};

use crate::{
    App, Refusal,
    custody::KeyError,
    gateway::workspace_of,
    jobs::{ABANDON, DISCONNECT},
    oauth::{self, Account},
    providers::Reachable,
    refresh,
    retired::{self, Offered},
    step::Step,
};

/// How long the node that disconnects has for itself before another may finish the work.
const HEAD_START: Duration = Duration::from_mins(1);
/// After how long a provider is asked again that has not acknowledged, or still takes the old token.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1200)];
/// After so long it is not asked again.
const PATIENCE: Duration = Duration::from_secs(5);
/// For so long what renewed consents replaced is offered to the provider, before the certificate says that it may live.
const RETIRED_PATIENCE: Duration = Duration::from_secs(20);
/// A token's life is counted from when its answer came, which is at most a token endpoint's time limit after it began.
const MARGIN: Duration = Duration::from_secs(10);

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
/// that dies on the way leaves a job that another one finishes. A provider that is stopped for its changed file does: the credential
/// stays until its operator has said which file holds, since without it nobody could end the grant.
///
/// # Errors
/// `NotFound` where the caller may not know that the connection exists, or it is gone already; `DisconnectionWaits`: acts have stopped,
/// and a job does the rest.
pub async fn disconnect(app: &App, caller: &Principal, id: ConnectionId) -> Result<Certificate, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<Disconnect>(caller, workspace, id).await?;
    store::connection::begin_disconnect(&mut tenant, false).await?;
    begun(app, tenant, "connection.disconnecting").await?;
    match finish(app, workspace, id, caller.request).await {
        Err(Refusal::ProviderNotMigrated(name)) => Err(Refusal::DisconnectionWaits(name)),
        finished => finished,
    }
}

/// Takes apart a connection whose code nobody redeemed: its grant would live on, and nobody would ever give it back.
///
/// # Errors
/// As for a disconnection.
pub(crate) async fn abandon(app: &App, workspace: WorkspaceId, id: ConnectionId) -> Result<(), Refusal> {
    let principal = Principal::system(Cause::Disconnect(id), app.clock.now());
    let (mut tenant, _) = app.enter::<Disconnect>(&principal, workspace, id).await?;
    match store::connection::begin_disconnect(&mut tenant, true).await {
        // It was redeemed, or taken apart, in this very moment, or was never there: the job has nothing left to do.
        Err(StoreError::NotFound) => {
            drop(tenant);
            let (mut tenant, _) = app.enter::<OpenForKillDrill>(&principal, workspace, id).await?;
            store::job::done(&mut tenant, ABANDON, id).await?;
            tenant.finish().await?;
            return Ok(());
        }
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
    // Whoever begins again finds the job of the first time: one is enough.
    store::job::done(&mut tenant, DISCONNECT, id).await?;
    store::job::enqueue(&mut tenant, job, DISCONNECT, id, HEAD_START).await?;
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
    refresh::purge(app, workspace, id).await;
    app.step(Step::DisconnectRevoke);
    let finding = kill(app, &principal, workspace, id).await?;
    let retired_may_live = !all_retired_revoked(app, workspace, id).await?;
    app.step(Step::DisconnectDelete);
    let (mut tenant, _) = app.enter::<FinishDisconnect>(&principal, workspace, id).await?;
    let mut certificate = Certificate::of(id, &finding, app.clock.now());
    certificate.grant_may_live |= retired_may_live;
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
    tell(&certificate);
    Ok(certificate)
}

/// Offers the provider what renewed consents replaced, too: each is a grant of its own. Whether all of them are acknowledged.
///
/// What is not stays with its own job, which goes on for as long as a provider is asked; the certificate does not wait for that.
async fn all_retired_revoked(app: &App, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, Refusal> {
    match tokio::time::timeout(RETIRED_PATIENCE, retired::offer(app, workspace, id)).await {
        Ok(offered) => Ok(offered? == Offered::AllRevoked),
        Err(_) => Ok(false),
    }
}

/// What an operator must know: a grant that may live on is for the provider's own pages to end.
fn tell(certificate: &Certificate) {
    let old_token = certificate.old_token.as_str();
    let grant = if certificate.grant_may_live { "may_live" } else { "ended" };
    metrics::counter!("keyholder_disconnections_total", "old_token" => old_token, "grant" => grant).increment(1);
    if certificate.grant_may_live {
        tracing::warn!(
            connection = %certificate.connection,
            acknowledged = certificate.revoked_at_provider,
            old_token,
            "a connection is deleted here, and its grant may live on at the provider"
        );
    }
}

/// What is left of a credential, for as long as its end takes. It is opened for each call anew.
struct Doomed<'a> {
    app: &'a App,
    to: &'a Reachable,
    stored: Stored,
    access: Option<Arc<DataKey>>,
    refresh: Option<Arc<DataKey>>,
}

/// Revokes at the provider, then tries the old access token with one harmless read: never with a refresh, which could revive it.
///
/// A provider that does not acknowledge, or still takes the token, is asked again, a few times and for some seconds: some revoke with
/// a delay. After that the deletion waits for nobody, since what is deleted here can do no more harm from here.
///
/// # Errors
/// `ProviderNotMigrated`, or `Unavailable` where the approved files cannot be read: nothing may be sent, and nothing is deleted.
async fn kill(app: &App, principal: &Principal, workspace: WorkspaceId, id: ConnectionId) -> Result<Finding, Refusal> {
    let (mut tenant, _) = app.enter::<OpenForKillDrill>(principal, workspace, id).await?;
    let stored = match store::credential::of_connection(&mut tenant).await {
        Ok(stored) => stored,
        Err(StoreError::NotFound) => return Ok(Finding::NOTHING),
        Err(error) => return Err(error.into()),
    };
    let to = match app.providers.going(&stored.provider) {
        Ok(to) => to,
        // It is not configured any more: there is no client to revoke with.
        Err(Refusal::Unavailable(None)) => return Ok(Finding::NOTHING),
        // It is stopped, or it cannot be told whether it is: what is deleted before that is known could never be revoked.
        Err(stopped) => return Err(stopped),
    };
    let access = data_key(app, &mut tenant, Some(&stored.access)).await?;
    let refresh = data_key(app, &mut tenant, stored.refresh.as_ref()).await?;
    tenant.finish().await?;
    let doomed = Doomed { app, to, stored, access, refresh };
    let give_up = app.clock.since_boot() + PATIENCE;
    let mut finding = doomed.ask(Finding::NOTHING).await;
    for pause in AGAIN_AFTER {
        if doomed.is_settled(finding) || app.clock.since_boot() + pause > give_up {
            break;
        }
        tokio::time::sleep(pause).await;
        finding = doomed.ask(finding).await;
    }
    Ok(finding)
}

/// The data key of a field. One that is gone, or does not unwrap, opens nothing; a database that does not answer is no reason to delete
/// what could still be revoked.
async fn data_key(
    app: &App,
    tenant: &mut Tenant<OpenForKillDrill>,
    field: Option<&SealedField>,
) -> Result<Option<Arc<DataKey>>, Refusal> {
    let Some(field) = field else { return Ok(None) };
    match app.custody.key(tenant, Some(field.key)).await {
        Ok(key) => Ok(Some(key)),
        Err(KeyError::Store(StoreError::NotFound)) => Ok(None),
        Err(KeyError::Closed(error)) => {
            tracing::warn!(%error, "the data key of a credential that is to be revoked does not open");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl Doomed<'_> {
    /// Revokes and tries, once each, as far as that is still open. What was acknowledged, or shown, before stays so.
    async fn ask(&self, before: Finding) -> Finding {
        let mut finding = Finding { has_refresh_token: self.stored.refresh.is_some(), ..before };
        let (presented, opened) = match self.open(Field::Refresh) {
            Some(refresh) => (Presented::RefreshToken, Some(refresh)),
            None => (Presented::AccessToken, self.open(Field::Access)),
        };
        if let Some((secret, hosts)) = opened
            && (!before.acknowledged || before.met == Met::Accepted)
        {
            finding.presented = Some(presented);
            finding.acknowledged |= oauth::revoke(self.to, secret, presented.as_str(), &hosts).await;
        }
        if before.met == Met::Refused {
            return finding;
        }
        let Some((secret, hosts)) = self.open(Field::Access) else { return finding };
        finding.met = match oauth::account(self.to, secret, &hosts).await {
            Ok(Account::Refused) => Met::Refused,
            Ok(Account::Known(..)) => Met::Accepted,
            Err(_) => Met::Unclear,
        };
        // Judged after the answer: it was so during the whole of the call.
        let now = self.app.clock.now() + MARGIN;
        finding.within_life = self.stored.expires_at.is_some_and(|end| now < end);
        finding
    }

    /// Whether to ask again could change nothing.
    fn is_settled(&self, finding: Finding) -> bool {
        let told = finding.acknowledged || finding.presented.is_none() || self.to.provider.auth.revoke_url.is_none();
        match finding.met {
            Met::Refused => told,
            Met::Accepted => self.to.provider.auth.revoke_url.is_none(),
            Met::Unclear => told && self.open(Field::Access).is_none(),
        }
    }

    /// Opens one field under its own data key, if it opens.
    fn open(&self, field: Field) -> Option<(Plain, HostSet)> {
        let key = match field {
            Field::Access => self.access.as_deref()?,
            Field::Refresh => self.refresh.as_deref()?,
        };
        let opened = self.app.custody.open_credential(key, &self.stored, field);
        let Credential { secret, hosts, .. } = opened
            .inspect_err(|error| {
                let connection = self.stored.connection;
                tracing::warn!(%connection, %field, %error, "a credential that is to be revoked does not open");
            })
            .ok()?;
        HostSet::parse(&hosts).ok().map(|hosts| (secret, hosts))
    }
}
