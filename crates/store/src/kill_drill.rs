//! Kill drills: proposed and approved in the installation's own rows, carried out in each tenant's.

use std::time::Duration;

use domain::{
    connection::{self, Certificate as Gone, Verdict},
    id::{AuditId, ConnectionId, Id, JobId, KillDrillId, OperatorId, WorkspaceId},
    kill_drill::{Certificate, Counts, Found, KillDrill, Line, State},
};
use relation::{
    Action,
    action::{
        ApproveKillDrill, FinishKillDrill, OfInstallation, ProposeKillDrill, ReadInstallation, ReadKillDrill,
        StopConnections,
    },
};
use serde_json::{Value, json};
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Lookup, StoreError, Tenant, installation::Installation};

/// The most proposals that may wait at a time.
const MOST_PROPOSALS: i64 = 20;

/// A drill's row; whether it has expired, the database's clock says.
struct Row {
    id: Uuid,
    provider: Option<String>,
    reason: String,
    state: String,
    proposed_by: String,
    proposed_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    approved_by: Option<String>,
    approved_at: Option<OffsetDateTime>,
    acts_stopped_at: Option<OffsetDateTime>,
    certificate: Option<Value>,
}

impl TryFrom<Row> for KillDrill {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let certificate = row.certificate.map(serde_json::from_value).transpose();
        Ok(Self {
            id: KillDrillId::from_uuid(row.id),
            provider: row.provider,
            reason: row.reason,
            state: State::from_row(&row.state).ok_or(StoreError::Corrupt("a kill drill's state"))?,
            proposed_by: row.proposed_by,
            proposed_at: row.proposed_at,
            expires_at: row.expires_at,
            approved_by: row.approved_by,
            approved_at: row.approved_at,
            acts_stopped_at: row.acts_stopped_at,
            certificate: certificate.map_err(|_| StoreError::Corrupt("a kill drill's certificate"))?,
        })
    }
}

/// Stores a proposal. It dies by itself after a quarter of an hour.
///
/// # Errors
/// `Conflict` where too many wait; `Unavailable`.
pub async fn propose(
    installation: &mut Installation<ProposeKillDrill>,
    id: KillDrillId,
    (provider, reason): (Option<&str>, &str),
    by: &str,
) -> Result<(), StoreError> {
    let made = sqlx::query!(
        "insert into kill_drills (id, provider, reason, proposed_by) select $1, $2, $3, $4 \
         where (select count(*) from kill_drills where state = 'proposed' and expires_at > clock_timestamp()) < $5",
        id.uuid(),
        provider,
        reason,
        by,
        MOST_PROPOSALS,
    )
    .execute(installation.sql())
    .await?;
    if made.rows_affected() == 0 { Err(StoreError::Conflict) } else { Ok(()) }
}

/// What may read a drill.
pub trait ReadsKillDrill: OfInstallation {}
impl ReadsKillDrill for ReadKillDrill {}
impl ReadsKillDrill for ApproveKillDrill {}
impl ReadsKillDrill for FinishKillDrill {}

/// The permit's drill.
///
/// # Errors
/// `NotFound`; `Corrupt`.
pub async fn get<A: ReadsKillDrill + Action<Object = KillDrillId>>(
    installation: &mut Installation<A>,
) -> Result<KillDrill, StoreError> {
    let id = installation.object();
    one(installation, id).await
}

/// The drill that was proposed in this transaction.
///
/// # Errors
/// `NotFound`; `Corrupt`.
pub async fn proposed(
    installation: &mut Installation<ProposeKillDrill>,
    id: KillDrillId,
) -> Result<KillDrill, StoreError> {
    one(installation, id).await
}

async fn one<A: OfInstallation>(installation: &mut Installation<A>, id: KillDrillId) -> Result<KillDrill, StoreError> {
    let row = sqlx::query_as!(
        Row,
        "select id, provider, reason, case when state = 'proposed' and expires_at <= clock_timestamp() then 'expired' else state end \
           as \"state!\", proposed_by, proposed_at, expires_at, approved_by, approved_at, acts_stopped_at, certificate \
         from kill_drills where id = $1",
        id.uuid()
    )
    .fetch_one(installation.sql())
    .await?;
    row.try_into()
}

