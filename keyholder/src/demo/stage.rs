//! The stage: a local installation, its callers, and the steps in which they act.

use std::sync::Arc;

use sandbox::Platform;
use serde_json::{Value, json};
use url::Url;

use crate::{
    StartError,
    caller::{CallError, Caller, Reply, Witness},
    cluster::ClusterOptions,
    local::{FirstKey, Local, LocalOptions},
    telemetry::{self, Capture, Telemetry},
};

/// The account that the owner connects, and another whose post it answers.
pub(super) const OURS: &str = "acme_support";
const THEIRS: &str = "rival_brand";
/// Where the back end would receive browsers.
pub(super) const RETURN: &str = "http://localhost:3000/connected";
/// The most log lines that the search looks through.
const LINES: usize = 100_000;

/// What was seen instead of what should have been.
#[derive(Debug)]
pub(super) struct Fault(pub(super) String);

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Self(error.to_string())
    }
}

pub(super) type Outcome = Result<String, Fault>;

pub(super) struct Stage {
    pub(super) local: Local,
    pub(super) witness: Witness,
    pub(super) lines: Capture,
    pub(super) stranger: Caller,
    first_key: Option<FirstKey>,
    pub(super) backend: Option<Caller>,
    pub(super) agent: Option<Caller>,
    agent_key: String,
    connection: String,
    mandate: String,
    post: String,
}

impl Stage {
    pub(super) async fn set(cluster: ClusterOptions, log: &Telemetry) -> Result<Self, StartError> {
        let lines = log.capture(LINES);
        let render = telemetry::metrics();
        let render_metrics: Arc<dyn Fn() -> String + Send + Sync> = match render {
            Ok(handle) => Arc::new(move || handle.render()),
            Err(_) => Arc::new(String::new),
        };
        let options = LocalOptions {
            state: None,
            cluster,
            port: 0,
            preset: None,
            hook: service::step::Hook::default(),
            render_metrics,
        };
        let local = Local::start(options).await?;
        let witness = Witness::default();
        let stranger = Caller::new(local.instance().url(), Some(Arc::clone(&witness)));
        Ok(Self {
            local,
            witness,
            lines,
            stranger,
            first_key: None,
            backend: None,
            agent: None,
            agent_key: String::new(),
            connection: String::new(),
            mandate: String::new(),
            post: String::new(),
        })
    }

    pub(super) fn workspace_id(&self) -> Option<String> {
        self.first_key.as_ref().map(|first| first.workspace.to_string())
    }

    pub(super) fn admin_key(&self) -> Option<&str> {
        self.first_key.as_ref().map(|first| first.text.as_str())
    }

    pub(super) fn backend(&self) -> Result<&Caller, Fault> {
        self.backend.as_ref().ok_or_else(|| Fault("there is no back end yet".to_owned()))
    }

    pub(super) fn agent(&self) -> Result<&Caller, Fault> {
        self.agent.as_ref().ok_or_else(|| Fault("there is no agent yet".to_owned()))
    }

    pub(super) fn agent_key(&self) -> &str {
        &self.agent_key
    }

    pub(super) async fn workspace(&mut self) -> Outcome {
        let first = self.local.create_workspace("Acme Incorporated").await.map_err(|error| Fault(error.to_string()))?;
        let backend = self.stranger.with_key(&first.text);
        let seen = expect(&backend.get("/v1/workspace").await?, 200)?;
        let detail = format!("{} is \"{}\"", first.workspace, text(&seen, "/name"));
        let made =
            expect(&backend.post("/v1/api-keys", &json!({ "label": "reply agent", "role": "service" })).await?, 201)?;
        self.agent = Some(self.stranger.with_key(text(&made, "/key")));
        text(&made, "/id").clone_into(&mut self.agent_key);
        self.backend = Some(backend);
        self.first_key = Some(first);
        Ok(detail)
    }

    pub(super) async fn connect(&mut self) -> Outcome {
        let backend = self.backend()?.clone();
        expect(&backend.post("/v1/return-addresses", &json!({ "url": RETURN })).await?, 201)?;
        let actions = ["post.create", "post.reply", "profile.read"];
        let (connection, shown) = connect(&self.local, &self.stranger, &backend, OURS, &actions).await?;
        self.connection = connection;
        Ok(format!("{} of @{OURS}; the page named {shown}", self.connection))
    }

