//! Tallies over all tenants at once, and connections cut on purpose: for rehearsals, which hold the owner's login.
//!
//! Never used by a serving process: none of its logins could ask any of this.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{Address, StoreError};

/// All acts of the ledger, by their state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Acts {
    /// On their way.
    pub admitted: i64,
    /// Answered by their provider.
    pub settled: i64,
    /// Never sent.
    pub not_sent: i64,
    /// Of unknown effect.
    pub ambiguous: i64,
    /// For how long, at most, an act was in no final state after the time at which its node had to have given it up, in seconds.
    pub overdue_s: f64,
}

/// All budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// How many there are.
    pub count: i64,
    /// How many units were taken beyond a cap, over all budgets.
    pub overspent: i64,
    /// By how many units the budgets' counters differ from what the acts of their present windows hold.
    pub drift: i64,
}

/// Counts the acts.
///
/// # Errors
/// `Unavailable`.
pub async fn acts(owner: &Address) -> Result<Acts, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let acts = sqlx::query_as!(
        Acts,
        "select count(*) filter (where state = 'admitted') as \"admitted!\", \
           count(*) filter (where state = 'settled') as \"settled!\", \
           count(*) filter (where state = 'not_sent') as \"not_sent!\", \
           count(*) filter (where state = 'ambiguous') as \"ambiguous!\", \
           greatest(max(extract(epoch from coalesce(ended_at, clock_timestamp()) - give_up_at)), 0)::float8 as \"overdue_s!\" \
         from keyholder.acts"
    )
    .fetch_one(&mut sql)
    .await?;
    sql.close().await?;
    Ok(acts)
}

/// Counts the acts that are on their way: fewer rows are read than by [`acts`].
///
/// # Errors
/// `Unavailable`.
pub async fn acts_under_way(owner: &Address) -> Result<i64, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let found = sqlx::query_scalar!("select count(*) as \"count!\" from keyholder.acts where state = 'admitted'")
        .fetch_one(&mut sql)
        .await?;
    sql.close().await?;
    Ok(found)
}

/// Adds up the budgets, and compares them with the acts.
///
/// # Errors
/// `Unavailable`.
pub async fn budgets(owner: &Address) -> Result<Budgets, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let budgets = sqlx::query_as!(
        Budgets,
        "select count(*) as \"count!\", coalesce(sum(greatest(b.used - b.cap, 0)), 0)::bigint as \"overspent!\", \
           coalesce(sum(abs(b.used - coalesce(h.units, 0))), 0)::bigint as \"drift!\" \
         from keyholder.budgets b left join ( \
           select x.budget, x.start, sum(x.units) as units \
             from keyholder.acts a cross join lateral unnest(a.held, a.held_units, a.held_windows) x(budget, units, start) \
             where a.state <> 'not_sent' group by 1, 2) h on h.budget = b.id and h.start = b.window_start"
    )
    .fetch_one(&mut sql)
    .await?;
    sql.close().await?;
    Ok(budgets)
}

/// How many connections the logins of an installation hold.
///
/// # Errors
/// `Unavailable`.
pub async fn backends(owner: &Address, installation: &str) -> Result<i64, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let found = sqlx::query_scalar!(
        "select count(*) as \"count!\" from pg_stat_activity where starts_with(usename::text, $1 || '_')",
        installation
    )
    .fetch_one(&mut sql)
    .await?;
    sql.close().await?;
    Ok(found)
}

/// Cuts every connection of one group's logins (`app`, `ledger`, `lookup`, `loader`), and says how many there were. The listener's is
/// the loader's.
///
/// # Errors
/// `Unavailable`.
pub async fn cut(owner: &Address, installation: &str, group: &str) -> Result<i64, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let cut = sqlx::query_scalar!(
        "select count(pg_terminate_backend(pid)) as \"count!\" from pg_stat_activity \
         where starts_with(usename::text, $1 || '_' || $2 || '_')",
        installation,
        group
    )
    .fetch_one(&mut sql)
    .await?;
    sql.close().await?;
    Ok(cut)
}

/// The connections whose refresh lease a node holds now.
///
/// # Errors
/// `Unavailable`.
pub async fn leased_by(owner: &Address, node: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let mut sql = PgConnection::connect_with(&owner.0).await?;
    let connections = sqlx::query_scalar!(
        "select connection_id from keyholder.refreshes where node_id = $1 and leased_until > clock_timestamp()",
        node
    )
    .fetch_all(&mut sql)
    .await?;
    sql.close().await?;
    Ok(connections)
}
