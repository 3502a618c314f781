//! The three matrices: every row of the route table, anonymous, from another workspace, and audited. A row that is added to the table
//! is walked without being named here; one whose sample needs something unknown makes the walk fail.

mod stock;

use std::num::NonZeroU32;

use domain::{environment::Environment, operator::Purpose};
use http::{Method, header};
use keyholder::{
    InstanceOptions,
    caller::{Caller, Reply},
    local,
};
use serde_json::{Value, json};
use server::{Guard, Route, SampleBody, Verb, routes::table};
use sqlx::{AssertSqlSafe, PgConnection, Row};

pub(crate) use stock::{Stock, Values, everything};
use stock::{mandate_for, placeholders};

use crate::harness::{ACCOUNT, RETURN, TestApp, eventually, problem, text};

/// Limits so wide that a walk meets none of them.
pub(crate) fn without_limits(options: &mut InstanceOptions) {
    let most = NonZeroU32::MAX;
    options.limits.network_per_minute = most;
    options.limits.principal_per_minute = most;
    options.limits.failures_per_minute = most;
    options.limits.links_per_minute = most;
}

/// Whether somebody must have a key.
pub(crate) fn is_guarded(route: &Route) -> bool {
    !matches!(route.guard, Guard::Public(_))
}

/// Whether the key is one of the operator's persons'.
pub(crate) fn is_for_operators(route: &Route) -> bool {
    matches!(route.guard, Guard::Operator(_))
}

/// The rows behind a workspace's key.
pub(crate) fn guarded() -> impl Iterator<Item = &'static Route> {
    table().iter().filter(|route| is_guarded(route) && !is_for_operators(route))
}

/// The rows behind an operator's key.
pub(crate) fn for_operators() -> impl Iterator<Item = &'static Route> {
    table().iter().filter(|route| is_for_operators(route))
}

/// A person of the operator's, of a name that is his alone, and super-admin: there is no row that he may not use.
pub(crate) async fn operator(app: &TestApp) -> Caller {
    let host = domain::principal::Principal::operator("local", app.instance.app().clock.now());
    let name = format!("person-{}", domain::id::OperatorId::new(&app.instance.app().clock));
    let (_, key) = service::operator::create(app.instance.app(), &host, (&name, Purpose::Person)).await.unwrap();
    service::operator::appoint_super_admin(app.instance.app(), &host, &name).await.unwrap();
    app.stranger.with_key(&key)
}

/// Who of three may send a row's sample: a workspace's admin, a person of the operator's, or anybody.
pub(crate) fn by<'c>(route: &Route, admin: &'c Caller, operator: &'c Caller, anybody: &'c Caller) -> &'c Caller {
    match route.guard {
        Guard::ApiKey(_) => admin,
        Guard::Operator(_) => operator,
        Guard::Public(_) => anybody,
    }
}

/// Sends a row's sample. What goes on after the answer has come to its end when this returns.
pub(crate) async fn send(caller: &Caller, route: &Route, values: &Values, more: &[(&str, &str)]) -> Reply {
    let filled = route.sample.fill(route.path, values);
    let mut headers: Vec<_> = filled.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.extend(more);
    let method: Method = filled.method.parse().unwrap();
    let reply = caller.send(method, &filled.target, &headers, filled.body.into()).await.unwrap();
    if let Some(drill) = filled.target.strip_suffix("/approve").filter(|_| reply.status.is_success()) {
        let ended = async || text(&caller.get(drill).await.unwrap().json(), "/state") == "ended";
        eventually("the drill ends", ended).await;
    }
    reply
}

/// What must not be told to a stranger: ids, codes, names.
fn private(app: &TestApp, values: &Values) -> Vec<String> {
    let named = [
        "connection",
        "gone_connection",
        "mandate",
        "key",
        "act",
        "budget",
        "code",
        "token",
        "kill_drill",
        "object",
        "viewer",
        "role_template",
        "assignee",
        "confirm",
        "system_object",
    ];
    let mut private: Vec<_> = named.iter().map(|name| values[*name].clone()).collect();
    private.extend([
        app.first.workspace.to_string(),
        app.first.key.to_string(),
        "Acme".to_owned(),
        ACCOUNT.to_owned(),
        RETURN.to_owned(),
    ]);
    private
}

