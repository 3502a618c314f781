//! The postmaster: PostgreSQL's first process, its pid file, its start and its end.
//!
//! Owns the thread that is its parent. Signals go through a pidfd and never to a number, since the number may be somebody else's by
//! then.

use std::{
    ffi::OsString,
    fs,
    io::{self, ErrorKind},
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use super::{ClusterError, error::Attempt};

/// How often a state that nobody announces is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Recovery after a crash reads up to a gigabyte of log first.
const READY_POLLS: u32 = 30_000;

/// A fast shutdown writes a checkpoint; an immediate one does not.
const FAST_POLLS: u32 = 6_000;
const IMMEDIATE_POLLS: u32 = 1_000;

/// What a pid file says (`src/include/utils/pidfile.h` of PostgreSQL).
#[derive(Debug, Clone, PartialEq, Eq)]
struct PidFile {
    pid: i32,
    data: PathBuf,
    /// Key and id of the shared memory segment that every process of the cluster holds.
    segment: Option<(i64, i64)>,
    status: String,
}

impl PidFile {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // A single-user backend writes its pid negated, and holds the data folder just the same.
        let pid = lines.next()?.trim().parse::<i32>().ok()?.checked_abs().filter(|pid| *pid > 0)?;
        let data = PathBuf::from(lines.next()?);
        let mut rest = lines.skip(4);
        let segment = rest.next().and_then(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        });
        let status = rest.next().unwrap_or_default().trim().to_owned();
        Some(Self { pid, data, segment, status })
    }

    fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path_in(data)).ok()?)
    }
}

fn path_in(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// What the process table knows of a pid.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Process {
    /// None, or one that has died and waits to be reaped: to `kill(pid, 0)` that one is alive.
    Gone,
    Running {
        arguments: Vec<OsString>,
    },
}

impl Process {
    fn look_up(proc: &Path, pid: i32) -> Self {
        let folder = proc.join(pid.to_string());
        let state = fs::read_to_string(folder.join("stat")).ok().and_then(|stat| state_of(&stat));
        match state {
            None | Some('Z' | 'X' | 'x') => Self::Gone,
            Some(_) => {
                let line = fs::read(folder.join("cmdline")).unwrap_or_default();
                let arguments = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
                Self::Running { arguments }
            }
        }
    }

    /// Whether it was started as `… -D data …`.
    fn serves(&self, data: &Path) -> bool {
        match self {
            Self::Gone => false,
            Self::Running { arguments } => {
                let next = arguments.iter().skip(1);
                arguments.iter().zip(next).any(|(flag, value)| flag == "-D" && Path::new(value) == data)
            }
        }
    }
}

/// The state letter of a `/proc/PID/stat` line (proc(5)). The name before it may itself have spaces and brackets.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// What a pid file in a data folder means.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nobody is there: the file is left over.
    Stale,
    /// A postmaster on this very data.
    Alive { pid: i32 },
    /// A postmaster on this data, under a name that the folder no longer has.
    Moved { pid: i32, former: PathBuf },
}

/// Judges a pid file. The number alone proves nothing: it may be a zombie's, or by now another program's. What proves it is a running
/// process that was started on the data folder that the file names.
fn judge(proc: &Path, data: &Path, file: &PidFile) -> Found {
    if !Process::look_up(proc, file.pid).serves(&file.data) {
        return Found::Stale;
    }
    if file.data == data {
        return Found::Alive { pid: file.pid };
    }
    // The data of a running cluster, copied, brings the original's pid file along; moved, it is still being written.
    if file.data.exists() {
        return Found::Stale;
    }
    Found::Moved { pid: file.pid, former: file.data.clone() }
}

/// Whether a postmaster runs on the data folder.
pub(super) fn lives_in(data: &Path) -> bool {
    PidFile::read(data).is_some_and(|file| judge(Path::new("/proc"), data, &file) != Found::Stale)
}

