//! From the files of the ledger to claims: every rule that a claim must keep to.
//!
//! Never stops at a fault: all of all files are told at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{Actor, Claim, ClaimId, Kind, Ledger, Section as Chapter, Subject, is_kebab};
use crate::document::{
    Fault,
    fault::{At, Faults},
    section::{Entry, Section},
    tree::{self, Table},
};

/// The longest words of a claim, in characters.
const WORDS: usize = 400;
/// The most claims of a file, and of ids and subjects of a claim.
const CLAIMS: usize = 200;
const IDS: usize = 16;
const SUBJECTS: usize = 24;
/// The most subjects of the vocabulary.
const VOCABULARY: usize = 400;
/// The file of the vocabulary, by the end of its name.
const VOCABULARY_FILE: &str = "subjects";

/// What is gathered over all files.
#[derive(Default)]
struct Reading {
    claims: Vec<Claim>,
    /// `None` where the vocabulary could not be read: then no subject is called unknown.
    subjects: Option<BTreeMap<Subject, String>>,
    ids: BTreeMap<ClaimId, At>,
}

/// The name of a section's file, without folder and ending.
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or_default();
    name.strip_suffix(".toml").unwrap_or(name)
}

pub(super) fn ledger(files: &[(&str, &str)]) -> Result<Ledger, Vec<Fault>> {
    let mut faults = Faults::none();
    let mut trees = Vec::new();
    for (file, text) in files {
        let source = faults.add_source(file, text);
        if let Some(table) = tree::read(source, &mut faults) {
            trees.push((stem(file), source, table));
        }
    }
    let mut reading = Reading::default();
    if let Some((_, source, table)) = trees.iter().find(|(stem, ..)| *stem == VOCABULARY_FILE) {
        reading.subjects = vocabulary(table, *source, &mut faults);
    }
    for (stem, source, table) in trees.iter().filter(|(stem, ..)| *stem != VOCABULARY_FILE) {
        match Chapter::ALL.iter().find(|chapter| chapter.as_str() == *stem) {
            Some(chapter) => section_file(*chapter, table, *source, &mut reading, &mut faults),
            None => faults.add(At { source: *source, offset: 0 }, "", format!("there is no section {stem:?}")),
        }
    }
    let Reading { mut claims, subjects, ids } = reading;
    claims.sort_by_key(|claim| claim.section);
    let places = ids.into_iter().map(|(id, at)| (id, faults.one(at, "claim.ids"))).collect();
    let faults = faults.into_sorted();
    if faults.is_empty() { Ok(Ledger { claims, subjects: subjects.unwrap_or_default(), places }) } else { Err(faults) }
}

fn vocabulary(table: &Table, source: usize, faults: &mut Faults<'_>) -> Option<BTreeMap<Subject, String>> {
    let mut root = Section::root(table, source);
    let members = root.required("subjects", faults).map(|entry| entry.members(faults, VOCABULARY));
    root.finish(faults);
    let mut subjects = BTreeMap::new();
    for (name, entry) in members? {
        let words = entry.prose(faults, WORDS);
        match name.parse::<Subject>() {
            Ok(subject) => drop(subjects.insert(subject, words.unwrap_or_default())),
            Err(error) => entry.fault(faults, error.to_string()),
        }
    }
    Some(subjects)
}

fn section_file(chapter: Chapter, table: &Table, source: usize, reading: &mut Reading, faults: &mut Faults<'_>) {
    let mut root = Section::root(table, source);
    let claims = root.required("claim", faults).and_then(|entry| entry.list(faults, CLAIMS));
    root.finish(faults);
    for entry in claims.into_iter().flatten() {
        if let Some(mut section) = entry.section(faults) {
            let read = claim(chapter, &mut section, reading, faults);
            section.finish(faults);
            reading.claims.extend(read);
        }
    }
}

