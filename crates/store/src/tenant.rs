//! The entrance of a workspace: a transaction confined to it by a signed context, opened by a permit and for its object alone.

use domain::{
    audit::Event,
    clock::Clock,
    id::{AuditId, Id, WorkspaceId},
    principal::Principal,
};
use relation::{Action, Permit, action::CreateWorkspace};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{
    Store, StoreError, audit,
    context::Kind,
    snapshot::{self, Snapshots},
};

/// A transaction of one workspace, for one permitted action. Dropped without a commit, it leaves nothing.
pub struct Tenant<A: Action> {
    transaction: Transaction<'static, Postgres>,
    permit: Permit<A>,
    revision: i64,
    clock: Clock,
    snapshots: Snapshots,
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
        let (transaction, head) = self.begin(&self.app, Kind::Workspace, workspace, A::CHANGES_FACTS).await?;
        let head = head.ok_or(StoreError::NotFound)?;
        if A::NEEDS_CURRENT_FACTS && head != permit.at() {
            return Err(StoreError::Stale);
        }
        Ok(Tenant {
            transaction,
            permit,
            revision: head.1 + i64::from(A::CHANGES_FACTS),
            clock: self.clock.clone(),
            snapshots: self.snapshots.clone(),
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
        Ok(Tenant { transaction, permit, revision: 1, clock: self.clock.clone(), snapshots: self.snapshots.clone() })
    }

    /// Begins a transaction, signs it for its backend, and meets the head.
    pub(crate) async fn begin(
        &self,
        pool: &PgPool,
        kind: Kind,
        subject: impl Id,
        raise: bool,
    ) -> Result<(Transaction<'static, Postgres>, Option<(i64, i64)>), StoreError> {
        begin(pool, &self.key, &self.clock, kind, subject.uuid(), raise).await
    }
}

pub(crate) async fn begin(
    pool: &PgPool,
    key: &crate::ContextKey,
    clock: &Clock,
    kind: Kind,
    subject: Uuid,
    raise: bool,
) -> Result<(Transaction<'static, Postgres>, Option<(i64, i64)>), StoreError> {
    let mut transaction = pool.begin().await?;
    let backend = backend_pid(&mut transaction).await?;
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

/// The pid of the connection's backend, which the driver knows and does not tell.
pub(crate) async fn backend_pid(sql: &mut PgConnection) -> Result<i32, StoreError> {
    Ok(sqlx::query_scalar!("select pg_backend_pid() as \"pid!\"").fetch_one(sql).await?)
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

    /// The revision that the workspace has once this transaction commits.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn sql(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Writes what happened to the trail, announces the change of facts, and commits all of it together.
    ///
    /// # Errors
    /// `Unavailable`: then it is not known whether the commit took place.
    pub async fn commit(mut self, event: Event) -> Result<(), StoreError> {
        let entry = AuditId::new(&self.clock);
        audit::append(&mut self, entry, &event).await?;
        if A::CHANGES_FACTS {
            let workspace = self.permit.workspace();
            snapshot::announce(&mut self.transaction, workspace, self.revision).await?;
        }
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
