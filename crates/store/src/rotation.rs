//! Rotations: re-wrapping data keys under a newer epoch, and giving workspaces new data keys. Durable, one node at a time, to be stopped
//! and resumed.
//!
//! Owns how far a rotation is and who works at it. What is moved in a workspace is [`sealed`]'s. Opens nothing.

pub mod sealed;

use std::time::Duration;

use domain::id::{Id, NodeId, WorkspaceId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Store, StoreError, epoch::interval};

/// What is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Data keys are wrapped under a newer epoch; what they seal stays as it is.
    Wraps,
    /// Workspaces get new data keys, and everything is sealed anew.
    DataKeys,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Wraps, Self::DataKeys];

    /// The word in the database, in metrics and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wraps => "wraps",
            Self::DataKeys => "data_keys",
        }
    }

    fn from_row(word: &str) -> Result<Self, StoreError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(StoreError::Corrupt("a rotation's kind"))
    }
}

/// How far the work is, within what is worked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Keys are renewed, workspace by workspace.
    Renew,
    /// What is left under old data keys is looked for, and the keys that nothing was found under for long are deleted.
    Retire,
}

impl Phase {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::Retire => "retire",
        }
    }

    fn from_row(word: &str) -> Result<Self, StoreError> {
        match word {
            "renew" => Ok(Self::Renew),
            "retire" => Ok(Self::Retire),
            _ => Err(StoreError::Corrupt("a rotation's phase")),
        }
    }
}

/// Where to go on: behind this workspace, or, with a place, within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The workspace; at the beginning none.
    pub workspace: Option<WorkspaceId>,
    /// The place in it, where it is not finished.
    pub within: Option<sealed::Place>,
}

/// A rotation that this node may work at until its lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// What is rotated.
    pub kind: Kind,
    /// The epoch to wrap under, or the generation of the new data keys.
    pub target: i64,
    /// How far it is.
    pub phase: Phase,
    /// Where to go on.
    pub cursor: Cursor,
    fence: i64,
}

/// What a page of work has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Keys that were wrapped anew, or values that were sealed anew.
    pub renewed: i64,
    /// Rows that somebody else changed first. They are looked at again.
    pub overtaken: i64,
    /// What did not open, and stays as it is.
    pub unopened: i64,
    /// Data keys that were deleted.
    pub deleted_keys: i64,
}

/// How a rotation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What is rotated.
    pub kind: Kind,
    /// `running`, `stopped` or `done`.
    pub state: String,
    /// `renew` or `retire`.
    pub phase: String,
    /// The epoch to wrap under, or the generation of the new data keys.
    pub target: i64,
    /// What was done in this run.
    pub done: Done,
    /// When it was asked for.
    pub asked_at: OffsetDateTime,
    /// When it last got on.
    pub moved_at: OffsetDateTime,
    /// When it came to its end.
    pub finished_at: Option<OffsetDateTime>,
}

