//! API keys: a prefix that names the environment, 160 random bits, and a checksum that tells a typing error from a wrong key.
//!
//! `kh_local_` + 32 characters + 6 characters of checksum, all in lower case. Only the SHA-256 of the whole text is stored:
//! with 160 bits of randomness a slow hash would add nothing.

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use crate::{environment::Environment, random};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX: &str = "kh_";
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;

/// Why a text is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// Not of the form at all.
    #[error("not an API key")]
    Form,
    /// A letter is wrong or missing.
    #[error("an API key with a typing error: its checksum is wrong")]
    Checksum,
    /// A key of another environment.
    #[error("an API key of another environment")]
    Environment,
}

/// The hash under which a key is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKeyHash(pub [u8; 32]);

/// A fresh key: its text, shown once, and its hash.
pub fn generate(environment: Environment) -> (Zeroizing<String>, ApiKeyHash) {
    generate_as(PREFIX, environment)
}

/// A fresh key of the same form under another prefix.
pub(crate) fn generate_as(prefix: &str, environment: Environment) -> (Zeroizing<String>, ApiKeyHash) {
    let secret: Zeroizing<String> = Zeroizing::new(random::bytes::<SECRET_LENGTH>().into_iter().map(letter).collect());
    let body = Zeroizing::new(format!("{prefix}{environment}_{}", *secret));
    let key = Zeroizing::new(format!("{}{}", *body, checksum(&body)));
    let hash = hash(&key);
    (key, hash)
}

/// The hash of a key whose form, checksum and environment are right.
///
/// # Errors
/// `Form`, `Checksum` or `Environment`; none of them says whether such a key exists.
pub fn parse(text: &str, environment: Environment) -> Result<ApiKeyHash, ApiKeyError> {
    parse_as(PREFIX, text, environment)
}

/// The hash of a key of the same form under another prefix.
pub(crate) fn parse_as(prefix: &str, text: &str, environment: Environment) -> Result<ApiKeyHash, ApiKeyError> {
    let (named, body) = text.strip_prefix(prefix).and_then(|rest| rest.split_once('_')).ok_or(ApiKeyError::Form)?;
    let named: Environment = named.parse().map_err(|_| ApiKeyError::Form)?;
    let lower = body.bytes().all(|byte| ALPHABET.contains(&byte));
    if body.len() != SECRET_LENGTH + CHECKSUM_LENGTH || !lower {
        return Err(ApiKeyError::Form);
    }
    let (front, sum) = text.split_at(text.len() - CHECKSUM_LENGTH);
    if checksum(front) != sum {
        return Err(ApiKeyError::Checksum);
    }
    if named != environment && !crate::sabotaged!(EnvironmentsApart) {
        return Err(ApiKeyError::Environment);
    }
    Ok(hash(text))
}

fn letter(byte: u8) -> char {
    char::from(ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'0'))
}

fn checksum(body: &str) -> String {
    digest::digest(&digest::SHA256, body.as_bytes())
        .as_ref()
        .iter()
        .copied()
        .take(CHECKSUM_LENGTH)
        .map(letter)
        .collect()
}

fn hash(text: &str) -> ApiKeyHash {
    let mut hash = [0; 32];
    if crate::sabotaged!(HashedKeys) {
        let secret = text.as_bytes().rchunks(SECRET_LENGTH + CHECKSUM_LENGTH).next().unwrap_or_default();
        hash.iter_mut().zip(secret).for_each(|(kept, letter)| *kept = *letter);
        return ApiKeyHash(hash);
    }
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    ApiKeyHash(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_parses_only_as_it_was_made() {
        let (key, hash) = generate(Environment::Local);
        assert_eq!(parse(&key, Environment::Local), Ok(hash));
        assert_eq!(parse(&key, Environment::Production), Err(ApiKeyError::Environment));
        let mut typo = key.to_string();
        let swapped = if typo.pop() == Some('0') { '1' } else { '0' };
        typo.push(swapped);
        assert_eq!(parse(&typo, Environment::Local), Err(ApiKeyError::Checksum));
        for bad in ["", "kh_", "kh_local_", "sk_local_abc", &key.to_uppercase(), &format!("{}0", *key)] {
            assert_eq!(parse(bad, Environment::Local), Err(ApiKeyError::Form), "{bad}");
        }
    }
}
