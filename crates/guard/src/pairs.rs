//! Secrets that their name gives away: `"password": "…"`, `client_secret=…`, `Cookie: …`, `?code=…`.
//!
//! Owns the names, and the decision whether what stands behind a name is a secret or prose about one. Where it cannot be
//! told, it is a secret.

use regex::{Captures, Regex};

use crate::{
    GuardError,
    finding::{Finding, Kind, before, piece},
    value::{Ending, Form, Notation, Place, read},
};

/// The words that a secret's name ends with, longest first where one begins another.
const NAMES: &str = "authorization|set-cookie|cookie\
    |(?:auth(?:orization)?|verification|one[_-]?time|device|user|recovery|backup|security)[_-]code|code\
    |(?:api|app|access|secret|private|encryption|signing|root|master|shared|account|service|auth|license)(?:[_. -]|%5f)?(?:access[_-])?key\
    |password|passwd|passphrase|passcode|pwd|pass|otp|totp|pin|cvv|cvc\
    |secret|token|assertion|samlresponse|verifier|credential|session(?:[_-]?id)?|connect\\.sid|sid|sessid|jsessionid\
    |signature|sig|state";

/// Words that follow a colon in messages about a secret, as in `password: must not be empty`.
const PROSE: &[&str] = &[
    "a", "an", "and", "are", "at", "cannot", "does", "expected", "for", "from", "has", "in", "invalid", "is", "it",
    "may", "missing", "must", "no", "not", "of", "or", "please", "required", "see", "should", "string", "the", "too",
    "try", "unknown", "was", "wrong",
];

/// What is no secret under any name.
const VOID: &[&str] = &["true", "false", "null", "none", "nil", "undefined", "***", "****", "redacted", "<redacted>"];

/// Values behind `code` and `state` are secrets from this length on: error codes and states of things are shorter.
const DOUBTFUL_LENGTH: usize = 20;

/// Whether a value is a secret is decided by its first bytes, so that a text full of names costs no more than its length.
const JUDGED: usize = 512;

/// How sure a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surety {
    /// Whatever stands behind it is a secret.
    Sure,
    /// In a sentence it may be prose.
    Likely,
    /// Only where the value looks like one, or where the name stands in a query.
    Doubtful,
}

/// Kind, surety and ending of a name, by the word it ends with.
fn class(name: &str) -> (Kind, Surety, Ending) {
    let name = name.to_ascii_lowercase();
    let ends = |words: &[&str]| words.iter().any(|word| name.ends_with(word));
    if ends(&["authorization"]) {
        (Kind::Authorization, Surety::Sure, Ending::Line)
    } else if ends(&["cookie"]) {
        (Kind::Cookie, Surety::Sure, Ending::Line)
    } else if ends(&["password", "passwd", "passphrase", "passcode", "pwd"]) {
        (Kind::Password, Surety::Sure, Ending::Word)
    } else if name == "pass" {
        (Kind::Password, Surety::Doubtful, Ending::Word)
    } else if name == "code" || name == "pin" {
        (Kind::Code, Surety::Doubtful, Ending::Word)
    } else if ends(&["code", "otp", "cvv", "cvc"]) {
        (Kind::Code, Surety::Likely, Ending::Word)
    } else if name == "state" {
        (Kind::State, Surety::Doubtful, Ending::Word)
    } else if name == "sig" {
        (Kind::Signature, Surety::Doubtful, Ending::Word)
    } else if name == "sid" {
        (Kind::Session, Surety::Doubtful, Ending::Word)
    } else if ends(&["signature"]) {
        (Kind::Signature, Surety::Likely, Ending::Word)
    } else if name.contains("sess") || ends(&["sid"]) {
        (Kind::Session, Surety::Likely, Ending::Word)
    } else if ends(&["secret"]) {
        (Kind::Secret, Surety::Sure, Ending::Word)
    } else if ends(&["key"]) {
        (Kind::Key, Surety::Sure, Ending::Word)
    } else {
        (Kind::Token, Surety::Likely, Ending::Word)
    }
}

