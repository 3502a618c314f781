//! Mandates: made within the owner's ceiling, read by those concerned, ended at once.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    act,
    audit::Event,
    budget::{MOST_CAP, Scope},
    connection::State,
    id::{ActId, BudgetId, MandateId, WorkspaceId},
    mandate::{Mandate, Terms},
    principal::Principal,
    problem::Fault,
};
use relation::{
    action::{CreateMandate, ReadActs, ReadMandate, RevokeMandate},
    authorize,
};
use serde_json::json;
use store::snapshot::Snapshot;

use crate::{App, Refusal, gateway::workspace_of};

/// How long a revocation that waits rests before it asks for the first time; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What a mandate may ask for, in full.
#[derive(Debug)]
pub struct Wanted {
    /// Its terms.
    pub terms: Terms,
    /// Whether it asks for a guard policy.
    pub guard: bool,
    /// Whether it asks for approval of acts.
    pub approval: bool,
}

/// What a revocation found: the acts that were admitted before it. No other act reaches the provider.
#[derive(Debug)]
pub struct Revoked {
    /// Those that are still on their way.
    pub in_flight: Vec<ActId>,
    /// Those that ended while the revocation waited, and how.
    pub ended: Vec<(ActId, act::State)>,
}

/// Makes a mandate.
///
/// # Errors
/// `Unsupported` for a guard policy or an approval rule: neither is there yet, and neither is ignored. `Invalid` for terms that
/// are wrong or wider than the owner's ceiling.
pub async fn create(app: &App, caller: &Principal, wanted: Wanted) -> Result<Mandate, Refusal> {
    if wanted.guard {
        return Err(Refusal::Unsupported("a guard policy"));
    }
    if wanted.approval {
        return Err(Refusal::Unsupported("an approval rule"));
    }
    let mut terms = wanted.terms;
    terms.actions = App::sorted(&terms.actions);
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<CreateMandate>(caller, workspace, terms.connection).await?;
    check(app, &snapshot, &terms)?;
    let (id, now) = (MandateId::new(&app.clock), app.clock.now());
    store::mandate::create(&mut tenant, id, &terms, now).await?;
    for limit in &terms.limits {
        store::budget::set(&mut tenant, BudgetId::new(&app.clock), &Scope::Mandate(id), *limit).await?;
    }
    let detail = json!({ "connection": terms.connection, "grantee": terms.grantee, "actions": terms.actions, "limits": terms.limits });
    tenant.commit(Event::new("mandate.created", format!("mandate:{id}")).with(detail)).await?;
    let Terms { connection, grantee, actions, conditions, expires_at, .. } = terms;
    Ok(Mandate { id, connection, grantee, actions, conditions, expires_at, revoked_at: None, created_at: now })
}

