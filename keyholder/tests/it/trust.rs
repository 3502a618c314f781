//! The trust page, its statements and `security.txt`: what is shown, what is refused, and what nobody can make it show.

mod browser;
mod command;
mod open;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    blueprint::{self, Blueprint},
    claim::Ledger,
    clock::Clock,
    statement::{
        Build, Came, Envelope, Evidence, Frame, Mode, Observation, Run, Scope, Standing, Statement, assemble,
        sequence_at,
    },
};
use http::Method;
use keyholder::{
    caller::{Caller, Reply},
    config::trust_of,
    program, telemetry,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use seal::signature::{SigningKey, sign};
use serde_json::{Value, json};
use service::trust::TrustOptions;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::{
    harness::{RETURN, TestApp, eventually, ok, problem, text},
    matrices::operator,
};

/// Where statements are published.
const PUBLISH: &str = "/v1/installation/trust-statements";

/// The key that the tests' servers trust.
static KEY: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);

static CLAIMS: LazyLock<(Ledger, Blueprint)> = LazyLock::new(|| {
    let blueprint = blueprint::embedded().unwrap().into_iter().find(|known| known.name == "social-agent").unwrap();
    (Ledger::embedded().unwrap(), blueprint)
});

/// What the tests' servers show, and whom they believe.
pub(crate) fn options() -> TrustOptions {
    TrustOptions { keys: vec![KEY.verifying_key()], ..trust_of(Some(CLAIMS.1.clone())) }
}

/// A number greater than all before in this run, and small.
fn next_sequence() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// The probes that decide claims of the blueprint, each with all their subjects.
fn subjects() -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut probes = BTreeMap::<String, BTreeMap<String, u64>>::new();
    for claim in CLAIMS.0.of(&CLAIMS.1.prefix) {
        let Some(probe) = &claim.probe else { continue };
        let tried = probes.entry(probe.clone()).or_default();
        tried.extend(claim.subjects.iter().map(|subject| (subject.as_str().to_owned(), 3)));
    }
    probes
}

/// A statement of a run in which every probe passed, for this server and its build; changed before it is assembled.
fn statement_of(app: &TestApp, change: impl FnOnce(&mut Frame, &mut Vec<Run>)) -> Statement {
    let now = OffsetDateTime::from_unix_timestamp(app.instance.app().clock.now().unix_timestamp()).unwrap();
    // A statement's number is the millisecond at which it was made: two of one second are told apart.
    let now = now + Duration::milliseconds(i64::try_from(next_sequence()).unwrap());
    let run = |(name, tried): (String, BTreeMap<String, u64>)| Run {
        tries: format!("to get past <{name}>"),
        name,
        mode: Mode::Rehearsal,
        at: now,
        sabotage_caught: Some(true),
        came: Came::Passed,
        evidence: Some(Evidence {
            tried,
            observations: 12,
            shown: vec![Observation {
                tried: "GET /v1/workspace as <script>alert(1)</script>".to_owned(),
                came_back: "401".to_owned(),
                sent_sha256: "0a".repeat(32),
                answer_sha256: "0b".repeat(32),
            }],
            sha256: "0c".repeat(32),
        }),
    };
    let mut runs: Vec<Run> = subjects().into_iter().map(run).collect();
    let mut frame = Frame {
        scope: Scope::Whole,
        issued_at: now,
        life: Duration::days(7),
        audience: Some(app.instance.app().public_url.origin().ascii_serialization()),
        build: Build {
            version: "0.1.0".to_owned(),
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            binary_sha256: program::sha256().unwrap(),
            sabotage_sha256: Some("5a".repeat(32)),
        },
    };
    change(&mut frame, &mut runs);
    assemble(frame, &CLAIMS.0, &CLAIMS.1, runs).unwrap()
}

/// Makes a statement as if it had been made so much later.
fn later(statement: &mut Statement, by: Duration) {
    statement.issued_at += by;
    statement.expires_at += by;
    statement.sequence = sequence_at(statement.issued_at);
}

fn statement(app: &TestApp) -> Statement {
    statement_of(app, |_, _| {})
}

