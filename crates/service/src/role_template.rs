//! Role templates: bundles of permissions that an admin makes, changes after having seen what that changes, and gives to keys.
//!
//! What a template permits is never taken from its row: the row must have been written by Keyholder (`store::role_template`). A template
//! gives nobody more than its maker has, and nothing by which keys or templates are made.

use std::{sync::Arc, time::Duration};

use domain::{
    audit::Event,
    id::{KeyId, RoleTemplateId},
    jcs,
    principal::Principal,
    problem::Fault,
    role_template::{Bundle, Difference, MOST_PERMISSIONS},
};
use relation::{
    Facts,
    action::{ListRoleTemplates, ManageRoleTemplates},
    permission::{grantable, granted_by},
};
use serde_json::json;
use store::{
    StoreError, TemplateKey,
    role_template::{Listed, Stored},
};
use time::OffsetDateTime;

use crate::{App, Refusal, gateway::workspace_of, gauge};

/// How often all templates are looked at, beside every reading of facts.
const EVERY: Duration = Duration::from_hours(1);

/// A template as it may be shown.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its id.
    pub id: RoleTemplateId,
    /// How often it was written.
    pub version: i64,
    /// What it says; nothing, where somebody else wrote it.
    pub bundle: Option<Bundle>,
    /// SHA-256 of its canonical text, as it is stored.
    pub sha256: Vec<u8>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub changed_at: OffsetDateTime,
}

impl Template {
    fn of(listed: &Listed, key: &TemplateKey) -> Self {
        let Listed { stored, created_at, changed_at } = listed;
        Self {
            id: stored.id,
            version: stored.version,
            bundle: stored.verified(key).ok(),
            sha256: stored.sha256().to_vec(),
            created_at: *created_at,
            changed_at: *changed_at,
        }
    }
}

/// A change, shown or done.
#[derive(Debug)]
pub struct Change {
    /// The version that it is a change of; the one that it made, once it is done.
    pub version: i64,
    /// What it changes.
    pub difference: Difference,
    /// The keys that hold the template.
    pub affected: Vec<KeyId>,
    /// What confirms just this change of just this version, for just these keys; none, once it is done.
    pub confirm: Option<String>,
}

/// The permissions that a template may bundle in this installation.
pub fn permissions(app: &App) -> Vec<String> {
    grantable(app.store.model()).map(|(name, _)| name.to_owned()).collect()
}

/// Makes a template. Nobody holds it yet.
///
/// # Errors
/// `Invalid` for a name or permissions that are none, or are not the caller's; `Conflict` where the workspace is full.
pub async fn create(app: &App, caller: &Principal, bundle: Bundle) -> Result<Template, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<ManageRoleTemplates>(caller, workspace, workspace).await?;
    let bundle = checked(&snapshot.facts, caller, bundle)?;
    let (id, key) = (RoleTemplateId::new(&app.clock), app.store.template_key());
    if !store::role_template::create(&mut tenant, key, id, &bundle).await? {
        return Err(Refusal::Conflict("a workspace has at most 200 role templates"));
    }
    let template = Template::of(&store::role_template::get(&mut tenant, id).await?, key);
    let detail = json!({ "version": 1, "permissions": bundle.permissions, "sha256": hex::encode(&template.sha256) });
    tenant.commit(event("role_template.created", id).with(detail)).await?;
    Ok(template)
}

fn event(name: &'static str, id: RoleTemplateId) -> Event {
    Event::new(name, format!("role_template:{id}"))
}

