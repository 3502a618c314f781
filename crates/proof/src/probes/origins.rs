//! Origins: a page of another site can make a browser send requests, and they must have no effect.

use std::collections::BTreeSet;

use http::{Method, header};
use serde_json::{Value, json};
use url::Url;

use crate::{
    answered::of_server,
    caller::{Caller, Reply},
    document::{self, Credential},
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::{Ground, Serving},
    owner::{RETURN, expect, follow_link, invitation, text},
    probe::{Attack, Probe, Target},
    serving,
    undoing::Undoing,
};

/// Whether a page of an origin that is not listed can have an effect, or read an answer.
pub(super) const FOREIGN_ORIGINS: Probe = Probe {
    name: "foreign-origins",
    points: &["foreign-origins", "foreign-forms"],
    tries: "an effect, or a readable answer, for a page of an origin that is not on the list",
    attack: Attack::Both {
        live: |target| Box::pin(foreign_origins(target)),
        rehearsed: |ground| Box::pin(beside_a_listed_one(ground)),
    },
};

/// Whether a request, or what a tenant says of itself, can put an origin on the list.
pub(super) const ORIGINS_FIXED: Probe = Probe {
    name: "origins-fixed",
    points: &["origins-fixed"],
    tries: "to have an origin taken for a listed one, by anything that a request or a tenant can say",
    attack: Attack::Rehearsed(|ground| Box::pin(origins_fixed(ground))),
};

const JSON: (&str, &str) = ("content-type", "application/json");
/// The origin that is on the list.
const LISTED: &str = "https://app.example.com";
/// What keys are called that pages make here.
const LABEL: &str = "probe of origins";
/// Where an attacker's page lies.
const EVIL: &str = "https://evil.example";

/// Origins that are on no list, by one that is: another site, names that only begin or end alike, another scheme and port, an opaque one.
fn foreign_to(origin: &str) -> Result<Vec<String>, Failure> {
    let known = Url::parse(origin)?;
    let host = known.host_str().unwrap_or_default();
    let name = host.trim_matches(['[', ']']).replace(':', "-");
    let foreign = [
        EVIL.to_owned(),
        format!("https://{name}.evil.example"),
        // What ends in a number is an address of its own, and no name.
        if known.domain().is_some() { format!("https://evil-{name}") } else { format!("https://evil-{name}.example") },
        format!("{}://{host}", if known.scheme() == "https" { "http" } else { "https" }),
        format!("{}://{host}:444", known.scheme()),
        "null".to_owned(),
        "http://localhost:1".to_owned(),
    ];
    Ok(foreign.into_iter().filter(|foreign| foreign != origin).collect())
}

