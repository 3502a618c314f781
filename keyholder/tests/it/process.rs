//! The process keeps its memory to itself: no core, nobody of the same account looks in, and its files are its own.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::geteuid;

/// The account that a test which root runs lends to both sides (`nobody` on Debian, and unprivileged anywhere).
const STRANGER: u32 = 65_534;

/// Asks the kernel to attach, as a debugger does, and exits with what it said.
const ATTACH: &str = "import ctypes, sys\nkernel = ctypes.CDLL(None, use_errno=True)\n\
    sys.exit(ctypes.get_errno() if kernel.ptrace(16, int(sys.argv[1]), 0, 0) else 0)";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A command under an account that is not root.
fn unprivileged(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if geteuid().is_root() {
        command.uid(STRANGER).gid(STRANGER);
    }
    command
}

fn account() -> u32 {
    if geteuid().is_root() { STRANGER } else { geteuid().as_raw() }
}

/// A process of the account that waits to be killed.
fn start(mut command: Command) -> Running {
    Running(command.stdin(Stdio::piped()).spawn().unwrap())
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Whether another process of the account gets at this one, by each of its doors.
fn opened(pid: u32) -> Vec<(&'static str, bool)> {
    let doors = [
        ("environ", "exec cat /proc/$1/environ"),
        ("maps", "exec cat /proc/$1/maps"),
        ("fd", "exec ls /proc/$1/fd"),
        ("mem", "exec 3</proc/$1/mem"),
    ];
    let opens = |script: &str| {
        let door = unprivileged("/bin/sh").args(["-c", script, "sh", &pid.to_string()]).status();
        door.unwrap().success()
    };
    doors.map(|(door, script)| (door, opens(script))).to_vec()
}

/// What the kernel says to a debugger of the same account; nothing where there is no Python to ask with.
fn attached(pid: u32) -> Option<i32> {
    let python = Path::new("/usr/bin/python3");
    python
        .exists()
        .then(|| unprivileged(python).args(["-c", ATTACH, &pid.to_string()]).status().unwrap().code().unwrap())
}

#[test]
fn no_process_of_the_same_account_reads_its_memory_and_it_leaves_no_core() {
    let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
    let program = folder.path().join("keyholder");
    // By another process: a copy that this one holds open to write may be inherited by another test's child, and is then "busy" (ETXTBSY).
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_keyholder")).arg(&program).status().unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let mut command = unprivileged(&program);
    command.arg("node");
    let keyholder = start(command);
    let mut command = unprivileged("/bin/sleep");
    command.arg("600");
    let other = start(command);

    // The kernel gives the files below `/proc/PID` to root where the process is not dumpable (proc(5)).
    let owner = |running: &Running| fs::metadata(format!("/proc/{}/environ", running.0.id())).unwrap().uid();
    let status = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{}/status", keyholder.0.id())).unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim_start_matches(':').trim().to_owned())
    };
    eventually("the process is not dumpable", || owner(&keyholder) == 0);
    assert_eq!(owner(&other), account(), "what the test compares with is one that others may look into");
    let limits = fs::read_to_string(format!("/proc/{}/limits", keyholder.0.id())).unwrap();
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    assert_eq!(status("Umask").as_deref(), Some("0077"));

    // Yama lets nobody attach to a process that is not his child; then that door proves nothing, and the others are left.
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope.trim() != "0");
    let shut: Vec<_> = opened(keyholder.0.id()).into_iter().filter(|(_, open)| *open).collect();
    assert_eq!(shut, [], "open to a process of the same account");
    for (door, open) in opened(other.0.id()) {
        assert!(open || (yama && door == "mem"), "{door} of any other process is open");
    }
    let refused = rustix::io::Errno::PERM.raw_os_error();
    if let Some(said) = attached(keyholder.0.id()) {
        assert_eq!(said, refused, "a debugger may attach");
        assert!(yama || attached(other.0.id()) == Some(0), "a debugger may attach to any other process");
    }
}
