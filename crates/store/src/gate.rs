//! The start-up gate: what must be true of a database before a process serves from it. Every fault is found, and named, at once.

use std::collections::BTreeSet;

use domain::environment::Environment;
use sqlx::PgPool;

use crate::{Lookup, Store, StoreError, migrate, schema::Accepted};

/// What this process expects of its database.
#[derive(Debug, Clone)]
pub struct Expectation<'a> {
    /// The installation's name, with which its roles begin.
    pub installation: &'a str,
    /// The environment that this process serves.
    pub environment: Environment,
    /// The value that this process's root key gives.
    pub root_check: [u8; 32],
}

/// Checks everything that must be true, by each login that serves.
///
/// # Errors
/// `Unavailable` where the database does not answer. What is wrong with a database that answers is the list.
pub async fn check(store: &Store, expected: &Expectation<'_>) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    for (role, pool) in store.pools() {
        check_role(pool, expected.installation, role, &mut faults).await?;
        // A role may have settings of its own: each login is asked what holds for it.
        check_server(pool, &mut faults).await?;
    }
    let mut said = BTreeSet::new();
    faults.retain(|fault| said.insert(fault.clone()));
    if faults.is_empty() {
        check_tables(&store.loader.pool, &mut faults).await?;
        check_installation(&store.lookup, expected, &mut faults).await?;
    }
    Ok(faults)
}

/// No login that serves is a superuser, an owner, CREATEROLE or BYPASSRLS, itself or through a membership; each has the one
/// group that its work needs, and none of the others'.
pub(crate) async fn check_role(
    pool: &PgPool,
    installation: &str,
    role: &str,
    faults: &mut Vec<String>,
) -> Result<(), StoreError> {
    let login = sqlx::query_scalar!("select current_user::text as \"name!\"").fetch_one(pool).await?;
    let powers = sqlx::query!(
        "select r.rolname::text as \"name!\", r.rolsuper as \"superuser!\", r.rolcreaterole as \"createrole!\", \
           r.rolbypassrls as \"bypassrls!\", \
           exists (select from pg_namespace n where n.nspname = 'keyholder' and n.nspowner = r.oid) \
             or exists (select from pg_database d where d.datname = current_database() and d.datdba = r.oid) as \"owner!\" \
         from pg_roles r where pg_has_role(current_user, r.oid, 'member')"
    )
    .fetch_all(pool)
    .await?;
    for power in &powers {
        let through =
            if power.name == login { String::new() } else { format!(" (through its membership in `{}`)", power.name) };
        for (has, what) in [
            (power.superuser, "is a superuser"),
            (power.createrole, "has CREATEROLE"),
            (power.bypassrls, "has BYPASSRLS"),
            (power.owner, "owns what it serves"),
        ] {
            if has {
                faults.push(format!("the {role} login `{login}` {what}{through}"));
            }
        }
    }
    for group in migrate::GROUPS {
        let name = format!("{installation}_{group}");
        let member = powers.iter().any(|power| power.name == name);
        if member != (group == role) {
            let verb = if member { "must not be" } else { "is not" };
            faults.push(format!("the {role} login `{login}` {verb} a member of `{name}`"));
        }
    }
    Ok(())
}

pub(crate) async fn check_server(pool: &PgPool, faults: &mut Vec<String>) -> Result<(), StoreError> {
    let version = sqlx::query_scalar!("select current_setting('server_version_num')::integer as \"version!\"")
        .fetch_one(pool)
        .await?;
    if version < 150_000 {
        faults.push(format!("PostgreSQL 15 or newer is needed; this server is version {version}"));
    }
    let settings = sqlx::query!(
        "select name as \"name!\", setting as \"setting!\" from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes')"
    )
    .fetch_all(pool)
    .await?;
    for row in settings.iter().filter(|row| row.setting == "off") {
        faults.push(format!("the server has `{}` off: a commit would not be durable", row.name));
    }
    Ok(())
}

async fn check_tables(pool: &PgPool, faults: &mut Vec<String>) -> Result<(), StoreError> {
    let bare = sqlx::query_scalar!(
        "select c.relname::text as \"name!\" from pg_class c where c.relnamespace = to_regnamespace('keyholder') \
         and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity) order by 1"
    )
    .fetch_all(pool)
    .await?;
    faults.extend(bare.into_iter().map(|name| format!("the table `{name}` has no forced row-level security")));
    Ok(())
}

/// Whether a database is this installation's, and its schema this binary's.
pub(crate) async fn check_installation(
    lookup: &Lookup,
    expected: &Expectation<'_>,
    faults: &mut Vec<String>,
) -> Result<(), StoreError> {
    let found = match lookup.installation().await {
        Ok(found) => found,
        Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
        Err(_) => {
            faults.push("the database has no Keyholder schema: run `keyholder migrate`".to_owned());
            return Ok(());
        }
    };
    if found.environment != expected.environment.as_str() {
        faults.push(format!(
            "the database is of the environment `{}`, this process of `{}`",
            found.environment, expected.environment
        ));
    }
    if found.root_check != expected.root_check {
        faults.push("the database was made under another root key".to_owned());
    }
    faults.extend(check_schema(lookup, found.schema_version).await?);
    Ok(())
}

/// Whether this binary may run on the schema. One that is newer is asked whom it lets run.
async fn check_schema(lookup: &Lookup, found: i64) -> Result<Option<String>, StoreError> {
    let accepted = Accepted::here();
    if found <= accepted.newest {
        return Ok(accepted.fault(found, found));
    }
    let fault = accepted.fault(found, lookup.compatible_from().await?);
    if fault.is_none() {
        tracing::info!(
            schema = found,
            binary = accepted.newest,
            "the schema is newer than this binary, and lets it run"
        );
    }
    Ok(fault)
}
