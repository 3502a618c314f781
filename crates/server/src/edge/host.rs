//! Hosts: which names this server answers for.
//!
//! A page of a stranger's can have its own name resolve to this machine (DNS rebinding): its requests are then of one origin for the
//! browser, but they still name the stranger's host.

use std::{net::IpAddr, str::FromStr};

use domain::problem::Kind;
use http::{
    HeaderMap, Uri, Version,
    header::HOST,
    uri::{Authority, Scheme},
};
use url::Url;

use crate::problem::Problem;

/// A host that is answered for beside the public one: its name or address, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl FromStr for Host {
    /// What is wrong with it, to stand behind the text.
    type Err = &'static str;

    /// Reads a name or an address as it stands in `Host` (RFC 9110 §7.2).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not the name or the address of a host, without scheme, port and path";
        // A name that an address cannot have is none: no wildcard, no underscore, no empty label.
        let url = Url::parse(&format!("{}://{text}/", Scheme::HTTPS)).map_err(|_| WRONG)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
        let same = url.host_str() == Some(text.to_ascii_lowercase().as_str());
        let tidy = !text.ends_with('.') && !text.contains("..") && text.bytes().all(legal);
        if same && tidy && url.port().is_none() { Ok(Self(text.to_ascii_lowercase())) } else { Err(WRONG) }
    }
}

/// The hosts that are answered for.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(public_url: &Url, more: Vec<Host>) -> Self {
        let public = public_url.host_str().map(str::to_ascii_lowercase);
        Self(public.into_iter().chain(more.into_iter().map(|Host(name)| name)).collect())
    }

    /// Refuses a request for another host than ours, wherever it names one: in its target, in `Host`, in what a named proxy was
    /// asked for. This machine's own names are good for clients on this machine.
    pub(super) fn refuse_others(
        &self,
        (uri, version, headers): (&Uri, Version, &HeaderMap),
        forwarded: &[String],
        is_local: bool,
    ) -> Result<(), Problem> {
        let target = uri.authority().map(Authority::as_str);
        let header = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
        if header.is_none() && target.is_none() && version >= Version::HTTP_11 {
            // RFC 9112 §3.2.
            return Err(Problem::new(Kind::MalformedRequest).saying("a request names its host"));
        }
        let mut named = target.into_iter().chain(header).chain(forwarded.iter().map(String::as_str)).peekable();
        if named.peek().is_none() && is_local {
            // HTTP/1.0 needs no host; on this machine it can mean no other.
            return Ok(());
        }
        if named.peek().is_some() && named.all(|authority| self.answers_for(authority, is_local)) {
            Ok(())
        } else {
            Err(Problem::new(Kind::Misdirected))
        }
    }

    /// The port is not ours to judge: whoever stands before us may have another.
    fn answers_for(&self, authority: &str, is_local: bool) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        self.0.iter().any(|ours| ours.eq_ignore_ascii_case(host)) || (is_local && is_this_machine(host))
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_more() {
        for good in ["keys.example.com", "Keys.Example.com", "10.0.0.7", "[2001:db8::7]", "localhost"] {
            assert!(good.parse::<Host>().is_ok(), "{good}");
        }
        for bad in
            ["", "*", "*.example.com", "https://a", "a:80", "a:443", "a/b", "a b", "a@b", "a..b", "a.", "0x7f.1", "a,b"]
        {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    /// The target, the header, what a proxy was asked for, whether from this machine; and the status.
    type Case = (&'static str, Option<&'static str>, &'static [&'static str], bool, Option<u16>);

    #[test]
    fn only_our_own_hosts_are_answered_for() {
        let public = Url::parse("https://keys.example.com/").unwrap();
        let hosts = Hosts::new(&public, vec!["inside.example".parse().unwrap()]);
        let cases: &[Case] = &[
            ("/", Some("keys.example.com"), &[], false, None),
            ("/", Some("KEYS.example.com:8443"), &[], false, None),
            ("/", Some("inside.example"), &[], false, None),
            ("/", Some("inside.example"), &["keys.example.com"], false, None),
            ("/", Some("keys.example.com"), &["evil.example"], false, Some(421)),
            ("/", Some("evil.example"), &["keys.example.com"], false, Some(421)),
            ("http://evil.example/", Some("keys.example.com"), &[], false, Some(421)),
            ("https://keys.example.com/", None, &[], false, None),
            ("/", Some("keys.example.com.evil.example"), &[], true, Some(421)),
            ("/", Some("keys.example.com."), &[], true, Some(421)),
            ("/", Some("x@keys.example.com"), &[], true, Some(421)),
            ("/", Some("0.0.0.0:8080"), &[], true, Some(421)),
            ("/", Some(""), &[], true, Some(421)),
            ("/", Some("keys.example.com, evil.example"), &[], true, Some(421)),
            ("/", Some("localhost:8080"), &[], true, None),
            ("/", Some("127.0.0.1"), &[], true, None),
            ("/", Some("[::1]:8080"), &[], true, None),
            ("/", Some("localhost"), &[], false, Some(421)),
            ("/", None, &[], true, Some(400)),
        ];
        for (target, header, forwarded, is_local, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|host| (HOST, host.parse().unwrap())));
            let forwarded: Vec<_> = forwarded.iter().map(|&host| host.to_owned()).collect();
            let request = (&target.parse().unwrap(), Version::HTTP_11, &headers);
            let refused = hosts.refuse_others(request, &forwarded, *is_local).err();
            assert_eq!(
                refused.map(|it| it.status().as_u16()),
                *expected,
                "{target} {header:?} {forwarded:?} {is_local}"
            );
        }
        let request = (&"/".parse().unwrap(), Version::HTTP_10, &HeaderMap::new());
        assert!(hosts.refuse_others(request, &[], true).is_ok());
        assert!(hosts.refuse_others(request, &[], false).is_err());
    }
}
