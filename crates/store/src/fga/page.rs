//! What a question needs of a relation store's tuples: pages of it, or all of it where it is small.
//!
//! Each key is looked up by itself (`lateral … offset 0`, see [`super::by_index`]): joined in another order, a few keys would be looked for in
//! all of a store.
//!
//! A page is all tuples of an object and a relation, or of a user and a relation, or of just one key. Whoever asks for pages of one state
//! asks for all of them in one transaction of [`crate::Store::enter_reading`], or compares the revision.

use std::{collections::HashMap, sync::Arc};

use domain::id::{Id, RelationStoreId};
use futures_util::TryStreamExt as _;
use relation::{BoundCondition, Relationship, UserRef, action::ReadStores};

use super::tuple::{bound, relationship};
use crate::{StoreError, Tenant};

/// A page that a question needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Want {
    /// The tuple of just this key, if it is there.
    Tuple {
        /// `type:id`
        object: Arc<str>,
        /// The relation.
        relation: Arc<str>,
        /// The user as it is written.
        user: Arc<str>,
    },
    /// All tuples of an object and a relation; only those whose user is a userset, if so.
    Object {
        /// `type:id`
        object: Arc<str>,
        /// The relation.
        relation: Arc<str>,
        /// Whether only usersets are wanted.
        usersets: bool,
    },
    /// All tuples of a user and a relation.
    User {
        /// The user as it is written.
        user: Arc<str>,
        /// The relation.
        relation: Arc<str>,
    },
}

/// A tuple of a page. The relation is the page's.
#[derive(Debug, Clone)]
pub struct Line {
    /// The object.
    pub object: Arc<str>,
    /// The user's object, without its relation.
    pub user: Arc<str>,
    /// The user's relation.
    pub user_relation: Option<Arc<str>>,
    /// The condition.
    pub condition: Option<BoundCondition>,
}

impl Line {
    fn new(object: Arc<str>, user: &str, condition: Option<BoundCondition>) -> Self {
        let UserRef { object: user, relation } = split(user);
        Self { object, user: user.into(), user_relation: relation.map(Arc::from), condition }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let condition = self.condition.as_ref().map_or(0, BoundCondition::bytes);
        let relation = self.user_relation.as_ref().map_or(0, |relation| relation.len() + 16);
        size_of::<Self>() + self.object.len() + self.user.len() + 32 + relation + condition
    }
}

fn split(user: &str) -> UserRef<'_> {
    match user.split_once('#') {
        Some((object, relation)) => UserRef { object, relation: Some(relation) },
        None => UserRef { object: user, relation: None },
    }
}

/// How much may be read. Rows are taken one by one: what is more than that is never in memory together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// So many tuples.
    pub tuples: usize,
    /// So many bytes of memory, about.
    pub bytes: usize,
}

impl Room {
    /// Takes the room of a tuple. `false`: there is not enough left.
    pub fn take(&mut self, bytes: usize) -> bool {
        let left = self.tuples.checked_sub(1).zip(self.bytes.checked_sub(bytes));
        if let Some((tuples, bytes)) = left {
            *self = Self { tuples, bytes };
        }
        left.is_some()
    }

    /// One more than there is room for: that it comes means that there are too many.
    fn limit(self) -> i64 {
        i64::try_from(self.tuples).unwrap_or(i64::MAX).saturating_add(1)
    }
}

/// The pages that are wanted, each with its tuples; nothing, where there is no room for all of them together.
///
/// # Errors
/// `Unavailable`.
pub async fn fetch(
    tenant: &mut Tenant<ReadStores>,
    store: RelationStoreId,
    wants: &[Want],
    mut room: Room,
) -> Result<Option<Vec<(Want, Vec<Line>)>>, StoreError> {
    let mut found: HashMap<&Want, Vec<Line>> = wants.iter().map(|want| (want, Vec::new())).collect();
    let Some(single) = tuples(tenant, store, wants, &mut room).await? else { return Ok(None) };
    let Some(of_objects) = of_objects(tenant, store, wants, &mut room).await? else { return Ok(None) };
    let Some(of_users) = of_users(tenant, store, wants, &mut room).await? else { return Ok(None) };
    for (at, line) in single.into_iter().chain(of_objects).chain(of_users) {
        if let Some(page) = wants.get(at).and_then(|want| found.get_mut(want)) {
            page.push(line);
        }
    }
    Ok(Some(wants.iter().map(|want| (want.clone(), found.remove(want).unwrap_or_default())).collect()))
}

/// Lines with the places of their pages.
type Placed = Vec<(usize, Line)>;

fn at(place: Option<i64>, asked: &[usize]) -> Option<usize> {
    asked.get(usize::try_from(place?).ok()?.checked_sub(1)?).copied()
}

