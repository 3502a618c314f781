//! Connecting when somebody says no, or does not keep to the protocol: the browser always comes home, and nothing is kept.

use domain::provider::Catalogue;
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::json;
use url::Url;

use super::{allow, assert_dead_end, come_back, count, stored};
use crate::{
    harness::{ACCOUNT, RETURN, TestApp, catalogue_with, eventually, location, query},
    refresh::renew_consent,
};

/// The browser came to the registered address with an error, and with nothing to redeem.
#[track_caller]
fn assert_failed(home: &Url, error: &str) {
    assert!(home.as_str().starts_with(&format!("{RETURN}?")), "{home}");
    assert_eq!(query(home, "keyholder_error").as_deref(), Some(error));
    assert!(query(home, "keyholder_link").is_some());
    assert_eq!((query(home, "keyholder_code"), query(home, "keyholder_connection")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_denies_at_the_provider_comes_home_and_nothing_is_kept() {
    let app = TestApp::start().await;
    let browser = app.stranger.with_no_cookies();
    let link = app.link(&["profile.read"]).await;
    let to = allow(&browser, &link, &["profile.read"]).await;
    let back = app.sandbox.platform().deny(to.as_str()).unwrap();
    assert_failed(&come_back(&browser, &back).await, "access_denied");
    assert_dead_end(&browser.get(&link).await.unwrap(), 403);
    // A code beside the denial does not turn it into a consent.
    let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
    let back = app.sandbox.platform().deny(to.as_str()).unwrap();
    assert_failed(&come_back(&browser, &format!("{back}&code=some")).await, "access_denied");
    // And nothing at all is none either.
    let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
    let bare = format!("/connect/callback/x?state={}", query(&to, "state").unwrap());
    assert_failed(&come_back(&browser, &bare).await, "access_denied");
    assert_eq!(stored(&app).await, (0, 0));
    assert_eq!(app.sandbox.platform().calls(Call::Exchange), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_at_the_exchange_leaves_nothing_and_a_new_link_works() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let quirks = [
        Quirk::Status { code: 500, retry_after_s: None },
        Quirk::Status { code: 400, retry_after_s: None },
        Quirk::RateLimited { reset_after_s: 60 },
        Quirk::MalformedJson,
        Quirk::LoseAnswer,
        Quirk::CutAnswer { after_bytes: 20 },
        Quirk::Redirect { location: "https://evil.example/token".to_owned() },
    ];
    for (number, quirk) in (1..).zip(quirks) {
        let browser = app.stranger.with_no_cookies();
        let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
        let back = platform.approve(to.as_str(), ACCOUNT).unwrap();
        platform.switch(quirk.clone(), Scope::once(Route::Only(Call::Exchange))).unwrap();
        assert_failed(&come_back(&browser, &back).await, "provider_failed");
        assert_eq!(platform.calls(Call::Exchange), number, "{quirk:?}: a code is shown once");
        assert_eq!(stored(&app).await, (0, 0), "{quirk:?}");
        assert_dead_end(&browser.get(&back).await.unwrap(), 403);
    }
    assert_eq!(platform.calls(Call::ReadProfile), 0);
    app.connect(ACCOUNT, &["profile.read"]).await;
    assert_eq!(stored(&app).await, (1, 2));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_whose_account_cannot_be_told_is_given_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let quirks = [
        Quirk::Status { code: 500, retry_after_s: None },
        Quirk::Status { code: 401, retry_after_s: None },
        Quirk::MalformedJson,
        Quirk::LoseAnswer,
    ];
    for (number, quirk) in (1..).zip(quirks) {
        let browser = app.stranger.with_no_cookies();
        let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
        let back = platform.approve(to.as_str(), ACCOUNT).unwrap();
        platform.switch(quirk.clone(), Scope::once(Route::Only(Call::ReadProfile))).unwrap();
        assert_failed(&come_back(&browser, &back).await, "provider_failed");
        assert_eq!(stored(&app).await, (0, 0), "{quirk:?}");
        assert_eq!(platform.revocations(), number, "{quirk:?}: the grant was not given back");
    }
    assert!(platform.tokens(ACCOUNT).iter().all(|token| !token.live));
    app.connect(ACCOUNT, &["profile.read"]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_exchange_is_waited_for_and_not_repeated() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let browser = app.stranger.with_no_cookies();
    let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
    let back = platform.approve(to.as_str(), ACCOUNT).unwrap();
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Exchange))).unwrap();
    let meanwhile = async {
        eventually("the platform is asked", async || platform.calls(Call::Exchange) > 0).await;
        // The owner grows impatient and loads the page again.
        let again = browser.get(&back).await.unwrap();
        assert_eq!(stored(&app).await, (0, 0));
        platform.clear();
        again
    };
    let (first, again) = tokio::join!(browser.get(&back), meanwhile);
    assert_dead_end(&again, 403);
    let home = Url::parse(location(&first.unwrap())).unwrap();
    assert!(query(&home, "keyholder_code").is_some());
    assert_eq!(platform.calls(Call::Exchange), 1);
    assert_eq!(stored(&app).await, (1, 2));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_was_given_for_another_challenge_is_not_exchanged() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let browser = app.stranger.with_no_cookies();
    let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
    let other = allow(&app.stranger.with_no_cookies(), &app.link(&["profile.read"]).await, &["profile.read"]).await;
    // Somebody else's code, injected into this browser's callback (RFC 9700 §4.5).
    let injected = Url::parse(&platform.approve(other.as_str(), ACCOUNT).unwrap()).unwrap();
    let mut back = injected.clone();
    back.query_pairs_mut()
        .clear()
        .append_pair("state", &query(&to, "state").unwrap())
        .append_pair("code", &query(&injected, "code").unwrap());
    assert_failed(&come_back(&browser, back.as_str()).await, "provider_failed");
    assert_eq!((platform.calls(Call::Exchange), platform.tokens(ACCOUNT).len()), (1, 0));
    assert_eq!(stored(&app).await, (0, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_another_issuers_name_is_not_taken() {
    let files: Vec<_> = Catalogue::shipped_files()
        .map(|(name, text)| (name, text.replace("[auth]\n", "[auth]\nissuer = \"https://x.com\"\n")))
        .filter(|(name, _)| name.ends_with("/x.toml"))
        .collect();
    let catalogue = Catalogue::load(files).unwrap();
    let app = TestApp::start_with(|options| options.catalogue = catalogue).await;
    let platform = app.sandbox.platform();
    let browser = app.stranger.with_no_cookies();
    for forged in [Some("https://evil.example"), Some("https://x.com/"), None] {
        let to = allow(&browser, &app.link(&["profile.read"]).await, &["profile.read"]).await;
        let back = Url::parse(&platform.approve(to.as_str(), ACCOUNT).unwrap()).unwrap();
        let mut lie = back.clone();
        let kept: Vec<(String, String)> = back.query_pairs().into_owned().filter(|(name, _)| name != "iss").collect();
        lie.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(forged.map(|iss| ("iss", iss)));
        assert_failed(&come_back(&browser, lie.as_str()).await, "foreign_issuer");
    }
    assert_eq!((platform.calls(Call::Exchange), stored(&app).await), (0, (0, 0)));
    app.connect(ACCOUNT, &["profile.read"]).await;
    app.stop().await;
}

/// Whether each token of the account lives, the oldest first: access and refresh of one consent after the other.
fn alive(app: &TestApp) -> Vec<bool> {
    app.sandbox.platform().tokens(ACCOUNT).iter().map(|token| token.live).collect()
}

/// How many grants wait to be given back, and how many jobs are to see to it.
async fn retired(app: &TestApp) -> (i64, i64) {
    let mut owner = app.owner().await;
    (
        count(&mut owner, "select count(*) from keyholder.retired_credentials").await,
        count(&mut owner, "select count(*) from keyholder.jobs where kind = 'revoke_retired'").await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_a_new_consent_replaced_is_given_back() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    renew_consent(&app, &entrusted).await;
    assert_eq!(alive(&app), [false, false, true, true]);
    assert_eq!(retired(&app).await, (0, 0));
    assert_eq!(entrusted.act("profile.read", &json!({}), None).await.json()["status"], 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_grant_is_offered_until_the_provider_has_taken_it_back() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    platform.switch(Quirk::Status { code: 503, retry_after_s: None }, Scope::once(Route::Revoke)).unwrap();
    renew_consent(&app, &entrusted).await;
    assert_eq!(alive(&app), [true, true, true, true], "the provider did not take it");
    assert_eq!(retired(&app).await, (1, 1));
    let mut owner = app.owner().await;
    sqlx::query("update keyholder.jobs set run_at = clock_timestamp()").execute(&mut owner).await.unwrap();
    eventually("it is offered again", async || retired(&app).await == (0, 0)).await;
    assert_eq!(alive(&app), [false, false, true, true]);
    let told =
        "select count(*) from keyholder.audit where event = 'credential.retired' and detail ->> 'outcome' = 'revoked'";
    assert_eq!(count(&mut owner, told).await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_at_which_a_revocation_ends_everything_is_not_told_of_a_replaced_grant() {
    let catalogue = catalogue_with("client_auth = ", "revoke_ends = \"account\"\nclient_auth = ");
    let app = TestApp::start_with(|options| options.catalogue = catalogue).await;
    let platform = app.sandbox.platform();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    renew_consent(&app, &entrusted).await;
    assert_eq!((platform.calls(Call::Revoke), retired(&app).await), (0, (0, 0)));
    assert_eq!(alive(&app), [true, true, true, true]);
    // Nor is it told when a renewal comes to nothing: that would end the grant that is in use.
    let link = super::renewal(&app, &entrusted.connection, &["profile.read"]).await;
    let browser = app.stranger.with_no_cookies();
    let to = allow(&browser, &link, &["profile.read"]).await;
    let back = platform.approve(to.as_str(), ACCOUNT).unwrap();
    platform.switch(Quirk::MalformedJson, Scope::once(Route::Only(Call::ReadProfile))).unwrap();
    assert_failed(&come_back(&browser, &back).await, "provider_failed");
    assert_eq!(platform.calls(Call::Revoke), 0);
    // A disconnection ends all of it, as it must.
    let path = format!("/v1/connections/{}", entrusted.connection);
    assert_eq!(app.admin.delete(&path).await.unwrap().status, 200);
    assert!(platform.calls(Call::Revoke) > 0);
    app.stop().await;
}
