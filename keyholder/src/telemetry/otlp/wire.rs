//! The messages of OTLP that a trace needs (opentelemetry-proto, `trace/v1/trace.proto` and `collector/trace/v1/trace_service.proto`),
//! as far as we fill them.
//!
//! Turns ended spans into one request's bytes. Decodes nothing.

use prost::{Message, Oneof};

use crate::telemetry::{line::Shown, span};

/// `SPAN_KIND_SERVER`
const SERVER: i32 = 2;
/// `SPAN_KIND_INTERNAL`
const INTERNAL: i32 = 1;
/// `STATUS_CODE_ERROR`
const ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Event>,
    #[prost(uint32, tag = "12")]
    dropped_events_count: u32,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(int64, tag = "3")]
    Whole(i64),
    #[prost(double, tag = "4")]
    Number(f64),
}

/// The body of one `ExportTraceServiceRequest`. `about` says what the process is.
pub(super) fn encode(about: &[(&str, String)], spans: Vec<span::Span>) -> Vec<u8> {
    let attributes = about.iter().map(|(key, text)| pair(key, Value::Text(text.clone()))).collect();
    let version = about.iter().find(|(key, _)| *key == "service.version").map(|(_, text)| text.clone());
    let scope = Scope { name: "keyholder".to_owned(), version: version.unwrap_or_default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(Span::from).collect() }];
    let resource_spans = vec![ResourceSpans { resource: Some(Resource { attributes }), scope_spans }];
    Request { resource_spans }.encode_to_vec()
}

impl From<span::Span> for Span {
    fn from(span: span::Span) -> Self {
        Self {
            trace: span.trace.to_vec(),
            id: span.id.to_vec(),
            parent: span.parent.map(|id| id.to_vec()).unwrap_or_default(),
            name: span.name.to_owned(),
            kind: if span.parent.is_none() { SERVER } else { INTERNAL },
            start_time_unix_nano: span.began_ns,
            end_time_unix_nano: span.ended_ns,
            attributes: pairs(span.attributes),
            events: span.moments.into_iter().map(Event::from).collect(),
            dropped_events_count: span.moments_dropped,
            status: span.failed.then_some(Status { code: ERROR }),
        }
    }
}

impl From<span::Moment> for Event {
    fn from(moment: span::Moment) -> Self {
        Self { time_unix_nano: moment.at_ns, name: moment.name, attributes: pairs(moment.attributes) }
    }
}

fn pairs(attributes: Vec<(&'static str, Shown)>) -> Vec<KeyValue> {
    attributes.into_iter().map(|(name, shown)| pair(name, value(shown))).collect()
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// A bare value is a number or a truth value as JSON writes it.
fn value(shown: Shown) -> Value {
    match shown {
        Shown::Text(text) => Value::Text(text.into_owned()),
        Shown::Bare(text) => match (text.parse(), text.parse(), text.parse()) {
            (Ok(truth), ..) => Value::Truth(truth),
            (_, Ok(whole), _) => Value::Whole(whole),
            (.., Ok(number)) => Value::Number(number),
            _ => Value::Text(text),
        },
    }
}
