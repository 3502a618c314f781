//! What this process must remember of answers that are not settled, and what no disk could tell it: answers that the state folder did not
//! take, when a provider is asked again to take one back, and which are a callback's that still runs. Never asks anybody.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::id::ConnectionId;

use super::spill::{Name, Spilled};
use crate::gauge::count;

/// After a provider has not taken an answer back, it is left alone for so long; each further time doubles it.
const BACKOFF: Duration = Duration::from_secs(2);
const BACKOFF_MOST: Duration = Duration::from_mins(5);

/// The unsettled answers of one process, as far as they are not on its disk or are in vain so far.
///
/// It holds no more than one answer a connection in memory, and one a callback: nobody of this process refreshes while one waits. What is
/// offered in vain is a file or such an answer each.
#[derive(Default)]
pub(crate) struct Owed(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    unwritten: HashMap<Name, Arc<Spilled>>,
    offers: HashMap<Name, Rest>,
    callbacks: HashSet<Name>,
}

/// Until when an answer is not offered again, on the boot-time clock, and how often it was in vain.
struct Rest {
    until: Duration,
    times: u32,
}

/// A callback that runs in this process, for as long as this is held: its answer is nobody else's to settle.
pub(super) struct Callback<'a> {
    owed: &'a Owed,
    name: Name,
}

impl Drop for Callback<'_> {
    fn drop(&mut self) {
        self.owed.memory().callbacks.remove(&self.name);
    }
}

impl Owed {
    /// A callback begins with its answer.
    pub(super) fn called_back(&self, name: Name) -> Callback<'_> {
        self.memory().callbacks.insert(name.clone());
        Callback { owed: self, name }
    }

    /// Whether the answer is a callback's that still runs here.
    pub(super) fn is_called_back(&self, name: &Name) -> bool {
        self.memory().callbacks.contains(name)
    }

    /// Holds an answer that the state folder did not take.
    pub(super) fn hold(&self, answer: Arc<Spilled>) {
        let mut memory = self.memory();
        memory.unwritten.insert(answer.name(), answer);
        gauge(&memory);
    }

    /// The disk has it after all.
    pub(super) fn written(&self, name: &Name) {
        let mut memory = self.memory();
        memory.unwritten.remove(name);
        gauge(&memory);
    }

    /// Nothing more is to be done about it.
    pub(super) fn settled(&self, name: &Name) {
        let mut memory = self.memory();
        memory.unwritten.remove(name);
        memory.offers.remove(name);
        gauge(&memory);
    }

    /// The answers that only this memory holds.
    pub(super) fn unwritten(&self) -> Vec<Arc<Spilled>> {
        self.memory().unwritten.values().cloned().collect()
    }

    /// Those of one connection.
    pub(super) fn of_connection(&self, connection: ConnectionId) -> Vec<Arc<Spilled>> {
        let mut unwritten = self.unwritten();
        unwritten.retain(|answer| answer.renewed.connection == connection);
        unwritten
    }

    /// Whether an answer that cannot be stored rests before it is offered to its provider again.
    pub(super) fn rests(&self, name: &Name, now: Duration) -> bool {
        self.memory().offers.get(name).is_some_and(|rest| now < rest.until)
    }

    /// It was offered in vain.
    pub(super) fn in_vain(&self, name: &Name, now: Duration) {
        let mut memory = self.memory();
        let rest = memory.offers.entry(name.clone()).or_insert(Rest { until: now, times: 0 });
        rest.until = now + BACKOFF.saturating_mul(1 << rest.times.min(8)).min(BACKOFF_MOST);
        rest.times = rest.times.saturating_add(1);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gauge(memory: &Memory) {
    metrics::gauge!("keyholder_answers_in_memory_only").set(count(memory.unwritten.len()));
}

#[cfg(test)]
mod tests {
    use domain::{clock::Clock, id::ConnectionId};

    use super::*;

    #[test]
    fn what_is_offered_in_vain_rests_for_longer_each_time() {
        let owed = Owed::default();
        let name = Name::of_lease(ConnectionId::new(&Clock::system()), 1);
        let mut now = Duration::from_secs(100);
        assert!(!owed.rests(&name, now));
        for seconds in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            owed.in_vain(&name, now);
            now += Duration::from_millis(seconds * 1000 - 1);
            assert!(owed.rests(&name, now), "{seconds}");
            now += Duration::from_millis(1);
            assert!(!owed.rests(&name, now), "{seconds}");
        }
        owed.in_vain(&name, now);
        owed.settled(&name);
        assert!(!owed.rests(&name, now));
    }
}
