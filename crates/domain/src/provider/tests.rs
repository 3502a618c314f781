//! The shipped files, and a file that uses everything a file may say.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::budget::Unit;

/// All field types, all places, `when` on body and query, overlapping paths, measured units.
pub(super) const FULL: &str = r#"
name = "full"
title = "Everything"
hosts = ["api.full.dev", "full.dev"]
[auth]
kind = "oauth2"
authorize_url = "https://full.dev/authorize"
authorize_params = { access_type = "offline" }
token_url = "https://full.dev/token"
issuer = "https://full.dev"
client_auth = "none"
pkce = "S256"
scope_separator = ","
scopes_always = ["keep"]
scopes = { keep = "Stay", a = "A", b = "B", c = "C" }
[auth.refresh]
rotates = false
replay = "repeatable"
access_token_lifetime_s = 600
refresh_token_lifetime_s = 86400
[account]
action = "me.read"
id = "/accounts/0/id"
name = "/accounts/0/name"
[limits]
request_bytes = 4096
response_bytes = 4096
timeout_ms = 1000
[actions."me.read"]
title = "Me"
effect = "read"
scopes = ["a"]
method = "GET"
host = "api.full.dev"
path = "/users/me"
input.page = { type = "integer", minimum = 1, maximum = 9, query = "page" }
[actions."user.read"]
title = "User"
effect = "read"
scopes = ["b"]
method = "GET"
host = "api.full.dev"
path = "/users/{user}"
query = { "expand[]" = "name & co" }
input.user = { type = "integer", required = true, minimum = 0, path = "user" }
input.deep = { type = "boolean", query = "deep" }
input.q = { type = "string", max_length = 8, query = "q" }
[actions."mail.send"]
title = "Send"
effect = "send"
scopes = ["a", "c"]
method = "POST"
host = "api.full.dev"
path = "/users/{user}/mails/{box}"
body = { "/kind" = "mail", "/meta/version" = 2, "/meta/draft" = false }
when = { equals = { "/kind" = "mail" } }
units = { messages = 1, recipients = { count = "to" }, bytes = { bytes = "text" }, cents = { value = "price" } }
answer = { types = ["application/json", "text/plain"], id = "/id" }
[actions."mail.send".input]
user = { type = "integer", required = true, minimum = 0, path = "user" }
box = { type = "string", required = true, max_length = 6, pattern = "[^/\\\\]+", path = "box" }
to = { type = "strings", required = true, min_items = 1, max_items = 3, min_length = 1, max_length = 5, body = "/to" }
text = { type = "string", required = true, max_length = 10, content = true, body = "/content/text" }
tags = { type = "strings", max_items = 2, max_length = 3, content = true, body = "/content/a~1b~0c" }
price = { type = "integer", minimum = 0, maximum = 100, body = "/price" }
loud = { type = "boolean", body = "/meta/loud" }
mood = { type = "string", max_length = 5, allowed = ["good", "bad"], query = "mood" }
rank = { type = "integer", allowed = [1, 2], query = "rank" }
[actions."mail.draft"]
title = "Draft"
effect = "write"
scopes = ["c"]
method = "POST"
host = "api.full.dev"
path = "/users/{user}/mails/drafts"
when = { equals = { "/kind" = "draft" }, present = ["?v"], absent = ["/to"] }
[actions."mail.draft".input]
user = { type = "integer", required = true, minimum = 0, path = "user" }
kind = { type = "string", required = true, max_length = 5, allowed = ["draft"], body = "/kind" }
v = { type = "integer", required = true, query = "v" }
[actions."mail.wipe"]
title = "Wipe"
effect = "write"
scopes = ["c"]
method = "DELETE"
host = "api.full.dev"
path = "/users/me"
"#;

