//! Bodies: read within bounds of size, and only where the content type is one that the route takes. In what time, `serve` sees to.

use bytes::Bytes;
use domain::{
    json::{self, Limits},
    problem::Kind,
};
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use crate::{
    input::{Body, Takes},
    problem::Problem,
    serve,
};

/// The largest body, in bytes.
pub const MOST_BYTES: usize = 256 * 1024;

/// Reads a body as the route takes it. The content type is looked at before the first byte.
pub(crate) async fn read(headers: &HeaderMap, body: axum::body::Body, takes: Takes) -> Result<Body, Problem> {
    let is_there = !http_body::Body::is_end_stream(&body);
    if !is_there && !headers.contains_key(header::CONTENT_TYPE) {
        return Ok(match takes {
            Takes::Json => Body::Json(Value::Object(Map::new())),
            Takes::Form => Body::Form(Vec::new()),
            Takes::Nothing | Takes::RawJson => Body::Nothing,
        });
    }
    check_type(headers, is_there, takes)?;
    if headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0) > MOST_BYTES
    {
        return Err(too_large());
    }
    let bytes = collect(body).await?;
    match takes {
        Takes::Nothing => Ok(Body::Nothing),
        Takes::RawJson => Ok(Body::Raw(bytes)),
        Takes::Json => {
            let first = || serde_json::Deserializer::from_slice(&bytes).into_iter().next()?.ok();
            let lenient: Option<Value> = domain::sabotaged!(BodyNotJson).then(first).flatten();
            let value = lenient.map_or_else(|| json::parse_strict(&bytes, Limits::bytes(MOST_BYTES)), Ok)?;
            // No text of the database can hold it.
            if holds_nul(&value) {
                Err(Problem::new(Kind::InvalidJson).saying("a text holds U+0000"))
            } else {
                Ok(Body::Json(value))
            }
        }
        Takes::Form => Ok(Body::Form(url::form_urlencoded::parse(&bytes).into_owned().collect())),
    }
}

/// The one content type that the route takes, and no coding of it: what is compressed could not be bounded by its length.
fn check_type(headers: &HeaderMap, is_there: bool, takes: Takes) -> Result<(), Problem> {
    let refuse = |why: &str| Err(Problem::new(Kind::UnsupportedMediaType).saying(why));
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return refuse("a body is sent without a content coding");
    }
    let (wanted, why) = match takes {
        Takes::Json | Takes::RawJson => ("application/json", "the body is application/json"),
        Takes::Form => ("application/x-www-form-urlencoded", "the body is application/x-www-form-urlencoded"),
        Takes::Nothing if is_there => return refuse("this route takes no body"),
        Takes::Nothing => return Ok(()),
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let given = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (essence, parameters) = given.split_once(';').unwrap_or((given, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    let utf8 = matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"");
    if types.next().is_none() && utf8 && essence.trim().eq_ignore_ascii_case(wanted) { Ok(()) } else { refuse(why) }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, member)| name.contains('\0') || holds_nul(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

async fn collect(body: axum::body::Body) -> Result<Bytes, Problem> {
    match Limited::new(body, MOST_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) if serve::is_late(&*error) => {
            Err(Problem::new(Kind::RequestTimeout).saying("the body did not come in time"))
        }
        Err(_) => Err(Problem::new(Kind::InvalidJson).saying("the body broke off")),
    }
}

fn too_large() -> Problem {
    Problem::new(Kind::BodyTooLarge).saying(format!("a body has at most {MOST_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        headers
    }

    async fn kind(content_type: &str, body: &[u8], takes: Takes) -> Option<Kind> {
        let body = axum::body::Body::from(body.to_vec());
        read(&headers(content_type), body, takes).await.err().map(|problem| problem.kind())
    }

    #[tokio::test]
    async fn each_bad_body_has_its_kind() {
        let deep = [vec![b'['; 40], vec![b']'; 40]].concat();
        let large = [b"\"".to_vec(), vec![b'a'; MOST_BYTES], b"\"".to_vec()].concat();
        let json = "application/json";
        let cases: &[(&str, &[u8], Takes, Option<Kind>)] = &[
            (json, b"{}", Takes::Json, None),
            ("Application/JSON; charset=UTF-8", b"{}", Takes::Json, None),
            ("", b"", Takes::Json, None),
            ("", b"", Takes::Nothing, None),
            ("", b"", Takes::RawJson, None),
            (json, b"", Takes::Json, Some(Kind::InvalidJson)),
            (json, b"{\"a\":1,\"a\":2}", Takes::Json, Some(Kind::InvalidJson)),
            (json, b"{\"a\":\"\xff\"}", Takes::Json, Some(Kind::InvalidJson)),
            (json, b"{} {}", Takes::Json, Some(Kind::InvalidJson)),
            (json, b"{\"a\":[\"\\u0000\"]}", Takes::Json, Some(Kind::InvalidJson)),
            (json, b"{\"\\u0000\":1}", Takes::Json, Some(Kind::InvalidJson)),
            (json, &deep, Takes::Json, Some(Kind::InvalidJson)),
            (json, &large, Takes::Json, Some(Kind::BodyTooLarge)),
            ("", b"{}", Takes::Json, Some(Kind::UnsupportedMediaType)),
            ("text/plain", b"{}", Takes::Json, Some(Kind::UnsupportedMediaType)),
            ("application/json; charset=latin1", b"{}", Takes::Json, Some(Kind::UnsupportedMediaType)),
            ("application/jsonp", b"{}", Takes::Json, Some(Kind::UnsupportedMediaType)),
            ("text/plain", b"{", Takes::RawJson, Some(Kind::UnsupportedMediaType)),
            (json, b"{}", Takes::Nothing, Some(Kind::UnsupportedMediaType)),
            (json, b"{}", Takes::Form, Some(Kind::UnsupportedMediaType)),
            ("application/x-www-form-urlencoded", b"a=1&a=2", Takes::Form, None),
        ];
        for (content_type, body, takes, expected) in cases {
            let shown = String::from_utf8_lossy(body.get(..body.len().min(20)).unwrap());
            assert_eq!(kind(content_type, body, *takes).await, *expected, "{content_type} {shown} {takes:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_lies_about_its_length_is_cut_while_it_is_read() {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let chunks = (0..100).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 * 1024]))
        });
        let body = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
        let read = read(&headers("application/json"), body, Takes::Json).await;
        assert_eq!(read.unwrap_err().kind(), Kind::BodyTooLarge);
        assert!(sent.load(Ordering::Relaxed) < 10, "it was read on past the limit");
    }

    #[tokio::test]
    async fn a_compressed_body_is_refused() {
        let mut headers = headers("application/json");
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let read = read(&headers, axum::body::Body::from("{}"), Takes::Json).await;
        assert_eq!(read.unwrap_err().kind(), Kind::UnsupportedMediaType);
    }
}
