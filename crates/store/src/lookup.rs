//! The entrance for what must be answered before anybody is known. Its role has no table: each question is a function there.

use std::time::Duration;

use domain::{
    api_key::ApiKeyHash,
    id::{AccountId, ConnectionId, Id, JobId, KeyId, LinkId, WorkspaceId},
};
use sqlx::{PgPool, postgres::types::PgInterval};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    StoreError,
    job::{Backlog, Claimed},
};

/// The look-ups.
#[derive(Clone)]
pub struct Lookup {
    pub(crate) pool: PgPool,
}

/// What this database is.
#[derive(Debug)]
pub struct Installation {
    /// Its environment.
    pub environment: String,
    /// The value that only the right root key gives.
    pub root_check: Vec<u8>,
    /// The newest migration that was run.
    pub schema_version: i64,
}

/// What an operator watches of the database.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// Its hour.
    pub now: OffsetDateTime,
    /// How long the oldest deletion has been under way, in seconds; 0 where none is.
    pub oldest_deletion_s: f64,
    /// How many transactions ago the oldest snapshot was taken that anybody holds.
    pub oldest_snapshot: i64,
}

/// A connect link, as the browser that opened it may see it.
#[derive(Debug)]
pub struct OpenedLink {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The link.
    pub link: LinkId,
    /// The workspace's name, to be shown.
    pub workspace_name: String,
    /// The provider's name.
    pub provider: String,
    /// The actions that are wanted.
    pub actions: Vec<String>,
    /// The connection that is to be consented to anew.
    pub reconnects: Option<ConnectionId>,
    /// The account's id at the provider that must come back.
    pub reconnects_account: Option<String>,
    /// When the link dies.
    pub expires_at: OffsetDateTime,
}

/// A link whose state a callback has just spent.
#[derive(Debug)]
pub struct Called {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The link.
    pub link: LinkId,
    /// The provider's name.
    pub provider: String,
    /// What the owner allowed.
    pub allowed: Vec<String>,
    /// The sealed PKCE verifier, and the data key that it is sealed under.
    pub verifier: (Vec<u8>, Uuid),
    /// The registered address to return to.
    pub return_url: String,
    /// The connection that was consented to anew.
    pub reconnects: Option<ConnectionId>,
}

impl Lookup {
    /// What this database is; nothing, where no migration has run.
    ///
    /// # Errors
    /// `Unavailable`, or `Database` where the function is not there.
    pub async fn installation(&self) -> Result<Installation, StoreError> {
        let row = sqlx::query!(
            "select environment as \"environment!\", root_check as \"root_check!\", schema_version as \"schema_version!\" \
             from lookup_installation()"
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Installation {
            environment: row.environment,
            root_check: row.root_check,
            schema_version: row.schema_version,
        })
    }

    /// The oldest schema version whose binaries may run on the schema as it is.
    ///
    /// # Errors
    /// `Unavailable`, or `Database` on a schema from before this was kept.
    pub async fn compatible_from(&self) -> Result<i64, StoreError> {
        let from = sqlx::query_scalar!("select lookup_compatible_from() as \"from!\"").fetch_one(&self.pool).await?;
        Ok(from)
    }

    /// What an operator watches.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn watch(&self) -> Result<Watched, StoreError> {
        Ok(sqlx::query_as!(
            Watched,
            "select now as \"now!\", oldest_deletion_s as \"oldest_deletion_s!\", oldest_snapshot as \"oldest_snapshot!\" \
             from lookup_watch()"
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Whose key this is. Whether it is still good, its workspace's snapshot says.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn api_key(&self, hash: ApiKeyHash) -> Result<Option<(WorkspaceId, KeyId)>, StoreError> {
        let row = sqlx::query!(
            "select workspace_id as \"workspace_id!\", id as \"id!\" from lookup_api_key($1)",
            hash.0.as_slice()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| (WorkspaceId::from_uuid(row.workspace_id), KeyId::from_uuid(row.id))))
    }

