//! `prove --sign`: what was proved becomes a signed statement, in a file, on a server's trust page, or both.
//!
//! Says what it did on standard error: standard output is the report's. The keys are files of whoever proves, and are read before
//! the first probe runs, so that an hour's work is not lost to a typing error.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use domain::{
    blueprint::Blueprint,
    clock::Clock,
    statement::{Scope, is_commit},
};
use proof::caller::Caller;
use serde_json::Value;
use time::Duration;
use url::Url;

use super::{
    args::SignArgs,
    failure::{Exit, Failure},
    output::note,
    trust::{person, publish, signing_key},
};
use crate::{
    program,
    prove::{
        Report,
        signing::{OwnWords, Sabotaged, Signing, SigningError, sign},
        tree::demand_commit,
    },
};

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        Self::because(Exit::Other, "there is no statement", error)
    }
}

/// What a statement will say and who signs it, before anything was proved.
pub(super) struct Signer {
    signing: Signing,
    words: OwnWords,
    /// The checkout at which the checks of a build look.
    source: Option<PathBuf>,
    out: Option<PathBuf>,
    /// Who publishes it, at its server.
    person: Option<Caller>,
}

impl Signer {
    /// Reads the keys and what the operator attests, and asks the server which installation and which program it is. `None` where nothing is to be signed.
    ///
    /// # Errors
    /// Where a file cannot be read, the server runs another program than this one, or the checkout is not what this one was built from: it would
    /// be signed for the wrong one.
    pub(super) async fn prepare(
        args: &SignArgs,
        blueprint: Option<&Blueprint>,
        server: Option<(&Caller, &Url, Option<&PathBuf>)>,
        source: Option<&Path>,
    ) -> Result<Option<Self>, Failure> {
        let Some(blueprint) = blueprint.filter(|_| !args.sign.is_empty()) else { return Ok(None) };
        let words = OwnWords::of(blueprint, args.attestations.as_deref())?;
        let keys = args.sign.iter().map(|file| signing_key(file)).collect::<Result<_, _>>()?;
        let commit = commit(args.commit.as_deref(), program::commit(), program::is_of_changed_sources())?;
        // Before an hour's work, and not only after it.
        demand_source(source, commit.as_deref()).await?;
        let sabotaged = match (&args.sabotaged, &args.sabotage_program) {
            (Some(report), Some(program)) => Some(Sabotaged::read(report, program, commit.as_deref())?),
            _ => None,
        };
        let wanted = args.audience.as_ref().map(|url| url.origin().ascii_serialization());
        // Also where the audience is given: a server that runs another program is not proved by this one.
        let audience = match server {
            None => wanted,
            Some((caller, ..)) => Some(installation(caller, wanted.as_deref()).await?),
        };
        let person = match (server, &args.operator_key_file) {
            (Some((_, target, tls_roots)), Some(key)) if args.publish => {
                Some(person(target, key, tls_roots.map(PathBuf::as_path))?)
            }
            _ => None,
        };
        let signing = Signing { keys, life: Duration::days(i64::from(args.days)), audience, commit, sabotaged };
        Ok(Some(Self { signing, words, source: source.map(Path::to_path_buf), out: args.out.clone(), person }))
    }

    /// Signs what was proved, writes it, and publishes it.
    ///
    /// # Errors
    /// Where there is no statement, the checkout has changed meanwhile, it cannot be written, or the server refuses it.
    pub(super) async fn finish(&self, report: &Report, scope: Scope) -> Result<(), Failure> {
        demand_source(self.source.as_deref(), self.signing.commit.as_deref()).await?;
        let envelope = sign(report, &self.words, (scope, Clock::system().now()), &self.signing)?;
        if let Some(out) = &self.out {
            let write = || std::fs::File::create(out)?.write_all(&envelope);
            write().map_err(|error| {
                Failure::because(Exit::Other, format!("{} cannot be written", out.display()), error)
            })?;
            note(&format!("keyholder: the statement is in {}", out.display()));
        }
        if let Some(person) = &self.person {
            let published = publish(&envelope, person).await?;
            note(&format!("keyholder: {}", published.in_words()));
        }
        Ok(())
    }
}

/// Refuses a checkout that is not what this program was built from.
async fn demand_source(source: Option<&Path>, commit: Option<&str>) -> Result<(), Failure> {
    let Some(source) = source else { return Ok(()) };
    let demanded = demand_commit(source, commit).await;
    demanded.map_err(|error| Failure::because(Exit::Other, "there is no statement", error))
}

/// The commit that this program was built from: as it knows itself, or else as it is told.
fn commit(said: Option<&str>, built: Option<&str>, is_changed: bool) -> Result<Option<String>, Failure> {
    let refused = |why: String| Err(Failure::said(Exit::Other, why));
    match (said, built) {
        (Some(said), _) if !is_commit(said) => {
            refused(format!("--commit is 7 to 64 small hexadecimal digits, and not {said:?}"))
        }
        (Some(_), _) if is_changed => refused(
            "this program was built from a checkout with changes: it is of no commit, and --commit names one"
                .to_owned(),
        ),
        (Some(said), Some(built)) if !built.starts_with(said) => {
            refused(format!("this program was built from the commit {built}, and --commit says another"))
        }
        (said, built) => Ok(built.or(said).map(str::to_owned)),
    }
}

/// Which installation a server is, where it is of this very program, and the one that is wanted.
async fn installation(caller: &Caller, wanted: Option<&str>) -> Result<String, Failure> {
    let reply = caller.get("/trust.json").await;
    let page = reply.map_err(|error| Failure::because(Exit::Other, "the server did not answer", error))?.json();
    let said = |pointer: &str| page.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let Some(installation) = said("/installation") else {
        return Err(Failure::said(Exit::Other, "the server has no trust page"));
    };
    let (there, here) = (said("/serves/binary_sha256"), program::sha256());
    if there.is_none() || there != here {
        let why = "the server runs another program than this one, and a statement says which program was proved";
        return Err(Failure::said(Exit::Other, why));
    }
    if wanted.is_some_and(|wanted| wanted != installation) {
        let why = format!("the server says that it is {installation}, and --audience says another");
        return Err(Failure::said(Exit::Other, why));
    }
    Ok(installation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_of_the_commit_that_it_knows_or_is_told_and_of_none_where_its_sources_were_changed() {
        let full = "0123456789abcdef0123456789abcdef01234567";
        let other = "fedcba9";
        for (said, built, is_changed, wanted) in [
            (None, Some(full), false, Ok(Some(full))),
            (Some("0123456"), Some(full), false, Ok(Some(full))),
            (Some(other), None, false, Ok(Some(other))),
            (None, None, false, Ok(None)),
            (None, None, true, Ok(None)),
            (Some(other), Some(full), false, Err("another")),
            (Some("HEAD"), None, false, Err("hexadecimal")),
            (Some(other), None, true, Err("with changes")),
        ] {
            let named = commit(said, built, is_changed).map_err(|failure| failure.to_string());
            match wanted {
                Ok(wanted) => assert_eq!(named, Ok(wanted.map(str::to_owned))),
                Err(why) => assert!(named.as_ref().is_err_and(|said| said.contains(why)), "{said:?}: {named:?}"),
            }
        }
    }
}
