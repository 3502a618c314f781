//! The syntax of RE2, by which OpenFGA matches, written as the `regex` crate reads it.
//!
//! Owns what a pattern means: what both mean alike is passed on, what the crate takes for something else (`[a&&b]`, `\<`, `a{`) is written
//! so that it means there what it means in RE2, and what RE2 does not know is refused. Owns how much there is of a pattern, too, as nobody
//! else reads it. Must never pass on a sign that it does not know. Source: <https://pkg.go.dev/regexp/syntax>.

use std::mem;

use super::PatternFault;

/// What is to be looked up for a class: in a class that is taken in both cases every letter of it, which for most of the letters that there
/// are takes many times as long.
const CLASS: usize = 100;
const FOLDED_CLASS: usize = 3_000;
const FOLDED_MOST: usize = 15_000;
const LETTERS_A_STEP: usize = 6;
/// How many letters there are.
const ALL: usize = 0x11_0000;
/// The bytes of a program that a letter takes, one that is taken in both cases, an operator, and a class: at least, and for each letter or
/// range of it beyond ASCII; for what is all but a few letters; and for the letters of all scripts or of one (`\pL`).
const LETTER: usize = 40;
const FOLDED_LETTER: usize = 280;
const OPERATOR: usize = 50;
const SOME: usize = 100;
const RANGE: usize = 20;
const FAR_RANGE: usize = 600;
const REST: usize = 1_200;
const ALL_LETTERS: usize = 50 * 1024;
const SCRIPT: usize = 12 * 1024;
/// The most times that something may be repeated, and the numbers that are none to RE2.
const REPEATED: usize = 1_000;
const NUMBER: usize = 100_000_000;

/// How much there is of a pattern, or of a part of it.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    /// How many places it has at which a match can be at one time.
    places: usize,
    /// About how many bytes its program takes; more rather than fewer.
    bytes: usize,
}

impl Weight {
    const fn new(places: usize, bytes: usize) -> Self {
        Self { places, bytes }
    }

    const fn and(self, other: Self) -> Self {
        Self { places: self.places.saturating_add(other.places), bytes: self.bytes.saturating_add(other.bytes) }
    }

    const fn times(self, times: usize) -> Self {
        Self { places: self.places.saturating_mul(times), bytes: self.bytes.saturating_mul(times) }
    }
}

/// A pattern that was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// As the crate reads it.
    pub(super) text: String,
    /// At how many places a match can be at one time.
    pub(super) places: usize,
    /// About how many bytes its program takes; more rather than fewer.
    pub(super) bytes: usize,
    /// What its classes cost to be looked up, in steps of a condition.
    pub(super) lookup: usize,
}

/// Reads a pattern of RE2.
///
/// # Errors
/// It is none.
pub(super) fn read(pattern: &str) -> Result<Reading, PatternFault> {
    let mut reader = Reader {
        rest: pattern,
        text: String::with_capacity(2 * pattern.len()),
        open: Vec::new(),
        folds: false,
        whole: Weight::default(),
        last: None,
        lookup: 0,
    };
    reader.run()?;
    let whole = reader.whole;
    Ok(Reading { text: reader.text, places: whole.places, bytes: whole.bytes, lookup: reader.lookup })
}

type Read<T = ()> = Result<T, PatternFault>;

fn fault<T>(why: &str) -> Read<T> {
    Err(PatternFault::Form(why.to_owned()))
}

/// What was begun when a group was.
struct Open {
    folds: bool,
    whole: Weight,
}

struct Reader<'a> {
    rest: &'a str,
    text: String,
    open: Vec<Open>,
    /// Whether letters are taken in both cases here.
    folds: bool,
    /// What was read of the innermost group, but for the last part, which can be repeated.
    whole: Weight,
    last: Option<Weight>,
    lookup: usize,
}

impl<'a> Reader<'a> {
    fn takes(&mut self, sign: &str) -> bool {
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn letter(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        self.rest = letters.as_str();
        Some(letter)
    }

    fn until(&mut self, end: &str) -> Option<&'a str> {
        let (before, after) = self.rest.split_once(end)?;
        self.rest = after;
        Some(before)
    }

