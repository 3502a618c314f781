use time::{Duration, macros::datetime};

use super::*;
use crate::statement::{Build, Evidence, Frame, Mode, Run, Scope, Standing, assemble};

const NOW: OffsetDateTime = datetime!(2030-01-10 12:00 UTC);
const ORIGIN: &str = "https://keys.acme.dev";

fn digest(byte: &str) -> String {
    byte.repeat(32)
}

fn ledger() -> Ledger {
    let subjects = "[subjects]\napi-routes = \"the routes\"\nredis = \"Redis\"\n";
    let edge = r#"
        [[claim]]
        ids = ["SA-05", "SA-06"]
        words = "Every route wants a credential."
        kinds = ["live"]
        against = "stranger"
        subjects = ["api-routes"]
        probe = "route-guards"

        [[claim]]
        ids = ["SA-12"]
        words = "Redis is reached over TLS."
        kinds = ["live"]
        against = "eavesdropper"
        subjects = ["redis"]

        [[claim]]
        ids = ["SA-29"]
        words = "The host is named."
        kinds = ["deploy"]
        against = "accident"
        subjects = []
    "#;
    Ledger::load(&[("claims/subjects.toml", subjects), ("claims/edge.toml", edge)]).unwrap()
}

fn blueprint(ledger: &Ledger) -> Blueprint {
    let text = r#"
        name = "social-agent"
        title = "Social agent"
        prefix = "SA"
        summary = "An agent."
        providers = ["x"]

        [[planned]]
        subject = "redis"
        words = "There is no Redis yet."

        [[attestation]]
        ids = ["SA-29"]
        by = "Acme"
        on = 2030-01-01
        until = 2030-01-15
        words = "It runs at Acme."
    "#;
    Blueprint::parse("own.toml", text, ledger).unwrap()
}

/// A statement in which the probe came to this.
fn statement(outcome: Came, sabotage_caught: Option<bool>) -> Statement {
    let evidence = Evidence {
        tried: BTreeMap::from([("api-routes".to_owned(), 40)]),
        observations: 40,
        shown: Vec::new(),
        sha256: digest("0c"),
    };
    Statement {
        statement: Statement::FORM,
        blueprint: "social-agent".to_owned(),
        scope: Scope::Whole,
        sequence: 1,
        issued_at: NOW - Duration::days(1),
        expires_at: NOW + Duration::days(6),
        audience: Some(ORIGIN.to_owned()),
        build: Build { version: "0.1.0".to_owned(), commit: None, binary_sha256: digest("aa"), sabotage_sha256: None },
        probes: vec![Probed {
            name: "route-guards".to_owned(),
            tries: "to come in without a key".to_owned(),
            mode: Mode::Rehearsal,
            at: NOW - Duration::days(1),
            sabotage_caught,
            evidence: (outcome == Came::Passed).then_some(evidence),
        }],
        claims: vec![Claimed {
            ids: vec!["SA-05".parse().unwrap(), "SA-06".parse().unwrap()],
            words: "Every route wants a credential.".to_owned(),
            against: "stranger".to_owned(),
            state: match outcome {
                Came::Passed => Standing::Kept,
                Came::Differs => Standing::Broken,
                Came::NotProven => Standing::Unproven,
            },
            probe: Some("route-guards".to_owned()),
            outcome: Some(outcome),
            missing: Vec::new(),
        }],
    }
}

fn known(statement: Statement, validity: Validity, kept_once: &[&str]) -> Known {
    let kept_once = kept_once.iter().map(|id| id.parse().unwrap()).collect();
    let failures = Failures::default().after(&statement);
    Known { statement: Arc::new(statement), validity, kept_once, failures }
}

/// How SA-05 is shown.
fn shown(known: &[Known]) -> Shown {
    let ledger = ledger();
    entries(&ledger, &blueprint(&ledger), known, NOW).remove(0).shown
}

#[test]
fn nothing_is_kept_without_a_statement_that_counts() {
    let passed = || statement(Came::Passed, Some(true));
    assert_eq!(shown(&[]), Shown::Unproven);
    let table = [
        (Validity::Current, Shown::Kept),
        (Validity::Expired, Shown::Lapsed),
        (Validity::OtherBuild, Shown::Lapsed),
        (Validity::OtherBlueprint, Shown::Unproven),
        (Validity::OtherInstallation, Shown::Unproven),
        (Validity::Untrusted, Shown::Unproven),
    ];
    for (validity, expected) in table {
        assert_eq!(shown(&[known(passed(), validity, &["SA-05"])]), expected, "{validity:?}");
    }
}

