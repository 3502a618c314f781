//! What a limit has left, in both of the forms that clients read (draft-ietf-httpapi-ratelimit-headers, versions before and since 08).

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use service::Headroom;

/// A limit, as its fields tell it.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// What it counts.
    pub(crate) unit: &'a str,
    /// The most of them in a window.
    pub(crate) cap: u64,
    /// What is left of the window.
    pub(crate) remaining: u64,
    /// How long a window is.
    pub(crate) window_s: u64,
    /// When there is more.
    pub(crate) reset_s: u64,
}

impl Fields<'_> {
    /// Writes the fields.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        if domain::sabotaged!(LimitHeaders) {
            return;
        }
        let Self { name, unit, cap, remaining, window_s, reset_s } = self;
        let fields = [
            ("ratelimit-limit", cap.to_string()),
            ("ratelimit-remaining", remaining.to_string()),
            ("ratelimit-reset", reset_s.to_string()),
            ("ratelimit-policy", format!("\"{name}\";q={cap};w={window_s};qu=\"{unit}\"")),
            ("ratelimit", format!("\"{name}\";r={remaining};t={reset_s}")),
        ];
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// The name of the cheap limits: both count requests.
pub(crate) const REQUESTS: &str = "requests";

/// Where the guard notes what the caller's own limit has left, for the edge, which writes it into the answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<OnceLock<Headroom>>);

impl Tally {
    /// Notes it.
    pub(crate) fn note(&self, headroom: Headroom) {
        let _first = self.0.set(headroom);
    }

    /// Writes what the caller has left, or his network where nobody knows the caller; never over what stands there already: a
    /// refusal's own, or a platform's.
    pub(crate) fn put(&self, network: Headroom, headers: &mut HeaderMap) {
        if ["ratelimit", "ratelimit-limit", "ratelimit-policy"].iter().any(|name| headers.contains_key(*name)) {
            return;
        }
        let left = self.0.get().copied().unwrap_or(network);
        let (cap, remaining, reset_s) = (u64::from(left.limit), u64::from(left.remaining), left.full_in_s());
        Fields { name: REQUESTS, unit: REQUESTS, cap, remaining, window_s: 60, reset_s }.put(headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_counts_before_his_network_and_nothing_is_written_over() {
        let (network, caller) = (Headroom { limit: 60, remaining: 59 }, Headroom { limit: 10, remaining: 4 });
        let (tally, mut headers) = (Tally::default(), HeaderMap::new());
        tally.put(network, &mut headers);
        assert_eq!(headers["ratelimit"], "\"requests\";r=59;t=1");
        tally.note(caller);
        tally.put(network, &mut headers);
        assert_eq!(headers["ratelimit"], "\"requests\";r=59;t=1");
        headers.clear();
        tally.put(network, &mut headers);
        assert_eq!(headers["ratelimit"], "\"requests\";r=4;t=36");
        assert_eq!(headers["ratelimit-policy"], "\"requests\";q=10;w=60;qu=\"requests\"");
        assert_eq!(
            (&headers["ratelimit-limit"], &headers["ratelimit-remaining"]),
            (&"10".parse().unwrap(), &"4".parse().unwrap())
        );
        assert_eq!(headers["ratelimit-reset"], "36");
    }
}
