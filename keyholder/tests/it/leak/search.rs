//! The search: everything that a text decodes to, and whether a part of a secret is in it.
//!
//! Knows nothing of the scrub, and works the other way round: where that writes a secret in all forms and looks for them, this
//! decodes whatever could be an encoding and looks for the secret itself. Slow, and simple enough to be believed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aho_corasick::AhoCorasick;

/// A run of so many bytes of a secret is a leak, though the rest be gone.
const FRAGMENT: usize = 16;
/// Where fragments begin: every so many bytes.
const STEP: usize = 4;
/// How often encodings may lie within each other.
const DEEPEST: usize = 5;
/// The shortest run that is decoded as base64 or hexadecimal.
const SHORTEST: usize = 12;

/// A text that must be found nowhere.
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
    /// Whether only the whole of it is secret: a part may be said.
    pub(crate) whole: bool,
}

impl Secret {
    pub(crate) fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref().to_vec();
        assert!(text.len() >= 8, "{name} is too short to be looked for");
        Self { name: name.to_owned(), text, whole: false }
    }

    /// Of which parts are no secret.
    pub(crate) fn whole(name: &str, text: impl AsRef<[u8]>) -> Self {
        Self { whole: true, ..Self::new(name, text) }
    }

    fn fragments(&self) -> Vec<&[u8]> {
        if self.whole || self.text.len() <= FRAGMENT {
            return vec![&self.text];
        }
        let last = self.text.len() - FRAGMENT;
        (0..last).step_by(STEP).chain([last]).map(|begin| &self.text[begin..begin + FRAGMENT]).collect()
    }
}

/// Looks for secrets.
pub(crate) struct Seeker {
    fragments: AhoCorasick,
    names: Vec<String>,
}

impl Seeker {
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let different: BTreeMap<_, _> = secrets.iter().map(|secret| (&secret.text, secret)).collect();
        // What several secrets have in common (a prefix, the hour at which they were made) is none of theirs.
        let mut owners: BTreeMap<&[u8], Vec<&Secret>> = BTreeMap::new();
        for secret in different.into_values() {
            secret.fragments().into_iter().for_each(|it| owners.entry(it).or_default().push(secret));
        }
        owners.retain(|_, owners| owners.len() == 1);
        for secret in secrets {
            let is_looked_for = owners.values().flatten().any(|owner| owner.text == secret.text);
            assert!(is_looked_for, "nothing of {} is its own", secret.name);
        }
        let (patterns, names): (Vec<_>, Vec<_>) =
            owners.into_iter().map(|(it, owners)| (it.to_vec(), owners[0].name.clone())).unzip();
        Self { fragments: AhoCorasick::new(patterns).unwrap(), names }
    }

    /// The names of the secrets of which a text holds a part, in whatever encoding.
    pub(crate) fn find(&self, text: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut look = |text: &[u8]| {
            found.extend(self.fragments.find_overlapping_iter(text).map(|hit| self.names[hit.pattern()].as_str()));
        };
        for reading in readings(text) {
            look(&reading);
            base64_runs(&reading, &mut look);
            hex_runs(&reading, &mut look);
        }
        found
    }
}

type Undo = fn(&[u8]) -> Vec<u8>;

/// What begins an escape of each kind, and what undoes all of that kind.
const UNDO: [(u8, Undo); 3] = [(b'%', undo_percent), (b'\\', undo_backslashes), (b'&', undo_references)];

/// The text, and all that comes of it when its escapes are undone, of one kind at a time and in every order.
fn readings(text: &[u8]) -> HashSet<Vec<u8>> {
    let mut all = HashSet::from([text.to_vec()]);
    let mut newest = vec![text.to_vec()];
    for _ in 0..DEEPEST {
        let mut next = Vec::new();
        for text in newest {
            for (introducer, undo) in UNDO {
                if !text.contains(&introducer) {
                    continue;
                }
                let undone = undo(&text);
                if undone != text && all.insert(undone.clone()) {
                    next.push(undone);
                }
            }
        }
        newest = next;
    }
    all
}