/// Whether a reply says something private. What the request itself said may come back in a problem's `detail`, and does not: ids
/// are not repeated either.
#[track_caller]
pub(crate) fn assert_silent(what: &str, reply: &Reply, private: &[String]) {
    let mut said = String::from_utf8_lossy(&reply.body).into_owned();
    for (name, value) in &reply.headers {
        said.extend(["\n", name.as_str(), ": ", &String::from_utf8_lossy(value.as_bytes())]);
    }
    for word in private {
        assert!(!said.contains(word.as_str()), "{what} says {word}: {said}");
    }
}

/// What the database holds of a workspace, table by table, as one digest.
pub(crate) async fn state_of(owner: &mut PgConnection, workspace: sqlx::types::Uuid) -> Vec<(String, String)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid \
         where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') and a.attname = 'workspace_id' order by 1",
    )
    .fetch_all(&mut *owner)
    .await
    .unwrap();
    let mut state = Vec::new();
    for table in tables {
        let statement = format!(
            "select count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from keyholder.{table} t \
             where workspace_id = $1"
        );
        let digest = sqlx::query_scalar(AssertSqlSafe(statement)).bind(workspace).fetch_one(&mut *owner).await.unwrap();
        state.push((table, digest));
    }
    state
}

#[track_caller]
fn assert_unauthenticated(what: &str, reply: &Reply) {
    assert_eq!(problem(reply), (401, "unauthenticated".to_owned()), "{what}");
    assert_eq!(reply.header("www-authenticate"), "Bearer", "{what}");
}

/// Credentials that are none: what is wrong with each, and the caller that shows it.
async fn broken_credentials(app: &TestApp) -> Vec<(&'static str, Caller)> {
    let good = app.first.text.to_string();
    let swapped = if good.ends_with('0') { '1' } else { '0' };
    let typo = format!("{}{swapped}", &good[..good.len() - 1]);
    let elsewhere = domain::api_key::generate(Environment::Production).0.to_string();
    let unknown = domain::api_key::generate(Environment::Local).0.to_string();

    let (revoked, id) = app.agent().await;
    assert_eq!(revoked.get("/v1/workspace").await.unwrap().status, 200);
    assert_eq!(app.admin.delete(&format!("/v1/api-keys/{id}")).await.unwrap().status, 204);
    let (expired, id) = app.agent().await;
    assert_eq!(expired.get("/v1/workspace").await.unwrap().status, 200);
    end_key(app, &id).await;

    vec![
        ("no key", app.stranger.clone()),
        ("a broken key", app.stranger.with_key("kh_local_broken")),
        ("another word", app.stranger.with_key("password")),
        ("a key with a typing error", app.stranger.with_key(&typo)),
        ("a key in capitals", app.stranger.with_key(&good.to_uppercase())),
        ("a key of another environment", app.stranger.with_key(&elsewhere)),
        ("a key that nobody made", app.stranger.with_key(&unknown)),
        ("a revoked key", revoked),
        ("an expired key", expired),
    ]
}

/// Operator's keys that are none.
async fn broken_operators(app: &TestApp) -> Vec<(&'static str, Caller)> {
    let key = |environment| app.stranger.with_key(&domain::operator::generate(environment).0);
    let good = operator(app).await;
    let swapped = if good.key().unwrap().ends_with('0') { '1' } else { '0' };
    let typo = format!("{}{swapped}", &good.key().unwrap()[..good.key().unwrap().len() - 1]);
    let unprefixed = good.key().unwrap().replacen("kho_", "kh_", 1);
    vec![
        ("an operator's key that nobody made", key(Environment::Local)),
        ("an operator's key of another environment", key(Environment::Production)),
        ("an operator's key with a typing error", app.stranger.with_key(&typo)),
        ("an operator's key as an API key", app.stranger.with_key(&unprefixed)),
    ]
}

