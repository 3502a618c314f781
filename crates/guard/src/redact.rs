//! Redaction of secrets, wherever they turn up in a text.
//!
//! Owns what counts as a secret: exact values of this process, shapes of tokens, values behind a secret's name, and 32
//! random bytes in base64, which is how Keyholder writes states, link tokens and one-time codes. Never a wall by itself: what
//! must not be logged is not handed to the log; this is what stands behind a mistake.
//!
//! What it does not see: secrets in prose (`the password is swordfish`), encrypted or compressed text, and encodings other
//! than those of `exact`.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aho_corasick::AhoCorasick;

use crate::{
    GuardError,
    exact::Exact,
    finding::{Finding, Kind, before, replace, unmarked},
    pairs::Pairs,
    tokens::Tokens,
};

/// Letters of which at least one occurs in every name of a secret.
const NAME_ANCHORS: &[&str] = &[
    "authorization",
    "cookie",
    "code",
    "key",
    "pass",
    "pwd",
    "otp",
    "pin",
    "cvv",
    "cvc",
    "secret",
    "token",
    "assertion",
    "samlresponse",
    "verifier",
    "credential",
    "session",
    "sid",
    "sessid",
    "signature",
    "sig",
    "state",
];

/// The length of 32 bytes in unpadded base64.
const OPAQUE_LENGTH: usize = 43;

/// Finds secrets in text and replaces them by `[redacted:KIND]`.
///
/// One redactor serves a process, and learns the process's own secrets as they come up.
pub struct Redactor {
    names: AhoCorasick,
    pairs: Pairs,
    tokens: Tokens,
    exact: RwLock<Arc<Exact>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} known values)", self.exact().len())
    }
}

impl Redactor {
    /// A redactor that knows shapes and names, and no values yet.
    ///
    /// # Errors
    /// Only where one of its own patterns is defective.
    pub fn new() -> Result<Self, GuardError> {
        Ok(Self {
            names: AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(NAME_ANCHORS)
                .map_err(GuardError::Search)?,
            pairs: Pairs::new()?,
            tokens: Tokens::new()?,
            exact: RwLock::default(),
        })
    }

    /// A redactor that also knows these values: see [`Redactor::learn`].
    ///
    /// # Errors
    /// As [`Redactor::learn`].
    pub fn with_values<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Result<Self, GuardError> {
        let redactor = Self::new()?;
        redactor.learn(values)?;
        Ok(redactor)
    }

    /// Adds secrets of this process, to be replaced wherever they stand: as they are, in base64 (plain and URL-safe, in any
    /// alignment), hex, percent-encoded and JSON-escaped.
    ///
    /// Space around a value is not part of it. Values under 6 bytes are left out, and under 8 are found only in their plain
    /// and escaped forms: anything shorter occurs in ordinary words. A value stays known until the redactor is dropped.
    ///
    /// # Errors
    /// `TooManyValues` past 1,024 values and `ValueTooLong` past 4,096 bytes; nothing is learned then.
    pub fn learn<V: AsRef<[u8]>>(&self, values: impl IntoIterator<Item = V>) -> Result<(), GuardError> {
        let mut known = self.exact.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(known.with(values)?);
        Ok(())
    }

    /// Learns the values that another redactor knows.
    ///
    /// # Errors
    /// As [`Redactor::learn`].
    pub fn learn_from(&self, other: &Self) -> Result<(), GuardError> {
        let theirs = other.exact();
        if theirs.len() == 0 || std::ptr::eq(self, other) {
            return Ok(());
        }
        self.learn(theirs.values())
    }

    /// The text without its secrets. Borrowed where there are none.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        replace(text, |text| self.find(text))
    }

    /// The marker that replaces the whole value of a field, where the field's name alone says that it is a secret.
    pub fn field_marker(&self, name: &str, value: &str) -> Option<&'static str> {
        self.pairs.field(name, value).map(Kind::marker)
    }

    /// The value of a field without its secrets: as [`Redactor::redact`], and nothing of it where the field's name says that
    /// it is a secret.
    pub fn redact_field<'t>(&self, name: &str, value: &'t str) -> Cow<'t, str> {
        self.field_marker(name, value).map_or_else(|| self.redact(value), Cow::Borrowed)
    }

    fn exact(&self) -> Arc<Exact> {
        Arc::clone(&self.exact.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn find(&self, text: &str) -> Vec<Finding> {
        let exact = self.exact();
        let mut findings = Vec::new();
        for range in unmarked(text) {
            let (base, part) = (range.start, crate::finding::piece(text, range));
            exact.find(part, base, &mut findings);
            self.tokens.find(part, base, &mut findings);
            if self.names.is_match(part) {
                self.pairs.find(part, base, &mut findings);
            }
            find_opaque(part, base, &mut findings);
        }
        findings
    }
}

/// Finds runs of exactly 43 base64 letters with digits, capitals and small letters among them: 32 random bytes.
fn find_opaque(part: &str, base: usize, findings: &mut Vec<Finding>) {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let bytes = part.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes.iter().skip(at).take_while(|b| is_letter(**b)).count();
        // The first letters of a run may be the end of an escape: `%3D` or `\n`.
        let escape = match before(part, at) {
            Some('%') => 2,
            Some('\\') => 1,
            _ => 0,
        };
        let run = bytes.get(at + escape.min(length)..at + length).unwrap_or_default();
        if run.len() == OPAQUE_LENGTH
            && run.iter().any(u8::is_ascii_digit)
            && run.iter().any(u8::is_ascii_uppercase)
            && run.iter().any(u8::is_ascii_lowercase)
        {
            findings.push(Finding::new(base + at + escape..base + at + length, Kind::Token));
        }
        at += length.max(1);
    }
}
