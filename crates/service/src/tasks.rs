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
    running: Arc<(AtomicUsize, Notify)>,
    stop: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { running: Arc::default(), stop: watch::Sender::new(false) }
    }
}

/// Counts a task for as long as it lives, however it ends.
struct Running(Arc<(AtomicUsize, Notify)>);

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
        self.spawn(work).await.map_err(|_| BrokenOff)
    }

    /// Runs work in the background until it ends or the process stops.
    pub fn background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut stop = self.stop.subscribe();
        drop(self.spawn(async move {
            tokio::select! {
                () = work => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }));
    }

    #[expect(clippy::disallowed_methods, reason = "the home of tasks")]
    fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
        self.running.0.fetch_add(1, Ordering::AcqRel);
        let running = Running(Arc::clone(&self.running));
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

    /// Tells background work to stop and waits for all tasks, at most so long. `false`: some were still running.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stop.send_replace(true);
        let all = async {
            loop {
                let gone = self.running.1.notified();
                if self.running.0.load(Ordering::Acquire) == 0 {
                    return;
                }
                gone.await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }
}
