//! `import fernet`: accounts that a team has connected before, line by line, each tried at its provider before it is kept.
//!
//! Never shows any part of a line: what is told of it is its number and a word.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use domain::{id::WorkspaceId, principal::Principal};
use futures_util::future::join_all;
use seal::FernetKey;
use serde::Serialize;
use service::{
    App,
    import::{self, Import, ImportFault, Imported, LINE_BYTES_MAX},
};
use zeroize::Zeroizing;

use super::{
    args::FernetArgs,
    failure::{Exit, Failure},
    output::{Progress, Voice, note},
    serve, workspace,
};
use crate::config::read_lines;

/// How many lines are tried at the provider at once.
const AT_ONCE: usize = 4;
/// How many refused lines are told to a person; a program is told all of them.
const TOLD: usize = 20;

#[derive(Debug, Default, Serialize)]
struct Report {
    imported: u64,
    renewed: u64,
    known: u64,
    refused: u64,
    lines: Vec<LineReport>,
}

#[derive(Debug, Serialize)]
struct LineReport {
    line: u64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Report {
    /// Counts what became of a line; gives back what no later line would fare better with.
    fn count(&mut self, line: u64, outcome: Result<Imported, ImportFault>) -> Result<(), Failure> {
        let (outcome, connection, reason) = match outcome {
            Ok(Imported::New(id)) => ("imported", Some(id), None),
            Ok(Imported::Renewed(id)) => ("renewed", Some(id), None),
            Ok(Imported::Known(id)) => ("known", Some(id), None),
            Err(ImportFault::Refused(refusal)) => {
                let what =
                    format!("line {line} was not imported, and the rest was not tried; run the same again to go on");
                return Err(workspace::refused(&what, refusal));
            }
            Err(fault) => ("refused", None, Some(fault.word())),
        };
        match outcome {
            "imported" => self.imported += 1,
            "renewed" => self.renewed += 1,
            "known" => self.known += 1,
            _ => self.refused += 1,
        }
        let connection = connection.map(|id| id.to_string());
        self.lines.push(LineReport { line, outcome, connection, reason });
        Ok(())
    }

    fn in_words(&self) -> String {
        let Self { imported, renewed, known, refused, lines } = self;
        let mut words = format!("{imported} imported, {renewed} renewed, {known} known already, {refused} refused");
        let refused = lines.iter().filter_map(|line| Some((line.line, line.reason?)));
        for (line, reason) in refused.take(TOLD) {
            // Writing to a string does not fail.
            let _ = write!(words, "\nline {line}: {reason}");
        }
        words
    }
}

/// Imports the lines of a file, or of standard input.
pub(super) async fn fernet(args: &FernetArgs, voice: Voice) -> Result<ExitCode, Failure> {
    let workspace: WorkspaceId = args
        .workspace
        .parse()
        .map_err(|error| Failure::because(Exit::Other, format!("`{}` is no workspace", args.workspace), error))?;
    let keys = keys(&args.key_file)?;
    let mut lines = Lines::of(args.file.as_deref())?;
    let import = Import { keys, ttl: args.ttl.map(Duration::from_secs), workspace, provider: args.provider.clone() };
    let (instance, operator) = serve::for_a_moment(&args.config).await?;
    let principal = Principal::operator(&operator, instance.app().clock.now());
    let imported = run(instance.app(), &principal, &import, &mut lines).await;
    instance.stop().await;
    let report = imported?;
    voice.say(&report, &report.in_words());
    Ok(if report.refused == 0 { Exit::Done } else { Exit::CheckFailed }.into())
}

async fn run(app: &App, operator: &Principal, import: &Import, lines: &mut Lines) -> Result<Report, Failure> {
    import::begin(app, operator, import)
        .await
        .map_err(|refusal| workspace::refused("nothing was imported", refusal))?;
    let progress = Progress::begin("importing");
    let mut report = Report::default();
    loop {
        let mut batch = Vec::with_capacity(AT_ONCE);
        while batch.len() < AT_ONCE
            && let Some(line) = lines.next()?
        {
            batch.push(line);
        }
        if batch.is_empty() {
            progress.end();
            return Ok(report);
        }
        let tried = batch.iter().map(|(_, text)| async move {
            match text {
                Some(text) => import::line(app, operator, import, text).await,
                None => Err(ImportFault::Malformed),
            }
        });
        let outcomes = join_all(tried).await;
        for ((number, _), outcome) in batch.iter().zip(outcomes) {
            if let Err(ImportFault::Refused(_)) = &outcome {
                // What was done before is done; it is told, since the outcome will be a failure.
                note(&format!("keyholder: {}", report.in_words()));
            }
            report.count(*number, outcome)?;
        }
        progress.now(format!("importing: {} lines, {} refused", report.lines.len(), report.refused));
    }
}

/// The keys of the former store: one a line.
fn keys(path: &Path) -> Result<Vec<FernetKey>, Failure> {
    let unusable = "the key file cannot be used";
    let lines = read_lines(path).map_err(|error| Failure::because(Exit::Key, unusable, error))?;
    let key = |(at, line): (usize, &crate::config::Secret)| {
        let what = || format!("{unusable}: line {}", at + 1);
        FernetKey::from_text(line.expose()).map_err(|error| Failure::because(Exit::Key, what(), error))
    };
    lines.iter().enumerate().map(key).collect()
}

/// The lines of the input that are not empty, with their numbers. One that is too long or no text is there, without its text.
struct Lines {
    input: BufReader<Box<dyn Read>>,
    number: u64,
}

type Line = (u64, Option<Zeroizing<String>>);

/// A line as it was read.
enum Raw {
    Whole(Zeroizing<Vec<u8>>),
    TooLong,
}

impl Lines {
    fn of(file: Option<&Path>) -> Result<Self, Failure> {
        let input: Box<dyn Read> = match file {
            None => Box::new(io::stdin()),
            Some(path) => Box::new(File::open(path).map_err(|error| {
                Failure::because(Exit::Other, format!("{} cannot be read", PathBuf::from(path).display()), error)
            })?),
        };
        Ok(Self { input: BufReader::new(input), number: 0 })
    }

