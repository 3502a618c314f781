//! What becomes of a provider's answer: stored, or given back. The way from the state folder into the database, taken at once, or later
//! when the database was away or the process died.

use std::{io, sync::Arc, time::Duration};

use domain::{
    audit::Event,
    id::{ConnectionId, WorkspaceId},
    principal::{Cause, Principal},
    provider::RevokeEnds,
};
use relation::action::{RecoverCredential, Refresh};
use seal::Field;
use serde_json::json;
use store::{
    StoreError, Tenant,
    credential::{self, Brought, Stored},
};

use super::{
    consent, forget, slot,
    slot::Fresh,
    spill::{Name, Spilled, Spills},
};
use crate::{App, Refusal, custody::KeyError, gauge::count, oauth};

/// How often the state folder is looked through.
const EVERY: Duration = Duration::from_secs(2);
/// For how long a provider is asked to take back what was not kept.
const OFFER: Duration = Duration::from_hours(24 * 7);

/// How often, and after which pause, a process that stops tries to settle what only its memory holds.
const LAST_TRIES: u32 = 20;
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// What became of an answer.
pub(super) enum Settled {
    /// It is what the connection has now.
    Stored(Fresh),
    /// Another credential is in its place, or none is wanted; it was given back where that does no harm.
    NotNeeded,
    /// The same, and its provider has not taken it back yet: it stays where it is, keeps nobody from anything, and is offered again.
    Owed,
}

/// Keeps an answer until it is settled: in the state folder, where it survives this process and the database's absence, or, if the disk
/// does not take it, in memory, where it survives the database's absence alone.
pub(super) async fn keep(app: &App, spilled: &Arc<Spilled>) {
    if let Err(error) = write(app, spilled).await {
        app.owed.hold(Arc::clone(spilled));
        metrics::counter!("keyholder_spill_failures_total").increment(1);
        let connection = spilled.renewed.connection;
        tracing::error!(%connection, %error, "an answer could not be written to the state folder, and is in memory only");
    }
}

async fn write(app: &App, spilled: &Spilled) -> io::Result<()> {
    let document = spilled.encode(&app.custody)?;
    let name = spilled.name();
    on_disk(app, move |spills| spills.write(&name, &document)).await
}

/// Lets go of an answer: it is settled.
pub(super) async fn clear(app: &App, spilled: &Spilled) {
    let name = spilled.name();
    app.owed.settled(&name);
    if let Err(error) = on_disk(app, move |spills| spills.remove(&name)).await {
        // It will be found there, and found to be superseded.
        tracing::warn!(connection = %spilled.renewed.connection, %error, "a settled answer was not removed from the state folder");
    }
}

/// Puts an answer in place, or gives it back. What an owner's consent brought is put in place by its own callback alone, and is given back
/// if that is over and has not done so.
///
/// # Errors
/// Whatever keeps an answer that may still be wanted from being stored now: it stays where it was kept.
pub(super) async fn settle(app: &App, spilled: &Spilled, event: &'static str) -> Result<Settled, Refusal> {
    let principal = Principal::system(Cause::Refresh(spilled.renewed.connection), app.clock.now());
    let once = async || match spilled.link {
        Some(link) => consent::close(app, spilled, link).await,
        None => bring_in(app, &principal, spilled, event).await,
    };
    let mut brought = once().await;
    if brought.as_ref().is_err_and(lost_a_race) {
        brought = once().await;
    }
    match brought? {
        Brought::Stored => Ok(Settled::Stored(Fresh::of_renewed(&spilled.renewed))),
        Brought::NeedsRevival => Err(Refusal::Stale),
        // The same grant lives on under a later version: revoking this one could end it.
        Brought::Superseded => Ok(Settled::NotNeeded),
        brought @ (Brought::Replaced | Brought::Gone) => Ok(offer(app, &principal, spilled, brought).await),
    }
}

/// The database undid it for the sake of another transaction, which is over by now.
fn lost_a_race(refusal: &Refusal) -> bool {
    let Refusal::Internal(_, Some(cause)) = refusal else { return false };
    cause.downcast_ref::<StoreError>().is_some_and(StoreError::lost_a_race)
}

