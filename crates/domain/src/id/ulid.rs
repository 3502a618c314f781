//! Ids that are written without a prefix, as ULIDs: 26 characters of Crockford's base 32 in upper case.
//!
//! OpenFGA's clients take no other form for a store and a model, and refuse what has another before they send it. The bits are those of
//! every id here, a version 7 UUID, whose first 48 bits are a ULID's: milliseconds since 1970.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{Id, LENGTH, decode, digits, new_uuid, of_uuid};
use crate::clock::Clock;

/// The text is not a ULID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID: 26 characters of 0-9 and A-Z without I, L, O and U")]
pub struct UlidError;

fn read(text: &str) -> Result<Uuid, UlidError> {
    let is_upper = text.len() == LENGTH && !text.bytes().any(|byte| byte.is_ascii_lowercase());
    is_upper.then(|| decode(&text.to_ascii_lowercase())).flatten().ok_or(UlidError)
}

macro_rules! ulid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        of_uuid!($(#[$doc])* $name, $prefix);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = digits(self.0).map(|digit| digit.to_ascii_uppercase());
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl FromStr for $name {
            type Err = UlidError;
            fn from_str(text: &str) -> Result<Self, UlidError> {
                read(text).map(Self)
            }
        }
    };
}

ulid!(
    /// A store of relations that a workspace keeps for its own application.
    RelationStoreId, "relation_store"
);
ulid!(
    /// One version of a relation store's model.
    RelationModelId, "relation_model"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_ulid_survives_being_written_and_read(bits: u128) {
            let id = RelationStoreId::from_uuid(Uuid::from_u128(bits));
            let text = id.to_string();
            prop_assert_eq!(text.parse::<RelationStoreId>(), Ok(id));
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()));
        }
    }

    #[test]
    fn another_form_does_not_parse() {
        let id = RelationStoreId::new(&Clock::system()).to_string();
        assert!(id.parse::<RelationModelId>().is_ok(), "the form is the same for both");
        for text in [id.to_lowercase(), format!("sto_{id}"), id.replacen('0', "O", 1), String::new(), "Z".repeat(26)] {
            assert!(text.parse::<RelationStoreId>().is_err(), "{text}");
        }
    }
}