#[test]
fn what_was_kept_and_is_not_is_under_review() {
    for (came, before, expected) in [
        (Came::Differs, &[][..], Shown::Broken),
        (Came::NotProven, &[], Shown::Unproven),
        (Came::Differs, &["SA-06"], Shown::UnderReview),
        (Came::NotProven, &["SA-05"], Shown::UnderReview),
        (Came::Passed, &["SA-05"], Shown::Kept),
    ] {
        let run = known(statement(came, Some(true)), Validity::Current, before);
        assert_eq!(shown(&[run]), expected, "{came:?} {before:?}");
    }
}

#[test]
fn a_probe_that_was_not_seen_to_notice_its_sabotage_has_proven_nothing() {
    for (caught, expected) in [(Some(true), Shown::Kept), (None, Shown::Unproven), (Some(false), Shown::Unproven)] {
        assert_eq!(shown(&[known(statement(Came::Passed, caught), Validity::Current, &[])]), expected, "{caught:?}");
    }
}

#[test]
fn a_run_beside_customers_is_believed_as_far_as_the_same_program_was_seen_to_fail() {
    let part = || {
        let mut part = statement(Came::Passed, None);
        (part.scope, part.probes[0].mode) = (Scope::ProductionSafe, Mode::ProductionSafe);
        part
    };
    let with =
        |whole: Statement, validity| shown(&[known(part(), Validity::Current, &[]), known(whole, validity, &[])]);
    let other = || {
        let mut other = statement(Came::Passed, Some(true));
        other.build.binary_sha256 = digest("bb");
        other
    };
    for (validity, expected) in
        [(Validity::Current, Shown::Kept), (Validity::Expired, Shown::Kept), (Validity::Untrusted, Shown::Unproven)]
    {
        assert_eq!(with(statement(Came::Passed, Some(true)), validity), expected, "{validity:?}");
    }
    assert_eq!(with(statement(Came::Passed, Some(false)), Validity::Current), Shown::Unproven);
    assert_eq!(with(other(), Validity::OtherBuild), Shown::Unproven);
    let ledger = ledger();
    let known =
        [known(part(), Validity::Current, &[]), known(statement(Came::Passed, Some(true)), Validity::Current, &[])];
    let blueprint = blueprint(&ledger);
    let behind = entries(&ledger, &blueprint, &known, NOW).remove(0).behind.unwrap();
    assert_eq!((behind.probed.sabotage_caught, behind.sabotage_caught), (None, Some(true)));
}

#[test]
fn other_words_and_another_probe_prove_nothing() {
    let mut other = statement(Came::Passed, None);
    other.claims[0].words = "Most routes want a credential.".to_owned();
    assert_eq!(shown(&[known(other, Validity::Current, &[])]), Shown::Unproven);
    let mut other = statement(Came::Passed, None);
    other.probes[0].name = "strict-input".to_owned();
    other.claims[0].probe = Some("strict-input".to_owned());
    assert_eq!(shown(&[known(other, Validity::Current, &[])]), Shown::Unproven);
}

#[test]
fn a_newer_no_is_not_overruled_and_a_part_leaves_the_rest_to_the_whole() {
    let current = |came| known(statement(came, Some(true)), Validity::Current, &["SA-05"]);
    let expired = |came| known(statement(came, Some(true)), Validity::Expired, &["SA-05"]);
    let other = |came| known(statement(came, Some(true)), Validity::OtherBuild, &["SA-05"]);
    let mut untried = statement(Came::Passed, None);
    untried.scope = Scope::ProductionSafe;
    (untried.claims[0].outcome, untried.claims[0].state) = (None, Standing::Unproven);
    untried.claims[0].probe = None;
    let untried = || known(untried.clone(), Validity::Current, &["SA-05"]);
    assert_eq!(shown(&[current(Came::Differs), current(Came::Passed)]), Shown::UnderReview);
    assert_eq!(shown(&[expired(Came::Differs), current(Came::Passed)]), Shown::UnderReview);
    assert_eq!(shown(&[expired(Came::Passed), current(Came::Passed)]), Shown::Kept);
    // What another build came to neither hides a *no* of this one nor takes its *yes* away.
    assert_eq!(shown(&[other(Came::Passed), current(Came::Differs)]), Shown::UnderReview);
    assert_eq!(shown(&[other(Came::Differs), current(Came::Passed)]), Shown::Kept);
    assert_eq!(shown(&[other(Came::Differs)]), Shown::UnderReview);
    assert_eq!(shown(&[untried(), current(Came::Passed)]), Shown::Kept);
    assert_eq!(shown(&[untried(), expired(Came::Passed)]), Shown::Lapsed);
    assert_eq!(shown(&[untried()]), Shown::Unproven);
}