fn full() -> Provider {
    Provider::parse("full.toml", FULL).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn x() -> Arc<Provider> {
    Arc::clone(Catalogue::embedded().unwrap().get("x").unwrap())
}

fn rendered(request: &Rendered) -> String {
    let body = request.body.as_deref().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
    format!("{} https://{}{} {body}", request.method.as_str(), request.host, request.path_and_query).trim().to_owned()
}

#[test]
fn the_shipped_files_are_without_fault() {
    let catalogue = Catalogue::embedded().unwrap_or_else(|faults| panic!("{faults:#?}"));
    let names: Vec<_> = catalogue.iter().map(|provider| (provider.name.as_str(), provider.template)).collect();
    assert_eq!(names, [("generic-oauth", true), ("x", false)]);
    assert!(super::catalogue::SHIPPED.iter().all(|(name, _, _)| catalogue.get(name).is_some()));
}

#[test]
fn what_each_action_sends() {
    let (x, full) = (x(), full());
    for (provider, action, input, request) in [
        (&*x, "profile.read", json!({}), "GET https://api.x.com/2/users/me"),
        (&x, "post.create", json!({"text": "a \"b\"\n"}), r#"POST https://api.x.com/2/tweets {"text":"a \"b\"\n"}"#),
        (
            &x,
            "post.reply",
            json!({"text": "é", "in_reply_to_tweet_id": "12"}),
            r#"POST https://api.x.com/2/tweets {"reply":{"in_reply_to_tweet_id":"12"},"text":"é"}"#,
        ),
        (&x, "post.delete", json!({"id": "12"}), "DELETE https://api.x.com/2/tweets/12"),
        (&x, "post.metrics", json!({"id": "12"}), "GET https://api.x.com/2/tweets/12?tweet.fields=public_metrics"),
        (
            &full,
            "user.read",
            json!({"user": 7, "deep": false, "q": "a+b&c=#é"}),
            "GET https://api.full.dev/users/7?deep=false&expand%5B%5D=name%20%26%20co&q=a%2Bb%26c%3D%23%C3%A9",
        ),
        (
            &full,
            "mail.send",
            json!({"user": 7, "box": "a;?#&é", "to": ["x", "y"], "text": "", "tags": [], "mood": "bad"}),
            concat!(
                r"POST https://api.full.dev/users/7/mails/a%3B%3F%23%26%C3%A9?mood=bad ",
                r#"{"content":{"a/b~c":[],"text":""},"kind":"mail","meta":{"draft":false,"version":2},"to":["x","y"]}"#
            ),
        ),
    ] {
        let valid = provider.action(action).unwrap().validate(&input).unwrap();
        assert_eq!(rendered(&valid.render()), request);
        assert_eq!(valid.to_value(), input);
    }
}

#[test]
fn headers_say_what_is_sent_and_what_is_taken() {
    let valid = x().action("post.create").unwrap().validate(&json!({"text": "a"})).unwrap();
    let json = "application/json".to_owned();
    assert_eq!(valid.render().headers, [("accept", json.clone()), ("content-type", json.clone())]);
    let valid = x().action("post.delete").unwrap().validate(&json!({"id": "1"})).unwrap();
    assert_eq!(valid.render().headers, [("accept", json)]);
    assert_eq!(valid.render().body, None);
}

#[test]
fn what_an_input_is_refused_for() {
    let (x, full) = (x(), full());
    let mail = |over: Value| {
        let mut input = json!({"user": 7, "box": "in", "to": ["x"], "text": "t"});
        input.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        input
    };
    for (provider, action, input, faults) in [
        (&*x, "post.create", json!([]), vec![("", "must be an object")]),
        (&x, "post.create", json!({}), vec![("/text", "is required")]),
        (&x, "post.create", json!({"text": null}), vec![("/text", "must be a string")]),
        (&x, "post.create", json!({"text": ""}), vec![("/text", "must have at least 1 characters")]),
        (&x, "post.create", json!({"text": "é".repeat(281)}), vec![("/text", "may have at most 280 characters")]),
        (&x, "post.create", json!({"text": "a\0"}), vec![("/text", "may not have the character U+0000")]),
        (
            &x,
            "post.create",
            json!({"text": 1, "reply": {}, "a/b": 0}),
            vec![("/a~1b", "unknown field"), ("/reply", "unknown field"), ("/text", "must be a string")],
        ),
        (&x, "post.delete", json!({"id": "1/2"}), vec![("/id", "does not have the form that the action asks for")]),
        (&x, "post.delete", json!({"id": "1\n"}), vec![("/id", "does not have the form that the action asks for")]),
        (&full, "mail.send", mail(json!({"to": []})), vec![("/to", "must have 1 to 3 items")]),
        (
            &full,
            "mail.send",
            mail(json!({"to": ["x", "", 3]})),
            vec![("/to/1", "must have at least 1 characters"), ("/to/2", "must be a string")],
        ),
        (&full, "mail.send", mail(json!({"to": "x"})), vec![("/to", "must be a list of strings")]),
        (&full, "mail.send", mail(json!({"price": 101})), vec![("/price", "must be from 0 to 100")]),
        (&full, "mail.send", mail(json!({"price": 1.0})), vec![("/price", "must be a whole number")]),
        (&full, "mail.send", mail(json!({"price": u64::MAX})), vec![("/price", "must be a whole number")]),
        (&full, "mail.send", mail(json!({"loud": "true"})), vec![("/loud", "must be true or false")]),
        (&full, "mail.send", mail(json!({"mood": "odd"})), vec![("/mood", "must be one of: bad, good")]),
        (&full, "mail.send", mail(json!({"rank": 3})), vec![("/rank", "must be one of: 1, 2")]),
    ] {
        let told = provider.action(action).unwrap().validate(&input).unwrap_err();
        let told: Vec<_> = told.iter().map(|fault| (fault.pointer.as_str(), fault.message.as_str())).collect();
        assert_eq!(told, faults, "{input}");
    }
    for wrong in ["..", ".", "a\\b", "a/b", "a%2f", "a\tb"] {
        assert!(full.action("mail.send").unwrap().validate(&mail(json!({"box": wrong}))).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_faults_of_an_input_and_its_size_are_bounded() {
    let many: serde_json::Map<_, _> = (0..100).map(|n| (format!("f{n}"), json!(0))).collect();
    let faults = x().action("post.create").unwrap().validate(&Value::Object(many)).unwrap_err();
    assert_eq!(faults.len(), 32);

    let text = FULL.replace("request_bytes = 4096", "request_bytes = 128");
    let small = Provider::parse("f", &text).unwrap();
    let mail = |text: &str| json!({"user": 7, "box": "in", "to": ["x"], "text": text});
    let action = small.action("mail.send").unwrap();
    assert!(action.validate(&mail("t")).is_ok());
    let faults = action.validate(&mail(&"\u{1}".repeat(10))).unwrap_err();
    assert_eq!(faults[0].message, "the request would have more than 128 bytes");
}

#[test]
fn units_are_what_the_input_takes() {
    let full = full();
    let input = json!({"user": 7, "box": "in", "to": ["x", "y"], "text": "éa", "price": 5, "tags": ["p", "q"]});
    let valid = full.action("mail.send").unwrap().validate(&input).unwrap();
    let mut units = valid.units();
    units.sort();
    let wanted = [(Unit::Acts, 1), (Unit::Messages, 1), (Unit::Recipients, 2), (Unit::Bytes, 3), (Unit::Cents, 5)];
    assert_eq!(units, wanted);
    let content: Vec<_> = valid.content().collect();
    assert_eq!(content, [("tags", "p"), ("tags", "q"), ("text", "éa")]);
    assert!(!format!("{valid:?} {:?}", valid.render()).contains('é'));
}

#[test]
fn only_the_needed_scopes_are_asked_for() {
    let x = x();
    for (actions, scopes) in [
        (&[][..], &["offline.access", "tweet.read", "users.read"][..]),
        (&["post.metrics", "profile.read"], &["offline.access", "tweet.read", "users.read"]),
        (&["post.reply", "post.create"], &["offline.access", "tweet.read", "tweet.write", "users.read"]),
    ] {
        assert_eq!(x.scopes_for(actions.iter().copied()), scopes);
    }
    assert_eq!(full().scopes_for(["user.read", "no.such"]), ["a", "b", "keep"]);
}

#[test]
fn the_account_is_read_from_the_answer() {
    let (x, full) = (x(), full());
    let some = |id: &str, name: &str| Some((id.to_owned(), name.to_owned()));
    for (provider, answer, account) in [
        (&*x, json!({"data": {"id": "12", "username": "someone"}}), some("12", "someone")),
        (&x, json!({"data": {"id": 12}}), some("12", "")),
        (&x, json!({"data": {"id": "", "username": "someone"}}), None),
        (&x, json!({"data": {"id": {"id": 1}}}), None),
        (&x, json!({"data": {"id": 1.5}}), None),
        (&x, json!({"data": {"id": "1".repeat(257)}}), None),
        (&x, json!({"errors": []}), None),
        (&full, json!({"accounts": [{"id": "a", "name": "b"}]}), some("a", "b")),
    ] {
        assert_eq!(provider.account.read(&answer), account, "{answer}");
    }
}

#[test]
fn the_digest_is_of_what_is_said() {
    let digest = |text: &str| Provider::parse("any", text).unwrap().digest();
    let of_full = digest(FULL);
    for same in [
        FULL.replace("title = \"Everything\"", "title = 'Everything' # a comment\ntemplate = false"),
        FULL.replace("hosts = [\"api.full.dev\", \"full.dev\"]", "hosts = [\"full.dev\", \"api.full.dev\"]"),
    ] {
        assert_eq!(digest(&same), of_full);
    }
    for (from, to) in [
        ("Everything", "Everything else"),
        ("api.full.dev", "api2.full.dev"),
        ("/token", "/token2"),
        ("maximum = 100", "maximum = 101"),
        ("[^/\\\\\\\\]+", "[^/]+"),
        ("effect = \"send\"", "effect = \"write\""),
        ("content = true, body = \"/content/text\"", "body = \"/content/text\""),
        ("{ count = \"to\" }", "2"),
        ("\"/meta/version\" = 2", "\"/meta/version\" = \"2\""),
    ] {
        let text = FULL.replace(from, to);
        assert_ne!(text, FULL, "{from}");
        assert_ne!(digest(&text), of_full, "{from}");
    }
}

#[test]
fn a_template_is_filled_in_by_a_file_that_extends_it() {
    let text = r#"
extends = "generic-oauth"
name = "acme"
title = "Acme"
hosts = ["acme.dev"]
[auth]
authorize_url = "https://acme.dev/authorize"
token_url = "https://acme.dev/token"
scopes = { notes = "Write notes" }
[actions."account.read"]
host = "acme.dev"
[actions."note.create"]
title = "Create a note"
effect = "write"
scopes = ["notes"]
method = "POST"
host = "acme.dev"
path = "/notes"
input.text = { type = "string", required = true, max_length = 100, body = "/text" }
"#;
    let catalogue = Catalogue::load(Catalogue::shipped_files().chain([("acme.toml", text)])).unwrap();
    let acme = catalogue.get("acme").unwrap();
    assert!(!acme.template);
    assert_eq!(acme.hosts.iter().collect::<Vec<_>>(), ["acme.dev"]);
    assert_eq!(acme.auth.scopes.keys().collect::<Vec<_>>(), ["notes", "profile"]);
    assert_eq!(acme.account.action, "account.read");
    assert_eq!(acme.action("account.read").unwrap().path.to_string(), "/userinfo");
    assert!(acme.action("note.create").is_some());
}

#[test]
fn what_a_request_is_recognised_as() {
    let (x, full) = (x(), full());
    for (provider, method, path, query, body, action, input) in [
        (&*x, "GET", "/2/users/me", None, "", "profile.read", json!({})),
        (&x, "GET", "/2/%75sers/me", Some(""), "", "profile.read", json!({})),
        (&x, "POST", "/2/tweets", None, r#"{"text":"a"}"#, "post.create", json!({"text": "a"})),
        (&x, "POST", "/2/tweets", None, "", "post.create", json!({})),
        (&x, "POST", "/2/tweets", None, r#"{"text":7}"#, "post.create", json!({"text": 7})),
        (
            &x,
            "POST",
            "/2/tweets",
            None,
            r#"{"reply":{"in_reply_to_tweet_id":"1"},"text":"a"}"#,
            "post.reply",
            json!({"text": "a", "in_reply_to_tweet_id": "1"}),
        ),
        (
            &x,
            "POST",
            "/2/tweets",
            None,
            r#"{"reply":{"in_reply_to_tweet_id":null},"text":"a"}"#,
            "post.reply",
            json!({"text": "a", "in_reply_to_tweet_id": null}),
        ),
        (&x, "DELETE", "/2/tweets/12", None, "", "post.delete", json!({"id": "12"})),
        (&x, "GET", "/2/tweets/12", None, "", "post.metrics", json!({"id": "12"})),
        (&x, "GET", "/2/tweets/12", Some("tweet.fields=public_metrics"), "", "post.metrics", json!({"id": "12"})),
        (&full, "GET", "/users/me", Some("page=02"), "", "me.read", json!({"page": "02"})),
        (
            &full,
            "GET",
            "/users/7",
            Some("q=a+%26%20b&deep=true"),
            "",
            "user.read",
            json!({"user": 7, "deep": true, "q": "a & b"}),
        ),
        (
            &full,
            "POST",
            "/users/7/mails/drafts",
            Some("v=1"),
            r#"{"kind":"draft"}"#,
            "mail.draft",
            json!({"user": 7, "kind": "draft", "v": 1}),
        ),
        (
            &full,
            "POST",
            "/users/7/mails/drafts",
            None,
            r#"{"kind":"mail"}"#,
            "mail.send",
            json!({"user": 7, "box": "drafts"}),
        ),
    ] {
        let recognised = provider.recognise(method, path, query, Some(body.as_bytes())).unwrap();
        assert_eq!((recognised.0.name.as_str(), recognised.1), (action, input), "{method} {path} {query:?} {body}");
    }
}

#[test]
fn what_is_recognised_as_nothing() {
    let (x, full) = (x(), full());
    for (provider, request, body, words) in [
        (&*x, "GET /2/tweets", "", "NoSuchAction"),
        (&x, "get /2/users/me", "", "NoSuchAction"),
        (&x, "GET /2/users/me/", "", "NoSuchAction"),
        (&x, "GET //2/users/me", "", "NoSuchAction"),
        (&x, "GET /2/tweets/abc", "", "NoSuchAction"),
        (&x, "GET /2/tweets/1%0a", "", "NoSuchAction"),
        (&x, "GET /2/tweets/..%2fusers", "", "Path(EncodedSlash)"),
        (&x, "GET /2/users/../users/me", "", "Path(DotSegment)"),
        (&x, "GET /2/tweets/%2", "", "Path(Encoding)"),
        (&x, "GET /2/users/me?a=%zz", "", "Query(Encoding)"),
        (&x, "GET /2/users/me?expansions=x", "", "UnknownQuery { name: \"expansions\" }"),
        (&x, "GET /2/users/me?", "{}", "UnexpectedBody"),
        (&x, "GET /2/tweets/1?tweet.fields=text", "", "FixedDiffers { place: \"?tweet.fields\" }"),
        (
            &x,
            "GET /2/tweets/1?tweet.fields=public_metrics&tweet.fields=text",
            "",
            "RepeatedQuery { name: \"tweet.fields\" }",
        ),
        (
            &x,
            "GET /2/tweets/1?tweet.fields=public_metrics&tweet%2efields=x",
            "",
            "RepeatedQuery { name: \"tweet.fields\" }",
        ),
        (&x, "GET /2/users/me?&", "", "RepeatedQuery { name: \"\" }"),
        (&x, "POST /2/tweets", "[]", "NotAnObject { pointer: \"\" }"),
        (&x, "POST /2/tweets", "{", "InvalidJson(Syntax { line: 1, column: 1 })"),
        (&x, "POST /2/tweets", r#"{"text":"a","text":"b"}"#, "InvalidJson(DuplicateKey { key: \"text\" })"),
        (&x, "POST /2/tweets", r#"{"text":"a","media":{}}"#, "UnknownBodyField { pointer: \"/media\" }"),
        (&x, "POST /2/tweets", r#"{"text":"a","reply":{}}"#, "UnknownBodyField { pointer: \"/reply\" }"),
        (&x, "POST /2/tweets", r#"{"text":"a","reply":null}"#, "UnknownBodyField { pointer: \"/reply\" }"),
        (
            &x,
            "POST /2/tweets",
            r#"{"text":"a","reply":{"in_reply_to_tweet_id":"1","exclude/x":1}}"#,
            "UnknownBodyField { pointer: \"/reply/exclude~1x\" }",
        ),
        (
            &full,
            "POST /users/7/mails/in",
            r#"{"kind":"mail","meta":{"version":3}}"#,
            "FixedDiffers { place: \"/meta/version\" }",
        ),
        (
            &full,
            "POST /users/7/mails/in",
            r#"{"kind":"mail","meta":{"version":2.0}}"#,
            "FixedDiffers { place: \"/meta/version\" }",
        ),
        (&full, "POST /users/7/mails/in", r#"{"kind":"mail","meta":[]}"#, "NotAnObject { pointer: \"/meta\" }"),
        (&full, "POST /users/7/mails/in", r#"{"kind":"mail","meta":{}}"#, "UnknownBodyField { pointer: \"/meta\" }"),
        (&full, "POST /users/7/mails/in", "{}", "NoSuchAction"),
        (&full, "POST /users/7/mails/drafts", r#"{"kind":"draft"}"#, "NoSuchAction"),
        (&full, "GET /users/07", "", "NoSuchAction"),
        (&full, "GET /users/-7", "", "NoSuchAction"),
        (&full, "GET /users/you", "", "NoSuchAction"),
        (&full, "DELETE /users/me", "{}", "UnexpectedBody"),
    ] {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let error = provider.recognise(method, path, query, Some(body.as_bytes())).unwrap_err();
        assert_eq!(format!("{error:?}"), words, "{request} {body}");
    }
}

#[test]
fn what_is_recognised_is_bounded() {
    let x = x();
    let deep = format!("{{\"text\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    let error = x.recognise("POST", "/2/tweets", None, Some(deep.as_bytes())).unwrap_err();
    assert_eq!(error, RecogniseError::InvalidJson(json::JsonFault::TooDeep { limit: 32 }));
    let long = format!("{{\"text\":\"{}\"}}", "a".repeat(16_384));
    let error = x.recognise("POST", "/2/tweets", None, Some(long.as_bytes())).unwrap_err();
    assert_eq!(error, RecogniseError::InvalidJson(json::JsonFault::TooLong { limit: 16_384 }));
    let query = (0..65).map(|n| format!("a{n}=")).collect::<Vec<_>>().join("&");
    let error = x.recognise("GET", "/2/users/me", Some(&query), None).unwrap_err();
    assert_eq!(error, RecogniseError::Query(Malformed::TooLong));
    let query = format!("{}=", "a".repeat(1000));
    let error = x.recognise("GET", "/2/users/me", Some(&query), None).unwrap_err();
    assert_eq!(error, RecogniseError::UnknownQuery { name: "a".repeat(64) });
}

/// Values that fields take, and some that they do not, of every type and with every awkward character.
fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[0-9]{1,3}",
        "[a-zé/\\\\%?#&=+;:@ ~.\u{0}\u{1}\"]{0,5}",
        Just("..".to_owned()),
        Just("draft".to_owned()),
        Just("good".to_owned())
    ];
    prop_oneof![
        4 => text.clone().prop_map(Value::from),
        3 => (-1_i64..12).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        2 => prop::collection::vec(text, 0..3).prop_map(Value::from),
    ]
}

/// An action and an input of its fields: required ones always, others sometimes.
fn any_act() -> impl Strategy<Value = (Arc<Provider>, String, Value)> {
    let providers = [x(), Arc::new(full())];
    let acts: Vec<_> = providers
        .iter()
        .flat_map(|provider| provider.actions().map(|action| (Arc::clone(provider), Arc::clone(action))))
        .collect();
    prop::sample::select(acts).prop_flat_map(|(provider, action)| {
        let fields: Vec<_> = action
            .input
            .iter()
            .map(|(name, field)| {
                let fitting = any_value().prop_filter("fits", {
                    let (action, name) = (Arc::clone(&action), name.clone());
                    move |value| action.input[&name].take(value).is_ok()
                });
                let required = field.required;
                let given = any::<bool>().prop_map(move |given| given || required);
                (Just(name.clone()), fitting, given)
            })
            .collect();
        (Just(provider), Just(action.name.clone()), fields).prop_map(|(provider, name, fields)| {
            let given = fields.into_iter().filter(|(_, _, given)| *given).map(|(name, value, _)| (name, value));
            (provider, name, Value::Object(given.collect()))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_local_rejects: 1_000_000, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rendered_is_recognised_as_the_same_act((provider, name, input) in any_act()) {
        let valid = provider.action(&name).unwrap().validate(&input).unwrap();
        let request = valid.render();
        let (path, query) = match request.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.path_and_query.as_str(), None),
        };
        prop_assert_eq!(path.split('/').count() - 1, valid.action().path.to_string().split('/').count() - 1);
        let (action, read) = provider.recognise(request.method.as_str(), path, query, request.body.as_deref()).unwrap();
        prop_assert_eq!(&action.name, &name);
        prop_assert_eq!(&read, &input);
        let again = action.validate(&read).unwrap();
        prop_assert_eq!(again.canonical(), valid.canonical());
        prop_assert!(again.render() == request);
    }

    #[test]
    fn whatever_is_recognised_and_valid_is_stable(
        method in "GET|POST|DELETE",
        path in "/(users|2)/(me|tweets|7|%37)(/mails/(drafts|%41|a%20b))?",
        query in "(((page|deep|q|v|mood|rank)=(1|true|bad|%41\\+|))&?){0,3}",
        body in r#"(\{("(kind|text|price|to)":("mail"|"draft"|"a"|7|\["b"\]),?){0,3}\})?"#,
    ) {
        static BOTH: LazyLock<[Arc<Provider>; 2]> = LazyLock::new(|| [x(), Arc::new(full())]);
        for provider in BOTH.iter() {
            let recognised = provider.recognise(&method, &path, Some(&query), Some(body.as_bytes()));
            let Ok((action, input)) = recognised else { continue };
            let Ok(valid) = action.validate(&input) else { continue };
            let request = valid.render();
            let (path, query) = request.path_and_query.split_once('?').unwrap_or((&request.path_and_query, ""));
            let again = provider.recognise(request.method.as_str(), path, Some(query), request.body.as_deref()).unwrap();
            prop_assert_eq!(&again.0.name, &action.name);
            prop_assert_eq!(again.1, input);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(at in 0..FULL.len(), with in "[\\[\\]{}\"=#\n.a1 é/]{0,3}", cut in 0_usize..12) {
        let start = FULL.floor_char_boundary(at);
        let end = FULL.floor_char_boundary((at + cut).min(FULL.len()));
        let text = [&FULL[..start], &with, &FULL[end.max(start)..]].concat();
        if let Err(faults) = Provider::parse("f", &text) {
            prop_assert!(!faults.is_empty());
        }
    }
}
