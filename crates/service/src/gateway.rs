//! The corridor: how every act passes, in one direction, from a caller's request to a settled outcome.

mod errand;
mod error;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    act::{IdempotencyKey, Over, SEND_WITHIN, State},
    id::{ActId, MandateId, WorkspaceId},
    principal::Principal,
    provider::Action,
};
use egress::{Auth, Clean, HostSet, RawAnswer, SendError, Stage};
use relation::{
    Permit,
    action::{OpenForAct, Perform, ReadActs},
    authorize,
};
use seal::{Credential, DataKey, Field, Place, Plain};
use serde_json::Value;
use store::{
    StoreError,
    ledger::{Entry, Outcome, Ticket, Verdict},
    snapshot::Snapshot,
};

use errand::{Errand, inspect};
pub use error::ActError;
use error::{is_by_facts, outcome_word};

use crate::{
    App, Refusal, UpstreamFault,
    chain::Chain,
    custody::DoesNotOpen,
    health::{Heard, Leave, LeftAlone},
    kept::Kept,
    oauth, refresh,
    step::Step,
};

/// How long an act asks for new permits while the workspace moves under it: no longer than it might then wait to be sent.
const PATIENCE: Duration = SEND_WITHIN;

/// How often an act may be overtaken by changes of its workspace before it takes a turn among them.
const OVERTAKEN: u32 = 3;

/// What a caller wants done.
#[derive(Debug)]
pub struct Request {
    /// Under which mandate.
    pub mandate: MandateId,
    /// What: named, or to be recognised in a request to the platform's own API.
    pub wish: Wish,
    /// The caller's own name for the request.
    pub key: Option<IdempotencyKey>,
}

/// The two ways to say what is wanted.
#[derive(Debug)]
pub enum Wish {
    /// An action by its name, with its input.
    Named {
        /// The action's name.
        action: String,
        /// Its input.
        input: Value,
    },
    /// A request as a client of the platform's own API would send it.
    Platform {
        /// The method.
        method: String,
        /// The path, as it was sent.
        path: String,
        /// The query, as it was sent.
        query: Option<String>,
        /// The body.
        body: Bytes,
    },
}

/// What became of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The act, where the ledger has one: a read that no budget binds has none.
    pub act: Option<ActId>,
    /// The action's name.
    pub action: String,
    /// The provider's status.
    pub status: u16,
    /// The content type of its body.
    pub content_type: String,
    /// Further headers that may be passed on.
    pub headers: Vec<(String, String)>,
    /// Its scrubbed body.
    pub body: Bytes,
    /// Whether the outcome is written. `false`: it happened, and the ledger could not be told yet.
    pub durable: bool,
    /// Whether this is the answer of an earlier act with the same key.
    pub replayed: bool,
}

/// Walks the corridor. The work goes on to its end though its caller hangs up: what was admitted must be settled.
///
/// # Errors
/// [`ActError`]. Only `Ambiguous` and `Upstream` with an act leave it open whether there was an effect.
pub async fn act(app: &Arc<App>, caller: Principal, request: Request) -> Result<Answer, ActError> {
    let workspace = caller.workspace();
    // On the heap from its beginning: it is large, and would be copied from hand to hand on its way to its task.
    let walk = Box::pin(walk(Arc::clone(app), caller, request));
    let answer = app.tasks.finish(walk).await.map_err(Refusal::from)?;
    let outcome = match &answer {
        Ok(answer) if answer.replayed => "replayed",
        Ok(_) => "answered",
        Err(error) => outcome_word(error),
    };
    // A probe's refusals are meant, and are nobody's alarm.
    let meant = match workspace.filter(|_| answer.is_err()) {
        Some(workspace) => app.store.snapshots.is_probes_own(workspace).await,
        None => false,
    };
    if !meant {
        metrics::counter!("keyholder_acts_total", "outcome" => outcome).increment(1);
    }
    answer
}

