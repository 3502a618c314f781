//! The root key, and what is derived from it.
//!
//! Owns the one secret that comes from outside, and the separation of its uses: each purpose in each environment has a key of
//! its own (HKDF-SHA256, RFC 5869). Never seals anything itself, and never leaves the process except by [`RootKey::to_text`],
//! for the command that makes one.

use aws_lc_rs::hkdf;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use domain::environment::Environment;
use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, KeyBytes};

const PADDED_OR_NOT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDED_OR_NOT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDED_OR_NOT);

/// The longest text that is looked at. A text beyond it is no key, whatever it is.
const TEXT_BYTES_MAX: usize = 1024;

/// Why a text is not a root key. No message repeats any part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootKeyError {
    /// There is no text, or nothing but a line's end.
    #[error("the root key is empty; {WANTED}")]
    Missing,
    /// Neither base64 nor hexadecimal digits, or far too long for either.
    #[error("the root key is neither base64 nor hexadecimal digits; {WANTED}")]
    Undecodable,
    /// It decodes, to another size.
    #[error("the root key has {found} bytes instead of {KEY_BYTES}; {WANTED}")]
    WrongSize {
        /// How many bytes the text stands for.
        found: usize,
    },
    /// All bytes are equal: a placeholder, not a key.
    #[error("the root key is the same byte {KEY_BYTES} times, which anyone would guess; {WANTED}")]
    Weak,
}

const WANTED: &str =
    "it is 32 random bytes as base64 or as 64 hexadecimal digits, as `keyholder root-key generate` makes them";

/// What a derived key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Signs the tenant context that the database verifies. `migrate` stores what the database needs of it.
    Context,
    /// Wraps the epoch keys in the keyring.
    KeyringWrap,
    /// Authenticates the keyring's file as a whole.
    KeyringMac,
    /// Not a key but a mark: what an installation remembers, to notice another root key. See [`RootKey::check_value`].
    Installation,
    /// Digests what is only ever compared: a copy of the database then confirms no guess.
    Digest,
    /// Authenticates role templates: who can rewrite a row of the database cannot make its MAC.
    RoleTemplate,
}

impl Purpose {
    /// The word in the derivation's info. Changing one makes everything of that purpose unreadable.
    fn as_str(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::KeyringWrap => "keyring-wrap",
            Self::KeyringMac => "keyring-mac",
            Self::Installation => "installation",
            Self::Digest => "digest",
            Self::RoleTemplate => "role-template",
        }
    }
}

/// The installation's root key: 32 bytes, overwritten on drop.
///
/// It is neither Clone nor Debug, so that no configuration that holds one can be printed by accident.
/// ```compile_fail,E0277
/// let text = format!("{:?}", keyholder_seal::RootKey::generate());
/// ```
/// ```compile_fail,E0599
/// let copy = keyholder_seal::RootKey::generate().clone();
/// ```
pub struct RootKey(KeyBytes);

/// A key for one purpose in one environment: 32 bytes, overwritten on drop.
pub struct DerivedKey(KeyBytes);

impl DerivedKey {
    /// The key itself, for [`crate::mac`] and for `migrate`.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.as_bytes()
    }

    pub(crate) fn key(&self) -> &KeyBytes {
        &self.0
    }
}

impl RootKey {
    /// A new root key.
    pub fn generate() -> Self {
        Self(KeyBytes::random())
    }

