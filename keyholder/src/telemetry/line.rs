//! What a line is made of, and how it is written.
//!
//! Owns [`Shown`], the only kind of value that a line takes: it comes from [`Washing`] alone, so that no byte gets into a line
//! uncleaned. Nothing that a line is made of can begin another line, close its own quotes or steer a terminal.

use std::{borrow::Cow, error::Error, fmt, fmt::Write};

use guard::Cleaner;
use service::step::Step;
use time::{OffsetDateTime, macros::format_description};
use tracing::{
    Level,
    field::{Field, Visit},
};

use super::Format;

/// The longest text of a value, in bytes before it is escaped.
pub(super) const VALUE_LIMIT: usize = 8 * 1024;
/// The longest line, in bytes.
pub(super) const LINE_LIMIT: usize = 64 * 1024;
/// How many causes of an error are told.
const CAUSES: usize = 8;
/// What is written for the rest of a value that is too long.
const CUT: &str = "…[cut]";

/// Fields of these names carry what people wrote, or what a request was made of. Only their length is told.
const WITHHELD: &[&str] =
    &["answer", "arguments", "body", "content", "html", "input", "output", "payload", "prompt", "request_body", "text"];

/// The field's own word, where a text is one of the closed list that such a field takes its values from: a step, a method, a route of the
/// table. It stands in the source and is nobody's secret, so it needs no cleaning. Whatever else such a field holds is a text like any other.
fn own_word(name: &str, text: &str) -> Option<&'static str> {
    match name {
        "step" => Step::ALL.iter().map(|step| step.as_str()).find(|word| *word == text),
        "method" => server::METHODS.into_iter().find(|word| *word == text),
        "route" => server::routes::table().iter().map(|route| route.path).find(|path| *path == text),
        _ => None,
    }
}

/// What makes values fit to be shown.
pub(super) enum Washing {
    /// Redacts and masks.
    Clean(Cleaner),
    /// Lets everything through, so that the tests can see what would be in the log without the cleaner.
    #[cfg(test)]
    Off,
}

/// A value that has been cleaned and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// To be quoted and escaped.
    Text(Cow<'static, str>),
    /// A number or a truth value, that is JSON as it is.
    Bare(String),
}

/// Named values, each name once.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Shown)>);

impl Fields {
    pub(super) fn set(&mut self, name: &'static str, value: Shown) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn extend(&mut self, more: &Self) {
        more.0.iter().for_each(|(name, value)| self.set(name, value.clone()));
    }

    /// Takes over what was recorded later.
    pub(super) fn append(&mut self, more: Self) {
        more.0.into_iter().for_each(|(name, value)| self.set(name, value));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Shown> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, Shown)> + '_ {
        self.0.iter().cloned()
    }

    fn take(&mut self, name: &str) -> Option<Shown> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }
}

impl Washing {
    /// Cleans a field's text. `whole` says whether there is no more of it than `text`.
    fn text(&self, name: &str, text: &str, whole: bool) -> Shown {
        if WITHHELD.contains(&name) {
            return withheld(text.len());
        }
        if let Some(word) = own_word(name, text).filter(|_| whole) {
            return Shown::Text(Cow::Borrowed(word));
        }
        let mut shown = match self {
            Self::Clean(cleaner) => match cleaner.field_marker(name, text) {
                Some(marker) => return Shown::Text(Cow::Borrowed(marker)),
                None => cleaner.clean_cut(text, VALUE_LIMIT).into_owned(),
            },
            #[cfg(test)]
            Self::Off => text.get(..text.floor_char_boundary(VALUE_LIMIT)).unwrap_or_default().to_owned(),
        };
        if !whole || text.len() > VALUE_LIMIT {
            shown.push_str(CUT);
        }
        Shown::Text(Cow::Owned(shown))
    }

    /// A number may be a telephone number all the same.
    fn number(&self, name: &str, number: String) -> Shown {
        match self.text(name, &number, true) {
            Shown::Text(text) if text == number => Shown::Bare(number),
            shown => shown,
        }
    }
}

fn withheld(bytes: usize) -> Shown {
    Shown::Text(Cow::Owned(format!("[withheld: {bytes} bytes]")))
}

/// Collects the fields of an event or a span, cleaned.
pub(super) struct Collector<'a> {
    pub(super) washing: &'a Washing,
    pub(super) fields: &'a mut Fields,
}

impl Collector<'_> {
    fn format(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = Bounded::default();
        // An error here is the text's own end, or that of a faulty Display: what there is of it is shown.
        let _ = text.write_fmt(value);
        self.fields.set(field.name(), self.washing.text(field.name(), &text.text, !text.full));
    }
}

