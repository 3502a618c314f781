//! The tuples of a relation store: written and deleted together or not at all, and read a page at a time.

use std::collections::HashMap;

use domain::id::{Id, RelationStoreId};
use relation::{BoundCondition, Relationship, action::WriteTuples};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{MOST_BYTES_TOGETHER, MOST_TUPLES_TOGETHER, UsesStores, by_index, change::MOST_CHANGES, held};
use crate::{StoreError, Tenant};

/// The most tuples that a store holds.
pub const MOST_TUPLES: i64 = 5_000_000;

/// A tuple of which only the key counts: object, relation, user.
pub type Key<'a> = (&'a str, &'a str, &'a str);

/// What is written and deleted by one call.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// Tuples that are to be there, each key once.
    pub writes: &'a [Relationship],
    /// Keys of tuples that are to be gone, each once, and none of them written too.
    pub deletes: &'a [Relationship],
    /// Whether a tuple that is there as it is to be written is passed over; else it is a fault.
    pub ignore_duplicates: bool,
    /// Whether a tuple that is to be deleted and is not there is passed over; else it is a fault.
    pub ignore_missing: bool,
}

/// What a call came to. All but `Done` leave nothing behind once the transaction is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The store has this revision now.
    Done(i64),
    /// The tuple of this place among the writes is there already.
    Duplicate(usize),
    /// The tuple of this place among the writes is there, under another condition.
    ConditionDiffers(usize),
    /// The tuple of this place among the deletes is not there.
    Missing(usize),
    /// The store would hold more tuples than it may.
    TooMany,
    /// The stores of the workspace together would hold more tuples than they may.
    TooManyTogether,
    /// The stores of the workspace together would hold more bytes than they may.
    TooLargeTogether,
}

fn key(tuple: &Relationship) -> Key<'_> {
    (&tuple.object, &tuple.relation, &tuple.user)
}

/// Object, relation and user of many tuples, and whether the user is a userset, each as a list.
type Columns = (Vec<String>, Vec<String>, Vec<String>, Vec<bool>);

fn columns(tuples: &[Relationship]) -> Columns {
    let mut columns = Columns::default();
    for tuple in tuples {
        columns.0.push(tuple.object.clone());
        columns.1.push(tuple.relation.clone());
        columns.2.push(tuple.user.clone());
        columns.3.push(tuple.user.contains('#'));
    }
    columns
}

