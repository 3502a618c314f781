//! The files and folders of an installation: keyring, state folder, the listener's certificate. Reads them, and makes none.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, StatVfs, access, statvfs},
    process::geteuid,
};
use seal::Keyring;
use server::TlsFiles;
use service::{Spills, epoch};
use time::OffsetDateTime;

use super::{super::failure::Chain, Check};
use crate::config::Config;

/// Room for thousands of answers of token endpoints, and for a new keyring.
const FREE_BYTES: u64 = 64 * 1024 * 1024;
const FREE_INODES: u64 = 1024;
/// What the group and others may do with the state folder: nothing.
const OF_OTHERS: u32 = 0o077;
/// A certificate that ends sooner is to be renewed now; one that lives for days only, in the last third of its life.
pub(super) const DAYS_LEFT: i64 = 14;

/// Whether the keyring opens, and whether its epoch is of this month.
pub(super) fn of_keyring(config: &Config, now: OffsetDateTime) -> Vec<Check> {
    let keyring = match Keyring::open(&config.keyring, &config.root_key, config.environment) {
        Ok(keyring) => keyring,
        Err(error) => {
            let remedy = "name the keyring that was made with this root key; `keyholder migrate` makes that of a new installation";
            return vec![Check::fault("keyring", Chain(&error).to_string(), remedy)];
        }
    };
    let (path, epochs) = (config.keyring.display(), keyring.epochs());
    let current = keyring.current();
    let mut checks = vec![Check::ok("keyring", format!("{path}, epoch {current} of {} wraps", epochs.len()))];
    if let Some(epoch) = epochs.iter().find(|epoch| epoch.id == current) {
        checks.push(of_epoch(current.get(), now - epoch.created_at));
    }
    checks
}

fn of_epoch(number: i64, age: time::Duration) -> Check {
    let detail = format!("epoch {number} is {} days old", age.whole_days());
    if age > epoch::MONTH {
        Check::fault("epoch", detail, "keyholder keyring new-epoch; docs/runbooks/keys.md")
    } else {
        Check::ok("epoch", detail)
    }
}

/// Whether the state folder is this account's own, has room, and what waits in it.
pub(super) fn of_state(folder: &Path) -> Vec<Check> {
    let mut checks = vec![own(folder)];
    // What a folder that is yet to be made will lie on.
    let there = folder.ancestors().find(|part| part.exists()).map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    match statvfs(&there) {
        Ok(found) => checks.push(room(&found)),
        Err(error) => {
            checks.push(Check::fault("disk", error.to_string(), "name a folder on a local disk in state_dir"));
        }
    }
    match Spills::census(folder) {
        Ok((waiting, 0)) => checks.push(Check::ok("spilled answers", format!("{waiting} wait for the database"))),
        Ok((_, aside)) => checks.push(Check::fault(
            "spilled answers",
            format!("{aside} do not open, and are kept aside"),
            "docs/runbooks/refresh.md tells what they are and when they may go",
        )),
        Err(error) => checks.push(Check::fault(
            "spilled answers",
            format!("{} cannot be read: {error}", folder.display()),
            "run the doctor as the account that serves",
        )),
    }
    checks
}

fn own(folder: &Path) -> Check {
    let (name, shown) = ("state folder", folder.display());
    let found = match fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return unmade(folder),
        Err(error) => return Check::fault(name, format!("{shown}: {error}"), "name another folder in state_dir"),
    };
    let (mode, owner, we) = (found.mode() & 0o777, found.uid(), geteuid().as_raw());
    if !found.is_dir() {
        return Check::fault(name, format!("{shown} is not a folder"), "name another folder in state_dir");
    }
    if owner != we {
        let detail = format!("{shown} belongs to the uid {owner}, and this process runs as {we}");
        return Check::fault(
            name,
            detail,
            "run the doctor as the account that serves, or give the folder to it (chown)",
        );
    }
    if mode & OF_OTHERS != 0 {
        let detail = format!("{shown} is open to others (mode {mode:03o})");
        return Check::fault(name, detail, "chmod 700 the folder; systemd: StateDirectoryMode=0700");
    }
    Check::ok(name, format!("{shown}, for this account alone"))
}

