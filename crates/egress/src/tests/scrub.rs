//! The scrub finds a secret however it is written and wherever the text is cut, and touches nothing else.

use base64::{Engine, engine::general_purpose};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

use crate::{Scrubber, scrub::work};

const SECRET: &str = "Zq3-vT8_kQ.9x~W/1+b=";

fn scrubber() -> Scrubber {
    Scrubber::new([SECRET.as_bytes()])
}

fn scrub(text: &[u8]) -> (Vec<u8>, usize) {
    let clean = scrubber().clean(StatusCode::OK, &HeaderMap::new(), &Bytes::copy_from_slice(text));
    (clean.body().to_vec(), clean.hits())
}

fn scrub_in_pieces(scrubber: &Scrubber, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    let mut stream = scrubber.stream();
    let mut clean: Vec<u8> = pieces.iter().flat_map(|piece| stream.push(piece)).collect();
    let (rest, hits) = stream.finish();
    clean.extend(rest);
    (clean, hits)
}

/// The ways to write one character, as data: escapes of each kind, some of them escaped again. The first is none.
const FORMS: usize = 15;
fn write(byte: u8, form: usize) -> String {
    let character = char::from(byte);
    match form {
        1 => format!("%{byte:02X}"),
        2 => format!("%{byte:02x}"),
        3 => format!("\\u{byte:04x}"),
        4 => format!("\\u{byte:04X}"),
        5 => format!("&#{byte};"),
        6 => format!("&#x{byte:x};"),
        7 => format!("%25{byte:02x}"),
        8 => format!("\\\\u{byte:04x}"),
        9 => format!("\\u0025{byte:02X}"),
        10 => format!("\\u0026#{byte};"),
        11 => format!("\\x{byte:02x}"),
        12 if character.is_ascii_punctuation() => format!("\\{character}"),
        13 if character.is_ascii_punctuation() => format!("\\\\\\{character}"),
        14 => format!("%5Cu{byte:04x}"),
        _ => character.to_string(),
    }
}

#[test]
fn every_form_is_found_wherever_the_text_is_cut() {
    let all = |form| SECRET.bytes().map(|byte| write(byte, form)).collect::<String>();
    let alternating = |a, b| {
        SECRET.bytes().enumerate().map(|(i, byte)| write(byte, if i % 2 == 0 { a } else { b })).collect::<String>()
    };
    let mut forms: Vec<String> = (0..FORMS).map(all).collect();
    forms.extend([hex::encode(SECRET), hex::encode_upper(SECRET)]);
    let pure = forms.len();
    forms.extend((0..FORMS).flat_map(|a| (0..FORMS).map(move |b| alternating(a, b))));
    let scrubber = scrubber();
    for (number, form) in forms.iter().enumerate() {
        let text = format!("<< {form} >>");
        let whole = scrub_in_pieces(&scrubber, &[text.as_bytes()]);
        assert_eq!(String::from_utf8_lossy(&whole.0), "<< [redacted] >>", "{form}");
        assert_eq!(whole.1, 1, "{form}");
        let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
        assert_eq!(scrub_in_pieces(&scrubber, &bytes), whole, "{form} byte by byte");
        for cut in (0..=text.len()).filter(|_| number < pure) {
            let (head, tail) = text.as_bytes().split_at(cut);
            assert_eq!(scrub_in_pieces(&scrubber, &[head, tail]), whole, "{form} cut at {cut}");
        }
    }
}

#[test]
fn base64_is_found_at_each_alignment_in_both_alphabets() {
    // Bytes that need both characters in which the alphabets differ.
    let secret = b"\xfb\xef\xbe?\xff\xfe~~?secret-enough";
    let scrubber = Scrubber::new([secret.as_slice()]);
    for engine in [
        general_purpose::STANDARD,
        general_purpose::STANDARD_NO_PAD,
        general_purpose::URL_SAFE,
        general_purpose::URL_SAFE_NO_PAD,
    ] {
        for ahead in ["", "B", "Be", "Bea", "Bearer ", "Authorization: Bearer "] {
            for behind in ["", "\r", "\r\n", "\"}}"] {
                let plain = [ahead.as_bytes(), secret, behind.as_bytes()].concat();
                let encoded = engine.encode(&plain);
                for text in [
                    encoded.clone(),
                    encoded.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D"),
                    encoded.replace('/', "\\/"),
                    encoded.chars().flat_map(|letter| [letter, ' ']).collect(),
                    encoded
                        .as_bytes()
                        .chunks(7)
                        .map(|line| String::from_utf8_lossy(line))
                        .collect::<Vec<_>>()
                        .join("\r\n"),
                    encoded
                        .as_bytes()
                        .chunks(7)
                        .map(|line| String::from_utf8_lossy(line))
                        .collect::<Vec<_>>()
                        .join("\\n"),
                ] {
                    let whole = scrub_in_pieces(&scrubber, &[text.as_bytes()]);
                    assert_eq!(whole.1, 1, "{text}");
                    let left = whole.0.len() - "[redacted]".len();
                    assert!(left <= text.len() - secret.len(), "the secret's own characters are gone: {text}");
                    let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
                    assert_eq!(scrub_in_pieces(&scrubber, &bytes), whole, "{text} byte by byte");
                }
            }
        }
    }
}

