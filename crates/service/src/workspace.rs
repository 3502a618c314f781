//! Workspaces: made by the operator, read by their members, shredded by the operator.

mod shred;

use domain::{
    audit::Event,
    id::{KeyId, WorkspaceId},
    principal::Principal,
};
use relation::{
    Facts,
    action::{CreateWorkspace, IssueKey, ManageReturnAddresses, ReadWorkspace},
    authorize,
};
use store::{StoreError, api_key::Role};
use time::OffsetDateTime;
use url::Url;
use zeroize::Zeroizing;

pub use shred::{DeletedKey, ShredCertificate, ShredStage, shred};

use crate::{App, Refusal, api_key, gateway::workspace_of};

/// A workspace as its members see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name, as owners are shown it.
    pub name: String,
    /// Where browsers may be sent back to.
    pub return_addresses: Vec<String>,
}

/// Makes a workspace with its first data key.
///
/// # Errors
/// `Invalid` for a name that is none; `Unavailable`.
pub async fn create(app: &App, operator: &Principal, name: &str) -> Result<WorkspaceId, Refusal> {
    make(app, operator, (name, false)).await
}

/// Makes a workspace that is the probes' own: its trail is marked, and what is refused there is no alarm. It stays one for good.
///
/// # Errors
/// As for [`create`].
pub async fn create_for_probes(app: &App, operator: &Principal, name: &str) -> Result<WorkspaceId, Refusal> {
    make(app, operator, (name, true)).await
}

async fn make(app: &App, operator: &Principal, (name, is_probe): (&str, bool)) -> Result<WorkspaceId, Refusal> {
    let name = (checked_name("/name", name)?, is_probe);
    let id = WorkspaceId::new(&app.clock);
    match found(app, operator, id, name).await {
        // This process slept while its epoch was retired: it reads the keyring now, and wraps once more.
        Err(Refusal::Unavailable(Some(StoreError::RetiredEpoch))) if app.custody.keyring().reload().is_ok() => {
            found(app, operator, id, name).await?;
        }
        made => made?,
    }
    Ok(id)
}

async fn found(app: &App, operator: &Principal, id: WorkspaceId, name: (&str, bool)) -> Result<(), Refusal> {
    let permit = authorize::<CreateWorkspace>(&Facts::none_yet(app.store.model(), id), operator, id, &app.clock)?;
    let key = app.custody.first_key(id, &app.clock)?;
    let mut tenant = app.store.found(permit).await?;
    store::workspace::create(&mut tenant, name, &key, app.clock.now()).await?;
    let created = Event::new("workspace.created", format!("workspace:{id}"));
    tenant.commit(if name.1 { created.with(serde_json::json!({ "probe": true })) } else { created }).await?;
    Ok(())
}

/// Makes an API key by the operator's hand: the first one of a workspace cannot come from anybody else.
///
/// # Errors
/// `NotFound`, `Invalid`, `Unavailable`.
pub async fn issue_key(
    app: &App,
    operator: &Principal,
    workspace: WorkspaceId,
    label: &str,
    role: Role,
    expires_at: Option<OffsetDateTime>,
) -> Result<(KeyId, Zeroizing<String>), Refusal> {
    let label = checked_name("/label", label)?;
    let (mut tenant, _) = app.enter::<IssueKey>(operator, workspace, workspace).await?;
    let (id, text) = api_key::store_new(app, &mut tenant, label, role, expires_at).await?;
    tenant.commit(api_key::created(id, role)).await?;
    Ok((id, text))
}

/// The caller's own workspace.
///
/// # Errors
/// As for any use case.
pub async fn get(app: &App, caller: &Principal) -> Result<Workspace, Refusal> {
    let id = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<ReadWorkspace>(caller, id, id).await?;
    let addresses = store::return_address::list(&mut tenant).await?;
    tenant.finish().await?;
    let return_addresses = addresses.into_iter().map(|(url, _)| url).collect();
    Ok(Workspace { id, name: snapshot.name.clone(), return_addresses })
}

/// Registers an address to which a browser may be sent with the one-time code of a new connection.
///
/// It is `https`, or on this machine itself; it has no credentials and no fragment.
///
/// # Errors
/// `Invalid`, with what is wrong with the address.
pub async fn register_return_address(app: &App, caller: &Principal, address: &str) -> Result<String, Refusal> {
    let id = workspace_of(caller)?;
    let address = checked_address("/url", address)?;
    let (mut tenant, _) = app.enter::<ManageReturnAddresses>(caller, id, id).await?;
    store::return_address::register(&mut tenant, address.as_str(), app.clock.now()).await?;
    let detail = serde_json::json!({ "origin": origin(&address) });
    tenant.commit(Event::new("return_address.registered", format!("workspace:{id}")).with(detail)).await?;
    Ok(address.into())
}

/// Removes a registered address. Every link that leads there ends, and a code that was brought there is redeemed no more: a connection whose
/// code was not is taken apart as any other that nobody redeems. All other connections stay.
///
/// # Errors
/// `Invalid`, with what is wrong with the address; `NotFound` where it is not registered.
pub async fn remove_return_address(app: &App, caller: &Principal, address: &str) -> Result<(), Refusal> {
    let id = workspace_of(caller)?;
    let address = checked_address("?url", address)?;
    let (mut tenant, _) = app.enter::<ManageReturnAddresses>(caller, id, id).await?;
    let links = store::return_address::remove(&mut tenant, address.as_str()).await?;
    let detail = serde_json::json!({ "origin": origin(&address), "links_ended": links });
    tenant.commit(Event::new("return_address.removed", format!("workspace:{id}")).with(detail)).await?;
    Ok(())
}

/// What the trail says of an address: the rest of it is the customer's.
fn origin(address: &Url) -> String {
    address.origin().ascii_serialization()
}

fn checked_address(pointer: &str, address: &str) -> Result<Url, Refusal> {
    let wrong = |why: &str| Refusal::invalid(pointer, why);
    if address.len() > 2000 {
        return Err(wrong("has at most 2000 characters"));
    }
    let url = Url::parse(address).map_err(|_| wrong("is an absolute address"))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err(wrong("is an https address (or http on localhost)"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong("has no credentials and no fragment"));
    }
    Ok(url)
}

/// A name for people: 1 to 200 characters, none of them a control character.
pub(crate) fn checked_name<'a>(pointer: &str, name: &'a str) -> Result<&'a str, Refusal> {
    let name = name.trim();
    if (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        Ok(name)
    } else {
        Err(Refusal::invalid(pointer, "has 1 to 200 characters, and no control characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_would_leak_a_code_are_refused() {
        for good in ["https://app.example.com/done", "http://localhost:3000/cb", "http://127.0.0.1/cb?x=1"] {
            assert!(checked_address("/url", good).is_ok(), "{good}");
        }
        for bad in [
            "http://app.example.com/done",
            "https://user:pass@app.example.com/",
            "https://app.example.com/#x",
            "javascript:alert(1)",
            "/relative",
            "http://localhost.example.com/",
            "",
        ] {
            assert!(checked_address("/url", bad).is_err(), "{bad}");
        }
    }
}
