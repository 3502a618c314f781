//! HTTP: one table of routes, the guard in front of it, and the form of every answer.
//!
//! A handler parses, calls one verb of `service`, and renders. Nothing here opens a credential, asks the database, or decides what
//! is allowed.

mod answer;
mod api;
mod body;
mod edge;
mod fga;
mod guard;
mod headers;
mod input;
pub mod openapi;
mod pages;
mod problem;
mod ratelimit;
mod route;
pub mod routes;
mod sample;
mod serve;

pub use body::MOST_BYTES;
pub use edge::{EdgeOptions, ForwardedHeader, Host, METHODS, Origin, Proxy, router};
pub use guard::{Caller, Peer};
pub use input::Takes;
pub use problem::{PROBLEM_JSON, Problem};
pub use route::{Guard, ObjectFrom, Record, Route, Verb};
pub use sample::{Filled, PLACEHOLDERS, Sample, SampleBody};
pub use serve::{
    Certificates, Door, Listen, Listener, Server, ServerError, ServerOptions, TlsError, TlsFiles, metrics_router,
    refuse_clear,
};
