use time::macros::datetime;

use super::*;
use crate::{blueprint::Blueprint, claim::Ledger};

fn digest(byte: &str) -> String {
    byte.repeat(32)
}

fn statement() -> Statement {
    let evidence = Evidence {
        tried: BTreeMap::from([("api-routes".to_owned(), 40)]),
        observations: 41,
        shown: vec![Observation {
            tried: "GET /v1/workspace without a key".to_owned(),
            came_back: "401".to_owned(),
            sent_sha256: digest("0a"),
            answer_sha256: digest("0b"),
        }],
        sha256: digest("0c"),
    };
    let claimed = |id: &str, state, probe: Option<&str>| Claimed {
        outcome: probe.map(|_| Came::Passed),
        ids: vec![id.parse().unwrap()],
        words: "Every route wants a credential.".to_owned(),
        against: "stranger".to_owned(),
        state,
        probe: probe.map(str::to_owned),
        missing: Vec::new(),
    };
    Statement {
        statement: FORM,
        blueprint: "social-agent".to_owned(),
        scope: Scope::Whole,
        sequence: sequence_at(datetime!(2030-01-01 0:00 UTC)),
        issued_at: datetime!(2030-01-01 0:00 UTC),
        expires_at: datetime!(2030-01-08 0:00 UTC),
        audience: Some("https://keys.example.com".to_owned()),
        build: Build {
            version: "0.1.0".to_owned(),
            commit: Some("0123abc".to_owned()),
            binary_sha256: digest("aa"),
            sabotage_sha256: None,
        },
        probes: vec![Probed {
            name: "route-guards".to_owned(),
            tries: "to come in without a key".to_owned(),
            mode: Mode::ProductionSafe,
            at: datetime!(2030-01-01 0:00 UTC),
            sabotage_caught: Some(true),
            evidence: Some(evidence),
        }],
        claims: vec![claimed("SA-05", Standing::Kept, Some("route-guards")), claimed("SA-29", Standing::Planned, None)],
    }
}

fn signature() -> Signature {
    Signature { key: "00".to_owned(), signature: vec![7; 64] }
}

#[test]
fn a_statement_is_read_as_it_was_written() {
    let statement = statement();
    let bytes = statement.to_bytes().unwrap();
    assert_eq!(Statement::parse(&bytes).unwrap(), statement);
    assert_eq!(statement.ids(Standing::Kept).iter().map(ClaimId::as_str).collect::<Vec<_>>(), ["SA-05"]);
    assert!(statement.claimed(&"SA-29".parse().unwrap()).is_some_and(|claimed| claimed.state == Standing::Planned));
}

#[test]
fn what_does_not_fit_together_is_no_statement() {
    type Change = fn(&mut Statement);
    let table: [(&str, Change); 17] = [
        ("another form", |it| it.statement = 2),
        ("no number", |it| it.sequence = 0),
        ("a number that no database holds", |it| it.sequence = u64::MAX),
        ("a number of another moment", |it| it.sequence += 1),
        ("a life that is over", |it| it.expires_at = it.issued_at),
        ("a life of years", |it| it.expires_at = it.issued_at + Duration::days(91)),
        ("a name with a space", |it| it.blueprint = "social agent".to_owned()),
        ("a digest that is none", |it| it.build.binary_sha256 = "AA".repeat(32)),
        ("a commit that is none", |it| it.build.commit = Some("main".to_owned())),
        ("a probe twice", |it| it.probes.push(it.probes[0].clone())),
        ("an id twice", |it| it.claims.push(it.claims[0].clone())),
        ("a claim without an id", |it| it.claims[0].ids.clear()),
        ("a probe that nobody ran", |it| it.claims[0].probe = Some("others".to_owned())),
        ("kept without evidence", |it| it.probes[0].evidence = None),
        ("kept without proof", |it| it.claims[0].outcome = None),
        ("kept by a probe that nobody saw fail", |it| it.probes[0].sabotage_caught = None),
        ("more than is shown", |it| {
            let evidence = it.probes[0].evidence.as_mut().unwrap();
            evidence.shown = vec![evidence.shown[0].clone(); SHOWN_MAX + 1];
        }),
    ];
    for (what, change) in table {
        let mut changed = statement();
        change(&mut changed);
        assert!(matches!(changed.to_bytes(), Err(StatementError::Wrong(_))), "{what} is written");
        let bytes = serde_json::to_vec(&changed).unwrap();
        assert!(matches!(Statement::parse(&bytes), Err(StatementError::Wrong(_))), "{what} is read");
    }
    let mut unknown = serde_json::to_value(statement()).unwrap();
    unknown["extra"] = json!(1);
    assert!(matches!(Statement::parse(unknown.to_string().as_bytes()), Err(StatementError::Form(_))));
    let twice = br#"{"statement":1,"statement":1}"#;
    assert!(matches!(Statement::parse(twice), Err(StatementError::Json(_))));
}

