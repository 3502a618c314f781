//! Problems: the one place where refusals become answers (RFC 9457), and where their causes are logged, once.
//!
//! What is inside (a database's words, a path, a cause) goes to the log and never into an answer.

use std::{error::Error, fmt::Write as _};

use axum::response::{IntoResponse, Response};
use domain::{
    act::Over,
    budget::Period,
    clock::Clock,
    id::{ActId, RequestId},
    json::JsonFault,
    problem::{Fault, Kind},
    provider::RecogniseError,
    statement::EnvelopeError,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use service::{Refusal, UpstreamFault, connect::ConnectError, fga::Refused, gateway::ActError, trust::PublishError};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use crate::ratelimit::{self, Fields};

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How many faults of one input are told.
pub(crate) const MOST_FAULTS: usize = 32;

/// A refusal on its way out. Boxed, since most answers are none.
#[derive(Debug)]
pub struct Problem(Box<Occurrence>);

/// One occurrence of a problem.
#[derive(Debug)]
struct Occurrence {
    kind: Kind,
    detail: Option<String>,
    errors: Vec<Fault>,
    limit: Option<RateLimit>,
    retry_after_s: Option<u64>,
    budget: Option<Box<Over>>,
    act: Option<ActId>,
    plans: Vec<String>,
    allow: Option<&'static str>,
    /// How OpenFGA's API names it, where it is a refusal of that.
    refused: Option<Refused>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// A cheap limit that was passed: so many a minute, and after how many seconds one more.
#[derive(Debug, Clone, Copy)]
struct RateLimit {
    quota: u32,
    retry_after_s: u64,
}

/// A problem as it is answered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// `urn:keyholder:problem:…`: stable, one a kind.
    r#type: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What is particular to this occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// `urn:keyholder:request:` and the request's id.
    instance: String,
    /// The request's id, as it stands in the log and in the audit trail.
    request_id: String,
    /// Every fault of the input that was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FaultBody>,
    /// After how many seconds another try has a chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The budget that has no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<OverBody>,
    /// The act that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<String>,
    /// The plans that would open it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    plans: Vec<String>,
}

/// One fault of an input.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fault)]
struct FaultBody {
    /// A JSON pointer (RFC 6901) into the body; `?name` for a query parameter; a header's name.
    pointer: String,
    /// What is wrong there.
    message: String,
}

/// A budget that had no room.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BudgetExceeded)]
struct OverBody {
    /// Whom it binds.
    scope: &'static str,
    /// What is counted.
    unit: &'static str,
    /// Its window.
    per: &'static str,
    /// What a window may hold.
    cap: u64,
    /// What is left of this window.
    remaining: u64,
    /// What the act wanted.
    wanted: u64,
    /// When the window ends.
    #[serde(with = "time::serde::rfc3339")]
    resets_at: OffsetDateTime,
}

impl Problem {
    /// A problem of a kind, with nothing more to say.
    pub(crate) fn new(kind: Kind) -> Self {
        Self(Box::new(Occurrence {
            kind,
            detail: None,
            errors: Vec::new(),
            limit: None,
            retry_after_s: None,
            budget: None,
            act: None,
            plans: Vec::new(),
            allow: None,
            refused: None,
            cause: None,
        }))
    }

    /// Words for this occurrence.
    pub(crate) fn saying(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The methods that are allowed here.
    pub(crate) fn allowing(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// An input with these faults.
    pub(crate) fn invalid(mut faults: Vec<Fault>) -> Self {
        faults.truncate(MOST_FAULTS);
        let mut problem = Self::new(Kind::InvalidInput);
        problem.0.errors = faults;
        problem
    }

    fn limited(limit: RateLimit) -> Self {
        let mut problem = Self::new(Kind::RateLimited);
        problem.0.limit = Some(limit);
        problem
    }

    fn over(over: Box<Over>) -> Self {
        let mut problem = Self::new(Kind::BudgetExceeded);
        problem.0.budget = Some(over);
        problem
    }

    fn without_plan(feature: &str, plans: Vec<String>) -> Self {
        let mut problem =
            Self::new(Kind::PlanRequired).saying(format!("`{feature}` is opened by the plan {}.", plans.join(" or ")));
        problem.0.plans = plans;
        problem
    }

    fn after(mut self, seconds: u64) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    fn about(mut self, act: ActId) -> Self {
        self.0.act = Some(act);
        self
    }

    pub(crate) fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Box::new(cause));
        self
    }

    /// With OpenFGA's own code and status, which are those of its API alone.
    pub(crate) fn refused_as(mut self, refused: Refused) -> Self {
        self.0.refused = Some(refused);
        self
    }

    /// How OpenFGA's API names it, where that was said.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.0.refused
    }

    /// All that is told of it, as one text.
    pub(crate) fn message(&self) -> String {
        let faults = self.0.errors.iter().map(|fault| format!("{} {}", fault.pointer, fault.message));
        let told: Vec<String> = self.0.detail.iter().cloned().chain(faults).collect();
        if told.is_empty() { self.0.kind.describe().2.to_owned() } else { told.join("; ") }
    }

    /// The last part of its type.
    pub(crate) fn name(&self) -> &'static str {
        self.0.kind.describe().0
    }

    /// Whether it is refused for having come in the clear.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        self.0.kind == Kind::InTheClear
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The faults of the input.
    #[cfg(test)]
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.0.errors
    }

    /// What a page tells a person: the title, and what is particular to this occurrence.
    pub(crate) fn words(&self) -> (&'static str, Vec<&str>) {
        let title = self.0.kind.describe().2;
        let faults = self.0.errors.iter().map(|fault| fault.message.as_str());
        (title, self.0.detail.as_deref().into_iter().chain(faults).collect())
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Logs the refusal with its causes. Called once, where the answer is made.
    pub(crate) fn log(&self) {
        let (name, status, _) = self.0.kind.describe();
        let cause = self.0.cause.as_deref().map(chain).unwrap_or_default();
        match status {
            500 => tracing::error!(problem = name, cause, "a fault of ours"),
            501.. => tracing::warn!(problem = name, cause, "refused"),
            _ => tracing::info!(problem = name, cause, "refused"),
        }
    }

    /// The answer, logged.
    pub(crate) fn respond(self, request: RequestId, clock: &Clock) -> Response {
        self.log();
        let now = clock.now();
        let mut response = (self.status(), self.headers(now), self.render(request, now)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }

    /// Its body.
    pub(crate) fn body(&self, request: RequestId, now: OffsetDateTime) -> ProblemBody {
        let (_, status, title) = self.0.kind.describe();
        ProblemBody {
            r#type: self.0.kind.urn(),
            title,
            status,
            detail: self.of_the_inside().or_else(|| self.0.detail.clone()),
            instance: format!("urn:keyholder:request:{request}"),
            request_id: request.to_string(),
            errors: self
                .0
                .errors
                .iter()
                .map(|Fault { pointer, message }| FaultBody { pointer: pointer.clone(), message: message.clone() })
                .collect(),
            retry_after: self.retry_after_s(now),
            budget: self.0.budget.as_deref().map(|over| OverBody {
                scope: over.scope,
                unit: over.limit.unit.as_str(),
                per: over.limit.per.as_str(),
                cap: over.limit.cap,
                remaining: over.remaining,
                wanted: over.wanted,
                resets_at: over.resets_at,
            }),
            act: self.0.act.map(|act| act.to_string()),
            plans: self.0.plans.clone(),
        }
    }

    /// What is told of the inside: nothing, neither why it came to this nor where in the source.
    fn of_the_inside(&self) -> Option<String> {
        if domain::sabotaged!(OpaqueRefusals) {
            return Some(format!("{:?}, made at {}:{}", self.0.kind, file!(), line!()));
        }
        self.0.cause.as_deref().filter(|_| domain::sabotaged!(OpaqueErrors)).map(chain)
    }

    fn render(&self, request: RequestId, now: OffsetDateTime) -> String {
        serde_json::to_string(&self.body(request, now)).unwrap_or_default()
    }

    /// Seconds until another try has a chance, where that is known.
    fn retry_after_s(&self, now: OffsetDateTime) -> Option<u64> {
        if let Some(limit) = self.0.limit {
            return Some(limit.retry_after_s.max(1));
        }
        if let Some(over) = &self.0.budget {
            return Some(seconds_until(over.resets_at, now));
        }
        if let Some(seconds) = self.0.retry_after_s {
            return Some(seconds.max(1));
        }
        matches!(self.0.kind, Kind::Unavailable | Kind::Stale | Kind::ActInProgress).then_some(1)
    }

    /// What the status asks for: `WWW-Authenticate` (RFC 6750 §3), `Allow`, `Retry-After`, and the limit fields.
    pub(crate) fn headers(&self, now: OffsetDateTime) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        if self.0.kind == Kind::Unauthenticated {
            put(header::WWW_AUTHENTICATE, "Bearer".to_owned());
        }
        if let Some(methods) = self.0.allow {
            put(header::ALLOW, methods.to_owned());
        }
        let retry = self.retry_after_s(now);
        if let Some(seconds) = retry {
            put(header::RETRY_AFTER, seconds.to_string());
        }
        let reset_s = retry.unwrap_or(1);
        if let Some(limit) = &self.0.limit {
            let (name, cap) = (ratelimit::REQUESTS, u64::from(limit.quota));
            Fields { name, unit: name, cap, remaining: 0, window_s: 60, reset_s }.put(&mut headers);
        } else if let Some(over) = self.0.budget.as_deref() {
            let unit = over.limit.unit.as_str();
            let name = format!("{}-{unit}-{}", over.scope, over.limit.per.as_str());
            let (cap, window_s) = (over.limit.cap, window_s(over.limit.per, over.resets_at));
            Fields { name: &name, unit, cap, remaining: over.remaining, window_s, reset_s }.put(&mut headers);
        }
        headers
    }
}

