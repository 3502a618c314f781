//! The entrance of a workspace: a transaction confined to it by a signed context, opened by a permit and for its object alone.

use std::sync::Arc;

use domain::{
    audit::Event,
    clock::Clock,
    id::{AuditId, Id, InstallationId, WorkspaceId},
    principal::Principal,
};
use relation::{
    Action, Permit,
    action::{CreateWorkspace, ExplainAllPermissions, ManageSystemObjects, SetPlan, ShredWorkspace},
};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::{
    ContextKey, Store, StoreError, audit,
    context::{Backend, Kind},
    installation,
    snapshot::{self, Snapshots},
};

/// A transaction of one workspace, for one permitted action. Dropped without a commit, it leaves nothing.
pub struct Tenant<A: Action> {
    transaction: Transaction<'static, Postgres>,
    permit: Permit<A>,
    revision: i64,
    key: Arc<ContextKey>,
    clock: Clock,
    snapshots: Snapshots,
    /// Whose turn it is to change this workspace, on this node.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Store {
    /// Enters the permit's workspace.
    ///
    /// An action that changes facts takes the head first, which orders it against every other change and every admission; an
    /// action that needs current facts is refused when the head has moved since the permit was minted.
    ///
    /// # Errors
    /// `Stale` where the permit must be asked for again; `Unavailable`.
    pub async fn enter<A: Action>(&self, permit: Permit<A>) -> Result<Tenant<A>, StoreError> {
        if !permit.is_live(&self.clock) {
            return Err(StoreError::Stale);
        }
        let workspace = permit.workspace();
        let entered = self.begin(&self.app, Kind::Workspace, workspace, A::CHANGES_FACTS).await?;
        self.entered(permit, entered)
    }

    /// Enters the permit's workspace to read one state of it: whatever is asked in this transaction, it sees what its first statement saw,
    /// and changes nothing.
    ///
    /// # Errors
    /// As [`Store::enter`].
    pub async fn enter_reading<A: Action>(&self, permit: Permit<A>) -> Result<Tenant<A>, StoreError> {
        if !permit.is_live(&self.clock) || A::CHANGES_FACTS {
            return Err(StoreError::Stale);
        }
        let transaction = self.app.begin_with("begin isolation level repeatable read, read only").await?;
        let subject = permit.workspace().uuid();
        let entered = meet(transaction, &self.key, &self.clock, Kind::Workspace, subject, false).await?;
        self.entered(permit, entered)
    }

    /// What was entered, where the permit still holds there.
    fn entered<A: Action>(&self, permit: Permit<A>, (transaction, head): Entered) -> Result<Tenant<A>, StoreError> {
        let head = head.ok_or(StoreError::NotFound)?;
        if A::NEEDS_CURRENT_FACTS && head != permit.at() && !domain::sabotaged!(StalePermits) {
            return Err(StoreError::Stale);
        }
        Ok(Tenant {
            transaction,
            permit,
            revision: head.1 + i64::from(A::CHANGES_FACTS),
            key: Arc::clone(&self.key),
            clock: self.clock.clone(),
            snapshots: self.snapshots.clone(),
            turn: None,
        })
    }

    /// Enters a workspace that does not exist yet, and gives it its head.
    ///
    /// # Errors
    /// `Conflict` where it exists; `Unavailable`.
    pub async fn found(&self, permit: Permit<CreateWorkspace>) -> Result<Tenant<CreateWorkspace>, StoreError> {
        let workspace = permit.workspace();
        let (mut transaction, head) = self.begin(&self.app, Kind::Workspace, workspace, false).await?;
        if head.is_some() {
            return Err(StoreError::Conflict);
        }
        sqlx::query!("insert into heads (kind, id) values ('workspace', $1)", workspace.uuid())
            .execute(&mut *transaction)
            .await?;
        let (key, clock, snapshots) = (Arc::clone(&self.key), self.clock.clone(), self.snapshots.clone());
        Ok(Tenant { transaction, permit, revision: 1, key, clock, snapshots, turn: None })
    }

    /// Begins a transaction, signs it for its backend, and meets the head.
    pub(crate) async fn begin(
        &self,
        pool: &PgPool,
        kind: Kind,
        subject: impl Id,
        raise: bool,
    ) -> Result<Entered, StoreError> {
        begin(pool, &self.key, &self.clock, kind, subject.uuid(), raise).await
    }
}

