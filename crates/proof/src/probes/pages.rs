//! Pages: what a browser is shown holds no markup of a stranger's, and nothing that a browser is sent holds a secret.

use std::sync::PoisonError;

use http::Method;
use serde_json::{Value, json};
use url::{Url, form_urlencoded::byte_serialize};

use crate::{
    caller::{Caller, Reply, Witness},
    document::{self, Credential},
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{RETURN, expect, text},
    probe::{Attack, Probe, Target},
    probes::{
        connecting::{ask_at_a_door, say_no},
        origins::revoke,
    },
    search::Needle,
    secret_scan::Scanner,
    undoing::Undoing,
};

/// Whether markup of a stranger's comes out as markup.
pub(super) const ESCAPED_PAGES: Probe = Probe {
    name: "escaped-pages",
    points: &["escaped-pages"],
    tries: "markup of one's own in a page that others are shown, and a template that would let it out",
    attack: Attack::Rehearsed(|ground| Box::pin(escaped_pages(ground))),
};

/// Whether something that a browser is sent holds a secret.
pub(super) const NO_SECRET_IN_BROWSER: Probe = Probe {
    name: "no-secret-in-browser",
    points: &["no-secret-in-browser"],
    tries: "a secret of the installation, of an account or of a caller in anything that a browser is sent",
    attack: Attack::Both {
        live: |target| Box::pin(no_secret_in_browser(target)),
        rehearsed: |ground| Box::pin(no_secret_of_the_installation(ground)),
    },
};

/// Markup, with a word in it that shows where it came out.
const MARKUP: &str = "\"'><script>heron()</script><img src=x onerror=heron()><b>";
const WORD: &str = "heron()";
/// The templates that the program was built with.
const TEMPLATES: [(&str, &str); 5] = [
    ("base.html", include_str!("../../../server/templates/base.html")),
    ("connect.html", include_str!("../../../server/templates/connect.html")),
    ("docs.html", include_str!("../../../server/templates/docs.html")),
    ("refusal.html", include_str!("../../../server/templates/refusal.html")),
    ("trust.html", include_str!("../../../server/templates/trust.html")),
];
/// What switches a template's escaping off, or would give markup a place in which escaping does not help.
const UNSAFE: [&str; 7] = ["|safe", "| safe", "|escape", "autoescape", "<script", "<style", "javascript:"];

async fn escaped_pages(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    templates(&mut evidence)?;
    // Of the workspace: its name, which its admin's operator chose. Of the platform: the account's name, which its owner chose.
    let workspace = ground.workspace(&format!("Acme {MARKUP}")).await?;
    let admin = &workspace.admin;
    let page = link(admin, None).await?;
    let browser = admin.with_no_cookies();
    shown(&mut evidence, "the connect page, with a workspace's name", &browser.get(&page).await?, true)?;
    let connected = ground.connect(admin, &format!("reed{MARKUP}"), &["profile.read"]).await?;
    let again = link(admin, Some(&connected.connection)).await?;
    let browser = admin.with_no_cookies();
    let reply = browser.get(&again).await?;
    shown(&mut evidence, "the connect page for an account that was connected before", &reply, true)?;
    let account = ground.platform().account(&connected.account).map(|account| account.id).unwrap_or_default();
    if account.is_empty() || !String::from_utf8_lossy(&reply.body).contains(&account) {
        return Err(Failure::unproven("the page does not show which account is to be connected again"));
    }
    refusals(&mut evidence, &browser, &again).await?;
    for operation in document::operations(&browser).await? {
        if operation.credential == Credential::None && operation.method == Method::GET {
            let escaped: String = byte_serialize(MARKUP.as_bytes()).collect();
            let target = operation.target(|_| escaped.clone());
            let reply = browser.get(&format!("{target}?{escaped}={escaped}")).await?;
            shown(&mut evidence, &format!("{} with markup for parameters", operation.path), &reply, false)?;
            shown(&mut evidence, &operation.path, &browser.get(&operation.target(str::to_owned)).await?, false)?;
        }
    }
    Ok(evidence)
}

