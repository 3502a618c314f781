//! The entrance that reads facts: one workspace at a time, under a signed context, in one read-only snapshot of the database.

use std::sync::Arc;

use domain::{
    budget::{Budget, Limit, Scope},
    clock::Clock,
    id::{BudgetId, ConnectionId, Id, KeyId, MandateId, WorkspaceId},
    mandate::Mandate,
};
use relation::{Facts, Tuple};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::{ContextKey, StoreError, connection, context::Kind, snapshot::Snapshot, tenant};

/// Reads facts.
#[derive(Clone)]
pub struct Loader {
    pub(crate) pool: PgPool,
    pub(crate) key: Arc<ContextKey>,
    pub(crate) clock: Clock,
}

/// The most tuples that one workspace's snapshot holds; a workspace beyond it is refused rather than half loaded.
pub(crate) const MOST_TUPLES: i64 = 200_000;

impl Loader {
    /// The head of a workspace as it is now, and the installation's revision; nothing, where there is no such workspace.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn head(&self, workspace: WorkspaceId) -> Result<Option<(i64, i64, i64)>, StoreError> {
        let (mut transaction, head) =
            tenant::begin(&self.pool, &self.key, &self.clock, Kind::Workspace, workspace.uuid(), false).await?;
        let Some((epoch, revision)) = head else { return Ok(None) };
        let installation = installation_revision(&mut transaction).await?;
        Ok(Some((epoch, revision, installation)))
    }

    /// Everything about a workspace that permission and budgets are decided from, all of one revision.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable`; `Corrupt` for a workspace with more facts than a snapshot may hold.
    pub async fn snapshot(&self, workspace: WorkspaceId) -> Result<Snapshot, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let backend = tenant::backend_pid(&mut connection).await?;
        let mut transaction =
            sqlx::Connection::begin_with(&mut *connection, "begin isolation level repeatable read, read only").await?;
        let context = self.key.sign(Kind::Workspace, workspace.uuid(), backend, &self.clock);
        let head = sqlx::query!(
            "select epoch as \"epoch!\", revision as \"revision!\" from enter($1, 'workspace', $2, false)",
            context,
            workspace.uuid()
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or(StoreError::NotFound)?;
        let installation = installation_revision(&mut transaction).await?;
        let tuples = tuples(&mut transaction).await?;
        let name = sqlx::query_scalar!("select name from workspaces").fetch_one(&mut *transaction).await?;
        let facts = Facts::new(workspace, (head.epoch, head.revision, installation), tuples);
        let snapshot = Snapshot {
            name,
            connections: connection::all(&mut transaction, &facts).await?,
            facts,
            mandates: mandates(&mut transaction).await?,
            keys: keys(&mut transaction).await?,
            budgets: budgets(&mut transaction).await?,
        };
        transaction.commit().await?;
        Ok(snapshot)
    }
}

async fn installation_revision(sql: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!("select revision from heads where kind = 'installation'")
        .fetch_optional(sql)
        .await?
        .unwrap_or(0))
}

async fn tuples(sql: &mut PgConnection) -> Result<Vec<Tuple>, StoreError> {
    let rows =
        sqlx::query!("select object, relation, subject from tuples limit $1", MOST_TUPLES + 1).fetch_all(sql).await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST_TUPLES {
        return Err(StoreError::Corrupt("more facts than a snapshot may hold"));
    }
    Ok(rows.into_iter().map(|row| Tuple { object: row.object, relation: row.relation, subject: row.subject }).collect())
}

async fn mandates(sql: &mut PgConnection) -> Result<Vec<Mandate>, StoreError> {
    let rows = sqlx::query_as!(
        crate::mandate::Row,
        "select id, connection_id, grantee, actions, conditions, created_at, expires_at, revoked_at from mandates where revoked_at is null"
    )
    .fetch_all(sql)
    .await?;
    rows.into_iter().map(Mandate::try_from).collect()
}

async fn keys(sql: &mut PgConnection) -> Result<Vec<(KeyId, Option<OffsetDateTime>)>, StoreError> {
    let rows = sqlx::query!("select id, expires_at from api_keys where revoked_at is null").fetch_all(sql).await?;
    Ok(rows.into_iter().map(|row| (KeyId::from_uuid(row.id), row.expires_at)).collect())
}

async fn budgets(sql: &mut PgConnection) -> Result<Vec<Budget>, StoreError> {
    let rows = sqlx::query!("select id, scope, subject, unit, period, cap from budgets").fetch_all(sql).await?;
    rows.into_iter()
        .map(|row| {
            let scope = Scope::from_row(&row.scope, &row.subject).ok_or(StoreError::Corrupt("a budget's scope"))?;
            Ok(Budget { id: BudgetId::from_uuid(row.id), scope, limit: limit(&row.unit, &row.period, row.cap)? })
        })
        .collect()
}

/// The limit that a row describes.
pub(crate) fn limit(unit: &str, period: &str, cap: i64) -> Result<Limit, StoreError> {
    Ok(Limit {
        unit: unit.parse().map_err(|_| StoreError::Corrupt("a budget's unit"))?,
        per: period.parse().map_err(|_| StoreError::Corrupt("a budget's period"))?,
        cap: u64::try_from(cap).map_err(|_| StoreError::Corrupt("a budget's cap"))?,
    })
}

impl Snapshot {
    /// A connection that is here.
    pub fn connection(&self, id: ConnectionId) -> Option<&domain::connection::Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }

    /// A mandate that has not been revoked.
    pub fn mandate(&self, id: MandateId) -> Option<&Mandate> {
        self.mandates.iter().find(|mandate| mandate.id == id)
    }

    /// Whether the key is neither revoked nor expired.
    pub fn accepts_key(&self, key: KeyId, now: OffsetDateTime) -> bool {
        self.keys.iter().any(|(id, expires)| *id == key && expires.is_none_or(|expires| now < expires))
    }
}
