//! Drift: in which way a stored template is not the one that Keyholder wrote last, and to whom that is told.
//!
//! Compares a row with what its workspace's trail says last of it, and looks through the whole installation. Decides nothing about what a
//! template gives: that is `Stored::verified`, which asks here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest;
use domain::id::{Id, RoleTemplateId, WorkspaceId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Stored;
use crate::{Store, StoreError};

/// How many drifted templates a process remembers to have told of. Beyond that it forgets all of them, and tells again.
const MOST_REMEMBERED: usize = 10_000;

/// In which way a stored template is not the one that Keyholder wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// Its text is not the one of its digest.
    Digest,
    /// Its MAC is none of the key's over this text, in this workspace, of this version.
    Mac,
    /// Keyholder wrote it once, and the trail tells of a later version, or that it was removed.
    Older,
    /// Its text is no canonical one.
    Text,
}

impl Drift {
    /// The word in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Mac => "mac",
            Self::Older => "older",
            Self::Text => "text",
        }
    }
}

/// What the trail of its workspace says last of a template; of one that it does not tell of, nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The greatest version; 0 where none is told of.
    pub(super) version: i64,
    /// The digest of that version's text, in hexadecimal digits.
    pub(super) sha256: String,
    /// Whether it was removed: its id is given to no other.
    pub(super) is_removed: bool,
}

impl Told {
    /// Whether the trail knows something later of the template than this row. A trail that knows less is no fault of the row: it goes
    /// first where a workspace is shredded.
    pub(super) fn is_later_than(&self, row: &Stored) -> bool {
        if domain::sabotaged!(RoleTemplateTrail) {
            return false;
        }
        self.is_removed
            || self.version > row.version
            || (self.version == row.version && self.sha256 != hex::encode(&row.sha256))
    }
}

/// The template as its workspace's trail names it.
fn object(id: RoleTemplateId) -> String {
    format!("role_template:{id}")
}

/// Lays beside each row what the trail of its workspace says last of it.
///
/// # Errors
/// `Unavailable`.
pub(super) async fn hear(sql: &mut PgConnection, rows: &mut [&mut Stored]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let workspaces: Vec<Uuid> = rows.iter().map(|row| row.workspace.uuid()).collect();
    let objects: Vec<String> = rows.iter().map(|row| object(row.id)).collect();
    let said = sqlx::query!(
        "select workspace_id as \"workspace_id!\", object as \"object!\", version as \"version!\", sha256 as \"sha256!\", \
           is_removed as \"is_removed!\" from role_template_trail($1, $2)",
        &workspaces,
        &objects
    )
    .fetch_all(sql)
    .await?;
    let mut said: HashMap<(Uuid, String), Told> = said
        .into_iter()
        .map(|row| {
            let told = Told { version: row.version, sha256: row.sha256, is_removed: row.is_removed };
            ((row.workspace_id, row.object), told)
        })
        .collect();
    for row in rows {
        // What is not answered at all is another workspace's, and no row of that is here.
        let told = said.remove(&(row.workspace.uuid(), object(row.id)));
        row.told = told.ok_or(StoreError::Corrupt("the trail of a role template of another workspace"))?;
    }
    Ok(())
}

/// What was told of which template: the digest of its row as it was.
type Remembered = HashMap<(WorkspaceId, RoleTemplateId), Vec<u8>>;

/// The drifted templates of which this process has told: of each once, until its row is another one.
#[derive(Clone, Default)]
pub(crate) struct Alarms(Arc<Mutex<Remembered>>);

impl Alarms {
    /// Tells of a template that is not the one that Keyholder wrote last, if that was not told yet. Returns whether it told.
    pub(super) fn raise(&self, stored: &Stored, drift: Drift) -> bool {
        let row = digest_of(stored, drift);
        let mut told = self.told();
        if told.len() >= MOST_REMEMBERED {
            told.clear();
        }
        if told.insert((stored.workspace, stored.id), row.clone()) == Some(row) {
            return false;
        }
        drop(told);
        tracing::error!(
            workspace = %stored.workspace,
            template = %stored.id,
            version = stored.version,
            drift = drift.as_str(),
            "a role template was rewritten outside of Keyholder; it grants nothing"
        );
        metrics::counter!("keyholder_role_template_drifts_total", "drift" => drift.as_str()).increment(1);
        true
    }

    /// Forgets that it was told of: if it drifts again, that is another fault.
    pub(super) fn end(&self, stored: &Stored) {
        self.told().remove(&(stored.workspace, stored.id));
    }

    fn told(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one rewriting from the next.
fn digest_of(stored: &Stored, drift: Drift) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [
        drift.as_str().as_bytes(),
        &stored.version.to_be_bytes(),
        &stored.told.version.to_be_bytes(),
        &stored.sha256,
        &stored.mac,
        stored.body.as_bytes(),
    ] {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

impl Store {
    /// Every template of the installation that is not the one that Keyholder wrote last.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn drifted_role_templates(&self) -> Result<Vec<(Stored, Drift)>, StoreError> {
        const PAGE: i32 = 500;
        let mut drifted = Vec::new();
        let mut after = None;
        loop {
            let page = self.role_templates_after(after, PAGE).await?;
            after = page.last().map(|stored| (stored.workspace, stored.id));
            let is_last = page.len() < usize::try_from(PAGE).unwrap_or_default();
            drifted.extend(page.into_iter().filter_map(|stored| {
                let drift = stored.verified(self.template_key()).err()?;
                Some((stored, drift))
            }));
            if is_last {
                return Ok(drifted);
            }
        }
    }

    /// The templates of the installation after a given one, in the order of workspaces and ids.
    async fn role_templates_after(
        &self,
        after: Option<(WorkspaceId, RoleTemplateId)>,
        most: i32,
    ) -> Result<Vec<Stored>, StoreError> {
        let (workspace, id) = after.map(|(workspace, id)| (workspace.uuid(), id.uuid())).unzip();
        let mut transaction = self.begin_installation().await?;
        let rows = sqlx::query!(
            "select workspace_id as \"workspace_id!\", id as \"id!\", version as \"version!\", body as \"body!\", \
               sha256 as \"sha256!\", mac as \"mac!\" from role_templates_after($1, $2, $3)",
            workspace,
            id,
            most
        )
        .fetch_all(&mut *transaction)
        .await?;
        let mut page: Vec<Stored> = rows
            .into_iter()
            .map(|row| Stored {
                workspace: WorkspaceId::from_uuid(row.workspace_id),
                id: RoleTemplateId::from_uuid(row.id),
                version: row.version,
                body: row.body,
                sha256: row.sha256,
                mac: row.mac,
                told: Told::default(),
            })
            .collect();
        hear(&mut transaction, &mut page.iter_mut().collect::<Vec<_>>()).await?;
        transaction.commit().await?;
        Ok(page)
    }

    /// Tells of templates that drifted, of each once.
    pub fn tell_of_drifted(&self, drifted: &[(Stored, Drift)]) {
        for (stored, drift) in drifted {
            self.loader.alarms.raise(stored, *drift);
        }
    }
}
