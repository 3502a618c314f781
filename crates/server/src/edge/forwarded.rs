//! The text of `Forwarded` (RFC 7239) and of an address in a forwarding header. Knows who said what, and believes nobody.

use std::net::{IpAddr, SocketAddr};

/// What one proxy says of the one before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Its address; `None` where it is unknown, obfuscated (RFC 7239 §6.3), or no address.
    pub(super) address: Option<IpAddr>,
    /// By which protocol it came.
    pub(super) proto: Option<String>,
    /// Which host it asked for.
    pub(super) host: Option<String>,
}

impl Element {
    /// An element that tells nothing but an address.
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        Self { address, ..Self::default() }
    }
}

/// The elements of a value; `None` where it does not follow the grammar of §4, or says something twice of one proxy.
pub(super) fn elements(text: &str) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut rest = text;
    loop {
        let (element, after) = element(rest)?;
        // Empty elements of a list count for nothing (RFC 9110 §5.6.1.2).
        elements.extend(element);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(elements),
        }
    }
}

/// One element, and what is behind it.
fn element(text: &str) -> Option<(Option<Element>, &str)> {
    let (mut found, mut seen) = (Element::default(), Vec::new());
    let mut rest = text.trim_start_matches([' ', '\t']);
    loop {
        if let Some((name, behind)) = token(rest) {
            let (value, behind) = value(behind.strip_prefix('=')?)?;
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                "for" => found.address = address(&value),
                "proto" => found.proto = Some(value),
                "host" => found.host = Some(value),
                _ => {}
            }
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            rest = behind;
        }
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(';') {
            Some(next) => rest = next.trim_start_matches([' ', '\t']),
            None => return Some(((!seen.is_empty()).then_some(found), rest)),
        }
    }
}

/// A token (RFC 9110 §5.6.2), and what is behind it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string (RFC 9110 §5.6.4), and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, behind)| (value.to_owned(), behind));
    };
    let (mut value, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            char => value.push(char),
        }
    }
}

/// The address of a node (RFC 7239 §6), as `X-Forwarded-For` writes it, too: with or without a port, IPv6 with or without brackets.
pub(super) fn address(node: &str) -> Option<IpAddr> {
    let bare = || {
        let inner = node.strip_prefix('[').and_then(|node| node.strip_suffix(']'));
        inner.unwrap_or(node).parse().ok()
    };
    let address: IpAddr = node.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()).or_else(bare)?;
    let address = address.to_canonical();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Address, protocol, host.
    type Said = (Option<String>, Option<String>, Option<String>);

    fn read(text: &str) -> Option<Vec<Said>> {
        let elements = elements(text)?;
        Some(elements.into_iter().map(|it| (it.address.map(|it| it.to_string()), it.proto, it.host)).collect())
    }

    fn of(address: &str) -> Said {
        (Some(address.to_owned()), None, None)
    }

    #[test]
    fn the_rfcs_own_examples_are_read() {
        let proto = |address: &str, proto: &str| (Some(address.to_owned()), Some(proto.to_owned()), None);
        let cases = [
            ("for=\"_gazonk\"", vec![(None, None, None)]),
            ("For=\"[2001:db8:cafe::17]:4711\"", vec![of("2001:db8:cafe::17")]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", vec![proto("192.0.2.60", "http")]),
            ("for=192.0.2.43, for=198.51.100.17", vec![of("192.0.2.43"), of("198.51.100.17")]),
            ("for=_hidden, for=_SEVKISEK", vec![(None, None, None), (None, None, None)]),
            ("for=unknown", vec![(None, None, None)]),
            ("", vec![]),
            (" , ,for=192.0.2.1 ,", vec![of("192.0.2.1")]),
            ("for=192.0.2.1; proto=https", vec![proto("192.0.2.1", "https")]),
            ("secret=x;for=192.0.2.1", vec![of("192.0.2.1")]),
            ("for=\"192.0.2.1\\:80\"", vec![of("192.0.2.1")]),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_follows_no_grammar_is_nothing() {
        for text in [
            "for=192.0.2.1,\"",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1 proto=https",
            "for = 192.0.2.1",
            "for=[2001:db8::1]",
            "for",
            "for=",
            "=x",
            "192.0.2.1",
            "for=192.0.2.1\u{0}",
        ] {
            assert_eq!(read(text).filter(|it| !it.is_empty()), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_one_with_or_without_its_port() {
        let cases = [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:8080", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:8080", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.256", None),
            ("192.0.2.1:99999", None),
            ("192.0.2.01", None),
            ("0x7f000001", None),
            ("0.0.0.0", None),
            ("::", None),
            ("localhost", None),
            ("unknown", None),
            ("fe80::1%eth0", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text).map(|it| it.to_string()).as_deref(), expected, "{text}");
        }
    }
}