    fn run(&mut self) -> Read {
        while let Some(letter) = self.letter() {
            match letter {
                '(' => self.group()?,
                ')' => self.close()?,
                '|' => {
                    self.passes("|", Weight::new(1, OPERATOR));
                    self.settle();
                }
                '.' => self.passes(".", Weight::new(1, REST)),
                '^' | '$' => self.passes(letter.encode_utf8(&mut [0; 4]), Weight::new(1, OPERATOR)),
                '[' => self.class()?,
                '*' | '+' | '?' => self.repeated(letter.encode_utf8(&mut [0; 4]), 1)?,
                '{' => match self.counts() {
                    Some((least, most)) => self.counted(least, most)?,
                    None => self.literal('{'),
                },
                '\\' => self.escaped()?,
                _ => self.literal(letter),
            }
        }
        self.settle();
        if self.open.is_empty() { Ok(()) } else { fault("a ')' is missing") }
    }

    /// The last part is over: nothing that follows repeats it.
    fn settle(&mut self) {
        self.whole = self.whole.and(self.last.take().unwrap_or_default());
    }

    /// Adds a part.
    fn passes(&mut self, text: &str, weight: Weight) {
        self.settle();
        self.text.push_str(text);
        self.last = Some(weight);
    }

    fn literal(&mut self, letter: char) {
        let weight = Weight::new(1, if self.folds { FOLDED_LETTER } else { LETTER * letter.len_utf8() });
        self.settle();
        push_literal(&mut self.text, letter);
        self.last = Some(weight);
    }