/// Lets a key's time be over, as the clock would.
async fn end_key(app: &TestApp, id: &str) {
    use domain::id::Id;
    let id: domain::id::KeyId = id.parse().unwrap();
    let mut owner = app.owner().await;
    for statement in [
        "begin",
        "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'workspace'",
    ] {
        sqlx::query(statement).execute(&mut owner).await.unwrap();
    }
    let ended = sqlx::query("update keyholder.api_keys set expires_at = now() - interval '1 second' where id = $1");
    assert_eq!(ended.bind(id.uuid()).execute(&mut owner).await.unwrap().rows_affected(), 1);
    let announce =
        "select pg_notify('keyholder_facts', id || ' ' || revision) from keyholder.heads where kind = 'workspace'";
    for statement in [announce, "commit"] {
        sqlx::query(statement).execute(&mut owner).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_key_and_public_rows_say_nothing_of_anybody() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let private = private(&app, &values);
    let mut credentials = broken_credentials(&app).await;
    credentials.extend(broken_operators(&app).await);
    let operator = operator(&app).await;
    assert_eq!(operator.get("/v1/installation/audit").await.unwrap().status, 200);
    let mut owner = app.owner().await;
    let before = state_of(&mut owner, app.workspace_uuid()).await;
    let mut walked = 0;
    for route in table() {
        walked += 1;
        if is_guarded(route) {
            for (what, caller) in &credentials {
                let reply = send(caller, route, &values, &[]).await;
                assert_unauthenticated(&format!("{route:?} with {what}"), &reply);
                assert_silent(&format!("{route:?} with {what}"), &reply, &private);
            }
            // Neither kind of key is one where the other is wanted.
            let other = by(route, &operator, &app.admin, &app.stranger);
            let reply = send(other, route, &values, &[]).await;
            assert_unauthenticated(&format!("{route:?} with a key of the other kind"), &reply);
            assert_silent(&format!("{route:?} with a key of the other kind"), &reply, &private);
            // Neither another scheme nor a second credential is looked at.
            for value in ["Basic a2g6a2g=".to_owned(), format!("Token {}", *app.first.text)] {
                let reply = send(&app.stranger, route, &values, &[("authorization", &value)]).await;
                assert_unauthenticated(&format!("{route:?} with {value}"), &reply);
            }
            let bearer = format!("Bearer {}", *app.first.text);
            let twice = [(header::AUTHORIZATION.as_str(), bearer.as_str()); 2];
            let reply = send(&app.stranger, route, &values, &twice).await;
            assert_eq!(problem(&reply), (400, "malformed-request".to_owned()), "{route:?} with two keys");
        } else {
            // Whoever has a link's token may see its page; a stranger has none.
            let mut guessed = values.clone();
            for secret in ["token", "code"] {
                guessed.insert(secret.to_owned(), domain::random::token());
            }
            let reply = send(&app.stranger.with_no_cookies(), route, &guessed, &[]).await;
            assert!(!reply.status.is_server_error(), "{route:?}: {}", reply.status);
            assert_silent(&format!("{route:?}"), &reply, &private);
        }
    }
    assert_eq!(walked, table().len());
    assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before, "something was changed by a stranger");
    // The search can find what it looks for.
    let shown = app.admin.get("/v1/connections").await.unwrap();
    assert!(String::from_utf8_lossy(&shown.body).contains(&values["connection"]));
    app.stop().await;
}