    pub(super) async fn mandate(&mut self) -> Outcome {
        let terms = json!({
            "connection": self.connection, "grantee": self.agent_key, "actions": ["post.reply"],
            "limits": [{ "unit": "posts", "per": "day", "cap": 3 }],
        });
        let made = expect(&self.backend()?.post("/v1/mandates", &terms).await?, 201)?;
        text(&made, "/id").clone_into(&mut self.mandate);
        let post = self.local.sandbox().platform().post_as(THEIRS, "How do I reset my password?");
        self.post = post.ok_or_else(|| Fault("the platform has no such account".to_owned()))?.id;
        Ok(format!("{} for {}", self.mandate, self.agent_key))
    }

    async fn say(&self, words: &str, key: &str) -> Result<Reply, Fault> {
        let input = json!({ "text": words, "in_reply_to_tweet_id": self.post });
        Ok(self.agent()?.act(&self.mandate, "post.reply", &input, Some(key)).await?)
    }

    fn posts(&self) -> usize {
        self.local.sandbox().platform().posts_by(OURS).len()
    }

    pub(super) async fn reply(&mut self) -> Outcome {
        let words = "Hello! Open Settings, then Security.";
        let done = expect(&self.say(words, "reply-1").await?, 200)?;
        let there = self.local.sandbox().platform().posts_by(OURS);
        let seen = there.iter().any(|post| post.text == words && post.reply_to.as_deref() == Some(&self.post));
        check(seen, || format!("the platform does not show it: {done}"))?;
        Ok(format!("@{OURS}: \"{words}\", {}", text(&done, "/act")))
    }

    pub(super) async fn repeat(&mut self) -> Outcome {
        let words = "Hello! Open Settings, then Security.";
        let reply = self.say(words, "reply-1").await?;
        let replayed = reply.header("idempotency-replayed").to_owned();
        let again = expect(&reply, 200)?;
        check(replayed == "true", || format!("not marked as replayed: {again}"))?;
        check(self.posts() == 1, || format!("{} posts instead of one", self.posts()))?;
        let other = self.say("Something else", "reply-1").await?;
        expect(&other, 422)?;
        Ok(format!("{} again, 1 post; the key with another text is refused", text(&again, "/act")))
    }

    pub(super) async fn fourth(&mut self) -> Outcome {
        expect(&self.say("A second answer.", "reply-2").await?, 200)?;
        expect(&self.say("A third answer.", "reply-3").await?, 200)?;
        let refused = expect(&self.say("A fourth answer.", "reply-4").await?, 429)?;
        check(self.posts() == 3, || format!("{} posts instead of three", self.posts()))?;
        Ok(format!("429 {}, until {}; 3 posts", text(&refused, "/type"), text(&refused, "/budget/resets_at")))
    }

    pub(super) async fn outside(&mut self) -> Outcome {
        let input = json!({ "text": "Buy our new product!" });
        let reply = self.agent()?.act(&self.mandate, "post.create", &input, Some("outside-1")).await?;
        let refused = expect(&reply, 403)?;
        check(self.posts() == 3, || "something was posted".to_owned())?;
        Ok(format!("403 {}", text(&refused, "/type")))
    }

    pub(super) async fn revoke(&mut self) -> Outcome {
        let path = format!("/v1/mandates/{}/revoke", self.mandate);
        let revoked = expect(&self.backend()?.post(&path, &json!({ "wait_ms": 5000 })).await?, 200)?;
        expect(&self.say("One more?", "reply-5").await?, 403)?;
        check(self.posts() == 3, || "something was posted".to_owned())?;
        let in_flight = revoked.pointer("/in_flight").and_then(Value::as_array).map_or(0, Vec::len);
        Ok(format!("403 for the next act; {in_flight} acts were still on their way"))
    }

