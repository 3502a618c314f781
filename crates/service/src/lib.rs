//! The use cases. [`gateway`] is the corridor that every act walks; what stands beside it has a file of its own, by its noun.
//!
//! A verb here takes the principal, asks for the permit, and speaks to `store` and `egress`. It knows nothing of HTTP.

pub mod act;
pub mod api_key;
mod app;
pub mod audit;
pub mod budget;
mod chain;
pub mod connect;
pub mod connection;
mod custody;
pub mod epoch;
pub mod fga;
pub mod gateway;
mod gauge;
mod health;
pub mod identify;
pub mod import;
pub mod installation;
pub mod jobs;
mod kept;
pub mod kill_drill;
pub mod ledger;
mod limits;
pub mod mandate;
mod oauth;
pub mod object;
pub mod operator;
pub mod permission;
pub mod plan;
pub mod provider_migration;
mod providers;
mod refresh;
mod refusal;
pub mod relationship;
mod retired;
pub mod role_template;
pub mod rotation;
pub mod step;
pub mod tasks;
pub mod trust;
mod watch;
pub mod workspace;

pub use app::{App, AppOptions};
pub use health::HealthOptions;
pub use limits::{Headroom, LimitOptions};
pub use providers::{Client, Providers, ProvidersError, Sandbox};
pub use refresh::Spills;
pub use refusal::{Refusal, UpstreamFault};
pub use relation::{Action, action};
pub use store::{
    api_key::{Listed, Role},
    audit::Entry,
    budget::Standing,
    kill_drill::Progress,
    object::Wanted,
};