async fn walk(app: Arc<App>, caller: Principal, request: Request) -> Result<Answer, ActError> {
    let give_up = app.clock.since_boot() + PATIENCE;
    let (mut overtaken, mut turn) = (0, None);
    // Whoever has a turn has waited for it, and goes once more.
    while turn.is_some() || app.clock.since_boot() < give_up {
        let workspace = enter(&app, &caller).await?;
        let allowed = permit(&app, &caller, &workspace, request.mandate)
            .and_then(|permits| Ok((permits, inspect(&app, &workspace, &request)?)));
        let (permits, errand) = match allowed {
            Err(error) if is_by_facts(&error) && !is_current(&app, &workspace).await? => continue,
            allowed => allowed?,
        };
        let leave = match errand.enter_platform(&app) {
            Ok(leave) => leave,
            Err(left) => return left_alone(&app, &caller, permits.perform, &errand, left).await,
        };
        // Whoever has a turn has been here before; and no platform is waited for while others wait for it.
        if turn.is_none() {
            refresh::ensure(&app, permits.perform.workspace(), errand.mandate.connection).await?;
        }
        let seals = answer_key(&app, permits.perform.workspace(), &errand).await?;
        let mut ours = turn.take();
        match admit(&app, permits.perform, &errand).await? {
            Passage::Open(ticket) => {
                if ticket.is_some() {
                    drop(ours.take());
                }
                let opened = open(&app, permits.open, ticket.as_ref()).await;
                drop(ours);
                if ticket.is_some() || !is_stale(&app, &workspace, &opened).await? {
                    let delivered = deliver(&app, &errand, opened, ticket.as_ref(), leave).await;
                    return settle(&app, &errand, ticket, seals, delivered).await;
                }
                drop(leave);
            }
            Passage::Replay(act) => {
                drop((leave, ours));
                match replay(&app, &caller, &errand, act).await? {
                    Some(answer) => return Ok(answer),
                    None => continue,
                }
            }
            // Nothing is called for a while: a probe's slot is another's.
            Passage::Stale => drop((leave, ours)),
        }
        metrics::counter!("keyholder_stale_total").increment(1);
        app.store.snapshots.forget(&workspace).await;
        overtaken += 1;
        if overtaken >= OVERTAKEN && app.clock.since_boot() < give_up {
            turn = app.turn(workspace.facts.workspace()).await;
        }
    }
    Err(Refusal::Stale.into())
}

/// Whether a credential was not opened because the permit's facts are no longer the database's: one that is gone may have gone with them.
async fn is_stale(
    app: &App,
    workspace: &Snapshot,
    opened: &Result<(Credential, i64), ActError>,
) -> Result<bool, ActError> {
    match opened {
        Err(ActError::Refused(Refusal::Stale)) => Ok(true),
        Err(ActError::CredentialUnavailable(_)) => Ok(!is_current(app, workspace).await?),
        _ => Ok(false),
    }
}

/// Whether the facts that an act is about to be refused by are the database's own: what has just been allowed, here or at another
/// node, may not have been heard of yet.
async fn is_current(app: &App, workspace: &Snapshot) -> Result<bool, ActError> {
    Ok(app.store.snapshots.newer(workspace).await?.is_none())
}

/// Act, scrub: from an opened credential to an answer that may be shown. Nothing is shown, and nothing written, before the end.
async fn deliver(
    app: &App,
    errand: &Errand<'_>,
    opened: Result<(Credential, i64), ActError>,
    ticket: Option<&Ticket>,
    leave: Leave<'_>,
) -> Result<Clean, Undelivered> {
    let (credential, version) = opened.map_err(Undelivered::Unopened)?;
    let raw = send(app, errand, credential, ticket, leave).await?;
    if raw.status == http::StatusCode::UNAUTHORIZED {
        refresh::refused(app, errand.mandate.connection, version).await;
    }
    Ok(scrub(app, errand, raw))
}

/// Membership, then the workspace's facts. A stranger learns nothing, and loads nothing.
async fn enter(app: &App, caller: &Principal) -> Result<Arc<Snapshot>, ActError> {
    let workspace = app.workspace_of(caller).await?;
    app.step(Step::Enter);
    Ok(workspace)
}

