//! The entrance of the installation itself: a transaction in a signed context of its own, opened by a permit. No tenant's row is in it.
//!
//! Whoever comes through here is the operator, at the machine or by name; so every use is written to the installation's own trail,
//! which is appended to and never changed.

use domain::{
    audit::Event,
    clock::Clock,
    id::{AuditId, Id, InstallationId},
    principal::Principal,
};
use relation::{
    Permit,
    action::{OfInstallation, ReadInstallation},
};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::{
    Store, StoreError,
    audit::{Entry, Row},
    context::Kind,
    snapshot,
};

/// A transaction of the installation, for one permitted action. Dropped without a commit, it leaves nothing.
pub struct Installation<A: OfInstallation> {
    transaction: Transaction<'static, Postgres>,
    permit: Permit<A>,
    clock: Clock,
}

impl Store {
    /// Enters the installation. An action that changes facts takes its head first; one that needs current facts is refused when the
    /// installation has moved on since the permit was minted.
    ///
    /// # Errors
    /// `Stale` where the permit must be asked for again; `Unavailable`.
    pub async fn installation<A: OfInstallation>(&self, permit: Permit<A>) -> Result<Installation<A>, StoreError> {
        if !permit.is_live(&self.clock) {
            return Err(StoreError::Stale);
        }
        let (transaction, head) =
            self.begin(&self.app, Kind::Installation, InstallationId::ONE, A::CHANGES_FACTS).await?;
        let (_, revision) = head.ok_or(StoreError::NotFound)?;
        if A::NEEDS_CURRENT_FACTS && revision != permit.installation_revision() {
            return Err(StoreError::Stale);
        }
        Ok(Installation { transaction, permit, clock: self.clock.clone() })
    }
}

impl<A: OfInstallation> Installation<A> {
    /// What the permit is for.
    pub fn object(&self) -> A::Object {
        self.permit.object()
    }

    /// Who acts.
    pub fn principal(&self) -> &Principal {
        self.permit.principal()
    }

    pub(crate) fn sql(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Writes what happened to the installation's trail, and commits both together.
    ///
    /// # Errors
    /// `Unavailable`: then it is not known whether the commit took place.
    pub async fn commit(mut self, event: Event) -> Result<(), StoreError> {
        append(&mut self.transaction, self.permit.principal(), event, &self.clock).await?;
        if A::CHANGES_FACTS {
            snapshot::announce_installation(&mut self.transaction).await?;
        }
        self.transaction.commit().await?;
        Ok(())
    }
}

/// Writes to the installation's trail, in a transaction that stands under its context.
pub(crate) async fn append(
    sql: &mut PgConnection,
    principal: &Principal,
    event: Event,
    clock: &Clock,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into installation_audit (id, principal, means, session, request, event, object, detail) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        AuditId::new(clock).uuid(),
        principal.reference(),
        principal.means.as_str(),
        principal.session,
        principal.request.map(|request| request.to_string()),
        event.name,
        event.object,
        event.detail,
    )
    .execute(sql)
    .await?;
    Ok(())
}

/// The newest entries of the installation's trail before a given one, newest first.
///
/// # Errors
/// `Unavailable`.
pub async fn trail(
    installation: &mut Installation<ReadInstallation>,
    before: Option<AuditId>,
    most: i64,
) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        "select id, at, principal, means, request, event, object, detail, false as \"is_probe!\" from installation_audit \
         where $1::uuid is null or id < $1 order by id desc limit $2",
        before.map(Id::uuid),
        most,
    )
    .fetch_all(installation.sql())
    .await?;
    Ok(rows.into_iter().map(Entry::from).collect())
}
