//! The shipped blueprints with the shipped claims, every fault of a blueprint by its line, and what a claim is in one.

use time::macros::{date, datetime};

use super::*;
use crate::{claim::Claim, provider::Catalogue};

fn both() -> (Ledger, Vec<Blueprint>) {
    (Ledger::embedded().unwrap(), embedded().unwrap_or_else(|faults| panic!("{faults:#?}")))
}

#[test]
fn the_shipped_blueprints_have_no_fault_and_know_their_providers() {
    let (_, blueprints) = both();
    assert_eq!(blueprints.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), shipped_names().collect::<Vec<_>>());
    let catalogue = Catalogue::embedded().unwrap();
    for blueprint in &blueprints {
        for provider in &blueprint.providers {
            assert!(catalogue.get(provider).is_some_and(|it| !it.template), "{}: {provider}", blueprint.name);
        }
        assert!(blueprint.review.is_some() && blueprint.security.is_some() && !blueprint.not_held.is_empty());
    }
    let unknown = shipped("social-agency").unwrap_err().to_string();
    assert!(unknown.contains("social-agency") && unknown.contains("social-agent, media-workspace"), "{unknown}");
}

#[test]
fn a_claim_has_a_probe_or_its_blueprint_lacks_what_it_names() {
    let (ledger, blueprints) = both();
    let mut neither = Vec::new();
    for blueprint in &blueprints {
        let probed = ledger.of(&blueprint.prefix).filter(|claim| claim.is_probed() && claim.probe.is_none());
        neither.extend(
            probed
                .filter(|claim| claim.subjects.iter().all(|subject| !blueprint.planned.contains_key(subject)))
                .map(|claim| format!("{}: {:?}", blueprint.name, claim.ids)),
        );
    }
    assert_eq!(neither, Vec::<String>::new());
}

#[test]
fn what_is_not_built_is_lacking_in_every_blueprint_that_names_it() {
    let (ledger, blueprints) = both();
    let lacking: BTreeSet<&Subject> = blueprints.iter().flat_map(|blueprint| blueprint.planned.keys()).collect();
    for blueprint in &blueprints {
        let named: BTreeSet<&Subject> = ledger.of(&blueprint.prefix).flat_map(|claim| &claim.subjects).collect();
        let forgotten: Vec<_> =
            named.intersection(&lacking).filter(|subject| !blueprint.planned.contains_key(**subject)).collect();
        assert_eq!(forgotten, Vec::<&&Subject>::new(), "{} counts as built there", blueprint.name);
    }
}

#[test]
fn nobody_but_the_maintainers_is_said_to_stand_behind_an_example() {
    let (_, blueprints) = both();
    for blueprint in &blueprints {
        let people = blueprint.attestations.iter().map(|it| &it.by).chain(blueprint.review.as_ref().map(|it| &it.by));
        people.for_each(|by| assert_eq!(by, "Keyholder maintainers", "{}", blueprint.name));
        for contact in &blueprint.security.as_ref().unwrap().contact {
            assert!(contact.contains("example.com"), "{contact}");
        }
    }
}

#[test]
fn an_id_whose_prefix_has_no_blueprint_is_a_fault_at_its_place() {
    let ledger = Ledger::embedded().unwrap();
    let without = shipped_names().filter(|name| *name != "chat-assistant").map(|name| shipped(name).unwrap());
    let faults = load(&ledger, without).unwrap_err();
    assert!(faults.iter().all(|fault| fault.message.starts_with("CA-") && fault.line > 1), "{faults:#?}");
    let twice = [shipped("social-agent").unwrap(), shipped("social-agent").unwrap()];
    assert!(load(&ledger, twice).unwrap_err()[0].message.contains("has the same name or prefix"));
}

const GOOD: &str = r#"name = "mine"
title = "Mine"
prefix = "MW"
summary = "A system of one's own."
providers = ["x"]
not_held = ["ISO 27001"]
[settings]
credential_form = "fernet"
[[planned]]
subject = "redis"
words = "Redis."
[[attestation]]
ids = ["MW-43"]
by = "Ops"
on = 2026-01-01
until = 2026-12-31
words = "None is held."
[review]
by = "Ops"
on = 2026-01-01
every_days = 90
[security]
contact = ["mailto:security@example.com"]
expires = 2026-12-31
languages = ["en"]
"#;

