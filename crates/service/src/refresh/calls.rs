//! The refreshes that this process is at, and those of which it does not know whether the provider was reached.
//!
//! A lease can stay on record that nobody has called under: the answer to its commit was lost, or it could not be given back while the
//! database was away. Only the process that took it knows that, and says so here; whatever is not known here may have been a call.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use domain::id::ConnectionId;

/// The refreshes of one process.
#[derive(Default)]
pub(crate) struct Calls(Mutex<HashMap<ConnectionId, Mark>>);

struct Mark {
    busy: bool,
    /// A call was made whose end is not on record.
    undecided: bool,
}

impl Calls {
    /// Begins with a connection's refresh. Nothing where this process is at it already.
    pub(super) fn begin(&self, connection: ConnectionId) -> Option<Call<'_>> {
        let mut marks = self.marks();
        let undecided = match marks.entry(connection) {
            Entry::Occupied(entry) if entry.get().busy => return None,
            Entry::Occupied(mut entry) => {
                entry.get_mut().busy = true;
                entry.get().undecided
            }
            Entry::Vacant(entry) => {
                entry.insert(Mark { busy: true, undecided: false });
                false
            }
        };
        Some(Call { calls: self, connection, undecided })
    }

    /// Forgets a connection that is gone: its lease went with it.
    pub(super) fn forget(&self, connection: ConnectionId) {
        if let Entry::Occupied(entry) = self.marks().entry(connection)
            && !entry.get().busy
        {
            entry.remove();
        }
    }

    fn marks(&self) -> MutexGuard<'_, HashMap<ConnectionId, Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One refresh, from before its lease is asked for until all that is to be known of it is on record.
pub(super) struct Call<'a> {
    calls: &'a Calls,
    connection: ConnectionId,
    undecided: bool,
}

impl Call<'_> {
    /// Whether a lease of this very node's that is still on record was surely not called under.
    pub(super) fn own_lease_is_unused(&self) -> bool {
        !self.undecided
    }

    /// The provider is about to be called.
    pub(super) fn is_made(&mut self) {
        self.undecided = true;
    }

    /// What the call came to is known, and needs no lease to say so.
    pub(super) fn is_decided(&mut self) {
        self.undecided = false;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut marks = self.calls.marks();
        if self.undecided {
            marks.insert(self.connection, Mark { busy: false, undecided: true });
        } else {
            marks.remove(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::clock::Clock;

    #[test]
    fn a_call_without_an_end_is_remembered_and_nothing_else() {
        let (calls, connection) = (Calls::default(), ConnectionId::new(&Clock::system()));
        let first = calls.begin(connection).unwrap();
        assert!(first.own_lease_is_unused());
        assert!(calls.begin(connection).is_none(), "one at a time");
        drop(first);
        let mut second = calls.begin(connection).unwrap();
        second.is_made();
        drop(second);
        let mut third = calls.begin(connection).unwrap();
        assert!(!third.own_lease_is_unused());
        drop(third);
        third = calls.begin(connection).unwrap();
        assert!(!third.own_lease_is_unused(), "who only looked at it decides nothing");
        third.is_decided();
        drop(third);
        assert!(calls.begin(connection).unwrap().own_lease_is_unused());
        assert!(calls.marks().is_empty());
        let mut last = calls.begin(connection).unwrap();
        last.is_made();
        calls.forget(connection);
        assert!(calls.begin(connection).is_none(), "who is at it is not forgotten");
        drop(last);
        calls.forget(connection);
        assert!(calls.marks().is_empty());
    }
}
