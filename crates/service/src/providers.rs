//! The providers of this installation: their files, the operator's clients at them, and a way out for each.

use std::{collections::BTreeMap, net::SocketAddr};

use domain::{
    clock::Clock,
    environment::Environment,
    provider::{Catalogue, Provider},
};
use egress::{Egress, HostSet, Policy, SandboxRoute};
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

/// The operator's client at a provider.
pub struct Client {
    /// Its id, which is no secret.
    pub id: String,
    /// Its secret, where it has one.
    pub secret: Option<Zeroizing<String>>,
}

/// A sandbox that stands in for every provider: one address, one throwaway authority, handed over in memory.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// How calls get there.
    pub route: SandboxRoute,
}

impl Sandbox {
    /// A sandbox on this machine.
    pub fn new(addr: SocketAddr, ca_der: Vec<u8>) -> Self {
        Self { route: SandboxRoute { addr, ca_der } }
    }
}

/// Why the providers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// A client is configured for a provider that no file describes.
    #[error("there is no provider `{0}` for which a client is configured")]
    Unknown(String),
    /// A host in a provider file is not one.
    #[error("the provider `{0}` declares a host that is not one")]
    Host(String, #[source] egress::HostError),
    /// There is no way out.
    #[error("the provider `{0}` cannot be reached")]
    Egress(String, #[source] egress::EgressError),
}

pub(crate) struct Reachable {
    pub(crate) provider: Arc<Provider>,
    pub(crate) client: Client,
    pub(crate) egress: Egress,
    pub(crate) hosts: HostSet,
    sandbox: Option<SocketAddr>,
}

impl Reachable {
    /// Where a browser is sent to consent. With a sandbox, it is the sandbox that the browser must find.
    pub(crate) fn authorize_url(&self) -> Option<Url> {
        let mut url = Url::parse(&self.provider.auth.authorize_url).ok()?;
        if let Some(sandbox) = self.sandbox {
            url.set_host(Some("localhost")).ok()?;
            url.set_port(Some(sandbox.port())).ok()?;
        }
        Some(url)
    }
}

/// All providers that have a client.
pub struct Providers {
    catalogue: Catalogue,
    reachable: BTreeMap<String, Reachable>,
}

impl Providers {
    /// Prepares a way out for each provider that has a client.
    ///
    /// # Errors
    /// A client without a provider, or a provider without a way out.
    pub fn new(
        catalogue: Catalogue,
        clients: BTreeMap<String, Client>,
        environment: Environment,
        clock: &Clock,
        sandbox: Option<&Sandbox>,
    ) -> Result<Self, ProvidersError> {
        let mut reachable = BTreeMap::new();
        for (name, client) in clients {
            let provider = catalogue.get(&name).ok_or_else(|| ProvidersError::Unknown(name.clone()))?;
            let hosts = HostSet::parse(&provider.hosts).map_err(|error| ProvidersError::Host(name.clone(), error))?;
            let route = sandbox.map(|sandbox| sandbox.route.clone());
            let egress = Egress::new(Policy::new(hosts.clone()), environment, clock.clone(), route)
                .map_err(|error| ProvidersError::Egress(name.clone(), error))?;
            let sandbox = sandbox.map(|sandbox| sandbox.route.addr);
            reachable.insert(name, Reachable { provider: Arc::clone(provider), client, egress, hosts, sandbox });
        }
        Ok(Self { catalogue, reachable })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Reachable> {
        self.reachable.get(name)
    }

    /// Every provider file, with whether accounts can be connected there.
    pub fn iter(&self) -> impl Iterator<Item = (&Provider, bool)> {
        self.catalogue.iter().map(|provider| {
            let connectable = !provider.template && self.reachable.contains_key(&provider.name);
            (&**provider, connectable)
        })
    }

    /// Origins to which a browser may be sent from the connect page.
    pub fn authorize_origins(&self) -> Vec<String> {
        let urls = self.reachable.values().filter_map(Reachable::authorize_url);
        urls.map(|url| url.origin().ascii_serialization()).collect()
    }
}
