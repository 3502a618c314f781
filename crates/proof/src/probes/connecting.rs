//! Connecting: whether a code that was caught on its way home is of use to anybody, and what an owner is asked for.
//!
//! Beside customers an owner goes as far as the platform's door, and there he says no: no platform is called, and nothing is connected.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::random;
use http::Method;
use sandbox::Call;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::{
    answered::by_server,
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::{Ground, Workspace},
    owner::{Asked, RETURN, expect, follow_link, text},
    probe::{Attack, Probe, Target},
    source::SourceTree,
    undoing::{NOWHERE, Undoing},
};

/// Whether a caught code gives tokens, and whether an account has a key that is not OAuth's.
pub(super) const PKCE_CONNECT: Probe = Probe {
    name: "pkce-connect",
    points: &["pkce-connect"],
    tries: "tokens for a code that was caught on its way home, and a way to connect an account by a static key",
    attack: Attack::Both {
        live: |target| Box::pin(to_the_door(target)),
        rehearsed: |ground| Box::pin(pkce_connect(ground)),
    },
};

/// Whether more is asked for than the actions need.
pub(super) const SCOPES_ASKED: Probe = Probe {
    name: "scopes-asked",
    points: &["scopes-asked"],
    tries: "a scope that no wanted action needs, and one for messages, contacts or browsing",
    attack: Attack::Audited(|ground, source| Box::pin(scopes_asked(ground, source))),
};

const ACCOUNT: &str = "probe_pkce";
const ACTIONS: [&str; 2] = ["post.create", "profile.read"];

async fn pkce_connect(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let exchanges = ground.platform().calls(Call::Exchange);
    let entrusted = ground.entrust(ACCOUNT).await?;
    let consent = Consent::read(&entrusted.connected.authorize_url)?;
    entrusted.post("connected by OAuth").await?;
    if ground.platform().calls(Call::Exchange) == exchanges {
        return Err(Failure::unproven("the account was connected without an exchange at the platform"));
    }
    consent.has_challenge()?;
    let words = "an account is connected by OAuth 2.0 with a challenge (S256)";
    evidence.tried("x-connections", words, &entrusted.connected.authorize_url, consent.parameter("code_challenge"));
    catch_codes(ground, &entrusted.workspace, &mut evidence).await?;
    come_back_elsewhere(ground, &entrusted.workspace, &mut evidence).await?;
    Ok(evidence)
}

/// The platform that the claim is about.
const X: &str = "x";

async fn to_the_door(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    no_static_key(&target.admin, X, &mut evidence).await?;
    let undoing = Undoing::of(&target.admin);
    undoing
        .after(async {
            let Some(asked) = ask_at_a_door(&undoing, Some(X)).await? else {
                evidence.saw("no account at X can be connected at this server", "", "");
                return Ok(evidence);
            };
            let outcome = at_the_door(&asked, &mut evidence).await;
            let left = say_no(&asked).await;
            outcome?;
            left?;
            Ok(evidence)
        })
        .await
}

/// An owner on his way to a platform at which accounts can be connected: to this one, or to any; nothing, where there is none. He must
/// [say no](say_no) there.
pub(super) async fn ask_at_a_door(undoing: &Undoing, wanted: Option<&str>) -> Result<Option<Asked>, Failure> {
    let admin = undoing.admin();
    let listed = expect(&admin.get("/v1/providers").await?, 200)?;
    let providers = listed.get("data").and_then(Value::as_array).into_iter().flatten();
    let is_open = |provider: &&Value| provider.get("connectable") == Some(&Value::Bool(true));
    let mut open = providers.filter(is_open).filter(|open| wanted.is_none_or(|name| text(open, "/name") == name));
    let Some(provider) = open.next() else { return Ok(None) };
    let actions = provider.get("actions").and_then(Value::as_array).into_iter().flatten();
    let actions: Vec<&str> = actions.map(|action| text(action, "/name")).take(2).collect();
    let back = undoing.return_address().await?;
    follow_link(admin, (text(provider, "/name"), &back), &actions, &actions).await.map(Some)
}

