//! Role templates and who holds them.
//!
//! A template's row carries the digest of its text and a MAC by a key that the database does not have. Every reading verifies both, and that
//! the workspace's trail knows nothing later; one that does not hold grants nothing, and neither does what stands on it. Must never take a
//! row's word for what a template permits.

mod drift;

use std::collections::BTreeMap;

use aws_lc_rs::{constant_time, digest, hmac};
use domain::{
    id::{Id, KeyId, RoleTemplateId, WorkspaceId},
    role_template::{Bundle, MOST_ASSIGNMENTS, MOST_TEMPLATES},
};
use relation::{
    Relationship, Schema,
    action::{ListRoleTemplates, ManageRoleTemplates},
    permission,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

pub(crate) use self::drift::Alarms;
pub use self::drift::Drift;
use self::drift::Told;
use crate::{StoreError, Tenant};

/// What precedes the parts of a MAC, which no other use of the key shares.
const LABEL: &[u8] = b"keyholder role template 1";
/// What precedes the text of a change that is shown. Nothing of the other use begins like it.
const CHANGE_LABEL: &[u8] = b"keyholder change of a role template 1";

/// The key that authenticates role templates, derived from the root key.
pub struct TemplateKey {
    bytes: Zeroizing<[u8; 32]>,
}

impl TemplateKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self { bytes: Zeroizing::new(bytes) }
    }

    /// HMAC-SHA256 (RFC 2104) over workspace, template, version and text. All but the text have one length.
    fn mac(&self, workspace: Uuid, id: Uuid, version: i64, body: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice()));
        for part in [LABEL, workspace.as_bytes(), id.as_bytes(), &version.to_be_bytes(), body.as_bytes()] {
            context.update(part);
        }
        context.sign()
    }

    /// What confirms a change that was shown: HMAC-SHA256 over its text, in hexadecimal digits. Nobody has it but from whoever showed it.
    pub fn confirmation(&self, change: &str) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice()));
        context.update(CHANGE_LABEL);
        context.update(change.as_bytes());
        hex::encode(context.sign())
    }
}

/// A template's row, as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Its id.
    pub id: RoleTemplateId,
    /// How often it was written.
    pub version: i64,
    /// Its text.
    pub body: String,
    sha256: Vec<u8>,
    mac: Vec<u8>,
    told: Told,
}

impl Stored {
    /// What the template says, if Keyholder wrote it, and nothing else of it since.
    ///
    /// # Errors
    /// [`Drift`].
    pub fn verified(&self, key: &TemplateKey) -> Result<Bundle, Drift> {
        let text = digest::digest(&digest::SHA256, self.body.as_bytes());
        if text.as_ref() != self.sha256.as_slice() {
            return Err(Drift::Digest);
        }
        let mac = key.mac(self.workspace.uuid(), self.id.uuid(), self.version, &self.body);
        if constant_time::verify_slices_are_equal(mac.as_ref(), &self.mac).is_err()
            && !domain::sabotaged!(RoleTemplates)
        {
            return Err(Drift::Mac);
        }
        let bundle = Bundle::from_body(&self.body).ok_or(Drift::Text)?;
        if self.told.is_later_than(self) { Err(Drift::Older) } else { Ok(bundle) }
    }

    /// Whether the trail tells that it was removed: then somebody else put it back.
    pub fn was_removed(&self) -> bool {
        self.told.is_removed
    }

    /// The version that a change of it makes: one that no text had before, also where an older row was put back.
    fn next_version(&self) -> i64 {
        self.version.max(self.told.version).saturating_add(1)
    }

    /// The digest of its text, as it is stored.
    pub fn sha256(&self) -> &[u8] {
        &self.sha256
    }
}

/// A template as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The row.
    pub stored: Stored,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub changed_at: OffsetDateTime,
}

struct Row {
    id: Uuid,
    version: i64,
    body: String,
    sha256: Vec<u8>,
    mac: Vec<u8>,
    created_at: OffsetDateTime,
    changed_at: OffsetDateTime,
}

impl Row {
    fn listed(self, workspace: WorkspaceId) -> Listed {
        let Self { id, version, body, sha256, mac, created_at, changed_at } = self;
        let stored =
            Stored { workspace, id: RoleTemplateId::from_uuid(id), version, body, sha256, mac, told: Told::default() };
        Listed { stored, created_at, changed_at }
    }
}

