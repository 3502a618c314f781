//! Tells the program which commit it is built from: `BUILT_FROM_COMMIT`, empty where that cannot be known.
//!
//! Cargo gives the variable also to what it runs, so it must not begin as our settings do: a process refuses one of those that it does not know.

use std::{path::Path, process::Command};

fn main() {
    let asked = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let commit = asked.ok().filter(|said| said.status.success()).map(|said| said.stdout).unwrap_or_default();
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={}", String::from_utf8_lossy(&commit).trim());
    println!("cargo::rerun-if-changed=build.rs");
    // Every commit and every checkout adds a line to it. A path that is not there would have the script run at each build.
    let moves = Path::new("../.git/logs/HEAD");
    if moves.is_file() {
        println!("cargo::rerun-if-changed={}", moves.display());
    }
}
