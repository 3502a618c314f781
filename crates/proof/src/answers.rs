//! Everything that the program answers: each row of its table asked in the allowed way, in a wrong one and without a credential, and what
//! is read beside the API.

use http::Method;

use crate::{caller::Reply, evidence::Failure, ground::Ground, routes::Route, stock::Stock};

/// One answer.
pub struct Answer {
    /// What was asked, in words.
    pub of: String,
    /// Whether it is an error.
    pub is_error: bool,
    /// The answer as it stands on the wire: status, headers, body.
    pub wire: Vec<u8>,
}

impl Answer {
    /// An answer to something.
    pub fn new(of: impl Into<String>, reply: &Reply) -> Self {
        let mut wire = format!("{}\r\n", reply.status).into_bytes();
        for (name, value) in &reply.headers {
            wire.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&reply.body);
        let is_error = reply.status.is_client_error() || reply.status.is_server_error();
        Self { of: of.into(), is_error, wire }
    }
}

/// How often the stock provides what samples need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// For each row anew: every allowed request succeeds.
    Anew,
    /// Once for all: what can be used once is spent by the first row that does.
    Once,
}

/// The answers of every row, in a workspace of this stock.
///
/// # Errors
/// `Unproven` where the allowed request of a row is not answered at all.
pub async fn of_every_route(ground: &Ground, stock: &Stock<'_>, filled: Filled) -> Result<Vec<Answer>, Failure> {
    let stranger = ground.stranger().await?;
    let mut answers = Vec::new();
    let routes = ground.table().await?.routes;
    let once = match filled {
        Filled::Anew => None,
        Filled::Once => Some((stock.everything(&routes).await?, stranger.with_no_cookies())),
    };
    for route in &routes {
        let (values, browser) = match &once {
            Some(once) => once.clone(),
            None => stock.fill(route).await?,
        };
        let caller = stock.may(route, &browser);
        let asked = route.send(caller, &values, &[("sec-fetch-site", "same-origin")]).await;
        answers.push(Answer::new(route.title(), &asked?));
        stock.settle(route, &values).await?;
        // The same with nothing filled in, without a credential, and by a method that no row has.
        let unfilled = route.send(caller, &crate::routes::Values::new(), &[]).await?;
        answers.push(Answer::new(format!("{} with nothing filled in", route.title()), &unfilled));
        let bare = route.send(&stranger, &values, &[]).await?;
        answers.push(Answer::new(format!("{} without a credential", route.title()), &bare));
        answers.push(Answer::new(format!("PATCH {}", route.path), &with_another_method(caller, route).await?));
    }
    Ok(answers)
}

async fn with_another_method(caller: &crate::caller::Caller, route: &Route) -> Result<Reply, Failure> {
    let path = route.path.replace(['{', '}', '*'], "");
    Ok(caller.send(Method::PATCH, &path, &[], bytes::Bytes::new()).await?)
}
