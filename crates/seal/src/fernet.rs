//! Fernet (<https://github.com/fernet/spec>, version 0x80): AES-128-CBC with PKCS #7 padding, then HMAC-SHA256 over all of it.
//!
//! A form for two occasions: tokens that a team brings along from its own store, and credentials of an installation that keeps
//! them so. Nothing is decrypted before its MAC was verified in constant time, and whatever is wrong with a token is one and the
//! same error: there is no padding to ask about. Fernet binds a token to no place; whoever stores one puts its place inside.

use aws_lc_rs::{
    cipher::{
        AES_128, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    iv::FixedLength,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use domain::random;
use std::time::Duration;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{aead::Failed, key::KeyBytes, mac, plain::Plain};

/// The only version there is.
const VERSION: u8 = 0x80;
/// How the text of every token begins until the year 2106: the version, and the first bytes of a timestamp of 64 bits.
pub(crate) const PREFIX: &[u8] = b"gAAAA";

const HALF_BYTES: usize = 16;
const IV_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;
/// Version, timestamp, IV.
const HEAD_BYTES: usize = 1 + 8 + IV_BYTES;

/// The longest text that is looked at: an encoded credential of the greatest size fits.
pub const TOKEN_BYTES_MAX: usize = 160 * 1024;

/// How far ahead of us the clock of a token's maker may be, where its age matters at all.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// A Fernet key: 128 bits that sign and 128 bits that encrypt, overwritten on drop.
///
/// It is neither Clone nor Debug.
/// ```compile_fail,E0277
/// let key = keyholder_seal::FernetKey::from_text("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap();
/// let text = format!("{key:?}");
/// ```
pub struct FernetKey(KeyBytes);

/// The text is no Fernet key. It is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Fernet key, which is 32 bytes as 44 characters of URL-safe base64")]
pub struct FernetKeyError;

/// The token does not open: malformed, changed, under another key, too old, or from the future. Which of them is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Fernet token does not open")]
pub struct FernetError;

/// The oldest that a token may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// The time at which that is asked.
    pub now: OffsetDateTime,
    /// For how long a token is good, to the second. A token from more than a minute ahead of `now` is refused as well.
    pub ttl: Duration,
}

impl FernetKey {
    /// Reads a key as every Fernet library writes it. The caller wipes the text.
    ///
    /// # Errors
    /// For anything but 32 bytes in URL-safe base64 with its padding.
    pub fn from_text(text: &str) -> Result<Self, FernetKeyError> {
        // The decoder wants room for whole groups of three bytes.
        let mut bytes = Zeroizing::new([0; 36]);
        let length = URL_SAFE.decode_slice(text, bytes.as_mut_slice()).map_err(|_| FernetKeyError)?;
        let key = bytes.get(..length).and_then(KeyBytes::from_slice);
        key.map(Self).ok_or(FernetKeyError)
    }

    pub(crate) fn from_bytes(bytes: KeyBytes) -> Self {
        Self(bytes)
    }

    /// Encrypts under a fresh IV. The token is text; its timestamp, which anybody can read, is `at` in whole seconds.
    ///
    /// # Errors
    /// Where the cipher fails.
    pub fn encrypt(&self, plain: Plain, at: OffsetDateTime) -> Result<String, FernetEncryptError> {
        self.encrypt_under(random::bytes(), plain, at).map_err(|_| FernetEncryptError)
    }

    fn encrypt_under(&self, iv: [u8; IV_BYTES], plain: Plain, at: OffsetDateTime) -> Result<String, Failed> {
        let plain = plain.into_exposed();
        // The room for the padding is taken at the start: a vector that grew would leave the plaintext in its old place.
        let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + BLOCK_BYTES));
        buffer.extend_from_slice(&plain);
        let key = UnboundCipherKey::new(&AES_128, self.encrypting()).map_err(|_| Failed)?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(|_| Failed)?;
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        key.less_safe_encrypt(&mut *buffer, context).map_err(|_| Failed)?;
        let seconds = u64::try_from(at.unix_timestamp()).map_err(|_| Failed)?;
        let mut token = [&[VERSION], seconds.to_be_bytes().as_slice(), &iv, &buffer].concat();
        let tag = mac::hmac_sha256(self.signing(), &[&token]);
        token.extend_from_slice(&tag);
        Ok(URL_SAFE.encode(token))
    }

    /// Decrypts a token, if it is whole and ours, and no older than it may be.
    ///
    /// # Errors
    /// One, whatever the reason.
    pub fn decrypt(&self, token: &[u8], age: Option<Age>) -> Result<Plain, FernetError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(FernetError);
        }
        let mut bytes = Zeroizing::new(URL_SAFE.decode(token).map_err(|_| FernetError)?);
        let signed = bytes.len().checked_sub(mac::TAG_BYTES).filter(|signed| *signed > HEAD_BYTES);
        let (message, tag) = bytes.split_at_mut_checked(signed.ok_or(FernetError)?).ok_or(FernetError)?;
        if !mac::verify_hmac_sha256(self.signing(), &[message], tag) {
            return Err(FernetError);
        }
        // From here on the key's holder has made it, and only its form and its age are in question.
        let (head, sealed) = message.split_at_mut_checked(HEAD_BYTES).ok_or(FernetError)?;
        let iv = checked_head(head, age).ok_or(FernetError)?;
        let key = UnboundCipherKey::new(&AES_128, self.encrypting()).map_err(|_| FernetError)?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| FernetError)?;
        let opened = key.decrypt(sealed, DecryptionContext::Iv128(FixedLength::from(iv))).map_err(|_| FernetError)?;
        Ok(Plain::new(opened.to_vec()))
    }

    /// Decrypts under the first of several keys that the token is signed with: how a store is read whose key was changed.
    ///
    /// # Errors
    /// One, whatever the reason, and however many keys were tried.
    pub fn decrypt_with_any(keys: &[Self], token: &[u8], age: Option<Age>) -> Result<Plain, FernetError> {
        keys.iter().find_map(|key| key.decrypt(token, age).ok()).ok_or(FernetError)
    }

    fn signing(&self) -> &[u8] {
        self.0.as_bytes().split_at(HALF_BYTES).0
    }

    fn encrypting(&self) -> &[u8] {
        self.0.as_bytes().split_at(HALF_BYTES).1
    }
}

