//! The API: profile, posts, replies, metrics as X's v2 has them, and a generic provider's account.
//!
//! Owns who may call what (bearer, scopes, rate limit) and the shapes of answers and problems. Fields of a post that the
//! double does not know are refused, where X would know more of them.

use axum::{
    body::Body,
    extract::{Extension, Path, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use url::form_urlencoded;

use crate::{
    journal::Call,
    platform::{Interior, Platform, Rate},
    post::{HEAVIEST, Post, weight},
    registry::Account,
};

const INVALID: &str = "https://api.twitter.com/2/problems/invalid-request";
const NOT_FOUND: &str = "https://api.twitter.com/2/problems/resource-not-found";
const FIELDS: &[&str] = &[
    "author_id",
    "conversation_id",
    "created_at",
    "edit_history_tweet_ids",
    "id",
    "public_metrics",
    "referenced_tweets",
    "text",
];

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    with_type(status, value, "application/json; charset=utf-8")
}

fn with_type(status: StatusCode, value: &Value, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A problem in X's shape: `type` is `about:blank` and the title that of the status.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let value = json!({"title": title, "type": "about:blank", "status": status.as_u16(), "detail": detail});
    with_type(status, &value, "application/problem+json")
}

fn invalid(parameter: &str, message: &str) -> Response {
    let value = json!({
        "errors": [{"parameters": {parameter: []}, "message": message}],
        "title": "Invalid Request",
        "detail": "One or more parameters of the request are invalid.",
        "type": INVALID,
    });
    with_type(StatusCode::BAD_REQUEST, &value, "application/problem+json")
}

/// Adds X's rate limit headers.
pub(crate) fn rate_headers(response: &mut Response, rate: Rate) {
    let headers = response.headers_mut();
    headers.insert("x-rate-limit-limit", HeaderValue::from(rate.limit));
    headers.insert("x-rate-limit-remaining", HeaderValue::from(rate.remaining));
    headers.insert("x-rate-limit-reset", HeaderValue::from(rate.reset_s));
}

/// The scopes that X documents for each call.
fn scopes(call: Call) -> &'static [&'static str] {
    match call {
        Call::ReadProfile | Call::ReadPost => &["tweet.read", "users.read"],
        Call::CreatePost | Call::Reply | Call::DeletePost => &["tweet.read", "tweet.write", "users.read"],
        Call::ReadAccount => &["account.read"],
        _ => &[],
    }
}

