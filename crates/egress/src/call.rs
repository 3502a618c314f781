//! One outbound call: what it says, what it authenticates with, what comes back, and how it can fail.
//!
//! None of these types shows a credential, a body or a header: they have no `Debug`, and their errors name causes only.

use std::{io, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use domain::{id::ConnectionId, retry};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::Full;
use seal::Plain;
use time::OffsetDateTime;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::{
    host::Host,
    scrub::{Clean, Scrubber},
    wipe,
};

/// What every call says of its sender.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Keyholder/", env!("CARGO_PKG_VERSION")));

/// The most headers that a call may bring along.
const MAX_HEADERS: usize = 64;

/// Headers that are egress's own to write, or that would change what a connection means (RFC 9110 §7.6.1).
const RESERVED: &[HeaderName] = &[
    header::ACCEPT_ENCODING,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::USER_AGENT,
];

/// A call to a provider, without its credential.
pub struct OutboundCall {
    /// GET, HEAD, POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// The host name. The scheme is https and the port 443, always.
    pub host: String,
    /// Path and query, beginning with a slash, escaped already.
    pub path_and_query: String,
    /// At most 64 further headers; none of those that egress writes itself.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, if there is one.
    pub body: Option<Bytes>,
    /// How long the whole call may take, from the wait for its turn to the last byte of the answer.
    pub timeout: Duration,
    /// The most bytes of the answer's body that are read.
    pub max_response_bytes: usize,
    /// The time since boot by which the first byte must have left, if there is such a limit (design §6).
    pub send_by: Option<Duration>,
    /// Whose call it is: no account takes more than its share of a host's turns. Calls of nobody share the host's turns alone.
    pub account: Option<ConnectionId>,
    /// Secrets that are in the body or the headers (a refresh token, a client's secret sent by form): the answer is
    /// searched for them as it is for the credential.
    pub also_secret: Vec<Zeroizing<Vec<u8>>>,
}

/// What a call authenticates with. Consumed, and wiped, by the one call.
pub enum Auth {
    /// Nothing.
    None,
    /// An access token (RFC 6750 §2.1).
    Bearer(Plain),
    /// A client's id and secret (RFC 6749 §2.3.1).
    BasicClient {
        /// The client's id, which is no secret.
        id: String,
        /// The client's secret.
        secret: Plain,
    },
}

/// An answer that nobody may be shown: it may hold the credential, or be one.
///
/// [`RawAnswer::scrub`] makes it presentable. Reading it as it is serves one purpose: to take the tokens out of a token
/// endpoint's answer and seal them.
pub struct RawAnswer {
    /// The status, whichever it was: redirects are not followed.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body, UTF-8 text. Wiped when the last clone of it goes.
    pub body: Bytes,
    scrubber: Scrubber,
}

impl RawAnswer {
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, body: Bytes, scrubber: Scrubber) -> Self {
        Self { status, headers, body, scrubber }
    }

    /// How long the peer asks to be left alone: by `Retry-After`, or else by the header in which it tells when its window ends, where it
    /// has one. Nothing but this span is taken from the unsearched answer.
    pub fn asks_to_wait(&self, reset_header: Option<&str>, now: OffsetDateTime) -> Option<Duration> {
        let text = |name: &str| self.headers.get(name)?.to_str().ok();
        let date = text("date");
        let said = text("retry-after").and_then(|value| retry::retry_after(value, date, now));
        said.or_else(|| retry::reset_at(text(reset_header?)?, date, now))
    }

    /// The answer without any trace of the call's credential, which is what may be shown, logged and stored.
    pub fn scrub(self) -> Clean {
        let Self { status, headers, body, scrubber } = self;
        scrubber.clean(status, &headers, &body)
    }
}

/// How far a call had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waited for its turn: its account or its host has as many calls in flight as it may have.
    Turn,
    /// The name was being resolved.
    Resolve,
    /// The address was being connected to.
    Connect,
    /// The peer was proving its name.
    Tls,
    /// The connection was there, and the request was not written whole.
    Request,
    /// The request was written, and the answer's head did not come.
    FirstByte,
    /// The answer had begun.
    Answer,
}

impl Stage {
    /// What the call was at, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turn => "waiting for its turn",
            Self::Resolve => "resolving the host's name",
            Self::Connect => "connecting",
            Self::Tls => "the TLS handshake",
            Self::Request => "writing the request",
            Self::FirstByte => "waiting for the answer's first byte",
            Self::Answer => "reading the answer",
        }
    }
}

/// Why a call failed on the way.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It took too long.
    #[error("timed out")]
    TimedOut,
    /// The network or TLS failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The peer did not speak HTTP, or stopped speaking.
    #[error("the exchange failed")]
    Http(#[source] hyper::Error),
}