fn check(app: &App, snapshot: &Snapshot, terms: &Terms) -> Result<(), Refusal> {
    let connection = snapshot.connection(terms.connection).ok_or(Refusal::NotFound)?;
    if connection.state != State::Active {
        return Err(Refusal::Conflict("the connection is not in use"));
    }
    let to = app.providers.get(&connection.provider).ok_or(Refusal::Unavailable(None))?;
    let mut faults = Vec::new();
    if !(1..=100).contains(&terms.actions.len()) {
        faults.push(Fault::at("/actions", "has 1 to 100 actions"));
    }
    for action in &terms.actions {
        if !connection.ceiling.contains(action) {
            faults.push(Fault::at("/actions", format!("`{action}` is not among what the owner allowed")));
        }
    }
    if !snapshot.keys.iter().any(|(key, _)| terms.grantee == format!("api_key:{key}")) {
        faults.push(Fault::at("/grantee", "is not a key of this workspace"));
    } else if !may_act(snapshot, &terms.grantee) {
        faults.push(Fault::at("/grantee", "is a key whose role does not act"));
    }
    if terms.expires_at.is_some_and(|end| end <= app.clock.now()) {
        faults.push(Fault::at("/expires_at", "lies in the past"));
    }
    let mut seen = BTreeSet::new();
    for (place, limit) in terms.limits.iter().enumerate() {
        if !seen.insert((limit.unit, limit.per)) {
            faults.push(Fault::at(format!("/limits/{place}"), "repeats a unit and period"));
        }
        if limit.cap > MOST_CAP {
            faults.push(Fault::at(format!("/limits/{place}/cap"), "is at most 9007199254740992"));
        }
    }
    if terms.limits.len() > 16 {
        faults.push(Fault::at("/limits", "has at most 16 limits"));
    }
    for (field, condition) in &terms.conditions.fields {
        let there = terms
            .actions
            .iter()
            .filter_map(|action| to.provider.action(action))
            .any(|action| action.input.contains_key(field));
        if !there {
            faults.push(Fault::at(format!("/conditions/fields/{field}"), "none of the actions has this field"));
        }
        if condition.allowed.as_ref().is_some_and(|allowed| allowed.len() > 1000) {
            faults.push(Fault::at(format!("/conditions/fields/{field}/allowed"), "has at most 1000 values"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Refusal::Invalid(faults)) }
}

/// Whether the role of a grantee lets it act at all: a mandate that nobody could use is refused before it is made.
fn may_act(snapshot: &Snapshot, grantee: &str) -> bool {
    let workspace = format!("workspace:{}", snapshot.facts.workspace());
    snapshot.facts.check(&workspace, "actor", grantee).unwrap_or(false)
}

/// One mandate that is not revoked.
///
/// # Errors
/// `NotFound`.
pub async fn get(app: &App, caller: &Principal, id: MandateId) -> Result<Mandate, Refusal> {
    let (_, snapshot) = app.permit::<ReadMandate>(caller, workspace_of(caller)?, id).await?;
    snapshot.mandate(id).cloned().ok_or(Refusal::NotFound)
}

/// The mandates that the caller may know of, newest first, after a given one.
///
/// # Errors
/// As for any use case.
pub async fn list(
    app: &App,
    caller: &Principal,
    before: Option<MandateId>,
    most: usize,
) -> Result<Vec<Mandate>, Refusal> {
    let snapshot = app.workspace_of(caller).await?;
    let visible =
        |mandate: &&Mandate| authorize::<ReadMandate>(&snapshot.facts, caller, mandate.id, &app.clock).is_ok();
    let mut mandates: Vec<_> = snapshot.mandates.iter().filter(visible).cloned().collect();
    mandates.sort_by_key(|mandate| std::cmp::Reverse(mandate.id));
    Ok(mandates.into_iter().filter(|mandate| before.is_none_or(|before| mandate.id < before)).take(most).collect())
}

/// Ends a mandate. No act is admitted under it once this has committed; those that were admitted before are named. With `wait` it returns
/// only when they have ended, or the time is up.
///
/// # Errors
/// `NotFound`. Once the mandate is ended, nothing of the wait is an error: what could not be asked is still on its way.
pub async fn revoke(app: &App, caller: &Principal, id: MandateId, wait: Option<Duration>) -> Result<Revoked, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<RevokeMandate>(caller, workspace, id).await?;
    store::mandate::revoke(&mut tenant, app.clock.now()).await?;
    let admitted = store::act::in_flight(&mut tenant).await?;
    let detail = json!({ "in_flight": admitted });
    tenant.commit(Event::new("mandate.revoked", format!("mandate:{id}")).with(detail)).await?;
    let mut revoked = Revoked { in_flight: admitted, ended: Vec::new() };
    let give_up = app.clock.since_boot() + wait.unwrap_or_default();
    let mut pause = FIRST_PAUSE;
    while !revoked.in_flight.is_empty() && app.clock.since_boot() < give_up {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match states(app, caller, workspace, &revoked.in_flight).await {
            Ok(states) => {
                let is_ended = |(_, state): &(ActId, act::State)| *state != act::State::Admitted;
                let (ended, on_their_way): (Vec<_>, Vec<_>) = states.into_iter().partition(is_ended);
                revoked.ended.extend(ended);
                revoked.in_flight = on_their_way.into_iter().map(|(act, _)| act).collect();
            }
            Err(error) => tracing::debug!(mandate = %id, %error, "it cannot be told which acts have ended"),
        }
    }
    Ok(revoked)
}

async fn states(
    app: &App,
    caller: &Principal,
    workspace: WorkspaceId,
    acts: &[ActId],
) -> Result<Vec<(ActId, act::State)>, Refusal> {
    let (mut tenant, _) = app.enter::<ReadActs>(caller, workspace, workspace).await?;
    let states = store::act::states(&mut tenant, acts).await?;
    tenant.finish().await?;
    Ok(states)
}
