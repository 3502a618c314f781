//! How long each phase of a call may take, and the time that the call has left over all of them.
//!
//! Whatever the bounds here, no phase outlasts the call's own timeout. Never reads a clock that says what time it is.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time::Sleep;

/// The bounds of the phases. A call that passes one fails with its [`crate::Stage`].
#[derive(Debug, Clone, Copy)]
pub struct Phases {
    /// Waiting for a turn, among the calls of the same account and those of the host.
    pub turn: Duration,
    /// Resolving the host's name.
    pub resolve: Duration,
    /// Connecting, over all addresses that are tried.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// Until the request is written.
    pub request: Duration,
    /// From then to the head of the answer.
    pub first_byte: Duration,
}

impl Default for Phases {
    /// 5 s for a turn, 3 s to resolve, 5 s each to connect, for TLS and to write the request, 30 s for the first byte.
    fn default() -> Self {
        let five = Duration::from_secs(5);
        Self {
            turn: five,
            resolve: Duration::from_secs(3),
            connect: five,
            tls: five,
            request: five,
            first_byte: Duration::from_secs(30),
        }
    }
}

/// The time that a call has left, over all its phases.
pub(crate) struct Budget(Pin<Box<Sleep>>);

impl Budget {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self(Box::pin(tokio::time::sleep(timeout)))
    }

    /// What the step gives, or `None` when the call's time is up first.
    pub(crate) async fn within<F: Future>(&mut self, step: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = step => Some(output),
            () = self.0.as_mut() => None,
        }
    }

    /// The same, for a step with a bound of its own.
    pub(crate) async fn phase<F: Future>(&mut self, bound: Duration, step: F) -> Option<F::Output> {
        self.within(tokio::time::timeout(bound, step)).await?.ok()
    }
}
