//! Objects of a workspace: made where the model lets them stand, listed as far as the caller may know of them, removed with all that is
//! under them. Those of the system's own are the super-admins' alone.

use std::{collections::HashSet, sync::Arc};

use domain::{
    audit::Event,
    id::{ObjectId, WorkspaceId},
    object::{Object, Place, is_name},
    principal::Principal,
};
use relation::{
    Facts, Relationship,
    action::{CreateObject, CreateObjectUnder, ListWorkspace, ManageObject, ManageSystemObjects, ReadObject},
    authorize,
    permission::object_types,
    permitted,
    query::QueryError,
};
use serde_json::{Value, json};
use store::{
    object::{NewObject, Refused, Wanted},
    snapshot::Snapshot,
};

use crate::{App, Refusal, gateway::workspace_of, workspace::checked_name};

/// How many objects are looked at in one statement of a list.
const PAGE: i64 = 500;

/// What an object is to be.
#[derive(Debug)]
pub struct New {
    /// Its type in the model.
    pub type_name: String,
    /// What people call it.
    pub name: String,
}

/// Makes an object at the top of the caller's workspace.
///
/// # Errors
/// `Invalid` for a type that the model does not let stand there; `Conflict` where the workspace is full.
pub async fn create(app: &App, caller: &Principal, new: &New) -> Result<Object, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<CreateObject>(caller, workspace, workspace).await?;
    let (id, name) = (ObjectId::new(&app.clock), checked_name("/name", &new.name)?);
    placed(&snapshot.facts, &new.type_name, (id, None), false)?;
    let made = store::object::create(&mut tenant, &NewObject { id, type_name: &new.type_name, name }).await?;
    let object = made.map_err(refusal)?;
    tenant.commit(event("object.created", &object)).await?;
    Ok(object)
}

/// Makes an object under another.
///
/// # Errors
/// `NotFound` where the caller may not know of the other; else as [`create`].
pub async fn create_under(app: &App, caller: &Principal, parent: ObjectId, new: &New) -> Result<Object, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<CreateObjectUnder>(caller, workspace, parent).await?;
    let (id, name) = (ObjectId::new(&app.clock), checked_name("/name", &new.name)?);
    placed(&snapshot.facts, &new.type_name, (id, Some(parent)), false)?;
    let made = store::object::create_under(&mut tenant, &NewObject { id, type_name: &new.type_name, name }).await?;
    let object = made.map_err(refusal)?;
    tenant.commit(event("object.created", &object)).await?;
    Ok(object)
}

/// Makes an object of the system's own in a workspace: at the top, or under another of them.
///
/// # Errors
/// `Forbidden` for whoever is no super-admin; else as [`create`].
pub async fn create_system(
    app: &App,
    caller: &Principal,
    workspace: WorkspaceId,
    (parent, new): (Option<ObjectId>, &New),
) -> Result<Object, Refusal> {
    let (mut tenant, snapshot) = app.enter::<ManageSystemObjects>(caller, workspace, workspace).await?;
    let (id, name) = (ObjectId::new(&app.clock), checked_name("/name", &new.name)?);
    placed(&snapshot.facts, &new.type_name, (id, parent), true)?;
    let wanted = NewObject { id, type_name: &new.type_name, name };
    let object = store::object::create_system(&mut tenant, &wanted, parent).await?.map_err(refusal)?;
    let made = event("system_object.created", &object);
    tenant.commit_in_both_trails(made.clone(), of(workspace, made)).await?;
    Ok(object)
}

/// Whether the model lets an object of this type stand there.
fn placed(
    facts: &Facts,
    type_name: &str,
    (id, parent): (ObjectId, Option<ObjectId>),
    is_system: bool,
) -> Result<(), Refusal> {
    let types: Vec<_> = object_types(facts.schema()).collect();
    if !is_name(type_name) || !types.contains(&type_name) {
        return Err(Refusal::invalid("/type", format!("is one of {}", types.join(", "))));
    }
    let parent = match parent {
        None => None,
        Some(parent) => {
            let written =
                facts.object(parent).ok_or_else(|| Refusal::invalid("/parent", "is not in this workspace"))?;
            let above = written.split_once(':').map(|(type_name, _)| type_name.to_owned());
            above.map(|above| (above, parent))
        }
    };
    let above = match (&parent, is_system) {
        (Some((above, _)), _) => format!("under a `{above}`"),
        (None, true) => "at the top of a workspace as one of the system's own".to_owned(),
        (None, false) => "at the top of a workspace".to_owned(),
    };
    let place = Place { id, type_name: type_name.to_owned(), parent, is_system };
    let (relation, user) = place.tuple(facts.workspace());
    let admitted = facts.schema().admit(&Relationship::new(place.reference(), relation, user));
    admitted.map_err(|_| Refusal::invalid("/type", format!("the model does not let a `{type_name}` stand {above}")))
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Full => Refusal::Conflict("a workspace has at most 10,000 objects"),
        Refused::Deep => Refusal::Conflict("objects stand at most ten deep"),
        Refused::Nowhere => {
            Refusal::invalid("/parent", "is not in this workspace, or one is the system's own and the other is not")
        }
    }
}

fn event(name: &'static str, object: &Object) -> Event {
    let detail = json!({ "type": object.type_name, "parent": object.parent });
    Event::new(name, format!("object:{}", object.id)).with(detail)
}

