//! What a platform takes from the machine: the hour, chance, and digests.
//!
//! The one place of this crate that reads the system's clock or its generator. Everything else is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The wall clock, which [`Hour::advance`] can only move ahead: a test lets time pass instead of waiting for it.
#[derive(Debug, Default)]
pub(crate) struct Hour {
    ahead: Duration,
}

impl Hour {
    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        let now = wall() + self.ahead;
        u64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add(by).min(Duration::from_hours(24 * 3650));
    }
}

/// The wall clock as the certificate's dates need it.
#[expect(clippy::disallowed_methods, reason = "a platform has a clock of its own")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// An unguessable text of the form that X gives to codes and tokens: base64 of `random:milliseconds:1:1:KIND:1`.
pub(crate) fn secret(kind: &str, now_ms: u64) -> String {
    let mut bytes = [0_u8; 32];
    if rand::fill(&mut bytes).is_err() {
        // A guessable token would make every test that relies on it a lie.
        std::process::abort();
    }
    URL_SAFE_NO_PAD.encode(format!("{}:{now_ms}:1:1:{kind}:1", URL_SAFE_NO_PAD.encode(bytes)))
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}
