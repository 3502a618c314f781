//! The gate under a connection: whether a request's first byte may leave, and whether it has.
//!
//! It stands between TLS and the socket, so that what it lets through is what leaves the process. Its lock is held over
//! the write itself: whoever shuts the gate knows, exactly, whether anything of the request left before, and that nothing
//! leaves afterwards.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use domain::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What had become of a request when its gate was shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not one byte of it left, and none will.
    Held,
    /// Not one byte of it left, because its `send_by` had passed when the first was about to.
    Expired,
    /// At least one byte left.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No request is under way: the handshake and the farewell of TLS pass freely.
    Open,
    /// The next byte belongs to a request that must leave by this time since boot, if one is given.
    Armed(Option<Duration>),
    /// The request's first byte is out; the rest follows it.
    Left {
        /// Whether the socket took no more when it was last asked.
        stalled: bool,
    },
    /// Nothing leaves any more.
    Shut(Verdict),
}

/// The state of one connection's gate.
pub(crate) struct Gate {
    state: Mutex<State>,
    clock: Clock,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?})", *self.lock())
    }
}

impl Gate {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { state: Mutex::new(State::Open), clock }
    }

    /// From now on the next byte counts as the first of a request. A shut gate stays shut.
    pub(crate) fn arm(&self, send_by: Option<Duration>) {
        let mut state = self.lock();
        if !matches!(*state, State::Shut(_)) {
            *state = State::Armed(send_by);
        }
    }

    /// Lets nothing more through, and says whether anything of the last request got through before.
    pub(crate) fn shut(&self) -> Verdict {
        let mut state = self.lock();
        let verdict = match *state {
            State::Open | State::Armed(_) => Verdict::Held,
            State::Left { .. } => Verdict::Left,
            State::Shut(verdict) => verdict,
        };
        *state = State::Shut(verdict);
        verdict
    }

    /// Whether something of the request is out and nothing of it waits for the socket.
    pub(crate) fn is_through(&self) -> bool {
        *self.lock() == State::Left { stalled: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one write to the socket, if the gate allows it.
    ///
    /// A socket's write either takes bytes or fails: an error, like a full buffer, means that nothing of this write left.
    fn pass(&self, write: impl FnOnce() -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        match *state {
            State::Shut(_) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            State::Armed(Some(send_by)) if self.clock.since_boot() > send_by => {
                *state = State::Shut(Verdict::Expired);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            State::Open | State::Armed(_) | State::Left { .. } => {}
        }
        let written = write();
        match (&*state, &written) {
            (State::Armed(_) | State::Left { .. }, Poll::Ready(Ok(1..))) => *state = State::Left { stalled: false },
            (State::Left { .. }, Poll::Pending) => *state = State::Left { stalled: true },
            _ => {}
        }
        written
    }
}

/// A socket whose writes go through a gate.
#[derive(Debug)]
pub(crate) struct Gated<S> {
    socket: S,
    gate: std::sync::Arc<Gate>,
}

impl<S> Gated<S> {
    pub(crate) fn new(socket: S, gate: std::sync::Arc<Gate>) -> Self {
        Self { socket, gate }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, gate } = &mut *self;
        gate.pass(|| Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, gate } = &mut *self;
        gate.pass(|| Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::OffsetDateTime;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What each write does, what the peer has read at the end, and what the shut gate says.
    #[tokio::test]
    async fn a_request_leaves_in_time_or_not_at_all() {
        let second = Duration::from_secs(1);
        for (name, armed, wait, writes, read, verdict) in [
            ("handshake only", None, 0, vec![true], "a", Verdict::Held),
            ("no limit", Some(None), 9, vec![true, true], "ab", Verdict::Left),
            ("in time", Some(Some(second * 5)), 5, vec![true, true], "ab", Verdict::Left),
            ("late", Some(Some(second * 5)), 6, vec![false, false], "", Verdict::Expired),
            ("nothing written", Some(None), 0, vec![], "", Verdict::Held),
        ] {
            let clock = Clock::set(OffsetDateTime::UNIX_EPOCH);
            let gate = Arc::new(Gate::new(clock.clone()));
            let (near, mut far) = duplex(64);
            let mut socket = Gated::new(near, Arc::clone(&gate));
            if let Some(send_by) = armed {
                gate.arm(send_by);
            }
            clock.advance(second * wait);
            for (letter, passes) in ["a", "b"].iter().zip(&writes) {
                assert_eq!(socket.write_all(letter.as_bytes()).await.is_ok(), *passes, "{name}");
            }
            assert_eq!(gate.shut(), verdict, "{name}");
            assert!(socket.write_all(b"z").await.is_err(), "{name}: nothing passes a shut gate");
            gate.arm(None);
            assert!(socket.write_all(b"z").await.is_err(), "{name}: arming does not open a shut gate");
            drop(socket);
            let mut seen = String::new();
            far.read_to_string(&mut seen).await.unwrap();
            assert_eq!(seen, read, "{name}");
            assert_eq!(gate.shut(), verdict, "{name}: the verdict stands");
        }
    }

    #[tokio::test]
    async fn a_full_or_failing_socket_lets_nothing_leave() {
        let gate = Arc::new(Gate::new(Clock::set(OffsetDateTime::UNIX_EPOCH)));
        let (near, far) = duplex(1);
        let mut socket = Gated::new(near, Arc::clone(&gate));
        socket.write_all(b"h").await.unwrap();
        gate.arm(None);
        tokio::select! {
            biased;
            _ = socket.write_all(b"a") => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        drop(far);
        assert!(socket.write_all(b"a").await.is_err());
        assert_eq!(gate.shut(), Verdict::Held);
    }
}