/// A bundle as it may be stored: its permissions are such as templates may bundle, and the caller has each of them himself.
fn checked(facts: &Facts, caller: &Principal, bundle: Bundle) -> Result<Bundle, Refusal> {
    let mut faults = Vec::new();
    let name = bundle.name.trim().to_owned();
    if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        faults.push(Fault::at("/name", "has 1 to 100 characters, and no control characters"));
    }
    if !(1..=MOST_PERMISSIONS).contains(&bundle.permissions.len()) {
        faults.push(Fault::at("/permissions", "has 1 to 100 permissions"));
    }
    let (user, workspace) = (caller.reference(), format!("workspace:{}", facts.workspace()));
    for permission in bundle.permissions.iter().take(MOST_PERMISSIONS) {
        let shown: String = permission.chars().take(64).collect();
        match granted_by(facts.schema(), permission) {
            None => faults.push(Fault::at("/permissions", format!("`{shown}` is none that a template may bundle"))),
            Some(relation) if !facts.check(&workspace, relation, &user).unwrap_or(false) => {
                faults.push(Fault::at("/permissions", format!("`{shown}` is not yours to give")));
            }
            Some(_) => {}
        }
    }
    if faults.is_empty() { Ok(Bundle { name, ..bundle }) } else { Err(Refusal::Invalid(faults)) }
}

/// One template.
///
/// # Errors
/// `NotFound`.
pub async fn get(app: &App, caller: &Principal, id: RoleTemplateId) -> Result<(Template, Vec<KeyId>), Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ListRoleTemplates>(caller, workspace, workspace).await?;
    let listed = store::role_template::get(&mut tenant, id).await?;
    let held_by = store::role_template::assignees(&mut tenant, id).await?;
    tenant.finish().await?;
    Ok((Template::of(&listed, app.store.template_key()), held_by))
}

/// The newest templates before a given one, newest first.
///
/// # Errors
/// As for any use case.
pub async fn list(
    app: &App,
    caller: &Principal,
    before: Option<RoleTemplateId>,
    most: i64,
) -> Result<Vec<Template>, Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ListRoleTemplates>(caller, workspace, workspace).await?;
    let found = store::role_template::list(&mut tenant, before, most).await?;
    tenant.finish().await?;
    Ok(found.iter().map(|listed| Template::of(listed, app.store.template_key())).collect())
}

/// What a change would change; or, confirmed by what that answered, the change itself.
///
/// # Errors
/// `NotFound`; `Invalid` as for [`create`]; `Conflict` where what is confirmed is not this change of the present version for those who
/// hold it now.
pub async fn change(
    app: &App,
    caller: &Principal,
    (id, bundle): (RoleTemplateId, Bundle),
    confirm: Option<&str>,
) -> Result<Change, Refusal> {
    let workspace = workspace_of(caller)?;
    let key = app.store.template_key();
    let Some(confirm) = confirm else {
        let (_, snapshot) = app.permit::<ManageRoleTemplates>(caller, workspace, workspace).await?;
        let bundle = checked(&snapshot.facts, caller, bundle)?;
        let (mut tenant, _) = app.enter::<ListRoleTemplates>(caller, workspace, workspace).await?;
        let stored = changeable(store::role_template::get(&mut tenant, id).await?.stored)?;
        let affected = store::role_template::assignees(&mut tenant, id).await?;
        tenant.finish().await?;
        let shown = confirmation(key, &stored, &bundle, &affected)?;
        return Ok(Change {
            version: stored.version,
            difference: difference(&stored, key, &bundle),
            affected,
            confirm: Some(shown),
        });
    };
    let (mut tenant, snapshot) = app.enter::<ManageRoleTemplates>(caller, workspace, workspace).await?;
    let bundle = checked(&snapshot.facts, caller, bundle)?;
    let stored = changeable(store::role_template::get(&mut tenant, id).await?.stored)?;
    let affected = store::role_template::assignees(&mut tenant, id).await?;
    if !seal::mac::same(confirmation(key, &stored, &bundle, &affected)?.as_bytes(), confirm.as_bytes())
        && !domain::sabotaged!(UnseenChanges)
    {
        return Err(Refusal::Conflict(
            "the template, the change or who holds it is not what was shown: ask for it again",
        ));
    }
    let difference = difference(&stored, key, &bundle);
    let version = store::role_template::change(&mut tenant, key, &stored, &bundle).await?;
    let detail = json!({
        "version": version, "added": difference.added, "removed": difference.removed, "holders": affected.len(),
        "sha256": hex::encode(seal::mac::sha256(bundle.body().as_bytes())),
    });
    tenant.commit(event("role_template.changed", id).with(detail)).await?;
    Ok(Change { version, difference, affected, confirm: None })
}

