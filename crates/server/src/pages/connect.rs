//! The connect pages: an owner is shown who asks, for what, before anything happens, and chooses.

use std::sync::Arc;

use askama::Template;
use axum::response::{IntoResponse, Response};
use domain::problem::Kind;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use service::{
    App, Refusal,
    connect::{self, Callback, ConnectError},
};
use time::{OffsetDateTime, macros::format_description};

use super::{cookie, html};
use crate::{
    guard,
    headers::PagePolicy,
    input::{Body, Input, Query, Reader, Takes},
    problem::Problem,
    route::Visit,
};

/// What an owner is shown.
#[derive(Template)]
#[template(path = "connect.html")]
struct ConnectPage<'a> {
    operator: &'a str,
    workspace: &'a str,
    provider: &'a str,
    account: Option<&'a str>,
    actions: Vec<Choice<'a>>,
    token: &'a str,
    expires_at: String,
}

/// An action that can be allowed.
struct Choice<'a> {
    name: &'a str,
    title: &'a str,
    effect: &'a str,
    means: &'static str,
}

/// What an effect means to somebody whose account it is.
fn means(effect: &str) -> &'static str {
    match effect {
        "read" => "looks, and changes nothing",
        "write" => "changes something that can be changed back",
        _ => "reaches other people, and cannot be called back",
    }
}

fn page<'a>(shown: &'a connect::Page, token: &'a str) -> ConnectPage<'a> {
    let choice = |(name, title, effect): &'a (String, String, &'static str)| Choice {
        name,
        title,
        effect,
        means: means(effect),
    };
    ConnectPage {
        operator: &shown.operator,
        workspace: &shown.workspace,
        provider: &shown.provider,
        account: shown.account.as_deref(),
        actions: shown.actions.iter().map(choice).collect(),
        token,
        expires_at: hour(shown.expires_at),
    }
}

fn hour(time: OffsetDateTime) -> String {
    time.format(format_description!("[hour]:[minute] UTC")).unwrap_or_default()
}

/// A link's token. One that could not be one is as good as a dead one.
pub(crate) struct Token(String);

impl Input for Token {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("token").map(Self)
    }
}

fn live(token: &str) -> Result<&str, Problem> {
    if cookie::is_token(token) { Ok(token) } else { Err(ConnectError::LinkGone.into()) }
}

/// Shows the link to the first browser that opens it.
pub(crate) async fn open(app: Arc<App>, visit: Visit<Token>) -> Result<Response, Problem> {
    let token = live(&visit.input.0)?;
    let sent = cookie::sent(&visit.headers);
    let value = sent.clone().unwrap_or_else(cookie::fresh);
    let shown = connect::open(&app, token, &value, visit.peer).await?;
    let policy = PagePolicy::with_form(&app.providers.authorize_origins());
    let mut response = html(StatusCode::OK, &page(&shown, token), policy)?;
    if sent.is_none()
        && let Some(line) = cookie::set(&value)
    {
        response.headers_mut().insert(header::SET_COOKIE, line);
    }
    Ok(response)
}

/// What an owner chose.
pub(crate) struct Choices {
    token: String,
    allowed: Vec<String>,
}

impl Input for Choices {
    const TAKES: Takes = Takes::Form;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let token = from.path("token");
        let fields = match &from.arrived().body {
            Body::Form(fields) => fields.as_slice(),
            Body::Nothing | Body::Json(_) | Body::Raw(_) => &[],
        };
        if fields.iter().any(|(name, _)| name != "allow") {
            from.fault("/", "The form has a field that is not ours.");
        }
        let allowed = fields.iter().filter(|(name, _)| name == "allow").map(|(_, value)| value.clone()).collect();
        Some(Self { token: token?, allowed })
    }
}

