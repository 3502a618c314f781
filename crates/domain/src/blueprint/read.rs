//! From a blueprint's file to a blueprint: every rule that it must keep to.
//!
//! Never stops at a fault: all are told at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use url::Url;

use super::{Attestation, Audit, Blueprint, ModelText, Review, Security};
use crate::{
    claim::{ClaimId, Kind as ClaimKind, Ledger, Subject, is_kebab, is_prefix},
    document::{
        Fault,
        fault::Faults,
        section::{Entry, Section},
        tree::{self, Kind, Node},
    },
};

/// The longest words, in characters.
const WORDS: usize = 600;
/// The longest name of an advisory database, in characters.
const DATABASE: usize = 200;
/// The most entries of any list of a blueprint.
const ENTRIES: usize = 200;
/// The longest that an attestation may count, in days: who stands behind something looks again.
const ATTESTED_DAYS: i64 = 400;

pub(super) fn blueprint(file: &str, text: &str, ledger: &Ledger) -> Result<Blueprint, Vec<Fault>> {
    let mut faults = Faults::new(file, text);
    let read = tree::read(0, &mut faults).and_then(|table| {
        let mut root = Section::root(&table, 0);
        let read = fields(&mut root, (file, text), ledger, &mut faults);
        root.finish(&mut faults);
        read
    });
    match read {
        Some(blueprint) if faults.is_empty() => Ok(blueprint),
        _ => Err(faults.into_sorted()),
    }
}

/// What an operator says of his own installation.
#[derive(Default)]
pub(super) struct Own {
    pub(super) attestations: Vec<Attestation>,
    pub(super) review: Option<Review>,
    pub(super) not_held: Option<Vec<String>>,
    pub(super) security: Option<Security>,
}

pub(super) fn attestations(file: &str, text: &str, prefix: &str, ledger: &Ledger) -> Result<Own, Vec<Fault>> {
    let mut faults = Faults::new(file, text);
    let mut own = Own::default();
    if let Some(table) = tree::read(0, &mut faults) {
        let mut root = Section::root(&table, 0);
        own = Own {
            attestations: attestation_list(&mut root, Some(prefix), ledger, &mut faults),
            review: review(&mut root, &mut faults),
            not_held: not_held(&mut root, &mut faults),
            security: security_table(&mut root, &mut faults),
        };
        root.finish(&mut faults);
    }
    if faults.is_empty() { Ok(own) } else { Err(faults.into_sorted()) }
}

fn fields(
    root: &mut Section<'_>,
    (file, text): (&str, &str),
    ledger: &Ledger,
    faults: &mut Faults<'_>,
) -> Option<Blueprint> {
    let name = root.required("name", faults).and_then(|entry| kebab(&entry, faults));
    let title = root.required("title", faults).and_then(|entry| entry.title(faults));
    let prefix = root.required("prefix", faults).and_then(|entry| prefix(&entry, ledger, faults));
    let summary = root.required("summary", faults).and_then(|entry| entry.prose(faults, WORDS));
    let providers = root.required("providers", faults).map(|entry| {
        let names = entry.texts(faults, ENTRIES);
        names.iter().filter_map(|(_, item)| kebab(item, faults)).collect::<BTreeSet<_>>()
    });
    let settings = root.optional("settings").and_then(|entry| {
        entry.section(faults)?;
        match json(entry.node) {
            Value::Object(settings) => Some(settings),
            _ => None,
        }
    });
    let model = model(root, faults);
    let planned = planned(root, ledger, faults);
    let attestations = attestation_list(root, prefix.as_deref(), ledger, faults);
    let review = review(root, faults);
    let not_held = not_held(root, faults).unwrap_or_default();
    let security = security_table(root, faults);
    Some(Blueprint {
        name: name?,
        title: title?,
        prefix: prefix?,
        summary: summary?,
        providers: providers?,
        settings: settings.unwrap_or_default(),
        model,
        planned,
        attestations,
        review,
        not_held,
        security,
        file: file.to_owned(),
        text: text.to_owned(),
    })
}

fn kebab(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let text = entry.text(faults)?;
    if !is_kebab(text) || text.len() > 32 {
        entry.fault(faults, "must be 1 to 32 of a-z and 0-9, with single hyphens between words");
        return None;
    }
    Some(text.to_owned())
}

fn prefix(entry: &Entry<'_>, ledger: &Ledger, faults: &mut Faults<'_>) -> Option<String> {
    let text = entry.text(faults)?;
    if !is_prefix(text) {
        entry.fault(faults, "must be two capitals");
        return None;
    }
    if ledger.of(text).next().is_none() {
        entry.fault(faults, format!("there is no claim whose id begins with {text}"));
    }
    Some(text.to_owned())
}

