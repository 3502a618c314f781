//! Organisations with what is in them: rows that keys of the database hold together, that none can point out of, and that go as one.

use domain::id::{Id, KeyId, ObjectId, RoleTemplateId};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;

use crate::{
    caller::Caller,
    dump,
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, Workspace},
    owner::{expect, text},
    probe::{Attack, Probe},
    search::Needle,
    stock::role_template,
    tenancy::{Came, Owner},
};

/// Whether a tenant's record can point at another tenant's, or at nothing.
pub(super) const TENANT_KEYS: Probe = Probe {
    name: "tenant-keys",
    points: &["tenant-keys"],
    tries: "a department, a project, a checklist, an item or a holder of a role template that belongs to another tenant's, or to what is not there",
    attack: Attack::Rehearsed(|ground| Box::pin(tenant_keys(ground))),
};

/// Whether something of an organisation outlives it.
pub(super) const OBJECT_CASCADE: Probe = Probe {
    name: "object-cascade",
    points: &["object-cascade"],
    tries: "anything of an organisation that is left when it was removed: what was in it, and who stood how to that",
    attack: Attack::Rehearsed(|ground| Box::pin(object_cascade(ground))),
};

/// What a statement of the owner's that changes facts stands behind.
const RAISED: &str = "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id()";

/// An organisation with one of everything in it, by a workspace's admin.
pub(super) struct Organisation {
    /// Its id.
    pub(super) id: String,
    /// Everything, each with its type, the organisation first and whatever stands under something after it.
    pub(super) all: Vec<(&'static str, String)>,
}

impl Organisation {
    /// Founds one.
    ///
    /// # Errors
    /// `Unproven` where a step of that is refused.
    pub(super) async fn found(admin: &Caller, name: &str) -> Result<Self, Failure> {
        let id = made(admin, "/v1/objects", "organisation", name).await?;
        let mut all = vec![("organisation", id.clone())];
        for (kind, above) in [("department", 0), ("project", 1), ("checklist", 2), ("checklist_item", 3)] {
            let parent = all.get(above).map(|(_, id)| id.clone()).unwrap_or_default();
            let path = format!("/v1/objects/{parent}/objects");
            all.push((kind, made(admin, &path, kind, &format!("{name}'s {kind}")).await?));
        }
        Ok(Self { id, all })
    }

    /// The one of a type.
    pub(super) fn of(&self, kind: &str) -> String {
        self.all.iter().find(|(known, _)| *known == kind).map(|(_, id)| id.clone()).unwrap_or_default()
    }
}

async fn made(admin: &Caller, path: &str, kind: &str, name: &str) -> Result<String, Failure> {
    let made = expect(&admin.post(path, &json!({ "type": kind, "name": name })).await?, 201)?;
    Ok(text(&made, "/id").to_owned())
}

/// Gives somebody a relation to an object.
///
/// # Errors
/// `Unproven` where it is refused.
pub(super) async fn relate(admin: &Caller, object: &str, relation: &str, subject: &str) -> Result<Value, Failure> {
    let given = json!({ "relation": relation, "subject": subject });
    expect(&admin.post(&format!("/v1/objects/{object}/relationships"), &given).await?, 201)
}

/// A key of a role, which nobody has given anything: the caller, and its id.
///
/// # Errors
/// `Unproven` where it is not made.
pub(super) async fn key(admin: &Caller, role: &str) -> Result<(Caller, String), Failure> {
    let made = expect(&admin.post("/v1/api-keys", &json!({ "label": "of a probe", "role": role })).await?, 201)?;
    Ok((admin.with_key(text(&made, "/key")), text(&made, "/id").to_owned()))
}

/// The id as the database stores it.
///
/// # Errors
/// `Unproven` where it is none.
pub(super) fn stored<I: Id + std::str::FromStr>(id: &str) -> Result<String, Failure> {
    let parsed: I = id.parse().map_err(|_| Failure::unproven(format!("`{id}` is no id")))?;
    Ok(parsed.uuid().to_string())
}

/// A workspace with an organisation, a template and somebody who holds it.
struct Side {
    workspace: Workspace,
    id: String,
    organisation: Organisation,
    template: String,
    key: String,
}

impl Side {
    async fn settle(ground: &Ground, owner: &Owner, name: &str) -> Result<Self, Failure> {
        let workspace = ground.workspace(name).await?;
        let admin = &workspace.admin;
        let organisation = Organisation::found(admin, name).await?;
        let (template, (_, key)) = (role_template(admin).await?, key(admin, "service").await?);
        let held = admin.post(&format!("/v1/role-templates/{template}/assignees"), &json!({ "key": key })).await?;
        expect(&held, 204)?;
        let id = owner.workspace(name).await?;
        Ok(Self { workspace, id, organisation, template, key })
    }

