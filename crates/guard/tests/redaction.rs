//! Secrets of every kind in every place, and what must stay readable.
//!
//! The secrets are put together from pieces, so that no scanner of this repository takes them for real ones.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of the test functions themselves")]

use std::borrow::Cow;

use guard::Redactor;
use keyholder_guard as guard;
use proptest::prelude::*;

const UPPER: &str = "Q7WM2ZK4XN8RT3VB6JH9";
const MIXED: &str = "q7Wm2Zk4Xn8Rt3Vb6Jh9Lp5Sd1Fg0CyA";

fn redactor() -> Redactor {
    Redactor::new().expect("the patterns compile")
}

/// Secrets that their shape gives away: a text with a secret in it, and the secret.
fn shapes() -> Vec<(String, String)> {
    let m = MIXED;
    let hex = hex::encode(m);
    let jwt = format!("eyJ{m}.eyJ{m}.{m}");
    let mut table: Vec<(String, String)> = [
        format!("kh_live_{m}"),
        format!("kh_test_{m}"),
        format!("kh_local_{m}"),
        format!("kho_live_{m}"),
        format!("ghp_{m}"),
        format!("gho_{m}"),
        format!("github_pat_{m}"),
        format!("glpat-{m}"),
        format!("xoxb-{m}"),
        format!("xoxp-123456789012-{m}"),
        format!("sk_live_{m}"),
        format!("rk_test_{m}"),
        format!("whsec_{m}"),
        format!("AKIA{}", &UPPER[..16]),
        format!("ASIA{}", &UPPER[..16]),
        format!("AIza{m}abc"),
        format!("ya29.{m}"),
        format!("GOCSPX-{m}"),
        format!("1//0{m}"),
        format!("npm_{m}"),
        format!("pypi-{m}"),
        format!("EAA{m}"),
        format!("{}{m}%2B{m}", "A".repeat(22)),
        format!("sk-{m}"),
        format!("sk-ant-api03-{m}"),
        format!("sk-proj-{m}"),
        format!("SG.{m}.{m}"),
        format!("hf_{m}"),
        format!("shpat_{}", &hex[..32]),
        format!("123456789:AA{m}"),
        format!("gAAAAA{m}{m}=="),
        format!("$2b$12${m}{m}"),
        format!("$argon2id$v=19$m=19456,t=2,p=1${m}${m}"),
        format!("AGE-SECRET-KEY-1{UPPER}{UPPER}"),
        format!("{m}Ab3-_678901"),
        jwt.clone(),
    ]
    .into_iter()
    .map(|secret| (secret.clone(), secret))
    .collect();
    let pem =
        format!("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{m}\n{m}\n-----END RSA PRIVATE KEY-----");
    table.push((pem.clone(), m.into()));
    table.push((pem.replace('\n', "\\n"), m.into()));
    table.push((pem.replace(' ', "%20").replace('\n', "%0A"), m.into()));
    table.push((format!("-----BEGIN PRIVATE KEY-----\n{m}\n{m}"), m.into()));
    table
}