/// One that is not there is made when the process starts, where it can be.
fn unmade(folder: &Path) -> Check {
    let (name, shown) = ("state folder", folder.display());
    let above = folder.ancestors().skip(1).find(|part| part.exists()).unwrap_or(Path::new("/"));
    if above.is_dir() && access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return Check::ok(name, format!("{shown} will be made at the first start"));
    }
    let detail = format!("{shown} does not exist and cannot be made in {}", above.display());
    Check::fault(name, detail, "make it (mode 700, owned by the account that serves), or name another in state_dir")
}

fn room(found: &StatVfs) -> Check {
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    disk(bytes, (found.f_files > 0).then_some(found.f_favail))
}

/// File systems that make inodes as they are needed count none.
fn disk(bytes: u64, inodes: Option<u64>) -> Check {
    let remedy = "make room where state_dir is: without it no answer of a token endpoint can be kept";
    let detail = format!("{} MiB free for the state folder", bytes / (1024 * 1024));
    match inodes {
        _ if bytes < FREE_BYTES => Check::fault("disk", detail, remedy),
        Some(inodes) if inodes < FREE_INODES => Check::fault("disk", format!("{inodes} inodes are left"), remedy),
        _ => Check::ok("disk", detail),
    }
}

/// The certificate that callers are shown, and its key.
pub(super) fn of_listener(config: &Config, now: OffsetDateTime) -> Vec<Check> {
    let name = "certificate";
    let remedy = "put a certificate and its own key where tls.certificate and tls.key say; a serving process takes them by itself";
    let of = |files: &TlsFiles| match files.validity() {
        Ok((from, until)) => of_certificate(name, from, until, now, remedy),
        Err(error) => Check::fault(name, Chain(&error).to_string(), remedy),
    };
    config.tls.as_ref().map(of).into_iter().collect()
}

/// How long a certificate still holds.
pub(super) fn of_certificate(
    name: &'static str,
    from: OffsetDateTime,
    until: OffsetDateTime,
    now: OffsetDateTime,
    remedy: &'static str,
) -> Check {
    match (until - now).whole_days() {
        _ if now < from => Check::fault(name, format!("it is not valid before {from}"), remedy),
        _ if now > until => Check::fault(name, format!("it has expired at {until}"), remedy),
        left if left < DAYS_LEFT.min((until - from).whole_days() / 3) => {
            Check::fault(name, format!("{left} days are left of it"), remedy)
        }
        left => Check::ok(name, format!("{left} days are left of it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_state_folder_is_this_accounts_own_or_can_be_made() {
        let base = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            let folder = base.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            folder
        };
        fs::write(base.path().join("file"), "").unwrap();
        let table = [
            (put("own", 0o700), true, "alone"),
            (put("open", 0o755), false, "mode 755"),
            (put("grouped", 0o750), false, "mode 750"),
            (base.path().join("new/deep"), true, "will be made"),
            (base.path().join("file"), false, "not a folder"),
            (base.path().join("file/inside"), false, "file/inside"),
        ];
        for (folder, ok, word) in table {
            let found = own(&folder);
            assert!(found.ok == ok && found.detail.contains(word), "{found:?}");
        }
    }

    #[test]
    fn a_full_disk_an_old_epoch_and_an_ending_certificate_are_faults() {
        let mib = 1024 * 1024;
        for (bytes, inodes, ok) in [
            (64 * mib, Some(1024), true),
            (64 * mib, None, true),
            (64 * mib - 1, None, false),
            (1024 * mib, Some(1023), false),
        ] {
            assert_eq!(disk(bytes, inodes).ok, ok, "{bytes} {inodes:?}");
        }
        assert!(of_epoch(1, time::Duration::days(31)).ok);
        assert!(!of_epoch(1, time::Duration::days(32)).ok);
        let at = |days: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::days(days);
        for (now, ok, word) in [
            (at(9), false, "not valid before"),
            (at(10), true, "90 days"),
            (at(86), true, "14 days"),
            (at(87), false, "13 days"),
            (at(101), false, "expired"),
        ] {
            let found = of_certificate("certificate", at(10), at(100), now, "renew it");
            assert!(found.ok == ok && found.detail.contains(word), "{found:?}");
        }
    }
}