/// The cipher failed, which it does without memory, or the time lies before 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Fernet token could not be made")]
pub struct FernetEncryptError;

/// The IV of a token of the right version and age.
fn checked_head(head: &[u8], age: Option<Age>) -> Option<[u8; IV_BYTES]> {
    let (version, rest) = head.split_first()?;
    let (stamp, iv) = rest.split_first_chunk()?;
    let made = u64::from_be_bytes(*stamp);
    let good = *version == VERSION && age.is_none_or(|age| is_of_age(made, age));
    good.then(|| iv.try_into().ok()).flatten()
}

fn is_of_age(made: u64, age: Age) -> bool {
    let Ok(now) = u64::try_from(age.now.unix_timestamp()) else { return false };
    made.saturating_add(age.ttl.as_secs()) >= now && made <= now.saturating_add(CLOCK_SKEW.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::vectors;
    use proptest::prelude::*;
    use serde_json::Value;
    use time::format_description::well_known::Rfc3339;

    struct Vector {
        key: FernetKey,
        token: String,
        now: OffsetDateTime,
        age: Option<Age>,
        case: Value,
    }

    fn read(name: &str) -> Vec<Vector> {
        let Some(file) = vectors(&format!("fernet/{name}.json")) else { return Vec::new() };
        let vector = |case: &Value| {
            let now = OffsetDateTime::parse(case["now"].as_str().unwrap(), &Rfc3339).unwrap();
            Vector {
                key: FernetKey::from_text(case["secret"].as_str().unwrap()).unwrap(),
                token: case["token"].as_str().unwrap().to_owned(),
                now,
                age: case["ttl_sec"].as_u64().map(|ttl| Age { now, ttl: Duration::from_secs(ttl) }),
                case: case.clone(),
            }
        };
        let read: Vec<_> = file.as_array().unwrap().iter().map(vector).collect();
        assert!(!read.is_empty(), "{name}");
        read
    }

    fn key() -> FernetKey {
        FernetKey(KeyBytes::random())
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    fn opened(plain: Result<Plain, FernetError>) -> Option<Vec<u8>> {
        plain.ok().map(|plain| plain.into_exposed().to_vec())
    }

    #[test]
    fn the_specifications_tokens_are_generated_to_the_byte() {
        for Vector { key, token, now, case, .. } in read("generate") {
            let iv: Vec<u8> = serde_json::from_value(case["iv"].clone()).unwrap();
            let plain = Plain::from(case["src"].as_str().unwrap().to_owned());
            assert_eq!(key.encrypt_under(iv.try_into().unwrap(), plain, now).unwrap(), token);
            assert!(token.as_bytes().starts_with(PREFIX));
        }
    }

    #[test]
    fn the_specifications_tokens_are_verified() {
        for Vector { key, token, age, case, .. } in read("verify") {
            let wanted = case["src"].as_str().unwrap().as_bytes().to_vec();
            assert_eq!(opened(key.decrypt(token.as_bytes(), age)), Some(wanted.clone()));
            assert_eq!(opened(key.decrypt(token.as_bytes(), None)), Some(wanted), "without a limit of age as well");
        }
    }

    #[test]
    fn the_specifications_invalid_tokens_are_refused_alike() {
        let (mut by_age, mut refused) = (0, 0);
        for Vector { key, token, age, case, .. } in read("invalid") {
            assert_eq!(key.decrypt(token.as_bytes(), age).err(), Some(FernetError), "{}", case["desc"]);
            refused += 1;
            // Two of them are refused for their age and for nothing else.
            by_age += usize::from(key.decrypt(token.as_bytes(), None).is_ok());
        }
        assert!(matches!((refused, by_age), (8, 2) | (0, 0)), "{refused}, {by_age}");
    }

    #[test]
    fn a_token_is_good_from_a_minute_before_its_time_to_the_last_second_of_its_life() {
        let key = key();
        let token = key.encrypt(Plain::from("x".to_owned()), at(1_000)).unwrap();
        for (now, good) in [(939, false), (940, true), (1_000, true), (1_030, true), (1_031, false)] {
            let age = Some(Age { now: at(now), ttl: Duration::from_secs(30) });
            assert_eq!(key.decrypt(token.as_bytes(), age).is_ok(), good, "at {now}");
        }
        assert!(key.encrypt(Plain::from("x".to_owned()), at(-1)).is_err());
    }

    #[test]
    fn only_the_alphabet_and_the_padding_of_the_specification_are_read() {
        let key = key();
        let token = loop {
            let token = key.encrypt(Plain::from("0123456789".to_owned()), at(9)).unwrap();
            if token.contains('-') && token.contains('_') && token.ends_with('=') {
                break token;
            }
        };
        assert!(key.decrypt(token.as_bytes(), None).is_ok());
        let others = [
            token.replace('-', "+"),
            token.replace('_', "/"),
            token.trim_end_matches('=').to_owned(),
            format!("{token}="),
            format!("{token}\n"),
            format!(" {token}"),
            String::new(),
            "=".repeat(TOKEN_BYTES_MAX + 1),
        ];
        for other in others {
            assert_eq!(key.decrypt(other.as_bytes(), None).err(), Some(FernetError), "{other:.40}");
        }
    }

    #[test]
    fn keys_are_read_in_one_form() {
        let text = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
        assert!(FernetKey::from_text(text).is_ok());
        let long = URL_SAFE.encode([1; 33]);
        let short = URL_SAFE.encode([1; 31]);
        for other in [&text[..43], &text[..42], &text.replace('-', "+"), &format!("{text}\n"), &long, &short, ""] {
            assert_eq!(FernetKey::from_text(other).err(), Some(FernetKeyError), "{other}");
        }
    }

    #[test]
    fn the_first_key_that_signed_it_opens_it() {
        let keys = [key(), key(), key()];
        for key in &keys {
            let token = key.encrypt(Plain::from("x".to_owned()), at(9)).unwrap();
            assert!(FernetKey::decrypt_with_any(&keys, token.as_bytes(), None).is_ok());
        }
        let token = key().encrypt(Plain::from("x".to_owned()), at(9)).unwrap();
        assert_eq!(FernetKey::decrypt_with_any(&keys, token.as_bytes(), None).err(), Some(FernetError));
        assert_eq!(FernetKey::decrypt_with_any(&[], token.as_bytes(), None).err(), Some(FernetError));
    }

    proptest! {
        #[test]
        fn what_is_encrypted_comes_back_under_its_key_alone(
            plain in prop::collection::vec(any::<u8>(), 0..200),
            second in 0_i64..4_000_000_000,
        ) {
            let (key, other) = (key(), key());
            let token = key.encrypt(Plain::new(plain.clone()), at(second)).unwrap();
            prop_assert!(token.as_bytes().starts_with(PREFIX));
            prop_assert_eq!(opened(key.decrypt(token.as_bytes(), None)), Some(plain));
            prop_assert_eq!(opened(other.decrypt(token.as_bytes(), None)), None);
        }

        #[test]
        fn no_changed_bit_is_let_through(plain in prop::collection::vec(any::<u8>(), 0..60), place: prop::sample::Index, bit in 0_u8..8) {
            let key = key();
            let token = key.encrypt(Plain::new(plain), at(9)).unwrap();
            let mut bytes = URL_SAFE.decode(&token).unwrap();
            bytes[place.index(URL_SAFE.decode(&token).unwrap().len())] ^= 1 << bit;
            prop_assert_eq!(opened(key.decrypt(URL_SAFE.encode(bytes).as_bytes(), None)), None);
        }

        #[test]
        fn no_text_whatever_does_more_than_be_refused(text in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(opened(key().decrypt(&text, None)), None);
        }
    }
}
