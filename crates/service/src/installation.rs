//! The installation itself: who may come to its own rows, and what happened there.

use domain::{
    audit::Event,
    id::{AuditId, InstallationId},
    principal::Principal,
};
use relation::{
    Permit,
    action::{OfInstallation, OfOperator, ReadInstallation},
    authorize,
};
use store::{StoreError, audit::Entry, installation::Installation};

use crate::{App, Refusal};

/// How often a permit is asked for anew while the installation moves under it.
const TRIES: usize = 8;

/// Asks for a permit by the installation's own facts, as they are at this moment.
async fn permit<A: OfInstallation>(app: &App, principal: &Principal, object: A::Object) -> Result<Permit<A>, Refusal> {
    let facts = app.store.loader.installation().await?;
    Ok(authorize::<A>(&facts, principal, object, &app.clock)?)
}

/// Whether the principal may do `A` to this object: of the installation's, or a workspace. It opens nothing.
///
/// # Errors
/// `NotFound` where the principal may not know of the object, `Forbidden` where it may not do this; `Unavailable`.
pub async fn allows<A: OfOperator>(app: &App, principal: &Principal, object: A::Object) -> Result<(), Refusal> {
    if let Some(workspace) = A::workspace(object) {
        return app.permit::<A>(principal, workspace, object).await.map(drop);
    }
    let facts = app.store.loader.installation().await?;
    Ok(authorize::<A>(&facts, principal, object, &app.clock).map(drop)?)
}

/// Enters the installation's rows, asking anew where the installation has moved on.
pub(crate) async fn enter<A: OfInstallation>(
    app: &App,
    principal: &Principal,
    object: A::Object,
) -> Result<Installation<A>, Refusal> {
    for _ in 0..TRIES {
        match app.store.installation(permit::<A>(app, principal, object).await?).await {
            Err(StoreError::Stale) => {}
            entered => return Ok(entered?),
        }
    }
    Err(Refusal::Stale)
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
