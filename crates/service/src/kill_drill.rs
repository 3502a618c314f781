//! The installation's kill drill: two persons end every connection, or all of one provider.
//!
//! From the second person's word on it needs nobody: every step is a job, or a row that any node moves on, so that a node may die
//! anywhere. Acts stop first, everywhere; then the providers are told, one connection at a time, as by any disconnection.

use std::{sync::Arc, time::Duration};

use domain::{
    audit::Event,
    id::{ConnectionId, InstallationId, KillDrillId, WorkspaceId},
    kill_drill::{Certificate, Digest, KillDrill, Line},
    principal::{Cause, Principal},
};
use relation::action::{
    ApproveKillDrill, FinishKillDrill, ProposeKillDrill, ReadInstallation, ReadKillDrill, StopConnections,
};
use serde_json::json;
use store::{
    StoreError,
    kill_drill::{Page, Progress, Refused},
};

use crate::{
    App, Refusal, gauge, installation,
    jobs::{DISCONNECT, KILL_DRILL},
    operator::person,
};

const EVERY: Duration = Duration::from_secs(1);
/// How many connections are stopped in one transaction.
const STOPPED_AT_ONCE: i64 = 200;
/// How many rows are moved on, or read, at once.
const PAGE: i32 = 1000;
/// When providers are told though some workspace's acts could not be stopped yet.
const AT_THE_LATEST: Duration = Duration::from_mins(1);

/// Proposes to end every connection, or all of one provider. Nothing happens before another person approves.
///
/// # Errors
/// `Invalid` for a reason or a provider that is none; `Conflict` where too many proposals wait.
pub async fn propose(
    app: &App,
    caller: &Principal,
    reason: &str,
    provider: Option<&str>,
) -> Result<(KillDrill, Progress), Refusal> {
    let reason = reason.trim();
    if !(1..=500).contains(&reason.chars().count()) || reason.chars().any(char::is_control) {
        return Err(Refusal::invalid("/reason", "has 1 to 500 characters, and no control characters"));
    }
    if provider.is_some_and(|wanted| !app.providers.iter().any(|(known, _)| known.name == wanted)) {
        return Err(Refusal::invalid("/provider", "is not one of this installation"));
    }
    let (by, _) = person(caller)?;
    let mut opened = installation::enter::<ProposeKillDrill>(app, caller, InstallationId::ONE).await?;
    let id = KillDrillId::new(&app.clock);
    match store::kill_drill::propose(&mut opened, id, (provider, reason), by).await {
        Err(StoreError::Conflict) => return Err(Refusal::Conflict("too many proposals wait")),
        made => made?,
    }
    let drill = store::kill_drill::proposed(&mut opened, id).await?;
    let detail = json!({ "provider": provider, "reason": reason });
    opened.commit(Event::new("kill_drill.proposed", format!("kill_drill:{id}")).with(detail)).await?;
    tracing::warn!(drill = %id, by, provider, "a kill drill was proposed");
    count("proposed");
    Ok((drill, app.store.lookup.kill_drill_progress(id).await?))
}

/// Sets a proposed drill off. Whoever proposed it cannot, whichever of his keys he shows.
///
/// # Errors
/// `NotFound`; `Forbidden` for the person who proposed it; `Conflict` where it was approved before, has expired, or was proposed by
/// somebody who is no operator any more. Each refusal is in the installation's trail.
pub async fn approve(app: &App, caller: &Principal, id: KillDrillId) -> Result<(KillDrill, Progress), Refusal> {
    let who = person(caller)?;
    let mut opened = installation::enter::<ApproveKillDrill>(app, caller, id).await?;
    let object = format!("kill_drill:{id}");
    if let Err(why) = store::kill_drill::approve(&mut opened, who).await? {
        let detail = json!({ "why": why.as_str() });
        opened.commit(Event::new("kill_drill.approval_refused", object).with(detail)).await?;
        tracing::warn!(drill = %id, by = who.0, why = why.as_str(), "a kill drill was not set off");
        count("refused");
        return Err(match why {
            Refused::Unknown => Refusal::NotFound,
            Refused::SamePerson => Refusal::Forbidden,
            Refused::ApproverGone => Refusal::Unauthenticated,
            Refused::Spent => Refusal::Conflict("it was approved before"),
            Refused::Expired => Refusal::Conflict("nobody approved it within a quarter of an hour: propose it again"),
            Refused::ProposerGone => Refusal::Conflict("whoever proposed it is no operator any more: propose it again"),
        });
    }
    let drill = store::kill_drill::get(&mut opened).await?;
    opened.commit(Event::new("kill_drill.approved", object)).await?;
    tracing::warn!(drill = %id, proposed_by = drill.proposed_by, approved_by = who.0, provider = drill.provider, "a kill drill runs");
    count("approved");
    Ok((drill, app.store.lookup.kill_drill_progress(id).await?))
}

/// One drill, and how far it has come.
///
/// # Errors
/// `NotFound`.
pub async fn get(app: &App, caller: &Principal, id: KillDrillId) -> Result<(KillDrill, Progress), Refusal> {
    let drill = read(app, caller, id).await?;
    Ok((drill, app.store.lookup.kill_drill_progress(id).await?))
}