/// The newest drills before a given one, newest first.
///
/// # Errors
/// `Unavailable`; `Corrupt`.
pub async fn list(
    installation: &mut Installation<ReadInstallation>,
    before: Option<KillDrillId>,
    most: i64,
) -> Result<Vec<KillDrill>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        "select id, provider, reason, case when state = 'proposed' and expires_at <= clock_timestamp() then 'expired' else state end \
           as \"state!\", proposed_by, proposed_at, expires_at, approved_by, approved_at, acts_stopped_at, certificate \
         from kill_drills where $1::uuid is null or id < $1 order by id desc limit $2",
        before.map(Id::uuid),
        most
    )
    .fetch_all(installation.sql())
    .await?;
    rows.into_iter().map(KillDrill::try_from).collect()
}

/// Why a drill was not set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such drill.
    Unknown,
    /// Whoever proposed it would approve it himself.
    SamePerson,
    /// It was approved before.
    Spent,
    /// Nobody approved it in time.
    Expired,
    /// Whoever proposed it has no key any more: he is not one of two.
    ProposerGone,
    /// The key that approves it was ended a moment ago.
    ApproverGone,
}

impl Refused {
    /// The word in the trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::SamePerson => "same_person",
            Self::Spent => "spent",
            Self::Expired => "expired",
            Self::ProposerGone => "proposer_gone",
            Self::ApproverGone => "approver_gone",
        }
    }
}

/// Sets the permit's drill off, if a person other than the one who proposed it says so in time. The row's lock orders those who come
/// at once, and the database's clock decides.
///
/// # Errors
/// `Unavailable`. A drill that may not be set off is no error: why not is the answer.
pub async fn approve(
    installation: &mut Installation<ApproveKillDrill>,
    (by, key): (&str, OperatorId),
) -> Result<Result<(), Refused>, StoreError> {
    let id = installation.object().uuid();
    let locked = sqlx::query!("select proposed_by from kill_drills where id = $1 for update", id)
        .fetch_optional(installation.sql())
        .await?;
    let Some(locked) = locked else { return Ok(Err(Refused::Unknown)) };
    // A key that is being ended at this moment is waited for: what the next statement finds good stays so until the commit.
    sqlx::query!(
        "select id from operators where (name = $1 or id = $2) and revoked_at is null order by id for share",
        locked.proposed_by,
        key.uuid()
    )
    .fetch_all(installation.sql())
    .await?;
    let stands = sqlx::query!(
        "select state <> 'proposed' as \"spent!\", expires_at <= clock_timestamp() as \"expired!\", \
           exists (select from operators o where o.name = d.proposed_by and o.revoked_at is null) as \"proposer!\", \
           exists (select from operators o where o.id = $2 and o.name = $3 and o.revoked_at is null) as \"approver!\" \
         from kill_drills d where d.id = $1",
        id,
        key.uuid(),
        by,
    )
    .fetch_one(installation.sql())
    .await?;
    let refused = [
        (locked.proposed_by == by, Refused::SamePerson),
        (stands.spent, Refused::Spent),
        (stands.expired, Refused::Expired),
        (!stands.proposer, Refused::ProposerGone),
        (!stands.approver, Refused::ApproverGone),
    ];
    if let Some((_, why)) = refused.into_iter().find(|(holds, _)| *holds) {
        return Ok(Err(why));
    }
    sqlx::query!(
        "update kill_drills set state = 'running', approved_by = $2, approved_at = clock_timestamp() where id = $1",
        id,
        by
    )
    .execute(installation.sql())
    .await?;
    Ok(Ok(()))
}