/// Ends what was begun, as a platform does whose user says no (RFC 6749 §4.1.2.1).
pub(super) async fn say_no(asked: &Asked) -> Result<(), Failure> {
    let consent = Consent::read(&asked.authorize_url)?;
    let back = consent.callback(&consent.parameter("state"), &[("error", "access_denied")])?;
    let home = asked.browser.get(&back).await?;
    if home.status == 303 && home.header("location").starts_with(NOWHERE) {
        return Ok(());
    }
    Err(Failure::unproven(format!("an owner who said no was not sent back: {}", home.status)))
}

/// What is seen at a platform's door, and what comes of answers that the platform has not given.
async fn at_the_door(asked: &Asked, evidence: &mut Evidence) -> Result<(), Failure> {
    let consent = Consent::read(&asked.authorize_url)?;
    consent.has_challenge()?;
    for (what, guess) in GUESSES {
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, guess(&consent).as_bytes()));
        if challenge == consent.parameter("code_challenge") {
            let obtained = json!({ "verifier": what, "code_challenge": challenge });
            return Err(Failure::broken(format!("{what} is the verifier of a caught code"), obtained));
        }
    }
    let words = "an owner is sent to consent with a challenge (S256) that nobody on the way can answer";
    evidence.tried("x-connections", words, sha256(asked.authorize_url.as_bytes()), "S256");

    let (state, code) = (consent.parameter("state"), ("code", "of-a-probe"));
    let (own, unknown) = (format!("__Host-keyholder={}", random::token()), random::token());
    let foreign = asked.browser.with_no_cookies();
    for (what, browser, state, cookie) in [
        ("in another browser", &foreign, &state, None),
        ("in another browser, with a cookie of its own", &foreign, &state, Some(&own)),
        ("with another state", &asked.browser, &unknown, None),
    ] {
        let headers: Vec<_> = cookie.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
        let back = consent.callback(state, &[code])?;
        let answer = browser.send(Method::GET, &back, &headers, bytes::Bytes::new()).await?;
        by_server(&format!("a callback {what}"), &answer)?;
        if answer.status.is_redirection() || answer.status.is_success() {
            let obtained = json!({ "status": answer.status.as_u16(), "location_sha256": sha256(answer.header("location").as_bytes()) });
            return Err(Failure::broken(format!("a callback {what} was taken"), obtained));
        }
        evidence.tried(
            "connect-callbacks",
            format!("a callback {what}: {}", answer.status),
            sha256(back.as_bytes()),
            answer.status.as_str(),
        );
    }
    Ok(())
}

/// What an owner's browser carries to the platform.
struct Consent(Url);

impl Consent {
    fn read(authorize_url: &str) -> Result<Self, Failure> {
        Ok(Self(Url::parse(authorize_url)?))
    }