    fn object(&self, kind: &str) -> Result<String, Failure> {
        stored::<ObjectId>(&self.organisation.of(kind))
    }
}

async fn tenant_keys(ground: &Ground) -> Outcome {
    let owner = Owner::open(ground.login("owner")?).await?;
    let mut evidence = Evidence::new();
    let mine = Side::settle(ground, &owner, "keys_mine").await?;
    let rival = Side::settle(ground, &owner, "keys_rival").await?;
    evidence.saw("an organisation of each tenant with everything in it", &mine.organisation.id, "201");
    over_the_api(&mine, &rival, &mut evidence).await?;
    objects_that_point_elsewhere((&mine, &rival), &owner, &mut evidence).await?;
    relations_that_point_elsewhere((&mine, &rival), &owner, &mut evidence).await?;
    Ok(evidence)
}

/// Objects by whoever has the database, the product out of the way: under another tenant's, or under nothing.
async fn objects_that_point_elsewhere(
    (mine, rival): (&Side, &Side),
    owner: &Owner,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let nowhere = "gen_random_uuid()".to_owned();
    for (subject, kind, above) in [
        ("organisations", "department", "organisation"),
        ("organisations", "project", "department"),
        ("checklists", "checklist", "project"),
        ("checklists", "checklist_item", "checklist"),
    ] {
        for (what, parent) in
            [("another tenant's", format!("'{}'", mine.object(above)?)), ("one that is not there", nowhere.clone())]
        {
            let insert = format!(
                "insert into keyholder.objects (workspace_id, id, type, parent_id, depth, name, created_by) \
                 values ('{}', gen_random_uuid(), '{kind}', {parent}, 2, 'of a probe', 'a probe') returning id::text",
                rival.id
            );
            refused(owner, (subject, &format!("a {kind} under {above}: {what}")), &insert, evidence).await?;
        }
    }
    Ok(())
}

/// Who stands how to what, by the same hand: with one end in another tenant.
async fn relations_that_point_elsewhere(
    (mine, rival): (&Side, &Side),
    owner: &Owner,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let (role, theirs) = (stored::<RoleTemplateId>(&mine.template)?, stored::<KeyId>(&mine.key)?);
    let (own_role, own_key) = (stored::<RoleTemplateId>(&rival.template)?, stored::<KeyId>(&rival.key)?);
    let project = rival.object("project")?;
    for (subject, what, table, columns) in [
        (
            "role-templates",
            "a key that holds another tenant's template",
            "role_assignments",
            format!("'{role}', '{own_key}'"),
        ),
        (
            "role-templates",
            "a template that another tenant's key holds",
            "role_assignments",
            format!("'{own_role}', '{theirs}'"),
        ),
        (
            "role-templates",
            "holders of another tenant's template, of a project",
            "relationships",
            format!("'{project}', 'viewer', 'role', '{role}'"),
        ),
        (
            "organisations",
            "another tenant's key, of a project",
            "relationships",
            format!("'{project}', 'viewer', 'api_key', '{theirs}'"),
        ),
        (
            "organisations",
            "one's own key, of another tenant's project",
            "relationships",
            format!("'{}', 'viewer', 'api_key', '{own_key}'", mine.object("project")?),
        ),
    ] {
        let names =
            if table == "relationships" { "object_id, relation, subject_kind, subject_id" } else { "role_id, key_id" };
        let insert = format!(
            "insert into keyholder.{table} (workspace_id, {names}, created_by) values ('{}', {columns}, 'a probe') \
             returning workspace_id || ' ' || created_by",
            rival.id
        );
        refused(owner, (subject, what), &insert, evidence).await?;
    }
    Ok(())
}

/// What another tenant's admin may try at the front door.
async fn over_the_api(mine: &Side, rival: &Side, evidence: &mut Evidence) -> Result<(), Failure> {
    let admin = &rival.workspace.admin;
    let named = |id: &str| json!({ "relation": "viewer", "subject": id });
    let own = rival.organisation.of("department");
    let viewers = format!("{}#viewer", mine.organisation.id);
    let tries = [
        (
            "organisations",
            format!("/v1/objects/{}/objects", mine.organisation.id),
            json!({ "type": "department", "name": "of a probe" }),
        ),
        ("organisations", format!("/v1/objects/{own}/relationships"), named(&mine.key)),
        ("role-templates", format!("/v1/objects/{own}/relationships"), named(&mine.template)),
        ("organisations", format!("/v1/objects/{own}/relationships"), named(&viewers)),
        ("role-templates", format!("/v1/role-templates/{}/assignees", rival.template), json!({ "key": mine.key })),
        ("role-templates", format!("/v1/role-templates/{}/assignees", mine.template), json!({ "key": rival.key })),
    ];
    for (subject, path, body) in tries {
        let reply = admin.post(&path, &body).await?;
        if reply.status.is_success() {
            let obtained = json!({ "path": path, "body": body, "answer": reply.json() });
            return Err(Failure::broken("a record of one tenant's points at another's", obtained));
        }
        if ![404, 422].contains(&reply.status.as_u16()) {
            return Err(Failure::unproven(format!("POST {path} {body}: {}", reply.status)));
        }
        evidence.tried(
            subject,
            format!("POST {path} by another tenant's admin: {}", reply.status),
            body.to_string(),
            &reply.body,
        );
    }
    Ok(())
}

/// Tries a row that a key of the database must refuse, by the owner's hand.
async fn refused(
    owner: &Owner,
    (subject, what): (&str, &str),
    insert: &str,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    match owner.sql.attempt(&format!("{RAISED}; {insert}; set constraints all immediate")).await? {
        Came::Refused(code) if code == SqlState::FOREIGN_KEY_VIOLATION.code() => {
            evidence.tried(subject, format!("{what}: refused ({code})"), insert, code);
            Ok(())
        }
        Came::Refused(code) => Err(Failure::unproven(format!("{what} could not be tried: {code}"))),
        Came::Through { first, .. } => {
            Err(Failure::broken(format!("the database takes {what}"), json!({ "row": first })))
        }
    }
}

async fn object_cascade(ground: &Ground) -> Outcome {
    let owner = Owner::open(ground.login("owner")?).await?;
    let mut evidence = Evidence::new();
    let side = Side::settle(ground, &owner, "cascade").await?;
    let admin = &side.workspace.admin;
    let beside = Organisation::found(admin, "beside").await?;
    let (member, member_key) = key(admin, "service").await?;
    let project = side.organisation.of("project");
    relate(admin, &side.organisation.id, "member", &member_key).await?;
    let viewers = format!("{}#viewer", side.organisation.id);
    relate(admin, &side.organisation.of("department"), "viewer", &viewers).await?;
    relate(admin, &project, "viewer", &side.template).await?;
    relate(admin, &beside.of("department"), "viewer", &viewers).await?;
    expect(&member.get(&format!("/v1/objects/{project}")).await?, 200)?;

    let mut needles = Vec::new();
    for (kind, id) in &side.organisation.all {
        needles.push(Needle::new(format!("the {kind}"), id));
        needles.push(Needle::new(format!("the {kind}, as it is stored"), stored::<ObjectId>(id)?));
    }
    let found = places(&owner, &needles).await?;
    let unseen = needles
        .iter()
        .find(|needle| needle.name.ends_with("stored") && !found.iter().any(|(name, ..)| *name == needle.name));
    if let Some(needle) = unseen {
        return Err(Failure::unproven(format!("{} is not found where it is", needle.name)));
    }
    evidence.saw(format!("before: in {} places", found.len()), &side.organisation.id, "");

    let gone = admin.delete(&format!("/v1/objects/{}", side.organisation.id)).await?;
    if !gone.status.is_success() {
        return Err(Failure::unproven(format!("the organisation is not removed: {}", gone.status)));
    }
    if let Some((name, place, row)) =
        places(&owner, &needles).await?.into_iter().find(|(_, place, _)| !place.starts_with("audit."))
    {
        let obtained = json!({ "what": name, "in": place, "row": row });
        return Err(Failure::broken(format!("{name} is left in {place} after its organisation"), obtained));
    }
    for (kind, id) in &side.organisation.all {
        for (who, caller) in [("its admin", admin), ("its member", &member)] {
            let reply = caller.get(&format!("/v1/objects/{id}")).await?;
            if reply.status.is_success() {
                return Err(Failure::broken(format!("the {kind} is answered after its organisation"), reply.json()));
            }
            evidence.tried("organisations", format!("the {kind} by {who}: {}", reply.status), id, &reply.body);
        }
    }
    for (kind, id) in &beside.all {
        expect(&admin.get(&format!("/v1/objects/{id}")).await?, 200)?;
        evidence.saw(format!("the {kind} beside it is there"), id, "200");
    }
    Ok(evidence)
}

/// Where something is in the database: what, the table and column, and the row.
async fn places(owner: &Owner, needles: &[Needle]) -> Result<Vec<(String, String, String)>, Failure> {
    let cells = dump::every_cell(&owner.sql).await?;
    let found = cells.iter().flat_map(|cell| {
        let within = needles.iter().filter(|needle| needle.within(&cell.bytes).is_some());
        within.map(|needle| (needle.name.clone(), cell.place.clone(), cell.row.clone()))
    });
    Ok(found.collect())
}
