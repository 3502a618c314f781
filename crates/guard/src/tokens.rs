//! Secrets that their own shape gives away, whatever stands around them.
//!
//! Owns the table of shapes. A line of the table is a kind, the letters that must occur before its pattern is tried, and the
//! pattern; where the pattern has a group, only the group is the secret. Sources are the platforms' own descriptions of
//! their token formats, RFC 7519 (JWT), RFC 7468 (PEM), RFC 3986 §3.2.1 (userinfo) and the Fernet specification.

use aho_corasick::AhoCorasick;
use regex::Regex;

use crate::{
    GuardError,
    finding::{Finding, Kind},
};

/// What may stand before a token whose first letters also occur inside words. Escapes count as boundaries: in `%3Dsk-…` and
/// `\nsk-…` the letter before the token belongs to the escape.
const LEFT: &str = r"(?:^|[^A-Za-z0-9]|%[0-9A-Fa-f]{2}|\\[nrt]|\\u[0-9A-Fa-f]{4})";

struct Shape {
    kind: Kind,
    anchors: &'static [&'static str],
    pattern: &'static str,
    /// Only where no word runs into it.
    at_boundary: bool,
    /// Only if a digit or a capital letter is in it: else it is prose.
    not_prose: bool,
}

const fn shape(kind: Kind, anchors: &'static [&'static str], pattern: &'static str) -> Shape {
    Shape { kind, anchors, pattern, at_boundary: false, not_prose: false }
}

const fn bounded(kind: Kind, anchors: &'static [&'static str], pattern: &'static str) -> Shape {
    Shape { kind, anchors, pattern, at_boundary: true, not_prose: false }
}

const fn unprosaic(kind: Kind, anchors: &'static [&'static str], pattern: &'static str) -> Shape {
    Shape { kind, anchors, pattern, at_boundary: true, not_prose: true }
}