/// The placeholders that name something of the workspace.
fn is_owned(name: &str) -> bool {
    !["fresh", "provider", "action", "path", "plan", "feature", "statement", "signature"].contains(&name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_workspace_finds_nothing_of_the_first() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let private = private(&app, &values);
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let rival = app.stranger.with_key(&rival.text);
    let mut owner = app.owner().await;
    let before = state_of(&mut owner, app.workspace_uuid()).await;
    let (mut objects, mut lists) = (0, 0);
    for route in guarded() {
        let named: Vec<_> = placeholders(&route.sample).into_iter().filter(|name| is_owned(name)).collect();
        let in_path = route.sample.path.iter().any(|(_, value)| named.iter().any(|name| value.contains(name.as_str())));
        let reply = send(&rival, route, &values, &[]).await;
        let what = format!("{route:?}");
        assert_silent(&what, &reply, &private);
        if named.is_empty() {
            lists += 1;
            assert!(reply.status.is_success(), "{what}: {}", reply.json());
            if ["connections", "mandates", "acts", "budgets"].iter().any(|list| route.path == format!("/v1/{list}"))
                && route.method == Verb::Get
            {
                assert_eq!(reply.json()["data"], json!([]), "{what}");
            }
        } else {
            objects += 1;
            let (status, kind) = problem(&reply);
            // What is named in a body beside the object may be called an invalid input, in the same words as one that is nowhere.
            let refused = (status, kind.as_str()) == (404, "not-found")
                || (!in_path && (status, kind.as_str()) == (422, "invalid-input"));
            assert!(refused, "{what}: {status} {kind}");
            let nowhere = nonexistent(&values);
            let as_nowhere = send(&rival, route, &nowhere, &[]).await;
            assert_eq!(same_words(&as_nowhere), same_words(&reply), "{what} tells what is another's from what is not");
        }
    }
    assert_eq!(objects + lists, guarded().count());
    assert!(objects >= 12 && lists >= 8, "{objects} {lists}");
    assert_eq!(
        state_of(&mut owner, app.workspace_uuid()).await,
        before,
        "something was changed from another workspace"
    );
    // The one-time code still belongs to its workspace.
    let redeemed = app.admin.post("/v1/connections/redeem", &json!({ "code": values["code"] })).await.unwrap();
    assert_eq!(redeemed.status, 200);
    app.stop().await;
}

/// Values of the right form that name nothing.
fn nonexistent(values: &Values) -> Values {
    let clock = domain::clock::Clock::system();
    let mut nowhere = values.clone();
    for (name, value) in &mut nowhere {
        let fresh = match name.as_str() {
            "connection" | "gone_connection" => domain::id::ConnectionId::new(&clock).to_string(),
            "mandate" => domain::id::MandateId::new(&clock).to_string(),
            "key" | "viewer" | "assignee" => domain::id::KeyId::new(&clock).to_string(),
            "act" => domain::id::ActId::new(&clock).to_string(),
            "relation_store" => domain::id::RelationStoreId::new(&clock).to_string(),
            "relation_model" => domain::id::RelationModelId::new(&clock).to_string(),
            "budget" => domain::id::BudgetId::new(&clock).to_string(),
            "object" | "system_object" => domain::id::ObjectId::new(&clock).to_string(),
            "role_template" => domain::id::RoleTemplateId::new(&clock).to_string(),
            "code" | "token" | "confirm" => domain::random::token(),
            "return_url" => "http://localhost:3000/elsewhere".to_owned(),
            _ => continue,
        };
        *value = fresh;
    }
    nowhere
}

/// A refusal without what differs from request to request.
fn same_words(reply: &Reply) -> Value {
    let mut body = reply.json();
    for name in ["instance", "request_id"] {
        body.as_object_mut().unwrap().remove(name);
    }
    body
}

/// What a role that is no admin may do: everything else is refused to it.
const MEMBERS_MAY: [&str; 8] = [
    "workspace.read",
    "workspace.list",
    "budget.read",
    "act.read",
    "relation_store.read",
    "relation_store.write",
    "plan.read",
    "permission.explain",
];
const GRANTEES_MAY: [&str; 4] = ["connection.read", "mandate.read", "act.perform", "object.read"];

#[tokio::test(flavor = "multi_thread")]
async fn a_service_key_is_refused_what_it_sees_and_does_not_see_the_rest() {
    let app = TestApp::start_with(without_limits).await;
    let (idle, _) = app.agent().await;
    let (grantee, grantee_key) = app.agent().await;
    let stock = Stock { app: &app, caller: &grantee, grantee: grantee_key };
    let mut owner = app.owner().await;
    let mut walked = 0;
    for route in guarded() {
        walked += 1;
        let Guard::ApiKey(permission) = route.guard else { continue };
        // The grantee is related to each object by a mandate on it.
        let (mut values, _) = stock.fill(route).await;
        if let Some(connection) = values.get("connection").cloned() {
            let related = mandate_for(&app, &connection, &stock.grantee).await;
            values.entry("mandate".to_owned()).or_insert(related);
        }
        let before = state_of(&mut owner, app.workspace_uuid()).await;
        let (shown, hidden) = (send(&grantee, route, &values, &[]).await, send(&idle, route, &values, &[]).await);
        let workspace = route.object == server::ObjectFrom::CallersWorkspace;
        let may = MEMBERS_MAY.contains(&permission) || GRANTEES_MAY.contains(&permission);
        let what = format!("{route:?}");
        if values.contains_key("gone_connection") {
            // Whoever stood to a connection through a mandate stands to it no more when it is gone.
            assert_eq!(problem(&shown), (404, "not-found".to_owned()), "{what} to a former grantee");
        } else if may {
            assert!(shown.status.is_success(), "{what} to a grantee: {} {}", shown.status, shown.json());
        } else {
            assert_eq!(problem(&shown), (403, "forbidden".to_owned()), "{what} to a grantee");
        }
        if !workspace || (may && values.contains_key("act")) {
            assert_eq!(problem(&hidden), (404, "not-found".to_owned()), "{what} to a stranger within");
        } else if may {
            assert!(hidden.status.is_success(), "{what} to a member: {} {}", hidden.status, hidden.json());
            let known = ["connection", "mandate", "act", "budget", "object", "role_template"];
            let known = known.iter().filter_map(|name| values.get(*name).cloned());
            assert_silent(&what, &hidden, &known.collect::<Vec<_>>());
        } else {
            assert_eq!(problem(&hidden), (403, "forbidden".to_owned()), "{what} to a member");
        }
        if !may {
            assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before, "{what} changed something");
        }
    }
    assert_eq!(walked, guarded().count());
    app.stop().await;
}

