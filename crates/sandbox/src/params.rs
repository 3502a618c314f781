//! The parameters of OAuth's endpoints, in a query or a form.
//!
//! Owns RFC 6749 §3.1 and §3.2: a parameter without a value counts as absent, and none may come twice.

use std::collections::BTreeMap;

use url::form_urlencoded;

/// More parameters than any request of OAuth has.
const MOST: usize = 32;

/// A parameter came twice, or there were too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Parsed parameters, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    /// Parses `application/x-www-form-urlencoded` bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut all = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            if all.len() >= MOST || all.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Malformed);
            }
        }
        Ok(Self(all))
    }

    /// The value, unless it is absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_comes_once_and_not_empty() {
        let params = Params::parse(b"a=1%202&b=&c=x").unwrap();
        assert_eq!(params.get("a"), Some("1 2"));
        assert_eq!(params.get("b"), None);
        assert_eq!(Params::parse(b"a=1&a=1").unwrap_err(), Malformed);
        let many = (0..=MOST).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert_eq!(Params::parse(many.as_bytes()).unwrap_err(), Malformed);
    }
}
