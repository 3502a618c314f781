//! The sandbox from outside: over real TLS, in both versions of HTTP, as Keyholder and other people's tools meet it.

#[cfg(test)]
mod api;
#[cfg(test)]
mod oauth;
#[cfg(test)]
mod quirks;
#[cfg(test)]
mod support;
