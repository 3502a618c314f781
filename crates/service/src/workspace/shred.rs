//! Shredding: a workspace is ended for good, and what is left of it is a certificate.
//!
//! Acts stop first; then the grants are given back at the providers, as far as they can be reached, since that needs the credentials; then
//! the data keys are deleted in one commit, after which nothing of the workspace opens here; then every row goes, a page at a time. Each
//! step may be done again: whoever is killed on the way is followed by the same command.

use std::collections::BTreeMap;

use domain::{
    connection::Verdict,
    id::{ConnectionId, DataKeyId, WorkspaceId},
    principal::Principal,
};
use relation::{Facts, Permit, action::ShredWorkspace, authorize};
use serde::Serialize;
use store::{Tenant, workspace::Shredding};
use time::OffsetDateTime;

use crate::{App, Refusal, connection};

/// The rows of one transaction.
const ROWS: i32 = 2000;
/// The connections that are looked up at a time.
const CONNECTIONS: i64 = 100;
/// After so many connections in a row at which a provider gave no usable answer, the rest of its connections are not tried.
const SILENCE: u32 = 3;

/// What was shredded. It is kept by the installation, and names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShredCertificate {
    /// The workspace that was.
    pub workspace: WorkspaceId,
    /// When acts stopped.
    #[serde(with = "time::serde::rfc3339::option")]
    pub acts_stopped_at: Option<OffsetDateTime>,
    /// When the data keys were deleted: nothing that they sealed opens in this database since.
    #[serde(with = "time::serde::rfc3339::option")]
    pub keys_deleted_at: Option<OffsetDateTime>,
    /// When the last row was deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// The data keys that were deleted.
    pub data_keys: Vec<DeletedKey>,
    /// How many connections the workspace had.
    pub connections: i64,
    /// Of how many the provider acknowledged the revocation of the grant.
    pub revoked_at_provider: i64,
    /// Of how many the old access token was tried and found dead.
    pub found_dead: i64,
    /// How many rows were deleted.
    pub rows_deleted: i64,
    /// What remains, and until when.
    pub backups: String,
}

/// A data key that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeletedKey {
    /// The key's name.
    pub id: DataKeyId,
    /// The epoch that it was wrapped under.
    pub epoch: i64,
}

/// How far a shredding is, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShredStage {
    /// Grants are given back; so many connections were seen to.
    Revoking(u64),
    /// Rows are deleted, in so many pages by now.
    Deleting(u64),
}

/// Shreds a workspace, by the hand of the operator, who says its name. One that was shredded already answers its certificate again.
///
/// # Errors
/// `NotFound`; `Invalid` where the name is another; `ProviderNotMigrated` where a provider is stopped, whose grants could not be given
/// back: mend or approve its file first; `Unavailable`: then the same call goes on where this one ended.
pub async fn shred(
    app: &App,
    operator: &Principal,
    workspace: WorkspaceId,
    confirm: &str,
    watch: impl Fn(ShredStage),
) -> Result<ShredCertificate, Refusal> {
    let begun = app.store.shredding(workspace).await?;
    if let Some(ended) = begun.filter(|begun| begun.finished_at.is_some()) {
        return Ok(certificate(workspace, ended));
    }
    let mut tenant = enter(app, operator, workspace).await?;
    let name = store::workspace::name(&mut tenant).await?.ok_or(Refusal::NotFound)?;
    if name != confirm {
        return Err(Refusal::invalid("/confirm", "is not the name of this workspace"));
    }
    for provider in store::workspace::providers(&mut tenant).await? {
        if let Err(stopped @ Refusal::ProviderNotMigrated(_)) = app.providers.going(&provider) {
            return Err(stopped);
        }
    }
    drop(tenant);
    app.store.ask_shredding(&permit(app, operator, workspace)?, &name).await?;
    store::workspace::begin_shredding(enter(app, operator, workspace).await?).await?;
    tracing::warn!(%workspace, "a workspace is being shredded; its acts have stopped");
    give_back_grants(app, operator, workspace, &watch).await?;
    store::workspace::delete_keys(enter(app, operator, workspace).await?).await?;
    tracing::warn!(%workspace, "the data keys of a workspace are deleted");
    for page in 1.. {
        if store::workspace::shred_page(enter(app, operator, workspace).await?, ROWS).await? {
            break;
        }
        watch(ShredStage::Deleting(page));
    }
    let ended = app.store.shredding(workspace).await?.ok_or(Refusal::Internal("a shredding without its line", None))?;
    tracing::warn!(%workspace, rows = ended.rows_deleted, "a workspace was shredded");
    Ok(certificate(workspace, ended))
}

