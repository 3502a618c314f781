//! Counts steps in tests, so that a bound on work is shown by a number and not by a clock. Elsewhere nothing is counted.

#[cfg(test)]
use std::cell::Cell;

#[cfg(test)]
thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Pieces of work that were done.
#[cfg(test)]
pub(crate) fn step(count: usize) {
    STEPS.set(STEPS.get() + count);
}

/// Pieces of work that were done.
#[cfg(not(test))]
pub(crate) const fn step(_count: usize) {}

/// How many steps `work` takes.
#[cfg(test)]
pub(crate) fn steps<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = STEPS.get();
    let done = work();
    (done, STEPS.get() - before)
}
