//! The sandbox as a server: options, sockets, TLS, routes, and its end.
//!
//! Listens on the loopback address only. Its tasks end with it, and every connection with them.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{delete, get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tower::Layer;

use crate::{
    api, certificate, consent, control,
    platform::Platform,
    registry::{Client, RegisterError},
    stage::{self, Cut},
    token,
};

/// The names of X, and of the machine itself.
const HOSTS: [&str; 4] = ["api.x.com", "x.com", "localhost", "127.0.0.1"];
const MOST_CONNECTIONS: usize = 8192;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Longer than clients usually keep idle connections, so that none is closed just when it is used again.
const HEADER_PATIENCE: Duration = Duration::from_mins(2);

/// The sandbox could not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The port is taken, or may not be bound.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// The port that was wanted.
        port: u16,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The throwaway certificate could not be made: usually an extra host is no host name.
    #[error("cannot make the throwaway certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate could not be served.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// A client of the options cannot be registered.
    #[error("cannot register a client")]
    Client(#[from] RegisterError),
}

/// How a sandbox starts. The default is a platform with two accounts and no clients, on a free port.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Names beside X's own under which the platform answers and for which its certificate holds.
    pub extra_hosts: Vec<String>,
    /// Scopes beside X's own that may be asked for.
    pub extra_scopes: Vec<String>,
    /// The registered clients.
    pub clients: Vec<Client>,
    /// The accounts, as (handle, name). The default has `acme_support` and `rival_brand`.
    pub accounts: Vec<(String, String)>,
    /// How long access tokens live, in seconds: 7,200 as at X.
    pub token_lifetime_s: u64,
    /// How many calls of one kind an account may make in a quarter of an hour. The default is more than anybody makes: X's own
    /// limits would decide how a load test ends.
    pub rate_limit: u32,
    /// How many posts are kept; the oldest go first.
    pub most_posts: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        let account = |handle: &str, name: &str| (handle.to_owned(), name.to_owned());
        Self {
            port: 0,
            extra_hosts: Vec::new(),
            extra_scopes: Vec::new(),
            clients: Vec::new(),
            accounts: vec![account("acme_support", "Acme Support"), account("rival_brand", "Rival Brand")],
            token_lifetime_s: 7200,
            rate_limit: 100_000_000,
            most_posts: 200_000,
        }
    }
}

/// A running sandbox. It ends when it is shut down or dropped.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    ca_der: CertificateDer<'static>,
    ca_pem: String,
    platform: Platform,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Sandbox {
    /// Makes a throwaway authority and starts to serve. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The port is taken, an extra host is no host name, or a client cannot be registered.
    pub async fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        let hosts: BTreeSet<String> = HOSTS
            .iter()
            .map(|&host| host.to_owned())
            .chain(options.extra_hosts.iter().map(|it| it.to_ascii_lowercase()))
            .collect();
        let names: Vec<String> = hosts.iter().cloned().collect();
        let identity = certificate::issue(&names)?;
        let port = options.port;
        let platform = Platform::new(options, hosts)?;
        let bind = |cause| SandboxError::Bind { port, cause };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let (stop, stopped) = oneshot::channel();
        let serve = serve(listener, TlsAcceptor::from(identity.server), routes(platform.clone()), stopped);
        #[expect(clippy::disallowed_methods, reason = "a platform has tasks of its own, which end with it")]
        let serving = tokio::spawn(serve);
        Ok(Self { addr, ca_der: identity.ca_der, ca_pem: identity.ca_pem, platform, stop, serving })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The authority to trust, as DER.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// The authority to trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// `https://localhost:PORT`
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// What it serves: look inside, throw switches.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Stops listening and drops every connection, answered or not. Afterwards the port is free.
    pub async fn shutdown(self) {
        drop(self.stop);
        // An error would say that the task was cancelled or panicked: it is over either way.
        let _over = self.serving.await;
    }
}

fn routes(platform: Platform) -> Router {
    Router::new()
        .route("/i/oauth2/authorize", get(consent::show).post(consent::decide))
        .route("/oauth/authorize", get(consent::show).post(consent::decide))
        .route("/2/oauth2/token", post(token::issue))
        .route("/oauth/token", post(token::issue))
        .route("/2/oauth2/revoke", post(token::revoke))
        .route("/oauth/revoke", post(token::revoke))
        .route("/2/users/me", get(api::profile))
        .route("/2/tweets", post(api::create))
        .route("/2/tweets/{id}", delete(api::delete).get(api::read))
        .route("/account", get(api::account))
        .route("/sandbox/state", get(control::state))
        .route("/sandbox/switch", post(control::switch))
        .route("/sandbox/clear", post(control::clear))
        .fallback(api::nowhere)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(DefaultBodyLimit::max(64 * 1024))
        .layer(middleware::from_fn_with_state(platform.clone(), stage::pass))
        .with_state(platform)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, tls.clone(), router.clone()));
                }
                // Out of file descriptors, most likely: some will come back when connections end.
                Err(error) => {
                    tracing::warn!(%error, "the sandbox cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, router: Router) {
    // Small answers would otherwise wait for the peer's acknowledgement of the ones before.
    let _slower = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "the handshake failed"),
        Err(_) => return tracing::debug!("the handshake took too long"),
    };
    let cut = Cut::default();
    let service = TowerToHyperService::new(Extension(cut.clone()).layer(router));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1024);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // In this order: what an answer has written so far is flushed before its connection is cut.
        biased;
        ended = serving => if let Err(error) = ended {
            tracing::debug!(error = %error, "a connection ended early");
        },
        () = cut.fired() => {}
    }
}