    fn group(&mut self) -> Read {
        self.settle();
        let open = Open { folds: self.folds, whole: mem::take(&mut self.whole) };
        if self.takes("?P<") || self.takes("?<") {
            let name = self.until(">").unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return fault("a group has no name");
            }
        } else if self.takes("?") {
            if !self.flags()? {
                self.whole = open.whole;
                return Ok(());
            }
            self.open.push(open);
            return Ok(());
        }
        // Nobody asks what a group holds.
        self.text.push_str("(?:");
        self.open.push(open);
        Ok(())
    }

    /// Flags, and whether they are of a group of their own.
    fn flags(&mut self) -> Read<bool> {
        let (mut on, mut off, mut are_off, mut seen) = (String::new(), String::new(), false, false);
        loop {
            let letter = self.letter();
            match letter {
                Some('i' | 'm' | 's' | 'U') => {
                    seen = true;
                    self.folds = if letter == Some('i') { !are_off } else { self.folds };
                    // Which of several matches is found is nothing that is asked.
                    let flags = if are_off { &mut off } else { &mut on };
                    flags.extend(letter.filter(|letter| *letter != 'U' && !flags.contains(*letter)));
                }
                Some('-') if !are_off => (are_off, seen) = (true, false),
                Some(end @ (':' | ')')) if !are_off || seen => {
                    let has_group = end == ':';
                    on.retain(|flag| !off.contains(flag));
                    let minus = if off.is_empty() { "" } else { "-" };
                    if has_group || !(on.is_empty() && off.is_empty()) {
                        self.text.extend(["(?", &on, minus, &off, if has_group { ":" } else { ")" }]);
                    }
                    return Ok(has_group);
                }
                _ => return fault("'(?' begins no group that there is"),
            }
        }
    }

    fn close(&mut self) -> Read {
        self.settle();
        let Some(open) = self.open.pop() else { return fault("a ')' has no '('") };
        self.text.push(')');
        self.folds = open.folds;
        self.last = Some(mem::replace(&mut self.whole, open.whole));
        Ok(())
    }

    /// The last part comes several times.
    fn repeated(&mut self, operator: &str, times: usize) -> Read {
        let Some(last) = self.last.take() else { return fault("there is nothing to repeat") };
        // Few or many: that it matches is all that is asked.
        self.takes("?");
        let before = self.rest;
        if self.takes("*") || self.takes("+") || self.takes("?") || (self.takes("{") && self.counts().is_some()) {
            return fault("what is repeated is repeated again");
        }
        self.rest = before;
        self.text.push_str(operator);
        self.whole = self.whole.and(last.and(Weight::new(1, OPERATOR)).times(times.max(1)));
        Ok(())
    }

    fn counted(&mut self, least: usize, most: Option<usize>) -> Read {
        let times = most.unwrap_or(least);
        if least > REPEATED || times > REPEATED || times < least {
            return fault("something is repeated too often");
        }
        let operator = match most {
            Some(most) if most == least => format!("{{{least}}}"),
            Some(most) => format!("{{{least},{most}}}"),
            None => format!("{{{least},}}"),
        };
        self.repeated(&operator, times)
    }

    /// How often something is repeated: `2}`, `2,}`, `2,4}`. Everything else is no count, and its brace a letter.
    fn counts(&mut self) -> Option<(usize, Option<usize>)> {
        let number = |digits: &str| {
            let is_number =
                digits == "0" || !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
            (is_number && !digits.is_empty()).then(|| digits.parse().unwrap_or(NUMBER))
        };
        let (inside, after) = self.rest.split_once('}')?;
        let counts = match inside.split_once(',') {
            None => number(inside).map(|times| (times, Some(times))),
            Some((least, "")) => number(least).map(|least| (least, None)),
            Some((least, most)) => number(least).zip(number(most)).map(|(least, most)| (least, Some(most))),
        }?;
        self.rest = after;
        Some(counts)
    }

    fn escaped(&mut self) -> Read {
        let before = self.rest;
        match self.letter() {
            Some('A') => self.passes(r"\A", Weight::new(1, OPERATOR)),
            Some('z') => self.passes(r"\z", Weight::new(1, OPERATOR)),
            Some('b') => self.passes(r"(?-u:\b)", Weight::new(1, OPERATOR)),
            Some('B') => self.passes(r"(?-u:\B)", Weight::new(1, OPERATOR)),
            Some('Q') => {
                let quoted = self.until(r"\E").unwrap_or_else(|| mem::take(&mut self.rest));
                quoted.chars().for_each(|letter| self.literal(letter));
            }
            _ => {
                self.rest = before;
                let mut class = Class::default();
                if self.shorthand(&mut class)? {
                    let text = format!("[{}]", class.text);
                    self.looks_up(&class);
                    self.passes(&text, Weight::new(1, class.bytes));
                } else {
                    let letter = self.escape()?;
                    self.literal(letter);
                }
            }
        }
        Ok(())
    }

    /// A letter that is written as an escape; the backslash is read.
    fn escape(&mut self) -> Read<char> {
        let code = match self.letter() {
            Some('a') => 7,
            Some('f') => 12,
            Some('n') => 10,
            Some('r') => 13,
            Some('t') => 9,
            Some('v') => 11,
            Some('x') if self.takes("{") => {
                let digits = self.until("}").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                digits.map_or(u32::MAX, |digits| number(digits, 16))
            }
            Some('x') => Some(self.digits(16, 2))
                .filter(|digits| digits.len() == 2)
                .map_or(u32::MAX, |digits| number(digits, 16)),
            Some(first @ '0'..='7') => {
                let more = self.digits(8, 2);
                // A number of one digit is what a group has matched, but for zero.
                if first != '0' && more.is_empty() { u32::MAX } else { number(&format!("{first}{more}"), 8) }
            }
            Some(sign) if sign.is_ascii() && !sign.is_ascii_alphanumeric() => return Ok(sign),
            _ => u32::MAX,
        };
        char::from_u32(code).map_or_else(|| fault("'\\' begins no letter and no class that there is"), Ok)
    }

    /// As many digits as there are, and no more than so many.
    fn digits(&mut self, radix: u32, most: usize) -> &'a str {
        let end = self.rest.bytes().take(most).take_while(|byte| char::from(*byte).is_digit(radix)).count();
        let (digits, after) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = after;
        digits
    }

    /// A class that a letter stands for (`\d`, `\pL`), as it stands in a class; the backslash is read. Nothing is read where it is none.
    fn shorthand(&mut self, class: &mut Class) -> Read<bool> {
        let before = self.rest;
        let (text, bytes, width) = match self.letter() {
            Some('d') => ("0-9", SOME, 10),
            Some('s') => (r"\t\n\f\r ", SOME, 5),
            Some('w') => ("0-9A-Za-z_", SOME, 63),
            Some('D') => ("[^0-9]", REST, ALL),
            Some('S') => (r"[^\t\n\f\r ]", REST, ALL),
            Some('W') => ("[^0-9A-Za-z_]", REST, ALL),
            Some(sign @ ('p' | 'P')) => return self.property(class, sign == 'P').map(|()| true),
            _ => {
                self.rest = before;
                return Ok(false);
            }
        };
        class.add(text, bytes, width);
        Ok(true)
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn property(&mut self, class: &mut Class, negated: bool) -> Read {
        let name = if self.takes("{") {
            self.until("}").unwrap_or_default()
        } else {
            let end = self.rest.chars().next().map_or(0, char::len_utf8);
            let (name, after) = self.rest.split_at_checked(end).unwrap_or_default();
            self.rest = after;
            name
        };
        let (name, opposite) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
            return fault("'\\p' names no letters");
        }
        let negated = negated != opposite;
        let bytes = if name.len() > 3 || name.starts_with(['M', 'N', 'P', 'S', 'Z']) { SCRIPT } else { ALL_LETTERS };
        let width = if negated { ALL } else { 0 };
        class.add(&format!(r"\{}{{{name}}}", if negated { 'P' } else { 'p' }), bytes, width);
        Ok(())
    }

    fn class(&mut self) -> Read {
        let negated = self.takes("^");
        let mut class = Class::default();
        let mut is_first = true;
        while is_first || !self.takes("]") {
            is_first = false;
            if self.named(&mut class)? {
                continue;
            }
            let is_escape = self.takes("\\");
            if is_escape && self.shorthand(&mut class)? {
                continue;
            }
            let low = self.one(is_escape)?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1;
            let high = if is_range {
                self.letter();
                let is_escape = self.takes("\\");
                self.one(is_escape)?
            } else {
                low
            };
            if high < low {
                return fault("a range of letters ends before it begins");
            }
            class.add_range(low, high);
        }
        let (open, rest) = if negated { ("[^", REST) } else { ("[", 0) };
        let text = [open, &class.text, "]"].concat();
        let bytes = class.bytes.saturating_add(SOME + rest);
        self.looks_up(&class);
        self.passes(&text, Weight::new(1, bytes));
        Ok(())
    }

    /// A letter of a class.
    fn one(&mut self, is_escape: bool) -> Read<char> {
        if is_escape { self.escape() } else { self.letter().map_or_else(|| fault("a ']' is missing"), Ok) }
    }

    /// A class that has a name: `[:alpha:]`.
    fn named(&mut self, class: &mut Class) -> Read<bool> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        let Some((name, after)) = self.rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) else {
            return Ok(false);
        };
        let opposite = name.strip_prefix('^');
        if !NAMES.contains(&opposite.unwrap_or(name)) {
            return fault("a class in '[: :]' has no name that there is");
        }
        let (bytes, width) = if opposite.is_some() { (REST, ALL) } else { (SOME, 128) };
        class.add(&format!("[:{name}:]"), bytes, width);
        self.rest = after;
        Ok(true)
    }

    fn looks_up(&mut self, class: &Class) {
        let folded = (class.letters() / LETTERS_A_STEP).clamp(FOLDED_CLASS, FOLDED_MOST);
        self.lookup += if self.folds { folded } else { CLASS };
    }
}