fn templates(evidence: &mut Evidence) -> Result<(), Failure> {
    for (name, template) in TEMPLATES {
        if let Some(found) = UNSAFE.iter().find(|found| template.to_lowercase().contains(*found)) {
            return Err(Failure::broken(
                format!("the template {name} has {found}"),
                json!({ "template": name, "has": found }),
            ));
        }
        evidence.tried("templates", format!("{name}: none of {}", UNSAFE.join(", ")), name, template);
    }
    Ok(())
}

/// What a stranger sends comes back in a refusal, if at all, as text.
async fn refusals(evidence: &mut Evidence, browser: &Caller, page: &str) -> Result<(), Failure> {
    let fields = [(MARKUP, "x"), ("allow", MARKUP)];
    shown(evidence, "a form with markup in it", &browser.submit(page, &fields).await?, false)?;
    shown(evidence, "a choice that is markup", &browser.submit(page, &[("allow", MARKUP)]).await?, false)?;
    let escaped: String = byte_serialize(MARKUP.as_bytes()).collect();
    for path in [
        format!("/connect/{escaped}"),
        format!("/connect/callback/{escaped}?state={escaped}&error={escaped}&error_description={escaped}"),
        format!("/connect/callback/x?state={escaped}&code={escaped}&iss={escaped}"),
        format!("/{escaped}"),
    ] {
        shown(
            evidence,
            &format!("{} with markup", path.split('%').next().unwrap_or_default()),
            &browser.get(&path).await?,
            false,
        )?;
    }
    Ok(())
}

/// No markup of ours in a page; where it must be shown, it is there as text.
fn shown(evidence: &mut Evidence, what: &str, reply: &Reply, must_show: bool) -> Result<(), Failure> {
    let body = String::from_utf8_lossy(&reply.body);
    let is_page = reply.header("content-type").starts_with("text/html");
    if is_page && let Some(found) = markup(&body) {
        return Err(Failure::broken(format!("{what} lets markup out"), json!({ "markup": found })));
    }
    // Whoever guesses types must not make a page of what is none.
    if !is_page && body.contains(WORD) && reply.header("x-content-type-options") != "nosniff" {
        return Err(Failure::broken(
            format!("{what} may be taken for a page"),
            json!({ "type": reply.header("content-type") }),
        ));
    }
    if must_show && !body.contains(WORD) {
        return Err(Failure::unproven(format!("{what} does not show what it must ({})", reply.status)));
    }
    evidence.tried("pages", format!("{what}: {}", reply.status), MARKUP, &reply.body);
    Ok(())
}

/// The first markup of a stranger's in a page, with what stands around it.
fn markup(page: &str) -> Option<String> {
    let lower = page.to_lowercase();
    let at =
        ["<script", "<img", "<b>", "onerror=heron()>", "<iframe", "<svg"].iter().find_map(|found| lower.find(found))?;
    Some(page.chars().skip(page.get(..at).map_or(0, |before| before.chars().count())).take(80).collect())
}

/// The path of a new link; one that renews a connection shows its account's name.
async fn link(admin: &Caller, connection: Option<&str>) -> Result<String, Failure> {
    admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await?;
    let mut invitation = json!({ "provider": "x", "actions": ["profile.read"], "return_url": RETURN });
    if let (Some(connection), Some(members)) = (connection, invitation.as_object_mut()) {
        members.insert("connection".to_owned(), json!(connection));
    }
    let link = expect(&admin.post("/v1/connect-links", &invitation).await?, 201)?;
    Ok(Url::parse(text(&link, "/url"))?.path().to_owned())
}

/// Beside customers nobody knows the installation's secrets: what is looked for are the callers' own, and whatever has a secret's form.
async fn no_secret_in_browser(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    let witness = Witness::default();
    let admin = target.admin.watched_by(&witness);
    let made = a_key(&admin, &witness, &mut evidence).await?;
    let key = Needle::new("the key that was made for it", text(&made, "/key"));
    let secrets = [Needle::new("an admin's key", admin.key().unwrap_or_default()), key];
    let undoing = Undoing::of(&admin);
    let outcome = undoing
        .after(async {
            in_no_answer(&undoing, (&witness, &secrets), &mut evidence).await?;
            Ok(evidence)
        })
        .await;
    revoke(&target.admin, &made).await?;
    outcome
}