impl Visit for Collector<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        let number = self.washing.number(field.name(), value.to_string());
        let shown = match number {
            Shown::Bare(number) if !value.is_finite() => Shown::Text(Cow::Owned(number)),
            number => number,
        };
        self.fields.set(field.name(), shown);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.set(field.name(), self.washing.number(field.name(), value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.set(field.name(), self.washing.number(field.name(), value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.set(field.name(), Shown::Bare(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.set(field.name(), self.washing.text(field.name(), value, true));
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.fields.set(field.name(), withheld(value.len()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.format(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.format(field, format_args!("{value:?}"));
    }
}

/// An error and its causes, in one line.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        std::iter::successors(self.0.source(), |&error| error.source())
            .take(CAUSES)
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// Takes as much of a text as the cleaner wants to see, and no more.
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = VALUE_LIMIT + Cleaner::LOOKAHEAD - self.text.len();
        let fitting = more.floor_char_boundary(room);
        self.text.push_str(more.get(..fitting).unwrap_or_default());
        if fitting < more.len() {
            self.full = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// One line of the log, its line feed included.
pub(super) fn render(
    format: Format,
    now: OffsetDateTime,
    level: Level,
    target: &'static str,
    mut fields: Fields,
    span: &Fields,
) -> String {
    let stamp = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    let stamp = now.format(&stamp).unwrap_or_default();
    let message = fields.take("message").unwrap_or(Shown::Text(Cow::Borrowed("")));
    match format {
        Format::Json => json(&stamp, level, target, &message, &[("fields", &fields), ("span", span)]),
        Format::Pretty => pretty(&stamp, level, target, &message, &[&fields, span]),
    }
}

fn json(stamp: &str, level: Level, target: &str, message: &Shown, groups: &[(&str, &Fields)]) -> String {
    let mut line = String::with_capacity(LINE_ROOM);
    let _ = write!(line, "{{\"timestamp\":\"{stamp}\",\"level\":\"{level}\",\"target\":");
    push_quoted(&mut line, target);
    line.push_str(",\"message\":");
    push_shown(&mut line, message);
    let mut cut = false;
    for (group, fields) in groups {
        let without = line.len();
        let _ = write!(line, ",\"{group}\":{{");
        let begun = line.len();
        for (name, value) in &fields.0 {
            let before = line.len();
            if before > begun {
                line.push(',');
            }
            push_quoted(&mut line, name);
            line.push(':');
            push_shown(&mut line, value);
            if line.len() + LINE_END > LINE_LIMIT {
                line.truncate(before);
                cut = true;
            }
        }
        if line.len() > begun {
            line.push('}');
        } else {
            line.truncate(without);
        }
    }
    line.push_str(if cut { ",\"cut\":true}\n" } else { "}\n" });
    line
}

/// Room for most lines.
const LINE_ROOM: usize = 512;

/// Room for the braces, commas and group names of a line.
const LINE_END: usize = 64;

fn pretty(stamp: &str, level: Level, target: &str, message: &Shown, groups: &[&Fields]) -> String {
    let mut line = format!("{stamp} {level:>5} {target}: ");
    match message {
        Shown::Text(text) => push_escaped(&mut line, text, false),
        Shown::Bare(text) => line.push_str(text),
    }
    for (name, value) in groups.iter().flat_map(|fields| &fields.0) {
        let mut field = format!(" {name}=");
        match value {
            Shown::Text(text) if text.contains([' ', '"', '=']) || text.is_empty() => push_quoted(&mut field, text),
            Shown::Text(text) => push_escaped(&mut field, text, false),
            Shown::Bare(text) => field.push_str(text),
        }
        if line.len() + field.len() + LINE_END <= LINE_LIMIT {
            line.push_str(&field);
        }
    }
    line.push('\n');
    line
}

fn push_shown(line: &mut String, value: &Shown) {
    match value {
        Shown::Text(text) => push_quoted(line, text),
        Shown::Bare(text) => line.push_str(text),
    }
}

fn push_quoted(line: &mut String, text: &str) {
    line.push('"');
    push_escaped(line, text, true);
    line.push('"');
}

/// Escapes as JSON does (RFC 8259 §7), and beyond it what a terminal or a reader's eye would obey: all control characters,
/// line and paragraph separators, marks that turn the direction of text.
fn push_escaped(line: &mut String, text: &str, quoted: bool) {
    // Most texts need nothing of it.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !(quoted && matches!(byte, b'"' | b'\\'))) {
        line.push_str(text);
        return;
    }
    for letter in text.chars() {
        match letter {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '"' | '\\' if quoted => line.extend(['\\', letter]),
            letter if letter.is_control() || steers(letter) => {
                let _ = write!(line, "\\u{:04x}", u32::from(letter));
            }
            letter => line.push(letter),
        }
    }
}

fn steers(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