/// Writes the certificate of the permit's drill.
///
/// # Errors
/// `NotFound` where another node has done so.
pub async fn finish(
    installation: &mut Installation<FinishKillDrill>,
    certificate: &Certificate,
) -> Result<(), StoreError> {
    let json = serde_json::to_value(certificate).map_err(|_| StoreError::Corrupt("a kill drill's certificate"))?;
    let ended = sqlx::query!(
        "update kill_drills set state = 'ended', ended_at = $3, certificate = $2 where id = $1 and state = 'running'",
        installation.object().uuid(),
        json,
        certificate.ended_at,
    )
    .execute(installation.sql())
    .await?;
    if ended.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// Stops acts on the next so many connections of the workspace, for good, and leaves a job for each that does the rest. Tells how many
/// there were: fewer than asked for, and there are no more. Each says in the tenant's trail which drill it was.
///
/// # Errors
/// `Unavailable`.
pub async fn stop_page(
    tenant: &mut Tenant<StopConnections>,
    drill: KillDrillId,
    provider: Option<&str>,
    most: i64,
    disconnect: (&str, Duration),
) -> Result<usize, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select c.id, c.provider, c.state from connections c where c.workspace_id = $1 and c.state <> 'disconnected' \
           and ($2::text is null or c.provider = $2) \
           and not exists (select from kill_drill_connections k \
             where k.workspace_id = c.workspace_id and k.drill_id = $3 and k.connection_id = c.id) \
         order by c.id limit $4",
        workspace,
        provider,
        drill.uuid(),
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    let (all, providers): (Vec<_>, Vec<_>) = rows.iter().map(|row| (row.id, row.provider.clone())).unzip();
    sqlx::query!(
        "insert into kill_drill_connections (workspace_id, drill_id, connection_id, provider) \
         select $1, $2, x.id, x.provider from unnest($3::uuid[], $4::text[]) x(id, provider)",
        workspace,
        drill.uuid(),
        &all,
        &providers,
    )
    .execute(tenant.sql())
    .await?;
    // What somebody is taking apart already has its job, and no more acts.
    let begun: Vec<_> =
        rows.iter().filter(|row| row.state != connection::State::Disconnecting.as_str()).map(|row| row.id).collect();
    stop(tenant, drill, &begun, disconnect).await?;
    Ok(rows.len())
}

