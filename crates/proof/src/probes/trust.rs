//! The trust page: whether it hides what is not held or overdue, what it says of the database, and how a vulnerability is reported.

use std::{collections::BTreeMap, fs};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::{
    blueprint::Blueprint,
    claim::Ledger,
    clock::Clock,
    random,
    statement::{self, Build, Came, Envelope, Frame, Mode, Run, Scope, Signature, Statement, assemble, signed_bytes},
};
use http::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    answered::{by_server, of_server},
    caller::{Caller, Reply},
    database::Session,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::{Ground, Serving},
    owner::{expect, text},
    probe::{Attack, Probe, Target},
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
    pub(super) key: Ed25519KeyPair,
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

    pub(super) async fn data(&self) -> Result<Value, Failure> {
        expect(&self.stranger.get("/trust.json").await?, 200)
    }

    pub(super) async fn publish(&self, statement: &Statement, key: &Ed25519KeyPair) -> Result<Reply, Failure> {
        post(&self.operator, &signed(statement, key)?).await
    }

    /// A statement of this moment that is taken here: its payload and its signature, as an envelope has them.
    pub(super) fn sample(&self, ground: &Ground) -> Result<(String, String), Failure> {
        let told = Told { now: now(), program: "5c".repeat(32), audience: None };
        let payload = told.statement(ground.blueprint(), &ledger()?, "a walk")?.to_bytes()?;
        let signature = self.key.sign(&signed_bytes(&payload));
        Ok((STANDARD.encode(&payload), STANDARD.encode(signature)))
    }

    pub(super) async fn close(self) -> Result<(), Failure> {
        self.server.kill().await?;
        Ok(())
    }
}

/// The claims that the program was built with.
pub(super) fn ledger() -> Result<Ledger, Failure> {
    Ledger::embedded().map_err(|faults| Failure::unproven(format!("{faults:?}")))
}

/// A statement with the signature of this key, in its envelope.
pub(super) fn signed(statement: &Statement, key: &Ed25519KeyPair) -> Result<Envelope, Failure> {
    let payload = statement.to_bytes()?;
    let signature = key.sign(&signed_bytes(&payload)).as_ref().to_vec();
    Ok(Envelope::new(payload, vec![Signature { key: String::new(), signature }])?)
}

/// Has a statement published, as far as the caller may.
pub(super) async fn post(caller: &Caller, envelope: &Envelope) -> Result<Reply, Failure> {
    Ok(caller.send(Method::POST, PUBLISH, &[JSON], envelope.to_json().into()).await?)
}

/// The present second.
pub(super) fn now() -> OffsetDateTime {
    Clock::system().now().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// What a statement tells beside its claims.
pub(super) struct Told {
    /// When it is made.
    pub(super) now: OffsetDateTime,
    /// SHA-256 of the program that it is about.
    pub(super) program: String,
    /// The installation that it is for.
    pub(super) audience: Option<String>,
}

impl Told {
    /// A statement in which each probe of the blueprint has passed and tried everything.
    pub(super) fn statement(&self, blueprint: &Blueprint, ledger: &Ledger, mark: &str) -> Result<Statement, Failure> {
        let mut tried: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for claim in ledger.of(&blueprint.prefix) {
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
        Ok(assemble(frame, ledger, blueprint, tried.into_iter().map(run).collect())?)
    }
}

async fn certificates_named(target: &Target) -> Outcome {
    let mut evidence = Evidence::new();
    let page = expect(&target.stranger.get("/trust.json").await?, 200)?;
    if text(&page, "/blueprint/name").is_empty() {
        return Err(Failure::unproven("this installation claims nothing"));
    }
    let html = target.stranger.get("/trust").await?;
    of_server("the trust page", &html)?;
    expect(&html, 200)?;
    claims_no_certificate(&page, &String::from_utf8_lossy(&html.body), &mut evidence)?;
    Ok(evidence)
}

/// Every certificate that buyers ask for is named as not held, in the data and to people, and spoken of nowhere else.
fn claims_no_certificate(page: &Value, html: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let html = without_evidence(html);
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
    Ok(())
}

/// The page without the evidence that is folded into it: there a statement quotes what probes tried, this one's words on certificates too.
fn without_evidence(html: &str) -> String {
    let mut rest = html;
    let mut kept = String::with_capacity(html.len());
    while let Some((before, (_, after))) =
        rest.split_once("<details>").and_then(|(before, from)| Some((before, from.split_once("</details>")?)))
    {
        kept.push_str(before);
        rest = after;
    }
    kept + rest
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
    by_server("security.txt", &reply)?;
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

    /// A page as it is shown once a statement is published that this probe's own evidence is in.
    fn page_with(said: &str) -> (Value, String) {
        let not_held = CERTIFICATES.join(", ");
        let words = format!("We have no {not_held}.");
        let seen = "<tr><td>SOC 2 Type II is named as not held, and nowhere claimed</td></tr>";
        let html = format!(
            "<article id=\"MW-43\"><h3>{words}</h3><details>{seen}</details></article>\
             <article id=\"MW-44\"><h3>Another.</h3><details>{seen}</details></article>\
             <p><strong>Not held</strong>, though buyers ask for them: {not_held}.</p>{said}"
        );
        (json!({ "not_held": CERTIFICATES, "claims": [{ "words": words }, { "words": "Another." }] }), html)
    }

    #[test]
    fn evidence_that_was_published_is_no_claim_to_a_certificate_and_words_beside_it_are() {
        let judged = |said: &str| {
            let (data, html) = page_with(said);
            let mut evidence = Evidence::new();
            claims_no_certificate(&data, &html, &mut evidence).map(|()| evidence.tried["certificates"])
        };
        assert_eq!(judged("").unwrap(), 3);
        for said in ["<p>We have ISO 27001.</p>", "<details><p>We have ISO 27001.</p>"] {
            assert!(matches!(judged(said), Err(Failure::Broken { .. })), "{said}");
        }
    }

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
