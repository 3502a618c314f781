//! Needles: one form of one secret, and the automaton that finds it. Wiped on drop, like everything made from a secret.
//!
//! The automaton is the bit-parallel one of Baeza-Yates and Gonnet ("A new approach to text searching", 1992): bit `j`
//! set at a place of the text means that `j` characters of the needle end there. Since a character may be written in
//! units of several lengths, a step reaches forward to the place where its unit ends, in a ring of [`REACH`] places.
//! The time is linear in the text, whatever the text and the needle are.

use std::sync::OnceLock;

use zeroize::Zeroizing;

use super::{
    unit::{self, REACH, Unit},
    work,
};

/// Which characters of a text count as the needle's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// The very same; and a plus sign for a space, as forms write it.
    Exact,
    /// Hexadecimal digits of either case.
    Hex,
    /// Base64 of both alphabets (RFC 4648 §4, §5), with line breaks anywhere between.
    Base64,
}

/// What may stand without counting between two characters of a base64 text.
const SKIPPED: &[u8] = b"\r\n \t";

/// How many characters are compared before an automaton is begun. Any number would do; few texts have this many by chance.
const AHEAD: usize = 8;
const _: () = assert!(AHEAD <= REACH, "a stream reads a place when so much of the text behind it is there");

/// One form of a secret, ready to be searched for.
pub(super) struct Needle {
    pattern: Zeroizing<Vec<u8>>,
    fold: Fold,
    /// Made when something first looks like the pattern's beginning, which in most answers nothing does.
    rows: OnceLock<Rows>,
}

/// Which places of a pattern each byte of a text may stand for.
struct Rows {
    /// For every byte of text, where its row begins in `bits`; the row's bit `j` says that it is the pattern's byte `j`.
    at: Zeroizing<Vec<usize>>,
    bits: Zeroizing<Vec<u64>>,
    words: usize,
}

impl Rows {
    fn new(pattern: &[u8], fold: Fold, words: usize) -> Self {
        // The first row is that of the bytes which are nowhere in the pattern, so that this costs no more than the pattern is long.
        let mut row_at = Zeroizing::new(vec![0; 256]);
        let mut next = words;
        for byte in pattern.iter().flat_map(|own| counting_as(*own, fold)) {
            if let Some(at) = row_at.get_mut(usize::from(byte)).filter(|at| **at == 0) {
                *at = next;
                next += words;
            }
        }
        let mut bits = Zeroizing::new(vec![0; next]);
        for (place, own) in pattern.iter().enumerate() {
            for byte in counting_as(*own, fold) {
                let at = row_at.get(usize::from(byte)).map(|at| at + place / 64);
                if let Some(word) = at.and_then(|at| bits.get_mut(at)) {
                    *word |= 1_u64 << (place % 64);
                }
            }
        }
        Self { at: row_at, bits, words }
    }

    fn of(&self, byte: u8) -> &[u64] {
        let at = self.at.get(usize::from(byte)).copied().unwrap_or(0);
        self.bits.get(at..at + self.words).unwrap_or_default()
    }
}

impl Needle {
    /// `None` for an empty pattern, which is everywhere.
    pub(super) fn new(pattern: Zeroizing<Vec<u8>>, fold: Fold) -> Option<Self> {
        (!pattern.is_empty()).then(|| Self { pattern, fold, rows: OnceLock::new() })
    }

    /// The length of the pattern, in bytes.
    pub(super) fn len(&self) -> usize {
        self.pattern.len()
    }

    /// Words per set of states. There is one state more than the pattern has bytes.
    fn words(&self) -> usize {
        self.len() / 64 + 1
    }

    fn rows(&self) -> &Rows {
        self.rows.get_or_init(|| Rows::new(&self.pattern, self.fold, self.words()))
    }

