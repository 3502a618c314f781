//! The dance: consent, code, tokens, rotation, revocation, and what is refused on the way.

use http::{StatusCode, Version};
use keyholder_sandbox::{ApproveError, Call, Client, Outcome, SandboxOptions, TokenKind};
use std::time::Duration;

use crate::support::{
    ALL, CALLBACK, SECRET, TOKEN, VERIFIER, World, authorize, exchange_form, form_request, query, request,
};

const REVOKE: &str = "https://api.x.com/2/oauth2/revoke";
const ME: &str = "https://api.x.com/2/users/me";

#[tokio::test]
async fn the_whole_dance_as_a_browser_and_a_back_end_dance_it() {
    for version in [Version::HTTP_2, Version::HTTP_11] {
        let mut world = World::new().await;
        world.version = version;
        let address = authorize(&[]);
        let page = world.get(&address, None).await;
        assert_eq!(page.status, 200, "{page:?}");
        let html = String::from_utf8(page.body.to_vec()).unwrap();
        for shown in ["<code>app</code>", "tweet.write", "@acme_support", "@rival_brand", "a state &amp; more"] {
            assert!(html.contains(shown), "{shown} is not in {html}");
        }
        assert!(page.header("content-security-policy").contains("form-action 'self' https://keyholder.example;"));

        // The form is sent as a browser would: all hidden fields, the account, the button.
        let hidden: Vec<(String, String)> = html
            .split("<input type=\"hidden\" name=\"")
            .skip(1)
            .map(|rest| {
                let (name, rest) = rest.split_once("\" value=\"").unwrap();
                let value = rest.split_once('"').unwrap().0.replace("&amp;", "&");
                (name.to_owned(), value)
            })
            .collect();
        let mut form: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        form.extend([("account", "acme_support"), ("decision", "allow")]);
        let back = world.send(form_request("https://x.com/i/oauth2/authorize", &form, None)).await.unwrap();
        assert_eq!(back.status, StatusCode::SEE_OTHER, "{back:?}");
        let location = back.header("location");
        assert!(location.starts_with("https://keyholder.example/callback?provider=x&code="), "{location}");
        assert_eq!(query(location, "state").unwrap(), "a state & more");
        assert_eq!(query(location, "iss").unwrap(), "https://x.com");

        let tokens = world.exchange(&query(location, "code").unwrap()).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        assert_eq!(tokens.header("cache-control"), "no-store");
        let tokens = tokens.json();
        assert_eq!(tokens["token_type"], "bearer");
        assert_eq!(tokens["expires_in"], 7200);
        assert_eq!(tokens["scope"], ALL);

        let access = tokens["access_token"].as_str().unwrap();
        let me = world.get(ME, Some(access)).await;
        let account = world.platform().account("acme_support").unwrap();
        assert_eq!(me.json()["data"]["id"], account.id.as_str(), "{me:?}");
        assert_eq!(me.json()["data"]["username"], "acme_support");
        assert_eq!(world.platform().last_access_token("acme_support").unwrap(), access);

        let calls: Vec<Call> = world.platform().requests().iter().map(|it| it.call).collect();
        assert_eq!(calls, [Call::ShowConsent, Call::DecideConsent, Call::Exchange, Call::ReadProfile]);
        let hosts: Vec<String> = world.platform().requests().into_iter().map(|it| it.host).collect();
        assert_eq!(hosts, ["x.com", "x.com", "api.x.com", "api.x.com"]);
        world.sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn an_untrusted_client_or_address_is_never_redirected_to() {
    let world = World::new().await;
    for change in [
        ("client_id", "nobody"),
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "https://keyholder.example/callback"),
        ("redirect_uri", "https://keyholder.example/callback?provider=x&more=1"),
        ("redirect_uri", "https://thief.example/callback"),
        ("redirect_uri", "myapp://done"),
    ] {
        let address = authorize(&[change]);
        let page = world.get(&address, None).await;
        assert_eq!(page.status, 400, "{change:?}: {page:?}");
        assert_eq!(page.header("location"), "", "{change:?}");
        assert!(matches!(world.platform().approve(&address, "acme_support"), Err(ApproveError::Refused(_))));
    }
    let twice = format!("{}&client_id=app", authorize(&[]));
    assert_eq!(world.get(&twice, None).await.status, 400);
}

#[tokio::test]
async fn other_faults_are_told_to_the_client() {
    let world = World::new().await;
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "invalid_request"),
        (("state", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "tooshort"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("scope", "tweet.read everything"), "invalid_scope"),
        (("scope", ""), "invalid_scope"),
    ] {
        let address = authorize(&[change]);
        let back = world.get(&address, None).await;
        assert_eq!(back.status, StatusCode::SEE_OTHER, "{change:?}: {back:?}");
        assert_eq!(query(back.header("location"), "error").unwrap(), error, "{change:?}");
        assert_eq!(query(back.header("location"), "code"), None);
        assert!(matches!(world.platform().approve(&address, "acme_support"), Err(ApproveError::SentBack(_))));
    }
    let denied = world.platform().deny(&authorize(&[])).unwrap();
    assert_eq!(query(&denied, "error").unwrap(), "access_denied");
    assert_eq!(query(&denied, "iss").unwrap(), "https://x.com");
    let nobody = world.platform().approve(&authorize(&[]), "nobody");
    assert_eq!(nobody, Err(ApproveError::UnknownAccount("nobody".into())));
}

