//! Redaction and masking in one pass: what stands between a text and a log line.
//!
//! Owns the cut of texts that are too long, which must not cut a secret so that nobody recognises its first half.

use std::{borrow::Cow, sync::Arc};

use crate::{
    Masker, Redactor,
    exact::VALUE_LIMIT,
    finding::{Finding, replace, replace_until},
};

/// How far behind a cut is looked for the end of a secret that begins before it: the longest known value, every byte of it
/// percent-encoded.
const BEYOND: usize = 3 * VALUE_LIMIT;

/// Redacts secrets and masks personal data.
#[derive(Clone, Debug)]
pub struct Cleaner {
    redactor: Arc<Redactor>,
    masker: Masker,
}

impl Cleaner {
    /// A cleaner of these two halves. The redactor may go on learning.
    pub fn new(redactor: Arc<Redactor>, masker: Masker) -> Self {
        Self { redactor, masker }
    }

    /// The half that knows secrets.
    pub fn redactor(&self) -> &Arc<Redactor> {
        &self.redactor
    }

    /// The text without secrets and personal data. Borrowed where there are none.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        replace(text, |text| self.find(text))
    }

    /// As [`Cleaner::clean`], and nothing of what stands behind the first `limit` bytes of the text. What is cut there is cut
    /// clean: a secret or a person that begins before the cut becomes a marker, even where its end lies behind.
    ///
    /// Looks at `limit` bytes and [`Cleaner::LOOKAHEAD`] more, however long the text is.
    pub fn clean_cut<'t>(&self, text: &'t str, limit: usize) -> Cow<'t, str> {
        let seen = text.floor_char_boundary(limit.saturating_add(BEYOND));
        replace_until(crate::finding::piece(text, 0..seen), limit, |text| self.find(text))
    }

    /// The marker that replaces the whole value of a field, where the field's name alone says that it is a secret, an e-mail
    /// address or a telephone number.
    pub fn field_marker(&self, name: &str, value: &str) -> Option<&'static str> {
        self.redactor.field_marker(name, value).or_else(|| self.masker.field_marker(name, value))
    }

    /// How many bytes behind its limit [`Cleaner::clean_cut`] wants to see.
    pub const LOOKAHEAD: usize = BEYOND;

    fn find(&self, text: &str) -> Vec<Finding> {
        let mut findings = if domain::sabotaged!(RedactedLogs) { Vec::new() } else { self.redactor.find(text) };
        if !domain::sabotaged!(MaskedLogs) {
            findings.extend(self.masker.find(text));
        }
        findings
    }
}
