//! Doubles of the platforms, with their real quirks, for demonstrations and tests.
//!
//! Today there is one: X's OAuth 2.0 and API v2, and beside it a generic account API, spoken over TLS on the loopback
//! address under a certificate authority that is thrown away. A platform does not know Keyholder: this crate depends on
//! nothing of it, keeps its own hour and its own tasks, and must never be started by a server that holds customers' accounts.
//!
//! Recipe: [`Sandbox::start`], hand [`Sandbox::addr`] and [`Sandbox::ca_der`] to whoever shall reach it,
//! [`Platform::register`] the client, let [`Platform::approve`] play the account's owner, and ask the [`Platform`] what it
//! saw. [`Platform::switch`] makes it misbehave.

mod api;
mod certificate;
mod consent;
mod control;
mod grant;
mod gzip;
mod journal;
mod params;
mod platform;
mod post;
mod quirk;
mod registry;
mod sandbox;
mod stage;
mod token;
mod world;

pub use grant::{IssuedToken, SpentRule, TokenKind};
pub use journal::{Answered, Call, Outcome, Recorded};
pub use platform::{ApproveError, Platform, PostWitness};
pub use post::Post;
pub use quirk::{Armed, EchoForm, EchoPlace, INSIDE, Quirk, Route, Scope, SwitchError, Times};
pub use registry::{Account, Client, RegisterError};
pub use sandbox::{Sandbox, SandboxError, SandboxOptions};
