//! Objects: where they stand, what they inherit, what goes with them, what no caller can say through them, and the system's own.

use std::sync::Arc;

use domain::{
    id::{Id, ObjectId, WorkspaceId},
    operator::Purpose,
    principal::Principal,
};
use keyholder::{
    InstanceOptions,
    caller::{Caller, Reply},
    local,
};
use relation::{Schema, permission};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    harness::{TestApp, ok, problem, text},
    matrices::{state_of, without_limits},
};

/// The model of the engineering playbook, as its blueprint ships it.
pub(crate) fn playbook() -> Arc<Schema> {
    let shipped = domain::blueprint::embedded().unwrap();
    let found = shipped.into_iter().find(|blueprint| blueprint.name == "engineering-playbook").unwrap();
    permission::with_addition("engineering-playbook", &found.model.unwrap().text).unwrap()
}

pub(crate) fn with_the_playbook(options: &mut InstanceOptions) {
    options.model = playbook();
}

/// An object at the top, or under another.
pub(crate) async fn object(by: &Caller, of: &str, name: &str, parent: Option<&str>) -> String {
    let path = parent.map_or("/v1/objects".to_owned(), |parent| format!("/v1/objects/{parent}/objects"));
    let made = ok(by.post(&path, &json!({ "type": of, "name": name })).await.unwrap(), 201);
    assert_eq!((text(&made, "/type"), made["parent"].as_str()), (of, parent), "{made}");
    text(&made, "/id").to_owned()
}

pub(crate) async fn relate(by: &Caller, object: &str, relation: &str, subject: &str) -> Reply {
    let path = format!("/v1/objects/{object}/relationships");
    by.post(&path, &json!({ "relation": relation, "subject": subject })).await.unwrap()
}

async fn status(by: &Caller, object: &str) -> u16 {
    by.get(&format!("/v1/objects/{object}")).await.unwrap().status.as_u16()
}

/// An organisation with everything that stands in one.
struct Organisation {
    all: Vec<String>,
}

impl Organisation {
    async fn found(app: &TestApp, name: &str) -> Self {
        let mut all: Vec<String> = Vec::new();
        for of in ["organisation", "department", "project", "checklist", "checklist_item"] {
            let parent = all.last().cloned();
            all.push(object(&app.admin, of, name, parent.as_deref()).await);
        }
        Self { all }
    }

    fn top(&self) -> &str {
        &self.all[0]
    }

    fn project(&self) -> &str {
        &self.all[2]
    }