async fn in_no_answer(
    undoing: &Undoing,
    (witness, secrets): (&Witness, &[Needle]),
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let browser = undoing.admin().with_no_cookies();
    if let Some(asked) = ask_at_a_door(undoing, None).await? {
        let led_on = names_no_secret(&asked.authorize_url);
        let left = say_no(&asked).await;
        led_on?;
        left?;
        refusals_of_links(&browser).await?;
        has_no_form_of_one(witness, &["32 bytes in base64"])?;
        look(evidence, witness, secrets, ("pages", "an owner's way to a platform's door, and its refusals"))?;
    } else {
        evidence.saw("no account can be connected at this server: there is no page for owners", "", "");
    }
    public_routes(&browser, (witness, secrets), evidence).await?;
    // A statement that is published quotes what probes sent: `api_key:key_…` is the name of a key, and no value with a secret's name.
    has_no_form_of_one(witness, &["32 bytes in base64", "a value with a secret's name"])
}

/// Of what a browser carries on to a platform nothing is named as a secret is (RFC 6749 §2.3.1, RFC 7636 §4.5).
fn names_no_secret(authorize_url: &str) -> Result<(), Failure> {
    const SECRETS: [&str; 5] = ["secret", "verifier", "password", "assertion", "access_token"];
    let url = Url::parse(authorize_url)?;
    let named = url.query_pairs().find(|(name, _)| SECRETS.iter().any(|secret| name.contains(secret)));
    let Some((name, value)) = named else { return Ok(()) };
    let obtained = json!({ "parameter": name, "sha256": sha256(value.as_bytes()) });
    Err(Failure::broken("a browser carries a secret to a platform", obtained))
}

/// Nothing in what was answered so far has the form of a secret, but for kinds that say too little there. Tokens of links and cookies are
/// the browser's own, and have none.
fn has_no_form_of_one(witness: &Witness, but: &[&str]) -> Result<(), Failure> {
    let scanner = Scanner::new()?;
    let answers = witness.lock().unwrap_or_else(PoisonError::into_inner);
    let found = answers.iter().flat_map(|answer| scanner.find(&String::from_utf8_lossy(answer)));
    match found.into_iter().find(|found| !but.contains(&found.kind)) {
        Some(found) => {
            let obtained = json!({ "what": found.kind, "sha256": found.sha256 });
            Err(Failure::broken(format!("a browser was sent {}", found.kind), obtained))
        }
        None => Ok(()),
    }
}

/// A key that ends by itself. The search finds it in the one answer that shows it, which is then forgotten.
async fn a_key(admin: &Caller, witness: &Witness, evidence: &mut Evidence) -> Result<Value, Failure> {
    let ends = Undoing::expires_at()?;
    let wanted = json!({ "label": "probe of secrets", "role": "service", "expires_at": ends });
    let made = expect(&admin.post("/v1/api-keys", &wanted).await?, 201)?;
    let planted = Needle::new("the key that was made for it", text(&made, "/key"));
    if found(witness, std::slice::from_ref(&planted)).is_none() || planted.is_blind() {
        revoke(admin, &made).await?;
        return Err(Failure::unproven("the search does not find a key where one is shown"));
    }
    evidence.saw("the search finds a key in the one answer that shows it", "", &planted.sha256);
    witness.lock().unwrap_or_else(PoisonError::into_inner).clear();
    Ok(made)
}

async fn refusals_of_links(browser: &Caller) -> Result<(), Failure> {
    browser.get("/connect/callback/x?state=none&error=access_denied").await?;
    browser.get("/connect/no-such-link").await?;
    Ok(())
}

/// What is answered to everybody.
async fn public_routes(
    browser: &Caller,
    (witness, secrets): (&Witness, &[Needle]),
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let origin = origin(browser.base());
    for operation in document::operations(browser).await? {
        if operation.credential == Credential::None {
            let target = operation.target(str::to_owned);
            let headers = [("origin", origin.as_str())];
            browser.send(operation.method.clone(), &target, &headers, bytes::Bytes::new()).await?;
            let what = format!("{} {}", operation.method, operation.path);
            look(evidence, witness, secrets, ("public-routes", &what))?;
        }
    }
    Ok(())
}

