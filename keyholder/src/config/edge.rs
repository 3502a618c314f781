//! The edge's settings: origins, hosts, proxies. Lists are comma-separated; every entry that is wrong is named.

use std::str::FromStr;

use domain::environment::Environment;
use server::{EdgeOptions, ForwardedHeader, Host, Origin, Proxy};

use super::{gather::Origin as Place, resolve::Resolver};

/// The most entries of a list.
const ENTRIES: usize = 64;

impl Resolver {
    pub(super) fn edge(&mut self, environment: Option<Environment>) -> EdgeOptions {
        let origins = self.list::<Origin>("origins");
        if let Some(insecure) = origins.iter().find(|(_, origin)| !origin.is_secure())
            && environment.is_some_and(|it| it != Environment::Local)
        {
            let why = "an http origin is for the environment local";
            self.gathered.fault(insecure.0.clone(), why);
        }
        EdgeOptions {
            origins: origins.into_iter().map(|(_, origin)| origin).collect(),
            hosts: self.list::<Host>("hosts").into_iter().map(|(_, host)| host).collect(),
            proxies: self.list::<Proxy>("proxies").into_iter().map(|(_, proxy)| proxy).collect(),
            forwarded_header: self
                .parsed("forwarded_header", "x-forwarded-for or forwarded", |_: &ForwardedHeader| true)
                .unwrap_or_default(),
        }
    }

    /// The entries of a list that are right; the others are told.
    fn list<T>(&mut self, name: &str) -> Vec<(Place, T)>
    where
        T: FromStr<Err = &'static str> + PartialEq,
    {
        let Some((place, text)) = self.text(name) else { return Vec::new() };
        let mut entries: Vec<(Place, T)> = Vec::new();
        for (number, entry) in text.split(',').map(str::trim).enumerate() {
            match entry.parse() {
                _ if number == ENTRIES => {
                    self.gathered.fault(place.clone(), format!("has more than {ENTRIES} entries"));
                    break;
                }
                Ok(entry) if entries.iter().all(|(_, known)| *known != entry) => entries.push((place.clone(), entry)),
                Ok(_) => self.gathered.fault(place.clone(), format!("{entry:?} is given twice")),
                Err(wrong) => self.gathered.fault(place.clone(), format!("{entry:?} {wrong}")),
            }
        }
        entries
    }
}
