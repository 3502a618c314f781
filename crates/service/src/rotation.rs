//! Rotations in the background: data keys wrapped under the current epoch, and new data keys with everything sealed anew.
//!
//! One node at a time works at a rotation, under a lease; how far it is is in the database, so that another goes on where it ended. It
//! works in short transactions and rests after each for a multiple of the time that it took, so that acts keep their throughput. What
//! somebody else changes meanwhile (a refresh above all) is his: it is looked at again.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use domain::{
    audit::Event,
    id::{DataKeyId, WorkspaceId},
    principal::{Cause, Principal},
};
use relation::{
    Action, Facts,
    action::{Reseal, Rewrap},
    authorize,
};
use seal::{DataKey, Keyring};
use store::{
    Store, StoreError, Tenant,
    rotation::{
        Cursor, Done, Kind, Phase, Standing, Work,
        sealed::{self, Place, SealedValue},
    },
};

use crate::{App, Refusal, chain::Chain, custody::KeyError};

/// How often a node looks whether there is work.
const EVERY: Duration = Duration::from_secs(2);
/// How long a node that did not get on leaves a rotation to the others.
const AWAY: Duration = Duration::from_secs(4);
/// How long the lease holds: far longer than a page and the rest after it.
const TERM: Duration = Duration::from_secs(30);
/// The rest after a page, in multiples of the time that the page took: acts keep all but a sixteenth of one connection's time.
const REST: u32 = 15;
const REST_MIN: Duration = Duration::from_millis(20);
const REST_MAX: Duration = Duration::from_secs(5);
/// The most values of a page, and the most workspaces.
const VALUES: i64 = 64;
const WORKSPACES: i32 = 16;
/// The most statements that look for values within one transaction.
const LOOKS: usize = 8;
/// How long nothing must have been found under an old data key before it is deleted. Nodes seal under a key that they have in memory for a
/// minute after it was superseded; a sealed answer that a node keeps through an outage may come back after days.
pub const GRACE: Duration = Duration::from_hours(7 * 24);

/// What an operator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Begin a rotation.
    Start,
    /// End it after the page at which it is, to be resumed.
    Stop,
    /// Go on.
    Resume,
}

/// Why an order is not followed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// One is under way.
    #[error("such a rotation is under way, or stopped and to be resumed")]
    UnderWay,
    /// There is none.
    #[error("no such rotation is under way")]
    NoneUnderWay,
    /// The database.
    #[error("the database cannot be asked")]
    Store(#[from] StoreError),
}

/// Orders a rotation. The nodes that serve carry it out.
///
/// # Errors
/// `UnderWay`, `NoneUnderWay`; `Store`.
pub async fn order(store: &Store, keyring: &Keyring, kind: Kind, order: Order) -> Result<(), RotationError> {
    let done = match order {
        Order::Start => store.start_rotation(kind, keyring.current().get()).await,
        Order::Stop => store.let_rotation(kind, false).await,
        Order::Resume => store.let_rotation(kind, true).await,
    };
    match done {
        Err(StoreError::Conflict) => Err(RotationError::UnderWay),
        Err(StoreError::NotFound) => Err(RotationError::NoneUnderWay),
        done => Ok(done?),
    }
}

/// How the rotations stand.
///
/// # Errors
/// `Store`.
pub async fn standing(store: &Store) -> Result<Vec<Standing>, RotationError> {
    Ok(store.rotations().await?)
}

/// Works at rotations for as long as the process lives.
pub(crate) async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // A command that is over in a moment takes nothing up: the first tick is at once.
    tick.tick().await;
    loop {
        tick.tick().await;
        if let Err(error) = round(&app).await {
            metrics::counter!("keyholder_rotation_failures_total").increment(1);
            tracing::warn!(error = %Chain(&error), "a rotation did not get on, and will be tried again");
            // What stops this node may not stop another: it has the first turn.
            tokio::time::sleep(AWAY).await;
        }
    }
}

/// Where a page leaves the work.
enum Next {
    GoOn(Phase, Cursor),
    /// Nothing can be done for now.
    Wait,
    End,
}

