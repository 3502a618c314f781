//! Reading a table field by field: what is missing, of the wrong kind or unknown is a fault at its place.
//!
//! A reader never stops at a fault: it answers `None` and the file is read on, so that all faults are told at once.

use std::{collections::BTreeSet, ops::RangeInclusive};

use time::Date;

use super::{
    fault::{At, Faults},
    tree::{Kind, Node, Table},
};

/// A table of which every field must be asked for, or it is unknown.
pub(crate) struct Section<'t> {
    pub(crate) at: At,
    pub(crate) path: String,
    table: &'t Table,
    asked: Vec<&'static str>,
}

/// One value with its place and path.
pub(crate) struct Entry<'t> {
    /// Where the value's key stands; a list's item has no key, and stands for itself.
    pub(crate) at: At,
    pub(crate) path: String,
    pub(crate) node: &'t Node,
}

/// `parent.key`, with quotes where TOML wants them.
fn join(parent: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}

impl<'t> Section<'t> {
    pub(crate) fn root(table: &'t Table, source: usize) -> Self {
        Self { at: At { source, offset: 0 }, path: String::new(), table, asked: Vec::new() }
    }

    /// The field, if it is there.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<Entry<'t>> {
        self.asked.push(key);
        let (at, node) = self.table.0.get(key)?;
        Some(Entry { at: *at, path: join(&self.path, key), node })
    }

    /// The field; its absence is a fault of the table.
    pub(crate) fn required(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<Entry<'t>> {
        let entry = self.optional(key);
        if entry.is_none() {
            faults.add(self.at, &self.path, format!("`{key}` is missing"));
        }
        entry
    }

    /// The fields that were never asked for are unknown.
    pub(crate) fn finish(self, faults: &mut Faults<'_>) {
        for (key, (at, _)) in &self.table.0 {
            if !self.asked.contains(&key.as_str()) {
                let known = self.asked.join(", ");
                faults.add(*at, join(&self.path, key), format!("unknown field; known here: {known}"));
            }
        }
    }
}

impl<'t> Entry<'t> {
    pub(crate) fn fault(&self, faults: &mut Faults<'_>, message: impl Into<String>) {
        faults.add(self.at, &self.path, message);
    }

    fn wrong<T>(&self, faults: &mut Faults<'_>, wanted: &str) -> Option<T> {
        self.fault(faults, format!("must be {wanted}, not {}", self.node.kind.name()));
        None
    }

    pub(crate) fn text(&self, faults: &mut Faults<'_>) -> Option<&'t str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => self.wrong(faults, "text"),
        }
    }

    /// A title for people: one line, nothing that hides or reorders it.
    pub(crate) fn title(&self, faults: &mut Faults<'_>) -> Option<String> {
        self.prose(faults, 100)
    }

    /// Words for people, of at most so many characters: one line, nothing that hides or reorders it.
    pub(crate) fn prose(&self, faults: &mut Faults<'_>, most: usize) -> Option<String> {
        let text = self.text(faults)?;
        let hidden = |c: char| {
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        };
        if text.trim() != text || text.is_empty() || text.chars().count() > most || text.chars().any(hidden) {
            self.fault(faults, format!("must be 1 to {most} visible characters on one line"));
            return None;
        }
        Some(text.to_owned())
    }

    pub(crate) fn boolean(&self, faults: &mut Faults<'_>) -> Option<bool> {
        match self.node.kind {
            Kind::Boolean(boolean) => Some(boolean),
            _ => self.wrong(faults, "true or false"),
        }
    }

    /// A day of the calendar.
    pub(crate) fn date(&self, faults: &mut Faults<'_>) -> Option<Date> {
        match self.node.kind {
            Kind::Date(date) => Some(date),
            _ => self.wrong(faults, "a date such as 2026-01-31"),
        }
    }

    pub(crate) fn integer(&self, faults: &mut Faults<'_>, range: RangeInclusive<i64>) -> Option<i64> {
        match self.node.kind {
            Kind::Integer(integer) if range.contains(&integer) => Some(integer),
            Kind::Integer(_) => {
                let (least, most) = (range.start(), range.end());
                let words =
                    if least == most { format!("must be {least}") } else { format!("must be from {least} to {most}") };
                self.fault(faults, words);
                None
            }
            _ => self.wrong(faults, "an integer"),
        }
    }

    /// An integer that is a count, never negative.
    pub(crate) fn count(&self, faults: &mut Faults<'_>, range: RangeInclusive<u32>) -> Option<usize> {
        let range = i64::from(*range.start())..=i64::from(*range.end());
        self.integer(faults, range).and_then(|integer| usize::try_from(integer).ok())
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, faults: &mut Faults<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(faults)?;
        let chosen = words.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.fault(faults, format!("must be {}", words.join(" or ")));
        }
        chosen.map(|(_, value)| *value)
    }

    /// The items of a list of at most so many, each at its own place.
    pub(crate) fn list(&self, faults: &mut Faults<'_>, most: usize) -> Option<Vec<Entry<'t>>> {
        let Kind::List(items) = &self.node.kind else {
            return self.wrong(faults, "a list");
        };
        if items.len() > most {
            self.fault(faults, format!("has more than {most} items"));
            return None;
        }
        let item = |node: &'t Node| Entry { at: node.at, path: self.path.clone(), node };
        Some(items.iter().map(item).collect())
    }

    /// The texts of a list, sorted, none twice; those of another kind are faults and left out.
    pub(crate) fn texts(&self, faults: &mut Faults<'_>, most: usize) -> Vec<(&'t str, Entry<'t>)> {
        let mut texts: Vec<(&'t str, Entry<'t>)> = Vec::new();
        for item in self.list(faults, most).unwrap_or_default() {
            if let Some(text) = item.text(faults) {
                if texts.iter().any(|(other, _)| *other == text) {
                    item.fault(faults, format!("{text:?} is given twice"));
                } else {
                    texts.push((text, item));
                }
            }
        }
        texts.sort_by_key(|(text, _)| *text);
        texts
    }

    /// The value as a table with fields of its own.
    pub(crate) fn section(&self, faults: &mut Faults<'_>) -> Option<Section<'t>> {
        match &self.node.kind {
            Kind::Table(table) => Some(Section { at: self.at, path: self.path.clone(), table, asked: Vec::new() }),
            _ => self.wrong(faults, "a table"),
        }
    }

    /// The keys of a table; none where it is no table.
    pub(crate) fn keys(&self) -> BTreeSet<&'t str> {
        match &self.node.kind {
            Kind::Table(table) => table.0.keys().map(String::as_str).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// The members of a table whose keys are the file's own names, at most so many.
    pub(crate) fn members(&self, faults: &mut Faults<'_>, most: usize) -> Vec<(&'t str, Entry<'t>)> {
        let Kind::Table(table) = &self.node.kind else {
            return self.wrong(faults, "a table").unwrap_or_default();
        };
        if table.0.len() > most {
            self.fault(faults, format!("has more than {most} members"));
            return Vec::new();
        }
        let member = |(key, (at, node)): (&'t String, &'t (At, Node))| {
            (key.as_str(), Entry { at: *at, path: join(&self.path, key), node })
        };
        table.0.iter().map(member).collect()
    }
}