    fn next(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            let Some(text) = self.one()? else { return Ok(None) };
            self.number += 1;
            let Raw::Whole(bytes) = text else { return Ok(Some((self.number, None))) };
            match std::str::from_utf8(&bytes).map(str::trim) {
                Ok("") => {}
                Ok(text) => return Ok(Some((self.number, Some(Zeroizing::new(text.to_owned()))))),
                Err(_) => return Ok(Some((self.number, None))),
            }
        }
    }

    /// The bytes of one line; of one that is too long, which is read past, none.
    fn one(&mut self) -> Result<Option<Raw>, Failure> {
        let failed = |error| Failure::because(Exit::Other, "the input cannot be read", error);
        let mut line = Zeroizing::new(Vec::new());
        let most = LINE_BYTES_MAX as u64 + 1;
        if (&mut self.input).take(most).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(None);
        }
        if line.ends_with(b"\n") || line.len() as u64 != most {
            return Ok(Some(Raw::Whole(line)));
        }
        loop {
            line.clear();
            let read = (&mut self.input).take(most).read_until(b'\n', &mut line).map_err(failed)?;
            if read == 0 || line.ends_with(b"\n") {
                return Ok(Some(Raw::TooLong));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: Vec<u8>) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines { input: BufReader::new(Box::new(io::Cursor::new(input))), number: 0 };
        let mut read = Vec::new();
        while let Some((number, text)) = lines.next().unwrap() {
            read.push((number, text.map(|text| text.to_string())));
        }
        read
    }

    #[test]
    fn lines_keep_their_numbers_and_none_grows_without_end() {
        let long = vec![b'a'; LINE_BYTES_MAX + 10];
        let input = [b"one\r\n\n".as_slice(), &long, b"\n\xff\n  \nlast"].concat();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(lines(input), [(1, text("one")), (3, None), (4, None), (6, text("last"))]);
        assert_eq!(lines(vec![b'a'; LINE_BYTES_MAX]).len(), 1);
        assert_eq!(lines(Vec::new()), []);
    }
}
