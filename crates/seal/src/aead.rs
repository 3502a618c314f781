//! AES-256-GCM (NIST SP 800-38D): a random 96-bit nonce and a 128-bit tag for every value.
//!
//! The one place that calls the cipher. The stored form is one byte of format, the nonce, the ciphertext, the tag. Never takes
//! a nonce from a caller outside this module, and never returns a byte of what did not authenticate.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use domain::random;
use zeroize::Zeroizing;

use crate::key::KeyBytes;

/// The first byte of everything that is sealed, and a part of what is authenticated with it.
pub(crate) const FORMAT: u8 = 1;
pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;

/// Why bytes did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too short for format, nonce and tag.
    Short,
    /// A format that this version does not know.
    Format(u8),
    /// The tag does not fit: other key, other place, or changed bytes. The cipher does not know which.
    Tag,
}

/// The cipher itself failed, which it does for a plaintext of more than 2³⁶ bytes or without memory.
#[derive(Debug)]
pub(crate) struct Failed;

/// Seals under a fresh nonce.
///
/// With random nonces a key may seal 2³² values (SP 800-38D §8.3).
pub(crate) fn seal(key: &KeyBytes, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failed> {
    let nonce = random::bytes();
    let sealed = seal_under(key, nonce, aad, plain)?;
    Ok([&[FORMAT], nonce.as_slice(), &sealed].concat())
}

/// Opens what [`seal`] made with the same key and the same `aad`.
pub(crate) fn open(key: &KeyBytes, aad: &[u8], bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (format, rest) = bytes.split_first().ok_or(Refusal::Short)?;
    if *format != FORMAT {
        return Err(Refusal::Format(*format));
    }
    let (nonce, sealed) = rest.split_first_chunk().ok_or(Refusal::Short)?;
    if sealed.len() < TAG_BYTES {
        return Err(Refusal::Short);
    }
    open_under(key, *nonce, aad, sealed)
}

fn cipher(key: &KeyBytes) -> Result<LessSafeKey, Failed> {
    UnboundKey::new(&AES_256_GCM, key.as_bytes()).map(LessSafeKey::new).map_err(|_| Failed)
}

fn seal_under(key: &KeyBytes, nonce: [u8; NONCE_BYTES], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failed> {
    // The room for the tag is taken at the start: a vector that grew would leave the plaintext in its old place.
    let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_BYTES));
    buffer.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    cipher(key)?.seal_in_place_append_tag(nonce, Aad::from(aad), &mut *buffer).map_err(|_| Failed)?;
    Ok(std::mem::take(&mut *buffer))
}

fn open_under(
    key: &KeyBytes,
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    #[cfg(feature = "sabotage")]
    if domain::sabotaged!(ChangedSeals) {
        return crate::sabotage::open_unchecked(key, nonce, sealed).ok_or(Refusal::Tag);
    }
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let cipher = cipher(key).map_err(|_| Refusal::Tag)?;
    let length = cipher.open_in_place(nonce, Aad::from(aad), &mut buffer).map_err(|_| Refusal::Tag)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{bytes_of, vectors};
    use proptest::prelude::*;
    use serde_json::Value;

    /// The groups that this cipher is: a key of 256, a nonce of 96 and a tag of 128 bits.
    fn ours(group: &Value) -> bool {
        group["keySize"] == 256 && group["ivSize"] == 96 && group["tagSize"] == 128
    }

    #[test]
    fn wycheproof_aes_256_gcm() {
        let Some(file) = vectors("wycheproof/aes_gcm_test.json") else { return };
        let (mut valid, mut invalid) = (0, 0);
        for group in file["testGroups"].as_array().unwrap().iter().filter(|group| ours(group)) {
            for case in group["tests"].as_array().unwrap() {
                let name = &case["tcId"];
                let key = KeyBytes::from_slice(&bytes_of(&case["key"])).unwrap();
                let nonce: [u8; NONCE_BYTES] = bytes_of(&case["iv"]).try_into().unwrap();
                let aad = bytes_of(&case["aad"]);
                let (plain, sealed) =
                    (bytes_of(&case["msg"]), [bytes_of(&case["ct"]), bytes_of(&case["tag"])].concat());
                let stored = [&[FORMAT], &nonce[..], &sealed].concat();
                match case["result"].as_str().unwrap() {
                    "valid" => {
                        valid += 1;
                        assert_eq!(seal_under(&key, nonce, &aad, &plain).unwrap(), sealed, "case {name}");
                        assert_eq!(*open_under(&key, nonce, &aad, &sealed).unwrap(), plain, "case {name}");
                        assert_eq!(*open(&key, &aad, &stored).unwrap(), plain, "case {name}");
                    }
                    "invalid" => {
                        invalid += 1;
                        assert_eq!(open_under(&key, nonce, &aad, &sealed).unwrap_err(), Refusal::Tag, "case {name}");
                        assert_eq!(open(&key, &aad, &stored).unwrap_err(), Refusal::Tag, "case {name}");
                    }
                    other => panic!("unknown result {other}"),
                }
            }
        }
        assert_eq!((valid, invalid), (39, 27));
    }

    #[test]
    fn what_is_too_short_or_of_another_format_is_named() {
        let key = KeyBytes::random();
        let sealed = seal(&key, b"", b"").unwrap();
        assert_eq!(sealed.len(), 1 + NONCE_BYTES + TAG_BYTES);
        for length in 0..sealed.len() {
            assert_eq!(open(&key, b"", &sealed[..length]).unwrap_err(), Refusal::Short, "{length} bytes");
        }
        for format in (0..=u8::MAX).filter(|format| *format != FORMAT) {
            let other = [&[format], &sealed[1..]].concat();
            assert_eq!(open(&key, b"", &other).unwrap_err(), Refusal::Format(format));
        }
    }

    proptest! {
        #[test]
        fn the_same_key_and_aad_open_and_no_other_do(
            plain in prop::collection::vec(any::<u8>(), 0..300),
            aad in prop::collection::vec(any::<u8>(), 0..60),
            other in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let key = KeyBytes::random();
            let sealed = seal(&key, &aad, &plain).unwrap();
            prop_assert_eq!(&*open(&key, &aad, &sealed).unwrap(), &plain);
            prop_assert_eq!(open(&KeyBytes::random(), &aad, &sealed).unwrap_err(), Refusal::Tag);
            if other != aad {
                prop_assert_eq!(open(&key, &other, &sealed).unwrap_err(), Refusal::Tag);
            }
        }
    }
}
