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

/// Changes, and where to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The oldest first.
    pub changes: Vec<Change>,
    /// Up to where the changes were looked at; none where there was nothing to look at.
    pub end: Option<Place>,
}

/// How many changes are looked at for one page: those of one type may be few among many, or none.
const LOOKED_AT: i64 = 20_000;

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

/// Reads changes, the oldest first. A page may have fewer than are wanted, or none, though others come behind its end.
///
/// # Errors
/// `Unavailable`.
pub async fn read<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    wanted: Wanted<'_>,
) -> Result<Page, StoreError> {
    let workspace = tenant.workspace().uuid();
    let looked_at = if domain::sabotaged!(RelationChanges) { i64::MAX } else { LOOKED_AT };
    // Times rise with revisions: the first change since then has the smallest revision. What was looked at and what was found of it is
    // one statement, so that nothing that comes meanwhile is passed over.
    let rows = sqlx::query!(
        "with looked_at as materialized ( \
           select c.revision, c.place, c.object, c.at from fga_changes c \
             where c.workspace_id = $1 and c.store_id = $2 and (c.revision, c.place) > ($3, $4) \
               and ($6::timestamptz is null or c.revision >= (select f.revision from fga_changes f \
                 where f.workspace_id = $1 and f.store_id = $2 and f.at >= $6 order by f.at, f.revision limit 1)) \
             order by c.revision, c.place limit $8), \
         found as ( \
           select l.revision, l.place from looked_at l \
             where ($5::text is null or (l.object >= $5 || ':' and l.object < $5 || ';')) and ($6::timestamptz is null or l.at >= $6) \
             order by l.revision, l.place limit $7) \
         select e.revision as \"end_revision!\", e.place as \"end_place!\", c.revision as \"revision?\", c.place as \"place?\", \
             c.is_write as \"is_write?\", c.object as \"object?\", c.relation as \"relation?\", c.subject as \"subject?\", \
             c.condition as \"condition?\", c.context as \"context?\", c.at as \"at?\" \
           from (select l.revision, l.place from looked_at l order by l.revision desc, l.place desc limit 1) e \
           left join (found f join fga_changes c on c.workspace_id = $1 and c.store_id = $2 \
             and c.revision = f.revision and c.place = f.place) on true \
           order by c.revision, c.place",
        workspace,
        store.uuid(),
        wanted.after.revision,
        wanted.after.place,
        wanted.type_name,
        wanted.since,
        wanted.most,
        looked_at,
    )
    .fetch_all(tenant.sql())
    .await?;
    let last = rows.first().map(|row| Place { revision: row.end_revision, place: row.end_place });
    let changes: Vec<Change> = rows
        .into_iter()
        .filter_map(|row| {
            Some(Change {
                at: Place { revision: row.revision?, place: row.place? },
                is_write: row.is_write?,
                tuple: relationship(row.object?, row.relation?, row.subject?, row.condition, row.context),
                changed_at: row.at?,
            })
        })
        .collect();
    let is_full = i64::try_from(changes.len()).is_ok_and(|found| found >= wanted.most);
    let end = if is_full { changes.last().map(|change| change.at) } else { last };
    Ok(Page { changes, end })
}
