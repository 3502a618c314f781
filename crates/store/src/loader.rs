//! The entrance that reads facts: one workspace at a time, under a signed context, in one read-only snapshot of the database.

use std::{sync::Arc, time::Duration};

use domain::{
    budget::{Budget, Limit, Scope},
    clock::Clock,
    id::{BudgetId, ConnectionId, Id, InstallationId, KeyId, MandateId, WorkspaceId},
    mandate::Mandate,
    plan::Plans,
};
use relation::{Facts, Relationship, Schema};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::{
    ContextKey, StoreError, TemplateKey, connection,
    context::{Backend, Kind},
    object, plan, relationship, role_template,
    snapshot::Snapshot,
    tenant, tuple,
};

/// Reads facts.
#[derive(Clone)]
pub struct Loader {
    pub(crate) pool: PgPool,
    pub(crate) key: Arc<ContextKey>,
    pub(crate) clock: Clock,
    pub(crate) model: Arc<Schema>,
    pub(crate) templates: Arc<TemplateKey>,
    pub(crate) alarms: role_template::Alarms,
    pub(crate) plans: Arc<Plans>,
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

impl Loader {
    /// The head of a workspace as it is now, and the installation's revision; nothing, where there is no such workspace.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn head(&self, workspace: WorkspaceId) -> Result<Option<(i64, i64, i64)>, StoreError> {
        answered(&self.pool, ANSWERED_WITHIN, async |sql: &mut PgConnection| {
            let backend = tenant::backend(sql, &self.clock).await?;
            let mut transaction = sqlx::Connection::begin(sql).await?;
            let entered = self.enter(&mut transaction, (Kind::Workspace, workspace), backend).await?;
            let Some((epoch, revision)) = entered else {
                return Ok(None);
            };
            let installation = installation_revision(&mut transaction).await?;
            Ok(Some((epoch, revision, installation)))
        })
        .await
    }

    /// Enters the context of a workspace or of the installation, and meets its head.
    async fn enter(
        &self,
        sql: &mut PgConnection,
        (kind, of): (Kind, impl Id),
        backend: Backend,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        let context = self.key.sign(kind, of.uuid(), backend, &self.clock);
        let head = sqlx::query!(
            "select epoch as \"epoch!\", revision as \"revision!\" from enter($1, $2, $3, false)",
            context,
            kind.as_str(),
            of.uuid()
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
        let entered = self.enter(&mut transaction, (Kind::Workspace, workspace), backend).await?;
        let (epoch, revision) = entered.ok_or(StoreError::NotFound)?;
        let installation = installation_revision(&mut transaction).await?;
        let mut tuples = tuple::of_workspace(&mut transaction, workspace).await?;
        tuples.extend(tuple::of_installation(&mut transaction).await?);
        let places = object::places(&mut transaction, workspace).await?;
        tuples.extend(relationship::tuples(&mut transaction, workspace, &places).await?);
        let roles = role_template::roles(&mut transaction, workspace, (&self.templates, &self.alarms)).await?;
        tuples.extend(roles.tuples(workspace, &self.model));
        tuples.extend(relation::plan::facts(&self.plans, workspace, &tuples));
        let own = sqlx::query!("select name, is_probe from workspaces where workspace_id = $1", workspace.uuid())
            .fetch_one(&mut *transaction)
            .await?;
        let facts = self.facts(workspace, (epoch, revision, installation), tuples)?;
        plan::tell_of_unknown(&self.plans, &facts);
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

    /// The installation's own facts. The database is asked each time: those who come for its own rows are few, and whoever is something
    /// no longer is refused from that moment, on every node.
    ///
    /// # Errors
    /// `NotFound` where the installation has no head; `Unavailable`; `Corrupt`.
    pub async fn installation(&self) -> Result<Facts, StoreError> {
        answered(&self.pool, ANSWERED_WITHIN, async |sql: &mut PgConnection| {
            let backend = tenant::backend(sql, &self.clock).await?;
            let mut transaction =
                sqlx::Connection::begin_with(sql, "begin isolation level repeatable read, read only").await?;
            let entered = self.enter(&mut transaction, (Kind::Installation, InstallationId::ONE), backend).await?;
            let (epoch, revision) = entered.ok_or(StoreError::NotFound)?;
            let tuples = tuple::of_installation(&mut transaction).await?;
            self.facts(of_nobody(), (epoch, revision, revision), tuples)
        })
        .await
    }

    fn facts(
        &self,
        workspace: WorkspaceId,
        at: (i64, i64, i64),
        tuples: Vec<Relationship>,
    ) -> Result<Facts, StoreError> {
        Facts::new(&self.model, workspace, at, tuples)
            .map_err(|_| StoreError::Corrupt("a fact that is written wrongly"))
    }
}

/// The workspace that the installation's own facts are said to be of: none has this id.
pub(crate) fn of_nobody() -> WorkspaceId {
    WorkspaceId::from_uuid(InstallationId::ONE.uuid())
}

async fn installation_revision(sql: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!("select revision from heads where kind = 'installation'")
        .fetch_optional(sql)
        .await?
        .unwrap_or(0))
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
