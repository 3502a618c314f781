//! OpenFGA's store files (`….fga.yaml`): a model, its tuples and tests of both, read and run.
//!
//! Owns the form of these files and of the tuple files beside them. Never reads a file that is not beneath the store file's folder,
//! unless it is told to; never takes more than it has bounds for; and never guesses: what it does not understand is a fault with its
//! place, not a test that passes. What a store file means is what OpenFGA's own command line makes of it (`fga model test`).
//!
//! ```
//! use keyholder_storefile::{Beside, StoreFile};
//!
//! let text = "
//! model: |
//!   model
//!     schema 1.1
//!   type user
//!   type document
//!     relations
//!       define viewer: [user]
//! tuples:
//!   - { user: user:anne, relation: viewer, object: document:1 }
//! tests:
//!   - name: anne reads
//!     check:
//!       - { user: user:anne, object: document:1, assertions: { viewer: true } }
//! ";
//! let store = StoreFile::read("store.fga.yaml", text, &Beside::nothing())?;
//! let report = store.run();
//! assert_eq!((report.passed, report.failed()), (1, 0));
//! # Ok::<(), Vec<keyholder_storefile::Fault>>(())
//! ```

mod beside;
mod csv;
mod document;
mod fault;
mod model;
mod run;
mod store;
mod tuples;
mod yaml;

pub use beside::{Beside, FileError};
pub use fault::Fault;
pub use run::{Failure, Report};
pub use store::{FILE_BYTES, StoreFile};