/// Stores a new template. `false`: the workspace has as many as it may.
///
/// # Errors
/// `Unavailable`.
pub async fn create(
    tenant: &mut Tenant<ManageRoleTemplates>,
    key: &TemplateKey,
    id: RoleTemplateId,
    bundle: &Bundle,
) -> Result<bool, StoreError> {
    let workspace = tenant.workspace().uuid();
    let creator = tenant.principal().reference();
    let body = bundle.body();
    let (sha256, mac) = sealed(key, workspace, id, 1, &body);
    let made = sqlx::query!(
        "insert into role_templates (workspace_id, id, version, body, sha256, mac, created_by, changed_by) \
         select $1, $2, 1, $3, $4, $5, $6, $6 where (select count(*) from role_templates where workspace_id = $1) < $7",
        workspace,
        id.uuid(),
        body,
        sha256,
        mac,
        creator,
        MOST_TEMPLATES,
    )
    .execute(tenant.sql())
    .await?;
    Ok(made.rows_affected() > 0)
}

fn sealed(key: &TemplateKey, workspace: Uuid, id: RoleTemplateId, version: i64, body: &str) -> (Vec<u8>, Vec<u8>) {
    let sha256 = digest::digest(&digest::SHA256, body.as_bytes());
    let mac = key.mac(workspace, id.uuid(), version, body);
    (sha256.as_ref().to_vec(), mac.as_ref().to_vec())
}

/// Puts another bundle in a template's place, where it is still of the version that was read.
///
/// # Errors
/// `NotFound` where it is gone, or of another version.
pub async fn change(
    tenant: &mut Tenant<ManageRoleTemplates>,
    key: &TemplateKey,
    read: &Stored,
    bundle: &Bundle,
) -> Result<i64, StoreError> {
    let workspace = tenant.workspace().uuid();
    let by = tenant.principal().reference();
    let (id, version, next, body) = (read.id, read.version, read.next_version(), bundle.body());
    let (sha256, mac) = sealed(key, workspace, id, next, &body);
    let changed = sqlx::query!(
        "update role_templates set version = $4, body = $5, sha256 = $6, mac = $7, changed_by = $8, changed_at = clock_timestamp() \
         where workspace_id = $1 and id = $2 and version = $3",
        workspace,
        id.uuid(),
        version,
        next,
        body,
        sha256,
        mac,
        by,
    )
    .execute(tenant.sql())
    .await?;
    if changed.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(next) }
}

/// Removes a template. Whoever held it holds it no more.
///
/// # Errors
/// `NotFound`.
pub async fn remove(tenant: &mut Tenant<ManageRoleTemplates>, id: RoleTemplateId) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let gone = sqlx::query!("delete from role_templates where workspace_id = $1 and id = $2", workspace, id.uuid())
        .execute(tenant.sql())
        .await?;
    if gone.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// What may look at templates.
pub trait ReadsTemplates: relation::Action {}
impl ReadsTemplates for ListRoleTemplates {}
impl ReadsTemplates for ManageRoleTemplates {}

/// One template.
///
/// # Errors
/// `NotFound`.
pub async fn get<A: ReadsTemplates>(tenant: &mut Tenant<A>, id: RoleTemplateId) -> Result<Listed, StoreError> {
    let workspace = tenant.workspace();
    let row = sqlx::query_as!(
        Row,
        "select id, version, body, sha256, mac, created_at, changed_at from role_templates where workspace_id = $1 and id = $2",
        workspace.uuid(),
        id.uuid()
    )
    .fetch_one(tenant.sql())
    .await?;
    let mut listed = row.listed(workspace);
    drift::hear(tenant.sql(), &mut [&mut listed.stored]).await?;
    Ok(listed)
}

/// The newest templates before a given one, newest first.
///
/// # Errors
/// `Unavailable`.
pub async fn list(
    tenant: &mut Tenant<ListRoleTemplates>,
    before: Option<RoleTemplateId>,
    most: i64,
) -> Result<Vec<Listed>, StoreError> {
    let workspace = tenant.workspace();
    let rows = sqlx::query_as!(
        Row,
        "select id, version, body, sha256, mac, created_at, changed_at from role_templates \
         where workspace_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3",
        workspace.uuid(),
        before.map(Id::uuid),
        most
    )
    .fetch_all(tenant.sql())
    .await?;
    let mut listed: Vec<_> = rows.into_iter().map(|row| row.listed(workspace)).collect();
    drift::hear(tenant.sql(), &mut listed.iter_mut().map(|one| &mut one.stored).collect::<Vec<_>>()).await?;
    Ok(listed)
}

/// Gives a template to a key. `false`: the workspace has as many holders as it may. Who holds it already keeps it.
///
/// # Errors
/// `Conflict` where template or key are not in this workspace; `Unavailable`.
pub async fn assign(
    tenant: &mut Tenant<ManageRoleTemplates>,
    id: RoleTemplateId,
    to: KeyId,
) -> Result<bool, StoreError> {
    let workspace = tenant.workspace().uuid();
    let creator = tenant.principal().reference();
    let held =
        sqlx::query_scalar!("select count(*) as \"held!\" from role_assignments where workspace_id = $1", workspace)
            .fetch_one(tenant.sql())
            .await?;
    if held >= MOST_ASSIGNMENTS {
        return Ok(false);
    }
    sqlx::query!(
        "insert into role_assignments (workspace_id, role_id, key_id, created_by) values ($1, $2, $3, $4) on conflict do nothing",
        workspace,
        id.uuid(),
        to.uuid(),
        creator
    )
    .execute(tenant.sql())
    .await?;
    Ok(true)
}

