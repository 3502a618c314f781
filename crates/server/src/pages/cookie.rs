//! The one cookie: it ties a connect link to the first browser that opens it. It says nothing of the person, and ends with the
//! browser's session.

use domain::random;
use http::{HeaderMap, HeaderValue, header};

/// Its name. The prefix makes browsers refuse it without `Secure`, with a domain, or for another path (RFC 6265bis §4.1.3.2).
const NAME: &str = "__Host-keyholder";

/// The browser's own value, where it sent one of ours.
pub(crate) fn sent(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == NAME)
        .map(|(_, value)| value);
    let value = values.next().filter(|value| is_token(value))?;
    // A browser has one at most: two of them were put together by somebody else.
    values.next().is_none().then(|| value.to_owned())
}

/// A new value.
pub(crate) fn fresh() -> String {
    random::token()
}

/// The line that sets it.
pub(crate) fn set(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{NAME}={value}; Secure; HttpOnly; SameSite=Lax; Path=/")).ok()
}

/// Whether a text has the form of `domain::random::token`.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_value_of_our_own_making_counts() {
        let ours = fresh();
        let other = fresh();
        let cases = [
            (format!("{NAME}={ours}"), Some(ours.clone())),
            (format!("a=b; {NAME}={ours}; c=d"), Some(ours.clone())),
            (format!("{NAME}={ours}; {NAME}={other}"), None),
            (format!("{NAME}=short"), None),
            (format!("{NAME}={ours}x"), None),
            (format!("keyholder={ours}"), None),
            (String::new(), None),
        ];
        for (line, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, line.parse().unwrap());
            assert_eq!(sent(&headers), expected, "{line}");
        }
    }

    #[test]
    fn it_is_bound_to_this_host_and_hidden_from_scripts() {
        let value = fresh();
        let line = set(&value).unwrap();
        assert_eq!(line.to_str().unwrap(), format!("__Host-keyholder={value}; Secure; HttpOnly; SameSite=Lax; Path=/"));
    }
}
