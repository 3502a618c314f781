//! Host names that may be called, and sets of them. Never an address: a host is a DNS name or it is refused.

use std::{borrow::Borrow, collections::BTreeSet, fmt};

/// Top-level names that never lead to a platform, because they are resolved on the machine or inside a network:
/// RFC 6761, RFC 6762, RFC 7686, RFC 8375 (`home.arpa`, with the rest of `arpa`), ICANN's reservation of `internal`, and
/// the names that resolvers and home routers make up.
const INSIDE: &[&str] =
    &["arpa", "corp", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain", "localhost", "onion"];

/// A DNS host name in lower case: letters, digits and hyphens, at least two labels, no trailing dot.
///
/// Anything that some parser would read as an address is refused: after RFC 3986, RFC 6943 §3.1.1 and the URL standard's
/// "ends in a number" rule, a name whose last label is numeric, in decimal, octal or hexadecimal, is one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

/// Why a text is not a [`Host`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Longer than 253 octets, or with a label longer than 63 (RFC 1035 §2.3.4).
    #[error("a host name has at most 253 characters, and a label at most 63")]
    TooLong,
    /// Not letters, digits, hyphens and single dots between them.
    #[error("a host name is made of letters, digits and hyphens, in labels parted by single dots")]
    Malformed,
    /// No dot in it: such a name is searched for inside the network.
    #[error("a host name needs a domain")]
    Single,
    /// Some parser would read it as an IP address.
    #[error("an address is not a host name")]
    Address,
    /// Its top-level name is resolved on the machine or inside the network.
    #[error("this name leads inside")]
    Inside,
}

impl Host {
    /// Reads a host name. Case does not matter, and the result is in lower case.
    ///
    /// # Errors
    /// [`HostError`], with the first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.len() > 253 || text.split('.').any(|label| label.len() > 63) {
            return Err(HostError::TooLong);
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !text.split('.').all(is_label) {
            return Err(HostError::Malformed);
        }
        let name = text.to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(HostError::Address);
        }
        if INSIDE.contains(&last) {
            return Err(HostError::Inside);
        }
        if !name.contains('.') {
            return Err(HostError::Single);
        }
        Ok(Self(name))
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A set of hosts: those that a provider declares, or those sealed with a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSet(BTreeSet<Host>);

impl HostSet {
    /// Reads a list of host names.
    ///
    /// # Errors
    /// The first name's [`HostError`].
    pub fn parse<I: IntoIterator<Item: AsRef<str>>>(names: I) -> Result<Self, HostError> {
        names.into_iter().map(|name| Host::parse(name.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the host is in the set: by its whole name, never by a suffix.
    pub fn contains(&self, host: &Host) -> bool {
        self.0.contains(host)
    }

    /// The hosts that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The hosts in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.0.iter()
    }

    /// Whether no host is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Host> for HostSet {
    fn from_iter<I: IntoIterator<Item = Host>>(hosts: I) -> Self {
        Self(hosts.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_dns_name_with_a_domain() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        for (text, expected) in [
            ("api.x.com", Ok("api.x.com")),
            ("API.X.Com", Ok("api.x.com")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("1.api-2.example", Ok("1.api-2.example")),
            ("127.0.0.1.nip.io", Ok("127.0.0.1.nip.io")),
            (longest.as_str(), Ok(longest.as_str())),
            ("", Err(HostError::Malformed)),
            (".", Err(HostError::Malformed)),
            ("api.x.com.", Err(HostError::Malformed)),
            ("api..x.com", Err(HostError::Malformed)),
            (".x.com", Err(HostError::Malformed)),
            ("-a.x.com", Err(HostError::Malformed)),
            ("a-.x.com", Err(HostError::Malformed)),
            ("a_b.x.com", Err(HostError::Malformed)),
            ("a b.x.com", Err(HostError::Malformed)),
            ("a.x.com:443", Err(HostError::Malformed)),
            ("user@x.com", Err(HostError::Malformed)),
            ("x.com/a", Err(HostError::Malformed)),
            ("x.com\0", Err(HostError::Malformed)),
            ("x.com\r\n", Err(HostError::Malformed)),
            ("a%2ex.com", Err(HostError::Malformed)),
            ("bücher.example", Err(HostError::Malformed)),
            ("①②⑦.⓪.⓪.①", Err(HostError::Malformed)),
            ("example\u{3002}com", Err(HostError::Malformed)),
            ("[::1]", Err(HostError::Malformed)),
            ("::1", Err(HostError::Malformed)),
            ("*.x.com", Err(HostError::Malformed)),
            ("x", Err(HostError::Single)),
            ("localhost", Err(HostError::Inside)),
            ("a.localhost", Err(HostError::Inside)),
            ("metadata.google.internal", Err(HostError::Inside)),
            ("printer.local", Err(HostError::Inside)),
            ("router.home.arpa", Err(HostError::Inside)),
            ("127.0.0.1", Err(HostError::Address)),
            ("0177.0.0.1", Err(HostError::Address)),
            ("0x7f.0.0.1", Err(HostError::Address)),
            ("a.0x7f", Err(HostError::Address)),
            ("a.0x", Err(HostError::Address)),
            ("2130706433", Err(HostError::Address)),
            ("0x7f000001", Err(HostError::Address)),
            ("127.1", Err(HostError::Address)),
            (format!("a{longest}").as_str(), Err(HostError::TooLong)),
            (format!("a{label}.com").as_str(), Err(HostError::TooLong)),
        ] {
            assert_eq!(Host::parse(text).as_ref().map(Host::as_str).map_err(|e| *e), expected, "{text:?}");
        }
    }

    #[test]
    fn sets_compare_whole_names() {
        let declared = HostSet::parse(["api.x.com", "x.com"]).unwrap();
        let sealed = HostSet::parse(["API.x.com", "upload.x.com"]).unwrap();
        assert_eq!(declared.intersection(&sealed), HostSet::parse(["api.x.com"]).unwrap());
        assert!(!declared.contains(&Host::parse("evil.x.com").unwrap()));
        assert!(!declared.contains(&Host::parse("api.x.com.evil.example").unwrap()));
        assert_eq!(HostSet::parse(["x.com", "127.0.0.1"]), Err(HostError::Address));
    }
}
