//! The stage that every request passes: it looks at the host, tells the kind of call, carries out the quirk that the
//! switchboard chose, and writes the journal.
//!
//! The only place where the platform misbehaves. An effect is in the journal before its answer is delayed, held, cut or
//! lost, so that whoever waits on the counts sees it.

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::{
    api,
    consent::escape,
    gzip,
    journal::{Call, Recorded},
    platform::{Platform, Rate},
    quirk::{EchoForm, EchoPlace, Quirk},
};

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 64 * 1024;
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// The limit that a `RateLimited` answer claims.
const CLAIMED_LIMIT: u32 = 100;

/// Cuts the connection that a request came on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<Notify>);

impl Cut {
    fn fire(&self) {
        self.0.notify_one();
    }

    /// Returns once the connection is to be cut.
    pub(crate) async fn fired(&self) {
        self.0.notified().await;
    }
}

/// Takes a request through the platform.
pub(crate) async fn pass(State(platform): State<Platform>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let host = host(&parts);
    if parts.uri.path().starts_with("/sandbox/") {
        if host != "localhost" {
            return api::nowhere().await;
        }
        return next.run(Request::from_parts(parts, body)).await;
    }
    if !platform.knows_host(&host) {
        return api::problem(StatusCode::MISDIRECTED_REQUEST, "No such platform.");
    }
    let body = match tokio::time::timeout(BODY_PATIENCE, to_bytes(body, LONGEST_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return api::problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is too long, or was cut."),
        Err(_) => return api::problem(StatusCode::REQUEST_TIMEOUT, "The body did not come."),
    };

    let call = Call::of(&parts.method, parts.uri.path(), &body);
    let quirk = platform.interior().board.take(call);
    let authorization = parts.headers.get(header::AUTHORIZATION).cloned();
    let cut = parts.extensions.get::<Cut>().cloned().unwrap_or_default();
    let releases = platform.releases();
    let mut recorded = sketch(call, &parts, host, &body, quirk.as_ref());
    parts.extensions.insert(call);

    let answer = match quirk.as_ref().and_then(|quirk| instead(&platform, quirk, authorization.as_ref())) {
        Some(answer) => answer,
        None => next.run(Request::from_parts(parts, Body::from(body))).await,
    };
    recorded.status = answer.status().as_u16();
    platform.interior().journal.record(recorded);
    match quirk {
        None => answer,
        Some(quirk) => deliver(&platform, quirk, answer, authorization, cut, releases).await,
    }
}

/// The name under which the platform was reached: HTTP/2 says it in the address, HTTP/1.1 in a header.
fn host(parts: &Parts) -> String {
    let header = || parts.headers.get(header::HOST).and_then(|value| value.to_str().ok()?.parse().ok());
    let authority = parts.uri.authority().cloned().or_else(header);
    authority.map_or_else(String::new, |authority: http::uri::Authority| authority.host().to_ascii_lowercase())
}

fn sketch(call: Call, parts: &Parts, host: String, body: &Bytes, quirk: Option<&Quirk>) -> Recorded {
    let mut headers: Vec<String> = parts.headers.keys().map(|name| name.as_str().to_owned()).collect();
    headers.sort();
    Recorded {
        call,
        method: parts.method.to_string(),
        host,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers,
        authorization_present: parts.headers.contains_key(header::AUTHORIZATION),
        body: body.to_vec(),
        status: 0,
        quirk: quirk.map(Quirk::name),
    }
}

/// The answer of a quirk that lets nothing happen.
fn instead(platform: &Platform, quirk: &Quirk, authorization: Option<&HeaderValue>) -> Option<Response> {
    match quirk {
        Quirk::Status { code, retry_after_s } => {
            let mut answer = api::problem(StatusCode::from_u16(*code).ok()?, "The sandbox was told to answer so.");
            if let Some(seconds) = retry_after_s {
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
            }
            Some(answer)
        }
        Quirk::RateLimited { reset_after_s } => {
            let reset_s = platform.interior().hour.now_ms() / 1000 + reset_after_s;
            let mut answer = api::problem(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
            api::rate_headers(&mut answer, Rate { limit: CLAIMED_LIMIT, remaining: 0, reset_s, exceeded: true });
            Some(answer)
        }
        Quirk::Redirect { location } => {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(location).ok()?);
            Some(answer)
        }
        Quirk::EchoAuthorization { place: EchoPlace::ErrorPage, form, .. } => {
            let text = authorization.map_or_else(String::new, |value| write_as(*form, value.as_bytes()));
            let html =
                format!("<!doctype html><title>Error</title><h1>500</h1><pre>Authorization: {}</pre>", escape(&text));
            platform.interior().last_echo = Some(Bytes::from(html.clone()));
            let mut answer = Response::new(Body::from(html));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            Some(answer)
        }
        _ => None,
    }
}

/// Delivers an answer as the quirk will have it.
async fn deliver(
    platform: &Platform,
    quirk: Quirk,
    answer: Response,
    authorization: Option<HeaderValue>,
    cut: Cut,
    mut releases: watch::Receiver<u64>,
) -> Response {
    match quirk {
        Quirk::SlowAnswer { ms } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            answer
        }
        Quirk::HoldAnswer => {
            // An error says that the platform is gone: then nothing holds the answer either.
            let _gone = releases.changed().await;
            answer
        }
        Quirk::LoseAnswer => {
            cut.fire();
            pending().await
        }
        Quirk::CutAnswer { after_bytes } => tear(answer, after_bytes, cut).await,
        Quirk::MalformedJson => {
            let (mut parts, _) = answer.into_parts();
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
            Response::from_parts(parts, Body::from("{\"data\": {\"id\": \"1\", "))
        }
        Quirk::EchoAuthorization { place, form, piecewise } => {
            let answer = match authorization {
                Some(value) => echo(platform, answer, value.as_bytes(), place, form).await,
                None => answer,
            };
            if piecewise { in_pieces(answer).await } else { answer }
        }
        Quirk::Status { .. } | Quirk::RateLimited { .. } | Quirk::Redirect { .. } => answer,
    }
}