async fn bring_in(
    app: &App,
    principal: &Principal,
    spilled: &Spilled,
    event: &'static str,
) -> Result<Brought, Refusal> {
    let renewed = &spilled.renewed;
    let connection = renewed.connection;
    let event = || {
        let detail = json!({ "version": renewed.version + 1, "fence": renewed.fence });
        Event::new(event, format!("connection:{connection}")).with(detail)
    };
    let (mut tenant, _) = app.enter::<Refresh>(principal, spilled.workspace, connection).await?;
    let mut brought = credential::bring_in(&mut tenant, renewed).await?;
    match brought {
        Brought::Stored => tenant.commit(event()).await?,
        _ => drop(tenant),
    }
    if brought == Brought::NeedsRevival {
        let (mut tenant, _) = app.enter::<RecoverCredential>(principal, spilled.workspace, connection).await?;
        brought = credential::bring_in(&mut tenant, renewed).await?;
        if brought == Brought::Stored {
            tenant.commit(event()).await?;
            tracing::info!(%connection, "a connection that waited for its owner is in use again: the lost answer was found");
        }
    }
    Ok(brought)
}

/// Offers its provider an answer that cannot be stored any more, seldom where that is in vain.
async fn offer(app: &App, principal: &Principal, spilled: &Spilled, brought: Brought) -> Settled {
    let name = spilled.name();
    if app.owed.rests(&name, app.clock.since_boot()) {
        return Settled::Owed;
    }
    let Err(error) = give_back(app, principal, spilled, brought).await else { return Settled::NotNeeded };
    app.owed.in_vain(&name, app.clock.since_boot());
    tracing::warn!(connection = %name.connection(), %error, "an answer that is not wanted any more was not given back yet");
    Settled::Owed
}

/// Revokes a pair that nobody will ever know of again.
async fn give_back(app: &App, principal: &Principal, spilled: &Spilled, brought: Brought) -> Result<(), Refusal> {
    let renewed = &spilled.renewed;
    let connection = renewed.connection;
    let to = match app.providers.going(&spilled.provider) {
        Ok(to) => to,
        // The operator has no client there any more: nobody could be asked.
        Err(Refusal::Unavailable(None)) => return Ok(()),
        Err(stopped) => return Err(stopped),
    };
    let ends_another = brought == Brought::Replaced && to.provider.auth.revoke_ends == RevokeEnds::Account;
    if to.provider.auth.revoke_url.is_none() || ends_another {
        let why = if ends_another { "ends_another" } else { "no_endpoint" };
        metrics::counter!("keyholder_grants_left_total", "reason" => why).increment(1);
        tracing::warn!(%connection, provider = to.provider.name, reason = why, "a grant that nobody holds is left to its provider");
        return Ok(());
    }
    let field = if renewed.new.refresh.is_some() { Field::Refresh } else { Field::Access };
    let stored = spilled.as_stored();
    let sealed = renewed.new.refresh.as_ref().unwrap_or(&renewed.new.access);
    let (mut tenant, _) = app.enter::<Refresh>(principal, spilled.workspace, connection).await?;
    let key = app.custody.key(&mut tenant, Some(sealed.key)).await?;
    tenant.finish().await?;
    let opened = app.custody.open_credential(&key, &stored, field);
    let opened = opened.map_err(|error| Refusal::internal("an answer that is to be given back", error))?;
    tracing::warn!(%connection, "an answer that was not kept is given back");
    metrics::counter!("keyholder_credentials_given_back_total").increment(1);
    if oauth::give_back(to, opened, field).await || app.clock.now() - renewed.new.issued_at > OFFER {
        return Ok(());
    }
    Err(Refusal::Unavailable(None))
}

