//! What the machine grants this process: descriptors, and that nobody reads its memory.

use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

use super::Check;
use crate::config::Config;

/// What a process opens beside its callers' connections and the application's: the other logins' and the platforms', files.
const OTHERS: u64 = 256 + 64;

/// Whether there are descriptors for every connection that is allowed. A serving process raises its limit by itself, to this one.
pub(super) fn of_descriptors(config: &Config) -> Check {
    let limit = getrlimit(Resource::Nofile).maximum;
    descriptors(limit, u64::from(config.server.connections) + u64::from(config.connections) + OTHERS)
}

/// No limit at all is `None`.
fn descriptors(limit: Option<u64>, wanted: u64) -> Check {
    let name = "descriptors";
    match limit {
        Some(limit) if limit < wanted => Check::fault(
            name,
            format!("this process may open {limit} files and sockets, and needs up to {wanted}"),
            "raise LimitNOFILE in the systemd unit, or `ulimit -Hn`, for the account that serves: else callers are bounded by it",
        ),
        Some(limit) => Check::ok(name, format!("{limit}, of which up to {wanted} are needed")),
        None => Check::ok(name, "no limit"),
    }
}

/// Whether this process's memory stays its own: what `main` set at its begin is read back.
pub(super) fn of_memory() -> Check {
    let cores = getrlimit(Resource::Core).current;
    let private = dumpable_behavior().is_ok_and(|behavior| behavior == DumpableBehavior::NotDumpable);
    memory(cores == Some(0), private)
}

fn memory(no_cores: bool, private: bool) -> Check {
    let name = "memory";
    match (no_cores, private) {
        (true, true) => Check::ok(name, "no core dumps, and no process of the same account may attach"),
        (false, _) => Check::fault(name, "core dumps are on", "set LimitCORE=0 in the systemd unit, or `ulimit -c 0`"),
        (true, false) => Check::fault(
            name,
            "a process of the same account may attach",
            "start the binary itself, and not a program that runs its code",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_and_memory_that_others_read_are_faults() {
        let few = descriptors(Some(1024), 8000);
        assert!(!few.ok && few.detail.contains("1024") && few.detail.contains("8000"), "{few:?}");
        assert!(descriptors(Some(8000), 8000).ok && descriptors(None, 8000).ok);
        assert!(memory(true, true).ok);
        for (no_cores, private, word) in [(false, true, "core dumps"), (true, false, "attach"), (false, false, "core")]
        {
            let found = memory(no_cores, private);
            assert!(!found.ok && found.detail.contains(word), "{found:?}");
        }
    }
}
