//! Sealing and opening: the only two ways between [`Plain`] and [`Sealed`].
//!
//! A value opens under the data key and the [`Binding`] that it was sealed under, whole, or not at all.

use std::fmt;

use crate::{
    aead::{self, Failed, Refusal},
    binding::Binding,
    data_key::DataKey,
    plain::Plain,
};

/// What the database keeps: one byte of format, a 12-byte nonce, the ciphertext, a 16-byte tag; or, for a credential of an
/// installation that says so, the text of a Fernet token.
///
/// It shows its length only, since it is nothing to read.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes what was stored. Whether it is anything is told by opening it.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What is to be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is to be stored, by value.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Why a value was not sealed. All but `Cipher` are faults of the calling code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The binding names another workspace or another data key than the key's own.
    #[error("the binding names another workspace or data key than the one at hand")]
    OtherKey,
    /// A credential without its hosts, or hosts with something that is not a credential.
    #[error("a credential is sealed with its hosts, and nothing else is")]
    OtherKind,
    /// The list of permitted hosts is empty, or longer than allowed.
    #[error("a credential has 1 to {max} permitted hosts, not {0}", max = crate::HOSTS_MAX)]
    Hosts(usize),
    /// The permitted host of this place in the list is not one.
    #[error("permitted host {0} is not 1 to {max} visible ASCII characters in lower case", max = crate::HOST_BYTES_MAX)]
    Host(usize),
    /// The secret is empty or too long.
    #[error("a credential's secret has 1 to {max} bytes, not {0}", max = crate::SECRET_BYTES_MAX)]
    Secret(usize),
    /// The cryptographic library failed.
    #[error("the cipher failed")]
    Cipher,
}

impl From<Failed> for SealError {
    fn from(_: Failed) -> Self {
        Self::Cipher
    }
}

/// Why a value did not open. No message tells anything of what is inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The binding names another workspace or another data key than the key's own.
    #[error("the binding names another workspace or data key than the one at hand")]
    OtherKey,
    /// A credential is opened by `open_credential` and everything else by `open`.
    #[error("the place holds another kind of value")]
    OtherKind,
    /// Sealed by a version that this one does not know.
    #[error("sealed in format {0}, which this version does not know")]
    Format(u8),
    /// Too short to have been sealed.
    #[error("too short to be a sealed value")]
    Short,
    /// Changed bytes, another key, or another place: it cannot be told which.
    #[error("does not open here: it was changed, or it belongs to another place or key")]
    Refused,
    /// It opened, and is not the credential that was to be inside.
    #[error("opened, but its contents are malformed")]
    Contents,
}

impl From<Refusal> for OpenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Short => Self::Short,
            Refusal::Format(format) => Self::Format(format),
            Refusal::Tag => Self::Refused,
        }
    }
}

/// Seals a value that is not a credential, in its place. The plaintext is spent, and wiped.
///
/// # Errors
/// `OtherKey` where the binding does not name this key, `OtherKind` for the place of a credential, `Cipher`.
pub fn seal(key: &DataKey, binding: &Binding<'_>, plain: Plain) -> Result<Sealed, SealError> {
    if binding.is_credential() {
        return Err(SealError::OtherKind);
    }
    seal_in_place(key, binding, plain)
}

/// Opens what [`seal`] made under the same key and binding.
///
/// # Errors
/// Where it does not open, and as far as it can be told why.
pub fn open(key: &DataKey, binding: &Binding<'_>, sealed: &Sealed) -> Result<Plain, OpenError> {
    if binding.is_credential() {
        return Err(OpenError::OtherKind);
    }
    open_in_place(key, binding, sealed)
}

pub(crate) fn seal_in_place(key: &DataKey, binding: &Binding<'_>, plain: Plain) -> Result<Sealed, SealError> {
    if !key.is_of(binding) {
        return Err(SealError::OtherKey);
    }
    Ok(Sealed(aead::seal(key.key(), &binding.to_aad(), &plain.into_exposed())?))
}

