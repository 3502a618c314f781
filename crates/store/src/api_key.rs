//! API keys: stored as the SHA-256 of a text that was shown once.

use domain::{
    api_key::ApiKeyHash,
    id::{Id, KeyId},
};
use relation::{
    Action,
    action::{IssueKey, ListKeys, ManageKeys},
};
use time::OffsetDateTime;

use crate::{StoreError, Tenant};

/// What a key is in its workspace: the relation in which it stands to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Manages the workspace.
    Admin,
    /// Sees what an admin sees, and changes nothing.
    SupportAgent,
    /// Invites owners, and acts under mandates.
    User,
    /// Acts under mandates.
    Service,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Admin, Self::SupportAgent, Self::User, Self::Service];

    /// The word in rows, tuples and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::SupportAgent => "support_agent",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// A key as it may be shown: never its secret, which nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: KeyId,
    /// What its maker called it.
    pub label: String,
    /// `admin`, `support_agent`, `user` or `service`.
    pub role: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was ended.
    pub revoked_at: Option<OffsetDateTime>,
}

/// What may make keys.
pub trait MakesKeys: Action {}
impl MakesKeys for ManageKeys {}
impl MakesKeys for IssueKey {}

/// A key to be stored.
pub struct NewKey<'a> {
    /// Its id.
    pub id: KeyId,
    /// What its maker calls it.
    pub label: &'a str,
    /// What it may do.
    pub role: Role,
    /// The hash of its text.
    pub hash: ApiKeyHash,
    /// When it ends by itself.
    pub expires_at: Option<OffsetDateTime>,
}

/// Stores a key and the fact that gives it its role.
///
/// # Errors
/// `Unavailable`.
pub async fn create<A: MakesKeys>(
    tenant: &mut Tenant<A>,
    key: &NewKey<'_>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let workspace = tenant.workspace();
    let creator = tenant.principal().reference();
    sqlx::query!(
        "insert into api_keys (workspace_id, id, label, role, hash, created_by, created_at, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        workspace.uuid(),
        key.id.uuid(),
        key.label,
        key.role.as_str(),
        key.hash.0.as_slice(),
        creator,
        now,
        key.expires_at,
    )
    .execute(tenant.sql())
    .await?;
    crate::tuple::add(tenant, &format!("workspace:{workspace}"), key.role.as_str(), &format!("api_key:{}", key.id))
        .await
}

/// Ends a key, and with it the fact that gave it its role, its relationships to objects and the role templates that it held.
///
/// # Errors
/// `NotFound` where there is no such key that is still good.
pub async fn revoke(tenant: &mut Tenant<ManageKeys>, key: KeyId, now: OffsetDateTime) -> Result<(), StoreError> {
    let workspace = tenant.workspace();
    let ended = sqlx::query!(
        "update api_keys set revoked_at = $3 where workspace_id = $1 and id = $2 and revoked_at is null",
        workspace.uuid(),
        key.uuid(),
        now,
    )
    .execute(tenant.sql())
    .await?;
    if ended.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    // Its row stays for the trail, so no foreign key takes these along.
    sqlx::query!("delete from relationships where workspace_id = $1 and key_id = $2", workspace.uuid(), key.uuid())
        .execute(tenant.sql())
        .await?;
    sqlx::query!("delete from role_assignments where workspace_id = $1 and key_id = $2", workspace.uuid(), key.uuid())
        .execute(tenant.sql())
        .await?;
    crate::tuple::remove_of_subject(tenant, &format!("workspace:{workspace}"), &format!("api_key:{key}")).await
}

/// The workspace's keys, newest first.
///
/// # Errors
/// `Unavailable`.
pub async fn list(tenant: &mut Tenant<ListKeys>, before: Option<KeyId>, most: i64) -> Result<Vec<Listed>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select id, label, role, created_at, expires_at, revoked_at from api_keys \
         where workspace_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3",
        workspace,
        before.map(Id::uuid),
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Listed {
            id: KeyId::from_uuid(row.id),
            label: row.label,
            role: row.role,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}