    fn parameter(&self, name: &str) -> String {
        let found = self.0.query_pairs().find(|(known, _)| known == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    /// Whether the platform is told of a verifier (RFC 7636 §4.3).
    fn has_challenge(&self) -> Result<(), Failure> {
        for (name, wanted) in [("response_type", "code"), ("code_challenge_method", "S256")] {
            if self.parameter(name) != wanted {
                let said = json!({ "parameter": name, "value": self.parameter(name) });
                return Err(Failure::broken("the owner is not sent to consent with PKCE", said));
            }
        }
        // 32 bytes in base64: a digest (§4.2).
        if self.parameter("code_challenge").len() == 43 {
            return Ok(());
        }
        Err(Failure::broken(
            "the owner is sent to consent without a challenge",
            json!({ "code_challenge": self.parameter("code_challenge") }),
        ))
    }

    /// The path of the callback with an answer to it, as the platform would send a browser there.
    fn callback(&self, state: &str, answer: &[(&str, &str)]) -> Result<String, Failure> {
        let path = Url::parse(&self.parameter("redirect_uri"))?.path().to_owned();
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", state).extend_pairs(answer);
        Ok(format!("{path}?{}", query.finish()))
    }
}

/// Somebody who holds the client's secret, and tries to exchange codes at the platform himself.
struct Thief {
    platform: Caller,
    secret: String,
}

impl Thief {
    async fn exchange(&self, consent: &Consent, callback: &Url, verifier: &str) -> Result<Reply, Failure> {
        let code = callback.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned());
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("code", &code.unwrap_or_default())
            .append_pair("redirect_uri", &consent.parameter("redirect_uri"))
            .append_pair("code_verifier", verifier)
            .finish();
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", consent.parameter("client_id"), self.secret)));
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", basic.as_str())];
        Ok(self.platform.send(Method::POST, "/2/oauth2/token", &headers, form.into()).await?)
    }
}

/// What somebody who saw the way to the platform takes for the verifier.
type Guess = fn(&Consent) -> String;

/// What a catcher has seen, or can guess.
const GUESSES: [(&str, Guess); 5] = [
    ("the state", |consent| consent.parameter("state")),
    ("the challenge", |consent| consent.parameter("code_challenge")),
    ("the state's digest", |consent| sha256(consent.parameter("state").as_bytes())),
    ("a constant", |_| "A".repeat(43)),
    ("nothing", |_| String::new()),
];

/// Catches codes on their way home, and tries to exchange each with what a catcher has seen or can guess.
async fn catch_codes(ground: &Ground, workspace: &Workspace, evidence: &mut Evidence) -> Result<(), Failure> {
    let base = Url::parse(&ground.sandbox().url())?;
    let platform = Caller::trusting(&base, None, Some(ground.sandbox().ca_der()));
    let thief = Thief { platform, secret: text(ground.handover(), "/secret").to_owned() };
    // With a challenge of his own he gets tokens: his door works.
    let asked = ground.ask(&workspace.admin, &ACTIONS, &ACTIONS).await?;
    let own = random::token();
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, own.as_bytes()));
    let consent = Consent::read(&asked.authorize_url)?;
    let forged = asked.authorize_url.replace(&consent.parameter("code_challenge"), &challenge);
    let callback = Url::parse(&ground.platform().approve(&forged, ACCOUNT)?)?;
    expect(&thief.exchange(&consent, &callback, &own).await?, 200)?;
    evidence.saw("a code whose challenge is the catcher's own is exchanged by him", forged, "tokens");

    for (what, guess) in GUESSES {
        let asked = ground.ask(&workspace.admin, &ACTIONS, &ACTIONS).await?;
        let consent = Consent::read(&asked.authorize_url)?;
        let callback = Url::parse(&ground.platform().approve(&asked.authorize_url, ACCOUNT)?)?;
        let answer = thief.exchange(&consent, &callback, &guess(&consent)).await?;
        if answer.status.is_success() {
            let token = answer.json();
            let obtained =
                json!({ "access_token_sha256": sha256(text(&token, "/access_token").as_bytes()), "verifier": what });
            return Err(Failure::broken(format!("a caught code was exchanged with {what} for its verifier"), obtained));
        }
        let tried = format!("a caught code is exchanged with {what} for its verifier: {}", answer.status);
        evidence.tried("connect-callbacks", tried, asked.authorize_url, &answer.body);
    }
    Ok(())
}