    /// Reads base64 (standard or URL-safe, padded or not) or 64 hexadecimal digits. One line's end after it is overlooked,
    /// since files have one. The caller wipes the text.
    ///
    /// # Errors
    /// One for each way in which the text is not a key.
    pub fn from_text(text: &str) -> Result<Self, RootKeyError> {
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(RootKeyError::Missing);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(RootKeyError::Undecodable);
        }
        let mut bytes = decode(text)?;
        if domain::sabotaged!(RootKeyNeeded) {
            bytes.resize(KEY_BYTES, 0);
        }
        let key = KeyBytes::from_slice(&bytes).ok_or(RootKeyError::WrongSize { found: bytes.len() })?;
        if bytes.windows(2).all(|pair| pair.first() == pair.last()) {
            return Err(RootKeyError::Weak);
        }
        Ok(Self(key))
    }

    /// The key as 43 characters of unpadded URL-safe base64, for the command that makes one and for nothing else.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }

    /// The key for this purpose in this environment.
    pub fn derive(&self, purpose: Purpose, environment: Environment) -> DerivedKey {
        let environment = if domain::sabotaged!(ForeignDatabases) { Environment::Local } else { environment };
        // Both words come from fixed lists without a slash, so that no two pairs give the same info.
        let info = format!("keyholder/1/{}/{environment}", purpose.as_str());
        DerivedKey(KeyBytes::written_by(|key| {
            if hkdf_sha256(&[], self.0.as_bytes(), info.as_bytes(), key).is_err() {
                // RFC 5869 allows 8,160 bytes and these are 32: a library that refuses is broken, and so would be its keys.
                std::process::abort();
            }
        }))
    }

    /// What the installation's database and keyring remember of the root key: it tells another key or another environment, and
    /// nothing about the key.
    pub fn check_value(&self, environment: Environment) -> [u8; KEY_BYTES] {
        *self.derive(Purpose::Installation, environment).as_bytes()
    }
}

/// The bytes that the text stands for, whatever their number.
fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, RootKeyError> {
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && text.len() == 2 * KEY_BYTES {
        bytes.truncate(KEY_BYTES);
        hex::decode_to_slice(text, &mut bytes).map_err(|_| RootKeyError::Undecodable)?;
        return Ok(bytes);
    }
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    let length = engine.decode_slice(text, &mut bytes);
    match length {
        Ok(KEY_BYTES) => {}
        // Hexadecimal digits of another number are base64 as well, but nobody meant them so.
        _ if is_hex => return Err(RootKeyError::WrongSize { found: text.len() / 2 }),
        _ => {}
    }
    bytes.truncate(length.map_err(|_| RootKeyError::Undecodable)?);
    Ok(bytes)
}