#[test]
fn an_envelope_is_read_as_it_was_written_and_bounded() {
    let envelope = Envelope::new(statement().to_bytes().unwrap(), vec![signature()]).unwrap();
    assert_eq!(Envelope::parse(&envelope.to_json()).unwrap(), envelope);
    assert_eq!(Envelope::new(vec![0; PAYLOAD_BYTES_MAX + 1], vec![signature()]), Err(EnvelopeError::TooLarge));
    assert_eq!(Envelope::new(Vec::new(), Vec::new()), Err(EnvelopeError::Form));
    assert_eq!(Envelope::new(Vec::new(), vec![signature(); SIGNATURES_MAX + 1]), Err(EnvelopeError::Form));
    assert_eq!(Envelope::parse(&vec![b' '; ENVELOPE_BYTES_MAX + 1]), Err(EnvelopeError::TooLarge));
    // The largest statement still fits into an envelope with all its signatures.
    let largest = Envelope::new(vec![0; PAYLOAD_BYTES_MAX], vec![signature(); SIGNATURES_MAX]).unwrap();
    assert!(largest.to_json().len() <= ENVELOPE_BYTES_MAX);
    for (text, error) in [
        (r#"{"payloadType":"text/plain","payload":"","signatures":[{"sig":""}]}"#, EnvelopeError::Type),
        (r#"{"payload":"","signatures":[]}"#, EnvelopeError::Form),
        (r#"{"payloadType":"x","payload":"","signatures":[],"more":1}"#, EnvelopeError::Form),
    ] {
        assert_eq!(Envelope::parse(text.as_bytes()), Err(error), "{text}");
    }
    assert!(matches!(Envelope::parse(br#"{"payload":"a","payload":"b"}"#), Err(EnvelopeError::Json(_))));
}

#[test]
fn what_is_signed_says_its_kind_and_its_length() {
    let kind = "application/vnd.keyholder.trust-statement+json";
    assert_eq!(signed_bytes(b"{}"), format!("DSSEv1 {} {kind} 2 {{}}", kind.len()).into_bytes());
}

#[test]
fn what_was_kept_is_remembered_until_it_is_given_up() {
    let ids = |ids: &[&str]| ids.iter().map(|id| id.parse::<ClaimId>().unwrap()).collect::<BTreeSet<_>>();
    // The scope; how SA-05 stands and whether it was tried; what is remembered of it, and whether it is lost. It was kept before.
    let whole = Scope::Whole;
    let part = Scope::ProductionSafe;
    let table = [
        (whole, Standing::Kept, Some(Came::Passed), true, false),
        (whole, Standing::Broken, Some(Came::Differs), true, true),
        (whole, Standing::Unproven, Some(Came::NotProven), true, true),
        (whole, Standing::Unproven, None, true, true),
        (whole, Standing::Planned, None, false, true),
        (whole, Standing::Attested, None, false, true),
        (part, Standing::Broken, Some(Came::Differs), true, true),
        (part, Standing::Unproven, Some(Came::NotProven), true, true),
        (part, Standing::Unproven, None, true, false),
        (part, Standing::Planned, None, false, true),
    ];
    for (scope, state, outcome, remembered, lost) in table {
        let mut statement = statement();
        statement.scope = scope;
        (statement.claims[0].state, statement.claims[0].outcome) = (state, outcome);
        let (kept, gone) = statement.remember(&ids(&["SA-05"]), &ids(&[]));
        let what = format!("{scope:?} {state:?} {outcome:?}");
        assert_eq!((kept.contains(&"SA-05".parse().unwrap()), !gone.is_empty()), (remembered, lost), "{what}");
    }
    // What a whole run does not name any more is given up; a part of one says nothing of it. What is kept anew is remembered.
    for (scope, remembered, lost) in [(whole, &["SA-05"][..], &["SA-99"][..]), (part, &["SA-05", "SA-99"], &[])] {
        let mut statement = statement();
        statement.scope = scope;
        assert_eq!(statement.remember(&ids(&["SA-99"]), &ids(&[])), (ids(remembered), ids(lost)));
    }
    // What the page shows as kept is remembered, whatever the statement alone says of it: the operator attests what it lacks.
    let mut statement = statement();
    (statement.claims[0].state, statement.claims[0].outcome) = (Standing::Planned, Some(Came::Passed));
    for before in [&[][..], &["SA-05"]] {
        assert_eq!(statement.remember(&ids(before), &ids(&["SA-05"])), (ids(&["SA-05"]), ids(&[])));
    }
}

#[test]
fn a_later_statement_has_a_greater_number() {
    let now = datetime!(2030-01-01 0:00 UTC);
    assert_eq!(sequence_at(now), 1_893_456_000_000);
    assert!(sequence_at(now + Duration::milliseconds(1)) > sequence_at(now));
}

/// A run of a probe that passed, having tried this many of each subject.
fn run(name: &str, tried: &[(&str, u64)]) -> Run {
    let seen = Observation {
        tried: "x".repeat(TEXT_MAX + 9),
        came_back: "\0y".repeat(TEXT_MAX),
        sent_sha256: digest("0a"),
        answer_sha256: digest("0b"),
    };
    Run {
        name: name.to_owned(),
        tries: "to come in without a key".to_owned(),
        mode: Mode::Rehearsal,
        at: datetime!(2030-01-01 0:00 UTC),
        sabotage_caught: Some(true),
        came: Came::Passed,
        evidence: Some(Evidence {
            tried: tried.iter().map(|(subject, times)| ((*subject).to_owned(), *times)).collect(),
            observations: 9,
            shown: vec![seen; SHOWN_MAX + 2],
            sha256: digest("0c"),
        }),
    }
}

fn frame() -> Frame {
    let Statement { scope, issued_at, audience, build, .. } = statement();
    Frame { scope, issued_at, life: Duration::days(7), audience, build }
}

fn ledger_of(claims: usize) -> (Ledger, Blueprint) {
    let subjects = "[subjects]\nredis = \"Redis\"\nroutes = \"the routes\"\npages = \"the pages\"\n";
    let mut edge = String::new();
    for number in 10..10 + claims {
        let more = format!(
            "[[claim]]\nids = [\"SA-{number}\"]\nwords = \"Number {number} is so.\"\nkinds = [\"live\"]\nagainst = \"stranger\"\n\
             subjects = [\"routes\", \"pages\"]\nprobe = \"probe-{number}\"\n"
        );
        edge.push_str(&more);
    }
    edge.push_str(
        "[[claim]]\nids = [\"SA-99\"]\nwords = \"Redis.\"\nkinds = [\"live\"]\nagainst = \"stranger\"\nsubjects = [\"redis\"]\n",
    );
    let ledger = Ledger::load(&[("claims/subjects.toml", subjects), ("claims/edge.toml", &edge)]).unwrap();
    let own = "name = \"social-agent\"\ntitle = \"A\"\nprefix = \"SA\"\nsummary = \"An agent.\"\nproviders = [\"x\"]\n\
         [[planned]]\nsubject = \"redis\"\nwords = \"There is none.\"\n";
    let blueprint = Blueprint::parse("own.toml", own, &ledger).unwrap();
    (ledger, blueprint)
}

#[test]
fn a_statement_is_assembled_from_what_the_probes_came_to() {
    let (ledger, blueprint) = ledger_of(5);
    let both = [("routes", 4), ("pages", 1)];
    let mut differs = run("probe-11", &both);
    differs.came = Came::Differs;
    let mut asleep = run("probe-13", &both);
    asleep.sabotage_caught = Some(false);
    let mut unseen = run("probe-14", &both);
    unseen.sabotage_caught = None;
    let runs = vec![run("probe-10", &both), differs, run("probe-12", &[("routes", 4), ("pages", 0)]), asleep, unseen];
    let made = assemble(frame(), &ledger, &blueprint, runs).unwrap();
    let states: Vec<_> = made.claims.iter().map(|claimed| (claimed.state, claimed.outcome)).collect();
    assert_eq!(
        states,
        [
            (Standing::Kept, Some(Came::Passed)),
            (Standing::Broken, Some(Came::Differs)),
            // A subject that nobody tried, and a sabotage that nobody noticed, prove nothing.
            (Standing::Unproven, Some(Came::NotProven)),
            (Standing::Unproven, Some(Came::NotProven)),
            // One that was not switched off passed, and that alone keeps nothing.
            (Standing::Unproven, Some(Came::Passed)),
            (Standing::Planned, None),
        ]
    );
    assert_eq!((made.sequence, made.expires_at), (sequence_at(made.issued_at), made.issued_at + Duration::days(7)));
    assert_eq!(made.claims[5].missing, ["There is none."]);
    // What a probe that found something got hold of is nobody else's business.
    assert!(made.probed("probe-11").unwrap().evidence.is_none());
    let shown = &made.probed("probe-10").unwrap().evidence.as_ref().unwrap().shown;
    assert_eq!((shown.len(), shown[0].tried.len(), shown[0].came_back.len()), (SHOWN_MAX, TEXT_MAX, TEXT_MAX));
    assert_eq!(Statement::parse(&made.to_bytes().unwrap()).unwrap(), made);
}

#[test]
fn a_statement_of_many_probes_shows_less_of_each_and_keeps_their_digests() {
    let (ledger, blueprint) = ledger_of(80);
    let runs = (10..90).map(|number| run(&format!("probe-{number}"), &[("routes", 1), ("pages", 1)])).collect();
    let made = assemble(frame(), &ledger, &blueprint, runs).unwrap();
    assert!(made.to_bytes().unwrap().len() <= PAYLOAD_BYTES_MAX);
    assert_eq!(made.ids(Standing::Kept).len(), 80);
    let shown = made.probes.iter().map(|probed| probed.evidence.as_ref().unwrap());
    assert!(shown.clone().all(|evidence| evidence.shown.len() < SHOWN_MAX && evidence.observations == 9));
}
