//! What could be read in two ways, by us and by whoever stands before us, is refused before it is read at all.

use axum::extract::Request;
use domain::problem::Kind;
use http::{HeaderName, header};

use crate::problem::Problem;

/// The longest target, path and query together, in bytes.
pub(super) const MOST_TARGET_BYTES: usize = 8 * 1024;

/// What a request says once or not at all. `Origin` is judged where origins are.
const SINGLE: [HeaderName; 7] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("idempotency-key"),
];

/// Refuses a request whose target is too long, that says something twice, or whose body is coded on its way.
pub(super) fn refuse_ambiguous(request: &Request) -> Result<(), Problem> {
    let length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if length > MOST_TARGET_BYTES {
        return Err(Problem::new(Kind::UriTooLong).saying(format!("an address has at most {MOST_TARGET_BYTES} bytes")));
    }
    let headers = request.headers();
    if let Some(name) = SINGLE.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        return Err(Problem::new(Kind::MalformedRequest).saying(format!("`{name}` is given more than once")));
    }
    // Another coding than `chunked` would hide the body's real length (RFC 9112 §6.1).
    if headers.get(header::TRANSFER_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Problem::new(Kind::MalformedRequest).saying("a body is sent without a transfer coding but chunked"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_refused() {
        let request = |path: &str, pairs: &[(&str, &str)]| {
            let request =
                pairs.iter().fold(Request::builder().uri(path), |request, (name, value)| request.header(*name, *value));
            refuse_ambiguous(&request.body(axum::body::Body::empty()).unwrap()).err().map(|it| it.status().as_u16())
        };
        let long = format!("/{}", "a".repeat(MOST_TARGET_BYTES));
        let longest = long.get(..MOST_TARGET_BYTES).unwrap();
        assert_eq!(request(longest, &[("host", "a"), ("accept", "a"), ("accept", "b")]), None);
        assert_eq!(request(&long, &[]), Some(414));
        assert_eq!(request(&format!("/?{long}"), &[]), Some(414));
        for name in SINGLE {
            assert_eq!(request("/", &[(name.as_str(), "chunked")]), None, "{name}");
            assert_eq!(request("/", &[(name.as_str(), "a"), (name.as_str(), "a")]), Some(400), "{name}");
        }
        for coding in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "x"] {
            assert_eq!(request("/", &[("transfer-encoding", coding)]), Some(400), "{coding}");
        }
    }
}
