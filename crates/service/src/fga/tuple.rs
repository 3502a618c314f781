//! Tuples: written and deleted by call, read page by page, and what was written since.

use std::collections::HashSet;

use domain::{
    id::{RelationModelId, RelationStoreId},
    principal::Principal,
};
use relation::{
    ObjectRef, Relationship, Schema, UserRef,
    action::{ReadStores, WriteTuples},
    query::{Brought, CheckRequest, Limits, QueryError},
};
use serde_json::Value;
pub use store::fga::{
    change::{Change, Page as ChangesPage, Place as ChangePlace, Wanted as ChangesWanted},
    tuple::{Filter, Stored},
};
use store::{
    StoreError,
    fga::{
        MOST_TUPLES_TOGETHER,
        tuple::{Changes as Written, MOST_TUPLES, Outcome},
    },
};

use super::{
    FgaError,
    model::{self, Found},
    refused::store_or_not_found,
};
use crate::{App, Refusal, gateway::workspace_of};

/// The most writes and deletes of one call, together.
const MOST_IN_ONE_CALL: usize = 100;
/// The largest context of a tuple's condition, as JSON, in bytes.
const MOST_CONTEXT_BYTES: usize = 32 * 1024;
/// How often a write is tried again that lost a race to another.
const TRIES: usize = 3;

/// What is written and deleted by one call.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Tuples that are to be there.
    pub writes: Vec<Relationship>,
    /// Tuples that are to be gone; their conditions do not count.
    pub deletes: Vec<Relationship>,
    /// Whether a write of what is there is passed over.
    pub ignore_duplicates: bool,
    /// Whether a delete of what is not there is passed over.
    pub ignore_missing: bool,
    /// The model that writes must be of; the newest, where none is named.
    pub model: Option<RelationModelId>,
}

/// What a call has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenTuples {
    /// The store's revision since.
    pub revision: i64,
}

/// A page: so many, behind what the token named.
#[derive(Debug, Clone, Default)]
pub struct Page<T> {
    /// What the last page ended with.
    pub after: Option<T>,
    /// The most of them.
    pub most: usize,
}

/// Writes and deletes tuples, all of them or none.
///
/// # Errors
/// `NothingToWrite`, `TwiceInOneCall`, `Exceeded`; `StoreNotFound`, `ModelNotFound`, `NoModel`; `Invalid` for a tuple that is none of the
/// model; `WriteFailed`, `ConditionDiffers`.
pub async fn write(
    app: &App,
    caller: &Principal,
    store: RelationStoreId,
    changes: &Changes,
) -> Result<WrittenTuples, FgaError> {
    if changes.writes.is_empty() && changes.deletes.is_empty() {
        return Err(FgaError::NothingToWrite);
    }
    let workspace = workspace_of(caller)?;
    let (mut left, mut made) = (TRIES, None);
    while left > 0 {
        let (mut tenant, _) = app.enter::<WriteTuples>(caller, workspace, workspace).await?;
        if !changes.writes.is_empty() {
            let standing = store::fga::standing(&mut tenant, store).await.map_err(store_or_not_found)?;
            let id = changes.model.or(standing.newest).ok_or_else(|| FgaError::NoModel(store.to_string()))?;
            let schema = match made.take().filter(|(of, _)| *of == (tenant.epoch(), id)) {
                Some((_, schema)) => schema,
                None => match model::find(app, &mut tenant, store, id).await? {
                    Found::Schema(schema) => schema,
                    text @ Found::Text(_) => {
                        // It is made while no transaction is open; then the newest model is asked for again.
                        let epoch = tenant.epoch();
                        tenant.finish().await?;
                        made = Some(((epoch, id), model::schema(app, (store, epoch, id), text).await?));
                        continue;
                    }
                },
            };
            changes.writes.iter().try_for_each(|tuple| well_formed(&schema, tuple))?;
        }
        left -= 1;
        changes.deletes.iter().try_for_each(is_key)?;
        once_each(changes)?;
        let written = Written {
            writes: &changes.writes,
            deletes: &changes.deletes,
            ignore_duplicates: changes.ignore_duplicates,
            ignore_missing: changes.ignore_missing,
        };
        let outcome = match store::fga::tuple::write(&mut tenant, store, written).await {
            Err(error) if error.lost_a_race() && left > 0 => continue,
            outcome => outcome.map_err(store_or_not_found)?,
        };
        let revision = done(changes, &outcome)?;
        tenant.finish().await?;
        metrics::counter!("keyholder_relation_changes_total")
            .increment(u64::try_from(changes.writes.len() + changes.deletes.len()).unwrap_or(0));
        return Ok(WrittenTuples { revision });
    }
    Err(Refusal::Unavailable(Some(StoreError::Stale)).into())
}

