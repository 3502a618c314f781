//! The scrub: a platform that echoes the credential, in every place and form, and what of it anybody here is shown.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::Method;
use keyholder::caller::Reply;
use sandbox::{EchoForm, EchoPlace, Quirk, Route, Scope};
use serde_json::{Value, json};
use sqlx::Row;

use crate::{
    acts::{ALL, parent, reply_to},
    harness::{ACCOUNT, Entrusted, TestApp, problem},
};

/// A text that must not be seen, in the forms in which it could be.
struct Wanted(Vec<(&'static str, String)>);

impl Wanted {
    fn new(secret: &str) -> Self {
        let each = |write: fn(u8) -> String| secret.bytes().map(write).collect::<String>();
        let mut forms = vec![
            ("plain", secret.to_owned()),
            ("percent", each(|byte| format!("%{byte:02x}"))),
            ("escapes", each(|byte| format!("\\u{byte:04x}"))),
            ("hex", each(|byte| format!("{byte:02x}"))),
        ];
        for ahead in 0..3 {
            // What the secret alone decides: the first character that holds none of the bits before it, to the last full one.
            let padded = [&b"xx"[..ahead], secret.as_bytes()].concat();
            let (begin, end) = ((ahead * 8).div_ceil(6), padded.len() * 8 / 6);
            forms.push(("base64", STANDARD.encode(&padded)[begin..end].to_owned()));
            forms.push(("base64url", URL_SAFE_NO_PAD.encode(&padded)[begin..end].to_owned()));
        }
        Self(forms)
    }

    /// Which forms a text holds; upper and lower case of escapes are the same.
    fn found_in(&self, text: &[u8]) -> Vec<&'static str> {
        let text = String::from_utf8_lossy(text);
        let lower = text.to_ascii_lowercase();
        let holds = |(name, form): &&(&str, String)| match *name {
            "percent" | "escapes" | "hex" => lower.contains(&form.to_ascii_lowercase()),
            _ => text.contains(form.as_str()),
        };
        self.0.iter().filter(holds).map(|(name, _)| *name).collect()
    }

    /// Nothing of a reply holds it: neither a header, nor the body, nor a text within the body once it is read as JSON.
    #[track_caller]
    fn assert_absent(&self, reply: &Reply, what: &str) {
        let mut all = reply.body.to_vec();
        for (name, value) in &reply.headers {
            all.extend([b"\n", name.as_str().as_bytes(), b": ", value.as_bytes()].concat());
        }
        collect_texts(&reply.json(), &mut all);
        assert_eq!(self.found_in(&all), [""; 0], "{what}: {}", String::from_utf8_lossy(&all));
    }
}

/// All texts of a value, escapes undone; of those that are themselves JSON, theirs too.
fn collect_texts(value: &Value, all: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            all.extend_from_slice(text.as_bytes());
            all.push(b'\n');
            if let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
                collect_texts(&inner, all);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, all)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            all.extend_from_slice(name.as_bytes());
            collect_texts(member, all);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

const FORMS: [EchoForm; 9] = [
    EchoForm::Plain,
    EchoForm::Base64 { shift: 0 },
    EchoForm::Base64 { shift: 1 },
    EchoForm::Base64 { shift: 2 },
    EchoForm::Base64Url { shift: 0 },
    EchoForm::Base64Url { shift: 1 },
    EchoForm::Base64Url { shift: 2 },
    EchoForm::Percent,
    EchoForm::JsonEscapes,
];
const PLACES: [EchoPlace; 4] = [EchoPlace::Body, EchoPlace::Header, EchoPlace::ErrorPage, EchoPlace::GzipBody];

/// One request of an action, by either door, under this key.
async fn request(entrusted: &Entrusted, action: &str, by_name: bool, parent: &str, key: &str) -> Reply {
    let input = match action {
        "profile.read" => json!({}),
        "post.create" => json!({ "text": key }),
        "post.reply" => reply_to(parent, key),
        _ => json!({ "id": parent }),
    };
    if by_name {
        return entrusted.act(action, &input, Some(key)).await;
    }
    let of_parent = format!("/2/tweets/{parent}");
    let reply = json!({ "text": key, "reply": { "in_reply_to_tweet_id": parent } });
    let (method, path, body) = match action {
        "profile.read" => (Method::GET, "/2/users/me", None),
        "post.create" => (Method::POST, "/2/tweets", Some(&input)),
        "post.reply" => (Method::POST, "/2/tweets", Some(&reply)),
        "post.delete" => (Method::DELETE, &*of_parent, None),
        _ => (Method::GET, &*of_parent, None),
    };
    entrusted.proxy(method, path, body, Some(key)).await
}

/// Lets the platform echo, and looks at everything that comes of it.
async fn echo(app: &TestApp, entrusted: &Entrusted, parent: &str, quirk: Quirk, action: &str, by_name: bool) {
    let platform = app.sandbox.platform();
    let wanted = Wanted::new(&platform.last_access_token(ACCOUNT).unwrap());
    let Quirk::EchoAuthorization { place, form, .. } = quirk else { panic!("an echo is tried here") };
    let what = format!("{quirk:?} {action} by name: {by_name}");
    let key: String = what.chars().filter(char::is_ascii_alphanumeric).collect();
    platform.switch(quirk, Scope::once(Route::Api)).unwrap();
    let fired = platform.fired();
    let reply = request(entrusted, action, by_name, parent, &key).await;
    assert_eq!(platform.fired(), fired + 1, "{what}");
    let raw = platform.last_echo().unwrap();
    let name = match form {
        EchoForm::Plain => "plain",
        EchoForm::Base64 { .. } => "base64",
        EchoForm::Base64Url { .. } => "base64url",
        EchoForm::Percent => "percent",
        EchoForm::JsonEscapes => "escapes",
    };
    assert!(wanted.found_in(&raw).contains(&name), "{what}: what the platform answered holds it");
    wanted.assert_absent(&reply, &what);

    if place == EchoPlace::GzipBody {
        assert_eq!(problem(&reply), (502, "upstream-invalid".to_owned()), "{what}");
    } else {
        let status = if by_name { reply.json()["status"].as_u64().unwrap() } else { u64::from(reply.status.as_u16()) };
        assert_eq!(status == 500, place == EchoPlace::ErrorPage, "{what}: {status}");
        let body = if by_name { reply.json()["answer"].clone() } else { reply.json() };
        match place {
            EchoPlace::Body => {
                assert!(body.is_object(), "{what}: JSON stays JSON");
                assert!(body["echo"].as_str().unwrap().contains("[redacted]"), "{what}: {body}");
            }
            EchoPlace::Header => assert!(body.is_object() && body.get("echo").is_none(), "{what}: {body}"),
            EchoPlace::ErrorPage | EchoPlace::GzipBody => {}
        }
    }
    let again = request(entrusted, action, by_name, parent, &key).await;
    wanted.assert_absent(&again, &what);
    if place != EchoPlace::GzipBody {
        assert_eq!((again.header("idempotency-replayed"), again.json()), ("true", reply.json()), "{what}");
    }
}

/// Nothing that is stored or was ever answered holds the token.
async fn assert_nowhere(app: &TestApp) {
    let token = app.sandbox.platform().last_access_token(ACCOUNT).unwrap();
    let wanted = Wanted::new(&token);
    let mut owner = app.owner().await;
    let rows =
        sqlx::query("select answer, a::text as whole from keyholder.acts a").fetch_all(&mut owner).await.unwrap();
    let mut kept = 0;
    for row in &rows {
        if let Some(answer) = row.get::<Option<Vec<u8>>, _>("answer") {
            kept += 1;
            assert_eq!(wanted.found_in(&answer), [""; 0]);
            assert!(!String::from_utf8_lossy(&answer).contains("data"), "the kept answer is sealed");
        }
        assert_eq!(wanted.found_in(row.get::<String, _>("whole").as_bytes()), [""; 0]);
    }
    assert!(kept > 0, "answers are kept");
    let seen = app.witness.lock().unwrap();
    assert!(seen.iter().any(|piece| String::from_utf8_lossy(piece).contains("[redacted]")), "the witness sees answers");
    for piece in seen.iter() {
        assert_eq!(wanted.found_in(piece), [""; 0], "{}", String::from_utf8_lossy(piece));
    }
}

#[tokio::test]
async fn a_reply_shows_no_credential_wherever_and_however_it_is_echoed() {
    let app = TestApp::start().await;
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;
    for place in PLACES {
        for form in FORMS {
            for piecewise in [false, true] {
                for by_name in [true, false] {
                    let quirk = Quirk::EchoAuthorization { place, form, piecewise };
                    echo(&app, &entrusted, &parent, quirk, "post.reply", by_name).await;
                }
            }
        }
    }
    assert_nowhere(&app).await;
    app.stop().await;
}

#[tokio::test]
async fn no_action_shows_a_credential() {
    let app = TestApp::start().await;
    let parent = parent(&app);
    let entrusted = app.entrust(&ALL, json!([])).await;
    for action in ALL.into_iter().filter(|action| *action != "post.delete") {
        for place in PLACES {
            for form in [EchoForm::Plain, EchoForm::Base64 { shift: 1 }, EchoForm::JsonEscapes] {
                for by_name in [true, false] {
                    let quirk = Quirk::EchoAuthorization { place, form, piecewise: true };
                    echo(&app, &entrusted, &parent, quirk, action, by_name).await;
                }
            }
        }
    }
    // Nobody may delete another's post: the platform's refusal echoes as well.
    let quirk = Quirk::EchoAuthorization { place: EchoPlace::Body, form: EchoForm::Plain, piecewise: false };
    echo(&app, &entrusted, &parent, quirk, "post.delete", true).await;
    assert_nowhere(&app).await;
    app.stop().await;
}

#[tokio::test]
async fn a_read_that_is_not_kept_is_scrubbed_too() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&ALL, json!([])).await;
    let wanted = Wanted::new(&app.sandbox.platform().last_access_token(ACCOUNT).unwrap());
    for form in FORMS {
        let quirk = Quirk::EchoAuthorization { place: EchoPlace::Body, form, piecewise: false };
        app.sandbox.platform().switch(quirk, Scope::once(Route::Api)).unwrap();
        let reply = entrusted.act("profile.read", &json!({}), None).await;
        assert_eq!(reply.header("keyholder-act"), "");
        wanted.assert_absent(&reply, &format!("{form:?}"));
        assert_eq!(reply.json()["answer"]["data"]["username"], ACCOUNT, "what is no credential stays");
    }
    app.stop().await;
}
