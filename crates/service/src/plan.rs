//! Plans: which one a workspace has, what it opens, and how it gets another.
//!
//! What is configured is the store's to lay beside a workspace's facts; whether a feature is open is asked of those facts, as every
//! permission is, so that a downgrade closes on every node with the revision that it raises.

use domain::{audit::Event, id::WorkspaceId, principal::Principal};
use relation::{
    Facts,
    action::{ReadPlan, SetPlan},
    plan,
};
use serde_json::json;

use crate::{App, Refusal, gateway::workspace_of};

/// The plan of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The plan's name; none where the installation sells none. One that is configured no longer opens nothing.
    pub plan: Option<String>,
    /// Every feature that some plan opens.
    pub features: Vec<Feature>,
}

/// A feature, as a workspace meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Whether the workspace's plan opens it.
    pub is_open: bool,
    /// The plans that open it.
    pub plans: Vec<String>,
}

/// Gives a workspace a plan. From the commit on its features are open and those of the plan before are closed, on every node.
///
/// It is written to both trails, the workspace's and the installation's, together with the change.
///
/// # Errors
/// `Forbidden` for an operator who is no super-admin; `NotFound`; `Invalid` for a plan that is not configured.
pub async fn set(app: &App, caller: &Principal, workspace: WorkspaceId, name: &str) -> Result<Option<String>, Refusal> {
    if app.store.plans().get(name).is_none() {
        let known: Vec<&str> = app.store.plans().iter().map(|plan| plan.name.as_str()).collect();
        return Err(Refusal::invalid("/plan", format!("is one of: {}", known.join(", "))));
    }
    let (mut tenant, snapshot) = app.enter::<SetPlan>(caller, workspace, workspace).await?;
    let before = plan::of_workspace(&snapshot.facts).map(str::to_owned);
    store::plan::set(&mut tenant, name).await?;
    let event = Event::new("plan.set", format!("workspace:{workspace}"));
    let event = event.with(json!({ "plan": name, "before": before }));
    tenant.commit_in_both_trails(event.clone(), event).await?;
    Ok(before)
}

/// The caller's workspace's plan.
///
/// # Errors
/// As for any use case.
pub async fn get(app: &App, caller: &Principal) -> Result<Subscription, Refusal> {
    let workspace = workspace_of(caller)?;
    let (_, snapshot) = app.permit::<ReadPlan>(caller, workspace, workspace).await?;
    let features = app.store.plans().features();
    let features = features.iter().map(|name| feature_of(app, &snapshot.facts, caller, name.as_str()));
    let features = features.collect();
    Ok(Subscription { plan: plan::of_workspace(&snapshot.facts).map(str::to_owned), features })
}

/// A feature that the caller may use.
///
/// # Errors
/// `NotFound` for one that no plan opens; `PlanRequired`, with the plans that would, where the workspace's does not.
pub async fn feature(app: &App, caller: &Principal, name: &str) -> Result<Feature, Refusal> {
    let workspace = workspace_of(caller)?;
    let (_, snapshot) = app.permit::<ReadPlan>(caller, workspace, workspace).await?;
    let mut feature = feature_of(app, &snapshot.facts, caller, name);
    if feature.plans.is_empty() {
        return Err(Refusal::NotFound);
    }
    // Nobody is refused by facts that are a notification behind.
    if !feature.is_open
        && let Some(newer) = app.store.snapshots.newer(&snapshot).await?
    {
        feature = feature_of(app, &newer.facts, caller, name);
    }
    if feature.is_open {
        Ok(feature)
    } else {
        Err(Refusal::PlanRequired { feature: feature.name, plans: feature.plans })
    }
}

/// Whether a feature is open to the caller; what cannot be said is a no.
fn feature_of(app: &App, facts: &Facts, caller: &Principal, name: &str) -> Feature {
    let is_open = facts.check(&plan::feature_object(name), "can_use", &caller.reference()).unwrap_or(false)
        || domain::sabotaged!(PlanFeatures);
    let plans = app.store.plans().opening(name).into_iter().map(ToString::to_string).collect();
    Feature { name: name.to_owned(), is_open, plans }
}