/// A callback counts in the browser that followed the link, with its state, once.
async fn come_back_elsewhere(ground: &Ground, workspace: &Workspace, evidence: &mut Evidence) -> Result<(), Failure> {
    let asked = ground.ask(&workspace.admin, &ACTIONS, &ACTIONS).await?;
    let back = ground.platform().approve(&asked.authorize_url, ACCOUNT)?;
    let mut changed = Url::parse(&back)?;
    let pairs: Vec<(String, String)> = changed.query_pairs().into_owned().collect();
    let other = |(name, value): (String, String)| if name == "state" { (name, random::token()) } else { (name, value) };
    changed.query_pairs_mut().clear().extend_pairs(pairs.into_iter().map(other));
    let foreign = workspace.admin.with_no_cookies();
    let tries =
        [("in another browser", &foreign, back.as_str()), ("with another state", &asked.browser, changed.as_str())];
    for (what, browser, address) in tries {
        let answer = browser.get(address).await?;
        if answer.header("location").contains("keyholder_code") {
            let obtained = sha256(answer.header("location").as_bytes());
            return Err(Failure::broken(format!("a callback {what} was taken"), obtained));
        }
        evidence.tried("connect-callbacks", format!("a callback {what}: {}", answer.status), address, &answer.body);
    }
    Ok(())
}

/// No request takes a credential of an account, by what the API says of itself and by what it answers.
async fn no_static_key(admin: &Caller, provider: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let document = expect(&admin.get("/openapi.json").await?, 200)?;
    let (mut bodies, mut names) = (0_u32, BTreeSet::new());
    for operation in document.pointer("/paths").and_then(Value::as_object).into_iter().flat_map(|paths| paths.values())
    {
        for method in operation.as_object().into_iter().flat_map(|methods| methods.values()) {
            let Some(schema) = method.pointer("/requestBody/content/application~1json/schema") else { continue };
            bodies += 1;
            properties(&document, schema, &mut names);
        }
    }
    // Where a list goes on, in the words of OpenFGA's API: it opens nothing.
    names.remove("continuation_token");
    let words = ["token", "secret", "password", "credential", "bearer", "access", "refresh", "api_key", "private"];
    if let Some(name) = names.iter().find(|name| words.iter().any(|word| name.to_lowercase().contains(word))) {
        return Err(Failure::broken("a request takes a credential", json!({ "property": name })));
    }
    if bodies == 0 || names.is_empty() {
        return Err(Failure::unproven("the API's document tells no bodies"));
    }
    let shown = names.iter().cloned().collect::<Vec<_>>().join(" ");
    evidence.tried(
        "static-account-keys",
        format!("{bodies} bodies of the API, none with a credential in it"),
        "",
        shown,
    );
    for path in ["/v1/connections", "/v1/connections/import", "/v1/connections/redeem"] {
        let key =
            json!({ "provider": provider, "account": ACCOUNT, "access_token": random::token(), "return_url": RETURN });
        let answer = admin.post(path, &key).await?;
        by_server(path, &answer)?;
        if answer.status.is_success() {
            let obtained = json!({ "path": path, "id": answer.json().get("id") });
            return Err(Failure::broken("an account was connected by a static key", obtained));
        }
        let tried = format!("POST {path} with a static token: {}", answer.status);
        evidence.tried("static-account-keys", tried, path, &answer.body);
    }
    Ok(())
}

/// The names of all properties of a schema, through its references.
fn properties(document: &Value, schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(target) =
        schema.get("$ref").and_then(Value::as_str).and_then(|at| document.pointer(at.trim_start_matches('#')))
    {
        return properties(document, target, names);
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if names.insert(name.clone()) {
            properties(document, property, names);
        }
    }
    for part in ["items", "additionalProperties"].into_iter().filter_map(|part| schema.get(part)) {
        properties(document, part, names);
    }
}

/// What a provider's file declares: the scopes there are, those that are always asked for, and those of each action.
struct Declared {
    scopes: Vec<(String, String)>,
    always: Vec<String>,
    actions: Vec<(String, Vec<String>)>,
}

