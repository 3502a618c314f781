//! Mandates: made, read, ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::response::Response;
use domain::{
    budget::Limit,
    id::{KeyId, MandateId},
    mandate::{Conditions, FieldCondition, Hours, Mandate, Terms},
};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use service::{
    App,
    action::{CreateMandate, ListWorkspace, ReadMandate, RevokeMandate},
    mandate::{self, Revoked, Wanted},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer, api,
    guard::Caller,
    input::{BodySchema, Fields, FromJson, Input, Page, Reader, Takes},
    problem::Problem,
    route::collect,
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

/// The terms of a new mandate.
#[derive(ToSchema)]
#[schema(as = NewMandate)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct MandateBody {
    /// The connection.
    connection: String,
    /// Who may use it: an API key's id.
    grantee: String,
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

/// At most `cap` of `unit` in each `per`.
#[derive(ToSchema)]
#[schema(as = Limit)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
pub(crate) struct LimitBody {
    /// `acts`, `posts`, `messages`, `recipients`, `tokens`, `bytes` or `cents`.
    unit: String,
    /// `minute`, `hour`, `day` or `month`, in UTC.
    per: String,
    /// The most that one window may hold.
    cap: u64,
}

/// What narrows a mandate.
#[derive(ToSchema)]
#[schema(as = Conditions)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct ConditionsBody {
    /// The hours of the day, UTC, in which it holds.
    hours: Option<HoursBody>,
    /// What each input field must keep to.
    fields: Option<BTreeMap<String, FieldConditionBody>>,
}

/// Hours of the day, UTC; `from` later than `to` spans midnight.
#[derive(ToSchema)]
#[schema(as = Hours)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct HoursBody {
    /// First minute, `HH:MM`.
    from: String,
    /// First minute after, `HH:MM`.
    to: String,
}

/// What one input field must keep to.
#[derive(ToSchema)]
#[schema(as = FieldCondition)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct FieldConditionBody {
    /// The longest text, in characters.
    max_length: Option<u32>,
    /// The only values that may be given.
    #[schema(value_type = Option<Vec<Object>>)]
    allowed: Option<Vec<Value>>,
}

/// A new mandate, read.
pub(crate) struct NewMandate(Wanted);

impl Input for NewMandate {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("NewMandate", collect::<MandateBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mut body = from.body()?;
        let connection = body.required(from, "connection");
        let grantee = body.required::<KeyId>(from, "grantee");
        let actions = body.required(from, "actions");
        let limits = body.optional(from, "limits");
        let conditions = body.optional(from, "conditions");
        let expires_at = body.optional(from, "expires_at");
        let guard = body.value("guard").is_some();
        let approval = body.value("approval").is_some();
        body.finish(from);
        let terms = Terms {
            connection: connection?,
            grantee: format!("api_key:{}", grantee?),
            actions: actions?,
            limits: limits.unwrap_or_default(),
            conditions: conditions.unwrap_or_default(),
            expires_at,
        };
        Some(Self(Wanted { terms, guard, approval }))
    }
}

impl FromJson for Limit {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = object(value, at, from)?;
        let unit = fields.required(from, "unit");
        let per = fields.required(from, "per");
        let cap = fields.required(from, "cap");
        fields.finish(from);
        Some(Self { unit: unit?, per: per?, cap: cap? })
    }
}

impl FromJson for Conditions {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = object(value, at, from)?;
        let hours = fields.optional(from, "hours");
        let of_fields = fields.optional::<ByField>(from, "fields");
        fields.finish(from);
        Some(Self { hours, fields: of_fields.map(|ByField(fields)| fields).unwrap_or_default() })
    }
}

struct ByField(BTreeMap<String, FieldCondition>);

impl FromJson for ByField {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let Some(members) = value.as_object() else {
            from.fault(at, "is an object");
            return None;
        };
        let must = "is an object of max_length (a whole number) and allowed (a list)";
        let read: Vec<_> = members
            .iter()
            .map(|(name, value)| Some((name.clone(), parsed(value, &format!("{at}/{name}"), must, from)?)))
            .collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }
}

impl FromJson for Hours {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        parsed(value, at, "is an object of from and to, each HH:MM", from)
    }
}

fn parsed<T: DeserializeOwned>(value: &Value, at: &str, must: &str, from: &mut Reader<'_>) -> Option<T> {
    let parsed = T::deserialize(value).ok();
    if parsed.is_none() {
        from.fault(at, must);
    }
    parsed
}

fn object<'a>(value: &'a Value, at: &str, from: &mut Reader<'_>) -> Option<Fields<'a>> {
    let members = value.as_object();
    if members.is_none() {
        from.fault(at, "is an object");
    }
    Some(Fields::new(members?, at.to_owned()))
}

pub(crate) async fn create(
    app: Arc<App>,
    caller: Caller<CreateMandate>,
    input: NewMandate,
) -> Result<Response, Problem> {
    let mandate = mandate::create(&app, caller.principal(), input.0).await?;
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

/// How a mandate is ended.
#[derive(ToSchema)]
#[schema(as = Revocation)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct RevocationBody {
    /// How long to wait for acts that are on their way, in milliseconds, at most 30000; 0 if not given.
    wait_ms: Option<u64>,
}

/// A revocation, read.
pub(crate) struct Revocation {
    id: MandateId,
    wait: Option<Duration>,
}

const MOST_WAIT_MS: u64 = 30_000;

impl Input for Revocation {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("Revocation", collect::<RevocationBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let id = from.path("id");
        let mut body = from.body()?;
        let wait_ms = body.optional::<u64>(from, "wait_ms");
        body.finish(from);
        if wait_ms.is_some_and(|wait| wait > MOST_WAIT_MS) {
            from.fault("/wait_ms", "is at most 30000");
        }
        Some(Self { id: id?, wait: wait_ms.map(Duration::from_millis) })
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
    Revocation { id, wait }: Revocation,
) -> Result<Response, Problem> {
    let Revoked { in_flight, ended } = mandate::revoke(&app, caller.principal(), id, wait).await?;
    let ended = ended.into_iter().map(|(act, state)| EndedView { act: act.to_string(), state: state.as_str() });
    answer::ok(&RevokedView { in_flight: in_flight.iter().map(ToString::to_string).collect(), ended: ended.collect() })
}
