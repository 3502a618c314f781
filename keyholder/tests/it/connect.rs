//! Connecting an account: what the owner is shown, what is asked of the provider, what comes of it, and what is kept.
//!
//! The attacker has a file of his own, and so has everything that goes wrong.

use std::{num::NonZeroU32, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use keyholder::caller::{Caller, Reply};
use keyholder::local::{self, PROVIDER};
use sandbox::{Call, TokenKind};
use serde_json::{Value, json};
use sqlx::PgConnection;
use url::{Url, form_urlencoded::byte_serialize};

use crate::harness::{ACCOUNT, Entrusted, RETURN, TestApp, home, location, ok, problem, query, text};

mod attacker;
mod faults;

/// The other account of the platform.
const OTHER: &str = "rival_brand";

/// The owner's browser opens the link and allows these actions: where the platform would ask.
async fn allow(browser: &Caller, link: &str, actions: &[&str]) -> Url {
    assert_eq!(browser.get(link).await.unwrap().status, 200);
    Url::parse(location(&choose(browser, link, actions).await)).unwrap()
}

/// The form of the page, sent with these actions.
async fn choose(browser: &Caller, link: &str, actions: &[&str]) -> Reply {
    let fields: Vec<_> = actions.iter().map(|action| ("allow", *action)).collect();
    browser.submit(link, &fields).await.unwrap()
}

/// Sends a browser to where the platform sends it back to: the address at which it ends.
async fn come_back(browser: &Caller, back: &str) -> Url {
    Url::parse(location(&browser.get(back).await.unwrap())).unwrap()
}

/// Makes a link by which a connection is consented to anew.
async fn renewal(app: &TestApp, connection: &str, actions: &[&str]) -> String {
    let wanted = json!({ "provider": PROVIDER, "actions": actions, "return_url": RETURN, "connection": connection });
    let link = ok(app.admin.post("/v1/connect-links", &wanted).await.unwrap(), 201);
    Url::parse(text(&link, "/url")).unwrap().path().to_owned()
}

async fn count(owner: &mut PgConnection, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(owner).await.unwrap()
}

/// How many connections and how many sealed fields there are.
async fn stored(app: &TestApp) -> (i64, i64) {
    let mut owner = app.owner().await;
    (
        count(&mut owner, "select count(*) from keyholder.connections").await,
        count(&mut owner, "select count(*) from keyholder.credentials").await,
    )
}

/// A page that leads nowhere and says so.
#[track_caller]
fn assert_dead_end(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header("location"), "");
    assert!(reply.header("content-type").starts_with("text/html"), "{}", reply.header("content-type"));
}