/// Writes and deletes tuples under the lock of the store's row: deletes first, then writes.
///
/// # Errors
/// `NotFound` where there is no such store; `Unavailable`.
pub async fn write(
    tenant: &mut Tenant<WriteTuples>,
    store: RelationStoreId,
    changes: Changes<'_>,
) -> Result<Outcome, StoreError> {
    let (workspace, id) = (tenant.workspace().uuid(), store.uuid());
    let before = sqlx::query!(
        "select revision, tuples, changes, greatest(clock_timestamp(), updated_at) as \"now!\" from fga_stores \
         where workspace_id = $1 and id = $2 and deleted_at is null for no key update",
        workspace,
        id,
    )
    .fetch_one(tenant.sql())
    .await?;
    let (deleted, freed) = delete(tenant, id, changes.deletes).await?;
    if let Some(missing) = (0..changes.deletes.len()).find(|at| !deleted.contains(at))
        && !changes.ignore_missing
    {
        return Ok(Outcome::Missing(missing));
    }
    let (written, taken) = insert(tenant, id, changes.writes, before.now).await?;
    if let Some(first) = (0..changes.writes.len()).find(|at| !written.contains(at)) {
        if !changes.ignore_duplicates {
            return Ok(Outcome::Duplicate(first));
        }
        let passed: Vec<usize> = (0..changes.writes.len()).filter(|at| !written.contains(at)).collect();
        if let Some(differs) = differing(tenant, id, changes.writes, &passed).await? {
            return Ok(Outcome::ConditionDiffers(differs));
        }
    }
    let (more, fewer) = (count(written.len()), count(deleted.len()));
    if more + fewer == 0 {
        return Ok(Outcome::Done(before.revision));
    }
    let tuples = before.tuples + more - fewer;
    if tuples > MOST_TUPLES && more > fewer {
        return Ok(Outcome::TooMany);
    }
    let revision = before.revision + 1;
    let gone = deleted.iter().filter_map(|at| changes.deletes.get(*at)).map(|tuple| (tuple, false));
    let new = written.iter().filter_map(|at| changes.writes.get(*at)).map(|tuple| (tuple, true));
    let all: Vec<(&Relationship, bool)> = gone.chain(new).collect();
    let remembered = remember(tenant, id, (revision, before.now), &all).await?;
    let together = held(tenant).await?;
    let is_too_large = |forgotten: i64| together.bytes + taken - freed + remembered - forgotten > MOST_BYTES_TOGETHER;
    let (trimmed, forgotten) =
        if before.changes + more + fewer > MOST_CHANGES || is_too_large(0) { trim(tenant, id).await? } else { (0, 0) };
    if more > fewer && together.tuples + more - fewer > MOST_TUPLES_TOGETHER {
        return Ok(Outcome::TooManyTogether);
    }
    // What only deletes is never refused: it makes room.
    if more > 0 && is_too_large(forgotten) {
        return Ok(Outcome::TooLargeTogether);
    }
    sqlx::query!(
        "update fga_stores set revision = $3, tuples = $4, changes = changes + $5, updated_at = $6, bytes = greatest(bytes + $7, 0) \
         where workspace_id = $1 and id = $2",
        workspace,
        id,
        revision,
        tuples,
        more + fewer - trimmed,
        before.now,
        taken - freed + remembered - forgotten,
    )
    .execute(tenant.sql())
    .await?;
    Ok(Outcome::Done(revision))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A place in a list that the database counted from 1.
fn place(ordinal: Option<i64>) -> Option<usize> {
    usize::try_from(ordinal?).ok()?.checked_sub(1)
}

/// Deletes by key; the places of those that were there, and how many bytes they took.
async fn delete(
    tenant: &mut Tenant<WriteTuples>,
    store: Uuid,
    deletes: &[Relationship],
) -> Result<(Vec<usize>, i64), StoreError> {
    if deletes.is_empty() {
        return Ok((Vec::new(), 0));
    }
    by_index(tenant).await?;
    let workspace = tenant.workspace().uuid();
    let (objects, relations, subjects, usersets) = columns(deletes);
    let gone = sqlx::query!(
        "delete from fga_tuples t using \
           unnest($3::text[], $4::text[], $5::text[], $6::boolean[]) with ordinality as w(object, relation, subject, is_userset, place) \
           cross join lateral (select f.ctid from fga_tuples f where f.workspace_id = $1 and f.store_id = $2 and f.object = w.object \
             and f.relation = w.relation and f.is_userset = w.is_userset and f.subject = w.subject offset 0) k \
         where t.workspace_id = $1 and t.ctid = k.ctid \
         returning w.place, fga_row_bytes(t.object, t.relation, t.subject, t.context) as \"bytes!\"",
        workspace,
        store,
        &objects,
        &relations,
        &subjects,
        &usersets,
    )
    .fetch_all(tenant.sql())
    .await?;
    let mut places: Vec<usize> = gone.iter().filter_map(|row| place(row.place)).collect();
    places.sort_unstable();
    Ok((places, gone.iter().map(|row| row.bytes).sum()))
}

/// Inserts what is not there; the places of those that were not, and how many bytes they take.
async fn insert(
    tenant: &mut Tenant<WriteTuples>,
    store: Uuid,
    writes: &[Relationship],
    now: OffsetDateTime,
) -> Result<(Vec<usize>, i64), StoreError> {
    if writes.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let workspace = tenant.workspace().uuid();
    let (objects, relations, subjects, usersets) = columns(writes);
    let (conditions, contexts): (Vec<Option<String>>, Vec<Option<Value>>) =
        writes.iter().map(|tuple| condition_columns(tuple.condition.as_ref())).unzip();
    let inserted = sqlx::query!(
        "insert into fga_tuples (workspace_id, store_id, object, relation, is_userset, subject, condition, context, written_at) \
         select $1, $2, w.object, w.relation, w.is_userset, w.subject, w.condition, w.context, $8 \
         from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $9::boolean[]) \
           as w(object, relation, subject, condition, context, is_userset) \
         on conflict do nothing \
         returning object, relation, subject, fga_row_bytes(object, relation, subject, context) as \"bytes!\"",
        workspace,
        store,
        &objects,
        &relations,
        &subjects,
        &conditions as &[Option<String>],
        &contexts as &[Option<Value>],
        now,
        &usersets,
    )
    .fetch_all(tenant.sql())
    .await?;
    let at: HashMap<Key<'_>, usize> = writes.iter().map(key).zip(0..).collect();
    let mut places: Vec<usize> = inserted
        .iter()
        .filter_map(|row| at.get(&(row.object.as_str(), row.relation.as_str(), row.subject.as_str())).copied())
        .collect();
    places.sort_unstable();
    Ok((places, inserted.iter().map(|row| row.bytes).sum()))
}

/// The first of these writes that is there under another condition than it has.
async fn differing(
    tenant: &mut Tenant<WriteTuples>,
    store: Uuid,
    writes: &[Relationship],
    places: &[usize],
) -> Result<Option<usize>, StoreError> {
    let workspace = tenant.workspace().uuid();
    by_index(tenant).await?;
    let passed: Vec<Relationship> = places.iter().filter_map(|at| writes.get(*at)).cloned().collect();
    let (objects, relations, subjects, usersets) = columns(&passed);
    let rows = sqlx::query!(
        "select w.place, t.condition, t.context \
         from unnest($3::text[], $4::text[], $5::text[], $6::boolean[]) with ordinality as w(object, relation, subject, is_userset, place) \
         cross join lateral (select f.condition, f.context from fga_tuples f where f.workspace_id = $1 and f.store_id = $2 and f.object = w.object \
           and f.relation = w.relation and f.is_userset = w.is_userset and f.subject = w.subject offset 0) t order by w.place",
        workspace,
        store,
        &objects,
        &relations,
        &subjects,
        &usersets,
    )
    .fetch_all(tenant.sql())
    .await?;
    for row in rows {
        let Some(at) = place(row.place) else { continue };
        let wanted = passed.get(at).and_then(|tuple| tuple.condition.clone());
        if bound(row.condition, row.context) != wanted {
            return Ok(places.get(at).copied());
        }
    }
    Ok(None)
}

/// Writes what happened, in this order, at one revision; how many bytes that takes.
async fn remember(
    tenant: &mut Tenant<WriteTuples>,
    store: Uuid,
    (revision, now): (i64, OffsetDateTime),
    changes: &[(&Relationship, bool)],
) -> Result<i64, StoreError> {
    let workspace = tenant.workspace().uuid();
    let principal = tenant.principal().reference();
    let tuples: Vec<Relationship> = changes.iter().map(|(tuple, _)| (*tuple).clone()).collect();
    let is_write: Vec<bool> = changes.iter().map(|(_, is_write)| *is_write).collect();
    let (objects, relations, subjects, _) = columns(&tuples);
    let (conditions, contexts): (Vec<Option<String>>, Vec<Option<Value>>) = changes
        .iter()
        .map(|(tuple, is_write)| condition_columns(tuple.condition.as_ref().filter(|_| *is_write)))
        .unzip();
    let remembered = sqlx::query_scalar!(
        "insert into fga_changes \
           (workspace_id, store_id, revision, place, is_write, object, relation, subject, condition, context, principal, at) \
         select $1, $2, $3, w.place - 1, w.is_write, w.object, w.relation, w.subject, w.condition, w.context, $10, $11 \
         from unnest($4::boolean[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[]) with ordinality \
           as w(is_write, object, relation, subject, condition, context, place) \
         returning fga_row_bytes(object, relation, subject, context) as \"bytes!\"",
        workspace,
        store,
        revision,
        &is_write,
        &objects,
        &relations,
        &subjects,
        &conditions as &[Option<String>],
        &contexts as &[Option<Value>],
        principal,
        now,
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(remembered.iter().sum())
}

/// Forgets some of the oldest changes; how many, and how many bytes they took. More than one call adds, so that it catches up.
async fn trim(tenant: &mut Tenant<WriteTuples>, store: Uuid) -> Result<(i64, i64), StoreError> {
    let workspace = tenant.workspace().uuid();
    let gone = sqlx::query!(
        "with gone as (delete from fga_changes where workspace_id = $1 and store_id = $2 and (revision, place) in \
           (select c.revision, c.place from fga_changes c where c.workspace_id = $1 and c.store_id = $2 order by c.revision, c.place limit 200) \
           returning object, relation, subject, context) \
         select count(*) as \"changes!\", coalesce(sum(fga_row_bytes(object, relation, subject, context)), 0)::bigint as \"bytes!\" from gone",
        workspace,
        store,
    )
    .fetch_one(tenant.sql())
    .await?;
    Ok((gone.changes, gone.bytes))
}

fn condition_columns(condition: Option<&BoundCondition>) -> (Option<String>, Option<Value>) {
    condition.map(|bound| (bound.name.clone(), Value::Object(bound.context.clone()))).unzip()
}

/// A condition as rows have it.
pub(super) fn bound(name: Option<String>, context: Option<Value>) -> Option<BoundCondition> {
    let context = match context {
        Some(Value::Object(context)) => context,
        _ => serde_json::Map::new(),
    };
    name.map(|name| BoundCondition { name, context })
}

pub(super) fn relationship(
    object: String,
    relation: String,
    user: String,
    condition: Option<String>,
    context: Option<Value>,
) -> Relationship {
    Relationship { object, relation, user, condition: bound(condition, context) }
}

/// Which tuples are read: all; those of an object; or those of a user with objects of a type.
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    /// All of the store.
    All,
    /// Those of an object, perhaps of one relation, perhaps of one user.
    Object {
        /// `type:id`
        object: &'a str,
        /// The relation.
        relation: Option<&'a str>,
        /// The user.
        user: Option<&'a str>,
    },
    /// Those of a user with objects of a type, perhaps of one relation.
    User {
        /// The user.
        user: &'a str,
        /// The objects' type.
        type_name: &'a str,
        /// The relation.
        relation: Option<&'a str>,
    },
}

/// A tuple, and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The tuple.
    pub tuple: Relationship,
    /// When it was written.
    pub written_at: OffsetDateTime,
}

