//! Connections at rest: a few open ones per host, for the next call. Never lends one to two calls at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use domain::clock::Clock;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};
use tokio_rustls::client::TlsStream;

use crate::{
    gate::{Gate, Gated},
    host::{Host, HostSet},
};

/// The most header fields, and the most bytes of them, that an answer may have.
const MAX_HEADERS: usize = 128;
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// How long a connection at rest may take to show that it can be used again. It is a matter of one turn of its task.
const READY_WITHIN: Duration = Duration::from_millis(50);

/// One HTTP/1.1 connection, and the task that drives it. Dropping it closes it.
pub(crate) struct Line {
    pub(crate) requests: http1::SendRequest<Full<Bytes>>,
    pub(crate) gate: Arc<Gate>,
    driver: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        // The task may be running at this moment: the gate sees to it that nothing leaves from now on.
        self.gate.shut();
        self.driver.abort();
    }
}

impl Line {
    /// Begins HTTP on a fresh TLS connection.
    pub(crate) async fn begin(stream: TlsStream<Gated<TcpStream>>, gate: Arc<Gate>) -> hyper::Result<Self> {
        let (requests, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        // A connection's failure is told to the call that uses it; the task itself has nobody to tell.
        #[expect(clippy::disallowed_methods, reason = "egress is the home of the tasks that drive its own connections")]
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { requests, gate, driver })
    }
}

struct Resting {
    line: Line,
    since: Duration,
}

/// The connections at rest, and each host's turns.
pub(crate) struct Pool {
    resting: Mutex<HashMap<Host, Vec<Resting>>>,
    turns: HashMap<Host, Arc<Semaphore>>,
    max_resting: usize,
    max_rest: Duration,
    clock: Clock,
}

impl Pool {
    pub(crate) fn new(
        hosts: &HostSet,
        clock: Clock,
        max_in_flight: usize,
        max_resting: usize,
        max_rest: Duration,
    ) -> Self {
        let turns = hosts.iter().map(|host| (host.clone(), Arc::new(Semaphore::new(max_in_flight)))).collect();
        Self { resting: Mutex::default(), turns, max_resting, max_rest, clock }
    }

    /// Waits until the host has fewer calls in flight than it may have. `None` for a host that is not declared.
    pub(crate) async fn turn(&self, host: &Host) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.turns.get(host)?).acquire_owned().await.ok()
    }

    /// A connection at rest that can be used again, the one used last first.
    pub(crate) async fn take(&self, host: &Host) -> Option<Line> {
        loop {
            let mut line = self.pop(host)?;
            if matches!(tokio::time::timeout(READY_WITHIN, line.requests.ready()).await, Ok(Ok(()))) {
                return Some(line);
            }
        }
    }

    /// Lets a connection rest, unless there are enough of them.
    pub(crate) fn put(&self, host: &Host, line: Line) {
        if line.requests.is_closed() {
            return;
        }
        let since = self.clock.since_boot();
        let mut resting = self.lock();
        resting.retain(|_, lines| {
            lines.retain(|resting| !self.is_stale(resting, since));
            !lines.is_empty()
        });
        let lines = resting.entry(host.clone()).or_default();
        if lines.len() < self.max_resting {
            lines.push(Resting { line, since });
        }
    }

    fn pop(&self, host: &Host) -> Option<Line> {
        let now = self.clock.since_boot();
        let mut resting = self.lock();
        let lines = resting.get_mut(host)?;
        lines.retain(|resting| !self.is_stale(resting, now));
        lines.pop().map(|resting| resting.line)
    }

    /// Servers close quiet connections without asking, and a request that meets the closing may be lost: better to
    /// leave first.
    fn is_stale(&self, resting: &Resting, now: Duration) -> bool {
        resting.line.requests.is_closed() || now.saturating_sub(resting.since) > self.max_rest
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Host, Vec<Resting>>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
