//! From a host name to a TLS connection that has proven that name. Never connects to an address that [`address::admit`]
//! refuses, never speaks plain HTTP, and reads no proxy setting.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use domain::clock::Clock;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    address,
    call::{Fault, SendError, Stage},
    gate::{Gate, Gated},
    host::Host,
    phase::{Budget, Phases},
    resolve::Names,
};

/// HTTPS, and nothing else.
const PORT: u16 = 443;

/// How many of a name's addresses are tried before giving up.
const MAX_ADDRESSES: usize = 6;

/// Where names are resolved.
#[derive(Debug, Clone)]
pub enum Resolver {
    /// The machine's own resolver.
    System,
    /// A fixed table, for tests; other names do not exist. Its addresses pass the same filter.
    Fixed(HashMap<String, Vec<IpAddr>>),
    /// Counts its questions, and answers those of names that begin with `dead` when it is told to.
    #[cfg(test)]
    Scripted(Arc<Script>),
}

/// What a scripted resolver was asked, and when it answers.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Script {
    pub(crate) asked: std::sync::atomic::AtomicUsize,
    pub(crate) answers: tokio::sync::Notify,
}

impl Resolver {
    pub(crate) async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, PORT)).await?.map(|address| address.ip()).collect()),
            Self::Fixed(table) => table.get(host).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()),
            #[cfg(test)]
            Self::Scripted(script) => {
                script.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if host.starts_with("dead") {
                    script.answers.notified().await;
                }
                Ok(vec![IpAddr::from([1, 1, 1, 1])])
            }
        }
    }
}

/// The way to a sandbox: every declared host is connected to this one address and trusted by this one throwaway authority.
///
/// It exists in memory only. A parent may write it to a pipe that its child inherits; no configuration, row or file
/// expresses it, and only the environment `local` accepts it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxRoute {
    /// Where the sandbox listens: an address of this machine.
    pub addr: SocketAddr,
    /// The certificate of the authority that signed the sandbox's own, as DER.
    pub ca_der: Vec<u8>,
}

impl fmt::Debug for SandboxRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SandboxRoute({})", self.addr)
    }
}

/// Opens connections for one policy.
pub(crate) struct Connector {
    names: Names,
    sandbox: Option<SocketAddr>,
    tls: TlsConnector,
    clock: Clock,
    phases: Phases,
    port: u16,
}

impl Connector {
    /// # Errors
    /// The sandbox's certificate or the TLS settings cannot be used.
    pub(crate) fn new(
        resolver: Resolver,
        route: Option<SandboxRoute>,
        clock: Clock,
        phases: Phases,
    ) -> Result<Self, rustls::Error> {
        let sandbox = route.as_ref().map(|route| route.addr);
        let mut roots = RootCertStore::empty();
        match route {
            Some(route) => roots.add(CertificateDer::from(route.ca_der))?,
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        // The provider is named here, so that no other one that some crate installs for the process is used by chance.
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Early data can be replayed by whoever sits on the wire, and its first byte would leave before the gate is armed.
        config.enable_early_data = false;
        #[cfg(feature = "sabotage")]
        if domain::sabotaged!(UpstreamTls) {
            config.dangerous().set_certificate_verifier(Arc::new(crate::sabotage::Gullible));
        }
        let tls = TlsConnector::from(Arc::new(config));
        let names = Names::new(resolver, clock.clone());
        Ok(Self { names, sandbox, tls, clock, phases, port: PORT })
    }

    /// Connects to another port, so that a test needs no privileged one.
    #[cfg(test)]
    pub(crate) fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// A connection to the host, its name proven. Each phase keeps to its bound, and all of them to the call's time.
    ///
    /// # Errors
    /// `AddressRefused` where the name leads to no public address, else `NotSent` with the stage that failed.
    pub(crate) async fn connect(
        &self,
        host: &Host,
        budget: &mut Budget,
    ) -> Result<(TlsStream<Gated<TcpStream>>, Arc<Gate>), SendError> {
        let late = |stage| SendError::NotSent { stage, source: Fault::TimedOut };
        let failed = |stage| move |error| SendError::NotSent { stage, source: Fault::Io(error) };
        let Phases { resolve, connect, tls, .. } = self.phases;

        let addresses = budget.phase(resolve, self.addresses(host)).await.ok_or_else(|| late(Stage::Resolve))??;
        let dialled = budget.phase(connect, self.dial(&addresses)).await;
        if !matches!(dialled, Some(Ok(_))) {
            // The name may lead elsewhere by now: the next call asks.
            self.names.forget(host);
        }
        let socket = dialled.ok_or_else(|| late(Stage::Connect))?.map_err(failed(Stage::Connect))?;

        let name = ServerName::try_from(host.as_str().to_owned()).map_err(io::Error::other);
        let name = name.map_err(failed(Stage::Tls))?;
        let gate = Arc::new(Gate::new(self.clock.clone()));
        let handshake = self.tls.connect(name, Gated::new(socket, Arc::clone(&gate)));
        let stream = budget.phase(tls, handshake).await.ok_or_else(|| late(Stage::Tls))?;
        Ok((stream.map_err(failed(Stage::Tls))?, gate))
    }

    /// The addresses that the host may be reached at, in the order in which to try them.
    pub(crate) async fn addresses(&self, host: &Host) -> Result<Vec<SocketAddr>, SendError> {
        if let Some(sandbox) = self.sandbox {
            return Ok(vec![sandbox]);
        }
        let found = self.names.look_up(host).await;
        let found = found.map_err(|error| SendError::NotSent { stage: Stage::Resolve, source: Fault::Io(error) })?;
        // Each time, whether the answer is new or remembered.
        let admitted = found.iter().copied().filter_map(address::admit).collect();
        let addresses: Vec<_> =
            alternate(admitted).into_iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, self.port)).collect();
        if addresses.is_empty() { Err(SendError::AddressRefused) } else { Ok(addresses) }
    }

    /// The first address that answers. Each gets an equal share of the time, so that one dead family cannot use it up.
    async fn dial(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let share = self.phases.connect / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            #[expect(clippy::disallowed_methods, reason = "the home of outbound sockets")]
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    // Requests are written whole: waiting for more to send with them only delays them.
                    socket.set_nodelay(true)?;
                    return Ok(socket);
                }
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

/// Alternates the address families, beginning with that of the resolver's first choice (RFC 8305 §4).
fn alternate(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let six_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == six_first);
    first.reverse();
    second.reverse();
    let mut order = Vec::with_capacity(first.len() + second.len());
    while !(first.is_empty() && second.is_empty()) {
        order.extend(first.pop());
        order.extend(second.pop());
    }
    order
}

/// Whether the address is one of this machine's own.
pub(crate) fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_in_the_resolvers_order() {
        let parse = |list: &str| list.split_whitespace().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        for (found, order) in [
            ("", ""),
            ("1.0.0.1 1.0.0.2 2600::1", "1.0.0.1 2600::1 1.0.0.2"),
            ("2600::1 2600::2 1.0.0.1", "2600::1 1.0.0.1 2600::2"),
        ] {
            assert_eq!(alternate(parse(found)), parse(order));
        }
    }

    #[test]
    fn a_route_survives_the_pipe_and_shows_no_certificate() {
        let route = SandboxRoute { addr: "127.0.0.1:4433".parse().unwrap(), ca_der: vec![1, 2, 3] };
        let wire = serde_json::to_string(&route).unwrap();
        assert_eq!(serde_json::from_str::<SandboxRoute>(&wire).unwrap(), route);
        assert_eq!(format!("{route:?}"), "SandboxRoute(127.0.0.1:4433)");
    }
}
