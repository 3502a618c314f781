//! Migrations, group roles and logins: what the owner does, and a serving process cannot.
//!
//! SQL text is put together at run time here and in `owner`, and nowhere else: from names that are checked and verifiers that are
//! made here. No serving process calls either.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    environment::Environment,
    id::{Id, NodeId},
    random,
};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::types::PgInterval,
};
use std::collections::BTreeSet;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

pub use crate::schema::newest;
use crate::{
    Address, ContextKey,
    login::MADE,
    schema::{self, MIGRATIONS, kept_word},
    trust::Distrust,
};

/// The groups that hold the privileges of the logins that serve.
pub const GROUPS: [&str; 4] = ["app", "ledger", "lookup", "loader"];

/// The first schema in which nodes report themselves.
const NODES_REPORT: i64 = 5;
/// A node that was seen within so long runs.
const REPORTING: PgInterval = PgInterval { months: 0, days: 0, microseconds: 30_000_000 };
/// How long a step waits for a lock.
const LOCK_WITHIN: &str = "10s";
/// The iterations of SCRAM-SHA-256 that PostgreSQL itself uses (RFC 7677 asks for at least as many).
const SCRAM_ITERATIONS: u32 = 4096;

/// Why a database could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The name would not be one as an identifier.
    #[error("an installation's name is 1 to 24 of a-z, 0-9 and _, and begins with a letter")]
    Name,
    /// A migration failed, or the one that was run is not the one that is here.
    #[error("a migration failed")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The login may not do what the owner must.
    #[error(
        "the owner's login lacks a right: it must own the database, or be allowed to create in it, and have CREATEROLE"
    )]
    Rights(#[source] sqlx::Error),
    /// A newer binary was here.
    #[error(
        "the schema has version {found}, newer than this binary's {newest}: only a binary of at least {found} migrates it"
    )]
    Newer {
        /// The schema's version.
        found: i64,
        /// This binary's.
        newest: i64,
    },
    /// A step that these nodes would not survive.
    #[error(
        "nodes are running that the new schema would not let run: it wants binaries of at least {wanted}; stop them first, or wait half a minute after they have died: {nodes}"
    )]
    NodesTooOld {
        /// The oldest schema version whose binaries the new schema lets run.
        wanted: i64,
        /// The nodes, each with the schema version that it knows.
        nodes: String,
    },
    /// The database holds an installation of another environment or root key.
    #[error("the database belongs to another installation: {0}")]
    Foreign(&'static str),
    /// Two generations of logins are alive: the older must go before there is a third.
    #[error("two generations of logins are alive already ({0}): retire the older one first")]
    TwoAlive(String),
    /// Whoever answers at the owner's address is not taken for the database.
    #[error("the owner's login is not sent: {0}")]
    Untrusted(Distrust),
    /// The database does not answer, or a statement failed.
    #[error("the database could not be prepared")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        if let Some(distrust) = Distrust::of(&error) {
            return Self::Untrusted(distrust);
        }
        // 42501: insufficient_privilege.
        match &error {
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some("42501") => Self::Rights(error),
            _ => Self::Database(error),
        }
    }
}

/// Who the database is prepared for.
pub struct Installation<'a> {
    /// The name with which its roles begin.
    pub name: &'a str,
    /// Its environment.
    pub environment: Environment,
    /// The key that signs contexts.
    pub context_key: ContextKey,
    /// The value that only the right root key gives.
    pub root_check: [u8; 32],
}

