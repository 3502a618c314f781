//! Role templates: what they give, to whom and how far; a change that was seen first; and rows that somebody else has written.

use std::sync::Arc;

use aws_lc_rs::digest;
use domain::{
    id::{Id, InstallationId, RoleTemplateId},
    jcs,
};
use keyholder::{
    caller::{Caller, Reply},
    local, telemetry,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, types::Uuid};
use tokio::sync::Mutex;

use crate::{
    harness::{TestApp, eventually, ok, problem, text},
    isolation::{backend, context, set_context},
    objects::{object, playbook, with_the_playbook},
};

const AT: &str = "/v1/role-templates";

/// A template with these permissions, held by these keys.
pub(crate) async fn template(app: &TestApp, name: &str, permissions: &[&str], holders: &[&str]) -> String {
    let wanted = json!({ "name": name, "permissions": permissions });
    let made = ok(app.admin.post(AT, &wanted).await.unwrap(), 201);
    let id = text(&made, "/id").to_owned();
    for key in holders {
        assign(app, &id, key).await;
    }
    id
}

pub(crate) async fn assign(app: &TestApp, id: &str, key: &str) {
    let given = app.admin.post(&format!("{AT}/{id}/assignees"), &json!({ "key": key })).await.unwrap();
    assert_eq!(given.status, 204);
}

pub(crate) async fn change(app: &TestApp, id: &str, wanted: &Value) -> Reply {
    app.admin.post(&format!("{AT}/{id}"), wanted).await.unwrap()
}