    /// Opens a connect link in the browser with that cookie: the first to open it is the only one.
    ///
    /// # Errors
    /// `Unavailable`. A link that is unknown, dead, spent, or another browser's is no error: there is none.
    pub async fn open_link(&self, token_hash: &[u8], cookie_hash: &[u8]) -> Result<Option<OpenedLink>, StoreError> {
        let row = sqlx::query!(
            "select workspace_id as \"workspace_id!\", id as \"id!\", workspace as \"workspace!\", provider as \"provider!\", \
             actions as \"actions!\", reconnects, reconnects_account, expires_at as \"expires_at!\" from lookup_open_link($1, $2)",
            token_hash,
            cookie_hash
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| OpenedLink {
            workspace: WorkspaceId::from_uuid(row.workspace_id),
            link: LinkId::from_uuid(row.id),
            workspace_name: row.workspace,
            provider: row.provider,
            actions: row.actions,
            reconnects: row.reconnects.map(ConnectionId::from_uuid),
            reconnects_account: row.reconnects_account,
            expires_at: row.expires_at,
        }))
    }

    /// Spends a callback's state, which works once, and only in the browser that opened the link.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt` for a link without a verifier.
    pub async fn spend_state(&self, state_hash: &[u8], cookie_hash: &[u8]) -> Result<Option<Called>, StoreError> {
        let row = sqlx::query!(
            "select workspace_id as \"workspace_id!\", id as \"id!\", provider as \"provider!\", allowed, verifier, verifier_key, \
             return_url as \"return_url!\", reconnects from lookup_spend_state($1, $2)",
            state_hash,
            cookie_hash
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (Some(allowed), Some(verifier), Some(key)) = (row.allowed, row.verifier, row.verifier_key) else {
            return Err(StoreError::Corrupt("a link with a state has a verifier and the owner's choice"));
        };
        Ok(Some(Called {
            workspace: WorkspaceId::from_uuid(row.workspace_id),
            link: LinkId::from_uuid(row.id),
            provider: row.provider,
            allowed,
            verifier: (verifier, key),
            return_url: row.return_url,
            reconnects: row.reconnects.map(ConnectionId::from_uuid),
        }))
    }

    /// The account that a provider's subject belongs to.
    pub(crate) async fn account(&self, provider: &str, subject: &str) -> Result<Option<AccountId>, StoreError> {
        let account =
            sqlx::query_scalar!("select lookup_account($1, $2)", provider, subject).fetch_one(&self.pool).await?;
        Ok(account.map(AccountId::from_uuid))
    }

    /// Claims due jobs of the given kinds for the length of a lease.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn claim_jobs(&self, kinds: &[String], lease: Duration, most: i32) -> Result<Vec<Claimed>, StoreError> {
        let lease = PgInterval::try_from(lease).map_err(|_| StoreError::Corrupt("a lease of whole microseconds"))?;
        let rows = sqlx::query!(
            "select workspace_id as \"workspace_id!\", id as \"id!\", kind as \"kind!\", subject as \"subject!\", attempts as \"attempts!\" \
             from lookup_claim_jobs($1, $2, $3)",
            kinds,
            lease,
            most
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Claimed {
                workspace: WorkspaceId::from_uuid(row.workspace_id),
                job: JobId::from_uuid(row.id),
                kind: row.kind,
                subject: row.subject,
                attempts: row.attempts,
            })
            .collect())
    }

    /// Lets a job that failed rest before anybody claims it again.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn postpone_job(&self, job: &Claimed, rest: Duration) -> Result<(), StoreError> {
        let rest = PgInterval::try_from(rest).map_err(|_| StoreError::Corrupt("a rest of whole microseconds"))?;
        sqlx::query!("select lookup_postpone_job($1, $2, $3)", job.workspace.uuid(), job.job.uuid(), rest)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// What waits, by kinds; `failing` are those that were claimed so often.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn job_backlog(&self, often: i32) -> Result<Vec<Backlog>, StoreError> {
        Ok(sqlx::query_as!(
            Backlog,
            "select kind as \"kind!\", due as \"due!\", failing as \"failing!\", oldest_s as \"oldest_s!\" from lookup_job_backlog($1)",
            often
        )
        .fetch_all(&self.pool)
        .await?)
    }
}