/// Takes a template from a key.
///
/// # Errors
/// `NotFound` where the key does not hold it.
pub async fn unassign(
    tenant: &mut Tenant<ManageRoleTemplates>,
    id: RoleTemplateId,
    from: KeyId,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let gone = sqlx::query!(
        "delete from role_assignments where workspace_id = $1 and role_id = $2 and key_id = $3",
        workspace,
        id.uuid(),
        from.uuid()
    )
    .execute(tenant.sql())
    .await?;
    if gone.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}

/// The keys that hold a template and are still good, oldest first.
///
/// # Errors
/// `Unavailable`.
pub async fn assignees<A: ReadsTemplates>(
    tenant: &mut Tenant<A>,
    id: RoleTemplateId,
) -> Result<Vec<KeyId>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let keys = sqlx::query_scalar!(
        "select a.key_id from role_assignments a join api_keys k on k.workspace_id = a.workspace_id and k.id = a.key_id \
         where a.workspace_id = $1 and a.role_id = $2 and k.revoked_at is null order by a.key_id limit $3",
        workspace,
        id.uuid(),
        MOST_ASSIGNMENTS
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(keys.into_iter().map(KeyId::from_uuid).collect())
}

/// The templates of a workspace that hold, and who holds them. One that was rewritten is told of, and is not among them.
pub(crate) struct Roles {
    pub(crate) bundles: BTreeMap<RoleTemplateId, Bundle>,
    pub(crate) assigned: Vec<(RoleTemplateId, KeyId)>,
}

impl Roles {
    /// What they give, as tuples: each template its permissions, each holder its template. A permission that the model does not have (any
    /// more), or has out of templates' reach, gives nothing.
    pub(crate) fn tuples(&self, workspace: WorkspaceId, model: &Schema) -> Vec<Relationship> {
        let relations: BTreeMap<&str, &str> = permission::grantable(model).collect();
        let object = format!("workspace:{workspace}");
        let granted = self.bundles.iter().flat_map(|(role, bundle)| {
            let known = bundle.permissions.iter().filter_map(|name| relations.get(name.as_str()));
            let user = format!("role:{role}#assignee");
            let given = known.map(|relation| Relationship::new(object.clone(), *relation, user.clone()));
            given.collect::<Vec<_>>()
        });
        let held = self.assigned.iter();
        let held =
            held.map(|(role, key)| Relationship::new(format!("role:{role}"), "assignee", format!("api_key:{key}")));
        granted.chain(held).collect()
    }
}

