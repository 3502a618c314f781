//! Every kind of secret through every way into a line, seen first without the cleaner and then with it.

use std::{error::Error, fmt, str::FromStr, sync::Arc};

use domain::clock::Clock;
use guard::{Addresses, Cleaner, Masker, Redactor};
use service::step::Step;
use time::macros::datetime;
use tracing::{Dispatch, dispatcher, field::Empty};
use tracing_subscriber::layer::SubscriberExt;

use super::{
    Capture, Format, Telemetry, TelemetryError, TelemetryOptions, Writer, init,
    layer::LogLayer,
    line::{LINE_LIMIT, VALUE_LIMIT},
    log_panic, metrics,
    outlet::Outlets,
    span::Spans,
};

const BODY: &str = "q7Wm2Zk4Xn8Rt3Vb6Jh9Lp5Sd1Fg0CyA";
const KNOWN: &str = "correct horse battery staple";

/// What is written into a line, and what must not be found there.
fn secrets() -> Vec<(String, &'static str)> {
    [
        "kh_live_BODY",
        "Authorization: Bearer BODY",
        "eyJBODY.eyJBODY.BODY",
        "ghp_BODY",
        "sk_live_BODY",
        "AIzaBODYxyz",
        "-----BEGIN PRIVATE KEY-----\nBODY\n-----END PRIVATE KEY-----",
        "{\"password\":\"BODY\"}",
        "client_secret=BODY&x=1",
        "postgres://app:BODY@db/keyholder",
        "https://example.com/callback?code=BODY&state=x",
        "refresh_token%3DBODY%26x",
        "Cookie: a=BODY",
    ]
    .iter()
    .map(|text| (text.replace("BODY", BODY), BODY))
    .chain([
        (format!("connecting with {KNOWN}"), KNOWN),
        ("Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==".to_owned(), "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZ"),
        ("write to someone@example.org".to_owned(), "someone"),
        ("call +4915112345678".to_owned(), "4915112345678"),
        ("card 4111 1111 1111 1111".to_owned(), "4111 1111"),
        ("from 203.0.113.9".to_owned(), "203.0.113.9"),
    ])
    .collect()
}

#[derive(Debug)]
struct Outer(Inner);
#[derive(Debug)]
struct Inner(String);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the outer failed")
    }
}
impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
impl Error for Inner {}

/// Parses from nothing, and says in its error what it was given, as many a parser does.
struct Wrong;

impl FromStr for Wrong {
    type Err = Inner;
    fn from_str(text: &str) -> Result<Self, Inner> {
        Err(Inner(text.to_owned()))
    }
}

