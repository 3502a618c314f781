//! What only an owner's login can do beside migrations: make a database, and look at every row of every table.
//!
//! For local installations, demonstrations and rehearsals. A serving process has no such login.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{Address, StoreError};

/// Makes a database, as a copy of another where one is named. One that is there already stays.
///
/// # Errors
/// `Unavailable`; `Database` where the cluster refuses. Both names must be plain identifiers.
pub async fn create_database(owner: &Address, name: &str, template: Option<&str>) -> Result<(), StoreError> {
    let plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !plain(name) || !template.is_none_or(plain) {
        return Err(StoreError::Corrupt("a database's name is a plain identifier"));
    }
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let from = template.map_or_else(String::new, |template| format!(" template {template}"));
    let made = sql.execute(sqlx::raw_sql(AssertSqlSafe(format!("create database {name}{from}")))).await;
    match made {
        // 42P04: duplicate_database.
        Err(sqlx::Error::Database(cause)) if cause.code().as_deref() == Some("42P04") => {}
        made => made.map(|_| ())?,
    }
    sql.close().await?;
    Ok(())
}

/// Every row of every table of the schema, each as PostgreSQL writes a row as text: bytes as hexadecimal digits.
///
/// # Errors
/// `Unavailable`.
pub async fn every_row(owner: &Address) -> Result<Vec<(String, String)>, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let tables = sqlx::query_scalar!(
        "select quote_ident(c.relname) as \"name!\" from pg_class c \
         where c.relnamespace = 'keyholder'::regnamespace and c.relkind = 'r' order by 1"
    )
    .fetch_all(&mut sql)
    .await?;
    let mut rows = Vec::new();
    for table in tables {
        let statement = format!("select t::text from keyholder.{table} t");
        let texts: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&mut sql).await?;
        rows.extend(texts.into_iter().map(|text| (table.clone(), text)));
    }
    sql.close().await?;
    Ok(rows)
}

/// How much a table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub table: String,
    /// Its rows, counted.
    pub rows: i64,
    /// What it takes on disk with its indexes, in bytes.
    pub bytes: i64,
}

/// What every table of the schema holds.
///
/// # Errors
/// `Unavailable`.
pub async fn table_sizes(owner: &Address) -> Result<Vec<TableSize>, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let tables = sqlx::query!(
        "select c.relname as \"name!\", pg_total_relation_size(c.oid) as \"bytes!\" from pg_class c \
         where c.relnamespace = 'keyholder'::regnamespace and c.relkind = 'r' order by 1"
    )
    .fetch_all(&mut sql)
    .await?;
    let mut sizes = Vec::new();
    for table in tables {
        let statement = format!("select count(*) from keyholder.\"{}\"", table.name);
        let rows = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut sql).await?;
        sizes.push(TableSize { table: table.name, rows, bytes: table.bytes });
    }
    sql.close().await?;
    Ok(sizes)
}
