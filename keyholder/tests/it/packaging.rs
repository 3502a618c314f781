//! What is shipped beside the binary: the systemd unit, the manual, the completions; and what a service manager hears.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    process::{Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::serve::{Operator, Serving, said};

/// The shipped unit, for a program that is where this test has it.
const UNIT: &str = include_str!("../../../packaging/keyholder.service");
const PROGRAM: &str = env!("CARGO_BIN_EXE_keyholder");

/// Runs systemd's own judge; nothing where there is none.
fn judged(arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut out = std::io::stderr();
            writeln!(out, "not run: there is no systemd-analyze on this machine").unwrap();
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_leaves_the_process_little() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("keyholder.service");
    assert!(UNIT.contains("ExecStart=/usr/local/bin/keyholder serve\n"));
    fs::write(&unit, UNIT.replace("/usr/local/bin/keyholder", PROGRAM)).unwrap();
    let unit = unit.to_str().unwrap();
    let Some(verified) = judged(&["verify", "--man=no", unit]) else { return };
    // What it does not know it overlooks and says so, with exit code 0.
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", said(&verified));
    // Exposure in tenths: 15 when it was written.
    let Some(exposed) = judged(&["security", "--offline=true", "--threshold=20", unit]) else { return };
    assert!(exposed.status.success(), "{}", String::from_utf8_lossy(&exposed.stdout));
}

/// The shipped units of the schedule.
const PROVE_UNIT: &str = include_str!("../../../packaging/keyholder-prove.service");
const PROVE_TIMER: &str = include_str!("../../../packaging/keyholder-prove.timer");

#[test]
fn the_schedules_units_are_ones_that_systemd_takes_and_every_flag_in_them_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let (unit, timer) = (folder.path().join("keyholder-prove.service"), folder.path().join("keyholder-prove.timer"));
    fs::write(&unit, PROVE_UNIT.replace("/usr/local/bin/keyholder", PROGRAM)).unwrap();
    fs::write(&timer, PROVE_TIMER).unwrap();
    let help = Command::new(PROGRAM).args(["prove", "--help"]).env_clear().output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let command = PROVE_UNIT.split("ExecStart=").nth(1).unwrap().split("DynamicUser").next().unwrap();
    let flags: Vec<_> = command.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert!(flags.len() >= 6, "{flags:?}");
    for flag in flags {
        assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag}");
    }
    let Some(verified) = judged(&["verify", "--man=no", unit.to_str().unwrap(), timer.to_str().unwrap()]) else {
        return;
    };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", said(&verified));
    let Some(exposed) = judged(&["security", "--offline=true", "--threshold=20", unit.to_str().unwrap()]) else {
        return;
    };
    assert!(exposed.status.success(), "{}", String::from_utf8_lossy(&exposed.stdout));
}

/// The shipped units by which the database's logins are rotated.
const LOGINS_UNIT: &str = include_str!("../../../packaging/keyholder-logins.service");
const LOGINS_TIMER: &str = include_str!("../../../packaging/keyholder-logins.timer");

#[test]
fn the_rotations_units_are_ones_that_systemd_takes_and_leave_the_process_little() {
    let folder = tempfile::tempdir().unwrap();
    let (unit, timer) = (folder.path().join("keyholder-logins.service"), folder.path().join("keyholder-logins.timer"));
    assert_eq!(LOGINS_UNIT.matches("/usr/local/bin/keyholder migrate --").count(), 3);
    fs::write(&unit, LOGINS_UNIT.replace("/usr/local/bin/keyholder", PROGRAM)).unwrap();
    fs::write(&timer, LOGINS_TIMER).unwrap();
    let Some(verified) = judged(&["verify", "--man=no", unit.to_str().unwrap(), timer.to_str().unwrap()]) else {
        return;
    };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", said(&verified));
    let Some(exposed) = judged(&["security", "--offline=true", "--threshold=20", unit.to_str().unwrap()]) else {
        return;
    };
    assert!(exposed.status.success(), "{}", String::from_utf8_lossy(&exposed.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_when_it_is_ready_and_when_it_stops() {
    let operator = Operator::new("notifying").await;
    operator.migrate();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let ear = UnixDatagram::bind(&path).unwrap();
    ear.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let hears = || {
        let mut heard = [0; 64];
        let length = ear.recv(&mut heard).expect("the manager is told");
        String::from_utf8_lossy(&heard[..length]).into_owned()
    };
    let mut command = operator.serving();
    command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Serving(command.spawn().unwrap());
    assert_eq!(hears(), "READY=1");
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    assert_eq!(hears(), "STOPPING=1");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_manual_and_the_completions_are_written_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let run = |arguments: &[&str]| Command::new(PROGRAM).args(arguments).env_clear().output().unwrap();
    let written = run(&["man", "--json", "--out", pages.to_str().unwrap()]);
    assert!(written.status.success(), "{}", said(&written));
    for page in ["keyholder.1", "keyholder-serve.1", "keyholder-keyring-new-epoch.1"] {
        let path = pages.join(page);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "{page}");
        assert!(fs::read_to_string(&path).unwrap().starts_with(".ie \\n(.g"), "{page}");
    }
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef keyholder"), ("fish", "complete -c keyholder")] {
        let script = run(&["completions", shell]);
        let text = String::from_utf8_lossy(&script.stdout);
        assert!(
            script.status.success() && text.contains(word) && text.contains("doctor"),
            "{shell}: {}",
            said(&script)
        );
    }
}
