//! Providers: the platforms at which accounts are connected, each described by one file.
//!
//! Owns what a file may say, the linter that says what is wrong with one, and the way from a caller's input (or from a
//! request written for the platform's own API) to the one request that a declared action renders. A file redirects
//! credentials, so it is code: nothing in it is guessed, defaulted towards more, or passed through. Never opens a
//! socket or a file.
//!
//! The files' form is told in `docs/guides/providers.md`.

mod action;
mod catalogue;
mod field;
mod lint;
mod place;
mod predicate;
mod read;
mod read_action;
mod recognise;
mod template;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod lint_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod usage_tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Serialize, Serializer};
use serde_json::Value;

pub use self::{
    action::{Action, Answer, Effect, InputFault, Measure, Method, Rendered, Reported, ValidInput},
    catalogue::Catalogue,
    field::{Field, FieldKind, Goes, IntegerRules, Pattern, TextRules},
    place::{Place, Pointer, Scalar},
    predicate::When,
    recognise::RecogniseError,
    template::{Malformed, PathTemplate},
};
pub use crate::document::Fault;
use crate::{
    document::{fault, section, tree},
    json,
};

/// A platform, as its file describes it. Only [`Provider::parse`] makes one, so its parts keep to the linter's rules.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Provider {
    /// Its name in configuration, rows and addresses: `a-z 0-9 -`, at most 32.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Whether it is only a form to be filled in by a file that extends it. No account is ever connected at a template.
    pub template: bool,
    /// The hosts that a credential may be sent to, in lower case; there is no other. HTTPS on port 443 alone.
    pub hosts: BTreeSet<String>,
    /// How accounts are connected.
    pub auth: Auth,
    /// How the connected account is known.
    pub account: Account,
    /// Bounds on every request.
    pub limits: RequestLimits,
    #[serde(serialize_with = "plain_actions")]
    actions: BTreeMap<String, Arc<Action>>,
    #[serde(skip)]
    digest: [u8; 32],
    #[serde(skip)]
    named_at: Fault,
}

/// OAuth 2.0: authorization code with PKCE (RFC 6749 §4.1, RFC 7636), refresh (RFC 6749 §6), revocation (RFC 7009).
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Auth {
    /// How accounts are connected. There is one kind so far.
    pub kind: AuthKind,
    /// Where the owner consents, in a browser.
    pub authorize_url: String,
    /// Parameters that the platform wants there beyond the standard's.
    pub authorize_params: BTreeMap<String, String>,
    /// Where codes and refresh tokens are exchanged.
    pub token_url: String,
    /// Where tokens are revoked; `None` where the platform has no such endpoint.
    pub revoke_url: Option<String>,
    /// What revoking a token ends there.
    pub revoke_ends: RevokeEnds,
    /// The `iss` that the platform adds to its redirect (RFC 9207); then a redirect without it, or with another, is
    /// refused.
    pub issuer: Option<String>,
    /// How Keyholder shows which client it is.
    pub client_auth: ClientAuth,
    /// The code challenge. There is one method that is safe.
    pub pkce: Pkce,
    /// What stands between two scopes.
    pub scope_separator: char,
    /// All scopes that may ever be asked for, each with words for the owner.
    pub scopes: BTreeMap<String, String>,
    /// Those that are asked for whatever the actions are.
    pub scopes_always: BTreeSet<String>,
    /// What a refresh does to tokens.
    pub refresh: Refresh,
}

/// The kinds of [`Auth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthKind {
    /// OAuth 2.0, authorization code.
    OAuth2,
}

/// What ends with a revoked token (RFC 7009 §2.1 leaves it to the platform).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeEnds {
    /// The tokens that descend from the same consent.
    Consent,
    /// All tokens that this client holds for the account, those of a later consent included.
    Account,
}

/// Code challenge methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Pkce {
    /// SHA-256 of the verifier (RFC 7636 §4.2).
    S256,
}

/// How a client authenticates at the token and revocation endpoints (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// HTTP Basic with the client's id and secret.
    Basic,
    /// Both in the form's body.
    Body,
    /// No secret: a public client, its id in the form's body.
    None,
}

