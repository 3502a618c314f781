//! Limits of connections: how many there are, of one network and in all, and how long each thing may take.
//!
//! A connection that finds no place is closed at once; nothing is kept of it. Counts nothing but connections: requests are counted by
//! `service::identify`.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{edge::Proxy, guard::Peer};

/// Bounds on a listener's connections and on their time.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The most connections at a time.
    pub connections: u32,
    /// The most connections at a time of one network: an IPv4 address, or the 64 leading bits of an IPv6 address.
    pub network_connections: u32,
    /// Peers that stand for many clients, and so are bounded by `connections` alone: the named proxies.
    pub proxies: Vec<Proxy>,
    /// How long a TLS handshake may take.
    pub handshake_within: Duration,
    /// How long a request's head may take, from its first byte; the first one of a connection, from the connection's begin.
    pub head_within: Duration,
    /// How long a request's body may take.
    pub body_within: Duration,
    /// How long a connection is kept on which nothing is asked.
    pub idle_within: Duration,
    /// How long a client may leave an answer unread.
    pub stall_within: Duration,
    /// How long one request of an HTTP/2 connection may take in all, from its head to the last byte of its answer.
    pub stream_within: Duration,
    /// How long requests that are on their way may take when the server stops.
    pub drain_within: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections: 4096,
            network_connections: 1024,
            proxies: Vec::new(),
            handshake_within: Duration::from_secs(10),
            head_within: Duration::from_secs(10),
            body_within: Duration::from_secs(30),
            idle_within: Duration::from_secs(75),
            stall_within: Duration::from_secs(30),
            stream_within: Duration::from_mins(5),
            drain_within: Duration::from_secs(20),
        }
    }
}

/// Why a connection found no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    Total,
    Network,
}

impl NoPlace {
    /// The metric's label.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Network => "network",
        }
    }
}

/// The places of a listener's connections.
pub(super) struct Places {
    most: u32,
    most_of_network: u32,
    taken: Mutex<Taken>,
    left: Notify,
    listener: &'static str,
}

#[derive(Default)]
struct Taken {
    total: u32,
    /// Only networks that have a connection now: never more entries than places.
    networks: HashMap<IpAddr, u32>,
}

/// One connection's place; given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    network: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(options: &ServerOptions, listener: &'static str) -> Arc<Self> {
        metrics::gauge!("keyholder_connections", "listener" => listener).set(0);
        let (most, most_of_network) = (options.connections, options.network_connections);
        Arc::new(Self { most, most_of_network, taken: Mutex::default(), left: Notify::new(), listener })
    }

    /// Takes a place, or says which limit has none left. `counted` is the network that it counts against, where one does.
    pub(super) fn take(self: &Arc<Self>, counted: Option<IpAddr>) -> Result<Place, NoPlace> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.most {
            return Err(NoPlace::Total);
        }
        if let Some(network) = counted {
            let of_network = taken.networks.entry(network).or_default();
            if *of_network >= self.most_of_network {
                return Err(NoPlace::Network);
            }
            *of_network += 1;
        }
        taken.total += 1;
        metrics::gauge!("keyholder_connections", "listener" => self.listener).set(taken.total);
        Ok(Place { places: Arc::clone(self), network: counted })
    }

    /// Resolves when every place has been given back.
    pub(super) async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.taken.lock().unwrap_or_else(PoisonError::into_inner).total == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(network) = self.network
            && let Some(count) = taken.networks.get_mut(&network)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.networks.remove(&network);
            }
        }
        metrics::gauge!("keyholder_connections", "listener" => self.places.listener).set(taken.total);
        if taken.total == 0 {
            self.places.left.notify_waiters();
        }
    }
}

/// The network that a peer's connection counts against. A local process on a Unix socket and a named proxy stand for many clients.
pub(super) fn counted(peer: Peer, options: &ServerOptions) -> Option<IpAddr> {
    match peer {
        Peer::Network(_) if !options.proxies.iter().any(|proxy| proxy.is(peer)) => Some(network(peer.address())),
        Peer::Network(_) | Peer::Local => None,
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: u32, most_of_network: u32) -> Arc<Places> {
        let options = ServerOptions { connections: most, network_connections: most_of_network, ..Default::default() };
        Places::new(&options, "test")
    }

    fn address(text: &str) -> IpAddr {
        network(text.parse().unwrap())
    }

    #[test]
    fn a_network_has_its_share_and_no_more() {
        let places = places(5, 2);
        let _first = places.take(Some(address("192.0.2.1"))).unwrap();
        let second = places.take(Some(address("192.0.2.1"))).unwrap();
        assert_eq!(places.take(Some(address("192.0.2.1"))).err(), Some(NoPlace::Network));
        let _other = places.take(Some(address("192.0.2.2"))).unwrap();
        drop(second);
        let _third = places.take(Some(address("192.0.2.1"))).unwrap();
        assert_eq!(places.take(Some(address("192.0.2.1"))).err(), Some(NoPlace::Network));
        let _uncounted = [places.take(None).unwrap(), places.take(None).unwrap()];
        assert_eq!(places.take(None).err(), Some(NoPlace::Total));
        assert_eq!(places.take(Some(address("192.0.2.9"))).err(), Some(NoPlace::Total));
    }

    #[test]
    fn one_v6_network_is_one_however_many_addresses_it_uses() {
        let places = places(10, 1);
        let _one = places.take(Some(address("2001:db8:1:1::1"))).unwrap();
        assert!(places.take(Some(address("2001:db8:1:1:ffff::2"))).is_err());
        assert!(places.take(Some(address("2001:db8:1:2::1"))).is_ok());
    }

    #[test]
    fn nothing_is_kept_of_networks_that_left() {
        let places = places(10, 1);
        for number in 0..10_000_u32 {
            let _place = places.take(Some(IpAddr::V4(number.into()))).unwrap();
        }
        let taken = places.taken.lock().unwrap();
        assert_eq!((taken.total, taken.networks.len()), (0, 0));
    }
}