#[tokio::test]
async fn what_a_client_wrote_is_escaped_on_the_page() {
    let world = World::new().await;
    let page = world.get(&authorize(&[("state", "\"><script>alert(1)</script>")]), None).await;
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(html.contains("&quot;&gt;&lt;script&gt;") && !html.contains("<script>"), "{html}");
}

#[tokio::test]
async fn a_code_is_refused_with_a_wrong_verifier_address_or_client_or_too_late() {
    let world = World::new().await;
    for (name, value) in [
        ("code_verifier", "another-verifier-that-is-long-enough-0000000000"),
        ("redirect_uri", "https://keyholder.example/callback"),
        ("code", "never-given"),
    ] {
        let code = world.code(ALL);
        let mut form = exchange_form(&code);
        form.iter_mut().filter(|pair| pair.0 == name).for_each(|pair| pair.1 = value);
        let refused = world.form(TOKEN, &form).await;
        assert_eq!((refused.status.as_u16(), &*refused.error()), (400, "invalid_grant"), "{name}: {refused:?}");
    }
    for missing in ["code", "code_verifier", "redirect_uri", "grant_type"] {
        let code = world.code(ALL);
        let form: Vec<_> = exchange_form(&code).into_iter().filter(|pair| pair.0 != missing).collect();
        let refused = world.form(TOKEN, &form).await;
        assert_eq!((refused.status.as_u16(), &*refused.error()), (400, "invalid_request"), "{missing}: {refused:?}");
    }
    let code = world.code(ALL);
    let mut form = exchange_form(&code).to_vec();
    form.push(("client_id", "phone"));
    let refused = world.send(form_request(TOKEN, &form, None)).await.unwrap();
    assert_eq!(refused.error(), "invalid_grant", "another client's code");

    let code = world.code(ALL);
    world.platform().pass_time(Duration::from_secs(31));
    assert_eq!(world.exchange(&code).await.error(), "invalid_grant", "too late");
    assert!(world.platform().tokens("acme_support").is_empty());
}

#[tokio::test]
async fn a_code_used_twice_kills_the_tokens_of_its_first_use() {
    let world = World::new().await;
    let code = world.code(ALL);
    let first = world.exchange(&code).await.json();
    let access = first["access_token"].as_str().unwrap();
    assert!(world.platform().is_live(access));
    assert_eq!(world.exchange(&code).await.error(), "invalid_grant");
    assert!(!world.platform().is_live(access));
    assert_eq!(world.get(ME, Some(access)).await.status, 401);
    assert_eq!(world.refresh(first["refresh_token"].as_str().unwrap()).await.error(), "invalid_grant");
    assert_eq!(world.platform().code_reuses_punished(), 1);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_replay_is_punished() {
    let world = World::new().await;
    let (access, refresh) = world.connected(ALL).await;
    let refresh = refresh.unwrap();
    world.platform().expire_access_tokens("acme_support");
    assert_eq!(world.get(ME, Some(&access)).await.status, 401);

    let next = world.refresh(&refresh).await.json();
    let (next_access, next_refresh) = (next["access_token"].as_str().unwrap(), next["refresh_token"].as_str().unwrap());
    assert_ne!(next_refresh, refresh);
    assert_eq!(world.get(ME, Some(next_access)).await.status, 200);

    assert_eq!(world.refresh(&refresh).await.error(), "invalid_grant");
    assert_eq!(world.platform().replays_punished(), 1);
    assert_eq!(world.get(ME, Some(next_access)).await.status, 401);
    assert_eq!(world.refresh(next_refresh).await.error(), "invalid_grant");
    assert_eq!((world.platform().token_calls(), world.platform().refreshes()), (4, 3));
    assert_eq!(world.platform().calls_with(Call::Refresh, Outcome::Done), 1);
    let issued = world.platform().tokens("acme_support");
    let kinds: Vec<TokenKind> = issued.iter().map(|token| token.kind).collect();
    assert_eq!(kinds, [TokenKind::Access, TokenKind::Refresh, TokenKind::Access, TokenKind::Refresh]);
    assert!(issued.iter().all(|token| !token.live));
    assert!(!format!("{issued:?}").contains(&access));
}

#[tokio::test]
async fn clients_prove_who_they_are_in_their_own_way_only() {
    type Case<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a [(&'a str, &'a str)]);
    let world = World::new().await;
    let code = world.code(ALL);
    let table: &[Case<'_>] = &[
        ("wrong secret", Some(("app", "wrong")), &[]),
        ("unknown client", Some(("nobody", SECRET)), &[]),
        ("no authentication", None, &[]),
        ("a confidential client's name alone", None, &[("client_id", "app")]),
        ("secret in the body", None, &[("client_id", "app"), ("client_secret", SECRET)]),
        ("a public client with Basic", Some(("phone", "")), &[]),
        ("two names", Some(("app", SECRET)), &[("client_id", "phone")]),
    ];
    for (case, basic, more) in table {
        let form = [exchange_form(&code).as_slice(), more].concat();
        let refused = world.send(form_request(TOKEN, &form, *basic)).await.unwrap();
        assert_eq!((refused.status.as_u16(), &*refused.error()), (401, "invalid_client"), "{case}: {refused:?}");
        assert!(refused.header("www-authenticate").starts_with("Basic"), "{case}");
    }
    assert_eq!(world.exchange(&code).await.status, 200, "none of them has spent the code");

    let address = authorize(&[("client_id", "phone"), ("redirect_uri", "myapp://done")]);
    let location = world.platform().approve(&address, "rival_brand").unwrap();
    let code = query(&location, "code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "phone"),
        ("code", &code),
        ("redirect_uri", "myapp://done"),
        ("code_verifier", VERIFIER),
    ];
    let tokens = world.send(form_request(TOKEN, &form, None)).await.unwrap();
    assert_eq!(tokens.status, 200, "{tokens:?}");

    let unknown = world.form(TOKEN, &[("grant_type", "password")]).await;
    assert_eq!(unknown.error(), "unsupported_grant_type");
    let json = request("POST", TOKEN, None).header("content-type", "application/json").body("{}".to_owned()).unwrap();
    assert_eq!(world.send(json).await.unwrap().error(), "invalid_request");
    assert_eq!(world.form(TOKEN, &[("grant_type", "a"), ("grant_type", "a")]).await.error(), "invalid_request");
}