async fn stop(
    tenant: &mut Tenant<StopConnections>,
    drill: KillDrillId,
    connections: &[Uuid],
    (kind, rest): (&str, Duration),
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let rest = PgInterval::try_from(rest).map_err(|_| StoreError::Corrupt("a rest of whole microseconds"))?;
    // A refresh that is on its way may not put anything back: as `credential::fence_off`, for all of them.
    sqlx::query!(
        "update refreshes set fence = fence + 1, leased_until = '-infinity' where workspace_id = $1 and connection_id = any ($2)",
        workspace,
        connections
    )
    .execute(tenant.sql())
    .await?;
    sqlx::query!(
        "update connections set state = 'disconnecting', reconnect_reason = null, reconnect_since = null \
         where workspace_id = $1 and id = any ($2)",
        workspace,
        connections
    )
    .execute(tenant.sql())
    .await?;
    sqlx::query!(
        "delete from jobs where workspace_id = $1 and kind = 'abandon' and subject = any ($2)",
        workspace,
        connections
    )
    .execute(tenant.sql())
    .await?;
    let jobs: Vec<_> = connections.iter().map(|_| JobId::new(tenant.clock()).uuid()).collect();
    sqlx::query!(
        "insert into jobs (workspace_id, id, kind, subject, run_at) \
         select $1, x.job, $2, x.connection, clock_timestamp() + $3 from unnest($4::uuid[], $5::uuid[]) x(job, connection)",
        workspace,
        kind,
        rest,
        &jobs,
        connections,
    )
    .execute(tenant.sql())
    .await?;
    let entries: Vec<_> = connections.iter().map(|_| AuditId::new(tenant.clock()).uuid()).collect();
    let objects: Vec<_> = connections.iter().map(|id| format!("connection:{}", ConnectionId::from_uuid(*id))).collect();
    let principal = tenant.principal().clone();
    sqlx::query!(
        "insert into audit (workspace_id, id, principal, means, event, object, detail) \
         select $1, x.id, $2, $3, 'connection.disconnecting', x.object, $4 from unnest($5::uuid[], $6::text[]) x(id, object)",
        workspace,
        principal.reference(),
        principal.means.as_str(),
        json!({ "kill_drill": drill }),
        &entries,
        &objects,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Notes in every drill that waits for it what became of a connection.
pub(crate) async fn note<A: Action>(tenant: &mut Tenant<A>, gone: &Gone) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "update kill_drill_connections set old_token = $3, revoked_at_provider = $4, grant_may_live = $5, deleted_at = $6 \
         where workspace_id = $1 and connection_id = $2 and deleted_at is null",
        workspace,
        gone.connection.uuid(),
        gone.old_token.as_str(),
        gone.revoked_at_provider,
        gone.grant_may_live,
        gone.deleted_at,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Which way a drill's connections are read, by their ids.
#[derive(Debug, Clone, Copy)]
pub enum Page {
    /// The oldest after this one, oldest first.
    After(Option<ConnectionId>),
    /// The newest before this one, newest first.
    Before(Option<ConnectionId>),
}

/// How far a drill has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Workspaces whose connections are still to be stopped.
    pub workspaces_left: u64,
    /// What was found so far.
    pub counts: Counts,
}

impl Lookup {
    /// Moves the running drills on by a page of so many rows, and tells of each whether all its connections are gone.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn drive_kill_drills(&self, most: i32) -> Result<Vec<(KillDrillId, bool)>, StoreError> {
        let rows =
            sqlx::query!("select id as \"id!\", is_over as \"is_over!\" from lookup_drive_kill_drills($1)", most)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().map(|row| (KillDrillId::from_uuid(row.id), row.is_over)).collect())
    }

    /// The provider to which a running drill is confined, where it is: nothing at all where it does not run.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn kill_drill_scope(&self, drill: KillDrillId) -> Result<Option<Option<String>>, StoreError> {
        let row = sqlx::query!("select provider from lookup_kill_drill_scope($1)", drill.uuid())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.provider))
    }

    /// A page of a drill's connections.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt`.
    pub async fn kill_drill_lines(&self, drill: KillDrillId, page: Page, most: i32) -> Result<Vec<Line>, StoreError> {
        let (after, before) = match page {
            Page::After(after) => (Some(after.map_or(Uuid::nil(), Id::uuid)), None),
            Page::Before(before) => (None, before.map(Id::uuid)),
        };
        let rows = sqlx::query!(
            "select workspace_id as \"workspace_id!\", connection_id as \"connection_id!\", provider as \"provider!\", old_token, \
             revoked_at_provider, grant_may_live, deleted_at from lookup_kill_drill_lines($1, $2, $3, $4)",
            drill.uuid(),
            after,
            before,
            most,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let found = match (row.old_token, row.revoked_at_provider, row.grant_may_live, row.deleted_at) {
                    (Some(word), Some(revoked_at_provider), Some(grant_may_live), Some(deleted_at)) => Some(Found {
                        old_token: Verdict::from_row(&word).ok_or(StoreError::Corrupt("a verdict"))?,
                        revoked_at_provider,
                        grant_may_live,
                        deleted_at,
                    }),
                    _ => None,
                };
                Ok(Line {
                    workspace: WorkspaceId::from_uuid(row.workspace_id),
                    connection: ConnectionId::from_uuid(row.connection_id),
                    provider: row.provider,
                    found,
                })
            })
            .collect()
    }

    /// How far a drill has come.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn kill_drill_progress(&self, drill: KillDrillId) -> Result<Progress, StoreError> {
        let row = sqlx::query!(
            "select workspaces_left as \"workspaces_left!\", connections as \"connections!\", ended as \"ended!\", dead as \"dead!\", \
             alive as \"alive!\", refused_to_say as \"refused_to_say!\", revoked as \"revoked!\", may_live as \"may_live!\" \
             from lookup_kill_drill_progress($1)",
            drill.uuid()
        )
        .fetch_one(&self.pool)
        .await?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Progress {
            workspaces_left: count(row.workspaces_left),
            counts: Counts {
                connections: count(row.connections),
                ended: count(row.ended),
                dead: count(row.dead),
                alive: count(row.alive),
                refused_to_say: count(row.refused_to_say),
                revoked_at_provider: count(row.revoked),
                grants_may_live: count(row.may_live),
            },
        })
    }
}
