//! The providers of this installation: their files, the operator's clients at them, and a way out for each.
//!
//! A provider that was stopped is as good as unreachable: nobody gets the way out.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    clock::Clock,
    environment::Environment,
    provider::{Catalogue, Provider},
};
use egress::{Egress, HostSet, Policy, SandboxRoute};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use store::StoreError;
use time::OffsetDateTime;
use url::Url;
use zeroize::Zeroizing;

use crate::Refusal;

/// The operator's client at a provider.
pub struct Client {
    /// Its id, which is no secret.
    pub id: String,
    /// Its secret, where it has one.
    pub secret: Option<Zeroizing<String>>,
}

/// A sandbox that stands in for every provider: one address, one throwaway authority, handed over in memory, or to a child process over
/// a pipe that it inherits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    clock: Clock,
}

impl Reachable {
    /// The hour by which a platform's dates are read that bring no `Date` of their own.
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

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

/// Why a provider is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its file's hosts or endpoints are not the approved ones.
    Changed,
    /// Its credentials are being sealed with its new hosts.
    Resealing,
}

/// How old the last comparison with the approved files may be. Whoever migrates a provider waits longer than this.
const LAPSE: Duration = Duration::from_secs(10);

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// All providers that have a client.
pub struct Providers {
    catalogue: Catalogue,
    reachable: BTreeMap<String, Reachable>,
    stopped: RwLock<BTreeMap<String, Stop>>,
    /// When the files were last compared with the approved ones, in milliseconds of `watch` since boot.
    compared_ms: AtomicU64,
    /// The machine's own clock: what must be in time here is the machine, whatever hour the application lives in.
    watch: Clock,
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
        let watch = Clock::system();
        let now = ms(watch.since_boot());
        let mut reachable = BTreeMap::new();
        for (name, client) in clients {
            let provider = catalogue.get(&name).ok_or_else(|| ProvidersError::Unknown(name.clone()))?;
            let hosts = HostSet::parse(&provider.hosts).map_err(|error| ProvidersError::Host(name.clone(), error))?;
            let route = sandbox.map(|sandbox| sandbox.route.clone());
            let egress = Egress::new(Policy::new(hosts.clone()), environment, clock.clone(), route)
                .map_err(|error| ProvidersError::Egress(name.clone(), error))?;
            let sandbox = sandbox.map(|sandbox| sandbox.route.addr);
            let (provider, clock) = (Arc::clone(provider), clock.clone());
            reachable.insert(name, Reachable { provider, client, egress, hosts, sandbox, clock });
        }
        Ok(Self { catalogue, reachable, stopped: RwLock::default(), compared_ms: AtomicU64::new(now), watch })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Reachable> {
        self.going(name).ok()
    }

    /// The way out to a provider, or why there is none.
    pub(crate) fn going(&self, name: &str) -> Result<&Reachable, Refusal> {
        let reachable = self.reachable.get(name).ok_or(Refusal::Unavailable(None))?;
        // Nobody's client is missing: whoever would give up for good on that account must not do so on this one.
        if self.are_overdue() {
            return Err(Refusal::Unavailable(Some(StoreError::Corrupt("the approval of the provider's file"))));
        }
        let stopped = self.stopped.read().unwrap_or_else(PoisonError::into_inner);
        if stopped.contains_key(name) { Err(Refusal::ProviderNotMigrated(name.to_owned())) } else { Ok(reachable) }
    }

    /// The files of the providers that have a client, stopped ones included.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &Provider> {
        self.reachable.values().map(|reachable| &*reachable.provider)
    }

    /// Stops a provider, or lets it go on. Whether that is a change.
    pub(crate) fn stop(&self, name: &str, stop: Option<Stop>) -> bool {
        let mut stopped = self.stopped.write().unwrap_or_else(PoisonError::into_inner);
        match stop {
            Some(stop) => stopped.insert(name.to_owned(), stop) != Some(stop),
            None => stopped.remove(name).is_some(),
        }
    }

    /// Notes that all files have just been compared with the approved ones, as these were when the comparison `began`.
    pub(crate) fn compared(&self, began: Duration) {
        self.compared_ms.store(ms(began), Ordering::Release);
    }

    /// The time by which [`Providers::compared`] counts.
    pub(crate) fn watch(&self) -> Duration {
        self.watch.since_boot()
    }

    /// Whether an approval may have been written of which this process has not heard: then nothing goes out. Without the database,
    /// which alone can tell, no act could be admitted anyway.
    pub(crate) fn are_overdue(&self) -> bool {
        ms(self.watch.since_boot()).saturating_sub(self.compared_ms.load(Ordering::Acquire)) > ms(LAPSE)
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
