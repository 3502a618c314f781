//! Signatures of statements: Ed25519 (RFC 8032) over DSSE's pre-authentication encoding.
//!
//! Owns the pair of keys and their texts. The private half belongs to whoever proves, in a file of his own; no server process reads one,
//! and the two halves have different words in front, so that neither passes for the other. Never decides what a statement means.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::statement::{Envelope, EnvelopeError, Signature, signed_bytes};
use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, KeyBytes};

/// The size of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;
const PRIVATE: &str = "ed25519-private:";
const PUBLIC: &str = "ed25519:";
/// The characters of 32 bytes in unpadded base64.
const TEXT_BYTES: usize = 43;

/// Why a text is not a key for signatures. No message repeats any part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureKeyError {
    /// It does not begin with the word of its kind, or is no base64 of 32 bytes.
    #[error("is not `ed25519:` and 43 characters of base64, as `keyholder trust key` prints it")]
    NotPublic,
    /// The private half stands where the public one belongs.
    #[error("is the private half of the key: a server is given the public one, which begins with `ed25519:`")]
    Private,
    /// It is no private half.
    #[error("is not the private half of a key, as `keyholder trust key --out FILE` writes it")]
    NotPrivate,
}

/// The private half: signs. Neither Clone nor Debug, and overwritten on drop.
///
/// ```compile_fail,E0277
/// let text = format!("{:?}", keyholder_seal::signature::SigningKey::generate());
/// ```
pub struct SigningKey(KeyBytes);

/// The public half: recognises what was signed. Anybody may know it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey([u8; KEY_BYTES]);

impl SigningKey {
    /// A new key.
    pub fn generate() -> Self {
        Self(KeyBytes::random())
    }

    /// Reads what [`SigningKey::to_text`] wrote. One line's end after it is overlooked. The caller wipes the text.
    ///
    /// # Errors
    /// `NotPrivate`.
    pub fn from_text(text: &str) -> Result<Self, SignatureKeyError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let bytes = text.strip_prefix(PRIVATE).and_then(decoded).ok_or(SignatureKeyError::NotPrivate)?;
        KeyBytes::from_slice(&bytes[..]).map(Self).ok_or(SignatureKeyError::NotPrivate)
    }

    /// The key as a text, for the command that makes one and for nothing else.
    pub fn to_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_bytes()));
        let mut text = Zeroizing::new(String::with_capacity(PRIVATE.len() + TEXT_BYTES));
        text.push_str(PRIVATE);
        text.push_str(&encoded);
        text
    }

    /// The half that may be shown.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut public = [0; KEY_BYTES];
        for (to, from) in public.iter_mut().zip(self.pair().public_key().as_ref()) {
            *to = *from;
        }
        VerifyingKey(public)
    }

    fn pair(&self) -> Ed25519KeyPair {
        // Any 32 bytes are a seed (RFC 8032 §5.1.5): a library that refuses them is broken, and so would be what it signs.
        Ed25519KeyPair::from_seed_unchecked(self.0.as_bytes()).unwrap_or_else(|_| std::process::abort())
    }
}

impl VerifyingKey {
    /// Which key it is, in few characters: the first 16 bytes of its SHA-256, in hexadecimal. A hint in an envelope, and nothing more.
    pub fn id(&self) -> String {
        let mut id = hex::encode(crate::mac::sha256(&self.0));
        id.truncate(32);
        id
    }

    /// Whether this is the key's signature of the bytes.
    fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for VerifyingKey {
    type Err = SignatureKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.starts_with(PRIVATE) {
            return Err(SignatureKeyError::Private);
        }
        let bytes = text.strip_prefix(PUBLIC).and_then(decoded).ok_or(SignatureKeyError::NotPublic)?;
        Ok(Self(*bytes))
    }
}

fn decoded(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let fits = text.len() == TEXT_BYTES && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes[..]) == Ok(KEY_BYTES);
    fits.then_some(bytes)
}

