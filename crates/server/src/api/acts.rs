//! Acts: done by name, and read.

use std::{collections::BTreeMap, sync::Arc};

use axum::response::Response;
use domain::{
    act::{Act, IdempotencyKey},
    id::{ActId, MandateId},
    json::{self, Limits},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::{Map, Value};
use service::{
    App, act as acts,
    action::{Perform, ReadActs},
    gateway::{self, Answer, Request, Wish},
};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{
        BodySchema, Input, Page, Reader, Takes,
        members::{Members, members},
    },
    problem::Problem,
};

pub(crate) const IDEMPOTENCY_KEY: (&str, &str) = (
    "Idempotency-Key",
    "The caller's own name for the act, 1 to 128 visible ASCII characters: needed for what writes or sends, so that a retry \
     is recognised. Kept for 7 days.",
);

/// The largest answer that is parsed: what a provider file may let through.
const MOST_ANSWER: usize = 64 * 1024 * 1024;

members! {
    /// What to do.
    struct ActBody as NewAct {
        /// Under which mandate.
        #[schema(value_type = String)]
        mandate: MandateId,
        /// The action's name.
        action: String,
        /// Its input, as the provider's schema of the action says; empty, if not given.
        #[schema(value_type = Option<Object>)]
        input: Option<Value>,
    }
}

/// An act, read.
pub(crate) struct NewAct(Request);

impl Input for NewAct {
    const TAKES: Takes = Takes::Json;
    const HEADERS: &'static [(&'static str, &'static str)] = &[IDEMPOTENCY_KEY];
    const SCHEMA: Option<BodySchema> = Some(ActBody::SHAPE);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let key = idempotency_key(from);
        let ActBody { mandate, action, input } = from.whole()?;
        let input = input.unwrap_or_else(|| Value::Object(Map::new()));
        Some(Self(Request { mandate, wish: Wish::Named { action, input }, key }))
    }
}

/// The caller's name for the act.
pub(crate) fn idempotency_key(from: &mut Reader<'_>) -> Option<IdempotencyKey> {
    from.header(IDEMPOTENCY_KEY.0, "1 to 128 visible ASCII characters")
}

/// What became of an act. A replay is answered with the body of the first answer.
#[derive(Serialize, ToSchema)]
#[schema(as = ActAnswer)]
pub(crate) struct AnswerView {
    /// The act, `act_…`; null for a read that nothing binds.
    act: Option<String>,
    /// The action's name.
    action: String,
    /// `settled`: the provider has answered.
    state: &'static str,
    /// The provider's status.
    status: u16,
    /// Its answer: JSON as it is, anything else as a text.
    #[schema(value_type = Object)]
    answer: Value,
    /// The content type of its answer.
    content_type: String,
    /// Further headers of its answer: `retry-after`, those of its rate limits, `etag`, `last-modified`.
    #[schema(value_type = Object)]
    headers: BTreeMap<String, String>,
    /// Whether the outcome is written. `false`: it happened, and the ledger could not be told yet.
    durable: bool,
}

pub(crate) async fn perform(app: Arc<App>, caller: Caller<Perform>, input: NewAct) -> Result<Response, Problem> {
    let answer = gateway::act(&app, caller.into_principal(), input.0).await?;
    let mut headers = headers(&answer);
    let theirs: BTreeMap<String, String> = answer.headers.into_iter().collect();
    // How long to wait is the one thing that a client reads off the outer answer, whosever limit it was.
    if let Some(after) = theirs.get("retry-after").and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(header::RETRY_AFTER, after);
    }
    let view = AnswerView {
        act: answer.act.map(|act| act.to_string()),
        action: answer.action,
        state: "settled",
        status: answer.status,
        answer: parsed(&answer.content_type, &answer.body),
        content_type: answer.content_type,
        headers: theirs,
        durable: answer.durable,
    };
    let mut response = answer::ok(&view)?;
    response.headers_mut().extend(headers);
    Ok(response)
}

/// What Keyholder says of an act beside the provider's words.
pub(crate) fn headers(answer: &Answer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(act) = answer.act.and_then(|act| HeaderValue::from_str(&act.to_string()).ok()) {
        headers.insert(HeaderName::from_static("keyholder-act"), act);
    }
    if answer.replayed {
        headers.insert(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
    }
    headers
}

/// The provider's answer: JSON where it says so and is, else a text.
fn parsed(content_type: &str, body: &[u8]) -> Value {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    let parsed = is_json.then(|| json::parse_strict(body, Limits::bytes(MOST_ANSWER)).ok()).flatten();
    parsed.unwrap_or_else(|| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// An act as the ledger has it.
#[derive(Serialize, ToSchema)]
#[schema(as = Act)]
pub(crate) struct ActView {
    /// Its id, `act_…`.
    id: String,
    /// Who acted.
    principal: String,
    /// Under which mandate.
    mandate: String,
    /// On which connection.
    connection: String,
    /// Which action.
    action: String,
    /// `admitted`, `settled`, `not_sent` or `ambiguous`.
    state: &'static str,
    /// The provider's status, once settled.
    status: Option<u16>,
    /// When it was admitted.
    #[serde(with = "time::serde::rfc3339")]
    admitted_at: OffsetDateTime,
    /// When it was settled, given up, or found ambiguous.
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

fn view(act: Act) -> ActView {
    let Act { id, principal, mandate, connection, action, state, status, admitted_at, ended_at } = act;
    ActView {
        id: id.to_string(),
        principal,
        mandate: mandate.to_string(),
        connection: connection.to_string(),
        action,
        state: state.as_str(),
        status,
        admitted_at,
        ended_at,
    }
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ReadActs>,
    Page { before, limit }: Page<ActId>,
) -> Result<Response, Problem> {
    let found = acts::list(&app, caller.principal(), before, answer::and_one(limit)).await?;
    answer::page(found, limit, |act| act.id.to_string(), view)
}

/// One act, by the path.
pub(crate) struct One(ActId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn get(app: Arc<App>, caller: Caller<ReadActs>, One(id): One) -> Result<Response, Problem> {
    answer::ok(&view(acts::get(&app, caller.principal(), id).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_json_only_where_it_is() {
        let cases = [
            ("application/json; charset=utf-8", "{\"a\":1}", json!({ "a": 1 })),
            ("application/problem+json", "[1]", json!([1])),
            ("application/json", "{\"a\":1,\"a\":2}", json!("{\"a\":1,\"a\":2}")),
            ("application/json", "oops", json!("oops")),
            ("text/plain", "{}", json!("{}")),
        ];
        for (content_type, body, expected) in cases {
            assert_eq!(parsed(content_type, body.as_bytes()), expected, "{content_type} {body}");
        }
    }
}
