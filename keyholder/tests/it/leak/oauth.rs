//! The endpoints of OAuth, which see more than any: they give back what the form brought and the client's own secret, in every
//! form, where codes are exchanged, tokens are refreshed and tokens are revoked.

use std::{collections::BTreeMap, sync::Arc};

use sandbox::{Call, EchoForm, Quirk, Route, Scope};
use serde_json::json;
use url::Url;

use super::{
    Cell, foreign,
    places::sweep,
    say,
    search::{Secret, Seeker},
    table, told, wire,
};
use crate::{
    harness::{Entrusted, TestApp, location, query},
    logs::log,
};

const ACTION: &str = "profile.read";

/// Everything that was secret on the way.
#[derive(Default)]
struct Way {
    secrets: Vec<Secret>,
    accounts: Vec<String>,
    entrusted: Vec<Entrusted>,
    cells: BTreeMap<(String, String), Cell>,
    leaks: Vec<String>,
}

impl Way {
    fn keep(&mut self, name: &str, text: &str) {
        self.secrets.push(Secret::new(name, text));
    }

    /// Looks at what the platform answered last, and at what came of it.
    fn judge(&mut self, app: &TestApp, call: Call, form: EchoForm, fired: u64, out: &[u8]) {
        let platform = app.sandbox.platform();
        assert_eq!(platform.fired(), fired + 1, "{call:?} {form:?}");
        // Keyholder may have asked again since, and been answered.
        let echoed = |it: &sandbox::Answered| it.call == call && it.status == 503;
        let answered = platform.answers().into_iter().rfind(echoed).unwrap();
        let accounts: Vec<_> = self.accounts.iter().map(String::as_str).collect();
        let mut secrets = foreign(app, &accounts);
        secrets.extend(self.secrets.iter().filter(|it| it.name == "an authorization code").cloned());
        secrets.push(header(app));
        let seeker = Seeker::new(&secrets);
        let found = seeker.find(&answered.text());
        // The client's own secret, and what the form brought.
        let inside = found.contains("the client's header") && found.len() >= 2;
        let outside: Vec<_> = seeker.find(out).into_iter().map(str::to_owned).collect();
        let counted = self.cells.entry((format!("{call:?}"), "EchoForm".to_owned())).or_default();
        counted.inside += usize::from(inside);
        counted.outside += usize::from(!outside.is_empty());
        if !outside.is_empty() {
            self.leaks.push(format!("{call:?} {form:?}: {outside:?}"));
        }
    }
}

/// A browser on its way to the platform and back, up to where the code is presented.
async fn callback(app: &TestApp, way: &mut Way, account: &str) -> (keyholder::caller::Caller, String) {
    let link = app.link(&[ACTION]).await;
    way.keep("a link's token", link.rsplit('/').next().unwrap());
    let browser = app.stranger.with_no_cookies();
    let page = browser.get(&link).await.unwrap();
    way.keep("a cookie", page.header("set-cookie").split(['=', ';']).nth(1).unwrap());
    let to = browser.submit(&link, &[("allow", ACTION)]).await.unwrap();
    let back = app.sandbox.platform().approve(location(&to), account).unwrap();
    let address = Url::parse(&back).unwrap();
    way.keep("a state", &query(&address, "state").unwrap());
    way.keep("an authorization code", &query(&address, "code").unwrap());
    (browser, back)
}

/// One form at the three endpoints.
async fn walk(app: &TestApp, way: &mut Way, form: EchoForm, number: usize) {
    let platform = app.sandbox.platform();
    let account = format!("echo_{number}");
    platform.open_account(&account, "Echo");
    way.accounts.push(account.clone());
    let quirk = || Quirk::EchoForm { form };

    let (browser, back) = callback(app, way, &account).await;
    let fired = platform.fired();
    platform.switch(quirk(), Scope::once(Route::Token)).unwrap();
    let end = browser.get(&back).await.unwrap();
    way.judge(app, Call::Exchange, form, fired, &wire(&end));

    let (browser, back) = callback(app, way, &account).await;
    let end = Url::parse(location(&browser.get(&back).await.unwrap())).unwrap();
    let code = query(&end, "keyholder_code").unwrap();
    way.keep("a one-time code", &code);
    let redeemed = app.admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
    let connection = redeemed.json()["id"].as_str().unwrap().to_owned();
    let entrusted = app.mandate(&connection, &[ACTION], json!([])).await;
    app.age("-1 second").await;
    let fired = platform.fired();
    platform.switch(quirk(), Scope::once(Route::Token)).unwrap();
    let refused = entrusted.act(ACTION, &json!({}), None).await;
    assert!(refused.status.is_server_error(), "{refused:?}");
    way.judge(app, Call::Refresh, form, fired, &wire(&refused));

    let fired = platform.fired();
    platform.switch(quirk(), Scope::once(Route::Revoke)).unwrap();
    let gone = app.admin.delete(&format!("/v1/connections/{connection}")).await.unwrap();
    way.judge(app, Call::Revoke, form, fired, &wire(&gone));
    way.entrusted.push(entrusted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_of_the_endpoints_of_oauth() {
    let lines = log().capture(4_000_000);
    let metrics = keyholder::telemetry::metrics().unwrap();
    let app = TestApp::start_with(|options| options.render_metrics = Arc::new(move || metrics.render())).await;
    app.sandbox.platform().keep_answers(1000);
    let mut way = Way::default();
    for (number, form) in EchoForm::ALL.into_iter().enumerate() {
        walk(&app, &mut way, form, number).await;
    }
    say(&table("leak matrix, OAuth", &way.cells));
    assert_eq!(way.cells.len(), 3, "a cell was not run");
    for ((call, _), cell) in &way.cells {
        assert_eq!(cell.inside, 18, "{call}: the platform did not echo");
    }
    let accounts: Vec<_> = way.accounts.iter().map(String::as_str).collect();
    let mut outer = foreign(&app, &accounts);
    outer.extend(quoted(&app, "a verifier", "code_verifier="));
    outer.push(header(&app));
    let agents: Vec<_> = way.entrusted.iter().collect();
    let all = [outer.clone(), told(&app, &agents), way.secrets.clone()].concat();
    let callers: Vec<_> = way.entrusted.iter().map(|it| &it.agent).collect();
    let sweep = sweep(&app, &lines, &Seeker::new(&outer), &Seeker::new(&all), &callers).await;
    say(&format!("looked at, OAuth: {:?}", sweep.looked));
    assert_eq!((way.leaks, &sweep.found), (Vec::new(), &Vec::new()), "{:?}", sweep.looked);
    sweep.assert_clean();
    app.stop().await;
}

/// The client's header. Of its base64 the beginning is the client's name, and no secret.
fn header(app: &TestApp) -> Secret {
    let header = quoted(app, "the client's header", "Basic ").swap_remove(0);
    Secret::whole(&header.name, header.text)
}

/// What the platform has quoted behind these words: texts that only it and Keyholder ever had.
fn quoted(app: &TestApp, name: &str, words: &str) -> Vec<Secret> {
    let answers = app.sandbox.platform().answers();
    let said = answers.iter().filter_map(|it| serde_json::from_slice::<serde_json::Value>(&it.body).ok());
    let said = said.filter_map(|it| Some(it["error_description"].as_str()?.to_owned()));
    let plain = said.filter_map(|it| it.split(words).nth(1)?.split(' ').next().map(str::to_owned));
    let quoted: Vec<_> = plain.map(|it| Secret::new(name, it)).collect();
    assert!(!quoted.is_empty());
    quoted
}
