//! Known secrets of this process, found exactly: in plain, base64, hex, URL-encoded and JSON-escaped form.
//!
//! Holds the values for as long as the process lives, and shows them to nobody. Only secrets that live as long as the process
//! belong here (the root key, database passwords, client secrets); a connection's credential never does.

use std::{collections::BTreeSet, fmt::Write};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

use crate::{
    GuardError,
    finding::{Finding, Kind},
};

/// How many values one redactor takes.
pub(crate) const VALUES_LIMIT: usize = 1024;
/// The longest value, in bytes: a private key's file.
pub(crate) const VALUE_LIMIT: usize = 4096;
/// Shorter values are left out: they occur in ordinary words, and every line would be full of holes.
const SHORTEST_VALUE: usize = 6;
/// Shorter values are not looked for in base64 and hex, where their few letters occur by chance.
const SHORTEST_ENCODED: usize = 8;

/// The values and the search for all their forms.
#[derive(Default)]
pub(crate) struct Exact {
    values: BTreeSet<Vec<u8>>,
    search: Option<AhoCorasick>,
}

impl Exact {
    /// The same values and more of them.
    pub(crate) fn with<V: AsRef<[u8]>>(&self, more: impl IntoIterator<Item = V>) -> Result<Self, GuardError> {
        let mut values = self.values.clone();
        for value in more {
            let value = value.as_ref().trim_ascii();
            if value.len() > VALUE_LIMIT {
                return Err(GuardError::ValueTooLong { limit: VALUE_LIMIT });
            }
            if value.len() >= SHORTEST_VALUE {
                values.insert(value.to_vec());
            }
            if values.len() > VALUES_LIMIT {
                return Err(GuardError::TooManyValues { limit: VALUES_LIMIT });
            }
        }
        let forms: BTreeSet<Vec<u8>> = values.iter().flat_map(|value| forms(value)).collect();
        let search = if forms.is_empty() {
            None
        } else {
            let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(forms);
            Some(search.map_err(GuardError::Search)?)
        };
        Ok(Self { values, search })
    }

    /// The values, for another redactor to learn.
    pub(crate) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.values.iter().map(Vec::as_slice)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn find(&self, part: &str, base: usize, findings: &mut Vec<Finding>) {
        let hits = self.search.iter().flat_map(|search| search.find_iter(part));
        findings.extend(hits.map(|hit| Finding::new(base + hit.start()..base + hit.end(), Kind::Known)));
    }
}

/// Every form in which a value may stand in a text.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(value) {
        let json = json_escaped(text);
        forms.extend([json.replace('/', "\\/"), json_escaped(&json), json, text.to_owned()]);
    }
    for keep in ["-._~", "-._~!*'()", "-._~!*'();:@&=+$,/?#"] {
        let upper = percent_encoded(value, keep, false);
        // The hexadecimal digits of an escape may be small, its other letters may not.
        forms.extend([percent_encoded(value, keep, true), upper.replace("%20", "+"), upper]);
    }
    if value.len() >= SHORTEST_ENCODED {
        let hex = hex(value);
        forms.extend([hex.to_uppercase(), hex]);
        forms.extend((0..3).flat_map(|shift| [base64_core(value, shift, false), base64_core(value, shift, true)]));
    }
    forms.into_iter().map(String::into_bytes).collect()
}

fn hex(value: &[u8]) -> String {
    value.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The letters of a value's base64 that are the same whatever stands before and behind it, `shift` bytes into a group of
/// three: letters that carry bits of a neighbour are cut away.
fn base64_core(value: &[u8], shift: usize, url_safe: bool) -> String {
    let padded: Vec<u8> = std::iter::repeat_n(0, shift).chain(value.iter().copied()).collect();
    let text = if url_safe { URL_SAFE_NO_PAD.encode(&padded) } else { STANDARD_NO_PAD.encode(&padded) };
    let from = (shift * 8).div_ceil(6);
    let to = padded.len() * 8 / 6;
    text.get(from..to).unwrap_or_default().to_owned()
}

fn percent_encoded(value: &[u8], keep: &str, small: bool) -> String {
    value.iter().fold(String::new(), |mut text, byte| {
        let _ = match byte {
            byte if byte.is_ascii_alphanumeric() || keep.as_bytes().contains(byte) => {
                text.push(char::from(*byte));
                Ok(())
            }
            byte if small => write!(text, "%{byte:02x}"),
            byte => write!(text, "%{byte:02X}"),
        };
        text
    })
}

fn json_escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, letter| {
        match letter {
            '"' | '\\' => escaped.extend(['\\', letter]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            letter if letter.is_control() => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[&[u8]], text: &str) -> usize {
        let mut findings = Vec::new();
        Exact::default().with(values).expect("few values").find(text, 0, &mut findings);
        findings.len()
    }

    #[test]
    fn base64_is_found_in_all_three_alignments() {
        let secret = b"correct horse battery";
        for shift in 0..3 {
            for tail in 0..3 {
                let mut plain = vec![b'x'; shift];
                plain.extend_from_slice(secret);
                plain.extend(std::iter::repeat_n(b'y', tail));
                for text in [STANDARD_NO_PAD.encode(&plain), URL_SAFE_NO_PAD.encode(&plain)] {
                    assert_eq!(found(&[secret], &text), 1, "shift {shift}, tail {tail}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_found_encoded() {
        let key: Vec<u8> = (0..32_u8).map(|byte| byte.wrapping_mul(73) ^ 0xA5).collect();
        let hex = hex(&key);
        assert_eq!(found(&[&key], &hex), 1);
        assert_eq!(found(&[&key], &hex.to_uppercase()), 1);
        assert_eq!(found(&[&key], &STANDARD_NO_PAD.encode(&key)), 1);
    }

    #[test]
    fn limits_are_kept() {
        let many: Vec<String> = (0..=VALUES_LIMIT).map(|n| format!("value-{n}")).collect();
        assert!(matches!(Exact::default().with(&many), Err(GuardError::TooManyValues { .. })));
        assert!(matches!(Exact::default().with([vec![b'a'; VALUE_LIMIT + 1]]), Err(GuardError::ValueTooLong { .. })));
        assert_eq!(found(&[b"short"], "short shrift"), 0);
    }
}