fn signed(statement: &Statement, key: &SigningKey) -> Envelope {
    sign(statement.to_bytes().unwrap(), std::slice::from_ref(key)).unwrap()
}

/// A statement and its signature as the route table's sample has them.
pub(crate) fn sample(app: &TestApp) -> (String, String) {
    // One that says little: a sample is also sent by those who are refused before their body is read.
    let mut statement = statement(app);
    (statement.claims, statement.probes) = (Vec::new(), Vec::new());
    let envelope = signed(&statement, &KEY);
    (STANDARD.encode(envelope.payload()), STANDARD.encode(&envelope.signatures()[0].signature))
}

async fn post(caller: &Caller, bytes: Vec<u8>) -> Reply {
    caller.send(Method::POST, PUBLISH, &[("content-type", "application/json")], bytes.into()).await.unwrap()
}

async fn publish(person: &Caller, statement: &Statement) -> Value {
    ok(post(person, signed(statement, &KEY).to_json()).await, 201)
}

async fn page(caller: &Caller) -> Value {
    ok(caller.get("/trust.json").await.unwrap(), 200)
}

fn count(page: &Value, state: &str) -> u64 {
    page["counts"][state].as_u64().unwrap()
}

fn claim<'p>(page: &'p Value, id: &str) -> &'p Value {
    let claims = page["claims"].as_array().unwrap();
    claims.iter().find(|claim| claim["ids"].as_array().unwrap().contains(&json!(id))).unwrap()
}

/// An id whose claim is kept in a statement, and its probe.
fn some_kept(statement: &Statement) -> (String, String) {
    let claimed = statement.claims.iter().find(|claimed| claimed.state == Standing::Kept).unwrap();
    (claimed.ids[0].to_string(), claimed.probe.clone().unwrap())
}

