//! Where an instance listens, and with what: judged and bound before anything else is begun.

use std::{io, sync::Arc};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use server::{Certificates, Listen, Listener, ServerOptions, refuse_clear};
use url::Url;

use super::{InstanceOptions, StartError};

/// File descriptors that are not for clients: the smaller pools of the database, calls to platforms, files.
const OTHER_DESCRIPTORS: u32 = 256;
/// How many connections read metrics at a time.
const METRICS_CONNECTIONS: u32 = 64;
/// How many file descriptors a process has at most.
const MOST_DESCRIPTORS: u64 = 65_536;

/// Two bound listeners, and the certificate for whoever needs it.
pub(super) struct Listening {
    pub(super) listener: Listener,
    pub(super) metrics: Listener,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) metrics_tls: Option<Arc<ServerConfig>>,
}

impl Listening {
    /// Judges certificate and addresses, then binds.
    pub(super) async fn prepare(options: &InstanceOptions) -> Result<Self, StartError> {
        let certificates = options.tls.clone().map(|files| Certificates::load(files, &options.clock)).transpose()?;
        let config = certificates.as_ref().map(Certificates::server_config).transpose()?;
        // A Unix socket is this machine's own; so are metrics on a loopback address, which a collector reads there in the clear.
        let tls = config.clone().filter(|_| matches!(options.listen, Listen::Tcp(_)));
        let metrics_tls = config.filter(|_| !options.metrics_listen.is_local());
        refuse_clear(&options.listen, tls.is_some())?;
        refuse_clear(&options.metrics_listen, metrics_tls.is_some())?;
        let listener = bind(&options.listen).await?;
        let metrics = bind(&options.metrics_listen).await?;
        Ok(Self { listener, metrics, certificates, tls, metrics_tls })
    }

    /// Where it serves.
    pub(super) fn url(&self) -> Url {
        address(self.listener.at(), self.tls.is_some())
    }

    /// Where its metrics are.
    pub(super) fn metrics_url(&self) -> Url {
        address(self.metrics.at(), self.metrics_tls.is_some())
    }
}

async fn bind(to: &Listen) -> Result<Listener, StartError> {
    Listener::bind(to).await.map_err(|source| {
        let reason = match (source.kind(), to) {
            (io::ErrorKind::AddrInUse, Listen::Tcp(_)) => "another process has the port".to_owned(),
            (io::ErrorKind::AddrInUse, Listen::Unix(_)) => "another process has the socket".to_owned(),
            (io::ErrorKind::PermissionDenied, Listen::Tcp(_)) => "this user may not bind the port".to_owned(),
            (io::ErrorKind::PermissionDenied, Listen::Unix(_)) => "this user may not make the socket".to_owned(),
            (io::ErrorKind::AlreadyExists, _) => "there is a file, and it is no socket".to_owned(),
            (io::ErrorKind::NotFound, _) => "its folder does not exist".to_owned(),
            _ => source.to_string(),
        };
        StartError::Listen { at: to.clone(), reason, source }
    })
}

/// An address as a client on this machine writes it; a socket's is its path.
fn address(at: &Listen, over_tls: bool) -> Url {
    let scheme = if over_tls { "https" } else { "http" };
    let text = match at {
        Listen::Tcp(addr) if addr.ip().is_loopback() || addr.ip().is_unspecified() => {
            format!("{scheme}://localhost:{}/", addr.port())
        }
        Listen::Tcp(addr) => format!("{scheme}://{addr}/"),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    };
    Url::parse(&text).unwrap_or_else(|_| LOCALHOST.clone())
}

/// Where browsers reach a process that listens there and was told no other address.
pub(super) fn usual_public_url(url: &Url) -> Url {
    if url.scheme() == "unix" { LOCALHOST.clone() } else { url.clone() }
}

/// Bounds connections by what the machine gives beside a pool of the database: more than it has descriptors for would take them from that.
pub(super) fn within_descriptors(mut options: ServerOptions, pool: u32) -> ServerOptions {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    let mut descriptors = limit.current.unwrap_or(MOST_DESCRIPTORS);
    if descriptors < most && setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).is_ok()
    {
        descriptors = most;
    }
    let taken = OTHER_DESCRIPTORS.saturating_add(METRICS_CONNECTIONS).saturating_add(pool);
    let room = u32::try_from(descriptors).unwrap_or(u32::MAX).saturating_sub(taken).max(1);
    if room < options.connections {
        tracing::warn!(room, wanted = options.connections, "the limit of open files bounds the connections");
        options.connections = room;
    }
    options
}

/// What the listener of metrics is bounded by.
pub(super) fn for_metrics(options: &ServerOptions) -> ServerOptions {
    ServerOptions { connections: METRICS_CONNECTIONS, network_connections: METRICS_CONNECTIONS, ..options.clone() }
}

#[expect(clippy::unwrap_used, reason = "a constant that the first test parses")]
static LOCALHOST: std::sync::LazyLock<Url> = std::sync::LazyLock::new(|| Url::parse("http://localhost/").unwrap());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_a_client_here_would_write() {
        for (at, over_tls, url) in [
            ("127.0.0.1:8080", false, "http://localhost:8080/"),
            ("0.0.0.0:8443", true, "https://localhost:8443/"),
            ("192.0.2.1:443", true, "https://192.0.2.1/"),
            ("[2001:db8::1]:8443", true, "https://[2001:db8::1]:8443/"),
            ("unix:/run/keyholder/api.sock", false, "unix:/run/keyholder/api.sock"),
        ] {
            assert_eq!(address(&at.parse().unwrap(), over_tls).as_str(), url);
        }
        assert_eq!(usual_public_url(&Url::parse("unix:/run/a").unwrap()).as_str(), "http://localhost/");
    }
}
