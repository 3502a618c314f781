//! Where a value ends that stands behind a secret's name.
//!
//! Owns the reading of quotes on any level of escaping, of percent-encoded quotes, of lists, of the wrappers that Rust's
//! `Debug` prints, and of header lines. Never decides whether the value is a secret.

use crate::finding::piece;

/// How a bare value ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the next space or separator of its notation.
    Word,
    /// With the line, as header values do that have spaces and quotes in them.
    Line,
}

/// How the name and its separator were written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notation {
    /// The name stood in quotes: a bare value ends where a JSON value would.
    pub(crate) quoted_name: bool,
    /// The separator was percent-encoded: so are the ones behind the value.
    pub(crate) encoded: bool,
    /// The name was an XML tag.
    pub(crate) tag: bool,
}

/// A value's place in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) form: Form,
}

/// How the value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Quoted,
    Bare,
    List,
}

/// Schemes of the Authorization header that are followed by one word (RFC 9110 §11.4).
const ONE_WORD_SCHEMES: &[&str] = &["bearer", "basic", "token", "dpop", "negotiate", "apikey", "api-key", "bot"];

/// Reads the value that begins at `at`.
pub(crate) fn read(text: &str, at: usize, ending: Ending, notation: Notation) -> Place {
    let bytes = text.as_bytes();
    let at = unwrapped(bytes, at);
    if let Some(place) = percent_quoted(text, at).or_else(|| quoted(bytes, at)) {
        return place;
    }
    match bytes.get(at) {
        Some(b'[') => list(bytes, at),
        Some(_) if ending == Ending::Line => Place { start: at, end: line_end(text, at), form: Form::Bare },
        _ => {
            let end = word_end(bytes, at, notation);
            braced(text, at, end).unwrap_or(Place { start: at, end: trimmed(bytes, at, end), form: Form::Bare })
        }
    }
}

/// Steps into `Some("…")`, `Secret(b"…")` and their like, three deep.
fn unwrapped(bytes: &[u8], mut at: usize) -> usize {
    for _ in 0..3 {
        let mut next = at;
        while bytes.get(next).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':')) {
            next += 1;
        }
        if next == at || bytes.get(next) != Some(&b'(') {
            break;
        }
        at = next + 1;
    }
    if matches!(bytes.get(at), Some(b'b' | b'r')) && matches!(bytes.get(at + 1), Some(b'"' | b'\'')) {
        at += 1;
    }
    at
}

/// A quote and the text up to the quote that closes it, on whatever level of escaping both stand.
///
/// A quote with `n` backslashes is closed by the next one with `n`, or with `n` and whole groups of `2(n + 1)` that belong to
/// the value's own last backslashes. One with fewer closes a text around it: the value ends there as well.
fn quoted(bytes: &[u8], at: usize) -> Option<Place> {
    let mut open = at;
    while bytes.get(open) == Some(&b'\\') {
        open += 1;
    }
    let depth = open - at;
    let quote = *bytes.get(open).filter(|b| matches!(b, b'"' | b'\'' | b'`'))?;
    let start = open + 1;
    let mut slashes = 0;
    let mut end = start;
    while let Some(&byte) = bytes.get(end) {
        if byte == quote && (slashes < depth || (slashes - depth).is_multiple_of(2 * (depth + 1))) {
            end -= slashes.min(depth);
            break;
        }
        slashes = if byte == b'\\' { slashes + 1 } else { 0 };
        end += 1;
    }
    Some(Place { start, end, form: Form::Quoted })
}

/// `%22…%22`, also encoded more than once.
fn percent_quoted(text: &str, at: usize) -> Option<Place> {
    let rest = piece(text, at..text.len());
    let mut digits = rest.strip_prefix('%')?;
    while let Some(more) = digits.strip_prefix("25") {
        digits = more;
    }
    let closed = digits.strip_prefix("22").or_else(|| digits.strip_prefix("27"))?;
    let (quote, body) = rest.split_at_checked(rest.len() - closed.len())?;
    // Whatever is percent-encoded has no such letters in it.
    let body = body.split([' ', '"', '\n', '&']).next().unwrap_or_default();
    let end = body.find(quote).unwrap_or(body.len());
    let start = at + quote.len();
    Some(Place { start, end: start + end, form: Form::Quoted })
}

/// The inside of a list, up to the first bracket that no quote encloses.
fn list(bytes: &[u8], at: usize) -> Place {
    let start = at + 1;
    let mut end = start;
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b']' => break,
            b'"' => end = quoted(bytes, end).map_or(end, |inner| inner.end).max(end) + 1,
            _ => end += 1,
        }
    }
    Place { start, end: end.min(bytes.len()), form: Form::List }
}

/// `Name { field: … }`, as `Debug` prints a struct: the inside of the braces.
fn braced(text: &str, at: usize, end: usize) -> Option<Place> {
    let name = piece(text, at..end);
    let rest = piece(text, end..text.len());
    if !name.starts_with(|c: char| c.is_ascii_uppercase()) || !rest.starts_with(" { ") {
        return None;
    }
    let inside = rest.find('}').unwrap_or(rest.len());
    Some(Place { start: end + 3, end: end + inside.max(3), form: Form::Bare })
}