/// Works at one rotation until it ends, is stopped, or has to wait.
async fn round(app: &App) -> Result<(), Refusal> {
    let wrapping = app.custody.keyring().current().get();
    let Some(mut work) = app.store.claim_rotation(app.node, wrapping, TERM).await? else { return Ok(()) };
    loop {
        let began = app.clock.since_boot();
        let worked = match (work.kind, work.phase) {
            (Kind::Wraps, _) => rewrap_page(app, &work).await,
            (Kind::DataKeys, Phase::Renew) => renew_page(app, &work).await,
            (Kind::DataKeys, Phase::Retire) => retire_page(app, &work).await,
        };
        let (done, next) = match worked {
            Ok(worked) => worked,
            Err(error) => {
                // Another node may have more luck.
                app.store.rest_rotation(&work).await?;
                return Err(error);
            }
        };
        count(work.kind, done);
        let next = match next {
            Next::Wait => return Ok(app.store.rest_rotation(&work).await?),
            Next::GoOn(phase, cursor) => Some((phase, cursor)),
            Next::End => None,
        };
        if !app.store.advance_rotation(&mut work, done, next, TERM).await? {
            tracing::info!(kind = work.kind.as_str(), "a rotation was stopped, or went to another node");
            return Ok(());
        }
        if next.is_none() {
            tracing::info!(kind = work.kind.as_str(), target = work.target, "a rotation has come to its end");
            return Ok(());
        }
        let took = app.clock.since_boot().saturating_sub(began);
        tokio::time::sleep((took * REST).clamp(REST_MIN, REST_MAX)).await;
    }
}

fn count(kind: Kind, done: Done) {
    for (outcome, number) in [
        ("renewed", done.renewed),
        ("overtaken", done.overtaken),
        ("unopened", done.unopened),
        ("deleted_keys", done.deleted_keys),
    ] {
        if let Ok(number @ 1..) = u64::try_from(number) {
            metrics::counter!("keyholder_rotation_total", "kind" => kind.as_str(), "outcome" => outcome)
                .increment(number);
        }
    }
}

/// Enters a workspace for a rotation. What Keyholder does for this cause hangs on no fact, so that none is loaded. Nothing, where the
/// workspace is gone.
async fn enter<A: Action<Object = WorkspaceId>>(
    app: &App,
    workspace: WorkspaceId,
) -> Result<Option<Tenant<A>>, Refusal> {
    let principal = Principal::system(Cause::Rotation, app.clock.now());
    let permit = authorize::<A>(&Facts::none_yet(app.store.model(), workspace), &principal, workspace, &app.clock)?;
    match app.store.enter(permit).await {
        Err(StoreError::NotFound) => Ok(None),
        entered => Ok(Some(entered?)),
    }
}

/// Wraps the keys of the next few workspaces anew.
async fn rewrap_page(app: &App, work: &Work) -> Result<(Done, Next), Refusal> {
    let mut done = Done::default();
    let workspaces = app.store.workspaces_wrapped_before(work.target, work.cursor.workspace, WORKSPACES).await?;
    let Some(last) = workspaces.last().copied() else { return Ok((done, Next::End)) };
    for workspace in workspaces {
        let Some(mut tenant) = enter::<Rewrap>(app, workspace).await? else { continue };
        let mut anew = Vec::new();
        for key in sealed::wrapped_before(&mut tenant, work.target).await? {
            let (id, from) = (key.id, key.epoch);
            match app.custody.rewrap(workspace, key) {
                Ok(key) => anew.push((from, key)),
                Err(error) if error.lacks_its_epoch() => return Err(Refusal::internal("the keyring", error)),
                Err(error) => {
                    done.unopened += 1;
                    tracing::warn!(%workspace, key = %id, epoch = from, error = %Chain(&error), "a data key does not unwrap and stays as it is");
                }
            }
        }
        if !anew.is_empty() {
            let tried = i64::try_from(anew.len()).unwrap_or(i64::MAX);
            let put = i64::try_from(sealed::rewrap(&mut tenant, &anew).await?).unwrap_or(i64::MAX);
            done.renewed += put;
            done.overtaken += tried - put;
        }
        tenant.finish().await?;
    }
    Ok((done, Next::GoOn(work.phase, Cursor { workspace: Some(last), within: None })))
}