async fn tuples(
    tenant: &mut Tenant<ReadStores>,
    store: RelationStoreId,
    wants: &[Want],
    room: &mut Room,
) -> Result<Option<Placed>, StoreError> {
    let (mut asked, mut objects, mut relations, mut users) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut usersets = Vec::new();
    for (place, want) in wants.iter().enumerate() {
        if let Want::Tuple { object, relation, user } = want {
            asked.push(place);
            objects.push(object.to_string());
            relations.push(relation.to_string());
            users.push(user.to_string());
            usersets.push(user.contains('#'));
        }
    }
    if asked.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let workspace = tenant.workspace().uuid();
    // A comparison with what a function made of another column would be no condition of the index: row-level security forbids it.
    let mut rows = sqlx::query!(
        "select w.place, t.condition, t.context \
         from unnest($3::text[], $4::text[], $5::text[], $7::boolean[]) with ordinality as w(object, relation, subject, is_userset, place) \
         cross join lateral (select f.condition, f.context from fga_tuples f where f.workspace_id = $1 and f.store_id = $2 \
           and f.object = w.object and f.relation = w.relation and f.is_userset = w.is_userset and f.subject = w.subject offset 0) t limit $6",
        workspace,
        store.uuid(),
        &objects,
        &relations,
        &users,
        room.limit(),
        &usersets,
    )
    .fetch(tenant.sql());
    let mut placed = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let Some(place) = at(row.place, &asked) else { continue };
        let Some(Want::Tuple { object, user, .. }) = wants.get(place) else { continue };
        let line = Line::new(Arc::clone(object), user, bound(row.condition, row.context));
        if !room.take(line.bytes()) {
            return Ok(None);
        }
        placed.push((place, line));
    }
    Ok(Some(placed))
}

async fn of_objects(
    tenant: &mut Tenant<ReadStores>,
    store: RelationStoreId,
    wants: &[Want],
    room: &mut Room,
) -> Result<Option<Placed>, StoreError> {
    let (mut asked, mut objects, mut relations, mut only) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, want) in wants.iter().enumerate() {
        if let Want::Object { object, relation, usersets } = want {
            asked.push(place);
            objects.push(object.to_string());
            relations.push(relation.to_string());
            only.push(*usersets);
        }
    }
    if asked.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let workspace = tenant.workspace().uuid();
    // False stands before true: the comparison is a range of the index, where an `or` would be a filter over all of a group's members.
    let mut rows = sqlx::query!(
        "select w.place, t.subject, t.condition, t.context \
         from unnest($3::text[], $4::text[], $5::boolean[]) with ordinality as w(object, relation, usersets, place) \
         cross join lateral (select f.subject, f.condition, f.context from fga_tuples f where f.workspace_id = $1 and f.store_id = $2 \
           and f.object = w.object and f.relation = w.relation and f.is_userset >= w.usersets offset 0) t limit $6",
        workspace,
        store.uuid(),
        &objects,
        &relations,
        &only,
        room.limit(),
    )
    .fetch(tenant.sql());
    let mut placed = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let Some(place) = at(row.place, &asked) else { continue };
        let Some(Want::Object { object, .. }) = wants.get(place) else { continue };
        let line = Line::new(Arc::clone(object), &row.subject, bound(row.condition, row.context));
        if !room.take(line.bytes()) {
            return Ok(None);
        }
        placed.push((place, line));
    }
    Ok(Some(placed))
}

async fn of_users(
    tenant: &mut Tenant<ReadStores>,
    store: RelationStoreId,
    wants: &[Want],
    room: &mut Room,
) -> Result<Option<Placed>, StoreError> {
    let (mut asked, mut users, mut relations) = (Vec::new(), Vec::new(), Vec::new());
    for (place, want) in wants.iter().enumerate() {
        if let Want::User { user, relation } = want {
            asked.push(place);
            users.push(user.to_string());
            relations.push(relation.to_string());
        }
    }
    if asked.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let workspace = tenant.workspace().uuid();
    let mut rows = sqlx::query!(
        "select w.place, t.object, t.condition, t.context \
         from unnest($3::text[], $4::text[]) with ordinality as w(subject, relation, place) \
         cross join lateral (select f.object, f.condition, f.context from fga_tuples f where f.workspace_id = $1 and f.store_id = $2 \
           and f.subject = w.subject and f.relation = w.relation offset 0) t limit $5",
        workspace,
        store.uuid(),
        &users,
        &relations,
        room.limit(),
    )
    .fetch(tenant.sql());
    let mut placed = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let Some(place) = at(row.place, &asked) else { continue };
        let Some(Want::User { user, .. }) = wants.get(place) else { continue };
        let line = Line::new(row.object.into(), user, bound(row.condition, row.context));
        if !room.take(line.bytes()) {
            return Ok(None);
        }
        placed.push((place, line));
    }
    Ok(Some(placed))
}

/// All tuples of a store; nothing, where there is no room for them.
///
/// # Errors
/// `Unavailable`.
pub async fn all(
    tenant: &mut Tenant<ReadStores>,
    store: RelationStoreId,
    mut room: Room,
) -> Result<Option<Vec<Relationship>>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let mut rows = sqlx::query!(
        "select object, relation, subject, condition, context from fga_tuples where workspace_id = $1 and store_id = $2 limit $3",
        workspace,
        store.uuid(),
        room.limit(),
    )
    .fetch(tenant.sql());
    let mut tuples = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let tuple = relationship(row.object, row.relation, row.subject, row.condition, row.context);
        if !room.take(tuple.bytes()) {
            return Ok(None);
        }
        tuples.push(tuple);
    }
    Ok(Some(tuples))
}
