//! Tells the program which commit it is built from: `BUILT_FROM_COMMIT`, empty where that cannot be known.
//!
//! Whoever builds without the history says it in `SOURCE_COMMIT`. Of a tree in which something is changed that the program is made
//! of, no commit is named: it would be that of another program. Cargo gives the variable also to what it runs, so it must not begin as our
//! settings do: a process refuses one of those that it does not know.

use std::{path::Path, process::Command};

/// What the program is made of.
const MADE_OF: [&str; 11] = [
    "src",
    "build.rs",
    "Cargo.toml",
    "../crates",
    "../claims",
    "../blueprints",
    "../providers",
    "../.sqlx",
    "../.cargo",
    "../Cargo.toml",
    "../Cargo.lock",
];
/// What changes with every commit and every checkout, as git names it.
const MOVES: [&str; 4] = ["HEAD", "logs/HEAD", "refs/heads", "packed-refs"];

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_COMMIT");
    // A path that is not there would have the script run at each build.
    let places = MOVES.iter().filter_map(|name| git(&["rev-parse", "--git-path", name]));
    let watched = places.chain(MADE_OF.map(str::to_owned));
    for path in watched.filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    #[expect(clippy::disallowed_methods, reason = "what is said at the build, and no configuration")]
    let said = std::env::var("SOURCE_COMMIT").ok().filter(|commit| !commit.is_empty());
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={}", said.or_else(head).unwrap_or_default());
}

/// The commit of the checkout, where this is one and nothing in it is changed that the program is made of.
fn head() -> Option<String> {
    // Sources that lie somewhere in another project's checkout are of none of its commits.
    if git(&["rev-parse", "--show-cdup"])? != "../" {
        return None;
    }
    let status = [&["status", "--porcelain", "--"][..], &MADE_OF].concat();
    if !git(&status)?.is_empty() {
        return None;
    }
    git(&["rev-parse", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let said = Command::new("git").args(arguments).output().ok().filter(|said| said.status.success())?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}