#[test]
fn a_part_does_not_overrule_the_no_of_the_whole_that_tries_more() {
    let part = |came| {
        let mut part = statement(came, Some(true));
        (part.scope, part.probes[0].mode) = (Scope::ProductionSafe, Mode::ProductionSafe);
        known(part, Validity::Current, &["SA-05"])
    };
    let whole = |came, validity| known(statement(came, Some(true)), validity, &["SA-05"]);
    for (of_part, of_whole, validity, expected) in [
        (Came::Passed, Came::Passed, Validity::Current, Shown::Kept),
        (Came::Passed, Came::Differs, Validity::Current, Shown::UnderReview),
        (Came::Passed, Came::Differs, Validity::Expired, Shown::UnderReview),
        (Came::Passed, Came::NotProven, Validity::Current, Shown::UnderReview),
        (Came::Differs, Came::Passed, Validity::Current, Shown::UnderReview),
        (Came::NotProven, Came::Passed, Validity::Current, Shown::UnderReview),
    ] {
        assert_eq!(
            shown(&[part(of_part), whole(of_whole, validity)]),
            expected,
            "{of_part:?} {of_whole:?} {validity:?}"
        );
    }
    // A newer whole run counts again, and what another program's came to is nothing to this one's part.
    let again = [part(Came::Passed), whole(Came::Passed, Validity::Current), whole(Came::Differs, Validity::Current)];
    assert_eq!(shown(&again), Shown::Kept);
    let mut other = statement(Came::Differs, Some(true));
    other.build.binary_sha256 = digest("bb");
    let apart = [part(Came::Passed), known(other, Validity::OtherBuild, &["SA-05"])];
    assert_eq!(shown(&apart), Shown::Kept);
}

/// Two claims of one probe, of which only the first can be tried wholly beside customers.
fn two_claims() -> (Ledger, Blueprint) {
    let claim = |id: &str, subjects: &str| {
        format!(
            "[[claim]]\nids = [\"{id}\"]\nwords = \"{id} holds.\"\nkinds = [\"live\"]\nagainst = \"stranger\"\n\
             subjects = [{subjects}]\nprobe = \"route-guards\"\n"
        )
    };
    let edge = claim("SA-05", "\"api-routes\"") + &claim("SA-06", "\"api-routes\", \"redis\"");
    let subjects = "[subjects]\napi-routes = \"the routes\"\nredis = \"Redis\"\n";
    let ledger = Ledger::load(&[("claims/subjects.toml", subjects), ("claims/edge.toml", &edge)]).unwrap();
    let text = "name = \"social-agent\"\ntitle = \"Social agent\"\nprefix = \"SA\"\nsummary = \"An agent.\"\n\
                providers = [\"x\"]\n";
    let blueprint = Blueprint::parse("own.toml", text, &ledger).unwrap();
    (ledger, blueprint)
}

/// A statement by a run of the probe that tried these subjects, as it is assembled.
fn assembled((ledger, blueprint): &(Ledger, Blueprint), scope: Scope, came: Came, tried: &[&str]) -> Known {
    let tried = tried.iter().map(|subject| ((*subject).to_owned(), 3)).collect();
    let evidence = Evidence { tried, observations: 3, shown: Vec::new(), sha256: digest("0c") };
    let (mode, issued_at) = match scope {
        Scope::Whole => (Mode::Rehearsal, NOW - Duration::days(1)),
        Scope::ProductionSafe => (Mode::ProductionSafe, NOW - Duration::hours(1)),
    };
    let run = Run {
        name: "route-guards".to_owned(),
        tries: "to come in without a key".to_owned(),
        mode,
        at: issued_at,
        sabotage_caught: (scope == Scope::Whole).then_some(true),
        came,
        evidence: (came == Came::Passed).then_some(evidence),
    };
    let build = Build { version: "0.1.0".to_owned(), commit: None, binary_sha256: digest("aa"), sabotage_sha256: None };
    let frame = Frame { scope, issued_at, life: Duration::days(7), audience: None, build };
    let statement = assemble(frame, ledger, blueprint, vec![run]).unwrap();
    known(statement, Validity::Current, &["SA-05", "SA-06"])
}