/// A server tells nobody which origins it lists: beside customers, its own is the one that may do what the others may not.
async fn foreign_origins(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    let page = expect(&target.stranger.get("/trust.json").await?, 200)?;
    let own = text(&page, "/installation").to_owned();
    let same = [("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    let allowed = target.admin.send(Method::GET, "/v1/workspace", &same, bytes::Bytes::new()).await?;
    expect(&allowed, 200)?;
    evidence.saw(format!("a page of {own}, its own, is answered"), &own, allowed.status.as_str());
    refused_from(&target.admin, &own, &mut evidence).await?;
    preflights(&target.admin, &mut evidence).await?;
    Ok(evidence)
}

async fn beside_a_listed_one(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let server = with_a_door(ground).await?;
    let admin = serving::admin(ground, &ground.stranger_at(&server.url)).await?;
    listed(&admin, &mut evidence).await?;
    let api = refused_from(&admin, LISTED, &mut evidence).await;
    let forms = at_an_owners_form(&admin, ground.provider(), &mut evidence).await;
    Failure::of_any([api, forms])?;
    Ok(evidence)
}

/// A server that lists an origin, and from which owners are sent to a platform. Nobody goes there.
async fn with_a_door(ground: &Ground) -> Result<Serving, Failure> {
    let file = ground.configuration(&format!("origins = \"{LISTED}\"\n"), serving::ROOMY);
    let client = format!("KEYHOLDER_CLIENT_{}", ground.provider().to_uppercase().replace('-', "_"));
    let (id, secret) = (format!("{client}_ID"), format!("{client}_SECRET"));
    ground.serve(&file, &[(&id, "a-client"), (&secret, "of-nobody")]).await
}

/// What an owner's browser sends without a key, the cookie being in it: neither another site's page nor a listed one's opens his link or chooses
/// for him.
async fn at_an_owners_form(admin: &Caller, provider: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let actions = ["profile.read"];
    follow_link(admin, (provider, RETURN), &actions, &actions).await?;
    evidence.saw("an owner's form is taken from its own page", actions[0], "303");
    let path = invitation(admin, (provider, RETURN), &actions).await?;
    let browser = admin.with_no_cookies();
    let opened = opened_by_others(&browser, &path, evidence).await;
    expect(&browser.get(&path).await?, 200)?;
    let chosen = chosen_by_others(&browser, &path, actions[0], evidence).await;
    Failure::of_any([opened, chosen])?;
    let own = browser.submit(&path, &[("allow", actions[0])]).await?;
    if own.status != 303 {
        let obtained = json!({ "status": own.status.as_u16() });
        return Err(Failure::broken("a form that was refused to another page has spent the owner's link", obtained));
    }
    evidence.saw("the link is still its owner's", &path, own.status.as_str());
    Ok(())
}

async fn opened_by_others(browser: &Caller, path: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    for page in pages_of_others()? {
        let (from, headers) = (page.from(), page.headers());
        // Whoever types an address says nothing of himself either.
        if !headers.is_empty() {
            let opened = browser.send(Method::GET, path, &headers, bytes::Bytes::new()).await?;
            refused_to_an_owner(&opened, &from, "a link's first opening")?;
            page.seen(evidence, &format!("GET of a connect link from {from}: {}", opened.status), &opened);
        }
    }
    Ok(())
}

async fn chosen_by_others(browser: &Caller, path: &str, action: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    for page in pages_of_others()? {
        let from = page.from();
        let headers = [&page.headers()[..], &[("content-type", "application/x-www-form-urlencoded")]].concat();
        let sent = browser.send(Method::POST, path, &headers, format!("allow={action}").into()).await?;
        refused_to_an_owner(&sent, &from, "an owner's form")?;
        page.seen(evidence, &format!("an owner's form from {from}: {}", sent.status), &sent);
    }
    Ok(())
}

/// A page that is not the server's own: its origin as its browser says it, and whose page it says that this is (Fetch Metadata).
struct Page {
    origin: Option<String>,
    site: Option<&'static str>,
}

impl Page {
    fn from(&self) -> String {
        let origin = self.origin.as_deref().unwrap_or("a page that is not named");
        self.site.map_or_else(|| origin.to_owned(), |site| format!("{origin} ({site})"))
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let origin = self.origin.as_deref().map(|origin| ("origin", origin));
        origin.into_iter().chain(self.site.map(|site| ("sec-fetch-site", site))).collect()
    }

    /// Counts what was refused to it: a listed origin's page is no foreign one, though it may not do this either.
    fn seen(&self, evidence: &mut Evidence, what: &str, reply: &Reply) {
        let subject = if self.origin.as_deref() == Some(LISTED) { "listed-origins" } else { "foreign-origins" };
        evidence.tried(subject, what, self.from(), &reply.body);
    }
}

/// Every origin that is not the server's, by a browser that says whose page asks, and by one that knows only origins; then those that say none.
fn pages_of_others() -> Result<Vec<Page>, Failure> {
    let origins = foreign_to(LISTED)?.into_iter().chain([LISTED.to_owned()]);
    let named =
        origins.flat_map(|origin| [Some("cross-site"), None].map(|site| Page { origin: Some(origin.clone()), site }));
    let silent = [Some("cross-site"), Some("same-site"), None].map(|site| Page { origin: None, site });
    Ok(named.chain(silent).collect())
}

/// Neither let through nor readable. A refusal to a person names its reason in words alone: that another was not the reason is seen by the own
/// page's form, which passes before and afterwards.
fn refused_to_an_owner(reply: &Reply, from: &str, what: &str) -> Result<(), Failure> {
    let is_readable = reply.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
    if is_readable || reply.status.is_success() || reply.status.is_redirection() {
        let led_to = sha256(reply.header("location").as_bytes());
        let obtained = json!({ "from": from, "status": reply.status.as_u16(), "location_sha256": led_to });
        return Err(Failure::broken(format!("{what} was taken from {from}"), obtained));
    }
    if reply.status == 403 {
        return Ok(());
    }
    Err(Failure::unproven(format!("{what} from {from} was answered {}", reply.status)))
}

/// Pages of origins that are not this one neither act nor read.
async fn refused_from(admin: &Caller, taken: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let before = own_keys(admin).await?;
    for origin in &foreign_to(taken)? {
        let page = [("origin", origin.as_str()), ("sec-fetch-site", "cross-site")];
        let made = make_key(admin, &page).await?;
        refused(admin, &made, origin, "POST /v1/api-keys").await?;
        let tried = format!("POST /v1/api-keys from a page of {origin}: {}", made.status);
        evidence.tried("foreign-origins", tried, origin, &made.body);
        let read = admin.send(Method::GET, "/v1/workspace", &page, bytes::Bytes::new()).await?;
        refused(admin, &read, origin, "GET /v1/workspace").await?;
        let tried = format!("GET /v1/workspace from a page of {origin}: {}", read.status);
        evidence.tried("foreign-origins", tried, origin, &read.body);
    }
    // A browser that was told to send no origin still says that another site's page is asking.
    let silent = make_key(admin, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]).await?;
    refused(admin, &silent, "a site that is not named", "POST /v1/api-keys").await?;
    let tried = format!("POST /v1/api-keys from a site that is not named: {}", silent.status);
    evidence.tried("foreign-origins", tried, "", &silent.body);
    let made = own_keys(admin).await?.into_iter().find(|key| !before.contains(key));
    made.map_or(Ok(()), |id| {
        let difference = "a refused request of a foreign page has made a key";
        Err(Failure::broken(difference, json!({ "id": id })))
    })
}

/// A listed origin's page acts, reads the answer, and is told so beforehand.
async fn listed(admin: &Caller, evidence: &mut Evidence) -> Result<(), Failure> {
    let made = make_key(admin, &[("origin", LISTED), ("sec-fetch-site", "cross-site")]).await?;
    let own = expect(&made, 201)?;
    revoke(admin, &own).await?;
    if made.header("access-control-allow-origin") != LISTED
        || made.headers.contains_key("access-control-allow-credentials")
    {
        return Err(Failure::unproven(format!("a listed origin was not granted what it must be: {:?}", made.headers)));
    }
    evidence.tried(
        "listed-origins",
        format!("a page of {LISTED} makes a key, and reads the answer"),
        LISTED,
        made.status.as_str(),
    );
    let asked = preflight(admin, "/v1/api-keys", LISTED).await?;
    if asked.status != 204 || asked.header("access-control-allow-origin") != LISTED {
        return Err(Failure::unproven(format!("a listed origin's preflight was answered {}", asked.status)));
    }
    evidence.tried("listed-origins", format!("a page of {LISTED} asks beforehand"), LISTED, asked.status.as_str());
    Ok(())
}

/// At every path of the API a foreign page is told that it may not: a browser asks for all methods of a path at once.
async fn preflights(admin: &Caller, evidence: &mut Evidence) -> Result<(), Failure> {
    let operations = document::operations(admin).await?;
    let guarded = operations.iter().filter(|operation| operation.credential != Credential::None);
    let targets: BTreeSet<String> = guarded.map(|operation| operation.target(str::to_owned)).collect();
    for target in targets {
        let asked = preflight(admin, &target, EVIL).await?;
        refused(admin, &asked, EVIL, &format!("the preflight of {target}")).await?;
        let tried = format!("the preflight of {target} for {EVIL}: {}", asked.status);
        evidence.tried("foreign-origins", tried, &target, &asked.body);
    }
    Ok(())
}

/// Refused, and not readable. A key that was made after all is what the attacker got; it is taken from him again.
async fn refused(admin: &Caller, reply: &Reply, origin: &str, what: &str) -> Result<(), Failure> {
    of_server(&format!("{what} of a page of {origin}"), reply)?;
    let granted = reply.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    if let Some(name) = granted {
        let obtained = json!({ "origin": origin, name.as_str(): reply.header(name.as_str()), "status": reply.status.as_u16(),
                               "id": reply.json().get("id") });
        revoke(admin, &reply.json()).await?;
        return Err(Failure::broken(format!("a page of {origin} may read the answer to {what}"), obtained));
    }
    if reply.status.is_success() {
        let obtained = reply.json();
        revoke(admin, &obtained).await?;
        return Err(Failure::broken(
            format!("a page of {origin} was let through with {what}"),
            json!({ "id": obtained.get("id"), "origin": origin, "status": reply.status.as_u16() }),
        ));
    }
    // What is refused for another reason says nothing of origins.
    let body = reply.json();
    if reply.status != 403 || text(&body, "/type") != "urn:keyholder:problem:origin-not-allowed" {
        let status = reply.status;
        return Err(Failure::unproven(format!(
            "{what} of a page of {origin} was refused for another reason: {status} {body}"
        )));
    }
    Ok(())
}

async fn origins_fixed(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    // As at deployment: the environment's word takes the place of the file's.
    let file = ground.configuration("origins = \"https://of-the-file.example\"\n", serving::ROOMY);
    let server = ground.serve(&file, &[("KEYHOLDER_ORIGINS", LISTED)]).await?;
    let admin = serving::admin(ground, &ground.stranger_at(&server.url)).await?;
    listed(&admin, &mut evidence).await?;
    say_of_oneself(&admin, &mut evidence).await?;
    let host = EVIL.trim_start_matches("https://");
    let forwarded = format!("host={host};proto=https");
    let words: [&[(&str, &str)]; 8] = [
        &[],
        &[("access-control-allow-origin", EVIL)],
        &[("x-forwarded-host", host), ("x-forwarded-proto", "https")],
        &[("forwarded", &forwarded)],
        &[("x-original-host", host), ("x-host", host)],
        &[("keyholder-origins", EVIL), ("x-keyholder-origins", EVIL)],
        &[("referer", "https://app.example.com/"), ("sec-fetch-site", "same-origin")],
        &[("x-http-method-override", "OPTIONS"), ("access-control-request-method", "POST")],
    ];
    for operation in document::operations(&admin).await?.iter().filter(|it| it.credential != Credential::None) {
        let target = operation.target(str::to_owned);
        let at = format!("{} {}", operation.method, operation.path);
        for said in words {
            let headers = [said, &[("origin", EVIL)]].concat();
            let reply = admin.send(Method::OPTIONS, &target, &asking(&headers), bytes::Bytes::new()).await?;
            refused(&admin, &reply, EVIL, &format!("a preflight of {at} that says {said:?}")).await?;
            evidence.tried(
                "api-routes",
                format!("{at}: a preflight that says {said:?}: {}", reply.status),
                &target,
                &reply.body,
            );
        }
        let query = format!("{target}?origins={EVIL}&origin={EVIL}");
        let reply = admin.send(operation.method.clone(), &query, &[("origin", EVIL)], bytes::Bytes::new()).await?;
        refused(&admin, &reply, EVIL, &format!("{at} with a query that names it")).await?;
        evidence.tried("api-routes", format!("{at} with a query that names it: {}", reply.status), &query, &reply.body);
    }
    for origin in [EVIL, "https://of-the-file.example"] {
        let made = make_key(&admin, &[("origin", origin), ("x-forwarded-host", origin.trim_start_matches("https://"))])
            .await?;
        refused(&admin, &made, origin, "POST /v1/api-keys").await?;
        evidence.tried(
            "listed-origins",
            format!("{origin} is not listed after all that: {}", made.status),
            origin,
            &made.body,
        );
    }
    Ok(evidence)
}

/// What a tenant can have stored with a foreign origin in it makes that origin no listed one.
async fn say_of_oneself(admin: &Caller, evidence: &mut Evidence) -> Result<(), Failure> {
    let address = json!({ "url": format!("{EVIL}/connected") });
    let registered = admin.post("/v1/return-addresses", &address).await?;
    if !(registered.status.is_success() || registered.status == 409) {
        return Err(Failure::unproven(format!("a return address was not registered: {}", registered.status)));
    }
    evidence.saw(
        format!("a tenant registers a return address at {EVIL}"),
        address.to_string(),
        registered.status.as_str(),
    );
    let label = json!({ "label": EVIL, "role": "service" });
    let made = expect(&admin.post("/v1/api-keys", &label).await?, 201)?;
    revoke(admin, &made).await?;
    evidence.saw(format!("a tenant calls a key {EVIL}"), label.to_string(), "201");
    Ok(())
}

fn asking<'h>(headers: &[(&'h str, &'h str)]) -> Vec<(&'h str, &'h str)> {
    let mut asking = headers.to_vec();
    if !asking.iter().any(|(name, _)| *name == header::ACCESS_CONTROL_REQUEST_METHOD.as_str()) {
        asking.push((header::ACCESS_CONTROL_REQUEST_METHOD.as_str(), "POST"));
    }
    asking
}