/// A value of the settings as the commands show it. What it means is for the configuration to say.
fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Text(text) => Value::from(text.as_str()),
        Kind::Integer(integer) => Value::from(*integer),
        Kind::Boolean(boolean) => Value::from(*boolean),
        Kind::Date(date) => Value::from(date.to_string()),
        Kind::List(items) => items.iter().map(json).collect(),
        Kind::Table(table) => {
            table.0.iter().map(|(key, (_, node))| (key.clone(), json(node))).collect::<Map<_, _>>().into()
        }
        Kind::Other(name) => Value::from(*name),
    }
}

fn proses(entry: &Entry<'_>, longest: usize, faults: &mut Faults<'_>) -> Vec<String> {
    let items = entry.list(faults, ENTRIES).unwrap_or_default();
    items.iter().filter_map(|item| item.prose(faults, longest)).collect()
}

/// The addition to the model. Its lines are the file's, so that whoever judges it can say where it is wrong.
fn model(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<ModelText> {
    let mut section = root.optional("model")?.section(faults)?;
    let read = section.required("text", faults).and_then(|entry| {
        let text = entry.text(faults)?;
        let at = entry.node.at;
        let written = faults.source(at.source).and_then(|source| source.text.get(at.offset..)).unwrap_or_default();
        let inside = written.strip_prefix("'''").or_else(|| written.strip_prefix("\"\"\"")).unwrap_or_default();
        let below = inside.strip_prefix("\r\n").or_else(|| inside.strip_prefix('\n'));
        if !below.unwrap_or(inside).starts_with(text) || text.is_empty() {
            entry.fault(faults, "must be a module between ''' and ''', as it is, without escapes");
            return None;
        }
        let line = faults.position(at).0 + usize::from(below.is_some());
        Some(ModelText { text: text.to_owned(), line })
    });
    section.finish(faults);
    read
}

fn planned(root: &mut Section<'_>, ledger: &Ledger, faults: &mut Faults<'_>) -> BTreeMap<Subject, String> {
    let mut planned = BTreeMap::new();
    let Some(entry) = root.optional("planned") else { return planned };
    for item in entry.list(faults, ENTRIES).unwrap_or_default() {
        let Some(mut section) = item.section(faults) else { continue };
        let subject = section.required("subject", faults).and_then(|entry| {
            let text = entry.text(faults)?;
            let subject = text.parse::<Subject>().ok().filter(|subject| ledger.subject(subject).is_some());
            match subject {
                None => entry.fault(faults, format!("{text:?} is not a subject that claims can name")),
                Some(ref subject) if planned.contains_key(subject) => {
                    entry.fault(faults, format!("{text:?} is given twice"));
                }
                Some(_) => {}
            }
            subject
        });
        let words = section.required("words", faults).and_then(|entry| entry.prose(faults, WORDS));
        section.finish(faults);
        if let (Some(subject), Some(words)) = (subject, words) {
            planned.insert(subject, words);
        }
    }
    planned
}

fn attestation_list(
    root: &mut Section<'_>,
    prefix: Option<&str>,
    ledger: &Ledger,
    faults: &mut Faults<'_>,
) -> Vec<Attestation> {
    let Some(entry) = root.optional("attestation") else { return Vec::new() };
    let mut attestations = Vec::new();
    for item in entry.list(faults, ENTRIES).unwrap_or_default() {
        let Some(mut section) = item.section(faults) else { continue };
        let read = attestation(&mut section, prefix, ledger, faults);
        section.finish(faults);
        attestations.extend(read);
    }
    attestations
}

fn attestation(
    section: &mut Section<'_>,
    prefix: Option<&str>,
    ledger: &Ledger,
    faults: &mut Faults<'_>,
) -> Option<Attestation> {
    let ids = section.required("ids", faults).map(|entry| attested_ids(&entry, prefix, ledger, faults));
    let by = section.required("by", faults).and_then(|entry| entry.title(faults));
    let on = section.required("on", faults).and_then(|entry| entry.date(faults));
    let until = section.required("until", faults).and_then(|entry| {
        let until = entry.date(faults)?;
        let days = on.map_or(0, |on| (until - on).whole_days());
        if !(0..=ATTESTED_DAYS).contains(&days) {
            entry.fault(faults, format!("must be from the day `on` to {ATTESTED_DAYS} days after it"));
        }
        Some(until)
    });
    let words = section.required("words", faults).and_then(|entry| entry.prose(faults, WORDS));
    let audit = audit(section, faults);
    Some(Attestation { ids: ids?, by: by?, on: on?, until: until?, words: words?, audit })
}

fn audit(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<Audit> {
    let mut section = section.optional("audit")?.section(faults)?;
    let lock_sha256 = section.required("lock_sha256", faults).and_then(|entry| {
        let text = entry.text(faults)?;
        let is_digest = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest {
            entry.fault(faults, "must be a SHA-256 in 64 small hexadecimal digits");
        }
        is_digest.then(|| text.to_owned())
    });
    let database = section.required("database", faults).and_then(|entry| entry.prose(faults, DATABASE));
    section.finish(faults);
    Some(Audit { lock_sha256: lock_sha256?, database: database? })
}

/// The ids that somebody stands behind: of this system, of claims that can be attested, and each claim whole.
fn attested_ids(entry: &Entry<'_>, prefix: Option<&str>, ledger: &Ledger, faults: &mut Faults<'_>) -> Vec<ClaimId> {
    let mut ids = Vec::new();
    let named = entry.texts(faults, ENTRIES);
    if named.is_empty() {
        entry.fault(faults, "must name at least one id");
    }
    for (text, item) in named {
        let Some(id) = text.parse::<ClaimId>().ok() else {
            item.fault(faults, format!("{text:?} is not the id of a claim, such as SA-04"));
            continue;
        };
        match ledger.claim(&id) {
            None => item.fault(faults, format!("there is no claim {id}")),
            Some(_) if prefix.is_some_and(|prefix| id.prefix() != prefix) => {
                item.fault(faults, format!("{id} is a claim of another system"));
            }
            Some(claim) if !claim.is_attested() && claim.or.is_none() => {
                let kinds: Vec<_> = claim.kinds.iter().copied().map(ClaimKind::as_str).collect();
                item.fault(faults, format!("{id} is {}: that is for a probe to say", kinds.join(" and ")));
            }
            Some(_) => ids.push(id),
        }
    }
    for claim in ids.iter().filter_map(|id| ledger.claim(id)) {
        let left: Vec<_> = claim.ids_of(prefix.unwrap_or_default()).filter(|id| !ids.contains(id)).collect();
        if let Some(left) = left.first() {
            entry.fault(faults, format!("a claim is attested whole: {left} is missing"));
        }
    }
    ids
}

fn review(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<Review> {
    let mut section = root.optional("review")?.section(faults)?;
    let by = section.required("by", faults).and_then(|entry| entry.title(faults));
    let on = section.required("on", faults).and_then(|entry| entry.date(faults));
    let every_days = section.required("every_days", faults).and_then(|entry| entry.count(faults, 1..=3650));
    section.finish(faults);
    Some(Review { by: by?, on: on?, every_days: u16::try_from(every_days?).ok()? })
}

fn not_held(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<Vec<String>> {
    root.optional("not_held").map(|entry| proses(&entry, 100, faults))
}

fn security_table(root: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<Security> {
    let mut section = root.optional("security")?.section(faults)?;
    let read = security(&mut section, faults);
    section.finish(faults);
    read
}

fn security(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<Security> {
    let contact = section.required("contact", faults).map(|entry| {
        let items = entry.list(faults, 8).unwrap_or_default();
        if items.is_empty() {
            entry.fault(faults, "must name at least one way");
        }
        items.iter().filter_map(|item| address(item, &["mailto", "https"], faults)).collect::<Vec<_>>()
    });
    let expires = section.required("expires", faults).and_then(|entry| entry.date(faults));
    let acknowledgments = section.optional("acknowledgments").and_then(|entry| address(&entry, &["https"], faults));
    let policy = section.optional("policy").and_then(|entry| address(&entry, &["https"], faults));
    let languages = section.optional("languages").map(|entry| {
        let items = entry.texts(faults, 16);
        for (text, item) in &items {
            if !(2..=35).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            {
                item.fault(faults, format!("{text:?} is not a language tag, such as en"));
            }
        }
        items.iter().map(|(text, _)| (*text).to_owned()).collect::<Vec<_>>()
    });
    let words = section.optional("words").map(|entry| proses(&entry, 200, faults)).unwrap_or_default();
    Some(Security {
        contact: contact?,
        expires: expires?,
        acknowledgments,
        policy,
        languages: languages.unwrap_or_default(),
        words,
    })
}

fn address(entry: &Entry<'_>, schemes: &[&str], faults: &mut Faults<'_>) -> Option<String> {
    let text = entry.prose(faults, 400)?;
    if !Url::parse(&text).is_ok_and(|url| schemes.contains(&url.scheme())) {
        entry.fault(faults, format!("must be an address that begins with {}:", schemes.join(": or ")));
        return None;
    }
    Some(text)
}
