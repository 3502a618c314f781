//! Patterns of `matches`: compiled within bounds, and weighed.
//!
//! Owns what a pattern may cost: to be compiled, which grows with its letters and far more with its classes of letters and how often they are
//! repeated, and to be matched, which at worst grows with the text times the places at which a match can be at one time. Must never compile
//! what was not weighed before.

mod re2;

use regex::{Regex, RegexBuilder};

use self::re2::Reading;

/// What one pattern costs at least: to be compiled, and to be kept.
const LEAST: usize = 1_000;
/// The most that what is written in a pattern may cost, and how many bytes its program may take.
pub(super) const MOST: usize = 20_000;
const PROGRAM: usize = 4_200_000;
/// The most that all patterns of one model may cost.
pub(crate) const MOST_OF_MODEL: usize = 100_000;
/// How many bytes of a program are made in a step of a condition, a microsecond or so.
const PROGRAM_A_STEP: usize = 64;
/// What is kept while a pattern is matched, in bytes.
const CACHE: usize = 64 * 1024;
/// How many places are looked at in a step, one for each byte of the text and each place at which a match can be.
const PLACES_A_STEP: usize = 128;

/// Why a text is not taken for a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternFault {
    /// It is none, to OpenFGA either.
    #[error("is no pattern: {0}")]
    Form(String),
    /// It costs more than a pattern may.
    #[error("costs too much: it is long, or has large classes of letters, or repeats too much")]
    TooCostly,
}

