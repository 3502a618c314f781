//! One connection that speaks HTTP/1.1, to its end: served, halted where what comes is no request, and closed so that a last answer
//! arrives.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    Connections, Stopping, cut,
    entrance::{Asked, Entrance},
    framing::{FramingFault, MOST_HEAD_BYTES, MOST_HEADERS},
    refusal,
    wire::{Halt, Times, Turn, Watched},
};
use crate::guard::Peer;

/// How long, and for how many bytes, a client is listened to after the last answer, so that it is not lost with what still comes.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1024 * 1024;

/// The answer is finished: the next request may come.
struct Done(Arc<Turn>);

impl Asked for Done {
    fn answered(&mut self) {}
}

impl Drop for Done {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<S>(stream: S, peer: Peer, connections: &Connections, stopping: &mut Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = &connections.options;
    let turn = Arc::new(Turn::default());
    let times = Times { head: options.head_within, idle: options.idle_within };
    let watched = Watched::new(stream, Arc::clone(&turn), times);
    let asked = Arc::clone(&turn);
    let entrance = Entrance {
        router: connections.router.clone(),
        site: connections.site.clone(),
        peer,
        body_within: options.body_within,
        asked: move || Done(Arc::clone(&asked)),
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It sees whole heads only; whoever watches the connection sees to their time.
        .header_read_timeout(None)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(watched), entrance);
    let (mut leaving, mut stop) = (false, pin!(stopping.wait()));
    let ended = poll_fn(|cx| {
        let stops = !leaving && stop.as_mut().poll(cx).is_ready();
        loop {
            if !leaving && (stops || turn.halted().is_some()) {
                leaving = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending if !leaving && turn.halted().is_some() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    match (ended, turn.halted()) {
        (Ok(()), Some(halt)) => {
            cut(reason(halt));
            if let Some(problem) = refusal::of(halt) {
                let last = refusal::on_the_wire(refusal::response(problem, &connections.site)).await;
                let _gone = timeout(LINGER, stream.write_all(&last)).await;
            }
        }
        (Ok(()), None) => {}
        (Err(error), _) => tracing::debug!(%error, "a connection ended"),
    }
    close(&mut stream).await;
}

fn reason(halt: Halt) -> &'static str {
    match halt {
        Halt::Fault(FramingFault::Malformed(_)) => "malformed",
        Halt::Fault(FramingFault::TooLarge) => "head_too_large",
        Halt::Late => "head_late",
        Halt::Silent => "silent",
        Halt::Idle => "idle",
    }
}

/// Closes our side, and reads on for a moment: a connection that is closed with bytes unread takes the last answer with it (RFC 9112
/// §9.6).
async fn close<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let closing = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let (mut chunk, mut left) = ([0; 4096], LINGER_BYTES);
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    let _in_time = timeout(LINGER, closing).await;
}
