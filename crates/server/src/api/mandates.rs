//! Mandates: made, read, ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::response::Response;
use domain::{
    budget::{Limit, Period, Unit},
    id::{ConnectionId, KeyId, MandateId},
    mandate::{Conditions, FieldCondition, Hours, Mandate, Terms},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use service::{
    App,
    action::{CreateMandate, ListWorkspace, ReadMandate, RevokeMandate},
    mandate::{self, Revoked, Wanted},
};
use time::{OffsetDateTime, Time};
use utoipa::ToSchema;

use crate::{
    answer, api,
    guard::Caller,
    input::{FromJson, Input, Page, Reader, members::members},
    problem::Problem,
};

/// What a grantee may do on a connection. Its limits are listed with the workspace's budgets.
#[derive(Serialize, ToSchema)]
#[schema(as = Mandate)]
pub(crate) struct MandateView {
    /// Its id, `man_…`.
    id: String,
    /// The connection, `con_…`.
    connection: String,
    /// Who may use it: an API key's id.
    grantee: String,
    /// The actions that it allows.
    actions: Vec<String>,
    /// What narrows it.
    #[schema(value_type = ConditionsBody)]
    conditions: Conditions,
    /// When it ends by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

fn view(mandate: Mandate) -> MandateView {
    let Mandate { id, connection, grantee, actions, conditions, expires_at, created_at, revoked_at: _ } = mandate;
    MandateView {
        id: id.to_string(),
        connection: connection.to_string(),
        grantee: api::grantee(&grantee),
        actions,
        conditions,
        expires_at,
        created_at,
    }
}

members! {
    /// The terms of a new mandate.
    pub(crate) struct NewMandate as NewMandate {
        /// The connection.
        #[schema(value_type = String)]
        connection: ConnectionId,
        /// Who may use it: an API key's id.
        #[schema(value_type = String)]
        grantee: KeyId,
        /// The actions, all of them among those that the owner allowed.
        actions: Vec<String>,
        /// Its own budgets; none, if not given.
        limits: Option<Vec<LimitBody>>,
        /// What narrows it.
        conditions: Option<ConditionsBody>,
        /// When it ends by itself.
        expires_at: Option<OffsetDateTime>,
        /// Not supported yet: anything but null is refused.
        #[schema(value_type = Option<Object>)]
        guard: Option<Value>,
        /// Not supported yet: anything but null is refused.
        #[schema(value_type = Option<Object>)]
        approval: Option<Value>,
    }
}

members! {
    /// At most `cap` of `unit` in each `per`.
    struct LimitBody as Limit {
        /// `acts`, `posts`, `messages`, `recipients`, `tokens`, `bytes` or `cents`.
        #[schema(value_type = String)]
        unit: Unit,
        /// `minute`, `hour`, `day` or `month`, in UTC.
        #[schema(value_type = String)]
        per: Period,
        /// The most that one window may hold.
        cap: u64,
    }
}

members! {
    /// What narrows a mandate.
    struct ConditionsBody as Conditions {
        /// The hours of the day, UTC, in which it holds.
        hours: Option<HoursBody>,
        /// What each input field must keep to.
        fields: Option<BTreeMap<String, FieldConditionBody>>,
    }
}

members! {
    /// Hours of the day, UTC; `from` later than `to` spans midnight.
    struct HoursBody as Hours {
        /// First minute, `HH:MM`.
        #[schema(value_type = String)]
        from: Time,
        /// First minute after, `HH:MM`.
        #[schema(value_type = String)]
        to: Time,
    }
}

members! {
    /// What one input field must keep to.
    struct FieldConditionBody as FieldCondition {
        /// The longest text, in characters.
        max_length: Option<u32>,
        /// The only values that may be given.
        #[schema(value_type = Option<Vec<Object>>)]
        allowed: Option<Vec<Value>>,
    }
}

fn wanted(body: NewMandate) -> Wanted {
    let NewMandate { connection, grantee, actions, limits, conditions, expires_at, guard, approval } = body;
    let limits = limits.unwrap_or_default().into_iter().map(|LimitBody { unit, per, cap }| Limit { unit, per, cap });
    let terms = Terms {
        connection,
        grantee: format!("api_key:{grantee}"),
        actions,
        limits: limits.collect(),
        conditions: conditions.map(narrowing).unwrap_or_default(),
        expires_at,
    };
    Wanted { terms, guard: guard.is_some(), approval: approval.is_some() }
}

fn narrowing(ConditionsBody { hours, fields }: ConditionsBody) -> Conditions {
    let of_field = |FieldConditionBody { max_length, allowed }| FieldCondition { max_length, allowed };
    Conditions {
        hours: hours.map(|HoursBody { from, to }| Hours { from, to }),
        fields: fields.unwrap_or_default().into_iter().map(|(name, field)| (name, of_field(field))).collect(),
    }
}

pub(crate) async fn create(
    app: Arc<App>,
    caller: Caller<CreateMandate>,
    input: NewMandate,
) -> Result<Response, Problem> {
    let mandate = mandate::create(&app, caller.principal(), wanted(input)).await?;
    answer::json(StatusCode::CREATED, &view(mandate))
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ListWorkspace>,
    Page { before, limit }: Page<MandateId>,
) -> Result<Response, Problem> {
    let found = mandate::list(&app, caller.principal(), before, limit.saturating_add(1)).await?;
    answer::page(found, limit, |mandate| mandate.id.to_string(), view)
}

/// One mandate, by the path.
pub(crate) struct One(MandateId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadMandate>, One(id): One) -> Result<Response, Problem> {
    answer::ok(&view(mandate::get(&app, caller.principal(), id).await?))
}

members! {
    /// How a mandate is ended.
    pub(crate) struct Revocation as Revocation {
        /// How long to wait for acts that are on their way, in milliseconds, at most 30000; 0 if not given.
        #[schema(value_type = Option<u64>)]
        wait_ms: Option<Wait>,
    }
}

/// For how long a revocation waits.
struct Wait(Duration);

const MOST_WAIT_MS: u64 = 30_000;

impl FromJson for Wait {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let wait = u64::from_json(value, at, from)?;
        if wait > MOST_WAIT_MS {
            from.fault(at, "is at most 30000");
        }
        Some(Self(Duration::from_millis(wait)))
    }
}

/// What a revocation found: the acts that were admitted before it. No other act reaches the provider.
#[derive(Serialize, ToSchema)]
#[schema(as = Revoked)]
pub(crate) struct RevokedView {
    /// Those that are still on their way.
    in_flight: Vec<String>,
    /// Those that ended while the revocation waited.
    ended: Vec<EndedView>,
}

/// An act that ended while a revocation waited for it.
#[derive(Serialize, ToSchema)]
#[schema(as = EndedAct)]
struct EndedView {
    /// The act.
    act: String,
    /// `settled`, `not_sent` or `ambiguous`.
    state: &'static str,
}

pub(crate) async fn revoke(
    app: Arc<App>,
    caller: Caller<RevokeMandate>,
    (One(id), Revocation { wait_ms }): (One, Revocation),
) -> Result<Response, Problem> {
    let wait = wait_ms.map(|Wait(wait)| wait);
    let Revoked { in_flight, ended } = mandate::revoke(&app, caller.principal(), id, wait).await?;
    let ended = ended.into_iter().map(|(act, state)| EndedView { act: act.to_string(), state: state.as_str() });
    answer::ok(&RevokedView { in_flight: in_flight.iter().map(ToString::to_string).collect(), ended: ended.collect() })
}
