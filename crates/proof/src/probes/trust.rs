//! The trust page: whether it says more than was shown, hides what is not held or overdue, and tells how to report a vulnerability.

use std::{collections::BTreeMap, fs};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::{
    blueprint::{Attestation, Blueprint},
    claim::{Claim, Kind, Ledger},
    clock::Clock,
    random,
    statement::{
        self, Build, Came, Envelope, Frame, Mode, Run, Scope, Signature, Standing, Statement, assemble, signed_bytes,
    },
};
use http::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    caller::{Caller, Reply},
    database::Session,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::{Ground, Serving},
    owner::{expect, text},
    probe::{Attack, Probe, Target},
};

/// Whether the page can be made to list as kept what was not proven, or what is not there.
pub(super) const HONEST_LIST: Probe = Probe {
    name: "honest-list",
    points: &["honest-list", "statement-signatures", "statement-numbers", "statement-audience"],
    tries: "a claim on the trust page that is shown as kept and was not proven there, or that is planned",
    attack: Attack::Rehearsed(|ground| Box::pin(honest_list(ground))),
};

/// Whether the page keeps quiet of certificates that are not held, or claims one.
pub(super) const CERTIFICATES_NAMED: Probe = Probe {
    name: "certificates-named",
    points: &["certificates-named"],
    tries: "a trust page that does not name a certificate as not held, or that claims one",
    attack: Attack::Live(|target| Box::pin(certificates_named(target))),
};

/// Whether the page passes a review that is overdue off as a good one.
pub(super) const REVIEW_DATE: Probe = Probe {
    name: "review-date",
    points: &["review-date"],
    tries: "a trust page that does not say when a person last reviewed it, or not that this is overdue",
    attack: Attack::Rehearsed(|ground| Box::pin(review_date(ground))),
};

/// Whether a reporter of a vulnerability is left without a way, or without what was promised to him.
pub(super) const SECURITY_TXT: Probe = Probe {
    name: "security-txt",
    points: &["security-txt"],
    tries: "a security.txt that is not one (RFC 9116), is out of date, or does not say what the system promises to reporters",
    attack: Attack::Live(|target| Box::pin(security_txt(target))),
};

/// Whether the page shows another database than the one that its connection leads to.
pub(super) const DATABASE_VERSION: Probe = Probe {
    name: "database-version",
    points: &["database-version"],
    tries: "a trust page that shows another database's product or version than its connection tells",
    attack: Attack::Rehearsed(|ground| Box::pin(database_version(ground))),
};

const JSON: (&str, &str) = ("content-type", "application/json");
const PUBLISH: &str = "/v1/installation/trust-statements";
/// What buyers ask for.
const CERTIFICATES: [&str; 3] = ["SOC 2 Type II", "ISO 27001", "HIPAA"];

/// A server with a trust page, and what is needed to publish there.
pub(super) struct Page {
    server: Serving,
    pub(super) stranger: Caller,
    operator: Caller,
    key: Ed25519KeyPair,
}

impl Page {
    pub(super) async fn open(ground: &Ground, attestations: Option<&str>) -> Result<Self, Failure> {
        let key = Ed25519KeyPair::generate()?;
        let public = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
        let mut table = format!("{}[trust]\nkey = \"ed25519:{public}\"\n", crate::serving::ROOMY);
        if let Some(text) = attestations {
            let file = ground.folder("attestations")?.join("attestations.toml");
            fs::write(&file, text)?;
            table = format!("{table}attestations = {:?}\n", file.display().to_string());
        }
        let server = ground.serve(&ground.configuration("", &table), &[]).await?;
        let stranger = ground.stranger_at(&server.url);
        let operator =
            stranger.with_key(&ground.operator(&format!("trust-{}", hex::encode(random::bytes::<4>()))).await?);
        Ok(Self { server, stranger, operator, key })
    }

    async fn data(&self) -> Result<Value, Failure> {
        expect(&self.stranger.get("/trust.json").await?, 200)
    }

    async fn publish(&self, statement: &Statement, key: &Ed25519KeyPair) -> Result<Reply, Failure> {
        let payload = statement.to_bytes()?;
        let signature = key.sign(&signed_bytes(&payload)).as_ref().to_vec();
        let envelope = Envelope::new(payload, vec![Signature { key: String::new(), signature }])?;
        Ok(self.operator.send(Method::POST, PUBLISH, &[JSON], envelope.to_json().into()).await?)
    }

