//! Changed provider files: a host or an endpoint that nobody approved stops its provider, until the operator has said so.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use domain::principal::Principal;
use keyholder::{Instance, caller::Caller, local::PROVIDER};
use serde_json::{Value, json};
use service::{
    Refusal,
    provider_migration::{self, Migrated, Standing},
};

use crate::{
    harness::{Entrusted, RETURN, TestApp, catalogue_with, eventually, in_the_end, problem},
    serve::{Operator, said},
};

const HOSTS: &str = r#"hosts = ["api.x.com", "x.com"]

[auth]
kind = "oauth2"
authorize_url = "https://x.com/i/oauth2/authorize""#;
const OTHER_HOSTS: &str = r#"hosts = ["api.x.com", "login.x.com"]

[auth]
kind = "oauth2"
authorize_url = "https://login.x.com/i/oauth2/authorize""#;

async fn node_with(app: &TestApp, part: &str, by: &str) -> Instance {
    app.second_node_with(|options| options.catalogue = catalogue_with(part, by)).await
}

async fn act(node: &Instance, entrusted: &Entrusted, input: &str) -> (u16, String) {
    let caller = Caller::new(node.url(), None).with_key(entrusted.agent.key().unwrap());
    let reply = caller
        .act(&entrusted.mandate, "post.create", &json!({ "text": input }), Some(&hex::encode(input)))
        .await
        .unwrap();
    if reply.status == 200 { (200, String::new()) } else { problem(&reply) }
}

fn operator(node: &Instance) -> Principal {
    Principal::operator("local", node.app().clock.now())
}

