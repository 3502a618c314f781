//! The rows of plans, and of questions about permissions.

use serde_json::json;
use service::action::{ExplainPermission, ReadPlan, SetPlan};

use crate::{
    api::{permissions, plans},
    route::{
        ObjectFrom::{CallersWorkspace, Path},
        Route, get, post,
    },
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/permissions/explain", "Why somebody may do something, or what would be needed")
            .with_key(ExplainPermission, CallersWorkspace)
            .reads(permissions::explain)
            .answers::<permissions::ExplanationView>(200)
            .sample(|it| it.json(json!({ "permission": "workspace.read" }))),
        get("/v1/plan", "The workspace's plan, and what it opens")
            .with_key(ReadPlan, CallersWorkspace)
            .reads(plans::get)
            .answers::<plans::PlanView>(200),
        get("/v1/features/{name}", "A feature that the workspace's plan opens; 403 where it does not")
            .with_key(ReadPlan, CallersWorkspace)
            .reads(plans::feature)
            .answers::<plans::FeatureView>(200)
            .sample(|it| it.path("name", "{feature}")),
        post("/v1/installation/workspaces/{workspace}/plan", "Give a workspace a plan")
            .with_operator_key(SetPlan, Path("workspace"))
            .leaving("plan.set", plans::set)
            .answers::<plans::SetView>(200)
            .sample(|it| it.path("workspace", "{workspace}").json(json!({ "plan": "{plan}" }))),
    ]
}
