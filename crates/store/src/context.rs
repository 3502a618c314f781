//! The signed context: how a transaction proves to the database for whom it speaks.
//!
//! The MAC (HMAC-SHA256, RFC 2104) covers the kind, the subject, an expiry seconds away and the backend's pid, so that a
//! context that leaks is of no use on another connection or a little later. The database holds the key where only its owner reads.

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use domain::clock::Clock;
use uuid::Uuid;
use zeroize::Zeroizing;

/// How long a context is good for: longer than any transaction may last, and not much longer.
const LIFE: Duration = Duration::from_secs(20);
const BLOCK: usize = 64;
/// For how long what a database's clock said is believed: if it is set meanwhile, contexts that rest on it end no later than this.
const BELIEVED: Duration = Duration::from_secs(5);

/// For whom a transaction speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Workspace,
    Account,
    Installation,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Account => "account",
            Self::Installation => "installation",
        }
    }
}

/// The backend that a context is signed for, with the hour of its database: the one that judges the context. A node whose own clock is
/// hours away from it must not be locked out, and must not sign contexts that live for hours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backend {
    pid: i32,
    /// What the database's clock said, in milliseconds since 1970.
    hour_ms: i64,
    /// When it said so, since this machine's start.
    asked: Duration,
}

impl Backend {
    /// A backend that has just said its number and its hour.
    pub(crate) fn new(pid: i32, hour_ms: i64, clock: &Clock) -> Self {
        Self { pid, hour_ms, asked: clock.since_boot() }
    }

    /// Whether its hour need not be asked again.
    pub(crate) fn is_believed(&self, clock: &Clock) -> bool {
        clock.since_boot().saturating_sub(self.asked) < BELIEVED
    }

    fn hour_ms(&self, clock: &Clock) -> i64 {
        let since = clock.since_boot().saturating_sub(self.asked).as_millis();
        self.hour_ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

/// The key that signs contexts, derived from the root key.
pub struct ContextKey {
    bytes: Zeroizing<[u8; 32]>,
}

/// The two blocks of HMAC, as the database keeps the key.
pub struct Pads {
    /// The key's block, each byte xor 0x36.
    pub inner: Zeroizing<Vec<u8>>,
    /// The key's block, each byte xor 0x5c.
    pub outer: Zeroizing<Vec<u8>>,
}

impl ContextKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self { bytes: Zeroizing::new(bytes) }
    }

    /// What the database is given, once, by the owner.
    pub fn pads(&self) -> Pads {
        let pad = |with: u8| {
            let padded = self.bytes.iter().copied().chain(std::iter::repeat(0)).take(BLOCK);
            Zeroizing::new(padded.map(|byte| byte ^ with).collect())
        };
        Pads { inner: pad(0x36), outer: pad(0x5c) }
    }

    /// The context of one transaction on one backend.
    pub(crate) fn sign(&self, kind: Kind, subject: Uuid, backend: Backend, clock: &Clock) -> String {
        let life = i64::try_from(LIFE.as_millis()).unwrap_or(0);
        let expires = backend.hour_ms(clock).saturating_add(life);
        let claim = format!("{}|{subject}|{expires}", kind.as_str());
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        let mac = hmac::sign(&key, format!("{claim}|{}", backend.pid).as_bytes());
        format!("{claim}|{}", hex::encode(mac))
    }
}

/// SHA-256.
pub(crate) fn sha256(text: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, text).as_ref().to_vec()
}
