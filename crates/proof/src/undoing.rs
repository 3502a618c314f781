//! Undoing: what a probe has made in its own workspace over HTTP is ended when its work ends, however that comes about.
//!
//! Never ends anything that was not noted here. What nobody lives to end ends by itself, or is called [`NAME`], and is ended with the next
//! probe's belongings.

use std::{
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use domain::{clock::Clock, random};
use futures_util::FutureExt;
use http::Method;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use url::form_urlencoded::byte_serialize;

use crate::{
    caller::{CallError, Caller, Reply},
    evidence::{Failure, Outcome},
    owner::{expect, text},
};

/// How everything is called that is made here.
pub(crate) const NAME: &str = "probe-belongings";
/// Where nobody is (RFC 6761 §6.4): every return address that is registered here begins so, and goes on with the second of its making.
pub(crate) const NOWHERE: &str = "https://keyholder-probe.invalid/";
/// A key ends by itself after this. What is older, and is called so, is nobody's any more.
pub(crate) const LIFE: Duration = Duration::from_mins(10);
/// What is done before something is ended must end before whoever runs the probe breaks it off.
const PATIENCE: Duration = Duration::from_secs(150);

/// A request that ends something: its method, its address, its body.
type End = (Method, String, &'static str);

/// What there is to be ended in a workspace.
pub struct Undoing {
    admin: Caller,
    ends: Mutex<Vec<End>>,
}

impl Undoing {
    /// Nothing yet, in the workspace of this admin.
    pub fn of(admin: &Caller) -> Self {
        Self { admin: admin.clone(), ends: Mutex::default() }
    }

    /// The admin by whom everything is made and ended.
    pub fn admin(&self) -> &Caller {
        &self.admin
    }

    /// When what is made here ends by itself, where it can (RFC 3339).
    ///
    /// # Errors
    /// Where the hour cannot be written.
    pub fn expires_at() -> Result<String, Failure> {
        Ok((Clock::system().now() + LIFE).format(&Rfc3339)?)
    }

    /// A key of a role, which nobody has given anything: the caller, and its id.
    ///
    /// # Errors
    /// `Unproven` where it is not made.
    pub async fn key(&self, role: &str) -> Result<(Caller, String), Failure> {
        let wanted = json!({ "label": NAME, "role": role, "expires_at": Self::expires_at()? });
        let (id, made) = self.made(("/v1/api-keys", "/v1/api-keys"), &wanted).await?;
        Ok((self.admin.with_key(text(&made, "/key")), id))
    }

    /// A budget of a key's acts in a month, of so many; its id.
    ///
    /// # Errors
    /// `Unproven` where it is not made.
    pub async fn budget(&self, key: &str, cap: u64) -> Result<String, Failure> {
        let wanted = json!({ "scope": "principal", "subject": key, "unit": "acts", "per": "month", "cap": cap });
        expect(&self.admin.post("/v1/budgets", &wanted).await?, 200)?;
        let listed = expect(&self.admin.get("/v1/budgets").await?, 200)?;
        let mut known = listed.get("data").and_then(Value::as_array).into_iter().flatten();
        let own = known.find(|it| text(it, "/subject") == key && text(it, "/per") == "month");
        let id = own.map(|it| text(it, "/id").to_owned()).ok_or_else(|| Failure::unproven("a budget is not listed"))?;
        self.note(Method::DELETE, format!("/v1/budgets/{id}"));
        Ok(id)
    }

    /// A return address where nobody is. The links that lead there are ended with it.
    ///
    /// # Errors
    /// `Unproven` where it is not registered.
    pub async fn return_address(&self) -> Result<String, Failure> {
        let (now, own) = (Clock::system().now().unix_timestamp(), random::token());
        let url = format!("{NOWHERE}{now}/{own}");
        expect(&self.admin.post("/v1/return-addresses", &json!({ "url": url })).await?, 201)?;
        self.note(Method::DELETE, return_address(&url));
        Ok(url)
    }

    /// A folder, at the top of the workspace or in another; its id.
    ///
    /// # Errors
    /// `Unproven` where it is not made.
    pub async fn folder(&self, within: Option<&str>) -> Result<String, Failure> {
        let path = within.map_or_else(|| "/v1/objects".to_owned(), |id| format!("/v1/objects/{id}/objects"));
        Ok(self.made((&path, "/v1/objects"), &json!({ "type": "folder", "name": NAME })).await?.0)
    }

    /// A role template of these permissions; its id.
    ///
    /// # Errors
    /// `Unproven` where it is not made.
    pub async fn template(&self, permissions: &[&str]) -> Result<String, Failure> {
        let bundle = json!({ "name": NAME, "permissions": permissions });
        Ok(self.made(("/v1/role-templates", "/v1/role-templates"), &bundle).await?.0)
    }

    /// A relation store; its id.
    ///
    /// # Errors
    /// `Unproven` where it is not made.
    pub async fn store(&self) -> Result<String, Failure> {
        Ok(self.made(("/fga/stores", "/fga/stores"), &json!({ "name": NAME })).await?.0)
    }

    /// Makes something at one address that is ended at another, under its id: that, and all that was answered.
    async fn made(&self, (path, ended_at): (&str, &str), wanted: &Value) -> Result<(String, Value), Failure> {
        let made = expect(&self.admin.post(path, wanted).await?, 201)?;
        let id = text(&made, "/id").to_owned();
        if id.is_empty() {
            return Err(Failure::unproven(format!("what was made at {path} has no id")));
        }
        self.note(Method::DELETE, format!("{ended_at}/{id}"));
        Ok((id, made))
    }

    /// Notes a request by which something is ended: the last one noted is sent first.
    pub fn note(&self, method: Method, address: String) {
        let body = if method == Method::POST { "{}" } else { "" };
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).push((method, address, body));
    }

    /// Works, and ends what was noted whatever the work comes to: a panic and a bound are `Unproven`.
    ///
    /// # Errors
    /// The work's own; `Unproven` where the work was good and something could not be ended.
    pub async fn after(&self, work: impl Future<Output = Outcome>) -> Outcome {
        let outcome = match AssertUnwindSafe(tokio::time::timeout(PATIENCE, work)).catch_unwind().await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::unproven(format!("it took longer than {} s", PATIENCE.as_secs()))),
            Err(_panic) => Err(Failure::unproven("the probe itself failed")),
        };
        let ended = self.end().await;
        let evidence = outcome?;
        ended.map(|()| evidence)
    }

    /// Ends everything that was noted.
    pub(crate) async fn end(&self) -> Result<(), Failure> {
        let ends = std::mem::take(&mut *self.ends.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = Vec::new();
        for (method, address, body) in ends.into_iter().rev() {
            let json = [("content-type", "application/json")];
            let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &json };
            if !is_ended(self.admin.send(method, &address, headers, Bytes::from_static(body.as_bytes())).await) {
                left.push(address);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        Err(Failure::unproven(format!("these of a probe were not ended: {}", left.join(", "))))
    }
}

/// Where a return address is ended.
pub(crate) fn return_address(url: &str) -> String {
    format!("/v1/return-addresses?url={}", byte_serialize(url.as_bytes()).collect::<String>())
}

/// Whether something was ended by this answer: what the work itself has ended is there no more.
pub(crate) fn is_ended(reply: Result<Reply, CallError>) -> bool {
    reply.is_ok_and(|reply| reply.status.is_success() || reply.status == 404)
}
