//! `permissions test`: OpenFGA's store files, run against this engine. Beside it `why`, which explains one answer.
//!
//! A test asks no server and no database: what a model means is in the engine, and so it is here.

mod why;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;
use storefile::{Failure, Fault, StoreFile};

pub(super) use self::why::why;
use super::{failure::Exit, output::Voice};

#[derive(Serialize)]
struct Tested {
    files: Vec<TestedFile>,
    passed: usize,
    failed: usize,
}

#[derive(Serialize)]
struct TestedFile {
    file: String,
    passed: usize,
    failed: usize,
    failures: Vec<String>,
}

/// Runs the files, and says of each how many of its questions passed. A file with faults counts as one that failed.
pub(super) fn test(files: &[PathBuf], beyond: bool, voice: Voice) -> ExitCode {
    let files: Vec<TestedFile> = files.iter().map(|file| run(file, beyond)).collect();
    let passed = files.iter().map(|file| file.passed).sum();
    let failed = files.iter().map(|file| file.failed).sum();
    let mut words = String::new();
    for TestedFile { file, passed, failed, failures } in &files {
        // Writing to a string does not fail.
        let _ = writeln!(words, "{file}: {passed} passed, {failed} failed");
        for failure in failures {
            let _ = writeln!(words, "  {failure}");
        }
    }
    let _ = write!(words, "{passed} passed, {failed} failed");
    voice.say(&Tested { files, passed, failed }, &words);
    if failed > 0 { Exit::CheckFailed } else { Exit::Done }.into()
}

fn run(path: &Path, beyond: bool) -> TestedFile {
    let file = path.display().to_string();
    match StoreFile::open(path, beyond) {
        Ok(store) => {
            let report = store.run();
            let failures: Vec<String> = report.failures.iter().map(Failure::to_string).collect();
            TestedFile { file, passed: report.passed, failed: report.failed(), failures }
        }
        // Nothing in it was asked: that is one failure, however many faults there are.
        Err(faults) => {
            TestedFile { file, passed: 0, failed: 1, failures: faults.iter().map(Fault::to_string).collect() }
        }
    }
}