#[test]
fn what_a_part_could_not_try_stays_as_the_whole_run_left_it() {
    let claims = two_claims();
    let after = |scope, came, tried: &[&str]| {
        let known = [
            assembled(&claims, scope, came, tried),
            assembled(&claims, Scope::Whole, Came::Passed, &["api-routes", "redis"]),
        ];
        let entries = entries(&claims.0, &claims.1, &known, NOW);
        let of = |entry: &Entry<'_>| (entry.shown, entry.behind.map(|behind| behind.probed.mode));
        let lost = known[0].statement.remember(&known[1].kept_once, &kept(&entries)).1;
        (of(&entries[0]), of(&entries[1]), lost.len())
    };
    let (live, rehearsed) = (Some(Mode::ProductionSafe), Some(Mode::Rehearsal));
    let (kept, review) = (Shown::Kept, Shown::UnderReview);
    let part = Scope::ProductionSafe;
    assert_eq!(after(part, Came::Passed, &["api-routes"]), ((kept, live), (kept, rehearsed), 0));
    assert_eq!(after(part, Came::Passed, &["api-routes", "redis"]), ((kept, live), (kept, live), 0));
    assert_eq!(after(part, Came::Passed, &[]), ((kept, rehearsed), (kept, rehearsed), 0));
    // A difference is one for every claim of the probe. A part that could not be carried out says nothing.
    assert_eq!(after(part, Came::Differs, &[]), ((review, live), (review, live), 2));
    assert_eq!(after(part, Came::NotProven, &[]), ((kept, rehearsed), (kept, rehearsed), 0));
    // What a whole run did not try is not proven.
    assert_eq!(after(Scope::Whole, Came::Passed, &["api-routes"]), ((kept, rehearsed), (review, rehearsed), 1));
}

/// Statements of one program in the order in which they were published, as they are known at last: what each leaves open goes on to the next.
fn published(statements: impl IntoIterator<Item = Known>) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    for (one, number) in statements.into_iter().zip(1..) {
        let mut statement = Statement::clone(&one.statement);
        statement.sequence = number;
        let before = known.first().map(|newest| newest.failures.clone()).unwrap_or_default();
        let failures = before.after(&statement);
        known.insert(0, Known { statement: Arc::new(statement), failures, ..one });
    }
    known
}

#[test]
fn a_no_beside_customers_is_open_until_a_run_that_tried_it_passes() {
    let claims = two_claims();
    let (whole, part) = (Scope::Whole, Scope::ProductionSafe);
    let all: &[&str] = &["api-routes", "redis"];
    // Each run: its scope, what its probe came to, what it tried. Of these the first, which tries both, and the newest are at hand.
    let shown = |runs: &[(Scope, Came, &[&str])]| {
        let runs = [&[(whole, Came::Passed, all)], runs].concat();
        let mut known = published(runs.into_iter().map(|(scope, came, tried)| assembled(&claims, scope, came, tried)));
        let newest_whole = known.iter().position(|known| known.statement.scope == whole).unwrap();
        known = vec![known[0].clone(), known[newest_whole].clone()];
        entries(&claims.0, &claims.1, &known, NOW).iter().map(|it| (it.shown, it.failed_in)).collect::<Vec<_>>()
    };
    let (kept, review) = ((Shown::Kept, None), |number| (Shown::UnderReview, Some(number)));
    let (differs, untried) = ((part, Came::Differs, &[][..]), (part, Came::NotProven, &[][..]));
    assert_eq!(shown(&[differs]), [review(2), review(2)]);
    assert_eq!(shown(&[differs, untried]), [review(2), review(2)]);
    assert_eq!(shown(&[differs, untried, untried, differs, untried]), [review(5), review(5)]);
    // A part answers for what it tried whole, and a whole run for everything.
    assert_eq!(shown(&[differs, untried, (part, Came::Passed, &["api-routes"])]), [kept, review(2)]);
    assert_eq!(shown(&[differs, (part, Came::Passed, all), untried]), [kept, kept]);
    assert_eq!(shown(&[differs, untried, (whole, Came::Passed, all)]), [kept, kept]);
    assert_eq!(shown(&[differs, (whole, Came::Passed, all), untried]), [kept, kept]);
    // One that could not be carried out is no answer.
    assert_eq!(shown(&[differs, (whole, Came::NotProven, &[]), untried]), [review(2), review(2)]);
}

