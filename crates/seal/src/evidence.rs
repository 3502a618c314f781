//! What the tests of this crate look at: other people's vectors, and the memory of this very process.

use std::{
    env,
    fs::{self, File},
    io::{ErrorKind, Write as _, stderr},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde_json::Value;

/// A file of the shared test material, which lies beside the project and not in it. `None` where it is not there, which is a
/// failure on the machines that judge.
pub(crate) fn vectors(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    match fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            #[expect(clippy::disallowed_methods, reason = "a test asks where it runs; no configuration is read")]
            let judged = env::var("CI").is_ok_and(|value| value == "true");
            assert!(!judged, "the vectors {name} are missing");
            // Past the harness, which would swallow the line of a test that passes.
            writeln!(stderr(), "not run: {name} is not beside the project").unwrap();
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The bytes of a hexadecimal string in a vector.
pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// A piece of this process's memory, read through the kernel and not through a reference.
///
/// It takes what memory it needs at the start: whatever is allocated later could be given the very piece that it looks at.
pub(crate) struct Watch {
    memory: File,
    address: u64,
    seen: Vec<u8>,
}

impl Watch {
    pub(crate) fn over(bytes: &[u8]) -> Self {
        let memory = File::open("/proc/self/mem").unwrap();
        Self { memory, address: bytes.as_ptr().addr() as u64, seen: vec![0; bytes.len()] }
    }

    /// What lies there now.
    pub(crate) fn look(&mut self) -> &[u8] {
        self.memory.read_exact_at(&mut self.seen, self.address).unwrap();
        &self.seen
    }
}
