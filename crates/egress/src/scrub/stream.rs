//! Scrubbing a text that arrives in pieces. Never lets go of a byte that may belong to an occurrence not yet complete.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    MARK,
    needle::{Needle, Run},
    unit::{self, REACH, Unit},
    work,
};
use crate::wipe;

/// A text on its way through the scrubber. What comes out does not depend on how the text was cut.
pub struct ScrubStream {
    needles: Arc<[Needle]>,
    runs: Vec<Run>,
    /// The text from the first byte on that was not let go yet, and its place in the whole.
    held: Zeroizing<Vec<u8>>,
    base: usize,
    /// For each byte held, whether it is inside an escape that began before it.
    inside: Vec<bool>,
    /// The place to read next.
    place: usize,
    /// Occurrences found in what is held, as places: in order, and none overlapping another.
    found: Vec<(usize, usize)>,
    hits: usize,
    units: Vec<Unit>,
    /// The characters at which an occurrence or an encoding may begin.
    interesting: [bool; 256],
}

impl ScrubStream {
    pub(super) fn new(needles: Arc<[Needle]>) -> Self {
        let runs = needles.iter().map(Run::new).collect();
        let mut interesting = [false; 256];
        for (byte, entry) in (0..=u8::MAX).zip(interesting.iter_mut()) {
            *entry = unit::is_introducer(byte) || needles.iter().any(|needle| needle.may_begin_with(byte));
        }
        Self {
            needles,
            runs,
            held: Zeroizing::new(Vec::new()),
            base: 0,
            inside: Vec::new(),
            place: 0,
            found: Vec::new(),
            hits: 0,
            units: Vec::new(),
            interesting,
        }
    }

    /// Takes the next piece, and gives back what is surely clean by now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        wipe::append(&mut self.held, piece);
        self.inside.resize(self.held.len(), false);
        // A unit is read only when all of it must be there: else the cut would decide what it means.
        let safe = (self.base + self.held.len()).saturating_sub(REACH);
        self.read_to(safe);
        let limit = self.earliest();
        self.let_go(limit)
    }

    /// Ends the text. Gives back the rest of it, and in how many places a secret was found.
    pub fn finish(mut self) -> (Vec<u8>, usize) {
        let end = self.base + self.held.len();
        self.read_to(end);
        let rest = self.let_go(end);
        (rest, self.hits)
    }

    fn read_to(&mut self, end: usize) {
        while self.place < end {
            self.mark_escape();
            self.read_place();
            self.place += 1;
        }
    }

    /// Marks the bytes inside a JSON escape that begins here, so that none is cut in half: that would turn JSON into
    /// something else.
    fn mark_escape(&mut self) {
        let at = self.place - self.base;
        if self.held.get(at) != Some(&b'\\') || self.inside.get(at) == Some(&true) {
            return;
        }
        let length = if self.held.get(at + 1) == Some(&b'u') { 6 } else { 2 };
        self.inside.iter_mut().skip(at + 1).take(length - 1).for_each(|inside| *inside = true);
    }

    fn read_place(&mut self) {
        let place = self.place;
        let text = self.held.get(place - self.base..).unwrap_or_default();
        let Some(first) = text.first().copied() else { return };
        let interesting = self.interesting.get(usize::from(first)).copied().unwrap_or(true);
        if !interesting && !self.runs.iter().any(|run| run.is_busy(place)) {
            return;
        }
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
        let mut ended = Vec::new();
        for (needle, run) in self.needles.iter().zip(&mut self.runs) {
            let earliest = run.earliest(place);
            if let Some(end) = run.step(needle, place, &self.units) {
                // There is a beginning whenever there is an end; were there none, more would be covered, not less.
                let floor = earliest.saturating_sub(self.base);
                let begin = needle.begin_of(&self.held, floor, end - self.base).map_or(earliest, |it| it + self.base);
                ended.push((begin, end));
            }
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

    /// Lets go of the text before the limit, or of a little less where that would cut an occurrence or an escape.
    fn let_go(&mut self, limit: usize) -> Vec<u8> {
        let mut limit = self.escape_begin(limit);
        if limit <= self.base {
            return Vec::new();
        }
        work::count(self.found.len());
        let covered = self.covered();
        for (begin, end) in &covered {
            if *begin < limit && limit < *end {
                limit = *begin;
            }
        }
        let mut clean = Vec::with_capacity(limit - self.base);
        let mut done = self.base;
        for (begin, end) in covered.into_iter().take_while(|(_, end)| *end <= limit) {
            clean.extend_from_slice(self.text(done, begin));
            clean.extend_from_slice(MARK.as_bytes());
            self.hits += 1;
            done = end;
        }
        clean.extend_from_slice(self.text(done, limit));

        self.found.retain(|(begin, _)| *begin >= limit);
        self.held.drain(..limit - self.base);
        self.inside.drain(..limit - self.base);
        self.base = limit;
        clean
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

    fn text(&self, begin: usize, end: usize) -> &[u8] {
        self.held.get(begin - self.base..end - self.base).unwrap_or_default()
    }
}
