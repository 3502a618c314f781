//! The fuzz targets, each with a fixed number of inputs: of seeds that lead far, with a few changes.
//!
//! The functions are those of `fuzz/`, which cargo-fuzz runs for as long as one likes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test builds on fails by panicking, as the test does"
)]

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "there it is a crate of its own")]
mod fuzz;

use std::{
    fs,
    path::{Path, PathBuf},
};

use keyholder_storefile::{Beside, StoreFile};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use relation::language;

/// Runs a target so often, with the same inputs each time.
fn run(target: fn(&[u8]), cases: u32, input: &impl Strategy<Value = Vec<u8>>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(input, |bytes| {
        target(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// What may be put into a text: the words of all languages here, and what breaks them.
const PARTS: &[&str] = &[
    "\n",
    "  ",
    "\t",
    "#",
    ":",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "\"",
    "'",
    "|",
    "&a",
    "*a",
    "<<: ",
    "~",
    "---\n",
    "\\",
    ",",
    "?",
    "!",
    "0",
    "-1",
    "9223372036854775808",
    "1e999",
    "null",
    "\u{0}",
    "\u{feff}",
    "\u{1f600}",
    " or ",
    " and ",
    " but not ",
    " from ",
    " with ",
    "define ",
    "type ",
    "user",
    "user:*",
    "a#b",
    "a",
    "b",
    "extend ",
    "model\n",
    "schema 1.1",
    "schema 1.2",
    "module m\n",
    "condition ",
    "list<",
    "int",
    " && ",
    " || ",
    " in ",
    ".all(e, ",
    ".map(e, ",
    "size(",
    "assertions",
    "context",
    "users",
    "true",
    "tests",
];

/// The seeds of a target, which cargo-fuzz begins with too.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One change of an input.
#[derive(Debug, Clone)]
enum Change {
    Insert(Index, &'static str),
    Remove(Index, usize),
    /// A line of the input, once more at another place.
    Repeat(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), select(PARTS)).prop_map(|(at, part)| Change::Insert(at, part)),
        (any::<Index>(), 1_usize..20).prop_map(|(at, many)| Change::Remove(at, many)),
        (any::<Index>(), any::<Index>()).prop_map(|(line, at)| Change::Repeat(line, at)),
    ]
}

impl Change {
    fn of(&self, input: &mut Vec<u8>) {
        match self {
            Self::Insert(at, part) => {
                let at = at.index(input.len() + 1);
                input.splice(at..at, part.bytes());
            }
            Self::Remove(at, many) => {
                let at = at.index(input.len() + 1);
                input.drain(at..(at + many).min(input.len()));
            }
            Self::Repeat(line, at) => {
                let lines: Vec<Vec<u8>> = input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if !lines.is_empty() {
                    let before: usize = lines.iter().take(at.index(lines.len() + 1)).map(Vec::len).sum();
                    input.splice(before..before, line.get(&lines).clone());
                }
            }
        }
    }
}

/// The seeds of a target with a few changes, or none.
fn changed(target: &str) -> impl Strategy<Value = Vec<u8>> {
    (select(seeds(target)), vec(change(), 0..5)).prop_map(|(mut input, changes)| {
        for change in changes {
            change.of(&mut input);
        }
        input
    })
}

#[test]
fn the_language() {
    let sound = |text: &[u8]| language::parse(&String::from_utf8_lossy(text)).is_ok();
    assert!(seeds("language").iter().all(|seed| sound(seed)), "a seed leads nowhere");
    run(fuzz::language::run, 2_000, &changed("language"));
}

#[test]
fn conditions() {
    let compiles = |seed: &[u8]| fuzz::condition::compile(&String::from_utf8_lossy(&seed[1..])).is_ok();
    for seed in seeds("condition") {
        assert!(compiles(&seed), "a seed leads nowhere: {}", String::from_utf8_lossy(&seed));
    }
    run(fuzz::condition::run, 5_000, &changed("condition"));
}

#[test]
fn store_files() {
    for seed in seeds("store_file") {
        let read = StoreFile::read("seed", &String::from_utf8_lossy(&seed), &Beside::nothing());
        assert!(read.is_ok(), "a seed leads nowhere: {}", read.unwrap_err()[0]);
    }
    run(fuzz::store_file::run, 1_500, &changed("store_file"));
}

#[test]
fn checks() {
    run(fuzz::check::run, 600, &vec(any::<u8>(), 0..250));
}
