//! Prefixed identifiers, one type a kind, so that a mandate's id cannot be handed where a connection's is wanted.
//!
//! An id is a version 7 UUID (RFC 9562 §5.7). Outside the database it is written as its kind's prefix, an underscore, and
//! 26 characters of Crockford's base 32 in lower case: `con_01jd8f…`. Nothing else parses.

mod ulid;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

pub use self::ulid::{RelationModelId, RelationStoreId, UlidError};
use crate::{clock::Clock, random};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 26;

/// The text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_ and 26 characters")]
pub struct IdError {
    prefix: &'static str,
}

/// What all kinds of id have in common.
pub trait Id: Copy + Eq + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The kind's prefix, without the underscore.
    const PREFIX: &'static str;
    /// The id as the database stores it.
    fn uuid(self) -> Uuid;
    /// The id that the database stored.
    fn from_uuid(uuid: Uuid) -> Self;
}

/// Makes a version 7 UUID from the given clock and fresh randomness.
pub fn new_uuid(clock: &Clock) -> Uuid {
    let millis = u64::try_from(clock.now().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random::bytes()).into_uuid()
}

/// The 26 characters of an id.
fn digits(uuid: Uuid) -> [u8; LENGTH] {
    let mut bits = uuid.as_u128();
    let mut text = [0_u8; LENGTH];
    for place in text.iter_mut().rev() {
        *place = ALPHABET.get((bits & 31) as usize).copied().unwrap_or(b'0');
        bits >>= 5;
    }
    text
}

/// Writes an id without a detour over the heap: an act writes some dozens of them.
fn write(f: &mut fmt::Formatter<'_>, prefix: &str, uuid: Uuid) -> fmt::Result {
    f.write_str(prefix)?;
    f.write_str("_")?;
    f.write_str(std::str::from_utf8(&digits(uuid)).map_err(|_| fmt::Error)?)
}

fn decode(text: &str) -> Option<Uuid> {
    // 26 characters carry 130 bits: the first may only be 0 to 7.
    if text.len() != LENGTH || text.as_bytes().first()? > &b'7' {
        return None;
    }
    text.bytes()
        .try_fold(0_u128, |bits, byte| {
            let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
            Some((bits << 5) | digit as u128)
        })
        .map(Uuid::from_u128)
}

/// What every kind of id is, however it is written: its own form is its `Display` and its `FromStr`.
macro_rules! of_uuid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: the clock's time, then 74 random bits.
            pub fn new(clock: &Clock) -> Self {
                Self(new_uuid(clock))
            }
        }

        impl Id for $name {
            const PREFIX: &'static str = $prefix;
            fn uuid(self) -> Uuid {
                self.0
            }
            fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
use of_uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        of_uuid!($(#[$doc])* $name, $prefix);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, $prefix, self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or(IdError { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

id!(
    /// A tenant: one customer of the operator.
    WorkspaceId, "ws"
);
id!(
    /// An account at a provider that an owner has entrusted to a workspace.
    ConnectionId, "con"
);
id!(
    /// What one grantee may do on one connection.
    MandateId, "man"
);
id!(
    /// One act, admitted by the ledger.
    ActId, "act"
);
id!(
    /// An API key (its public name, never the secret).
    KeyId, "key"
);
id!(
    /// A link that lets an owner connect an account.
    LinkId, "lnk"
);
id!(
    /// A person: the owner of connected accounts.
    AccountId, "acc"
);
id!(
    /// A limit on units in a window.
    BudgetId, "bud"
);
id!(
    /// An entry of the audit trail.
    AuditId, "aud"
);
id!(
    /// A queued piece of work.
    JobId, "job"
);
id!(
    /// One process that serves.
    NodeId, "node"
);
id!(
    /// One request, named in its answer, its log lines and its audit entries.
    RequestId, "req"
);
id!(
    /// A receipt of what an owner consented to.
    ConsentId, "cst"
);
id!(
    /// A workspace's data key.
    DataKeyId, "dk"
);
id!(
    /// A key of one person of the operator's (its public name, never the secret).
    OperatorId, "opr"
);
id!(
    /// A drill that ends connections of the whole installation.
    KillDrillId, "kd"
);
id!(
    /// An object of a type that the authorization model describes.
    ObjectId, "obj"
);
id!(
    /// A role template.
    RoleTemplateId, "rol"
);
id!(
    /// The installation itself. There is one in a database: see [`InstallationId::ONE`].
    InstallationId, "ins"
);

impl InstallationId {
    /// The installation of this database, as its head is called.
    pub const ONE: Self = Self(Uuid::nil());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_survives_being_written_and_read(bits: u128) {
            let id = ConnectionId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<ConnectionId>(), Ok(id));
        }

        #[test]
        fn one_text_one_id(text in "con_[0-9a-z]{26}") {
            if let Ok(id) = text.parse::<ConnectionId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn another_kind_or_form_does_not_parse() {
        let id = ConnectionId::new(&Clock::system()).to_string();
        assert!(id.parse::<MandateId>().is_err());
        assert!(id.to_uppercase().parse::<ConnectionId>().is_err());
        assert!("con_".parse::<ConnectionId>().is_err());
        assert!("con_80000000000000000000000000".parse::<ConnectionId>().is_err());
    }
}