/// What a refresh does to tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refresh {
    /// Whether each refresh answers a new refresh token and spends the old one.
    pub rotates: bool,
    /// What becomes of a request with a spent refresh token: the rule by which an interrupted refresh is replayed, or
    /// is not.
    pub replay: Replay,
    /// How long an access token lives where the answer does not say, in seconds.
    pub access_token_lifetime_s: u64,
    /// How long a refresh token lives unused, in seconds; `None` where the platform does not say.
    pub refresh_token_lifetime_s: Option<u64>,
}

/// What the platform does with a refresh token that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// Takes it for theft and ends the grant. An interrupted refresh must not be replayed.
    ReuseDetected,
    /// Refuses it, and nothing else happens. An interrupted refresh may be tried once more.
    Refused,
    /// Answers as before. An interrupted refresh is simply repeated.
    Repeatable,
}

/// How the connected account is known: one harmless action, and where its answer says who it is.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// A declared `read` action that needs no input.
    pub action: String,
    /// Where the account's lasting id is.
    pub id: Pointer,
    /// Where its name for people is.
    pub name: Pointer,
}

/// Bounds on every request to the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RequestLimits {
    /// The largest body that is sent, in bytes.
    pub request_bytes: usize,
    /// The largest answer that is read, in bytes.
    pub response_bytes: usize,
    /// From the wait for a turn to the last byte read.
    pub timeout_ms: u64,
    /// The header in which a 429 tells when its window ends, as a Unix time in seconds, in lower case; `None` where the platform has
    /// no other than `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_header: Option<String>,
}

impl Account {
    /// The account's id and name, from the answer of its action. An id is a text of 1 to 256 characters or a whole
    /// number; without one there is no account. A name that is missing is empty, and a long one is cut at 256
    /// characters.
    pub fn read(&self, answer: &Value) -> Option<(String, String)> {
        let text = |pointer: &Pointer| match pointer.find(answer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
            _ => None,
        };
        let id = text(&self.id).filter(|id| (1..=256).contains(&id.chars().count()))?;
        let name = text(&self.name).unwrap_or_default().chars().take(256).collect();
        Some((id, name))
    }
}

impl Provider {
    /// Reads a provider file. `file_name` is only for the faults. A file that `extends` one of the shipped ones is laid
    /// over it.
    ///
    /// # Errors
    /// All faults at once, in the order of their lines.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Vec<Fault>> {
        read::provider(file_name, text)
    }

    /// SHA-256 of what the file says, defaults included and comments, order and layout left out. Connections, mandates'
    /// approvals and receipts are bound to it.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Computes the digest, once everything is read.
    fn digested(mut self) -> Option<Self> {
        let said = serde_json::to_value(&self).ok()?;
        let text = [b"keyholder provider 1\n".as_slice(), &json::canonical(&said)].concat();
        self.digest = digest(&SHA256, &text).as_ref().try_into().ok()?;
        Some(self)
    }

    /// The actions, by name.
    pub fn actions(&self) -> impl Iterator<Item = &Arc<Action>> {
        self.actions.values()
    }

    /// The action of a name.
    pub fn action(&self, name: &str) -> Option<&Arc<Action>> {
        self.actions.get(name)
    }

    /// The scopes to ask for: what the wanted actions need, what reading the account needs (an account that cannot be
    /// told from another cannot be connected), and what is always asked for. Sorted, none twice. A name of no action
    /// adds nothing.
    pub fn scopes_for<'n>(&self, actions: impl IntoIterator<Item = &'n str>) -> Vec<String> {
        if crate::sabotaged!(ScopesAsked) {
            return self.auth.scopes.keys().cloned().collect();
        }
        let wanted = actions.into_iter().filter_map(|name| self.action(name)).chain(self.action(&self.account.action));
        let needed = wanted.flat_map(|action| &action.scopes);
        needed.chain(&self.auth.scopes_always).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn plain_actions<S: Serializer>(actions: &BTreeMap<String, Arc<Action>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(actions.iter().map(|(name, action)| (name, action.as_ref())))
}
