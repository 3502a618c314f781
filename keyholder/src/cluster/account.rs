//! The account that the cluster runs under.
//!
//! PostgreSQL refuses to run as root, and its `initdb` refuses an account that the user database does not know. Owns that choice
//! and the question whether the account can reach a file. Never changes the account of this process, only of a child.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{getegid, geteuid};

use super::ClusterError;

/// The accounts that a Keyholder started by root takes, in this order.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A line of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

/// Who the cluster's processes are.
#[derive(Debug, Clone)]
pub(super) struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether children must change to it: true only where this process is root.
    changes: bool,
}

impl Account {
    /// The account for a cluster whose data folder is, or will be, `data`.
    ///
    /// An existing folder decides by its owner, so that an account `postgres` which appears later does not lock the cluster
    /// out of the data that it wrote as `nobody`.
    pub(super) fn choose(data: &Path) -> Result<Self, ClusterError> {
        let uid = geteuid();
        if !uid.is_root() {
            let own = entry_of(uid.as_raw()).ok_or(ClusterError::NoPasswdEntry { uid: uid.as_raw() })?;
            return Ok(Self { name: own.name, uid: own.uid, gid: getegid().as_raw(), changes: false });
        }
        let owner = fs::metadata(data).map(|found| found.uid()).ok().filter(|owner| *owner != 0);
        let chosen = match owner {
            Some(owner) => entry_of(owner).ok_or(ClusterError::NoPasswdEntry { uid: owner })?,
            None => unprivileged(&passwd()).ok_or(ClusterError::NoAccount)?,
        };
        Ok(Self { name: chosen.name, uid: chosen.uid, gid: chosen.gid, changes: true })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    pub(super) fn gid(&self) -> u32 {
        self.gid
    }

    /// Makes the child run as this account. The standard library drops the supplementary groups along with root.
    pub(super) fn dress(&self, command: &mut Command) {
        if self.changes {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a file or folder to the account.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        if self.changes { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// The first component on the way to `path`, itself included, that the account may not pass or execute.
    ///
    /// Judged by the mode bits. For an account that is this process's own nothing is barred: there the kernel is asked by trying.
    pub(super) fn barred_at(&self, path: &Path) -> Option<PathBuf> {
        if !self.changes {
            return None;
        }
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        way.into_iter().find(|part| !fs::metadata(part).is_ok_and(|found| self.passes(&found))).map(Path::to_path_buf)
    }

    fn passes(&self, found: &Metadata) -> bool {
        executable(found.mode(), found.uid() == self.uid, found.gid() == self.gid)
    }
}

/// Whether the execute bit that counts is set: the owner's, else the group's, else everybody's, and never the best of them.
const fn executable(mode: u32, owner: bool, group: bool) -> bool {
    let shift = if owner {
        6
    } else if group {
        3
    } else {
        0
    };
    (mode >> shift) & 1 == 1
}

fn passwd() -> String {
    fs::read_to_string("/etc/passwd").unwrap_or_default()
}

/// The entry of a uid: from the file, else from whatever name service the machine asks (a directory server has no lines there).
fn entry_of(uid: u32) -> Option<Entry> {
    let local = entries(&passwd()).into_iter().find(|entry| entry.uid == uid);
    local.or_else(|| {
        let answer = Command::new("getent").arg("passwd").arg(uid.to_string()).stdin(Stdio::null()).output().ok()?;
        entries(&String::from_utf8_lossy(&answer.stdout)).into_iter().find(|entry| entry.uid == uid)
    })
}

fn unprivileged(passwd: &str) -> Option<Entry> {
    let known = entries(passwd);
    UNPRIVILEGED.iter().find_map(|name| known.iter().find(|entry| entry.name == *name && entry.uid != 0).cloned())
}

/// The well-formed lines of a passwd file (passwd(5)).
fn entries(passwd: &str) -> Vec<Entry> {
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Entry { name: name.to_owned(), uid, gid })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_preferred_then_nobody_and_never_uid_0() {
        let cases = [
            (
                "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\npostgres:x:101:104::/:/bin/sh",
                Some(("postgres", 101, 104)),
            ),
            ("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false", Some(("nobody", 65534, 65533))),
            ("postgres:x:0:0::/root:/bin/sh\nnobody:x:99:99::/:/bin/false", Some(("nobody", 99, 99))),
            ("root:x:0:0::/root:/bin/sh", None),
            ("postgres\npostgres:x:\npostgres:x:many:1:::", None),
            ("", None),
        ];
        for (passwd, wanted) in cases {
            let found = unprivileged(passwd);
            assert_eq!(found.as_ref().map(|e| (e.name.as_str(), e.uid, e.gid)), wanted, "{passwd}");
        }
    }

    #[test]
    fn the_bit_that_counts_is_the_nearest_one() {
        let cases = [
            (0o700, true, false, true),
            (0o700, false, true, false),
            (0o700, false, false, false),
            (0o711, false, false, true),
            (0o710, false, true, true),
            (0o701, false, true, false),
            (0o077, true, true, false),
        ];
        for (mode, owner, group, wanted) in cases {
            assert_eq!(executable(mode, owner, group), wanted, "{mode:o} owner={owner} group={group}");
        }
    }

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o711)).unwrap();
        let closed = base.join("closed");
        let inside = closed.join("inside");
        fs::create_dir_all(&inside).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { name: "stranger".to_owned(), uid: u32::MAX - 7, gid: u32::MAX - 7, changes: true };
        assert_eq!(stranger.barred_at(&inside), Some(closed.clone()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(stranger.barred_at(&inside), None);
    }
}
