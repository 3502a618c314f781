//! Why somebody may do something in a workspace, or what he lacks for it.
//!
//! Answers from the facts by which permits are minted, and mints none. Must never tell of an object that the caller may not know of: such a
//! one is not there for him, neither as what he asks about nor in what he is told.

use std::sync::Arc;

use domain::{
    audit::Event,
    id::{InstallationId, WorkspaceId},
    principal::Principal,
};
use relation::{
    Facts, UserRef,
    action::{self, ExplainAllPermissions, ExplainPermission},
    authorize,
    permission::object_types,
    tuples::Tuples as _,
};
pub use relation::{
    Relationship,
    explain::{By, Explanation, Hindrance, Lack, Step},
    query::QueryError,
};
use serde_json::json;
use store::snapshot::Snapshot;

use crate::{App, Refusal};

/// What stands for the type of an object of a customer's own, in the list of permissions.
const OBJECT: &str = "object";
/// How much of each word of a question a trail keeps, in characters: nobody bounds what is typed at the machine.
const MOST_KEPT: usize = 300;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who would do it: `key_…`, or as tuples write it (`api_key:key_…`); none for the caller himself.
    pub user: Option<String>,
    /// What: a permission's name (`connection.read`), or where there is no dot in it a relation of the model (`can_use`).
    pub permission: String,
    /// To what: an id (`con_…`), or as tuples write it (`feature:content-sync`); none for the workspace.
    pub object: Option<String>,
}

/// The answer.
#[derive(Debug)]
pub struct Explained {
    /// Who, as tuples write it.
    pub user: String,
    /// The relation that is needed; none where only Keyholder itself may do this.
    pub relation: Option<String>,
    /// To what, as tuples write it.
    pub object: String,
    /// Yes or no, and why.
    pub explanation: Explanation,
    /// The revision of the workspace by whose facts it was answered.
    pub revision: i64,
}

/// A question in the model's own words.
struct Asked {
    user: String,
    relation: Option<String>,
    object: String,
}

/// Why somebody may do something in this workspace. A member asks about himself; who looks after the workspace, and the operator at the
/// machine, about anybody in it. That the operator asked is in both trails before he is answered.
///
/// # Errors
/// `NotFound` for an object of which the caller may not know; `Forbidden` for a question about somebody else; `Invalid`.
pub async fn explain(
    app: &App,
    caller: &Principal,
    workspace: WorkspaceId,
    question: &Question,
) -> Result<Explained, Refusal> {
    let snapshot = if caller.workspace().is_some() {
        app.permit::<ExplainPermission>(caller, workspace, workspace).await?.1
    } else {
        noted(app, caller, workspace, question).await?
    };
    match answer(app, &snapshot, caller, question) {
        Ok(explained) if explained.explanation.answer() == Some(true) => Ok(explained),
        // Nobody is told no by facts that are a notification behind.
        refused => match app.store.snapshots.newer(&snapshot).await? {
            Some(newer) => answer(app, &newer, caller, question),
            None => refused,
        },
    }
}

/// The facts for the operator, once it is written that he asks: whatever he is then told is an access to what is this workspace's.
async fn noted(
    app: &App,
    caller: &Principal,
    workspace: WorkspaceId,
    question: &Question,
) -> Result<Arc<Snapshot>, Refusal> {
    let (tenant, snapshot) = app.enter::<ExplainAllPermissions>(caller, workspace, workspace).await?;
    let Question { user, permission, object } = question;
    let kept = |text: &String| text.chars().take(MOST_KEPT).collect::<String>();
    let detail =
        json!({ "user": user.as_ref().map(kept), "permission": kept(permission), "object": object.as_ref().map(kept) });
    let asked = Event::new("permission.explained", format!("workspace:{workspace}")).with(detail);
    tenant.commit_in_both_trails(asked.clone(), asked).await?;
    Ok(snapshot)
}

fn answer(app: &App, snapshot: &Snapshot, caller: &Principal, question: &Question) -> Result<Explained, Refusal> {
    let facts = &snapshot.facts;
    let sees_all = authorize::<ExplainAllPermissions>(facts, caller, facts.workspace(), &app.clock).is_ok();
    let Asked { user, relation, object } = asked(app, snapshot, caller, (question, sees_all))?;
    let mut explanation = match &relation {
        Some(relation) => facts.explain(&object, relation, &user).map_err(refused)?,
        None => Explanation::Lacks(Lack { is_complete: true, ..Lack::default() }),
    };
    if !sees_all && !domain::sabotaged!(ConcealedExplanations) {
        conceal(&mut explanation, facts, &caller.reference());
    }
    Ok(Explained { user, relation, object, explanation, revision: facts.at().1 })
}

/// A question that the model does not understand is a fault of the input; the rest is ours.
fn refused(error: QueryError) -> Refusal {
    match error {
        QueryError::Invalid(what) => Refusal::invalid("/permission", what),
        other => Refusal::internal("a question about permissions", other),
    }
}

