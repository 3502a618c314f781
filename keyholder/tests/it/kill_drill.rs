//! The installation's kill drill: two persons, and nobody else, end every connection; what is said of it afterwards is what was seen.

mod persons;

use std::{collections::BTreeSet, fmt::Write};

use aws_lc_rs::digest;
use bytes::Bytes;
use domain::{
    id::{ConnectionId, Id},
    operator::Purpose,
};
use http::Method;
use keyholder::{
    Instance,
    caller::Caller,
    local::{self, PROVIDER},
};
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use service::step::{Hook, Step};

use crate::harness::{ACCOUNT, Entrusted, RETURN, TestApp, eventually, ok, problem, query, text};

const DRILLS: &str = "/v1/installation/kill-drills";
const ACTION: &str = "profile.read";

/// A person of the operator's with a new key: its caller and its id.
async fn person(app: &TestApp, name: &str) -> (Caller, String) {
    let host = domain::principal::Principal::operator("local", app.instance.app().clock.now());
    let (id, text) = service::operator::create(app.instance.app(), &host, (name, Purpose::Person)).await.unwrap();
    (app.stranger.with_key(&text), id.to_string())
}

/// Ends a person's key.
async fn dismiss(app: &TestApp, key: &str) {
    let host = domain::principal::Principal::operator("local", app.instance.app().clock.now());
    service::operator::revoke(app.instance.app(), &host, key.parse().unwrap()).await.unwrap();
}

/// Proposes a drill: its path.
async fn proposed(by: &Caller, provider: Option<&str>) -> String {
    let wanted = json!({ "reason": "a rehearsal", "provider": provider });
    let drill = ok(by.post(DRILLS, &wanted).await.unwrap(), 201);
    assert_eq!((text(&drill, "/state"), text(&drill, "/reason")), ("proposed", "a rehearsal"));
    format!("{DRILLS}/{}", text(&drill, "/id"))
}

async fn approve(by: &Caller, drill: &str) -> keyholder::caller::Reply {
    by.send(Method::POST, &format!("{drill}/approve"), &[], Bytes::new()).await.unwrap()
}

async fn state(by: &Caller, drill: &str) -> Value {
    ok(by.get(drill).await.unwrap(), 200)
}

/// Waits for the end of a drill: its certificate.
async fn certificate(by: &Caller, drill: &str) -> Value {
    eventually("the drill ends", async || text(&state(by, drill).await, "/state") == "ended").await;
    state(by, drill).await["certificate"].clone()
}

/// All connections of a drill, by pages of two.
async fn lines(by: &Caller, drill: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut next = Value::Null;
    loop {
        let before = next.as_str().map(|next| format!("&before={next}")).unwrap_or_default();
        let page = ok(by.get(&format!("{drill}/connections?limit=2{before}")).await.unwrap(), 200);
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        next = page["next"].clone();
        if next.is_null() {
            return all;
        }
    }
}

/// Connects an account in another workspace than the test's own.
async fn connect_in(app: &TestApp, admin: &Caller, account: &str) -> String {
    ok(admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);
    let wanted = json!({ "provider": PROVIDER, "actions": [ACTION], "return_url": RETURN });
    let link = ok(admin.post("/v1/connect-links", &wanted).await.unwrap(), 201);
    let link = url::Url::parse(text(&link, "/url")).unwrap().path().to_owned();
    let back = app.consent(&app.stranger.with_no_cookies(), &link, account, &[ACTION]).await;
    let code = query(&back, "keyholder_code").unwrap();
    let redeemed = admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    text(&ok(redeemed, 200), "/id").to_owned()
}

/// A stage: three workspaces with several accounts each, one of them not redeemed yet, and one with nothing.
struct Stage {
    accounts: Vec<String>,
    connections: BTreeSet<String>,
    first: Entrusted,
    admins: Vec<Caller>,
}