/// Reads digits of a radix, at most so many.
fn number(digits: &[u8], radix: u32, most: usize) -> (u32, usize) {
    let taken = digits.iter().take(most).map_while(|byte| char::from(*byte).to_digit(radix));
    taken.fold((0, 0), |(value, count), digit| (value * radix + digit, count + 1))
}

fn push_code(out: &mut Vec<u8>, code: u32) {
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn undo_percent(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        let (value, digits) = number(after, 16, 2);
        rest = if *first == b'%' && digits == 2 {
            out.push(u8::try_from(value).unwrap());
            &after[2..]
        } else {
            out.push(*first);
            after
        };
    }
    out
}

fn undo_backslashes(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let Some(kind) = after.first().filter(|_| *first == b'\\') else {
            out.push(*first);
            continue;
        };
        rest = &after[1..];
        match kind {
            b'u' if number(rest, 16, 4).1 == 4 => {
                push_code(&mut out, number(rest, 16, 4).0);
                rest = &rest[4..];
            }
            b'x' if number(rest, 16, 2).1 == 2 => {
                out.push(u8::try_from(number(rest, 16, 2).0).unwrap());
                rest = &rest[2..];
            }
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            other => out.push(*other),
        }
    }
    out
}

fn undo_references(text: &[u8]) -> Vec<u8> {
    const NAMED: [(&[u8], u8); 5] =
        [(b"&amp;", b'&'), (b"&lt;", b'<'), (b"&gt;", b'>'), (b"&quot;", b'"'), (b"&#39;", b'\'')];
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        if let Some((name, byte)) = NAMED.iter().find(|(name, _)| rest.starts_with(name)) {
            out.push(*byte);
            rest = &rest[name.len()..];
            continue;
        }
        let (head, radix) = if rest.starts_with(b"&#x") || rest.starts_with(b"&#X") { (3, 16) } else { (2, 10) };
        let (code, digits) = if rest.starts_with(b"&#") { number(&rest[head..], radix, 7) } else { (0, 0) };
        if digits == 0 {
            out.push(*first);
            rest = after;
            continue;
        }
        push_code(&mut out, code);
        rest = &rest[head + digits..];
        rest = rest.strip_prefix(b";").unwrap_or(rest);
    }
    out
}

/// Every run of base64's letters, of both alphabets and whatever its lines, decoded from each of its first four letters on.
fn base64_runs(text: &[u8], look: &mut dyn FnMut(&[u8])) {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let mut run = Vec::new();
    for byte in text.iter().copied().chain([0]) {
        match value(byte) {
            Some(value) => run.push(value),
            None if matches!(byte, b'\r' | b'\n') => {}
            None => {
                for begin in 0..if run.len() < SHORTEST { 0 } else { 4 } {
                    let (mut decoded, mut bits, mut count) = (Vec::with_capacity(run.len()), 0_u32, 0);
                    for six in &run[begin..] {
                        bits = bits << 6 | u32::from(*six);
                        count += 6;
                        if count >= 8 {
                            count -= 8;
                            decoded.push((bits >> count).to_be_bytes()[3]);
                        }
                    }
                    look(&decoded);
                }
                run.clear();
            }
        }
    }
}

/// Every run of hexadecimal digits, decoded from each of its first two on.
fn hex_runs(text: &[u8], look: &mut dyn FnMut(&[u8])) {
    let mut run = Vec::new();
    for byte in text.iter().copied().chain([0]) {
        if let Some(digit) = char::from(byte).to_digit(16) {
            run.push(u8::try_from(digit).unwrap());
            continue;
        }
        for begin in 0..if run.len() < SHORTEST { 0 } else { 2 } {
            let decoded: Vec<u8> = run[begin..].chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
            look(&decoded);
        }
        run.clear();
    }
}
