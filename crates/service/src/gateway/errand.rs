//! Errands: what a request comes to, once mandate, action and input have been understood.

use std::sync::Arc;

use domain::{
    act::IdempotencyKey,
    budget::{Budget, Scope, Unit},
    connection::State,
    id::BudgetId,
    mandate::Mandate,
    problem::Fault,
    provider::{Action, Effect, ValidInput},
};
use serde_json::Value;
use store::snapshot::Snapshot;

use super::{ActError, Request, Wish};
use crate::{
    App, Refusal,
    health::{Leave, LeftAlone},
    providers::Reachable,
    step::Step,
};

/// An act as it was understood: what is to be done, by whose leave, and what it takes.
pub(super) struct Errand<'a> {
    pub(super) to: &'a Reachable,
    pub(super) mandate: Mandate,
    pub(super) input: ValidInput,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) hash: [u8; 32],
    pub(super) units: Vec<(BudgetId, u64)>,
    pub(super) wanted: Vec<(Unit, u64)>,
    pub(super) limits: Vec<Budget>,
}

impl<'a> Errand<'a> {
    pub(super) fn action(&self) -> &Action {
        self.input.action()
    }

    /// What the act has really used of its budgets, as its answer says; the others it used as it reserved.
    pub(super) fn used(&self, body: &[u8]) -> Vec<(BudgetId, u64)> {
        let used = self.action().used(body);
        for (unit, units) in &used {
            let reserved = self.wanted.iter().find(|(wanted, _)| wanted == unit).map_or(0, |(_, units)| *units);
            if *units > reserved {
                let (provider, action) = (self.to.provider.name.clone(), self.action().name.clone());
                tracing::warn!(provider, action, %unit, reserved, used = units, "an act used more than its provider file declares");
                metrics::counter!("keyholder_over_declared_total", "provider" => provider, "action" => action)
                    .increment(1);
            }
        }
        let of = |budget: &Budget| used.iter().find(|(unit, _)| *unit == budget.limit.unit);
        self.limits.iter().filter_map(|budget| Some((budget.id, of(budget)?.1))).collect()
    }

    /// The leave to call the platform, or why it is left alone. Asked before anything is taken.
    pub(super) fn enter_platform(&self, app: &'a App) -> Result<Leave<'a>, LeftAlone> {
        app.health.enter(&self.to.provider.name, self.mandate.connection, &self.action().name)
    }

    /// Whether the ledger must know of it: whatever has an effect, a key, or a budget.
    pub(super) fn is_metered(&self) -> bool {
        self.action().effect != Effect::Read || self.key.is_some() || !self.units.is_empty()
    }
}

/// The mandate's terms, then the action's schema, then the mandate's conditions on the input.
pub(super) fn inspect<'a>(app: &'a App, workspace: &Snapshot, request: &Request) -> Result<Errand<'a>, ActError> {
    let now = app.clock.now();
    let outside = |why: &str| ActError::OutsideMandate(why.to_owned());
    let mandate = workspace.mandate(request.mandate).ok_or_else(|| outside("it was revoked"))?;
    if mandate.expires_at.is_some_and(|end| end <= now) {
        return Err(outside("it has expired"));
    }
    let connection = workspace.connection(mandate.connection).ok_or_else(|| outside("its connection is gone"))?;
    match connection.state {
        State::Active => {}
        State::ReconnectRequired => return Err(ActError::ReconnectRequired),
        _ => return Err(outside("its connection is not in use")),
    }
    let to = app.providers.going(&connection.provider)?;
    let (action, input) = understand(to, &request.wish)?;
    // The owner's ceiling may have sunk since the mandate was made: both must allow it.
    if !mandate.actions.contains(&action.name) || !connection.ceiling.contains(&action.name) {
        return Err(ActError::OutsideMandate(format!("it does not allow `{}`", action.name)));
    }
    let input = Action::validate(&action, &input).map_err(|faults| {
        let prefix = if matches!(request.wish, Wish::Named { .. }) { "/input" } else { "" };
        let faults = faults.into_iter().map(|fault| Fault::at(format!("{prefix}{}", fault.pointer), fault.message));
        Refusal::Invalid(faults.collect())
    })?;
    if let Some(why) = mandate.conditions.broken_by(now, &input.to_value()) {
        return Err(ActError::OutsideMandate(why));
    }
    if action.effect != Effect::Read && request.key.is_none() {
        return Err(ActError::KeyRequired);
    }
    let wanted = wanted(&input);
    let units = units(workspace, mandate, &wanted);
    app.step(Step::Inspect);
    // What tells one request from another under the same key.
    let mandate_name = mandate.id.to_string();
    Ok(Errand {
        to,
        hash: app.custody.digest(&[mandate_name.as_bytes(), action.name.as_bytes(), &input.canonical()]),
        mandate: mandate.clone(),
        key: request.key.clone(),
        limits: workspace
            .budgets
            .iter()
            .filter(|budget| units.iter().any(|(id, _)| *id == budget.id))
            .cloned()
            .collect(),
        units,
        wanted,
        input,
    })
}

fn understand(to: &Reachable, wish: &Wish) -> Result<(Arc<Action>, Value), ActError> {
    match wish {
        Wish::Named { action, input } => {
            let known = to.provider.action(action);
            let action =
                known.ok_or_else(|| ActError::OutsideMandate(format!("the provider has no action `{action}`")))?;
            Ok((Arc::clone(action), input.clone()))
        }
        Wish::Platform { method, path, query, body } => {
            let body = (!body.is_empty()).then_some(body.as_ref());
            let (action, input) =
                to.provider.recognise(method, path, query.as_deref(), body).map_err(ActError::NotAnAction)?;
            Ok((Arc::clone(action), input))
        }
    }
}

/// Every act is one act; the action's file says what else it takes.
fn wanted(input: &ValidInput) -> Vec<(Unit, u64)> {
    let mut wanted = input.units();
    if !wanted.iter().any(|(unit, _)| *unit == Unit::Acts) {
        wanted.push((Unit::Acts, 1));
    }
    // What reserves nothing may still turn out to have used something.
    wanted.retain(|(unit, units)| *units > 0 || input.action().used.contains_key(unit));
    wanted
}

/// What the act takes from each budget that binds it, all ranks of the hierarchy.
fn units(workspace: &Snapshot, mandate: &Mandate, wanted: &[(Unit, u64)]) -> Vec<(BudgetId, u64)> {
    let binds = |scope: &Scope| match scope {
        Scope::Mandate(id) => *id == mandate.id && !domain::sabotaged!(DailyQuotas),
        Scope::Connection(id) => *id == mandate.connection,
        Scope::Principal(who) => *who == mandate.grantee && !domain::sabotaged!(KeyBudgets),
        Scope::Workspace | Scope::Installation => true,
    };
    workspace
        .budgets
        .iter()
        .filter(|budget| binds(&budget.scope))
        .filter_map(|budget| {
            let (_, units) = wanted.iter().find(|(unit, _)| *unit == budget.limit.unit)?;
            Some((budget.id, *units))
        })
        .collect()
}
