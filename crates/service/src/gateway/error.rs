//! Why an act did not pass, or what is not known of it.

use domain::{act::Over, id::ActId, provider::RecogniseError};
use store::StoreError;

use crate::{
    Refusal, UpstreamFault,
    custody::DoesNotOpen,
    health::{LeftAlone, Why},
    refresh::RefreshError,
};

/// Why an act did not pass, or what is not known of it.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// What every use case may be refused for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The mandate does not allow this, or not now.
    #[error("outside the mandate: {0}")]
    OutsideMandate(String),
    /// The request is none of the provider's declared actions.
    #[error("not an action of this provider")]
    NotAnAction(#[source] RecogniseError),
    /// A write or a send without a key.
    #[error("an idempotency key is needed")]
    KeyRequired,
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The same act is on its way.
    #[error("the same act is on its way")]
    InProgress(ActId),
    /// The same act was sent, and nobody knows what became of it; or this one was.
    #[error("it is not known what became of the act")]
    Ambiguous(ActId),
    /// The act ended, and its answer is no longer kept or was never one.
    #[error("the act has ended and its answer is not kept")]
    NotKept(ActId),
    /// A budget has no room.
    #[error("a budget has no room")]
    Over(Box<Over>),
    /// The stored credential does not open.
    #[error("the credential does not open")]
    CredentialUnavailable(#[source] DoesNotOpen),
    /// Only the owner can mend the connection.
    #[error("the owner must connect the account again")]
    ReconnectRequired,
    /// The provider, or this account at it, fails: it is left alone for a while.
    #[error("the provider is left alone for a while, because it fails")]
    ProviderUnavailable {
        /// After how many seconds another try has a chance.
        retry_after_s: u64,
    },
    /// The provider has said that this account does this too often, and until when.
    #[error("the provider's own limit for this account is reached")]
    ProviderRateLimited {
        /// How many seconds are left of that.
        retry_after_s: u64,
    },
    /// The provider failed. `act` is given where it may have had its effect.
    #[error("the provider failed")]
    Upstream {
        /// How.
        fault: UpstreamFault,
        /// What the call was at, where that is known.
        stage: Option<&'static str>,
        /// The act that is now ambiguous.
        act: Option<ActId>,
    },
}

impl From<StoreError> for ActError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<LeftAlone> for ActError {
    fn from(LeftAlone { why, retry_after_s }: LeftAlone) -> Self {
        match why {
            Why::Failing => Self::ProviderUnavailable { retry_after_s },
            Why::RateLimited => Self::ProviderRateLimited { retry_after_s },
        }
    }
}

impl From<RefreshError> for ActError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::ReconnectRequired => Self::ReconnectRequired,
            RefreshError::Unopened(cause) => Self::CredentialUnavailable(cause),
            RefreshError::Upstream(fault) => Self::Upstream { fault, stage: None, act: None },
            RefreshError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

/// Whether the workspace's facts alone made this refusal, and not the request.
pub(super) fn is_by_facts(error: &ActError) -> bool {
    matches!(
        error,
        ActError::Refused(Refusal::NotFound | Refusal::Forbidden)
            | ActError::OutsideMandate(_)
            | ActError::ReconnectRequired
    )
}

pub(super) fn outcome_word(error: &ActError) -> &'static str {
    match error {
        ActError::Refused(_) => "refused",
        ActError::OutsideMandate(_) => "outside_mandate",
        ActError::NotAnAction(_) => "not_an_action",
        ActError::KeyRequired | ActError::KeyReused => "key",
        ActError::InProgress(_) | ActError::NotKept(_) => "replay_refused",
        ActError::Over(_) => "over",
        ActError::ProviderUnavailable { .. } => "breaker_open",
        ActError::ProviderRateLimited { .. } => "provider_rate_limited",
        ActError::CredentialUnavailable(_) | ActError::ReconnectRequired => "credential",
        ActError::Upstream { act: Some(_), .. } | ActError::Ambiguous(_) => "ambiguous",
        ActError::Upstream { act: None, .. } => "not_sent",
    }
}
