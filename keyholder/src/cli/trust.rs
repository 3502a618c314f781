//! `trust key`, `trust verify` and `trust publish`: the key that signs statements, and what anybody or the operator does with one.
//!
//! The private half stays where statements are made. No server process is given it: `serve` refuses one by name.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};

use domain::{
    clock::Clock,
    statement::{ENVELOPE_BYTES_MAX, Envelope, Standing, Statement},
};
use seal::signature::{SigningKey, VerifyingKey, verify};
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    args::TrustCommand,
    failure::{Exit, Failure},
    output::Voice,
};
#[cfg(feature = "sandbox")]
use crate::config::read_secret;

#[derive(Serialize)]
struct Made<'k> {
    file: &'k Path,
    public_key: String,
}

/// What a statement says of itself, and whether it counts.
#[derive(Serialize)]
struct Judged {
    valid: bool,
    /// Why not, in words.
    faults: Vec<String>,
    signed_by: String,
    blueprint: String,
    scope: &'static str,
    sequence: u64,
    #[serde(with = "time::serde::rfc3339")]
    issued_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    audience: Option<String>,
    commit: Option<String>,
    binary_sha256: String,
    sabotage_sha256: Option<String>,
    kept: usize,
    attested: usize,
    planned: usize,
    unproven: usize,
    broken: usize,
}

/// Does what the command says.
pub(super) async fn run(command: TrustCommand, voice: Voice) -> Result<ExitCode, Failure> {
    match command {
        TrustCommand::Key { out } => make_key(&out, voice),
        TrustCommand::Verify { file, key, program, audience, after } => {
            let wanted = Wanted { program: program.as_deref(), audience: audience.as_ref(), after };
            judge(&file, &key, wanted, voice)
        }
        #[cfg(feature = "sandbox")]
        TrustCommand::Publish { file, target, operator_key_file, tls_roots } => {
            let envelope = read(&file)?;
            let person = person(&target, &operator_key_file, tls_roots.as_deref())?;
            let published = publish(&envelope, &person).await?;
            voice.say(&published, &published.in_words());
            Ok(Exit::Done.into())
        }
    }
}

/// Makes a key: the private half in a new file that only its owner reads, the public one on standard output.
fn make_key(out: &Path, voice: Voice) -> Result<ExitCode, Failure> {
    let key = SigningKey::generate();
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?;
        file.write_all(key.to_text().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let why = "whoever trusts it would trust it no more, so it is not overwritten";
            Failure::said(Exit::Key, format!("there is a file at {} already; {why}", out.display()))
        }
        _ => Failure::because(Exit::Key, format!("the key cannot be written to {}", out.display()), error),
    })?;
    let public_key = key.verifying_key().to_string();
    let words = format!(
        "{public_key}\nThis is the public key, for `trust.key` and for whoever verifies. The private half is in {}: keep it from every server.",
        out.display()
    );
    voice.say(&Made { file: out, public_key }, &words);
    Ok(Exit::Done.into())
}

/// The private half in a file, as `trust key` wrote it.
///
/// # Errors
/// Where the file is open to others, or holds no such key.
#[cfg(feature = "sandbox")]
pub(super) fn signing_key(file: &Path) -> Result<SigningKey, Failure> {
    let unreadable = |error| Failure::because(Exit::Key, "the key for statements cannot be read", error);
    let text = read_secret(file).map_err(unreadable)?;
    SigningKey::from_text(text.expose())
        .map_err(|error| Failure::because(Exit::Key, format!("{} holds no key for statements", file.display()), error))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = u64::try_from(ENVELOPE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| Failure::because(Exit::Other, format!("{} cannot be read", file.display()), error))?;
    Ok(bytes)
}

/// What a statement must be, beside signed and in force.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    /// Of this program.
    program: Option<&'w Path>,
    /// Made for this installation.
    audience: Option<&'w url::Url>,
    /// Of a greater number.
    after: Option<u64>,
}

