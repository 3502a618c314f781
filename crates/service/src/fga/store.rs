//! The stores themselves: made, listed, deleted.

use std::time::Duration;

use domain::{
    audit::Event,
    id::{JobId, RelationStoreId, WorkspaceId},
    principal::{Cause, Principal},
};
use relation::action::{ManageStores, PurgeStore, ReadStores};
pub use store::fga::RelationStore;
use store::{StoreError, fga::MOST_STORES};

use super::{FgaError, refused::store_or_not_found};
use crate::{App, Refusal, gateway::workspace_of};

/// The kind of a job that deletes the rows of a store.
pub(crate) const PURGE: &str = "purge_store";

/// How long the call that deletes a store goes on with its rows. What is left then, a job deletes.
const AT_ONCE: Duration = Duration::from_secs(1);
/// When the job begins that deletes what the call did not.
const HEAD_START: Duration = Duration::from_secs(30);

/// Makes a store.
///
/// # Errors
/// `Invalid` for a name of another form; `Exceeded`.
pub async fn create(app: &App, caller: &Principal, name: &str) -> Result<RelationStore, FgaError> {
    if !is_name(name) {
        return Err(FgaError::Invalid(
            "name: is 3 to 64 characters, of letters, digits, spaces and . - / ^ _ & @".to_owned(),
        ));
    }
    let workspace = workspace_of(caller)?;
    let id = RelationStoreId::new(&app.clock);
    let (mut tenant, _) = app.enter::<ManageStores>(caller, workspace, workspace).await?;
    let store = match store::fga::create(&mut tenant, id, name).await {
        Err(StoreError::Conflict) => {
            return Err(FgaError::Exceeded { what: "stores", limit: MOST_STORES.unsigned_abs() });
        }
        made => made?,
    };
    tenant.commit(Event::new("relation_store.created", reference(id))).await?;
    Ok(store)
}

pub(super) fn reference(id: RelationStoreId) -> String {
    format!("relation_store:sto_{}", id.to_string().to_lowercase())
}

/// As OpenFGA has it: `^[a-zA-Z0-9\s\.\-\/^_&@]{3,64}$`.
pub(super) fn is_name(name: &str) -> bool {
    let known = |letter: char| {
        letter.is_ascii_alphanumeric()
            || letter.is_ascii_whitespace()
            || matches!(letter, '.' | '-' | '/' | '^' | '_' | '&' | '@')
    };
    (3..=64).contains(&name.len()) && name.chars().all(known)
}

/// The workspace's stores, the oldest first, one more than `most` where there are more.
///
/// # Errors
/// As for any use case.
pub async fn list(
    app: &App,
    caller: &Principal,
    name: Option<&str>,
    after: Option<RelationStoreId>,
    most: usize,
) -> Result<Vec<RelationStore>, FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    let stores = store::fga::list(&mut tenant, name, after, most).await?;
    tenant.finish().await?;
    Ok(stores)
}

/// One store.
///
/// # Errors
/// `StoreNotFound`.
pub async fn find(app: &App, caller: &Principal, id: RelationStoreId) -> Result<RelationStore, FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    let store = store::fga::find(&mut tenant, id).await.map_err(store_or_not_found)?;
    tenant.finish().await?;
    Ok(store)
}

/// Deletes a store. It is not found from the commit on; its rows go at once where there are few, else bit by bit.
///
/// # Errors
/// `StoreNotFound`.
pub async fn delete(app: &App, caller: &Principal, id: RelationStoreId) -> Result<(), FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ManageStores>(caller, workspace, workspace).await?;
    store::fga::delete(&mut tenant, id).await.map_err(store_or_not_found)?;
    store::job::enqueue(&mut tenant, JobId::new(&app.clock), PURGE, id, HEAD_START).await?;
    tenant.commit(Event::new("relation_store.deleted", reference(id))).await?;
    match tokio::time::timeout(AT_ONCE, purge(app, workspace, id)).await {
        Ok(Err(error)) => tracing::info!(store = %id, %error, "a deleted store's rows wait for their job"),
        Err(_) => tracing::info!(store = %id, "a deleted store is large; a job goes on with its rows"),
        Ok(Ok(())) => {}
    }
    Ok(())
}

/// Deletes the rows of a store that was deleted, some thousands in a transaction.
///
/// # Errors
/// As for any use case; it may be done again from its beginning.
pub(crate) async fn purge(app: &App, workspace: WorkspaceId, id: RelationStoreId) -> Result<(), Refusal> {
    let principal = Principal::system(Cause::PurgeStore(id), app.clock.now());
    loop {
        let (mut tenant, _) = app.enter::<PurgeStore>(&principal, workspace, workspace).await?;
        let is_empty = store::fga::purge(&mut tenant, id).await?;
        if is_empty {
            store::job::done(&mut tenant, PURGE, id).await?;
        }
        tenant.finish().await?;
        if is_empty {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_a_name_of_openfgas_form() {
        for name in ["abc", "my-store_1", "a b/c.d^e&f@g", &"x".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "ab", "a;b", "storé", "<b>", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
