//! Randomness has one home: the operating system's generator, by way of the cryptographic library.

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// `N` random bytes.
///
/// A machine that cannot give randomness cannot make a key or a nonce either: the process stops.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// Fills the slice with random bytes.
pub fn fill(bytes: &mut [u8]) {
    if rand::fill(bytes).is_err() {
        std::process::abort();
    }
}

/// 32 random bytes as unpadded URL-safe base64 (43 characters): states, link tokens, one-time codes.
pub fn token() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<32>())
}