    /// A statement of this moment that is taken here: its payload and its signature, as an envelope has them.
    pub(super) fn sample(&self, ground: &Ground) -> Result<(String, String), Failure> {
        let ledger = Ledger::embedded().map_err(|faults| Failure::unproven(format!("{faults:?}")))?;
        let told = Told { now: now(), program: "5c".repeat(32), audience: None };
        let payload = told.statement(ground, &ledger, "a walk")?.to_bytes()?;
        let signature = self.key.sign(&signed_bytes(&payload));
        Ok((STANDARD.encode(&payload), STANDARD.encode(signature)))
    }

    pub(super) async fn close(self) -> Result<(), Failure> {
        self.server.kill().await?;
        Ok(())
    }
}

/// A claim of the page by its first id, with its state, from the data.
fn listed(page: &Value) -> Vec<(String, String)> {
    let claims = page.get("claims").and_then(Value::as_array).into_iter().flatten();
    claims.map(|claim| (text(claim, "/ids/0").to_owned(), text(claim, "/state").to_owned())).collect()
}

async fn honest_list(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let page = Page::open(ground, None).await?;
    let ledger = Ledger::embedded().map_err(|faults| Failure::unproven(format!("{faults:?}")))?;
    let planned = planned(ground, &ledger);
    nothing_is_kept(&listed(&page.data().await?), &planned, "before any statement")?;

    let program = text(&page.data().await?, "/serves/binary_sha256").to_owned();
    let frame = Told { now: now(), program, audience: None };
    let stranger = Ed25519KeyPair::generate()?;
    let forged = page.publish(&frame.statement(ground, &ledger, "a")?, &stranger).await?;
    if forged.status.is_success() {
        return Err(Failure::broken("a statement that nobody trusted has signed was taken", forged.json()));
    }
    let tried = "a statement with the signature of nobody who is trusted";
    evidence.tried("refused-statements", tried, forged.status.as_str(), &forged.body);
    let other = Told { program: "5b".repeat(32), now: frame.now - Duration::MINUTE, audience: None };
    expect(&page.publish(&other.statement(ground, &ledger, "b")?, &page.key).await?, 201)?;
    nothing_is_kept(&shown_after(&page, "lapsed").await?, &planned, "by a statement of another build")?;
    evidence.saw("a statement of another build", &other.program, "nothing is kept by it");

    // The allowed thing: what was proven, here and now, is listed as kept; and a claim that is planned is said to be proven.
    let mut statement = frame.statement(ground, &ledger, "c")?;
    let bold = claim_planned(&mut statement, &planned);
    let proven = proven(ground, &ledger);
    if proven.is_empty() || proven.iter().any(|id| bold.contains(id)) {
        return Err(Failure::unproven("a claim is both proven and planned, or none is proven"));
    }
    expect(&page.publish(&statement, &page.key).await?, 201)?;
    let shown = shown_after(&page, "kept").await?;
    let html = String::from_utf8_lossy(&page.stranger.get("/trust").await?.body).into_owned();
    for (id, state) in &shown {
        let (is_planned, is_proven) = (planned.contains_key(id), proven.contains(id));
        let article =
            article(&html, id).ok_or_else(|| Failure::broken(format!("{id} is not on the page"), id.as_str()))?;
        if !article.contains(&format!("class=\"state {state}\"")) {
            return Err(Failure::broken(
                format!("the page shows {id} otherwise than its data, which say {state}"),
                id.as_str(),
            ));
        }
        match state.as_str() {
            "kept" if is_planned || !is_proven => {
                return Err(Failure::broken(format!("{id} is shown as kept, and is not"), id.as_str()));
            }
            "kept" => evidence.tried("kept-claims", format!("{id} is proven, and shown as kept"), id, state),
            "planned" if is_planned => {
                let lacking = planned.get(id).map_or("", String::as_str);
                evidence.tried("planned-claims", format!("{id} is shown as planned: {lacking}"), id, state);
            }
            _ if is_planned || is_proven => {
                return Err(Failure::broken(format!("{id} is shown as {state}"), id.as_str()));
            }
            _ => evidence.saw(format!("{id} is shown as {state}"), id, state),
        }
    }
    takes_no_other(ground, &page, (&ledger, &frame), &mut evidence).await?;
    page.close().await?;
    Ok(evidence)
}

