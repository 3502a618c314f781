//! The launcher: this same program, started a second time under the cluster's account, that ties its life to its parent's and
//! then becomes PostgreSQL.
//!
//! The kernel forgets a death signal when a process changes its account, so the parent cannot set it before, and setting it between
//! fork and exec would need unsafe code. Owns that detour. Never does anything else: no configuration, no logging, no secrets.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::account::Account;

/// The exit code of a launcher that could not become the program.
const FAILED: u8 = 127;

/// Becomes the program that a parent Keyholder asks for, if this process was started for that; else returns `None` at once.
///
/// To be called first thing in `main`, before a thread or a lock exists. `Some` is the code to exit with: the launch failed, and
/// standard error (the cluster's log) says why.
pub fn intercept() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let mark = arguments.next()?;
    let end = [End::Fast, End::Immediate].into_iter().find(|end| mark == end.mark())?;
    let cause = become_program(arguments, end);
    // The log is all that a launcher can speak to; if that is gone too, the exit code is left.
    let _ = writeln!(io::stderr(), "keyholder: cannot launch PostgreSQL: {cause}");
    Some(ExitCode::from(FAILED))
}

/// Returns only if it failed.
fn become_program(mut arguments: impl Iterator<Item = OsString>, end: End) -> io::Error {
    let parent = arguments.next().and_then(|text| text.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let (Some(parent), Some(program)) = (parent, arguments.next()) else {
        return io::Error::from(io::ErrorKind::InvalidInput);
    };
    if let Err(cause) = set_parent_process_death_signal(Some(end.signal())) {
        return cause.into();
    }
    // A parent that died before the line above sent no signal: whoever adopted this process is not the one that wanted it.
    if getppid() != Some(parent) {
        return io::Error::new(io::ErrorKind::NotConnected, "the parent is gone");
    }
    Command::new(program).args(arguments).exec()
}

/// What becomes of PostgreSQL when the Keyholder dies that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A fast shutdown, which writes a checkpoint and waits for every process of the cluster.
    Fast,
    /// An immediate one, which kills after five seconds whatever does not end: of data that nobody will read nothing need be written, and a
    /// process that somebody has stopped would be waited for without end.
    Immediate,
}

impl End {
    /// The hidden first argument that makes a Keyholder process a launcher.
    fn mark(self) -> &'static str {
        match self {
            Self::Fast => "__postgres-launch",
            Self::Immediate => "__postgres-launch-throwaway",
        }
    }

    /// The signal by which PostgreSQL shuts down so.
    fn signal(self) -> Signal {
        match self {
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
        }
    }
}

/// A command that starts `program` through the launcher, under the account, and dies with the calling **thread**.
///
/// The environment stays behind, since it may hold keys and the account is not ours. The child leads a process group of its own, for
/// else Ctrl-C at a terminal would stop the database before its clients.
pub(super) fn command(launcher: &Path, account: &Account, (program, end): (&Path, End)) -> Command {
    let mut command = bare(launcher, account);
    command.arg(end.mark()).arg(std::process::id().to_string()).arg(program).process_group(0);
    command
}

/// A command under the account with nothing inherited: for programs that end by themselves.
pub(super) fn bare(program: impl AsRef<OsStr>, account: &Account) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    account.dress(&mut command);
    command
}

/// A launcher that the account can execute: the given one, else a copy of it in `folder`.
pub(super) fn reachable(launcher: &Path, account: &Account, folder: &Path) -> io::Result<PathBuf> {
    let launcher = launcher.canonicalize()?;
    if account.barred_at(&launcher).is_none() {
        return Ok(launcher);
    }
    let copy = copy_in(folder);
    discard_copy(folder);
    fs::copy(&launcher, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// Removes the copy that [`reachable`] may have made: once it has become PostgreSQL, nobody needs it.
pub(super) fn discard_copy(folder: &Path) {
    // Absent in most cases, and overwritten in the next.
    let _ = fs::remove_file(copy_in(folder));
}

fn copy_in(folder: &Path) -> PathBuf {
    folder.join("launcher")
}
