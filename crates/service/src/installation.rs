//! The installation itself: who may come to its own rows, and what happened there.

use domain::{
    audit::Event,
    id::{AuditId, Id, InstallationId, WorkspaceId},
    principal::Principal,
};
use relation::{
    Facts, Permit,
    action::{OfInstallation, ReadInstallation},
    authorize,
};
use store::{audit::Entry, installation::Installation};

use crate::{App, Refusal};

/// Asks for a permit. No workspace's facts say who the operator is: that he is, his credential has said.
fn permit<A: OfInstallation>(app: &App, principal: &Principal, object: A::Object) -> Result<Permit<A>, Refusal> {
    let facts = Facts::none_yet(WorkspaceId::from_uuid(InstallationId::ONE.uuid()));
    Ok(authorize::<A>(&facts, principal, object, &app.clock)?)
}

/// Whether the principal may do `A` to this object of the installation's. It opens nothing.
///
/// # Errors
/// `NotFound`: whoever may not, learns nothing of it.
pub fn allows<A: OfInstallation>(app: &App, principal: &Principal, object: A::Object) -> Result<(), Refusal> {
    permit::<A>(app, principal, object).map(drop)
}

/// Enters the installation's rows.
pub(crate) async fn enter<A: OfInstallation>(
    app: &App,
    principal: &Principal,
    object: A::Object,
) -> Result<Installation<A>, Refusal> {
    Ok(app.store.installation(permit::<A>(app, principal, object)?).await?)
}

/// The installation, as its trail names it.
pub(crate) fn reference() -> String {
    format!("installation:{}", InstallationId::ONE)
}

/// What happened in the installation: the newest entries before a given one, newest first.
///
/// # Errors
/// As for any use case.
pub async fn trail(app: &App, caller: &Principal, before: Option<AuditId>, most: i64) -> Result<Vec<Entry>, Refusal> {
    let mut installation = enter::<ReadInstallation>(app, caller, InstallationId::ONE).await?;
    let entries = store::installation::trail(&mut installation, before, most).await?;
    installation.commit(Event::new("installation.audit_read", reference())).await?;
    Ok(entries)
}
