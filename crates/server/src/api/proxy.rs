//! The platform's own API, for clients that were written for it: a request is understood as one declared action, and what the
//! provider answered is passed on, scrubbed.
//!
//! The path and the query are handed on as they were on the wire: a decoded path could be read in two ways.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::id::MandateId;
use http::{HeaderName, HeaderValue, StatusCode, header};
use service::{
    App, Refusal,
    action::Perform,
    gateway::{self, Request, Wish},
};

use super::acts;
use crate::{
    guard::Caller,
    input::{Body, Input, Query, Reader, Takes},
    problem::Problem,
};

/// What stands before the mandate.
const PREFIX: &str = "/v1/proxy/";

/// A request for the platform.
pub(crate) struct Passed(Request);

impl Input for Passed {
    const TAKES: Takes = Takes::RawJson;
    const QUERY: Query = Query::Foreign(&[]);
    const HEADERS: &'static [(&'static str, &'static str)] = &[acts::IDEMPOTENCY_KEY];

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let mandate = from.path::<MandateId>("mandate");
        let key = acts::idempotency_key(from);
        let arrived = from.arrived();
        let body = match &arrived.body {
            Body::Raw(bytes) => bytes.clone(),
            Body::Nothing | Body::Json(_) | Body::Form(_) => Bytes::new(),
        };
        let wish = Wish::Platform {
            method: arrived.method.as_str().to_owned(),
            path: behind_mandate(arrived.uri.path())?.to_owned(),
            query: arrived.uri.query().map(str::to_owned),
            body,
        };
        Some(Self(Request { mandate: mandate?, wish, key }))
    }
}

/// The rest of the path behind the mandate, as it was sent, its slash with it.
fn behind_mandate(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PREFIX)?;
    rest.find('/').and_then(|slash| rest.get(slash..))
}

pub(crate) async fn pass(app: Arc<App>, caller: Caller<Perform>, input: Passed) -> Result<Response, Problem> {
    let answer = gateway::act(&app, caller.into_principal(), input.0).await?;
    let ours = acts::headers(&answer);
    let durable = if answer.durable { "true" } else { "false" };
    let status =
        StatusCode::from_u16(answer.status).map_err(|error| Refusal::internal("a provider's status", error))?;
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let content_type = HeaderValue::from_str(&answer.content_type);
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.extend(ours);
    headers.insert(HeaderName::from_static("keyholder-durable"), HeaderValue::from_static(durable));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_path_is_what_was_sent() {
        let cases = [
            ("/v1/proxy/man_x/2/tweets", Some("/2/tweets")),
            ("/v1/proxy/man_x/2/tweets/%31%2f..", Some("/2/tweets/%31%2f..")),
            ("/v1/proxy/man_x//2", Some("//2")),
            ("/v1/proxy/man_x/", Some("/")),
            ("/v1/proxy/man_x", None),
            ("/v1/other", None),
        ];
        for (path, expected) in cases {
            assert_eq!(behind_mandate(path), expected, "{path}");
        }
    }
}