/// How a call failed. The first five are certain that it had no effect; the rest are not.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The call itself is at fault: its method, path, headers or credential cannot be sent.
    #[error("this call cannot be sent: {0}")]
    Malformed(&'static str),
    /// The host is not both declared by the provider and sealed with the credential.
    #[error("this host may not be called")]
    HostRefused,
    /// The host's name leads to no public address.
    #[error("this host leads to no address that may be called")]
    AddressRefused,
    /// `send_by` had passed before the first byte left.
    #[error("too late to be sent")]
    DeadlinePassed,
    /// It failed before the first byte left.
    #[error("not sent: it failed at {}", .stage.as_str())]
    NotSent {
        /// How far it had come.
        stage: Stage,
        /// Why it failed.
        #[source]
        source: Fault,
    },
    /// It failed after the first byte left: it may have had its effect.
    #[error("sent, and not answered in full: it failed at {}", .stage.as_str())]
    Ambiguous {
        /// How far it had come.
        stage: Stage,
        /// The answer's status, where the answer had begun.
        status: Option<StatusCode>,
        /// Why it failed.
        #[source]
        source: Fault,
    },
    /// It was answered, with a longer body than allowed. The body is not released.
    #[error("the answer is too large")]
    TooLarge {
        /// The answer's status.
        status: StatusCode,
    },
    /// It was answered with a body that is encoded, against what was asked, or is no text: it cannot be searched, so it
    /// is not released.
    #[error("the answer is encoded")]
    Encoded {
        /// The answer's status.
        status: StatusCode,
    },
}

impl SendError {
    /// Whether it is certain that nothing left, and so that the call had no effect.
    pub fn is_surely_unsent(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::HostRefused
            | Self::AddressRefused
            | Self::DeadlinePassed
            | Self::NotSent { .. } => true,
            Self::Ambiguous { .. } | Self::TooLarge { .. } | Self::Encoded { .. } => false,
        }
    }

    /// What the call was at when it failed, where that is known.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::NotSent { stage, .. } | Self::Ambiguous { stage, .. } => Some(*stage),
            Self::TooLarge { .. } | Self::Encoded { .. } => Some(Stage::Answer),
            _ => None,
        }
    }

    /// The answer's status, where one came before the failure.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Ambiguous { status, .. } => *status,
            Self::TooLarge { status } | Self::Encoded { status } => Some(*status),
            _ => None,
        }
    }
}

/// A call made ready: checked, its credential rendered. The copies of it share one wiped buffer.
pub(crate) struct Prepared {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    pub(crate) timeout: Duration,
    pub(crate) max_response_bytes: usize,
    pub(crate) send_by: Option<Duration>,
    pub(crate) account: Option<ConnectionId>,
}

impl Prepared {
    /// Checks the call and renders its credential; and makes, from the same secrets, the scrubber of its answer.
    pub(crate) fn new(host: &Host, call: OutboundCall, credential: Auth) -> Result<(Self, Scrubber), SendError> {
        const METHODS: [Method; 6] =
            [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        if !METHODS.contains(&call.method) {
            return Err(SendError::Malformed("its method is not one of those that act"));
        }
        if !call.path_and_query.starts_with('/') {
            return Err(SendError::Malformed("its path does not begin with a slash"));
        }
        let path = PathAndQuery::try_from(call.path_and_query)
            .map_err(|_| SendError::Malformed("its path has characters that are not escaped"))?;
        if call.headers.len() > MAX_HEADERS || call.headers.iter().any(|(name, _)| RESERVED.contains(name)) {
            return Err(SendError::Malformed("its headers are too many, or not its own to write"));
        }

        let mut headers = HeaderMap::with_capacity(call.headers.len() + 4);
        headers.insert(
            header::HOST,
            HeaderValue::from_str(host.as_str()).map_err(|_| SendError::Malformed("its host cannot be written"))?,
        );
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(call.headers);
        let mut secrets = call.also_secret;
        if let Some(rendered) = credential.render(&mut secrets) {
            let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(rendered))
                .map_err(|_| SendError::Malformed("its credential has characters that no header can hold"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let scrubber = Scrubber::new(secrets.iter().map(|secret| secret.as_slice()));

        let prepared = Self {
            method: call.method,
            uri: Uri::from(path),
            headers,
            body: call.body.unwrap_or_default(),
            timeout: call.timeout,
            max_response_bytes: call.max_response_bytes,
            send_by: call.send_by,
            account: call.account,
        };
        Ok((prepared, scrubber))
    }

    /// The request, ready for a connection.
    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        request.headers_mut().clone_from(&self.headers);
        request
    }
}

impl Auth {
    /// The `Authorization` header's value. The secrets, as they are and as they are rendered, are added to the list.
    fn render(self, secrets: &mut Vec<Zeroizing<Vec<u8>>>) -> Option<Zeroizing<Vec<u8>>> {
        let (scheme, rendered) = match self {
            Self::None => return None,
            Self::Bearer(token) => ("Bearer ", token.into_exposed()),
            Self::BasicClient { id, secret } => {
                let secret = secret.into_exposed();
                let mut pair = Zeroizing::new(Vec::new());
                for piece in form_urlencoded::byte_serialize(id.as_bytes()) {
                    wipe::append(&mut pair, piece.as_bytes());
                }
                wipe::append(&mut pair, b":");
                for piece in form_urlencoded::byte_serialize(&secret) {
                    wipe::append(&mut pair, piece.as_bytes());
                }
                let rendered = Zeroizing::new(STANDARD.encode(&*pair).into_bytes());
                secrets.push(secret);
                ("Basic ", rendered)
            }
        };
        let mut value = Zeroizing::new(Vec::with_capacity(scheme.len() + rendered.len()));
        value.extend_from_slice(scheme.as_bytes());
        value.extend_from_slice(&rendered);
        secrets.push(rendered);
        Some(value)
    }
}