/// Ends what an earlier Keyholder left behind on this data: stops a postmaster that outlived it, removes a stale pid file, and
/// waits until the last process has let go of the shared memory.
///
/// The caller holds the folder's lock, so nobody starts another in the meantime.
pub(super) fn settle_former(data: &Path) -> Result<(), ClusterError> {
    let path = path_in(data);
    let file = match fs::read_to_string(&path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        read => PidFile::parse(&read.attempt("read", &path)?),
    };
    if let Some(file) = &file {
        end_former(data, file)?;
        await_release(file.segment);
    }
    // A fast shutdown has removed it already; PostgreSQL itself would trip over a zombie's, and over a reused number.
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause).attempt("remove", path),
        _ => Ok(()),
    }
}

fn end_former(data: &Path, file: &PidFile) -> Result<(), ClusterError> {
    // Opened before it is judged: from here on the handle and the judgement mean the same process.
    let handle = Pid::from_raw(file.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let proc = Path::new("/proc");
    let pid = match judge(proc, data, file) {
        Found::Stale => return Ok(()),
        Found::Moved { pid, former } => return Err(ClusterError::Moved { pid, former }),
        Found::Alive { pid } => pid,
    };
    let Some(handle) = handle else { return Err(ClusterError::Undying { pid }) };
    tracing::warn!(pid, "stopping a PostgreSQL that outlived the Keyholder which started it");
    let gone = || (Process::look_up(proc, pid) == Process::Gone).then_some(());
    shut_down(&handle, gone).ok_or(ClusterError::Undying { pid })
}

/// Backends outlive a killed postmaster by a moment, and PostgreSQL does not start while one of them holds the segment.
///
/// Waits for a while only: where the holder is no backend of ours, PostgreSQL's own judgement is the better one.
fn await_release(segment: Option<(i64, i64)>) {
    let held = |segment| {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        attached(&table, segment) > 0
    };
    if let Some(segment) = segment {
        poll(IMMEDIATE_POLLS, || (!held(segment)).then_some(()));
    }
}

/// How many processes hold the segment with this key and id (the 7th column of `/proc/sysvipc/shm`).
fn attached(table: &str, (key, id): (i64, i64)) -> u64 {
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| {
        let number = |column: usize| row.get(column).and_then(|text| text.parse::<i64>().ok());
        number(0) == Some(key) && number(1) == Some(id)
    });
    row.and_then(|row| row.get(6).and_then(|text| text.parse().ok())).unwrap_or(0)
}

/// A running postmaster, child of a thread of ours.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    handle: OwnedFd,
    ended: watch::Receiver<Option<String>>,
}

