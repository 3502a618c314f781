//! What a command says: one line of JSON or words for a person on standard output, everything else on standard error.

#[cfg(feature = "sandbox")]
use std::sync::Arc;
use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::{Chain, Failure};
#[cfg(feature = "sandbox")]
use crate::cluster::Stage;

/// How a command speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// To a person.
    Words,
    /// To a program.
    Json,
}

impl Voice {
    /// Says the command's outcome: `value` as one line of JSON, or `words`.
    pub(super) fn say(self, value: &impl Serialize, words: &str) {
        match self {
            Self::Words => line(words),
            // Of our own plain structures, none of which fails to serialise.
            Self::Json => line(&serde_json::to_string(value).unwrap_or_default()),
        }
    }

    /// Says why a command failed: always in words on standard error, and to a program also as its one line.
    pub(super) fn fail(self, failure: &Failure) {
        let words = Chain(failure).to_string();
        if self == Self::Json {
            let said = Failed { error: &words, exit_code: failure.exit_code(), faults: failure.faults() };
            line(&serde_json::to_string(&said).unwrap_or_default());
        }
        note(&format!("keyholder: {words}"));
    }
}

#[derive(Serialize)]
struct Failed<'f> {
    error: &'f str,
    exit_code: u8,
    faults: Vec<String>,
}

/// A line on standard output. A reader that hung up has had enough.
fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _hung_up = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A line on standard error.
pub(super) fn note(text: &str) {
    let _hung_up = writeln!(io::stderr(), "{text}");
}

/// Whether a person watches standard error.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A bar for work that takes long, on standard error and only where a person watches. Goes away with its value.
pub(super) struct Progress(ProgressBar);

impl Drop for Progress {
    fn drop(&mut self) {
        // A failed command's message must not stand behind a bar that still turns.
        self.0.finish_and_clear();
    }
}

impl Progress {
    /// Begins to show.
    pub(super) fn begin(doing: &'static str) -> Self {
        let target = if is_watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(doing);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Says what the work is at now.
    pub(super) fn now(&self, doing: impl Into<String>) {
        self.0.set_message(doing.into());
    }

    /// What hears of a cluster's stages. A download is told to somebody who sees no bar, too.
    #[cfg(feature = "sandbox")]
    pub(super) fn stages(&self) -> Arc<dyn Fn(Stage) + Send + Sync> {
        let bar = self.0.clone();
        Arc::new(move |stage| {
            bar.set_message(stage.to_string());
            if stage == Stage::Ready {
                bar.finish_and_clear();
            }
            if bar.is_hidden() && matches!(stage, Stage::Download { .. } | Stage::WaitForDownload) {
                note(&format!("keyholder: {stage}"));
            }
        })
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