/// A way in which a text gets into a line, and its name.
type Sink = (&'static str, fn(&str));

const SINKS: &[Sink] = &[
    ("message", |text| tracing::info!("{text}")),
    ("message, by Debug", |text| tracing::info!("{text:?}")),
    ("field", |text| tracing::info!(note = text, "said")),
    ("field, by Display", |text| tracing::info!(note = %text, "said")),
    ("field, by Debug", |text| tracing::info!(note = ?Some(text), "said")),
    ("span field", |text| tracing::info_span!("s", note = text).in_scope(|| tracing::info!("said"))),
    ("span field, recorded later", |text| {
        let span = tracing::info_span!("s", note = Empty);
        span.record("note", text);
        span.in_scope(|| tracing::info!("said"));
    }),
    ("outer span", |text| {
        tracing::info_span!("s", note = %text)
            .in_scope(|| tracing::info_span!("t", step = "act").in_scope(|| tracing::info!("said")));
    }),
    ("a step's field", |text| tracing::info!(step = text, "said")),
    ("a method's field", |text| tracing::info!(method = text, "said")),
    ("a route's field", |text| tracing::info!(route = text, "said")),
    ("a step, recorded later", |text| {
        let span = tracing::info_span!("s", step = Empty);
        span.record("step", text);
        span.in_scope(|| tracing::info!("said"));
    }),
    ("error chain", |text| {
        let error = Outer(Inner(text.to_owned()));
        tracing::error!(error = &error as &(dyn Error + 'static), "failed");
    }),
    ("error, by Display", |text| tracing::error!(error = %Inner(text.to_owned()), "failed")),
    ("error, by Debug", |text| tracing::error!(error = ?Outer(Inner(text.to_owned())), "failed")),
];

fn outlets() -> (Arc<Outlets>, Capture) {
    let outlets = Arc::new(Outlets::new(Writer::Silent));
    let capture = outlets.capture(10_000);
    (outlets, capture)
}

fn clock() -> Clock {
    Clock::set(datetime!(2025-11-21 22:58:01.5 UTC))
}

fn unwashed(format: Format) -> (Dispatch, Capture) {
    let (outlets, capture) = outlets();
    (Dispatch::new(tracing_subscriber::registry().with(LogLayer::unwashed(format, clock(), outlets))), capture)
}

fn washed(format: Format) -> (Dispatch, Capture) {
    let (outlets, capture) = outlets();
    let redactor = Arc::new(Redactor::with_values([KNOWN]).expect("the patterns compile"));
    let cleaner = Cleaner::new(redactor, Masker::new(Addresses::MaskPublic).expect("the pattern compiles"));
    (
        Dispatch::new(tracing_subscriber::registry().with(LogLayer::new(
            cleaner,
            format,
            clock(),
            outlets,
            Spans::default(),
        ))),
        capture,
    )
}

fn only_line(capture: &Capture) -> String {
    let lines = capture.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].to_string()
}

#[test]
fn no_secret_reaches_the_writer_by_any_way() {
    for format in [Format::Json, Format::Pretty] {
        let (open, shown) = unwashed(format);
        let (clean, kept) = washed(format);
        let mut expected = 0;
        for (text, secret) in secrets() {
            for (way, log) in SINKS {
                expected += 1;
                dispatcher::with_default(&open, || log(&text));
                let line = shown.lines().last().cloned().expect("a line");
                assert!(line.contains(secret), "without the cleaner, {way} shows it: {line}");
                dispatcher::with_default(&clean, || log(&text));
            }
        }
        let lines = kept.lines();
        assert_eq!((lines.len(), kept.lost()), (expected, 0));
        for line in lines {
            assert!(!line.contains(BODY) && !line.contains(KNOWN), "{line}");
            for (_, secret) in secrets() {
                assert!(!line.contains(secret), "{line}");
            }
            if format == Format::Json {
                serde_json::from_str::<serde_json::Value>(&line).expect("a line is one JSON object");
            }
        }
    }
}

#[test]
fn a_line_has_its_fields_and_its_spans() {
    let (dispatch, capture) = washed(Format::Json);
    dispatcher::with_default(&dispatch, || {
        let request = tracing::info_span!("request", request_id = "req_1", node = 3, step = "identify");
        request.in_scope(|| {
            let step = tracing::info_span!("step", step = "act", workspace = Empty);
            step.record("workspace", "ws_1");
            step.in_scope(
                || tracing::warn!(target: "keyholder::act", units = 2_u64, late = true, ratio = 0.5, "sent {}", 1),
            );
        });
    });
    let line = only_line(&capture);
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let wanted = serde_json::json!({
        "timestamp": "2025-11-21T22:58:01.500000Z", "level": "WARN", "target": "keyholder::act", "message": "sent 1",
        "fields": {"units": 2, "late": true, "ratio": 0.5},
        "span": {"request_id": "req_1", "node": 3, "step": "act", "workspace": "ws_1"},
    });
    assert_eq!(line, wanted);
}

#[test]
fn a_fields_own_word_is_shown_as_it_is_and_any_other_is_cleaned() {
    let (outlets, capture) = outlets();
    let words: Vec<_> = Step::ALL.iter().map(|step| ("step", step.as_str())).collect();
    let words = words.into_iter().chain(server::METHODS.map(|method| ("method", method)));
    let words = words.chain(server::routes::table().iter().map(|route| ("route", route.path)));
    // A known value that is an own word would be redacted wherever it is looked for.
    let known = words.clone().map(|(_, word)| word).filter(|word| word.len() >= 6);
    let redactor = Arc::new(Redactor::with_values(known).expect("few values"));
    let cleaner = Cleaner::new(redactor, Masker::new(Addresses::MaskPublic).expect("the pattern compiles"));
    let layer = LogLayer::new(cleaner, Format::Json, clock(), outlets, Spans::default());
    dispatcher::with_default(&Dispatch::new(tracing_subscriber::registry().with(layer)), || {
        for (field, word) in words {
            tracing::info!(step = word, method = word, route = word, note = word, "said");
            let line = capture.lines().last().cloned().expect("a line");
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            for other in ["step", "method", "route", "note"] {
                let shown = line["fields"][other].as_str().expect("a text");
                let is_shown = other == field || word.len() < 6;
                assert_eq!(shown == word, is_shown, "{word} as {other}: {line}");
            }
        }
    });
}

#[test]
fn names_say_what_is_not_shown() {
    let (dispatch, capture) = washed(Format::Json);
    dispatcher::with_default(&dispatch, || {
        tracing::info!(
            password = 1234,
            cookie = "a",
            phone = 4_915_112_345_678_u64,
            body = "hello you",
            code = 404,
            "x"
        );
        tracing::info!(huge = 4_111_111_111_111_111_u64, nan = f64::NAN, count = -3, "y");
    });
    let lines = capture.lines();
    let fields = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["fields"].clone();
    assert_eq!(
        fields(&lines[0]),
        serde_json::json!({"password": "[redacted:password]", "cookie": "[redacted:cookie]", "phone": "[phone]",
            "body": "[withheld: 9 bytes]", "code": 404})
    );
    assert_eq!(fields(&lines[1]), serde_json::json!({"huge": "[card]", "nan": "NaN", "count": -3}));
}

#[test]
fn nobody_writes_a_second_line_or_steers_a_terminal() {
    let hostile = "a\r\n{\"level\":\"ERROR\"}\u{1b}[2J\u{9b}31m\u{2028}\u{202e}\u{0}\u{7f}\"\\";
    for format in [Format::Json, Format::Pretty] {
        let (dispatch, capture) = washed(format);
        dispatcher::with_default(&dispatch, || {
            for (_, log) in SINKS {
                log(hostile);
            }
        });
        for line in capture.lines() {
            assert!(!line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}')), "{line:?}");
        }
    }
    let (dispatch, capture) = washed(Format::Json);
    dispatcher::with_default(&dispatch, || tracing::info!(note = hostile, "{hostile}"));
    let line: serde_json::Value = serde_json::from_str(&only_line(&capture)).expect("JSON");
    assert_eq!((&line["message"], &line["fields"]["note"]), (&hostile.into(), &hostile.into()));
}

#[test]
fn a_line_has_an_end() {
    for format in [Format::Json, Format::Pretty] {
        let (dispatch, capture) = washed(format);
        let long = format!("{}{KNOWN}{}", "\u{1}".repeat(VALUE_LIMIT - 5), "é".repeat(1_000_000));
        dispatcher::with_default(&dispatch, || tracing::info!(a = long, b = long, c = %long, "{long}"));
        let line = only_line(&capture);
        assert!(line.len() <= LINE_LIMIT, "{}", line.len());
        assert!(line.contains("…[cut]") && !line.contains("corre"));
        if format == Format::Json {
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(line["cut"], true);
        }
    }
}

#[test]
fn a_panic_shows_the_words_of_the_source_and_nothing_else() {
    let (dispatch, capture) = washed(Format::Json);
    // The hook is called as the runtime calls it, without being installed: it would hide the other tests' failures.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some("panics-on-purpose") { log_panic(panic) } else { before(panic) }
    }));
    let thread = std::thread::Builder::new().name("panics-on-purpose".into()).spawn(move || {
        dispatcher::with_default(&dispatch, || {
            let words = std::panic::catch_unwind(|| panic!("the words of the source"));
            let value = std::panic::catch_unwind(|| "what a user wrote".parse::<Wrong>().unwrap());
            words.is_err() && value.is_err()
        })
    });
    assert!(thread.expect("a thread").join().expect("caught"));
    let lines = capture.lines();
    assert!(lines[0].contains("panicked: the words of the source") && lines[0].contains("\"place\":\"tests.rs:"));
    assert!(lines[1].contains("on an `Err` value") && !lines[1].contains("what a user wrote"));
    assert!(!lines.iter().any(|line| line.contains("src/")));
}

