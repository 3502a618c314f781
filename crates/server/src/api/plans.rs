//! Plans: what a workspace has and what it opens, and by a super-admin which one it has.

use std::sync::Arc;

use axum::response::Response;
use domain::id::WorkspaceId;
use serde::Serialize;
use service::{
    App,
    action::{ReadPlan, SetPlan},
    plan::{self, Feature},
};
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{Input, Reader, members::members},
    problem::Problem,
};

/// The plan of a workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Plan)]
pub(crate) struct PlanView {
    /// Its name; null where this installation sells none.
    plan: Option<String>,
    /// Every feature that some plan opens.
    features: Vec<FeatureView>,
}

/// A feature.
#[derive(Serialize, ToSchema)]
#[schema(as = Feature)]
pub(crate) struct FeatureView {
    /// Its name.
    name: String,
    /// Whether the workspace's plan opens it.
    open: bool,
    /// The plans that open it.
    plans: Vec<String>,
}

fn view(Feature { name, is_open, plans }: Feature) -> FeatureView {
    FeatureView { name, open: is_open, plans }
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadPlan>, (): ()) -> Result<Response, Problem> {
    let subscription = plan::get(&app, caller.principal()).await?;
    let features = subscription.features.into_iter().map(view).collect();
    answer::ok(&PlanView { plan: subscription.plan, features })
}

/// One feature, by the path.
pub(crate) struct One(String);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("name").map(Self)
    }
}

pub(crate) async fn feature(app: Arc<App>, caller: Caller<ReadPlan>, One(name): One) -> Result<Response, Problem> {
    answer::ok(&view(plan::feature(&app, caller.principal(), &name).await?))
}

members! {
    /// The plan that a workspace is to have.
    pub(crate) struct NewPlan as NewPlan {
        /// Its name, as it is configured.
        plan: String,
    }
}

/// The plan that a workspace now has.
#[derive(Serialize, ToSchema)]
#[schema(as = PlanSet)]
pub(crate) struct SetView {
    /// The workspace.
    workspace: String,
    /// Its plan.
    plan: String,
    /// The plan that it had before.
    before: Option<String>,
}

/// The workspace, by the path.
pub(crate) struct Of(WorkspaceId);

impl Input for Of {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("workspace").map(Self)
    }
}

pub(crate) async fn set(
    app: Arc<App>,
    caller: Caller<SetPlan>,
    (Of(workspace), NewPlan { plan }): (Of, NewPlan),
) -> Result<Response, Problem> {
    let before = plan::set(&app, caller.principal(), workspace, &plan).await?;
    answer::ok(&SetView { workspace: workspace.to_string(), plan, before })
}
