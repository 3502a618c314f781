//! What was written to a relation store and deleted from it, in the order in which it counted.

use domain::id::{Id, RelationStoreId};
use relation::Relationship;
use time::OffsetDateTime;

use super::{UsesStores, tuple::relationship};
use crate::{StoreError, Tenant};

/// The most changes that a store remembers. Past it the oldest go, some with each write.
pub const MOST_CHANGES: i64 = 5_000_000;

/// A change's place: the revision that it made, and its place in the one call that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The revision.
    pub revision: i64,
    /// Counted from 0.
    pub place: i32,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its place.
    pub at: Place,
    /// Whether the tuple was written; else it was deleted.
    pub is_write: bool,
    /// The tuple.
    pub tuple: Relationship,
    /// When.
    pub changed_at: OffsetDateTime,
}

/// Which changes are read.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Only those behind this place.
    pub after: Place,
    /// Only those of objects of this type.
    pub type_name: Option<&'a str>,
    /// Only those since then.
    pub since: Option<OffsetDateTime>,
    /// The most of them.
    pub most: i64,
}

/// Reads changes, the oldest first.
///
/// # Errors
/// `Unavailable`.
pub async fn read<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    wanted: Wanted<'_>,
) -> Result<Vec<Change>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select revision, place, is_write, object, relation, subject, condition, context, at from fga_changes \
         where workspace_id = $1 and store_id = $2 and (revision, place) > ($3, $4) \
           and ($5::text is null or (object >= $5 || ':' and object < $5 || ';')) and ($6::timestamptz is null or at >= $6) \
         order by revision, place limit $7",
        workspace,
        store.uuid(),
        wanted.after.revision,
        wanted.after.place,
        wanted.type_name,
        wanted.since,
        wanted.most,
    )
    .fetch_all(tenant.sql())
    .await?;
    let changes = rows.into_iter().map(|row| Change {
        at: Place { revision: row.revision, place: row.place },
        is_write: row.is_write,
        tuple: relationship(row.object, row.relation, row.subject, row.condition, row.context),
        changed_at: row.at,
    });
    Ok(changes.collect())
}