/// On a scratch installation its own secrets are known, and an account is connected.
async fn no_secret_of_the_installation(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let witness = Witness::default();
    let node = ground.node().await?;
    let own = ground.target().await?.admin.key().unwrap_or_default().to_owned();
    let admin = Caller::new(&node.url, Some(Witness::clone(&witness))).with_key(&own);
    let connected = ground.connect(&admin, "egret", &["profile.read", "post.create"]).await?;
    let secrets = secrets(ground, &own)?;
    let browser = admin.with_no_cookies();
    let page = link(&admin, Some(&connected.connection)).await?;
    browser.get(&page).await?;
    browser.submit(&page, &[("allow", "profile.read")]).await?;
    refusals_of_links(&browser).await?;
    look(&mut evidence, &witness, &secrets, ("pages", "an owner's whole way, and its refusals"))?;
    public_routes(&browser, (&witness, &secrets), &mut evidence).await?;
    Ok(evidence)
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Nothing that was answered so far holds a secret.
fn look(
    evidence: &mut Evidence,
    witness: &Witness,
    secrets: &[Needle],
    (subject, what): (&str, &str),
) -> Result<(), Failure> {
    if let Some(found) = found(witness, secrets) {
        return Err(Failure::broken(format!("{what}: a browser was sent {}", found.0), found.1));
    }
    let answers = witness.lock().unwrap_or_else(PoisonError::into_inner);
    evidence.tried(
        subject,
        format!("{what}: none of {} secrets in {} parts of answers", secrets.len(), answers.len()),
        what,
        answers.concat(),
    );
    Ok(())
}

/// The secrets of the installation, of the platform's accounts and of callers.
fn secrets(ground: &Ground, admin_key: &str) -> Result<Vec<Needle>, Failure> {
    let handover = ground.handover();
    let mut secrets = vec![
        Needle::new("the root key", text(handover, "/keys/root_key")),
        Needle::new("the operator's secret at the platform", text(handover, "/secret")),
        Needle::new("an admin's key", admin_key),
    ];
    for group in ["app", "ledger", "lookup", "loader", "owner"] {
        let login = Url::parse(ground.login(group)?)?;
        if let Some(password) = login.password().filter(|password| password.len() >= 16) {
            secrets.push(Needle::new(format!("the password of the login {group}"), password));
        }
    }
    secrets.extend(ground.needles("egret"));
    let keyring: Value = serde_json::from_slice(&std::fs::read(text(handover, "/keys/keyring"))?).unwrap_or_default();
    leaves(&keyring, &mut |leaf| secrets.push(Needle::new("a part of the keyring", leaf)));
    if secrets.len() < 8 { Err(Failure::unproven("too few secrets are at hand to be looked for")) } else { Ok(secrets) }
}

/// The long texts of a value.
fn leaves(value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) if text.len() >= 40 => take(text),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, take)),
        Value::Object(members) => members.values().for_each(|member| leaves(member, take)),
        _ => {}
    }
}

/// The first secret in what was answered: which, and the digest of it with where it stood.
fn found(witness: &Witness, secrets: &[Needle]) -> Option<(String, Value)> {
    let answers = witness.lock().unwrap_or_else(PoisonError::into_inner);
    answers.iter().find_map(|answer| {
        let (secret, form) = secrets.iter().find_map(|secret| Some((secret, secret.within(answer)?)))?;
        let obtained =
            json!({ "what": secret.name, "form": form, "sha256": secret.sha256, "in_answer_sha256": sha256(answer) });
        Some((secret.name.clone(), obtained))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_template_is_looked_at() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/templates");
        let mut there: Vec<_> =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        there.retain(|name| Path::new(name).extension().is_none_or(|end| end != "css"));
        there.sort();
        assert_eq!(there, TEMPLATES.map(|(name, _)| name));
    }

    #[test]
    fn markup_is_told_from_text() {
        assert!(markup(&format!("<p>Acme {MARKUP}</p>")).unwrap().starts_with("<script>heron()"));
        assert_eq!(markup("<p>Acme &#34;&#39;&#62;&#60;script&#62;heron()&#60;/script&#62;</p>"), None);
    }
}
