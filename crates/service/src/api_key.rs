//! API keys: made, listed, ended. A key's text is returned once, by the call that makes it.

use domain::{audit::Event, id::KeyId, principal::Principal};
use relation::action::{ListKeys, ManageKeys};
use serde_json::json;
use store::{
    Tenant,
    api_key::{Listed, MakesKeys, NewKey, Role},
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{App, Refusal, gateway::workspace_of, workspace::checked_name};

/// Makes a key in the caller's workspace.
///
/// # Errors
/// `Invalid`; as for any use case.
pub async fn create(
    app: &App,
    caller: &Principal,
    label: &str,
    role: Role,
    expires_at: Option<OffsetDateTime>,
) -> Result<(KeyId, Zeroizing<String>), Refusal> {
    let label = checked_name("/label", label)?;
    if expires_at.is_some_and(|end| end <= app.clock.now()) {
        return Err(Refusal::invalid("/expires_at", "lies in the past"));
    }
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ManageKeys>(caller, workspace, workspace).await?;
    let (id, text) = store_new(app, &mut tenant, label, role, expires_at).await?;
    tenant.commit(created(id, role)).await?;
    Ok((id, text))
}

pub(crate) async fn store_new<A: MakesKeys>(
    app: &App,
    tenant: &mut Tenant<A>,
    label: &str,
    role: Role,
    expires_at: Option<OffsetDateTime>,
) -> Result<(KeyId, Zeroizing<String>), Refusal> {
    let id = KeyId::new(&app.clock);
    let (text, hash) = domain::api_key::generate(app.environment);
    let label = if domain::sabotaged!(KeyShownOnce) { text.as_str() } else { label };
    store::api_key::create(tenant, &NewKey { id, label, role, hash, expires_at }, app.clock.now()).await?;
    Ok((id, text))
}

pub(crate) fn created(id: KeyId, role: Role) -> Event {
    Event::new("api_key.created", format!("api_key:{id}")).with(json!({ "role": role.as_str() }))
}

/// The workspace's keys, newest first: what they are called, never what they are.
///
/// # Errors
/// As for any use case.
pub async fn list(app: &App, caller: &Principal, before: Option<KeyId>, most: i64) -> Result<Vec<Listed>, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ListKeys>(caller, workspace, workspace).await?;
    let keys = store::api_key::list(&mut tenant, before, most).await?;
    tenant.finish().await?;
    Ok(keys)
}

/// Ends a key. No request with it is admitted from the commit on.
///
/// # Errors
/// `NotFound` where there is no such key that is still good.
pub async fn revoke(app: &App, caller: &Principal, key: KeyId) -> Result<(), Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ManageKeys>(caller, workspace, workspace).await?;
    store::api_key::revoke(&mut tenant, key, app.clock.now()).await?;
    tenant.commit(Event::new("api_key.revoked", format!("api_key:{key}"))).await?;
    Ok(())
}
