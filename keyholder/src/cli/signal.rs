//! What a process is told while it runs: to stop (SIGTERM or SIGINT), to read its logins again (SIGHUP), or that whoever started it is no more.

#[cfg(feature = "sandbox")]
use std::{io, process, thread};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Exit, Failure};

/// Listens for the signals that end a process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen. From here on no signal ends the process by itself.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::because(Exit::Other, "signals cannot be listened for", error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Does the last work, unless another signal says not to wait for it. `false`: it was broken off.
    pub(super) async fn unless_again(&mut self, work: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = work => true,
            () = self.next() => false,
        }
    }
}

/// Listens for SIGHUP, which would else end the process.
pub(super) struct Hangups(Signal);

impl Hangups {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listening = signal(SignalKind::hangup());
        listening.map(Self).map_err(|error| Failure::because(Exit::Other, "signals cannot be listened for", error))
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Ends this process at the end of its standard input, a pipe whose other end is held by whoever has started it and by nobody else: it
/// outlives him in no state, and nothing is waited for. Only for what is tried on a scratch installation.
///
/// # Errors
/// Where no thread can be had.
#[cfg(feature = "sandbox")]
pub(super) fn end_with_stdin() -> io::Result<()> {
    // A thread of its own: a runtime that is stuck does not keep the process alive.
    let waiting = thread::Builder::new().name("parent".to_owned()).spawn(|| {
        // A pipe that breaks has ended, too.
        let _whatever = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(Exit::Other as i32)
    });
    waiting.map(drop)
}
