//! A file as a tree in which every key and value knows its place, so that a fault can name the line.
//!
//! Knows TOML and nothing of what the fields mean.

use std::collections::BTreeMap;

use time::{Date, Month};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
    value::Datetime,
};

use super::fault::{At, Faults};

/// The longest file that is read, in bytes.
pub(crate) const FILE_BYTES: usize = 256 * 1024;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// A day of the calendar, without an hour.
    Date(Date),
    List(Vec<Node>),
    Table(Table),
    /// A value that no field takes; its name in a message.
    Other(&'static str),
}

impl Kind {
    /// The kind's name in a message.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "true or false",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// Members by name, each with the place of its key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(pub(crate) BTreeMap<String, (At, Node)>);

impl Table {
    /// Lays another table over this one: tables meet member by member, anything else is replaced.
    pub(crate) fn overlay(&mut self, over: Self) {
        for (key, (key_at, node)) in over.0 {
            match (self.0.get_mut(&key), node) {
                (Some((at, Node { kind: Kind::Table(under), .. })), Node { kind: Kind::Table(over), .. }) => {
                    *at = key_at;
                    under.overlay(over);
                }
                (_, node) => {
                    self.0.insert(key, (key_at, node));
                }
            }
        }
    }
}

/// Reads one of the texts. A text that is not TOML gives no tree; one whose only faults are repeated keys does, so that
/// its other faults are told in the same breath.
pub(crate) fn read(source: usize, faults: &mut Faults<'_>) -> Option<Table> {
    let text = faults.source(source)?.text;
    let start = At { source, offset: 0 };
    if text.len() > FILE_BYTES {
        faults.add(start, "", format!("the file is longer than {FILE_BYTES} bytes"));
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in errors {
        let message = error.message();
        readable &= message == "duplicate key";
        let span = error.span().unwrap_or_default();
        let at = At { source, offset: span.start };
        let message = match text.get(span) {
            Some(key) if message == "duplicate key" => format!("{key} is given twice"),
            _ => format!("not TOML: {message}"),
        };
        faults.add(at, "", message);
    }
    readable.then(|| table(root.get_ref(), source))
}

fn table(table: &DeTable<'_>, source: usize) -> Table {
    let member = |(key, value): (&Spanned<_>, &Spanned<_>)| {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        let at = At { source, offset: key.span().start };
        (key.get_ref().to_string(), (at, node(value, source)))
    };
    Table(table.iter().map(member).collect())
}

fn node(value: &Spanned<DeValue<'_>>, source: usize) -> Node {
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Kind::Other("a huge integer"), Kind::Integer)
        }
        DeValue::Boolean(boolean) => Kind::Boolean(*boolean),
        DeValue::Array(items) => Kind::List(items.iter().map(|item| node(item, source)).collect()),
        DeValue::Table(members) => Kind::Table(table(members, source)),
        DeValue::Float(_) => Kind::Other("a fraction"),
        DeValue::Datetime(moment) => date(moment).map_or(Kind::Other("a date with a time"), Kind::Date),
    };
    Node { at: At { source, offset: value.span().start }, kind }
}

/// The day, where there is nothing but a day.
fn date(moment: &Datetime) -> Option<Date> {
    let (Some(date), None, None) = (moment.date, moment.time, moment.offset) else { return None };
    Date::from_calendar_date(i32::from(date.year), Month::try_from(date.month).ok()?, date.day).ok()
}
