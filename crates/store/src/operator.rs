//! The operator's keys: of named persons, and of what publishes statements; stored as the SHA-256 of a text that was shown once.

use domain::{
    api_key::ApiKeyHash,
    id::{Id, OperatorId},
    operator::Purpose,
};
use relation::action::{ListOperators, ManageOperators};
use time::OffsetDateTime;

use crate::{Lookup, StoreError, installation::Installation, super_admin};

/// The most keys that are listed, and that may be good at a time: of persons, and of what publishes.
const MOST: i64 = 1000;

/// A key, as it may be shown: never its secret, which nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key's id.
    pub id: OperatorId,
    /// The person, or what publishes.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was ended.
    pub revoked_at: Option<OffsetDateTime>,
}

/// Stores a key. Whoever is named super-admin and has no good key is none any longer before it is made, so that nobody becomes one by his
/// name: a binary from before super-admins ends keys and leaves what hung on them. Who that was, is answered.
///
/// # Errors
/// `Conflict` where there are too many; `Unavailable`.
pub async fn create(
    installation: &mut Installation<ManageOperators>,
    id: OperatorId,
    (name, purpose): (&str, Purpose),
    hash: ApiKeyHash,
) -> Result<Vec<String>, StoreError> {
    let dismissed = super_admin::dismiss_keyless(installation).await?;
    let (id, hash, sql) = (id.uuid(), hash.0.as_slice(), installation.sql());
    let made = match purpose {
        Purpose::Person => {
            sqlx::query!(
                "insert into operators (id, name, hash) select $1, $2, $3 \
                 where (select count(*) from operators where revoked_at is null) < $4",
                id,
                name,
                hash,
                MOST,
            )
            .execute(sql)
            .await?
        }
        Purpose::Publish => {
            sqlx::query!(
                "insert into statement_publishers (id, name, hash) select $1, $2, $3 \
                 where (select count(*) from statement_publishers where revoked_at is null) < $4",
                id,
                name,
                hash,
                MOST,
            )
            .execute(sql)
            .await?
        }
    };
    if made.rows_affected() == 0 { Err(StoreError::Conflict) } else { Ok(dismissed) }
}

/// Ends a key. It is refused from the commit on: no process remembers it. A super-admin whose last key it was is none any longer; who
/// that is, is answered.
///
/// # Errors
/// `NotFound` where there is no such key that is still good.
pub async fn revoke(
    installation: &mut Installation<ManageOperators>,
    id: OperatorId,
) -> Result<Vec<String>, StoreError> {
    let ended = sqlx::query!(
        "with person as (update operators set revoked_at = clock_timestamp() where id = $1 and revoked_at is null returning id), \
         publisher as (update statement_publishers set revoked_at = clock_timestamp() where id = $1 and revoked_at is null returning id) \
         select id as \"id!\" from person union all select id from publisher",
        id.uuid()
    )
    .fetch_optional(installation.sql())
    .await?;
    if ended.is_none() {
        return Err(StoreError::NotFound);
    }
    super_admin::dismiss_keyless(installation).await
}

/// The newest keys, by name.
///
/// # Errors
/// `Unavailable`.
pub async fn list(installation: &mut Installation<ListOperators>) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query!(
        "select id as \"id!\", name as \"name!\", is_person as \"is_person!\", created_at as \"created_at!\", revoked_at from \
           ((select id, name, true as is_person, created_at, revoked_at from operators \
               order by (revoked_at is null) desc, id desc limit $1) \
            union all \
            (select id, name, false, created_at, revoked_at from statement_publishers \
               order by (revoked_at is null) desc, id desc limit $1)) o order by name, id",
        MOST
    )
    .fetch_all(installation.sql())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Listed {
            id: OperatorId::from_uuid(row.id),
            name: row.name,
            purpose: purpose(row.is_person),
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}

fn purpose(is_person: bool) -> Purpose {
    if is_person { Purpose::Person } else { Purpose::Publish }
}

impl Lookup {
    /// Whose key this is and what for, if it is good.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn operator_key(&self, hash: ApiKeyHash) -> Result<Option<(OperatorId, String, Purpose)>, StoreError> {
        let row = sqlx::query!(
            "select id as \"id!\", name as \"name!\", is_person as \"is_person!\" from lookup_operator_key($1)",
            hash.0.as_slice()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| (OperatorId::from_uuid(row.id), row.name, purpose(row.is_person))))
    }
}
