//! `blueprint list`, `blueprint show` and `blueprint lint`: what the systems are that this server can be, what each claims, what each
//! lacks, and what is wrong with a blueprint of one's own.
//!
//! Says what is written, and nothing of what a run of the probes came to: that is `prove`.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use domain::{
    blueprint::{self, Before, Blueprint, Missing, state_before_proof},
    claim::{Claim, ClaimId, Ledger},
    clock::Clock,
};
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    failure::{Exit, Failure},
    output::Voice,
};
use crate::config::{lint_blueprint, named_blueprint, provider_text};

#[derive(Serialize)]
struct Listed<'b> {
    blueprints: Vec<Overview<'b>>,
}

/// A blueprint in a line.
#[derive(Serialize)]
struct Overview<'b> {
    name: &'b str,
    title: &'b str,
    summary: &'b str,
    providers: Vec<&'b str>,
    /// How many ids it claims.
    claims: usize,
    /// How many of them wait for what is not built yet.
    waiting: usize,
    /// What that is.
    planned: Vec<&'b str>,
}

impl<'b> Overview<'b> {
    fn of(ledger: &Ledger, blueprint: &'b Blueprint) -> Self {
        let ids = |claim: &Claim| claim.ids_of(&blueprint.prefix).count();
        let waits = |claim: &&Claim| claim.subjects.iter().any(|subject| blueprint.planned.contains_key(subject));
        Self {
            name: &blueprint.name,
            title: &blueprint.title,
            summary: &blueprint.summary,
            providers: blueprint.providers.iter().map(String::as_str).collect(),
            claims: ledger.of(&blueprint.prefix).map(ids).sum(),
            waiting: ledger.of(&blueprint.prefix).filter(waits).map(ids).sum(),
            planned: blueprint.planned.keys().map(domain::claim::Subject::as_str).collect(),
        }
    }
}

fn embedded() -> Result<(Ledger, Vec<Blueprint>), Failure> {
    let unfit = |faults: Vec<blueprint::Fault>| {
        let words: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Failure::said(
            Exit::Other,
            format!("the claims or the blueprints of this program have faults: {}", words.join("; ")),
        )
    };
    Ok((Ledger::embedded().map_err(unfit)?, blueprint::embedded().map_err(unfit)?))
}

/// Lists the shipped blueprints; as the README's table where that is wanted.
pub(super) fn list(markdown: bool, voice: Voice) -> Result<ExitCode, Failure> {
    let (ledger, blueprints) = embedded()?;
    let blueprints: Vec<_> = blueprints.iter().map(|blueprint| Overview::of(&ledger, blueprint)).collect();
    let mut words = String::new();
    for it in &blueprints {
        // Writing to a string does not fail.
        let _ = writeln!(
            words,
            "{}: {}\n  {}\n  {} claims, of which {} wait for what is not built yet",
            it.name, it.title, it.summary, it.claims, it.waiting
        );
    }
    let words = if markdown { table(&blueprints) } else { words };
    voice.say(&Listed { blueprints }, words.trim_end());
    Ok(Exit::Done.into())
}

/// The table of the README. It holds nothing that only a run could know.
fn table(blueprints: &[Overview<'_>]) -> String {
    let mut table =
        "| blueprint | system | claims | of them waiting | for what is not built yet |\n|---|---|---|---|---|\n"
            .to_owned();
    for it in blueprints {
        let planned = it.planned.iter().map(|subject| subject.replace('-', " ")).collect::<Vec<_>>().join(", ");
        // Writing to a string does not fail.
        let _ = writeln!(table, "| `{}` | {} | {} | {} | {planned} |", it.name, it.title, it.claims, it.waiting);
    }
    table
}

#[derive(Serialize)]
struct Shown<'b> {
    blueprint: &'b Blueprint,
    claims: Vec<ShownClaim<'b>>,
}

#[derive(Serialize)]
struct ShownClaim<'b> {
    ids: Vec<&'b ClaimId>,
    #[serde(flatten)]
    standing: Standing,
    words: &'b str,
    kinds: Vec<&'static str>,
    against: &'static str,
    probe: Option<&'b str>,
}

/// What a claim is before anything was run.
#[derive(Serialize)]
struct Standing {
    standing: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Missing>,
}

impl Standing {
    fn of(before: Before) -> Self {
        match before {
            Before::Planned { missing } => Self { standing: "planned", missing },
            Before::Attested { .. } => Self { standing: "attested", missing: Vec::new() },
            Before::ToProve { needs_attestation, .. } => {
                Self { standing: "to-prove", missing: needs_attestation.into_iter().collect() }
            }
        }
    }

    fn in_words(&self) -> String {
        let missing: Vec<_> = self.missing.iter().map(in_words).collect();
        match (self.standing, missing.is_empty()) {
            ("to-prove", true) => "to be proved".to_owned(),
            ("to-prove", false) => format!("to be proved, and lacks {}", missing.join(", ")),
            (standing, true) => standing.to_owned(),
            (standing, false) => format!("{standing}: lacks {}", missing.join(", ")),
        }
    }
}

fn in_words(missing: &Missing) -> String {
    match missing {
        Missing::Subject { subject, .. } => subject.as_str().replace('-', " "),
        Missing::Attestation => "an attestation".to_owned(),
        Missing::ExpiredAttestation { by, until } => format!("an attestation (that of {by} ended on {until})"),
        Missing::AttestationOfAnotherBuild { by, on } => {
            format!("an attestation (that of {by} of {on} is of another build)")
        }
    }
}