#[test]
fn every_fault_of_a_blueprint_is_told_by_its_line_and_all_at_once() {
    let ledger = Ledger::embedded().unwrap();
    let mine = Blueprint::parse("mine.toml", GOOD, &ledger).unwrap();
    assert_eq!(mine.settings["credential_form"], "fernet");
    for (from, to, told) in [
        ("\"mine\"", "\"My own\"", "1:1: name: must be 1 to 32 of a-z and 0-9"),
        ("\"MW\"", "\"ZZ\"", "3:1: prefix: there is no claim whose id begins with ZZ"),
        ("\"MW\"", "\"mw\"", "3:1: prefix: must be two capitals"),
        ("providers = [\"x\"]", "", "1:1: `providers` is missing"),
        ("[settings]", "[setings]", "7:2: setings: unknown field; known here: name, title, prefix"),
        ("\"redis\"", "\"reddis\"", "10:1: planned.subject: \"reddis\" is not a subject"),
        ("words = \"Redis.\"", "word = \"Redis.\"", "11:1: planned.word: unknown field"),
        ("\"MW-43\"", "\"MW-99\"", "13:8: attestation.ids: there is no claim MW-99"),
        ("\"MW-43\"", "\"SA-14\"", "13:8: attestation.ids: SA-14 is a claim of another system"),
        ("\"MW-43\"", "\"MW-19\"", "13:8: attestation.ids: MW-19 is live and build: that is for a probe to say"),
        ("\"MW-43\"", "\"MW-22\"", "13:1: attestation.ids: a claim is attested whole: MW-28 is missing"),
        ("until = 2026-12-31", "until = 2025-12-31", "16:1: attestation.until: must be from the day `on`"),
        ("until = 2026-12-31", "until = 2029-12-31", "16:1: attestation.until: must be from the day `on`"),
        ("until = 2026-12-31", "until = \"2026-12-31\"", "16:1: attestation.until: must be a date such as 2026-01-31"),
        ("every_days = 90", "every_days = 0", "21:1: review.every_days: must be from 1 to 3650"),
        ("mailto:security@example.com", "security@example.com", "23:12: security.contact: must be an address"),
        ("expires = 2026-12-31", "", "22:2: security: `expires` is missing"),
        ("[\"en\"]", "[\"English please\"]", "25:14: security.languages: \"English please\" is not a language tag"),
    ] {
        let faults = Blueprint::parse("mine.toml", &GOOD.replacen(from, to, 1), &ledger).unwrap_err();
        let told_now: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let wanted = format!("mine.toml:{told}");
        assert!(told_now.iter().any(|fault| fault.starts_with(&wanted)), "{from} -> {to}: {told_now:#?}");
    }
    let several =
        GOOD.replace("\"MW\"", "\"mw\"").replace("redis", "reddis").replace("every_days = 90", "every_days = 0");
    assert_eq!(Blueprint::parse("mine.toml", &several, &ledger).unwrap_err().len(), 3);
}

/// A claim of the shipped ones, in a blueprint that lacks nothing and attests MW-43 for the year 2026.
fn claim_and_blueprint(id: &str) -> (Claim, Blueprint) {
    let ledger = Ledger::embedded().unwrap();
    let claim = ledger.claim(&id.parse().unwrap()).unwrap().clone();
    (claim, Blueprint::parse("mine.toml", GOOD, &ledger).unwrap())
}

const JUNE: OffsetDateTime = datetime!(2026-06-01 00:00 UTC);
const NEXT_YEAR: OffsetDateTime = datetime!(2027-01-01 00:00 UTC);