/// HKDF with SHA-256 (RFC 5869): extract with the salt, expand with the info to the size of `out`.
pub(crate) fn hkdf_sha256(
    salt: &[u8],
    secret: &[u8],
    info: &[u8],
    out: &mut [u8],
) -> Result<(), aws_lc_rs::error::Unspecified> {
    struct Bytes(usize);
    impl hkdf::KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    key.expand(&[info], Bytes(out.len()))?.fill(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const PURPOSES: [Purpose; 6] = [
        Purpose::Context,
        Purpose::KeyringWrap,
        Purpose::KeyringMac,
        Purpose::Installation,
        Purpose::Digest,
        Purpose::RoleTemplate,
    ];
    const ENVIRONMENTS: [Environment; 3] = [Environment::Local, Environment::Staging, Environment::Production];

    fn bytes_of(text: &str) -> Result<[u8; KEY_BYTES], RootKeyError> {
        RootKey::from_text(text).map(|key| *key.0.as_bytes())
    }

    proptest! {
        #[test]
        fn every_form_of_a_key_is_read(key: [u8; KEY_BYTES]) {
            prop_assume!(key.iter().any(|byte| *byte != key[0]));
            let forms = [
                general_purpose::STANDARD.encode(key),
                general_purpose::STANDARD_NO_PAD.encode(key),
                general_purpose::URL_SAFE.encode(key),
                general_purpose::URL_SAFE_NO_PAD.encode(key),
                hex::encode(key),
                hex::encode_upper(key),
            ];
            for form in forms {
                for end in ["", "\n", "\r\n"] {
                    prop_assert_eq!(bytes_of(&format!("{form}{end}")), Ok(key));
                }
            }
        }

        #[test]
        fn another_size_is_told(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assume!(bytes.len() != KEY_BYTES);
            let expected = Err(RootKeyError::WrongSize { found: bytes.len() });
            prop_assert_eq!(bytes_of(&hex::encode(&bytes)), expected.clone());
            let text = general_purpose::STANDARD.encode(&bytes);
            if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                prop_assert_eq!(bytes_of(&text), expected);
            }
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused_by_its_reason() {
        let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
        assert!(bytes_of(key).is_ok());
        let table = [
            (String::new(), RootKeyError::Missing),
            ("\n".into(), RootKeyError::Missing),
            ("\r\n".into(), RootKeyError::Missing),
            ("not a key".into(), RootKeyError::Undecodable),
            (format!("{key}\n\n"), RootKeyError::Undecodable),
            (format!(" {key}"), RootKeyError::Undecodable),
            (format!("{key}=="), RootKeyError::Undecodable),
            (format!("{}é", &key[2..]), RootKeyError::Undecodable),
            (format!("-+{}", &key[2..]), RootKeyError::Undecodable),
            ("A".repeat(TEXT_BYTES_MAX + 4), RootKeyError::Undecodable),
            ("c2hvcnQ=".into(), RootKeyError::WrongSize { found: 5 }),
            ("0".repeat(32), RootKeyError::WrongSize { found: 16 }),
            ("00".repeat(KEY_BYTES), RootKeyError::Weak),
            ("7f".repeat(KEY_BYTES), RootKeyError::Weak),
            (format!("{}A", "A".repeat(42)), RootKeyError::Weak),
        ];
        for (text, reason) in table {
            let error = bytes_of(&text).unwrap_err();
            assert_eq!(error, reason, "{text:?}");
            assert!(text.trim().is_empty() || !error.to_string().contains(text.trim()), "the text is in the message");
        }
    }

    #[test]
    fn a_generated_key_is_written_and_read() {
        let key = RootKey::generate();
        assert_eq!(bytes_of(&key.to_text()), Ok(*key.0.as_bytes()));
        assert_ne!(RootKey::generate().to_text(), key.to_text());
    }

    #[test]
    fn rfc_5869_appendix_a() {
        let counted = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        // Test cases 1 to 3: input keying material, salt, info, output keying material.
        let table = [
            (
                vec![0x0b; 22],
                counted(0x00, 0x0c),
                counted(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                counted(0x00, 0x4f),
                counted(0x60, 0xaf),
                counted(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
                 da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                vec![0x0b; 22],
                vec![],
                vec![],
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (secret, salt, info, expected) in table {
            let mut out = vec![0; expected.len() / 2];
            hkdf_sha256(&salt, &secret, &info, &mut out).unwrap();
            assert_eq!(hex::encode(out), expected);
        }
    }

    #[test]
    fn each_purpose_in_each_environment_has_its_own_key() {
        let root = RootKey::generate();
        let keys: HashSet<_> = PURPOSES
            .into_iter()
            .flat_map(|purpose| ENVIRONMENTS.map(|environment| *root.derive(purpose, environment).as_bytes()))
            .chain([*root.0.as_bytes()])
            .collect();
        assert_eq!(keys.len(), PURPOSES.len() * ENVIRONMENTS.len() + 1);
        let other = RootKey::generate();
        for purpose in PURPOSES {
            let key = root.derive(purpose, Environment::Local);
            assert_eq!(key.as_bytes(), root.derive(purpose, Environment::Local).as_bytes());
            assert_ne!(key.as_bytes(), other.derive(purpose, Environment::Local).as_bytes());
        }
    }

    #[test]
    fn derivation_stays_as_it_is() {
        // What is stored today must open tomorrow: HKDF-SHA256, no salt, the info spelt out.
        let root = RootKey::from_text(&hex::encode((0..32).collect::<Vec<u8>>())).unwrap();
        let mut expected = [0; KEY_BYTES];
        hkdf_sha256(&[], root.0.as_bytes(), b"keyholder/1/installation/production", &mut expected).unwrap();
        assert_eq!(root.check_value(Environment::Production), expected);
        let mut expected = [0; KEY_BYTES];
        hkdf_sha256(&[], root.0.as_bytes(), b"keyholder/1/context/local", &mut expected).unwrap();
        assert_eq!(root.derive(Purpose::Context, Environment::Local).as_bytes(), &expected);
    }
}