/// Finds names and reads what stands behind them.
pub(crate) struct Pairs {
    pair: Regex,
    name: Regex,
}

impl Pairs {
    pub(crate) fn new() -> Result<Self, GuardError> {
        let pair = format!(
            r#"(?i)(?P<name>{NAMES})(?P<many>s)?(?P<quote>\\{{0,7}}["'`]|%(?:25){{0,2}}2[27])?(?:\]|%5D)?(?:\s{{0,16}}(?:(?P<encoded>%(?:25){{0,2}}3[AD](?:%(?:25){{0,2}}20|\+)?)|(?P<sep>=>|:=|={{1,3}}|:|,|>|\(|\\u003[ad]))\s{{0,16}}|(?P<gap>[ \t]{{1,4}}))"#
        );
        Ok(Self {
            pair: Regex::new(&pair).map_err(GuardError::Pattern)?,
            name: Regex::new(&format!("(?i)(?:{NAMES})s?$")).map_err(GuardError::Pattern)?,
        })
    }

    /// Adds what is found in `part`, which begins at `base` of its text.
    pub(crate) fn find(&self, part: &str, base: usize, findings: &mut Vec<Finding>) {
        let mut from = 0;
        while let Some(hit) = self.pair.captures_at(part, from) {
            let Some(whole) = hit.get(0) else { break };
            from = whole.end();
            if let Some((place, kind, json_number)) = Pair::of(part, &hit).and_then(|pair| pair.secret()) {
                let mut finding = Finding::new(base + place.start..base + place.end, kind);
                finding.quoted = json_number;
                findings.push(finding);
                from = from.max(place.end);
            }
        }
    }

    /// What the value of a field of this name is, where the name alone makes it a secret.
    pub(crate) fn field(&self, name: &str, value: &str) -> Option<Kind> {
        let hit = self.name.find(name)?;
        let word = hit.as_str().trim_end_matches(['s', 'S']);
        let (kind, surety, _) = class(word);
        let whole_word = !before(name, hit.start()).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        let secret = match surety {
            Surety::Sure => !is_void(value) && (kind == Kind::Password || !is_public_id(value)),
            Surety::Likely => !is_void(value) && !is_public_id(value) && !is_count(value),
            Surety::Doubtful => whole_word && looks_random(value, DOUBTFUL_LENGTH),
        };
        secret.then_some(kind)
    }
}

/// A name and its separator, found in a text.
struct Pair<'t> {
    text: &'t str,
    name_at: usize,
    value_at: usize,
    kind: Kind,
    surety: Surety,
    ending: Ending,
    many: bool,
    quote: Option<&'t str>,
    sep: &'t str,
    encoded: bool,
}

impl<'t> Pair<'t> {
    fn of(text: &'t str, hit: &Captures<'t>) -> Option<Self> {
        let name = hit.name("name")?;
        let (kind, surety, ending) = class(name.as_str());
        Some(Self {
            text,
            name_at: name.start(),
            value_at: hit.get(0)?.end(),
            kind,
            surety,
            ending,
            many: hit.name("many").is_some(),
            quote: hit.name("quote").map(|quote| quote.as_str()),
            sep: hit.name("sep").map_or(" ", |sep| sep.as_str()),
            encoded: hit.name("encoded").is_some(),
        })
    }

    /// The secret's place and kind, and whether it is a bare value of a JSON document.
    fn secret(&self) -> Option<(Place, Kind, bool)> {
        let tag = self.sep == ">";
        let notation = Notation { quoted_name: self.quote.is_some(), encoded: self.encoded, tag };
        let window = self.text.floor_char_boundary(self.value_at.saturating_add(JUDGED));
        let first = piece(self.text, 0..window);
        let place = read(first, self.value_at, self.ending, notation);
        let value = piece(first, place.start..place.end);
        if !self.is_separated(place.form) || (self.many && place.form == Form::Bare) {
            return None;
        }
        // A list whose values are markers already has only quotes left before the first of them.
        let emptied = place.form == Form::List && !value.contains(char::is_alphanumeric);
        let opens_object = place.form == Form::Bare && value.starts_with('{');
        if value.is_empty() || emptied || opens_object || is_void(value) || !self.is_secret(place.form, value) {
            return None;
        }
        let place =
            if window < self.text.len() { read(self.text, self.value_at, self.ending, notation) } else { place };
        Some((place, self.kind, place.form != Form::Quoted && self.quote == Some("\"")))
    }