/// The operator's word hangs on no fact of the workspace, so that none is loaded.
fn permit(app: &App, operator: &Principal, workspace: WorkspaceId) -> Result<Permit<ShredWorkspace>, Refusal> {
    let facts = Facts::none_yet(app.store.model(), workspace);
    Ok(authorize::<ShredWorkspace>(&facts, operator, workspace, &app.clock)?)
}

async fn enter(app: &App, operator: &Principal, workspace: WorkspaceId) -> Result<Tenant<ShredWorkspace>, Refusal> {
    Ok(app.store.enter(permit(app, operator, workspace)?).await?)
}

/// Takes every connection apart, as an owner's disconnection does. A provider that does not answer does not stop the shredding; one that
/// is stopped does. No connection is added behind the cursor: from the first commit on the database refuses that.
async fn give_back_grants(
    app: &App,
    operator: &Principal,
    workspace: WorkspaceId,
    watch: &impl Fn(ShredStage),
) -> Result<(), Refusal> {
    let mut silent: BTreeMap<String, u32> = BTreeMap::new();
    let (mut after, mut seen) = (None::<ConnectionId>, 0);
    loop {
        // Only read: dropped without a commit, it leaves the head as it was.
        let mut tenant = enter(app, operator, workspace).await?;
        let page = store::workspace::disconnecting(&mut tenant, after, CONNECTIONS).await?;
        drop(tenant);
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(*last);
        for (id, provider) in page {
            seen += 1;
            watch(ShredStage::Revoking(seen));
            let silences = silent.entry(provider).or_default();
            if *silences >= SILENCE {
                continue;
            }
            match Box::pin(connection::finish(app, workspace, id, operator.request)).await {
                Ok(told) if told.revoked_at_provider || told.old_token != Verdict::RefusedToSay => *silences = 0,
                Ok(_) => *silences += 1,
                Err(stopped @ Refusal::ProviderNotMigrated(_)) => return Err(stopped),
                Err(error) => {
                    *silences += 1;
                    tracing::warn!(connection = %id, %error, "a grant was not given back before its workspace was shredded");
                }
            }
        }
    }
}

fn certificate(workspace: WorkspaceId, ended: Shredding) -> ShredCertificate {
    let data_keys: Vec<_> = ended.data_keys.into_iter().map(|(id, epoch)| DeletedKey { id, epoch }).collect();
    ShredCertificate {
        workspace,
        acts_stopped_at: ended.begun_at,
        keys_deleted_at: ended.keys_deleted_at,
        finished_at: ended.finished_at,
        backups: what_remains(&data_keys),
        data_keys,
        connections: ended.connections,
        revoked_at_provider: ended.revoked,
        found_dead: ended.dead,
        rows_deleted: ended.rows_deleted,
    }
}

/// The sentence that a certificate must not leave out.
fn what_remains(keys: &[DeletedKey]) -> String {
    let mut epochs: Vec<_> = keys.iter().map(|key| key.epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let epochs: Vec<_> = epochs.iter().map(ToString::to_string).collect();
    match epochs.as_slice() {
        [] => "Backups and write-ahead logs from before still hold what was sealed, until they expire.".to_owned(),
        epochs => format!(
            "Backups and write-ahead logs from before still hold what was sealed and the wrapped data keys. Whoever has one of them, the \
             root key and the keyring can open it until epoch {} is destroyed (keyholder keyring destroy) or the backup expires. \
             Running nodes forget the opened keys within ten minutes.",
            epochs.join(" and epoch ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::clock::Clock;

    #[test]
    fn a_certificate_says_until_when_backups_open() {
        let key = |epoch| DeletedKey { id: DataKeyId::new(&Clock::system()), epoch };
        let words = what_remains(&[key(3), key(2), key(3)]);
        assert!(words.contains("until epoch 2 and epoch 3 is destroyed"), "{words}");
        assert!(what_remains(&[]).contains("until they expire"));
    }
}
