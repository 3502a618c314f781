//! The steps, as data. Each is passed through one hook that feeds the tracing span; tests stop or kill a node in it.
//!
//! Owns the list and nothing that happens in a step. The fault matrix walks [`Step::ALL`]: a step that is not on the list does not
//! exist, and a step that no test interrupts fails it.

use std::sync::Arc;

/// The use case that a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UseCase {
    /// The corridor: from a caller's request to a settled outcome.
    Act,
    /// The one call that renews a credential.
    Refresh,
    /// From the platform's callback to a stored connection.
    Connect,
    /// From the end of a connection to its certificate.
    Disconnect,
}

/// Writes the enumeration, the list of all and their words from one table, so that they cannot differ.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $word:literal of $use_case:ident;)*) => {
        /// A step of the corridor, or of a use case beside it that can be interrupted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            /// Every step, in the order in which the use cases pass them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in spans.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The use case that it is a step of.
            pub fn use_case(self) -> UseCase {
                match self { $(Self::$name => UseCase::$use_case,)* }
            }
        }
    };
}

steps! {
    /// The caller's credential became a principal.
    Identify = "identify" of Act;
    /// The workspace's facts are at hand.
    Enter = "enter" of Act;
    /// The permit is minted.
    Permit = "permit" of Act;
    /// The input is valid.
    Inspect = "inspect" of Act;
    /// The ledger is about to be asked.
    Admit = "admit" of Act;
    /// The act is durable; its credential is about to be opened.
    Open = "open" of Act;
    /// The call is about to leave.
    Act = "act" of Act;
    /// The answer is here, and nobody has seen it.
    Scrub = "scrub" of Act;
    /// The outcome is about to be written.
    Settle = "settle" of Act;
    /// The refresh's intent is durable; the provider is about to be called.
    RefreshCall = "refresh.call" of Refresh;
    /// The provider has answered the refresh; the answer is sealed and durable in the state folder, and about to be stored.
    RefreshStore = "refresh.store" of Refresh;
    /// The new credential is stored; its copy in the state folder is about to be removed.
    RefreshClear = "refresh.clear" of Refresh;
    /// The callback's state is spent; the code is about to be exchanged.
    ConnectExchange = "connect.exchange" of Connect;
    /// The new credential is sealed; it is about to be stored.
    ConnectStore = "connect.store" of Connect;
    /// Acts on the connection have stopped; the provider is about to be told.
    DisconnectRevoke = "disconnect.revoke" of Disconnect;
    /// The provider has been told; the credential is about to be deleted.
    DisconnectDelete = "disconnect.delete" of Disconnect;
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
