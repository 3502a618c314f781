//! Scrubbing a text, whole or in pieces. Never lets go of a byte that may belong to an occurrence not yet complete.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    MARK,
    needle::{Needle, Run},
    unit::{self, REACH, Unit},
    work,
};
use crate::wipe;

/// The needles of a call, and a first look at a text that spares most of it the automata.
///
/// The first look misses nothing. A byte that can be read in more than one way is always looked into. Any other stands for itself; so if
/// an occurrence begins with it, it is a needle's first character, and the next byte is the second, or is passed over by that needle, or
/// can be read in more than one way.
pub(super) struct Needles {
    needles: Vec<Needle>,
    /// For each byte: in the lower half which needles an occurrence may begin with it, in the upper half which it may continue as its
    /// second byte. The bits of [`lane`], and [`ANY`].
    pairs: Zeroizing<Vec<u32>>,
}

/// The bit of what is more than a byte: it is looked at whatever follows.
const ANY: u32 = 1 << 15;

/// The bit of a needle. When there are many, some share one, which costs time and nothing else.
fn lane(number: usize) -> u32 {
    1 << (number % 15)
}

impl Needles {
    pub(super) fn new(needles: Vec<Needle>) -> Self {
        let mut pairs = Zeroizing::new(vec![ANY << 16; 256]);
        let mut mark = |byte: u8, bits: u32| {
            if let Some(entry) = pairs.get_mut(usize::from(byte)) {
                *entry |= bits;
            }
        };
        for byte in (0..=u8::MAX).filter(|byte| unit::is_introducer(*byte)) {
            mark(byte, ANY | 0xffff << 16);
        }
        for (number, needle) in needles.iter().enumerate() {
            let (first, second) = needle.beginnings();
            first.for_each(|byte| mark(byte, lane(number)));
            second.for_each(|byte| mark(byte, lane(number) << 16));
        }
        Self { needles, pairs }
    }

    /// How far it is to the next place before `end` at which an occurrence or an encoding may begin, if there is one. Asked only where
    /// nothing is under way; the text goes on for [`REACH`] bytes behind `end`, or ends there.
    fn next(&self, text: &[u8], end: usize) -> Option<usize> {
        let Ok(pairs) = <&[u32; 256]>::try_from(self.pairs.as_slice()) else { return Some(0) };
        let entry = |byte: u8| pairs.get(usize::from(byte)).copied().unwrap_or(u32::MAX);
        let window = text.get(..=end).unwrap_or(text);
        let mut from = 0;
        while from < end {
            let rest = window.get(from..)?;
            let pair = rest.iter().zip(rest.get(1..)?).position(|(one, two)| entry(*one) & entry(*two) >> 16 != 0);
            let at = pair.unwrap_or(rest.len() - 1);
            work::count(at + 1);
            from += at;
            let found = text.get(from..)?;
            let bits = entry(*found.first()?);
            let begins = |(number, needle): (usize, &Needle)| bits & lane(number) != 0 && needle.may_begin(found);
            if bits & ANY != 0 || self.needles.iter().enumerate().any(begins) {
                return Some(from).filter(|from| *from < end);
            }
            from += 1;
        }
        None
    }

    /// Whether one of these units may begin an occurrence.
    fn may_begin_with(&self, units: &[Unit]) -> bool {
        let first = |unit: &Unit| unit.meaning().first().and_then(|first| self.pairs.get(usize::from(*first)).copied());
        units.iter().filter_map(first).any(|bits| bits & (ANY - 1) != 0)
    }
}

/// One text's search. It sees the text through a window, which whoever holds the text moves on.
pub(super) struct Search {
    needles: Arc<Needles>,
    runs: Vec<Run>,
    /// The window's first place in the whole text.
    base: usize,
    /// For each byte of the window, whether it is inside an escape that began before it. It may end early: then none is.
    inside: Vec<bool>,
    /// The place to read next, and the last one at which something may be under way.
    place: usize,
    busy_to: usize,
    /// Occurrences found in the window, as places: in order, and none overlapping another.
    found: Vec<(usize, usize)>,
    units: Vec<Unit>,
}

