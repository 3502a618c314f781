//! All providers of an installation: the shipped files and the operator's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Fault, Provider};

/// The shipped files: provider, file name, text.
pub(super) const SHIPPED: [(&str, &str, &str); 2] = [
    ("generic-oauth", "providers/generic-oauth.toml", include_str!("../../../../providers/generic-oauth.toml")),
    ("x", "providers/x.toml", include_str!("../../../../providers/x.toml")),
];

/// File name and text of a shipped provider.
pub(super) fn shipped(name: &str) -> Option<(&'static str, &'static str)> {
    SHIPPED.iter().find(|(provider, _, _)| *provider == name).map(|(_, file, text)| (*file, *text))
}

/// How many files are read.
const FILES: usize = 256;

/// Providers by name.
#[derive(Debug, Default)]
pub struct Catalogue(BTreeMap<String, Arc<Provider>>);

impl Catalogue {
    /// The shipped files as name and text, to be loaded, alone or with others.
    pub fn shipped_files() -> impl Iterator<Item = (&'static str, &'static str)> {
        SHIPPED.iter().map(|(_, file, text)| (*file, *text))
    }

    /// The shipped providers.
    ///
    /// # Errors
    /// The faults of the shipped files: none, as the tests have it.
    pub fn embedded() -> Result<Self, Vec<Fault>> {
        Self::load(Self::shipped_files())
    }

    /// Reads files, each given as name and text.
    ///
    /// # Errors
    /// All faults of all files; two providers of one name are a fault of both.
    pub fn load<F: AsRef<str>, T: AsRef<str>>(files: impl IntoIterator<Item = (F, T)>) -> Result<Self, Vec<Fault>> {
        let (mut providers, mut faults) = (BTreeMap::<String, Arc<Provider>>::new(), Vec::new());
        for (number, (file, text)) in files.into_iter().enumerate() {
            let file = file.as_ref();
            if number == FILES {
                let message = format!("there are more than {FILES} provider files");
                faults.push(Fault { file: file.to_owned(), line: 1, column: 1, path: String::new(), message });
                break;
            }
            match Provider::parse(file, text.as_ref()) {
                Err(more) => faults.extend(more),
                Ok(provider) => match providers.get(&provider.name) {
                    Some(first) => faults.extend([named_twice(&provider, first), named_twice(first, &provider)]),
                    None => drop(providers.insert(provider.name.clone(), Arc::new(provider))),
                },
            }
        }
        faults.sort();
        if faults.is_empty() { Ok(Self(providers)) } else { Err(faults) }
    }

    /// Leaves out the shipped providers that are not wanted. The operator's own stay.
    pub fn keep_of_shipped(&mut self, wanted: &BTreeSet<String>) {
        self.0.retain(|name, _| wanted.contains(name) || shipped(name).is_none());
    }

    /// The provider of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.0.get(name)
    }

    /// All providers, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.0.values()
    }
}

fn named_twice(provider: &Provider, other: &Provider) -> Fault {
    let message = format!("{} has the same name ({}:{})", other.title, other.named_at.file, other.named_at.line);
    Fault { message, ..provider.named_at.clone() }
}