/// Shows a blueprint, a shipped one or one from a file, with its claims.
pub(super) fn show(name: &str, voice: Voice) -> Result<ExitCode, Failure> {
    let (ledger, _) = embedded()?;
    let blueprint = named_blueprint(name)?;
    let claims = claims(&ledger, &blueprint, Clock::system().now());
    let words = told(&blueprint, &claims);
    voice.say(&Shown { blueprint: &blueprint, claims }, words.trim_end());
    Ok(Exit::Done.into())
}

fn claims<'b>(ledger: &'b Ledger, blueprint: &'b Blueprint, now: OffsetDateTime) -> Vec<ShownClaim<'b>> {
    ledger
        .of(&blueprint.prefix)
        .map(|claim| ShownClaim {
            ids: claim.ids_of(&blueprint.prefix).collect(),
            standing: Standing::of(state_before_proof(claim, blueprint, now)),
            words: &claim.words,
            kinds: claim.kinds.iter().map(|kind| kind.as_str()).collect(),
            against: claim.against.as_str(),
            probe: claim.probe.as_deref(),
        })
        .collect()
}

fn told(blueprint: &Blueprint, claims: &[ShownClaim<'_>]) -> String {
    let Blueprint { name, title, summary, .. } = blueprint;
    let providers = blueprint.providers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut words = format!("{name}: {title}\n  {summary}\n  providers: {providers}\n\nSettings\n");
    // Writing to a string does not fail.
    for (name, value) in &blueprint.settings {
        let _ = writeln!(words, "  {name} = {value}");
    }
    words.push_str("\nNot built yet\n");
    for (subject, said) in &blueprint.planned {
        let _ = writeln!(words, "  {subject}: {said}");
    }
    words.push_str("\nAttested\n");
    for it in &blueprint.attestations {
        let ids = it.ids.iter().map(ClaimId::as_str).collect::<Vec<_>>().join(" ");
        let _ = writeln!(words, "  {ids}: {}, {} to {}: {}", it.by, it.on, it.until, it.words);
    }
    if let Some(review) = &blueprint.review {
        let _ = writeln!(words, "\nReviewed by {} on {}, due by {}", review.by, review.on, review.due());
    }
    let _ = writeln!(words, "Not held: {}\n\nClaims", blueprint.not_held.join(", "));
    for claim in claims {
        let ids = claim.ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(" ");
        let _ = writeln!(words, "  {ids} ({})\n    {}", claim.standing.in_words(), claim.words);
    }
    words
}

#[derive(Serialize)]
struct Linted {
    files: usize,
    faults: Vec<String>,
}

/// Checks blueprints of one's own, and says all faults of all of them.
pub(super) fn lint(files: &[PathBuf], voice: Voice) -> ExitCode {
    let mut faults = Vec::new();
    for path in files {
        match provider_text(path) {
            Err(message) => faults.push(message),
            Ok(text) => {
                let linted = lint_blueprint(&path.display().to_string(), &text);
                faults.extend(linted.err().iter().flat_map(crate::config::ConfigFaults::iter).map(ToString::to_string));
            }
        }
    }
    let all = files.len();
    let count = match faults.len() {
        0 => format!("{all} file{}, no faults", if all == 1 { "" } else { "s" }),
        1 => "1 fault".to_owned(),
        many => format!("{many} faults"),
    };
    let words = faults.iter().cloned().chain([count]).collect::<Vec<_>>().join("\n");
    let exit = if faults.is_empty() { Exit::Done } else { Exit::CheckFailed };
    voice.say(&Linted { files: all, faults }, &words);
    exit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- blueprints: as `keyholder blueprint list --markdown` prints it -->\n";
    const END: &str = "<!-- end of blueprints -->";

    #[test]
    fn the_readmes_table_of_the_systems_is_what_their_files_say() {
        let (ledger, blueprints) = embedded().unwrap();
        let overviews: Vec<_> = blueprints.iter().map(|blueprint| Overview::of(&ledger, blueprint)).collect();
        let readme = include_str!("../../../README.md");
        let written = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table);
        assert_eq!(written, Some(table(&overviews).as_str()), "run `keyholder blueprint list --markdown`");
    }

    #[test]
    fn the_claims_of_the_systems_are_all_claims_and_each_lacks_something() {
        let (ledger, blueprints) = embedded().unwrap();
        let overviews: Vec<_> = blueprints.iter().map(|blueprint| Overview::of(&ledger, blueprint)).collect();
        let all: usize = ledger.claims().map(|claim| claim.ids.len()).sum();
        assert_eq!(overviews.iter().map(|it| it.claims).sum::<usize>(), all);
        assert!(overviews.iter().all(|it| it.waiting > 0 && it.waiting < it.claims && !it.planned.is_empty()));
    }

    #[test]
    fn a_blueprint_is_told_with_what_each_claim_lacks() {
        let ledger = Ledger::embedded().unwrap();
        let blueprint = named_blueprint("social-agent").unwrap();
        let now = time::macros::datetime!(2026-12-01 00:00 UTC);
        let words = told(&blueprint, &claims(&ledger, &blueprint, now));
        assert!(words.contains("SA-05 (to be proved)"), "{words}");
        assert!(words.contains("SA-01 (planned: lacks passwords)"), "{words}");
        assert!(words.contains("SA-14 (planned: lacks an attestation)"), "{words}");
        assert!(words.contains("SA-37 SA-54 (to be proved, and lacks an attestation)"), "{words}");
    }
}
