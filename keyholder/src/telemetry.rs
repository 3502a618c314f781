//! What the process tells its operator: log lines and metrics.
//!
//! Owns the one subscriber and the one recorder of the process, and the rule that every text which somebody else may have had
//! a hand in is redacted, masked and escaped before it becomes part of a line, or of a trace. Never logs itself, opens no socket but that
//! to the operator's collector of traces ([`otlp`]), and never writes a file's path or a user's words.

mod layer;
mod line;
pub mod otlp;
mod outlet;
mod span;
#[cfg(test)]
mod tests;

use std::{
    io::Write,
    panic::PanicHookInfo,
    sync::{Arc, Mutex, Once, OnceLock, PoisonError},
};

use domain::clock::Clock;
use guard::{Addresses, Cleaner, GuardError, Masker, Redactor};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, filter::ParseError, layer::SubscriberExt};

pub use outlet::Capture;

use layer::LogLayer;
use outlet::Outlets;
use span::Spans;

/// Seconds that a histogram whose name ends with `_seconds` tells apart: from a batch of the ledger to a slow platform.
const SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `timestamp`, `level`, `target`, `message`, `fields` and `span`.
    Json,
    /// For a person at a terminal.
    Pretty,
}

/// Where lines go, besides those who [`Telemetry::capture`] them.
pub enum Writer {
    /// Standard error.
    Stderr,
    /// Nowhere else.
    Silent,
    /// Into this, one `write_all` a line. It must not log, and must not block for long.
    Sink(Box<dyn Write + Send>),
}

/// What the log is made with.
pub struct TelemetryOptions {
    /// How a line looks.
    pub format: Format,
    /// Which lines are written, in the grammar of `tracing-subscriber`'s `EnvFilter`: `info,keyholder=debug`.
    pub filter: String,
    /// What knows the secrets.
    pub redactor: Arc<Redactor>,
    /// Where the lines go.
    pub writer: Writer,
    /// What the lines' timestamps are read from.
    pub clock: Clock,
}

/// Why there is no log, or no metrics.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("the log filter is not one")]
    Filter(#[source] ParseError),
    /// The guard before the log could not be made, or could not take its values.
    #[error("the redaction of the log could not be made")]
    Guard(#[source] GuardError),
    /// Somebody else has made himself the process's subscriber: his lines would not be redacted.
    #[error("another subscriber receives the log of this process")]
    Taken(#[source] tracing::subscriber::SetGlobalDefaultError),
    /// Somebody else has made himself the process's recorder.
    #[error("the recorder of metrics could not be installed")]
    Metrics(#[source] BuildError),
}

/// The log of this process.
#[derive(Clone)]
pub struct Telemetry {
    redactor: Arc<Redactor>,
    outlets: Arc<Outlets>,
    spans: Spans,
    clock: Clock,
}

impl Telemetry {
    /// The redactor that stands before every line. What the process learns later (a login it has just made) is told to this
    /// one: [`Redactor::learn`].
    pub fn redactor(&self) -> &Arc<Redactor> {
        &self.redactor
    }

    /// Keeps the last `lines` lines of the whole process in memory, as they are written, until the capture is dropped.
    pub fn capture(&self, lines: usize) -> Capture {
        self.outlets.capture(lines)
    }
}

/// Begins the log of this process.
///
/// There is one: whoever comes later gets the first one's format, filter, writer and clock, and adds what his redactor knows.
///
/// # Errors
/// `Filter` for a filter that does not parse, `Guard` where the redactor cannot take more values, `Taken` where a subscriber
/// of somebody else's is installed.
pub fn init(options: TelemetryOptions) -> Result<Telemetry, TelemetryError> {
    static INSTALLED: Mutex<Option<Telemetry>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(telemetry) = &*installed {
        telemetry.redactor.learn_from(&options.redactor).map_err(TelemetryError::Guard)?;
        return Ok(telemetry.clone());
    }
    let (subscriber, telemetry) = subscriber(options)?;
    tracing::subscriber::set_global_default(subscriber).map_err(TelemetryError::Taken)?;
    *installed = Some(telemetry.clone());
    Ok(telemetry)
}

fn subscriber(
    options: TelemetryOptions,
) -> Result<(impl Subscriber + Send + Sync + 'static, Telemetry), TelemetryError> {
    let filter = EnvFilter::builder().parse(&options.filter).map_err(TelemetryError::Filter)?;
    let masker = Masker::new(Addresses::MaskPublic).map_err(TelemetryError::Guard)?;
    let outlets = Arc::new(Outlets::new(options.writer));
    let (spans, clock) = (Spans::default(), options.clock.clone());
    let telemetry = Telemetry {
        redactor: Arc::clone(&options.redactor),
        outlets: Arc::clone(&outlets),
        spans: spans.clone(),
        clock,
    };
    let cleaner = Cleaner::new(options.redactor, masker);
    let layer = LogLayer::new(cleaner, options.format, options.clock, outlets, spans);
    Ok((tracing_subscriber::registry().with(filter).with(layer), telemetry))
}

/// Lets panics be log lines like any other, instead of text on standard error that nobody redacts.
///
/// For the binary: in a test binary it would hide what an assertion says.
pub fn log_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(log_panic)));
}

/// A panic's words may quote what was being worked on. What is written is the place, and of the words only those that stand in
/// the source; there is no backtrace.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let (file, line) = panic
        .location()
        .map_or(("", 0), |place| (place.file().rsplit(['/', '\\']).next().unwrap_or_default(), place.line()));
    let payload = panic.payload();
    let said = payload.downcast_ref::<&'static str>().copied().or_else(|| {
        // `called Result::unwrap() on an Err value: …`: the source's own words end with that colon.
        payload.downcast_ref::<String>().and_then(|said| said.split_once(": ")).map(|(said, _)| said)
    });
    let said = said.unwrap_or("(not shown)");
    tracing::error!(target: "keyholder::panic", place = %format_args!("{file}:{line}"), "panicked: {said}");
}

/// The metrics of this process: installs the recorder at the first call, and gives the handle that renders them.
///
/// Rendering, or `run_upkeep`, empties the buffers that histograms are recorded into: one of them must happen now and then.
///
/// # Errors
/// `Metrics` where a recorder of somebody else's is installed.
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(TelemetryError::Metrics)?;
    Ok(RECORDER.get_or_init(|| handle).clone())
}
