//! Relationships to objects: given, taken and listed by whoever manages the object, within what the model admits.
//!
//! The one door by which a caller writes what permission is decided from. It leads to rows of objects alone: nothing of the house's own
//! types can be said through it, and an object's place is never a caller's word.

use domain::{
    audit::Event,
    id::ObjectId,
    object::{Subject, is_name},
    principal::Principal,
};
use relation::{
    Facts, Relationship, TupleFault,
    action::{ListRelationships, ManageObject, ReadObject},
    authorize,
    permission::PLACES,
};
use serde_json::json;
use store::StoreError;

use crate::{App, Refusal, gateway::workspace_of};

/// Gives a subject a relation to an object. Who stands in it already keeps it.
///
/// # Errors
/// `NotFound`, `Forbidden`; `Invalid` for what the model does not admit, or who is not in this workspace; `Conflict` where the workspace
/// is full.
pub async fn add(app: &App, caller: &Principal, object: ObjectId, given: (&str, &Subject)) -> Result<(), Refusal> {
    let (relation, subject) = given;
    let (mut tenant, snapshot) = app.enter::<ManageObject>(caller, workspace_of(caller)?, object).await?;
    admit(&snapshot.facts, object, given, |other| {
        authorize::<ReadObject>(&snapshot.facts, caller, other, &app.clock).is_ok()
    })?;
    // A key that was ended keeps its row, and is nobody all the same.
    if let Subject::Key(key) = subject
        && !snapshot.keys.iter().any(|(here, _)| here == key)
    {
        return Err(elsewhere());
    }
    match store::relationship::add(&mut tenant, relation, subject).await {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::Conflict("a workspace has at most 20,000 relationships to objects")),
        Err(StoreError::Conflict) => return Err(elsewhere()),
        Err(error) => return Err(error.into()),
    }
    tenant.commit(event("relationship.added", object, given)).await?;
    Ok(())
}

fn elsewhere() -> Refusal {
    Refusal::invalid("/subject", "is not in this workspace")
}

/// Whether the model admits a relationship to an object.
fn admit(
    facts: &Facts,
    object: ObjectId,
    (relation, subject): (&str, &Subject),
    is_known: impl Fn(ObjectId) -> bool,
) -> Result<(), Refusal> {
    let written = facts.object(object).ok_or(Refusal::NotFound)?;
    if PLACES.contains(&relation) {
        return Err(Refusal::invalid("/relation", "says where an object stands, and nobody gives that"));
    }
    if !is_name(relation) {
        return Err(Refusal::invalid("/relation", "has 1 to 50 small letters, digits, `_` and `-`"));
    }
    let type_of = |other: ObjectId| {
        let written = facts.object(other).filter(|_| is_known(other))?;
        written.split_once(':').map(|(type_name, _)| type_name.to_owned())
    };
    let user = subject.reference(type_of).ok_or_else(elsewhere)?;
    facts.schema().admit(&Relationship::new(written, relation, user)).map_err(|fault| match fault {
        TupleFault::Relation { type_name, relation: unknown } if unknown == relation => {
            Refusal::invalid("/relation", format!("a `{type_name}` has no relation `{unknown}`"))
        }
        TupleFault::NotAllowed { type_name, relation, .. } => {
            Refusal::invalid("/subject", format!("is nobody whom the model lets be a `{relation}` of a `{type_name}`"))
        }
        other => Refusal::invalid("/subject", other.to_string()),
    })
}

fn event(name: &'static str, object: ObjectId, (relation, subject): (&str, &Subject)) -> Event {
    let detail = json!({ "relation": relation, "subject": subject.to_string() });
    Event::new(name, format!("object:{object}")).with(detail)
}

/// Takes a relation to an object from a subject.
///
/// # Errors
/// `NotFound` where it does not stand in it, or the caller may not know of the object; `Forbidden`.
pub async fn remove(app: &App, caller: &Principal, object: ObjectId, taken: (&str, &Subject)) -> Result<(), Refusal> {
    let (mut tenant, _) = app.enter::<ManageObject>(caller, workspace_of(caller)?, object).await?;
    store::relationship::remove(&mut tenant, taken.0, taken.1).await?;
    tenant.commit(event("relationship.removed", object, taken)).await?;
    Ok(())
}

/// Who stands in which relation to an object, by relation and subject: the first so many after a given one.
///
/// # Errors
/// `NotFound`, `Forbidden`.
pub async fn list(
    app: &App,
    caller: &Principal,
    object: ObjectId,
    (after, most): (Option<&(String, Subject)>, i64),
) -> Result<Vec<(String, Subject)>, Refusal> {
    let (mut tenant, _) = app.enter::<ListRelationships>(caller, workspace_of(caller)?, object).await?;
    let found = store::relationship::list(&mut tenant, after, most).await?;
    tenant.finish().await?;
    Ok(found)
}
