//! The steps, as data. Each is passed exactly once, through one hook that feeds the tracing span; tests stop or kill a node in it.

use std::sync::Arc;

/// A step of the corridor, or of a use case beside it that can be interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The caller's credential became a principal.
    Identify,
    /// The workspace's facts are at hand.
    Enter,
    /// The permit is minted.
    Permit,
    /// The input is valid.
    Inspect,
    /// The ledger is about to be asked.
    Admit,
    /// The act is durable; its credential is about to be opened.
    Open,
    /// The call is about to leave.
    Act,
    /// The answer is here, and nobody has seen it.
    Scrub,
    /// The outcome is about to be written.
    Settle,
    /// The refresh's intent is durable; the provider is about to be called.
    RefreshCall,
    /// The provider has answered the refresh; the new credential is about to be stored.
    RefreshStore,
    /// The callback's state is spent; the code is about to be exchanged.
    ConnectExchange,
    /// The new credential is sealed; it is about to be stored.
    ConnectStore,
    /// Acts on the connection have stopped; the provider is about to be told.
    DisconnectRevoke,
    /// The provider has been told; the credential is about to be deleted.
    DisconnectDelete,
}

impl Step {
    /// The word in spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Enter => "enter",
            Self::Permit => "permit",
            Self::Inspect => "inspect",
            Self::Admit => "admit",
            Self::Open => "open",
            Self::Act => "act",
            Self::Scrub => "scrub",
            Self::Settle => "settle",
            Self::RefreshCall => "refresh.call",
            Self::RefreshStore => "refresh.store",
            Self::ConnectExchange => "connect.exchange",
            Self::ConnectStore => "connect.store",
            Self::DisconnectRevoke => "disconnect.revoke",
            Self::DisconnectDelete => "disconnect.delete",
        }
    }
}

/// What is called at each step.
#[derive(Clone, Default)]
pub struct Hook(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Hook {
    /// A hook that calls this.
    pub fn new(call: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(call)))
    }

    pub(crate) fn pass(&self, step: Step) {
        tracing::Span::current().record("step", step.as_str());
        tracing::debug!(step = step.as_str());
        if let Some(call) = &self.0 {
            call(step);
        }
    }
}