async fn stage(app: &TestApp) -> Stage {
    let first = app.entrust(&[ACTION], json!([])).await;
    let mut connections = BTreeSet::from([first.connection.clone()]);
    let mut accounts = vec![ACCOUNT.to_owned()];
    let mut admins = vec![app.admin.clone()];
    for workspace in 0..2 {
        let made = local::create_workspace(app.instance.app(), &format!("Workspace {workspace}")).await.unwrap();
        let admin = app.stranger.with_key(&made.text);
        for account in 0..2 {
            let handle = format!("account_{workspace}_{account}");
            app.sandbox.platform().open_account(&handle, &handle);
            connections.insert(connect_in(app, &admin, &handle).await);
            accounts.push(handle);
        }
        admins.push(admin);
    }
    app.sandbox.platform().open_account("inert", "inert");
    let link = app.link(&[ACTION]).await;
    app.consent(&app.stranger.with_no_cookies(), &link, "inert", &[ACTION]).await;
    accounts.push("inert".to_owned());
    let listed = ok(app.admin.get("/v1/connections").await.unwrap(), 200);
    connections.extend(listed["data"].as_array().unwrap().iter().map(|known| text(known, "/id").to_owned()));
    assert_eq!(connections.len(), 6);
    local::create_workspace(app.instance.app(), "Empty").await.unwrap();
    Stage { accounts, connections, first, admins }
}

/// The digest that anybody can take of what the API tells.
fn digest_of(drill: &Value, lines: &[Value]) -> String {
    let scope = drill["provider"].as_str().unwrap_or("*");
    let mut canonical = format!(
        "kill-drill {} {scope} {} {} {} {} {}\n",
        text(drill, "/id"),
        text(drill, "/proposed_by"),
        text(drill, "/proposed_at"),
        text(drill, "/approved_by"),
        text(drill, "/approved_at"),
        text(drill, "/acts_stopped_at")
    );
    let mut lines = lines.to_vec();
    lines.sort_by_key(|line| text(line, "/connection").to_owned());
    for line in &lines {
        let revoked = if line["revoked_at_provider"] == true { "revoked" } else { "not_revoked" };
        let grant = if line["grant_may_live"] == true { "may_live" } else { "ended" };
        let (workspace, connection) = (text(line, "/workspace"), text(line, "/connection"));
        let (provider, verdict, deleted) =
            (text(line, "/provider"), text(line, "/old_token"), text(line, "/deleted_at"));
        writeln!(canonical, "{workspace} {connection} {provider} {verdict} {revoked} {grant} {deleted}").unwrap();
    }
    hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}