/// Reads tuples behind the one that is named, in an order that stays.
///
/// # Errors
/// `Unavailable`.
pub async fn read<A: UsesStores>(
    tenant: &mut Tenant<A>,
    store: RelationStoreId,
    filter: Filter<'_>,
    after: Option<&Relationship>,
    most: i64,
) -> Result<Vec<Stored>, StoreError> {
    let (workspace, store) = (tenant.workspace().uuid(), store.uuid());
    // Before the first of all names there is the empty one.
    let (object, relation, user) = after.map_or(("", "", ""), key);
    let after_userset = user.contains('#');
    macro_rules! stored {
        ($query:expr) => {
            $query.fetch_all(tenant.sql()).await?.into_iter().map(|row| Stored {
                tuple: relationship(row.object, row.relation, row.subject, row.condition, row.context),
                written_at: row.written_at,
            })
        };
    }
    Ok(match filter {
        Filter::All => stored!(sqlx::query!(
            "select object, relation, subject, condition, context, written_at from fga_tuples \
             where workspace_id = $1 and store_id = $2 and (object, relation, is_userset, subject) > ($3, $4, $5, $6) \
             order by object, relation, is_userset, subject limit $7",
            workspace, store, object, relation, after_userset, user, most,
        ))
        .collect(),
        Filter::Object { object: of, relation: wanted, user: whose } => stored!(sqlx::query!(
            "select object, relation, subject, condition, context, written_at from fga_tuples \
             where workspace_id = $1 and store_id = $2 and object = $3 and (relation, is_userset, subject) > ($4, $5, $6) \
               and ($7::text is null or relation = $7) and ($8::text is null or subject = $8) \
             order by relation, is_userset, subject limit $9",
            workspace, store, of, relation, after_userset, user, wanted, whose, most,
        ))
        .collect(),
        Filter::User { user: whose, type_name, relation: wanted } => stored!(sqlx::query!(
            "select object, relation, subject, condition, context, written_at from fga_tuples \
             where workspace_id = $1 and store_id = $2 and subject = $3 and (relation, object) > ($4, $5) \
               and object >= $6 || ':' and object < $6 || ';' and ($7::text is null or relation = $7) \
             order by relation, object limit $8",
            workspace, store, whose, relation, object, type_name, wanted, most,
        ))
        .collect(),
    })
}