#[test]
fn what_a_blueprint_lacks_is_planned_whatever_a_probe_says() {
    let (claim, mut blueprint) = claim_and_blueprint("MW-19");
    assert_eq!(state_before_proof(&claim, &blueprint, JUNE).after(Outcome::Passed).as_str(), "kept");
    blueprint.planned.insert("pages".parse().unwrap(), "Pages.".to_owned());
    for outcome in [Outcome::Passed, Outcome::Differs, Outcome::NotProven] {
        let State::Planned { missing } = state_before_proof(&claim, &blueprint, JUNE).after(outcome) else { panic!() };
        assert_eq!(missing, [Missing::Subject { subject: "pages".parse().unwrap(), words: "Pages.".to_owned() }]);
    }
}

#[test]
fn a_probe_decides_where_nothing_lacks() {
    let (claim, blueprint) = claim_and_blueprint("MW-19");
    let state = |outcome| state_before_proof(&claim, &blueprint, JUNE).after(outcome);
    assert_eq!(state(Outcome::Passed), State::Kept { attestation: None });
    assert_eq!(state(Outcome::Differs), State::Broken);
    assert_eq!(state(Outcome::NotProven), State::Unproven);
}

#[test]
fn what_needs_a_word_beside_its_proof_is_kept_while_that_word_counts() {
    let (claim, blueprint) = claim_and_blueprint("MW-43");
    let state = |now, outcome| state_before_proof(&claim, &blueprint, now).after(outcome);
    let State::Kept { attestation: Some(attestation) } = state(JUNE, Outcome::Passed) else { panic!() };
    assert_eq!((attestation.by.as_str(), attestation.until), ("Ops", date!(2026 - 12 - 31)));
    assert_eq!(state(JUNE, Outcome::Differs), State::Broken);
    assert_eq!(state(JUNE, Outcome::NotProven), State::Unproven, "the word is beside the proof and not in its place");
    let expired = Missing::ExpiredAttestation { by: "Ops".to_owned(), until: date!(2026 - 12 - 31) };
    assert_eq!(state(NEXT_YEAR, Outcome::Passed), State::Planned { missing: vec![expired] });
    let before = datetime!(2025-12-31 23:59 UTC);
    assert_eq!(state(before, Outcome::Passed), State::Planned { missing: vec![Missing::Attestation] });
}

#[test]
fn what_no_probe_can_say_is_attested_or_planned() {
    let (claim, mut blueprint) = claim_and_blueprint("MW-02");
    let lacking = State::Planned { missing: vec![Missing::Attestation] };
    assert_eq!(state_before_proof(&claim, &blueprint, JUNE).after(Outcome::NotProven), lacking);
    let ledger = Ledger::embedded().unwrap();
    let own = "[[attestation]]\nids = [\"MW-02\"]\nby = \"Ops\"\non = 2026-01-01\nuntil = 2026-12-31\nwords = \"LUKS.\"\n\
               [review]\nby = \"Sec\"\non = 2026-05-01\nevery_days = 30\n";
    blueprint.attest("own.toml", own, &ledger).unwrap();
    assert_eq!(state_before_proof(&claim, &blueprint, JUNE).after(Outcome::NotProven).as_str(), "attested");
    assert_eq!(blueprint.review.as_ref().unwrap().by, "Sec");
    let faults = blueprint.attest("own.toml", &own.replace("MW-02", "MW-19"), &ledger).unwrap_err();
    assert!(faults[0].to_string().starts_with("own.toml:2:8: attestation.ids: MW-19"), "{faults:?}");
    assert_eq!(
        blueprint.attestations.len(),
        1,
        "the operator's are in the place of the blueprint's, and of faults nothing"
    );
}

#[test]
fn the_words_of_a_shipped_blueprint_are_examples_and_those_of_ones_own_are_not() {
    let shipped =
        embedded().unwrap().into_iter().find(|it| it.review.is_some() && !it.attestations.is_empty()).unwrap();
    let (file, text) = shipped.source();
    let mut own = Blueprint::parse(file, &format!("{text}\n"), &Ledger::embedded().unwrap()).unwrap();
    let mut dropped = shipped.clone();
    dropped.drop_examples();
    assert!(shipped.is_shipped() && dropped.attestations.is_empty() && dropped.review.is_none());
    own.drop_examples();
    assert!(!own.is_shipped() && own.attestations == shipped.attestations && own.review == shipped.review);
}

