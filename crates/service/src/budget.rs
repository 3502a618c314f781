//! Budgets of a workspace, its principals and its connections. A mandate's own come with the mandate.

use domain::{
    audit::Event,
    budget::{Limit, MOST_CAP, Scope},
    id::BudgetId,
    principal::Principal,
};
use relation::{
    action::{ManageBudgets, ReadAllBudgets, ReadBudgets, ReadConnection, ReadMandate},
    authorize,
};
use serde_json::json;
use store::budget::Standing;

use crate::{App, Refusal, gateway::workspace_of};

/// Sets what a scope may use of a unit in a period. Binds from the next admission on.
///
/// # Errors
/// `Invalid` for a scope that is not there, or a mandate's.
pub async fn set(app: &App, caller: &Principal, scope: Scope, limit: Limit) -> Result<(), Refusal> {
    let workspace = workspace_of(caller)?;
    if limit.cap > MOST_CAP {
        return Err(Refusal::invalid("/cap", "is at most 9007199254740992"));
    }
    let (mut tenant, snapshot) = app.enter::<ManageBudgets>(caller, workspace, workspace).await?;
    let known = match &scope {
        Scope::Workspace => true,
        Scope::Connection(id) => snapshot.connection(*id).is_some(),
        Scope::Principal(who) => snapshot.keys.iter().any(|(key, _)| *who == format!("api_key:{key}")),
        Scope::Mandate(_) | Scope::Installation => {
            return Err(Refusal::invalid("/scope", "is one of workspace, principal, connection"));
        }
    };
    if !known {
        return Err(Refusal::invalid("/subject", "is not in this workspace"));
    }
    store::budget::set(&mut tenant, BudgetId::new(&app.clock), &scope, limit).await?;
    let detail = json!({ "scope": scope.kind(), "unit": limit.unit, "per": limit.per, "cap": limit.cap });
    tenant.commit(Event::new("budget.set", format!("workspace:{workspace}")).with(detail)).await?;
    Ok(())
}

/// Removes a budget of the workspace.
///
/// # Errors
/// `NotFound`.
pub async fn remove(app: &App, caller: &Principal, budget: BudgetId) -> Result<(), Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<ManageBudgets>(caller, workspace, workspace).await?;
    let known = snapshot.budgets.iter().find(|known| known.id == budget).ok_or(Refusal::NotFound)?;
    if matches!(known.scope, Scope::Mandate(_) | Scope::Installation) {
        return Err(Refusal::Conflict("a mandate's budget ends with the mandate"));
    }
    store::budget::remove(&mut tenant, budget).await?;
    tenant.commit(Event::new("budget.removed", format!("budget:{budget}"))).await?;
    Ok(())
}

/// The workspace's budgets that concern the caller, with what is used of them: who looks after the workspace sees all,
/// anybody else none that names a mandate or a connection of which it may not know, or another principal.
///
/// # Errors
/// As for any use case.
pub async fn list(app: &App, caller: &Principal) -> Result<Vec<Standing>, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<ReadBudgets>(caller, workspace, workspace).await?;
    let mut budgets = store::budget::list(&mut tenant).await?;
    tenant.finish().await?;
    let (facts, clock) = (&snapshot.facts, &app.clock);
    if authorize::<ReadAllBudgets>(facts, caller, workspace, clock).is_err() {
        budgets.retain(|budget| match &budget.scope {
            Scope::Mandate(id) => authorize::<ReadMandate>(facts, caller, *id, clock).is_ok(),
            Scope::Connection(id) => authorize::<ReadConnection>(facts, caller, *id, clock).is_ok(),
            Scope::Principal(who) => *who == caller.reference(),
            Scope::Workspace | Scope::Installation => true,
        });
    }
    Ok(budgets)
}
