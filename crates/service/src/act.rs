//! Acts, as those who may know of them read them: who looks after the workspace all of them, anybody else its own.

use domain::{act::Act, id::ActId, principal::Principal};
use relation::{
    action::{ReadActs, ReadAllActs},
    authorize,
};

use crate::{App, Refusal, gateway::workspace_of};

/// One act.
///
/// # Errors
/// `NotFound` also for an act of somebody else.
pub async fn get(app: &App, caller: &Principal, id: ActId) -> Result<Act, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<ReadActs>(caller, workspace, workspace).await?;
    let act = store::act::get(&mut tenant, id).await?;
    tenant.finish().await?;
    let sees_all = authorize::<ReadAllActs>(&snapshot.facts, caller, workspace, &app.clock).is_ok();
    if sees_all || act.principal == caller.reference() { Ok(act) } else { Err(Refusal::NotFound) }
}

/// The newest acts before a given one, newest first.
///
/// # Errors
/// As for any use case.
pub async fn list(app: &App, caller: &Principal, before: Option<ActId>, most: i64) -> Result<Vec<Act>, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<ReadActs>(caller, workspace, workspace).await?;
    let sees_all = authorize::<ReadAllActs>(&snapshot.facts, caller, workspace, &app.clock).is_ok();
    let own = caller.reference();
    let acts = store::act::list(&mut tenant, (!sees_all).then_some(own.as_str()), before, most).await?;
    tenant.finish().await?;
    Ok(acts)
}
