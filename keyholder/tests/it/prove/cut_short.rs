//! A run of `prove` that does not come to its end, or must not be believed: what is left of it, and what is not signed.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
};

use rustix::process::{Pid, Signal, kill_process};
use seal::signature::SigningKey;

use super::{QUICK, keyholder, program, run, said};
use crate::harness::{eventually, in_the_end};

/// A process as `/proc` has it.
struct Process {
    pid: u32,
    parent: u32,
    /// How it stands: `T` for one that was stopped.
    state: String,
    arguments: String,
    /// With the number it names one process for good.
    started: String,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, parent) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
        let started = fields.nth(17)?.to_owned();
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (state != "Z").then_some(Self { pid, parent, state, arguments, started })
    }

    fn is_gone(&self) -> bool {
        Self::read(self.pid).is_none_or(|now| now.started != self.started)
    }

    /// Whether it is this command of the program.
    fn runs(&self, command: &str) -> bool {
        self.arguments.contains(&format!("\0{command}\0"))
    }

    /// Whether it is a server that is ready: one that still starts would find no database.
    fn serves(&self) -> bool {
        let configuration = self.arguments.split_once("\0--config\0").and_then(|(_, rest)| rest.split('\0').next());
        let log = configuration.map(|path| Path::new(path).with_file_name("log"));
        self.runs("serve")
            && log.and_then(|log| fs::read_to_string(log).ok()).is_some_and(|log| log.contains("metrics_url"))
    }
}

fn descendants(of: u32) -> Vec<Process> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut all: Vec<Process> = pids.filter_map(Process::read).collect();
    let (mut family, mut found) = (BTreeSet::from([of]), Vec::new());
    while let Some(at) = all.iter().position(|process| family.contains(&process.parent)) {
        let process = all.swap_remove(at);
        family.insert(process.pid);
        found.push(process);
    }
    found
}

/// A run that has come as far as this, and what it has started.
async fn begun(program: &Path, only: &str, far: impl Fn(&Process) -> bool) -> (Child, Vec<Process>) {
    let child = keyholder(program, &["prove", "--blueprint", "engineering-playbook", "--only", only]).spawn().unwrap();
    let parent = child.id();
    eventually("it has come so far", async || descendants(parent).iter().any(&far)).await;
    (child, descendants(parent))
}

async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

async fn all_end(started: &[Process]) {
    for process in started {
        in_the_end(&format!("{:?} ends", process.arguments), async || process.is_gone()).await;
    }
}

async fn kill_leaves_nothing(only: &str, far: impl Fn(&Process) -> bool) {
    let (mut child, started) = begun(program(), only, far).await;
    assert!(started.iter().any(|it| it.arguments.contains("\0-D\0")), "no database runs");
    child.kill().unwrap();
    child.wait().unwrap();
    all_end(&started).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_leaves_no_process_behind() {
    kill_leaves_nothing(QUICK, |it| it.runs("node")).await;
    kill_leaves_nothing("tls-listener", Process::serves).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_one_of_the_database_that_does_not_hear_that_it_is_to_end() {
    kill_leaves_nothing("revocation-across-nodes", |it| it.state == "T" && it.arguments.starts_with("postgres")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_stop_takes_everything_down() {
    for signal in [Signal::TERM, Signal::INT] {
        let (child, started) = begun(program(), QUICK, |it| it.runs("node")).await;
        let data = started.iter().find_map(|it| it.arguments.split_once("\0-D\0")?.1.split('\0').next());
        let folder = PathBuf::from(data.unwrap()).parent().unwrap().to_path_buf();
        assert!(folder.is_dir());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let done = ended(child).await;
        assert_eq!(done.status.code(), Some(7), "{}", said(&done));
        assert!(done.stdout.is_empty() && said(&done).contains("stopped before the end"), "{}", said(&done));
        assert!(!folder.exists(), "{} is left", folder.display());
        all_end(&started).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tried_of_a_program_that_was_replaced_meanwhile_is_not_told() {
    // Beside it, where it can have a second name.
    let folder = tempfile::tempdir_in(program().parent().unwrap()).unwrap();
    let (path, other) = (folder.path().join("keyholder"), folder.path().join("other"));
    fs::hard_link(program(), &path).unwrap();
    let (child, started) = begun(&path, QUICK, |it| it.runs("node")).await;
    fs::write(&other, "another program").unwrap();
    fs::rename(&other, &path).unwrap();
    let done = ended(child).await;
    assert_eq!(done.status.code(), Some(7), "{}", said(&done));
    assert!(done.stdout.is_empty() && said(&done).contains("is not the program any more"), "{}", said(&done));
    all_end(&started).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_checkout_shows_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("trust.key"), SigningKey::generate().to_text().as_str()).unwrap();
    fs::set_permissions(path("trust.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let source = path("source");
    let who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"];
    let commit = ["-C", &source, "commit", "--quiet", "--allow-empty", "--message", "Another"];
    for arguments in [&["init", "--quiet", &source][..], &commit] {
        assert!(Command::new("git").args(who).args(arguments).status().unwrap().success());
    }
    let sign = ["--sign", &path("trust.key"), "--out", &path("statement.json"), "--source", &source];
    let done = run(keyholder(program(), &[&["prove", "--blueprint", "social-agent"][..], &sign].concat())).await;
    // Whether or not this program knows its own commit, it is not that one.
    assert_eq!(done.status.code(), Some(7), "{}", said(&done));
    assert!(said(&done).contains("says nothing of"), "{}", said(&done));
    assert!(done.stdout.is_empty() && !Path::new(&path("statement.json")).exists());
}