fn claim(chapter: Chapter, section: &mut Section<'_>, reading: &mut Reading, faults: &mut Faults<'_>) -> Option<Claim> {
    let ids = section.required("ids", faults).map(|entry| ids(&entry, reading, faults));
    let words = section.required("words", faults).and_then(|entry| entry.prose(faults, WORDS));
    let kinds_entry = section.required("kinds", faults);
    let kinds: BTreeSet<Kind> =
        kinds_entry.as_ref().map(|entry| choices(entry, Kind::ALL, Kind::as_str, faults)).unwrap_or_default();
    let probed = kinds.iter().any(|kind| kind.is_probed());
    let or = section.optional("or").and_then(|entry| {
        let kind =
            entry.choice(faults, &[(Kind::Deploy.as_str(), Kind::Deploy), (Kind::Policy.as_str(), Kind::Policy)]);
        if !probed {
            entry.fault(faults, "stands in the place of a probe, and the kinds have none");
        }
        kind
    });
    let actors: Vec<_> = Actor::ALL.iter().map(|actor| (actor.as_str(), *actor)).collect();
    let against = section.required("against", faults).and_then(|entry| entry.choice(faults, &actors));
    let subjects = match section.optional("subjects") {
        Some(entry) => subjects(&entry, reading, faults),
        None => BTreeSet::new(),
    };
    if probed && subjects.is_empty() {
        faults.add(
            section.at,
            &section.path,
            "a claim of kind live or build names the `subjects` that are to be tried",
        );
    }
    let probe = section.optional("probe").and_then(|entry| {
        let name = entry.text(faults).filter(|name| {
            let legal = is_kebab(name);
            if !legal {
                entry.fault(faults, format!("{name:?} is not a probe's name, such as route-guards"));
            }
            legal
        });
        if !probed {
            entry.fault(faults, "a claim whose kinds are deploy and policy alone is not probed");
        }
        name.map(str::to_owned)
    });
    Some(Claim { ids: ids?, section: chapter, words: words?, kinds, or, against: against?, subjects, probe })
}

/// The ids of one claim; one that stands elsewhere already is a fault of both places.
fn ids(entry: &Entry<'_>, reading: &mut Reading, faults: &mut Faults<'_>) -> Vec<ClaimId> {
    let mut ids = Vec::new();
    let items = entry.list(faults, IDS);
    if items.as_ref().is_some_and(Vec::is_empty) {
        entry.fault(faults, "must name at least one id");
    }
    for item in items.into_iter().flatten() {
        let Some(text) = item.text(faults) else { continue };
        let id = match text.parse::<ClaimId>() {
            Ok(id) => id,
            Err(error) => {
                item.fault(faults, format!("{text:?} is {error}"));
                continue;
            }
        };
        if let Some(first) = reading.ids.get(&id) {
            item.fault(faults, format!("{id} is given twice ({})", faults.line_of(*first)));
        } else {
            reading.ids.insert(id.clone(), item.at);
            ids.push(id);
        }
    }
    ids
}

fn subjects(entry: &Entry<'_>, reading: &Reading, faults: &mut Faults<'_>) -> BTreeSet<Subject> {
    let mut subjects = BTreeSet::new();
    for (text, item) in entry.texts(faults, SUBJECTS) {
        let known = |subject: &Subject| reading.subjects.as_ref().is_none_or(|known| known.contains_key(subject));
        match text.parse::<Subject>() {
            Ok(subject) if known(&subject) => drop(subjects.insert(subject)),
            _ => item.fault(faults, format!("{text:?} is not a subject of {VOCABULARY_FILE}.toml")),
        }
    }
    subjects
}

/// A list of words of a closed list.
fn choices<T: Copy + Ord>(
    entry: &Entry<'_>,
    all: &[T],
    word: impl Fn(T) -> &'static str,
    faults: &mut Faults<'_>,
) -> BTreeSet<T> {
    let words: Vec<_> = all.iter().map(|value| (word(*value), *value)).collect();
    let named = entry.texts(faults, all.len());
    let chosen = named.iter().filter_map(|(_, item)| item.choice(faults, &words)).collect();
    if named.is_empty() {
        entry.fault(faults, "must name at least one");
    }
    chosen
}