/// Goes on in the workspace at which the work is, or in the next few.
async fn renew_page(app: &App, work: &Work) -> Result<(Done, Next), Refusal> {
    let mut done = Done::default();
    let begun = work.cursor.workspace.zip(work.cursor.within);
    let pending: Vec<(WorkspaceId, Place)> = if let Some(begun) = begun {
        vec![begun]
    } else {
        let next = app.store.workspaces_after(work.cursor.workspace, WORKSPACES).await?;
        next.into_iter().map(|workspace| (workspace, Place::BEGINNING)).collect()
    };
    let mut cursor = None;
    for (workspace, place) in pending {
        let within = walk(app, workspace, Some(work.target), place, &mut done).await?;
        cursor = Some(Cursor { workspace: Some(workspace), within });
        if within.is_some() || done.renewed >= VALUES {
            break;
        }
    }
    Ok(match cursor {
        Some(cursor) => (done, Next::GoOn(Phase::Renew, cursor)),
        // Nodes may have sealed under the keys of before for a moment longer: what is left is looked for once more.
        None => (done, Next::GoOn(Phase::Retire, Cursor::default())),
    })
}

/// Looks for what is left under old data keys, and deletes those under which nothing was found for long.
async fn retire_page(app: &App, work: &Work) -> Result<(Done, Next), Refusal> {
    let mut done = Done::default();
    let begun = work.cursor.workspace.zip(work.cursor.within);
    let (workspace, place) = match begun {
        Some(begun) => begun,
        None => match app.store.workspace_with_idle_keys(work.cursor.workspace, GRACE).await? {
            Some((workspace, true)) => (workspace, Place::BEGINNING),
            Some((_, false)) => return Ok((done, Next::Wait)),
            None if work.cursor.workspace.is_none() => return Ok((done, Next::End)),
            // One more round, for what was found in this one.
            None => return Ok((done, Next::GoOn(Phase::Retire, Cursor::default()))),
        },
    };
    let within = walk(app, workspace, None, place, &mut done).await?;
    if within.is_none()
        && let Some(mut tenant) = enter::<Reseal>(app, workspace).await?
    {
        let deleted = sealed::delete_idle(&mut tenant, GRACE).await?;
        done.deleted_keys += i64::try_from(deleted).unwrap_or(i64::MAX);
        match deleted {
            0 => tenant.finish().await?,
            keys => {
                let event = Event::new("data_key.deleted", format!("workspace:{workspace}"));
                tenant.commit(event.with(serde_json::json!({ "keys": keys }))).await?;
            }
        }
    }
    Ok((done, Next::GoOn(Phase::Retire, Cursor { workspace: Some(workspace), within })))
}

/// Seals anew what is sealed in a workspace under another key than the newest, from this place on, in one short transaction. Where to go
/// on, or nothing where the end was reached.
async fn walk(
    app: &App,
    workspace: WorkspaceId,
    generation: Option<i64>,
    mut place: Place,
    done: &mut Done,
) -> Result<Option<Place>, Refusal> {
    let newest = match newest(app, workspace, generation).await? {
        Newest::Key(key) => key,
        Newest::Gone => return Ok(None),
        Newest::Closed => {
            done.unopened += 1;
            tracing::warn!(%workspace, "a workspace whose data key does not open is passed over");
            return Ok(None);
        }
    };
    let Some(mut tenant) = enter::<Reseal>(app, workspace).await? else { return Ok(None) };
    let before = done.renewed;
    let mut finished = false;
    for _ in 0..LOOKS {
        let page = sealed::page(&mut tenant, newest.id(), place, VALUES).await?;
        let moved = reseal(app, &mut tenant, &newest, page.values, done).await?;
        let next = match page.more_after {
            // A page that is full of what does not open would be read again and again.
            Some(after) if moved || place.after != Some(after) => Some(Place { step: place.step, after: Some(after) }),
            _ => place.step.next().map(|step| Place { step, after: None }),
        };
        match next {
            Some(next) => place = next,
            None => finished = true,
        }
        if finished || done.renewed - before >= VALUES {
            break;
        }
    }
    tenant.finish().await?;
    Ok(if finished { None } else { Some(place) })
}