    /// Whether the same is searched for.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.fold == other.fold && *self.pattern == *other.pattern
    }

    /// Whether an occurrence may begin with this character.
    pub(super) fn may_begin_with(&self, byte: u8) -> bool {
        self.pattern.first().is_some_and(|first| counting_as(*first, self.fold).any(|text| text == byte))
    }

    /// The bytes as which an occurrence's first character may be written, and those that may follow it when it is written as it is.
    pub(super) fn beginnings(&self) -> (impl Iterator<Item = u8>, impl Iterator<Item = u8>) {
        let fold = self.fold;
        let own = move |place| self.pattern.get(place).into_iter().flat_map(move |own| counting_as(*own, fold));
        let anything = (self.len() == 1).then_some(0..=u8::MAX).into_iter().flatten();
        let skipped = SKIPPED.iter().copied().filter(move |_| fold == Fold::Base64);
        (own(0), own(1).chain(anything).chain(skipped))
    }

    /// Whether an occurrence may begin where the text does, with a character that is written as it is.
    ///
    /// The pattern must follow, written as it is, up to something that can be read in more than one way or is passed over. A text shorter
    /// than [`AHEAD`] is taken to be at its end.
    pub(super) fn may_begin(&self, text: &[u8]) -> bool {
        for (place, own) in self.pattern.iter().take(AHEAD).enumerate() {
            work::count(1);
            let Some(byte) = text.get(place).copied() else { return false };
            if unit::is_introducer(byte) || place > 0 && self.fold == Fold::Base64 && SKIPPED.contains(&byte) {
                return true;
            }
            if !counting_as(*own, self.fold).any(|text| text == byte) {
                return false;
            }
        }
        true
    }

    /// Whether the unit may stand between two characters of the pattern without counting.
    fn skips(&self, unit: &Unit) -> bool {
        self.fold == Fold::Base64 && matches!(unit.meaning(), [byte] if SKIPPED.contains(byte))
    }

    /// Where the occurrence that ends at `end` begins: of all readings from `floor` on, the one that begins first.
    ///
    /// The automaton of [`Run`], run backwards over the same units: bit `j` set at a place means that the needle's first `j`
    /// characters are still to be found before it. Each place is read once, so that this too is linear.
    pub(super) fn begin_of(&self, text: &[u8], floor: usize, end: usize) -> Option<usize> {
        let words = self.words();
        let mut ring = Zeroizing::new(vec![0_u64; words * (REACH + 1)]);
        let mut here = Zeroizing::new(vec![0_u64; words]);
        let mut there = Zeroizing::new(vec![0_u64; words]);
        let slot = |place: usize| place % (REACH + 1) * words;
        if let Some(word) = ring.get_mut(slot(end) + self.len() / 64) {
            *word = 1 << (self.len() % 64);
        }
        let (mut begin, mut lowest) = (None, end);
        for from in (floor..end).rev().take_while(|from| text.len() > *from) {
            if lowest - from > REACH {
                break; // Nothing is under way any more.
            }
            here.fill(0);
            let rest = text.get(from..).unwrap_or_default();
            let mut read = |unit: Unit| {
                work::count(words);
                let to = slot(from + unit.len);
                let set = ring.get(to..to + words).filter(|_| from + unit.len <= end).unwrap_or_default();
                if set.iter().any(|word| *word != 0) {
                    there.copy_from_slice(set);
                    self.retreat(&unit, &mut there, &mut here);
                }
            };
            if rest.first().copied().is_some_and(unit::is_introducer) {
                unit::each(rest, &mut read);
            } else if let Some(byte) = rest.first() {
                read(Unit::byte(*byte, 1));
            }
            if let Some(first) = here.first_mut().filter(|first| **first & 1 == 1) {
                begin = Some(from);
                *first &= !1;
            }
            if here.iter().any(|word| *word != 0) {
                lowest = from;
            }
            ring.get_mut(slot(from)..slot(from) + words).unwrap_or_default().copy_from_slice(&here);
        }
        begin
    }

    /// Adds to `here` the states before a unit of which `there` are those after it. Uses `there` up.
    fn retreat(&self, unit: &Unit, there: &mut [u64], here: &mut [u64]) {
        if self.skips(unit) {
            let last = self.len();
            for (place, (here, there)) in here.iter_mut().zip(there.iter()).enumerate() {
                let whole = if place == last / 64 { 1 << (last % 64) } else { 0 };
                *here |= *there & !whole;
            }
        }
        let rows = self.rows();
        for byte in unit.meaning().iter().rev() {
            let mut carry = 0;
            for (word, row) in there.iter_mut().zip(rows.of(*byte)).rev() {
                let lowest = *word & 1;
                *word = (*word >> 1 | carry) & row;
                carry = lowest << 63;
            }
        }
        for (here, there) in here.iter_mut().zip(there.iter()) {
            *here |= there;
        }
    }
}

/// The characters of a text that count as one of the pattern's.
fn counting_as(own: u8, fold: Fold) -> impl Iterator<Item = u8> {
    let other = match (fold, own) {
        (Fold::Exact, b' ') => Some(b'+'),
        (Fold::Hex, _) if own.is_ascii_lowercase() => Some(own.to_ascii_uppercase()),
        (Fold::Hex, _) if own.is_ascii_uppercase() => Some(own.to_ascii_lowercase()),
        (Fold::Base64, b'+') => Some(b'-'),
        (Fold::Base64, b'/') => Some(b'_'),
        _ => None,
    };
    std::iter::once(own).chain(other)
}