pub(crate) fn open_in_place(key: &DataKey, binding: &Binding<'_>, sealed: &Sealed) -> Result<Plain, OpenError> {
    if !key.is_of(binding) {
        return Err(OpenError::OtherKey);
    }
    Ok(Plain::from(aead::open(key.key(), &binding.to_aad(), &sealed.0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Place;
    use domain::{
        clock::Clock,
        environment::Environment,
        id::{ActId, DataKeyId, Id as _, LinkId, WorkspaceId},
    };
    use proptest::prelude::*;
    use std::collections::HashSet;

    struct Room {
        key: DataKey,
        place: Place<'static>,
    }

    impl Room {
        fn new() -> Self {
            let clock = Clock::system();
            let place = Place::Answer { act: ActId::new(&clock) };
            Self { key: DataKey::generate(WorkspaceId::new(&clock), &clock), place }
        }

        fn binding(&self) -> Binding<'static> {
            Binding::new(Environment::Local, self.key.workspace(), self.key.id(), self.place).unwrap()
        }

        fn seal(&self, plain: &[u8]) -> Sealed {
            seal(&self.key, &self.binding(), Plain::new(plain.to_vec())).unwrap()
        }

        fn open(&self, sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
            open(&self.key, &self.binding(), sealed).map(|plain| plain.into_exposed().to_vec())
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(plain in prop::collection::vec(any::<u8>(), 0..2000)) {
            let room = Room::new();
            let sealed = room.seal(&plain);
            prop_assert_eq!(sealed.as_bytes().len(), 1 + 12 + plain.len() + 16);
            prop_assert_eq!(room.open(&Sealed::from_bytes(sealed.into_bytes())), Ok(plain));
        }

        #[test]
        fn the_plaintext_is_not_in_the_sealed_bytes(plain in prop::collection::vec(any::<u8>(), 8..100)) {
            let sealed = Room::new().seal(&plain);
            prop_assert!(!sealed.as_bytes().windows(8).any(|run| plain.windows(8).any(|part| part == run)));
        }

        #[test]
        fn no_flipped_bit_and_no_shorter_or_longer_form_opens(
            plain in prop::collection::vec(any::<u8>(), 0..24), tail: u8,
        ) {
            let room = Room::new();
            let bytes = room.seal(&plain).into_bytes();
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let error = room.open(&Sealed::from_bytes(flipped)).unwrap_err();
                prop_assert_eq!(matches!(error, OpenError::Format(_)), bit < 8);
                prop_assert!(bit < 8 || error == OpenError::Refused);
            }
            for length in 0..bytes.len() {
                prop_assert!(room.open(&Sealed::from_bytes(bytes[..length].to_vec())).is_err());
            }
            prop_assert!(room.open(&Sealed::from_bytes([&bytes[..], &[tail]].concat())).is_err());
        }
    }

    #[test]
    fn every_seal_has_its_own_nonce() {
        let room = Room::new();
        let nonces: HashSet<_> = (0..10_000).map(|_| room.seal(b"same").as_bytes()[1..13].to_vec()).collect();
        assert_eq!(nonces.len(), 10_000);
        assert!((0..12).all(|at| nonces.iter().any(|nonce| nonce[at] != nonces.iter().next().unwrap()[at])));
    }

    #[test]
    fn the_same_value_in_another_place_does_not_open() {
        let clock = Clock::system();
        let room = Room::new();
        let (workspace, id, place) = (room.key.workspace(), room.key.id(), room.place);
        let sealed = room.seal(b"answer");
        let bound = |environment, workspace, id, place| Binding::new(environment, workspace, id, place).unwrap();
        let Place::Answer { act } = place else { unreachable!() };
        let link = LinkId::from_uuid(act.uuid());
        let table = [
            ("nothing", bound(Environment::Local, workspace, id, place), None),
            ("environment", bound(Environment::Staging, workspace, id, place), Some(OpenError::Refused)),
            ("environment", bound(Environment::Production, workspace, id, place), Some(OpenError::Refused)),
            ("workspace", bound(Environment::Local, WorkspaceId::new(&clock), id, place), Some(OpenError::OtherKey)),
            (
                "data key",
                bound(Environment::Local, workspace, DataKeyId::new(&clock), place),
                Some(OpenError::OtherKey),
            ),
            (
                "act",
                bound(Environment::Local, workspace, id, Place::Answer { act: ActId::new(&clock) }),
                Some(OpenError::Refused),
            ),
            ("kind", bound(Environment::Local, workspace, id, Place::Verifier { link }), Some(OpenError::Refused)),
        ];
        for (part, binding, expected) in table {
            assert_eq!(open(&room.key, &binding, &sealed).err(), expected, "{part}");
        }
    }

    #[test]
    fn the_cipher_itself_refuses_another_workspace_or_key() {
        // Past the comparison of names: the same key material under the names of another tenant.
        let clock = Clock::system();
        let room = Room::new();
        let sealed = room.seal(b"answer");
        let table = [
            (room.key.workspace(), room.key.id(), None),
            (WorkspaceId::new(&clock), room.key.id(), Some(OpenError::Refused)),
            (room.key.workspace(), DataKeyId::new(&clock), Some(OpenError::Refused)),
        ];
        for (workspace, id, expected) in table {
            let key = room.key.renamed(workspace, id);
            let binding = Binding::new(Environment::Local, workspace, id, room.place).unwrap();
            assert_eq!(open(&key, &binding, &sealed).err(), expected);
        }
    }

    #[test]
    fn another_key_or_its_name_alone_seals_and_opens_nothing() {
        let (room, other) = (Room::new(), Room::new());
        let sealed = room.seal(b"answer");
        assert_eq!(open(&other.key, &room.binding(), &sealed).err(), Some(OpenError::OtherKey));
        let plain = Plain::new(b"answer".to_vec());
        assert_eq!(seal(&other.key, &room.binding(), plain).unwrap_err(), SealError::OtherKey);
        // A key of the same name and workspace with other bytes: only the tag tells.
        let stranger = other.key.renamed(room.key.workspace(), room.key.id());
        assert_eq!(open(&stranger, &room.binding(), &sealed).err(), Some(OpenError::Refused));
    }

    #[test]
    fn sealed_bytes_are_not_printed() {
        let sealed = Sealed::from_bytes(vec![0x41; 61]);
        assert_eq!(format!("{sealed:?}"), "Sealed(61 bytes)");
    }
}
