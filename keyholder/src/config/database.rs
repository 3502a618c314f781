//! The addresses of the database: complete, so that nothing of them is filled in from elsewhere.
//!
//! A database driver takes what an address leaves out from variables of its own (`PGHOST`, `PGUSER`); an address that
//! names host, user and database leaves it nothing to guess. Never repeats any part of an address: it holds a password.

use std::{borrow::Cow, collections::BTreeMap, fs::File, io::Read, path::Path, sync::Arc};

use store::{Address, AddressError, Transport, trust};
use url::Url;

use super::secret::{Secret, reason};

/// What an address may say after its question mark.
const PARAMETERS: [&str; 10] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "port", "user", "password", "dbname", "application_name"];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The longest file with authorities, in bytes: all the public ones together take half of it.
const ROOTS_BYTES_MAX: u64 = 512 * 1024;

const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// Where the address leads, and the password in it. How it may travel is the store's rule.
pub(super) fn parse(text: &str, transport: &Transport) -> Result<(Option<Secret>, Address), String> {
    let url = Url::parse(text).map_err(|_| format!("is not an address of the form {FORM}"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(format!("is not an address of the form {FORM}"));
    }
    let mut parameters: BTreeMap<Cow<'_, str>, Cow<'_, str>> = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        if !PARAMETERS.contains(&&*name) {
            return Err(format!("has the parameter {name:?}, which is not one of {}", PARAMETERS.join(", ")));
        }
        if parameters.insert(name.clone(), value).is_some() {
            return Err(format!("has the parameter {name:?} twice"));
        }
    }
    let given =
        |part: Option<&str>, name: &str| part.is_some_and(|part| !part.is_empty()) || parameters.contains_key(name);
    let database = url.path().trim_start_matches('/');
    let parts = [
        ("a host", given(url.host_str(), "host")),
        ("a user", given(Some(url.username()), "user")),
        ("a database", given(Some(database), "dbname")),
    ];
    if let Some((missing, _)) = parts.iter().find(|(_, there)| !there) {
        return Err(format!("does not name {missing}; the form is {FORM}"));
    }
    if parameters.get("sslmode").is_some_and(|mode| !SSL_MODES.contains(&&**mode)) {
        return Err(format!("has an sslmode that is not one of {}", SSL_MODES.join(", ")));
    }
    let password = url.password().map(percent_decoded);
    let password = password.or_else(|| parameters.get("password").map(ToString::to_string));
    let login = Address::parse(text, transport).map_err(|wrong| match wrong {
        AddressError::Form => format!("is not an address of the form {FORM}"),
        refused => refused.to_string(),
    })?;
    Ok((password.map(Secret::new), login))
}

/// The authorities that may have signed the certificate of the database's server.
pub(super) fn roots(path: &Path) -> Result<Arc<[u8]>, String> {
    let shown = path.display();
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(ROOTS_BYTES_MAX + 1).read_to_end(&mut pem));
    read.map_err(|error| format!("{shown} cannot be read: {}", reason(&error)))?;
    if pem.len() as u64 > ROOTS_BYTES_MAX {
        return Err(format!("{shown} is longer than {ROOTS_BYTES_MAX} bytes"));
    }
    trust::count_authorities(&pem).map_err(|wrong| format!("{shown} {wrong}"))?;
    Ok(pem.into())
}

/// The text behind percent-escapes; what does not decode stays as it is, since it is only looked for, never used.
fn percent_decoded(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
    decoded.map_or_else(|| text.to_owned(), |(_, value)| value.into_owned())
}

/// The same address for another login, for whoever makes logins. `None` for an address that has no place for them.
pub(crate) fn with_login(owner: &str, name: &str, password: &str) -> Option<Secret> {
    let mut url = Url::parse(owner).ok()?;
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| key != "user" && key != "password")
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if url.set_username(name).is_ok() {
        url.set_password(Some(password)).ok()?;
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
    } else {
        // An address without a host before the path has no place for a user there, either.
        url.query_pairs_mut().extend_pairs(kept).append_pair("user", name).append_pair("password", password);
    }
    Some(Secret::new(url.into()))
}