    /// Whether what stands between name and value separates a name from a value, before a value of this form.
    fn is_separated(&self, form: Form) -> bool {
        let names_none = self.quote.is_none() && self.surety != Surety::Doubtful && form == Form::Quoted;
        match self.sep {
            // In a printed list of pairs both are quoted.
            "," => form == Form::Quoted && self.quote.is_some_and(|quote| !quote.ends_with('`')),
            // `Password("…")`, as `Debug` prints it.
            "(" => names_none,
            ">" => self.names_a_tag(),
            // `PASSWORD '…'` is SQL, `--password …` a command line; between other words a space separates nothing.
            " " if !self.encoded => names_none || self.names_a_flag(),
            _ => true,
        }
    }

    fn is_secret(&self, form: Form, value: &str) -> bool {
        if self.kind != Kind::Password && is_public_id(value) {
            return false;
        }
        let in_sentence = self.sep == ":" && self.quote.is_none() && form == Form::Bare;
        match self.surety {
            Surety::Sure if self.ending == Ending::Line => true,
            Surety::Sure => !(in_sentence && PROSE.iter().any(|word| word.eq_ignore_ascii_case(value))),
            Surety::Likely if in_sentence => looks_random(value, 6),
            Surety::Likely => !is_count(value),
            Surety::Doubtful if self.is_in_query() => true,
            Surety::Doubtful => {
                let assigned = self.kind == Kind::Password && self.sep == "=";
                self.is_whole_word() && !in_sentence && (assigned || looks_random(value, DOUBTFUL_LENGTH))
            }
        }
    }

    /// The name begins a query parameter, plain or encoded.
    fn is_in_query(&self) -> bool {
        let left = piece(self.text, 0..self.name_at);
        (self.sep == "=" || self.encoded)
            && ["?", "&", "%3F", "%3f", "%26", "%253F", "%253f", "%2526", "\\u0026", "&amp;"]
                .iter()
                .any(|mark| left.ends_with(mark))
    }

    fn is_whole_word(&self) -> bool {
        !before(self.text, self.name_at).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    }

    /// `<password>`.
    fn names_a_tag(&self) -> bool {
        self.quote.is_none() && self.word_start().is_some_and(|c| c == '<')
    }

    /// `--password`.
    fn names_a_flag(&self) -> bool {
        let left = piece(self.text, 0..self.name_at);
        let flag = left.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        self.quote.is_none() && piece(left, flag.len()..left.len()).contains("--")
            || self.quote.is_none() && left.ends_with("--")
    }

    /// The character before the whole name, of which the pattern matched only the end.
    fn word_start(&self) -> Option<char> {
        let left = piece(self.text, 0..self.name_at);
        left.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':')).chars().next_back()
    }
}

fn is_void(value: &str) -> bool {
    value.is_empty() || VOID.iter().any(|void| void.eq_ignore_ascii_case(value))
}

/// A small number is how many there are, not what they are.
fn is_count(value: &str) -> bool {
    value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit())
}

/// Our own ids are public names: a prefix, an underscore, 26 letters of Crockford's base 32.
fn is_public_id(value: &str) -> bool {
    value.len() <= 31
        && value.split_once('_').is_some_and(|(prefix, rest)| {
            (2..=4).contains(&prefix.len())
                && prefix.bytes().all(|b| b.is_ascii_lowercase())
                && rest.len() == 26
                && rest.starts_with(|c: char| c.is_digit(8))
                && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        })
}

/// Letters and digits mixed, and enough of them: no word of a sentence, no name of a state.
fn looks_random(value: &str, at_least: usize) -> bool {
    value.len() >= at_least
        && !is_public_id(value)
        && value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().any(|b| b.is_ascii_alphabetic())
        && !value.contains(' ')
}
