//! The list of the trust page: whether it can be made to show as kept what was not proven, or what is not there.
//!
//! Whoever serves the page does not sign, and tells nobody whose signature counts: beside customers a statement's own words are compared
//! with the page, and its signature is for readers who have the public key from elsewhere.

use std::collections::BTreeMap;

use aws_lc_rs::signature::Ed25519KeyPair;
use domain::{
    blueprint::{Attestation, Blueprint},
    claim::{Claim, ClaimId, Kind, Ledger},
    statement::{Came, Envelope, Standing, Statement},
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::trust::{Page, Told, ledger, now, post, signed};
use crate::{
    answered::{by_server, of_server},
    caller::Caller,
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe, Target},
};

/// Whether the page can be made to list as kept what was not proven, or what is not there.
pub(super) const HONEST_LIST: Probe = Probe {
    name: "honest-list",
    points: &["honest-list", "statement-signatures", "statement-numbers", "statement-audience"],
    tries: "a claim on the trust page that is shown as kept and was not proven there, or that is planned",
    attack: Attack::Both {
        live: |target| Box::pin(honest_list(target)),
        rehearsed: |ground| Box::pin(takes_true_statements(ground)),
    },
};

/// Longer than a node shows what it holds before it asks the database for a newer statement.
const BETWEEN_READINGS: std::time::Duration = std::time::Duration::from_secs(4);

/// A claim of the page by its first id, with its state, from the data.
fn listed(page: &Value) -> Vec<(String, String)> {
    let claims = page.get("claims").and_then(Value::as_array).into_iter().flatten();
    claims.map(|claim| (text(claim, "/ids/0").to_owned(), text(claim, "/state").to_owned())).collect()
}

async fn honest_list(target: &Target) -> Outcome {
    // The page and its statements are several answers: what is published between two of them makes them differ for that once.
    let mut evidence = match as_stated(&target.stranger, &target.blueprint).await {
        Err(Failure::Broken { .. }) => {
            tokio::time::sleep(BETWEEN_READINGS).await;
            as_stated(&target.stranger, &target.blueprint).await?
        }
        compared => compared?,
    };
    lets_nobody_publish(&target.stranger, &target.blueprint, &mut evidence).await?;
    Ok(evidence)
}

/// The page, compared with the statements that are served beside it and with what the blueprint lacks.
async fn as_stated(stranger: &Caller, blueprint: &Blueprint) -> Outcome {
    let mut evidence = Evidence::new();
    let (page, html) = (stranger.get("/trust.json").await?, stranger.get("/trust").await?);
    for reply in [&page, &html] {
        of_server("the trust page", reply)?;
        expect(reply, 200)?;
    }
    let (page, stated) = (page.json(), Stated::read(stranger).await?);
    shows_what_was_stated((&page, &String::from_utf8_lossy(&html.body)), &stated, &mut evidence)?;
    states_nothing_planned(&page, &stated, &mut evidence)?;
    shows_what_is_lacking(&page, (blueprint, &ledger()?), &mut evidence)?;
    Ok(evidence)
}

/// The statements that a server gives to whoever wants to verify them.
struct Stated(Vec<Statement>);

impl Stated {
    async fn read(stranger: &Caller) -> Result<Self, Failure> {
        let mut stated = Vec::new();
        for address in ["/trust/statement.json", "/trust/statement.json?scope=whole"] {
            let reply = stranger.get(address).await?;
            // None was published yet, or none of a whole run.
            if reply.status == 404 {
                continue;
            }
            expect(&reply, 200)?;
            stated.push(Statement::parse(Envelope::parse(&reply.body)?.payload())?);
        }
        Ok(Self(stated))
    }

    fn numbered(&self, sequence: u64) -> Option<&Statement> {
        self.0.iter().find(|statement| statement.sequence == sequence)
    }
}

/// The page shows nothing as kept but what a statement proves that anybody can read, of this program, this installation and this hour; and
/// to people what it says in its data.
fn shows_what_was_stated(
    (page, html): (&Value, &str),
    stated: &Stated,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    for claim in page.get("claims").and_then(Value::as_array).into_iter().flatten() {
        let (id, state) = (text(claim, "/ids/0"), text(claim, "/state"));
        let article = article(html, id).ok_or_else(|| Failure::broken(format!("{id} is not on the page"), id))?;
        if !article.contains(&format!("class=\"state {state}\"")) {
            let difference = format!("the page shows {id} otherwise than its data, which say {state}");
            return Err(Failure::broken(difference, id));
        }
        if state != "kept" {
            continue;
        }
        let run = claim.pointer("/proof/statement").and_then(Value::as_u64);
        let is_seen_to_fail = claim.pointer("/proof/sabotage_caught") == Some(&Value::Bool(true));
        let Some(sequence) = run.filter(|_| is_seen_to_fail) else {
            return Err(Failure::broken(format!("{id} is shown as kept, and no run of a probe is behind it"), id));
        };
        match stated.numbered(sequence) {
            None => evidence.saw(format!("{id} is kept by an older statement, {sequence}"), id, state),
            Some(statement) if proves(statement, claim, page)? => {
                let tried = format!("{id} is shown as kept, and the statement {sequence} proves it");
                evidence.tried("kept-claims", tried, id, state);
            }
            Some(_) => {
                let difference = format!("{id} is shown as kept, which the statement {sequence} does not prove here");
                return Err(Failure::broken(difference, json!({ "id": id, "statement": sequence })));
            }
        }
    }
    Ok(())
}

