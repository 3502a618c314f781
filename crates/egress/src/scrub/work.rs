//! What scrubbing costs, in steps that a test can count: time itself says nothing on a busy machine. Outside of tests it is nothing.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts steps of this thread.
#[cfg(test)]
pub(super) fn count(steps: usize) {
    STEPS.set(STEPS.get() + steps);
}

/// Counts nothing.
#[cfg(not(test))]
pub(super) fn count(_: usize) {}

/// The steps that this thread has counted since the last call.
#[cfg(test)]
pub(crate) fn taken() -> usize {
    STEPS.take()
}
