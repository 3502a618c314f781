//! The search for a secret where it must not be: as it is, and as a careless program would have written it.
//!
//! Half of a secret is a leak as the whole is, so each half is looked for. That a search finds anything at all is for the probe to show,
//! with something that was planted.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use memchr::memmem::Finder;

/// A secret that is shorter is looked for as a whole.
const HALVES_FROM: usize = 32;
/// What is shorter turns up by chance, or is nothing at all: to search for it shows nothing.
const SHORTEST: usize = 8;

/// Something to be looked for.
pub struct Needle {
    /// What it is, in words that may be shown.
    pub name: String,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
    is_blind: bool,
    forms: Vec<(&'static str, Finder<'static>)>,
}

impl Needle {
    /// A secret, of 8 bytes or more.
    pub fn new(name: impl Into<String>, secret: impl AsRef<[u8]>) -> Self {
        let secret = secret.as_ref();
        let halves = secret.len() >= HALVES_FROM;
        let middle = if halves { secret.len() / 2 } else { secret.len() };
        let (front, back) = secret.split_at_checked(middle).unwrap_or((secret, &[]));
        let pieces = [front, back].into_iter().filter(|piece| !piece.is_empty());
        let forms = pieces.flat_map(forms).map(|(form, text)| (form, Finder::new(&text).into_owned())).collect();
        Self { name: name.into(), sha256: crate::evidence::sha256(secret), is_blind: secret.len() < SHORTEST, forms }
    }

    /// Whether it is too short to be looked for: then nothing follows from its not being found, and [`Self::within`] says that it is
    /// everywhere.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// In which form it, or a half of it, is in a text; nothing, where it is not.
    pub fn within(&self, text: &[u8]) -> Option<&'static str> {
        if self.is_blind {
            return Some("nothing that can be looked for");
        }
        self.forms.iter().find(|(_, finder)| finder.find(text).is_some()).map(|(form, _)| *form)
    }
}

/// The forms of a text.
fn forms(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let each =
        |write: fn(&u8) -> String, between: &str| text.iter().map(write).collect::<Vec<_>>().join(between).into_bytes();
    let digits = hex::encode(text);
    let mut forms = vec![
        ("as it is", text.to_vec()),
        ("hexadecimal", digits.clone().into_bytes()),
        ("hexadecimal", digits.to_uppercase().into_bytes()),
        ("percent-encoded", each(|byte| format!("%{byte:02X}"), "")),
        ("JSON escapes", each(|byte| format!("\\u{byte:04x}"), "")),
        ("a list of bytes", each(u8::to_string, ", ")),
        ("a list of bytes", each(u8::to_string, ",")),
    ];
    for ahead in 0..3 {
        let standard = base64_core(text, ahead);
        let url_safe = standard.replace('+', "-").replace('/', "_");
        forms.extend([("base64", standard.into_bytes()), ("base64", url_safe.into_bytes())]);
    }
    forms
}

/// The characters of a base64 text that are this text's alone, where so many bytes of something else come before it.
fn base64_core(text: &[u8], ahead: usize) -> String {
    let mut padded = vec![0; ahead];
    padded.extend_from_slice(text);
    let encoded = STANDARD_NO_PAD.encode(&padded);
    let (begin, end) = ((ahead * 8).div_ceil(6), padded.len() * 8 / 6);
    encoded.get(begin..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::URL_SAFE;

    #[test]
    fn a_secret_and_each_half_of_it_is_found_in_every_form_and_a_crumb_is_not() {
        let secret = "q7_Zw-3xN/vR.k~T9+eLmB2=pYhC5uGs";
        let needle = Needle::new("it", secret);
        for part in [secret, &secret[..16], &secret[16..], &secret[..20]] {
            for ahead in ["", "a", "ab"] {
                let texts = [
                    format!("{ahead}{part}"),
                    STANDARD_NO_PAD.encode(format!("{ahead}{part}")),
                    URL_SAFE.encode(format!("{ahead}{part}")),
                    hex::encode(part),
                    hex::encode_upper(part),
                    format!("{:?}", part.as_bytes()),
                ];
                for text in texts {
                    assert!(needle.within(format!("<{text}>").as_bytes()).is_some(), "{part}: {text}");
                }
            }
        }
        assert!(Needle::new("nothing", "").within(b"").is_some());
        assert!(Needle::new("a word", "too few").is_blind() && !needle.is_blind());
        for crumb in [&secret[..15], &secret[8..23], ""] {
            assert!(needle.within(crumb.as_bytes()).is_none(), "{crumb}");
            assert!(needle.within(hex::encode(crumb).as_bytes()).is_none(), "{crumb}");
        }
    }
}
