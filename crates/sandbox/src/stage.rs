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
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::{
    api,
    consent::escape,
    gzip,
    journal::{Answered, Call, Recorded},
    params::Params,
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
    let secrets = Presented::of(&parts, call, &body);
    let cut = parts.extensions.get::<Cut>().cloned().unwrap_or_default();
    let releases = platform.releases();
    let mut recorded = sketch(call, &parts, host, &body, quirk.as_ref());
    parts.extensions.insert(call);

    let answer = match quirk.as_ref().and_then(|quirk| instead(&platform, quirk, &secrets)) {
        Some(answer) => answer,
        None => next.run(Request::from_parts(parts, Body::from(body))).await,
    };
    recorded.status = answer.status().as_u16();
    platform.interior().journal.record(recorded);
    let answer = match &quirk {
        Some(quirk) => dress(&platform, quirk, answer, &secrets).await,
        None => answer,
    };
    let answer = keep(&platform, call, answer).await;
    match quirk {
        None => answer,
        Some(quirk) => deliver(quirk, answer, cut, releases).await,
    }
}

/// What a request presented and an answer should not repeat.
struct Presented {
    authorization: Option<HeaderValue>,
    /// The secret fields of an OAuth form, as `name=value`.
    fields: Vec<String>,
}

impl Presented {
    fn of(parts: &Parts, call: Call, body: &Bytes) -> Self {
        const SECRET: [&str; 5] = ["client_secret", "code", "code_verifier", "refresh_token", "token"];
        let is_form = matches!(call, Call::Exchange | Call::Refresh | Call::Revoke);
        let form = is_form.then(|| Params::parse(body).ok()).flatten();
        let field = |name| Some(format!("{name}={}", form.as_ref()?.get(name)?));
        Self {
            authorization: parts.headers.get(header::AUTHORIZATION).cloned(),
            fields: SECRET.into_iter().filter_map(field).collect(),
        }
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
fn instead(platform: &Platform, quirk: &Quirk, presented: &Presented) -> Option<Response> {
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
        Quirk::EchoAuthorization { place, form, .. } if place.is_instead() => {
            let secret = presented.authorization.as_ref().map_or(b"".as_slice(), HeaderValue::as_bytes);
            Some(echo_instead(platform, *place, &write_as(*form, secret)))
        }
        Quirk::EchoForm { form } => {
            let basic = presented.authorization.as_ref().map(|value| value.to_str().unwrap_or_default().to_owned());
            let said: Vec<_> = presented.fields.iter().chain(&basic).map(|it| write_as(*form, it.as_bytes())).collect();
            let said = quoted(*form, &said.join(" "));
            let body = format!("{{\"error\":\"temporarily_unavailable\",\"error_description\":{said}}}");
            platform.interior().last_echo = Some(Bytes::from(body.clone()));
            let mut answer = Response::new(Body::from(body));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Some(answer)
        }
        _ => None,
    }
}

/// An answer of which the echo is all.
fn echo_instead(platform: &Platform, place: EchoPlace, text: &str) -> Response {
    let (mut answer, echoed) = match place {
        EchoPlace::Location => {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::FOUND;
            let location = format!("https://x.com/sign-in?denied={text}");
            if let Ok(value) = HeaderValue::from_str(&location) {
                answer.headers_mut().insert(header::LOCATION, value);
            }
            (answer, location)
        }
        EchoPlace::ErrorHeader => {
            let mut answer = api::problem(StatusCode::BAD_REQUEST, "The sandbox was told to answer so.");
            if let Ok(value) = HeaderValue::from_str(text) {
                answer.headers_mut().insert("x-echo", value);
            }
            (answer, text.to_owned())
        }
        _ => {
            let text = escape(text);
            let html = format!("<!doctype html><title>Error</title><h1>500</h1><pre>Authorization: {text}</pre>");
            let mut answer = Response::new(Body::from(html.clone()));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            (answer, html)
        }
    };
    answer.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    platform.interior().last_echo = Some(Bytes::from(echoed));
    answer
}

/// Changes what an answer says, where the quirk will have it.
async fn dress(platform: &Platform, quirk: &Quirk, answer: Response, presented: &Presented) -> Response {
    match quirk {
        Quirk::MalformedJson => {
            let (mut parts, _) = answer.into_parts();
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
            Response::from_parts(parts, Body::from("{\"data\": {\"id\": \"1\", "))
        }
        Quirk::EchoAuthorization { place, form, .. } if !place.is_instead() => match &presented.authorization {
            Some(value) => echo(platform, answer, value.as_bytes(), *place, *form).await,
            None => answer,
        },
        _ => answer,
    }
}

/// Puts the answer into the journal, if answers are kept.
async fn keep(platform: &Platform, call: Call, answer: Response) -> Response {
    if !platform.interior().journal.keeps_answers() {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    let sent = whole(body).await;
    let compressed = parts.extensions.get::<Uncompressed>().map(|_| sent.clone());
    let body = parts.extensions.get::<Uncompressed>().map_or_else(|| sent.clone(), |plain| plain.0.clone());
    let status = parts.status.as_u16();
    let kept = Answered { call, status, headers: parts.headers.clone(), body, compressed };
    platform.interior().journal.answered(kept);
    Response::from_parts(parts, Body::from(sent))
}

/// A compressed answer's body as it was before.
#[derive(Debug, Clone)]
struct Uncompressed(Bytes);

/// Delivers an answer as the quirk will have it: late, in part, or never.
async fn deliver(quirk: Quirk, answer: Response, cut: Cut, mut releases: watch::Receiver<u64>) -> Response {
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
        Quirk::EchoAuthorization { piecewise: true, .. } => in_pieces(answer).await,
        Quirk::EchoAuthorization { piecewise: false, .. }
        | Quirk::EchoForm { .. }
        | Quirk::MalformedJson
        | Quirk::Status { .. }
        | Quirk::RateLimited { .. }
        | Quirk::Redirect { .. } => answer,
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
    let in_header = match place {
        EchoPlace::Header => Some((HeaderName::from_static("x-echo"), text.clone())),
        EchoPlace::EntityTag => Some((header::ETAG, format!("\"{text}\""))),
        EchoPlace::SetCookie => Some((header::SET_COOKIE, format!("seen={text}; Path=/; Secure"))),
        _ => None,
    };
    let (echoed, body) = if let Some((name, value)) = in_header {
        if let Ok(value) = HeaderValue::from_str(&value) {
            parts.headers.insert(name, value);
        }
        (Bytes::from(value), body)
    } else {
        let echoed = Bytes::from(with_field(&whole(body).await, &quoted(form, &text)));
        let coded = match place {
            EchoPlace::GzipBody => Some((Some("gzip"), gzip::compress(&echoed))),
            EchoPlace::DeflateBody => Some((Some("deflate"), gzip::zlib(&echoed))),
            EchoPlace::BrotliBody => Some((Some("br"), gzip::brotli(&echoed))),
            EchoPlace::UnlabelledGzip => Some((None, gzip::compress(&echoed))),
            _ => None,
        };
        let body = coded.map_or_else(
            || Body::from(echoed.clone()),
            |(name, coded)| {
                if let Some(name) = name {
                    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
                }
                parts.extensions.insert(Uncompressed(echoed.clone()));
                Body::from(coded)
            },
        );
        (echoed, body)
    };
    platform.interior().last_echo = Some(echoed);
    Response::from_parts(parts, body)
}

/// The echo as a JSON string.
fn quoted(form: EchoForm, text: &str) -> String {
    if form.is_escaped() { format!("\"{text}\"") } else { Value::from(text).to_string() }
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
    let each = |write: fn(&mut String, usize, u8) -> std::fmt::Result| {
        secret.iter().enumerate().fold(String::with_capacity(secret.len() * 7), |mut out, (place, byte)| {
            // Writing to a String does not fail.
            let _never = write(&mut out, place, *byte);
            out
        })
    };
    match form {
        EchoForm::Plain => String::from_utf8_lossy(secret).into_owned(),
        EchoForm::Base64 { shift } => STANDARD.encode(shifted(shift)),
        EchoForm::Base64Url { shift } => URL_SAFE_NO_PAD.encode(shifted(shift)),
        EchoForm::Base64Slashes { shift } => STANDARD.encode(shifted(shift)).replace('/', "\\/"),
        EchoForm::Percent => each(|out, _, byte| write!(out, "%{byte:02X}")),
        EchoForm::JsonEscapes => each(|out, _, byte| write!(out, "\\u{byte:04x}")),
        EchoForm::EscapedPercent => each(|out, _, byte| write!(out, "\\u0025{byte:02x}")),
        EchoForm::DoubleEscapes => each(|out, _, byte| write!(out, "\\\\u{byte:04x}")),
        EchoForm::Hex => each(|out, _, byte| write!(out, "{byte:02x}")),
        EchoForm::SomePercent => each(|out, place, byte| match place % 4 {
            0 => write!(out, "%{byte:02X}"),
            2 => write!(out, "%{byte:02x}"),
            _ => write!(out, "{}", char::from(byte)),
        }),
        EchoForm::SomeEscapes => each(|out, place, byte| match place % 4 {
            _ if matches!(byte, b'"' | b'\\') => write!(out, "\\u{byte:04x}"),
            0 => write!(out, "\\u{byte:04X}"),
            2 => write!(out, "\\u{byte:04x}"),
            _ => write!(out, "{}", char::from(byte)),
        }),
        EchoForm::References => each(|out, place, byte| match place % 2 {
            0 => write!(out, "&#{byte};"),
            _ => write!(out, "&#x{byte:x};"),
        }),
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
            (EchoForm::SomePercent, "%61b%3f"),
            (EchoForm::SomeEscapes, "\\u0061b\\u003f"),
            (EchoForm::Base64Slashes { shift: 0 }, "YWI\\/"),
            (EchoForm::EscapedPercent, "\\u002561\\u002562\\u00253f"),
            (EchoForm::DoubleEscapes, "\\\\u0061\\\\u0062\\\\u003f"),
            (EchoForm::Hex, "61623f"),
            (EchoForm::References, "&#97;&#x62;&#63;"),
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
