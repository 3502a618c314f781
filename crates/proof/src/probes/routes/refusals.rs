//! What those are told who may not come in: the one status that is right, and nothing of anybody.

use serde_json::json;

use crate::{
    answered::{by_server, of_server},
    caller::{Caller, Reply},
    evidence::{Evidence, Failure},
    routes::{Route, Values},
};

/// The judgement of refusals.
pub(super) struct Refusals {
    /// What others must not learn. A secret is none of it: what is found is shown.
    pub(super) private: Vec<String>,
}

impl Refusals {
    /// Notes one refusal, or breaks: by a status that is none of these, or by what is told with it.
    pub(super) fn note(
        &self,
        route: &Route,
        whose: &str,
        statuses: &[u16],
        reply: &Reply,
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        let (title, status) = (route.title(), reply.status);
        let what = format!("{title} with {whose}");
        of_server(&what, reply)?;
        silent(route, whose, reply, self.private.iter())?;
        // A server that fails or is busy neither lets in nor refuses.
        by_server(&what, reply)?;
        if !statuses.is_empty() && !statuses.contains(&status.as_u16()) {
            let body = String::from_utf8_lossy(&reply.body).chars().take(400).collect::<String>();
            let obtained = json!({ "route": title, "with": whose, "status": status.as_u16(), "answer": body });
            return Err(Failure::broken(format!("{title} with {whose} was answered {status}"), obtained));
        }
        evidence.tried("api-routes", format!("{title} with {whose}: {status}"), title, &reply.body);
        Ok(())
    }

    /// A public row has its reason, and tells a stranger nothing of anybody.
    pub(super) async fn as_anybody(
        &self,
        route: &Route,
        (stranger, values): (&Caller, &Values),
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        if route.why.as_deref().is_none_or(|why| why.len() < 10) {
            return Err(Failure::broken(format!("{} is open to all for no reason", route.title()), route.title()));
        }
        let mut guessed = values.clone();
        for secret in ["token", "code"] {
            guessed.insert(secret.to_owned(), domain::random::token());
        }
        let reply = route.send(stranger, &guessed, &[]).await?;
        by_server(&route.title(), &reply)?;
        silent(route, "anybody", &reply, self.private.iter())?;
        let (path, status) = (route.title(), reply.status);
        evidence.tried("public-routes", format!("{path} by anybody: {status}"), path, &reply.body);
        Ok(())
    }
}

/// Breaks where a reply says one of these words.
pub(super) fn silent<'p>(
    route: &Route,
    whose: &str,
    reply: &Reply,
    mut private: impl Iterator<Item = &'p String>,
) -> Result<(), Failure> {
    let mut said = String::from_utf8_lossy(&reply.body).into_owned();
    for (name, value) in &reply.headers {
        said.extend(["\n", name.as_str(), ": ", &String::from_utf8_lossy(value.as_bytes())]);
    }
    match private.find(|word| !word.is_empty() && said.contains(word.as_str())) {
        None => Ok(()),
        Some(word) => {
            let obtained = json!({ "route": route.title(), "with": whose, "told": word });
            Err(Failure::broken(format!("{} with {whose} tells {word}", route.title()), obtained))
        }
    }
}
