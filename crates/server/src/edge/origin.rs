//! Origins: from which pages a browser may send requests here, and which of them may read the answers.
//!
//! The list is the configuration's, read once; nothing that a request or a tenant says can change it. There is no session yet, so no
//! answer allows credentials: a script shows its key in `Authorization`, which is no credential in the browser's sense.

use std::str::FromStr;

use domain::{problem::Kind, sabotaged};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;

use crate::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Headers of ours that a script may read beyond the few that it always may (Fetch Standard, "CORS-safelisted response-header name").
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Request-Id, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, \
     Idempotency-Replayed, Keyholder-Act, Keyholder-Durable, WWW-Authenticate, Allow",
);

/// How long a browser may remember what a preflight was answered, in seconds.
const PREFLIGHT_FOR: HeaderValue = HeaderValue::from_static("600");

/// An origin (RFC 6454 §6.2) as browsers write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    text: String,
    is_secure: bool,
}

impl Origin {
    /// Whether its pages come over HTTPS. The others come from this machine, and are for developers.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }
}

impl FromStr for Origin {
    /// What is wrong with it, to stand behind the text.
    type Err = &'static str;

    /// Reads an https origin, or an http one of this machine.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "null" || text.contains('*') {
            return Err("names nobody: an origin is listed by itself, without a wildcard");
        }
        let url = Url::parse(text).map_err(|_| "is not an origin, such as https://app.example.com")?;
        let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let is_secure = url.scheme() == "https";
        if !(is_secure || (url.scheme() == "http" && local)) {
            return Err("is neither an https origin nor an http one on localhost");
        }
        if url.origin().ascii_serialization() != text {
            return Err(
                "is not written as browsers write it: scheme, host in lower case, port unless it is the usual one, and \
                        nothing behind",
            );
        }
        Ok(Self { text: text.to_owned(), is_secure })
    }
}

/// What the rows of one path have in common, as far as a browser asks.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Whether it is for people: then no other origin's script has any business there.
    pub(super) is_page: bool,
    /// Whether it is behind a key.
    pub(super) is_guarded: bool,
    /// Its methods.
    pub(super) methods: HeaderValue,
    /// The headers that its rows know.
    pub(super) headers: HeaderValue,
}

/// The origins whose requests are taken.
#[derive(Debug)]
pub(super) struct Origins {
    own: String,
    listed: Vec<Origin>,
}

/// What an origin is granted: the value by which a browser lets its script read the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant(HeaderValue);

impl Origins {
    pub(super) fn new(public_url: &Url, listed: Vec<Origin>) -> Self {
        Self { own: public_url.origin().ascii_serialization(), listed }
    }

    /// Refuses a request that another origin's page sent, before anything is done for it.
    ///
    /// Our own origin and, but at pages, the listed ones pass. A page of ours that sends no referrer calls itself `null` when it
    /// submits a form (Fetch Standard, "append a request `Origin` header"): `Sec-Fetch-Site` then says that it is ours, and no
    /// script can set that.
    pub(super) fn refuse_others(
        &self,
        method: &Method,
        headers: &HeaderMap,
        place: Option<&Place>,
    ) -> Result<Option<Grant>, Problem> {
        let refused = || Problem::new(Kind::OriginNotAllowed);
        let is_page = place.is_some_and(|place| place.is_page);
        if is_page && sabotaged!(ForeignForms) {
            return Ok(None);
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return if is_foreign(headers) && !is_navigation(method, headers) { Err(refused()) } else { Ok(None) };
        };
        if origins.next().is_some() {
            return Err(refused());
        }
        if origin.as_bytes() == self.own.as_bytes() {
            return Ok(None);
        }
        let pleads = sabotaged!(OriginsFixed).then_some(headers).is_some_and(|it| it.contains_key("x-forwarded-host"));
        if sabotaged!(ForeignOrigins) || pleads {
            return Ok(Some(Grant(origin.clone())));
        }
        if !is_page && self.listed.iter().any(|listed| listed.text.as_bytes() == origin.as_bytes()) {
            return Ok(Some(Grant(origin.clone())));
        }
        let ours = is_page && origin == "null" && only(headers, &SEC_FETCH_SITE) == Some(b"same-origin");
        if ours { Ok(None) } else { Err(refused()) }
    }
}

/// Whether a browser says that another site's page, or another host's of this site, has caused the request (Fetch Metadata §2.3).
fn is_foreign(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_FETCH_SITE) && !matches!(only(headers, &SEC_FETCH_SITE), Some(b"same-origin" | b"none"))
}

/// Whether a browser goes here in a tab of its own: by a link, or sent by a provider. Not in a frame, not as an image.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    (method == Method::GET || method == Method::HEAD)
        && only(headers, &SEC_FETCH_MODE) == Some(b"navigate")
        && only(headers, &SEC_FETCH_DEST) == Some(b"document")
        // A page that a browser loads ahead of its user's choice.
        && !headers.contains_key("sec-purpose")
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}

/// Whether a browser asks beforehand what it may send (Fetch Standard, "CORS-preflight request").
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Grant {
    /// Lets the origin's script read an answer.
    pub(super) fn admit(self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// What a preflight is answered: what the place takes, whatever was asked for.
pub(super) fn preflight(place: &Place) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, place.methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, place.headers.clone());
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_FOR);
    headers
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