/// A pattern, compiled.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// About the size of its program, in bytes.
    size: usize,
    places: usize,
    effort: usize,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternFault`].
    pub(super) fn new(text: &str) -> Result<Self, PatternFault> {
        let read = weighed(text)?;
        if read.lookup > MOST && !domain::sabotaged!(RelationPatterns) {
            return Err(PatternFault::TooCostly);
        }
        if read.bytes > PROGRAM {
            return Err(PatternFault::TooCostly);
        }
        // What is read is weighed with room to spare; that it is not by far more is seen to all the same.
        let most = 4_096 + 2 * read.bytes;
        let regex = RegexBuilder::new(&read.text).size_limit(most).dfa_size_limit(CACHE).build();
        let regex = regex.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternFault::TooCostly,
            _ => PatternFault::Form("it is too deep, or '\\p' names no letters that there are".to_owned()),
        })?;
        Ok(Self { regex, size: read.bytes, places: read.places, effort: read.effort() })
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
        1 + text.len().saturating_mul(self.places) / PLACES_A_STEP
    }

    /// Whether the text has it.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// What it costs to compile a pattern, in steps of a condition: told by its letters alone. What is no pattern costs what it took to see that.
pub(super) fn effort(text: &str) -> usize {
    weighed(text).map_or(LEAST + text.len(), |read| read.effort())
}

/// Reads a pattern, unless it is too long for that already.
fn weighed(text: &str) -> Result<Reading, PatternFault> {
    let least = LEAST + text.len();
    if least > MOST {
        return Err(PatternFault::TooCostly);
    }
    let read = re2::read(text)?;
    Ok(Reading { lookup: read.lookup.saturating_add(least), ..read })
}

impl Reading {
    /// What it costs to be compiled, in steps of a condition.
    fn effort(&self) -> usize {
        self.lookup.saturating_add(self.bytes / PROGRAM_A_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> PatternFault {
        Pattern::new(text).err().unwrap_or_else(|| panic!("{text} is a pattern"))
    }

    #[test]
    fn a_pattern_means_what_it_means_in_re2() {
        for (pattern, yes, no) in [
            (r"^\d$", "7", "\u{663}"),
            (r"^\D$", "\u{663}", "7"),
            (r"^[\w.]+$", "a_1.", "ä"),
            (r"^[^\w]$", "ä", "a"),
            (r"^[\W]$", "ä", "a"),
            (r"^[^\Wa]$", "b", "a"),
            (r"^\W$", "ä", "a"),
            (r"^a\sb$", "a b", "a\u{a0}b"),
            (r"^\S$", "\u{a0}", " "),
            (r"\ba", "äa", "ba"),
            (r"\Bä", "ä", "aä"),
            (r"b\B\b|\B", "ab", "aäb"),
            (r"^\\d$", r"\d", "7"),
            // What are operators between classes to others are letters.
            (r"[<>&&;]", "a<b", "a"),
            (r"^[a-z0-9&&_.]+$", "bob7", "bob!"),
            (r"^[a-c&&b-d]$", "a", "e"),
            (r"^[a~~b]+$", "~", "-"),
            (r"^[+--/]+$", "+,-/", "."),
            (r"^[^[]+$", "a", "["),
            (r"^[[]$", "[", "]"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[^]a]+$", "b", "]"),
            (r"^[a-]$", "-", "b"),
            (r"^[-a]$", "-", "b"),
            (r"^[\d-z]+$", "5-z", "y"),
            (r"^[a-c-e]+$", "b-e", "d"),
            (r"^[--/]+$", "-./", "+"),
            (r"^[[:alpha:]_]+$", "a_", "1"),
            (r"^[^[:^alpha:]]+$", "a", "1"),
            (r"^[[:a]+$", "[:a", "b"),
            (r"^[[:word:]-]$", "-", "."),
            (r"^\<a\>$", "<a>", "a"),
            (r"^\Qa.b*\E+$", "a.b**", "axb"),
            (r"^\Q(a", "(a", "a"),
            (r"^a{,2}$", "a{,2}", "a"),
            (r"^a{$", "a{", "a"),
            (r"^a{01}$", "a{01}", "a"),
            (r"^\b{start}$|x", "x", "{start"),
            (r"^a}]$", "a}]", "a"),
            (r"^(?P<a>b)(?<c>d)(?<c>e)$", "bde", "bd"),
            (r"^(?i)ab$", "aB", "ac"),
            (r"^(?:a(?i)b|c)d$", "Cd", "CD"),
            (r"(?i:a)b$", "Ab", "AB"),
            (r"(?i)(?-i)a", "a", "A"),
            (r"^(?U)a+?$", "aa", ""),
            (r"^a.b$", "aäb", "a\nb"),
            (r"(?s)^a.b$", "a\nb", "ab"),
            (r"(?m)^b$", "a\nb", "ab"),
            (r"^b$", "b", "b\n"),
            (r"^\x41\x{E4}\101\07\a$", "AäA\u{7}\u{7}", "A"),
            (r"^[\x41-\x{43}\n]$", "B", "D"),
            (r"^\pL\p{Greek}$", "aα", "aa"),
            (r"^\PL\P{Greek}\p{^L}[\p{^Lu}]$", "1a1a", "aa1a"),
            (r"^(?i)[^k]$", "a", "\u{212a}"),
            ("^a # b$", "a # b", "a"),
            (r"^ä+$", "ää", "a"),
        ] {
            let is_in =
                |text: &str| Pattern::new(pattern).unwrap_or_else(|fault| panic!("{pattern} {fault}")).is_in(text);
            assert!(is_in(yes), "{pattern} is not in {yes}");
            assert!(!is_in(no), "{pattern} is in {no}");
        }
    }

    #[test]
    fn what_is_no_pattern_of_re2_is_refused_with_a_reason() {
        for text in [
            "(",
            ")",
            "a)",
            "(a",
            "[a",
            "[]",
            "[^]",
            "*",
            "|*",
            "(?:*a)",
            "a**",
            "a+{2}",
            "a{2}{3}",
            "a{1001}",
            "a{3,2}",
            r"\",
            r"\8",
            r"\1",
            r"\e",
            r"\Z",
            r"\C",
            r"\E",
            r"\x4",
            r"\x{110000}",
            r"\x{}",
            r"\xg1",
            r"\ä",
            r"[\b]",
            r"[\Qa\E]",
            r"[a-\d]",
            "[b-a]",
            "[[:x:]]",
            "(?x)a",
            "(?u)a",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?P=a)",
            "(?P<a",
            "(?<>a)",
            "(?-)a",
            "(?i",
            "(?#a)",
            r"\p",
            r"\p{}",
            r"\p{a",
            r"\p{NoSuch}",
            r"\p{Script=Greek}",
            r"\p1",
            &"(".repeat(400),
            &format!("{}{}", "(".repeat(400), ")".repeat(400)),
        ] {
            assert!(matches!(fault(text), PatternFault::Form(_)), "{text}");
        }
    }

    #[test]
    fn ordinary_patterns_are_taken() {
        for text in [
            r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$",
            r"^(10|192\.168)\.\d{1,3}\.\d{1,3}$",
            "(?i)^[a-z]+$",
            "^.{1,50}$",
            "^.{1,1000}$",
            r"^.{1,64}@example\.com$",
            "^[^@]{1,64}@",
            "^[^/]{1,100}$",
            r"(?i)^[^@]+@example\.com$",
            r"^\pL+$",
            r"^\p{L}+$",
            r"^\p{Lu}",
            r"^\p{Greek}+$",
            r"^[\p{L}\p{N}_-]{1,64}$",
            r"(?i)^[\W_]+$",
        ] {
            let pattern = Pattern::new(text).unwrap_or_else(|fault| panic!("{text} {fault}"));
            assert!(pattern.cost(&"a".repeat(1_000)) < 20_000, "{text}");
        }
    }

    #[test]
    fn a_model_is_told_why_its_pattern_is_refused() {
        let refused = |pattern: &str| {
            let condition = crate::model::Condition {
                name: "c".to_owned(),
                expression: format!("'a'.matches(r'{pattern}')"),
                parameters: std::collections::BTreeMap::new(),
                source: crate::model::Source::default(),
            };
            crate::condition::Compiled::new(&condition).unwrap_err()
        };
        let fault = refused("(a");
        assert_eq!(
            (fault.problem.as_str(), fault.at),
            ("what 'matches' is to look for is no pattern: a ')' is missing", 4)
        );
        let fault = refused(r"\pL{200}");
        assert!(fault.problem.starts_with("what 'matches' is to look for costs too much"), "{fault}");
    }

    #[test]
    fn a_pattern_costs_what_its_classes_cost() {
        assert_eq!(effort("abc"), LEAST + 3 + 1);
        assert_eq!(effort(r"[a-z]\w\\w"), LEAST + 10 + 200 + 4);
        assert!((3_000..4_000).contains(&(effort(r"(?i)\pL") - LEAST)));
        assert_eq!(effort(r"(?<i>[a])(?:i)"), effort("[a]") + 12);
        assert_eq!(effort(r"(?s-i:[a])"), effort("[a]") + 7);
        assert!(effort(r"(?i)[\W_]") > effort(r"(?i)\W_") + 10_000);
        assert!(effort(r"\pL{60}") > 30 * (effort(r"\pL") - effort("a")));
        assert!(effort(r"(?:a{10}){100}") > effort(&"a".repeat(1_000)) - 1_000);
    }

    #[test]
    fn what_costs_too_much_is_never_compiled() {
        for text in [
            "a".repeat(MOST),
            r"\w".repeat(200),
            format!("(?i){}", r"\pL".repeat(8)),
            r"\pL{200}".to_owned(),
            "(?:.{100}){100}".to_owned(),
            "(?i)[^a][^a][^a][^a][^a][^a][^a]".to_owned(),
            r"(?i)[\x{0}-\x{10FFFF}][\W_]".to_owned(),
            "((((a{1000}){1000}){1000}){1000}){1000}".to_owned(),
            "(?:(?:){1000}){1000}".to_owned(),
        ] {
            assert_eq!(fault(&text), PatternFault::TooCostly, "{text:.40}");
        }
    }

    #[test]
    fn a_pattern_of_many_places_costs_more_to_be_matched_than_one_of_few() {
        let (few, many) = (Pattern::new("^a$").unwrap(), Pattern::new("(abcdefgh){50}").unwrap());
        let text = "a".repeat(1_000);
        assert!(many.cost(&text) >= 50 * few.cost(&text), "{} {}", many.cost(&text), few.cost(&text));
    }
}