/// Puts a question into the model's words, if the caller may ask it.
fn asked(
    app: &App,
    snapshot: &Snapshot,
    caller: &Principal,
    (question, sees_all): (&Question, bool),
) -> Result<Asked, Refusal> {
    let facts = &snapshot.facts;
    let user = match &question.user {
        None if caller.workspace().is_some() => caller.reference(),
        None => return Err(Refusal::invalid("/user", "is needed")),
        Some(text) if text.starts_with("key_") => format!("api_key:{text}"),
        Some(text) => text.clone(),
    };
    if user != caller.reference() && !sees_all {
        return Err(Refusal::Forbidden);
    }
    let Wanted { relation, object, of } = wanted(facts, question)?;
    // At the machine everything is known; anybody else asks about what he may know of.
    let is_known = facts.tuples().object(&object).is_ok_and(|found| found.is_some());
    let sees = caller.workspace().is_none() || facts.check(&object, "can_see", &caller.reference()).unwrap_or(false);
    if !is_known || !sees {
        return Err(Refusal::NotFound);
    }
    // After the question whether it is there for him: else the fault would tell of what type an object is that he may not know of.
    if let Some(of) = of.filter(|of| !is_of(facts, &object, of)) {
        return Err(Refusal::invalid("/object", format!("is of the type {of}")));
    }
    let is_sound = UserRef::parse(&user).is_some_and(|user| {
        user.relation.is_none() && !user.is_wildcard() && matches!(user.type_name(), "api_key" | "account" | "app")
    });
    if !is_sound {
        return Err(Refusal::invalid("/user", "is an API key, an account or an app"));
    }
    // Tuples may name a key that was ended, and it is nobody: no request with it is let in.
    let is_somebody = match user.strip_prefix("api_key:") {
        Some(key) => key.parse().is_ok_and(|key| snapshot.accepts_key(key, app.clock.now())),
        None => facts.tuples().object(&user).is_ok_and(|found| found.is_some()),
    };
    if !is_somebody {
        return Err(Refusal::invalid("/user", "is nobody in this workspace"));
    }
    Ok(Asked { user, relation, object })
}

/// What a question is about, before anything is known of the object.
struct Wanted {
    /// The relation; none where only Keyholder itself may do this.
    relation: Option<String>,
    object: String,
    /// The type of which the object must be; none where any will do.
    of: Option<&'static str>,
}

/// The relation that is wanted, and the object.
fn wanted(facts: &Facts, question: &Question) -> Result<Wanted, Refusal> {
    let (permission, object) = (question.permission.as_str(), question.object.as_deref());
    if !permission.contains('.') {
        let object = object.map_or_else(|| Ok(workspace(facts)), |text| written(facts, text))?;
        return Ok(Wanted { relation: Some(permission.to_owned()), object, of: None });
    }
    let listed = action::ALL.iter().find(|listed| listed.name == permission);
    let listed = listed.ok_or_else(|| Refusal::invalid("/permission", "is no permission"))?;
    let object = match (object, listed.object) {
        (None, "workspace") => workspace(facts),
        (None, "installation") => installation(),
        (None, of) => return Err(Refusal::invalid("/object", format!("is needed: an object of the type {of}"))),
        (Some(text), _) => written(facts, text)?,
    };
    Ok(Wanted { relation: listed.relation.map(str::to_owned), object, of: Some(listed.object) })
}

/// Whether an object is of a type, as the list of permissions names types.
fn is_of(facts: &Facts, object: &str, wanted: &str) -> bool {
    let of = object.split_once(':').map_or("", |(of, _)| of);
    of == wanted || (wanted == OBJECT && object_types(facts.schema()).any(|own| own == of))
}

fn workspace(facts: &Facts) -> String {
    format!("workspace:{}", facts.workspace())
}

fn installation() -> String {
    format!("installation:{}", InstallationId::ONE)
}

/// An object as tuples write it. An id alone says its type by its prefix.
fn written(facts: &Facts, text: &str) -> Result<String, Refusal> {
    if text.contains(':') {
        return Ok(text.to_owned());
    }
    let of = match text.split_once('_') {
        Some(("ws", _)) => "workspace",
        Some(("con", _)) => "connection",
        Some(("man", _)) => "mandate",
        Some(("obj", _)) => {
            let known = text.parse().ok().and_then(|id| facts.object(id));
            return known.ok_or(Refusal::NotFound);
        }
        _ => return Err(Refusal::invalid("/object", "is an id, or a type and a name with a colon between")),
    };
    Ok(format!("{of}:{text}"))
}

/// Takes out of an answer what names an object of which the caller may not know.
fn conceal(explanation: &mut Explanation, facts: &Facts, caller: &str) {
    let may_know = |name: &str| {
        let is_new = facts.tuples().object(name).is_ok_and(|found| found.is_none());
        is_new || name == caller || facts.check(name, "can_see", caller).unwrap_or(false)
    };
    let may_tell = |tuple: &Relationship| {
        let user = tuple.user.split_once('#').map_or(tuple.user.as_str(), |(object, _)| object);
        may_know(&tuple.object) && may_know(user)
    };
    let may_say = |hindrance: &Hindrance| match hindrance {
        // How he came under it is of himself, as the way of a yes is.
        Hindrance::Excluded { object, .. } => may_know(object),
        Hindrance::Condition { tuple, .. } => may_tell(tuple),
    };
    match explanation {
        Explanation::Stands(_) => {}
        Explanation::Lacks(lack) => {
            lack.needed.retain(|set| set.iter().all(may_tell));
            lack.hindrances.retain(may_say);
        }
        Explanation::Withheld { hindrances, .. } => hindrances.retain(may_say),
    }
}