/// A template that can be changed. One that was removed stays so, whoever put its row back: no change makes it one of Keyholder's again.
fn changeable(stored: Stored) -> Result<Stored, Refusal> {
    if stored.was_removed() {
        return Err(Refusal::Conflict("the template was removed, and put back outside of Keyholder: remove it again"));
    }
    Ok(stored)
}

/// What a change adds and takes. A template that somebody else wrote grants nothing, and so everything is added to it.
fn difference(stored: &Stored, key: &TemplateKey, new: &Bundle) -> Difference {
    let nothing = || Bundle { name: new.name.clone(), permissions: std::collections::BTreeSet::new() };
    stored.verified(key).unwrap_or_else(|_| nothing()).difference(new)
}

/// What confirms a change: of this version with this text, to that text, for these holders. It is keyed: who sends it has been shown it.
fn confirmation(key: &TemplateKey, stored: &Stored, new: &Bundle, affected: &[KeyId]) -> Result<String, Refusal> {
    let change = json!({
        "workspace": stored.workspace, "template": stored.id, "version": stored.version,
        "from": stored.body, "to": new.body(), "holders": affected,
    });
    let text = jcs::canonical(&change).map_err(|error| Refusal::internal("the text of a change", error))?;
    Ok(key.confirmation(&text))
}

/// Removes a template. Whoever held it loses what it gave at once.
///
/// # Errors
/// `NotFound`.
pub async fn remove(app: &App, caller: &Principal, id: RoleTemplateId) -> Result<(), Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ManageRoleTemplates>(caller, workspace, workspace).await?;
    let held_by = store::role_template::assignees(&mut tenant, id).await?;
    store::role_template::remove(&mut tenant, id).await?;
    tenant.commit(event("role_template.removed", id).with(json!({ "holders": held_by.len() }))).await?;
    Ok(())
}

/// Gives a template to a key of the workspace.
///
/// # Errors
/// `NotFound`; `Invalid` where the key is none of the workspace; `Conflict` for a
/// template that somebody else wrote, or where the workspace is full.
pub async fn assign(app: &App, caller: &Principal, id: RoleTemplateId, to: KeyId) -> Result<(), Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, snapshot) = app.enter::<ManageRoleTemplates>(caller, workspace, workspace).await?;
    let stored = store::role_template::get(&mut tenant, id).await?.stored;
    if stored.verified(app.store.template_key()).is_err() {
        return Err(Refusal::Conflict("the template was rewritten outside of Keyholder, and grants nothing"));
    }
    if !snapshot.keys.iter().any(|(key, _)| *key == to) {
        return Err(not_here());
    }
    match store::role_template::assign(&mut tenant, id, to).await {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::Conflict("a workspace has at most 5,000 holders of role templates")),
        Err(StoreError::Conflict) => return Err(not_here()),
        Err(error) => return Err(error.into()),
    }
    tenant.commit(event("role_template.assigned", id).with(json!({ "to": to }))).await?;
    Ok(())
}

fn not_here() -> Refusal {
    Refusal::invalid("/key", "is not a key of this workspace")
}

/// Takes a template from a key.
///
/// # Errors
/// `NotFound` where it does not hold it.
pub async fn unassign(app: &App, caller: &Principal, id: RoleTemplateId, from: KeyId) -> Result<(), Refusal> {
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ManageRoleTemplates>(caller, workspace, workspace).await?;
    store::role_template::unassign(&mut tenant, id, from).await?;
    tenant.commit(event("role_template.unassigned", id).with(json!({ "from": from }))).await?;
    Ok(())
}

/// Looks at all templates when the process starts and every hour, and tells of each that is not the one that Keyholder wrote last: also
/// where nobody reads its workspace's facts.
pub(crate) async fn watch(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match app.store.drifted_role_templates().await {
            Ok(drifted) => {
                metrics::gauge!("keyholder_role_templates_drifted").set(gauge::count(drifted.len()));
                app.store.tell_of_drifted(&drifted);
            }
            Err(error) => tracing::warn!(%error, "the role templates could not be looked at"),
        }
    }
}
