//! The trust page's facts: how each claim of a blueprint is shown, by the claims, the blueprint, and the statements that were published.
//!
//! Pure, and the only place where this is decided. Nothing is shown as kept but what a statement proves that is signed, of this build, of
//! this installation, and not expired; everything else is shown as what it is.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    blueprint::{Attestation, Blueprint, Missing, Outcome, State, state_before_proof},
    claim::{Actor, Claim, ClaimId, Kind, Ledger, Section},
    sabotaged,
    statement::{Came, Claimed, Failure, Failures, Probed, Scope, Statement},
};

/// The installation that shows the page.
#[derive(Debug, Clone, Copy)]
pub struct Here<'h> {
    /// The name of its blueprint.
    pub blueprint: &'h str,
    /// SHA-256 of the program that serves, in hexadecimal; `None` where it could not be read.
    pub binary_sha256: Option<&'h str>,
    /// The origin at which browsers reach it.
    pub origin: &'h str,
}

/// Whether a statement says anything about what serves here and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validity {
    /// It does.
    Current,
    /// Its time is over.
    Expired,
    /// It is of another build than the one that serves.
    OtherBuild,
    /// It is of another blueprint.
    OtherBlueprint,
    /// It was made for another installation.
    OtherInstallation,
    /// No key that is trusted now has signed it.
    Untrusted,
}

impl Validity {
    /// Of a statement whose signature is good.
    pub fn of(statement: &Statement, here: Here<'_>, now: OffsetDateTime) -> Self {
        if statement.blueprint != here.blueprint {
            return Self::OtherBlueprint;
        }
        if statement.audience.as_deref().is_some_and(|origin| origin != here.origin) {
            return Self::OtherInstallation;
        }
        if now >= statement.expires_at {
            return Self::Expired;
        }
        if here.binary_sha256 != Some(statement.build.binary_sha256.as_str()) {
            return Self::OtherBuild;
        }
        Self::Current
    }

    /// Whether what it says can be said of this blueprint at all.
    fn counts(self) -> bool {
        matches!(self, Self::Current | Self::Expired | Self::OtherBuild)
    }
}

/// A statement that is at hand.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it says.
    pub statement: Arc<Statement>,
    /// Whether that counts.
    pub validity: Validity,
    /// What was kept once and is not given up since, as of this statement.
    pub kept_once: BTreeSet<ClaimId>,
    /// What a part of a run of this program did not show, and none has since, as of this statement.
    pub failures: Failures,
}

/// How a claim is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Proven, of this build, by a statement that is in force and a probe that was seen to fail without its control.
    Kept,
    /// Somebody stands behind it.
    Attested,
    /// It was kept, and a probe does not say so any more.
    UnderReview,
    /// It was proven, and the statement that says so is not in force any more, or not of this build.
    Lapsed,
    /// A probe found that it does not hold.
    Broken,
    /// Nobody has proven it.
    Unproven,
    /// What it needs is not there yet.
    Planned,
}

impl Shown {
    /// All of them, in the order in which a page tells them.
    pub const ALL: [Self; 7] =
        [Self::Kept, Self::Attested, Self::UnderReview, Self::Lapsed, Self::Broken, Self::Unproven, Self::Planned];

    /// The word in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Attested => "attested",
            Self::UnderReview => "under_review",
            Self::Lapsed => "lapsed",
            Self::Broken => "broken",
            Self::Unproven => "unproven",
            Self::Planned => "planned",
        }
    }

    /// The words for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kept => "Kept",
            Self::Attested => "Attested",
            Self::UnderReview => "Under review",
            Self::Lapsed => "Lapsed",
            Self::Broken => "Not kept",
            Self::Unproven => "Not proven",
            Self::Planned => "Planned",
        }
    }
}

/// A probe's run behind a claim, with the statement that tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'s> {
    /// The run.
    pub probed: &'s Probed,
    /// The statement.
    pub known: &'s Known,
    /// Whether the probe noticed that its control was switched off: as this run has it, else as the newest statement of the same program
    /// that counts and says so. `None` where none does.
    pub sabotage_caught: Option<bool>,
}