async fn migrate(node: &Instance) -> Result<Migrated, Refusal> {
    provider_migration::migrate(node.app(), &operator(node), PROVIDER, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_stops_its_provider_until_it_is_approved_and_every_credential_is_sealed_with_it() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    app.connect("rival_brand", &["post.create"]).await;
    assert_eq!(act(&app.instance, &entrusted, "before").await.0, 200);

    let changed = node_with(&app, HOSTS, OTHER_HOSTS).await;
    let calls = platform.requests().len();
    let stopped = (503, "provider-not-migrated".to_owned());
    assert_eq!(act(&changed, &entrusted, "stopped").await, stopped);
    let admin = Caller::new(changed.url(), None).with_key(app.admin.key().unwrap());
    let wanted = json!({ "provider": PROVIDER, "actions": ["post.create"], "return_url": RETURN });
    assert_eq!(admin.post("/v1/connect-links", &wanted).await.unwrap().status, 422, "nobody is sent to its pages");
    assert_eq!(platform.requests().len(), calls, "nothing is sent by the node with the changed file");
    assert_eq!(act(&app.instance, &entrusted, "meanwhile").await.0, 200, "the node with the approved file goes on");

    let Standing::Changed(terms) = provider_migration::look(changed.app(), PROVIDER).await.unwrap() else {
        panic!("not seen as changed")
    };
    let changed_terms: Vec<_> = terms.iter().map(|change| change.term.as_str()).collect();
    assert_eq!(changed_terms, ["authorize_url", "hosts"]);
    assert_eq!((terms[1].approved.contains("login"), terms[1].file.contains("login.x.com")), (false, true));

    assert_eq!(migrate(&changed).await.unwrap(), Migrated { resealed: 2, unopened: 0 });
    assert_eq!(act(&changed, &entrusted, "after").await.0, 200);
    eventually("the node with the former file stops", async || {
        act(&app.instance, &entrusted, "former").await == stopped
    })
    .await;
    assert_eq!(migrate(&changed).await.unwrap(), Migrated { resealed: 0, unopened: 0 }, "all is sealed with the hosts");
    assert_eq!(platform.posts_by(crate::harness::ACCOUNT).len(), 3);

    let mut owner = app.owner().await;
    let trail: Vec<(String, String)> = sqlx::query_as(
        "select event, means from keyholder.installation_audit where event like 'provider_file.%' order by id",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    let trail: Vec<_> = trail.iter().map(|(event, means)| (event.as_str(), means.as_str())).collect();
    let migrated = ("provider_file.migrated", "host");
    assert_eq!(trail, [("provider_file.recorded", "internal"), ("provider_file.approved", "host"), migrated, migrated]);
    changed.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_counts_an_interrupted_migration_goes_on_and_what_does_not_open_stays_closed() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    let spoiled = app.connect("rival_brand", &["post.create"]).await;
    let stopped = (503, "provider-not-migrated".to_owned());
    for (part, by) in [
        ("x.com/i/oauth2/authorize", "x.com/i/oauth3/authorize"),
        ("api.x.com/2/oauth2/token", "x.com/2/oauth2/token"),
        ("api.x.com/2/oauth2/revoke", "x.com/2/oauth2/revoke"),
    ] {
        let node = node_with(&app, part, by).await;
        assert_eq!(act(&node, &entrusted, "stopped").await, stopped, "{part}");
        node.stop().await;
    }
    let free = node_with(&app, "timeout_ms = 10000", "timeout_ms = 9000").await;
    assert_eq!(act(&free, &entrusted, "free").await.0, 200, "what redirects nothing needs no approval");
    free.stop().await;

    let mut owner = app.owner().await;
    let node = node_with(&app, HOSTS, OTHER_HOSTS).await;
    sqlx::query(
        "update keyholder.credentials set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) \
         where connection_id = (select id from keyholder.connections where account_name = 'rival_brand')",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    assert_eq!(migrate(&node).await.unwrap(), Migrated { resealed: 1, unopened: 1 }, "{spoiled}");
    // As a process leaves it that dies between the approval and its end.
    let left = sqlx::query("update keyholder.provider_files set resealed_at = null where name = $1 and number = 2");
    assert_eq!(left.bind(PROVIDER).execute(&mut owner).await.unwrap().rows_affected(), 1);
    assert_eq!(provider_migration::look(node.app(), PROVIDER).await.unwrap(), Standing::Resealing);
    let stops = async || act(&node, &entrusted, "under way").await == stopped;
    eventually("acts stop while credentials are sealed", stops).await;
    assert_eq!(migrate(&node).await.unwrap(), Migrated { resealed: 0, unopened: 1 });
    assert_eq!(act(&node, &entrusted, "done").await.0, 200);

    let stranger = Principal::api_key(app.first.key, app.first.workspace, node.app().clock.now());
    assert!(provider_migration::look(node.app(), "no-such").await.is_err());
    sqlx::query("delete from keyholder.provider_files where number = 2").execute(&mut owner).await.unwrap();
    let refused = provider_migration::migrate(node.app(), &stranger, PROVIDER, |_| {}).await;
    assert!(matches!(refused, Err(Refusal::NotFound | Refusal::Forbidden)), "only the operator approves: {refused:?}");
    node.stop().await;
    app.stop().await;
}

/// Where the approvals cannot be read, one may have been written that this process has not heard of: after ten seconds nothing goes out,
/// and what cannot be revoked then is not deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_read_the_approvals_sends_nothing_and_deletes_nothing() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let kept = app.entrust(&["profile.read"], json!([])).await;
    let gone = app.entrust(&["profile.read"], json!([])).await;
    let reads = async || kept.act("profile.read", &json!({}), None).await;
    let mut owner = app.owner().await;
    sqlx::query("revoke select on keyholder.provider_files from keyholder_app").execute(&mut owner).await.unwrap();
    in_the_end("nothing goes out", async || reads().await.status != 200).await;
    let calls = platform.requests().len();
    assert_eq!(problem(&reads().await), (503, "unavailable".to_owned()));
    let path = format!("/v1/connections/{}", gone.connection);
    assert_eq!(problem(&app.admin.delete(&path).await.unwrap()), (503, "unavailable".to_owned()));
    assert_eq!(platform.requests().len(), calls, "nothing is sent");
    let credentials: i64 =
        sqlx::query_scalar("select count(*) from keyholder.credentials").fetch_one(&mut owner).await.unwrap();
    assert_eq!(credentials, 4, "the credential waits");

    sqlx::query("grant select on keyholder.provider_files to keyholder_app").execute(&mut owner).await.unwrap();
    eventually("acts pass again", async || reads().await.status == 200).await;
    sqlx::query("update keyholder.jobs set run_at = clock_timestamp()").execute(&mut owner).await.unwrap();
    let path = format!("{path}/certificate");
    eventually("the disconnection ends", async || app.admin.get(&path).await.unwrap().status == 200).await;
    let certificate = app.admin.get(&path).await.unwrap().json();
    assert_eq!(
        (&certificate["revoked_at_provider"], &certificate["old_token"]),
        (&json!(true), &json!("dead")),
        "{certificate}"
    );
    app.stop().await;
}

fn acme(host: &str) -> String {
    format!(
        r#"
name = "acme"
title = "Acme"
hosts = ["api.acme.dev", "{host}"]
[auth]
kind = "oauth2"
authorize_url = "https://{host}/authorize"
token_url = "https://{host}/token"
client_auth = "basic"
pkce = "S256"
scope_separator = " "
scopes_always = []
[auth.scopes]
profile = "See your profile"
[auth.refresh]
rotates = true
replay = "reuse_detected"
access_token_lifetime_s = 3600
[account]
action = "profile.read"
id = "/user/id"
name = "/user/name"
[limits]
request_bytes = 16384
response_bytes = 262144
timeout_ms = 10000
[actions."profile.read"]
title = "Read your own profile"
effect = "read"
scopes = ["profile"]
method = "GET"
host = "api.acme.dev"
path = "/me"
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_what_changes_and_types_the_name() {
    let operator = Operator::new("approving").await;
    operator.migrate();
    std::fs::create_dir(operator.path("providers")).unwrap();
    std::fs::write(operator.path("providers/acme.toml"), acme("login.acme.dev")).unwrap();
    let run = |arguments: &[&str], typed: &str| -> Output {
        let logins = operator.logins();
        let mut settings: Vec<_> = logins.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let providers = operator.path("providers");
        settings.extend([
            ("KEYHOLDER_PROVIDERS", providers.as_str()),
            ("KEYHOLDER_CLIENT_ACME_ID", "client"),
            ("KEYHOLDER_CLIENT_ACME_SECRET", "a-secret-of-the-client"),
        ]);
        let mut command = operator.command(arguments, &settings);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let checks = |output: &Output| -> Vec<(String, bool)> {
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = said["checks"].as_array().unwrap();
        checks
            .iter()
            .filter(|check| check["name"] == "provider file")
            .map(|check| (check["detail"].as_str().unwrap().to_owned(), check["ok"] == true))
            .collect()
    };
    let first = run(&["workspace", "create", "Any", "--json"], "");
    assert!(first.status.success(), "{}", said(&first));
    assert!(checks(&run(&["doctor", "--json"], "")).iter().all(|(_, ok)| *ok));

    std::fs::write(operator.path("providers/acme.toml"), acme("evil.acme.dev")).unwrap();
    let found = run(&["doctor", "--json"], "");
    assert_eq!(found.status.code(), Some(1));
    let faults = checks(&found);
    assert!(
        faults.iter().any(|(detail, ok)| !ok && detail.contains("acme") && detail.contains("token_url")),
        "{faults:?}"
    );

    let other = run(&["provider", "migrate", "acme", "--json"], "acne\n");
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));
    let shown = said(&other);
    assert!(shown.contains("login.acme.dev") && shown.contains("evil.acme.dev"), "{shown}");
    assert_eq!(run(&["doctor"], "").status.code(), Some(1), "nothing was approved");

    let done = run(&["provider", "migrate", "acme", "--json"], "acme\n");
    assert!(done.status.success(), "{}", said(&done));
    let outcome: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((outcome["provider"].as_str(), outcome["resealed"].as_u64()), (Some("acme"), Some(0)));
    assert_eq!(outcome["changes"].as_array().unwrap().len(), 3, "{outcome}");
    assert!(run(&["doctor"], "").status.success());
    let nobody = run(&["provider", "migrate", "nobody", "--yes"], "");
    assert_eq!(nobody.status.code(), Some(7), "{}", said(&nobody));

    // An import that cannot begin says so, and one that can tells each line; nothing of a line is repeated.
    operator.write("fernet.key", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=\n");
    let workspace: Value = serde_json::from_slice(&first.stdout).unwrap();
    let (key, workspace) = (operator.path("fernet.key"), workspace["workspace"].as_str().unwrap());
    let import = |provider: &str, typed: &str| {
        let arguments =
            ["import", "fernet", "--key-file", &key, "--workspace", workspace, "--provider", provider, "--json"];
        run(&arguments, typed)
    };
    let lines = "{\"access\":\"gAAAAAsecret\",\"actions\":[\"profile.read\"]}\n\nnot a line\n";
    let report = import("acme", lines);
    assert_eq!(report.status.code(), Some(1), "{}", said(&report));
    let outcome: Value = serde_json::from_slice(&report.stdout).unwrap();
    let told: Vec<_> = outcome["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line"].as_u64(), line["reason"].as_str()))
        .collect();
    assert_eq!(told, [(Some(1), Some("token-does-not-open")), (Some(3), Some("malformed"))]);
    assert_eq!((outcome["imported"].as_u64(), outcome["refused"].as_u64()), (Some(0), Some(2)));
    let all = format!("{}{}", String::from_utf8_lossy(&report.stdout), said(&report));
    assert!(!all.contains("gAAAAAsecret") && !all.contains("cw_0x689"), "{all}");
    assert_eq!(import("x", lines).status.code(), Some(7), "no client at it");
    ok_or_say(&import("acme", ""));
}

#[track_caller]
fn ok_or_say(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// What waited for a stopped provider goes on with it, however long its job would have rested.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnection_that_waited_goes_on_with_its_provider() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let other = node_with(&app, "api.x.com/2/oauth2/revoke", "x.com/2/oauth2/revoke").await;
    migrate(&other).await.unwrap();
    other.stop().await;
    let path = format!("/v1/connections/{}", entrusted.connection);
    eventually("the node with the former file stops", async || {
        entrusted.act("profile.read", &json!({}), None).await.status == 503
    })
    .await;
    assert_eq!(problem(&app.admin.delete(&path).await.unwrap()), (503, "provider-not-migrated".to_owned()));
    let rests = "update keyholder.jobs set run_at = clock_timestamp() + interval '1 hour' where kind = 'disconnect'";
    assert_eq!(sqlx::query(rests).execute(&mut app.owner().await).await.unwrap().rows_affected(), 1);
    migrate(&app.instance).await.unwrap();
    let certificate = format!("{path}/certificate");
    in_the_end("it is taken apart", async || app.admin.get(&certificate).await.unwrap().status == 200).await;
    assert!(app.sandbox.platform().tokens(crate::harness::ACCOUNT).iter().all(|token| !token.live));
    app.stop().await;
}
