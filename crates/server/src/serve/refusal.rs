//! Refusals of what never became a request: the same problem, with the same headers, as any other.

use axum::response::Response;
use domain::{id::RequestId, problem::Kind};
use http::{HeaderName, HeaderValue, header};

use super::{Site, framing::FramingFault, wire::Halt};
use crate::{headers, problem::Problem};

/// The most bytes of a refusal's body.
const MOST_BYTES: usize = 64 * 1024;

/// What a client is told whose connection is halted; one that said nothing is told nothing.
pub(super) fn of(halt: Halt) -> Option<Problem> {
    match halt {
        Halt::Fault(FramingFault::Malformed(why)) => Some(Problem::new(Kind::MalformedRequest).saying(why)),
        Halt::Fault(FramingFault::TooLarge) => Some(Problem::new(Kind::HeadTooLarge)),
        Halt::Late => Some(Problem::new(Kind::RequestTimeout).saying("the head did not come in time")),
        Halt::Silent | Halt::Idle => None,
    }
}

/// A problem as an answer with all that the edge adds.
pub(super) fn response(problem: Problem, site: &Site) -> Response {
    let id = RequestId::new(&site.clock);
    let mut response = problem.respond(id, &site.clock);
    headers::secure(response.headers_mut(), None, site.over_tls);
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), id);
    }
    response
}

/// An answer as HTTP/1.1 has it on the wire (RFC 9112 §4), saying that the connection ends.
pub(super) async fn on_the_wire(response: Response) -> Vec<u8> {
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, MOST_BYTES).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let status = parts.status;
    let mut wire =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("Refused")).into_bytes();
    for (name, value) in &parts.headers {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire.extend_from_slice(&body);
    wire
}