/// The key that seals in a workspace.
enum Newest {
    Key(Arc<DataKey>),
    /// There is no such workspace any more.
    Gone,
    /// It does not open: the workspace is being shredded, or damaged.
    Closed,
}

/// The key that seals in the workspace. With a generation, it is made where there is none of that generation yet.
async fn newest(app: &App, workspace: WorkspaceId, generation: Option<i64>) -> Result<Newest, Refusal> {
    let Some(mut tenant) = enter::<Reseal>(app, workspace).await? else { return Ok(Newest::Gone) };
    let there = match generation {
        Some(generation) => sealed::newest_of_generation(&mut tenant, generation).await?.is_some(),
        None => true,
    };
    match app.custody.key(&mut tenant, None).await {
        Ok(key) if there => {
            tenant.finish().await?;
            return Ok(Newest::Key(key));
        }
        // A workspace whose present key does not open gets no other: it would only hide what is wrong.
        Ok(_) => {}
        Err(KeyError::Closed(error)) if error.lacks_its_epoch() => return Err(Refusal::internal("the keyring", error)),
        Err(KeyError::Closed(_) | KeyError::Store(StoreError::NotFound)) => return Ok(Newest::Closed),
        Err(error) => return Err(error.into()),
    }
    let wrapped = app.custody.first_key(workspace, &app.clock)?;
    match sealed::supersede(&mut tenant, generation.unwrap_or(0), &wrapped).await {
        // Another node was first; its key is as good.
        Err(StoreError::Conflict) => return Err(Refusal::Stale),
        superseded => superseded?,
    }
    let id = wrapped.id;
    tenant.commit(Event::new("data_key.rotated", format!("workspace:{workspace}"))).await?;
    let Some(mut tenant) = enter::<Reseal>(app, workspace).await? else { return Ok(Newest::Gone) };
    let key = app.custody.key(&mut tenant, Some(id)).await?;
    tenant.finish().await?;
    Ok(Newest::Key(key))
}

/// Seals the values of a page anew, and puts them in their places. Whether any of them was.
async fn reseal(
    app: &App,
    tenant: &mut Tenant<Reseal>,
    newest: &DataKey,
    values: Vec<SealedValue>,
    done: &mut Done,
) -> Result<bool, Refusal> {
    if values.is_empty() {
        return Ok(false);
    }
    let (mut found, mut closed) = (BTreeSet::<DataKeyId>::new(), BTreeSet::new());
    let mut anew = Vec::with_capacity(values.len());
    for value in values {
        let resealed = match app.custody.key(tenant, Some(value.key)).await {
            Ok(old) => app.custody.reseal(&old, newest, &value).ok(),
            // This node's keyring is behind. To keep the key for good on that account would be to call damaged what another node opens.
            Err(KeyError::Closed(error)) if error.lacks_its_epoch() => {
                return Err(Refusal::internal("the keyring", error));
            }
            Err(KeyError::Closed(_) | KeyError::Store(StoreError::NotFound)) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(sealed) = resealed {
            found.insert(value.key);
            anew.push((value, sealed));
        } else {
            closed.insert(value.key);
            done.unopened += 1;
        }
    }
    if !closed.is_empty() {
        let workspace = tenant.workspace();
        tracing::warn!(%workspace, keys = closed.len(), "sealed values do not open and stay as they are, under their old keys");
    }
    let tried = i64::try_from(anew.len()).unwrap_or(i64::MAX);
    let put = i64::try_from(sealed::put(tenant, newest.id(), anew).await?).unwrap_or(i64::MAX);
    done.renewed += put;
    done.overtaken += tried - put;
    let list = |keys: BTreeSet<DataKeyId>| keys.into_iter().collect::<Vec<_>>();
    sealed::still_of_use(tenant, &list(found), false).await?;
    sealed::still_of_use(tenant, &list(closed), true).await?;
    Ok(put > 0)
}
