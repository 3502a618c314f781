//! What may be shown of a text: secrets are redacted, personal data is masked.
//!
//! Owns the rules by which a secret or a person is recognised in text that nobody structured: log lines, error reports,
//! answers of platforms. Never does I/O, never decides who may read what, and never tells what it found: a finding carries a
//! kind and a place, not the words.
//!
//! [`Redactor`] replaces secrets by `[redacted:KIND]`, [`Masker`] replaces personal data by `[email]`, `[phone]`, `[card]`
//! and `[ip]`, and [`Cleaner`] does both in one pass over the text: that is what stands before a log line.
//!
//! All of it is linear in the length of the text, and applying it twice changes nothing more.

mod cleaner;
mod digits;
mod exact;
mod finding;
mod mask;
mod pairs;
mod redact;
mod tokens;
mod value;

pub use cleaner::Cleaner;
pub use mask::{Addresses, Masker};
pub use redact::Redactor;

/// Why a redactor or a masker could not be made, or could not learn.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// One of the crate's own patterns does not compile: a defect, seen by the first test that makes a redactor.
    #[error("a pattern of the guard does not compile")]
    Pattern(#[source] regex::Error),
    /// The search for many words at once could not be built.
    #[error("the word search of the guard could not be built")]
    Search(#[source] aho_corasick::BuildError),
    /// More values than a process has secrets.
    #[error("more than {limit} secret values to redact")]
    TooManyValues {
        /// How many one redactor takes.
        limit: usize,
    },
    /// A single value longer than any key file.
    #[error("a secret value is longer than {limit} bytes")]
    ValueTooLong {
        /// The longest value, in bytes.
        limit: usize,
    },
}