/// One claim as it is shown.
#[derive(Debug, Clone)]
pub struct Entry<'s> {
    /// Its ids in this blueprint.
    pub ids: Vec<ClaimId>,
    /// The section that it stands in.
    pub section: Section,
    /// What must be true.
    pub words: &'s str,
    /// What it takes.
    pub kinds: &'s BTreeSet<Kind>,
    /// Against whom.
    pub against: Actor,
    /// How it is shown.
    pub shown: Shown,
    /// Who stands behind it, where somebody does.
    pub attestation: Option<Attestation>,
    /// What is missing, where it is planned.
    pub missing: Vec<Missing>,
    /// The probe's last run that is at hand, where there was one.
    pub behind: Option<Behind<'s>>,
    /// The number of the statement by which a part of a run did not show it, where none has since.
    pub failed_in: Option<u64>,
}

/// The claims of a blueprint as they are shown, in the ledger's order. `known` has the newest statement first.
pub fn entries<'s>(
    ledger: &'s Ledger,
    blueprint: &'s Blueprint,
    known: &'s [Known],
    now: OffsetDateTime,
) -> Vec<Entry<'s>> {
    ledger.of(&blueprint.prefix).map(|claim| entry(claim, blueprint, known, now)).collect()
}

fn entry<'s>(claim: &'s Claim, blueprint: &Blueprint, known: &'s [Known], now: OffsetDateTime) -> Entry<'s> {
    let ids: Vec<ClaimId> = claim.ids_of(&blueprint.prefix).cloned().collect();
    let found = decisive(claim, &ids, known);
    let outcome = found.map_or(Outcome::NotProven, |(claimed, behind)| outcome(claimed, behind.sabotage_caught));
    let behind = found.map(|(_, behind)| behind);
    let failure = open_failure(&ids, behind, known);
    let outcome = failure.map_or(outcome, |failure| Outcome::from(failure.came));
    let counted = known.iter().find(|known| known.validity.counts());
    let kept_once = counted.is_some_and(|known| ids.iter().any(|id| known.kept_once.contains(id)));
    let in_force = behind.is_some_and(|behind| behind.known.validity == Validity::Current);
    let (mut attestation, mut missing) = (None, Vec::new());
    let shown = match state_before_proof(claim, blueprint, now).after(outcome) {
        // Where this is sabotaged, what is not built yet is passed off as kept.
        State::Planned { .. } if sabotaged!(HonestList) => Shown::Kept,
        State::Planned { missing: lacking } => {
            missing = lacking;
            Shown::Planned
        }
        State::Attested { attestation: by } => {
            attestation = Some(by);
            Shown::Attested
        }
        State::Kept { attestation: by } => {
            attestation = by;
            if in_force { Shown::Kept } else { Shown::Lapsed }
        }
        State::Broken | State::Unproven if kept_once && (behind.is_some() || failure.is_some()) => Shown::UnderReview,
        State::Broken => Shown::Broken,
        State::Unproven => Shown::Unproven,
    };
    Entry {
        section: claim.section,
        words: &claim.words,
        kinds: &claim.kinds,
        against: claim.against,
        ids,
        shown,
        attestation,
        missing,
        behind,
        failed_in: failure.map(|failure| failure.sequence),
    }
}

/// A run of a claim's probe: what it came to for the claim, the probe's own report, and the statement that tells of it.
type Told<'s> = (&'s Claimed, &'s Probed, &'s Known);