#[test]
fn an_open_no_is_of_its_own_program_and_no_review_of_what_was_never_kept() {
    let after_a_no = |program: &str, validity| {
        let mut no = statement(Came::Differs, None);
        no.scope = Scope::ProductionSafe;
        let mut silent = no.clone();
        (silent.claims[0].outcome, silent.claims[0].probe) = (None, None);
        silent.build.binary_sha256 = digest(program);
        let failures = Failures::default().after(&no);
        Known { failures, ..known(silent, validity, &["SA-05"]) }
    };
    let whole = |kept_once| known(statement(Came::Passed, Some(true)), Validity::Current, kept_once);
    assert_eq!(shown(&[after_a_no("aa", Validity::Current), whole(&["SA-05"])]), Shown::UnderReview);
    assert_eq!(shown(&[after_a_no("bb", Validity::OtherBuild), whole(&["SA-05"])]), Shown::Kept);
    // Whatever the statement is worth that takes the place of the one which said no.
    for validity in [Validity::Expired, Validity::OtherBlueprint, Validity::OtherInstallation, Validity::Untrusted] {
        assert_eq!(shown(&[after_a_no("aa", validity), whole(&["SA-05"])]), Shown::UnderReview, "{validity:?}");
    }
    // Also where the whole run is not at hand any more; and what was never kept is broken, and nothing milder.
    assert_eq!(shown(&[after_a_no("aa", Validity::Current)]), Shown::UnderReview);
    let never = Known { kept_once: BTreeSet::new(), ..after_a_no("aa", Validity::Current) };
    assert_eq!(shown(&[never, whole(&[])]), Shown::Broken);
}

#[test]
fn what_people_stand_behind_and_what_is_missing_need_no_statement() {
    let ledger = ledger();
    let blueprint = blueprint(&ledger);
    let at = |now| {
        let entries = entries(&ledger, &blueprint, &[], now);
        (entries[1].shown, entries[1].missing.len(), entries[2].shown, entries[2].attestation.is_some())
    };
    assert_eq!(at(NOW), (Shown::Planned, 1, Shown::Attested, true));
    // Past its day an attestation counts no more.
    assert_eq!(at(NOW + Duration::days(10)), (Shown::Planned, 1, Shown::Planned, false));
    let found = entries(&ledger, &blueprint, &[], NOW + Duration::days(10));
    assert!(matches!(found[2].missing[..], [Missing::ExpiredAttestation { .. }]));
    let counts = counts(&found);
    assert_eq!((counts[&Shown::Unproven], counts[&Shown::Planned], counts[&Shown::Kept]), (2, 2, 0));
}

#[test]
fn a_statement_counts_for_its_own_time_build_blueprint_and_installation() {
    let statement = statement(Came::Passed, None);
    let digest = digest("aa");
    let here = Here { blueprint: "social-agent", binary_sha256: Some(&digest), origin: ORIGIN };
    assert_eq!(Validity::of(&statement, here, NOW), Validity::Current);
    assert_eq!(Validity::of(&statement, here, NOW + Duration::days(6)), Validity::Expired);
    for other in [None, Some("ab")] {
        assert_eq!(Validity::of(&statement, Here { binary_sha256: other, ..here }, NOW), Validity::OtherBuild);
    }
    assert_eq!(Validity::of(&statement, Here { blueprint: "x", ..here }, NOW), Validity::OtherBlueprint);
    assert_eq!(
        Validity::of(&statement, Here { origin: "https://staging.acme.dev", ..here }, NOW),
        Validity::OtherInstallation
    );
    let anywhere = Statement { audience: None, ..statement };
    assert_eq!(Validity::of(&anywhere, Here { origin: "http://localhost", ..here }, NOW), Validity::Current);
}