fn options(filter: &str) -> TelemetryOptions {
    TelemetryOptions {
        format: Format::Json,
        filter: filter.into(),
        redactor: Arc::new(Redactor::with_values(["the second one's value"]).expect("one value")),
        writer: Writer::Silent,
        clock: Clock::system(),
    }
}

#[test]
fn the_process_has_one_log_and_one_recorder() {
    let first: Telemetry = init(options("info")).expect("nobody else has one");
    let capture = first.capture(2);
    let second = init(options("off")).expect("the same one");
    assert!(Arc::ptr_eq(first.redactor(), second.redactor()));
    second.redactor().learn(["learned later on"]).expect("one value");
    tracing::info!(target: "one_log", "the second one's value, learned later on");
    let lines = capture.lines();
    assert!(lines.iter().any(|line| line.contains("[redacted:known], [redacted:known]")), "{lines:?}");
    for _ in 0..3 {
        tracing::info!(target: "one_log", "again");
    }
    assert_eq!(capture.lines().len(), 2);
    assert!(capture.lost() >= 2);

    let handle = metrics().expect("nobody else has one");
    ::metrics::counter!("keyholder_test_total").increment(2);
    ::metrics::histogram!("keyholder_test_seconds").record(0.003);
    let text = metrics().expect("the same one").render();
    assert!(text.contains("keyholder_test_total 2") && text.contains("keyholder_test_seconds_bucket{le=\"0.004\"} 1"));
    drop(handle);
}

#[test]
fn a_filter_that_does_not_parse_is_said() {
    assert!(matches!(super::subscriber(options("info,=,")), Err(TelemetryError::Filter(_))));
}
