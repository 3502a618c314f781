//! Turns, and connections at rest: how many calls a host and an account may have in flight, and a few open connections per host for the
//! next call. Never lends one to two calls at a time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use domain::{clock::Clock, id::ConnectionId};
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

/// How much a pool lends and keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) in_flight_per_host: usize,
    pub(crate) in_flight_per_account: usize,
    pub(crate) resting_per_host: usize,
    pub(crate) rest: Duration,
}

/// Each account's turns, and how many calls of it wait or are served.
type Accounts = Arc<Mutex<HashMap<ConnectionId, (Arc<Semaphore>, usize)>>>;

/// The connections at rest, and the turns of hosts and accounts.
pub(crate) struct Pool {
    /// The longest at rest first.
    resting: Mutex<HashMap<Host, VecDeque<Resting>>>,
    turns: HashMap<Host, Arc<Semaphore>>,
    /// The accounts that have a call in flight or waiting.
    accounts: Accounts,
    limits: Limits,
    clock: Clock,
}

/// The turn of one call. Dropping it gives it to the next.
pub(crate) struct Turn {
    _host: OwnedSemaphorePermit,
    _account: Option<(OwnedSemaphorePermit, Lane)>,
}

/// One call's place among those of its account, waiting or served. The last to leave takes the account off the list.
struct Lane {
    account: ConnectionId,
    accounts: Accounts,
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut accounts = lock(&self.accounts);
        if let Some((_, calls)) = accounts.get_mut(&self.account) {
            *calls -= 1;
            if *calls == 0 {
                accounts.remove(&self.account);
            }
        }
    }
}

impl Pool {
    pub(crate) fn new(hosts: &HostSet, clock: Clock, limits: Limits) -> Self {
        let turns = hosts.iter().map(|host| (host.clone(), Arc::new(Semaphore::new(limits.in_flight_per_host))));
        Self { resting: Mutex::default(), turns: turns.collect(), accounts: Accounts::default(), limits, clock }
    }

    /// Waits until the account has fewer calls in flight than it may have, and then until the host has. `None` for a host that is not
    /// declared.
    ///
    /// In this order: whoever waits for his own account's calls keeps no turn of the host's from others.
    pub(crate) async fn turn(&self, host: &Host, account: Option<ConnectionId>) -> Option<Turn> {
        let of_host = Arc::clone(self.turns.get(host)?);
        let account = match account.map(|account| self.lane(account)) {
            Some((turns, lane)) => Some((turns.acquire_owned().await.ok()?, lane)),
            None => None,
        };
        Some(Turn { _host: of_host.acquire_owned().await.ok()?, _account: account })
    }

    fn lane(&self, account: ConnectionId) -> (Arc<Semaphore>, Lane) {
        let most = self.limits.in_flight_per_account;
        let mut accounts = lock(&self.accounts);
        let (turns, calls) = accounts.entry(account).or_insert_with(|| (Arc::new(Semaphore::new(most)), 0));
        *calls += 1;
        (Arc::clone(turns), Lane { account, accounts: Arc::clone(&self.accounts) })
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
        let mut resting = lock(&self.resting);
        for lines in resting.values_mut() {
            self.leave_stale(lines, since);
        }
        if !resting.contains_key(host) {
            resting.insert(host.clone(), VecDeque::new());
        }
        if let Some(lines) = resting.get_mut(host)
            && lines.len() < self.limits.resting_per_host
        {
            lines.push_back(Resting { line, since });
        }
    }

    fn pop(&self, host: &Host) -> Option<Line> {
        let now = self.clock.since_boot();
        let mut resting = lock(&self.resting);
        let lines = resting.get_mut(host)?;
        self.leave_stale(lines, now);
        while let Some(resting) = lines.pop_back() {
            if !resting.line.requests.is_closed() {
                return Some(resting.line);
            }
        }
        None
    }

    /// Servers close quiet connections without asking, and a request that meets the closing may be lost: better to leave first.
    fn leave_stale(&self, lines: &mut VecDeque<Resting>, now: Duration) {
        let is_stale = |resting: &Resting| {
            resting.line.requests.is_closed() || now.saturating_sub(resting.since) > self.limits.rest
        };
        while lines.front().is_some_and(is_stale) {
            lines.pop_front();
        }
    }

    /// How many accounts are known: those with a call in flight or waiting.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        lock(&self.accounts).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
