//! Tells the program which commit it is built from: `BUILT_FROM_COMMIT`, empty where that cannot be known, and `BUILT_FROM_CHANGED`, empty where no
//! change to that commit was seen.
//!
//! Whoever builds without the history says it in `SOURCE_COMMIT`. Of a tree in which something is changed that the program is made
//! of, no commit is named, whatever is said: it would be that of another program. Cargo gives the variable also to what it runs, so it must not begin as our
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
    let changed = is_changed();
    let commit = said.or_else(head).filter(|_| !changed);
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={}", commit.unwrap_or_default());
    println!("cargo::rustc-env=BUILT_FROM_CHANGED={}", if changed { "yes" } else { "" });
}

/// Whether these sources are a checkout of their own: those that lie somewhere in another project's are of none of its commits.
fn is_checkout() -> bool {
    git(&["rev-parse", "--show-cdup"]).is_some_and(|up| up == "../")
}

/// Whether something in the checkout is changed that the program is made of.
fn is_changed() -> bool {
    let status = [&["status", "--porcelain", "--"][..], &MADE_OF].concat();
    is_checkout() && git(&status).is_none_or(|changes| !changes.is_empty())
}

/// The commit of the checkout, where this is one.
fn head() -> Option<String> {
    git(&["rev-parse", "HEAD"]).filter(|_| is_checkout())
}

fn git(arguments: &[&str]) -> Option<String> {
    let said = Command::new("git").args(arguments).output().ok().filter(|said| said.status.success())?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}
