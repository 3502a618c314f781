//! One connection that speaks HTTP/2, to its end, with a bound on everything that a client can have us keep or do: streams, their
//! headers, their time, and how many of them it may begin and give up.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{rt::Executor, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use service::tasks::Tasks;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    Connections, Stopping, cut,
    entrance::{Asked, Entrance},
    framing::MOST_HEAD_BYTES,
};
use crate::guard::Peer;

/// The most requests of a connection at a time.
const MOST_STREAMS: u32 = 64;
/// The most streams that were reset before they were looked at, and that we reset for a client's error; one more ends the connection.
const MOST_RESETS: usize = 20;
const MOST_ERRORS: usize = 32;
/// From how many requests on that a client has given up the connection ends, if they are half of all: a rapid reset (CVE-2023-44487)
/// that is paced so that each request is begun.
const MOST_GIVEN_UP: u64 = 100;
/// What may be on its way to us, of one stream and of all.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// What waits to be sent, of one stream.
const SEND_BYTES: usize = 64 * 1024;
/// How often a client is asked whether it lives, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(10);
/// How long a client that was told that the connection ends may take to let go of it when nothing is on its way.
const GOODBYE: Duration = Duration::from_secs(5);

/// What is on its way on a connection, and what was given up.
#[derive(Default)]
struct Activity {
    counts: Mutex<Counts>,
    changed: Notify,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    begun: u64,
    active: u64,
    given_up: u64,
}

/// One request on its way.
struct Stream {
    activity: Arc<Activity>,
    answered: bool,
}

impl Asked for Stream {
    fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.activity.change(|counts| {
            counts.active -= 1;
            counts.given_up += u64::from(!self.answered);
        });
    }
}

impl Activity {
    fn change(&self, how: impl FnOnce(&mut Counts)) {
        how(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Stream {
        self.change(|counts| {
            counts.begun += 1;
            counts.active += 1;
        });
        Stream { activity: Arc::clone(self), answered: false }
    }

    /// Resolves when nothing has been on its way for so long; `first`, where there never was anything.
    async fn idle(&self, first: Duration, later: Duration) {
        loop {
            let changed = self.changed.notified();
            let counts = self.counts();
            if counts.active > 0 {
                changed.await;
                continue;
            }
            let within = if counts.begun == 0 { first } else { later };
            tokio::select! {
                () = sleep(within) => return,
                () = changed => {}
            }
        }
    }

    /// Resolves when a client gives up what it asks for, again and again.
    async fn abused(&self) {
        loop {
            let changed = self.changed.notified();
            let Counts { begun, given_up, .. } = self.counts();
            if given_up > MOST_GIVEN_UP && given_up * 2 > begun {
                return;
            }
            changed.await;
        }
    }
}

/// Runs the streams of a connection, each for so long at most, whatever its client does with its window.
#[derive(Clone)]
struct Streams {
    tasks: Tasks,
    within: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let within = self.within;
        self.tasks.background(async move {
            if timeout(within, stream).await.is_err() {
                cut("stream_late");
            }
        });
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<S>(stream: S, peer: Peer, connections: &Connections, stopping: &mut Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = &connections.options;
    let activity = Arc::new(Activity::default());
    let asked = Arc::clone(&activity);
    let entrance = Entrance {
        router: connections.router.clone(),
        site: connections.site.clone(),
        peer,
        body_within: options.body_within,
        asked: move || asked.begin(),
    };
    let streams = Streams { tasks: connections.site.tasks.clone(), within: options.stream_within };
    let mut connection = pin!(
        http2::Builder::new(streams)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(u32::try_from(MOST_HEAD_BYTES).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MOST_RESETS)
            .max_local_error_reset_streams(MOST_ERRORS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .serve_connection(TokioIo::new(stream), entrance)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = activity.abused() => {
            cut("given_up");
            tracing::warn!("an HTTP/2 client gives up its requests again and again; its connection is closed");
            return;
        }
        () = activity.idle(options.head_within, options.idle_within) => None,
        () = stopping.wait() => None,
    };
    let ended = if ended.is_some() {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = activity.idle(GOODBYE, GOODBYE) => None,
        }
    };
    if let Some(Err(error)) = ended {
        if is_calmed(&error) {
            cut("reset_flood");
        }
        tracing::debug!(%error, "a connection ended");
    }
}

/// Whether the library ended the connection because its client resets too much (RFC 9113 §7).
fn is_calmed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM)
}