/// Runs the call for whom the bearer token stands, if it may.
fn with_bearer(
    platform: &Platform,
    headers: &HeaderMap,
    call: Call,
    run: impl FnOnce(&mut Interior, &Account) -> Response,
) -> Response {
    let mut interior = platform.interior();
    let now_ms = interior.hour.now_ms();
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(read_bearer);
    let Some(bearer) = token.and_then(|token| interior.grants.bearer(token, now_ms)) else {
        let mut response = problem(StatusCode::UNAUTHORIZED, "Unauthorized");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    };
    if !scopes(call).iter().all(|needed| bearer.scopes.iter().any(|scope| scope == needed)) {
        return problem(StatusCode::FORBIDDEN, "The token lacks a scope that this call needs.");
    }
    let Some(account) = interior.registry.by_id(&bearer.account_id).cloned() else {
        return problem(StatusCode::UNAUTHORIZED, "Unauthorized");
    };
    let rate = interior.rates.count(&account.id, call, now_ms);
    let mut response = if rate.exceeded {
        problem(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
    } else {
        run(&mut interior, &account)
    };
    rate_headers(&mut response, rate);
    response
}

fn read_bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// `GET /2/users/me`
pub(crate) async fn profile(State(platform): State<Platform>, headers: HeaderMap) -> Response {
    with_bearer(&platform, &headers, Call::ReadProfile, |_, account| {
        let data = json!({"id": account.id, "name": account.name, "username": account.handle});
        json(StatusCode::OK, &json!({"data": data}))
    })
}

/// `GET /account`, of the generic provider.
pub(crate) async fn account(State(platform): State<Platform>, headers: HeaderMap) -> Response {
    with_bearer(&platform, &headers, Call::ReadAccount, |_, account| {
        json(StatusCode::OK, &json!({"id": account.id, "name": account.name}))
    })
}

/// `POST /2/tweets`
pub(crate) async fn create(
    State(platform): State<Platform>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    with_bearer(&platform, &headers, call, |interior, account| {
        let draft = match read_draft(&headers, &body) {
            Ok(draft) => draft,
            Err(response) => return *response,
        };
        if weight(&draft.text) > HEAVIEST {
            return problem(StatusCode::FORBIDDEN, "The text is too long.");
        }
        let now_ms = interior.hour.now_ms();
        match interior.posts.write(&account.id, &account.handle, draft.text, draft.reply_to, now_ms) {
            Some(post) => {
                if let Some(witness) = &interior.witness {
                    witness(&post);
                }
                let data = json!({"id": post.id, "text": post.text, "edit_history_tweet_ids": [post.id]});
                json(StatusCode::CREATED, &json!({"data": data}))
            }
            None => problem(StatusCode::FORBIDDEN, "The post that this replies to is deleted, or was never there."),
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Draft {
    text: String,
    reply_to: Option<u64>,
}

fn read_draft(headers: &HeaderMap, body: &[u8]) -> Result<Draft, Box<Response>> {
    let refuse = |parameter, message: &str| Box::new(invalid(parameter, message));
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
        return Err(refuse("content-type", "The body must be application/json."));
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return Err(refuse("$", "The body is not a JSON object."));
    };
    if let Some(unknown) = fields.keys().find(|name| !matches!(name.as_str(), "text" | "reply")) {
        return Err(refuse(unknown, "The field is not in the schema, and the schema allows no others."));
    }
    let text = fields.get("text").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| refuse("$.text", "The text is missing, empty, or not a text."))?;
    let reply_to = match fields.get("reply").filter(|reply| !reply.is_null()) {
        None => None,
        Some(reply) => Some(read_reply(reply).ok_or_else(|| {
            refuse("$.reply", "A reply is an object with in_reply_to_tweet_id, a decimal text, and nothing else.")
        })?),
    };
    Ok(Draft { text: text.to_owned(), reply_to })
}

fn read_reply(reply: &Value) -> Option<u64> {
    let fields: &Map<String, Value> = reply.as_object()?;
    read_id(fields.get("in_reply_to_tweet_id")?.as_str()?).filter(|_| fields.len() == 1)
}

/// X's ids: 1 to 19 digits.
fn read_id(text: &str) -> Option<u64> {
    let digits = (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `DELETE /2/tweets/:id`. A post that is not there (any more) counts as deleted.
pub(crate) async fn delete(State(platform): State<Platform>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    with_bearer(&platform, &headers, Call::DeletePost, |interior, account| {
        let Some(id) = read_id(&id) else { return invalid("id", "The id is not a decimal of up to 19 digits.") };
        if interior.posts.get(id).is_some_and(|post| post.author_id != account.id) {
            return problem(StatusCode::FORBIDDEN, "The post is another account's.");
        }
        interior.posts.remove(id);
        json(StatusCode::OK, &json!({"data": {"deleted": true}}))
    })
}

/// `GET /2/tweets/:id`. X answers 200 with `errors` where there is no such post, and so does this.
pub(crate) async fn read(
    State(platform): State<Platform>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    with_bearer(&platform, &headers, Call::ReadPost, |interior, _| {
        let Some(number) = read_id(&id) else { return invalid("id", "The id is not a decimal of up to 19 digits.") };
        let mut fields = Vec::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if name != "tweet.fields" {
                return invalid(&name, "The parameter is not known.");
            }
            fields.extend(value.split(',').map(str::to_owned));
        }
        if let Some(unknown) = fields.iter().find(|field| !FIELDS.contains(&field.as_str())) {
            return invalid("tweet.fields", &format!("The field {unknown} is not known."));
        }
        match interior.posts.get(number) {
            Some(post) => json(StatusCode::OK, &json!({"data": render(post, &fields)})),
            None => json(
                StatusCode::OK,
                &json!({"errors": [{
                    "value": id, "resource_id": id, "parameter": "id", "resource_type": "tweet",
                    "title": "Not Found Error", "detail": "There is no such post.", "type": NOT_FOUND,
                }]}),
            ),
        }
    })
}

fn render(post: &Post, fields: &[String]) -> Value {
    let mut data = Map::new();
    data.insert("id".into(), json!(post.id));
    data.insert("text".into(), json!(post.text));
    data.insert("edit_history_tweet_ids".into(), json!([post.id]));
    for field in fields {
        let value = match field.as_str() {
            "author_id" => json!(post.author_id),
            "conversation_id" => json!(post.conversation_id),
            "created_at" => json!(rfc3339(post.created_ms)),
            "public_metrics" => json!({
                "retweet_count": 0, "reply_count": post.replies, "like_count": 0,
                "quote_count": 0, "bookmark_count": 0, "impression_count": 0,
            }),
            "referenced_tweets" => match &post.reply_to {
                Some(parent) => json!([{"type": "replied_to", "id": parent}]),
                None => continue,
            },
            _ => continue,
        };
        data.insert(field.clone(), value);
    }
    Value::Object(data)
}

fn rfc3339(ms: u64) -> Option<String> {
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
    moment.format(&Rfc3339).ok()
}

/// What is not there.
pub(crate) async fn nowhere() -> Response {
    problem(StatusCode::NOT_FOUND, "Not Found")
}

/// What is there, but not for this method.
pub(crate) async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_read_strictly() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let good = [
            (r#"{"text":"a"}"#, None),
            (r#"{"text":"a","reply":null}"#, None),
            (r#"{"text":"a","reply":{"in_reply_to_tweet_id":"12"}}"#, Some(12)),
        ];
        for (body, reply_to) in good {
            let draft = read_draft(&headers, body.as_bytes()).unwrap();
            assert_eq!(draft, Draft { text: "a".into(), reply_to }, "{body}");
        }
        for body in [
            "",
            "[]",
            "{}",
            r#"{"text":""}"#,
            r#"{"text":" "}"#,
            r#"{"text":1}"#,
            r#"{"text":"a","extra":1}"#,
            r#"{"text":"a","reply":{}}"#,
            r#"{"text":"a","reply":"12"}"#,
            r#"{"text":"a","reply":{"in_reply_to_tweet_id":12}}"#,
            r#"{"text":"a","reply":{"in_reply_to_tweet_id":"-1"}}"#,
            r#"{"text":"a","reply":{"in_reply_to_tweet_id":"12","extra":1}}"#,
        ] {
            assert!(read_draft(&headers, body.as_bytes()).is_err(), "{body}");
        }
        assert!(read_draft(&HeaderMap::new(), br#"{"text":"a"}"#).is_err());
    }
}