/// What the audit trail has of a request: event, principal, means.
async fn trail(owner: &mut PgConnection, request: &str) -> Vec<(String, String, String)> {
    let rows = sqlx::query("select event, principal, means from keyholder.audit where request = $1 order by id");
    let rows = rows.bind(request.to_owned()).fetch_all(owner).await.unwrap();
    rows.iter().map(|row| (row.get("event"), row.get("principal"), row.get("means"))).collect()
}

/// What the installation's trail has of a request.
async fn installation_trail(owner: &mut PgConnection, request: &str) -> Vec<(String, String, String)> {
    let rows =
        sqlx::query("select event, principal, means from keyholder.installation_audit where request = $1 order by id");
    let rows = rows.bind(request.to_owned()).fetch_all(owner).await.unwrap();
    rows.iter().map(|row| (row.get("event"), row.get("principal"), row.get("means"))).collect()
}

async fn count(owner: &mut PgConnection, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(owner).await.unwrap()
}

/// How much there is of what a row is said to leave.
async fn rows_of(owner: &mut PgConnection, record: server::Record) -> i64 {
    match record {
        server::Record::Row("connect_links") => {
            count(owner, "select count(*) from keyholder.connect_links where opened_at is not null").await
        }
        server::Record::Row(table) => count(owner, &format!("select count(*) from keyholder.{table}")).await,
        server::Record::Audit(_) | server::Record::InstallationAudit(_) | server::Record::Nothing => 0,
    }
}

/// Whoever holds a link, as the trail names it.
const CALLBACK: &str = "system:connect_callback";

