//! Who acts. Every request, job and callback runs as one [`Principal`], and the audit trail names it.

use std::{fmt, fmt::Write};

use time::OffsetDateTime;

use crate::id::{
    AccountId, ConnectionId, KeyId, KillDrillId, LinkId, OperatorId, RelationStoreId, RequestId, WorkspaceId,
};

/// Room for most references: a kind, a prefix, 26 characters.
const REFERENCE: usize = 48;

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Means {
    /// A key that was shown once and is stored as a hash.
    ApiKey,
    /// A password.
    Password,
    /// A password and a time-based one-time code (RFC 6238).
    PasswordAndTotp,
    /// A passkey (`WebAuthn`).
    Passkey,
    /// An outside identity provider's word.
    External,
    /// Consent at the provider, which proves control of the connected account.
    ProviderConsent,
    /// A login on the machine that holds the root key.
    Host,
    /// A key of the operator's, of a person or of what publishes statements, shown once and stored as a hash.
    OperatorKey,
    /// Keyholder itself, for a cause that it names.
    Internal,
}

impl Means {
    /// The word in audit entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Password => "password",
            Self::PasswordAndTotp => "password+totp",
            Self::Passkey => "passkey",
            Self::External => "external",
            Self::ProviderConsent => "provider_consent",
            Self::Host => "host",
            Self::OperatorKey => "operator_key",
            Self::Internal => "internal",
        }
    }
}

/// Why Keyholder acts by itself. A cause can do only what the authorizer lists for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// An owner came back from the provider with this link's state.
    ConnectCallback(LinkId),
    /// A credential is about to expire.
    Refresh(ConnectionId),
    /// A consent was renewed; what it replaced is given back.
    Retire(ConnectionId),
    /// An interrupted disconnection is finished.
    Disconnect(ConnectionId),
    /// Two persons have ended the installation's connections.
    KillDrill(KillDrillId),
    /// The installation's own limits are written from its configuration.
    Configuration,
    /// Acts that nobody settled become ambiguous; what has expired is removed.
    Sweep,
    /// Data keys are wrapped under a newer epoch, or give way to new ones.
    Rotation,
    /// The rows of a relation store go that was deleted.
    PurgeStore(RelationStoreId),
}

impl Cause {
    /// The word in audit entries and in tuples.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectCallback(_) => "connect_callback",
            Self::Refresh(_) => "refresh",
            Self::Retire(_) => "retire",
            Self::Disconnect(_) => "disconnect",
            Self::KillDrill(_) => "kill_drill",
            Self::Configuration => "configuration",
            Self::Sweep => "sweep",
            Self::Rotation => "rotation",
            Self::PurgeStore(_) => "purge_store",
        }
    }
}

/// The kinds of principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A person with an account here.
    Account(AccountId),
    /// A back end.
    ApiKey {
        /// The key's public id.
        key: KeyId,
        /// The workspace that the key belongs to.
        workspace: WorkspaceId,
    },
    /// A third-party application, by an OAuth token that we issued.
    App {
        /// The application's client id.
        client: String,
        /// The workspace that granted it.
        workspace: WorkspaceId,
        /// The scopes of the token.
        scopes: Vec<String>,
    },
    /// Somebody whom an outside identity provider vouches for.
    External {
        /// The provider's issuer identifier (RFC 8414).
        issuer: String,
        /// The provider's name for the person.
        subject: String,
    },
    /// A person of the operator's: at the machine, or by a key of his own. `Means` tells which.
    Operator(String),
    /// A run of the operator's that publishes statements and does nothing else, by a key of its own. It is no person.
    StatementPublisher(String),
    /// Keyholder itself.
    System(Cause),
}

/// One who acts, and how that was established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who it is.
    pub identity: Identity,
    /// The session in which it acts, where there is one.
    pub session: Option<String>,
    /// When it proved who it is.
    pub authenticated_at: OffsetDateTime,
    /// How it proved who it is.
    pub means: Means,
    /// The request in which it acts, where there is one: the audit trail names it.
    pub request: Option<RequestId>,
}

impl Principal {
    /// A back end with an API key.
    pub fn api_key(key: KeyId, workspace: WorkspaceId, now: OffsetDateTime) -> Self {
        Self {
            identity: Identity::ApiKey { key, workspace },
            session: None,
            authenticated_at: now,
            means: Means::ApiKey,
            request: None,
        }
    }

    /// Keyholder itself.
    pub fn system(cause: Cause, now: OffsetDateTime) -> Self {
        Self {
            identity: Identity::System(cause),
            session: None,
            authenticated_at: now,
            means: Means::Internal,
            request: None,
        }
    }

    /// A person of the operator's, at the machine that holds the root key.
    pub fn operator(name: &str, now: OffsetDateTime) -> Self {
        Self {
            identity: Identity::Operator(name.to_owned()),
            session: None,
            authenticated_at: now,
            means: Means::Host,
            request: None,
        }
    }

    /// A person of the operator's who shows a key of his own. The person is the name; the key, which he may have several of, is the
    /// session.
    pub fn named_operator(name: String, key: OperatorId, now: OffsetDateTime) -> Self {
        Self {
            identity: Identity::Operator(name),
            session: Some(key.to_string()),
            authenticated_at: now,
            means: Means::OperatorKey,
            request: None,
        }
    }

    /// A run of the operator's that publishes statements, by a key of its own.
    pub fn statement_publisher(name: String, key: OperatorId, now: OffsetDateTime) -> Self {
        Self {
            identity: Identity::StatementPublisher(name),
            session: Some(key.to_string()),
            authenticated_at: now,
            means: Means::OperatorKey,
            request: None,
        }
    }

    /// The same principal, in this request.
    #[must_use]
    pub fn in_request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// The workspace that the credential itself names; a person has none until membership is looked up.
    pub fn workspace(&self) -> Option<WorkspaceId> {
        match &self.identity {
            Identity::ApiKey { workspace, .. } | Identity::App { workspace, .. } => Some(*workspace),
            Identity::Account(_)
            | Identity::External { .. }
            | Identity::Operator(_)
            | Identity::StatementPublisher(_)
            | Identity::System(_) => None,
        }
    }

    /// The principal as tuples, budgets, idempotency keys and audit entries write it: `type:id`.
    pub fn reference(&self) -> String {
        let mut text = String::with_capacity(REFERENCE);
        // A string takes whatever is written to it.
        let _ = write!(text, "{self}");
        text
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Identity::Account(account) => write!(f, "account:{account}"),
            Identity::ApiKey { key, .. } => write!(f, "api_key:{key}"),
            Identity::App { client, .. } => write!(f, "app:{client}"),
            Identity::External { issuer, subject } => write!(f, "external:{issuer}|{subject}"),
            Identity::Operator(name) => write!(f, "operator:{name}"),
            Identity::StatementPublisher(name) => write!(f, "statement_publisher:{name}"),
            Identity::System(cause) => write!(f, "system:{}", cause.as_str()),
        }
    }
}
