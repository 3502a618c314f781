//! The journal of one refresh: the intent is durable, the provider is called, the answer is durable on this disk, the database is told.

use std::{sync::Arc, time::Duration};

use domain::{connection::ReconnectReason, id::WorkspaceId, principal::Principal, provider::Replay};
use egress::HostSet;
use relation::action::Refresh;
use seal::{Credential, DataKey, Field};
use store::credential::{self, Lease, NewCredential, Renewed, ToRefresh};

use super::{
    RefreshError,
    calls::Call,
    give_to_owner,
    recover::{self, Settled},
    slot::{Fault, Slot},
    spill::Spilled,
};
use crate::{
    App, Refusal,
    oauth::{self, TokenError, Tokens},
    providers::Reachable,
    step::Step,
};

/// One refresh whose intent is written.
pub(super) struct Job<'a> {
    pub(super) principal: &'a Principal,
    pub(super) workspace: WorkspaceId,
    pub(super) held: ToRefresh,
    pub(super) lease: Lease,
}

/// All that the call and the keeping of its answer need: from here to the file, no database is asked.
struct Opened {
    token: Credential,
    hosts: HostSet,
    /// Seals the answer.
    key: Arc<DataKey>,
}

/// Calls the provider and keeps what it answers. `false` where somebody else's credential is in place: it is to be looked at again.
pub(super) async fn renew(app: &App, slot: &Slot, call: &mut Call<'_>, job: Job<'_>) -> Result<bool, RefreshError> {
    let to = match app.providers.going(&job.held.stored.provider) {
        Ok(to) => to,
        Err(refusal) => {
            release(app, &job).await;
            return Err(refusal.into());
        }
    };
    let connection = job.held.stored.connection;
    if job.lease.interrupted && to.provider.auth.refresh.replay == Replay::ReuseDetected {
        // The lost call may have spent this token: to show it again would end the grant for certain, as theft.
        tracing::warn!(%connection, "an interrupted refresh cannot be repeated at this provider");
        return owner(app, call, &job, ReconnectReason::Interrupted).await;
    }
    let opened = match open(app, &job).await {
        Ok(opened) => opened,
        Err(error) => {
            release(app, &job).await;
            return Err(error);
        }
    };
    app.step(Step::RefreshCall);
    metrics::counter!("keyholder_refreshes_total", "provider" => to.provider.name.clone()).increment(1);
    let Opened { token: Credential { secret, hosts: sealed }, hosts, key } = opened;
    call.is_made();
    match oauth::refresh(to, secret, &hosts).await {
        Ok(tokens) => {
            let stored = keep(app, slot, &job, to, (tokens, &sealed), &key).await?;
            call.is_decided();
            Ok(stored)
        }
        Err(error) => failed(app, slot, call, &job, to, &error).await,
    }
}

/// What a call that brought no token means, by the provider's rule for a token that is shown again.
async fn failed(
    app: &App,
    slot: &Slot,
    call: &mut Call<'_>,
    job: &Job<'_>,
    to: &Reachable,
    error: &TokenError,
) -> Result<bool, RefreshError> {
    let connection = job.held.stored.connection;
    metrics::counter!("keyholder_refresh_failures_total", "provider" => to.provider.name.clone()).increment(1);
    tracing::warn!(%connection, provider = to.provider.name, %error, "a refresh failed");
    let spent = to.provider.auth.refresh.replay == Replay::ReuseDetected;
    match error {
        // The lease is kept where the owner must act: whoever waits for it would show the same token once more.
        TokenError::Refused if job.lease.interrupted => owner(app, call, job, ReconnectReason::Interrupted).await,
        TokenError::Refused => owner(app, call, job, ReconnectReason::Refused).await,
        // An answer that is lost or cannot be read has spent the token all the same.
        TokenError::Unknown(_) if spent => owner(app, call, job, ReconnectReason::Interrupted).await,
        TokenError::Malformed if spent => owner(app, call, job, ReconnectReason::UnreadableAnswer).await,
        _ => {
            call.is_decided();
            release(app, job).await;
            let fault = error.upstream();
            slot.failed(&app.clock, Fault::Upstream(fault), error.retry_after());
            Err(RefreshError::Upstream(fault))
        }
    }
}

async fn owner(app: &App, call: &mut Call<'_>, job: &Job<'_>, reason: ReconnectReason) -> Result<bool, RefreshError> {
    let said = give_to_owner(app, job.principal, job.workspace, &job.held.stored, reason).await;
    if matches!(said, Err(RefreshError::ReconnectRequired)) {
        call.is_decided();
    }
    said
}

/// Unseals the refresh token with the hosts that were sealed with it, and has the key at hand that will seal the answer.
async fn open(app: &App, job: &Job<'_>) -> Result<Opened, RefreshError> {
    let stored = &job.held.stored;
    let (mut tenant, _) = app.enter::<Refresh>(job.principal, job.workspace, stored.connection).await?;
    let opens = app.custody.key(&mut tenant, stored.refresh.as_ref().map(|field| field.key)).await?;
    let seals = app.custody.key(&mut tenant, None).await?;
    tenant.finish().await?;
    let token = app.custody.open_credential(&opens, stored, Field::Refresh).map_err(RefreshError::Unopened)?;
    let hosts = HostSet::parse(&token.hosts).map_err(|error| Refusal::internal("a sealed host", error))?;
    Ok(Opened { token, hosts, key: seals })
}

/// Seals the answer, puts it on this node's disk, and then into the database.
async fn keep(
    app: &App,
    slot: &Slot,
    job: &Job<'_>,
    to: &Reachable,
    (tokens, hosts): (Tokens, &[String]),
    key: &DataKey,
) -> Result<bool, RefreshError> {
    let stored = &job.held.stored;
    let connection = stored.connection;
    let issued_at = app.clock.now();
    let life = tokens.expires_in.unwrap_or(Duration::from_secs(to.provider.auth.refresh.access_token_lifetime_s));
    let seal =
        |field, secret| app.custody.seal_credential(key, (connection, stored.provider.as_str(), field), secret, hosts);
    let refresh = match tokens.refresh {
        Some(token) => Some(seal(Field::Refresh, token)?),
        // A provider that does not rotate answers no refresh token: the old one stays.
        None => stored.refresh.clone(),
    };
    let access = seal(Field::Access, tokens.access)?;
    let renewed = Renewed {
        connection,
        fence: job.lease.fence,
        version: stored.version,
        consent: job.held.consent,
        after_refusal: slot.was_refused(stored.version),
        new: NewCredential { access, refresh, issued_at, expires_at: Some(issued_at + life) },
    };
    let spilled =
        Arc::new(Spilled { workspace: job.workspace, provider: stored.provider.clone(), link: None, renewed });
    recover::keep(app, &spilled).await;
    app.step(Step::RefreshStore);
    let settled = recover::settle(app, &spilled, "credential.refreshed").await?;
    app.step(Step::RefreshClear);
    if !matches!(settled, Settled::Owed) {
        recover::clear(app, &spilled).await;
    }
    let Settled::Stored(fresh) = settled else { return Ok(false) };
    slot.learn(fresh, app.clock.now());
    Ok(true)
}

async fn release(app: &App, job: &Job<'_>) {
    let connection = job.held.stored.connection;
    let released = async {
        let (mut tenant, _) = app.enter::<Refresh>(job.principal, job.workspace, connection).await?;
        credential::release(&mut tenant, &job.lease).await?;
        tenant.finish().await?;
        Ok::<_, Refusal>(())
    };
    if let Err(error) = released.await {
        tracing::warn!(%connection, %error, "a refresh's lease was not given back and must run out");
    }
}
