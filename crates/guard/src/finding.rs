//! Findings: where something stands that must not be shown, and how the text looks without it.
//!
//! Owns the markers and the rendering. Never looks for anything itself.

use std::{borrow::Cow, ops::Range};

/// After this many rounds the text stands still: a round can lay open one more match at most where a marker has replaced
/// the letter that hid a token's beginning.
const ROUNDS: usize = 4;

macro_rules! kinds {
    ($($kind:ident => $marker:literal,)+) => {
        /// What was found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($kind,)+
        }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$kind,)+];

            /// What stands in the text afterwards.
            pub(crate) fn marker(self) -> &'static str {
                match self {
                    $(Self::$kind => $marker,)+
                }
            }
        }
    };
}

kinds! {
    Known => "[redacted:known]",
    Authorization => "[redacted:authorization]",
    Cookie => "[redacted:cookie]",
    Password => "[redacted:password]",
    PasswordHash => "[redacted:password-hash]",
    Secret => "[redacted:secret]",
    Token => "[redacted:token]",
    Key => "[redacted:key]",
    Session => "[redacted:session]",
    Code => "[redacted:code]",
    State => "[redacted:state]",
    Signature => "[redacted:signature]",
    Jwt => "[redacted:jwt]",
    PrivateKey => "[redacted:private-key]",
    Userinfo => "[redacted:userinfo]",
    ApiKey => "[redacted:api-key]",
    PlatformToken => "[redacted:platform-token]",
    Email => "[email]",
    Phone => "[phone]",
    Card => "[card]",
    Address => "[ip]",
}

impl Kind {
    fn is_personal(self) -> bool {
        matches!(self, Self::Email | Self::Phone | Self::Card | Self::Address)
    }
}

/// One place in a text, in bytes, on character boundaries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: Kind,
    /// The value was a bare JSON number: its marker needs quotes, so that the document stays JSON.
    pub(crate) quoted: bool,
}

impl Finding {
    pub(crate) fn new(range: Range<usize>, kind: Kind) -> Self {
        Self { start: range.start, end: range.end, kind, quoted: false }
    }
}

/// The piece of a text, empty where the range does not lie on character boundaries.
pub(crate) fn piece(text: &str, range: Range<usize>) -> &str {
    text.get(range).unwrap_or_default()
}

/// The character that stands before a place.
pub(crate) fn before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

/// The parts of the text between markers: what has been replaced already is never looked at again.
pub(crate) fn unmarked(text: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices('[') {
        let rest = piece(text, at..text.len());
        if let Some(kind) = Kind::ALL.iter().find(|kind| rest.starts_with(kind.marker())) {
            parts.push(from..at);
            from = at + kind.marker().len();
        }
    }
    parts.push(from..text.len());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Sorts findings and joins those that overlap. A secret outweighs personal data, then the one that begins first counts.
fn settle(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.retain(|finding| finding.start < finding.end);
    findings.sort_by_key(|finding| (finding.start, finding.kind.is_personal(), usize::MAX - finding.end));
    let mut settled: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        match settled.last_mut() {
            Some(last) if finding.start < last.end => {
                last.end = last.end.max(finding.end);
                if last.kind.is_personal() {
                    last.kind = finding.kind;
                }
            }
            _ => settled.push(finding),
        }
    }
    settled
}

/// The text up to `until`, its findings replaced. A finding that begins before `until` is the last thing shown.
fn render(text: &str, findings: &[Finding], until: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(until) + 32);
    let mut from = 0;
    for finding in findings.iter().take_while(|finding| finding.start < until) {
        shown.push_str(piece(text, from..finding.start));
        let quote = if finding.quoted { "\"" } else { "" };
        shown.push_str(quote);
        shown.push_str(finding.kind.marker());
        shown.push_str(quote);
        from = finding.end;
    }
    if from < until {
        shown.push_str(piece(text, from..text.floor_char_boundary(until)));
    }
    shown
}

/// The text with everything replaced that `find` finds in it, until nothing more is found.
pub(crate) fn replace(text: &str, find: impl Fn(&str) -> Vec<Finding>) -> Cow<'_, str> {
    replace_until(text, text.len(), find)
}

/// As [`replace`], showing nothing that stood behind the first `until` bytes of the text.
///
/// `find` sees the whole text all the same, so that a secret which straddles the cut is recognised.
pub(crate) fn replace_until(text: &str, until: usize, find: impl Fn(&str) -> Vec<Finding>) -> Cow<'_, str> {
    let found = settle(find(text));
    if found.is_empty() {
        return Cow::Borrowed(piece(text, 0..text.floor_char_boundary(until)));
    }
    let mut shown = render(text, &found, until);
    for _ in 1..ROUNDS {
        let found = settle(find(&shown));
        if found.is_empty() {
            break;
        }
        shown = render(&shown, &found, shown.len());
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_findings_become_one_and_the_secret_names_it() {
        let found = settle(vec![
            Finding::new(2..8, Kind::Email),
            Finding::new(4..12, Kind::Password),
            Finding::new(20..22, Kind::Jwt),
        ]);
        assert_eq!(render("0123456789abcdefghijklmn", &found, 24), "01[redacted:password]cdefghij[redacted:jwt]mn");
    }

    #[test]
    fn a_cut_inside_a_finding_ends_with_its_marker() {
        let found = [Finding::new(2..8, Kind::Token)];
        assert_eq!(render("0123456789", &found, 5), "01[redacted:token]");
        assert_eq!(render("0123456789", &found, 2), "01");
        assert_eq!(render("0123456789", &found, 9), "01[redacted:token]8");
    }

    #[test]
    fn markers_are_left_out_of_the_search() {
        let text = "a[redacted:jwt]b[email][other]c";
        let parts: Vec<&str> = unmarked(text).into_iter().map(|part| piece(text, part)).collect();
        assert_eq!(parts, ["a", "b", "[other]c"]);
    }
}
