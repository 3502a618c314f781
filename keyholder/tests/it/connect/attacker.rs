//! The attacker who sends his own link to a victim, in each form that this can take, and fails; and what is good once only.

use domain::id::Id;
use futures_util::future::join_all;
use http::{Method, header};
use keyholder::{caller::Caller, local};
use sandbox::Call;
use serde_json::json;
use url::Url;

use super::{allow, assert_dead_end, choose, come_back, count, stored};
use crate::harness::{ACCOUNT, RETURN, TestApp, location, ok, problem, query, text};

const FOLLOWED: &str = "select count(*) from keyholder.connect_links where state_hash is not null";

/// A browser that has connected something before, and so has a cookie of its own.
async fn seasoned(app: &TestApp) -> Caller {
    let browser = app.stranger.with_no_cookies();
    assert_eq!(browser.get(&app.link(&["profile.read"]).await).await.unwrap().status, 200);
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_the_attacker_opened_first_does_not_open_for_the_victim() {
    let app = TestApp::start().await;
    let link = app.link(&["profile.read"]).await;
    let attacker = app.stranger.with_no_cookies();
    assert_eq!(attacker.get(&link).await.unwrap().status, 200);
    for victim in [app.stranger.with_no_cookies(), seasoned(&app).await] {
        assert_dead_end(&victim.get(&link).await.unwrap(), 403);
        assert_dead_end(&choose(&victim, &link, &["profile.read"]).await, 403);
    }
    assert_eq!(count(&mut app.owner().await, FOLLOWED).await, 0);
    // It is still the attacker's own: the refusals above are about the browser.
    allow(&attacker, &link, &["profile.read"]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_whom_the_attacker_sends_to_the_provider_brings_nothing_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let link = app.link(&["profile.read"]).await;
    let attacker = app.stranger.with_no_cookies();
    let to = allow(&attacker, &link, &["profile.read"]).await;

    // The victim knows the provider's page, and approves.
    let back = platform.approve(to.as_str(), ACCOUNT).unwrap();
    for victim in [app.stranger.with_no_cookies(), seasoned(&app).await] {
        assert_dead_end(&victim.get(&back).await.unwrap(), 403);
        assert_dead_end(&victim.get(&link).await.unwrap(), 403);
    }
    assert_eq!(platform.calls(Call::Exchange), 0, "the victim's code was exchanged");
    assert_eq!(stored(&app).await, (0, 0));

    // What the attacker has is the state, and no code.
    let mut guess = Url::parse(&back).unwrap();
    guess.query_pairs_mut().clear().append_pair("state", &query(&to, "state").unwrap()).append_pair("code", "guess");
    let home = come_back(&attacker, guess.as_str()).await;
    assert_eq!(query(&home, "keyholder_error").as_deref(), Some("provider_failed"));
    assert_eq!(stored(&app).await, (0, 0));
    assert!(platform.tokens(ACCOUNT).is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_who_follows_the_attackers_link_to_its_end_gives_him_nothing() {
    let app = TestApp::start().await;
    let link = app.link(&["profile.read"]).await;
    let victim = app.stranger.with_no_cookies();
    let to = allow(&victim, &link, &["profile.read"]).await;
    let back = app.sandbox.platform().approve(to.as_str(), ACCOUNT).unwrap();
    let home = come_back(&victim, &back).await;
    // The code is in the victim's browser, at the registered address, and nowhere else.
    assert!(home.as_str().starts_with(&format!("{RETURN}?")), "{home}");
    let code = query(&home, "keyholder_code").unwrap();

    let uuid = sqlx::query_scalar("select id from keyholder.connections").fetch_one(&mut app.owner().await).await;
    let connection = domain::id::ConnectionId::from_uuid(uuid.unwrap()).to_string();
    let path = format!("/v1/connections/{connection}");
    assert_eq!(text(&ok(app.admin.get(&path).await.unwrap(), 200), "/state"), "inert");
    let (agent, key) = app.agent().await;
    let terms = json!({ "connection": connection, "grantee": key, "actions": ["profile.read"] });
    let refused = app.admin.post("/v1/mandates", &terms).await.unwrap();
    assert_eq!(problem(&refused), (409, "conflict".to_owned()));

    // All that the attacker knows redeems nothing; neither do another workspace and a key without the right.
    let link_id = query(&home, "keyholder_link").unwrap();
    let known =
        [link.rsplit('/').next().unwrap().to_owned(), query(&to, "state").unwrap(), connection.clone(), link_id];
    for guess in known {
        let refused = app.admin.post("/v1/connections/redeem", &json!({ "code": guess })).await.unwrap();
        assert_eq!(problem(&refused), (404, "not-found".to_owned()), "{guess}");
    }
    let rival = local::create_workspace(app.instance.app(), "Rival").await.unwrap();
    let rival = app.stranger.with_key(&rival.text);
    let refused = rival.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    assert_eq!(problem(&refused).0, 404);
    assert_eq!(problem(&rival.get(&path).await.unwrap()).0, 404);
    let refused = agent.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    assert_eq!(problem(&refused).0, 403);
    assert_eq!(text(&ok(app.admin.get(&path).await.unwrap(), 200), "/state"), "inert");

    // None of it has spent the code, which is for the back end that the victim's browser brings it to.
    let redeemed = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    assert_eq!(text(&ok(redeemed, 200), "/state"), "active");
    ok(app.admin.post("/v1/mandates", &terms).await.unwrap(), 201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_from_another_site_is_refused_before_it_has_an_effect() {
    let app = TestApp::start().await;
    let link = app.link(&["profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    assert_eq!(browser.get(&link).await.unwrap().status, 200);
    let own = app.instance.url().origin().ascii_serialization();
    let foreign: [&[(&str, &str)]; 6] = [
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "cross-site"), ("origin", &own)],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[],
    ];
    for headers in foreign {
        let mut headers = headers.to_vec();
        headers.push((header::CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded"));
        let reply = browser.send(Method::POST, &link, &headers, "allow=profile.read".into()).await.unwrap();
        assert_dead_end(&reply, 403);
    }
    assert_eq!(count(&mut app.owner().await, FOLLOWED).await, 0);
    location(&choose(&browser, &link, &["profile.read"]).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_and_its_state_are_good_once_however_many_try_at_once() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let link = app.link(&["profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    let first = allow(&browser, &link, &["profile.read"]).await;
    // Consenting again makes a new state, and the old one is worth nothing.
    let second = allow(&browser, &link, &["profile.read"]).await;
    let old = platform.approve(first.as_str(), ACCOUNT).unwrap();
    assert_dead_end(&browser.get(&old).await.unwrap(), 403);
    let back = platform.approve(second.as_str(), ACCOUNT).unwrap();

    let replies = join_all((0..8).map(|_| browser.get(&back))).await;
    let homes: Vec<_> = replies.iter().flatten().filter(|reply| reply.status == 303).collect();
    assert_eq!(homes.len(), 1, "{:?}", replies.iter().flatten().map(|reply| reply.status).collect::<Vec<_>>());
    assert_eq!(platform.calls(Call::Exchange), 1);
    assert_eq!(stored(&app).await, (1, 2));
    assert_dead_end(&browser.get(&back).await.unwrap(), 403);
    assert_dead_end(&browser.get(&link).await.unwrap(), 403);
    assert_dead_end(&choose(&browser, &link, &["profile.read"]).await, 403);

    let code = query(&Url::parse(location(homes[0])).unwrap(), "keyholder_code").unwrap();
    let body = json!({ "code": code });
    let redeemed = join_all((0..8).map(|_| app.admin.post("/v1/connections/redeem", &body))).await;
    let mut statuses: Vec<_> = redeemed.iter().flatten().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 404, 404, 404, 404, 404, 404, 404]);
    assert_eq!(platform.code_reuses_punished(), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_another_providers_at_another_providers_address() {
    let app = TestApp::start().await;
    let browser = app.stranger.with_no_cookies();
    for other in ["generic-oauth", "y"] {
        let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
        let back = app.sandbox.platform().approve(to.as_str(), ACCOUNT).unwrap();
        assert_dead_end(&browser.get(&back.replace("callback/x?", &format!("callback/{other}?"))).await.unwrap(), 403);
    }
    assert_eq!(app.sandbox.platform().calls(Call::Exchange), 0);
    assert_eq!(stored(&app).await, (0, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_too_old_neither_opens_nor_ends() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    let expire = "update keyholder.connect_links set expires_at = clock_timestamp() - interval '1 second'";
    let life: f64 = {
        app.link(&["profile.read"]).await;
        sqlx::query_scalar("select extract(epoch from expires_at - created_at)::float8 from keyholder.connect_links")
            .fetch_one(&mut owner)
            .await
            .unwrap()
    };
    assert!((life - 600.0).abs() < 1.0, "a link lives {life} s");

    let unopened = app.link(&["profile.read"]).await;
    sqlx::query(expire).execute(&mut owner).await.unwrap();
    let browser = app.stranger.with_no_cookies();
    assert_dead_end(&browser.get(&unopened).await.unwrap(), 403);

    let opened = app.link(&["profile.read"]).await;
    assert_eq!(browser.get(&opened).await.unwrap().status, 200);
    sqlx::query(expire).execute(&mut owner).await.unwrap();
    assert_dead_end(&browser.get(&opened).await.unwrap(), 403);
    assert_dead_end(&choose(&browser, &opened, &["profile.read"]).await, 403);

    let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
    let back = app.sandbox.platform().approve(to.as_str(), ACCOUNT).unwrap();
    sqlx::query(expire).execute(&mut owner).await.unwrap();
    assert_dead_end(&browser.get(&back).await.unwrap(), 403);
    assert_eq!(app.sandbox.platform().calls(Call::Exchange), 0);
    assert_eq!(stored(&app).await, (0, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_comes_too_late_redeems_nothing() {
    let app = TestApp::start().await;
    let mut owner = app.owner().await;
    let browser = app.stranger.with_no_cookies();
    for (age, status) in [("11 minutes", 404), ("9 minutes", 200)] {
        let home = app.consent(&browser, &app.link(&["profile.read"]).await, ACCOUNT, &["profile.read"]).await;
        sqlx::query("update keyholder.connect_links set called_back_at = clock_timestamp() - $1::text::interval")
            .bind(age)
            .execute(&mut owner)
            .await
            .unwrap();
        let code = query(&home, "keyholder_code").unwrap();
        let reply = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
        assert_eq!(reply.status, status, "{age}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_cannot_be_made_to_allow_what_was_not_asked() {
    let app = TestApp::start().await;
    let link = app.link(&["profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    assert_eq!(browser.get(&link).await.unwrap().status, 200);
    let wrong: [&[&str]; 4] = [&["post.create"], &["profile.read", "post.create"], &["profile.read "], &[]];
    for actions in wrong {
        assert_dead_end(&choose(&browser, &link, actions).await, 422);
    }
    assert_dead_end(&browser.submit(&link, &[("allow", "profile.read"), ("scope", "tweet.write")]).await.unwrap(), 422);
    assert_eq!(count(&mut app.owner().await, FOLLOWED).await, 0);
    location(&choose(&browser, &link, &["profile.read"]).await);
    app.stop().await;
}
