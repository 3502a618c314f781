//! The log of a whole story: what happened is in it, and nothing that anybody could use or should not have read.

use std::sync::{Arc, PoisonError};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use domain::{clock::Clock, environment::Environment};
use guard::Redactor;
use http::Method;
use keyholder::telemetry::{self, Capture, Format, Telemetry, TelemetryOptions, Writer};
use serde_json::{Value, json};
use url::Url;

use crate::harness::{ACCOUNT, TestApp, home, location, ok, problem, query, text};

/// The log of this process. It knows none of the story's secrets: what keeps them out is that nobody writes them.
pub(crate) fn log() -> Telemetry {
    telemetry::init(TelemetryOptions {
        format: Format::Json,
        filter: "debug".to_owned(),
        redactor: Arc::new(Redactor::new().unwrap()),
        writer: Writer::Silent,
        clock: Clock::system(),
    })
    .unwrap()
}

/// A word that nothing recognises as a secret: if it is in a line, somebody wrote it there.
pub(crate) fn plain_word(what: &str) -> String {
    let letters: String = domain::random::bytes::<10>().into_iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    format!("{what} {letters}")
}

struct Story {
    needles: Vec<(String, String)>,
    requests: Vec<String>,
}

impl Story {
    fn keep(&mut self, what: &str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() >= 8, "{what} is too short to be looked for");
        self.needles.push((what.to_owned(), secret));
    }
}

/// Lines that hold a text, in any form in which a careless program would have written it.
fn lines_with<'a>(lines: &'a [Arc<str>], secret: &str) -> Vec<&'a str> {
    let escaped = Value::String(secret.to_owned()).to_string();
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let forms = [
        secret.to_owned(),
        escaped.trim_matches('"').to_owned(),
        encoded,
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex::encode(secret),
    ];
    let has = |line: &&Arc<str>| forms.iter().any(|form| line.contains(form.as_str()));
    lines.iter().filter(has).map(|line| &**line).collect()
}

/// Connects an account, and keeps every secret of the way.
async fn connect(app: &TestApp, story: &mut Story) -> String {
    let link = app.link(&["profile.read", "post.create"]).await;
    story.keep("a link's token", link.rsplit('/').next().unwrap());
    let browser = app.stranger.with_no_cookies();
    let page = browser.get(&link).await.unwrap();
    story.keep("a cookie", page.header("set-cookie").split(['=', ';']).nth(1).unwrap());
    let to = browser.submit(&link, &[("allow", "profile.read"), ("allow", "post.create")]).await.unwrap();
    let to = location(&to).to_owned();
    story.keep("a challenge", query(&Url::parse(&to).unwrap(), "code_challenge").unwrap());
    let back = app.sandbox.platform().approve(&to, ACCOUNT).unwrap();
    let address = Url::parse(&back).unwrap();
    story.keep("a state", query(&address, "state").unwrap());
    story.keep("an authorization code", query(&address, "code").unwrap());
    let end = Url::parse(location(&browser.get(&back).await.unwrap())).unwrap();
    let code = query(&end, "keyholder_code").unwrap();
    story.keep("a one-time code", code.as_str());
    let redeemed = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    text(&ok(redeemed, 200), "/id").to_owned()
}