fn words(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array).unwrap();
    let mut words: Vec<_> = list.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    words.sort();
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_shown_who_asks_for_what_before_anything_happens() {
    let app = TestApp::start().await;
    let link = app.link(&["post.create", "profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    let page = browser.get(&link).await.unwrap();
    assert_eq!(page.status, 200);
    let html = String::from_utf8_lossy(&page.body).replace("&#60;", "&lt;").replace("&#62;", "&gt;");
    for shown in ["Local operator", "Acme &lt;b&gt;Incorporated&lt;/b&gt;", "Create a post", "Read your own profile"] {
        assert!(html.contains(shown), "{shown} is not in {html}");
    }
    for hidden in ["<b>", "Delete a post", "http-equiv", "<script"] {
        assert!(!html.contains(hidden), "{hidden} is in {html}");
    }
    assert_eq!(page.header("location"), "");
    let policy = page.header("content-security-policy");
    for rule in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"] {
        assert!(policy.contains(rule), "{rule} is not in {policy}");
    }
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert!(page.header("cache-control").contains("no-store"));

    let cookie = page.header("set-cookie");
    let (name, rest) = cookie.split_once('=').unwrap();
    let mut attributes: Vec<_> = rest.split("; ").skip(1).collect();
    attributes.sort_unstable();
    assert_eq!(name, "__Host-keyholder");
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);

    let mut owner = app.owner().await;
    assert_eq!(count(&mut owner, "select count(*) from keyholder.connect_links where state_hash is not null").await, 0);
    assert!(app.sandbox.platform().requests().is_empty(), "the platform heard of it already");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_allowed_actions_need_is_asked_for() {
    let app = TestApp::start().await;
    let reads = ["offline.access", "tweet.read", "users.read"];
    let writes = ["offline.access", "tweet.read", "tweet.write", "users.read"];
    let cases: [(&[&str], &[&str]); 3] =
        [(&["profile.read"], &reads), (&["post.create", "profile.read"], &writes), (&["post.delete"], &writes)];
    let mut seen = Vec::new();
    for (allowed, scopes) in cases {
        let link = app.link(&["post.create", "post.delete", "post.reply", "profile.read"]).await;
        let url = allow(&app.stranger.with_no_cookies(), &link, allowed).await;
        let asked = query(&url, "scope").unwrap();
        let mut asked: Vec<_> = asked.split(' ').collect();
        asked.sort_unstable();
        assert_eq!(asked, scopes, "{allowed:?}");
        assert_eq!(query(&url, "response_type").unwrap(), "code");
        assert_eq!(query(&url, "redirect_uri").unwrap(), app.instance.app().redirect_uri(PROVIDER));
        assert!(query(&url, "redirect_uri").unwrap().ends_with("/connect/callback/x"));
        assert_eq!(query(&url, "code_challenge_method").unwrap(), "S256");
        assert_eq!(query(&url, "code_verifier"), None);
        for name in ["code_challenge", "state"] {
            let value = query(&url, name).unwrap();
            assert_eq!(value.len(), 43, "{name}");
            assert!(!seen.contains(&value), "a {name} came again");
            seen.push(value);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_allows_is_the_ceiling_and_leaves_a_receipt() {
    let app = TestApp::start().await;
    let link = app.link(&["post.create", "post.reply", "profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    let home = app.consent(&browser, &link, ACCOUNT, &["post.reply", "profile.read"]).await;
    assert!(home.as_str().starts_with(&format!("{RETURN}?")), "{home}");
    assert!(query(&home, "keyholder_link").unwrap().starts_with("lnk_"));
    assert_eq!(query(&home, "keyholder_error"), None);
    let code = query(&home, "keyholder_code").unwrap();

    let redeemed = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    let connection = ok(redeemed, 200);
    assert_eq!(text(&connection, "/state"), "active");
    assert_eq!(text(&connection, "/account/name"), ACCOUNT);
    assert_eq!(text(&connection, "/account/id"), app.sandbox.platform().account(ACCOUNT).unwrap().id);
    assert_eq!(words(&connection, "/ceiling"), ["post.reply", "profile.read"]);

    let id = text(&connection, "/id").to_owned();
    let (_, key) = app.agent().await;
    let terms = |actions: Value| json!({ "connection": id, "grantee": key, "actions": actions });
    let wider = app.admin.post("/v1/mandates", &terms(json!(["post.create"]))).await.unwrap();
    assert_eq!(problem(&wider), (422, "invalid-input".to_owned()));
    ok(app.admin.post("/v1/mandates", &terms(json!(["post.reply"]))).await.unwrap(), 201);

    let mut owner = app.owner().await;
    let receipts: Vec<(Vec<String>, Vec<String>)> =
        sqlx::query_as("select actions, scopes from keyholder.consents").fetch_all(&mut owner).await.unwrap();
    let scopes = ["offline.access", "tweet.read", "tweet.write", "users.read"].map(str::to_owned).to_vec();
    assert_eq!(receipts, [(vec!["post.reply".to_owned(), "profile.read".to_owned()], scopes)]);
    let events: Vec<String> =
        sqlx::query_scalar("select event from keyholder.audit where event like 'connect%' order by at, id")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    let expected = ["connect_link.created", "connect_link.consented", "connection.received", "connection.redeemed"];
    assert_eq!(events, expected);
    app.stop().await;
}

/// A secret as it is, and as a careless program would have written it.
fn forms(secret: &str) -> [String; 3] {
    [secret.to_owned(), STANDARD_NO_PAD.encode(secret), hex::encode(secret)]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_holds_nothing_that_opens_anything() {
    let app = TestApp::start().await;
    let link = app.link(&["profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    let page = browser.get(&link).await.unwrap();
    let cookie = page.header("set-cookie").split(['=', ';']).nth(1).unwrap().to_owned();
    let to = Url::parse(location(&choose(&browser, &link, &["profile.read"]).await)).unwrap();
    let back = app.sandbox.platform().approve(to.as_str(), ACCOUNT).unwrap();
    let granted = query(&Url::parse(&back).unwrap(), "code").unwrap();
    let home_url = come_back(&browser, &back).await;
    let token = link.rsplit('/').next().unwrap().to_owned();
    let (state, code) = (query(&to, "state").unwrap(), query(&home_url, "keyholder_code").unwrap());

    let tokens = app.sandbox.platform().tokens(ACCOUNT);
    assert_eq!(tokens.iter().map(|token| token.kind).collect::<Vec<_>>(), [TokenKind::Access, TokenKind::Refresh]);
    let rows = store::owner::every_row(&home().owner(&app.database).unwrap()).await.unwrap();
    let holds = |needle: &str| rows.iter().any(|(_, row)| row.contains(needle));
    // The search finds what is there: each of ours stands as its hash.
    for secret in [&token, &cookie, &state, &code] {
        assert!(holds(&hex::encode(seal::mac::sha256(secret.as_bytes()))), "a hash is not where it should be");
    }
    let ours = [&token, &cookie, &state, &code, &granted, &*app.secret];
    for secret in ours.into_iter().chain(tokens.iter().map(|token| &token.text)) {
        for form in forms(secret) {
            assert!(!holds(&form), "a secret is in the database: {form}");
        }
    }
    let seen = app.witness.lock().unwrap().clone();
    for token in &tokens {
        assert!(!seen.iter().any(|answer| String::from_utf8_lossy(answer).contains(&token.text)));
    }
    let mut owner = app.owner().await;
    let fields: Vec<(String, i32)> =
        sqlx::query_as("select field, octet_length(sealed) from keyholder.credentials order by 1")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    assert_eq!(fields.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(), ["access", "refresh"]);
    assert!(fields.iter().all(|(_, bytes)| *bytes > 60));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_cannot_be_followed_is_refused() {
    let app = TestApp::start().await;
    let good = json!({ "provider": "x", "actions": ["profile.read"], "return_url": RETURN });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let nobody = domain::id::ConnectionId::new(&domain::clock::Clock::system()).to_string();
    let cases = [
        ("another return address", with("return_url", json!("https://evil.example/connected"))),
        ("a longer return address", with("return_url", json!(format!("{RETURN}/more")))),
        ("no provider of that name", with("provider", json!("y"))),
        ("a provider that is a template", with("provider", json!("generic-oauth"))),
        ("no action of that name", with("actions", json!(["profile.read", "account.delete"]))),
        ("no action at all", with("actions", json!([]))),
        ("no connection of that id", with("connection", json!(nobody))),
        ("a field that is not known", with("scopes", json!(["tweet.read"]))),
    ];
    for (what, body) in cases {
        let refused = app.admin.post("/v1/connect-links", &body).await.unwrap();
        assert_eq!(problem(&refused), (422, "invalid-input".to_owned()), "{what}");
    }
    let (service, _) = app.agent().await;
    assert_eq!(problem(&service.post("/v1/connect-links", &good).await.unwrap()).0, 403);
    assert_eq!(problem(&app.stranger.post("/v1/connect-links", &good).await.unwrap()).0, 401);
    let mut owner = app.owner().await;
    assert_eq!(count(&mut owner, "select count(*) from keyholder.connect_links").await, 0);
    ok(app.admin.post("/v1/connect-links", &good).await.unwrap(), 201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_address_that_is_removed_takes_its_links_along_and_no_connection() {
    const READ: &str = "profile.read";
    let app = TestApp::start().await;
    let registered = async || words(&ok(app.admin.get("/v1/workspace").await.unwrap(), 200), "/return_addresses");
    let remove = async |who: &Caller, url: &str| {
        let named: String = byte_serialize(url.as_bytes()).collect();
        who.delete(&format!("/v1/return-addresses?url={named}")).await.unwrap()
    };
    // One that is done, one whose code nobody has redeemed yet, one whose owner is at the platform, and one that nobody has opened.
    let connection = app.connect(ACCOUNT, &[READ]).await;
    let (link, browser) = (app.link(&[READ]).await, app.stranger.with_no_cookies());
    let home = app.consent(&browser, &link, ACCOUNT, &[READ]).await;
    let code = query(&home, "keyholder_code").unwrap();
    let (link, on_the_way) = (app.link(&[READ]).await, app.stranger.with_no_cookies());
    let at_the_platform = allow(&on_the_way, &link, &[READ]).await;
    let back = app.sandbox.platform().approve(at_the_platform.as_str(), ACCOUNT).unwrap();
    let unopened = app.link(&[READ]).await;
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let rival = app.stranger.with_key(&rival.text);
    ok(rival.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);

    let other = "https://app.example.com/connected";
    assert_eq!(problem(&remove(&app.admin, other).await), (404, "not-found".to_owned()));
    assert_eq!(problem(&remove(&app.admin, "file:///x").await), (422, "invalid-input".to_owned()));
    assert_eq!(problem(&app.admin.delete("/v1/return-addresses").await.unwrap()).0, 422);
    assert_eq!(remove(&rival, RETURN).await.status, 204);
    assert_eq!(registered().await, [RETURN], "another workspace's is another's");
    assert_eq!(remove(&app.admin, RETURN).await.status, 204);
    assert!(registered().await.is_empty());
    assert_eq!(problem(&remove(&app.admin, RETURN).await), (404, "not-found".to_owned()));

    assert_dead_end(&app.stranger.with_no_cookies().get(&unopened).await.unwrap(), 403);
    assert_dead_end(&on_the_way.get(&back).await.unwrap(), 403);
    let redeemed = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    assert_eq!(problem(&redeemed), (404, "not-found".to_owned()));
    let wanted = json!({ "provider": PROVIDER, "actions": [READ], "return_url": RETURN });
    assert_eq!(app.admin.post("/v1/connect-links", &wanted).await.unwrap().status, 422);
    ok(app.admin.get(&format!("/v1/connections/{connection}")).await.unwrap(), 200);
    let trail = ok(app.admin.get("/v1/audit").await.unwrap(), 200);
    let said = trail["data"].as_array().unwrap().iter().find(|it| it["event"] == "return_address.removed").unwrap();
    // The one whose code waited, the one that was on its way, and the one that nobody has opened.
    let origin = Url::parse(RETURN).unwrap().origin().ascii_serialization();
    assert_eq!(said["detail"], json!({ "origin": origin, "links_ended": 3 }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_limited_per_key_and_per_network() {
    let app = TestApp::start_with(|options| options.limits.links_per_minute = NonZeroU32::new(3).unwrap()).await;
    let mut links = Vec::new();
    for _ in 0..3 {
        links.push(app.link(&["profile.read"]).await);
    }
    let wanted = json!({ "provider": "x", "actions": ["profile.read"], "return_url": RETURN });
    let refused = app.admin.post("/v1/connect-links", &wanted).await.unwrap();
    assert_eq!(problem(&refused), (429, "rate-limited".to_owned()));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    // Another key has its own measure, though it is the same workspace.
    let made = json!({ "label": "second", "role": "admin" });
    let made = ok(app.admin.post("/v1/api-keys", &made).await.unwrap(), 201);
    let second = app.stranger.with_key(text(&made, "/key"));
    ok(second.post("/v1/connect-links", &wanted).await.unwrap(), 201);

    for link in &links {
        assert_eq!(app.stranger.with_no_cookies().get(link).await.unwrap().status, 200);
    }
    assert_dead_end(&app.stranger.with_no_cookies().get("/connect/guessed").await.unwrap(), 403);
    let guess = format!("/connect/{}", "a".repeat(43));
    assert_dead_end(&app.stranger.with_no_cookies().get(&guess).await.unwrap(), 429);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_account_renews_a_connection_and_the_new_ceiling_counts() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    platform.set_token_lifetime(100);
    let entrusted = app.entrust(&["post.create", "profile.read"], json!([])).await;
    assert_eq!(entrusted.act("post.create", &json!({ "text": "before" }), Some("before")).await.status, 200);
    platform.set_token_lifetime(7200);

    let link = renewal(&app, &entrusted.connection, &["post.create", "profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    let page = browser.get(&link).await.unwrap();
    let account = platform.account(ACCOUNT).unwrap().id;
    assert!(String::from_utf8_lossy(&page.body).contains(&account), "the page does not say which account");
    let home = app.consent(&browser, &link, ACCOUNT, &["profile.read"]).await;
    assert_eq!(query(&home, "keyholder_connection").as_deref(), Some(entrusted.connection.as_str()));
    assert_eq!(query(&home, "keyholder_code"), None);

    let path = format!("/v1/connections/{}", entrusted.connection);
    let renewed = ok(app.admin.get(&path).await.unwrap(), 200);
    assert_eq!(text(&renewed, "/state"), "active");
    assert_eq!(words(&renewed, "/ceiling"), ["profile.read"]);
    let refused = entrusted.act("post.create", &json!({ "text": "after" }), Some("after")).await;
    assert_eq!(problem(&refused), (403, "outside-mandate".to_owned()));
    assert_eq!(platform.posts_written_by(ACCOUNT), 1);

    // What came with the first consent is dead by now, and acts go on.
    platform.pass_time(Duration::from_secs(200));
    let read = ok(entrusted.act("profile.read", &json!({}), None).await, 200);
    assert_eq!(read["status"], 200);
    assert_eq!((platform.refreshes(), stored(&app).await), (0, (1, 2)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_does_not_renew_a_connection_and_its_grant_is_given_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let sealed = "select sealed from keyholder.credentials order by field";
    let mut owner = app.owner().await;
    let before: Vec<Vec<u8>> = sqlx::query_scalar(sealed).fetch_all(&mut owner).await.unwrap();

    let link = renewal(&app, &entrusted.connection, &["profile.read"]).await;
    let home = app.consent(&app.stranger.with_no_cookies(), &link, OTHER, &["profile.read"]).await;
    assert_eq!(query(&home, "keyholder_error").as_deref(), Some("other_account"));
    assert_eq!((query(&home, "keyholder_connection"), query(&home, "keyholder_code")), (None, None));

    assert_eq!(platform.revocations(), 1);
    let tokens = platform.tokens(OTHER);
    assert!(!tokens.is_empty() && tokens.iter().all(|token| !token.live), "the stranger's grant lives on");
    let after: Vec<Vec<u8>> = sqlx::query_scalar(sealed).fetch_all(&mut owner).await.unwrap();
    assert_eq!(before, after);
    let read = ok(entrusted.act("profile.read", &json!({}), None).await, 200);
    assert_eq!(text(&read, "/answer/data/username"), ACCOUNT);
    app.stop().await;
}

/// The way from consent to connection, with the platform granting other scopes than were asked for.
async fn connect_with_scopes(app: &TestApp, actions: &[&str], scopes: &str) -> Url {
    let link = app.link(actions).await;
    let browser = app.stranger.with_no_cookies();
    let mut to = allow(&browser, &link, actions).await;
    let pairs: Vec<(String, String)> = to.query_pairs().into_owned().collect();
    to.query_pairs_mut().clear().extend_pairs(
        pairs.iter().map(|(name, value)| (name.as_str(), if name == "scope" { scopes } else { value.as_str() })),
    );
    come_back(&browser, &app.sandbox.platform().approve(to.as_str(), ACCOUNT).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_less_is_a_lower_ceiling_and_one_of_nothing_is_given_back() {
    let app = TestApp::start().await;
    let actions = ["post.create", "profile.read"];
    let home = connect_with_scopes(&app, &actions, "tweet.read users.read").await;
    let code = query(&home, "keyholder_code").unwrap();
    let redeemed = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    let connection = ok(redeemed, 200);
    assert_eq!(words(&connection, "/ceiling"), ["profile.read"]);
    assert_eq!(words(&connection, "/scopes"), ["tweet.read", "users.read"]);
    assert_eq!(stored(&app).await, (1, 1), "without offline access there is no refresh token");

    let platform = app.sandbox.platform();
    let home = connect_with_scopes(&app, &actions, "offline.access").await;
    assert_eq!(query(&home, "keyholder_error").as_deref(), Some("too_little_granted"));
    assert_eq!(platform.revocations(), 1);
    assert_eq!(stored(&app).await, (1, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inert_connection_does_not_act() {
    let app = TestApp::start().await;
    let entrusted: Entrusted = app.entrust(&["profile.read"], json!([])).await;
    let mut owner = app.owner().await;
    // There is no other way to a mandate on an inert connection than to write one there.
    let raised = "with raised as (update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() \
         where kind = 'workspace' returning id) select count(*) from raised";
    for (state, status) in [("inert", 403), ("active", 200)] {
        let mut change = sqlx::Connection::begin(&mut owner).await.unwrap();
        sqlx::query(raised).execute(&mut *change).await.unwrap();
        sqlx::query("update keyholder.connections set state = $1").bind(state).execute(&mut *change).await.unwrap();
        change.commit().await.unwrap();
        let reply = entrusted.act("profile.read", &json!({}), None).await;
        assert_eq!(reply.status, status, "{state}: {}", reply.json());
    }
    assert_eq!(app.sandbox.platform().calls(Call::ReadProfile), 2, "one to learn whose account it is, one act");
    app.stop().await;
}