impl Declared {
    fn read(source: &SourceTree, provider: &str) -> Result<Self, Failure> {
        let file: toml::Value = toml::from_str(&source.read(format!("providers/{provider}.toml").as_ref())?)?;
        let texts = |value: Option<&toml::Value>| -> Vec<String> {
            let items = value.and_then(toml::Value::as_array).into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let auth = file.get("auth");
        let tables = |at: Option<&toml::Value>| at.and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let scopes = tables(auth.and_then(|auth| auth.get("scopes")));
        let mut always = texts(auth.and_then(|auth| auth.get("scopes_always")));
        let actions: Vec<_> = tables(file.get("actions"))
            .iter()
            .map(|(name, action)| (name.clone(), texts(action.get("scopes"))))
            .collect();
        // Whose account it is must be asked at the end of every consent.
        let account = file.get("account").and_then(|account| account.get("action")).and_then(toml::Value::as_str);
        let reads = actions.iter().find(|(name, _)| Some(name.as_str()) == account);
        always.extend(reads.into_iter().flat_map(|(_, scopes)| scopes.iter().cloned()));
        let scopes = scopes.iter().map(|(name, said)| (name.clone(), said.as_str().unwrap_or_default().to_owned()));
        Ok(Self { scopes: scopes.collect(), always, actions })
    }

    /// What these actions need.
    fn needed(&self, actions: &[&str]) -> BTreeSet<String> {
        let wanted = self.actions.iter().filter(|(name, _)| actions.contains(&name.as_str()));
        wanted.flat_map(|(_, scopes)| scopes).chain(&self.always).cloned().collect()
    }
}

/// What a scope for messages, contacts or browsing is called at platforms, in its name or in what an owner is told of it.
const PRIVATE: [&str; 12] = [
    "dm.",
    "dm_",
    "direct_message",
    "directmessage",
    "message",
    "inbox",
    "mailbox",
    "contact",
    "address book",
    "follow",
    "history",
    "browsing",
];

async fn scopes_asked(ground: &Ground, source: &SourceTree) -> Outcome {
    let mut evidence = Evidence::new();
    for provider in &ground.blueprint().providers {
        for (scope, said) in Declared::read(source, provider)?.scopes {
            let words = format!("{scope}: {said}").to_lowercase();
            if let Some(word) = PRIVATE.iter().find(|word| words.contains(**word)) {
                return Err(Failure::broken(format!("{provider} has a scope for what is private ({word})"), scope));
            }
            evidence.tried("declared-scopes", format!("{scope} of {provider}: {said}"), &scope, words);
        }
    }
    let declared = Declared::read(source, ground.provider())?;
    let workspace = ground.workspace("probe_scopes").await?;
    let all: Vec<&str> = declared.actions.iter().map(|(name, _)| name.as_str()).collect();
    let mut least = usize::MAX;
    for allowed in all.iter().map(std::slice::from_ref).chain([all.as_slice()]) {
        // Everything is wanted, and the owner allows a part of it: that part decides.
        let asked = ground.ask(&workspace.admin, &all, allowed).await?;
        let scopes = Consent::read(&asked.authorize_url)?.parameter("scope");
        let asked_for: BTreeSet<String> = scopes.split_whitespace().map(str::to_owned).collect();
        let needed = declared.needed(allowed);
        if let Some(more) = asked_for.difference(&needed).next() {
            let obtained = json!({ "asked_for": asked_for, "needed": needed });
            return Err(Failure::broken(
                format!("{more} is asked for, which {} does not need", allowed.join(" and ")),
                obtained,
            ));
        }
        if asked_for != needed {
            return Err(Failure::unproven(format!("{} needs more than is asked for", allowed.join(" and "))));
        }
        least = least.min(asked_for.len());
        evidence.tried(
            "requested-scopes",
            format!("what {} needs: {scopes}", allowed.join(" and ")),
            allowed.join(" "),
            &scopes,
        );
    }
    if least == declared.needed(&all).len() {
        return Err(Failure::unproven("every action needs the same scopes: that no more is asked for cannot be seen"));
    }
    Ok(evidence)
}
