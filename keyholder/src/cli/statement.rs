//! `prove --sign`: what was proved becomes a signed statement, in a file, on a server's trust page, or both.
//!
//! Says what it did on standard error: standard output is the report's. The keys are files of whoever proves, and are read before
//! the first probe runs, so that an hour's work is not lost to a typing error.

use std::{io::Write, path::PathBuf};

use domain::{blueprint::Blueprint, clock::Clock, statement::Scope};
use proof::{SourceTree, caller::Caller};
use serde_json::Value;
use time::Duration;
use url::Url;

use super::{
    args::SignArgs,
    failure::{Exit, Failure},
    output::note,
    trust::{publish, signing_key},
};
use crate::{
    program,
    prove::{
        Report,
        signing::{Sabotaged, Signing, SigningError, sign},
    },
};

/// The commit that this program was built from, where the build says it.
const COMMIT: Option<&str> = option_env!("BUILT_FROM_COMMIT");

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        Self::because(Exit::Other, "there is no statement", error)
    }
}

/// What a statement will say and who signs it, before anything was proved.
pub(super) struct Signer {
    signing: Signing,
    out: Option<PathBuf>,
    publishing: Option<Publishing>,
}

struct Publishing {
    target: Url,
    operator_key_file: PathBuf,
    tls_roots: Option<PathBuf>,
}

impl Signer {
    /// Reads the keys, and asks the server which installation and which program it is. `None` where nothing is to be signed.
    ///
    /// # Errors
    /// Where a file cannot be read, or the server runs another program than this one: it would be proved by the wrong one.
    pub(super) async fn prepare(
        args: &SignArgs,
        server: Option<(&Caller, &Url, Option<&PathBuf>)>,
        source: Option<&SourceTree>,
    ) -> Result<Option<Self>, Failure> {
        if args.sign.is_empty() {
            return Ok(None);
        }
        let keys = args.sign.iter().map(|file| signing_key(file)).collect::<Result<_, _>>()?;
        let sabotaged = match (&args.sabotaged, &args.sabotage_program) {
            (Some(report), Some(program)) => Some(Sabotaged::read(report, program)?),
            _ => None,
        };
        let origin = |url: &Url| url.origin().ascii_serialization();
        let audience = match (&args.audience, server) {
            (Some(url), _) => Some(origin(url)),
            (None, Some((caller, ..))) => Some(installation(caller).await?),
            (None, None) => None,
        };
        let commit = match (&args.commit, COMMIT, source) {
            (Some(commit), ..) => Some(commit.clone()),
            (None, Some(commit), _) => Some(commit.to_owned()),
            (None, None, Some(tree)) => head(tree).await,
            (None, None, None) => None,
        };
        let publishing = match (server, &args.operator_key_file) {
            (Some((_, target, tls_roots)), Some(key)) if args.publish => Some(Publishing {
                target: target.clone(),
                operator_key_file: key.clone(),
                tls_roots: tls_roots.cloned(),
            }),
            _ => None,
        };
        let signing = Signing { keys, life: Duration::days(i64::from(args.days)), audience, commit, sabotaged };
        Ok(Some(Self { signing, out: args.out.clone(), publishing }))
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
        if let Some(Publishing { target, operator_key_file, tls_roots }) = &self.publishing {
            let published = publish(&envelope, target, operator_key_file, tls_roots.as_deref()).await?;
            note(&format!("keyholder: {}", published.in_words()));
        }
        Ok(())
    }
}

/// Which installation a server is, where it is of this very program.
async fn installation(caller: &Caller) -> Result<String, Failure> {
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
    Ok(installation)
}

/// The commit of a checkout, as git names it.
async fn head(tree: &SourceTree) -> Option<String> {
    let head = tree.git(&["rev-parse", "HEAD"]).await.ok()?;
    Some(String::from_utf8(head).ok()?.trim().to_owned())
}