#[test]
fn a_word_stands_for_a_probe_only_where_the_claim_says_so_and_never_against_one() {
    let (claim, mut blueprint) = claim_and_blueprint("MW-01");
    let state = |blueprint: &Blueprint, outcome| state_before_proof(&claim, blueprint, JUNE).after(outcome);
    assert_eq!(state(&blueprint, Outcome::NotProven), State::Unproven);
    let own = "[[attestation]]\nids = [\"MW-01\"]\nby = \"Ops\"\non = 2026-01-01\nuntil = 2026-12-31\nwords = \"At the proxy.\"\n";
    blueprint.attest("own.toml", own, &Ledger::embedded().unwrap()).unwrap();
    assert_eq!(state(&blueprint, Outcome::NotProven).as_str(), "attested");
    assert_eq!(state(&blueprint, Outcome::Passed), State::Kept { attestation: None });
    assert_eq!(state(&blueprint, Outcome::Differs), State::Broken);
}

/// A changed lock file makes of what somebody looked at something that is no longer there.
#[test]
fn who_looked_at_other_crates_than_this_builds_stands_behind_nothing_and_it_says_so() {
    let (claim, mut blueprint) = claim_and_blueprint("MW-43");
    let ledger = Ledger::embedded().unwrap();
    let own = |lock: &str| {
        format!(
            "[[attestation]]\nids = [\"MW-43\"]\nby = \"Ops\"\non = 2026-01-01\nuntil = 2026-12-31\nwords = \"Looked up.\"\n\
             audit = {{ lock_sha256 = \"{lock}\", database = \"RustSec at 0123abc\" }}\n"
        )
    };
    let mut state = |lock: &str, now| {
        blueprint.attest("own.toml", &own(lock), &ledger).unwrap();
        state_before_proof(&claim, &blueprint, now).after(Outcome::Passed)
    };
    let State::Kept { attestation: Some(attestation) } = state(lock_sha256(), JUNE) else { panic!() };
    assert_eq!(attestation.audit.as_ref().map(|audit| audit.database.as_str()), Some("RustSec at 0123abc"));
    let other = "0".repeat(64);
    let elsewhere = Missing::AttestationOfAnotherBuild { by: "Ops".to_owned(), on: date!(2026 - 01 - 01) };
    assert_eq!(state(&other, JUNE), State::Planned { missing: vec![elsewhere] });
    let expired = Missing::ExpiredAttestation { by: "Ops".to_owned(), until: date!(2026 - 12 - 31) };
    assert_eq!(state(&other, NEXT_YEAR), State::Planned { missing: vec![expired] });
    for (from, to, told) in [
        (other.as_str(), "0123", "7:11: attestation.audit.lock_sha256: must be a SHA-256"),
        ("database", "data", "7:93: attestation.audit.data: unknown field"),
    ] {
        let faults = blueprint.attest("own.toml", &own(&other).replace(from, to), &ledger).unwrap_err();
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|fault| fault.contains(told)), "{told}: {faults:?}");
    }
}

/// Whoever changes the lock file looks at the advisories again, or takes the words out.
#[test]
fn what_the_shipped_blueprints_say_of_advisories_is_of_this_lock_file() {
    let mut audits = 0;
    for attestation in embedded().unwrap().iter().flat_map(|blueprint| &blueprint.attestations) {
        audits += usize::from(attestation.audit.is_some());
        assert!(!attestation.is_of_another_build(), "{:?} is not of {}", attestation.audit, lock_sha256());
        let of_advisories = attestation.words.contains("advisor");
        assert_eq!(attestation.audit.is_some(), of_advisories, "{}", attestation.words);
    }
    assert_eq!(audits, 1);
}

#[test]
fn a_review_is_overdue_after_its_interval_and_in_the_future() {
    let review = Review { by: "Ops".to_owned(), on: date!(2026 - 01 - 01), every_days: 30 };
    assert_eq!(review.due(), date!(2026 - 01 - 31));
    assert!(!review.is_overdue(datetime!(2026-01-31 23:59 UTC)));
    assert!(review.is_overdue(datetime!(2026-02-01 00:00 UTC)));
    assert!(review.is_overdue(datetime!(2025-12-31 00:00 UTC)));
}