/// Nothing is left that could open an account, here or at the platform.
async fn assert_all_dead(app: &TestApp, stage: &Stage) {
    for account in &stage.accounts {
        let tokens = app.sandbox.platform().tokens(account);
        assert!(!tokens.is_empty() && tokens.iter().all(|token| !token.live), "{account} has a token that lives");
    }
    let mut owner = app.owner().await;
    for statement in [
        "select count(*) from keyholder.credentials",
        "select count(*) from keyholder.connections where state <> 'disconnected'",
        "select count(*) from keyholder.jobs",
        "select count(*) from keyholder.mandates where revoked_at is null",
    ] {
        let left: i64 = sqlx::query_scalar(statement).fetch_one(&mut owner).await.unwrap();
        assert_eq!(left, 0, "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_persons_end_every_connection_and_the_certificate_says_what_was_seen() {
    let app = TestApp::start().await;
    let stage = stage(&app).await;
    let platform = app.sandbox.platform();
    let (first, _) = person(&app, "first").await;
    let (second, _) = person(&app, "second").await;
    let (revoked, read) = (platform.revocations(), platform.calls(Call::ReadProfile));

    let drill = proposed(&first, None).await;
    assert_eq!(stage.first.act(ACTION, &json!({}), None).await.status, 200, "a proposal ends nothing");
    let running = ok(approve(&second, &drill).await, 200);
    assert_eq!(text(&running, "/state"), "running");
    assert_eq!((text(&running, "/proposed_by"), text(&running, "/approved_by")), ("first", "second"));
    let certificate = certificate(&first, &drill).await;

    assert_all_dead(&app, &stage).await;
    assert_eq!(platform.revocations() - revoked, 6, "each grant was revoked");
    assert_eq!(platform.calls(Call::ReadProfile) - read, 1 + 6, "each old token was tried once, after one act");
    assert_eq!(platform.refreshes(), 0);
    assert_eq!(problem(&stage.first.act(ACTION, &json!({}), None).await).0, 403);

    let counts = ["connections", "ended", "dead", "revoked_at_provider", "alive", "refused_to_say", "grants_may_live"];
    assert_eq!(counts.map(|count| certificate[count].as_u64().unwrap()), [6, 6, 6, 6, 0, 0, 0]);
    let lines = lines(&second, &drill).await;
    let listed: BTreeSet<_> = lines.iter().map(|line| text(line, "/connection").to_owned()).collect();
    assert_eq!(listed, stage.connections);
    let ended = state(&first, &drill).await;
    assert_eq!(text(&certificate, "/digest"), digest_of(&ended, &lines));
    assert_eq!(ended["progress"]["workspaces_left"], 0);
    assert_eq!(certificate["acts_stopped_at"], ended["acts_stopped_at"]);
    let all = ok(first.get(DRILLS).await.unwrap(), 200);
    assert_eq!(all["data"][0]["certificate"], certificate);

    // Each tenant sees in its own trail what ended its connections, and nothing of the others.
    for (admin, own) in stage.admins.iter().zip([2, 2, 2]) {
        let trail = ok(admin.get("/v1/audit?limit=100").await.unwrap(), 200);
        let trail = trail["data"].as_array().unwrap().clone();
        let of = |event: &str| trail.iter().filter(|entry| entry["event"] == event).cloned().collect::<Vec<_>>();
        let begun = of("connection.disconnecting");
        assert_eq!((begun.len(), of("connection.disconnected").len()), (own, own));
        for entry in begun {
            assert_eq!(text(&entry, "/principal"), "system:kill_drill");
            assert!(drill.ends_with(text(&entry, "/detail/kill_drill")), "{entry}");
        }
        assert!(!format!("{trail:?}").contains("a rehearsal"), "the operator's words are not the tenants'");
    }
    // The operator's own trail names both.
    let newest = ok(first.get("/v1/installation/audit?limit=1").await.unwrap(), 200);
    assert_eq!(text(&newest, "/data/0/event"), "kill_drill.listed", "to read is a use, too");
    let who = async |event: &str| {
        let entry =
            "select principal, means from keyholder.installation_audit where event = $1 order by id desc limit 1";
        let entry: (String, String) =
            sqlx::query_as(entry).bind(event.to_owned()).fetch_one(&mut app.owner().await).await.unwrap();
        entry
    };
    for (event, principal, means) in [
        ("operator.created", "operator:local", "host"),
        ("kill_drill.proposed", "operator:first", "operator_key"),
        ("kill_drill.approved", "operator:second", "operator_key"),
        ("kill_drill.ended", "system:kill_drill", "internal"),
    ] {
        assert_eq!(who(event).await, (principal.to_owned(), means.to_owned()), "{event}");
    }
    // After it, accounts may be connected again.
    app.connect(ACCOUNT, &[ACTION]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_one_provider_leaves_the_others_alone() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&[ACTION], json!([])).await;
    let (first, _) = person(&app, "first").await;
    let (second, _) = person(&app, "second").await;
    let unknown = first.post(DRILLS, &json!({ "reason": "x", "provider": "nobody" })).await.unwrap();
    assert_eq!(problem(&unknown).0, 422);
    let elsewhere = proposed(&first, Some("generic-oauth")).await;
    ok(approve(&second, &elsewhere).await, 200);
    let certificate = certificate(&first, &elsewhere).await;
    assert_eq!(certificate["connections"], 0);
    assert_eq!(entrusted.act(ACTION, &json!({}), None).await.status, 200);
    let here = proposed(&first, Some(PROVIDER)).await;
    ok(approve(&second, &here).await, 200);
    assert_eq!(self::certificate(&first, &here).await["dead"], 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_does_not_keep_a_drill_and_its_grants_are_named() {
    let app = TestApp::start().await;
    let stage = stage(&app).await;
    app.sandbox.platform().switch(Quirk::LoseAnswer, Scope::always(Route::Revoke)).unwrap();
    let down = Quirk::Status { code: 503, retry_after_s: None };
    app.sandbox.platform().switch(down, Scope::always(Route::Api)).unwrap();
    let (first, _) = person(&app, "first").await;
    let (second, _) = person(&app, "second").await;
    let drill = proposed(&first, None).await;
    ok(approve(&second, &drill).await, 200);
    let certificate = certificate(&first, &drill).await;
    let counts = ["connections", "ended", "dead", "revoked_at_provider", "refused_to_say", "grants_may_live"];
    assert_eq!(counts.map(|count| certificate[count].as_u64().unwrap()), [6, 6, 0, 0, 6, 6]);
    assert!(lines(&first, &drill).await.iter().all(|line| line["grant_may_live"] == true));
    let mut owner = app.owner().await;
    let left: i64 =
        sqlx::query_scalar("select count(*) from keyholder.credentials").fetch_one(&mut owner).await.unwrap();
    assert_eq!(left, 0, "deleted all the same");
    assert_eq!(problem(&stage.first.act(ACTION, &json!({}), None).await).0, 403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_into_use_while_a_drill_runs() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    app.connect(ACCOUNT, &[ACTION]).await;
    for handle in ["late", "later"] {
        platform.open_account(handle, handle);
    }
    // Two owners are on their way: one is about to come back from the platform, one's code is about to be redeemed.
    let (link, browser) = (app.link(&[ACTION]).await, app.stranger.with_no_cookies());
    let redeemable = app.consent(&app.stranger.with_no_cookies(), &app.link(&[ACTION]).await, "later", &[ACTION]).await;
    let code = query(&redeemable, "keyholder_code").unwrap();
    let (first, _) = person(&app, "first").await;
    let (second, _) = person(&app, "second").await;
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Revoke)).unwrap();
    let drill = proposed(&first, None).await;
    ok(approve(&second, &drill).await, 200);
    eventually("acts have stopped", async || !state(&first, &drill).await["acts_stopped_at"].is_null()).await;
    eventually("a revocation hangs", async || platform.armed().is_empty()).await;
    assert_eq!(text(&state(&first, &drill).await, "/state"), "running");

    let back = app.consent(&browser, &link, "late", &[ACTION]).await;
    assert_eq!(query(&back, "keyholder_code"), None);
    assert_eq!(query(&back, "keyholder_error").as_deref(), Some("unavailable"));
    assert!(platform.tokens("late").iter().all(|token| !token.live), "what came too late was given back");
    let refused = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    assert_eq!(problem(&refused).0, 404);

    platform.clear();
    let certificate = certificate(&first, &drill).await;
    assert_eq!(certificate["connections"], 2);
    assert!(["late", "later"].iter().all(|handle| platform.tokens(handle).iter().all(|token| !token.live)));
    app.connect("late", &[ACTION]).await;
    app.stop().await;
}

/// A hook that ends whatever work comes to this step.
fn crash_at(fatal: Step) -> Hook {
    Hook::new(move |step| assert_ne!(step, fatal, "a crash"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_left_undone_another_finishes() {
    for fatal in [Step::DisconnectRevoke, Step::DisconnectDelete] {
        let app = TestApp::start_with(|options| options.hook = crash_at(fatal)).await;
        let stage = stage(&app).await;
        let (first, _) = person(&app, "first").await;
        let (second, _) = person(&app, "second").await;
        let drill = proposed(&first, None).await;
        ok(approve(&second, &drill).await, 200);
        let stopped = async || !state(&first, &drill).await["acts_stopped_at"].is_null();
        eventually("acts have stopped", stopped).await;
        // The first node breaks off whatever it begins; what it holds, its lease gives back.
        let other: Instance = app.second_node().await;
        let mut owner = app.owner().await;
        let left = async || {
            sqlx::query("update keyholder.jobs set run_at = clock_timestamp()")
                .execute(&mut app.owner().await)
                .await
                .unwrap();
            text(&state(&first, &drill).await, "/state") == "ended"
        };
        eventually("the other node finishes", left).await;
        let certificate = state(&first, &drill).await["certificate"].clone();
        assert_eq!((&certificate["connections"], &certificate["dead"]), (&json!(6), &json!(6)), "{fatal:?}");
        assert_all_dead(&app, &stage).await;
        let distinct: i64 =
            sqlx::query_scalar("select count(distinct connection_id) from keyholder.kill_drill_connections")
                .fetch_one(&mut owner)
                .await
                .unwrap();
        assert_eq!(distinct, 6);
        other.stop().await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_do_one_drill_once() {
    let app = TestApp::start().await;
    let stage = stage(&app).await;
    let others = [app.second_node().await, app.second_node().await];
    let (first, _) = person(&app, "first").await;
    let (second, _) = person(&app, "second").await;
    let drill = proposed(&first, None).await;
    ok(approve(&second, &drill).await, 200);
    let certificate = certificate(&first, &drill).await;
    assert_eq!(certificate["dead"], 6);
    assert_all_dead(&app, &stage).await;
    let ended = "select count(*) from keyholder.installation_audit where event = 'kill_drill.ended'";
    let ended: i64 = sqlx::query_scalar(ended).fetch_one(&mut app.owner().await).await.unwrap();
    assert_eq!(ended, 1);
    for other in others {
        other.stop().await;
    }
    app.stop().await;
}

/// What somebody was taking apart when the drill came is on its certificate, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_taken_apart_already_is_counted() {
    let app = TestApp::start_with(|options| options.hook = crash_at(Step::DisconnectRevoke)).await;
    let connection = app.connect(ACCOUNT, &[ACTION]).await;
    assert_eq!(app.admin.delete(&format!("/v1/connections/{connection}")).await.unwrap().status, 500);
    let (first, _) = person(&app, "first").await;
    let (second, _) = person(&app, "second").await;
    let drill = proposed(&first, None).await;
    ok(approve(&second, &drill).await, 200);
    eventually("acts have stopped", async || !state(&first, &drill).await["acts_stopped_at"].is_null()).await;
    let listed = lines(&first, &drill).await;
    assert_eq!(text(&listed[0], "/connection"), connection);
    assert!(listed[0]["old_token"].is_null());
    let other = app.second_node().await;
    let ended = async || {
        sqlx::query("update keyholder.jobs set run_at = clock_timestamp()")
            .execute(&mut app.owner().await)
            .await
            .unwrap();
        text(&state(&first, &drill).await, "/state") == "ended"
    };
    eventually("the other node finishes", ended).await;
    assert_eq!(state(&first, &drill).await["certificate"]["dead"], 1);
    let uuid = connection.parse::<ConnectionId>().unwrap().uuid();
    let jobs: i64 = sqlx::query_scalar("select count(*) from keyholder.jobs where subject = $1")
        .bind(uuid)
        .fetch_one(&mut app.owner().await)
        .await
        .unwrap();
    assert_eq!(jobs, 0);
    other.stop().await;
    app.stop().await;
}