/// Whether a key may read the trail, and whether it may set budgets.
async fn may(caller: &Caller) -> (u16, u16) {
    let budget = json!({ "scope": "workspace", "unit": "acts", "per": "month", "cap": 1_000_000 });
    let read = caller.get("/v1/audit").await.unwrap().status.as_u16();
    (read, caller.post("/v1/budgets", &budget).await.unwrap().status.as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_gives_its_holders_what_it_says_and_takes_it_back_everywhere_at_once() {
    let app = TestApp::start().await;
    let (agent, key) = app.agent().await;
    let node = app.second_node().await;
    let there = Caller::new(node.url(), None).with_key(agent.key().unwrap());
    assert_eq!((may(&agent).await, may(&there).await), ((403, 403), (403, 403)));
    let id = template(&app, "Auditor", &["audit.read"], &[&key]).await;
    assert_eq!((may(&agent).await, may(&there).await), ((200, 403), (200, 403)));
    let shown = ok(app.admin.get(&format!("{AT}/{id}")).await.unwrap(), 200);
    assert_eq!((&shown["assignees"], &shown["drifted"], &shown["version"]), (&json!([key]), &json!(false), &json!(1)));
    let canonical = br#"{"name":"Auditor","permissions":["audit.read"]}"#;
    assert_eq!(text(&shown, "/sha256"), hex::encode(digest::digest(&digest::SHA256, canonical)));

    // A change is at the other node with its first request after it.
    let wanted = json!({ "name": "Accountant", "permissions": ["budget.manage"] });
    let difference = ok(change(&app, &id, &wanted).await, 200);
    assert_eq!((&difference["done"], &difference["version"]), (&json!(false), &json!(1)));
    assert_eq!((&difference["added"], &difference["removed"]), (&json!(["budget.manage"]), &json!(["audit.read"])));
    assert_eq!((&difference["affected"], text(&difference, "/former_name")), (&json!([key]), "Auditor"));
    assert_eq!(may(&there).await, (200, 403), "what was only shown has changed nothing");
    let mut confirmed = wanted.clone();
    confirmed["confirm"] = difference["confirm"].clone();
    let done = ok(change(&app, &id, &confirmed).await, 200);
    assert_eq!((&done["done"], &done["version"], &done["confirm"]), (&json!(true), &json!(2), &Value::Null));
    let heard = async || may(&there).await == (403, 200);
    eventually("the other node hears of the change", heard).await;
    assert_eq!(may(&agent).await, (403, 200));

    // Taken from the key, and gone with the template.
    assert_eq!(app.admin.delete(&format!("{AT}/{id}/assignees/{key}")).await.unwrap().status, 204);
    assert_eq!(app.admin.delete(&format!("{AT}/{id}/assignees/{key}")).await.unwrap().status, 404);
    assert_eq!(may(&agent).await, (403, 403));
    eventually("the other node hears of it", async || may(&there).await == (403, 403)).await;
    let again = template(&app, "Again", &["audit.read"], &[&key]).await;
    assert_eq!(may(&agent).await, (200, 403));
    assert_eq!(app.admin.delete(&format!("{AT}/{again}")).await.unwrap().status, 204);
    assert_eq!(may(&agent).await, (403, 403));
    assert_eq!(app.admin.get(&format!("{AT}/{again}")).await.unwrap().status, 404);
    node.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_change_that_was_shown_is_done() {
    let app = TestApp::start().await;
    let (_, key) = app.agent().await;
    let id = template(&app, "Auditor", &["audit.read"], &[]).await;
    let narrow = json!({ "name": "Auditor", "permissions": ["audit.read", "budget.read_all"] });
    let wide = json!({ "name": "Auditor", "permissions": ["audit.read", "budget.manage"] });
    let shown = |reply: Reply| text(&ok(reply, 200), "/confirm").to_owned();
    let with = |wanted: &Value, confirm: &str| {
        let mut wanted = wanted.clone();
        wanted["confirm"] = json!(confirm);
        wanted
    };
    let confirm = shown(change(&app, &id, &narrow).await);
    let conflict = (409, "conflict".to_owned());
    for (wanted, word) in [(&wide, confirm.as_str()), (&narrow, "yes"), (&narrow, ""), (&narrow, &confirm[..63])] {
        assert_eq!(problem(&change(&app, &id, &with(wanted, word)).await), conflict, "{wanted} by {word}");
    }
    // Somebody else holds it meanwhile: whom it touches is another question than the one that was answered.
    assert_eq!(app.admin.post(&format!("{AT}/{id}/assignees"), &json!({ "key": key })).await.unwrap().status, 204);
    assert_eq!(problem(&change(&app, &id, &with(&narrow, &confirm)).await), conflict);
    let confirm = shown(change(&app, &id, &narrow).await);
    ok(change(&app, &id, &with(&narrow, &confirm)).await, 200);
    assert_eq!(problem(&change(&app, &id, &with(&narrow, &confirm)).await), conflict, "once");
    // Nor is one that the caller could have made himself, of what he knows: that it was shown is what it says.
    let told = ok(app.admin.get(&format!("{AT}/{id}")).await.unwrap(), 200);
    let body = |wanted: &Value| jcs::canonical(wanted).unwrap();
    let made = json!({
        "workspace": app.first.workspace, "template": id, "version": told["version"], "from": body(&narrow), "to": body(&wide),
        "holders": [key],
    });
    let made = hex::encode(digest::digest(&digest::SHA256, jcs::canonical(&made).unwrap().as_bytes()));
    assert_eq!(problem(&change(&app, &id, &with(&wide, &made)).await), conflict, "nobody has shown it");
    let other = template(&app, "Other", &["audit.read"], &[]).await;
    let confirm = shown(change(&app, &id, &wide).await);
    assert_eq!(problem(&change(&app, &other, &with(&wide, &confirm)).await), conflict, "of another template");
    let trail = ok(app.admin.get("/v1/audit?limit=100").await.unwrap(), 200);
    let changes =
        trail["data"].as_array().unwrap().iter().filter(|entry| text(entry, "/event") == "role_template.changed");
    assert_eq!(changes.count(), 1, "what was refused or only shown left nothing");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_template_gives_what_makes_keys_or_templates_or_what_its_maker_does_not_have() {
    let app = TestApp::start_with(with_the_playbook).await;
    let (agent, key) = app.agent().await;
    for (permissions, says) in [
        (json!(["api_key.manage"]), "none that a template may bundle"),
        (json!(["role_template.manage"]), "none that a template may bundle"),
        (json!(["system_object.manage"]), "none that a template may bundle"),
        (json!(["workspace.shred"]), "none that a template may bundle"),
        (json!(["kill_drill.approve"]), "none that a template may bundle"),
        (json!(["admin"]), "none that a template may bundle"),
        (json!(["nonsense"]), "none that a template may bundle"),
        (json!([]), "1 to 100"),
        (json!((0..101).map(|number| format!("a{number}")).collect::<Vec<_>>()), "1 to 100"),
    ] {
        let reply = app.admin.post(AT, &json!({ "name": "Wide", "permissions": permissions })).await.unwrap();
        assert_eq!(problem(&reply), (422, "invalid-input".to_owned()), "{permissions}");
        assert!(text(&reply.json(), "/errors/0/message").contains(says), "{}", reply.json());
    }
    // Whoever holds all that templates give makes no key and no template.
    let all: Vec<String> = relation::permission::grantable(&playbook()).map(|(name, _)| name.to_owned()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert!(all.contains(&"can_edit_checklists") && all.len() > 10, "{all:?}");
    let id = template(&app, "Everything", &all, &[&key]).await;
    assert_eq!(may(&agent).await, (200, 200));
    let made = agent.post("/v1/api-keys", &json!({ "label": "mine", "role": "admin" })).await.unwrap();
    assert_eq!(problem(&made), (403, "forbidden".to_owned()));
    let made = agent.post(AT, &json!({ "name": "Mine", "permissions": ["audit.read"] })).await.unwrap();
    assert_eq!(problem(&made), (403, "forbidden".to_owned()));
    let given = agent.post(&format!("{AT}/{id}/assignees"), &json!({ "key": key })).await.unwrap();
    assert_eq!(problem(&given), (403, "forbidden".to_owned()));
    // What the blueprint added is given with the rest, down the chain of what stands in each other.
    let organisation = object(&app.admin, "organisation", "Ours", None).await;
    let project = object(&app.admin, "project", "Launch", Some(&organisation)).await;
    let checklist = object(&agent, "checklist", "Mine", Some(&project)).await;
    assert_eq!(agent.get(&format!("/v1/objects/{checklist}")).await.unwrap().status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_bundles_what_he_does_not_have_himself() {
    let text = "module shop\n\nextend type workspace\n  relations\n    define can_sell: [role#assignee]\n";
    let model = relation::permission::with_addition("shop", text).unwrap();
    let app = TestApp::start_with(|options| options.model = model).await;
    let wanted = json!({ "name": "Seller", "permissions": ["can_sell", "audit.read"] });
    let refused = app.admin.post(AT, &wanted).await.unwrap();
    assert_eq!(problem(&refused), (422, "invalid-input".to_owned()));
    let faults = &refused.json()["errors"];
    assert_eq!(*faults, json!([{ "pointer": "/permissions", "message": "`can_sell` is not yours to give" }]));
    app.stop().await;
}

/// Writes a template's row as whoever has the database would, under a raised head, and lets everybody hear of it.
async fn rewrite(owner: &mut PgConnection, id: &str, set: &str) {
    let id = id.parse::<RoleTemplateId>().unwrap().uuid();
    for statement in [
        "begin".to_owned(),
        "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'"
            .to_owned(),
        format!("update keyholder.role_templates set {set} where id = '{id}'"),
        "select pg_notify('keyholder_facts', id || ' ' || revision) from keyholder.heads where kind = 'workspace'"
            .to_owned(),
        "commit".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *owner).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_somebody_else_has_written_grants_nothing_and_is_told_of() {
    let recorder = telemetry::metrics().unwrap();
    let app = TestApp::start_with(|options| options.render_metrics = Arc::new(move || recorder.render())).await;
    let (agent, key) = app.agent().await;
    let id = template(&app, "Auditor", &["audit.read"], &[&key]).await;
    let other = template(&app, "Other", &["budget.read_all"], &[&key]).await;
    let mut owner = app.owner().await;
    let genuine =
        "body = (select body from keep), sha256 = (select sha256 from keep), mac = (select mac from keep), version = 1";
    sqlx::query("create temporary table keep as select * from keyholder.role_templates where body like '%Auditor%'")
        .execute(&mut owner)
        .await
        .unwrap();
    let wide = "replace(body, 'audit.read', 'budget.manage')";
    // The text alone, the text with its hash, another's MAC, another version; each with what was there before put back between.
    for set in [
        format!("body = {wide}"),
        format!("body = {wide}, sha256 = sha256(convert_to({wide}, 'UTF8'))"),
        "mac = (select t.mac from keyholder.role_templates t where t.body like '%Other%')".to_owned(),
        "version = 2".to_owned(),
    ] {
        rewrite(&mut owner, &id, genuine).await;
        eventually("the genuine one grants", async || may(&agent).await == (200, 403)).await;
        rewrite(&mut owner, &id, &set).await;
        eventually("it grants neither the new nor the old", async || may(&agent).await == (403, 403)).await;
        let shown = ok(app.admin.get(&format!("{AT}/{id}")).await.unwrap(), 200);
        assert_eq!((&shown["drifted"], &shown["permissions"]), (&json!(true), &json!([])), "{set}");
        let listed = ok(app.admin.get(AT).await.unwrap(), 200);
        let drifted: Vec<_> =
            listed["data"].as_array().unwrap().iter().map(|one| (text(one, "/id"), &one["drifted"])).collect();
        assert_eq!(drifted, [(other.as_str(), &json!(false)), (id.as_str(), &json!(true))], "{set}");
    }
    // It is given to nobody more, and a process that starts tells of it though nobody asks it for the workspace's facts.
    let (_, second) = app.agent().await;
    let given = app.admin.post(&format!("{AT}/{id}/assignees"), &json!({ "key": second })).await.unwrap();
    assert_eq!(problem(&given), (409, "conflict".to_owned()));
    let page = Caller::new(app.instance.metrics_url(), None);
    let told = async || -> u64 {
        let page = String::from_utf8(page.get("/metrics").await.unwrap().body.to_vec()).unwrap();
        let line = page.lines().find(|line| line.starts_with("keyholder_role_template_drifts_total{drift=\"mac\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let before = told().await;
    assert!(before > 0, "each reading told of it");
    let node = app.second_node().await;
    eventually("a process that starts tells of it", async || told().await > before).await;
    let drifted = node.app().store.drifted_role_templates().await.unwrap();
    let drifted: Vec<_> = drifted.iter().map(|(stored, drift)| (stored.id.to_string(), *drift)).collect();
    assert_eq!(drifted, [(id.clone(), store::role_template::Drift::Mac)]);
    node.stop().await;

    // An admin who confirms what is to be there makes it one of Keyholder's again.
    let wanted = json!({ "name": "Auditor", "permissions": ["audit.read"] });
    let difference = ok(change(&app, &id, &wanted).await, 200);
    assert_eq!(difference["added"], json!(["audit.read"]), "it had granted nothing");
    let mut confirmed = wanted.clone();
    confirmed["confirm"] = difference["confirm"].clone();
    ok(change(&app, &id, &confirmed).await, 200);
    assert_eq!(may(&agent).await, (200, 403));
    assert_eq!(ok(app.admin.get(&format!("{AT}/{id}")).await.unwrap(), 200)["drifted"], json!(false));
    app.stop().await;
}

/// What is to be there again: the row as it is now.
async fn keep(owner: &mut PgConnection, id: &str) {
    let id = id.parse::<RoleTemplateId>().unwrap().uuid();
    let statement = format!("create temporary table keep as select * from keyholder.role_templates where id = '{id}'");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *owner).await.unwrap();
}

/// The metrics are the process's: the tests that make an older row do so one after the other.
static OLDER_ROWS: Mutex<()> = Mutex::const_new(());

/// How often it was told that a template is an older one.
async fn told_of_older(page: &Caller) -> u64 {
    let page = String::from_utf8(page.get("/metrics").await.unwrap().body.to_vec()).unwrap();
    let line = page.lines().find(|line| line.starts_with("keyholder_role_template_drifts_total{drift=\"older\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_template_that_is_put_back_grants_nothing_and_is_told_of_once() {
    let _alone = OLDER_ROWS.lock().await;
    let recorder = telemetry::metrics().unwrap();
    let app = TestApp::start_with(|options| options.render_metrics = Arc::new(move || recorder.render())).await;
    let (agent, key) = app.agent().await;
    let id = template(&app, "Auditor", &["budget.manage"], &[&key]).await;
    let mut owner = app.owner().await;
    keep(&mut owner, &id).await;
    let narrowed = json!({ "name": "Auditor", "permissions": ["audit.read"] });
    let mut confirmed = narrowed.clone();
    confirmed["confirm"] = ok(change(&app, &id, &narrowed).await, 200)["confirm"].clone();
    assert_eq!(ok(change(&app, &id, &confirmed).await, 200)["version"], json!(2));
    assert_eq!(may(&agent).await, (200, 403));

    let page = Caller::new(app.instance.metrics_url(), None);
    let before = told_of_older(&page).await;
    // Every byte of it is Keyholder's own: only the trail knows that something came after it.
    let genuine = "body = (select body from keep), sha256 = (select sha256 from keep), mac = (select mac from keep), \
                   version = (select version from keep)";
    rewrite(&mut owner, &id, genuine).await;
    eventually("it grants neither what it gave then nor what it gave last", async || may(&agent).await == (403, 403))
        .await;
    let shown = ok(app.admin.get(&format!("{AT}/{id}")).await.unwrap(), 200);
    assert_eq!((&shown["drifted"], &shown["permissions"], &shown["version"]), (&json!(true), &json!([]), &json!(1)));
    let found = app.instance.app().store.drifted_role_templates().await.unwrap();
    let found: Vec<_> = found.iter().map(|(stored, drift)| (stored.id.to_string(), *drift)).collect();
    assert_eq!(found, [(id.clone(), store::role_template::Drift::Older)]);

    // However often the facts are read, it is told once by each process.
    assert_eq!(told_of_older(&page).await, before + 1);
    for _ in 0..3 {
        object(&app.admin, "folder", "Board", None).await;
        assert_eq!(may(&agent).await, (403, 403));
    }
    assert_eq!(told_of_older(&page).await, before + 1);
    let node = app.second_node().await;
    eventually("a process that starts tells of it", async || told_of_older(&page).await == before + 2).await;
    node.stop().await;

    // Confirmed anew it has a version that no text had before: what was put back once is never again the last one.
    confirmed["confirm"] = ok(change(&app, &id, &narrowed).await, 200)["confirm"].clone();
    assert_eq!(ok(change(&app, &id, &confirmed).await, 200)["version"], json!(3));
    assert_eq!(may(&agent).await, (200, 403));
    rewrite(&mut owner, &id, genuine).await;
    eventually("put back again, it grants nothing again", async || may(&agent).await == (403, 403)).await;
    assert_eq!(told_of_older(&page).await, before + 3, "that is another rewriting");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_was_removed_and_is_put_back_grants_nothing_until_it_is_removed_again() {
    let _alone = OLDER_ROWS.lock().await;
    let app = TestApp::start().await;
    let (agent, key) = app.agent().await;
    let id = template(&app, "Auditor", &["audit.read"], &[&key]).await;
    let mut owner = app.owner().await;
    keep(&mut owner, &id).await;
    assert_eq!(may(&agent).await, (200, 403));
    assert_eq!(app.admin.delete(&format!("{AT}/{id}")).await.unwrap().status, 204);
    let raised =
        "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'";
    let key = key.parse::<domain::id::KeyId>().unwrap().uuid();
    let assigned = format!(
        "insert into keyholder.role_assignments (workspace_id, role_id, key_id, created_by) \
         select workspace_id, id, '{key}', 'somebody' from keep"
    );
    let back = "insert into keyholder.role_templates select * from keep";
    let told =
        "select pg_notify('keyholder_facts', id || ' ' || revision) from keyholder.heads where kind = 'workspace'";
    for statement in ["begin", raised, back, &assigned, told, "commit"] {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut owner).await.unwrap();
    }
    let is_back = async || app.admin.get(&format!("{AT}/{id}")).await.unwrap().status == 200;
    eventually("the row is there", is_back).await;
    assert_eq!(ok(app.admin.get(&format!("{AT}/{id}")).await.unwrap(), 200)["drifted"], json!(true));
    // The facts are read anew, and it gives nothing by them.
    object(&app.admin, "folder", "Board", None).await;
    assert_eq!(may(&agent).await, (403, 403));
    let wanted = json!({ "name": "Auditor", "permissions": ["audit.read"] });
    assert_eq!(
        problem(&change(&app, &id, &wanted).await),
        (409, "conflict".to_owned()),
        "it was removed, and stays so"
    );
    assert_eq!(app.admin.delete(&format!("{AT}/{id}")).await.unwrap().status, 204);
    assert!(app.instance.app().store.drifted_role_templates().await.unwrap().is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_templates_there_are_is_told_to_the_installation_and_to_each_workspace_of_its_own() {
    let app = TestApp::start().await;
    let other = local::create_workspace(app.instance.app(), "Other").await.unwrap();
    let mut named = (Vec::new(), Vec::new());
    for (admin, workspace) in
        [(&app.admin, app.workspace_uuid()), (&app.stranger.with_key(&other.text), other.workspace.uuid())]
    {
        let wanted = json!({ "name": "Auditor", "permissions": ["audit.read"] });
        let made = ok(admin.post(AT, &wanted).await.unwrap(), 201);
        named.0.push(workspace);
        named.1.push(format!("role_template:{}", text(&made, "/id")));
    }
    let all = named.0.clone();
    // Without a context that only the root key signs, nothing is told.
    let contexts = [
        (None, vec![], vec![]),
        (Some(("workspace", all[0])), vec![], vec![all[0]]),
        (Some(("workspace", all[1])), vec![], vec![all[1]]),
        (Some(("installation", InstallationId::ONE.uuid())), all.clone(), all.clone()),
    ];
    for group in ["app", "lookup", "loader", "ledger"] {
        let mut login = app.login(group).await;
        for (of, listed, told) in &contexts {
            let pid = backend(&mut login).await;
            let signed = of.map(|(kind, subject)| context(kind, subject, pid, 20_000)).unwrap_or_default();
            set_context(&mut login, &signed).await;
            let found = "select workspace_id from keyholder.role_templates_after(null, null, 100) order by array_position($1, workspace_id)";
            let found = sqlx::query_scalar::<_, Uuid>(found).bind(&all).fetch_all(&mut login).await;
            let trail = "select workspace_id from keyholder.role_template_trail($1, $2) order by array_position($1, workspace_id)";
            let trail = sqlx::query_scalar::<_, Uuid>(trail).bind(&named.0).bind(&named.1).fetch_all(&mut login).await;
            let (may_list, may_ask) = (group == "app", ["app", "loader"].contains(&group));
            assert_eq!(found.ok(), may_list.then(|| listed.clone()), "{group} in {of:?}");
            assert_eq!(trail.ok(), may_ask.then(|| told.clone()), "{group} in {of:?}");
        }
    }
    app.stop().await;
}
