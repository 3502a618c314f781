//! The layer that turns events into lines, and hands spans on to whoever collects traces.
//!
//! Owns what a span's fields become: they are cleaned once, when they are recorded, and every line within the span shows
//! them. Holds no lock while it formats: a `Display` that logs must not wait for itself.

use std::sync::Arc;

use domain::clock::Clock;
use guard::Cleaner;
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{
    Format,
    line::{Collector, Fields, Washing, render},
    outlet::Outlets,
    span::Spans,
};

pub(super) struct LogLayer {
    washing: Washing,
    format: Format,
    clock: Clock,
    outlets: Arc<Outlets>,
    spans: Spans,
}

impl LogLayer {
    pub(super) fn new(cleaner: Cleaner, format: Format, clock: Clock, outlets: Arc<Outlets>, spans: Spans) -> Self {
        Self { washing: Washing::Clean(cleaner), format, clock, outlets, spans }
    }

    /// The same layer without its cleaner, to see what the cleaner keeps out.
    #[cfg(test)]
    pub(super) fn unwashed(format: Format, clock: Clock, outlets: Arc<Outlets>) -> Self {
        Self { washing: Washing::Off, format, clock, outlets, spans: Spans::default() }
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut Collector { washing: &self.washing, fields: &mut fields });
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
            self.spans.begins(&span);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut more = Fields::default();
        values.record(&mut Collector { washing: &self.washing, fields: &mut more });
        if let Some(span) = context.span(id) {
            self.spans.records(&span, &more);
            if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
                fields.append(more);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut Collector { washing: &self.washing, fields: &mut fields });
        let mut around = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                around.extend(fields);
            }
        }
        let metadata = event.metadata();
        self.spans.hears(context.event_span(event), metadata, &fields);
        let line = render(self.format, self.clock.now(), *metadata.level(), metadata.target(), fields, &around);
        self.outlets.write(&line);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(span) = context.span(&id) {
            self.spans.ends(&span);
        }
    }
}
