//! The only crate that opens outbound sockets: which hosts and addresses may be called, how, and what of an answer may
//! be shown.
//!
//! Three walls stand one behind the other. A call's host must be declared by the provider and sealed with the credential
//! ([`HostSet`]); every address it resolves to must be public ([`address`]); and the peer must prove the name over TLS.
//! Nothing here follows a redirect, reads a proxy setting, keeps a cookie or repeats a request of which a byte has left.
//! An answer comes back as a [`RawAnswer`], and only [`RawAnswer::scrub`] makes of it a [`Clean`] that may be shown.
//!
//! HTTP/1.1 only, and on purpose: one request at a time on a connection is what lets the gate under it say, exactly,
//! whether the first byte of a request has left, and check its `send_by` at that very moment.

pub mod address;
pub mod breaker;
mod call;
mod connector;
mod gate;
mod host;
mod phase;
mod pool;
mod resolve;
#[cfg(feature = "sabotage")]
mod sabotage;
mod scrub;
mod sender;
#[cfg(test)]
mod tests;
mod wipe;

pub use call::{Auth, Fault, OutboundCall, RawAnswer, SendError, Stage};
pub use connector::{Resolver, SandboxRoute};
pub use host::{Host, HostError, HostSet};
pub use phase::Phases;
pub use scrub::{Clean, MARK, ScrubStream, Scrubber};
pub use sender::{Egress, EgressError, Policy};
