//! Headers that every answer has. A handler cannot leave them out, and what a provider answered cannot replace them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The policy of everything that is no page: it may load nothing, and nothing may frame it.
const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page's own policy, handed to the edge beside the answer.
#[derive(Debug, Clone)]
pub(crate) struct PagePolicy(HeaderValue);

impl PagePolicy {
    /// A page with our stylesheet and a form that may end at these origins. Browsers apply `form-action` to the redirects behind a
    /// form as well (CSP Level 3 §6.4.1), so the origins of the providers' consent pages are among them.
    pub(crate) fn with_form<S: AsRef<str>>(origins: &[S]) -> Self {
        let mut ends = String::from("'self'");
        for origin in origins.iter().map(AsRef::as_ref).filter(|origin| is_origin(origin)) {
            ends.push(' ');
            ends.push_str(origin);
        }
        Self::page(&ends)
    }

    /// A page with our stylesheet and no form.
    pub(crate) fn reading() -> Self {
        Self::page("'none'")
    }

    fn page(form_action: &str) -> Self {
        let policy = format!(
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
        );
        Self(HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(NOTHING)))
    }
}

/// Whether a text is an origin that can stand in a policy without changing it.
fn is_origin(text: &str) -> bool {
    text.starts_with("https://") && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-[]".contains(&byte))
}

/// Sets what every answer has; `over_tls` where browsers reach this server over TLS.
pub(crate) fn secure(headers: &mut HeaderMap, page: Option<&PagePolicy>, over_tls: bool) {
    if domain::sabotaged!(SecurityHeaders) {
        return;
    }
    let policy = page.map_or(HeaderValue::from_static(NOTHING), |PagePolicy(policy)| policy.clone());
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let fixed = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), fullscreen=(), geolocation=(), \
             gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), usb=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Only where browsers come over TLS: a host must not say it in the clear (RFC 6797 §7.2).
    if over_tls && !domain::sabotaged!(Hsts) {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    // Who asks decides what a browser may read of an answer; whoever keeps it must tell askers apart (RFC 9110 §12.5.5).
    headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
    // Only the edge grants an origin anything.
    for name in [
        header::SERVER,
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secured(page: Option<&PagePolicy>, over_tls: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::SERVER, HeaderValue::from_static("x"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src *"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        secure(&mut headers, page, over_tls);
        headers
    }

    #[test]
    fn every_answer_has_them_whatever_a_handler_set() {
        let headers = secured(None, true);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], NOTHING);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
        assert!(headers.contains_key("permissions-policy"));
        assert!(headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
        assert!(!headers.contains_key(header::SERVER));
        assert_eq!(headers[header::VARY], "origin");
        assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{headers:?}");
    }

    #[test]
    fn transport_security_is_not_said_in_the_clear() {
        assert!(!secured(None, false).contains_key(header::STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn a_form_may_end_at_the_providers_and_nowhere_else() {
        let page = PagePolicy::with_form(&[
            "https://x.com",
            "https://127.0.0.1:4443",
            "https://a.example; script-src *",
            "'unsafe-inline'",
        ]);
        let headers = secured(Some(&page), true);
        assert_eq!(
            headers[header::CONTENT_SECURITY_POLICY],
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self' https://x.com https://127.0.0.1:4443; \
             frame-ancestors 'none'"
        );
    }
}
