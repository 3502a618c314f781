//! The scrub (design §1): what an answer may show. Never mints a [`Clean`] that was not searched for the credential.
//!
//! A secret is searched for as it is, in base64 at each of the three alignments and in both alphabets, and in
//! hexadecimal; and every character of these forms may be written as it is or encoded (see `unit`), any of them
//! differently from the next. Bodies come here without compression or not at all; egress sees to that.

mod needle;
mod stream;
mod unit;
pub(crate) mod work;

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use needle::{Fold, Needle};
pub use stream::ScrubStream;
use stream::{Needles, Search};

/// What stands in the place of a secret.
pub const MARK: &str = "[redacted]";

/// The shortest base64 or hexadecimal form that is searched for. A shorter one would be found everywhere by chance.
const MIN_DERIVED: usize = 6;

/// The headers that are passed on, beside those that begin as [`PASSED_PREFIXES`] say.
const PASSED: &[HeaderName] = &[header::CONTENT_TYPE, header::ETAG, header::LAST_MODIFIED, header::RETRY_AFTER];

/// The families of rate-limit headers: X's, that of many others, and that of the IETF's draft.
const PASSED_PREFIXES: &[&str] = &["x-rate-limit-", "x-ratelimit-", "ratelimit"];

/// Finds a call's secrets in its answer.
#[derive(Clone)]
pub struct Scrubber(Arc<Needles>);

/// An answer that was searched for its call's secrets: the only form in which one may be shown, logged or stored.
#[derive(Clone)]
pub struct Clean {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    hits: usize,
}

impl fmt::Debug for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clean({}, {} bytes, {} hits)", self.status, self.body.len(), self.hits)
    }
}

impl Clean {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers that are passed on: content type, etag, last modified, retry after and the rate limits.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body. If the answer's was JSON, so is this.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// In how many places of the whole answer a secret was found. Anything but zero is worth an alarm.
    pub fn hits(&self) -> usize {
        self.hits
    }

    /// Its parts: status, headers, body.
    pub fn into_parts(self) -> (StatusCode, HeaderMap, Bytes) {
        (self.status, self.headers, self.body)
    }
}

impl Scrubber {
    /// Learns the secrets, each as the bytes that are sent. Those of them that are empty are left out.
    ///
    /// Secrets under about six bytes are found as they are and encoded by character, not in base64 or hexadecimal.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut needles: Vec<Needle> = Vec::new();
        for (pattern, fold) in secrets.into_iter().flat_map(forms) {
            if let Some(needle) = Needle::new(pattern, fold).filter(|new| !needles.iter().any(|old| old.is_same(new))) {
                needles.push(needle);
            }
        }
        Self(Arc::new(Needles::new(needles)))
    }

    /// Begins a text that arrives in pieces.
    pub fn stream(&self) -> ScrubStream {
        ScrubStream::new(Arc::clone(&self.0))
    }

    /// The control that an answer shows no credential.
    pub(crate) fn clean(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Clean {
        if domain::sabotaged!(CredentialNowhere) {
            let headers = headers.iter().filter(|(name, _)| is_passed(name));
            let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
            return Clean { status, headers, body: body.clone(), hits: 0 };
        }
        let mut search = Search::new(Arc::clone(&self.0));
        let mut hits = 0;
        let mut passed = HeaderMap::new();
        for (name, value) in headers {
            let mut found = |text: &[u8]| search.whole(text).map_or(0, |(_, hits)| hits);
            let found = found(name.as_str().as_bytes()) + found(value.as_bytes());
            hits += found;
            if found == 0 && is_passed(name) {
                passed.append(name.clone(), value.clone());
            }
        }
        let Some((mut clean, found)) = search.whole(body) else {
            return Clean { status, headers: passed, body: body.clone(), hits };
        };
        hits += found;
        // A credential in a string leaves a string. Were one to appear elsewhere, as a bare number, JSON would break, and
        // its reader might see anything: then nothing of the body is shown.
        if is_json(body) && !is_json(&clean) {
            clean = format!("\"{MARK}\"").into_bytes();
        }
        Clean { status, headers: passed, body: clean.into(), hits }
    }
}

fn is_passed(name: &HeaderName) -> bool {
    PASSED.contains(name) || PASSED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// The forms of a secret that are searched for.
fn forms(secret: &[u8]) -> Vec<(Zeroizing<Vec<u8>>, Fold)> {
    let mut forms = vec![(Zeroizing::new(secret.to_vec()), Fold::Exact)];
    for ahead in 0..3 {
        forms.push((base64_core(secret, ahead), Fold::Base64));
    }
    let mut digits = Zeroizing::new(vec![0; secret.len() * 2]);
    if hex::encode_to_slice(secret, &mut digits).is_ok() {
        forms.push((digits, Fold::Hex));
    }
    let is_worth_finding =
        |(pattern, fold): &(Zeroizing<Vec<u8>>, Fold)| *fold == Fold::Exact || pattern.len() >= MIN_DERIVED;
    forms.retain(is_worth_finding);
    forms
}

/// The characters of a base64 text that are the secret's alone, when `ahead` bytes of something else (modulo 3) come
/// before it.
///
/// A character at either end that mixes in bits of its neighbours is left out: at most six bits of the secret each.
fn base64_core(secret: &[u8], ahead: usize) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(Vec::with_capacity(ahead + secret.len()));
    padded.resize(ahead, 0);
    padded.extend_from_slice(secret);
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&*padded));
    let (begin, end) = ((ahead * 8).div_ceil(6), padded.len() * 8 / 6);
    Zeroizing::new(encoded.as_bytes().get(begin..end).unwrap_or_default().to_vec())
}