/// What was signed by the trusted key is taken once, in its order, and where it was made for.
async fn takes_no_other(
    ground: &Ground,
    page: &Page,
    (ledger, published): (&Ledger, &Told),
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let at = |seconds: i64, audience: Option<&str>| Told {
        now: published.now + Duration::seconds(seconds),
        program: published.program.clone(),
        audience: audience.map(str::to_owned),
    };
    for (what, told) in [
        ("a statement that is older than the published one", at(-30, None)),
        ("the statement that is published already", at(0, None)),
        ("a newer statement that was made for another installation", at(1, Some("https://keyholder.another.example"))),
    ] {
        let reply = page.publish(&told.statement(ground, ledger, "c")?, &page.key).await?;
        if reply.status.is_success() {
            return Err(Failure::broken(format!("{what} was taken"), reply.json()));
        }
        if !reply.status.is_client_error() {
            return Err(Failure::unproven(format!("{what} was answered {}", reply.status)));
        }
        evidence.tried("refused-statements", format!("{what}: {}", reply.status), what, &reply.body);
    }
    Ok(())
}

/// What the page lists, once a statement that was published is shown: at least one claim is in that state.
async fn shown_after(page: &Page, state: &str) -> Result<Vec<(String, String)>, Failure> {
    for _ in 0..100 {
        let shown = listed(&page.data().await?);
        if shown.iter().any(|(_, is)| is == state) {
            return Ok(shown);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(Failure::unproven(format!("no claim is shown as {state}")))
}

fn nothing_is_kept(shown: &[(String, String)], planned: &BTreeMap<String, String>, when: &str) -> Result<(), Failure> {
    if shown.is_empty() {
        return Err(Failure::unproven("the page lists no claim"));
    }
    match shown.iter().find(|(id, state)| state == "kept" || (planned.contains_key(id) && state != "planned")) {
        Some((id, state)) => Err(Failure::broken(format!("{id} is shown as {state} {when}"), id.as_str())),
        None => Ok(()),
    }
}

/// The claims of the blueprint that need something which is not there, by their first ids, with what that is. Read from the claims and
/// from the blueprint themselves, and not by the rules by which the page judges them.
fn planned(ground: &Ground, ledger: &Ledger) -> BTreeMap<String, String> {
    let blueprint = ground.blueprint();
    let claims = ledger.of(&blueprint.prefix).filter_map(|claim| {
        let mut lacking = lacking(blueprint, claim);
        if lacking.is_empty() && !claim.kinds.iter().any(|kind| is_tried(*kind)) && !is_said(blueprint, claim) {
            lacking.push("an attestation".to_owned());
        }
        let id = claim.ids_of(&blueprint.prefix).next()?;
        (!lacking.is_empty()).then(|| (id.to_string(), lacking.join(", ")))
    });
    claims.collect()
}

/// The claims that are proven where every probe has passed and tried everything, by their first ids.
fn proven(ground: &Ground, ledger: &Ledger) -> Vec<String> {
    let blueprint = ground.blueprint();
    let claims = ledger.of(&blueprint.prefix).filter(|claim| {
        let needs_word = !claim.kinds.iter().all(|kind| is_tried(*kind));
        let has_probe = claim.probe.is_some() && claim.kinds.iter().any(|kind| is_tried(*kind));
        has_probe && lacking(blueprint, claim).is_empty() && (!needs_word || is_said(blueprint, claim))
    });
    claims.filter_map(|claim| Some(claim.ids_of(&blueprint.prefix).next()?.to_string())).collect()
}

/// What a claim names and the blueprint has not built.
fn lacking(blueprint: &Blueprint, claim: &Claim) -> Vec<String> {
    claim.subjects.iter().filter(|subject| blueprint.planned.contains_key(*subject)).map(ToString::to_string).collect()
}

/// Whether a probe can try what a claim of this kind says.
fn is_tried(kind: Kind) -> bool {
    matches!(kind, Kind::Live | Kind::Build)
}

/// Whether somebody's word for a claim counts today.
fn is_said(blueprint: &Blueprint, claim: &Claim) -> bool {
    let today = now().date();
    let of_claim = |attestation: &&Attestation| claim.ids.iter().any(|id| attestation.ids.contains(id));
    blueprint.attestations.iter().filter(of_claim).any(|it| it.on <= today && today <= it.until)
}

fn now() -> OffsetDateTime {
    Clock::system().now().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// What a statement tells beside its claims.
struct Told {
    now: OffsetDateTime,
    program: String,
    audience: Option<String>,
}

impl Told {
    /// A statement in which each probe of the blueprint has passed and tried everything.
    fn statement(&self, ground: &Ground, ledger: &Ledger, mark: &str) -> Result<Statement, Failure> {
        let mut tried: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for claim in ledger.of(&ground.blueprint().prefix) {
            if let Some(probe) = &claim.probe {
                let subjects = tried.entry(probe.clone()).or_default();
                subjects.extend(claim.subjects.iter().map(|subject| (subject.to_string(), 1)));
            }
        }
        let run = |(name, tried): (String, BTreeMap<String, u64>)| Run {
            tries: format!("what a rehearsal of the trust page says of {name}"),
            name,
            mode: Mode::Rehearsal,
            at: self.now,
            sabotage_caught: Some(true),
            came: Came::Passed,
            evidence: Some(statement::Evidence {
                tried,
                observations: 1,
                shown: Vec::new(),
                sha256: sha256(mark.as_bytes()),
            }),
        };
        let build = Build {
            version: "rehearsal".to_owned(),
            commit: None,
            binary_sha256: self.program.clone(),
            sabotage_sha256: None,
        };
        let audience = self.audience.clone();
        let frame = Frame { scope: Scope::Whole, issued_at: self.now, life: Duration::HOUR, audience, build };
        Ok(assemble(frame, ledger, ground.blueprint(), tried.into_iter().map(run).collect())?)
    }
}

/// Has a statement say of planned claims that they are kept, by a probe that passed. Returns which.
fn claim_planned(statement: &mut Statement, planned: &BTreeMap<String, String>) -> Vec<String> {
    let probe = statement.probes.first().map(|probed| probed.name.clone());
    let mut bold = Vec::new();
    for claimed in &mut statement.claims {
        let Some(id) = claimed.ids.first().map(ToString::to_string) else { continue };
        if planned.contains_key(&id) {
            claimed.state = Standing::Kept;
            claimed.outcome = Some(Came::Passed);
            claimed.probe = claimed.probe.clone().or_else(|| probe.clone());
            bold.push(id);
        }
    }
    bold
}

/// The part of the page that is about a claim.
fn article<'p>(html: &'p str, id: &str) -> Option<&'p str> {
    let (_, from) = html.split_once(&format!("<article id=\"{id}\""))?;
    Some(from.split_once("</article>")?.0)
}

async fn certificates_named(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    let page = expect(&target.stranger.get("/trust.json").await?, 200)?;
    if text(&page, "/blueprint/name").is_empty() {
        return Err(Failure::unproven("this installation claims nothing"));
    }
    let html = target.stranger.get("/trust").await?;
    expect(&html, 200)?;
    let html = String::from_utf8_lossy(&html.body).into_owned();
    let named: Vec<&str> =
        page.get("not_held").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let shown =
        html.split("<strong>Not held</strong>").nth(1).and_then(|rest| rest.split("</p>").next()).unwrap_or_default();
    // What the operator says otherwise of a certificate would stand outside of that line and of the claims' own words.
    let mut others = html.replacen(shown, "", 1);
    let claims = page.get("claims").and_then(Value::as_array).into_iter().flatten();
    for words in
        claims.map(|claim| text(claim, "/words")).filter(|words| CERTIFICATES.iter().any(|name| words.contains(name)))
    {
        others = others.replace(words, "");
    }
    for name in CERTIFICATES {
        if !named.contains(&name) || !shown.contains(name) {
            let obtained = json!({ "unnamed": name, "not_held": named });
            return Err(Failure::broken(format!("{name} is not named as not held"), obtained));
        }
        if let Some(said) = others.split('<').find(|part| part.contains(name)) {
            return Err(Failure::broken(
                format!("{name} is spoken of beside what is not held"),
                said.chars().take(200).collect::<String>(),
            ));
        }
        evidence.tried("certificates", format!("{name} is named as not held, and nowhere claimed"), name, shown);
    }
    Ok(evidence)
}

async fn review_date(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let review = ground
        .blueprint()
        .review
        .clone()
        .ok_or_else(|| Failure::broken("nobody has reviewed this blueprint", ground.blueprint().name.as_str()))?;
    let shown = ground.stranger().await?;
    let (data, html) = (expect(&shown.get("/trust.json").await?, 200)?, shown.get("/trust").await?);
    let html = String::from_utf8_lossy(&html.body).into_owned();
    let told = (text(&data, "/review/by"), text(&data, "/review/on"), text(&data, "/review/due"));
    let (on, due) = (review.on.to_string(), review.due().to_string());
    let is_on_page = [told.0, told.1, told.2].iter().all(|word| !word.is_empty() && html.contains(*word));
    if told != (review.by.as_str(), on.as_str(), due.as_str()) || !is_on_page {
        return Err(Failure::broken("the page does not show when it was reviewed, and by whom", json!(told)));
    }
    let overdue = data.pointer("/review/overdue").and_then(Value::as_bool);
    if overdue != Some(review.is_overdue(now())) {
        return Err(Failure::broken("the page is wrong on whether its review is overdue", shown_review(&data)));
    }
    evidence.tried("review-dates", format!("last reviewed on {on}"), &on, shown_review(&data).to_string());

    let today = now().date();
    let days = |days| today.saturating_sub(Duration::days(days));
    for (on, every, is_overdue, what) in [
        (days(31), 30, true, "one day past its interval"),
        (days(400), 365, true, "more than a month past its interval"),
        (days(-2), 30, true, "of a day to come"),
        (days(30), 30, false, "on the last day of its interval"),
    ] {
        let own = format!("[review]\nby = \"A reviewer of the rehearsal\"\non = {on}\nevery_days = {every}\n");
        let page = Page::open(ground, Some(&own)).await?;
        let data = page.data().await?;
        let html = String::from_utf8_lossy(&page.stranger.get("/trust").await?.body).into_owned();
        page.close().await?;
        let said = data.pointer("/review/overdue").and_then(Value::as_bool);
        if said != Some(is_overdue) || html.contains("Overdue.") != is_overdue || !html.contains(&on.to_string()) {
            return Err(Failure::broken(format!("a review {what} is not shown as what it is"), shown_review(&data)));
        }
        let subject = if is_overdue { "overdue-reviews" } else { "review-dates" };
        evidence.tried(subject, format!("a review {what}"), own, shown_review(&data).to_string());
    }
    Ok(evidence)
}

fn shown_review(page: &Value) -> Value {
    page.get("review").cloned().unwrap_or_default()
}

async fn security_txt(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    let page = expect(&target.stranger.get("/trust.json").await?, 200)?;
    let blueprint = text(&page, "/blueprint/name").to_owned();
    let reply = target.stranger.get("/.well-known/security.txt").await?;
    if reply.status != 200 {
        return Err(Failure::broken("there is no security.txt", json!({ "status": reply.status.as_u16() })));
    }
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    let faults = faults(&body, reply.header("content-type"), promises(&blueprint), now());
    if let Some(fault) = faults.first() {
        return Err(Failure::broken(format!("security.txt {fault}"), body));
    }
    evidence.tried(
        "security-txt",
        format!("security.txt of {blueprint}, by RFC 9116 and by what is promised"),
        &blueprint,
        &body,
    );
    Ok(evidence)
}

/// What a system promises to reporters, each in words of which one must be there.
fn promises(blueprint: &str) -> &'static [&'static [&'static str]] {
    const WHAT: &[&str] = &["steps", "reproduce", "what an attacker"];
    const PRIVATE: &[&str] = &["private", "confidential"];
    match blueprint {
        "social-agent" | "engineering-playbook" => &[WHAT, PRIVATE, &["48 hours"]],
        "social-publisher" => &[WHAT, PRIVATE, &["safe harbour", "safe harbor"]],
        "media-workspace" => &[WHAT, PRIVATE, &["90 days"]],
        _ => &[WHAT, PRIVATE],
    }
}

/// What is wrong with a security.txt.
fn faults(body: &str, kind: &str, promised: &[&[&str]], now: OffsetDateTime) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |is: bool, words: &str| {
        if is {
            faults.push(words.to_owned());
        }
    };
    let kind = kind.to_ascii_lowercase().replace(' ', "");
    fault(kind != "text/plain;charset=utf-8", "is not sent as text/plain in UTF-8 (§3)");
    let fields: Vec<(String, &str)> = body
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            line.split_once(':')
                .map_or((String::new(), line), |(name, value)| (name.to_ascii_lowercase(), value.trim()))
        })
        .collect();
    let values = |wanted: &str| {
        fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>()
    };
    let contact = values("contact");
    let reaches = |contact: &&str| ["mailto:", "https://", "tel:"].iter().any(|scheme| contact.starts_with(scheme));
    fault(
        contact.is_empty() || !contact.iter().all(reaches),
        "names no way to report, or one that is no address (§2.5.3)",
    );
    match values("expires").as_slice() {
        [one] => match OffsetDateTime::parse(one, &Rfc3339) {
            Ok(until) => {
                fault(until <= now, "is out of date (§2.5.5)");
                fault(until > now + Duration::days(366), "is to be believed for more than a year (§2.5.5)");
            }
            Err(_) => fault(true, "has no date at Expires (§2.5.5)"),
        },
        _ => fault(true, "has not exactly one Expires (§2.5.5)"),
    }
    fault(values("preferred-languages").len() > 1, "has Preferred-Languages twice (§2.5.8)");
    fault(fields.iter().any(|(name, _)| name.is_empty()), "has a line that is no field (§4)");
    let words = body.to_ascii_lowercase();
    for choices in promised {
        fault(
            !choices.iter().any(|choice| words.contains(choice)),
            &format!("does not say `{}`", choices.first().unwrap_or(&"")),
        );
    }
    faults
}