/// The two permits of an act, minted from the same facts: to perform it, and to open the credential once it is admitted.
struct Permits {
    perform: Permit<Perform>,
    open: Permit<OpenForAct>,
}

fn permit(app: &App, caller: &Principal, workspace: &Snapshot, mandate: MandateId) -> Result<Permits, ActError> {
    let perform = authorize::<Perform>(&workspace.facts, caller, mandate, &app.clock).map_err(Refusal::from)?;
    let open = authorize::<OpenForAct>(&workspace.facts, caller, mandate, &app.clock).map_err(Refusal::from)?;
    app.step(Step::Permit);
    Ok(Permits { perform, open })
}

enum Passage {
    /// The act may be sent; a read that nothing binds needs no ticket.
    Open(Option<Ticket>),
    Replay(ActId),
    Stale,
}

/// What a platform's health keeps from being sent is still answered where it was sent before: a retry must not lose the answer that it
/// waits for. The ledger is asked for the key alone, and takes nothing.
async fn left_alone(
    app: &App,
    caller: &Principal,
    permit: Permit<Perform>,
    errand: &Errand<'_>,
    left: LeftAlone,
) -> Result<Answer, ActError> {
    if errand.key.is_some() {
        match app.store.ledger.recall(entry(app, permit, errand)).await? {
            Verdict::Replay(act) => {
                if let Some(answer) = replay(app, caller, errand, act).await? {
                    return Ok(answer);
                }
            }
            Verdict::Conflict => return Err(ActError::KeyReused),
            _ => {}
        }
    }
    Err(left.into())
}

fn entry(app: &App, permit: Permit<Perform>, errand: &Errand<'_>) -> Entry {
    Entry {
        permit,
        act: ActId::new(&app.clock),
        connection: errand.mandate.connection,
        action: errand.action().name.clone(),
        effect: errand.action().effect.as_str(),
        key: errand.key.clone(),
        request_hash: errand.hash,
        timeout: Duration::from_millis(errand.to.provider.limits.timeout_ms),
        units: errand.units.clone(),
    }
}

async fn admit(app: &App, permit: Permit<Perform>, errand: &Errand<'_>) -> Result<Passage, ActError> {
    if !errand.is_metered() {
        return Ok(Passage::Open(None));
    }
    app.step(Step::Admit);
    match app.store.ledger.admit(entry(app, permit, errand)).await? {
        Verdict::Admitted(ticket) => Ok(Passage::Open(Some(ticket))),
        Verdict::Replay(act) => Ok(Passage::Replay(act)),
        Verdict::Conflict => Err(ActError::KeyReused),
        Verdict::Stale => Ok(Passage::Stale),
        Verdict::Over { budget, remaining, resets_at } => {
            let known = errand.limits.iter().find(|known| known.id == budget);
            let known = known.ok_or(Refusal::Internal("the ledger refused for a budget that was not asked", None))?;
            let wanted =
                errand.wanted.iter().find(|(unit, _)| *unit == known.limit.unit).map_or(0, |(_, units)| *units);
            let scope = known.scope.kind();
            Err(ActError::Over(Box::new(Over { scope, limit: known.limit, remaining, wanted, resets_at })))
        }
    }
}

/// Why there is nothing to show.
enum Undelivered {
    Unopened(ActError),
    Failed(SendError),
}

/// Unseals the credential for this one call, and says which version it is.
///
/// What the ledger admitted may finish though its mandate was revoked since. What passed without the ledger is judged here by the facts
/// as they are now: `Refusal::Stale` where they are not those in memory.
async fn open(app: &App, permit: Permit<OpenForAct>, ticket: Option<&Ticket>) -> Result<(Credential, i64), ActError> {
    app.step(Step::Open);
    let workspace = permit.workspace();
    let found = app.store.opener.credential(permit).await.map_err(|error| match error {
        StoreError::NotFound => ActError::CredentialUnavailable(DoesNotOpen::gone()),
        error => error.into(),
    })?;
    if ticket.is_none() && !found.is_current && !domain::sabotaged!(StaleReads) {
        return Err(Refusal::Stale.into());
    }
    let key = app.custody.unwrap(workspace, found.key).await.map_err(ActError::CredentialUnavailable)?;
    let opened = app.custody.open_credential(&key, &found.stored, Field::Access);
    Ok((opened.map_err(ActError::CredentialUnavailable)?, found.stored.version))
}

