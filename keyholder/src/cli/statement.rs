//! `prove --sign`: what was proved becomes a signed statement, in a file, on a server's trust page, or both.
//!
//! Says what it did on standard error: standard output is the report's. The keys are files of whoever proves, and are read before
//! the first probe runs, so that an hour's work is not lost to a typing error.

use std::{io::Write, path::PathBuf};

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
        signing::{Sabotaged, Signing, SigningError, sign},
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
    out: Option<PathBuf>,
    /// Who publishes it, at its server.
    person: Option<Caller>,
}

impl Signer {
    /// Reads the keys, and asks the server which installation and which program it is. `None` where nothing is to be signed.
    ///
    /// # Errors
    /// Where a file cannot be read, or the server runs another program than this one: it would be proved by the wrong one.
    pub(super) async fn prepare(
        args: &SignArgs,
        server: Option<(&Caller, &Url, Option<&PathBuf>)>,
    ) -> Result<Option<Self>, Failure> {
        if args.sign.is_empty() {
            return Ok(None);
        }
        let keys = args.sign.iter().map(|file| signing_key(file)).collect::<Result<_, _>>()?;
        let commit = commit(args.commit.as_deref())?;
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
        Ok(Some(Self { signing, out: args.out.clone(), person }))
    }

    /// Signs what was proved, writes it, and publishes it.
    ///
    /// # Errors
    /// Where there is no statement, it cannot be written, or the server refuses it.
    pub(super) async fn finish(&self, report: &Report, blueprint: &Blueprint, scope: Scope) -> Result<(), Failure> {
        let envelope = sign(report, blueprint, (scope, Clock::system().now()), &self.signing)?;
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

/// The commit that this program was built from: as it knows itself, or else as it is told.
fn commit(said: Option<&str>) -> Result<Option<String>, Failure> {
    if let Some(said) = said.filter(|said| !is_commit(said)) {
        let why = format!("--commit is 7 to 64 small hexadecimal digits, and not {said:?}");
        return Err(Failure::said(Exit::Other, why));
    }
    match (said, program::commit()) {
        (Some(said), Some(built)) if !built.starts_with(said) => {
            let why = format!("this program was built from the commit {built}, and --commit says another");
            Err(Failure::said(Exit::Other, why))
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
