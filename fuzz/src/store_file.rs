//! A store file of a stranger, with nothing beside it.

use keyholder_storefile::{Beside, StoreFile};

/// Reads the bytes as a store file and runs it.
///
/// # Panics
/// Where one that was read does not come to the same twice, or is refused without a fault.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match StoreFile::read("fuzz.fga.yaml", &text, &Beside::nothing()) {
        Ok(store) => {
            let (first, second) = (store.run(), store.run());
            assert_eq!((first.passed, first.failures), (second.passed, second.failures));
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            // For YAML a carriage return by itself ends a line too (§5.4).
            let lines = u64::try_from(text.split(['\n', '\r']).count()).unwrap_or(u64::MAX);
            for fault in faults {
                assert!(fault.place.is_none_or(|(line, _)| line <= lines + 1), "{fault}");
            }
        }
    }
}
