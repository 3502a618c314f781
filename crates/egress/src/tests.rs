//! Tests that need a listener or the whole crate: the wire, the walls, the scrub.

mod echo;
mod peer;
mod scrub;
mod ssrf;
mod wire;
