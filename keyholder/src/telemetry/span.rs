//! Spans, for whoever collects traces: when each began and ended, which steps it passed, what went wrong in it.
//!
//! Owns what a span becomes. All that it shows are [`Shown`] values, which were cleaned as those of a log line are. It costs a look at one
//! cell where nobody collects, waits for nobody, and reads no id from a caller: a trace begins here.

use std::sync::{Arc, OnceLock};

use domain::{clock::Clock, random};
use tokio::sync::mpsc;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::line::{Fields, Shown};

/// The most moments of a span that are told.
const MOMENTS: usize = 64;
/// The field that names a step.
const STEP: &str = "step";
/// From this status on a request has failed by our fault.
const SERVER_ERROR: u16 = 500;

/// Where ended spans go, once somebody collects them.
#[derive(Clone, Default)]
pub(super) struct Spans(Arc<OnceLock<Tap>>);

struct Tap {
    queue: mpsc::Sender<Span>,
    one_in: u64,
    clock: Clock,
}

/// A moment within a span.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) at_ns: u64,
    pub(super) name: String,
    pub(super) attributes: Vec<(&'static str, Shown)>,
}

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) name: &'static str,
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) attributes: Vec<(&'static str, Shown)>,
    pub(super) moments: Vec<Moment>,
    pub(super) moments_dropped: u32,
    pub(super) failed: bool,
}

/// A span that goes on.
struct Open {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    began_ns: u64,
    moments: Vec<Moment>,
    dropped: u32,
}

impl Open {
    fn passes(&mut self, moment: Moment) {
        if self.moments.len() < MOMENTS {
            self.moments.push(moment);
        } else {
            self.dropped += 1;
        }
    }
}

impl Spans {
    /// Lets ended spans go into this queue, of all traces one in so many. `false`: they go elsewhere already.
    pub(super) fn collect(&self, queue: mpsc::Sender<Span>, one_in: u32, clock: Clock) -> bool {
        self.0.set(Tap { queue, one_in: u64::from(one_in.max(1)), clock }).is_ok()
    }

    /// A span begins. It belongs to its parent's trace, or begins one, if this one is among those that are collected.
    pub(super) fn begins<S>(&self, span: &SpanRef<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let Some(tap) = self.0.get() else { return };
        let above = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| (open.trace, open.id))
        });
        let trace = match above {
            Some((trace, _)) => trace,
            // What lies under a span that is not collected is no trace of its own.
            None if span.parent().is_some() => return,
            None => {
                if !u64::from_be_bytes(random::bytes()).is_multiple_of(tap.one_in) {
                    return;
                }
                random::bytes()
            }
        };
        let open = Open {
            trace,
            id: random::bytes(),
            parent: above.map(|(_, id)| id),
            began_ns: now_ns(&tap.clock),
            moments: Vec::new(),
            dropped: 0,
        };
        span.extensions_mut().insert(open);
    }

    /// Something was recorded on a span; where it is a step, the span passes it now.
    pub(super) fn records<S>(&self, span: &SpanRef<'_, S>, recorded: &Fields)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let (Some(tap), Some(Shown::Text(step))) = (self.0.get(), recorded.get(STEP)) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            open.passes(Moment { at_ns: now_ns(&tap.clock), name: step.to_string(), attributes: Vec::new() });
        }
    }

    /// Something was said within a span. What is a warning or worse belongs to its trace.
    pub(super) fn hears<S>(&self, span: Option<SpanRef<'_, S>>, metadata: &Metadata<'_>, fields: &Fields)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let (Some(tap), Some(span)) = (self.0.get(), span) else { return };
        if *metadata.level() > Level::WARN {
            return;
        }
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            let name = match fields.get("message") {
                Some(Shown::Text(text)) => text.to_string(),
                Some(Shown::Bare(text)) => text.clone(),
                None => metadata.target().to_owned(),
            };
            let attributes = fields.all().filter(|(name, _)| *name != "message").collect();
            open.passes(Moment { at_ns: now_ns(&tap.clock), name, attributes });
        }
    }

    /// A span has ended. Where the queue is full it is dropped, and counted.
    pub(super) fn ends<S>(&self, span: &SpanRef<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let Some(tap) = self.0.get() else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let (attributes, status): (Vec<_>, _) = {
            let extensions = span.extensions();
            let fields = extensions.get::<Fields>();
            let all = fields.into_iter().flat_map(Fields::all).filter(|(name, _)| *name != STEP);
            (all.collect(), fields.and_then(|fields| fields.get("status").cloned()))
        };
        let failed =
            matches!(status, Some(Shown::Bare(status)) if status.parse().is_ok_and(|it: u16| it >= SERVER_ERROR));
        let Open { trace, id, parent, began_ns, moments, dropped: moments_dropped } = open;
        let (name, ended_ns) = (span.name(), now_ns(&tap.clock));
        let ended = Span { trace, id, parent, name, began_ns, ended_ns, attributes, moments, moments_dropped, failed };
        if tap.queue.try_send(ended).is_err() {
            metrics::counter!("keyholder_spans_total", "outcome" => "dropped").increment(1);
        }
    }
}

/// The hour in nanoseconds since 1970.
fn now_ns(clock: &Clock) -> u64 {
    u64::try_from(clock.now().unix_timestamp_nanos()).unwrap_or(0)
}
