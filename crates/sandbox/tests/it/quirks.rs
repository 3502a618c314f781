//! Each quirk, seen from outside, in both versions of HTTP where they differ.

use http::Version;
use keyholder_sandbox::{Answered, Call, EchoForm, EchoPlace, INSIDE, Outcome, Quirk, Route, Scope};
use serde_json::json;

use crate::support::{ALL, World, request};

const TWEETS: &str = "https://api.x.com/2/tweets";
const ME: &str = "https://api.x.com/2/users/me";

async fn worlds() -> [(World, String); 2] {
    let (second, mut first) = (World::new().await, World::new().await);
    first.version = Version::HTTP_11;
    let (one, two) = (first.connected(ALL).await.0, second.connected(ALL).await.0);
    [(first, one), (second, two)]
}

fn post(access: &str) -> http::Request<String> {
    request("POST", TWEETS, Some(access))
        .header("content-type", "application/json")
        .body(json!({"text": "hello"}).to_string())
        .unwrap()
}

fn echo(place: EchoPlace, form: EchoForm, piecewise: bool) -> Quirk {
    Quirk::EchoAuthorization { place, form, piecewise }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_has_its_effect_and_no_byte() {
    for (world, access) in worlds().await {
        world.platform().switch(Quirk::LoseAnswer, Scope::once(Route::Api)).unwrap();
        assert!(world.send(post(&access)).await.is_err());
        assert_eq!(world.platform().posts_by("acme_support").len(), 1);
        let last = world.platform().requests().pop().unwrap();
        assert_eq!((last.status, last.quirk), (201, Some("lose_answer")));
        assert_eq!(world.send(post(&access)).await.unwrap().status, 201, "only once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_refresh_has_rotated_the_token() {
    let world = World::new().await;
    let refresh = world.connected(ALL).await.1.unwrap();
    world.platform().switch(Quirk::LoseAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    let basic = Some(("app", crate::support::SECRET));
    let lost = world.send(crate::support::form_request(crate::support::TOKEN, &form, basic)).await;
    assert!(lost.is_err());
    assert_eq!(world.platform().calls_with(Call::Refresh, Outcome::Done), 1);
    assert_eq!(world.refresh(&refresh).await.error(), "invalid_grant");
    assert_eq!(world.platform().replays_punished(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_answer_ends_after_its_bytes() {
    for (world, access) in worlds().await {
        for after_bytes in [0, 7] {
            world.platform().switch(Quirk::CutAnswer { after_bytes }, Scope::once(Route::Api)).unwrap();
            let cut = world.send(post(&access)).await.unwrap();
            assert_eq!(cut.status, 201);
            assert!(!cut.whole, "{cut:?}");
            assert_eq!(cut.body, &br#"{"data":"#[..after_bytes], "{:?}", world.version);
        }
        world.platform().switch(Quirk::CutAnswer { after_bytes: 10_000 }, Scope::once(Route::Api)).unwrap();
        assert!(world.send(post(&access)).await.unwrap().whole);
        assert_eq!(world.platform().posts_by("acme_support").len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_answer_waits_for_its_release_after_its_effect() {
    for (world, access) in worlds().await {
        world.platform().switch(Quirk::HoldAnswer, Scope::once(Route::Api)).unwrap();
        let held = world.send(post(&access));
        let release = async {
            while world.platform().calls(Call::CreatePost) == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(world.platform().posts_by("acme_support").len(), 1);
            world.platform().clear();
        };
        let (answer, ()) = tokio::join!(held, release);
        assert_eq!(answer.unwrap().status, 201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_is_whole() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    world.platform().switch(Quirk::SlowAnswer { ms: 5 }, Scope::once(Route::Api)).unwrap();
    assert_eq!(world.send(post(&access)).await.unwrap().status, 201);
    assert_eq!(world.platform().requests().pop().unwrap().quirk, Some("slow_answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_no_effect_and_say_when_to_come_back() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    let platform = world.platform();
    platform.switch(Quirk::Status { code: 503, retry_after_s: Some(7) }, Scope::once(Route::Api)).unwrap();
    let busy = world.send(post(&access)).await.unwrap();
    assert_eq!((busy.status.as_u16(), busy.header("retry-after")), (503, "7"));

    platform.switch(Quirk::RateLimited { reset_after_s: 60 }, Scope::once(Route::Api)).unwrap();
    let limited = world.send(post(&access)).await.unwrap();
    assert_eq!((limited.status.as_u16(), limited.header("x-rate-limit-remaining")), (429, "0"));
    assert!(limited.header("x-rate-limit-reset").parse::<u64>().unwrap() > 1_700_000_000);

    let location = "http://169.254.169.254/latest/meta-data/".to_owned();
    platform.switch(Quirk::Redirect { location: location.clone() }, Scope::once(Route::Api)).unwrap();
    let redirect = world.send(post(&access)).await.unwrap();
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (307, location.as_str()));
    assert!(platform.posts_by("acme_support").is_empty());
    assert_eq!(platform.fired(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_json_claims_to_be_json() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    world.platform().switch(Quirk::MalformedJson, Scope::once(Route::Api)).unwrap();
    let answer = world.send(post(&access)).await.unwrap();
    assert_eq!(answer.status, 201);
    assert!(answer.whole && answer.header("content-type").starts_with("application/json"));
    assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_err());
    assert_eq!(world.platform().posts_by("acme_support").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorization_comes_back_everywhere_it_is_told_to() {
    for (world, access) in worlds().await {
        let secret = format!("Bearer {access}");
        let platform = world.platform();
        let always = |place, form| platform.switch(echo(place, form, false), Scope::once(Route::Api)).unwrap();

        always(EchoPlace::Body, EchoForm::Plain);
        let answer = world.get(ME, Some(&access)).await;
        assert_eq!(answer.json()["echo"], secret.as_str(), "{answer:?}");
        assert_eq!(answer.json()["data"]["username"], "acme_support", "the answer is good otherwise");
        assert_eq!(platform.last_echo().unwrap(), answer.body);

        always(EchoPlace::Body, EchoForm::JsonEscapes);
        let answer = world.get(ME, Some(&access)).await;
        assert_eq!(answer.json()["echo"], secret.as_str(), "{answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&access));

        always(EchoPlace::Header, EchoForm::Plain);
        assert_eq!(world.get(ME, Some(&access)).await.header("x-echo"), secret);

        always(EchoPlace::ErrorPage, EchoForm::Plain);
        let page = world.send(post(&access)).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("content-type")), (500, "text/html; charset=utf-8"));
        assert!(String::from_utf8_lossy(&page.body).contains(&secret));
        assert!(platform.posts_by("acme_support").is_empty());

        always(EchoPlace::GzipBody, EchoForm::Plain);
        let gzip = request("GET", ME, Some(&access)).header("accept-encoding", "identity").body(String::new()).unwrap();
        let gzip = world.send(gzip).await.unwrap();
        assert_eq!((gzip.header("content-encoding"), &gzip.body[..3]), ("gzip", &[0x1f, 0x8b, 8][..]));
        assert!(!gzip.body.windows(8).any(|eight| eight == &access.as_bytes()[..8]));
        assert!(String::from_utf8_lossy(&platform.last_echo().unwrap()).contains(&secret));

        // Without a credential there is nothing to echo.
        always(EchoPlace::Body, EchoForm::Plain);
        assert_eq!(world.get(ME, None).await.json().get("echo"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_in_pieces_comes_byte_by_byte() {
    for (world, access) in worlds().await {
        let quirk = echo(EchoPlace::Body, EchoForm::Plain, true);
        world.platform().switch(quirk, Scope::once(Route::Api)).unwrap();
        let answer = world.get(ME, Some(&access)).await;
        assert!(answer.pieces.iter().all(|size| *size == 1), "{:?}: {:?}", world.version, answer.pieces);
        assert_eq!(answer.pieces.len(), answer.body.len());
        assert_eq!(answer.json()["echo"], format!("Bearer {access}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_meets_its_route_and_no_other() {
    let world = World::new().await;
    let (access, refresh) = world.connected(ALL).await;
    let quirk = Quirk::Status { code: 500, retry_after_s: None };
    world.platform().switch(quirk, Scope::always(Route::Token)).unwrap();
    assert_eq!(world.get(ME, Some(&access)).await.status, 200);
    let refresh = refresh.unwrap();
    for _ in 0..2 {
        assert_eq!(world.refresh(&refresh).await.status, 500);
    }
    world.platform().clear();
    assert_eq!(world.refresh(&refresh).await.status, 200);
}

/// Where the echo of a place is to be found in what a client was sent, as the platform kept it.
fn echoed_in(answer: &Answered, place: EchoPlace) -> Vec<u8> {
    let header = |name| answer.headers.get(name).map_or_else(Vec::new, |value| value.as_bytes().to_vec());
    match place {
        EchoPlace::Header | EchoPlace::ErrorHeader => header("x-echo"),
        EchoPlace::EntityTag => header("etag"),
        EchoPlace::SetCookie => header("set-cookie"),
        EchoPlace::Location => header("location"),
        _ => answer.body.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_place_echoes_and_what_was_answered_is_kept() {
    for (world, access) in worlds().await {
        let platform = world.platform();
        world.get(ME, Some(&access)).await;
        assert!(platform.last_answer().is_none(), "nothing is kept that nobody wants");
        platform.keep_answers(1000);
        for place in EchoPlace::ALL {
            for form in EchoForm::ALL {
                let what = format!("{:?} {place:?} {form:?}", world.version);
                platform.switch(echo(place, form, false), Scope::once(Route::Api)).unwrap();
                let posts = platform.posts_by("acme_support").len();
                let answer = world.send(post(&access)).await.unwrap();
                let kept = platform.last_answer().unwrap();
                assert_eq!(kept.status, answer.status.as_u16(), "{what}");
                assert_eq!(answer.body, kept.compressed.clone().unwrap_or_else(|| kept.body.clone()), "{what}");
                assert_eq!(kept.compressed.is_some(), place.is_compressed(), "{what}");
                assert!(!echoed_in(&kept, place).is_empty(), "{what}");
                assert!(platform.last_echo().unwrap().len() > access.len(), "{what}");
                assert!(kept.text().ends_with(&kept.body), "{what}");
                for (name, value) in &kept.headers {
                    assert_eq!(answer.headers.get(name), Some(value), "{what}: what is kept was sent");
                }
                let happened = platform.posts_by("acme_support").len() - posts;
                assert_eq!(happened, usize::from(!place.is_instead()), "{what}");
                let is_plain = form == EchoForm::Plain;
                let holds = echoed_in(&kept, place).windows(access.len()).any(|window| window == access.as_bytes());
                assert!(!is_plain || holds, "{what}");
            }
        }
        let kept = platform.answers();
        assert_eq!(kept.len(), EchoPlace::ALL.len() * EchoForm::ALL.len());
        assert!(!format!("{kept:?}").contains(&access));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_compressed_in_the_way_that_its_header_says_or_says_nothing() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    for (place, name, begin) in [
        (EchoPlace::GzipBody, "gzip", &[0x1f, 0x8b][..]),
        (EchoPlace::DeflateBody, "deflate", &[0x78, 0x01]),
        (EchoPlace::BrotliBody, "br", &[]),
        (EchoPlace::UnlabelledGzip, "", &[0x1f, 0x8b]),
    ] {
        world.platform().switch(echo(place, EchoForm::Plain, false), Scope::once(Route::Api)).unwrap();
        let answer = world.get(ME, Some(&access)).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-encoding")), (200, name), "{place:?}");
        assert!(answer.body.starts_with(begin) && answer.body.first() != Some(&b'{'), "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoints_of_oauth_quote_what_the_form_brought() {
    let world = World::new().await;
    let (access, refresh) = world.connected(ALL).await;
    let (platform, refresh) = (world.platform(), refresh.unwrap());
    platform.keep_answers(10);
    let quirk = |form| Quirk::EchoForm { form };
    platform.switch(quirk(EchoForm::Plain), Scope::once(Route::Token)).unwrap();
    let answer = world.refresh(&refresh).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "temporarily_unavailable"));
    let said = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("refresh_token={refresh}")) && said.contains("Basic "), "{said}");

    platform.switch(quirk(EchoForm::JsonEscapes), Scope::once(Route::Token)).unwrap();
    let code = world.code(ALL);
    let answer = world.exchange(&code).await;
    assert!(!String::from_utf8_lossy(&answer.body).contains(&code));
    let said = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("code={code}")) && said.contains("code_verifier="), "{said}");

    platform.switch(quirk(EchoForm::Plain), Scope::once(Route::Revoke)).unwrap();
    let answer = world.form("https://api.x.com/2/oauth2/revoke", &[("token", &access)]).await;
    assert!(answer.status == 503 && String::from_utf8_lossy(&answer.body).contains(&format!("token={access}")));
    assert!(platform.is_live(&access), "nothing happened");
    assert_eq!(world.refresh(&refresh).await.status, 200, "nor to the refresh token");
    assert_eq!(platform.answers().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_or_cut_is_kept_whole() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    let platform = world.platform();
    platform.keep_answers(10);
    platform.switch(Quirk::LoseAnswer, Scope::once(Route::Api)).unwrap();
    assert!(world.send(post(&access)).await.is_err());
    let lost = platform.last_answer().unwrap();
    assert!((lost.call, lost.status) == (Call::CreatePost, 201) && lost.body.ends_with(b"}"), "{lost:?}");
    platform.switch(Quirk::CutAnswer { after_bytes: 3 }, Scope::once(Route::Api)).unwrap();
    assert_eq!(world.send(post(&access)).await.unwrap().body.len(), 3);
    assert!(platform.last_answer().unwrap().body.ends_with(b"}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_lead_to_every_address_of_the_table() {
    let world = World::new().await;
    let (access, _) = world.connected(ALL).await;
    for inside in INSIDE {
        world.platform().switch(Quirk::Redirect { location: (*inside).to_owned() }, Scope::once(Route::Api)).unwrap();
        let answer = world.get(ME, Some(&access)).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (307, *inside));
    }
}
