//! Serving: our own accept loop, with a limit on everything that a stranger can make last or grow.
//!
//! Another machine is never answered in the clear: plain HTTP is for a loopback address or a Unix socket, everything else is TLS.
//! What a request means is not known here.

mod entrance;
mod framing;
mod http1;
mod http2;
mod limits;
mod listener;
mod refusal;
mod tls;
mod wire;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing,
};
use domain::clock::Clock;
use http::{HeaderValue, header};
use rustls::ServerConfig;
use service::{App, tasks::Tasks};
use tokio::{sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;

pub(crate) use self::entrance::is_late;
pub use self::{
    limits::ServerOptions,
    listener::{Listen, Listener},
    tls::{Certificates, TlsError, TlsFiles},
};
use self::{
    limits::{Place, Places},
    listener::Stream,
    wire::Paced,
};
use crate::{edge, guard::Peer};

/// How long to wait when the machine has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(50);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listener can be reached from other machines.
    #[error(
        "{0} can be reached from other machines, and they are not answered in the clear: set tls.certificate and tls.key, or listen on \
         127.0.0.1 or on a Unix socket"
    )]
    InTheClear(Listen),
}

/// Refuses to answer other machines in the clear. Asked before a port is bound, and again before it is served.
///
/// # Errors
/// `InTheClear`.
pub fn refuse_clear(listen: &Listen, over_tls: bool) -> Result<(), ServerError> {
    if over_tls || listen.is_local() { Ok(()) } else { Err(ServerError::InTheClear(listen.clone())) }
}

/// What serving needs of the process.
#[derive(Clone)]
struct Site {
    tasks: Tasks,
    clock: Clock,
    /// Whether browsers come over TLS, to us or to a proxy before us.
    over_tls: bool,
}

/// A bound listener with what is served on it.
pub struct Door {
    /// Its name in metrics.
    pub name: &'static str,
    /// Where.
    pub listener: Listener,
    /// TLS, where it is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// What is served.
    pub router: Router,
}

/// A running server.
pub struct Server {
    at: Listen,
    stop: watch::Sender<bool>,
    places: Arc<Places>,
    drain_within: Duration,
}

impl Server {
    /// Serves a router: [`crate::router`], or [`metrics_router`] on a listener of its own.
    ///
    /// # Errors
    /// `InTheClear` for a listener without TLS that others could reach.
    pub fn start(app: &App, door: Door, options: ServerOptions) -> Result<Self, ServerError> {
        let over_tls = door.tls.is_some() || app.public_url.scheme() == "https";
        Self::run(Site { tasks: app.tasks.clone(), clock: app.clock.clone(), over_tls }, door, options)
    }

    fn run(site: Site, door: Door, options: ServerOptions) -> Result<Self, ServerError> {
        let Door { name, listener, tls, router } = door;
        refuse_clear(listener.at(), tls.is_some())?;
        let at = listener.at().clone();
        let (stop, stopping) = watch::channel(false);
        let places = Places::new(&options, name);
        let drain_within = options.drain_within;
        let tasks = site.tasks.clone();
        let connections = Arc::new(Connections { site, router, options, tls: tls.map(TlsAcceptor::from) });
        let accept =
            Accept { tasks: tasks.clone(), connections, places: Arc::clone(&places), stopping: Stopping(stopping) };
        tasks.background(accept.run(listener));
        Ok(Self { at, stop, places, drain_within })
    }

    /// Where it listens.
    pub fn at(&self) -> &Listen {
        &self.at
    }

    /// Accepts no more, lets the requests that are on their way end, and returns when they have, or their time is up. A connection on
    /// which nothing is asked is closed at once.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if timeout(self.drain_within, self.places.all_left()).await.is_err() {
            tracing::warn!("requests were still on their way when the server stopped");
        }
    }
}

/// Whether the server stops.
#[derive(Clone)]
struct Stopping(watch::Receiver<bool>);

impl Stopping {
    async fn wait(&mut self) {
        let _gone = self.0.wait_for(|stop| *stop).await.map(drop);
    }
}

/// A connection was ended before its client had wanted it.
fn cut(reason: &'static str) {
    metrics::counter!("keyholder_connections_cut_total", "reason" => reason).increment(1);
}

/// A connection was not taken.
fn refused(reason: &'static str) {
    metrics::counter!("keyholder_connections_refused_total", "reason" => reason).increment(1);
}

/// The accept loop.
struct Accept {
    tasks: Tasks,
    connections: Arc<Connections>,
    places: Arc<Places>,
    stopping: Stopping,
}

impl Accept {
    async fn run(mut self, listener: Listener) {
        let mut full = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopping.wait() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    full = false;
                    self.admit(stream, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Most often no file descriptor is left; connections that end give some back.
                    refused("system");
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!(%error, "a connection was not accepted");
                    }
                    tokio::time::sleep(NO_ROOM).await;
                }
            }
        }
    }

    /// Serves a connection that finds a place; closes another at once.
    fn admit(&self, stream: Stream, peer: Peer) {
        match self.places.take(limits::counted(peer, &self.connections.options)) {
            Ok(place) => {
                let connections = Arc::clone(&self.connections);
                self.tasks.background(connections.serve(stream, peer, place, self.stopping.clone()));
            }
            Err(no_place) => refused(no_place.reason()),
        }
    }
}

/// Errors of `accept` that say something of the one connection that was to be accepted, and nothing of the next (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// How the connections of one listener are served.
struct Connections {
    site: Site,
    router: Router,
    options: ServerOptions,
    tls: Option<TlsAcceptor>,
}

impl Connections {
    /// Serves one connection to its end; it holds its place for as long.
    async fn serve(self: Arc<Self>, stream: Stream, peer: Peer, place: Place, mut stopping: Stopping) {
        let _place = place;
        let in_clear = domain::sabotaged!(ClearBesideTls) && stream.begins_in_clear().await;
        let stream = Paced::new(stream, self.options.stall_within);
        let Some(acceptor) = self.tls.as_ref().filter(|_| !in_clear) else {
            return http1::serve(stream, peer, &self, &mut stopping).await;
        };
        let handshake = timeout(self.options.handshake_within, acceptor.accept(stream));
        let stream = tokio::select! {
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    cut("handshake");
                    return tracing::debug!(%error, "a TLS handshake failed");
                }
                Err(_) => return cut("handshake_late"),
            },
            () = stopping.wait() => return,
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2::serve(stream, peer, &self, &mut stopping).await;
        } else {
            http1::serve(stream, peer, &self, &mut stopping).await;
        }
    }
}

/// A router that answers metrics as Prometheus reads them, for a listener of its own.
pub fn metrics_router(render: impl Fn() -> String + Clone + Send + Sync + 'static, over_tls: bool) -> Router {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let answer = move |_request: Request| {
        let text = render();
        let content_type = content_type.clone();
        async move { ([(header::CONTENT_TYPE, content_type)], text).into_response() as Response }
    };
    edge::with_headers(Router::new().route("/metrics", routing::get(answer)), over_tls)
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