/// A login that was just made. The password is known here alone: the server has a verifier.
pub struct Login {
    /// `app`, `ledger`, `lookup` or `loader`.
    pub group: &'static str,
    /// The login's name.
    pub name: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

/// Brings the schema to this binary's version. Returns the versions before and after.
///
/// # Errors
/// `Newer` where a newer binary was here, `NodesTooOld` where a node runs that would not survive: nothing is changed. `Rights`, `Foreign`, `Migration`: nothing of the failed migration stays.
pub async fn migrate(owner: &Address, installation: &Installation<'_>) -> Result<(i64, i64), MigrateError> {
    let name = checked(installation.name)?;
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    for group in ["owner"].iter().chain(&GROUPS) {
        create_role(&mut sql, &format!("create role {name}_{group} nologin")).await?;
    }
    run(&mut sql, format!("grant {name}_owner to current_user")).await?;
    let database =
        sqlx::query_scalar!("select quote_ident(current_database()) as \"name!\"").fetch_one(&mut sql).await?;
    run(&mut sql, format!("grant create, connect on database {database} to {name}_owner")).await?;
    run(&mut sql, format!("set role {name}_owner")).await?;
    run(&mut sql, "create schema if not exists keyholder".to_owned()).await?;
    run(&mut sql, "set search_path = keyholder".to_owned()).await?;
    let before = version(&mut sql).await?;
    if before > newest() {
        return Err(MigrateError::Newer { found: before, newest: newest() });
    }
    if before > 0 {
        recognise(&mut sql, installation).await?;
    }
    spare_running_nodes(&mut sql, before).await?;
    // A step waits for no long statement, behind which everybody else would queue up in turn.
    run(&mut sql, format!("set lock_timeout = '{LOCK_WITHIN}'")).await?;
    Migrator::with_migrations(rendered(name)).run(&mut sql).await.map_err(MigrateError::Migration)?;
    record(&mut sql, installation).await?;
    let after = version(&mut sql).await?;
    sql.close().await?;
    Ok((before, after))
}

/// Refuses a contract step while nodes report themselves whose binaries may not run on the schema that it makes. A server that has just
/// started heard nobody lately, so whoever is on its list counts.
async fn spare_running_nodes(sql: &mut PgConnection, before: i64) -> Result<(), MigrateError> {
    let wanted = schema::lets_run_from();
    if before < NODES_REPORT || before >= wanted {
        return Ok(());
    }
    // Before nodes stated what they know, none could run on a schema older than its own.
    let stated = if before < schema::NODES_STATE_THEIRS {
        sqlx::query!(
            "select node_id, $2::bigint as \"schema!\" from nodes \
             where seen_at > clock_timestamp() - $1::interval or pg_postmaster_start_time() > clock_timestamp() - $1::interval",
            REPORTING,
            before
        )
        .map(|row| (row.node_id, row.schema))
        .fetch_all(sql)
        .await?
    } else {
        sqlx::query!(
            "select node_id, coalesce(schema_version, $2::bigint) as \"schema!\" from nodes \
             where seen_at > clock_timestamp() - $1::interval or pg_postmaster_start_time() > clock_timestamp() - $1::interval",
            REPORTING,
            schema::NODES_STATE_THEIRS - 1
        )
        .map(|row| (row.node_id, row.schema))
        .fetch_all(sql)
        .await?
    };
    let older: Vec<_> = stated
        .into_iter()
        .filter(|(_, schema)| *schema < wanted)
        .map(|(node, schema)| format!("{} (of {schema})", NodeId::from_uuid(node)))
        .collect();
    if older.is_empty() { Ok(()) } else { Err(MigrateError::NodesTooOld { wanted, nodes: older.join(", ") }) }
}

fn rendered(name: &str) -> Vec<Migration> {
    MIGRATIONS
        .iter()
        .map(|migration| {
            let (version, description, text) = migration;
            let mut text = ["owner"].iter().chain(&GROUPS).fold((*text).to_owned(), |text, group| {
                text.replace(&format!("{{{{{group}}}}}"), &format!("{name}_{group}"))
            });
            text.extend(kept_word(migration));
            Migration::new(
                *version,
                (*description).into(),
                MigrationType::Simple,
                AssertSqlSafe(text).into_sql_str(),
                false,
            )
        })
        .collect()
}

async fn version(sql: &mut PgConnection) -> Result<i64, MigrateError> {
    let there = sqlx::query_scalar!("select to_regclass('keyholder._sqlx_migrations') is not null as \"there!\"")
        .fetch_one(&mut *sql)
        .await?;
    if !there {
        return Ok(0);
    }
    Ok(sqlx::query_scalar!("select max(version) from _sqlx_migrations where success")
        .fetch_one(sql)
        .await?
        .unwrap_or(0))
}

/// Turns away the database of another installation, before anything in it is changed. Says whether it is anybody's yet.
async fn recognise(sql: &mut PgConnection, installation: &Installation<'_>) -> Result<bool, MigrateError> {
    let found = sqlx::query!("select environment, root_check from installation").fetch_optional(sql).await?;
    match found {
        Some(found) if found.environment != installation.environment.as_str() => {
            Err(MigrateError::Foreign("its environment is another"))
        }
        Some(found) if found.root_check != installation.root_check => {
            Err(MigrateError::Foreign("it was made under another root key"))
        }
        found => Ok(found.is_some()),
    }
}

/// Writes what the database is, once.
async fn record(sql: &mut PgConnection, installation: &Installation<'_>) -> Result<(), MigrateError> {
    if !recognise(&mut *sql, installation).await? {
        sqlx::query!(
            "insert into installation (environment, root_check) values ($1, $2)",
            installation.environment.as_str(),
            installation.root_check.as_slice()
        )
        .execute(&mut *sql)
        .await?;
    }
    let pads = installation.context_key.pads();
    sqlx::query!(
        "insert into context_keys (id, inner_pad, outer_pad) values (1, $1, $2) on conflict (id) do nothing",
        pads.inner.as_slice(),
        pads.outer.as_slice()
    )
    .execute(&mut *sql)
    .await?;
    sqlx::query!(
        "insert into heads (kind, id) values ('installation', '00000000-0000-0000-0000-000000000000') on conflict do nothing"
    )
    .execute(sql)
    .await?;
    Ok(())
}

/// What became of the logins that a newer generation has replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Gone.
    pub dropped: Vec<String>,
    /// Still used, by so many sessions: left as they are.
    pub in_use: Vec<(String, i64)>,
    /// The newest generation, which is never dropped.
    pub kept: Vec<String>,
}