#[test]
fn what_is_no_secret_is_left_alone() {
    let (almost, _) = SECRET.split_at(SECRET.len() - 1);
    let lower = SECRET.to_lowercase();
    for text in ["", "%", "\\", "&", "a%zz\\q&nope;", "\\u12", almost, &lower, r#"{"a":"\\\"\u0041\/"}"#, "😀é"] {
        assert_eq!(scrub(text.as_bytes()), (text.as_bytes().to_vec(), 0));
    }
    let nothing = Scrubber::new([b"".as_slice()]);
    assert_eq!(scrub_in_pieces(&nothing, &[b"any text"]), (b"any text".to_vec(), 0));
}

#[test]
fn secrets_may_repeat_overlap_and_be_anything() {
    for (secret, text, expected) in [
        ("a", "xa a", "x[redacted] [redacted]"),
        ("+", "+ %2b", "[redacted] [redacted]"),
        ("ab", "aab", "a[redacted]"),
        ("abab", "abababab", "[redacted][redacted]"),
        ("abab", "ababab", "[redacted]ab"),
        ("aab", "aaab", "a[redacted]"),
        ("aaaaaaaa", "aaaaaaaaaaaaaaaaaaaa", "[redacted][redacted]aaaa"),
        ("p w", "p+w p%20w p w", "[redacted] [redacted] [redacted]"),
        (
            "pé😀",
            r"pé😀 p\u00e9\ud83d\ude00 p%C3%A9%F0%9f%98%80 p&#233;&#x1f600;",
            "[redacted] [redacted] [redacted] [redacted]",
        ),
        ("a%41b", "a%41b a%2541b a%62 %61%41b", "[redacted] [redacted] a%62 [redacted]"),
        (r"a\b", r"a\b a\\b a\\\\b a%5Cb", "[redacted] [redacted] [redacted] [redacted]"),
        ("nabcdef", r"x\nabcdef", "x[redacted]"),
        ("41bcdef", r"x\u0041bcdef", "x[redacted]"),
        ("a&b", "a&amp;b a&b a&#38;b", "[redacted] [redacted] [redacted]"),
    ] {
        let scrubber = Scrubber::new([secret.as_bytes()]);
        let (clean, _) = scrub_in_pieces(&scrubber, &[text.as_bytes()]);
        assert_eq!(String::from_utf8_lossy(&clean), expected, "{secret} in {text}");
    }
}