/// Sends the call, rendered anew from the parsed input, to hosts that are both sealed and declared.
async fn send(
    app: &App,
    errand: &Errand<'_>,
    credential: Credential,
    ticket: Option<&Ticket>,
    leave: Leave<'_>,
) -> Result<RawAnswer, Undelivered> {
    // What the ledger did not admit has no such limit: its call's own time limit covers the wait for its turn.
    let send_by = ticket.map(Ticket::send_by);
    let malformed = || Undelivered::Failed(SendError::Malformed("it cannot be rendered"));
    let mut call = oauth::outbound(&errand.to.provider, errand.input.render(), send_by).ok_or_else(malformed)?;
    call.account = Some(errand.mandate.connection);
    let hosts = HostSet::parse(&credential.hosts).map_err(|_| Undelivered::Failed(SendError::HostRefused))?;
    app.step(Step::Act);
    let sent = errand.to.egress.send(call, Auth::Bearer(credential.secret), &hosts).await;
    let reset_header = errand.to.provider.limits.reset_header.as_deref();
    leave.tell(&errand.action().name, Heard::from(sent.as_ref(), reset_header, app.clock.now()));
    sent.map_err(Undelivered::Failed)
}

/// Searches the answer for the credential before anyone sees it.
fn scrub(app: &App, errand: &Errand<'_>, raw: RawAnswer) -> Clean {
    app.step(Step::Scrub);
    let clean = raw.scrub();
    if clean.hits() > 0 {
        let (provider, action) = (errand.to.provider.name.clone(), errand.action().name.clone());
        tracing::warn!(
            provider,
            action,
            hits = clean.hits(),
            "a provider's answer held the credential; it was removed"
        );
        metrics::counter!("keyholder_scrubbed_total", "provider" => provider, "action" => action).increment(1);
    }
    clean
}

/// Writes the outcome, and waits for it.
async fn settle(
    app: &App,
    errand: &Errand<'_>,
    ticket: Option<Ticket>,
    seals: Option<Arc<DataKey>>,
    delivered: Result<Clean, Undelivered>,
) -> Result<Answer, ActError> {
    app.step(Step::Settle);
    let act = ticket.as_ref().map(Ticket::act);
    match delivered {
        Ok(clean) => {
            let kept = kept(&clean);
            let durable = match ticket {
                Some(ticket) => {
                    let answer = seal_answer(app, &ticket, seals.as_deref(), &kept);
                    let used = errand.used(&kept.body);
                    let outcome = Outcome::Settled { status: kept.status, answer, used };
                    app.store.ledger.settle(ticket, outcome).await.unwrap_or(false)
                }
                None => true,
            };
            Ok(answer(act, errand.action(), kept, durable, false))
        }
        Err(Undelivered::Unopened(error)) => {
            end(app, ticket, Outcome::NotSent).await;
            Err(error)
        }
        Err(Undelivered::Failed(error)) => {
            let unsent = error.is_surely_unsent();
            let outcome = match error.status() {
                // The provider did answer; that its answer cannot be passed on does not make the effect doubtful.
                Some(status) => Outcome::Settled { status: status.as_u16(), answer: None, used: Vec::new() },
                None if unsent => Outcome::NotSent,
                None => Outcome::Ambiguous,
            };
            let act = act.filter(|_| !unsent);
            tracing::warn!(provider = errand.to.provider.name, error = %Chain(&error), "a call failed");
            end(app, ticket, outcome).await;
            let stage = error.stage().map(Stage::as_str);
            Err(ActError::Upstream { fault: UpstreamFault::of(&error), stage, act })
        }
    }
}