async fn read(app: &App, caller: &Principal, id: KillDrillId) -> Result<KillDrill, Refusal> {
    let mut opened = installation::enter::<ReadKillDrill>(app, caller, id).await?;
    let drill = store::kill_drill::get(&mut opened).await?;
    opened.commit(Event::new("kill_drill.read", format!("kill_drill:{id}"))).await?;
    Ok(drill)
}

/// The newest drills before a given one, newest first.
///
/// # Errors
/// As for any use case.
pub async fn list(
    app: &App,
    caller: &Principal,
    before: Option<KillDrillId>,
    most: i64,
) -> Result<Vec<KillDrill>, Refusal> {
    let mut opened = installation::enter::<ReadInstallation>(app, caller, InstallationId::ONE).await?;
    let drills = store::kill_drill::list(&mut opened, before, most).await?;
    opened.commit(Event::new("kill_drill.listed", installation::reference())).await?;
    Ok(drills)
}

/// The connections of a drill, newest first, before a given one.
///
/// # Errors
/// `NotFound`.
pub async fn connections(
    app: &App,
    caller: &Principal,
    id: KillDrillId,
    before: Option<ConnectionId>,
    most: i64,
) -> Result<Vec<Line>, Refusal> {
    read(app, caller, id).await?;
    let most = i32::try_from(most).unwrap_or(PAGE);
    Ok(app.store.lookup.kill_drill_lines(id, Page::Before(before), most).await?)
}

/// Stops acts on all of a drill's connections in one workspace. Done again, it finds nothing left to do.
pub(crate) async fn stop(app: &App, workspace: WorkspaceId, drill: KillDrillId) -> Result<(), Refusal> {
    let principal = Principal::system(Cause::KillDrill(drill), app.clock.now());
    let scope = app.store.lookup.kill_drill_scope(drill).await?;
    loop {
        let (mut tenant, _) = app.enter::<StopConnections>(&principal, workspace, workspace).await?;
        let stopped = match &scope {
            Some(provider) => {
                let rest = (DISCONNECT, AT_THE_LATEST);
                store::kill_drill::stop_page(&mut tenant, drill, provider.as_deref(), STOPPED_AT_ONCE, rest).await?
            }
            None => 0,
        };
        let is_last = i64::try_from(stopped).is_ok_and(|stopped| stopped < STOPPED_AT_ONCE);
        if is_last {
            store::job::done(&mut tenant, KILL_DRILL, drill).await?;
        }
        let detail = json!({ "kill_drill": drill, "connections": stopped });
        tenant.commit(Event::new("kill_drill.acts_stopped", format!("workspace:{workspace}")).with(detail)).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Moves drills on, for as long as the process lives. A drill that a dead node left is any other's.
pub(crate) async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match drive(&app).await {
            Ok(()) => {}
            Err(error @ Refusal::Unavailable(_)) => tracing::debug!(%error, "kill drills could not be moved on"),
            Err(error) => tracing::error!(%error, "a kill drill could not be moved on and will be tried again"),
        }
    }
}

/// Moves the running drills on, and certifies those that are over.
async fn drive(app: &App) -> Result<(), Refusal> {
    let running = app.store.lookup.drive_kill_drills(PAGE).await?;
    metrics::gauge!("keyholder_kill_drills_running").set(gauge::count(running.len()));
    for (drill, is_over) in running {
        if is_over {
            certify(app, drill).await?;
        }
    }
    Ok(())
}

/// Takes the digest over all that was found, a page at a time, and writes the certificate. Two nodes that do so find the same.
async fn certify(app: &App, id: KillDrillId) -> Result<(), Refusal> {
    let principal = Principal::system(Cause::KillDrill(id), app.clock.now());
    let drill = {
        let mut opened = installation::enter::<FinishKillDrill>(app, &principal, id).await?;
        store::kill_drill::get(&mut opened).await?
    };
    let unfinished = |error| Refusal::internal("a kill drill's certificate", error);
    let acts_stopped_at = drill.acts_stopped_at.ok_or(Refusal::Internal("a drill that is over has stopped", None))?;
    let mut digest = Digest::of(&drill).map_err(unfinished)?;
    let mut after = None;
    loop {
        let lines = app.store.lookup.kill_drill_lines(id, Page::After(after), PAGE).await?;
        for line in &lines {
            digest.add(line).map_err(unfinished)?;
        }
        let Some(last) = lines.last() else { break };
        after = Some(last.connection);
    }
    let counts = digest.counts();
    let certificate = Certificate { counts, acts_stopped_at, ended_at: app.clock.now(), digest: digest.finish() };
    let mut opened = installation::enter::<FinishKillDrill>(app, &principal, id).await?;
    match store::kill_drill::finish(&mut opened, &certificate).await {
        Err(StoreError::NotFound) => return Ok(()),
        written => written?,
    }
    let detail = serde_json::to_value(&certificate).unwrap_or_default();
    opened.commit(Event::new("kill_drill.ended", format!("kill_drill:{id}")).with(detail)).await?;
    tracing::warn!(
        drill = %id,
        connections = counts.connections,
        dead = counts.dead,
        alive = counts.alive,
        refused_to_say = counts.refused_to_say,
        grants_may_live = counts.grants_may_live,
        "a kill drill has ended"
    );
    count("ended");
    Ok(())
}

fn count(event: &'static str) {
    metrics::counter!("keyholder_kill_drills_total", "event" => event).increment(1);
}