/// The same event, for whoever reads it outside of its workspace.
fn of(workspace: WorkspaceId, mut event: Event) -> Event {
    if let Some(detail) = event.detail.as_mut().and_then(Value::as_object_mut) {
        detail.insert("workspace".to_owned(), json!(workspace));
    }
    event
}

/// One object.
///
/// # Errors
/// `NotFound`.
pub async fn get(app: &App, caller: &Principal, id: ObjectId) -> Result<Object, Refusal> {
    let (mut tenant, snapshot) = app.enter::<ReadObject>(caller, workspace_of(caller)?, id).await?;
    let object = store::object::get(&mut tenant).await?;
    tenant.finish().await?;
    Ok(without_unknown_parent(app, &snapshot, caller, object))
}

/// The object, as standing under what the caller may know of: of anything else he is not told.
fn without_unknown_parent(app: &App, snapshot: &Snapshot, caller: &Principal, object: Object) -> Object {
    let is_known = |parent: &ObjectId| authorize::<ReadObject>(&snapshot.facts, caller, *parent, &app.clock).is_ok();
    Object { parent: object.parent.filter(is_known), ..object }
}

/// The newest objects before a given one, newest first, of which the caller may know.
///
/// # Errors
/// `Conflict` where all objects together take more steps than are followed: a part of the list would pass for the whole.
pub async fn list(
    app: &App,
    caller: &Principal,
    wanted: &Wanted,
    (mut before, most): (Option<ObjectId>, usize),
) -> Result<Vec<Object>, Refusal> {
    let workspace = workspace_of(caller)?;
    // Searched before a connection is held; once more, where the facts moved on in between.
    let (_, held) = app.permit::<ListWorkspace>(caller, workspace, workspace).await?;
    let mut readable = readable(&held, caller).await?;
    let (mut tenant, snapshot) = app.enter::<ListWorkspace>(caller, workspace, workspace).await?;
    if snapshot.facts.at() != held.facts.at() {
        readable = self::readable(&snapshot, caller).await?;
    }
    let mut shown = Vec::new();
    loop {
        let page = store::object::list(&mut tenant, wanted, before, PAGE).await?;
        let is_last = i64::try_from(page.len()).is_ok_and(|found| found < PAGE);
        before = page.last().map(|object| object.id);
        let known = page.into_iter().filter(|object| readable.contains(&object.id));
        shown.extend(known.map(|object| Object { parent: object.parent.filter(|id| readable.contains(id)), ..object }));
        if is_last || shown.len() >= most {
            break;
        }
    }
    tenant.finish().await?;
    shown.truncate(most);
    Ok(shown)
}

/// Of which objects the caller may know, whatever their number by one search for each type. It takes the processor and waits for nothing,
/// so it goes on where no other request waits behind it.
async fn readable(snapshot: &Arc<Snapshot>, caller: &Principal) -> Result<HashSet<ObjectId>, Refusal> {
    let (snapshot, caller, span) = (Arc::clone(snapshot), caller.clone(), tracing::Span::current());
    let search = move || span.in_scope(|| permitted::<ReadObject>(&snapshot.facts, &caller));
    match tokio::task::spawn_blocking(search).await {
        Ok(Ok(readable)) => Ok(readable),
        Ok(Err(QueryError::TooComplex)) => {
            Err(Refusal::Conflict("the relationships to objects are more than a list follows"))
        }
        Ok(Err(error)) => Err(Refusal::internal("a list of objects", error)),
        Err(error) => Err(Refusal::internal("a list of objects", error)),
    }
}

/// Gives an object another name.
///
/// # Errors
/// `NotFound`, `Forbidden`; `Invalid`.
pub async fn rename(app: &App, caller: &Principal, id: ObjectId, name: &str) -> Result<Object, Refusal> {
    let (mut tenant, snapshot) = app.enter::<ManageObject>(caller, workspace_of(caller)?, id).await?;
    let object = store::object::rename(&mut tenant, checked_name("/name", name)?).await?;
    tenant.commit(event("object.renamed", &object)).await?;
    Ok(without_unknown_parent(app, &snapshot, caller, object))
}

/// Removes an object, everything under it, and every relationship to any of them.
///
/// # Errors
/// `NotFound`, `Forbidden`.
pub async fn remove(app: &App, caller: &Principal, id: ObjectId) -> Result<(), Refusal> {
    let (mut tenant, _) = app.enter::<ManageObject>(caller, workspace_of(caller)?, id).await?;
    let gone = store::object::remove(&mut tenant).await?;
    tenant.commit(Event::new("object.removed", format!("object:{id}")).with(json!({ "objects": gone }))).await?;
    Ok(())
}

/// Removes an object of the system's own, and everything under it.
///
/// # Errors
/// `Forbidden` for whoever is no super-admin; `NotFound`.
pub async fn remove_system(app: &App, caller: &Principal, workspace: WorkspaceId, id: ObjectId) -> Result<(), Refusal> {
    let (mut tenant, _) = app.enter::<ManageSystemObjects>(caller, workspace, workspace).await?;
    let gone = store::object::remove_system(&mut tenant, id).await?;
    let removed = Event::new("system_object.removed", format!("object:{id}")).with(json!({ "objects": gone }));
    tenant.commit_in_both_trails(removed.clone(), of(workspace, removed)).await?;
    Ok(())
}
