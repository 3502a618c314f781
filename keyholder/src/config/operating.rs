//! The rules of how a process leaves and of where its traces go.

use std::{path::Path, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{database, fault::Kind, resolve::Resolver};
use crate::telemetry::otlp::{OtlpOptions, check_endpoint};

/// The longest that a process still serves after it has said that it leaves.
const LONGEST_DELAY_S: u64 = 300;

impl Resolver {
    /// How long requests are still taken after the process has said that it leaves.
    pub(super) fn drain_delay(&mut self) -> Duration {
        let rule = |seconds: &u64| *seconds <= LONGEST_DELAY_S;
        Duration::from_secs(self.parsed("drain.delay_s", "a number of seconds from 0 to 300", rule).unwrap_or(0))
    }

    /// Where traces go. `None` where no collector is named.
    pub(super) fn otlp(&mut self) -> Option<OtlpOptions> {
        let wanted = "https, or http on this machine, without user, query and fragment";
        let endpoint = self.parsed("otlp.endpoint", wanted, |url: &Url| check_endpoint(url).is_ok());
        let one_in = self.parsed("otlp.one_in", "a number from 1 to 1000000", |many| (1..=1_000_000).contains(many));
        let headers = self.otlp_headers();
        let roots = self.text("otlp.tls_roots").and_then(|(origin, path)| {
            let read = database::roots(Path::new(&path));
            read.map_err(|wrong| self.gathered.fault(origin, wrong)).ok()
        });
        Some(OtlpOptions { endpoint: endpoint?, headers, one_in: one_in.unwrap_or(1), roots })
    }

    /// `NAME=VALUE` and `NAME=VALUE`, with commas between them. No part of it is ever shown.
    fn otlp_headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((origin, text)) = self.secret("otlp.headers", Kind::Setting) else { return headers };
        for pair in text.expose().split(',') {
            let header = pair.split_once('=').and_then(|(name, value)| {
                let mut value = HeaderValue::try_from(value.trim()).ok()?;
                value.set_sensitive(true);
                Some((HeaderName::try_from(name.trim()).ok()?, value))
            });
            let Some((name, value)) = header else {
                self.gathered.fault(origin, "is not a list of headers: NAME=VALUE, with commas between them");
                return headers;
            };
            headers.insert(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, gather::gather};

    fn resolver(settings: &[(&str, &str)]) -> Resolver {
        let environment = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let sources = Sources { environment, ..Sources::default() };
        Resolver { gathered: gather(&sources), secrets: Vec::new() }
    }

    #[test]
    fn a_drain_is_bounded_and_none_unless_it_is_asked_for() {
        for (said, wanted, faults) in [(None, 0, 0), (Some("15"), 15, 0), (Some("301"), 0, 1), (Some("-1"), 0, 1)] {
            let mut from =
                resolver(&said.map(|said| ("KEYHOLDER_DRAIN_DELAY_S", said)).into_iter().collect::<Vec<_>>());
            assert_eq!((from.drain_delay().as_secs(), from.gathered.faults.len()), (wanted, faults), "{said:?}");
        }
    }

    #[test]
    fn a_collector_is_told_its_headers_and_no_fault_repeats_them() {
        let endpoint = ("KEYHOLDER_OTLP_ENDPOINT", "https://collector.example:4318");
        let mut from = resolver(&[endpoint, ("KEYHOLDER_OTLP_HEADERS", "authorization=Basic c2VjcmV0, x-tenant=1")]);
        let otlp = from.otlp().unwrap();
        assert_eq!((otlp.headers["authorization"].to_str().unwrap(), otlp.one_in), ("Basic c2VjcmV0", 1));
        assert_eq!((otlp.headers["x-tenant"].to_str().unwrap(), from.secrets.len()), ("1", 1));

        let wrong = [
            ("KEYHOLDER_OTLP_HEADERS", "hunter22"),
            ("KEYHOLDER_OTLP_ENDPOINT", "http://collector.example"),
            ("KEYHOLDER_OTLP_ONE_IN", "0"),
        ];
        let mut from = resolver(&wrong);
        assert!(from.otlp().is_none());
        let faults: Vec<_> = from.gathered.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(!faults.concat().contains("hunter22"));
        assert!(resolver(&[]).otlp().is_none());
    }
}
