//! Telephone numbers and payment cards: what can be told from nothing but digits and the marks between them.
//!
//! Owns the rules that keep ids, times, prices and hashes out of it. A number counts as a telephone number if it is written
//! in one of the ways in which hardly anything else is written:
//! - a plus (also `%2B`) and 8 to 15 digits (ITU-T E.164), with single separators among them;
//! - a leading zero, or two, and 9 to 15 digits in all, as trunk and international prefixes are dialled;
//! - three, three and four digits, as in North America, an optional 1 before them;
//! - 7 to 15 digits behind a name such as `phone` or `whatsapp`.
//!
//! A payment card is 14 to 19 digits that begin as one of the networks' numbers do (ISO/IEC 7812) and pass Luhn's check.

use std::ops::Range;

use crate::finding::{Finding, Kind, piece};

/// No number of either kind has more groups than this; a text may have more, and each is looked at from its own beginning.
const GROUPS: usize = 10;

/// Nor more digits.
const DIGITS: usize = 19;

/// Names behind which any number is a telephone number.
const PHONE_NAMES: &[&str] = &["phone", "mobile", "msisdn", "whatsapp", "wa_id", "telephone", "tel", "fax", "cell"];

/// How far before a number its name is looked for.
const NAME_REACH: usize = 24;

/// One group of digits and the marks before it.
#[derive(Clone, Debug)]
struct Group {
    digits: Range<usize>,
    /// What separates it from the group before.
    mark: Range<usize>,
}

/// A number as written: groups of digits, with the marks between them.
struct Number<'t> {
    text: &'t str,
    groups: Vec<Group>,
    /// Where the mask begins: at the plus or bracket, if there is one.
    start: usize,
    plus: bool,
    bracket: bool,
}

/// Adds the telephone and card numbers of `part`, which begins at `base` of its text.
pub(crate) fn find(part: &str, base: usize, findings: &mut Vec<Finding>) {
    let bytes = part.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let Some(number) = Number::read(part, at) else {
            at += 1;
            continue;
        };
        let found = number.card().map(|end| (end, Kind::Card)).or_else(|| number.phone().map(|end| (end, Kind::Phone)));
        at = match found {
            Some((end, kind)) => {
                findings.push(Finding::new(base + number.start..base + end, kind));
                end
            }
            None => number.groups.first().map_or(at + 1, |group| group.digits.end),
        };
    }
}

impl<'t> Number<'t> {
    /// Reads the number that begins at `at`, if one does: not in the middle of a word or of another number.
    fn read(text: &'t str, at: usize) -> Option<Self> {
        let bytes = text.as_bytes();
        let rest = piece(text, at..text.len());
        let opening = ["+(", "+", "%2B", "%2b", "("].into_iter().find(|mark| rest.starts_with(mark)).unwrap_or("");
        let first = at + opening.len();
        if !bytes.get(first)?.is_ascii_digit() || !is_left_edge(text, at, !opening.is_empty()) {
            return None;
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut from = at..first;
        let mut count = 0;
        while groups.len() < GROUPS && count <= DIGITS {
            let digits = bytes.iter().skip(from.end).take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                break;
            }
            count += digits;
            let end = from.end + digits;
            groups.push(Group { mark: from.clone(), digits: from.end..end });
            // Two marks at most: `) `, ` (`, ` - ` is three and separates numbers.
            let marks = bytes.iter().skip(end).take(2).take_while(|b| b" -.()/".contains(b)).count();
            if marks == 0 {
                break;
            }
            from = end..end + marks;
        }
        let bracket = opening.ends_with('(');
        Some(Self { text, groups, start: at, plus: opening.len() > usize::from(bracket), bracket })
    }

    fn digits(&self, groups: usize) -> String {
        self.groups.iter().take(groups).map(|group| piece(self.text, group.digits.clone())).collect()
    }

    fn lengths(&self, groups: usize) -> Vec<usize> {
        self.groups.iter().take(groups).map(|group| group.digits.len()).collect()
    }

    fn marks(&self, groups: usize) -> impl Iterator<Item = &str> {
        self.groups.iter().take(groups).skip(1).map(|group| piece(self.text, group.mark.clone()))
    }

    /// The end of the first so many groups, if the number can end there.
    fn end(&self, groups: usize) -> Option<usize> {
        let end = self.groups.get(groups.checked_sub(1)?)?.digits.end;
        let rest = piece(self.text, end..self.text.len());
        let mut letters = rest.chars();
        let next = letters.next();
        let after = letters.next();
        let runs_on = next.is_some_and(|c| c.is_alphanumeric() || c == '_')
            || matches!((next, after), (Some(':' | '-' | '.' | ','), Some(c)) if c.is_ascii_alphanumeric());
        // Where this number has more groups, what follows is a mark of its own, and leaving them out is a choice.
        (!runs_on || groups < self.groups.len()).then_some(end)
    }

    /// How many groups make a number that passes, the most of them first, and where it ends.
    fn longest(&self, passes: impl Fn(usize) -> bool) -> Option<usize> {
        (1..=self.groups.len()).rev().find_map(|groups| self.end(groups).filter(|_| passes(groups)))
    }

    fn card(&self) -> Option<usize> {
        if self.plus || self.bracket {
            return None;
        }
        self.longest(|groups| {
            let mut marks = self.marks(groups);
            let first = marks.next().unwrap_or_default();
            matches!(first, "" | " " | "-") && marks.all(|mark| mark == first) && is_card(&self.digits(groups))
        })
    }

