//! The API under `/v1`, one file a noun. A handler takes typed input, calls one verb, and renders.

pub(crate) mod acts;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod budgets;
pub(crate) mod connect_links;
pub(crate) mod connections;
pub(crate) mod health;
pub(crate) mod kill_drills;
pub(crate) mod mandates;
pub(crate) mod objects;
pub(crate) mod permissions;
pub(crate) mod plans;
pub(crate) mod providers;
pub(crate) mod proxy;
pub(crate) mod relationships;
pub(crate) mod role_templates;
pub(crate) mod trust_statements;
pub(crate) mod workspace;

/// A principal's reference as callers name it: an API key by its id alone.
pub(crate) fn grantee(reference: &str) -> String {
    reference.strip_prefix("api_key:").unwrap_or(reference).to_owned()
}