    fn checklist(&self) -> &str {
        &self.all[3]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_to_an_object_stands_to_all_that_is_under_it_and_to_nothing_else() {
    let app = TestApp::start_with(with_the_playbook).await;
    let (ours, theirs) = (Organisation::found(&app, "Ours").await, Organisation::found(&app, "Theirs").await);
    let (member, key) = app.agent().await;
    for id in ours.all.iter().chain(&theirs.all) {
        assert_eq!(status(&member, id).await, 404, "without a tuple there is nothing to see");
    }
    assert_eq!(ok(member.get("/v1/objects").await.unwrap(), 200)["data"], json!([]));
    assert_eq!(relate(&app.admin, ours.project(), "member", &key).await.status, 201);
    let seen: Vec<_> = ours.all.iter().map(|id| ours.all[2..].contains(id)).collect();
    for (id, sees) in ours.all.iter().zip(seen) {
        assert_eq!(status(&member, id).await, if sees { 200 } else { 404 }, "{id}");
    }
    for id in &theirs.all {
        assert_eq!(status(&member, id).await, 404);
    }
    let listed = ok(member.get("/v1/objects").await.unwrap(), 200);
    let listed: Vec<_> = listed["data"].as_array().unwrap().iter().map(|object| text(object, "/id")).collect();
    let expected: Vec<_> = ours.all[2..].iter().rev().map(String::as_str).collect();
    assert_eq!(listed, expected, "newest first, and no other");

    // A member edits checklists, and the project itself is not his.
    let rename = json!({ "name": "Before launch" });
    let renamed = member.post(&format!("/v1/objects/{}", ours.checklist()), &rename).await.unwrap();
    assert_eq!(text(&ok(renamed, 200), "/name"), "Before launch");
    let refused = member.post(&format!("/v1/objects/{}", ours.project()), &rename).await.unwrap();
    assert_eq!(problem(&refused), (403, "forbidden".to_owned()));
    assert_eq!(problem(&relate(&member, ours.project(), "admin", &key).await), (403, "forbidden".to_owned()));

    let taken = format!("/v1/objects/{}/relationships?relation=member&subject={key}", ours.project());
    assert_eq!(app.admin.delete(&taken).await.unwrap().status, 204);
    assert_eq!(app.admin.delete(&taken).await.unwrap().status, 404);
    assert_eq!(status(&member, ours.checklist()).await, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_stand_to_one_object_stand_to_another_that_names_them() {
    let app = TestApp::start_with(with_the_playbook).await;
    let (ours, theirs) = (Organisation::found(&app, "Ours").await, Organisation::found(&app, "Theirs").await);
    let (member, key) = app.agent().await;
    assert_eq!(relate(&app.admin, &ours.all[1], "member", &key).await.status, 201);
    let members = format!("{}#member", ours.all[1]);
    assert_eq!(relate(&app.admin, theirs.project(), "member", &members).await.status, 201);
    assert_eq!(status(&member, theirs.checklist()).await, 200);
    let listed = ok(app.admin.get(&format!("/v1/objects/{}/relationships", theirs.project())).await.unwrap(), 200);
    assert_eq!(listed["data"], json!([{ "object": theirs.project(), "relation": "member", "subject": members }]));
    // What names an object goes with it.
    assert_eq!(app.admin.delete(&format!("/v1/objects/{}", ours.top())).await.unwrap().status, 204);
    assert_eq!(status(&member, theirs.checklist()).await, 404);
    let listed = ok(app.admin.get(&format!("/v1/objects/{}/relationships", theirs.project())).await.unwrap(), 200);
    assert_eq!(listed["data"], json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_organisation_goes_everything_that_is_in_it() {
    let app = TestApp::start_with(with_the_playbook).await;
    let theirs = Organisation::found(&app, "Theirs").await;
    let mut owner = app.owner().await;
    let rows = async |owner: &mut PgConnection| {
        let mut state = state_of(owner, app.workspace_uuid()).await;
        state.retain(|(table, _)| ["objects", "relationships", "tuples"].contains(&table.as_str()));
        state
    };
    let (member, key) = app.agent().await;
    assert_eq!(relate(&app.admin, theirs.top(), "member", &key).await.status, 201);
    let before = rows(&mut owner).await;

    let ours = Organisation::found(&app, "Ours").await;
    for (id, relation) in ours.all.iter().zip(["admin", "member", "viewer", "editor", "assignee"]) {
        assert_eq!(relate(&app.admin, id, relation, &key).await.status, 201, "{relation}");
    }
    assert_ne!(rows(&mut owner).await, before);
    assert_eq!(app.admin.delete(&format!("/v1/objects/{}", ours.top())).await.unwrap().status, 204);
    assert_eq!(rows(&mut owner).await, before, "something of the organisation is left");
    for id in &ours.all {
        assert_eq!(status(&app.admin, id).await, 404);
    }
    assert_eq!(status(&member, theirs.checklist()).await, 200, "and nothing of the other's is gone");
    let trail = ok(app.admin.get("/v1/audit?limit=1").await.unwrap(), 200);
    assert_eq!(text(&trail, "/data/0/event"), "object.removed");
    assert_eq!(trail["data"][0]["detail"], json!({ "objects": 5 }));
    app.stop().await;
}

/// Runs a statement as the owner of the database, under a raised head: what it was refused for.
async fn refused(owner: &mut PgConnection, statement: &str) -> String {
    for plain in [
        "begin",
        "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'",
    ] {
        sqlx::query(plain).execute(&mut *owner).await.unwrap();
    }
    let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *owner).await;
    sqlx::query("rollback").execute(owner).await.unwrap();
    let Err(sqlx::Error::Database(error)) = done else { panic!("{statement}: {done:?}") };
    error.code().unwrap_or_default().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_an_object_can_point_across_tenants() {
    const FOREIGN_KEY: &str = "23503";
    let app = TestApp::start_with(with_the_playbook).await;
    let ours = object(&app.admin, "organisation", "Ours", None).await;
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let (key, rivals_key) = (app.first.key.uuid(), rival.key.uuid());
    let rivals = app.stranger.with_key(&rival.text);
    let theirs = object(&rivals, "organisation", "Theirs", None).await;
    let template = json!({ "name": "Auditor", "permissions": ["audit.read"] });
    let role = ok(rivals.post("/v1/role-templates", &template).await.unwrap(), 201);
    let uuid = |id: &str| id.parse::<ObjectId>().unwrap().uuid();
    let role: domain::id::RoleTemplateId = text(&role, "/id").parse().unwrap();
    let (role, ours_id, theirs_id) = (role.uuid(), uuid(&ours), uuid(&theirs));
    let (here, there) = (app.workspace_uuid(), rival.workspace.uuid());
    let mut owner = app.owner().await;
    let stands = "insert into keyholder.objects (workspace_id, id, type, parent_id, depth, name, created_by) values";
    let relates = "insert into keyholder.relationships \
                   (workspace_id, object_id, relation, subject_kind, subject_id, subject_relation, created_by) values";
    let holds = "insert into keyholder.role_assignments (workspace_id, role_id, key_id, created_by) values";
    for statement in [
        format!("{stands} ('{here}', gen_random_uuid(), 'department', '{theirs_id}', 2, 'x', 'x')"),
        format!("update keyholder.objects set parent_id = '{theirs_id}', depth = 2 where id = '{ours_id}'"),
        format!("{relates} ('{here}', '{theirs_id}', 'admin', 'api_key', '{key}', '', 'x')"),
        format!("{relates} ('{here}', '{ours_id}', 'admin', 'api_key', '{rivals_key}', '', 'x')"),
        format!("{relates} ('{here}', '{ours_id}', 'admin', 'role', '{role}', '', 'x')"),
        format!("{relates} ('{here}', '{ours_id}', 'admin', 'object', '{theirs_id}', 'admin', 'x')"),
        format!("{holds} ('{here}', '{role}', '{key}', 'x')"),
        format!("{holds} ('{there}', '{role}', '{key}', 'x')"),
    ] {
        assert_eq!(refused(&mut owner, &statement).await, FOREIGN_KEY, "{statement}");
    }
    // And by the API: another's key, role or object is nobody here, in the same words as one that is nowhere.
    let clock = domain::clock::Clock::system();
    let nowhere = domain::id::KeyId::new(&clock).to_string();
    let said = relate(&app.admin, &ours, "admin", &nowhere).await;
    assert_eq!(problem(&said), (422, "invalid-input".to_owned()));
    for subject in [rival.key.to_string(), format!("rol_{}", &theirs[4..]), format!("{theirs}#admin")] {
        let other = relate(&app.admin, &ours, "admin", &subject).await;
        assert_eq!(problem(&other), (422, "invalid-input".to_owned()), "{subject}");
        assert!(other.json()["errors"][0]["message"] == said.json()["errors"][0]["message"], "{}", other.json());
    }
    assert_eq!(status(&app.admin, &theirs).await, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_houses_own_is_said_by_the_door_of_objects() {
    let app = TestApp::start_with(with_the_playbook).await;
    let ours = Organisation::found(&app, "Ours").await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let (agent, key) = app.agent().await;
    let mut owner = app.owner().await;
    let before = state_of(&mut owner, app.workspace_uuid()).await;
    // Other things than objects are none here, whoever asks.
    let workspace = app.first.workspace.to_string();
    let installation = "ins_00000000000000000000000000".to_owned();
    for other in [&workspace, &entrusted.connection, &entrusted.mandate, &installation, &key] {
        for relation in ["admin", "owner", "grantee", "super_admin", "viewer"] {
            let reply = relate(&app.admin, other, relation, &key).await;
            assert_eq!(problem(&reply), (404, "not-found".to_owned()), "{relation} of {other}");
        }
        let disguised = format!("obj_{}", other.split_once('_').unwrap().1);
        let reply = relate(&app.admin, &disguised, "admin", &key).await;
        assert_eq!(problem(&reply), (404, "not-found".to_owned()), "{disguised}");
    }
    // Nor is an object's place, or what the model does not know.
    let cases = [
        ("workspace", key.clone(), "/relation"),
        ("parent", key.clone(), "/relation"),
        ("system", key.clone(), "/relation"),
        ("parent", format!("{}#admin", ours.top()), "/relation"),
        ("king", key.clone(), "/relation"),
        ("can_manage", key.clone(), "/subject"),
        ("Admin", key.clone(), "/relation"),
        ("owner", format!("{}#admin", ours.top()), "/subject"),
        ("admin", format!("{}#king", ours.top()), "/subject"),
        ("admin", "workspace:*".to_owned(), "/subject"),
        ("admin", "api_key:*".to_owned(), "/subject"),
        ("admin", workspace.clone(), "/subject"),
        ("admin", ours.top().to_owned(), "/subject"),
    ];
    for (relation, subject, at) in cases {
        let reply = relate(&app.admin, ours.top(), relation, &subject).await;
        assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{relation} {subject}");
        assert_eq!(text(&reply.json(), "/errors/0/pointer"), at, "{relation} {subject}: {}", reply.json());
    }
    // Nor are there objects of the house's types, or in places that the model does not have.
    for (of, parent) in [
        ("workspace", None),
        ("installation", None),
        ("connection", None),
        ("role", None),
        ("api_key", None),
        ("nonsense", None),
        ("department", None),
        ("checklist", None),
        ("organisation", Some(ours.top())),
        ("project", Some(ours.project())),
        ("checklist_item", Some(ours.project())),
    ] {
        let path = parent.map_or("/v1/objects".to_owned(), |parent| format!("/v1/objects/{parent}/objects"));
        let reply = app.admin.post(&path, &json!({ "type": of, "name": "x" })).await.unwrap();
        assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{of} under {parent:?}");
        assert_eq!(text(&reply.json(), "/errors/0/pointer"), "/type", "{of}");
    }
    assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before);
    assert_eq!(problem(&agent.get("/v1/audit").await.unwrap()).0, 403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_stand_ten_deep_and_no_deeper() {
    let app = TestApp::start().await;
    let mut last = object(&app.admin, "folder", "1", None).await;
    for depth in 2..=10 {
        last = object(&app.admin, "folder", &depth.to_string(), Some(&last)).await;
    }
    let (viewer, key) = app.agent().await;
    let path = format!("/v1/objects/{last}/objects");
    let eleventh = app.admin.post(&path, &json!({ "type": "folder", "name": "11" })).await.unwrap();
    assert_eq!(problem(&eleventh), (409, "conflict".to_owned()));
    let all = ok(app.admin.get("/v1/objects?type=folder&limit=100").await.unwrap(), 200);
    let top = text(all["data"].as_array().unwrap().last().unwrap(), "/id").to_owned();
    assert_eq!(relate(&app.admin, &top, "viewer", &key).await.status, 201);
    assert_eq!(status(&viewer, &last).await, 200, "from the top to the bottom");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_what_each_of_its_objects_shows_and_no_parent_that_is_not_shown() {
    let app = TestApp::start_with(with_the_playbook).await;
    let (ours, theirs) = (Organisation::found(&app, "Ours").await, Organisation::found(&app, "Theirs").await);
    let (member, key) = app.agent().await;
    assert_eq!(relate(&app.admin, ours.project(), "member", &key).await.status, 201);
    // By those who stand in a relation to something else, too.
    let members = format!("{}#member", ours.project());
    assert_eq!(relate(&app.admin, theirs.checklist(), "editor", &members).await.status, 201);
    for caller in [&member, &app.admin] {
        let mut shown = Vec::new();
        for id in ours.all.iter().chain(&theirs.all).rev() {
            let reply = caller.get(&format!("/v1/objects/{id}")).await.unwrap();
            if reply.status == 200 {
                shown.push(reply.json());
            }
        }
        let listed = ok(caller.get("/v1/objects?limit=100").await.unwrap(), 200);
        assert_eq!(listed["data"].as_array().unwrap(), &shown);
        for object in &shown {
            let is_shown = |id: &str| shown.iter().any(|other| text(other, "/id") == id);
            assert!(object["parent"].as_str().is_none_or(is_shown), "{object}");
            let filtered = ok(caller.get(&format!("/v1/objects?type={}", text(object, "/type"))).await.unwrap(), 200);
            assert!(filtered["data"].as_array().unwrap().contains(object), "{filtered}");
        }
    }
    let renamed =
        member.post(&format!("/v1/objects/{}", ours.checklist()), &json!({ "name": "Launch" })).await.unwrap();
    assert_eq!(ok(renamed, 200)["parent"], ours.project(), "he knows of it");
    let (editor, key) = app.agent().await;
    assert_eq!(relate(&app.admin, ours.checklist(), "editor", &key).await.status, 201);
    for reply in [
        editor.get(&format!("/v1/objects/{}", ours.checklist())).await.unwrap(),
        editor.post(&format!("/v1/objects/{}", ours.checklist()), &json!({ "name": "Launch day" })).await.unwrap(),
    ] {
        assert_eq!(ok(reply, 200)["parent"], Value::Null, "he does not");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_as_far_as_each_of_its_objects_answers_and_nobody_can_break_it() {
    let app = TestApp::start_with(without_limits).await;
    let (viewer, key) = app.agent().await;
    let mut chain = vec![object(&app.admin, "folder", "first", None).await];
    assert_eq!(relate(&app.admin, &chain[0], "viewer", &key).await.status, 201);
    for number in 0..110 {
        let next = object(&app.admin, "folder", &number.to_string(), None).await;
        let before = chain.last().unwrap();
        assert_eq!(relate(&app.admin, &next, "viewer", &format!("{before}#viewer")).await.status, 201);
        chain.push(next);
    }
    let mut listed = Vec::new();
    let mut at = "/v1/objects?limit=50".to_owned();
    loop {
        let page = ok(viewer.get(&at).await.unwrap(), 200);
        listed.extend(page["data"].as_array().unwrap().iter().map(|object| text(object, "/id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        at = format!("/v1/objects?limit=50&before={next}");
    }
    let mut shown = Vec::new();
    for id in chain.iter().rev() {
        if status(&viewer, id).await == 200 {
            shown.push(id.clone());
        }
    }
    assert_eq!(listed, shown, "what cannot be said of an object is a no, in the list as by itself");
    assert!((10..chain.len()).contains(&shown.len()) && !shown.contains(chain.last().unwrap()), "{}", shown.len());
    ok(app.admin.get("/v1/objects").await.unwrap(), 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relationships_have_pages_and_none_is_left_out() {
    let app = TestApp::start().await;
    let (board, other) =
        (object(&app.admin, "folder", "Board", None).await, object(&app.admin, "folder", "Other", None).await);
    let role = crate::role_templates::template(&app, "Auditor", &["audit.read"], &[]).await;
    let keys = [app.agent().await.1, app.agent().await.1];
    let mut given = Vec::new();
    for relation in ["viewer", "manager"] {
        for subject in [&keys[0], &keys[1], &role, &format!("{other}#manager")] {
            given.push(ok(relate(&app.admin, &board, relation, subject).await, 201));
        }
    }
    assert_eq!(relate(&app.admin, &other, "viewer", &keys[0]).await.status, 201, "of another object, and not listed");
    let path = format!("/v1/objects/{board}/relationships");
    let whole = ok(app.admin.get(&path).await.unwrap(), 200);
    let items = whole["data"].as_array().unwrap();
    assert_eq!((items.len(), &whole["next"]), (given.len(), &Value::Null));
    assert!(given.iter().all(|one| items.contains(one)), "{whole}");
    for limit in [1, 3, 8, 100] {
        let (mut seen, mut at) = (Vec::new(), format!("{path}?limit={limit}"));
        loop {
            let page = ok(app.admin.get(&at).await.unwrap(), 200);
            let found = page["data"].as_array().unwrap();
            assert!((1..=limit).contains(&found.len()), "{page}");
            seen.extend(found.clone());
            assert!(seen.len() <= items.len(), "{limit} at a time: some come twice");
            // As it is said: there is nothing in it that an address would have to escape.
            let Some(next) = page["next"].as_str() else { break };
            at = format!("{path}?limit={limit}&before={next}");
        }
        assert_eq!(&seen, items, "{limit} at a time");
    }
    // Where a page ended is a place, and stays one when what stood there is gone.
    let first = ok(app.admin.get(&format!("{path}?limit=1")).await.unwrap(), 200);
    let gone = format!("{path}?relation=manager&subject={}", text(&first, "/data/0/subject"));
    assert_eq!(app.admin.delete(&gone).await.unwrap().status, 204);
    let rest = ok(app.admin.get(&format!("{path}?before={}", text(&first, "/next"))).await.unwrap(), 200);
    assert_eq!(rest["data"].as_array().unwrap()[..], items[1..]);
    for wrong in ["limit=0", "limit=101", "before=viewer", "before=viewer:nobody", "before=Viewer:key_1", "after=x"] {
        let reply = app.admin.get(&format!("{path}?{wrong}")).await.unwrap();
        assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{wrong}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_that_is_revoked_go_its_relationships_and_its_role_templates() {
    let app = TestApp::start().await;
    let folder = object(&app.admin, "folder", "Board", None).await;
    let template = json!({ "name": "Auditor", "permissions": ["audit.read"] });
    let role = text(&ok(app.admin.post("/v1/role-templates", &template).await.unwrap(), 201), "/id").to_owned();
    let keys = [app.agent().await.1, app.agent().await.1];
    for key in &keys {
        assert_eq!(relate(&app.admin, &folder, "viewer", key).await.status, 201);
        let path = format!("/v1/role-templates/{role}/assignees");
        assert!(app.admin.post(&path, &json!({ "key": key })).await.unwrap().status.is_success());
    }
    assert_eq!(app.admin.delete(&format!("/v1/api-keys/{}", keys[0])).await.unwrap().status, 204);
    let mut owner = app.owner().await;
    for (table, whose) in [("relationships", "subject_id"), ("role_assignments", "key_id")] {
        let left = format!("select {whose} from keyholder.{table}");
        let left: Vec<sqlx::types::Uuid> = sqlx::query_scalar(AssertSqlSafe(left)).fetch_all(&mut owner).await.unwrap();
        assert_eq!(left, [keys[1].parse::<domain::id::KeyId>().unwrap().uuid()], "{table}");
    }
    // And it is given none anew.
    assert_eq!(problem(&relate(&app.admin, &folder, "viewer", &keys[0]).await), (422, "invalid-input".to_owned()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_pages_and_filters() {
    let app = TestApp::start().await;
    let top = object(&app.admin, "folder", "top", None).await;
    let mut under = Vec::new();
    for number in 0..5 {
        under.push(object(&app.admin, "folder", &number.to_string(), Some(&top)).await);
    }
    under.reverse();
    let ids = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|object| text(object, "/id").to_owned()).collect()
    };
    let first = ok(app.admin.get(&format!("/v1/objects?parent={top}&limit=3")).await.unwrap(), 200);
    assert_eq!(ids(&first), under[..3]);
    let next = text(&first, "/next");
    let rest = ok(app.admin.get(&format!("/v1/objects?parent={top}&limit=3&before={next}")).await.unwrap(), 200);
    assert_eq!((ids(&rest), &rest["next"]), (under[3..].to_vec(), &Value::Null));
    for wrong in ["type=Folder", "parent=top", "limit=0", "sort=name", "before=con_1"] {
        let reply = app.admin.get(&format!("/v1/objects?{wrong}")).await.unwrap();
        assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{wrong}");
    }
    app.stop().await;
}

/// A person of the operator's, with his name.
async fn person(app: &TestApp, name: &str) -> Caller {
    let host = Principal::operator("local", app.instance.app().clock.now());
    let (_, key) = service::operator::create(app.instance.app(), &host, (name, Purpose::Person)).await.unwrap();
    app.stranger.with_key(&key)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_own_are_read_by_every_member_and_changed_by_super_admins_alone() {
    let app = TestApp::start_with(with_the_playbook).await;
    let (member, key) = app.agent().await;
    let operator = person(&app, "anybody").await;
    let chief = person(&app, "chief").await;
    let host = Principal::operator("local", app.instance.app().clock.now());
    let path = format!("/v1/installation/workspaces/{}/objects", app.first.workspace);
    let checklist = json!({ "type": "checklist", "name": "Security basics" });
    // Nobody is super-admin by being an operator.
    for somebody in [&operator, &chief] {
        assert_eq!(problem(&somebody.post(&path, &checklist).await.unwrap()), (403, "forbidden".to_owned()));
    }
    service::operator::appoint_super_admin(app.instance.app(), &host, "chief").await.unwrap();
    let made = ok(chief.post(&path, &checklist).await.unwrap(), 201);
    assert_eq!(made["system"], true);
    let id = text(&made, "/id").to_owned();
    let item = json!({ "type": "checklist_item", "name": "Passkeys for all", "parent": id });
    let item = text(&ok(chief.post(&path, &item).await.unwrap(), 201), "/id").to_owned();
    assert_eq!(problem(&operator.post(&path, &checklist).await.unwrap()), (403, "forbidden".to_owned()));

    for own in [&id, &item] {
        let at = format!("/v1/objects/{own}");
        for reader in [&app.admin, &member] {
            assert_eq!(status(reader, own).await, 200);
            for refused in [
                reader.delete(&at).await.unwrap(),
                reader.post(&at, &json!({ "name": "Mine" })).await.unwrap(),
                reader.post(&format!("{at}/objects"), &json!({ "type": "checklist_item", "name": "x" })).await.unwrap(),
                relate(reader, own, "editor", &key).await,
                reader.get(&format!("{at}/relationships")).await.unwrap(),
            ] {
                assert_eq!(problem(&refused), (403, "forbidden".to_owned()), "{own}");
            }
        }
        assert_eq!(problem(&chief.delete(&at).await.unwrap()).0, 401, "an operator's key is none of the workspace");
    }
    // What a workspace makes is not the system's, and is not removed by its door; nor does either stand under the other.
    let ours = Organisation::found(&app, "Ours").await;
    assert_eq!(problem(&chief.delete(&format!("{path}/{}", ours.checklist())).await.unwrap()).0, 404);
    let under = json!({ "type": "checklist_item", "name": "x", "parent": ours.checklist() });
    assert_eq!(problem(&chief.post(&path, &under).await.unwrap()), (422, "invalid-input".to_owned()));
    let rival = WorkspaceId::new(&app.instance.app().clock);
    let elsewhere = format!("/v1/installation/workspaces/{rival}/objects");
    assert_eq!(problem(&chief.post(&elsewhere, &checklist).await.unwrap()).0, 404);

    service::operator::dismiss_super_admin(app.instance.app(), &host, "chief").await.unwrap();
    let gone = format!("{path}/{id}");
    assert_eq!(problem(&chief.delete(&gone).await.unwrap()), (403, "forbidden".to_owned()));
    service::operator::appoint_super_admin(app.instance.app(), &host, "chief").await.unwrap();
    assert_eq!(chief.delete(&gone).await.unwrap().status, 204);
    assert_eq!((status(&app.admin, &id).await, status(&app.admin, &item).await), (404, 404));
    // Both trails have it, under his name.
    let trails =
        [app.admin.get("/v1/audit?limit=100").await.unwrap(), chief.get("/v1/installation/audit").await.unwrap()];
    for trail in trails {
        let entries = ok(trail, 200);
        let own = |event: &str| {
            let found = entries["data"].as_array().unwrap().iter().filter(|entry| text(entry, "/event") == event);
            found.map(|entry| text(entry, "/principal").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(own("system_object.created"), ["operator:chief", "operator:chief"]);
        assert_eq!(own("system_object.removed"), ["operator:chief"]);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_the_model_has_no_more_is_nobodys() {
    let app = TestApp::start_with(with_the_playbook).await;
    let ours = object(&app.admin, "organisation", "Ours", None).await;
    let without = app.second_node().await;
    let there = Caller::new(without.url(), None).with_key(app.admin.key().unwrap());
    assert_eq!(status(&there, &ours).await, 404, "by a model without the type");
    assert_eq!(ok(there.get("/v1/objects").await.unwrap(), 200)["data"], json!([]));
    assert_eq!(status(&app.admin, &ours).await, 200);
    without.stop().await;
    app.stop().await;
}
