//! The API, the hosts, and the way in for other processes.

use http::Version;
use keyholder_sandbox::{Call, Outcome};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{ALL, World, request};

const TWEETS: &str = "https://api.x.com/2/tweets";
const ME: &str = "https://api.x.com/2/users/me";

#[tokio::test]
async fn posts_are_made_answered_read_and_deleted() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    let made = world.post_json(TWEETS, Some(&access), &json!({"text": "hello"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(made.json()["data"], json!({"id": id, "text": "hello", "edit_history_tweet_ids": [id]}));

    let reply = json!({"text": "hello yourself", "reply": {"in_reply_to_tweet_id": id}});
    let reply = world.post_json(TWEETS, Some(&access), &reply).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let posts = world.platform().posts_by("acme_support");
    assert_eq!(posts[1].reply_to.as_deref(), Some(&*id));
    assert_eq!(world.platform().calls(Call::Reply), 1);

    let one = format!("{TWEETS}/{id}");
    let read = world.get(&format!("{one}?tweet.fields=public_metrics,author_id,created_at"), Some(&access)).await;
    let data = read.json()["data"].clone();
    assert_eq!(data["public_metrics"]["reply_count"], 1, "{read:?}");
    assert_eq!(data["author_id"], world.platform().account("acme_support").unwrap().id);
    assert!(data["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(world.get(&one, Some(&access)).await.json()["data"].as_object().unwrap().len(), 3);
    assert_eq!(world.get(&format!("{one}?tweet.fields=secrets"), Some(&access)).await.status, 400);

    assert_eq!(world.delete(&one, &access).await.json()["data"]["deleted"], true);
    let gone = world.get(&one, Some(&access)).await;
    assert_eq!(gone.status, 200, "X says so, with errors and no data");
    assert_eq!(gone.json()["errors"][0]["title"], "Not Found Error");
    assert_eq!(gone.json().get("data"), None);
    assert_eq!(world.platform().posts_by("acme_support").len(), 1);
    assert_eq!(world.platform().posts_written_by("acme_support"), 2);
}

#[tokio::test]
async fn what_x_refuses_is_refused() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    for (body, status) in [
        (json!({"text": "a".repeat(281)}), 403),
        (json!({"text": "日".repeat(141)}), 403),
        (json!({"text": "a", "reply": {"in_reply_to_tweet_id": "12"}}), 403),
        (json!({"text": ""}), 400),
        (json!({"text": "a", "extra": true}), 400),
        (json!({}), 400),
    ] {
        let refused = world.post_json(TWEETS, Some(&access), &body).await;
        assert_eq!(refused.status, status, "{body}: {refused:?}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    assert_eq!(world.post_json(TWEETS, Some(&access), &json!({"text": "a".repeat(280)})).await.status, 201);

    let theirs = world.platform().post_as("rival_brand", "ours is better").unwrap();
    let refused = world.delete(&format!("{TWEETS}/{}", theirs.id), &access).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(refused.json()["title"], "Forbidden");
    assert_eq!(world.platform().posts_by("rival_brand").len(), 1);
    assert_eq!(world.delete(&format!("{TWEETS}/abc"), &access).await.status, 400);
    assert_eq!(world.get("https://api.x.com/2/nothing", Some(&access)).await.status, 404);
    let put = request("PUT", ME, Some(&access)).body(String::new()).unwrap();
    assert_eq!(world.send(put).await.unwrap().status, 405);
    let long = request("POST", TWEETS, Some(&access)).body("a".repeat(70_000)).unwrap();
    assert_eq!(world.send(long).await.unwrap().status, 413);
}

#[tokio::test]
async fn every_call_needs_its_scopes_and_a_live_bearer() {
    let world = World::new().await;
    let id = world.platform().post_as("acme_support", "hello").unwrap().id;
    let one = format!("{TWEETS}/{id}");
    // Which calls each set of scopes opens: read profile, create, delete, read post.
    let table = [
        ("tweet.read", [403, 403, 403, 403]),
        ("users.read", [403, 403, 403, 403]),
        ("tweet.read users.read", [200, 403, 403, 200]),
        ("tweet.write users.read", [403, 403, 403, 403]),
        ("tweet.read tweet.write users.read", [200, 201, 200, 200]),
    ];
    for (scopes, expected) in table {
        let (access, _) = world.connected(scopes).await;
        let statuses = [
            world.get(ME, Some(&access)).await.status.as_u16(),
            world.post_json(TWEETS, Some(&access), &json!({"text": "hello"})).await.status.as_u16(),
            world.delete(&format!("{TWEETS}/1"), &access).await.status.as_u16(),
            world.get(&one, Some(&access)).await.status.as_u16(),
        ];
        assert_eq!(statuses, expected, "{scopes}");
    }
    let (_, refresh) = world.connected(ALL).await;
    for wrong in [None, Some("made-up"), refresh.as_deref()] {
        let refused = world.get(ME, wrong).await;
        assert_eq!(refused.status, 401, "{wrong:?}");
        assert_eq!(refused.json()["title"], "Unauthorized");
    }
}

#[tokio::test]
async fn rate_limits_are_told_and_enforced() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    world.platform().set_rate_limit(2);
    for remaining in ["1", "0"] {
        let answer = world.get(ME, Some(&access)).await;
        assert_eq!(answer.header("x-rate-limit-limit"), "2");
        assert_eq!(answer.header("x-rate-limit-remaining"), remaining);
    }
    let refused = world.get(ME, Some(&access)).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.header("x-rate-limit-reset").parse::<u64>().unwrap() > 1_700_000_000);
    world.platform().pass_time(std::time::Duration::from_mins(15));
    assert_eq!(world.get(ME, Some(&access)).await.status, 200);
}

#[tokio::test]
async fn the_way_in_is_open_under_localhost_only() {
    let mut world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    world.post_json(TWEETS, Some(&access), &json!({"text": "seen from outside"})).await;
    for version in [Version::HTTP_2, Version::HTTP_11] {
        world.version = version;
        for host in ["api.x.com", "x.com", "127.0.0.1"] {
            let hidden = world.get(&format!("https://{host}/sandbox/state"), None).await;
            assert_eq!(hidden.status, 404, "{host}");
        }
        let state = world.get("https://localhost/sandbox/state", None).await;
        assert_eq!(state.json()["posts"][0]["text"], "seen from outside");
        assert_eq!(state.json()["calls"]["create_post"]["done"], 1);
        assert!(!String::from_utf8_lossy(&state.body).contains(&access));
    }
    let switch = "https://localhost/sandbox/switch";
    let wanted = json!({"quirk": {"kind": "status", "code": 503}, "scope": {"route": "api", "times": {"exactly": 2}}});
    assert_eq!(world.post_json(switch, None, &wanted).await.status, 200);
    assert_eq!(world.get(ME, Some(&access)).await.status, 503);
    let state = world.get("https://localhost/sandbox/state", None).await.json();
    assert_eq!((&state["armed"][0]["left"], &state["fired"]["status"]), (&json!(1), &json!(1)));
    assert_eq!(world.post_json("https://localhost/sandbox/clear", None, &Value::Null).await.status, 200);
    assert_eq!(world.get(ME, Some(&access)).await.status, 200);
    for wrong in
        [json!({}), json!({"quirk": {"kind": "status", "code": 99}, "scope": {"route": "api", "times": "once"}})]
    {
        assert_eq!(world.post_json(switch, None, &wrong).await.status, 422, "{wrong}");
    }
    assert!(world.platform().armed().is_empty());
    assert_eq!(world.platform().calls(Call::Unknown), 0, "the way in is no part of the platform");
}

#[tokio::test]
async fn only_its_own_names_are_served_and_certified() {
    let world = World::new().await;
    assert!(world.connect("thief.example", b"h2").await.is_err());
    let mut other = World::new().await;
    other.version = Version::HTTP_11;
    // Another Host within a good connection is not answered either.
    let misdirected = request("GET", "https://api.x.com/2/users/me", None).header("host", "thief.example");
    let answer = other.send(misdirected.body(String::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status, 421);
    assert_ne!(world.sandbox.ca_pem(), other.sandbox.ca_pem());
    assert!(world.sandbox.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn the_journal_says_what_arrived_and_never_a_credential() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    world.post_json(TWEETS, Some(&access), &json!({"text": "hello"})).await;
    let requests = world.platform().requests();
    let last = requests.last().unwrap();
    assert_eq!((last.method.as_str(), last.path.as_str(), last.host.as_str()), ("POST", "/2/tweets", "api.x.com"));
    assert_eq!((last.status, last.authorization_present, last.quirk), (201, true, None));
    assert_eq!(last.body, br#"{"text":"hello"}"#);
    assert_eq!(last.headers, ["authorization", "content-length", "content-type"]);
    assert_eq!(world.platform().calls_with(Call::CreatePost, Outcome::Done), 1);
    let all = format!("{requests:?}");
    for token in world.platform().tokens("acme_support") {
        assert!(!all.contains(&token.text));
    }
}

#[tokio::test]
async fn a_shut_down_sandbox_drops_its_connections_and_frees_its_port() {
    let world = World::new().await;
    let mut open = world.connect("localhost", b"http/1.1").await.unwrap();
    let port = world.sandbox.addr().port();
    assert_eq!(world.sandbox.url(), format!("https://localhost:{port}"));
    let taken = keyholder_sandbox::SandboxOptions { port, ..Default::default() };
    let refused = keyholder_sandbox::Sandbox::start(taken.clone()).await;
    assert!(matches!(refused, Err(keyholder_sandbox::SandboxError::Bind { .. })));
    world.sandbox.shutdown().await;
    let mut byte = [0];
    assert!(matches!(open.read(&mut byte).await, Ok(0) | Err(_)));
    keyholder_sandbox::Sandbox::start(taken).await.unwrap().shutdown().await;
}