async fn stored(owner: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from keyholder.trust_statements").fetch_one(owner).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_statement_nothing_is_claimed_kept() {
    let app = TestApp::start().await;
    let shown = page(&app.stranger).await;
    assert_eq!((count(&shown, "kept"), count(&shown, "lapsed")), (0, 0));
    assert!(count(&shown, "planned") > 5 && count(&shown, "unproven") > 5, "{}", shown["counts"]);
    assert_eq!((&shown["statement"], &shown["whole_statement"]), (&Value::Null, &Value::Null));
    assert!(shown["warnings"][0].as_str().unwrap().starts_with("No statement has been published"));
    assert_eq!(problem(&app.stranger.get("/trust/statement.json").await.unwrap()).0, 404);
    // What needs no proof is shown all the same: what is planned says what is missing, and what is not held is named.
    let planned = shown["claims"].as_array().unwrap().iter().find(|claim| claim["state"] == "planned").unwrap();
    assert!(planned["missing"][0].as_str().unwrap().len() > 5);
    assert_eq!(shown["not_held"], json!(CLAIMS.1.not_held));
    let review = CLAIMS.1.review.as_ref().unwrap();
    assert_eq!((text(&shown, "/review/by"), &shown["review"]["overdue"]), (review.by.as_str(), &json!(false)));
    assert_eq!(text(&shown, "/serves/binary_sha256"), program::sha256().unwrap());
    assert!(text(&shown, "/serves/database").starts_with("PostgreSQL 1"), "{}", shown["serves"]);
    let html = app.stranger.get("/trust").await.unwrap();
    assert_eq!((html.status.as_u16(), html.header("content-type")), (200, "text/html; charset=utf-8"));
    let html = String::from_utf8(html.body.to_vec()).unwrap();
    assert!(html.contains("No statement has been published") && html.contains("SOC 2 Type II"));
    assert!(!html.contains(">Kept<"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_statement_is_shown_with_its_evidence_and_byte_for_byte() {
    let app = TestApp::start().await;
    let person = operator(&app).await;
    let statement = statement(&app);
    let envelope = signed(&statement, &KEY).to_json();
    let answered = ok(post(&person, envelope.clone()).await, 201);
    assert_eq!(answered["sequence"], statement.sequence);
    assert_eq!((&answered["is_of_this_build"], &answered["kept_no_longer"]), (&json!(true), &json!([])));

    let shown = page(&app.stranger).await;
    let kept = statement.ids(Standing::Kept).len() as u64;
    assert!(kept > 5);
    assert_eq!((count(&shown, "kept"), count(&shown, "unproven")), (kept, 0));
    assert_eq!(shown["warnings"], json!([]));
    assert_eq!(text(&shown, "/statement/validity"), "current");
    let (id, probe) = some_kept(&statement);
    let proof = &claim(&shown, &id)["proof"];
    assert_eq!((text(proof, "/probe"), text(proof, "/mode")), (probe.as_str(), "rehearsal"));
    assert_eq!((&proof["sabotage_caught"], &proof["evidence"]["observations"]), (&json!(true), &json!(12)));
    assert_eq!(text(proof, "/binary_sha256"), program::sha256().unwrap());

    let raw = app.stranger.get("/trust/statement.json").await.unwrap();
    assert_eq!((raw.status.as_u16(), &raw.body[..]), (200, &envelope[..]));
    assert_eq!(app.stranger.get("/trust/statement.json?scope=whole").await.unwrap().body, raw.body);
    assert_eq!(problem(&app.stranger.get("/trust/statement.json?scope=x").await.unwrap()).0, 422);

    // The page is under its policy, runs nothing, and shows what strangers' words say as words.
    let reply = app.stranger.get("/trust").await.unwrap();
    let policy = reply.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'self';") && !policy.contains("script"), "{policy}");
    let html = String::from_utf8(reply.body.to_vec()).unwrap();
    for part in ["<details>", ">Kept<", "&#60;script&#62;", &format!("id=\"{id}\""), &"0c".repeat(32)] {
        assert!(html.contains(part), "{part} is missing");
    }
    for part in ["<script", "javascript:", "style=", "=\"http", "onclick"] {
        let at = html.find(part);
        assert!(at.is_none(), "{part}: {}", at.map(|at| &html[at.saturating_sub(80)..]).unwrap_or_default());
    }

    // Another node shows it, and one that trusts another key shows nothing of it.
    let second = app.second_node().await;
    let there = Caller::new(second.url(), None);
    eventually("the other node shows it", async || page(&there).await["statement"]["sequence"] == statement.sequence)
        .await;
    let stranger =
        app.second_node_with(|options| options.trust.keys = vec![SigningKey::generate().verifying_key()]).await;
    let there = page(&Caller::new(stranger.url(), None)).await;
    assert_eq!((text(&there, "/statement/validity"), count(&there, "kept")), ("untrusted", 0));
    second.stop().await;
    stranger.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_statement_for_this_server_is_refused_by_name_and_leaves_nothing() {
    let app = TestApp::start().await;
    let person = operator(&app).await;
    let first = statement(&app);
    publish(&person, &first).await;
    let mut owner = app.owner().await;
    let before = stored(&mut owner).await;

    let refused = |kind: &str| (422, kind.to_owned());
    let foreign = signed(&statement(&app), &SigningKey::generate()).to_json();
    let good = signed(&statement(&app), &KEY);
    let moved = Envelope::new(statement(&app).to_bytes().unwrap(), good.signatures().to_vec()).unwrap().to_json();
    let changed = |change: fn(&mut Statement)| {
        let mut statement = statement(&app);
        change(&mut statement);
        signed(&statement, &KEY).to_json()
    };
    let mut kept = serde_json::to_value(statement(&app)).unwrap();
    kept["claims"][0]["state"] = json!("kept");
    kept["claims"][0]["outcome"] = json!(null);
    let unproven = sign(kept.to_string().into_bytes(), std::slice::from_ref(&*KEY)).unwrap().to_json();
    let mut numbered = serde_json::to_value(statement(&app)).unwrap();
    numbered["sequence"] = json!(i64::MAX);
    let numbered = sign(numbered.to_string().into_bytes(), std::slice::from_ref(&*KEY)).unwrap().to_json();
    let table = [
        ("signed by another", foreign, refused("statement-refused"), "trust.key"),
        ("under another's signature", moved, refused("statement-refused"), "trust.key"),
        (
            "of another blueprint",
            changed(|it| it.blueprint = "chat-assistant".to_owned()),
            refused("statement-refused"),
            "blueprint",
        ),
        (
            "for another installation",
            changed(|it| it.audience = Some("https://keys.acme.dev".to_owned())),
            refused("statement-refused"),
            "installation",
        ),
        ("expired", changed(|it| later(it, Duration::days(-20))), refused("statement-refused"), "expired"),
        ("from the future", changed(|it| later(it, Duration::hours(1))), refused("statement-refused"), "future"),
        ("that keeps what it did not prove", unproven, refused("statement-refused"), "not proven"),
        ("without an envelope", first.to_bytes().unwrap(), refused("statement-refused"), "envelope"),
        ("that is no JSON", b"{".to_vec(), (400, "invalid-json".to_owned()), ""),
        (
            "that says something twice",
            b"{\"payload\":\"\",\"payload\":\"\"}".to_vec(),
            (400, "invalid-json".to_owned()),
            "",
        ),
        ("that is too large", vec![b' '; 257 * 1024], (413, "body-too-large".to_owned()), ""),
        ("again", signed(&first, &KEY).to_json(), (409, "statement-replayed".to_owned()), "newer"),
        (
            "of an older number",
            changed(|it| later(it, Duration::minutes(-5))),
            (409, "statement-replayed".to_owned()),
            "newer",
        ),
        ("whose number is no moment's", numbered, refused("statement-refused"), "millisecond"),
    ];
    for (what, bytes, expected, word) in table {
        let reply = post(&person, bytes).await;
        assert_eq!(problem(&reply), expected, "a statement {what}");
        let detail = text(&reply.json(), "/detail").to_owned();
        assert!(detail.contains(word), "a statement {what}: {detail}");
        assert_eq!(stored(&mut owner).await, before, "a statement {what} was kept");
    }
    assert_eq!(problem(&post(&person, Vec::new()).await).0, 400);
    assert_eq!(page(&app.stranger).await["statement"]["sequence"], first.sequence);

    // Where nobody is trusted, or nothing is claimed, nothing is taken.
    for change in [(|options| options.trust.keys.clear()) as fn(&mut keyholder::InstanceOptions), |options| {
        options.trust.claims = None;
    }] {
        let node = app.second_node_with(change).await;
        let there = Caller::new(node.url(), None).with_key(person.key().unwrap());
        let reply = post(&there, signed(&statement(&app), &KEY).to_json()).await;
        assert_eq!(problem(&reply), refused("statement-refused"));
        node.stop().await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_stale_or_of_another_build_keeps_nothing_and_says_so() {
    let clock = Clock::wrong();
    let hand = clock.clone();
    let app = TestApp::start_with(|options| options.clock = clock).await;
    let person = operator(&app).await;
    publish(&person, &statement_of(&app, |frame, _| frame.life = Duration::hours(1))).await;
    let shown = page(&app.stranger).await;
    let kept = count(&shown, "kept");
    assert!(kept > 5 && text(&shown, "/statement/validity") == "current");

    hand.set_wrong_by(2 * 3600);
    let shown = page(&app.stranger).await;
    assert_eq!((count(&shown, "kept"), count(&shown, "lapsed")), (0, kept));
    assert_eq!(text(&shown, "/statement/validity"), "expired");
    assert!(shown["warnings"][0].as_str().unwrap().contains("expired on"), "{}", shown["warnings"]);
    let html = app.stranger.get("/trust").await.unwrap();
    let html = String::from_utf8_lossy(&html.body);
    assert!(html.contains("class=\"warning\"") && html.contains(">Lapsed<") && !html.contains(">Kept<"));
    hand.set_wrong_by(0);

    let other = statement_of(&app, |frame, _| frame.build.binary_sha256 = "de".repeat(32));
    let answered = publish(&person, &other).await;
    assert_eq!(answered["is_of_this_build"], json!(false));
    let shown = page(&app.stranger).await;
    assert_eq!(text(&shown, "/statement/validity"), "other-build");
    assert!(shown["warnings"][0].as_str().unwrap().contains("another build"), "{}", shown["warnings"]);
    // By it nothing is kept here; what this build's own says stands until the switch, and a third build has neither.
    assert_eq!((count(&shown, "kept"), count(&shown, "lapsed")), (kept, 0));
    let origin = app.instance.app().public_url.clone();
    let third = app
        .second_node_with(|options| {
            options.public_url = Some(origin);
            options.trust.program = || Some("ab".repeat(32));
        })
        .await;
    let there = page(&Caller::new(third.url(), None)).await;
    assert_eq!((count(&there, "kept"), count(&there, "lapsed")), (0, kept));
    third.stop().await;

    // Past its day a review is overdue, and an attestation does not count.
    hand.set_wrong_by(400 * 86_400);
    let shown = page(&app.stranger).await;
    assert_eq!(shown["review"]["overdue"], json!(true));
    let html = app.stranger.get("/trust").await.unwrap();
    assert!(String::from_utf8_lossy(&html.body).contains("<strong>Overdue.</strong>"));
    hand.set_wrong_by(0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_claim_that_breaks_is_under_review_and_its_operator_hears_of_it() {
    let lines = crate::logs::log().capture(1_000_000);
    let recorder = telemetry::metrics().unwrap();
    let app = TestApp::start_with(|options| options.render_metrics = Arc::new(move || recorder.render())).await;
    let person = operator(&app).await;
    let good = statement(&app);
    let (id, probe) = some_kept(&good);
    publish(&person, &good).await;
    let breaks = |came: Came| {
        statement_of(&app, |_, runs| {
            let run = runs.iter_mut().find(|run| run.name == probe).unwrap();
            (run.came, run.evidence) = (came, None);
        })
    };
    let broken = breaks(Came::Differs);
    let answered = publish(&person, &broken).await;
    let lost: Vec<_> = answered["kept_no_longer"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(lost.contains(&id.as_str()), "{lost:?}");
    let shown = page(&app.stranger).await;
    assert_eq!(text(claim(&shown, &id), "/state"), "under_review");
    assert_eq!(count(&shown, "under_review"), lost.len() as u64);
    // What the probe got hold of is nobody's to read.
    assert_eq!(claim(&shown, &id)["proof"]["evidence"], Value::Null);

    let told = |sequence: u64| {
        let number = format!("\"sequence\":{sequence}");
        let is = |line: &Arc<str>| line.contains("claims that were kept are not any more") && line.contains(&number);
        lines
            .lines()
            .iter()
            .filter(|line| is(line))
            .map(|line| (line.contains("\"ERROR\"") || line.contains("\"error\""), line.contains(&id)))
            .collect::<Vec<_>>()
    };
    assert_eq!((told(good.sequence), told(broken.sequence)), (vec![], vec![(true, true)]));
    let metrics = Caller::new(app.instance.metrics_url(), None);
    let wanted = format!("keyholder_trust_claims{{state=\"under_review\"}} {}", lost.len());
    eventually("it is measured", async || {
        let said = metrics.get("/metrics").await.unwrap();
        let said = String::from_utf8_lossy(&said.body).into_owned();
        said.contains(&wanted) && said.contains("keyholder_trust_statement_age_seconds")
    })
    .await;

    // It stays under review until it is kept again, however it fails.
    publish(&person, &breaks(Came::NotProven)).await;
    assert_eq!(text(claim(&page(&app.stranger).await, &id), "/state"), "under_review");
    let mended = statement(&app);
    assert_eq!(publish(&person, &mended).await["kept_no_longer"], json!([]));
    assert_eq!(text(claim(&page(&app.stranger).await, &id), "/state"), "kept");
    // A claim that was never kept and does not hold is not kept, and no review hides it.
    let mut owner = app.owner().await;
    sqlx::query("delete from keyholder.trust_statements").execute(&mut owner).await.unwrap();
    publish(&person, &breaks(Came::Differs)).await;
    assert_eq!(text(claim(&page(&app.stranger).await, &id), "/state"), "broken");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_run_leaves_what_it_did_not_try_to_the_whole_one() {
    let app = TestApp::start().await;
    let person = operator(&app).await;
    let whole = statement(&app);
    publish(&person, &whole).await;
    let (id, probe) = some_kept(&whole);
    let part = statement_of(&app, |frame, runs| {
        (frame.scope, frame.life) = (Scope::ProductionSafe, Duration::hours(2));
        runs.retain(|run| run.name == probe);
        // Beside customers no control is switched off: the whole run of the same program speaks for the probe.
        (runs[0].mode, runs[0].sabotage_caught) = (Mode::ProductionSafe, None);
    });
    assert_eq!(publish(&person, &part).await["kept_no_longer"], json!([]));
    let shown = page(&app.stranger).await;
    assert_eq!(count(&shown, "kept"), whole.ids(Standing::Kept).len() as u64);
    let proof = &claim(&shown, &id)["proof"];
    assert_eq!((&proof["statement"], &proof["sabotage_caught"]), (&json!(part.sequence), &json!(true)));
    assert_eq!(shown["whole_statement"]["sequence"], whole.sequence);
    let raw = app.stranger.get("/trust/statement.json?scope=whole").await.unwrap();
    assert_eq!(raw.body, signed(&whole, &KEY).to_json());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_the_database_makes_the_page_say_that_something_is_kept() {
    let app = TestApp::start().await;
    let person = operator(&app).await;
    publish(&person, &statement(&app)).await;
    assert!(count(&page(&app.stranger).await, "kept") > 5);
    // Whoever writes the database as its owner puts another's statement in its place, or anything.
    let mut owner = app.owner().await;
    let forged = signed(&statement(&app), &SigningKey::generate()).to_json();
    let after = sequence_at(app.instance.app().clock.now() + Duration::minutes(1));
    for (bytes, sequence) in [(forged, after), (b"nonsense".to_vec(), after + 1)] {
        let changed = "update keyholder.trust_statements set envelope = $1, sequence = $2";
        sqlx::query(changed).bind(&bytes).bind(i64::try_from(sequence).unwrap()).execute(&mut owner).await.unwrap();
        eventually("it is looked at", async || {
            let shown = page(&app.stranger).await;
            count(&shown, "kept") == 0 && shown["statement"]["validity"] != "current"
        })
        .await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_takes_no_older_statement_and_changes_none() {
    let app = TestApp::start().await;
    let person = operator(&app).await;
    let first = statement(&app);
    publish(&person, &first).await;
    let mut sql = app.login("app").await;
    for statement in
        ["update trust_statements set kept = '{}'", "delete from trust_statements", "truncate trust_statements"]
    {
        let refused = sqlx::query(statement).execute(&mut sql).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{refused}");
    }
    // Without a context of the installation there is nothing to be seen.
    assert_eq!(sqlx::query("select 1 from trust_statements").fetch_all(&mut sql).await.unwrap().len(), 0);
    let mut owner = app.owner().await;
    let insert = "insert into keyholder.trust_statements (sequence, blueprint, scope, issued_at, expires_at, binary_sha256, envelope, kept, published_by) \
         values ($1, 'x', 'whole', now(), now() + interval '1 day', 'x', 'x', '{}', 'x')";
    let same = i64::try_from(first.sequence).unwrap();
    let unraised = sqlx::query(insert).bind(same + 1_000_000).execute(&mut owner).await.unwrap_err();
    assert_eq!(unraised.as_database_error().unwrap().code().as_deref(), Some("KH001"));
    for (sequence, code) in [(same, Some("KH006")), (same - 1, Some("KH006")), (i64::MAX - 200, None)] {
        let raise = "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'installation'";
        sqlx::query("begin").execute(&mut owner).await.unwrap();
        sqlx::query(raise).execute(&mut owner).await.unwrap();
        let put = sqlx::query(insert).bind(sequence.max(1)).execute(&mut owner).await;
        let found = put.err().and_then(|error| error.as_database_error()?.code().map(Cow::into_owned));
        assert_eq!(found.as_deref(), code, "{sequence}");
        sqlx::query("rollback").execute(&mut owner).await.unwrap();
    }
    // The newest hundred stay, and the newest of a whole run beside them.
    sqlx::query("begin").execute(&mut owner).await.unwrap();
    let raise = "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'installation'";
    sqlx::query(raise).execute(&mut owner).await.unwrap();
    let partial = insert.replace("'whole'", "'production-safe'");
    for more in 1..=150 {
        sqlx::query(sqlx::AssertSqlSafe(partial.clone())).bind(same + more).execute(&mut owner).await.unwrap();
    }
    let left: Vec<i64> = sqlx::query_scalar("select sequence from keyholder.trust_statements order by 1")
        .fetch_all(&mut owner)
        .await
        .unwrap();
    assert_eq!((left.len(), left[0], left[1]), (101, same, same + 51));
    sqlx::query("rollback").execute(&mut owner).await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reports_a_vulnerability_is_told_how_and_where_nobody_said_nothing_is_made_up() {
    let app = TestApp::start().await;
    let reply = app.stranger.get("/.well-known/security.txt").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "text/plain; charset=utf-8"));
    let said = String::from_utf8(reply.body.to_vec()).unwrap();
    let security = CLAIMS.1.security.as_ref().unwrap();
    for words in &security.words {
        assert!(said.contains(&format!("# {words}\n")), "{said}");
    }
    assert!(said.contains(&format!("Contact: {}\n", security.contact[0])), "{said}");
    assert!(said.contains(&format!("Expires: {}T23:59:59Z\n", security.expires)), "{said}");
    let silent = app.second_node_with(|options| options.trust.security = None).await;
    let there = Caller::new(silent.url(), None);
    assert_eq!(problem(&there.get("/.well-known/security.txt").await.unwrap()).0, 404);
    let html = there.get("/trust").await.unwrap();
    assert!(!String::from_utf8_lossy(&html.body).contains("href=\"/.well-known/security.txt\""));
    silent.stop().await;
    app.stop().await;
}

#[tokio::test]
async fn what_a_probe_does_in_its_own_workspace_is_marked_and_no_alarm() {
    // All of this server's work is on this thread: its recorder hears everything of this server, and nothing of another test's.
    let recorder = PrometheusBuilder::new().build_recorder();
    let measured = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let refused = || {
        let page = measured.render();
        let line =
            page.lines().find_map(|line| line.strip_prefix("keyholder_acts_total{outcome=\"outside_mandate\"} "));
        line.map_or(0, |number| number.parse::<u64>().unwrap())
    };
    let mut app = TestApp::start().await;
    let trail = ok(app.admin.get("/v1/audit").await.unwrap(), 200);
    assert!(trail["data"].as_array().unwrap().iter().all(|entry| entry["probe"] == json!(false)), "{trail}");
    let overreach = async |app: &TestApp| {
        let entrusted = app.entrust(&["profile.read"], json!([])).await;
        assert_eq!(entrusted.act("post.create", &json!({ "text": "one" }), Some("one")).await.status, 403);
    };
    overreach(&app).await;
    assert_eq!(refused(), 1, "a refusal in a customer's workspace is counted");

    let inner = app.instance.app();
    let host = domain::principal::Principal::operator("local", inner.clock.now());
    let workspace = service::workspace::create_for_probes(inner, &host, "Probes").await.unwrap();
    let (_, key) =
        service::workspace::issue_key(inner, &host, workspace, "probe", service::Role::Admin, None).await.unwrap();
    app.admin = app.stranger.with_key(&key);
    ok(app.admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);
    overreach(&app).await;
    assert_eq!(refused(), 1, "a refusal that a probe brought about is no alarm");
    let trail = ok(app.admin.get("/v1/audit").await.unwrap(), 200);
    let entries = trail["data"].as_array().unwrap();
    assert!(entries.len() > 4 && entries.iter().all(|entry| entry["probe"] == json!(true)), "{trail}");
    app.stop().await;
}
