//! Paths with places in them: `/2/tweets/{id}`. Reading a request's path, and writing one that cannot be led astray.
//!
//! A value never becomes more than one segment: slashes and dot segments are refused in values on the way in, and
//! everything that is not unreserved (RFC 3986 §2.3) is escaped on the way out.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, Serializer};

/// The longest path that is read, in bytes, and the most segments that a template has.
pub(super) const PATH_BYTES: usize = 2048;
const SEGMENTS: usize = 16;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path of fixed and named segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate(pub(super) Vec<Segment>);

/// What stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Always this.
    Literal(String),
    /// The input that names this place.
    Param(String),
}

/// Why a path or query is refused before it is compared with anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Characters that a URL may not have, an incomplete escape, or an escape of something that is not UTF-8.
    #[error("it is not properly percent-encoded")]
    Encoding,
    /// An escaped slash or backslash: some servers would take it for a separator.
    #[error("it has an escaped slash or backslash")]
    EncodedSlash,
    /// `.` or `..`, escaped or not.
    #[error("it has a dot segment")]
    DotSegment,
    /// Longer than is read.
    #[error("it is too long")]
    TooLong,
}

impl PathTemplate {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("a path begins with a slash".to_owned());
        };
        let segments: Vec<_> = path.split('/').map(segment).collect::<Result<_, _>>()?;
        if segments.len() > SEGMENTS || text.len() > PATH_BYTES / 4 {
            return Err(format!("a path has at most {SEGMENTS} segments and {} bytes", PATH_BYTES / 4));
        }
        let template = Self(segments);
        for (index, name) in template.params().enumerate() {
            if template.params().skip(index + 1).any(|other| other == name) {
                return Err(format!("{{{name}}} is in the path twice"));
            }
        }
        Ok(template)
    }

    /// The names of its places.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Whether some path could be of both, where `admits` says if a place of one could hold the other's fixed segment.
    pub(super) fn overlaps(
        &self,
        other: &Self,
        admits: impl Fn(&str, &str) -> bool,
        other_admits: impl Fn(&str, &str) -> bool,
    ) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|pair| match pair {
                (Segment::Literal(this), Segment::Literal(other)) => this == other,
                (Segment::Param(name), Segment::Literal(text)) => admits(name, text),
                (Segment::Literal(text), Segment::Param(name)) => other_admits(name, text),
                (Segment::Param(_), Segment::Param(_)) => true,
            })
    }

    /// The values of its places, if the decoded segments are of this template.
    pub(super) fn capture<'t>(&'t self, segments: &'t [String]) -> Option<Vec<(&'t str, &'t str)>> {
        if self.0.len() != segments.len() {
            return None;
        }
        let mut captured = Vec::new();
        for (segment, text) in self.0.iter().zip(segments) {
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Literal(_) => return None,
                Segment::Param(name) => captured.push((name.as_str(), text.as_str())),
            }
        }
        Some(captured)
    }

    /// Writes the path, each value escaped into one segment.
    pub(super) fn render<'v>(&self, value: impl Fn(&str) -> &'v str) -> String {
        self.0.iter().fold(String::new(), |path, segment| match segment {
            Segment::Literal(text) => path + "/" + text,
            Segment::Param(name) => path + "/" + &escape(value(name)),
        })
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    let wrong = || {
        format!(
            "the segment {text:?} is neither fixed (A-Z a-z 0-9 - . _ ~ : @, not a dot segment) nor a {{name}} of a-z 0-9 _"
        )
    };
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        return if named && name.len() <= 64 { Ok(Segment::Param(name.to_owned())) } else { Err(wrong()) };
    }
    let fixed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte));
    if text.is_empty() || text == "." || text == ".." || !fixed {
        return Err(wrong());
    }
    Ok(Segment::Literal(text.to_owned()))
}

/// Why a text cannot be one segment of a path, if it cannot. `%` is refused with the separators: a server that decodes
/// twice would find one behind it.
pub(super) fn unfit_for_segment(text: &str) -> Option<&'static str> {
    if text.is_empty() || text == "." || text == ".." {
        return Some("may not be empty or a dot segment, since it is part of a path");
    }
    let apart = |c: char| c.is_control() || matches!(c, '/' | '\\' | '%');
    text.contains(apart)
        .then_some("may not have slashes, backslashes, percent signs or control characters, since it is part of a path")
}

/// Escapes everything but the unreserved characters.
pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Decodes escapes, refusing what only looks like one.
pub(super) fn unescape(text: &str) -> Result<String, Malformed> {
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = byte != b'%' || (0..2).all(|_| rest.next().is_some_and(|digit| digit.is_ascii_hexdigit()));
        if !escaped || !byte.is_ascii_graphic() {
            return Err(Malformed::Encoding);
        }
    }
    let text = percent_decode_str(text).decode_utf8().map_err(|_| Malformed::Encoding)?;
    Ok(text.into_owned())
}

/// The decoded segments of a request's path, refusing what servers are known to read in two ways.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Malformed> {
    if path.len() > PATH_BYTES {
        return Err(Malformed::TooLong);
    }
    let Some(path) = path.strip_prefix('/') else {
        return Err(Malformed::Encoding);
    };
    path.split('/').map(one_segment).collect()
}

fn one_segment(raw: &str) -> Result<String, Malformed> {
    if raw.contains(['?', '#', '\\']) {
        return Err(Malformed::Encoding);
    }
    let text = unescape(raw)?;
    if text.contains(['/', '\\']) {
        return Err(Malformed::EncodedSlash);
    }
    if text == "." || text == ".." {
        return Err(Malformed::DotSegment);
    }
    Ok(text)
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(f, "/{text}"),
            Segment::Param(name) => write!(f, "/{{{name}}}"),
        })
    }
}

impl Serialize for PathTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_one_way_or_not_at_all() {
        use Malformed::{DotSegment, EncodedSlash, Encoding, TooLong};
        for (path, read) in [
            ("/2/tweets/1", Ok(vec!["2", "tweets", "1"])),
            ("/2/tw%65ets/%31", Ok(vec!["2", "tweets", "1"])),
            ("/caf%C3%A9", Ok(vec!["café"])),
            ("/a%2525", Ok(vec!["a%25"])),
            ("/a//b/", Ok(vec!["a", "", "b", ""])),
            ("2/tweets", Err(Encoding)),
            ("/a%", Err(Encoding)),
            ("/a%2", Err(Encoding)),
            ("/a%2g", Err(Encoding)),
            ("/a%ff", Err(Encoding)),
            ("/a b", Err(Encoding)),
            ("/é", Err(Encoding)),
            ("/a?b", Err(Encoding)),
            ("/a#b", Err(Encoding)),
            ("/a\\b", Err(Encoding)),
            ("/a%2fb", Err(EncodedSlash)),
            ("/a%5Cb", Err(EncodedSlash)),
            ("/..", Err(DotSegment)),
            ("/a/%2e%2E/b", Err(DotSegment)),
            ("/.", Err(DotSegment)),
            (&format!("/{}", "a".repeat(PATH_BYTES)), Err(TooLong)),
        ] {
            let read = read.map(|segments| segments.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(segments(path), read, "{path}");
        }
    }
}
