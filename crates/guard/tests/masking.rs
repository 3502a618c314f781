//! Personal data in every notation, and the numbers that are none.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of the test functions themselves")]

use std::sync::Arc;

use keyholder_guard::{Addresses, Cleaner, Masker, Redactor};
use proptest::prelude::*;

fn masker() -> Masker {
    Masker::new(Addresses::MaskPublic).expect("the pattern compiles")
}

const TABLE: &[(&str, &str)] = &[
    ("write to a.b+c@mail.example.com.", "write to [email]."),
    ("<someone@example.org>, other@example.org", "<[email]>, [email]"),
    ("to=someone%40example.org&x=1", "to=[email]&x=1"),
    (r#"{"email":"someone\u0040example.org"}"#, r#"{"email":"[email]"}"#),
    ("jörg@müller.example", "[email]"),
    ("call +4915112345678 now", "call [phone] now"),
    ("+49 151 1234-5678", "[phone]"),
    ("+1 (555) 223-4567, again", "[phone], again"),
    ("phone=%2B4915112345678&x", "phone=[phone]&x"),
    ("tel:+4915112345678", "tel:[phone]"),
    ("(555) 223-4567", "[phone]"),
    ("555-223-4567", "[phone]"),
    ("555.223.4567", "[phone]"),
    ("1-555-223-4567", "[phone]"),
    ("0151 12345678", "[phone]"),
    ("01 23 45 67 89", "[phone]"),
    ("01.23.45.67.89", "[phone]"),
    ("0049 151 12345678", "[phone]"),
    ("030/1234567", "[phone]"),
    ("\"phone\":\"4915112345678\"", "\"phone\":\"[phone]\""),
    ("wa_id: 4915112345678", "wa_id: [phone]"),
    ("phone_number=5552234567", "phone_number=[phone]"),
    ("+4915112345678 2025-11-21", "[phone] 2025-11-21"),
    ("\n+4915112345678\n", "\n[phone]\n"),
    ("4111 1111 1111 1111", "[card]"),
    ("4111-1111-1111-1111 and 378282246310005", "[card] and [card]"),
    ("card 5555555555554444.", "card [card]."),
    ("from 203.0.113.9:443", "from [ip]:443"),
    ("203.0.113.9:203.0.113.10", "[ip]:[ip]"),
    ("http://203.0.113.9/x", "http://[ip]/x"),
    ("[2001:db8::1]:443", "[[ip]]:443"),
    ("client 2a00:1450:4001:81b::200e left", "client [ip] left"),
    ("::ffff:203.0.113.9", "[ip]"),
];

const HARMLESS: &[&str] = &[
    "550e8400-e29b-41d4-a716-446655440000",
    "12345678-1234-1234-1234-123456789012",
    "act_01234567890123456789012345",
    "con_01jd8fzq4t5e6r7y8u9i0o1p2a",
    "2025-11-21T22:58:01.123456Z",
    "2025-11-21 22:58:01",
    "2025-11-21 10 11 12",
    "1763765881 and 1763765881123",
    "post 1989123456789012345",
    "account 17841400000000000",
    "$1,299.00 1.299.000,00 1 299 000 000",
    "0.0012345678 s",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "4111111111111112",
    "127.0.0.1:5432 and [::1]:5432",
    "10.0.0.5 fe80::1 192.168.1.10",
    "Browser/120.0.0.0",
    "12:34:56 and 10:20:30:40",
    "serde::de::Error core::fmt::Write",
    "pid 12345 port 5432 took 1500 ms",
    "admin@localhost and @handle",
    "PostgreSQL 18.1.0, 200 404 500",
    "0000000000000001",
    "UTC+02:00",
    "order 555-2234",
    "retry in 1000 2000 4000",
    "span 12345678901234567890123456789012",
];

#[test]
fn personal_data_is_masked() {
    let masker = masker();
    let faults: Vec<String> = TABLE
        .iter()
        .map(|(text, wanted)| (text, wanted, masker.mask(text)))
        .filter(|(_, wanted, shown)| shown != *wanted)
        .map(|(text, wanted, shown)| format!("{text}: {shown}, not {wanted}"))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn other_numbers_stay() {
    let masker = masker();
    let faults: Vec<String> = HARMLESS
        .iter()
        .map(|text| (text, masker.mask(text)))
        .filter(|(text, shown)| shown != *text)
        .map(|(text, shown)| format!("{text} -> {shown}"))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_field_is_judged_by_its_name() {
    let masker = masker();
    for (name, value, marker) in [
        ("phone", "4915112345678", Some("[phone]")),
        ("owner_phone_number", "x", Some("[phone]")),
        ("owner_email", "someone", Some("[email]")),
        ("hotel", "5", None),
        ("email", "", None),
        ("attempt", "4915112345678", None),
    ] {
        assert_eq!(masker.field_marker(name, value), marker, "{name}");
    }
}

#[test]
fn addresses_are_a_choice() {
    let text = "203.0.113.9 10.0.0.5 127.0.0.1 ::1 fd00::5";
    for (addresses, shown) in [
        (Addresses::Keep, text),
        (Addresses::MaskPublic, "[ip] 10.0.0.5 127.0.0.1 ::1 fd00::5"),
        (Addresses::MaskAll, "[ip] [ip] 127.0.0.1 ::1 [ip]"),
    ] {
        assert_eq!(Masker::new(addresses).expect("compiles").mask(text), shown);
    }
}

#[test]
fn a_cut_never_halves_a_secret() {
    let redactor = Arc::new(Redactor::with_values(["correct horse battery staple"]).expect("one value"));
    let cleaner = Cleaner::new(redactor, masker());
    let text = "0123456789 correct horse battery staple someone@example.org";
    for limit in 0..text.len() {
        let shown = cleaner.clean_cut(text, limit);
        assert!(!shown.contains("cor") && !shown.contains("some"), "{limit}: {shown}");
    }
    let long = format!("{}{}", "x".repeat(100_000), "\u{e9}".repeat(100_000));
    assert_eq!(cleaner.clean_cut(&long, 64).len(), 64);
}

#[test]
fn hostile_texts_cost_their_length() {
    let masker = masker();
    for unit in ["1 ", "+1", "1-", "12345678901234567890 ", "a@", "a@b.", ":", "1.", "::1", "(1"] {
        let _ = masker.mask(&unit.repeat(100_000 / unit.len()));
    }
}

fn shared() -> &'static Cleaner {
    static SHARED: std::sync::OnceLock<Cleaner> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| Cleaner::new(Arc::new(Redactor::new().expect("the patterns compile")), masker()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cleaning_is_idempotent(text in "([a-z@.:/ ]{0,6}|[0-9 +().-]{0,14}|token=|password: |\\[email\\]|[0-9a-f:]{2,12}|\\PC{0,3}){0,8}") {
        let cleaner = shared();
        let once = cleaner.clean(&text).into_owned();
        prop_assert_eq!(cleaner.clean(&once), once.clone());
    }

    #[test]
    fn any_text_is_taken(text in "[0-9+(). @:a-f%/-]*", other in "\\PC*") {
        let _ = shared().clean(&text);
        let _ = shared().clean(&other);
    }

    #[test]
    fn no_international_number_is_left(number in "\\+[1-9][0-9]{7,14}", left in "[a-z]{0,5} ", right in "( [a-z]{0,5})?") {
        let shown = shared().clean(&format!("{left}{number}{right}")).into_owned();
        prop_assert_eq!(shown, format!("{left}[phone]{right}"));
    }

    #[test]
    fn no_address_is_left(local in "[a-z0-9]([a-z0-9._+-]{0,10}[a-z0-9])?", domain in "[a-z0-9]{1,10}\\.[a-z]{2,6}") {
        let shown = shared().clean(&format!("to {local}@{domain}, now")).into_owned();
        prop_assert_eq!(shown, "to [email], now");
    }
}
