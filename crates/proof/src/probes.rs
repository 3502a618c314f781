//! The probes, one file a noun. A probe that is not in the list does not exist; a claim that names one that does not exist fails a test.

mod api_keys;
mod at_rest;
mod bodies;
mod concealment;
mod connecting;
mod dependency;
mod disconnection;
mod errors;
mod facts;
mod faults;
mod functions;
mod headers;
mod history;
mod honest_list;
mod house_model;
mod input;
mod jobs;
mod leaks;
mod limits;
mod log;
mod logins;
mod memory;
mod organisations;
mod origins;
mod pages;
mod permits;
mod plans;
mod queries;
mod relation_bounds;
mod relation_stores;
mod routes;
mod seals;
mod settings;
mod shredding;
mod sql;
mod start;
mod super_admins;
mod templates;
mod tenants;
mod transport;
mod trust;
mod upstream;

use crate::probe::Probe;

/// All probes.
pub const PROBES: &[Probe] = &[
    facts::RELATION_TUPLES,
    facts::REVOCATION_ACROSS_NODES,
    functions::DEFINER_FUNCTIONS,
    jobs::GUARDED_JOBS,
    logins::LEAST_PRIVILEGE_ROLES,
    logins::LOGIN_ROTATION,
    concealment::CONCEALED_EXPLANATIONS,
    house_model::HOUSE_MODEL,
    organisations::OBJECT_CASCADE,
    organisations::TENANT_KEYS,
    permits::STALE_PERMITS,
    plans::PLAN_FEATURES,
    queries::SCOPED_QUERIES,
    relation_bounds::RELATION_BOUNDS,
    relation_stores::RELATION_STORES,
    routes::AUDITED_ROUTES,
    routes::ROUTE_GUARDS,
    super_admins::SUPER_ADMINS,
    templates::ROLE_TEMPLATES,
    tenants::ISOLATION_BATTERY,
    tenants::ROW_LEVEL_SECURITY,
    errors::OPAQUE_ERRORS,
    headers::SECURITY_HEADERS,
    bodies::BODY_NOT_JSON,
    input::STRICT_INPUT,
    limits::BURST_AND_QUOTA,
    limits::LIMIT_HEADERS,
    log::MASKED_LOGS,
    log::NO_CONTENT_IN_LOGS,
    dependency::PINNED_DEPENDENCIES,
    history::NO_SECRET_IN_HISTORY,
    shredding::WORKSPACE_GONE,
    sql::STATIC_SQL,
    log::REDACTED_LOGS,
    origins::FOREIGN_ORIGINS,
    origins::ORIGINS_FIXED,
    pages::ESCAPED_PAGES,
    pages::NO_SECRET_IN_BROWSER,
    settings::SETTINGS_AT_START,
    start::ENVIRONMENTS_APART,
    start::ROOT_KEY_NEEDED,
    transport::CLEAR_TEXT,
    transport::TLS_LISTENER,
    trust::CERTIFICATES_NAMED,
    trust::DATABASE_VERSION,
    honest_list::HONEST_LIST,
    trust::REVIEW_DATE,
    trust::SECURITY_TXT,
    upstream::UPSTREAM_TLS,
    api_keys::HASHED_KEYS,
    api_keys::KEY_BUDGETS,
    api_keys::KEY_SHOWN_ONCE,
    at_rest::FERNET_AT_REST,
    at_rest::SEALED_AT_REST,
    at_rest::SEALED_ON_RECEIPT,
    at_rest::STOLEN_DATABASE,
    connecting::PKCE_CONNECT,
    connecting::SCOPES_ASKED,
    disconnection::DISCONNECT,
    leaks::CREDENTIAL_NOWHERE,
    leaks::PLATFORM_SECRETS_OUTSIDE,
    leaks::ROOT_KEY_OUTSIDE,
    memory::OPENED_FOR_ONE_CALL,
    seals::BOUND_SEALS,
];

/// The probe of a name.
pub(crate) fn named(name: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|probe| probe.name == name)
}
