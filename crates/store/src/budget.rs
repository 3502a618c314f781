//! Budgets: their terms. What is used of them, only the ledger moves.

use domain::{
    budget::{Limit, Scope},
    clock::Clock,
    id::{BudgetId, Id, MandateId},
};
use relation::{
    Action,
    action::{CreateMandate, ManageBudgets, ReadBudgets},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Store, StoreError, Tenant, context::Kind, loader, snapshot};

/// What may set budgets.
pub trait SetsBudgets: Action {}
impl SetsBudgets for ManageBudgets {}
impl SetsBudgets for CreateMandate {}

/// A budget with what is used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its id.
    pub id: BudgetId,
    /// Whom it binds.
    pub scope: Scope,
    /// What it allows.
    pub limit: Limit,
    /// What its newest window holds: more than the cap, where acts used more than they had reserved.
    pub used: u64,
    /// What of that is carried into the windows that follow.
    pub debt: u64,
    /// When that window began; nothing, where it was never used.
    pub window_start: Option<OffsetDateTime>,
}

/// Sets what one scope may use of a unit in a period; a budget that is there keeps what is used of it.
///
/// # Errors
/// `Unavailable`.
pub async fn set<A: SetsBudgets>(
    tenant: &mut Tenant<A>,
    id: BudgetId,
    scope: &Scope,
    limit: Limit,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    upsert(tenant.sql(), Some(workspace), id, scope, limit).await
}

async fn upsert(
    sql: &mut sqlx::PgConnection,
    workspace: Option<Uuid>,
    id: BudgetId,
    scope: &Scope,
    limit: Limit,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into budgets (id, workspace_id, scope, subject, rank, unit, period, cap) values ($1, $2, $3, $4, $5, $6, $7, $8) \
         on conflict (workspace_id, scope, subject, unit, period) do update set cap = excluded.cap",
        id.uuid(),
        workspace,
        scope.kind(),
        scope.subject(),
        scope.rank(),
        limit.unit.as_str(),
        limit.per.as_str(),
        i64::try_from(limit.cap).unwrap_or(i64::MAX),
    )
    .execute(sql)
    .await?;
    Ok(())
}

/// Removes a budget.
///
/// # Errors
/// `NotFound`.
pub async fn remove(tenant: &mut Tenant<ManageBudgets>, id: BudgetId) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let gone = sqlx::query!("delete from budgets where workspace_id = $1 and id = $2", workspace, id.uuid())
        .execute(tenant.sql())
        .await?;
    if gone.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// Removes the own budgets of mandates. Their rows are locked in the order in which the ledger locks them: it may be giving units back to
/// several of them at this moment, and it does not wait for a head to do so.
pub(crate) async fn remove_of_mandates<A: Action>(
    tenant: &mut Tenant<A>,
    mandates: &[MandateId],
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let subjects: Vec<String> = mandates.iter().map(ToString::to_string).collect();
    let budgets = sqlx::query_scalar!(
        "select id from budgets where workspace_id = $1 and scope = 'mandate' and subject = any($2) order by rank, id for update",
        workspace,
        &subjects,
    )
    .fetch_all(tenant.sql())
    .await?;
    sqlx::query!("delete from budgets where workspace_id = $1 and id = any($2)", workspace, &budgets)
        .execute(tenant.sql())
        .await?;
    Ok(())
}

/// The workspace's budgets, and what is used of them.
///
/// # Errors
/// `Unavailable`.
pub async fn list(tenant: &mut Tenant<ReadBudgets>) -> Result<Vec<Standing>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select id, scope, subject, unit, period, cap, used, debt, nullif(window_start, '-infinity') as window_start \
         from budgets where workspace_id = $1 order by rank, id limit 10000",
        workspace
    )
    .fetch_all(tenant.sql())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Standing {
                id: BudgetId::from_uuid(row.id),
                scope: Scope::from_row(&row.scope, &row.subject).ok_or(StoreError::Corrupt("a budget's scope"))?,
                limit: loader::limit(&row.unit, &row.period, row.cap)?,
                used: u64::try_from(row.used).unwrap_or(0),
                debt: u64::try_from(row.debt).unwrap_or(0),
                window_start: row.window_start,
            })
        })
        .collect()
}

impl Store {
    /// Makes the installation's budgets those of its configuration. Nothing is written where they are so already.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn configure_installation(&self, limits: &[Limit], clock: &Clock) -> Result<(), StoreError> {
        let (mut transaction, _) =
            self.begin(&self.app, Kind::Installation, BudgetId::from_uuid(Uuid::nil()), true).await?;
        // In the ledger's order: it may be giving units back to several of them at this moment.
        let rows = sqlx::query!(
            "select id, unit, period, cap from budgets where workspace_id is null order by rank, id for update"
        )
        .fetch_all(&mut *transaction)
        .await?;
        let mut changed = false;
        for row in &rows {
            let there = loader::limit(&row.unit, &row.period, row.cap)?;
            if !limits.iter().any(|limit| (limit.unit, limit.per) == (there.unit, there.per)) {
                sqlx::query!("delete from budgets where id = $1 and workspace_id is null", row.id)
                    .execute(&mut *transaction)
                    .await?;
                changed = true;
            }
        }
        for limit in limits {
            let same = rows.iter().map(|row| loader::limit(&row.unit, &row.period, row.cap));
            if !same.into_iter().any(|there| there.is_ok_and(|there| there == *limit)) {
                upsert(&mut transaction, None, BudgetId::new(clock), &Scope::Installation, *limit).await?;
                changed = true;
            }
        }
        if changed {
            snapshot::announce_installation(&mut transaction).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}