/// Reads and verifies the templates of a workspace.
///
/// # Errors
/// `Unavailable`; `Corrupt` for a workspace with more of them than it may have.
pub(crate) async fn roles(
    sql: &mut PgConnection,
    workspace: WorkspaceId,
    (key, alarms): (&TemplateKey, &Alarms),
) -> Result<Roles, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        "select id, version, body, sha256, mac, created_at, changed_at from role_templates where workspace_id = $1 limit $2",
        workspace.uuid(),
        MOST_TEMPLATES + 1
    )
    .fetch_all(&mut *sql)
    .await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST_TEMPLATES {
        return Err(StoreError::Corrupt("more role templates than a workspace may have"));
    }
    let mut bundles = BTreeMap::new();
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.listed(workspace).stored).collect();
    drift::hear(&mut *sql, &mut rows.iter_mut().collect::<Vec<_>>()).await?;
    for stored in rows {
        match stored.verified(key) {
            Ok(bundle) => {
                alarms.end(&stored);
                bundles.insert(stored.id, bundle);
            }
            Err(drift) => {
                alarms.raise(&stored, drift);
            }
        }
    }
    let rows = sqlx::query!(
        "select role_id, key_id from role_assignments where workspace_id = $1 limit $2",
        workspace.uuid(),
        MOST_ASSIGNMENTS + 1
    )
    .fetch_all(sql)
    .await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST_ASSIGNMENTS {
        return Err(StoreError::Corrupt("more holders of role templates than a workspace may have"));
    }
    let assigned = rows.into_iter().map(|row| (RoleTemplateId::from_uuid(row.role_id), KeyId::from_uuid(row.key_id)));
    let assigned = assigned.filter(|(role, _)| bundles.contains_key(role)).collect();
    Ok(Roles { bundles, assigned })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::clock::Clock;

    use super::*;

    fn stored(key: &TemplateKey) -> Stored {
        let clock = Clock::system();
        let (workspace, id) = (WorkspaceId::new(&clock), RoleTemplateId::new(&clock));
        let bundle = Bundle { name: "Auditor".into(), permissions: BTreeSet::from(["audit.read".to_owned()]) };
        let body = bundle.body();
        let (sha256, mac) = sealed(key, workspace.uuid(), id, 1, &body);
        let told = Told { version: 1, sha256: hex::encode(&sha256), is_removed: false };
        Stored { workspace, id, version: 1, body, sha256, mac, told }
    }

    fn digest_of(body: &str) -> Vec<u8> {
        digest::digest(&digest::SHA256, body.as_bytes()).as_ref().to_vec()
    }

    #[test]
    fn a_template_counts_only_as_it_was_written() {
        let key = TemplateKey::new([7; 32]);
        let good = stored(&key);
        assert_eq!(good.verified(&key).map(|bundle| bundle.name), Ok("Auditor".to_owned()));
        let wide = good.body.replace("audit.read", "budget.manage");
        let rewritten = Stored { body: wide.clone(), ..good.clone() };
        assert_eq!(rewritten.verified(&key), Err(Drift::Digest));
        let with_its_digest = Stored { sha256: digest_of(&wide), body: wide, ..good.clone() };
        assert_eq!(with_its_digest.verified(&key), Err(Drift::Mac));
        let of_another = stored(&key);
        for moved in [
            Stored { workspace: of_another.workspace, ..good.clone() },
            Stored { id: of_another.id, ..good.clone() },
            Stored { version: 2, ..good.clone() },
            Stored { mac: of_another.mac, ..good.clone() },
            Stored { mac: good.mac.get(..16).unwrap_or_default().to_vec(), ..good.clone() },
        ] {
            assert_eq!(moved.verified(&key), Err(Drift::Mac));
        }
        assert_eq!(good.verified(&TemplateKey::new([8; 32])), Err(Drift::Mac), "by another key");
    }

    #[test]
    fn a_template_counts_only_while_the_trail_knows_nothing_later_of_it() {
        let key = TemplateKey::new([7; 32]);
        let good = stored(&key);
        let told = |version, sha256: &str, is_removed| Stored {
            told: Told { version, sha256: sha256.to_owned(), is_removed },
            ..good.clone()
        };
        let own = hex::encode(&good.sha256);
        for (row, counts, next) in [
            (told(1, &own, false), true, 2),
            (told(2, "00", false), false, 3),
            (told(1, "00", false), false, 2),
            (told(1, &own, true), false, 2),
            // A trail that is shredded, or is older than the row, says nothing against it.
            (told(0, "", false), true, 2),
            (told(9, &own, false), false, 10),
        ] {
            let expected = if counts { Ok("Auditor".to_owned()) } else { Err(Drift::Older) };
            assert_eq!(row.verified(&key).map(|bundle| bundle.name), expected, "{:?}", row.told);
            assert_eq!(row.next_version(), next, "a version that no text had");
        }
    }

    #[test]
    fn what_confirms_a_change_is_made_by_the_key_alone_and_is_no_templates_mac() {
        let key = TemplateKey::new([7; 32]);
        let good = stored(&key);
        let confirm = key.confirmation(&good.body);
        assert_eq!(confirm, key.confirmation(&good.body));
        assert_ne!(confirm, TemplateKey::new([8; 32]).confirmation(&good.body));
        assert_ne!(confirm, hex::encode(digest_of(&good.body)));
        assert_ne!(confirm, hex::encode(&good.mac));
    }

    #[test]
    fn a_drifted_template_is_told_of_once_for_each_rewriting() {
        let key = TemplateKey::new([7; 32]);
        let (good, alarms) = (stored(&key), Alarms::default());
        let other = Stored { version: 3, ..good.clone() };
        assert!(alarms.raise(&good, Drift::Mac) && !alarms.raise(&good, Drift::Mac));
        assert!(alarms.raise(&good, Drift::Older), "another way of drifting");
        assert!(alarms.raise(&other, Drift::Older) && !alarms.raise(&other, Drift::Older), "another row");
        alarms.end(&other);
        assert!(alarms.raise(&other, Drift::Older), "again, after it was mended");
    }

    #[test]
    fn a_text_that_is_not_canonical_grants_nothing_even_with_its_mac() {
        let key = TemplateKey::new([7; 32]);
        let good = stored(&key);
        let body = format!("{} ", good.body);
        let (sha256, mac) = sealed(&key, good.workspace.uuid(), good.id, 1, &body);
        assert_eq!(Stored { body, sha256, mac, ..good }.verified(&key), Err(Drift::Text));
    }
}