/// Whole seconds until then, at least one: a client that comes back within the window would be refused again.
fn seconds_until(then: OffsetDateTime, now: OffsetDateTime) -> u64 {
    let left = then - now;
    let whole = left.whole_seconds() + i64::from(left.subsec_nanoseconds() > 0);
    u64::try_from(whole).unwrap_or(0).max(1)
}

/// How long the window is that ends then, in seconds.
fn window_s(per: Period, ends: OffsetDateTime) -> u64 {
    match per {
        Period::Minute => 60,
        Period::Hour => 3600,
        Period::Day => 86_400,
        Period::Month => {
            let last = ends - Duration::SECOND;
            86_400 * u64::from(last.month().length(last.year()))
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _infallible = write!(line, ": {error}");
        cause = error.source();
    }
    line
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated => Self::new(Kind::Unauthenticated),
            Refusal::RateLimited { retry_after_s, limit } => Self::limited(RateLimit { quota: limit, retry_after_s }),
            Refusal::NotFound => Self::new(Kind::NotFound),
            Refusal::Forbidden => Self::new(Kind::Forbidden),
            Refusal::PlanRequired { feature, plans } => Self::without_plan(&feature, plans),
            Refusal::Invalid(faults) => Self::invalid(faults),
            Refusal::Unsupported(what) => {
                Self::new(Kind::Unsupported).saying(format!("{what} is not supported by this version"))
            }
            Refusal::Conflict(why) => Self::new(Kind::Conflict).saying(why),
            Refusal::Stale => Self::new(Kind::Stale),
            Refusal::ProviderNotMigrated(name) => Self::new(Kind::ProviderNotMigrated)
                .saying(format!("the provider `{name}` is stopped until its operator has approved a changed file")),
            Refusal::DisconnectionWaits(name) => Self::new(Kind::ProviderNotMigrated).saying(format!(
                "the disconnection has begun, acts have stopped, and it goes on by itself within the hour after the provider `{name}` does, \
                 whose changed file waits for its operator's approval"
            )),
            Refusal::Unavailable(None) => Self::new(Kind::Unavailable),
            Refusal::Unavailable(Some(cause)) => Self::new(Kind::Unavailable).because(cause),
            refusal @ Refusal::Internal(..) => Self::new(Kind::Internal).because(refusal),
        }
    }
}

