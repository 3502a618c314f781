//! Origins as tables: which are listed, and who is let through where.

use super::*;

#[test]
fn an_origin_is_listed_as_browsers_write_it() {
    for good in
        ["https://app.example.com", "https://app.example.com:8443", "http://localhost:3000", "http://127.0.0.1:3000"]
    {
        assert_eq!(good.parse::<Origin>().map(|it| it.is_secure()), Ok(good.starts_with("https")), "{good}");
    }
    for bad in [
        "",
        "*",
        "null",
        "https://*.example.com",
        "https://*",
        "app.example.com",
        "http://app.example.com",
        "ftp://app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?x",
        "https://app.example.com#x",
        "https://App.example.com",
        "https://app.example.com:443",
        "https://user@app.example.com",
        "https://app.example.com https://b.example",
        "http://localhost.evil.example:3000",
        "http://[::1]:3000/",
        "file:///",
        "chrome-extension://abc",
        "https://",
    ] {
        assert!(bad.parse::<Origin>().is_err(), "{bad}");
    }
}

fn place(is_page: bool) -> Place {
    let text = HeaderValue::from_static("GET");
    Place { is_page, is_guarded: !is_page, methods: text.clone(), headers: text }
}

type Pairs = &'static [(&'static str, &'static str)];

#[test]
fn who_is_let_through() {
    const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");
    const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
    const LISTED: (&str, &str) = ("origin", "https://app.example.com");
    const OWN: (&str, &str) = ("origin", "https://keys.example.com");
    let public = Url::parse("https://keys.example.com/").unwrap();
    let origins = Origins::new(&public, vec![LISTED.1.parse().unwrap()]);
    // Headers; then at the API and at a page: refused, let through, or granted.
    let (no, yes, granted) = (None, Some(false), Some(true));
    let cases: &[(Method, Pairs, Option<bool>, Option<bool>)] = &[
        (Method::POST, &[], yes, yes),
        (Method::POST, &[OWN], yes, yes),
        (Method::POST, &[LISTED], granted, no),
        (Method::GET, &[LISTED, CROSS], granted, no),
        (Method::OPTIONS, &[LISTED], granted, no),
        (Method::POST, &[("origin", "https://evil.example")], no, no),
        (Method::GET, &[("origin", "https://evil.example")], no, no),
        (Method::GET, &[("origin", "https://evil.example"), NAVIGATE], no, no),
        (Method::POST, &[("origin", "https://keys.example.com:8443")], no, no),
        (Method::POST, &[("origin", "http://keys.example.com")], no, no),
        (Method::POST, &[("origin", "https://keys.example.com.evil.example")], no, no),
        (Method::POST, &[("origin", "https://app.example.com.evil.example")], no, no),
        (Method::POST, &[("origin", "https://APP.example.com")], no, no),
        (Method::POST, &[("origin", "null")], no, no),
        (Method::POST, &[("origin", "null"), CROSS], no, no),
        (Method::POST, &[("origin", "null"), ("sec-fetch-site", "same-origin")], no, yes),
        (Method::POST, &[("origin", "null"), ("sec-fetch-site", "same-origin"), CROSS], no, no),
        (Method::POST, &[("origin", "")], no, no),
        (Method::POST, &[OWN, LISTED], no, no),
        (Method::POST, &[OWN, OWN], no, no),
        // Without an origin, by what browsers say of themselves.
        (Method::POST, &[("sec-fetch-site", "same-origin")], yes, yes),
        (Method::GET, &[("sec-fetch-site", "none")], yes, yes),
        (Method::GET, &[CROSS], no, no),
        (Method::POST, &[CROSS, NAVIGATE, ("sec-fetch-dest", "document")], no, no),
        (Method::GET, &[CROSS, NAVIGATE, ("sec-fetch-dest", "document")], yes, yes),
        (Method::GET, &[("sec-fetch-site", "same-site"), NAVIGATE, ("sec-fetch-dest", "document")], yes, yes),
        (Method::GET, &[CROSS, NAVIGATE, ("sec-fetch-dest", "iframe")], no, no),
        (Method::GET, &[CROSS, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")], no, no),
        (Method::GET, &[("sec-fetch-site", "same-site")], no, no),
        (Method::GET, &[("sec-fetch-site", "of our own making")], no, no),
    ];
    for (method, pairs, at_api, at_page) in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in *pairs {
            headers.append(*name, value.parse().unwrap());
        }
        for (is_page, expected) in [(false, at_api), (true, at_page)] {
            let answer = origins.refuse_others(method, &headers, Some(&place(is_page)));
            let granted = answer.ok().map(|grant| grant.is_some());
            assert_eq!(granted, *expected, "{method} {pairs:?}, page: {is_page}");
        }
    }
}

#[test]
fn a_grant_names_one_origin_and_no_credentials() {
    let mut headers = HeaderMap::new();
    Grant(HeaderValue::from_static("https://app.example.com")).admit(&mut headers);
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.com");
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    headers.extend(preflight(&place(false)));
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    assert!(headers.values().all(|value| value != "*"));
}
