//! The start-up gate: what must be true of a database before a process serves from it. Every fault is found, and named, at once.

use std::collections::BTreeSet;

use domain::environment::Environment;
use sqlx::PgPool;
use time::Duration;

use crate::{
    Lookup, Store, StoreError,
    address::{self, Way},
    migrate,
    schema::Accepted,
    trust::Distrust,
};

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

/// What a fault is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// How a login's connection travels, and to whom.
    Transport,
    /// What a login can do.
    Login,
    /// The server and its settings.
    Server,
    /// The tables' protection.
    Tables,
    /// Whose database it is, and its schema.
    Installation,
}

impl Subject {
    /// Every subject, in the order in which they are looked at.
    pub const ALL: [Self; 5] = [Self::Transport, Self::Login, Self::Server, Self::Tables, Self::Installation];
}

/// Checks everything that must be true, by each login that serves.
///
/// # Errors
/// `Unavailable` where the database does not answer. What is wrong with a database that answers is the list.
pub async fn check(store: &Store, expected: &Expectation<'_>) -> Result<Vec<String>, StoreError> {
    Ok(examine(store, expected).await?.into_iter().map(|(_, fault)| fault).collect())
}

/// The same, each fault with what it is of. Tables and installation are looked at only where the rest is as it must be.
///
/// # Errors
/// As [`check`].
pub async fn examine(store: &Store, expected: &Expectation<'_>) -> Result<Vec<(Subject, String)>, StoreError> {
    let mut found = Vec::new();
    let mut add = |subject, faults: Vec<String>| found.extend(faults.into_iter().map(|fault| (subject, fault)));
    for (role, pool) in store.pools() {
        let transport = check_transport(pool, role).await?;
        if let Transported::NotAtAll(fault) = transport {
            // The others' server is the same, and would say the same.
            return Ok(vec![(Subject::Transport, fault)]);
        }
        add(Subject::Transport, transport.fault().into_iter().collect());
        let (mut powers, mut settings) = (Vec::new(), Vec::new());
        check_role(pool, expected.installation, role, &mut powers).await?;
        // A role may have settings of its own: each login is asked what holds for it.
        check_server(pool, &mut settings).await?;
        add(Subject::Login, powers);
        add(Subject::Server, settings);
    }
    let mut said = BTreeSet::new();
    found.retain(|(_, fault)| said.insert(fault.clone()));
    if found.is_empty() {
        let (mut tables, mut installation) = (Vec::new(), Vec::new());
        check_tables(&store.loader.pool, &mut tables).await?;
        check_installation(&store.lookup, expected, &mut installation).await?;
        found.extend(tables.into_iter().map(|fault| (Subject::Tables, fault)));
        found.extend(installation.into_iter().map(|fault| (Subject::Installation, fault)));
    }
    Ok(found)
}

/// How far the database's hour is ahead of this machine's, as exactly as the answer's way allows.
///
/// # Errors
/// `Unavailable`.
pub async fn clock_offset(store: &Store) -> Result<Duration, StoreError> {
    let before = store.clock.now();
    let there = sqlx::query_scalar!("select clock_timestamp() as \"now!\"").fetch_one(&store.loader.pool).await?;
    Ok(there - (before + (store.clock.now() - before) / 2))
}

/// How many bytes the database takes on its server's disk. How many are left there no login may ask.
///
/// # Errors
/// `Unavailable`.
pub async fn database_bytes(store: &Store) -> Result<i64, StoreError> {
    let size = sqlx::query_scalar!("select pg_database_size(current_database()) as \"size!\"");
    Ok(size.fetch_one(&store.loader.pool).await?)
}

/// What became of a login's connection on its way.
pub(crate) enum Transported {
    /// It arrived as it must.
    Well,
    /// It arrived, and somebody could have read it.
    Openly(String),
    /// It was not made, since whoever answered is not taken for the database.
    NotAtAll(String),
}

impl Transported {
    pub(crate) fn fault(self) -> Option<String> {
        match self {
            Self::Well => None,
            Self::Openly(fault) | Self::NotAtAll(fault) => Some(fault),
        }
    }
}

/// A login's connection arrives over TLS or a Unix socket, as the **server** sees it: a pooler or a tunnel in between may pass on in the
/// clear what it got over TLS. In the clear it may come from the loopback address alone, where the configuration says so.
pub(crate) async fn check_transport(pool: &PgPool, role: &str) -> Result<Transported, StoreError> {
    let seen = sqlx::query!(
        "select current_user::text as \"login!\", inet_client_addr() is not null as \"network!\", \
           coalesce((select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()), false) as \"tls!\""
    );
    let seen = match seen.fetch_one(pool).await {
        Ok(seen) => seen,
        Err(error) => {
            let distrust = Distrust::of(&error);
            let fault = distrust.map(|why| Transported::NotAtAll(format!("the {role} login is not sent: {why}")));
            return fault.ok_or_else(|| error.into());
        }
    };
    if !seen.network || seen.tls || address::way(&pool.connect_options()) == Way::Loopback {
        return Ok(Transported::Well);
    }
    let login = seen.login;
    Ok(Transported::Openly(format!("the {role} login `{login}` reaches the server over a network without TLS")))
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
    if found.environment != expected.environment.as_str() && !domain::sabotaged!(ForeignDatabases) {
        faults.push(format!(
            "the database is of the environment `{}`, this process of `{}`",
            found.environment, expected.environment
        ));
    }
    if found.root_check != expected.root_check {
        faults.push("the database was made under another root key".to_owned());
    }
    faults.extend(check_schema(lookup, found.schema_version).await?);
    if found.schema_version > Accepted::here().newest {
        tracing::info!(schema = found.schema_version, "the schema is newer than this binary");
    }
    Ok(())
}

/// Why this binary may not go on: a contract step came after it had started.
///
/// # Errors
/// `Unavailable`.
pub async fn schema_fault(store: &Store) -> Result<Option<String>, StoreError> {
    let found = store.lookup.installation().await?.schema_version;
    check_schema(&store.lookup, found).await
}

/// Whether this binary may run on the schema. One that is newer is asked whom it lets run.
async fn check_schema(lookup: &Lookup, found: i64) -> Result<Option<String>, StoreError> {
    let accepted = Accepted::here();
    if found <= accepted.newest {
        return Ok(accepted.fault(found, found));
    }
    Ok(accepted.fault(found, lookup.compatible_from().await?))
}
