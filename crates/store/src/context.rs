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
    pub(crate) fn sign(&self, kind: Kind, subject: Uuid, backend: i32, clock: &Clock) -> String {
        let expires = (clock.now() + LIFE).unix_timestamp_nanos() / 1_000_000;
        let claim = format!("{}|{subject}|{expires}", kind.as_str());
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        let mac = hmac::sign(&key, format!("{claim}|{backend}").as_bytes());
        format!("{claim}|{}", hex::encode(mac))
    }
}

/// SHA-256.
pub(crate) fn sha256(text: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, text).as_ref().to_vec()
}