async fn whole(body: Body) -> Bytes {
    // The platform's own answers are in memory, and short.
    to_bytes(body, usize::MAX).await.unwrap_or_default()
}

async fn tear(answer: Response, after_bytes: usize, cut: Cut) -> Response {
    let (mut parts, body) = answer.into_parts();
    let body = whole(body).await;
    if after_bytes >= body.len() {
        return Response::from_parts(parts, Body::from(body));
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let torn = Torn { head: Some(body.slice(..after_bytes)).filter(|head| !head.is_empty()), cut };
    Response::from_parts(parts, Body::new(torn))
}

async fn echo(platform: &Platform, answer: Response, secret: &[u8], place: EchoPlace, form: EchoForm) -> Response {
    let text = write_as(form, secret);
    let (mut parts, body) = answer.into_parts();
    let (echoed, body) = match place {
        EchoPlace::ErrorPage => return Response::from_parts(parts, body),
        EchoPlace::Header => {
            if let Ok(value) = HeaderValue::from_str(&text) {
                parts.headers.insert("x-echo", value);
            }
            (Bytes::from(text), body)
        }
        EchoPlace::Body | EchoPlace::GzipBody => {
            let quoted = match form {
                EchoForm::JsonEscapes => format!("\"{text}\""),
                _ => Value::from(text).to_string(),
            };
            let echoed = Bytes::from(with_field(&whole(body).await, &quoted));
            let body = if place == EchoPlace::GzipBody {
                parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                Body::from(gzip::compress(&echoed))
            } else {
                Body::from(echoed.clone())
            };
            (echoed, body)
        }
    };
    platform.interior().last_echo = Some(echoed);
    Response::from_parts(parts, body)
}

/// Adds the field `echo` to a JSON object; after anything else it is put at the end.
fn with_field(body: &[u8], quoted: &str) -> Vec<u8> {
    let mut out = body.to_vec();
    let object = out.pop_if(|last| *last == b'}').is_some();
    if object && out.len() > 1 {
        out.push(b',');
    }
    if object {
        out.extend_from_slice(format!("\"echo\":{quoted}}}").as_bytes());
    } else {
        out.extend_from_slice(quoted.as_bytes());
    }
    out
}

fn write_as(form: EchoForm, secret: &[u8]) -> String {
    use std::fmt::Write as _;
    let shifted = |shift: u8| [b"xx".get(..usize::from(shift)).unwrap_or_default(), secret].concat();
    let each = |write: fn(&mut String, u8) -> std::fmt::Result| {
        secret.iter().fold(String::with_capacity(secret.len() * 6), |mut out, byte| {
            // Writing to a String does not fail.
            let _never = write(&mut out, *byte);
            out
        })
    };
    match form {
        EchoForm::Plain => String::from_utf8_lossy(secret).into_owned(),
        EchoForm::Base64 { shift } => STANDARD.encode(shifted(shift)),
        EchoForm::Base64Url { shift } => URL_SAFE_NO_PAD.encode(shifted(shift)),
        EchoForm::Percent => each(|out, byte| write!(out, "%{byte:02X}")),
        EchoForm::JsonEscapes => each(|out, byte| write!(out, "\\u{byte:04x}")),
    }
}

async fn in_pieces(answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let pieces = Pieces { rest: whole(body).await, rested: false };
    Response::from_parts(parts, Body::new(pieces))
}

/// A body that ends before its announced length, and the connection with it.
struct Torn {
    head: Option<Bytes>,
    cut: Cut,
}

impl hyper::body::Body for Torn {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        // What was written before is flushed in the same turn, before the connection's task looks at the cut.
        self.cut.fire();
        Poll::Pending
    }
}

/// A body in pieces of one byte, each of them flushed.
struct Pieces {
    rest: Bytes,
    rested: bool,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.rested = !self.rested;
        if self.rested {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(1)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_written_in_every_form() {
        for (form, expected) in [
            (EchoForm::Plain, "ab?"),
            (EchoForm::Base64 { shift: 0 }, "YWI/"),
            (EchoForm::Base64 { shift: 1 }, "eGFiPw=="),
            (EchoForm::Base64Url { shift: 0 }, "YWI_"),
            (EchoForm::Base64Url { shift: 2 }, "eHhhYj8"),
            (EchoForm::Percent, "%61%62%3F"),
            (EchoForm::JsonEscapes, "\\u0061\\u0062\\u003f"),
        ] {
            assert_eq!(write_as(form, b"ab?"), expected, "{form:?}");
        }
    }

    #[test]
    fn the_echo_field_leaves_json_json() {
        assert_eq!(with_field(b"{}", "\"x\""), b"{\"echo\":\"x\"}");
        assert_eq!(with_field(b"{\"a\":1}", "\"x\""), b"{\"a\":1,\"echo\":\"x\"}");
        assert_eq!(with_field(b"<p>", "\"x\""), b"<p>\"x\"");
    }
}
