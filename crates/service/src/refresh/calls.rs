//! The refreshes that this process is at, and those of which it does not know whether the provider was reached.
//!
//! A lease can stay on record that nobody has called under: the answer to its commit was lost, or it could not be given back while the
//! database was away. Only the process that took it knows that, and says so here; whatever is not known here may have been a call.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::id::{ConnectionId, WorkspaceId};
use store::StoreError;

use crate::{App, gauge::count};

/// How often it is asked whether the connections of undecided calls are still there.
const EVERY: Duration = Duration::from_mins(1);

/// The refreshes of one process.
#[derive(Default)]
pub(crate) struct Calls(Mutex<HashMap<ConnectionId, Mark>>);

struct Mark {
    workspace: WorkspaceId,
    busy: bool,
    /// A call was made whose end is not on record.
    undecided: bool,
}

impl Calls {
    /// Begins with a connection's refresh. Nothing where this process is at it already.
    pub(super) fn begin(&self, workspace: WorkspaceId, connection: ConnectionId) -> Option<Call<'_>> {
        let mut marks = self.marks();
        let undecided = match marks.entry(connection) {
            Entry::Occupied(entry) if entry.get().busy => return None,
            Entry::Occupied(mut entry) => {
                entry.get_mut().busy = true;
                entry.get().undecided
            }
            Entry::Vacant(entry) => {
                entry.insert(Mark { workspace, busy: true, undecided: false });
                false
            }
        };
        Some(Call { calls: self, workspace, connection, undecided })
    }

    /// Forgets a connection that is gone: its lease went with it.
    pub(super) fn forget(&self, connection: ConnectionId) {
        if let Entry::Occupied(entry) = self.marks().entry(connection)
            && !entry.get().busy
        {
            entry.remove();
        }
    }

    /// The calls whose end is not on record, and which nobody is at.
    fn undecided(&self) -> Vec<(WorkspaceId, ConnectionId)> {
        let marks = self.marks();
        let idle = marks.iter().filter(|(_, mark)| mark.undecided && !mark.busy);
        idle.map(|(connection, mark)| (mark.workspace, *connection)).collect()
    }

    fn marks(&self) -> MutexGuard<'_, HashMap<ConnectionId, Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the calls of connections that are gone, for as long as the process lives: whoever took one apart may have been another process,
/// which told nobody here.
pub(crate) async fn forget_gone(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (workspace, connection) in app.calls.undecided() {
            if is_gone(&app, workspace, connection).await {
                app.calls.forget(connection);
            }
        }
        metrics::gauge!("keyholder_undecided_refreshes").set(count(app.calls.undecided().len()));
    }
}

/// Whether the workspace no longer has the connection. One that is gone does not come back.
async fn is_gone(app: &App, workspace: WorkspaceId, connection: ConnectionId) -> bool {
    match app.store.snapshots.get(workspace).await {
        Ok(snapshot) => snapshot.connections.iter().all(|known| known.id != connection),
        Err(StoreError::NotFound) => true,
        Err(_) => false,
    }
}

/// One refresh, from before its lease is asked for until all that is to be known of it is on record.
pub(super) struct Call<'a> {
    calls: &'a Calls,
    workspace: WorkspaceId,
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
            marks.insert(self.connection, Mark { workspace: self.workspace, busy: false, undecided: true });
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
        let (calls, clock) = (Calls::default(), Clock::system());
        let (workspace, connection) = (WorkspaceId::new(&clock), ConnectionId::new(&clock));
        let begin = || calls.begin(workspace, connection);
        let first = begin().unwrap();
        assert!(first.own_lease_is_unused());
        assert!(begin().is_none(), "one at a time");
        drop(first);
        let mut second = begin().unwrap();
        second.is_made();
        drop(second);
        assert_eq!(calls.undecided(), [(workspace, connection)]);
        let mut third = begin().unwrap();
        assert_eq!(calls.undecided(), [], "somebody is at it");
        assert!(!third.own_lease_is_unused());
        drop(third);
        third = begin().unwrap();
        assert!(!third.own_lease_is_unused(), "who only looked at it decides nothing");
        third.is_decided();
        drop(third);
        assert!(begin().unwrap().own_lease_is_unused());
        assert!(calls.marks().is_empty());
        let mut last = begin().unwrap();
        last.is_made();
        calls.forget(connection);
        assert!(begin().is_none(), "who is at it is not forgotten");
        drop(last);
        calls.forget(connection);
        assert!(calls.marks().is_empty());
    }
}