fn word_end(bytes: &[u8], at: usize, notation: Notation) -> usize {
    let mut end = at;
    while let Some(&byte) = bytes.get(end) {
        let stops = match byte {
            b'"' | b'\'' | b'`' | b'&' => true,
            b',' | b'}' | b']' => notation.quoted_name,
            b'<' | b'>' => notation.tag,
            b'\\' => matches!(bytes.get(end + 1), Some(b'"' | b'\'' | b'n' | b'r' | b't' | b'\\' | b'u')),
            b'%' => notation.encoded && is_encoded_separator(bytes, end),
            byte => byte.is_ascii_whitespace(),
        };
        if stops {
            break;
        }
        end += 1;
    }
    end
}

/// `%26`, `%22`, `%20`, `%0A`, `%0D` or `%2C`, encoded once or more often.
fn is_encoded_separator(bytes: &[u8], at: usize) -> bool {
    let mut digits = bytes.get(at + 1..).unwrap_or_default();
    while let Some(more) = digits.strip_prefix(b"25") {
        digits = more;
    }
    matches!(digits, [b'2', b'6' | b'2' | b'0' | b'C' | b'c', ..] | [b'0', b'A' | b'a' | b'D' | b'd', ..])
}

/// Punctuation of the sentence or the `Debug` form around a bare value is not the value's.
fn trimmed(bytes: &[u8], start: usize, mut end: usize) -> usize {
    while end > start && bytes.get(end - 1).is_some_and(|b| b",;.)}]>".contains(b)) {
        end -= 1;
    }
    end
}

/// The end of a header's value: one word behind a scheme that has one word, else the line.
fn line_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let plain = Notation { quoted_name: false, encoded: true, tag: false };
    let scheme_end = at + bytes.iter().skip(at).take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
    let scheme = piece(text, at..scheme_end);
    if ONE_WORD_SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        let rest = piece(text, scheme_end..text.len());
        let word = rest.trim_start_matches([' ', '\t', '+']);
        let word = word.strip_prefix("%20").unwrap_or(word);
        let start = text.len() - word.len();
        if start > scheme_end {
            return trimmed(bytes, start, word_end(bytes, start, plain));
        }
    }
    let mut end = at;
    while let Some(&byte) = bytes.get(end) {
        let after = bytes.get(end + 1);
        match byte {
            b'\\' if matches!(after, Some(b'n' | b'r' | b'"' | b'\\')) => break,
            b'%' if matches!(bytes.get(end + 1..end + 3), Some([b'0', b'A' | b'a' | b'D' | b'd'])) => break,
            // A parameter's own quotes are part of the line; any other quote belongs to the text around it.
            b'=' if matches!(after, Some(b'"' | b'\\')) => match quoted(bytes, end + 1) {
                Some(inner) => {
                    end = inner.end;
                    while bytes.get(end) == Some(&b'\\') {
                        end += 1;
                    }
                    end += 1;
                }
                None => end += 1,
            },
            b'\n' | b'\r' | b'"' | b'\'' | b'`' => break,
            _ => end += 1,
        }
    }
    end.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Notation = Notation { quoted_name: false, encoded: false, tag: false };

    #[test]
    fn a_value_ends_where_its_notation_ends_it() {
        let word = [
            (r#""abc" x"#, "abc"),
            (r#""a\"b" x"#, r#"a\"b"#),
            (r#""ab\\" x"#, r"ab\\"),
            (r#"\"abc\",\"d\""#, "abc"),
            (r#"\"a\\\"b\" x"#, r#"a\\\"b"#),
            (r#"\\\"abc\\\" x"#, "abc"),
            (r#"\"abc","d""#, "abc"),
            (r#""never closed, to the end"#, "never closed, to the end"),
            ("'it is' x", "it is"),
            ("abc, next", "abc"),
            ("a,b;c next", "a,b;c"),
            ("abc&state=1", "abc"),
            (r#"abc\",\"x"#, "abc"),
            (r#"Some("abc") x"#, "abc"),
            (r#"Some(Secret("abc")) x"#, "abc"),
            (r#"Secret { value: "abc" } x"#, r#"value: "abc" "#),
            (r#"["a]", "b"] x"#, r#""a]", "b""#),
            ("[1, 2, 3] x", "1, 2, 3"),
            ("%22abc%22%7D", "abc"),
            ("%2522abc%2522", "abc"),
            ("é\u{2028}ü x", "é\u{2028}ü"),
        ];
        for (text, value) in word {
            let place = read(text, 0, Ending::Word, PLAIN);
            assert_eq!(piece(text, place.start..place.end), value, "{text}");
        }
        let line = [
            ("Bearer abc rejected", "Bearer abc"),
            ("Bearer%20abc%0D%0AHost", "Bearer%20abc"),
            ("Digest username=\"a b\", response=\"c\"\r\nHost: x", "Digest username=\"a b\", response=\"c\""),
            (r#"a=b; c=\"d e\"; f\r\nHost"#, r#"a=b; c=\"d e\"; f"#),
            (r#"a=b; c=d","next":1"#, "a=b; c=d"),
        ];
        for (text, value) in line {
            let place = read(text, 0, Ending::Line, PLAIN);
            assert_eq!(piece(text, place.start..place.end), value, "{text}");
        }
    }
}