#[tokio::test]
async fn revoking_the_refresh_token_kills_the_family_and_tells_strangers_nothing() {
    let world = World::new().await;
    let (access, refresh) = world.connected(ALL).await;
    let refresh = refresh.unwrap();
    let stranger = form_request(REVOKE, &[("token", &refresh), ("client_id", "phone")], None);
    assert_eq!(world.send(stranger).await.unwrap().status, 400);
    assert!(world.platform().is_live(&access));

    let revoked = world.form(REVOKE, &[("token", &refresh), ("token_type_hint", "refresh_token")]).await;
    assert_eq!((revoked.status.as_u16(), revoked.json()["revoked"].as_bool()), (200, Some(true)));
    assert!(!world.platform().is_live(&access));
    assert_eq!(world.refresh(&refresh).await.error(), "invalid_grant");
    assert_eq!(world.platform().replays_punished(), 0, "a revoked family is not punished again");
    assert_eq!(world.form(REVOKE, &[("token", "never-issued")]).await.status, 200);
    assert_eq!(world.form(REVOKE, &[]).await.error(), "invalid_request");
    assert_eq!(world.platform().revocations(), 1);
}

#[tokio::test]
async fn no_offline_access_no_refresh_token_and_lifetimes_are_told_and_kept() {
    let world = World::new().await;
    world.platform().set_token_lifetime(60);
    let answer = world.exchange(&world.code("tweet.read users.read")).await.json();
    assert_eq!(answer.get("refresh_token"), None);
    assert_eq!(answer["expires_in"], 60);
    let access = answer["access_token"].as_str().unwrap();
    assert_eq!(world.get(ME, Some(access)).await.status, 200);
    world.platform().pass_time(Duration::from_mins(1));
    assert_eq!(world.get(ME, Some(access)).await.status, 401);
}

#[tokio::test]
async fn a_generic_provider_has_its_own_host_issuer_and_account() {
    let options = SandboxOptions {
        extra_hosts: vec!["id.generic.example".into()],
        extra_scopes: vec!["things.write".into()],
        ..SandboxOptions::default()
    };
    let world = World::with(options).await;
    let client = Client::confidential("app", SECRET, CALLBACK).issued_by("https://id.generic.example");
    world.platform().register(client).unwrap();
    let address = authorize(&[("scope", "account.read things.write")]);
    let location = world.platform().approve(&address, "rival_brand").unwrap();
    assert_eq!(query(&location, "iss").unwrap(), "https://id.generic.example");
    let code = query(&location, "code").unwrap();
    let tokens = world.form("https://id.generic.example/oauth/token", &exchange_form(&code)).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    let account = world.get("https://id.generic.example/account", Some(access)).await;
    assert_eq!(account.json()["name"], "Rival Brand");
    assert_eq!(world.get(ME, Some(access)).await.status, 403, "X's scopes were not given");
}
