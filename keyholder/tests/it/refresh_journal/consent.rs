//! What an owner's consent brought, between the platform's answer and the commit: it is stored by its own callback, or given back.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use keyholder::{
    caller::Caller,
    local::{self, PROVIDER},
};
use rustix::process::Signal;
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::json;
use service::step::{Hook, Step};
use tempfile::TempDir;
use url::{Url, form_urlencoded::byte_serialize};

use super::{files, node_on};
use crate::{
    harness::{ACCOUNT, Entrusted, RETURN, TestApp, catalogue_with, eventually, location, ok, query, text},
    node::{Node, Orders},
    refresh::{agent_at, events, read, renew_consent, version},
};

/// Where the platform sends the owner's browser with a code, at a node: for a connection that is there, or a new one.
async fn approved(app: &TestApp, browser: &Caller, renews: Option<&Entrusted>) -> String {
    let wanted = json!({ "provider": PROVIDER, "actions": ["profile.read"], "return_url": RETURN,
        "connection": renews.map(|entrusted| &entrusted.connection) });
    let link = ok(app.admin.post("/v1/connect-links", &wanted).await.unwrap(), 201);
    let link = Url::parse(text(&link, "/url")).unwrap().path().to_owned();
    assert_eq!(browser.get(&link).await.unwrap().status, 200);
    let to = browser.submit(&link, &[("allow", "profile.read")]).await.unwrap();
    app.sandbox.platform().approve(location(&to), ACCOUNT).unwrap()
}

/// Whether each token of the account lives, the oldest first: access and refresh of one consent after the other.
fn alive(app: &TestApp) -> Vec<bool> {
    app.sandbox.platform().tokens(ACCOUNT).iter().map(|token| token.live).collect()
}

/// A node that dies with an owner's consent in its hands: the platform has answered, and nothing is committed. What it left behind.
async fn killed_with_a_consent(app: &TestApp, renews: Option<&Entrusted>) -> TempDir {
    let state = tempfile::tempdir().unwrap();
    let orders = Orders { state_dir: Some(state.path().to_owned()), ..Orders::stop_at(Step::ConnectStore) };
    let mut node = Node::start_with(app, orders);
    local::register_at(&app.sandbox, &node.redirect_uri(), &app.secret).unwrap();
    let browser = node.stranger().with_no_cookies();
    let back = approved(app, &browser, renews).await;
    let strike = async {
        assert_eq!(node.stopped().await, (Signal::STOP.as_raw(), Step::ConnectStore.as_str().to_owned()));
        assert_eq!(node.kill9().await, Signal::KILL.as_raw());
    };
    let (answer, ()) = tokio::join!(browser.get(&back), strike);
    assert!(answer.is_err(), "a dead node answered");
    local::register(&app.sandbox, &app.instance, &app.secret).unwrap();
    assert_eq!(files(state.path()).len(), 1, "the grant has no copy");
    state
}

