//! Forwarding: who the client is, where a proxy asks for somebody else.
//!
//! A header is worth as much as whoever wrote it. Only what a *named* proxy wrote counts, and of that only the one header which the
//! operator says that his proxy sets: another one could be the client's own, passed on. Being on this machine is not being named.

use std::{
    net::IpAddr,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use domain::problem::Kind;
use http::{HeaderMap, HeaderName, header};

use super::forwarded::{self, Element};
use crate::{guard::Peer, problem::Problem};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The most entries of a chain.
const MOST_HOPS: usize = 16;

/// The shortest prefixes that can be meant: a shorter one would name half the world.
const SHORTEST_V4: u32 = 8;
const SHORTEST_V6: u32 = 16;

/// A proxy that is named: an address, a network of them, or whoever comes over the Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// Every address that begins with these bits.
    Network {
        /// The first address.
        base: IpAddr,
        /// How many bits count.
        length: u32,
    },
    /// A process on this machine, over a Unix socket.
    Socket,
}

impl FromStr for Proxy {
    /// What is wrong with it, to stand behind the text.
    type Err = &'static str;

    /// Reads an address, a network (RFC 4632 §3.1), or `unix`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unix" {
            return Ok(Self::Socket);
        }
        let (base, length) = text.split_once('/').map_or((text, None), |(base, length)| (base, Some(length)));
        let base: IpAddr = base.parse().map_err(|_| "is not an address, a network such as 10.0.0.0/24, or unix")?;
        if base.to_canonical() != base {
            return Err("is an IPv4 address within IPv6: write the IPv4 address");
        }
        let (width, shortest) = if base.is_ipv4() { (32, SHORTEST_V4) } else { (128, SHORTEST_V6) };
        let length = match length {
            None => width,
            Some(text) if text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|length| *length <= width).ok_or("has a longer prefix than an address")?
            }
            Some(_) => return Err("has a prefix that is no number"),
        };
        if length < shortest {
            return Err("is too large a network to name proxies by");
        }
        let network = Self::Network { base, length };
        if bits(base) & !(u128::MAX << (width - length)) != 0 {
            return Err("is no network: it has bits beyond its prefix");
        }
        Ok(network)
    }
}

impl Proxy {
    /// Whether this peer is one that is named so.
    pub(crate) fn is(self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Socket, Peer::Local) => true,
            (Self::Network { base, length }, Peer::Network(address)) if base.is_ipv4() == address.is_ipv4() => {
                let width = if base.is_ipv4() { 32 } else { 128 };
                (bits(base) ^ bits(address)) >> (width - length) == 0
            }
            _ => false,
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The header that the named proxies set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl FromStr for ForwardedHeader {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(()),
        }
    }
}

/// Why what a named proxy says cannot be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ForwardingError {
    #[error("a named proxy's Forwarded header cannot be read (RFC 7239 §4)")]
    Unreadable,
    #[error("a named proxy's chain has more than 16 entries")]
    TooManyHops,
    #[error("Forwarded and X-Forwarded-For name different clients: the proxy must set one, and remove the other")]
    Disagree,
    #[error("a named proxy does not say by which protocol its client came: it must set X-Forwarded-Proto, or proto")]
    NoProtocol,
    #[error("a named proxy's X-Forwarded-Proto is neither http nor https")]
    OddProtocol,
    #[error("a named proxy's X-Forwarded-Host has more than one value")]
    ManyHosts,
}

impl From<ForwardingError> for Problem {
    fn from(error: ForwardingError) -> Self {
        Self::new(Kind::MalformedRequest).saying("the forwarding headers cannot be acted on").because(error)
    }
}

/// The client, as far as the connection and the named proxies tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Who it is.
    pub(super) peer: Peer,
    /// Whether it came to a named proxy in the clear, from another machine.
    pub(super) in_clear: bool,
    /// The hosts that named proxies were asked for.
    pub(super) hosts: Vec<String>,
}

/// The named proxies, and how they speak.
#[derive(Debug)]
pub(super) struct Forwarding {
    proxies: Vec<Proxy>,
    header: ForwardedHeader,
    told: AtomicBool,
}

impl Forwarding {
    pub(super) fn new(proxies: Vec<Proxy>, header: ForwardedHeader) -> Self {
        Self { proxies, header, told: AtomicBool::new(false) }
    }

    fn names(&self, peer: Peer) -> bool {
        domain::sabotaged!(TlsListener) || self.proxies.iter().any(|proxy| proxy.is(peer))
    }