impl Postmaster {
    /// Starts the command from a thread that lives as long as its child.
    ///
    /// The kernel sends the death signal when the *thread* that forked ends, and a runtime's threads come and go. The same thread
    /// reaps the child the moment it ends, so that no zombie keeps its number.
    pub(super) fn spawn(mut command: Command) -> Result<Self, ClusterError> {
        let program = PathBuf::from(command.get_program());
        let (tell_end, ended) = watch::channel(None);
        let (tell_birth, birth) = mpsc::channel();
        thread::Builder::new()
            .name("postgres-parent".to_owned())
            .spawn(move || {
                let status = raise(&mut command, &tell_birth);
                tell_end.send_replace(Some(describe(status)));
            })
            .attempt("start a thread for", &program)?;
        let (pid, handle) = birth.recv().map_err(io::Error::other).flatten().attempt("start", program)?;
        Ok(Self { pid, handle, ended })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Announces how it ended, once it has.
    pub(super) fn ended(&self) -> watch::Receiver<Option<String>> {
        self.ended.clone()
    }

    fn end(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Waits until the pid file says that connections are accepted. The fault says how it ended instead.
    pub(super) fn await_ready(&self, data: &Path) -> Result<(), String> {
        let ready = || {
            let told = PidFile::read(data).is_some_and(|file| file.pid == self.pid() && file.status == "ready");
            if told { Some(Ok(())) } else { self.end().map(Err) }
        };
        poll(READY_POLLS, ready).unwrap_or_else(|| Err("it took too long".to_owned()))
    }

    /// Fast shutdown: open transactions are rolled back, a checkpoint is written. If that takes too long, an immediate one, which loses
    /// nothing that was committed.
    pub(super) fn stop(&self) -> Result<(), ClusterError> {
        shut_down(&self.handle, || self.end().map(drop)).ok_or(ClusterError::Undying { pid: self.pid() })
    }

    /// Kills it and every process that it started without a word, as a crash of the machine would: nothing of what was running is
    /// finished or told.
    pub(super) fn kill(&self) {
        // Stopped first: it starts no other process meanwhile, and reaps none, so that every number is still its child's.
        send(&self.handle, Signal::STOP);
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let numbers = children.split_whitespace().filter_map(|number| number.parse().ok());
        for child in numbers.filter_map(Pid::from_raw) {
            if let Ok(child) = pidfd_open(child, PidfdFlags::empty()) {
                send(&child, Signal::KILL);
            }
        }
        send(&self.handle, Signal::KILL);
    }
}

/// Raises one child: tells its birth, waits for its end.
fn raise(command: &mut Command, tell_birth: &mpsc::Sender<io::Result<(Pid, OwnedFd)>>) -> io::Result<ExitStatus> {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(cause) => {
            // Whoever waits for the birth hears of it there; if nobody does any more, nobody needs to.
            let _ = tell_birth.send(Err(cause));
            return Err(io::Error::from(ErrorKind::NotFound));
        }
    };
    let pid = Pid::from_child(&child);
    let born = pidfd_open(pid, PidfdFlags::empty()).map(|handle| (pid, handle)).map_err(io::Error::from);
    let orphaned = born.is_err() || tell_birth.send(born).is_err();
    if orphaned {
        child.kill()?;
    }
    child.wait()
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(cause) => cause.to_string(),
    }
}

fn shut_down(handle: &OwnedFd, mut gone: impl FnMut() -> Option<()>) -> Option<()> {
    send(handle, Signal::INT);
    poll(FAST_POLLS, &mut gone).or_else(|| {
        tracing::warn!("PostgreSQL does not end in time; it is stopped without a checkpoint");
        send(handle, Signal::QUIT);
        poll(IMMEDIATE_POLLS, gone)
    })
}

fn send(handle: &OwnedFd, signal: Signal) {
    // It fails for a process that is gone, which the wait that follows will find, and for one that is not ours, which it will not.
    let _ = pidfd_send_signal(handle, signal);
}

