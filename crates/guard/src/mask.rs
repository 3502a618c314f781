//! Masking of personal data: e-mail addresses, telephone numbers, payment cards, network addresses.
//!
//! Owns what such data looks like in text. A mask is whole (`[email]`, not `a***@e***.com`): what is left of a partly masked
//! address tells the few people apart who use a log in the first place, and their domain is often the person's own name.
//!
//! What it does not see: names, postal addresses, digits of other scripts than ASCII, and national telephone numbers that are
//! written without a separator, a leading zero or a name such as `phone` before them: those cannot be told from ids.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use regex::Regex;

use crate::{
    GuardError, digits,
    finding::{Finding, Kind, before, piece, replace, unmarked},
};

/// Which network addresses are personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// None: for texts that are about networks.
    Keep,
    /// Those of the public internet. What an operator numbers himself (loopback, private, link-local) stays readable.
    MaskPublic,
    /// All but loopback and the unspecified address, which name no person anywhere.
    MaskAll,
}

/// Finds personal data in text and replaces it by `[email]`, `[phone]`, `[card]` or `[ip]`.
#[derive(Clone, Debug)]
pub struct Masker {
    email: Regex,
    addresses: Addresses,
}

impl Masker {
    /// A masker; the only choice it leaves is the one about network addresses.
    ///
    /// # Errors
    /// Only where its own pattern is defective.
    pub fn new(addresses: Addresses) -> Result<Self, GuardError> {
        // RFC 5321 §4.1.2 without quoted local parts, address literals and the marks that separate in URLs, and with letters
        // of any script (RFC 6531).
        let email = r"[\p{L}\p{N}._%+'~-]+(?:@|%40|\\u0040)(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?\.)+[\p{L}][\p{L}\p{N}-]*";
        Ok(Self { email: Regex::new(email).map_err(GuardError::Pattern)?, addresses })
    }

    /// The text without personal data. Borrowed where there is none.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        replace(text, |text| self.find(text))
    }

    /// The marker that replaces the whole value of a field whose name says that it is an e-mail address or a telephone number.
    pub fn field_marker(&self, name: &str, value: &str) -> Option<&'static str> {
        let name = name.to_ascii_lowercase();
        let kind = if ["email", "e_mail", "email_address"].iter().any(|end| name.ends_with(end)) {
            Kind::Email
        } else if digits::is_phone_name(&name) {
            Kind::Phone
        } else {
            return None;
        };
        (!value.is_empty()).then(|| kind.marker())
    }

    pub(crate) fn find(&self, text: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for range in unmarked(text) {
            let (base, part) = (range.start, piece(text, range));
            if part.contains('@') || part.contains("%40") || part.contains("\\u0040") {
                let hits = self.email.find_iter(part);
                findings.extend(hits.map(|hit| Finding::new(base + hit.start()..base + hit.end(), Kind::Email)));
            }
            digits::find(part, base, &mut findings);
            if self.addresses != Addresses::Keep {
                self.find_addresses(part, base, &mut findings);
            }
        }
        findings
    }

    fn find_addresses(&self, part: &str, base: usize, findings: &mut Vec<Finding>) {
        let is_letter = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b':');
        let bytes = part.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let length = bytes.iter().skip(at).take_while(|b| is_letter(**b)).count();
            let run = piece(part, at..at + length);
            // The shortest address of either family: `1.1.1.1`, `2::`.
            if length >= 3
                && run.bytes().filter(|b| matches!(b, b'.' | b':')).count() >= 2
                && let Some((range, ip)) = address(run)
                && self.masks(ip)
                && stands_alone(part, at + range.start, at + range.end)
            {
                findings.push(Finding::new(base + at + range.start..base + at + range.end, Kind::Address));
            }
            at += length.max(1);
        }
    }

    fn masks(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if ip.is_loopback() || ip.is_unspecified() {
            return false;
        }
        match (self.addresses, ip) {
            (Addresses::Keep, _) => false,
            (Addresses::MaskAll, _) => true,
            (Addresses::MaskPublic, IpAddr::V4(ip)) => !(ip.is_private() || ip.is_link_local() || ip.is_broadcast()),
            (Addresses::MaskPublic, IpAddr::V6(ip)) => !(ip.is_unique_local() || ip.is_unicast_link_local()),
        }
    }
}

/// The first address in a run of hexadecimal digits, dots and colons, and where it stands there.
fn address(run: &str) -> Option<(Range<usize>, IpAddr)> {
    // The points and colons of a sentence are none of an IPv6 address, but two colons are.
    let points = run.trim_matches('.');
    for text in [points, points.strip_suffix(':').unwrap_or(points), points.strip_prefix(':').unwrap_or(points)] {
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            let start = run.find(text)?;
            return Some((start..start + text.len(), ip.into()));
        }
    }
    // An IPv4 address may have a port behind it, and a name before it: `peer:192.0.2.1:443`.
    let mut start = 0;
    for word in run.split(':') {
        let text = word.trim_end_matches('.');
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some((start..start + text.len(), ip.into()));
        }
        start += word.len() + 1;
    }
    None
}

/// The address is not a part of a word, nor the version in `Browser/120.0.0.0`.
fn stands_alone(part: &str, start: usize, end: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let left = before(part, start);
    let version = left == Some('/') && before(part, start - 1).is_some_and(char::is_alphabetic);
    !left.is_some_and(is_word) && !version && !piece(part, end..part.len()).starts_with(is_word)
}