/// A text on its way through the scrubber. What comes out does not depend on how the text was cut.
pub struct ScrubStream {
    search: Search,
    /// The text from the first byte on that was not let go yet.
    held: Zeroizing<Vec<u8>>,
    hits: usize,
}

impl ScrubStream {
    pub(super) fn new(needles: Arc<Needles>) -> Self {
        Self { search: Search::new(needles), held: Zeroizing::new(Vec::new()), hits: 0 }
    }

    /// Takes the next piece, and gives back what is surely clean by now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        wipe::append(&mut self.held, piece);
        // A unit is read only when all of it must be there: else the cut would decide what it means.
        let safe = (self.search.base + self.held.len()).saturating_sub(REACH);
        self.search.read_to(&self.held, safe);
        let limit = self.search.earliest();
        self.let_go(limit)
    }

    /// Ends the text. Gives back the rest of it, and in how many places a secret was found.
    pub fn finish(mut self) -> (Vec<u8>, usize) {
        let end = self.search.base + self.held.len();
        self.search.read_to(&self.held, end);
        let rest = self.let_go(end);
        (rest, self.hits)
    }

    fn let_go(&mut self, limit: usize) -> Vec<u8> {
        let (clean, gone, hits) = self.search.let_go(&self.held, limit);
        self.held.drain(..gone);
        self.hits += hits;
        clean
    }
}

impl Search {
    pub(super) fn new(needles: Arc<Needles>) -> Self {
        let runs = needles.needles.iter().map(|_| Run::default()).collect();
        Self { needles, runs, base: 0, inside: Vec::new(), place: 0, busy_to: 0, found: Vec::new(), units: Vec::new() }
    }

    /// Searches a text that is there as a whole. Nothing of an earlier text is remembered.
    ///
    /// `None` if there is no secret in it; else the text without it, and in how many places it was.
    pub(super) fn whole(&mut self, text: &[u8]) -> Option<(Vec<u8>, usize)> {
        self.runs.iter_mut().for_each(Run::reset);
        (self.base, self.place, self.busy_to) = (0, 0, 0);
        self.inside.clear();
        self.found.clear();
        self.read_to(text, text.len());
        if self.found.is_empty() {
            return None;
        }
        let (clean, _, hits) = self.let_go(text, text.len());
        Some((clean, hits))
    }

    fn read_to(&mut self, held: &[u8], end: usize) {
        while self.place < end {
            if self.busy_to < self.place || self.busy_to == 0 {
                let rest = held.get(self.place - self.base..).unwrap_or_default();
                let Some(ahead) = self.needles.next(rest, end - self.place) else {
                    self.place = end;
                    return;
                };
                self.place += ahead;
            }
            self.mark_escape(held);
            self.read_place(held);
            self.place += 1;
        }
    }

    /// Marks the bytes inside a JSON escape that begins here, so that none is cut in half: that would turn JSON into
    /// something else.
    fn mark_escape(&mut self, held: &[u8]) {
        let at = self.place - self.base;
        if held.get(at) != Some(&b'\\') || self.inside.get(at) == Some(&true) {
            return;
        }
        let length = if held.get(at + 1) == Some(&b'u') { 6 } else { 2 };
        let end = (at + length).min(held.len());
        self.inside.resize(self.inside.len().max(end), false);
        self.inside.iter_mut().take(end).skip(at + 1).for_each(|inside| *inside = true);
    }