#[test]
fn json_stays_json() {
    let json = serde_json::json!({ "a": SECRET, SECRET: ["x\n", format!("\"{SECRET}\\")], "n": 1 });
    let nested = serde_json::json!({ "error": json.to_string() });
    for text in [json.to_string(), nested.to_string(), nested.to_string().replace('/', "\\/")] {
        let (clean, hits) = scrub(text.as_bytes());
        assert_eq!(hits, 3);
        serde_json::from_slice::<serde_json::Value>(&clean).unwrap();
    }
    let number = Scrubber::new([b"1234567890".as_slice()]);
    let clean = number.clean(StatusCode::OK, &HeaderMap::new(), &Bytes::from_static(br#"{"id":1234567890}"#));
    assert_eq!((&clean.body()[..], clean.hits()), (&b"\"[redacted]\""[..], 1));
}

#[test]
fn headers_and_body_are_searched_apart_from_each_other() {
    let (first, second) = SECRET.split_at(SECRET.len() / 2);
    // The second half stands where it would have to, were the first one in the text before this one.
    let ahead = ".".repeat(first.len() - 3);
    let body = Bytes::from(format!("%5a{ahead}{second}{first}"));
    let mut headers = HeaderMap::new();
    headers.insert("etag", HeaderValue::from_str(first).unwrap());
    headers.append("retry-after", HeaderValue::from_str(second).unwrap());
    let clean = scrubber().clean(StatusCode::OK, &headers, &body);
    assert_eq!((clean.headers(), clean.body(), clean.hits()), (&headers, &body, 0));
    assert_eq!(clean.body().as_ptr(), body.as_ptr(), "what is clean is not copied");

    headers.append("etag", HeaderValue::from_str(SECRET).unwrap());
    let body = Bytes::from(format!("{second}{SECRET}{first}"));
    let clean = scrubber().clean(StatusCode::OK, &headers, &body);
    assert_eq!((&clean.body()[..], clean.hits()), (format!("{second}[redacted]{first}").as_bytes(), 2));
}

#[test]
fn each_of_many_secrets_is_found() {
    let secrets: Vec<String> = (0..40).map(|number| format!("{number:02}-{SECRET}-{}", 99 - number)).collect();
    let scrubber = Scrubber::new(secrets.iter().map(String::as_bytes));
    for (number, secret) in secrets.iter().enumerate() {
        let form: String = secret.bytes().map(|byte| write(byte, number % FORMS)).collect();
        for echo in [secret, &form, &hex::encode(secret), &general_purpose::STANDARD_NO_PAD.encode(secret)] {
            let (clean, hits) = scrub_in_pieces(&scrubber, &[format!("{{\"a\":\"{echo}\"}}").as_bytes()]);
            assert!(hits == 1 && clean.len() <= 24, "{echo}: {}", String::from_utf8_lossy(&clean));
        }
    }
}

#[test]
fn only_listed_headers_pass_and_none_with_a_secret() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json"),
        ("etag", "\"1\""),
        ("last-modified", "today"),
        ("retry-after", "3"),
        ("x-rate-limit-reset", "9"),
        ("x-ratelimit-limit", "8"),
        ("ratelimit-policy", "7"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let passed = headers.clone();
    for name in ["set-cookie", "location", "server", "x-echo", "www-authenticate"] {
        headers.insert(name, HeaderValue::from_static("something"));
    }
    let clean = scrubber().clean(StatusCode::OK, &headers, &Bytes::new());
    assert_eq!((clean.headers(), clean.hits()), (&passed, 0));
    for form in 0..FORMS {
        let echo: String = SECRET.bytes().map(|byte| write(byte, form)).collect();
        let mut headers = passed.clone();
        headers.insert("etag", HeaderValue::from_str(&format!("\"{echo}\"")).unwrap());
        headers.insert("x-echo", HeaderValue::from_str(&echo).unwrap());
        let clean = scrubber().clean(StatusCode::OK, &headers, &Bytes::new());
        assert_eq!((clean.headers().get("etag"), clean.headers().len(), clean.hits()), (None, passed.len() - 1, 2));
    }
}

/// Texts made of what encodings are made of, where mistakes would hide.
fn noise() -> impl Strategy<Value = String> {
    prop_oneof!["[%\\\\&#u0-9a-fx;25 ]{0,24}", "[ -~\n]{0,24}", "\\PC{0,8}"]
}

proptest! {
    #[test]
    fn any_mixture_is_found_in_any_noise(
        before in noise(), after in noise(), forms in prop::collection::vec(0..FORMS, SECRET.len()), size in 1_usize..40,
    ) {
        let echo: String = SECRET.bytes().zip(&forms).map(|(byte, form)| write(byte, *form)).collect();
        let text = format!("{before}{echo}{after}");
        let whole = scrub_in_pieces(&scrubber(), &[text.as_bytes()]);
        prop_assert_eq!(whole.1, 1);
        prop_assert!(whole.0.len() <= before.len() + after.len() + "[redacted]".len());
        prop_assert_eq!(scrub_in_pieces(&scrubber(), &[&whole.0]).1, 0);
        let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
        prop_assert_eq!(scrub_in_pieces(&scrubber(), &pieces), whole);
    }

    #[test]
    fn noise_without_a_secret_comes_through_whole(text in noise(), size in 1_usize..40) {
        let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
        prop_assert_eq!(scrub_in_pieces(&scrubber(), &pieces), (text.clone().into_bytes(), 0));
    }

    #[test]
    fn any_json_stays_json(before in ".{0,12}", after in ".{0,12}", secret in "[!-~]{6,12}", forms in prop::collection::vec(0..5_usize, 12)) {
        let plain = serde_json::to_string(&format!("{before}{secret}{after}")).unwrap();
        let encoded: String = secret.bytes().zip(&forms).map(|(byte, form)| write(byte, if byte == b'"' || byte == b'\\' { 3 } else { *form })).collect();
        let quote = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_owned();
        let mixed = format!("\"{}{encoded}{}\"", quote(&before.replace('"', "")), quote(&after.replace('"', "")));
        for text in [plain, mixed] {
            let clean = Scrubber::new([secret.as_bytes()]).clean(StatusCode::OK, &HeaderMap::new(), &Bytes::from(text.clone()));
            prop_assert!(clean.hits() > 0, "{}", text);
            prop_assert!(serde_json::from_slice::<String>(clean.body()).is_ok(), "{}", text);
        }
    }
}

/// Texts that a hostile platform would answer to keep a scrubber busy, as data: a name, and what is repeated.
fn hostile() -> Vec<(&'static str, String)> {
    let base64_of = |secret: &str| general_purpose::STANDARD.encode(secret);
    let (whole, prefix) = (SECRET.to_owned(), SECRET[..SECRET.len() - 1].to_owned());
    vec![
        ("newlines or letters", "\\n".to_owned()),
        ("letters", "n".to_owned()),
        ("blanks", " ".to_owned()),
        ("a base64 text that never ends", format!("{}{}", &base64_of(SECRET)[..20], " ".repeat(4096))),
        ("backslashes", "\\".to_owned()),
        ("runs of backslashes", "\\\\\\\\u".to_owned()),
        ("percent signs", "%".to_owned()),
        ("percent signs of percent signs", "%25".to_owned()),
        ("escapes of escapes", "\\u005cu005cu005c".to_owned()),
        ("escapes by halves", "\\u00".to_owned()),
        ("references of references", "&amp;amp;#38;".to_owned()),
        ("ampersands", "&".to_owned()),
        ("zeros", "&#x0000000".to_owned()),
        ("everything that begins something", "%\\&#u0x25;5c".to_owned()),
        ("percent backslashes", "%5C%5C%75%25".to_owned()),
        ("braces", "\\u{\\u{\\x".to_owned()),
        ("surrogates", "\\ud83d\\\\ud83d".to_owned()),
        ("beginnings", prefix),
        ("secrets", whole),
        ("secrets in escapes", SECRET.bytes().map(|byte| write(byte, 8)).collect()),
        ("secrets in base64", base64_of(SECRET)),
    ]
}

fn steps_of(scrubber: &Scrubber, text: &str, size: usize, piece: usize) -> usize {
    let text: Vec<u8> = text.bytes().cycle().take(size).collect();
    let mut stream = scrubber.stream();
    work::taken();
    for piece in text.chunks(piece) {
        stream.push(piece);
    }
    stream.finish();
    work::taken()
}

#[test]
fn the_work_is_linear_in_a_hostile_text() {
    // Secrets whose forms consist of what is skipped, of themselves, and of each other: a platform chooses its own tokens.
    let of_n = general_purpose::STANDARD.decode("n".repeat(88)).unwrap();
    let secrets: [&[u8]; 5] = [SECRET.as_bytes(), &of_n, b"nnnnnnnnnnnnnnnn", b"abababababab", b"babababababa"];
    let scrubber = Scrubber::new(secrets);
    let texts = hostile().into_iter().chain([("two secrets that overlap", "ab".to_owned())]);
    for (name, text) in texts {
        for piece in [16 * 1024, 1] {
            let steps = |size| steps_of(&scrubber, &text, size, piece);
            let (short, long) = (steps(8 * 1024), steps(32 * 1024));
            assert!(
                long * 2 <= short * 9,
                "{name} in pieces of {piece}: {short} steps, and {long} for four times as much"
            );
            assert!(long <= 100 * 32 * 1024, "{name} in pieces of {piece}: {long} steps");
        }
    }
    // As long as an answer of X may be.
    assert!(steps_of(&scrubber, "\\n", 256 * 1024, 16 * 1024) <= 20 * 256 * 1024);
}

proptest! {
    #[test]
    fn any_token_is_found_in_any_mixture_and_any_pieces(
        token in "[!-~]{8,48}",
        before in noise(),
        after in noise(),
        forms in prop::collection::vec(0..FORMS, 48),
        cuts in prop::collection::vec(1_usize..9, 1..20),
    ) {
        let echo: String = token.bytes().zip(&forms).map(|(byte, form)| write(byte, *form)).collect();
        let scrubber = Scrubber::new([token.as_bytes()]);
        let text = format!("{before}{echo}{after}");
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for size in cuts.iter().cycle() {
            let (piece, more) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        let (clean, hits) = scrub_in_pieces(&scrubber, &pieces);
        prop_assert!(hits >= 1, "{}", text);
        prop_assert_eq!(scrub_in_pieces(&scrubber, &[&clean]).1, 0, "{}", text);
        prop_assert_eq!(scrub_in_pieces(&scrubber, &[text.as_bytes()]), (clean, hits));
    }

    #[test]
    fn any_token_is_found_in_base64_of_anything(
        token in "[!-~]{8,48}",
        before in "[ -~]{0,9}",
        after in "[ -~]{0,9}",
        engine in 0..4_usize,
        escaped in any::<bool>(),
    ) {
        use general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        let encoded = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD][engine].encode(format!("{before}{token}{after}"));
        let text = if escaped { encoded.replace('/', "\\/").replace('+', "\\u002b") } else { encoded };
        let (clean, hits) = scrub_in_pieces(&Scrubber::new([token.as_bytes()]), &[text.as_bytes()]);
        prop_assert!(hits >= 1, "{}", text);
        // What is left decodes to the neighbours and at most six bits of the token at either end.
        prop_assert!(clean.len() <= (before.len() + after.len() + 4) * 4 * 6 / 3 + "[redacted]".len(), "{}", text);
    }
}
