//! The integration tests: one binary, so that one database cluster and one build serve them all.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test builds on fails by panicking, as the test does"
)]

mod acts;
mod api;
mod belongings;
mod blueprints;
mod breaker;
mod budgets;
mod cluster;
mod connect;
mod database_tls;
mod demo;
mod disconnect;
mod doctor;
mod explain;
mod faults;
mod fernet;
mod fga;
mod fga_clients;
mod gate;
mod harness;
mod hostile;
mod housekeeping;
mod isolation;
mod key_life;
mod kill_drill;
mod leak;
mod ledger;
mod ledger_faults;
mod ledger_model;
mod listener;
mod logins;
mod logs;
mod mandates;
mod matrices;
mod node;
mod nodes;
mod objects;
mod operating;
mod otlp;
mod packaging;
mod performance;
mod permissions;
mod permissions_test;
mod plans;
mod process;
mod prove;
mod provider_migrate;
mod proxy;
mod publisher;
mod refresh;
mod refresh_journal;
mod role_templates;
mod scrub;
mod sealed;
mod serve;
mod snapshots;
mod sqlx_data;
mod staff_access;
mod trust;
mod upgrade;
