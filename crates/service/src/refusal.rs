//! What any use case may be refused for, and what a provider may fail with.

use domain::problem::Fault;
use relation::Denied;
use store::StoreError;

/// A refusal that every use case shares.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No credential, or one that is not valid or no longer.
    #[error("the credential is not valid")]
    Unauthenticated,
    /// Too many requests.
    #[error("too many requests")]
    RateLimited {
        /// After how many seconds another has a chance.
        retry_after_s: u64,
        /// How many may come in a burst.
        limit: u32,
    },
    /// Not there, or not for this caller to know of.
    #[error("not found")]
    NotFound,
    /// Known, visible, and not allowed.
    #[error("not allowed")]
    Forbidden,
    /// The workspace's plan does not open it.
    #[error("the plan does not open `{feature}`")]
    PlanRequired {
        /// The feature.
        feature: String,
        /// The plans that open it, in the order in which they are configured.
        plans: Vec<String>,
    },
    /// Parsed, and wrong.
    #[error("the input is not valid")]
    Invalid(Vec<Fault>),
    /// Not supported by this version.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// It does not fit the state that the object is in.
    #[error("in conflict: {0}")]
    Conflict(&'static str),
    /// The workspace changed too often while this was on its way.
    #[error("the workspace changed meanwhile")]
    Stale,
    /// Keyholder cannot do this at the moment.
    #[error("not available")]
    Unavailable(#[source] Option<StoreError>),
    /// The provider's file was changed and not approved yet: nothing is sent to its hosts.
    #[error("the provider `{0}` is stopped until its changed file is approved")]
    ProviderNotMigrated(String),
    /// The connection's acts have stopped, and it is taken apart once its provider goes on: it could not be told that the grant ends.
    #[error(
        "the disconnection has begun and waits for the provider `{0}`, which is stopped until its changed file is approved"
    )]
    DisconnectionWaits(String),
    /// A fault of ours.
    #[error("an internal fault: {0}")]
    Internal(&'static str, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}

impl Refusal {
    /// A single fault of the input.
    pub fn invalid(pointer: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::at(pointer, message)])
    }

    /// A fault of ours, with its cause.
    pub fn internal(what: &'static str, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(what, Some(Box::new(cause)))
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotVisible => Self::NotFound,
            Denied::NotAllowed => Self::Forbidden,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stale => Self::Stale,
            StoreError::NotFound | StoreError::Shredding => Self::NotFound,
            StoreError::Conflict => Self::Conflict("it is there already, or what it needs is not"),
            StoreError::OldStatement => Self::Conflict("a newer statement was published before"),
            StoreError::KillDrill => {
                Self::Conflict("a kill drill runs: nothing is connected or put to use until it has ended")
            }
            StoreError::Unavailable(_) | StoreError::Busy | StoreError::RetiredEpoch => Self::Unavailable(Some(error)),
            StoreError::Corrupt(_) | StoreError::Database(_) => Self::internal("the database", error),
        }
    }
}

impl From<crate::tasks::BrokenOff> for Refusal {
    fn from(error: crate::tasks::BrokenOff) -> Self {
        Self::internal("a task", error)
    }
}

/// What a provider failed with, as far as a caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamFault {
    /// Nothing was sent: it could not be reached.
    Unreachable,
    /// It did not answer in time, or broke off.
    Timeout,
    /// It answered something that cannot be passed on: too large, encoded, not what was declared.
    Invalid,
}

impl UpstreamFault {
    /// What the failed call amounts to.
    pub(crate) fn of(error: &egress::SendError) -> Self {
        match error {
            egress::SendError::TooLarge { .. } | egress::SendError::Encoded { .. } => Self::Invalid,
            egress::SendError::Ambiguous { .. } => Self::Timeout,
            _ => Self::Unreachable,
        }
    }
}
