//! Digests and message authentication: SHA-256 (FIPS 180-4), HMAC-SHA256 (RFC 2104), comparison in constant time.
//!
//! Never decides what is authenticated: a caller with more than one variable part puts the borders in himself.

use aws_lc_rs::{constant_time, digest, hmac};

/// The size of a digest and of a tag, in bytes.
pub const TAG_BYTES: usize = 32;

/// The SHA-256 digest of the bytes.
pub fn sha256(bytes: &[u8]) -> [u8; TAG_BYTES] {
    exactly(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The HMAC-SHA256 tag of the parts, taken as one message without borders between them.
///
/// The database computes the same over a concatenation. So only one part may vary in length, or each must carry its own.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; TAG_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    exactly(context.sign().as_ref())
}

/// Whether `tag` is the whole HMAC-SHA256 tag of the parts. A shortened tag is not accepted.
#[must_use]
pub fn verify_hmac_sha256(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> bool {
    same(&hmac_sha256(key, parts), tag)
}

/// Whether both are equal, in a time that depends on their lengths alone.
#[must_use]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// The library returns slices of a digest's maximal size cut to its own; here it is always 32 bytes.
fn exactly(bytes: &[u8]) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    for (to, from) in tag.iter_mut().zip(bytes) {
        *to = *from;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{bytes_of, vectors};

    #[test]
    fn wycheproof_hmac_sha256() {
        let Some(file) = vectors("wycheproof/hmac_sha256_test.json") else { return };
        let (mut valid, mut invalid) = (0, 0);
        for group in file["testGroups"].as_array().unwrap() {
            let tag_bytes = usize::try_from(group["tagSize"].as_u64().unwrap()).unwrap() / 8;
            for case in group["tests"].as_array().unwrap() {
                let (key, message, tag) = (bytes_of(&case["key"]), bytes_of(&case["msg"]), bytes_of(&case["tag"]));
                let (head, tail) = message.split_at(message.len() / 3);
                let expected = match case["result"].as_str().unwrap() {
                    "valid" => true,
                    "invalid" => false,
                    other => panic!("unknown result {other}"),
                };
                let computed = hmac_sha256(&key, &[head, tail]);
                assert_eq!(computed[..tag_bytes] == tag[..], expected, "case {}", case["tcId"]);
                // The vectors with a tag of 128 bits are all to be refused here: a half tag is not a tag.
                let accepted = expected && tag_bytes == TAG_BYTES;
                assert_eq!(verify_hmac_sha256(&key, &[&message], &tag), accepted, "case {}", case["tcId"]);
                if expected { valid += 1 } else { invalid += 1 }
            }
        }
        assert_eq!((valid, invalid), (66, 108));
    }

    #[test]
    fn sha256_of_the_standards_examples() {
        // FIPS 180-2, appendix B.
        let table = [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ];
        for (message, digest) in table {
            assert_eq!(hex::encode(sha256(message.as_bytes())), digest);
        }
    }

    #[test]
    fn only_equal_bytes_of_equal_length_are_the_same() {
        assert!(same(b"token", b"token") && same(b"", b""));
        assert!(!same(b"token", b"toke") && !same(b"token", b"tokem") && !same(b"", b"t"));
    }
}
