//! What somebody has looked at who compared the crates of a build with an advisory database: said as data, so that a build of other crates
//! does not live off it.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

/// What a person compared with what, when he says that no advisory applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Audit {
    /// SHA-256 of the lock file that he looked at, in hexadecimal: `sha256sum Cargo.lock`.
    pub lock_sha256: String,
    /// The advisory database that he compared it with: which one, at which commit or of which day; or that none could be reached.
    pub database: String,
}

impl Audit {
    /// Whether he looked at what this program is made of.
    pub fn is_of_this_build(&self) -> bool {
        self.lock_sha256 == lock_sha256()
    }
}

/// SHA-256 of the lock file from which this program was built, in hexadecimal.
pub fn lock_sha256() -> &'static str {
    static DIGEST: LazyLock<String> =
        LazyLock::new(|| hex::encode(digest(&SHA256, include_bytes!("../../../../Cargo.lock"))));
    &DIGEST
}