async fn database_version(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let owner = Session::open(ground.login("owner")?).await?;
    let asked = "select split_part(version(), ' ', 1), split_part(current_setting('server_version'), ' ', 1)";
    let row = owner.client.query_one(asked, &[]).await?;
    let (product, version): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let stranger = ground.stranger().await?;
    let data = expect(&stranger.get("/trust.json").await?, 200)?;
    let html = String::from_utf8_lossy(&stranger.get("/trust").await?.body).into_owned();
    let shown = text(&data, "/serves/database");
    let wanted = format!("{product} {version}");
    if shown != wanted || !html.contains(&wanted) {
        return Err(Failure::broken(
            format!("the page shows another database than {wanted}, which the connection tells"),
            json!({ "shown": shown }),
        ));
    }
    evidence.tried("database-versions", "what the page shows is what the connection tells", wanted, shown);
    Ok(evidence)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const GOOD: &str = "# Please send the steps.\n# Please keep it private.\nContact: mailto:a@b.example\nExpires: 2030-06-01T00:00:00Z\n";

    #[test]
    fn each_fault_of_a_security_txt_is_found() {
        let now = datetime!(2030-01-01 00:00 UTC);
        let kind = "text/plain; charset=utf-8";
        let of = |body: &str| faults(body, kind, promises("chat-assistant"), now);
        assert_eq!(of(GOOD), Vec::<String>::new());
        assert_eq!(faults(GOOD, "text/html", &[], now).len(), 1);
        assert_eq!(faults(GOOD, kind, promises("social-agent"), now), ["does not say `48 hours`"]);
        for (from, to) in [
            ("Contact: mailto:a@b.example\n", ""),
            ("mailto:a@b.example", "somebody"),
            ("2030-06-01", "2029-12-31"),
            ("2030-06-01", "2031-06-01"),
            ("Expires: 2030-06-01T00:00:00Z\n", ""),
            ("private", "quiet"),
            ("steps", "news"),
            ("Contact", "whatever\nContact"),
        ] {
            assert_eq!(of(&GOOD.replace(from, to)).len(), 1, "{from} → {to}");
        }
    }
}