/// Makes the next generation of logins, one a group. Those that are there stay: a rotation has two alive.
///
/// # Errors
/// `Rights`.
pub async fn create_logins(owner: &Address, installation: &str) -> Result<Vec<Login>, MigrateError> {
    let installation = checked(installation)?;
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let newest = generations(&mut sql, installation).await?.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let made = sqlx::query_scalar!("select clock_timestamp() as \"now!\"").fetch_one(&mut sql).await?;
    let made = made.replace_nanosecond(0).unwrap_or(made).format(&Rfc3339).unwrap_or_default();
    let mut logins = Vec::new();
    for group in GROUPS {
        let name = format!("{installation}_{group}_{}", newest + 1);
        let password = Zeroizing::new(random::token());
        let verifier = scram_verifier(&password);
        run(&mut sql, format!("create role {name} login password '{verifier}' in role {installation}_{group}")).await?;
        // The server does not keep when a role was made; that it is overdue is told from here.
        run(&mut sql, format!("comment on role {name} is '{MADE}{made}'")).await?;
        logins.push(Login { group, name, password });
    }
    sql.close().await?;
    Ok(logins)
}

/// Begins a rotation: makes the next generation of logins beside the one in use.
///
/// # Errors
/// `TwoAlive` where a rotation is under way already; `Rights`.
pub async fn rotate_logins(owner: &Address, installation: &str) -> Result<Vec<Login>, MigrateError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let alive: BTreeSet<i32> =
        generations(&mut sql, checked(installation)?).await?.into_iter().map(|(number, _)| number).collect();
    sql.close().await?;
    if alive.len() > 1 {
        return Err(MigrateError::TwoAlive(alive.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
    }
    create_logins(owner, installation).await
}

/// Ends a rotation: drops the logins of every generation but the newest that no session uses.
///
/// A login is first closed to new sessions and then looked at again, so that none slips in before it goes.
///
/// # Errors
/// `Rights`.
pub async fn retire_logins(owner: &Address, installation: &str) -> Result<Retired, MigrateError> {
    let installation = checked(installation)?;
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let logins = generations(&mut sql, installation).await?;
    let newest = logins.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let mut retired = Retired::default();
    for (number, name) in logins {
        if number == newest {
            retired.kept.push(name);
            continue;
        }
        let mut sessions = sessions(&mut sql, &name).await?;
        if sessions == 0 {
            run(&mut sql, format!("alter role {name} nologin")).await?;
            sessions = self::sessions(&mut sql, &name).await?;
            if sessions == 0 {
                run(&mut sql, format!("drop role {name}")).await?;
                retired.dropped.push(name);
                continue;
            }
            run(&mut sql, format!("alter role {name} login")).await?;
        }
        retired.in_use.push((name, sessions));
    }
    sql.close().await?;
    Ok(retired)
}

/// Drops logins that were made a moment ago and are of no use to anybody.
///
/// # Errors
/// `Rights`.
pub async fn drop_logins(owner: &Address, made: &[Login]) -> Result<(), MigrateError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    for login in made {
        run(&mut sql, format!("drop role if exists {}", login.name)).await?;
    }
    sql.close().await?;
    Ok(())
}

