//! The database, and the only crate that speaks SQL.
//!
//! There are five entrances and no other way to a connection: [`Tenant`] (one workspace, by a permit), [`Person`] (one
//! account's own rows), [`Lookup`] (a fixed list of questions asked before anybody is known), [`Loader`] (reads the facts of a
//! workspace) and [`Ledger`] (admits and settles acts). Each has a database role of its own that can do no more than that.
//!
//! One file a noun; every statement is known at build. Nothing here opens a credential.

pub mod act;
mod address;
pub mod api_key;
pub mod audit;
pub mod budget;
pub mod connection;
mod context;
pub mod credential;
pub mod data_key;
pub mod epoch;
mod error;
pub mod fga;
pub mod gate;
pub mod import;
pub mod installation;
pub mod job;
pub mod kill_drill;
pub mod ledger;
pub mod link;
mod loader;
pub mod login;
mod lookup;
pub mod mandate;
pub mod migrate;
pub mod object;
pub mod opener;
pub mod operator;
pub mod owner;
pub mod person;
pub mod plan;
mod pool;
pub mod provider_file;
pub mod relationship;
pub mod retired;
pub mod return_address;
pub mod role_template;
pub mod rotation;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod schema;
pub mod snapshot;
pub mod super_admin;
pub mod tally;
mod tenant;
pub mod trust;
pub mod trust_statement;
mod tuple;
pub mod workspace;

pub use address::{Address, AddressError, Transport, Way};
pub use context::{ContextKey, Pads};
pub use error::StoreError;
pub use ledger::Ledger;
pub use loader::Loader;
pub use lookup::{Called, Lookup, OpenedLink};
pub use opener::Opener;
pub use person::Person;
pub use pool::{Store, StoreOptions, Urls};
pub use role_template::TemplateKey;
pub use tenant::Tenant;