async fn preflight(caller: &Caller, target: &str, origin: &str) -> Result<Reply, Failure> {
    Ok(caller.send(Method::OPTIONS, target, &asking(&[("origin", origin)]), bytes::Bytes::new()).await?)
}

async fn make_key(admin: &Caller, headers: &[(&str, &str)]) -> Result<Reply, Failure> {
    // It ends by itself, also where nobody lives to end it.
    let ends = Undoing::expires_at()?;
    let body = json!({ "label": LABEL, "role": "service", "expires_at": ends }).to_string();
    Ok(admin.send(Method::POST, "/v1/api-keys", &[headers, &[JSON]].concat(), body.into()).await?)
}

/// The ids of the newest keys that this probe's own requests have made: who else makes or ends some meanwhile is no effect of a page.
async fn own_keys(admin: &Caller) -> Result<Vec<String>, Failure> {
    let listed = expect(&admin.get("/v1/api-keys?limit=100").await?, 200)?;
    let list = listed.get("data").and_then(Value::as_array).into_iter().flatten();
    Ok(list.filter(|key| text(key, "/label") == LABEL).map(|key| text(key, "/id").to_owned()).collect())
}

/// Ends a key that was answered, if one was.
pub(super) async fn revoke(admin: &Caller, made: &Value) -> Result<(), Failure> {
    if let Some(id) = made.get("id").and_then(Value::as_str).filter(|id| id.starts_with("key_")) {
        ended(&admin.delete(&format!("/v1/api-keys/{id}")).await?)?;
    }
    Ok(())
}

/// A key that a probe has made is gone: none is left behind in silence.
fn ended(reply: &Reply) -> Result<(), Failure> {
    match reply.status.as_u16() {
        204 | 404 => Ok(()),
        other => Err(Failure::unproven(format!("a key of a probe was not ended: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_foreign_is_never_the_origin_itself() {
        for own in
            ["https://keys.acme.dev", "http://localhost:4180", "http://127.0.0.1:4180", "http://[::1]:4180", LISTED]
        {
            let foreign = foreign_to(own).unwrap();
            assert!(foreign.iter().all(|origin| origin != own), "{own}: {foreign:?}");
            for origin in foreign.iter().filter(|origin| *origin != "null") {
                let read = Url::parse(origin).unwrap_or_else(|error| panic!("{origin}: {error}"));
                assert_eq!(&read.origin().ascii_serialization(), origin, "{own}");
            }
        }
    }
}