/// Every login that was made for an installation, with its generation. One that a broken-off retirement left without the right to
/// log in is among them.
async fn generations(sql: &mut PgConnection, installation: &str) -> Result<Vec<(i32, String)>, MigrateError> {
    let pattern = format!("^{installation}_(app|ledger|lookup|loader)_([0-9]{{1,8}})$");
    let rows = sqlx::query!(
        "select substring(rolname from '[0-9]+$')::integer as \"number!\", rolname::text as \"name!\" from pg_roles \
         where rolname ~ $1 order by 1, 2",
        pattern
    )
    .fetch_all(sql)
    .await?;
    Ok(rows.into_iter().map(|row| (row.number, row.name)).collect())
}

/// How many sessions a login has, in whichever database of the cluster.
async fn sessions(sql: &mut PgConnection, login: &str) -> Result<i64, MigrateError> {
    let count =
        sqlx::query_scalar!("select count(*) as \"count!\" from pg_stat_activity where usename::text = $1", login);
    Ok(count.fetch_one(sql).await?)
}

/// The verifier of a password as PostgreSQL stores it (RFC 5802 §3), so that no statement ever carries the password.
fn scram_verifier(password: &str) -> String {
    let salt = random::bytes::<16>();
    let mut salted = Zeroizing::new([0_u8; 32]);
    let iterations = std::num::NonZeroU32::new(SCRAM_ITERATIONS).unwrap_or(std::num::NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), salted.as_mut_slice());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    format!(
        "SCRAM-SHA-256${SCRAM_ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

async fn create_role(sql: &mut PgConnection, statement: &str) -> Result<(), MigrateError> {
    match run(sql, statement.to_owned()).await {
        // 42710: duplicate_object. Roles belong to the cluster, and outlive a database.
        Err(MigrateError::Database(sqlx::Error::Database(cause))) if cause.code().as_deref() == Some("42710") => Ok(()),
        result => result,
    }
}

async fn run(sql: &mut PgConnection, statement: String) -> Result<(), MigrateError> {
    sql.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
    Ok(())
}

fn checked(name: &str) -> Result<&str, MigrateError> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if first && name.len() <= 24 && name.bytes().all(legal) { Ok(name) } else { Err(MigrateError::Name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        for name in ["", "Keyholder", "1st", "a-b", "a b", "a\"b", "abcdefghijklmnopqrstuvwxyz"] {
            assert!(checked(name).is_err(), "{name}");
        }
        assert!(checked("keyholder_2").is_ok());
    }

    #[test]
    fn no_placeholder_survives() {
        for migration in rendered("kh") {
            assert!(!migration.sql.as_str().contains("{{"), "{}", migration.description);
        }
    }
}
