//! The entrance that reads facts: one workspace at a time, under a signed context, in one read-only snapshot of the database.

use std::{sync::Arc, time::Duration};

use domain::{
    budget::{Budget, Limit, Scope},
    clock::Clock,
    id::{BudgetId, ConnectionId, Id, KeyId, MandateId, WorkspaceId},
    mandate::Mandate,
};
use relation::{Facts, Tuple};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::{
    ContextKey, StoreError, connection,
    context::{Backend, Kind},
    snapshot::Snapshot,
    tenant,
};

/// Reads facts.
#[derive(Clone)]
pub struct Loader {
    pub(crate) pool: PgPool,
    pub(crate) key: Arc<ContextKey>,
    pub(crate) clock: Clock,
}

/// How long a reading of facts may take. A connection that swallows questions without a word is known by nothing else, and until then
/// nobody is told yes or no.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Reads on a connection of the pool. One that does not answer in time is closed: given back, it would be waited for without end, and
/// the pool would soon have no other.
pub(crate) async fn answered<T>(
    pool: &PgPool,
    within: Duration,
    reading: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut connection = pool.acquire().await?;
    if let Ok(answer) = tokio::time::timeout(within, reading(&mut connection)).await {
        return answer;
    }
    connection.close_on_drop();
    tracing::warn!("the database did not answer in time; the connection is given up");
    metrics::counter!("keyholder_silent_connections_total").increment(1);
    Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut))
}

/// The most tuples that one workspace's snapshot holds; a workspace beyond it is refused rather than half loaded.
pub(crate) const MOST_TUPLES: i64 = 200_000;

impl Loader {
    /// The head of a workspace as it is now, and the installation's revision; nothing, where there is no such workspace.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn head(&self, workspace: WorkspaceId) -> Result<Option<(i64, i64, i64)>, StoreError> {
        answered(&self.pool, ANSWERED_WITHIN, async |sql: &mut PgConnection| {
            let backend = tenant::backend(sql, &self.clock).await?;
            let mut transaction = sqlx::Connection::begin(sql).await?;
            let Some((epoch, revision)) = self.enter(&mut transaction, workspace, backend).await? else {
                return Ok(None);
            };
            let installation = installation_revision(&mut transaction).await?;
            Ok(Some((epoch, revision, installation)))
        })
        .await
    }

    /// Enters the workspace's context, and meets its head.
    async fn enter(
        &self,
        sql: &mut PgConnection,
        workspace: WorkspaceId,
        backend: Backend,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        let context = self.key.sign(Kind::Workspace, workspace.uuid(), backend, &self.clock);
        let head = sqlx::query!(
            "select epoch as \"epoch!\", revision as \"revision!\" from enter($1, 'workspace', $2, false)",
            context,
            workspace.uuid()
        )
        .fetch_optional(sql)
        .await?;
        Ok(head.map(|head| (head.epoch, head.revision)))
    }

    /// Everything about a workspace that permission and budgets are decided from, all of one revision.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable`; `Corrupt` for a workspace with more facts than a snapshot may hold.
    pub async fn snapshot(&self, workspace: WorkspaceId) -> Result<Snapshot, StoreError> {
        answered(&self.pool, ANSWERED_WITHIN, async |sql: &mut PgConnection| self.read(sql, workspace).await).await
    }

    async fn read(&self, sql: &mut PgConnection, workspace: WorkspaceId) -> Result<Snapshot, StoreError> {
        let backend = tenant::backend(sql, &self.clock).await?;
        let mut transaction =
            sqlx::Connection::begin_with(sql, "begin isolation level repeatable read, read only").await?;
        let (epoch, revision) = self.enter(&mut transaction, workspace, backend).await?.ok_or(StoreError::NotFound)?;
        let installation = installation_revision(&mut transaction).await?;
        let tuples = tuples(&mut transaction, workspace).await?;
        let own = sqlx::query!("select name, is_probe from workspaces where workspace_id = $1", workspace.uuid())
            .fetch_one(&mut *transaction)
            .await?;
        let facts = Facts::new(workspace, (epoch, revision, installation), tuples);
        let snapshot = Snapshot {
            name: own.name,
            is_probe: own.is_probe,
            connections: connection::all(&mut transaction, &facts).await?,
            facts,
            mandates: mandates(&mut transaction, workspace).await?,
            keys: keys(&mut transaction, workspace).await?,
            budgets: budgets(&mut transaction, workspace).await?,
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

async fn tuples(sql: &mut PgConnection, workspace: WorkspaceId) -> Result<Vec<Tuple>, StoreError> {
    let rows = sqlx::query!(
        "select object, relation, subject from tuples where workspace_id = $1 limit $2",
        workspace.uuid(),
        MOST_TUPLES + 1
    )
    .fetch_all(sql)
    .await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST_TUPLES {
        return Err(StoreError::Corrupt("more facts than a snapshot may hold"));
    }
    Ok(rows.into_iter().map(|row| Tuple { object: row.object, relation: row.relation, subject: row.subject }).collect())
}

async fn mandates(sql: &mut PgConnection, workspace: WorkspaceId) -> Result<Vec<Mandate>, StoreError> {
    let rows = sqlx::query_as!(
        crate::mandate::Row,
        "select id, connection_id, grantee, actions, conditions, created_at, expires_at, revoked_at from mandates \
         where workspace_id = $1 and revoked_at is null",
        workspace.uuid()
    )
    .fetch_all(sql)
    .await?;
    rows.into_iter().map(Mandate::try_from).collect()
}

async fn keys(
    sql: &mut PgConnection,
    workspace: WorkspaceId,
) -> Result<Vec<(KeyId, Option<OffsetDateTime>)>, StoreError> {
    let rows = sqlx::query!(
        "select id, expires_at from api_keys where workspace_id = $1 and revoked_at is null",
        workspace.uuid()
    )
    .fetch_all(sql)
    .await?;
    Ok(rows.into_iter().map(|row| (KeyId::from_uuid(row.id), row.expires_at)).collect())
}

async fn budgets(sql: &mut PgConnection, workspace: WorkspaceId) -> Result<Vec<Budget>, StoreError> {
    // Its own, and the installation's, which are nobody's.
    let rows = sqlx::query!(
        "select id, scope, subject, unit, period, cap from budgets where workspace_id = $1 or workspace_id is null",
        workspace.uuid()
    )
    .fetch_all(sql)
    .await?;
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