/// No statement that is in force here says of a claim that it is kept, or that somebody stands behind it, where the page shows it as planned:
/// who reads the statement by itself would believe it. Where somebody's word has run out since, it was true when it was signed.
fn states_nothing_planned(page: &Value, stated: &Stated, evidence: &mut Evidence) -> Result<(), Failure> {
    let list = |name: &str| page.get(name).and_then(Value::as_array).into_iter().flatten();
    let in_force = |statement: &&Statement| {
        ["/statement", "/whole_statement"].iter().filter_map(|at| page.pointer(at)).any(|shown| {
            shown.get("sequence").and_then(Value::as_u64) == Some(statement.sequence)
                && text(shown, "/validity") == "current"
        })
    };
    for statement in stated.0.iter().filter(in_force) {
        for claim in list("claims").filter(|claim| text(claim, "/state") == "planned") {
            let id = claim.pointer("/ids/0").cloned().unwrap_or_default();
            let claimed = text(claim, "/ids/0").parse().ok().and_then(|id: ClaimId| statement.claimed(&id));
            let has_word = list("attestations")
                .any(|word| word.get("ids").and_then(Value::as_array).is_some_and(|ids| ids.contains(&id)));
            match claimed.map(|claimed| claimed.state) {
                Some(state @ (Standing::Kept | Standing::Attested)) if !has_word => {
                    let (number, state) = (statement.sequence, state.as_str());
                    let difference = format!("{id} is shown as planned, and the statement {number} says {state}");
                    return Err(Failure::broken(difference, json!({ "id": id, "statement": number })));
                }
                Some(Standing::Kept | Standing::Attested) => {}
                _ => evidence.saw(format!("{id} is planned, and the statement says no more"), id.to_string(), ""),
            }
        }
    }
    Ok(())
}

/// Whether a statement says of a claim of the page that its probe passed, and counts where the page is shown.
fn proves(statement: &Statement, claim: &Value, page: &Value) -> Result<bool, Failure> {
    let id: ClaimId =
        text(claim, "/ids/0").parse().map_err(|_| Failure::unproven("the page lists what is no claim"))?;
    let shown_at = OffsetDateTime::parse(text(page, "/at"), &Rfc3339)?;
    let is_of_here = statement.blueprint == text(page, "/blueprint/name")
        && statement.build.binary_sha256 == text(page, "/serves/binary_sha256")
        && statement.audience.as_deref().is_none_or(|origin| origin == text(page, "/installation"))
        && statement.expires_at > shown_at;
    let passed = statement.claimed(&id).is_some_and(|claimed| {
        claimed.outcome == Some(Came::Passed)
            && claimed.words == text(claim, "/words")
            && claimed.probe.as_deref() == Some(text(claim, "/proof/probe"))
    });
    Ok(is_of_here && passed)
}

/// What the blueprint has not built is shown as planned. A claim in other words is another program's, of which nothing is known here.
fn shows_what_is_lacking(
    page: &Value,
    (blueprint, ledger): (&Blueprint, &Ledger),
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    for claim in ledger.of(&blueprint.prefix) {
        let lacking = lacking(blueprint, claim).join(", ");
        let shown = page.get("claims").and_then(Value::as_array).into_iter().flatten();
        let shown = shown.filter(|shown| text(shown, "/words") == claim.words);
        for shown in shown.filter(|_| !lacking.is_empty()) {
            let (id, state) = (text(shown, "/ids/0"), text(shown, "/state"));
            if state != "planned" {
                let obtained = json!({ "id": id, "state": state, "lacking": lacking });
                return Err(Failure::broken(format!("{id} is shown as {state}, and lacks {lacking}"), obtained));
            }
            evidence.tried("planned-claims", format!("{id} is shown as planned: {lacking}"), id, state);
        }
    }
    Ok(())
}

