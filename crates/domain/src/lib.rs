//! The nouns and rules of Keyholder: ids, time, randomness, principals, providers, mandates, budgets, acts, problems.
//!
//! Everything here is pure: no sockets, no files, no database, no async. Other crates speak in these words.

pub mod act;
pub mod api_key;
pub mod audit;
pub mod blueprint;
pub mod budget;
pub mod claim;
pub mod clock;
pub mod connection;
pub mod document;
pub mod environment;
pub mod id;
pub mod jcs;
pub mod json;
pub mod kill_drill;
pub mod mandate;
pub mod object;
pub mod operator;
pub mod plan;
pub mod principal;
pub mod problem;
pub mod provider;
pub mod random;
pub mod retry;
pub mod role_template;
pub mod sabotage;
pub mod security_txt;
pub mod statement;
pub mod trust_page;
