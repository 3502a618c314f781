//! `root-key generate`: the only command that ever writes a root key, and never over another.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};

use seal::RootKey;
use serde::Serialize;

use super::{
    failure::{Exit, Failure},
    output::Voice,
};

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Made<'k> {
    RootKey(&'k str),
    File(&'k Path),
}

/// Makes a root key, on standard output or in a new file with mode 600.
pub(super) fn generate(out: Option<&Path>, voice: Voice) -> Result<ExitCode, Failure> {
    let text = RootKey::generate().to_text();
    let Some(path) = out else {
        voice.say(&Made::RootKey(&text), &text);
        return Ok(Exit::Done.into());
    };
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let why = "what it seals would be lost with it, so it is not overwritten";
            Failure::said(Exit::Key, format!("there is a file at {} already; {why}", path.display()))
        }
        _ => Failure::because(Exit::Key, format!("the root key cannot be written to {}", path.display()), error),
    })?;
    let words = format!("The root key is in {}. Keep a copy where no backup of the database is.", path.display());
    voice.say(&Made::File(path), &words);
    Ok(Exit::Done.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_key_is_written_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        generate(Some(&path), Voice::Words).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(RootKey::from_text(&first).is_ok());
        let refused = generate(Some(&path), Voice::Words).unwrap_err();
        assert_eq!(refused.exit_code(), 5);
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }
}