/// Takes the owner's choice, and sends the browser to the provider.
pub(crate) async fn consent(app: Arc<App>, visit: Visit<Choices>) -> Result<Response, Problem> {
    guard::refuse_foreign_forms(&visit.headers, &app.public_url)?;
    let token = live(&visit.input.token)?;
    let cookie = cookie::sent(&visit.headers).ok_or(ConnectError::LinkGone)?;
    if visit.input.allowed.is_empty() {
        return Err(
            Problem::new(Kind::InvalidInput).saying("Nothing was chosen. Go back and choose what to allow, or leave.")
        );
    }
    see_other(&connect::consent(&app, token, &cookie, &visit.input.allowed, visit.request).await?)
}

/// What a provider's redirect brought. Parameters that we do not know are the provider's own (RFC 6749 §4.1.2).
pub(crate) struct Returned {
    provider: String,
    callback: Callback,
}

impl Input for Returned {
    const QUERY: Query = Query::Foreign(&[
        ("state", "The state that we made."),
        ("code", "The authorization code."),
        ("iss", "The issuer (RFC 9207)."),
        ("error", "The error, where the owner or the provider said no."),
    ]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let provider = from.path("provider");
        // A parameter that is there twice could be read in two ways (RFC 6749 §3.1).
        for (name, _) in Self::QUERY.known() {
            if from.is_repeated(name) {
                from.fault(format!("?{name}"), "The provider's answer says something twice.");
            }
        }
        let text = |name| from.query(name).map(str::to_owned);
        let callback = Callback { state: text("state"), code: text("code"), iss: text("iss"), error: text("error") };
        Some(Self { provider: provider?, callback })
    }
}

/// Takes the provider's callback, and sends the browser back to where the workspace wants it.
pub(crate) async fn call_back(app: Arc<App>, visit: Visit<Returned>) -> Result<Response, Problem> {
    let cookie = cookie::sent(&visit.headers).ok_or(ConnectError::LinkGone)?;
    let Returned { provider, callback } = visit.input;
    // Goes on to its end though the browser leaves: the code is spent, and what it brought is kept or given back.
    let work = {
        let app = Arc::clone(&app);
        async move { connect::call_back(&app, &provider, callback, &cookie, visit.request).await }
    };
    let url = app.tasks.finish(work).await.map_err(Refusal::from)??;
    see_other(&url)
}

fn see_other(url: &url::Url) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(url.as_str()).map_err(|error| Refusal::internal("an address", error))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, location);
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(workspace: &str) -> connect::Page {
        connect::Page {
            operator: "An & operator".to_owned(),
            workspace: workspace.to_owned(),
            provider: "X".to_owned(),
            account: Some("\"><img src=x>".to_owned()),
            actions: vec![
                ("profile.read".to_owned(), "See <b>your</b> profile".to_owned(), "read"),
                ("post.reply".to_owned(), "Reply".to_owned(), "send"),
            ],
            expires_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn names_are_escaped() {
        let shown = shown("<script>alert('x')</script>");
        let text = page(&shown, "token").render().unwrap();
        for raw in ["<script", "<img", "<b>your"] {
            assert!(!text.contains(raw), "{raw} in {text}");
        }
        assert!(text.contains("alert("), "{text}");
    }

    #[test]
    fn the_owner_sees_who_asks_and_for_what() {
        let shown = shown("Acme");
        let text = page(&shown, "a-token").render().unwrap();
        for part in ["Acme", "operator", "Reply", "cannot be called back", "changes nothing", "00:00 UTC"] {
            assert!(text.contains(part), "{part} is missing");
        }
        assert_eq!(text.matches("type=\"checkbox\"").count(), 2);
        assert_eq!(text.matches(" checked").count(), 2);
        assert!(text.contains("action=\"/connect/a-token\""));
    }

    #[test]
    fn what_is_no_token_is_a_dead_link() {
        assert!(live(&cookie::fresh()).is_ok());
        for bad in ["", "../x", "short", &"a".repeat(44)] {
            assert_eq!(live(bad).unwrap_err().kind(), Kind::Forbidden, "{bad}");
        }
    }
}
