//! Effects: what really happened at the platform, counted as it happens.
//!
//! Every act says a text of its own, made of its worker and its number, so that one bit an act tells whether it happened, and a bit that
//! is set twice is an effect that was repeated. Exact, and small however long the soak.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbox::{Post, PostWitness};

/// Which act: the text that it posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) worker: usize,
    pub(super) number: usize,
    /// Under the mandate with the small budget.
    pub(super) is_narrow: bool,
}

impl Marker {
    /// What the act posts.
    pub(super) fn text(self) -> String {
        let mandate = if self.is_narrow { "narrow" } else { "broad" };
        format!("soak {mandate} {} {}", self.worker, self.number)
    }

    /// The act's idempotency key.
    pub(super) fn key(self) -> String {
        format!("soak-{}-{}", self.worker, self.number)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_prefix("soak ")?.split(' ');
        let is_narrow = match words.next()? {
            "narrow" => true,
            "broad" => false,
            _ => return None,
        };
        let marker = Self { worker: words.next()?.parse().ok()?, number: words.next()?.parse().ok()?, is_narrow };
        words.next().is_none().then_some(marker)
    }
}

/// The most workers, and acts of a worker, that are counted: a post beyond is none of ours.
const MOST_WORKERS: usize = 1024;
const MOST_NUMBER: usize = 100_000_000;

#[derive(Debug, Default)]
struct Seen {
    /// For each worker one bit an act.
    happened: Vec<Vec<u64>>,
    totals: Totals,
}

/// Sums.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    /// Posts of ours, repeated ones included.
    pub(super) posts: u64,
    /// Posts whose act had posted before.
    pub(super) repeated: u64,
    /// Posts under the mandate with the small budget.
    pub(super) narrow: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Effects(Mutex<Seen>);

impl Effects {
    /// What the platform tells of each post.
    pub(super) fn witness(self: &Arc<Self>) -> PostWitness {
        let this = Arc::clone(self);
        Arc::new(move |post: &Post| {
            if let Some(marker) = Marker::parse(&post.text) {
                this.count(marker);
            }
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, marker: Marker) {
        if marker.worker >= MOST_WORKERS || marker.number >= MOST_NUMBER {
            return;
        }
        let mut seen = self.seen();
        if seen.happened.len() <= marker.worker {
            seen.happened.resize(marker.worker + 1, Vec::new());
        }
        let (word, bit) = (marker.number / 64, 1_u64 << (marker.number % 64));
        let Some(bits) = seen.happened.get_mut(marker.worker) else { return };
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        let Some(word) = bits.get_mut(word) else { return };
        let again = *word & bit != 0;
        *word |= bit;
        seen.totals.posts += 1;
        seen.totals.repeated += u64::from(again);
        seen.totals.narrow += u64::from(marker.is_narrow);
    }

    /// Whether the act has happened.
    pub(super) fn has(&self, marker: Marker) -> bool {
        let seen = self.seen();
        let word = seen.happened.get(marker.worker).and_then(|bits| bits.get(marker.number / 64));
        word.is_some_and(|word| word & (1 << (marker.number % 64)) != 0)
    }

    /// The sums so far.
    pub(super) fn totals(&self) -> Totals {
        self.seen().totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_from_its_text_and_nothing_else_is() {
        for is_narrow in [true, false] {
            let marker = Marker { worker: 63, number: 1_000_000, is_narrow };
            assert_eq!(Marker::parse(&marker.text()), Some(marker));
        }
        for other in ["", "soak", "soak wide 1 1", "soak broad 1", "soak broad 1 1 1", "soak broad -1 1", "hello"] {
            assert_eq!(Marker::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn each_act_counts_once_and_what_comes_again_is_repeated() {
        let effects = Effects::default();
        let one = Marker { worker: 2, number: 130, is_narrow: true };
        let other = Marker { worker: 0, number: 130, is_narrow: false };
        effects.count(one);
        effects.count(other);
        effects.count(one);
        assert_eq!(effects.totals(), Totals { posts: 3, repeated: 1, narrow: 2 });
        assert!(effects.has(one) && effects.has(other));
        assert!(!effects.has(Marker { number: 129, ..one }) && !effects.has(Marker { worker: 1, ..one }));
    }
}