/// The states of one needle's automaton while it runs over a text.
#[derive(Default)]
pub(super) struct Run {
    /// A set of states for each of the next `REACH` places and this one. Empty, like the rest, until an occurrence may begin.
    ring: Zeroizing<Vec<u64>>,
    /// How many words of each set may have a bit.
    used: Vec<usize>,
    /// Two sets to work with.
    from: Zeroizing<Vec<u64>>,
    to: Zeroizing<Vec<u64>>,
    /// The last place that may have a state, and the place since which some has had one.
    busy_to: usize,
    busy_since: usize,
}

impl Run {
    /// Begins anew, at the first place of another text.
    pub(super) fn reset(&mut self) {
        if self.busy_to > 0 {
            self.ring.fill(0);
            self.used.fill(0);
            self.busy_to = 0;
        }
        self.busy_since = 0;
    }

    fn make_room(&mut self, needle: &Needle) {
        if self.ring.is_empty() {
            let words = needle.words();
            self.ring = Zeroizing::new(vec![0; words * (REACH + 1)]);
            self.used = vec![0; REACH + 1];
            self.from = Zeroizing::new(vec![0; words]);
            self.to = Zeroizing::new(vec![0; words]);
        }
    }

    /// The place before which no occurrence that is still unfinished can have begun, after everything before `place` was
    /// read.
    pub(super) fn earliest(&self, place: usize) -> usize {
        if self.busy_to >= place { self.busy_since } else { place }
    }

    /// The last place at which some occurrence may be under way.
    pub(super) fn busy_to(&self) -> usize {
        self.busy_to
    }

    /// Reads the units at a place. Returns where an occurrence ends, if one does; the automaton then begins anew.
    ///
    /// Places are read in order; one may be left out only where nothing is under way and no unit may begin an occurrence.
    pub(super) fn step(&mut self, needle: &Needle, place: usize, units: &[Unit]) -> Option<usize> {
        let slot = place % (REACH + 1);
        let busy = self.busy_to >= place;
        let used = self.used.get_mut(slot).map_or(0, std::mem::take);
        let begins =
            || units.iter().any(|unit| unit.meaning().first().is_some_and(|first| needle.may_begin_with(*first)));
        if used == 0 && !begins() {
            return None;
        }
        self.make_room(needle);
        let words = needle.words();
        let set = slot * words..slot * words + used;
        for (from, here) in self.from.iter_mut().zip(self.ring.get_mut(set).unwrap_or_default()) {
            *from = std::mem::take(here);
        }
        let mut ended = None;
        for unit in units {
            work::count(used.max(1));
            let length = self.advance(needle, used, unit);
            let end = place + unit.len;
            if length > 0 {
                self.arrive(needle, end, length);
                self.busy_since = if busy { self.busy_since } else { place };
                self.busy_to = self.busy_to.max(end);
            }
            if self.to.get(needle.len() / 64).is_some_and(|word| length > 0 && word >> (needle.len() % 64) & 1 == 1) {
                ended = ended.max(Some(end));
            }
        }
        self.from.iter_mut().take(used.max(1)).for_each(|word| *word = 0);
        if ended.is_some() {
            self.ring.fill(0);
            self.used.fill(0);
            self.busy_to = 0;
        }
        ended
    }

    /// Computes in `to` the states after a unit; gives back how many words of it may have a bit.
    fn advance(&mut self, needle: &Needle, used: usize, unit: &Unit) -> usize {
        let skips = needle.skips(unit);
        let (rows, words) = (needle.rows(), needle.words());
        let mut length = used;
        self.to.fill(0);
        for (to, from) in self.to.iter_mut().zip(self.from.iter()).take(used) {
            *to = *from;
        }
        if let Some(first) = self.to.first_mut() {
            *first |= 1; // An occurrence may begin anywhere.
            length = length.max(1);
        }
        for byte in unit.meaning() {
            let mut carry = 0;
            length = (length + 1).min(words);
            for (to, row) in self.to.iter_mut().zip(rows.of(*byte)).take(length) {
                let matched = *to & row;
                *to = matched << 1 | carry;
                carry = matched >> 63;
            }
        }
        if skips {
            for (to, from) in self.to.iter_mut().zip(self.from.iter()).take(used) {
                *to |= from;
            }
            length = length.max(used);
        }
        self.to.iter().take(length).rposition(|word| *word != 0).map_or(0, |last| last + 1)
    }

    fn arrive(&mut self, needle: &Needle, end: usize, length: usize) {
        let slot = end % (REACH + 1);
        let set = slot * needle.words()..slot * needle.words() + length;
        for (there, to) in self.ring.get_mut(set).unwrap_or_default().iter_mut().zip(self.to.iter()) {
            *there |= to;
        }
        if let Some(used) = self.used.get_mut(slot) {
            *used = (*used).max(length);
        }
    }
}
