//! Who the platform knows: its accounts, and the client applications that were registered with it.
//!
//! Filled in memory only, by whoever started the sandbox. Nothing that arrives over a socket can add to it.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::constant_time;
use url::Url;

/// The issuer of X's tokens (RFC 9207), used where a client names none.
const X: &str = "https://x.com";

/// The client cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// A redirect address is relative, has a fragment (RFC 6749 §3.1.2), or is no address.
    #[error("not an absolute redirect address without a fragment: {0}")]
    RedirectUri(String),
    /// The issuer is no https address.
    #[error("not an issuer: {0}")]
    Issuer(String),
}

/// A client application, registered with the platform.
#[derive(Clone)]
pub struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<String>,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) issuer: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("redirect_uris", &self.redirect_uris)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that can keep no secret: it names itself in the body (RFC 6749 §2.1).
    pub fn public(id: impl Into<String>, redirect_uri: impl Into<String>) -> Self {
        Self { id: id.into(), secret: None, redirect_uris: vec![redirect_uri.into()], issuer: X.to_owned() }
    }

    /// A client that authenticates by HTTP Basic with its secret (RFC 6749 §2.3.1).
    pub fn confidential(id: impl Into<String>, secret: impl Into<String>, redirect_uri: impl Into<String>) -> Self {
        Self { secret: Some(secret.into()), ..Self::public(id, redirect_uri) }
    }

    /// Adds a redirect address. Addresses are compared letter by letter.
    #[must_use]
    pub fn and_redirect(mut self, redirect_uri: impl Into<String>) -> Self {
        self.redirect_uris.push(redirect_uri.into());
        self
    }

    /// Sets the issuer that the consent's answer names (RFC 9207); `https://x.com` if it is never called.
    #[must_use]
    pub fn issued_by(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// Whether this is the client's secret. A public client has none, and none is right.
    pub(crate) fn is_secret(&self, presented: &str) -> bool {
        self.secret.as_ref().is_some_and(|secret| {
            constant_time::verify_slices_are_equal(secret.as_bytes(), presented.as_bytes()).is_ok()
        })
    }
}

/// An account at the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Decimal, as X writes ids. It never changes, whatever happens to the handle.
    pub id: String,
    /// The name in addresses, without the at sign.
    pub handle: String,
    /// The name that is shown.
    pub name: String,
}

/// All clients and accounts.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    clients: BTreeMap<String, Client>,
    accounts: Vec<Account>,
}

impl Registry {
    /// Registers the client, in place of one of the same id.
    pub(crate) fn register(&mut self, client: Client) -> Result<(), RegisterError> {
        for uri in &client.redirect_uris {
            if !Url::parse(uri).is_ok_and(|url| url.fragment().is_none() && !url.cannot_be_a_base()) {
                return Err(RegisterError::RedirectUri(uri.clone()));
            }
        }
        if !Url::parse(&client.issuer).is_ok_and(|url| url.scheme() == "https") {
            return Err(RegisterError::Issuer(client.issuer));
        }
        self.clients.insert(client.id.clone(), client);
        Ok(())
    }

    pub(crate) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.get(id)
    }

    /// The account of this handle, made with this id if there is none.
    pub(crate) fn open_account(&mut self, handle: &str, name: &str, id: impl FnOnce() -> String) -> Account {
        if let Some(account) = self.by_handle(handle) {
            return account.clone();
        }
        let account = Account { id: id(), handle: handle.to_owned(), name: name.to_owned() };
        self.accounts.push(account.clone());
        account
    }

    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    pub(crate) fn by_handle(&self, handle: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.handle == handle)
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_addresses_and_https_issuers_are_registered() {
        let mut registry = Registry::default();
        for uri in ["/callback", "https://a.example/cb#x", "not an address", "mailto:a@b.example"] {
            let refused = registry.register(Client::public("c", uri));
            assert_eq!(refused, Err(RegisterError::RedirectUri(uri.to_owned())), "{uri}");
        }
        let plain = Client::public("c", "https://a.example/cb").issued_by("http://a.example");
        assert!(matches!(registry.register(plain), Err(RegisterError::Issuer(_))));
        assert_eq!(registry.register(Client::public("c", "http://localhost:1/cb")), Ok(()));
    }

    #[test]
    fn no_secret_is_right_for_a_public_client_and_none_is_printed() {
        assert!(!Client::public("c", "https://a.example/").is_secret(""));
        let client = Client::confidential("c", "hush-hush", "https://a.example/");
        assert!(client.is_secret("hush-hush") && !client.is_secret("hush"));
        assert!(!format!("{client:?}").contains("hush"));
    }
}
