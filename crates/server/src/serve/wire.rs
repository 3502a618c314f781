//! The two layers around a socket: [`Paced`], under TLS, which gives up a client that does not read; and [`Watched`], over it, which hands
//! HTTP/1 requests on only as far as [`Framing`] has judged them, and gives up a head that does not come.
//!
//! Neither writes a byte of its own.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::framing::{Framing, FramingFault, MOST_HEAD_BYTES};

/// A client that takes fewer bytes than this in the time of a stall, with more of them waiting, counts as one that does not read.
const LEAST_BYTES: usize = 16 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 8 * 1024;
/// The most bytes that wait to be judged: the whole of one head, and what was read with its end.
const MOST_WAITING: usize = MOST_HEAD_BYTES + READ_BYTES;

/// A socket whose writes must get on.
pub(super) struct Paced<S> {
    socket: S,
    within: Duration,
    /// Runs while the client's side is full; counts what was taken meanwhile.
    stall: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Paced<S> {
    pub(super) fn new(socket: S, within: Duration) -> Self {
        Self { socket, within, stall: None }
    }

    /// Judges a write: an error where the client has taken too little for too long.
    fn pace(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Ready(Ok(bytes)) => {
                if let Some((_, taken)) = &mut self.stall {
                    *taken += bytes;
                    if *taken >= LEAST_BYTES {
                        self.stall = None;
                    }
                }
            }
            Poll::Pending => {
                let within = self.within;
                let (clock, _) = self.stall.get_or_insert_with(|| (Box::pin(sleep(within)), 0));
                if clock.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.pace(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.pace(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            // Nothing waits for the client any more: the next answer has a time of its own.
            self.stall = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Why nothing more of a connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// What came is no request.
    Fault(FramingFault),
    /// A head began and did not come to its end.
    Late,
    /// Nothing came at all.
    Silent,
    /// Nothing more came.
    Idle,
}

/// What a watched connection and whoever drives it know of each other.
#[derive(Default)]
pub(super) struct Turn {
    /// A request was handed on, and its answer is not finished.
    busy: AtomicBool,
    halt: Mutex<Option<Halt>>,
    reader: AtomicWaker,
}

impl Turn {
    /// Why the connection must end, once nothing is on its way.
    pub(super) fn halted(&self) -> Option<Halt> {
        *self.halt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn halt(&self, halt: Halt) {
        *self.halt.lock().unwrap_or_else(PoisonError::into_inner) = Some(halt);
    }

    /// The answer is finished: the next request may be judged. The library does not ask again by itself for what was held back.
    pub(super) fn answered(&self) {
        self.busy.store(false, Ordering::Release);
        self.reader.wake();
    }
}

/// A connection of which HTTP/1 requests are handed on one after the other, each judged first.
pub(super) struct Watched<S> {
    stream: S,
    turn: Arc<Turn>,
    framing: Framing,
    waiting: BytesMut,
    judged: BytesMut,
    /// What is wrong with the body that is being read.
    broken: Option<FramingFault>,
    ended: bool,
    times: Times,
    is_first: bool,
    /// What is awaited, and until when.
    due: Option<Due>,
    deadline: Pin<Box<Sleep>>,
}

/// How long requests are awaited.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// A head from its first byte; the first head from the connection's begin.
    pub(super) head: Duration,
    /// Any other request's first byte.
    pub(super) idle: Duration,
}

/// What must come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Head,
    Request,
}

impl<S> Watched<S> {
    /// Watches a stream from its first byte; the first head is awaited from now on.
    pub(super) fn new(stream: S, turn: Arc<Turn>, times: Times) -> Self {
        Self {
            stream,
            turn,
            framing: Framing::new(),
            waiting: BytesMut::new(),
            judged: BytesMut::new(),
            broken: None,
            ended: false,
            times,
            is_first: true,
            due: Some(Due::Head),
            deadline: Box::pin(sleep(times.head)),
        }
    }

    /// The stream itself, for whoever ends the connection.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Judges what waits, unless it belongs to a request whose turn has not come.
    fn judge(&mut self) {
        let in_head = self.framing.is_in_head();
        let not_yet = in_head && self.turn.busy.load(Ordering::Acquire);
        if not_yet || self.broken.is_some() || self.turn.halted().is_some() {
            return;
        }
        match self.framing.advance(&mut self.waiting, &mut self.judged) {
            Ok(true) if in_head => {
                self.turn.busy.store(true, Ordering::Release);
                (self.is_first, self.due) = (false, None);
                if !self.framing.is_in_head() {
                    // What came of its body with it.
                    self.broken = self.framing.advance(&mut self.waiting, &mut self.judged).err();
                }
            }
            Ok(_) => {}
            Err(fault) if in_head => self.turn.halt(Halt::Fault(fault)),
            Err(fault) => self.broken = Some(fault),
        }
    }

    /// A head that has begun must end in time, and a connection is not kept for one that does not begin.
    fn check_time(&mut self, cx: &mut Context<'_>) {
        if !self.framing.is_in_head() || self.turn.busy.load(Ordering::Acquire) {
            return;
        }
        let due = if self.is_first || !self.waiting.is_empty() { Due::Head } else { Due::Request };
        if self.due != Some(due) {
            self.due = Some(due);
            let within = if due == Due::Head { self.times.head } else { self.times.idle };
            self.deadline.as_mut().reset(Instant::now() + within);
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.turn.halt(match (self.waiting.is_empty(), self.is_first) {
                (false, _) => Halt::Late,
                (true, true) => Halt::Silent,
                (true, false) => Halt::Idle,
            });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.turn.reader.register(cx.waker());
        loop {
            me.judge();
            if !me.judged.is_empty() {
                let now = me.judged.len().min(buf.remaining());
                buf.put_slice(me.judged.get(..now).unwrap_or_default());
                me.judged.advance(now);
                return Poll::Ready(Ok(()));
            }
            if me.turn.halted().is_some() {
                return Poll::Pending;
            }
            // The application reads it as the end of a body that broke off, and says so.
            if let Some(fault) = me.broken {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
            }
            // A request whose turn has not come is answered before the end of what its client sends is told.
            if me.ended && (me.waiting.is_empty() || !me.turn.busy.load(Ordering::Acquire)) {
                return Poll::Ready(Ok(()));
            }
            if me.ended {
                return Poll::Pending;
            }
            if me.waiting.len() >= MOST_WAITING {
                // Only what came before its turn can be so much.
                return Poll::Pending;
            }
            match read_some(&mut me.stream, cx, &mut me.waiting) {
                Poll::Ready(Ok(0)) => me.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    me.check_time(cx);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Reads what is there, at most [`READ_BYTES`].
fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    into: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut chunk = [std::mem::MaybeUninit::uninit(); READ_BYTES];
    let mut buf = ReadBuf::uninit(&mut chunk);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    into.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Flushes, and no more: whoever drives the connection may have a last word to say.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A socket whose writes go as they are written here; its flushes always end.
    struct Scripted(VecDeque<Option<usize>>);

    impl AsyncWrite for Scripted {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            self.0.pop_front().flatten().map_or(Poll::Pending, |bytes| Poll::Ready(Ok(bytes)))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_one_answer_waited_is_not_counted_against_the_next() {
        let script = VecDeque::from([None, Some(10), Some(LEAST_BYTES), None, None]);
        let mut paced = Paced::new(Scripted(script), Duration::from_hours(1));
        std::future::poll_fn(|cx| {
            let mut write = |paced: &mut Paced<Scripted>| Pin::new(paced).poll_write(cx, b"x").is_pending();
            assert!(write(&mut paced) && paced.stall.is_some(), "the client's side is full");
            assert!(!write(&mut paced) && paced.stall.is_some(), "ten bytes are too few");
            assert!(Pin::new(&mut paced).poll_flush(cx).is_ready() && paced.stall.is_none(), "all was taken");
            let mut write = |paced: &mut Paced<Scripted>| Pin::new(paced).poll_write(cx, b"x").is_pending();
            assert!(!write(&mut paced) && write(&mut paced) && paced.stall.is_some());
            paced.within = Duration::ZERO;
            paced.stall = None;
            Poll::Ready(())
        })
        .await;
        let late = std::future::poll_fn(|cx| Pin::new(&mut paced).poll_write(cx, b"x")).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
