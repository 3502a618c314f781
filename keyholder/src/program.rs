//! The program itself: which bytes serve.
//!
//! Reads the file that this process was started from, also where another has taken its name since.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::OnceLock,
};

use aws_lc_rs::digest::{Context, SHA256};

/// How much is read at a time, in bytes.
const PIECE: usize = 1024 * 1024;

/// SHA-256 of this program, in hexadecimal; `None` where its file cannot be read. Worked out once: the first call may take a second, and
/// blocks its thread.
pub fn sha256() -> Option<String> {
    static DIGEST: OnceLock<Option<String>> = OnceLock::new();
    DIGEST.get_or_init(|| sha256_of(Path::new("/proc/self/exe")).ok()).clone()
}

/// The commit that this program was built from, in hexadecimal; `None` where that could not be known.
pub fn commit() -> Option<&'static str> {
    Some(env!("BUILT_FROM_COMMIT")).filter(|commit| !commit.is_empty())
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