/// Verifies a statement offline: who signed it, until when it counts, and whether it is the wanted one.
fn judge(file: &Path, keys: &[VerifyingKey], wanted: Wanted<'_>, voice: Voice) -> Result<ExitCode, Failure> {
    let Wanted { program, audience, after } = wanted;
    let no_statement =
        |why: String| Failure::said(Exit::CheckFailed, format!("{} is no statement: {why}", file.display()));
    let envelope = Envelope::parse(&read(file)?).map_err(|error| no_statement(error.to_string()))?;
    // Nothing of what no given key has signed is told: it could say anything.
    let Some(signed_by) = verify(&envelope, keys) else {
        let why = "no given key has signed it: what it says is worth nothing";
        return Err(Failure::said(Exit::CheckFailed, format!("{}: {why}", file.display())));
    };
    let statement = Statement::parse(envelope.payload()).map_err(|error| no_statement(error.to_string()))?;
    let mut faults = Vec::new();
    let now = Clock::system().now();
    if now >= statement.expires_at {
        faults.push("it has expired".to_owned());
    }
    if statement.is_early(now) {
        faults.push("it is from the future, as this machine's clock has it".to_owned());
    }
    let audience = audience.map(|url| url.origin().ascii_serialization());
    if let Some(here) = audience.filter(|here| statement.audience.as_ref() != Some(here)) {
        let made_for = statement.audience.as_deref().unwrap_or("no particular installation");
        faults.push(format!("it was made for {made_for}, and not for {here}"));
    }
    if after.is_some_and(|after| statement.sequence <= after) {
        faults.push(format!("its number is {}: it is as old as one that you know, or older", statement.sequence));
    }
    if let Some(program) = program {
        let digest = crate::program::sha256_of(program);
        let digest = digest
            .map_err(|error| Failure::because(Exit::Other, format!("{} cannot be read", program.display()), error))?;
        if digest != statement.build.binary_sha256 {
            faults.push(format!("it is of another program than {}, whose SHA-256 is {digest}", program.display()));
        }
    }
    let judged = judged(statement, faults, signed_by);
    voice.say(&judged, &in_words(&judged));
    Ok(if judged.valid { Exit::Done } else { Exit::CheckFailed }.into())
}

fn judged(statement: Statement, faults: Vec<String>, signed_by: &VerifyingKey) -> Judged {
    let ids = |standing| statement.ids(standing).len();
    Judged {
        valid: faults.is_empty(),
        faults,
        signed_by: signed_by.to_string(),
        kept: ids(Standing::Kept),
        attested: ids(Standing::Attested),
        planned: ids(Standing::Planned),
        unproven: ids(Standing::Unproven),
        broken: ids(Standing::Broken),
        scope: statement.scope.as_str(),
        sequence: statement.sequence,
        issued_at: statement.issued_at,
        expires_at: statement.expires_at,
        blueprint: statement.blueprint,
        audience: statement.audience,
        commit: statement.build.commit,
        binary_sha256: statement.build.binary_sha256,
        sabotage_sha256: statement.build.sabotage_sha256,
    }
}

fn in_words(judged: &Judged) -> String {
    let Judged { blueprint, scope, sequence, issued_at, expires_at, kept, attested, planned, unproven, broken, .. } =
        judged;
    let head = match judged.faults.as_slice() {
        [] => "The statement counts.".to_owned(),
        faults => format!("The statement does not count: {}.", faults.join("; ")),
    };
    format!(
        "{head}\nsigned by    {}\nof           {blueprint} ({scope}), for {}\nsequence     {sequence}\nmade         {issued_at}\n\
         counts until {expires_at}\ncommit       {}\nprogram      {}\nsabotage     {}\n\
         {kept} kept, {attested} attested, {planned} planned, {unproven} unproven, {broken} broken",
        judged.signed_by,
        judged.audience.as_deref().unwrap_or("no particular installation"),
        judged.commit.as_deref().unwrap_or("not said"),
        judged.binary_sha256,
        judged.sabotage_sha256.as_deref().unwrap_or("not run"),
    )
}

