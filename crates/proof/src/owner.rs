//! The owner of an account: a browser that follows a link, reads who asks, consents at the platform, and comes back.

use serde_json::{Value, json};
use url::Url;

use crate::{
    caller::{Caller, Reply},
    evidence::Failure,
    ground::Ground,
};

/// Where back ends of probes would receive browsers. Nothing listens there.
pub const RETURN: &str = "http://localhost:3000/connected";

/// What an owner brought about.
#[derive(Debug, Clone)]
pub struct Connected {
    /// The connection's id.
    pub connection: String,
    /// The account's handle at the platform.
    pub account: String,
    /// The page that asked, as it was shown.
    pub page: String,
    /// The address of the platform's consent page, with what was asked for.
    pub authorize_url: String,
}

/// An owner who has allowed, and whose browser is on its way to the platform.
#[derive(Clone)]
pub struct Asked {
    /// The browser.
    pub browser: Caller,
    /// The page that asked, as it was shown.
    pub page: String,
    /// The address of the platform's consent page, with what is asked for.
    pub authorize_url: String,
}

impl Ground {
    /// The way to the platform's door: an owner follows a link and allows these of the actions that he is asked for.
    ///
    /// # Errors
    /// Where a step of that way is refused.
    pub async fn ask(&self, admin: &Caller, actions: &[&str], allowed: &[&str]) -> Result<Asked, Failure> {
        follow_link(admin, (self.provider(), RETURN), actions, allowed).await
    }

    /// The whole way from a link to a connection that can be used, with an owner who allows everything that is asked for.
    ///
    /// # Errors
    /// Where a step of that way is refused.
    pub async fn connect(&self, admin: &Caller, account: &str, actions: &[&str]) -> Result<Connected, Failure> {
        self.platform().open_account(account, account);
        let Asked { browser, page, authorize_url } = self.ask(admin, actions, actions).await?;
        let back = self.platform().approve(&authorize_url, account)?;
        let connection = come_home(admin, &browser.get(&back).await?).await?;
        Ok(Connected { connection, account: account.to_owned(), page, authorize_url })
    }

    /// A service key with a mandate for these actions on a connection: the caller, its key's id, and the mandate's.
    ///
    /// # Errors
    /// Where one of them is refused.
    pub async fn agent(
        &self,
        admin: &Caller,
        connection: &str,
        actions: &[&str],
        limits: &Value,
    ) -> Result<Agent, Failure> {
        let made = admin.post("/v1/api-keys", &json!({ "label": "agent of a probe", "role": "service" })).await?;
        let made = expect(&made, 201)?;
        let (key, text_of_key) = (text(&made, "/id").to_owned(), text(&made, "/key").to_owned());
        let terms = json!({ "connection": connection, "grantee": key, "actions": actions, "limits": limits });
        let mandate = expect(&admin.post("/v1/mandates", &terms).await?, 201)?;
        Ok(Agent { caller: admin.with_key(&text_of_key), key, mandate: text(&mandate, "/id").to_owned() })
    }
}

/// A caller that may act.
#[derive(Clone)]
pub struct Agent {
    /// It, with its key.
    pub caller: Caller,
    /// Its key's id.
    pub key: String,
    /// Its mandate's id.
    pub mandate: String,
}

/// An owner follows a link for an account at a provider, and allows these of the actions that he is asked for. At the end he would be sent
/// back to the address.
///
/// # Errors
/// Where a step of that way is refused.
pub async fn follow_link(
    admin: &Caller,
    (provider, back): (&str, &str),
    actions: &[&str],
    allowed: &[&str],
) -> Result<Asked, Failure> {
    let path = invitation(admin, (provider, back), actions).await?;
    let browser = admin.with_no_cookies();
    let shown = browser.get(&path).await?;
    let page = String::from_utf8_lossy(&shown.body).into_owned();
    let fields: Vec<_> = allowed.iter().map(|action| ("allow", *action)).collect();
    let authorize_url = redirected(&browser.submit(&path, &fields).await?)?;
    Ok(Asked { browser, page, authorize_url })
}

/// The path of a link by which an owner is asked for these actions of an account at a provider.
///
/// # Errors
/// `Unproven` where none is made.
pub async fn invitation(admin: &Caller, (provider, back): (&str, &str), actions: &[&str]) -> Result<String, Failure> {
    // Registered already, where this is not the workspace's first link.
    admin.post("/v1/return-addresses", &json!({ "url": back })).await?;
    let wanted = json!({ "provider": provider, "actions": actions, "return_url": back });
    let link = expect(&admin.post("/v1/connect-links", &wanted).await?, 201)?;
    Ok(Url::parse(text(&link, "/url"))?.path().to_owned())
}

/// The body of a reply that has the wanted status. Another one leaves the claim unproven: it is for what a probe needs, not for what it
/// attacks.
///
/// # Errors
/// `Unproven`.
pub fn expect(reply: &Reply, status: u16) -> Result<Value, Failure> {
    if reply.status.as_u16() == status {
        return Ok(reply.json());
    }
    let body = String::from_utf8_lossy(&reply.body);
    Err(Failure::unproven(format!("{} instead of {status}: {body}", reply.status)))
}

/// The connection that a browser came back with, redeemed.
///
/// # Errors
/// Where it came back without one.
pub async fn come_home(admin: &Caller, reply: &Reply) -> Result<String, Failure> {
    let home = Url::parse(&redirected(reply)?)?;
    let code = home.query_pairs().find(|(name, _)| name == "keyholder_code").map(|(_, code)| code.into_owned());
    let told = || home.query().unwrap_or_default().to_owned();
    let code = code.ok_or_else(|| Failure::unproven(format!("the owner came back without a code: {}", told())))?;
    let redeemed = expect(&admin.post("/v1/connections/redeem", &json!({ "code": code })).await?, 200)?;
    Ok(text(&redeemed, "/id").to_owned())
}

fn redirected(reply: &Reply) -> Result<String, Failure> {
    expect(reply, 303)?;
    Ok(reply.header("location").to_owned())
}

/// A text in a body, by its JSON pointer; empty where it is not there.
pub fn text<'v>(body: &'v Value, pointer: &str) -> &'v str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