/// Asks until there is an answer, `times` times.
fn poll<T>(times: u32, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..times {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        thread::sleep(POLL);
    }
    ask()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "4242\n/state/data\n1795302305\n5432\n/tmp/keyholder-x\n\n 10020920         8\nready   \n";

    #[test]
    fn a_pid_file_is_read_as_far_as_it_is_written() {
        let whole = PidFile {
            pid: 4242,
            data: PathBuf::from("/state/data"),
            segment: Some((10_020_920, 8)),
            status: "ready".to_owned(),
        };
        let begun = PidFile { segment: None, status: String::new(), ..whole.clone() };
        let cases = [
            (FILE, Some(whole.clone())),
            (
                "4242\n/state/data\n1795302305\n5432\n\n\n 10020920         8\nstarting\n",
                Some(PidFile { status: "starting".to_owned(), ..whole.clone() }),
            ),
            ("4242\n/state/data\n1795302305\n5432\n/tmp/keyholder-x\n", Some(begun.clone())),
            ("4242\n/state/data\n", Some(begun.clone())),
            ("-4242\n/state/data\n", Some(begun)),
            ("4242", None),
            ("0\n/state/data\n", None),
            ("-2147483648\n/state/data\n", None),
            ("many\n/state/data\n", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(PidFile::parse(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn the_state_letter_follows_the_last_bracket() {
        let cases = [
            ("1 (postgres) S 0 1", Some('S')),
            ("1 (a) Z (b) R 0", Some('R')),
            ("1 (x) Z", Some('Z')),
            ("1 (x)", None),
            ("", None),
        ];
        for (stat, wanted) in cases {
            assert_eq!(state_of(stat), wanted, "{stat:?}");
        }
    }

    #[test]
    fn a_pid_file_means_a_live_postmaster_only_if_one_was_started_on_its_data() {
        let base = tempfile::tempdir().unwrap();
        let proc = base.path().join("proc");
        let data = base.path().join("data");
        let original = base.path().join("original");
        for folder in [&proc, &data, &original] {
            fs::create_dir(folder).unwrap();
        }
        let gone = base.path().join("gone");
        let line = |folder: &Path| format!("/usr/bin/postgres\0-D\0{}\0-c\0port=5432\0", folder.display());
        let other = base.path().join("other");
        let cases = [
            ("alive", &data, Some(('S', line(&data))), Found::Alive { pid: 7 }),
            ("no such process", &data, None, Found::Stale),
            ("zombie", &data, Some(('Z', String::new())), Found::Stale),
            ("zombie that kept its arguments", &data, Some(('Z', line(&data))), Found::Stale),
            ("number reused by another program", &data, Some(('R', "/usr/bin/sleep\x009\0".to_owned())), Found::Stale),
            ("number reused by another postmaster", &data, Some(('S', line(&other))), Found::Stale),
            ("a copy of running data", &original, Some(('S', line(&original))), Found::Stale),
            ("moved while running", &gone, Some(('S', line(&gone))), Found::Moved { pid: 7, former: gone.clone() }),
        ];
        for (name, recorded, process, wanted) in cases {
            let folder = proc.join("7");
            let _ = fs::remove_dir_all(&folder);
            if let Some((state, arguments)) = process {
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("stat"), format!("7 (postgres) {state} 1 7 7")).unwrap();
                fs::write(folder.join("cmdline"), arguments).unwrap();
            }
            let file = PidFile { pid: 7, data: recorded.clone(), segment: None, status: "ready".to_owned() };
            assert_eq!(judge(&proc, &data, &file), wanted, "{name}");
        }
    }

    #[test]
    fn holders_are_counted_for_the_segment_with_both_key_and_id() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid\n  \
                     10020920          8   600                    56 15943 15943      9   101\n  \
                     10020921          9   600                    56 15943 15943      3   101\n";
        let cases = [((10_020_920, 8), 9), ((10_020_921, 9), 3), ((10_020_920, 9), 0), ((1, 1), 0)];
        for (segment, wanted) in cases {
            assert_eq!(attached(table, segment), wanted, "{segment:?}");
        }
        assert_eq!(attached("", (1, 1)), 0);
    }

    #[test]
    fn a_real_zombie_is_gone() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let proc = Path::new("/proc");
        // Not reaped before the last line, so the number stays in the table.
        let found = poll(1_000, || (Process::look_up(proc, pid) == Process::Gone).then_some(()));
        assert!(found.is_some());
        assert!(rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_ok(), "kill(pid, 0) calls it alive");
        child.wait().unwrap();
    }

    #[test]
    fn a_program_that_cannot_start_is_told_and_one_that_ends_is_reaped() {
        let refused = Postmaster::spawn(Command::new("/nonexistent/postgres")).unwrap_err();
        assert!(matches!(refused, ClusterError::Io { deed: "start", .. }), "{refused}");
        let short = Postmaster::spawn(Command::new("false")).unwrap();
        assert_eq!(short.await_ready(Path::new("/nonexistent")), Err("exit status: 1".to_owned()));
    }
}