/// Everything that goes wrong, each with something in it that is nobody's business.
async fn go_wrong(app: &TestApp, mandate: &str, story: &mut Story) {
    let unknown = domain::api_key::generate(Environment::Local).0.to_string();
    let refused = app.stranger.with_key(&unknown).get("/v1/workspace").await.unwrap();
    assert_eq!(refused.status, 401);
    story.keep("a wrong key", unknown);
    let (as_value, as_name, broken) = (plain_word("value"), plain_word("name"), plain_word("broken"));
    let wrong = json!({ "label": "x", "role": "service", "password": as_value, (as_name.as_str()): 1 });
    let faulty = app.admin.post("/v1/api-keys", &wrong).await.unwrap();
    assert_eq!(problem(&faulty).0, 422);
    let json = [("content-type", "application/json")];
    let half = format!("{{\"password\":\"{broken}\",");
    assert_eq!(app.admin.send(Method::POST, "/v1/api-keys", &json, half.into()).await.unwrap().status, 400);
    for (what, word) in [("a field's value", as_value), ("a field's name", as_name), ("a broken body", broken)] {
        story.keep(what, word);
    }
    let (path, parameter, header) = (plain_word("path"), plain_word("query"), plain_word("header"));
    let target = format!("/v1/{}?{}=1", path.replace(' ', "/"), parameter.replace(' ', "-"));
    let more = [("x-note", header.as_str()), ("user-agent", header.as_str()), ("x-request-id", header.as_str())];
    assert_eq!(app.admin.send(Method::GET, &target, &more, Bytes::default()).await.unwrap().status, 404);
    story.keep("a path", path.replace(' ', "/"));
    story.keep("a query", parameter.replace(' ', "-"));
    story.keep("a header", header);
    // An act that is refused, with what it would have said.
    let said = plain_word("not said");
    let outside = app.admin.act(mandate, "post.create", &json!({ "text": said }), Some("refused")).await.unwrap();
    assert_eq!(outside.status, 403);
    story.keep("a refused text", said);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_a_whole_story_holds_a_secret_or_anybodys_words() {
    let lines = log().capture(2_000_000);
    let app = TestApp::start().await;
    let mut story = Story { needles: Vec::new(), requests: Vec::new() };
    let platform = app.sandbox.platform();
    let connection = connect(&app, &mut story).await;
    app.age("55 seconds").await;

    let entrusted = app.mandate(&connection, &["profile.read", "post.create"], json!([])).await;
    let message = format!("{}, write to someone.else@example.org", plain_word("a message"));
    let key = plain_word("key").replace(' ', "-");
    let done = entrusted.act("post.create", &json!({ "text": message }), Some(&key)).await;
    ok(done, 200);
    assert_eq!(platform.refreshes(), 1, "the credential was about to expire, and was refreshed");
    ok(entrusted.act("profile.read", &json!({}), None).await, 200);
    story.keep("a message", message);
    story.keep("an e-mail address", "someone.else@example.org");
    story.keep("an idempotency key", key);
    go_wrong(&app, &entrusted.mandate, &mut story).await;
    for token in platform.tokens(ACCOUNT) {
        story.keep("a token of the platform", token.text);
    }
    let path = format!("/v1/connections/{connection}");
    ok(app.admin.delete(&path).await.unwrap(), 200);

    story.keep("the admin's key", app.first.text.as_str());
    story.keep("the agent's key", entrusted.agent.key().unwrap());
    story.keep("the client's secret", app.secret.as_str());
    story.keep("the root key", home().keys().root_key());
    for group in ["app", "ledger", "lookup", "loader"] {
        let url = home().keys().url(group, &app.database);
        let password =
            url.split_once("://").unwrap().1.split_once('@').unwrap().0.split_once(':').unwrap().1.to_owned();
        story.keep("a login's password", password);
    }
    let canary = plain_word("canary");
    tracing::info!(note = canary, "planted");
    for seen in &*app.witness.lock().unwrap_or_else(PoisonError::into_inner) {
        let named = seen.strip_prefix(b"request-id:").map(String::from_utf8_lossy);
        story.requests.extend(named.map(std::borrow::Cow::into_owned));
    }
    read(&lines, &story, &canary);
    app.stop().await;
}

/// Looks at what was written.
fn read(capture: &Capture, story: &Story, canary: &str) {
    let lines = capture.lines();
    assert_eq!(capture.lost(), 0, "something was written that is not looked at");
    assert_eq!(lines_with(&lines, canary).len(), 1, "the search is blind");
    for request in &story.requests {
        let told = lines_with(&lines, request);
        assert!(told.iter().any(|line| line.contains("\"answered\"")), "{request} is not in the log: {told:?}");
    }
    assert!(story.requests.len() >= 15 && story.needles.len() >= 20);
    for (what, secret) in &story.needles {
        let found = lines_with(&lines, secret);
        assert!(found.is_empty(), "{what} is in the log: {found:?}");
    }
    for line in &lines {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.is_object(), "{line}");
        for name in ["timestamp", "level", "target", "message"] {
            assert!(value[name].is_string(), "{name}: {line}");
        }
        // A request of another test's may have begun before there was a log: its span is not known.
        let span = &value["span"];
        if text(&value, "/message") == "answered" && span.is_object() {
            assert!(text(span, "/request_id").starts_with("req_"), "{line}");
            assert!(span["status"].is_number() && !text(span, "/route").is_empty(), "{line}");
        }
    }
    let own = |line: &&Arc<str>| story.requests.iter().any(|request| line.contains(request));
    let steps = lines.iter().filter(own).filter(|line| line.contains("\"step\":\"settle\"")).count();
    assert!(steps >= 2, "the corridor's steps are in the spans");
}
