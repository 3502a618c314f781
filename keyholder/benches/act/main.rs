//! What an act costs, measured in one run beside what it can be compared with: the platform itself, nginx before it, and a bare insert.
//!
//! `cargo bench --workspace --bench act -- --json` prints one line. `--smoke` measures next to nothing, to show the line's shape.
//! `--render docs/performance.json` measures nothing and writes the page that belongs to that line. See `docs/performance.md`.

mod commit;
#[path = "../grounds/mod.rs"]
mod grounds;
mod load;
mod measure;
mod nginx;
mod process;
mod render;
mod report;
mod stage;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use grounds::Outcome;
use load::Pace;
use measure::Effort;

/// Five rounds of four seconds a figure.
const FULL: Effort = Effort {
    rounds: 5,
    pace: Pace { lead_in: Duration::from_millis(500), length: Duration::from_secs(4) },
    rest: Duration::from_secs(3),
};

struct Wishes {
    effort: Effort,
    json: bool,
    render: Option<PathBuf>,
}

impl Wishes {
    fn read() -> Outcome<Self> {
        let mut wishes = Self { effort: FULL, json: false, render: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut next = || words.next().ok_or_else(|| format!("{word} says nothing"));
            match word.as_str() {
                "--json" => wishes.json = true,
                "--smoke" => wishes.effort = Effort::SMOKE,
                "--seconds" => wishes.effort.pace.length = Duration::from_secs(next()?.parse()?),
                "--rounds" => wishes.effort.rounds = next()?.parse::<usize>()?.max(1),
                "--render" => wishes.render = Some(next()?.into()),
                // What cargo itself hands to a bench.
                "--bench" => {}
                other => {
                    return Err(
                        format!("{other} is none of --json, --smoke, --seconds, --rounds, --render FILE").into()
                    );
                }
            }
        }
        Ok(wishes)
    }
}

fn main() -> Outcome<()> {
    let wishes = Wishes::read()?;
    let mut out = std::io::stdout().lock();
    if let Some(file) = wishes.render {
        // Cargo runs a bench in its package's folder; the file is named from the workspace's.
        let raw = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file))?;
        return Ok(write!(out, "{}", render::page(&serde_json::from_str(&raw)?)?)?);
    }
    let _set_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(Box::pin(measure::run(wishes.effort)))?;
    if wishes.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{}", render::page(&report)?)?;
    }
    Ok(())
}
