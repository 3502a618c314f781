//! What a measurement acts on: a connection that an owner has consented to, and an agent with a mandate on it.
//!
//! Everything is made as a customer makes it, over HTTP. Measures nothing.

use std::error::Error;

use keyholder::{
    caller::{Caller, Reply},
    local::PROVIDER,
};
use sandbox::Platform;
use serde_json::{Value, json};
use url::Url;

/// Where the back end would receive browsers.
const RETURN: &str = "http://localhost:3000/connected";
/// The account that the owner connects.
pub(crate) const ACCOUNT: &str = "acme_support";
/// A budget that nobody empties.
const POSTS: u64 = 1_000_000_000;

/// What a measurement comes to, or why it comes to nothing.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An agent's key, and the mandate that it acts under.
pub(crate) struct Entrusted {
    pub(crate) key: String,
    pub(crate) mandate: String,
}

/// Connects the account, and gives a new agent a mandate for these actions, with a budget of posts.
pub(crate) async fn entrust(platform: &Platform, base: &Url, admin: &str, actions: &[&str]) -> Outcome<Entrusted> {
    let browser = Caller::new(base, None);
    let admin = browser.with_key(admin);
    said(admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await?)?;
    let wanted = json!({ "provider": PROVIDER, "actions": actions, "return_url": RETURN });
    let link = said(admin.post("/v1/connect-links", &wanted).await?)?;
    let link = Url::parse(word(&link, "/url")?)?.path().to_owned();
    browser.get(&link).await?;
    let fields: Vec<_> = actions.iter().map(|action| ("allow", *action)).collect();
    let to = browser.submit(&link, &fields).await?;
    let back = platform.approve(to.header("location"), ACCOUNT)?;
    let done = Url::parse(browser.get(&back).await?.header("location"))?;
    let code = done.query_pairs().find(|(name, _)| name == "keyholder_code").ok_or("there is no code")?.1.into_owned();
    let connection = said(admin.post("/v1/connections/redeem", &json!({ "code": code })).await?)?;
    let made = said(admin.post("/v1/api-keys", &json!({ "label": "agent", "role": "service" })).await?)?;
    let terms = json!({
        "connection": word(&connection, "/id")?,
        "grantee": word(&made, "/id")?,
        "actions": actions,
        "limits": [{ "unit": "posts", "per": "month", "cap": POSTS }],
    });
    let mandate = said(admin.post("/v1/mandates", &terms).await?)?;
    Ok(Entrusted { key: word(&made, "/key")?.to_owned(), mandate: word(&mandate, "/id")?.to_owned() })
}

/// The body of a reply that is a success.
#[expect(clippy::needless_pass_by_value, reason = "a reply is judged where it arrives")]
pub(crate) fn said(reply: Reply) -> Outcome<Value> {
    if reply.status.is_success() {
        return Ok(reply.json());
    }
    Err(format!("{}: {}", reply.status, String::from_utf8_lossy(&reply.body)).into())
}

/// A text in a body, by its JSON pointer.
pub(crate) fn word<'a>(body: &'a Value, pointer: &str) -> Outcome<&'a str> {
    Ok(body.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("{pointer} is not there"))?)
}

/// Where programs are looked for.
#[expect(clippy::disallowed_methods, reason = "a measurement has no configuration but its environment")]
pub(crate) fn search_path() -> String {
    std::env::var_os("PATH").unwrap_or_default().to_string_lossy().into_owned()
}

/// What the environment says of PostgreSQL's programs.
#[expect(clippy::disallowed_methods, reason = "a measurement has no configuration but its environment")]
pub(crate) fn postgres_bin() -> Option<String> {
    std::env::var("KEYHOLDER_POSTGRES_BIN").ok()
}