/// Whoever is no person of the operator's publishes nothing. He shows no credential: a wrong one would count against his network. So he is
/// refused before his statement is read: which statements do not count is not tried by this.
async fn lets_nobody_publish(stranger: &Caller, blueprint: &Blueprint, evidence: &mut Evidence) -> Result<(), Failure> {
    let told = Told { now: now(), program: "5c".repeat(32), audience: None };
    let mut statement = told.statement(blueprint, &ledger()?, "nobody's")?;
    (statement.claims, statement.probes) = (Vec::new(), Vec::new());
    let reply = post(stranger, &signed(&statement, &Ed25519KeyPair::generate()?)?).await?;
    of_server("a statement of a stranger's", &reply)?;
    if reply.status.is_success() {
        return Err(Failure::broken("a statement of nobody who is trusted was taken from a stranger", reply.json()));
    }
    by_server("a stranger's statement", &reply)?;
    evidence.saw(format!("a statement from a stranger: {}", reply.status), "", &reply.body);
    Ok(())
}

async fn takes_true_statements(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let page = Page::open(ground, None).await?;
    let (ledger, blueprint) = (ledger()?, ground.blueprint());
    let planned = planned(blueprint, &ledger);
    nothing_is_kept(&listed(&page.data().await?), &planned, "before any statement")?;

    let program = text(&page.data().await?, "/serves/binary_sha256").to_owned();
    let frame = Told { now: now(), program, audience: None };
    let stranger = Ed25519KeyPair::generate()?;
    let forged = page.publish(&frame.statement(blueprint, &ledger, "a")?, &stranger).await?;
    if forged.status.is_success() {
        return Err(Failure::broken("a statement that nobody trusted has signed was taken", forged.json()));
    }
    let tried = "a statement with the signature of nobody who is trusted";
    evidence.tried("refused-statements", tried, forged.status.as_str(), &forged.body);
    let other = Told { program: "5b".repeat(32), now: frame.now - Duration::MINUTE, audience: None };
    expect(&page.publish(&other.statement(blueprint, &ledger, "b")?, &page.key).await?, 201)?;
    nothing_is_kept(&shown_after(&page, "lapsed").await?, &planned, "by a statement of another build")?;
    evidence.saw("a statement of another build", &other.program, "nothing is kept by it");

    // The allowed thing: what was proven, here and now, is listed as kept; and a claim that is planned is said to be proven.
    let mut statement = frame.statement(blueprint, &ledger, "c")?;
    let bold = claim_planned(&mut statement, &planned);
    let proven = proven(blueprint, &ledger);
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
    takes_no_other(&page, (blueprint, &ledger, &frame), &mut evidence).await?;
    page.close().await?;
    Ok(evidence)
}

/// What was signed by the trusted key is taken once, in its order, and where it was made for.
async fn takes_no_other(
    page: &Page,
    (blueprint, ledger, published): (&Blueprint, &Ledger, &Told),
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
        let reply = page.publish(&told.statement(blueprint, ledger, "c")?, &page.key).await?;
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
fn planned(blueprint: &Blueprint, ledger: &Ledger) -> BTreeMap<String, String> {
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
fn proven(blueprint: &Blueprint, ledger: &Ledger) -> Vec<String> {
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
    let counts = |it: &Attestation| it.on <= today && today <= it.until && !it.is_of_another_build();
    blueprint.attestations.iter().filter(of_claim).any(counts)
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

#[cfg(test)]
mod tests {
    use domain::blueprint;

    use super::*;

    #[test]
    fn a_statement_in_force_says_nothing_that_the_page_shows_as_planned() {
        let blueprints = blueprint::embedded().unwrap();
        let blueprint = blueprints.iter().find(|known| known.name == "media-workspace").unwrap();
        let told = Told { now: now(), program: "5c".repeat(32), audience: None };
        let statement = |drop: bool| {
            let mut blueprint = blueprint.clone();
            if drop {
                blueprint.drop_examples();
            }
            told.statement(&blueprint, &ledger().unwrap(), "a test's").unwrap()
        };
        let judged = |statement: Statement, validity: &str, words: Value| {
            let page = json!({
                "statement": { "sequence": statement.sequence, "validity": validity },
                "whole_statement": null,
                "attestations": words,
                "claims": [{ "ids": ["MW-43"], "state": "planned" }, { "ids": ["MW-42"], "state": "planned" }],
            });
            states_nothing_planned(&page, &Stated(vec![statement]), &mut Evidence::new())
        };
        let found = judged(statement(false), "current", json!([]));
        assert!(matches!(found, Err(Failure::Broken { .. })), "{found:?}");
        let one = json!([{ "ids": ["MW-43"], "expired": true }]);
        assert!(
            matches!(judged(statement(false), "current", one), Err(Failure::Broken { .. })),
            "MW-42 is said as well"
        );
        let both = json!([{ "ids": ["MW-43"], "expired": true }, { "ids": ["MW-42"], "expired": true }]);
        for (statement, validity, words) in [
            (statement(false), "current", both),
            (statement(false), "other-build", json!([])),
            (statement(true), "current", json!([])),
        ] {
            judged(statement, validity, words).unwrap();
        }
    }
}