impl From<UpstreamFault> for Problem {
    fn from(fault: UpstreamFault) -> Self {
        match fault {
            UpstreamFault::Unreachable => Self::new(Kind::UpstreamUnreachable).saying("nothing was sent"),
            UpstreamFault::Timeout => Self::new(Kind::UpstreamTimeout),
            UpstreamFault::Invalid => Self::new(Kind::UpstreamInvalid),
        }
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        match error {
            ActError::Refused(refusal) => refusal.into(),
            ActError::OutsideMandate(why) => Self::new(Kind::OutsideMandate).saying(why),
            ActError::NotAnAction(error) => error.into(),
            ActError::KeyRequired => Self::new(Kind::IdempotencyKeyRequired),
            ActError::KeyReused => Self::new(Kind::IdempotencyKeyReused),
            ActError::InProgress(act) => Self::new(Kind::ActInProgress).about(act),
            ActError::Ambiguous(act) => Self::new(Kind::ActAmbiguous).about(act),
            ActError::NotKept(act) => {
                Self::new(Kind::Conflict).saying("the act has ended, and its answer is not kept").about(act)
            }
            ActError::Over(over) => Self::over(over),
            ActError::CredentialUnavailable(cause) => Self::new(Kind::CredentialUnavailable).because(cause),
            ActError::ReconnectRequired => Self::new(Kind::ReconnectRequired),
            ActError::ProviderUnavailable { retry_after_s } => {
                Self::new(Kind::ProviderUnavailable).saying("nothing was sent").after(retry_after_s)
            }
            ActError::ProviderRateLimited { retry_after_s } => {
                Self::new(Kind::ProviderRateLimited).saying("nothing was sent").after(retry_after_s)
            }
            ActError::Upstream { fault, stage, act } => {
                let outcome = match (fault, act) {
                    (_, Some(_)) => "the act was sent, and it may have had its effect",
                    (UpstreamFault::Unreachable, None) => "nothing was sent",
                    (UpstreamFault::Timeout | UpstreamFault::Invalid, None) => "what was asked for did not come",
                };
                let problem = Self::from(fault);
                let problem = match stage {
                    Some(stage) => problem.saying(format!("{outcome}; the call failed at {stage}")),
                    None => problem.saying(outcome),
                };
                match act {
                    Some(act) => problem.about(act),
                    None => problem,
                }
            }
        }
    }
}