    fn read_place(&mut self, held: &[u8]) {
        let place = self.place;
        let text = held.get(place - self.base..).unwrap_or_default();
        let Some(first) = text.first().copied() else { return };
        self.units.clear();
        if unit::is_introducer(first) {
            let units = &mut self.units;
            unit::each(text, &mut |unit| {
                if !units.contains(&unit) {
                    units.push(unit);
                }
            });
        } else {
            self.units.push(Unit::byte(first, 1));
        }
        work::count(1);
        if self.busy_to < place && !self.needles.may_begin_with(&self.units) {
            return;
        }
        let mut ended = Vec::new();
        self.busy_to = 0;
        for (needle, run) in self.needles.needles.iter().zip(&mut self.runs) {
            let earliest = run.earliest(place);
            if let Some(end) = run.step(needle, place, &self.units) {
                // There is a beginning whenever there is an end; were there none, more would be covered, not less.
                let floor = earliest.saturating_sub(self.base);
                let begin = needle.begin_of(held, floor, end - self.base).map_or(earliest, |it| it + self.base);
                ended.push((begin, end));
            }
            self.busy_to = self.busy_to.max(run.busy_to());
        }
        for (begin, end) in ended {
            self.cover(begin, end);
        }
    }

    /// Keeps an occurrence. Those that overlap become one at once, so that no chain of them is gone through again and again.
    fn cover(&mut self, begin: usize, end: usize) {
        let (mut begin, mut end) = (self.escape_begin(begin), end);
        while let Some((first, last)) = self.found.last().copied() {
            // An escape that began before a place that was read is known; a later one is looked at when the text is let go.
            let last = if last <= self.place { self.escape_end(last) } else { last };
            if last <= begin {
                break;
            }
            (begin, end) = (begin.min(first), end.max(last));
            self.found.pop();
        }
        self.found.push((begin, end));
    }

    /// The place before which nothing can belong to an occurrence that is still to be found.
    fn earliest(&self) -> usize {
        self.runs.iter().map(|run| run.earliest(self.place)).min().unwrap_or(self.place).max(self.base)
    }

    /// Lets go of the text before the limit, or of a little less where that would cut an occurrence or an escape: what is clean of it,
    /// how many bytes of the window are gone, and how many occurrences were among them.
    fn let_go(&mut self, held: &[u8], limit: usize) -> (Vec<u8>, usize, usize) {
        let mut limit = self.escape_begin(limit);
        if limit <= self.base {
            return (Vec::new(), 0, 0);
        }
        work::count(self.found.len());
        let covered = self.covered();
        for (begin, end) in &covered {
            if *begin < limit && limit < *end {
                limit = *begin;
            }
        }
        let mut clean = Vec::with_capacity(limit - self.base);
        let text = |begin: usize, end: usize| held.get(begin - self.base..end - self.base).unwrap_or_default();
        let (mut done, mut hits) = (self.base, 0);
        for (begin, end) in covered.into_iter().take_while(|(_, end)| *end <= limit) {
            clean.extend_from_slice(text(done, begin));
            clean.extend_from_slice(MARK.as_bytes());
            hits += 1;
            done = end;
        }
        clean.extend_from_slice(text(done, limit));

        self.found.retain(|(begin, _)| *begin >= limit);
        let gone = limit - self.base;
        self.inside.drain(..gone.min(self.inside.len()));
        self.base = limit;
        (clean, gone, hits)
    }

    /// The occurrences, widened to whole escapes, in order; those that overlap are one.
    fn covered(&self) -> Vec<(usize, usize)> {
        let found = self.found.iter().map(|(begin, end)| (*begin, self.escape_end(*end)));
        let mut covered: Vec<(usize, usize)> = Vec::with_capacity(self.found.len());
        for (begin, end) in found {
            match covered.last_mut() {
                Some((_, last)) if begin < *last => *last = end.max(*last),
                _ => covered.push((begin, end)),
            }
        }
        covered
    }

    fn escape_begin(&self, mut place: usize) -> usize {
        while place > self.base && self.inside.get(place - self.base) == Some(&true) {
            place -= 1;
        }
        place
    }

    fn escape_end(&self, mut place: usize) -> usize {
        while self.inside.get(place - self.base) == Some(&true) {
            place += 1;
        }
        place
    }
}