async fn settled(state: &Path) {
    eventually("the grant is settled", async || files(state).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_consent_that_dies_with_its_node_is_given_back_and_the_one_before_stays_in_use() {
    let app = TestApp::start().await;
    let platform = app.sandbox.platform();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let state = killed_with_a_consent(&app, Some(&entrusted)).await;
    assert_eq!(alive(&app), [true, true, true, true], "nobody has told the platform yet");
    let file = fs::read(files(state.path()).remove(0)).unwrap();
    for token in platform.tokens(ACCOUNT) {
        assert!(!file.windows(token.text.len()).any(|part| part == token.text.as_bytes()), "a token in the clear");
    }
    // The provider fails at first: the file stays until it has acknowledged.
    platform.switch(Quirk::Status { code: 503, retry_after_s: None }, Scope::once(Route::Revoke)).unwrap();
    let next = node_on(&app, state.path(), Hook::default()).await;
    settled(state.path()).await;
    assert_eq!(alive(&app), [true, true, false, false]);
    assert_eq!((platform.calls(Call::Revoke), platform.revocations()), (2, 1));
    let mut owner = app.owner().await;
    assert_eq!((version(&mut owner).await, events(&mut owner, "connection.renewed").await), (1, 0));
    for agent in [&entrusted.agent, &agent_at(&next, &entrusted)] {
        assert_eq!(read(agent, &entrusted).await, 200, "the consent before does not work");
    }
    next.stop().await;
    // The owner consents again, and that is all that it cost.
    renew_consent(&app, &entrusted).await;
    assert_eq!(alive(&app), [false, false, false, false, true, true]);
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_consent_that_dies_with_its_node_is_given_back() {
    // Nothing else of this provider is in use: a revocation that ends everything ends just that.
    for catalogue in [None, Some(catalogue_with("client_auth = ", "revoke_ends = \"account\"\nclient_auth = "))] {
        let app = TestApp::start().await;
        let state = killed_with_a_consent(&app, None).await;
        assert_eq!(alive(&app), [true, true]);
        let next = app
            .second_node_with(|options| {
                state.path().clone_into(&mut options.state_dir);
                if let Some(catalogue) = catalogue {
                    options.catalogue = catalogue;
                }
            })
            .await;
        settled(state.path()).await;
        assert_eq!(alive(&app), [false, false]);
        next.stop().await;
        app.connect(ACCOUNT, &["profile.read"]).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_consent_that_died_is_left_where_to_give_it_back_would_end_the_one_in_use() {
    let catalogue = || catalogue_with("client_auth = ", "revoke_ends = \"account\"\nclient_auth = ");
    let app = TestApp::start_with(|options| options.catalogue = catalogue()).await;
    let platform = app.sandbox.platform();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let state = killed_with_a_consent(&app, Some(&entrusted)).await;
    let next = app
        .second_node_with(|options| {
            state.path().clone_into(&mut options.state_dir);
            options.catalogue = catalogue();
        })
        .await;
    settled(state.path()).await;
    assert_eq!((platform.calls(Call::Revoke), alive(&app)), (0, vec![true; 4]));
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    next.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_of_a_connection_that_is_gone_is_given_back() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let state = killed_with_a_consent(&app, Some(&entrusted)).await;
    ok(app.admin.delete(&format!("/v1/connections/{}", entrusted.connection)).await.unwrap(), 200);
    assert_eq!(alive(&app), [false, false, true, true]);
    let next = node_on(&app, state.path(), Hook::default()).await;
    settled(state.path()).await;
    assert_eq!(alive(&app), [false; 4]);
    next.stop().await;
    app.stop().await;
}

/// A server whose next callback comes as far as its commit, once it is told to stop there, and waits.
struct Held {
    app: TestApp,
    state: TempDir,
    armed: Arc<AtomicBool>,
    arrived: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

impl Held {
    async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let (at_store, arrived) = mpsc::channel();
        let (go_on, gate) = mpsc::channel::<()>();
        let (gate, trap) = (Mutex::new(gate), Arc::clone(&armed));
        let hook = Hook::new(move |step| {
            if step == Step::ConnectStore && trap.swap(false, Ordering::SeqCst) && at_store.send(()).is_ok() {
                // The worker that waits here must not be the one that minds the clock.
                let _opened = tokio::task::block_in_place(|| gate.lock().unwrap().recv());
            }
        });
        let change = |options: &mut keyholder::InstanceOptions| {
            (options.hook, options.state_dir) = (hook, state.path().to_owned());
        };
        Self { app: TestApp::start_with(change).await, state, armed, arrived, go_on }
    }

    /// Lets a renewal come to its commit, does something meanwhile, and lets it go on: where the browser ends.
    async fn meanwhile(
        self,
        entrusted: &Entrusted,
        done: impl AsyncFnOnce(&TestApp, &Path),
    ) -> (TestApp, TempDir, Url) {
        let Self { app, state, armed, arrived, go_on } = self;
        let browser = app.stranger.with_no_cookies();
        let back = approved(&app, &browser, Some(entrusted)).await;
        armed.store(true, Ordering::SeqCst);
        let other = async {
            let arrived = tokio::task::spawn_blocking(move || arrived.recv()).await.unwrap();
            assert!(arrived.is_ok());
            done(&app, state.path()).await;
            drop(go_on);
        };
        let (reply, ()) = tokio::join!(browser.get(&back), other);
        let home = Url::parse(location(&reply.unwrap())).unwrap();
        (app, state, home)
    }
}

/// Waits until whoever looks through the folder has gone through all of it once: twice he has met a file that was put there after the one
/// before was dealt with.
async fn looked_through(state: &Path, entrusted: &Entrusted) {
    for number in 1..=2 {
        let torn = state.join(format!("spill/0/{}.{number}", entrusted.connection));
        fs::write(&torn, b"torn").unwrap();
        let aside = torn.with_extension(format!("{number}.unreadable"));
        eventually("a torn file is kept aside", async || aside.exists()).await;
        fs::remove_file(aside).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_still_runs_has_its_grant_to_itself() {
    let held = Held::start().await;
    let entrusted = held.app.entrust(&["profile.read"], json!([])).await;
    let (app, state, home) = held
        .meanwhile(&entrusted, async |app, state| {
            assert_eq!(files(state).len(), 1);
            looked_through(state, &entrusted).await;
            // Nor does a refresh of the same connection, which settles what waits of it first.
            app.age("-1 second").await;
            assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
            assert_eq!(app.sandbox.platform().refreshes(), 1);
            assert_eq!(files(state).len(), 1, "somebody settled it");
        })
        .await;
    assert_eq!(query(&home, "keyholder_connection").as_deref(), Some(entrusted.connection.as_str()));
    settled(state.path()).await;
    assert_eq!(events(&mut app.owner().await, "connection.renewed").await, 1);
    // The first consent's pair, the new one's, and what the first was refreshed to.
    assert_eq!(alive(&app), [false, false, true, true, false, false]);
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_comes_back_after_the_commit_ends_nothing() {
    comes_back(async |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_comes_back_after_its_return_address_is_gone_ends_nothing() {
    comes_back(async |app: &TestApp| {
        let named: String = byte_serialize(RETURN.as_bytes()).collect();
        let removed = app.admin.delete(&format!("/v1/return-addresses?url={named}")).await.unwrap();
        assert_eq!(removed.status, 204);
    })
    .await;
}

/// A copy of what a consent brought comes back into the state folder after all of it was stored, and this.
async fn comes_back(meanwhile: impl AsyncFnOnce(&TestApp)) {
    let held = Held::start().await;
    let entrusted = held.app.entrust(&["profile.read"], json!([])).await;
    let kept = Mutex::new(None);
    let (app, state, home) = held
        .meanwhile(&entrusted, async |_, state| {
            let path = files(state).remove(0);
            *kept.lock().unwrap() = Some((path.clone(), fs::read(path).unwrap()));
        })
        .await;
    assert!(query(&home, "keyholder_connection").is_some());
    assert!(files(state.path()).is_empty());
    meanwhile(&app).await;
    let revoked = app.sandbox.platform().calls(Call::Revoke);
    let (path, document) = kept.into_inner().unwrap().unwrap();
    // Whole from the first moment that it can be seen.
    let beside = state.path().join("beside");
    fs::write(&beside, document).unwrap();
    fs::rename(beside, path).unwrap();
    settled(state.path()).await;
    assert_eq!((app.sandbox.platform().calls(Call::Revoke), alive(&app)), (revoked, vec![false, false, true, true]));
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_was_given_up_by_another_cannot_come_after_it() {
    let held = Held::start().await;
    let entrusted = held.app.entrust(&["profile.read"], json!([])).await;
    let (app, state, home) = held
        .meanwhile(&entrusted, async |app, state| {
            // A folder that was copied with a process still at work in it, which nobody should do.
            let copy = tempfile::tempdir().unwrap();
            let other = node_on(app, copy.path(), Hook::default()).await;
            let file = files(state).remove(0);
            let beside = copy.path().join("spill/0/beside");
            fs::copy(&file, &beside).unwrap();
            fs::rename(beside, copy.path().join("spill/0").join(file.file_name().unwrap())).unwrap();
            settled(copy.path()).await;
            assert_eq!(alive(app), [true, true, false, false]);
            other.stop().await;
        })
        .await;
    assert!(query(&home, "keyholder_error").is_some(), "{home}");
    settled(state.path()).await;
    let mut owner = app.owner().await;
    assert_eq!((version(&mut owner).await, events(&mut owner, "connection.renewed").await), (1, 0));
    assert_eq!(alive(&app), [true, true, false, false]);
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_is_broken_off_in_a_process_that_lives_is_given_back_by_that_process() {
    let armed = Arc::new(AtomicBool::new(false));
    let trap = Arc::clone(&armed);
    let hook = Hook::new(move |step| {
        assert!(step != Step::ConnectStore || !trap.swap(false, Ordering::SeqCst), "the callback is broken off");
    });
    let app = TestApp::start_with(|options| options.hook = hook).await;
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    let browser = app.stranger.with_no_cookies();
    let back = approved(&app, &browser, Some(&entrusted)).await;
    armed.store(true, Ordering::SeqCst);
    assert_eq!(browser.get(&back).await.unwrap().status, 500);
    eventually("the grant is given back", async || alive(&app) == [true, true, false, false]).await;
    assert_eq!(read(&entrusted.agent, &entrusted).await, 200);
    app.stop().await;
}