/// A class that is being read.
#[derive(Debug, Default)]
struct Class {
    /// As the crate reads it, without its brackets.
    text: String,
    bytes: usize,
    parts: usize,
    /// How many letters its ranges have, and how many the classes in it.
    in_ranges: usize,
    in_classes: usize,
}

impl Class {
    fn add(&mut self, text: &str, bytes: usize, letters: usize) {
        self.text.push_str(text);
        self.parts += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.in_classes = self.in_classes.saturating_add(letters);
    }

    fn add_range(&mut self, low: char, high: char) {
        push_literal(&mut self.text, low);
        if high > low {
            self.text.push('-');
            push_literal(&mut self.text, high);
        }
        self.add("", if high.is_ascii() { RANGE } else { FAR_RANGE }, 0);
        self.in_ranges = self.in_ranges.saturating_add((u32::from(high) - u32::from(low)) as usize + 1);
    }

    /// How many letters are looked up if it is taken in both cases: a class is kept in both, and looked up only with what else there is.
    const fn letters(&self) -> usize {
        if self.parts > 1 { self.in_ranges.saturating_add(self.in_classes) } else { self.in_ranges }
    }
}

fn number(digits: &str, radix: u32) -> u32 {
    u32::from_str_radix(digits, radix).unwrap_or(u32::MAX)
}

/// A letter that stands for itself.
fn push_literal(text: &mut String, letter: char) {
    if r"\.+*?()|[]{}^$#&-~".contains(letter) {
        text.push('\\');
    }
    text.push(letter);
}
