//! Named operators: keys of persons, stored as the SHA-256 of a text that was shown once.

use domain::{
    api_key::ApiKeyHash,
    id::{Id, OperatorId},
};
use relation::action::{ListOperators, ManageOperators};
use time::OffsetDateTime;

use crate::{Lookup, StoreError, installation::Installation, super_admin};

/// The most keys that are listed, and that may be good at a time.
const MOST: i64 = 1000;

/// A key of a person, as it may be shown: never its secret, which nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key's id.
    pub id: OperatorId,
    /// The person.
    pub name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was ended.
    pub revoked_at: Option<OffsetDateTime>,
}

/// Stores a key of a person. Whoever is named super-admin and has no good key is none any longer before it is made, so that nobody
/// becomes one by his name: a binary from before super-admins ends keys and leaves what hung on them. Who that was, is answered.
///
/// # Errors
/// `Conflict` where there are too many; `Unavailable`.
pub async fn create(
    installation: &mut Installation<ManageOperators>,
    id: OperatorId,
    name: &str,
    hash: ApiKeyHash,
) -> Result<Vec<String>, StoreError> {
    let dismissed = super_admin::dismiss_keyless(installation).await?;
    let made = sqlx::query!(
        "insert into operators (id, name, hash) select $1, $2, $3 \
         where (select count(*) from operators where revoked_at is null) < $4",
        id.uuid(),
        name,
        hash.0.as_slice(),
        MOST,
    )
    .execute(installation.sql())
    .await?;
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
        "update operators set revoked_at = clock_timestamp() where id = $1 and revoked_at is null",
        id.uuid()
    )
    .execute(installation.sql())
    .await?;
    if ended.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    super_admin::dismiss_keyless(installation).await
}

/// The newest keys, by person.
///
/// # Errors
/// `Unavailable`.
pub async fn list(installation: &mut Installation<ListOperators>) -> Result<Vec<Listed>, StoreError> {
    let rows = sqlx::query!(
        "select id as \"id!\", name as \"name!\", created_at as \"created_at!\", revoked_at from \
           (select * from operators order by (revoked_at is null) desc, id desc limit $1) o order by name, id",
        MOST
    )
    .fetch_all(installation.sql())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Listed {
            id: OperatorId::from_uuid(row.id),
            name: row.name,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}

impl Lookup {
    /// Whose key this is, if it is good.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn operator(&self, hash: ApiKeyHash) -> Result<Option<(OperatorId, String)>, StoreError> {
        let row = sqlx::query!("select id as \"id!\", name as \"name!\" from lookup_operator($1)", hash.0.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| (OperatorId::from_uuid(row.id), row.name)))
    }
}