impl Store {
    /// Asks for a rotation from its beginning. For data keys the target is the next generation, whatever is handed over.
    ///
    /// # Errors
    /// `Conflict` where one of this kind is renewing keys at this moment, or is stopped; `Unavailable`.
    pub async fn start_rotation(&self, kind: Kind, epoch: i64) -> Result<(), StoreError> {
        let mut transaction = self.begin_installation().await?;
        let started = sqlx::query!(
            "insert into rotations as r (kind, target) values ($1, case $1 when 'wraps' then $2::bigint else 1 end) \
             on conflict (kind) do update set run = r.run + 1, state = 'running', phase = 'renew', \
               target = case r.kind when 'wraps' then excluded.target else r.target + 1 end, workspace = null, step = null, \
               after = null, renewed = 0, overtaken = 0, unopened = 0, deleted_keys = 0, fence = r.fence + 1, \
               leased_until = '-infinity', asked_at = clock_timestamp(), moved_at = clock_timestamp(), finished_at = null \
             where r.state = 'done' or (r.state = 'running' and r.phase = 'retire') \
               or (r.kind = 'wraps' and r.target < excluded.target)",
            kind.as_str(),
            epoch,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if started.rows_affected() == 0 { Err(StoreError::Conflict) } else { Ok(()) }
    }

    /// Stops a rotation after the page that is being worked at, or lets it go on.
    ///
    /// # Errors
    /// `NotFound` where there is none to be stopped or resumed; `Unavailable`.
    pub async fn let_rotation(&self, kind: Kind, run: bool) -> Result<(), StoreError> {
        let mut transaction = self.begin_installation().await?;
        let (from, to) = if run { ("stopped", "running") } else { ("running", "stopped") };
        let changed = sqlx::query!(
            "update rotations set state = $3, leased_until = '-infinity', fence = fence + 1 where kind = $1 and state in ($2, $3)",
            kind.as_str(),
            from,
            to,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
    }

    /// How the rotations stand. One that was never asked for is not among them.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn rotations(&self) -> Result<Vec<Standing>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let rows = sqlx::query!(
            "select kind, state, phase, target, renewed, overtaken, unopened, deleted_keys, asked_at, moved_at, finished_at \
             from rotations order by kind desc"
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        rows.into_iter()
            .map(|row| {
                Ok(Standing {
                    kind: Kind::from_row(&row.kind)?,
                    state: row.state,
                    phase: row.phase,
                    target: row.target,
                    done: Done {
                        renewed: row.renewed,
                        overtaken: row.overtaken,
                        unopened: row.unopened,
                        deleted_keys: row.deleted_keys,
                    },
                    asked_at: row.asked_at,
                    moved_at: row.moved_at,
                    finished_at: row.finished_at,
                })
            })
            .collect()
    }

    /// Takes the lease of a rotation that nobody works at. Re-wrapping comes first, and only by a node that wraps under the target.
    ///
    /// # Errors
    /// `Unavailable`. That there is nothing to do is no error.
    pub async fn claim_rotation(
        &self,
        node: NodeId,
        wrapping: i64,
        term: Duration,
    ) -> Result<Option<Work>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let row = sqlx::query!(
            "update rotations r set node_id = $1, fence = r.fence + 1, leased_until = clock_timestamp() + $3::interval \
             where r.kind = (select d.kind from rotations d \
                 where d.state = 'running' and d.leased_until < clock_timestamp() and (d.kind <> 'wraps' or d.target <= $2) \
                 order by d.kind desc limit 1 for update skip locked) \
             returning kind, target, phase, workspace, step, after, fence",
            node.uuid(),
            wrapping,
            interval(term)?,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Work {
            kind: Kind::from_row(&row.kind)?,
            target: row.target,
            phase: Phase::from_row(&row.phase)?,
            cursor: Cursor {
                workspace: row.workspace.map(WorkspaceId::from_uuid),
                within: row.step.map(|step| sealed::Place::from_row(step, row.after)).transpose()?,
            },
            fence: row.fence,
        }))
    }

    /// Writes how far the work is, and keeps the lease for another term; `next` is where to go on, or nothing at the end. Afterwards the
    /// work is `next`'s. `false`: somebody has stopped the rotation, or taken the lease, and nothing was written.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn advance_rotation(
        &self,
        work: &mut Work,
        done: Done,
        next: Option<(Phase, Cursor)>,
        term: Duration,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let (phase, cursor) = next.unwrap_or((work.phase, Cursor::default()));
        let (step, after): (Option<i16>, Option<Uuid>) =
            cursor.within.map_or((None, None), |place| (Some(place.step.number()), place.after));
        let written = sqlx::query!(
            "update rotations set phase = $3, workspace = $4, step = $5, after = $6, renewed = renewed + $7, \
               overtaken = overtaken + $8, unopened = unopened + $9, deleted_keys = deleted_keys + $10, \
               leased_until = clock_timestamp() + $11::interval, moved_at = clock_timestamp(), \
               state = case when $12 then 'done' else state end, \
               finished_at = case when $12 then clock_timestamp() end \
             where kind = $1 and fence = $2 and state = 'running'",
            work.kind.as_str(),
            work.fence,
            phase.as_str(),
            cursor.workspace.map(Id::uuid),
            step,
            after,
            done.renewed,
            done.overtaken,
            done.unopened,
            done.deleted_keys,
            interval(term)?,
            next.is_none(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        (work.phase, work.cursor) = (phase, cursor);
        Ok(written.rows_affected() > 0)
    }

    /// Gives the lease back: there is nothing to do for now, or this node stops.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn rest_rotation(&self, work: &Work) -> Result<(), StoreError> {
        let mut transaction = self.begin_installation().await?;
        sqlx::query!(
            "update rotations set leased_until = '-infinity' where kind = $1 and fence = $2",
            work.kind.as_str(),
            work.fence
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The next workspaces, by their ids.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn workspaces_after(
        &self,
        after: Option<WorkspaceId>,
        most: i32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let ids = sqlx::query_scalar!("select workspaces_after($1, $2) as \"id!\"", after.map(Id::uuid), most)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(ids.into_iter().map(WorkspaceId::from_uuid).collect())
    }

    /// The next workspaces that have a data key under an older epoch, by their ids.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn workspaces_wrapped_before(
        &self,
        epoch: i64,
        after: Option<WorkspaceId>,
        most: i32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let ids = sqlx::query_scalar!(
            "select workspaces_wrapped_before($1, $2, $3) as \"id!\"",
            epoch,
            after.map(Id::uuid),
            most
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(ids.into_iter().map(WorkspaceId::from_uuid).collect())
    }

    /// The next workspace that has data keys which no longer seal, and whether one of them has been idle for `rest`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn workspace_with_idle_keys(
        &self,
        after: Option<WorkspaceId>,
        rest: Duration,
    ) -> Result<Option<(WorkspaceId, bool)>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let row = sqlx::query!(
            "select workspace_id as \"workspace_id!\", due as \"due!\" from workspaces_with_idle_keys($1, $2, 1)",
            after.map(Id::uuid),
            interval(rest)?
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(row.map(|row| (WorkspaceId::from_uuid(row.workspace_id), row.due)))
    }
}
