//! The cheap limits that come before anything is looked up: by network, by principal, and for what is dear by itself.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use crate::Refusal;

/// How much is let through, each as so many a minute; a burst may be as large.
#[derive(Debug, Clone, Copy)]
pub struct LimitOptions {
    /// Requests of one network (an IPv4 address, an IPv6 /64).
    pub network_per_minute: NonZeroU32,
    /// Requests of one principal.
    pub principal_per_minute: NonZeroU32,
    /// Wrong credentials from one network.
    pub failures_per_minute: NonZeroU32,
    /// Connect links made by one principal, and opened from one network.
    pub links_per_minute: NonZeroU32,
}

impl Default for LimitOptions {
    fn default() -> Self {
        let most = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            network_per_minute: most(60_000),
            principal_per_minute: most(60_000),
            failures_per_minute: most(60),
            links_per_minute: most(60),
        }
    }
}

pub(crate) struct Limits {
    network: Limit<IpAddr>,
    principal: Limit<String>,
    failures: Limit<IpAddr>,
    links: Limit<String>,
}

/// Above so many keys, those that are at rest are forgotten.
const MOST_KEYS: usize = 100_000;

/// What is left of a cheap limit after a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// How many may come at once, and a minute.
    pub limit: u32,
    /// How many may still come at once.
    pub remaining: u32,
}

impl Headroom {
    /// In how many seconds all of it is there again, if nothing more comes.
    pub fn full_in_s(self) -> u64 {
        let taken = u64::from(self.limit.saturating_sub(self.remaining));
        (taken * 60).div_ceil(u64::from(self.limit.max(1)))
    }
}

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

struct Limit<K: Clone + std::hash::Hash + Eq> {
    limiter: Limiter<K>,
    burst: u32,
}

impl<K: Clone + std::hash::Hash + Eq> Limit<K> {
    fn new(per_minute: NonZeroU32) -> Self {
        let limiter = RateLimiter::keyed(Quota::per_minute(per_minute)).with_middleware::<StateInformationMiddleware>();
        Self { limiter, burst: per_minute.get() }
    }

    fn take(&self, key: &K) -> Result<Headroom, Refusal> {
        if self.limiter.len() > MOST_KEYS {
            self.limiter.retain_recent();
        }
        let counted = self.limiter.check_key(key).map_err(|until| Refusal::RateLimited {
            retry_after_s: until.wait_time_from(DefaultClock::default().now()).as_secs() + 1,
            limit: self.burst,
        })?;
        Ok(Headroom { limit: self.burst, remaining: counted.remaining_burst_capacity() })
    }
}

impl Limits {
    pub(crate) fn new(options: LimitOptions) -> Self {
        Self {
            network: Limit::new(options.network_per_minute),
            principal: Limit::new(options.principal_per_minute),
            failures: Limit::new(options.failures_per_minute),
            links: Limit::new(options.links_per_minute),
        }
    }

    pub(crate) fn network(&self, address: IpAddr) -> Result<Headroom, Refusal> {
        self.network.take(&network_of(address))
    }

    pub(crate) fn principal(&self, reference: &str) -> Result<Headroom, Refusal> {
        if domain::sabotaged!(BurstAndQuota) {
            return Ok(Headroom { limit: self.principal.burst, remaining: self.principal.burst });
        }
        self.principal.take(&reference.to_owned())
    }

    /// Counts a wrong credential; past the limit the network is told to wait instead of being told that it is wrong.
    pub(crate) fn failure(&self, address: IpAddr) -> Result<(), Refusal> {
        self.failures.take(&network_of(address)).map(drop)
    }

    pub(crate) fn link(&self, who: &str) -> Result<(), Refusal> {
        self.links.take(&who.to_owned()).map(drop)
    }
}

/// The network that one subscriber has: an IPv4 address, or an IPv6 /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_and_comes_back() {
        let limit = Limit::new(NonZeroU32::new(3).unwrap());
        let left: Vec<_> = (0..4).map(|_| limit.take(&"who").ok()).collect();
        let left: Vec<_> = left.into_iter().map(|it| it.map(|it| (it.limit, it.remaining, it.full_in_s()))).collect();
        assert_eq!(left, [Some((3, 2, 20)), Some((3, 1, 40)), Some((3, 0, 60)), None]);
        assert_eq!(Headroom { limit: 60_000, remaining: 59_999 }.full_in_s(), 1);
        assert_eq!(Headroom { limit: 60_000, remaining: 60_000 }.full_in_s(), 0);
    }
}
