//! Where a sealed value belongs: it opens there and nowhere else.
//!
//! A [`Binding`] is authenticated with every seal and stored with none. Whoever opens states it from what he knows by other
//! means (the permit, the row's key), so that a value that was moved to another row, field, tenant or environment does not open.
//! No part of it may be empty.

use std::{fmt, str::FromStr};

use domain::{
    environment::Environment,
    id::{ActId, ConnectionId, DataKeyId, Id, LinkId, WorkspaceId},
};

use crate::{aead::FORMAT, frames::Frames};

/// A provider's name is a short word; this bounds what a caller may hand over.
const PROVIDER_BYTES_MAX: usize = 128;

/// Which part of a connection's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The access token, or whatever is sent with each call.
    Access,
    /// The refresh token.
    Refresh,
}

/// The text names no field of a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a field of a credential: one of access, refresh")]
pub struct FieldError;

impl Field {
    /// The word in the database and in the binding. Changing one makes the credentials of that field unreadable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Field {
    type Err = FieldError;
    fn from_str(text: &str) -> Result<Self, FieldError> {
        [Self::Access, Self::Refresh].into_iter().find(|field| field.as_str() == text).ok_or(FieldError)
    }
}

/// The place within a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A connection's credential, which is sealed together with its permitted hosts and in no other way.
    Credential {
        /// The connection that it acts for.
        connection: ConnectionId,
        /// The provider's name, 1 to 128 bytes.
        provider: &'a str,
        /// Which of its parts.
        field: Field,
    },
    /// The stored answer of an act, kept for replays.
    Answer {
        /// The act that was answered.
        act: ActId,
    },
    /// The PKCE verifier of a connect link under way (RFC 7636).
    Verifier {
        /// The link.
        link: LinkId,
    },
}

/// A part of a binding is missing or out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// A part is empty, or the nil id.
    #[error("the binding's {0} is empty")]
    Empty(&'static str),
    /// The provider's name is longer than 128 bytes.
    #[error("the binding's provider has {0} bytes instead of at most {PROVIDER_BYTES_MAX}")]
    ProviderTooLong(usize),
}

/// The place of one sealed value, complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    environment: Environment,
    workspace: WorkspaceId,
    data_key: DataKeyId,
    place: Place<'a>,
}

impl<'a> Binding<'a> {
    /// Puts a place into its workspace, environment and data key.
    ///
    /// `workspace` comes from the permit and never from the sealed row or its key: the seal is to notice where they disagree.
    ///
    /// # Errors
    /// Where a part is empty or too long.
    pub fn new(
        environment: Environment,
        workspace: WorkspaceId,
        data_key: DataKeyId,
        place: Place<'a>,
    ) -> Result<Self, BindingError> {
        named("workspace", workspace)?;
        named("data key", data_key)?;
        match place {
            Place::Credential { connection, provider, .. } => {
                named("connection", connection)?;
                match provider.len() {
                    0 => return Err(BindingError::Empty("provider")),
                    1..=PROVIDER_BYTES_MAX => {}
                    long => return Err(BindingError::ProviderTooLong(long)),
                }
            }
            Place::Answer { act } => named("act", act)?,
            Place::Verifier { link } => named("link", link)?,
        }
        Ok(Self { environment, workspace, data_key, place })
    }

    /// The workspace that the value belongs to.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The data key that seals it.
    pub fn data_key(&self) -> DataKeyId {
        self.data_key
    }

    pub(crate) fn is_credential(&self) -> bool {
        matches!(self.place, Place::Credential { .. })
    }

    /// The bytes that are authenticated with the value.
    pub(crate) fn to_aad(self) -> Vec<u8> {
        if domain::sabotaged!(BoundSeals) {
            return Vec::new();
        }
        let frames = Frames::new("keyholder/sealed", FORMAT)
            .part(self.environment.as_str().as_bytes())
            .part(self.workspace.uuid().as_bytes())
            .part(self.data_key.uuid().as_bytes());
        match self.place {
            Place::Credential { connection, provider, field } => frames
                .part(b"credential")
                .part(connection.uuid().as_bytes())
                .part(provider.as_bytes())
                .part(field.as_str().as_bytes()),
            Place::Answer { act } => frames.part(b"answer").part(act.uuid().as_bytes()),
            Place::Verifier { link } => frames.part(b"verifier").part(link.uuid().as_bytes()),
        }
        .into_bytes()
    }
}

/// Refuses the nil id, which is how a forgotten one looks.
fn named(part: &'static str, id: impl Id) -> Result<(), BindingError> {
    if id.uuid().is_nil() { Err(BindingError::Empty(part)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::clock::Clock;

    /// The id that nothing has.
    fn nil<I: Id>(id: I) -> I {
        let mut uuid = id.uuid();
        let _ = std::mem::take(&mut uuid);
        I::from_uuid(uuid)
    }

    #[test]
    fn no_part_may_be_empty() {
        let clock = Clock::system();
        let (workspace, key) = (WorkspaceId::new(&clock), DataKeyId::new(&clock));
        let (connection, act, link) = (ConnectionId::new(&clock), ActId::new(&clock), LinkId::new(&clock));
        let credential = |connection, provider| Place::Credential { connection, provider, field: Field::Access };
        let long = "p".repeat(PROVIDER_BYTES_MAX + 1);
        let table = [
            (workspace, key, credential(connection, "x"), Ok(())),
            (workspace, key, credential(connection, &long[1..]), Ok(())),
            (workspace, key, Place::Answer { act }, Ok(())),
            (workspace, key, Place::Verifier { link }, Ok(())),
            (nil(workspace), key, Place::Answer { act }, Err(BindingError::Empty("workspace"))),
            (workspace, nil(key), Place::Answer { act }, Err(BindingError::Empty("data key"))),
            (workspace, key, credential(nil(connection), "x"), Err(BindingError::Empty("connection"))),
            (workspace, key, credential(connection, ""), Err(BindingError::Empty("provider"))),
            (workspace, key, credential(connection, &long), Err(BindingError::ProviderTooLong(129))),
            (workspace, key, Place::Answer { act: nil(act) }, Err(BindingError::Empty("act"))),
            (workspace, key, Place::Verifier { link: nil(link) }, Err(BindingError::Empty("link"))),
        ];
        for (workspace, key, place, expected) in table {
            let binding = Binding::new(Environment::Local, workspace, key, place);
            assert_eq!(binding.map(|_| ()), expected, "{place:?}");
        }
    }

    #[test]
    fn fields_are_written_and_read() {
        for field in [Field::Access, Field::Refresh] {
            assert_eq!(field.to_string().parse(), Ok(field));
        }
        assert_eq!("Access".parse::<Field>(), Err(FieldError));
    }
}