/// Settles the answers of one connection that this node could not settle before. The caller has the connection's turn.
///
/// # Errors
/// There may be an answer that is still wanted, and it cannot be stored now. What only waits to be given back is no error.
pub(super) async fn pending(app: &App, workspace: WorkspaceId, connection: ConnectionId) -> Result<(), Refusal> {
    for answer in app.owed.of_connection(connection) {
        if !app.owed.is_called_back(&answer.name()) {
            settle_unwritten(app, &answer).await?;
        }
    }
    let names = on_disk(app, move |spills| spills.of_connection(connection)).await.map_err(|error| unusable(&error))?;
    for name in names.into_iter().filter(|name| !app.owed.is_called_back(name)) {
        settle_file(app, name, Some(workspace)).await?;
    }
    Ok(())
}

/// Settles what this node holds of a connection that is being taken apart: it is given back, and its files go, with those that nobody can
/// read.
pub(crate) async fn purge(app: &App, workspace: WorkspaceId, connection: ConnectionId) {
    if let Err(error) = pending(app, workspace, connection).await {
        tracing::warn!(%connection, %error, "an answer in the state folder was not settled yet");
    }
    if let Err(error) = on_disk(app, move |spills| spills.remove_unreadable(connection)).await {
        tracing::warn!(%connection, %error, "what was kept aside of a connection that is gone was not removed");
    }
    app.calls.forget(connection);
}