/// Signs the bytes of a statement with each of these keys.
///
/// # Errors
/// Where there are more keys than an envelope holds signatures, or none, or the statement is too long.
pub fn sign(payload: Vec<u8>, keys: &[SigningKey]) -> Result<Envelope, EnvelopeError> {
    let bytes = signed_bytes(&payload);
    let sign = |key: &SigningKey| Signature {
        key: key.verifying_key().id(),
        signature: key.pair().sign(&bytes).as_ref().to_vec(),
    };
    Envelope::new(payload, keys.iter().map(sign).collect())
}

/// Which of these keys has signed the envelope's bytes; the first, where several have. The hints in it are not believed.
pub fn verify<'k>(envelope: &Envelope, keys: &'k [VerifyingKey]) -> Option<&'k VerifyingKey> {
    let bytes = signed_bytes(envelope.payload());
    keys.iter().find(|key| envelope.signatures().iter().any(|found| key.signed(&bytes, &found.signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: &str) -> SigningKey {
        SigningKey(KeyBytes::from_slice(&hex::decode(seed).unwrap()).unwrap())
    }

    #[test]
    fn rfc_8032_section_7_1() {
        // Secret key, public key, message, signature: tests 1 to 3.
        let table = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (secret, public, message, signature) in table {
            let (secret, message) = (key(secret), hex::decode(message).unwrap());
            assert_eq!(hex::encode(secret.verifying_key().0), public);
            assert_eq!(hex::encode(secret.pair().sign(&message)), signature);
            assert!(secret.verifying_key().signed(&message, &hex::decode(signature).unwrap()));
        }
    }

    #[test]
    fn a_statement_is_recognised_by_its_own_key_and_no_changed_one_is() {
        let (mine, other) = (SigningKey::generate(), SigningKey::generate());
        let (my_half, other_half) = (mine.verifying_key(), other.verifying_key());
        let envelope = sign(b"{\"sequence\":1}".to_vec(), std::slice::from_ref(&mine)).unwrap();
        assert_eq!(verify(&envelope, &[other_half, my_half]), Some(&my_half));
        assert_eq!(verify(&envelope, &[other_half]), None);
        assert_eq!(verify(&envelope, &[]), None);
        // Other bytes under the same signature, and a signature that was changed by a bit.
        let moved = Envelope::new(b"{\"sequence\":2}".to_vec(), envelope.signatures().to_vec()).unwrap();
        assert_eq!(verify(&moved, &[my_half]), None);
        for bit in [0, 255, 511] {
            let mut signature = envelope.signatures()[0].clone();
            signature.signature[bit / 8] ^= 1 << (bit % 8);
            let changed = Envelope::new(envelope.payload().to_vec(), vec![signature]).unwrap();
            assert_eq!(verify(&changed, &[my_half]), None, "bit {bit}");
        }
        // The bare bytes, signed for some other end, are no statement.
        let bare = Signature { key: my_half.id(), signature: mine.pair().sign(envelope.payload()).as_ref().to_vec() };
        let bare = Envelope::new(envelope.payload().to_vec(), vec![bare]).unwrap();
        assert_eq!(verify(&bare, &[my_half]), None);
        // During a change both sign, and either is enough.
        let both = sign(envelope.payload().to_vec(), &[mine, other]).unwrap();
        for half in [my_half, other_half] {
            assert_eq!(verify(&both, &[half]), Some(&half));
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_neither_half_passes_for_the_other() {
        let secret = SigningKey::generate();
        let (private, public) = (secret.to_text(), secret.verifying_key().to_string());
        let again = SigningKey::from_text(&format!("{}\n", *private)).unwrap();
        assert_eq!(again.verifying_key(), secret.verifying_key());
        assert_eq!(public.parse(), Ok(secret.verifying_key()));
        assert_eq!(private.parse::<VerifyingKey>(), Err(SignatureKeyError::Private));
        assert!(SigningKey::from_text(&public).is_err());
        for bad in
            ["", "ed25519:", "ed25519:AAAA", &public[..50], &format!("{public}A"), &public.replace("ed25519:", "")]
        {
            assert_eq!(bad.parse::<VerifyingKey>(), Err(SignatureKeyError::NotPublic), "{bad}");
        }
        assert!(!format!("{}", SignatureKeyError::Private).contains(&private[PRIVATE.len()..]));
        assert_eq!(secret.verifying_key().id().len(), 32);
    }
}