/// The revision, or what stood against it.
fn done(changes: &Changes, outcome: &Outcome) -> Result<i64, FgaError> {
    let named = |of: &[Relationship], at: &usize| of.get(*at).map(words).unwrap_or_default();
    Err(match outcome {
        Outcome::Done(revision) => return Ok(*revision),
        Outcome::Duplicate(at) => FgaError::WriteFailed(format!(
            "cannot write a tuple which already exists: {}: invalid write input",
            named(&changes.writes, at)
        )),
        Outcome::Missing(at) => FgaError::WriteFailed(format!(
            "cannot delete a tuple which does not exist: {}: invalid write input",
            named(&changes.deletes, at)
        )),
        Outcome::ConditionDiffers(at) => FgaError::ConditionDiffers(named(&changes.writes, at)),
        Outcome::TooMany => FgaError::Exceeded { what: "tuples of a store", limit: MOST_TUPLES.unsigned_abs() },
        Outcome::TooManyTogether => {
            FgaError::Exceeded { what: "tuples of the workspace's stores", limit: MOST_TUPLES_TOGETHER.unsigned_abs() }
        }
        Outcome::TooLargeTogether => FgaError::no_room(),
    })
}

fn words(tuple: &Relationship) -> String {
    format!("user: '{}', relation: '{}', object: '{}'", tuple.user, tuple.relation, tuple.object)
}

/// Each key once in a call, and no more of them than one takes.
fn once_each(changes: &Changes) -> Result<(), FgaError> {
    let mut keys = HashSet::new();
    for tuple in changes.deletes.iter().chain(&changes.writes) {
        if !keys.insert((&tuple.object, &tuple.relation, &tuple.user)) {
            return Err(FgaError::TwiceInOneCall(words(tuple)));
        }
    }
    if keys.len() > MOST_IN_ONE_CALL && !domain::sabotaged!(RelationWrites) {
        return Err(FgaError::Exceeded {
            what: "write operations",
            limit: u64::try_from(MOST_IN_ONE_CALL).unwrap_or(0),
        });
    }
    Ok(())
}

/// Whether a tuple is one of the model.
pub(super) fn well_formed(schema: &Schema, tuple: &Relationship) -> Result<(), FgaError> {
    let refuse = |why: String| {
        let Relationship { object, relation, user, .. } = tuple;
        FgaError::Invalid(format!("Invalid tuple '{object}#{relation}@{user}'. Reason: {why}"))
    };
    schema.admit(tuple).map_err(|fault| refuse(fault.to_string()))?;
    let context = tuple.condition.as_ref().map(|bound| Value::Object(bound.context.clone()).to_string().len());
    match context {
        Some(bytes) if bytes > MOST_CONTEXT_BYTES && !domain::sabotaged!(RelationContexts) => Err(refuse(format!(
            "condition context size limit exceeded: {bytes} bytes exceeds {MOST_CONTEXT_BYTES} bytes"
        ))),
        _ => Ok(()),
    }
}

/// Whether it has the form of a tuple's key; it need not be of a model any more.
fn is_key(tuple: &Relationship) -> Result<(), FgaError> {
    let refuse = |field: &str| FgaError::Invalid(format!("the '{field}' field is malformed: {}", words(tuple)));
    if ObjectRef::parse(&tuple.object).is_none_or(|object| object.id == "*") {
        return Err(refuse("object"));
    }
    if tuple.relation.is_empty() || tuple.relation.contains([':', '#', '@']) || tuple.relation.len() > 50 {
        return Err(refuse("relation"));
    }
    UserRef::parse(&tuple.user).map(|_| ()).ok_or_else(|| refuse("user"))
}

/// Whether object, relation and user could be asked about: whatever the answer, the model knows what is meant.
pub(super) fn about(schema: &Schema, of: &Relationship) -> Result<(), FgaError> {
    let Relationship { object, relation, user, .. } = of;
    let request = CheckRequest { object, relation, user, brought: Brought::default() };
    let nothing = relation::Snapshot::default();
    match relation::check(schema, &nothing, request, &Limits { steps: 1, ..Limits::default() }) {
        Err(error @ (QueryError::Invalid(_) | QueryError::TypeNotFound(_) | QueryError::RelationNotFound { .. })) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// Reads tuples, one more than the page has where there are more. They are as they were written: no model is asked.
///
/// # Errors
/// `StoreNotFound`.
pub async fn read(
    app: &App,
    caller: &Principal,
    store: RelationStoreId,
    filter: Filter<'_>,
    page: &Page<Relationship>,
) -> Result<Vec<Stored>, FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    let most = i64::try_from(page.most).unwrap_or(i64::MAX).saturating_add(1);
    let tuples = store::fga::tuple::read(&mut tenant, store, filter, page.after.as_ref(), most).await?;
    tenant.finish().await?;
    Ok(tuples)
}

/// What was written to a store and deleted from it, the oldest first.
///
/// # Errors
/// `StoreNotFound`.
pub async fn read_changes(
    app: &App,
    caller: &Principal,
    store: RelationStoreId,
    wanted: ChangesWanted<'_>,
) -> Result<ChangesPage, FgaError> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    store::fga::find(&mut tenant, store).await.map_err(store_or_not_found)?;
    let changes = store::fga::change::read(&mut tenant, store, wanted).await?;
    tenant.finish().await?;
    Ok(changes)
}