/// Settles whatever waits, for as long as the process lives: its own, and what dead processes have left. What only its memory holds is
/// tried for some seconds more when it stops.
pub(crate) async fn watch(app: Arc<App>) {
    let rounds = async {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            settle_memory(&app).await;
            if let Err(error) = round(&app).await {
                unusable(&error);
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = app.tasks.stopping() => {}
    }
    // The first connections that are taken may have died in the very outage that left the answer here.
    for _ in 0..LAST_TRIES {
        settle_memory(&app).await;
        if app.owed.unwritten().is_empty() {
            break;
        }
        tokio::time::sleep(LAST_PAUSE).await;
    }
    for answer in app.owed.unwritten() {
        let connection = answer.renewed.connection;
        tracing::error!(%connection, "an answer that neither the state folder nor the database took ends with this process");
    }
}

/// Settles what the state folder did not take.
async fn settle_memory(app: &App) {
    for answer in app.owed.unwritten() {
        let connection = answer.renewed.connection;
        if app.owed.is_called_back(&answer.name()) {
            continue;
        }
        let slot = slot(app, connection).await;
        let Some(_turn) = slot.try_turn() else { continue };
        match settle_unwritten(app, &answer).await {
            Ok(()) => forget(app, connection).await,
            Err(error) => tracing::error!(%connection, %error, "an answer waits in memory until it can be settled"),
        }
    }
}

async fn round(app: &App) -> io::Result<()> {
    let (failed, names, unreadable) =
        on_disk(app, |spills| Ok((spills.adopt()?, spills.waiting()?, spills.unreadable()?))).await?;
    metrics::counter!("keyholder_spill_failures_total").increment(failed.into());
    metrics::gauge!("keyholder_spills_waiting").set(count(names.len()));
    metrics::gauge!("keyholder_spills_unreadable").set(count(unreadable));
    for name in names {
        let connection = name.connection();
        if app.owed.is_called_back(&name) || app.owed.rests(&name, app.clock.since_boot()) {
            continue;
        }
        let slot = slot(app, connection).await;
        // Whoever has the turn is about to settle it himself.
        let Some(_turn) = slot.try_turn() else { continue };
        match settle_file(app, name, None).await {
            Ok(()) => forget(app, connection).await,
            Err(error) => {
                tracing::warn!(%connection, %error, "an answer waits in the state folder until it can be settled");
            }
        }
    }
    Ok(())
}

/// Reads one file, and settles it or keeps it aside.
async fn settle_file(app: &App, name: Name, workspace: Option<WorkspaceId>) -> Result<(), Refusal> {
    let reading = name.clone();
    let read = on_disk(app, move |spills| spills.read(&reading)).await;
    let Some(document) = read.map_err(|error| unusable(&error))? else { return Ok(()) };
    let spilled = Spilled::decode(&app.custody, &document)
        .filter(|spilled| spilled.name() == name && workspace.is_none_or(|workspace| workspace == spilled.workspace));
    let Some(spilled) = spilled else { return set_aside(app, name).await };
    let Some(tenant) = workspace_of(app, &spilled).await? else { return Ok(()) };
    if !opens(app, tenant, &spilled).await? {
        return set_aside(app, name).await;
    }
    recover(app, &spilled).await
}

/// Settles an answer that only this process's memory holds, and writes it to the disk where that is possible by now.
async fn settle_unwritten(app: &App, answer: &Spilled) -> Result<(), Refusal> {
    if write(app, answer).await.is_ok() {
        app.owed.written(&answer.name());
    }
    match workspace_of(app, answer).await? {
        Some(tenant) => tenant.finish().await?,
        None => return Ok(()),
    }
    recover(app, answer).await
}

async fn recover(app: &App, spilled: &Spilled) -> Result<(), Refusal> {
    match settle(app, spilled, "credential.recovered").await? {
        Settled::Owed => return Ok(()),
        Settled::NotNeeded => {}
        Settled::Stored(_) => {
            metrics::counter!("keyholder_credentials_recovered_total").increment(1);
            tracing::warn!(connection = %spilled.renewed.connection, "an answer that had waited was recovered");
        }
    }
    clear(app, spilled).await;
    Ok(())
}

/// Enters the workspace of an answer that waits. Of one that is gone, the answer goes, too: with the workspace went its keys, so that
/// nobody can open it to give it back.
async fn workspace_of(app: &App, spilled: &Spilled) -> Result<Option<Tenant<Refresh>>, Refusal> {
    let connection = spilled.renewed.connection;
    let principal = Principal::system(Cause::Refresh(connection), app.clock.now());
    match app.enter::<Refresh>(&principal, spilled.workspace, connection).await {
        Ok((tenant, _)) => Ok(Some(tenant)),
        Err(Refusal::NotFound) => {
            tracing::warn!(%connection, "an answer in the state folder goes with its workspace");
            clear(app, spilled).await;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether both fields open in their place. What does not open must not replace what does.
async fn opens(app: &App, mut tenant: Tenant<Refresh>, spilled: &Spilled) -> Result<bool, Refusal> {
    let renewed = &spilled.renewed;
    let stored: Stored = spilled.as_stored();
    let fields = [(Field::Access, Some(&renewed.new.access)), (Field::Refresh, renewed.new.refresh.as_ref())];
    for (field, sealed) in fields {
        let Some(sealed) = sealed else { continue };
        let key = match app.custody.key(&mut tenant, Some(sealed.key)).await {
            Ok(key) => key,
            Err(KeyError::Closed(_) | KeyError::Store(StoreError::NotFound)) => return Ok(false),
            Err(KeyError::Store(error)) => return Err(error.into()),
        };
        if app.custody.open_credential(&key, &stored, field).is_err() {
            return Ok(false);
        }
    }
    tenant.finish().await?;
    Ok(true)
}

async fn set_aside(app: &App, name: Name) -> Result<(), Refusal> {
    metrics::counter!("keyholder_spill_failures_total").increment(1);
    tracing::error!(connection = %name.connection(), "an answer in the state folder does not open, and is kept aside as .unreadable");
    let moved = on_disk(app, move |spills| spills.set_aside(&name)).await;
    moved.map_err(|error| unusable(&error))
}

/// A fault of the disk may pass: it is remembered for a while, and acts go on with a token that lives.
fn unusable(error: &io::Error) -> Refusal {
    metrics::counter!("keyholder_spill_failures_total").increment(1);
    tracing::error!(%error, "the state folder cannot be used");
    Refusal::Unavailable(None)
}

/// Disks are slow, and must not hold up those who do not wait for them.
async fn on_disk<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Spills) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let spills = Arc::clone(&app.spills);
    tokio::task::spawn_blocking(move || work(&spills)).await.map_err(io::Error::other)?
}