    pub(super) async fn disconnect(&mut self) -> Outcome {
        let platform = self.local.sandbox().platform().clone();
        let old = platform.last_access_token(OURS).ok_or_else(|| Fault("there was no token".to_owned()))?;
        check(platform.is_live(&old), || "the token was dead before".to_owned())?;
        let certificate = expect(&self.backend()?.delete(&format!("/v1/connections/{}", self.connection)).await?, 200)?;
        check(text(&certificate, "/old_token") == "dead", || certificate.to_string())?;
        check(!platform.is_live(&old), || "the platform still accepts it".to_owned())?;
        Ok("certificate: revoked at the provider, old token dead; the platform agrees".to_owned())
    }
}

/// What an owner is asked to consent to.
pub(super) struct Wanted<'w> {
    pub(super) account: &'w str,
    pub(super) actions: &'w [&'w str],
    /// The connection that is to be consented to anew.
    pub(super) connection: Option<&'w str>,
}

/// The whole way from a link to a usable connection, with the browser of an owner who allows everything.
pub(super) async fn connect(
    local: &Local,
    stranger: &Caller,
    backend: &Caller,
    account: &str,
    actions: &[&str],
) -> Result<(String, String), Fault> {
    let wanted = Wanted { account, actions, connection: None };
    let (connection, html) = consent(local.sandbox().platform(), stranger, backend, &wanted).await?;
    for word in ["Acme Incorporated", "Local operator"] {
        check(html.contains(word), || format!("the page does not name {word}"))?;
    }
    Ok((connection, "operator, workspace and actions".to_owned()))
}

/// The same at any platform, with the page that the owner was shown. A connection that is consented to anew keeps its id.
pub(super) async fn consent(
    platform: &Platform,
    stranger: &Caller,
    backend: &Caller,
    wanted: &Wanted<'_>,
) -> Result<(String, String), Fault> {
    let mut invitation = json!({ "provider": crate::local::PROVIDER, "actions": wanted.actions, "return_url": RETURN });
    if let (Some(connection), Some(members)) = (wanted.connection, invitation.as_object_mut()) {
        members.insert("connection".to_owned(), connection.into());
    }
    let link = expect(&backend.post("/v1/connect-links", &invitation).await?, 201)?;
    let path = Url::parse(text(&link, "/url")).map_err(CallError::from)?.path().to_owned();

    let browser = stranger.with_no_cookies();
    let page = browser.get(&path).await?;
    let html = String::from_utf8_lossy(&page.body).into_owned();
    let fields: Vec<_> = wanted.actions.iter().map(|action| ("allow", *action)).collect();
    let to = redirected(&browser.submit(&path, &fields).await?)?;
    let back = platform.approve(&to, wanted.account).map_err(|error| Fault(error.to_string()))?;
    let home = redirected(&browser.get(&back).await?)?;
    let home = Url::parse(&home).map_err(CallError::from)?;
    if let Some(known) = wanted.connection {
        let renewed = expect(&backend.get(&format!("/v1/connections/{known}")).await?, 200)?;
        check(text(&renewed, "/state") == "active", || format!("{renewed}; the owner came back to {home}"))?;
        return Ok((known.to_owned(), html));
    }
    let code = home.query_pairs().find(|(name, _)| name == "keyholder_code").map(|(_, code)| code.into_owned());
    let code = code.ok_or_else(|| Fault(format!("no code came back: {:?}", home.query())))?;
    let connection = expect(&backend.post("/v1/connections/redeem", &json!({ "code": code })).await?, 200)?;
    check(text(&connection, "/state") == "active", || connection.to_string())?;
    Ok((text(&connection, "/id").to_owned(), html))
}

pub(super) fn check(seen: bool, otherwise: impl FnOnce() -> String) -> Result<(), Fault> {
    if seen { Ok(()) } else { Err(Fault(otherwise())) }
}

/// The body of a reply that has the wanted status.
pub(super) fn expect(reply: &Reply, status: u16) -> Result<Value, Fault> {
    let body = reply.json();
    check(reply.status.as_u16() == status, || format!("{} instead of {status}: {body}", reply.status))?;
    Ok(body)
}

fn redirected(reply: &Reply) -> Result<String, Fault> {
    check(reply.status.as_u16() == 303, || {
        format!("{} instead of a redirect: {}", reply.status, String::from_utf8_lossy(&reply.body))
    })?;
    Ok(reply.header("location").to_owned())
}

/// A text in a body, by its JSON pointer; empty where it is not there.
pub(super) fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
