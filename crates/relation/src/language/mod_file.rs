//! `fga.mod`: the list of a modular model's files.
//!
//! The file is YAML, of which it needs one key with a text and one with a list of texts. Just that is read here, with its places; a
//! file that uses more of YAML is told that it is not understood, and nothing in it is guessed.

use crate::model::{Fault, FaultKind, Place, Span};

/// A value, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// What an `fga.mod` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModFile {
    /// The schema's version.
    pub schema: Placed<String>,
    /// The files.
    pub contents: Placed<Vec<Placed<String>>>,
}

/// How many lines are read.
const LINES: usize = 10_000;

/// A value as it is written.
#[derive(Debug, Clone)]
struct Scalar {
    text: String,
    /// Whether YAML takes it for a text.
    is_text: bool,
    place: Place,
}

#[derive(Debug)]
enum Value {
    Scalar(Scalar),
    List(Vec<Scalar>, Place),
}

/// Reads an `fga.mod`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_mod_file(text: &str) -> Result<ModFile, Vec<Fault>> {
    let (mut schema, mut contents) = (None, None);
    for (key, value) in pairs(text)? {
        match key.as_str() {
            "schema" => schema = Some(value),
            "contents" => contents = Some(value),
            _ => {}
        }
    }
    let mut faults = Vec::new();
    let schema = read_schema(schema, &mut faults);
    let contents = read_contents(contents, &mut faults);
    match (schema, contents) {
        (Some(schema), Some(contents)) if faults.is_empty() => Ok(ModFile { schema, contents }),
        _ => Err(faults),
    }
}

fn fault(message: String, place: Place) -> Fault {
    Fault { message, kind: FaultKind::Module, place: Some(place) }
}

fn read_schema(value: Option<Value>, faults: &mut Vec<Fault>) -> Option<Placed<String>> {
    match value {
        None => faults.push(fault("missing schema field".to_owned(), Place::default())),
        Some(Value::Scalar(scalar)) if scalar.is_text => {
            if scalar.text == "1.2" {
                return Some(Placed { value: scalar.text, place: scalar.place });
            }
            let message = "unsupported schema version, fga.mod only supported in version `1.2`".to_owned();
            faults.push(fault(message, scalar.place));
        }
        Some(Value::Scalar(scalar)) => {
            faults.push(fault(
                format!("unexpected schema type, expected string got value {}", scalar.text),
                scalar.place,
            ));
        }
        Some(Value::List(_, place)) => {
            faults.push(fault("unexpected schema type, expected string got a list".to_owned(), place));
        }
    }
    None
}

fn read_contents(value: Option<Value>, faults: &mut Vec<Fault>) -> Option<Placed<Vec<Placed<String>>>> {
    match value {
        None => faults.push(fault("missing contents field".to_owned(), Place::default())),
        Some(Value::Scalar(scalar)) => {
            let message = format!("unexpected contents type, expected list of strings got value {}", scalar.text);
            faults.push(fault(message, scalar.place));
        }
        Some(Value::List(items, place)) => {
            let mut files = Vec::new();
            for item in items {
                match file_name(&item) {
                    Ok(value) => files.push(Placed { value, place: item.place }),
                    Err(message) => faults.push(fault(message, item.place)),
                }
            }
            return Some(Placed { value: files, place });
        }
    }
    None
}

/// A file's name, which must be of a file beneath: no way up, and none from the root.
fn file_name(item: &Scalar) -> Result<String, String> {
    if !item.is_text {
        return Err(format!("unexpected contents item type, expected string got value {}", item.text));
    }
    let plain = unescaped(&item.text).replace('\\', "/");
    if plain.split('/').any(|part| part == "..") || plain.starts_with('/') {
        return Err(format!("invalid contents item {}", item.text));
    }
    let is_model = std::path::Path::new(&plain).extension().is_some_and(|extension| extension == "fga");
    if is_model { Ok(plain) } else { Err(format!("contents items should use fga file extension, got {}", item.text)) }
}

/// The text with `%2e` and the like replaced, so that nothing can hide behind them.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The keys of the file with their values.
fn pairs(text: &str) -> Result<Vec<(String, Value)>, Vec<Fault>> {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    let lines: Vec<&str> = text.lines().take(LINES).collect();
    for (number, line) in lines.iter().enumerate() {
        let body = line.trim();
        if body.is_empty() || body.starts_with('#') || body == "---" {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if let Some(rest) = body.strip_prefix("- ") {
            let column = line.len() - line.trim_start().len() + 2 + (rest.len() - rest.trim_start().len());
            let item = scalar(rest, number, column);
            match (pairs.last_mut(), item) {
                (Some((_, Value::List(items, place))), Ok(item)) => {
                    if items.is_empty() {
                        place.line.start = number;
                        place.column.start = indent;
                    }
                    items.push(item);
                    // A list ends where the next thing begins.
                    place.line.end = number + 1;
                    place.column.end = 0;
                    continue;
                }
                _ => return Err(vec![fault("this is not understood here".to_owned(), here(number, line))]),
            }
        }
        let Some((key, value)) = body.split_once(':').filter(|_| indent == 0) else {
            return Err(vec![fault("this is not understood here".to_owned(), here(number, line))]);
        };
        let lead = value.len() - value.trim_start().len();
        let value = match value.trim() {
            "" => Value::List(Vec::new(), here(number, line)),
            _ => Value::Scalar(
                scalar(value, number, key.len() + 1 + lead)
                    .map_err(|message| vec![fault(message, here(number, line))])?,
            ),
        };
        pairs.push((key.trim().to_owned(), value));
    }
    Ok(pairs)
}

fn here(line: usize, text: &str) -> Place {
    Place { file: None, line: Span { start: line, end: line }, column: Span { start: 0, end: text.chars().count() } }
}

/// A value on one line, plain or between quotes.
fn scalar(text: &str, line: usize, column: usize) -> Result<Scalar, String> {
    let text = text.trim();
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''));
    let written = match quote {
        Some(quote) => {
            let end = text.char_indices().skip(1).find(|(_, letter)| *letter == quote).map(|(at, _)| at + 1);
            end.and_then(|end| text.get(..end)).ok_or_else(|| "this quote is not closed".to_owned())?
        }
        None => text.split(" #").next().unwrap_or_default().trim_end(),
    };
    if quote.is_none() && written.starts_with(['[', '{', '&', '*', '|', '>', '!', '%', '@', '`']) {
        return Err("this is not understood here".to_owned());
    }
    let place = Place::within(line, column, written.chars().count());
    let is_text =
        quote.is_some() || !(matches!(written, "true" | "false" | "null" | "~") || written.parse::<f64>().is_ok());
    let value = quote.map_or(written, |quote| written.trim_matches(quote));
    Ok(Scalar { text: value.to_owned(), is_text, place })
}