#[tokio::test(flavor = "multi_thread")]
async fn every_change_leaves_its_record_and_nothing_else_leaves_one() {
    let app = TestApp::start_with(without_limits).await;
    let stock = Stock::of_admin(&app);
    let admin = format!("api_key:{}", stock.grantee);
    let operator = operator(&app).await;
    let mut owner = app.owner().await;
    let (mut walked, mut audited, mut silent) = (0, 0, 0);
    for route in table() {
        walked += 1;
        let (values, browser) = stock.fill(route).await;
        let (events, rows) =
            (count(&mut owner, "select count(*) from keyholder.audit").await, rows_of(&mut owner, route.record).await);
        let caller = by(route, &app.admin, &operator, &browser);
        let reply = send(caller, route, &values, &[]).await;
        let what = format!("{route:?}");
        let went_well = reply.status.is_success() || reply.status == 303;
        assert!(went_well, "{what}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
        let request = reply.header("request-id").to_owned();
        assert!(request.starts_with("req_"), "{what}: {request}");
        let left = trail(&mut owner, &request).await;
        let all = count(&mut owner, "select count(*) from keyholder.audit").await - events;
        let rows = rows_of(&mut owner, route.record).await - rows;
        match route.record {
            server::Record::Audit(event) => {
                audited += 1;
                let names: Vec<_> = left.iter().map(|(name, ..)| name.as_str()).collect();
                // Taking a connection apart is two commits, and each says so.
                let expected = match event {
                    "connection.disconnected" => vec!["connection.disconnecting", event],
                    event => vec![event],
                };
                assert_eq!(names, expected, "{what}");
                assert_eq!(all, i64::try_from(expected.len()).unwrap(), "{what} left more than is its own");
                let (_, principal, means) = &left[0];
                let expected = if is_guarded(route) { (admin.as_str(), "api_key") } else { (CALLBACK, "internal") };
                assert_eq!((principal.as_str(), means.as_str()), expected, "{what}");
            }
            server::Record::InstallationAudit(event) => {
                audited += 1;
                let left = installation_trail(&mut owner, &request).await;
                let [(name, principal, means)] = left.as_slice() else { panic!("{what} left {left:?}") };
                assert_eq!((name.as_str(), means.as_str()), (event, "operator_key"), "{what}");
                assert!(principal.starts_with("operator:person-opr_"), "{what}: {principal}");
                // What is done to a workspace is in its own trail as well, and nothing else is in any tenant's.
                let with_tenant = trail(&mut owner, &request).await;
                let expected = if route.path.contains("{workspace}") { left.clone() } else { Vec::new() };
                assert_eq!(with_tenant, expected, "{what} with a tenant");
            }
            server::Record::Row(table) => {
                audited += 1;
                assert_eq!((rows, all), (1, 0), "{what}");
                if table == "acts" {
                    let who = "select principal from keyholder.acts order by admitted_at desc, id desc limit 1";
                    let who: String = sqlx::query_scalar(who).fetch_one(&mut owner).await.unwrap();
                    assert_eq!(who, admin, "{what}");
                }
            }
            server::Record::Nothing => {
                silent += 1;
                assert_eq!((left.len(), all), (0, 0), "{what}");
            }
        }
    }
    assert_eq!(walked, table().len());
    assert_eq!(audited, table().iter().filter(|route| route.changes()).count());
    assert_eq!(audited + silent, walked);
    // Each audit entry of the whole story says who, how, and to what.
    let blank =
        "select count(*) from keyholder.audit where principal = '' or means = '' or object !~ '^[a-z_]+:[a-z]+_.'";
    assert_eq!(count(&mut owner, blank).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_leaves_no_record() {
    let app = TestApp::start_with(without_limits).await;
    let values = everything(&app).await;
    let operator = operator(&app).await;
    let mut owner = app.owner().await;
    let before = state_of(&mut owner, app.workspace_uuid()).await;
    let mut walked = 0;
    for route in table().iter().filter(|route| route.changes()) {
        walked += 1;
        // A body that is wrong, from somebody who may.
        let mut wrong = route.sample.fill(route.path, &values);
        wrong.body = match &route.sample.body {
            SampleBody::Json(_) => "{\"nonsense\":1}".to_owned(),
            SampleBody::Form(_) => "nonsense=1".to_owned(),
            SampleBody::Nothing => continue,
        };
        let headers: Vec<_> = wrong.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let caller = by(route, &app.admin, &operator, &app.stranger);
        let method = wrong.method.parse().unwrap();
        let reply = caller.send(method, &wrong.target, &headers, wrong.body.into()).await.unwrap();
        assert!(reply.status.is_client_error(), "{route:?}: {}", reply.status);
    }
    assert!(walked > 5);
    assert_eq!(state_of(&mut owner, app.workspace_uuid()).await, before);
    app.stop().await;
}