/// Secrets that only their name gives away.
fn named() -> Vec<(String, String)> {
    let hunter = "hunter2hunter";
    let around = [
        "Authorization: Bearer SECRET",
        "authorization: bearer SECRET next",
        "{\"authorization\": \"Bearer SECRET\"}",
        r#"{\"Authorization\":\"Basic SECRET\"}"#,
        "Authorization: Digest username=\"a b\", response=\"SECRET\", opaque=\"x\"",
        "Authorization: OAuth oauth_consumer_key=\"x\", oauth_signature=\"SECRET\"",
        "Proxy-Authorization: SECRET",
        "(\"authorization\", \"SECRET\")",
        "sent Bearer SECRET to the host",
        "sent Bearer%20SECRET",
        "Cookie: __Host-sid=SECRET; theme=dark",
        "set-cookie: theme=dark; a=\"SECRET\"; HttpOnly",
        "{\"password\": \"SECRET\"}",
        "{\"password\" :\n  \"SECRET\"}",
        r#"{"body":"{\"password\":\"SECRET\"}"}"#,
        r#"{\\\"password\\\":\\\"SECRET\\\"}"#,
        "{\"old_password\":\"a\\\"b\\\\SECRET\"}",
        "{\"tokens\":[\"x\",\"SECRET\"]}",
        "'client_secret': 'SECRET'",
        "Login { user: \"x\", password: \"SECRET\" }",
        "Login { user: \"x\", password: Some(\"SECRET\") }",
        "Login { password: Secret { value: \"SECRET\" } }",
        "secret: Secret(\"SECRET\")",
        "password=SECRET",
        "password = SECRET, user = x",
        "password: SECRET",
        "db_password=a,SECRET",
        "PGPASSWORD=SECRET psql",
        "KEYHOLDER_ENCRYPTION_KEY=SECRET",
        "host=localhost password='a SECRET b' user=x",
        "--client-secret SECRET --name x",
        "--password=SECRET",
        "ALTER ROLE app PASSWORD 'SECRET' LOGIN",
        "Password(\"SECRET\")",
        "Err(BadToken(\"SECRET\"))",
        "password=<SECRET>",
        "<password>SECRET</password>",
        "grant_type=refresh_token&refresh_token=SECRET&client_id=x",
        "GET /callback?code=SECRET&state=x",
        "GET /callback?a=b&state=SECRET",
        "?access_token=SECRET",
        "#id_token=SECRET",
        "?client_secret=SECRET&x=1",
        "code_verifier=SECRET",
        "?next=%2Fcallback%3Fcode%3DSECRET%26state%3Dx",
        "access_token%3DSECRET%26x",
        "access_token%253DSECRET%2526x",
        "%7B%22password%22%3A%22SECRET%22%7D",
        "%7B%22password%22%3A+%22SECRET%22%7D",
        "user%5Bpassword%5D=SECRET",
        "user[password]=SECRET",
        r"password\u003dSECRET",
        "postgres://app:SECRET@db.internal/keyholder",
        "postgres://app:a/SECRET@b@db.internal/keyholder",
        "redis://:SECRET@cache:6379/0",
        "https://x:SECRET@example.com/",
        "https://SECRET@example.com/x.git",
        "url=postgres%3A%2F%2Fapp%3ASECRET%40db",
        "aws_secret_access_key = SECRET",
        "x-api-key: SECRET",
        "\"api_key\":\"SECRET\"",
        "Api-Key=SECRET",
        "X-Amz-Signature=SECRET&x",
        "session_id=SECRET",
        "JSESSIONID=SECRET",
        "otp=SECRET",
        "{\"pin\":\"SECRETabcdef0123456789\"}",
        "secret: [104, 117, SECRET]",
    ];
    let mut table: Vec<(String, String)> =
        around.iter().map(|text| (text.replace("SECRET", hunter), hunter.to_owned())).collect();
    table.push(("{\"password\":90210773}".into(), "90210773".into()));
    table
}

/// What is no secret, though it resembles one.
const HARMLESS: &[&str] = &[
    "550e8400-e29b-41d4-a716-446655440000",
    "con_01jd8fzq4t5e6r7y8u9i0o1p2a",
    "api_key=key_01jd8fzq4t5e6r7y8u9i0o1p2a",
    "act_01jd8fzq4t5e6r7y8u9i0o1p2a admitted",
    "2025-11-21T22:58:01.123456Z",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "$1,299.00 and 12.50 EUR",
    "GET /v1/acts?limit=20 answered 200 in 12 ms",
    "status code=404, state=settled",
    "{\"code\":429,\"state\":\"admitted\"}",
    "invalid token: expired",
    "the password must not be empty",
    "KEYHOLDER_ENCRYPTION_KEY: must be 32 bytes",
    "tokens=5 max_tokens: 4096",
    "token_type: bearer",
    "{\"token\": null, \"password\": null, \"secret\": false}",
    "WWW-Authenticate: Bearer realm=\"keyholder\"",
    "basic authentication is not offered",
    "idempotency_key=order-2025-11",
    "task-management-and-other-things",
    "risk-assessment-of-something-long",
    "https://example.com:443/users/@me",
    "https://[2001:db8::1]:443/",
    "postgres://app@db.internal:5432/keyholder",
    "serde::de::Error, authorization denied",
    "urn:keyholder:problem:act-in-progress",
    "unknown field `password`, expected `user` or `token`",
    "missing field `secret` at line 1",
    "password(s) and token (optional)",
    "passkey compass=north bypass: true",
    "zip_code=12345-6789",
    "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
];

