//! Tasks have one home: what runs beside the requests, and what must run on when its caller hangs up.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tracing::Instrument;

/// The tasks of one process.
#[derive(Clone)]
pub struct Tasks {
    /// Work that goes on to its end.
    finishing: Count,
    /// Work that goes on until the process stops.
    background: Count,
    stop: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { finishing: Arc::default(), background: Arc::default(), stop: watch::Sender::new(false) }
    }
}

type Count = Arc<(AtomicUsize, Notify)>;

/// Counts a task for as long as it lives, however it ends.
struct Running(Count);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_waiters();
        }
    }
}

/// The task panicked, or the process is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was broken off")]
pub struct BrokenOff;

impl Tasks {
    /// Runs work to its end, whether or not the caller waits for it.
    ///
    /// # Errors
    /// `BrokenOff` where the work panicked.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BrokenOff> {
        Self::spawn(&self.finishing, work).await.map_err(|_| BrokenOff)
    }

    /// Runs work in the background until it ends or the process stops.
    pub fn background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.stop.subscribe();
        let until = async move {
            tokio::select! {
                () = work => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        };
        drop(Self::spawn(&self.background, until));
    }

    /// Runs work that heeds [`Tasks::stopping`] itself: it is not cut off, and has the time of a stop to come to its end.
    pub fn winding_up(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(Self::spawn(&self.background, work));
    }

    #[expect(clippy::disallowed_methods, reason = "the home of tasks")]
    fn spawn<T: Send + 'static>(
        count: &Count,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        count.0.fetch_add(1, Ordering::AcqRel);
        let running = Running(Arc::clone(count));
        tokio::spawn(
            async move {
                let _running = running;
                work.await
            }
            .in_current_span(),
        )
    }

    /// Resolves once the process is to stop.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        let _closed = stop.wait_for(|stop| *stop).await;
    }

    /// Waits for what goes on to its end, at most so long; then tells background work to stop, and waits for that as long again. The
    /// ledger is background work that winds up: whoever must still tell it something has done so by then, and what it was told it
    /// writes. `false`: some were still running.
    pub async fn stop(&self, within: Duration) -> bool {
        let finished = tokio::time::timeout(within, none_left(&self.finishing)).await.is_ok();
        self.stop.send_replace(true);
        let stopped = tokio::time::timeout(within, none_left(&self.background)).await.is_ok();
        finished && stopped
    }
}

async fn none_left(count: &Count) {
    loop {
        let gone = count.1.notified();
        if count.0.load(Ordering::Acquire) == 0 {
            return;
        }
        gone.await;
    }
}
