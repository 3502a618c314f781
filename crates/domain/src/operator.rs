//! Named operators: persons of the operator's team, each with a key of his own.
//!
//! A person is his name; he may hold several keys and is one person with each. Keys have the form of API keys under a prefix of
//! their own, so that neither passes for the other, nor is one taken where the other is wanted. A key for one purpose alone has the same
//! form, and is no person's.

use zeroize::Zeroizing;

use crate::{
    api_key::{self, ApiKeyError, ApiKeyHash},
    environment::Environment,
};

/// What a key of the operator's lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// All that a person of the operator's may: the key is his.
    Person,
    /// Publish signed statements, and nothing else: the key is no person's.
    Publish,
}

impl Purpose {
    /// The word in lists and in the trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Publish => "publish",
        }
    }
}

const PREFIX: &str = "kho_";
const LONGEST_NAME: usize = 64;

/// The text is not a person's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has 1 to 64 of a-z, 0-9 and . _ @ -, and begins with a letter or a digit")]
pub struct NameError;

/// A name that stands for one person, such as a login name or an address.
///
/// # Errors
/// [`NameError`]. Capitals and letters of other scripts are none: two names that look the same would be two persons.
pub fn name(text: &str) -> Result<&str, NameError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let begins = text.bytes().next().is_some_and(plain);
    let goes_on = text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'@' | b'-'));
    if begins && goes_on && text.len() <= LONGEST_NAME { Ok(text) } else { Err(NameError) }
}

/// A fresh key: its text, shown once, and its hash.
pub fn generate(environment: Environment) -> (Zeroizing<String>, ApiKeyHash) {
    api_key::generate_as(PREFIX, environment)
}

/// The hash of a key whose form, checksum and environment are right.
///
/// # Errors
/// As for API keys; none of them says whether such a key exists.
pub fn parse(text: &str, environment: Environment) -> Result<ApiKeyHash, ApiKeyError> {
    api_key::parse_as(PREFIX, text, environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_kind_of_key_passes_for_the_other() {
        let (own, hash) = generate(Environment::Local);
        assert!(own.starts_with("kho_local_"));
        assert_eq!(parse(&own, Environment::Local), Ok(hash));
        assert_eq!(parse(&own, Environment::Staging), Err(ApiKeyError::Environment));
        assert_eq!(api_key::parse(&own, Environment::Local), Err(ApiKeyError::Form));
        let (other, _) = api_key::generate(Environment::Local);
        assert_eq!(parse(&other, Environment::Local), Err(ApiKeyError::Form));
        // The same secret under the other prefix has another checksum.
        let swapped = own.replacen("kho_", "kh_", 1);
        assert_eq!(api_key::parse(&swapped, Environment::Local), Err(ApiKeyError::Checksum));
    }

    #[test]
    fn a_name_is_one_person() {
        for good in ["a", "0", "first.last", "first-last@example.com", &"a".repeat(64)] {
            assert_eq!(name(good), Ok(good));
        }
        for bad in ["", "A", "First", " a", "a ", ".a", "@", "a b", "\u{430}", "a\n", &"a".repeat(65)] {
            assert_eq!(name(bad), Err(NameError), "{bad}");
        }
    }
}