    fn phone(&self) -> Option<usize> {
        let named = follows_phone_name(self.text, self.start);
        self.longest(|groups| {
            let digits = self.digits(groups);
            if digits.len() > DIGITS {
                return false;
            }
            let lengths = self.lengths(groups);
            let marks: Vec<&str> = self.marks(groups).collect();
            // One point is a decimal point, and four groups with points are an address.
            if marks == ["."] || is_dotted_quad(&marks, &lengths) || is_date(&digits, &lengths) {
                return false;
            }
            let count = digits.len();
            let grouped_in_thousands = groups > 2 && lengths.iter().skip(1).all(|length| *length == 3);
            let trunk = digits.trim_start_matches('0').len();
            match (self.plus, count - trunk) {
                (true, 0) => (8..=15).contains(&count),
                (true, _) => false,
                _ if named => (7..=15).contains(&count),
                (false, 1 | 2) => (9..=17).contains(&count) && trunk <= 15,
                (false, 0) => !grouped_in_thousands && is_north_american(&lengths, &digits, self.bracket),
                _ => false,
            }
        })
    }
}

/// The number does not continue a word, an id, a time or another number.
fn is_left_edge(text: &str, at: usize, opened: bool) -> bool {
    let mut left = piece(text, 0..at).chars().rev();
    let (Some(near), far) = (left.next(), left.next()) else { return true };
    // The letters of an escape belong to no word: `%20` and `\n` are edges.
    let three_back = piece(text, at.saturating_sub(3)..at);
    if three_back.starts_with('%') && three_back.bytes().skip(1).all(|b| b.is_ascii_hexdigit()) && three_back.len() == 3
    {
        return true;
    }
    if far == Some('\\') && matches!(near, 'n' | 'r' | 't') {
        return true;
    }
    if near.is_alphanumeric() || near == '_' {
        return false;
    }
    let joins = matches!(near, '-' | '.' | ':' | '/' | ',' | '$' | '€' | '£' | '#') && !opened;
    !(joins && far.is_some_and(|c| c.is_ascii_alphanumeric()) || !opened && matches!(near, '$' | '€' | '£' | '#'))
}

fn follows_phone_name(text: &str, at: usize) -> bool {
    let from = text.floor_char_boundary(at.saturating_sub(NAME_REACH));
    let left = piece(text, from..at).to_ascii_lowercase();
    let left = left.trim_end_matches(['"', '\'', '\\', ' ', ':', '=', '.', '(', '+']);
    let left = left.strip_suffix("%3a").or_else(|| left.strip_suffix("%3d")).unwrap_or(left);
    is_phone_name(left)
}

/// The text ends with a name of telephone numbers.
pub(crate) fn is_phone_name(text: &str) -> bool {
    let text = text.strip_suffix("number").or_else(|| text.strip_suffix("no")).unwrap_or(text);
    let text = text.trim_end_matches(['_', ' ', '-']);
    PHONE_NAMES
        .iter()
        .any(|name| text.strip_suffix(name).is_some_and(|rest| !rest.ends_with(|c: char| c.is_ascii_alphanumeric())))
}

fn is_dotted_quad(marks: &[&str], lengths: &[usize]) -> bool {
    marks.len() >= 3
        && marks.iter().take(3).all(|mark| *mark == ".")
        && lengths.iter().take(4).all(|length| *length <= 3)
        && lengths.iter().take(4).any(|length| *length != 2)
}

/// `2025-11-21`, and whatever follows it: a time, an offset, another date.
fn is_date(digits: &str, lengths: &[usize]) -> bool {
    let number = |range: Range<usize>| piece(digits, range).parse::<u32>().unwrap_or(0);
    match lengths {
        [4, 2, 2, ..] => (1..=12).contains(&number(4..6)) && (1..=31).contains(&number(6..8)),
        [2, 2, 4, ..] => {
            let (first, second) = (number(0..2), number(2..4));
            (1..=31).contains(&first) && (1..=31).contains(&second) && (1900..2200).contains(&number(4..8))
        }
        _ => false,
    }
}

/// Area code, exchange and number, none of which begins with 0 or 1 (the last may), an optional country code before them.
fn is_north_american(lengths: &[usize], digits: &str, bracket: bool) -> bool {
    let (lengths, digits) = match (lengths, digits.strip_prefix('1')) {
        ([1, rest @ ..], Some(digits)) => (rest, digits),
        _ => (lengths, digits),
    };
    let shape = lengths == [3, 3, 4] || (bracket && lengths == [3, 7]);
    shape && !digits.starts_with(['0', '1']) && !piece(digits, 3..6).starts_with(['0', '1'])
}

/// Begins as a card network's numbers do, has their length, and passes Luhn's check.
fn is_card(digits: &str) -> bool {
    let prefix = |length: usize| piece(digits, 0..length).parse::<u32>().unwrap_or(0);
    let lengths: &[usize] = match (prefix(1), prefix(2), prefix(3), prefix(4)) {
        (4, ..) => &[16, 19],
        (_, 35 | 51..=55, ..) | (_, _, _, 2221..=2720) => &[16],
        (_, 34 | 37, ..) => &[15],
        (_, 36 | 38, ..) | (_, _, 300..=305, _) => &[14, 16],
        (_, 62 | 65, ..) | (_, _, 644..=649, _) | (_, _, _, 6011) => &[16, 17, 18, 19],
        (_, 50 | 56..=58 | 63 | 67, ..) => &[16, 18, 19],
        _ => &[],
    };
    lengths.contains(&digits.len()) && passes_luhn(digits)
}

fn passes_luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            match place % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}
