//! Serving: our own accept loop, with a limit on everything that a stranger can make last or grow.
//!
//! Plain HTTP, and so on a loopback address alone: another machine is never answered in the clear.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing,
};
use http::{HeaderValue, header};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use service::{App, tasks::Tasks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tower::ServiceExt;

use crate::guard::Peer;

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// The most connections at a time; more wait to be accepted.
    pub connections: u32,
    /// How long a request's head may take to come; a connection that sends none for as long is closed.
    pub head_within: Duration,
    /// How long requests that are on their way may take when the server stops.
    pub drain_within: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { connections: 4096, head_within: Duration::from_secs(10), drain_within: Duration::from_secs(20) }
    }
}

/// The most headers of a request, and the most bytes of its head.
const MOST_HEADERS: usize = 64;
const MOST_HEAD_BYTES: usize = 32 * 1024;

/// How long to wait when the machine has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(50);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listener can be reached from other machines.
    #[error("{0} is not a loopback address: this version serves plain HTTP, and so this machine alone")]
    NotLoopback(SocketAddr),
    /// The listener is no use.
    #[error("the listener cannot be used")]
    Listener(#[source] io::Error),
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    stop: watch::Sender<bool>,
    places: Arc<Semaphore>,
    options: ServerOptions,
}

impl Server {
    /// Serves a router: [`crate::router`], or [`metrics_router`] on a listener of its own.
    ///
    /// # Errors
    /// `NotLoopback` for a listener that others could reach; `Listener`.
    pub fn start(
        app: &App,
        listener: TcpListener,
        router: Router,
        options: ServerOptions,
    ) -> Result<Self, ServerError> {
        Self::run(&app.tasks, listener, router, options)
    }

    fn run(tasks: &Tasks, listener: TcpListener, router: Router, options: ServerOptions) -> Result<Self, ServerError> {
        let addr = listener.local_addr().map_err(ServerError::Listener)?;
        refuse_other_machines(addr)?;
        let (stop, stopping) = watch::channel(false);
        let places = Arc::new(Semaphore::new(options.connections as usize));
        let accept = Accept { tasks: tasks.clone(), router, options, places: Arc::clone(&places), stopping };
        tasks.background(accept.run(listener));
        Ok(Self { addr, stop, places, options })
    }

    /// Accepts no more, lets the requests that are on their way end, and returns when they have, or their time is up.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let all = self.places.acquire_many(self.options.connections);
        if tokio::time::timeout(self.options.drain_within, all).await.is_err() {
            tracing::warn!("requests were still on their way when the server stopped");
        }
    }
}

/// Plain HTTP is for this machine alone.
fn refuse_other_machines(addr: SocketAddr) -> Result<(), ServerError> {
    if addr.ip().to_canonical().is_loopback() { Ok(()) } else { Err(ServerError::NotLoopback(addr)) }
}

/// The accept loop.
struct Accept {
    tasks: Tasks,
    router: Router,
    options: ServerOptions,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Accept {
    async fn run(self, listener: TcpListener) {
        let mut stopping = self.stopping.clone();
        loop {
            let next = async {
                let place = Arc::clone(&self.places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            match (place, accepted) {
                (Ok(place), Ok((stream, peer))) => self.tasks.background(self.connection(stream, peer, place)),
                (Ok(_), Err(error)) => {
                    // Most often no file descriptor is left; connections that end give some back.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(NO_ROOM).await;
                }
                (Err(_), _) => return,
            }
        }
    }

    /// Serves one connection to its end; it holds its place for as long.
    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + 'static {
        let _best_effort = stream.set_nodelay(true);
        let peer = Peer(peer.ip().to_canonical());
        let service = self.router.clone().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            request.map(axum::body::Body::new)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.head_within)
            .max_headers(MOST_HEADERS)
            .max_buf_size(MOST_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut stopping = self.stopping.clone();
        async move {
            let _place = place;
            let mut connection = std::pin::pin!(connection);
            let stop = async { stopping.wait_for(|stop| *stop).await.map(drop) };
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                _ = stop => None,
            };
            let ended = if let Some(ended) = ended {
                ended
            } else {
                connection.as_mut().graceful_shutdown();
                connection.await
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        }
    }
}

/// A router that answers metrics as Prometheus reads them, for a listener of its own.
pub fn metrics_router(render: impl Fn() -> String + Clone + Send + Sync + 'static) -> Router {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let answer = move |_request: Request| {
        let text = render();
        let content_type = content_type.clone();
        async move { ([(header::CONTENT_TYPE, content_type)], text).into_response() as Response }
    };
    Router::new().route("/metrics", routing::get(answer))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
