//! Refusals as the world sees them: RFC 9457 problem types. Each kind has one stable URN, one title and one status.

/// The kinds of problem. Their URNs are part of the API and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No credential, or one that is not valid.
    Unauthenticated,
    /// Too many requests in a short time.
    RateLimited,
    /// Not there, or not for this caller to know of.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// Known, visible, and not allowed.
    Forbidden,
    /// The workspace's plan does not open it.
    PlanRequired,
    /// A browser sent it from a page of an origin that is not listed.
    OriginNotAllowed,
    /// It is for a host that this server does not answer for.
    Misdirected,
    /// It came in the clear to the proxy that passed it on.
    InTheClear,
    /// It says something twice, or in a way that could be read in two.
    MalformedRequest,
    /// Its address is longer than is read.
    UriTooLong,
    /// Its head has more fields or bytes than are read.
    HeadTooLarge,
    /// Its head or its body did not come in time.
    RequestTimeout,
    /// The body is not what its content type says, has a field twice, or is too deep.
    InvalidJson,
    /// The content type is not one that this route takes.
    UnsupportedMediaType,
    /// The body is larger than this route takes.
    BodyTooLarge,
    /// Parsed, and wrong: each fault is listed.
    InvalidInput,
    /// Something that this version does not do, and will not pretend to.
    Unsupported,
    /// A write or a send without an idempotency key.
    IdempotencyKeyRequired,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The same act is on its way.
    ActInProgress,
    /// The same act was sent, and nobody knows what became of it.
    ActAmbiguous,
    /// The workspace changed while the request was on its way, more often than it was tried again.
    Stale,
    /// The request does not fit the state that the object is in.
    Conflict,
    /// A statement that is not signed by a trusted key, or not one for this installation and this hour.
    StatementRefused,
    /// A statement that was published before, or is older than one that was.
    StatementReplayed,
    /// A budget has no room.
    BudgetExceeded,
    /// The mandate does not allow this.
    OutsideMandate,
    /// The stored credential does not open.
    CredentialUnavailable,
    /// The provider no longer accepts the credential; the owner must consent again.
    ReconnectRequired,
    /// The provider's file was changed and not approved yet: nothing is sent to its hosts.
    ProviderNotMigrated,
    /// The provider, or this account at it, fails, and is left alone for a while: nothing was sent or taken.
    ProviderUnavailable,
    /// The provider has said that this account does this too often, and until when: nothing was sent or taken.
    ProviderRateLimited,
    /// The provider could not be reached: nothing was sent.
    UpstreamUnreachable,
    /// The provider did not answer in time, or broke off.
    UpstreamTimeout,
    /// The provider's answer was not one that can be passed on.
    UpstreamInvalid,
    /// Keyholder cannot do this at the moment.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// All of them, for the documentation.
    pub const ALL: [Self; 38] = [
        Self::Unauthenticated,
        Self::RateLimited,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Forbidden,
        Self::PlanRequired,
        Self::OriginNotAllowed,
        Self::Misdirected,
        Self::InTheClear,
        Self::MalformedRequest,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::RequestTimeout,
        Self::InvalidJson,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::InvalidInput,
        Self::Unsupported,
        Self::IdempotencyKeyRequired,
        Self::IdempotencyKeyReused,
        Self::ActInProgress,
        Self::ActAmbiguous,
        Self::Stale,
        Self::Conflict,
        Self::StatementRefused,
        Self::StatementReplayed,
        Self::BudgetExceeded,
        Self::OutsideMandate,
        Self::CredentialUnavailable,
        Self::ReconnectRequired,
        Self::ProviderNotMigrated,
        Self::ProviderUnavailable,
        Self::ProviderRateLimited,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::UpstreamInvalid,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The last part of the URN `urn:keyholder:problem:…`, the HTTP status, and the title.
    pub fn describe(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::Unauthenticated => ("unauthenticated", 401, "A valid credential is needed"),
            Self::RateLimited => ("rate-limited", 429, "Too many requests"),
            Self::NotFound => ("not-found", 404, "Not found"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "This method is not allowed here"),
            Self::Forbidden => ("forbidden", 403, "Not allowed"),
            Self::PlanRequired => ("plan-required", 403, "The workspace's plan does not open this"),
            Self::OriginNotAllowed => ("origin-not-allowed", 403, "Requests from pages of this origin are not taken"),
            Self::Misdirected => ("misdirected", 421, "This server does not answer for that host"),
            Self::InTheClear => ("in-the-clear", 400, "This must be asked over HTTPS"),
            Self::MalformedRequest => ("malformed-request", 400, "The request could be read in two ways"),
            Self::UriTooLong => ("uri-too-long", 414, "The address is too long"),
            Self::HeadTooLarge => ("head-too-large", 431, "The request's head is too large"),
            Self::RequestTimeout => ("request-timeout", 408, "The request did not come in time"),
            Self::InvalidJson => ("invalid-json", 400, "The body is not valid JSON"),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "This content type is not accepted"),
            Self::BodyTooLarge => ("body-too-large", 413, "The body is too large"),
            Self::InvalidInput => ("invalid-input", 422, "The input is not valid"),
            Self::Unsupported => ("unsupported", 422, "This is not supported"),
            Self::IdempotencyKeyRequired => ("idempotency-key-required", 400, "An Idempotency-Key is needed"),
            Self::IdempotencyKeyReused => {
                ("idempotency-key-reused", 422, "The Idempotency-Key was used for another request")
            }
            Self::ActInProgress => ("act-in-progress", 409, "The same act is on its way"),
            Self::ActAmbiguous => ("act-ambiguous", 409, "It is not known what became of this act"),
            Self::Stale => ("stale", 409, "The workspace changed meanwhile"),
            Self::Conflict => ("conflict", 409, "The request does not fit the present state"),
            Self::StatementRefused => ("statement-refused", 422, "The statement is not one that can be shown here"),
            Self::StatementReplayed => ("statement-replayed", 409, "A newer statement was published before"),
            Self::BudgetExceeded => ("budget-exceeded", 429, "A budget has no room"),
            Self::OutsideMandate => ("outside-mandate", 403, "The mandate does not allow this"),
            Self::CredentialUnavailable => ("credential-unavailable", 503, "The credential cannot be opened"),
            Self::ReconnectRequired => ("reconnect-required", 503, "The owner must connect the account again"),
            Self::ProviderNotMigrated => {
                ("provider-not-migrated", 503, "The provider waits for its operator's approval")
            }
            Self::ProviderUnavailable => {
                ("provider-unavailable", 503, "The provider is left alone for a while, because it fails")
            }
            Self::ProviderRateLimited => {
                ("provider-rate-limited", 429, "The provider's own limit for this account is reached")
            }
            Self::UpstreamUnreachable => ("upstream-unreachable", 502, "The provider could not be reached"),
            Self::UpstreamTimeout => ("upstream-timeout", 504, "The provider did not answer in time"),
            Self::UpstreamInvalid => ("upstream-invalid", 502, "The provider's answer cannot be passed on"),
            Self::Unavailable => ("unavailable", 503, "Not available at the moment"),
            Self::Internal => ("internal", 500, "An internal fault"),
        }
    }

    /// The whole URN.
    pub fn urn(self) -> String {
        format!("urn:keyholder:problem:{}", self.describe().0)
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.describe().1
    }
}

/// One fault of an input: where (a JSON pointer, RFC 6901) and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the input.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl Fault {
    /// A fault at a place.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_its_own_urn() {
        let urns: BTreeSet<_> = Kind::ALL.into_iter().map(Kind::urn).collect();
        assert_eq!(urns.len(), Kind::ALL.len());
    }
}