async fn end(app: &App, ticket: Option<Ticket>, outcome: Outcome) {
    if let Some(ticket) = ticket {
        let act = ticket.act();
        if let Err(error) = app.store.ledger.settle(ticket, outcome).await {
            tracing::warn!(%act, %error, "an act's outcome was not written yet");
        }
    }
}

/// The key that will seal the answer, where one is to be kept. It is at hand before the act is admitted: a database that is lost after
/// that must not cost the answer, which no retry would bring back.
async fn answer_key(app: &App, workspace: WorkspaceId, errand: &Errand<'_>) -> Result<Option<Arc<DataKey>>, ActError> {
    if errand.key.is_none() {
        return Ok(None);
    }
    match app.custody.sealing_key(app, workspace).await {
        Ok(key) => Ok(Some(key)),
        Err(Refusal::Unavailable(cause)) => Err(Refusal::Unavailable(cause).into()),
        // A key that does not open is the credential's fault to tell.
        Err(_) => Ok(None),
    }
}

/// The scrubbed answer, sealed for a replay; nothing, where sealing fails: the act is settled all the same.
fn seal_answer(
    app: &App,
    ticket: &Ticket,
    key: Option<&DataKey>,
    kept: &Kept,
) -> Option<(Vec<u8>, domain::id::DataKeyId)> {
    let key = key?;
    let place = Place::Answer { act: ticket.act() };
    let sealed = app.custody.seal(key, place, Plain::new(kept.encode()?)).ok()?;
    Some((sealed, key.id()))
}

/// Answers as the first act with this key was answered, to somebody who may still read that act.
///
/// Nothing, where that act turned out unsent since the ledger knew its key: then the key is free again.
async fn replay(app: &App, caller: &Principal, errand: &Errand<'_>, act: ActId) -> Result<Option<Answer>, ActError> {
    let workspace = caller.workspace().ok_or(Refusal::NotFound)?;
    let (mut tenant, _) = app.enter::<ReadActs>(caller, workspace, workspace).await?;
    let first = store::act::get(&mut tenant, act).await?;
    if first.principal != caller.reference() {
        return Err(Refusal::NotFound.into());
    }
    match first.state {
        State::Admitted => return Err(ActError::InProgress(act)),
        State::Ambiguous => return Err(ActError::Ambiguous(act)),
        State::NotSent => return Ok(None),
        State::Settled => {}
    }
    let kept = store::act::kept_answer(&mut tenant, act).await?.ok_or(ActError::NotKept(act))?;
    let key = app.custody.key(&mut tenant, Some(kept.key)).await.map_err(Refusal::from)?;
    tenant.finish().await?;
    let plain = app.custody.open(&key, Place::Answer { act }, kept.sealed).map_err(ActError::CredentialUnavailable)?;
    let kept = Kept::decode(&plain.into_exposed()).ok_or(Refusal::Internal("a kept answer", None))?;
    Ok(Some(answer(Some(act), errand.action(), kept, true, true)))
}

fn kept(clean: &Clean) -> Kept {
    let content_type = clean.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Kept {
        status: clean.status().as_u16(),
        content_type: content_type.unwrap_or("application/octet-stream").to_owned(),
        headers: headers(clean),
        body: clean.body().clone(),
    }
}

fn headers(clean: &Clean) -> Vec<(String, String)> {
    let texts = clean.headers().iter().filter(|(name, _)| **name != http::header::CONTENT_TYPE);
    texts.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}

fn answer(act: Option<ActId>, action: &Action, kept: Kept, durable: bool, replayed: bool) -> Answer {
    let Kept { status, content_type, headers, body } = kept;
    Answer { act, action: action.name.clone(), status, content_type, headers, body, durable, replayed }
}

/// The workspace in which a principal acts.
pub(crate) fn workspace_of(principal: &Principal) -> Result<WorkspaceId, Refusal> {
    principal.workspace().ok_or(Refusal::NotFound)
}