/// The run that decides of a claim: the newest that there is. Only where that passed and is not in force, or is of another build, does an
/// older one count that is in force: a newer *no* is not overruled by an older *yes* of the same build, and of this build a run of another
/// one says nothing. Nor is the *no* of a whole run overruled by a part of it, which tries less.
fn decisive<'s>(claim: &Claim, ids: &[ClaimId], known: &'s [Known]) -> Option<(&'s Claimed, Behind<'s>)> {
    let runs: Vec<Told<'s>> = known
        .iter()
        .filter(|known| known.validity.counts())
        .filter_map(|known| {
            let claimed = known.statement.claimed(ids.first()?)?;
            // Other words are another claim, and another probe proves something else.
            let same = claimed.words == claim.words && claimed.probe == claim.probe;
            let probed = known.statement.probed(claimed.probe.as_deref()?)?;
            (same && claimed.outcome.is_some()).then_some((claimed, probed, known))
        })
        .collect();
    let newest = *runs.first()?;
    let in_force = runs.iter().find(|(_, _, known)| known.validity == Validity::Current);
    let gives_way = has_passed(newest) || newest.2.validity == Validity::OtherBuild;
    let found = if gives_way { in_force.copied().unwrap_or(newest) } else { newest };
    let (claimed, probed, found) = overruling(found, &runs).unwrap_or(found);
    Some((claimed, Behind { probed, known: found, sabotage_caught: sabotage_caught(probed, found, known) }))
}

fn has_passed((claimed, ..): Told<'_>) -> bool {
    claimed.outcome == Some(Came::Passed)
}

/// The newest whole run of the same program, where that said *no* to what a part says *yes* to.
fn overruling<'s>(found: Told<'s>, runs: &[Told<'s>]) -> Option<Told<'s>> {
    let (program, is_part) = (&found.2.statement.build.binary_sha256, found.2.statement.scope == Scope::ProductionSafe);
    let is_whole =
        |known: &Known| known.statement.scope == Scope::Whole && known.statement.build.binary_sha256 == *program;
    let whole = runs.iter().find(|(_, _, known)| is_whole(known)).copied()?;
    (is_part && has_passed(found) && !has_passed(whole)).then_some(whole)
}

/// The *no* of a part of a run that nothing has answered, of the program whose run decides: the parts after it that did not try the claim say
/// nothing of it, and may have taken the statement's place that told of it. It is read from the newest statement of that program, also from
/// one that does not count here: what is open stays so, whoever spoke since.
fn open_failure(ids: &[ClaimId], behind: Option<Behind<'_>>, known: &[Known]) -> Option<Failure> {
    let counts = || known.iter().find(|known| known.validity.counts());
    let program = &behind.map(|behind| behind.known).or_else(counts)?.statement.build.binary_sha256;
    known.iter().find(|known| known.statement.build.binary_sha256 == *program)?.failures.of(ids)
}

/// Whether a probe noticed its sabotage. A run beside customers cannot try that: a statement of the same program speaks for it, since what
/// is switched off there is the same.
fn sabotage_caught(probed: &Probed, found: &Known, known: &[Known]) -> Option<bool> {
    let of_this_program = |known: &&Known| {
        known.validity.counts() && known.statement.build.binary_sha256 == found.statement.build.binary_sha256
    };
    let told = || {
        let mut statements = known.iter().filter(of_this_program);
        statements.find_map(|known| known.statement.probed(&probed.name)?.sabotage_caught)
    };
    probed.sabotage_caught.or_else(told)
}

/// What a run came to. Nothing is proven by a probe that was not seen to notice when its control was switched off.
fn outcome(claimed: &Claimed, sabotage_caught: Option<bool>) -> Outcome {
    match claimed.outcome.map(Outcome::from) {
        Some(Outcome::Passed) if sabotage_caught != Some(true) => Outcome::NotProven,
        Some(outcome) => outcome,
        None => Outcome::NotProven,
    }
}

/// The ids that are shown as kept.
pub fn kept(entries: &[Entry<'_>]) -> BTreeSet<ClaimId> {
    entries.iter().filter(|entry| entry.shown == Shown::Kept).flat_map(|entry| entry.ids.clone()).collect()
}

/// How many ids are shown how; every way is there.
pub fn counts(entries: &[Entry<'_>]) -> BTreeMap<Shown, usize> {
    let mut counts: BTreeMap<_, _> = Shown::ALL.into_iter().map(|shown| (shown, 0)).collect();
    for entry in entries {
        *counts.entry(entry.shown).or_default() += entry.ids.len();
    }
    counts
}
