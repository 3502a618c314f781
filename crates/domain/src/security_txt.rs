//! `security.txt`: how a vulnerability is reported (RFC 9116), from a blueprint's or an operator's own words.
//!
//! Owns the text. Never invents a way to report: where nobody has named one that reaches somebody, there is no text.

use time::{OffsetDateTime, Time, UtcOffset};
use url::Url;

use crate::{blueprint::Security, sabotaged};

/// Hosts that stand in documents and reach nobody (RFC 2606).
const FOR_DOCUMENTS: [&str; 7] =
    ["example.com", "example.net", "example.org", "example", "invalid", "localhost", "test"];

/// The text, for an installation at this address. What is not there is left out (§2.5); each line ends by LF (§2.2 leaves the choice).
pub fn text(security: &Security, public_url: &Url) -> String {
    let mut lines: Vec<String> = Vec::new();
    // Where this is sabotaged, a reporter is not told what to send, nor asked for privacy.
    if !sabotaged!(SecurityTxt) {
        lines.extend(security.words.iter().map(|line| format!("# {line}")));
    }
    lines.extend(security.contact.iter().map(|contact| format!("Contact: {contact}")));
    lines.push(format!("Expires: {}T23:59:59Z", security.expires));
    lines.extend(security.acknowledgments.iter().map(|address| format!("Acknowledgments: {address}")));
    lines.extend(security.policy.iter().map(|address| format!("Policy: {address}")));
    if !security.languages.is_empty() {
        lines.push(format!("Preferred-Languages: {}", security.languages.join(", ")));
    }
    // §2.5.2: a web address in it is https.
    if public_url.scheme() == "https" {
        lines.push(format!("Canonical: {}.well-known/security.txt", public_url.as_str()));
    }
    lines.join("\n") + "\n"
}

/// When the text is not to be believed any more.
pub fn expires_at(security: &Security) -> OffsetDateTime {
    let last = Time::from_hms(23, 59, 59).unwrap_or(Time::MIDNIGHT);
    security.expires.with_time(last).assume_offset(UtcOffset::UTC)
}

/// Whether every way that it names is one that stands in documents alone: then it names none.
pub fn is_for_documents(security: &Security) -> bool {
    security.contact.iter().all(|contact| {
        let Ok(url) = Url::parse(contact) else { return true };
        let host = url.host_str().map_or_else(
            || url.path().rsplit('@').next().unwrap_or_default().to_ascii_lowercase(),
            str::to_ascii_lowercase,
        );
        FOR_DOCUMENTS.iter().any(|known| host == *known || host.ends_with(&format!(".{known}")))
    })
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    fn security(contact: &[&str]) -> Security {
        Security {
            contact: contact.iter().map(|text| (*text).to_owned()).collect(),
            expires: date!(2030 - 01 - 31),
            acknowledgments: None,
            policy: Some("https://acme.dev/security".to_owned()),
            languages: vec!["en".to_owned(), "de".to_owned()],
            words: vec!["Send steps, not screenshots.".to_owned(), "Please keep it private.".to_owned()],
        }
    }

    #[test]
    fn the_text_has_the_fields_of_rfc_9116() {
        let security = security(&["mailto:security@acme.dev", "https://acme.dev/report"]);
        let public = Url::parse("https://keys.acme.dev").unwrap();
        let expected = "# Send steps, not screenshots.\n# Please keep it private.\nContact: mailto:security@acme.dev\n\
             Contact: https://acme.dev/report\nExpires: 2030-01-31T23:59:59Z\nPolicy: https://acme.dev/security\n\
             Preferred-Languages: en, de\nCanonical: https://keys.acme.dev/.well-known/security.txt\n";
        assert_eq!(text(&security, &public), expected);
        assert_eq!(expires_at(&security), datetime!(2030-01-31 23:59:59 UTC));
        let local = Url::parse("http://localhost:8080").unwrap();
        assert!(!text(&security, &local).contains("Canonical"));
    }

    #[test]
    fn an_address_of_documents_reaches_nobody() {
        for (contact, is) in [
            ("mailto:security@example.com", true),
            ("mailto:security@mail.EXAMPLE.com", true),
            ("https://acme.example/report", true),
            ("https://localhost:3000/", true),
            ("mailto:security@acme.dev", false),
            ("https://notexample.com/report", false),
        ] {
            assert_eq!(is_for_documents(&security(&[contact])), is, "{contact}");
        }
        assert!(!is_for_documents(&security(&["mailto:a@example.com", "mailto:a@acme.dev"])));
    }
}
