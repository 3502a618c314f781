//! Patterns of `matches`: compiled within bounds, and weighed.
//!
//! Owns what a pattern may cost: to be compiled, which grows with its letters and far more with its classes of letters, and to be matched,
//! which at worst grows with the text times the size of the program. Must never compile what was not weighed before.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

/// What one pattern costs at least to be compiled, and how much its parts cost beyond one a byte: a class of letters (`[…]`, `\w`), and one
/// that is to be taken in both cases, for which every letter of it is looked up.
const LEAST: usize = 1_000;
const CLASS: usize = 100;
const FOLDED_CLASS: usize = 3_000;
/// The most that a pattern of an expression may cost, and all patterns of one model.
const MOST: usize = 20_000;
pub(crate) const MOST_OF_MODEL: usize = 100_000;
/// How large a program may become, in bytes: the smallest of these that it fits into says how large it is.
const SIZES: [usize; 3] = [2 * 1024, 8 * 1024, 32 * 1024];
/// What is kept while a pattern is matched, in bytes.
const CACHE: usize = 64 * 1024;
/// How many bytes of text are looked at by a program of 1 KiB as one step.
const BYTES_A_STEP: usize = 4;

/// A pattern, compiled.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// The size of its program, in bytes.
    size: usize,
    effort: usize,
}

impl Pattern {
    /// Compiles a pattern of a model; none where it is none, or costs more than it may.
    pub(super) fn new(text: &str) -> Option<Self> {
        let effort = effort(text);
        if effort > MOST {
            return None;
        }
        let text = as_openfga_reads(text);
        let compiled = |size: usize| RegexBuilder::new(&text).size_limit(size).dfa_size_limit(CACHE).build().ok();
        let within = |size: usize| compiled(size).map(|regex| (regex, size));
        let (regex, size) = SIZES.into_iter().find_map(within)?;
        Some(Self { regex, size, effort })
    }

    /// What it cost to be compiled, in steps of a condition.
    pub(super) fn effort(&self) -> usize {
        self.effort
    }

    /// About how many bytes it takes: its programs, and what they keep while they are matched.
    pub(super) fn bytes(&self) -> usize {
        2 * (self.size + CACHE)
    }

    /// What it costs to look for it in a text, in steps of a condition.
    pub(super) fn cost(&self, text: &str) -> usize {
        1 + text.len().saturating_mul(self.size / 1024) / BYTES_A_STEP
    }

    /// Whether the text has it.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// What it costs to compile a pattern, in steps of a condition: told by its letters alone.
pub(super) fn effort(text: &str) -> usize {
    let class = if folds(text) { FOLDED_CLASS } else { CLASS };
    let (mut classes, mut escaped) = (0_usize, false);
    for letter in text.bytes() {
        classes += usize::from(if escaped { letter.is_ascii_alphabetic() } else { letter == b'[' });
        escaped = !escaped && letter == b'\\';
    }
    LEAST + text.len() + class * classes
}

/// The same pattern with the classes that RE2 has, by which OpenFGA matches: `\d`, `\s`, `\w` and their opposites speak of ASCII alone.
fn as_openfga_reads(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut read, mut letters) = (String::with_capacity(2 * text.len()), text.chars());
    while let Some(letter) = letters.next() {
        match (letter, if letter == '\\' { letters.next() } else { None }) {
            ('\\', Some('d')) => read.push_str("[0-9]"),
            ('\\', Some('D')) => read.push_str("[^0-9]"),
            ('\\', Some('s')) => read.push_str(r"[\t\n\f\r ]"),
            ('\\', Some('S')) => read.push_str(r"[^\t\n\f\r ]"),
            ('\\', Some('w')) => read.push_str("[0-9A-Za-z_]"),
            ('\\', Some('W')) => read.push_str("[^0-9A-Za-z_]"),
            ('\\', Some('b')) => read.push_str(r"(?-u:\b)"),
            (letter, next) => {
                read.push(letter);
                read.extend(next);
            }
        }
    }
    Cow::Owned(read)
}

/// Whether some of it may be taken in both cases: a group has flags with an `i` among them.
fn folds(text: &str) -> bool {
    text.split("(?").skip(1).any(|group| group.split([':', ')', '<']).next().is_some_and(|flags| flags.contains('i')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_costs_what_its_classes_cost() {
        assert_eq!(effort("abc"), LEAST + 3);
        assert_eq!(effort(r"[a-z]\w\\w"), LEAST + 10 + 2 * CLASS);
        assert_eq!(effort(r"(?i)\pL"), LEAST + 7 + FOLDED_CLASS);
        assert_eq!(effort(r"(?<i>a)(?:i)"), LEAST + 12);
        assert_eq!(effort(r"(?s-i:[a])"), LEAST + 10 + FOLDED_CLASS);
    }

    #[test]
    fn classes_are_those_of_re2() {
        let is_in = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().is_in(text);
        for (pattern, yes, no) in [
            (r"^\d$", "7", "\u{663}"),
            (r"^\D$", "\u{663}", "7"),
            (r"^[\w.]+$", "a_1.", "ä"),
            (r"^[^\w]$", "ä", "a"),
            (r"^\W$", "ä", "a"),
            (r"^a\sb$", "a b", "a\u{a0}b"),
            (r"^\S$", "\u{a0}", " "),
            (r"\ba", "äa", "ba"),
            (r"^\\d$", r"\d", "7"),
        ] {
            assert!(is_in(pattern, yes) && !is_in(pattern, no), "{pattern}");
        }
    }

    #[test]
    fn what_costs_too_much_is_never_compiled() {
        for text in ["a".repeat(MOST), r"\w".repeat(200), format!("(?i){}", r"\pL".repeat(8)), r"\pL{50}".to_owned()] {
            assert!(Pattern::new(&text).is_none(), "{text:.40}");
        }
        for text in
            [r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$", r"^(10|192\.168)\.\d{1,3}\.\d{1,3}$", "(?i)^[a-z]+$"]
        {
            assert!(Pattern::new(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_large_program_costs_more_to_be_matched_than_a_small_one() {
        let (small, large) = (Pattern::new("^a$").unwrap(), Pattern::new("(abcdefgh){50}").unwrap());
        let text = "a".repeat(1_000);
        assert!(large.cost(&text) >= 4 * small.cost(&text), "{} {}", large.cost(&text), small.cost(&text));
    }
}