/// A transaction that has entered a context, and the head that it met there.
type Entered = (Transaction<'static, Postgres>, Option<(i64, i64)>);

pub(crate) async fn begin(
    pool: &PgPool,
    key: &crate::ContextKey,
    clock: &Clock,
    kind: Kind,
    subject: Uuid,
    raise: bool,
) -> Result<Entered, StoreError> {
    meet(pool.begin().await?, key, clock, kind, subject, raise).await
}

/// Signs a transaction for its backend, and meets the head.
async fn meet(
    mut transaction: Transaction<'static, Postgres>,
    key: &crate::ContextKey,
    clock: &Clock,
    kind: Kind,
    subject: Uuid,
    raise: bool,
) -> Result<Entered, StoreError> {
    let backend = backend(&mut transaction, clock).await?;
    let context = key.sign(kind, subject, backend, clock);
    let head = sqlx::query!(
        "select epoch as \"epoch!\", revision as \"revision!\" from enter($1, $2, $3, $4)",
        context,
        kind.as_str(),
        subject,
        raise
    )
    .fetch_optional(&mut *transaction)
    .await?;
    Ok((transaction, head.map(|head| (head.epoch, head.revision))))
}

/// The pid of the connection's backend, which the driver knows and does not tell, and its hour.
pub(crate) async fn backend(sql: &mut PgConnection, clock: &Clock) -> Result<Backend, StoreError> {
    let said = sqlx::query!(
        "select pg_backend_pid() as \"pid!\", (extract(epoch from clock_timestamp()) * 1000)::bigint as \"hour_ms!\""
    )
    .fetch_one(sql)
    .await?;
    Ok(Backend::new(said.pid, said.hour_ms, clock))
}

impl<A: Action> Tenant<A> {
    /// The workspace.
    pub fn workspace(&self) -> WorkspaceId {
        self.permit.workspace()
    }

    /// What the permit is for. Nothing else in the workspace may be named beside it.
    pub fn object(&self) -> A::Object {
        self.permit.object()
    }

    /// Who acts.
    pub fn principal(&self) -> &Principal {
        self.permit.principal()
    }

    /// The epoch of the facts that permitted it: a revision says nothing across two.
    pub fn epoch(&self) -> i64 {
        self.permit.at().0
    }

    /// The revision that the workspace has once this transaction commits.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Keeps a turn until this transaction has ended, however it ends.
    pub fn keep(&mut self, turn: OwnedMutexGuard<()>) {
        self.turn = Some(turn);
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn sql(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Writes what happened to the trail, announces the change of facts, and commits all of it together.
    ///
    /// # Errors
    /// `Unavailable`: then it is not known whether the commit took place.
    pub async fn commit(mut self, event: Event) -> Result<(), StoreError> {
        self.record(&event).await?;
        self.conclude().await
    }

    async fn record(&mut self, event: &Event) -> Result<(), StoreError> {
        let entry = AuditId::new(&self.clock);
        audit::append(self, entry, event).await?;
        if A::CHANGES_FACTS {
            let workspace = self.permit.workspace();
            snapshot::announce(&mut self.transaction, workspace, self.revision).await?;
        }
        Ok(())
    }

    async fn conclude(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        if A::CHANGES_FACTS {
            self.snapshots.committed(self.permit.workspace(), self.revision).await;
        }
        Ok(())
    }

    /// Commits what is no event of its own: a lease, a look at a row.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn finish(self) -> Result<(), StoreError> {
        debug_assert!(!A::CHANGES_FACTS, "a change of facts is an event");
        self.transaction.commit().await?;
        Ok(())
    }
}

/// What the operator does in a workspace, and the installation's trail therefore has too.
pub trait InBothTrails: Action {}
impl InBothTrails for ExplainAllPermissions {}
impl InBothTrails for ManageSystemObjects {}
impl InBothTrails for SetPlan {}

impl<A: InBothTrails> Tenant<A> {
    /// Commits as [`Tenant::commit`] does, with a copy of the event in the installation's trail: both trails have it, or neither, and what
    /// it tells of has happened only where both have.
    ///
    /// # Errors
    /// `Unavailable`: then it is not known whether the commit took place.
    pub async fn commit_in_both_trails(mut self, event: Event, copy: Event) -> Result<(), StoreError> {
        self.record(&event).await?;
        // The workspace's work is done. What follows is no tenant's row, and stands under the installation's own context.
        let backend = backend(&mut self.transaction, &self.clock).await?;
        let context = self.key.sign(Kind::Installation, InstallationId::ONE.uuid(), backend, &self.clock);
        sqlx::query!(
            "select revision from enter($1, $2, $3, false)",
            context,
            Kind::Installation.as_str(),
            InstallationId::ONE.uuid()
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        installation::append(&mut self.transaction, self.permit.principal(), copy, &self.clock).await?;
        self.conclude().await
    }
}

impl Tenant<ShredWorkspace> {
    /// Commits a step of a shredding, and announces it. It leaves no entry in the workspace's trail, which is shredded with it: the
    /// installation keeps the certificate.
    ///
    /// # Errors
    /// `Unavailable`: then it is not known whether the commit took place.
    pub(crate) async fn commit_shredding(mut self) -> Result<(), StoreError> {
        let workspace = self.permit.workspace();
        snapshot::announce(&mut self.transaction, workspace, self.revision).await?;
        self.transaction.commit().await?;
        self.snapshots.committed(workspace, self.revision).await;
        Ok(())
    }
}
