//! Names by number, and numbers by name: each name is kept once, and all of them in one text.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// No name.
pub(super) const NOTHING: u32 = u32::MAX;

/// A set of names.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    /// Where each name ends.
    ends: Vec<u32>,
    /// Numbers, each at the place that its name's hash says or the next that was free.
    table: Vec<u32>,
    hash: RandomState,
}

impl Names {
    /// The number of a name that is known.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        if self.table.is_empty() {
            return None;
        }
        let mut at = self.place(name);
        loop {
            match self.table.get(at).copied() {
                None | Some(NOTHING) => return None,
                Some(number) if self.name(number) == name => return Some(number),
                Some(_) => at = (at + 1) & (self.table.len() - 1),
            }
        }
    }

    /// The number of a name; none if there are too many.
    pub(super) fn add(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.find(name) {
            return Some(number);
        }
        if (self.ends.len() + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let number = u32::try_from(self.ends.len()).ok().filter(|number| *number < NOTHING)?;
        self.ends.push(u32::try_from(self.text.len() + name.len()).ok()?);
        self.text.push_str(name);
        self.put(number);
        Some(number)
    }

    /// The name of a number.
    pub(super) fn name(&self, number: u32) -> &str {
        let number = number as usize;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0) as usize;
        let end = self.ends.get(number).copied().unwrap_or(0) as usize;
        self.text.get(start..end).unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + (self.ends.capacity() + self.table.capacity()) * size_of::<u32>()
    }

    /// Gives back what was taken for names that did not come.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn place(&self, name: &str) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits are used")]
        let hash = self.hash.hash_one(name) as usize;
        hash & (self.table.len() - 1)
    }

    fn put(&mut self, number: u32) {
        let mut at = self.place(self.name(number));
        while let Some(place) = self.table.get_mut(at) {
            if *place == NOTHING {
                *place = number;
                return;
            }
            at = (at + 1) & (self.table.len() - 1);
        }
    }

    fn grow(&mut self) {
        let length = (self.table.len() * 2).max(16);
        self.table = vec![NOTHING; length];
        for number in 0..u32::try_from(self.ends.len()).unwrap_or(NOTHING) {
            self.put(number);
        }
    }
}
