//! Budgets: what a workspace, a principal or a connection may use in a window.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::{
    budget::{Limit, Period, Scope, Unit},
    id::{BudgetId, ConnectionId, KeyId},
};
use http::StatusCode;
use serde::Serialize;
use service::{
    App, Standing,
    action::{ManageBudgets, ReadBudgets},
    budget,
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer, api,
    guard::Caller,
    input::{BodySchema, Input, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// A budget with what is used of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Budget)]
pub(crate) struct BudgetView {
    /// Its id, `bud_…`.
    id: String,
    /// Whom it binds: `workspace`, `principal`, `connection` or `mandate`.
    scope: &'static str,
    /// Which one: the id of a key, a connection or a mandate; null for the workspace.
    subject: Option<String>,
    /// What is counted.
    unit: &'static str,
    /// Its window, in UTC.
    per: &'static str,
    /// The most that one window may hold.
    cap: u64,
    /// What its newest window holds: more than the cap, where acts used more than they had reserved.
    used: u64,
    /// What of that is carried into the windows that follow. A budget that is removed and set anew owes nothing.
    debt: u64,
    /// When that window began; null where it was never used.
    #[serde(with = "time::serde::rfc3339::option")]
    window_start: Option<OffsetDateTime>,
}

fn subject(scope: &Scope) -> Option<String> {
    Some(api::grantee(&scope.subject())).filter(|subject| !subject.is_empty())
}

fn view(standing: Standing) -> BudgetView {
    let Standing { id, scope, limit, used, debt, window_start } = standing;
    BudgetView {
        id: id.to_string(),
        scope: scope.kind(),
        subject: subject(&scope),
        unit: limit.unit.as_str(),
        per: limit.per.as_str(),
        cap: limit.cap,
        used,
        debt,
        window_start,
    }
}

pub(crate) async fn list(app: Arc<App>, caller: Caller<ReadBudgets>, (): ()) -> Result<Response, Problem> {
    let found = budget::list(&app, caller.principal()).await?;
    let most = found.len();
    answer::page(found, most, |budget| budget.id.to_string(), view)
}

/// What a scope may use. One that is there for the same scope, unit and period is changed.
#[derive(Serialize, ToSchema)]
#[schema(as = NewBudget)]
pub(crate) struct BudgetBody {
    /// `workspace`, `principal` or `connection`.
    scope: &'static str,
    /// Which one: a key's id or a connection's; not given for the workspace.
    #[schema(required = false)]
    subject: Option<String>,
    /// What is counted: `acts`, `posts`, `messages`, `recipients`, `tokens`, `bytes` or `cents`.
    unit: &'static str,
    /// Its window: `minute`, `hour`, `day` or `month`, in UTC. Windows are fixed: across a boundary two windows' worth can pass in a
    /// short time.
    per: &'static str,
    /// The most that one window may hold.
    cap: u64,
}

/// A budget to be set, read.
pub(crate) struct NewBudget {
    scope: Scope,
    limit: Limit,
}

impl Input for NewBudget {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("NewBudget", collect::<BudgetBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut body = from.body()?;
        let kind = body.required::<String>(from, "scope");
        let scope = match kind.as_deref() {
            Some("workspace") => {
                if body.value("subject").is_some() {
                    from.fault("/subject", "is not given for the workspace");
                }
                Some(Scope::Workspace)
            }
            Some("principal") => {
                body.required::<KeyId>(from, "subject").map(|key| Scope::Principal(format!("api_key:{key}")))
            }
            Some("connection") => body.required::<ConnectionId>(from, "subject").map(Scope::Connection),
            other => {
                let _whatever = body.value("subject");
                if other.is_some() {
                    from.fault("/scope", "is one of workspace, principal, connection");
                }
                None
            }
        };
        let unit = body.required::<Unit>(from, "unit");
        let per = body.required::<Period>(from, "per");
        let cap = body.required(from, "cap");
        body.finish(from);
        Some(Self { scope: scope?, limit: Limit { unit: unit?, per: per?, cap: cap? } })
    }
}

pub(crate) async fn set(app: Arc<App>, caller: Caller<ManageBudgets>, input: NewBudget) -> Result<Response, Problem> {
    let NewBudget { scope, limit } = input;
    let said = BudgetBody {
        scope: scope.kind(),
        subject: subject(&scope),
        unit: limit.unit.as_str(),
        per: limit.per.as_str(),
        cap: limit.cap,
    };
    budget::set(&app, caller.principal(), scope, limit).await?;
    answer::ok(&said)
}

/// One budget, by the path.
pub(crate) struct One(BudgetId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn remove(app: Arc<App>, caller: Caller<ManageBudgets>, One(id): One) -> Result<Response, Problem> {
    budget::remove(&app, caller.principal(), id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
