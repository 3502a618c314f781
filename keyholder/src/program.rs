//! The program itself: which bytes serve.
//!
//! Reads the file that this process was started from, also where another has taken its name since.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::OnceLock,
};

use aws_lc_rs::digest::{Context, SHA256};

/// How much is read at a time, in bytes.
const PIECE: usize = 1024 * 1024;

/// The file that this process was started from, also where another has taken its name since (proc(5)).
const RUNNING: &str = "/proc/self/exe";

/// SHA-256 of this program, in hexadecimal; `None` where its file cannot be read. Worked out once: the first call may take a second, and
/// blocks its thread.
pub fn sha256() -> Option<String> {
    static DIGEST: OnceLock<Option<String>> = OnceLock::new();
    DIGEST.get_or_init(|| sha256_of(Path::new(RUNNING)).ok()).clone()
}

/// The commit that this program was built from, in hexadecimal; `None` where that could not be known.
pub fn commit() -> Option<&'static str> {
    Some(env!("BUILT_FROM_COMMIT")).filter(|commit| !commit.is_empty())
}

/// Whether something that this program is made of was changed in the checkout that it was built from: it is of no commit, whatever anybody
/// says.
pub fn is_of_changed_sources() -> bool {
    !env!("BUILT_FROM_CHANGED").is_empty()
}

/// Whether a path leads to this very program: to the file that this process was started from, or to another of the same bytes. Where it is
/// another file this may take a second, and blocks its thread.
pub fn is_at(path: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let running = file(Path::new(RUNNING));
    // Nobody writes to a file while it runs.
    (running.is_some() && running == file(path)) || sha256().is_some_and(|own| sha256_of(path).ok() == Some(own))
}

/// SHA-256 of a program file, in hexadecimal.
///
/// # Errors
/// Where it cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut program = File::open(path)?;
    let (mut context, mut piece) = (Context::new(&SHA256), vec![0; PIECE]);
    loop {
        let read = program.read(&mut piece)?;
        if read == 0 {
            return Ok(hex::encode(context.finish()));
        }
        context.update(piece.get(..read).unwrap_or_default());
    }
}

/// Whether these bytes are in a program file.
///
/// # Errors
/// Where it cannot be read.
pub fn has(path: &Path, mark: &[u8]) -> io::Result<bool> {
    let (mut program, mut piece, mut seen) = (File::open(path)?, vec![0; PIECE], Vec::new());
    loop {
        let read = program.read(&mut piece)?;
        if read == 0 {
            return Ok(false);
        }
        seen.extend_from_slice(piece.get(..read).unwrap_or_default());
        if seen.windows(mark.len().max(1)).any(|window| window == mark) {
            return Ok(true);
        }
        // It may lie across two pieces.
        seen.drain(..seen.len().saturating_sub(mark.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_the_bytes_that_run() {
        let path = std::env::current_exe().unwrap();
        let all = aws_lc_rs::digest::digest(&SHA256, &std::fs::read(path).unwrap());
        assert_eq!(sha256(), Some(hex::encode(all)));
    }

    #[test]
    fn a_path_leads_to_this_program_as_long_as_its_bytes_are_there() {
        let own = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
        let path = folder.path().join("program");
        assert!(is_at(&own) && !is_at(&path));
        fs::hard_link(&own, &path).unwrap();
        assert!(is_at(&path));
        let copy = folder.path().join("copy");
        fs::copy(&own, &copy).unwrap();
        assert!(is_at(&copy));
        fs::OpenOptions::new().append(true).open(&copy).unwrap().set_len(1).unwrap();
        fs::rename(&copy, &path).unwrap();
        assert!(!is_at(&path));
    }

    #[test]
    fn a_mark_is_found_also_across_two_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let mut bytes = vec![0; PIECE - 2];
        bytes.extend_from_slice(b"mark");
        std::fs::write(&path, &bytes).unwrap();
        assert!(has(&path, b"mark").unwrap());
        assert!(!has(&path, b"marl").unwrap());
    }
}
