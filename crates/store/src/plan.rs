//! The plan of a workspace: one of its facts, and one at most.

use domain::{id::Id as _, plan::Plans};
use relation::{Facts, action::SetPlan, plan};

use crate::{StoreError, Tenant, tuple};

/// Gives the permit's workspace a plan, in the place of the one that it has.
///
/// # Errors
/// `Unavailable`.
pub async fn set(tenant: &mut Tenant<SetPlan>, name: &str) -> Result<(), StoreError> {
    let workspace = tenant.object();
    sqlx::query!(
        "delete from tuples where workspace_id = $1 and relation = 'subscriber' and object like 'plan:%'",
        workspace.uuid()
    )
    .execute(tenant.sql())
    .await?;
    tuple::add(tenant, &plan::plan_object(name), plan::SUBSCRIBER, &plan::members(workspace)).await
}

/// Tells of a workspace whose plan is not configured, when its facts are read: nothing is open to it.
pub(crate) fn tell_of_unknown(plans: &Plans, facts: &Facts) {
    if let Some(plan) = plan::of_workspace(facts).filter(|name| plans.get(name).is_none()) {
        tracing::warn!(workspace = %facts.workspace(), plan, "a workspace has a plan that is not configured; it opens nothing");
        metrics::counter!("keyholder_unknown_plans_total").increment(1);
    }
}