    /// The client of a request that came from this peer.
    ///
    /// The chain is walked from its end, which the peer wrote, past those who are named: each is believed in what it says of the
    /// one before. The first who is not named is the client. An entry that is no address ends the walk at the last who is known.
    pub(super) fn client(&self, peer: Peer, headers: &HeaderMap) -> Result<Client, ForwardingError> {
        let names = [header::FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST];
        let direct = Client { peer, in_clear: false, hosts: Vec::new() };
        if !names.iter().any(|name| headers.contains_key(name)) {
            return Ok(direct);
        }
        if !self.names(peer) {
            self.ignore();
            return Ok(direct);
        }
        let (standard, usual) = (standard(headers)?, usual(headers));
        let (ours, other) = match self.header {
            ForwardedHeader::Forwarded => (&standard, headers.contains_key(X_FORWARDED_FOR).then_some(&usual)),
            ForwardedHeader::XForwardedFor => (&usual, headers.contains_key(header::FORWARDED).then_some(&standard)),
        };
        let (peer, written) = self.walk(peer, ours)?;
        if let Some(other) = other
            && self.walk(direct.peer, other)?.0 != peer
        {
            return Err(ForwardingError::Disagree);
        }
        let (clear, hosts) = match self.header {
            ForwardedHeader::Forwarded => said_by_elements(written)?,
            ForwardedHeader::XForwardedFor => (clear_by_list(headers, !written.is_empty())?, one_host(headers)?),
        };
        // Of a client whom nobody named it is not known that it is on this machine.
        let told = written.first().is_some_and(|first| first.address.is_some());
        Ok(Client { peer, in_clear: clear && !(told && peer.is_local()), hosts })
    }

    /// Who is at the chain's beginning as far as named proxies wrote it, and what they wrote.
    fn walk<'e>(&self, peer: Peer, chain: &'e [Element]) -> Result<(Peer, &'e [Element]), ForwardingError> {
        if chain.len() > MOST_HOPS {
            return Err(ForwardingError::TooManyHops);
        }
        let (mut client, mut believed) = (peer, 0);
        for hop in chain.iter().rev() {
            if !self.names(client) {
                break;
            }
            believed += 1;
            match hop.address {
                Some(address) => client = Peer::Network(address),
                None => break,
            }
        }
        Ok((client, chain.get(chain.len() - believed..).unwrap_or_default()))
    }

    /// Nobody else's forwarding headers count. The first time it is said aloud: it may be a proxy that somebody forgot to name.
    fn ignore(&self) {
        metrics::counter!("keyholder_forwarding_ignored_total").increment(1);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "forwarding headers of somebody who is no named proxy are ignored; a proxy must be named in `proxies`"
            );
        }
    }
}

/// The chain of `Forwarded`.
fn standard(headers: &HeaderMap) -> Result<Vec<Element>, ForwardingError> {
    let mut elements = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        let read = line.to_str().ok().and_then(forwarded::elements);
        elements.extend(read.ok_or(ForwardingError::Unreadable)?);
    }
    Ok(elements)
}

/// The chain of `X-Forwarded-For`; empty elements of a list count for nothing (RFC 9110 §5.6.1.2).
fn usual(headers: &HeaderMap) -> Vec<Element> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter();
    let entries = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
    entries.map(|entry| Element::of(std::str::from_utf8(entry).ok().and_then(forwarded::address))).collect()
}

/// Whether one of the named came to the next in the clear, and the hosts that they were asked for.
fn said_by_elements(written: &[Element]) -> Result<(bool, Vec<String>), ForwardingError> {
    let mut clear = false;
    for element in written {
        clear |= match element.proto.as_deref() {
            None => return Err(ForwardingError::NoProtocol),
            Some(proto) => is_clear(proto)?,
        };
    }
    Ok((clear, written.iter().filter_map(|element| element.host.clone()).collect()))
}

/// Whether `X-Forwarded-Proto` says of anybody that he came in the clear.
fn clear_by_list(headers: &HeaderMap, must_say: bool) -> Result<bool, ForwardingError> {
    let (mut clear, mut said) = (false, false);
    for line in headers.get_all(X_FORWARDED_PROTO) {
        for proto in line.to_str().map_err(|_| ForwardingError::OddProtocol)?.split(',') {
            clear |= is_clear(proto.trim())?;
            said = true;
        }
    }
    if must_say && !said { Err(ForwardingError::NoProtocol) } else { Ok(clear) }
}

fn is_clear(proto: &str) -> Result<bool, ForwardingError> {
    match proto.to_ascii_lowercase().as_str() {
        "https" => Ok(false),
        "http" => Ok(true),
        _ => Err(ForwardingError::OddProtocol),
    }
}

fn one_host(headers: &HeaderMap) -> Result<Vec<String>, ForwardingError> {
    let mut values = headers.get_all(X_FORWARDED_HOST).iter();
    let Some(value) = values.next() else { return Ok(Vec::new()) };
    let host = value.to_str().ok().filter(|host| !host.contains(','));
    match (host, values.next()) {
        (Some(host), None) => Ok(vec![host.trim().to_owned()]),
        _ => Err(ForwardingError::ManyHosts),
    }
}

#[cfg(test)]
#[path = "forwarding_tests.rs"]
mod tests;