impl From<RecogniseError> for Problem {
    fn from(error: RecogniseError) -> Self {
        match error {
            RecogniseError::NoSuchAction => Self::new(Kind::OutsideMandate).saying(error.to_string()),
            RecogniseError::InvalidJson(fault) => fault.into(),
            RecogniseError::Path(_)
            | RecogniseError::Query(_)
            | RecogniseError::RepeatedQuery { .. }
            | RecogniseError::UnknownQuery { .. }
            | RecogniseError::UnexpectedBody
            | RecogniseError::NotAnObject { .. }
            | RecogniseError::UnknownBodyField { .. }
            | RecogniseError::FixedDiffers { .. } => Self::new(Kind::InvalidInput).saying(chain(&error)),
        }
    }
}

impl From<JsonFault> for Problem {
    fn from(fault: JsonFault) -> Self {
        let kind = match fault {
            JsonFault::TooLong { .. } => Kind::BodyTooLarge,
            JsonFault::TooDeep { .. } | JsonFault::DuplicateKey { .. } | JsonFault::Syntax { .. } => Kind::InvalidJson,
        };
        Self::new(kind).saying(fault.to_string())
    }
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(refusal) => refusal.into(),
            ConnectError::LinkGone => Self::new(Kind::Forbidden).saying(
                "This link has been used, has expired, or was first opened in another browser. Ask for a new one.",
            ),
            ConnectError::ForeignIssuer => {
                Self::new(Kind::Forbidden).saying("The answer did not come from the provider.")
            }
            ConnectError::OtherAccount => Self::new(Kind::Forbidden).saying("Another account came back."),
            ConnectError::TooLittle => Self::new(Kind::Forbidden).saying("The provider granted too little."),
            ConnectError::Upstream(fault) => fault.into(),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Refusal(refusal) => refusal.into(),
            PublishError::Envelope(EnvelopeError::Json(fault)) => fault.into(),
            PublishError::Envelope(EnvelopeError::TooLarge) => {
                Self::new(Kind::BodyTooLarge).saying(EnvelopeError::TooLarge.to_string())
            }
            PublishError::Replayed => Self::new(Kind::StatementReplayed).saying(error.to_string()),
            PublishError::Envelope(_)
            | PublishError::Statement(_)
            | PublishError::NotShown
            | PublishError::Signature
            | PublishError::Blueprint
            | PublishError::Audience
            | PublishError::Expired
            | PublishError::NotYet => Self::new(Kind::StatementRefused).saying(error.to_string()),
        }
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