#[test]
fn no_planted_secret_is_left() {
    let redactor = redactor();
    let frames = ["SECRET", "before SECRET after", "x=SECRET;", "\nSECRET\n", "{\"note\":\"SECRET\"}", "%3DSECRET%26"];
    let mut faults = Vec::new();
    for (text, secret) in shapes().into_iter().chain(named()) {
        for frame in frames {
            let text = frame.replace("SECRET", &text);
            let shown = redactor.redact(&text);
            if shown.contains(&secret) || !shown.contains("[redacted:") {
                faults.push(format!("{text}\n    -> {shown}"));
            }
            if redactor.redact(&shown) != shown {
                faults.push(format!("not still: {shown}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} shown:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn what_is_harmless_stays() {
    let redactor = redactor();
    let changed: Vec<String> = HARMLESS
        .iter()
        .map(|text| (text, redactor.redact(text)))
        .filter(|(text, shown)| shown != *text)
        .map(|(text, shown)| format!("{text} -> {shown}"))
        .collect();
    assert!(changed.is_empty(), "{}", changed.join("\n"));
    assert!(matches!(redactor.redact(HARMLESS[0]), Cow::Borrowed(_)));
}

#[test]
fn what_stands_around_a_secret_stays() {
    let redactor = redactor();
    let table = [
        ("{\"password\":\"a\\\"b\",\"next\":1}", "{\"password\":\"[redacted:password]\",\"next\":1}"),
        ("{\"password\":12345678,\"next\":1}", "{\"password\":\"[redacted:password]\",\"next\":1}"),
        ("{\"secrets\":[\"a1\",\"b]\"],\"n\":1}", "{\"secrets\":[\"[redacted:secret]\"],\"n\":1}"),
        ("a=1&token=abc&b=2", "a=1&token=[redacted:token]&b=2"),
        ("postgres://app:x@db/k", "postgres://app:[redacted:userinfo]@db/k"),
        ("Authorization: Bearer abc\r\nHost: x", "Authorization: [redacted:authorization]\r\nHost: x"),
        ("password=a password=b", "password=[redacted:password] password=[redacted:password]"),
    ];
    for (text, shown) in table {
        assert_eq!(redactor.redact(text), shown);
    }
}

#[test]
fn a_field_is_judged_by_its_name() {
    let redactor = redactor();
    for (name, value, shown) in [
        ("password", "a b c", "[redacted:password]"),
        ("client_secret", "x", "[redacted:secret]"),
        ("cookie", "a=b", "[redacted:cookie]"),
        ("tokens", "5", "5"),
        ("code", "404", "404"),
        ("state", "settled", "settled"),
        ("api_key", "key_01jd8fzq4t5e6r7y8u9i0o1p2a", "key_01jd8fzq4t5e6r7y8u9i0o1p2a"),
        ("note", "token=abc1", "token=[redacted:token]"),
    ] {
        assert_eq!(redactor.redact_field(name, value), shown, "{name}");
    }
}

#[test]
fn known_values_are_found_in_every_form_and_can_be_learned_later() {
    let value = "pa ss/w\"ör\\d+=1";
    let forms = [
        value.to_owned(),
        "pa ss/w\\\"ör\\\\d+=1".to_owned(),
        "pa%20ss%2Fw%22%C3%B6r%5Cd%2B%3D1".to_owned(),
        "pa+ss%2fw%22%c3%b6r%5cd%2b%3d1".replace('+', "%20"),
        "pa+ss%2Fw%22%C3%B6r%5Cd%2B%3D1".to_owned(),
        hex::encode(value),
    ];
    let redactor = redactor();
    for form in &forms {
        let text = format!("x{form}y");
        assert!(redactor.redact(&text).contains(form.as_str()), "nothing but the value gives it away: {form}");
    }
    redactor.learn([value]).expect("one value");
    for form in &forms {
        assert_eq!(redactor.redact(&format!("x{form}y")), "x[redacted:known]y");
    }
    assert!(!format!("{redactor:?}").contains("pa ss"));
    let other = Redactor::with_values(["another value"]).expect("one value");
    redactor.learn_from(&other).expect("two values");
    assert_eq!(redactor.redact("another value"), "[redacted:known]");
}

#[test]
fn hostile_texts_cost_their_length() {
    // Each of these takes minutes where a rule looks at the rest of the text once for every name in it.
    let redactor = redactor();
    for unit in [
        "state=",
        "state=[",
        "code=Ab { ",
        "token: ",
        "\"state\":\"a ",
        "%22state%22%3A%22",
        "://a:",
        "eyJ",
        "--",
        "1 ",
        "a@",
        "password=\\",
    ] {
        let text = unit.repeat(100_000 / unit.len());
        let _ = redactor.redact(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redaction_is_idempotent(parts in prop::collection::vec(fragment(), 0..8)) {
        let redactor = shared();
        let once = redactor.redact(&parts.concat()).into_owned();
        prop_assert_eq!(redactor.redact(&once), once.clone());
    }

    #[test]
    fn any_text_is_taken(text in "\\PC*") {
        let _ = shared().redact(&text);
    }

    #[test]
    fn a_value_behind_a_name_never_appears(
        name in "(password|client_secret|access_token|api_key|refresh_token)",
        value in "[A-Za-z0-9!#$*+/:?@^_~-]{4,30}[0-9][a-z]",
        form in 0..5_usize,
    ) {
        let text = match form {
            0 => format!("x {name}={value} y"),
            1 => format!("{{\"{name}\":\"{value}\"}}"),
            2 => format!("{{\\\"{name}\\\": \\\"{value}\\\"}}"),
            3 => format!("{name}: {value}"),
            _ => format!("S {{ {name}: Some(\"{value}\") }}"),
        };
        let shown = shared().redact(&text);
        prop_assert!(!shown.contains(&value), "{}", shown);
    }
}

proptest! {
    // Every case makes a redactor of its own.
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_known_value_never_appears(value in "[ -~]{8,40}", left in "\\PC{0,20}", right in "\\PC{0,20}") {
        let value = value.trim();
        prop_assume!(value.len() >= 8 && !"[redacted:known]".contains(value));
        let redactor = Redactor::with_values([value]).expect("one value");
        let text = format!("{left}{value}{right}");
        let shown = redactor.redact(&text);
        prop_assert!(!shown.contains(value), "{}", shown);
    }
}

fn shared() -> &'static Redactor {
    static SHARED: std::sync::OnceLock<Redactor> = std::sync::OnceLock::new();
    SHARED.get_or_init(redactor)
}

/// Pieces of which texts are made that confuse: names, separators, quotes, tokens, markers.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "password",
            "token",
            "code",
            "Authorization",
            "Cookie",
            "secret_key",
            "=",
            ":",
            "\"",
            "'",
            "\\\"",
            "%22",
            "%3D",
            "&",
            "?",
            " ",
            "\n",
            ",",
            "[",
            "]",
            "{ ",
            "}",
            "(",
            "<",
            ">",
            "--",
            "Bearer ",
            "://",
            "@",
            "a:b@",
            "postgres",
            "[redacted:jwt]",
            "[redacted:password]",
            "[email]",
            "sk-",
            "eyJ",
            ".",
            "+",
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "\u{1F511}",
            "é",
        ])
        .prop_map(str::to_owned),
        Just(MIXED.to_owned()),
        Just(format!("ghp_{MIXED}")),
        Just(format!("sk-{MIXED}")),
        "[a-zA-Z0-9]{1,12}",
    ]
}
