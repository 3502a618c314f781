//! Secrets in text that nobody meant to hold any: source, configuration, messages of commits.
//!
//! Owns the shapes. What is an example that everybody knows is told apart by its digest, and each such digest says where it is from.

use std::collections::HashMap;

use regex::Regex;

use crate::evidence::sha256;

/// Something that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// What it looks like.
    pub(crate) kind: &'static str,
    /// SHA-256 of it, in hexadecimal.
    pub(crate) sha256: String,
}

/// A shape: its name, its pattern, and how random its group (or the whole) must be to count, in bits a character.
struct Shape {
    kind: &'static str,
    pattern: Regex,
    entropy: f64,
}

const SHAPES: [(&str, &str, f64); 14] = [
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\\n|\s)*([A-Za-z0-9+/=\\\s]{64,})", 3.5),
    ("an age identity", r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}", 3.0),
    ("a key of Amazon's", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", 3.0),
    ("a token of GitHub's", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})", 3.5),
    ("a key of Stripe's", r"\b[rs]k_live_[A-Za-z0-9]{20,}", 3.5),
    ("a token of Slack's", r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}", 3.0),
    ("a key of Google's", r"\bAIza[0-9A-Za-z_-]{35}\b", 3.5),
    ("a JWT", r"\bey[JA][A-Za-z0-9_-]{12,}\.ey[JA][A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{20,}", 3.5),
    ("a Fernet token", r"\bgAAAAA[A-Za-z0-9_-]{90,}", 4.0),
    ("a key of Keyholder's", r"\bkho?_[a-z]{1,16}_[0-9A-Za-z]{30,}", 3.5),
    ("a password in an address", r#"\b[a-z][a-z0-9+.-]{2,}://[^\s:/@"'{}<>]+:([^\s@"'{}<>/]{8,})@"#, 2.5),
    // 32 random bytes, as a root key is written; in hexadecimal only behind a secret's name, since digests look the same.
    ("32 bytes in base64", r"(?:^|[^A-Za-z0-9+/_=-])([A-Za-z0-9+/_-]{43})=?(?:$|[^A-Za-z0-9+/_=-])", 4.2),
    (
        "a value with a secret's name",
        r#"(?i)(?:secret|passw(?:or)?d|pwd|token|api[_-]?key|private[_-]?key|encryption[_-]?key|root[_-]?key|credential)["']?\s*[:=]{1,2}\s*["']?([A-Za-z0-9+/_=-]{24,})"#,
        3.6,
    ),
    ("a login in a file for curl", r"(?i)\bmachine\s+\S+\s+login\s+\S+\s+password\s+(\S{8,})", 2.5),
];

/// Examples that everybody knows, or that stand for nothing: the first 16 digits of their SHA-256, and where they are from.
const EXAMPLES: [(&str, &str); 11] = [
    ("86e55ee5289ff528", "the digits 0 to 9 in a row, as a root key in tests of the configuration"),
    ("2fce19f2aefc3d52", "the key of the Fernet specification's own examples"),
    ("13d31e961a1ad8ec", "the code verifier of RFC 7636, appendix B"),
    ("0d299b1eb548708d", "the code challenge of RFC 7636, appendix B"),
    ("9f5ae443046d0ca9", "a wrong copy of that challenge"),
    ("b6c5eed59b61cbb8", "an id that must not be taken for a secret, in a test of the redaction"),
    ("20d2fe5e369db54e", "a password in a test of addresses"),
    ("bb25c0838c018e5f", "a password in a test of the configuration"),
    ("53265036481f559f", "a password in a test of the configuration"),
    ("1c952dc19266e1a5", "a password in a test of the configuration"),
    ("4c1b9bb3405f53cf", "a password in a test of the configuration"),
];

/// Finds secrets.
pub(crate) struct Scanner {
    shapes: Vec<Shape>,
    examples: HashMap<&'static str, &'static str>,
}

impl Scanner {
    /// # Errors
    /// Where a pattern is none: a defect.
    pub(crate) fn new() -> Result<Self, regex::Error> {
        let shape = |(kind, pattern, entropy): &(&'static str, &str, f64)| {
            Ok(Shape { kind, pattern: Regex::new(pattern)?, entropy: *entropy })
        };
        let shapes = SHAPES.iter().map(shape).collect::<Result<_, regex::Error>>()?;
        Ok(Self { shapes, examples: EXAMPLES.into_iter().collect() })
    }

    /// Whatever in a text looks like a secret and is no known example.
    pub(crate) fn find(&self, text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        for shape in &self.shapes {
            for hit in shape.pattern.captures_iter(text) {
                let secret = hit.get(1).or_else(|| hit.get(0)).map_or("", |secret| secret.as_str());
                let sha256 = sha256(secret.as_bytes());
                let known = sha256.get(..16).is_some_and(|begins| self.examples.contains_key(begins));
                if !known && entropy(secret) >= shape.entropy && is_mixed(secret) {
                    found.push(Found { kind: shape.kind, sha256 });
                }
            }
        }
        found
    }

    /// How many examples are known.
    pub(crate) fn examples(&self) -> usize {
        self.examples.len()
    }
}

/// Shannon's entropy of a text, in bits a character.
fn entropy(text: &str) -> f64 {
    let mut counts: HashMap<char, f64> = HashMap::new();
    text.chars().for_each(|letter| *counts.entry(letter).or_default() += 1.0);
    let length: f64 = counts.values().sum();
    counts.values().map(|count| -(count / length) * (count / length).log2()).sum()
}

/// Whether there are digits and letters in it: else it is words.
fn is_mixed(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}