const SHAPES: &[Shape] = &[
    // A key without its end line, as a cut text has it, is redacted to the end of the text. A quote ends it: the text around
    // it may be JSON.
    shape(
        Kind::PrivateKey,
        &["private"],
        r#"(?s)-----BEGIN(?:[ A-Z0-9+]|%20){0,60}PRIVATE(?: |\+|%20)KEY(?:[ A-Z0-9+]|%20){0,20}-----[^"]*?(?:-----END(?:[ A-Z0-9+]|%20){0,60}-----|"|\z)"#,
    ),
    shape(Kind::PrivateKey, &["age-secret-key-"], r"(?i)AGE-SECRET-KEY-(?:PQ-)?1[A-Z0-9]{20,}"),
    shape(
        Kind::Jwt,
        &["eyj", "eya", "ewo", "ew0"],
        r"(?:ey[JA][A-Za-z0-9_-]{8,}|ew(?:o|0K)[A-Za-z0-9_-]{16,})\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,3}",
    ),
    unprosaic(
        Kind::Authorization,
        &["bearer", "basic", "dpop"],
        r"(?i:bearer|basic|dpop)(?:[ \t+]|%20){1,4}([A-Za-z0-9._~+/%=:-]{6,})",
    ),
    shape(Kind::ApiKey, &["kh_", "kho_"], r"kho?_[a-z]{1,16}_[0-9A-Za-z]{16,}"),
    shape(Kind::PlatformToken, &["gh"], r"gh[a-z]_[A-Za-z0-9]{20,}"),
    shape(Kind::PlatformToken, &["github_pat_"], r"github_pat_[A-Za-z0-9_]{20,}"),
    shape(Kind::PlatformToken, &["glpat-", "gldt-", "glrt-"], r"gl(?:pat|dt|rt)-[A-Za-z0-9_.-]{16,}"),
    shape(Kind::PlatformToken, &["xox", "xapp-"], r"(?:xox[a-z](?:\.xox[a-z])?|xapp)-[A-Za-z0-9-]{8,}"),
    shape(
        Kind::PlatformToken,
        &["hooks.slack.com"],
        r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_-]{16,})",
    ),
    shape(Kind::PlatformToken, &["/api/webhooks/"], r"/api/webhooks/([0-9]{10,}/[A-Za-z0-9_-]{20,})"),
    bounded(Kind::PlatformToken, &["k_live_", "k_test_"], r"((?:sk|rk)_(?:live|test)_[A-Za-z0-9]{10,})"),
    shape(Kind::PlatformToken, &["whsec_"], r"whsec_[A-Za-z0-9+/=_-]{16,}"),
    bounded(Kind::PlatformToken, &["akia", "asia", "abia", "acca"], r"(A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16,})"),
    shape(Kind::PlatformToken, &["aiza"], r"AIza[A-Za-z0-9_-]{30,}"),
    shape(Kind::PlatformToken, &["ya29."], r"ya29\.[A-Za-z0-9_.-]{16,}"),
    shape(Kind::PlatformToken, &["gocspx-"], r"GOCSPX-[A-Za-z0-9_-]{16,}"),
    bounded(Kind::PlatformToken, &["1//0", "1%2f%2f0"], r"(1(?://|%2[Ff]%2[Ff])0[A-Za-z0-9_-]{20,})"),
    shape(Kind::PlatformToken, &["npm_"], r"npm_[A-Za-z0-9]{30,}"),
    shape(Kind::PlatformToken, &["pypi-"], r"pypi-[A-Za-z0-9_-]{16,}"),
    bounded(Kind::PlatformToken, &["eaa", "igqv", "igaa"], r"((?:EAA|IGQV|IGAA)[A-Za-z0-9]{20,})"),
    shape(Kind::PlatformToken, &["aaaaaaaaaaaaaaaaaa"], r"A{18,}[A-Za-z0-9%+/=_-]{20,}"),
    unprosaic(Kind::PlatformToken, &["sk-"], r"(sk-[A-Za-z0-9_-]{16,})"),
    bounded(Kind::PlatformToken, &["sg."], r"(SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"),
    bounded(Kind::PlatformToken, &["hf_"], r"(hf_[A-Za-z0-9]{24,})"),
    bounded(Kind::PlatformToken, &["shp", "shpat_"], r"(shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{24,})"),
    bounded(Kind::PlatformToken, &["do"], r"(do[opr]_v1_[a-f0-9]{32,})"),
    bounded(Kind::PlatformToken, &[":aa"], r"([0-9]{8,10}:AA[A-Za-z0-9_-]{30,})"),
    shape(Kind::Token, &["gaaaaa"], r"gAAAAA[A-Za-z0-9_-]{40,}(?:={0,2}|(?:%3[Dd]){0,2})"),
    shape(
        Kind::PasswordHash,
        &["$2", "$argon2", "$scrypt"],
        r"\$(?:2[abxy]\$[0-9]{2}|argon2(?:id|i|d)|scrypt)\$[A-Za-z0-9./+=,$-]{20,}",
    ),
    shape(Kind::PasswordHash, &["scram-sha-"], r"SCRAM-SHA-(?:1|256)\$[0-9]+:([A-Za-z0-9+/=$:]{20,})"),
    // Over HTTP a token often stands where a user name would; a database's user name is worth seeing.
    shape(
        Kind::Userinfo,
        &["http", "ws://", "wss://"],
        r#"(?i:https?|wss?)://([^\s/?#"'<>\\@\[\]]+(?:@[^\s/?#"'<>\\@\[\]]+)*)@"#,
    ),
    shape(Kind::Userinfo, &["://"], r#"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/?#"'<>\\@:]*:([^\s/?#"'<>\\]+)@"#),
    // Passwords made by people break the grammar: a database's address is taken up to its last @.
    shape(
        Kind::Userinfo,
        &["postgres", "mysql", "redis", "amqp", "mongodb"],
        r#"(?i:postgres(?:ql)?|mysql|rediss?|amqps?|mongodb(?:\+srv)?)://[^\s/?#"'<>\\@:]*:([^\s"'<>]+)@"#,
    ),
    shape(Kind::Userinfo, &["%3a%2f%2f"], r#"(?i)[a-z]%3A%2F%2F[^\s&"'%]*%3A([^\s&"']+?)%40"#),
];

/// All shapes, ready to search.
pub(crate) struct Tokens {
    anchors: AhoCorasick,
    /// The shape that an anchor belongs to, in the anchors' order.
    owners: Vec<usize>,
    patterns: Vec<Regex>,
}

impl Tokens {
    pub(crate) fn new() -> Result<Self, GuardError> {
        let (mut words, mut owners, mut patterns) = (Vec::<&str>::new(), Vec::new(), Vec::new());
        for (index, shape) in SHAPES.iter().enumerate() {
            words.extend(shape.anchors);
            owners.extend(shape.anchors.iter().map(|_| index));
            let left = if shape.at_boundary { LEFT } else { "" };
            patterns.push(Regex::new(&format!("{left}{}", shape.pattern)).map_err(GuardError::Pattern)?);
        }
        let anchors = AhoCorasick::builder().ascii_case_insensitive(true).build(words).map_err(GuardError::Search)?;
        Ok(Self { anchors, owners, patterns })
    }

    /// Adds what is found in `part`, which begins at `base` of its text.
    pub(crate) fn find(&self, part: &str, base: usize, findings: &mut Vec<Finding>) {
        let mut wanted = vec![false; SHAPES.len()];
        for anchor in self.anchors.find_overlapping_iter(part) {
            if let Some(wanted) = self.owners.get(anchor.pattern().as_usize()).and_then(|&owner| wanted.get_mut(owner))
            {
                *wanted = true;
            }
        }
        let wanted = SHAPES.iter().zip(&self.patterns).zip(&wanted).filter(|(_, wanted)| **wanted);
        for ((shape, pattern), _) in wanted {
            for hit in pattern.captures_iter(part) {
                let Some(secret) = hit.get(1).or_else(|| hit.get(0)) else { continue };
                if shape.not_prose && !secret.as_str().bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) {
                    continue;
                }
                // The quote that ends an unfinished private key is the text's, not the key's.
                let end = secret.end() - usize::from(secret.as_str().ends_with('"'));
                findings.push(Finding::new(base + secret.start()..base + end, shape.kind));
            }
        }
    }
}