#[cfg(feature = "sandbox")]
pub(super) use publishing::{person, publish};

/// How a statement gets to its server.
#[cfg(feature = "sandbox")]
mod publishing {
    use std::path::Path;

    use http::{Method, StatusCode, header};
    use proof::caller::Caller;
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    use serde::{Deserialize, Serialize};
    use url::Url;

    use super::{Exit, Failure, read_secret};

    /// Where a server takes statements.
    const PATH: &str = "/v1/installation/trust-statements";

    /// What the server made of it.
    #[derive(Serialize, Deserialize)]
    pub(in crate::cli) struct Published {
        sequence: u64,
        expires_at: String,
        kept_no_longer: Vec<String>,
        is_of_this_build: bool,
    }

    impl Published {
        pub(in crate::cli) fn in_words(&self) -> String {
            let mut words = format!("Statement {} is published, and counts until {}.", self.sequence, self.expires_at);
            if !self.is_of_this_build {
                words.push_str(
                    "\nIt is of another build than the one that serves there: nothing is shown as kept by it.",
                );
            }
            if !self.kept_no_longer.is_empty() {
                words.push_str("\nKept before, and not any more: ");
                words.push_str(&self.kept_no_longer.join(", "));
            }
            words
        }
    }

    /// One of the operator's persons, at a server.
    ///
    /// # Errors
    /// Where the key cannot be read, or the server is not one that a key may be shown to.
    pub(in crate::cli) fn person(
        target: &Url,
        operator_key_file: &Path,
        tls_roots: Option<&Path>,
    ) -> Result<Caller, Failure> {
        let here = matches!(target.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if target.scheme() != "https" && !(target.scheme() == "http" && here) {
            return Err(Failure::said(
                Exit::Other,
                "a key is shown over https, or over http to this machine, and to no other server",
            ));
        }
        let unreadable = |error| Failure::because(Exit::Other, "the operator's key cannot be read", error);
        let key = read_secret(operator_key_file).map_err(unreadable)?;
        let authority = tls_roots.map(CertificateDer::from_pem_file).transpose();
        let authority = authority
            .map_err(|error| Failure::because(Exit::Other, "the certificate authority cannot be read", error))?;
        Ok(Caller::trusting(target, None, authority.as_ref()).with_key(key.expose()))
    }

    /// Publishes a statement's envelope.
    ///
    /// # Errors
    /// Where the server does not answer, or refuses: in its own words.
    pub(in crate::cli) async fn publish(envelope: &[u8], person: &Caller) -> Result<Published, Failure> {
        let json = [(header::CONTENT_TYPE.as_str(), "application/json")];
        let reply = person.send(Method::POST, PATH, &json, envelope.to_vec().into()).await;
        let reply = reply.map_err(|error| Failure::because(Exit::Other, "the server did not answer", error))?;
        if reply.status != StatusCode::CREATED {
            let body = reply.json();
            let said = |name: &str| body.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            let (title, detail) = (said("title"), said("detail"));
            return Err(Failure::said(
                Exit::Other,
                format!("the statement was not published ({}): {title}: {detail}", reply.status),
            ));
        }
        serde_json::from_slice(&reply.body)
            .map_err(|error| Failure::because(Exit::Other, "the server's answer is not one of ours", error))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_is_written_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.key");
        make_key(&path, Voice::Words).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let key = signing_key(&path).unwrap().verifying_key();
        assert_eq!(make_key(&path, Voice::Words).unwrap_err().exit_code(), 5);
        assert_eq!(signing_key(&path).unwrap().verifying_key(), key);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(signing_key(&path).map(|_| ()).unwrap_err().exit_code(), 5);
        let public = folder.path().join("public");
        fs::write(&public, key.to_string()).unwrap();
        fs::set_permissions(&public, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(signing_key(&public).map(|_| ()).unwrap_err().exit_code(), 5);
    }
}
