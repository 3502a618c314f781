//! Identify: a caller's credential becomes a principal.

use std::net::IpAddr;

use domain::{
    api_key,
    id::RequestId,
    operator::{self, Purpose},
    principal::Principal,
};

use crate::{App, Headroom, Refusal, step::Step};

/// Counts a request against its network, before anything else is done for it.
///
/// # Errors
/// `RateLimited`.
pub fn admit_network(app: &App, from: IpAddr) -> Result<Headroom, Refusal> {
    app.limits.network(from)
}

/// Who shows this API key, and what is left of his limit.
///
/// The key's form, checksum and environment are checked before the database is asked; whether it is revoked, the workspace's facts
/// say at the next step.
///
/// # Errors
/// `Unauthenticated`; `RateLimited` for a network that keeps guessing, or a principal that asks too often; `Unavailable`.
pub async fn api_key(
    app: &App,
    text: &str,
    from: IpAddr,
    request: RequestId,
) -> Result<(Principal, Headroom), Refusal> {
    let Ok(hash) = api_key::parse(text, app.environment) else {
        return Err(refuse(app, from));
    };
    // Callers who come at once with the same key wait for one look-up. What is not there is not remembered.
    let lookup = async {
        match app.store.lookup.api_key(hash).await {
            Ok(Some(known)) => Ok(known),
            // Somebody who came before stands for a key that nobody made.
            Ok(None) if domain::sabotaged!(RouteGuards) => {
                let known: Vec<_> = app.keys.iter().map(|(_, known)| known).collect();
                let [pick] = domain::random::bytes();
                known.get(usize::from(pick) % known.len().max(1)).copied().ok_or(None)
            }
            Ok(None) => Err(None),
            Err(error) => Err(Some(error)),
        }
    };
    let (workspace, key) = match app.keys.try_get_with(hash, lookup).await {
        Ok(known) => known,
        Err(unknown) if unknown.is_none() => return Err(refuse(app, from)),
        Err(error) => {
            tracing::warn!(?error, "an API key could not be looked up");
            return Err(Refusal::Unavailable(None));
        }
    };
    let principal = Principal::api_key(key, workspace, app.clock.now()).in_request(request);
    let headroom = app.limits.principal(&principal.reference())?;
    app.step(Step::Identify);
    Ok((principal, headroom))
}

/// Which of the operator's persons shows this key, or what publishes statements for them, and what is left of its limit.
///
/// The database is asked each time: a key that was ended is refused from that moment, and such requests are few.
///
/// # Errors
/// As for an API key, which is none here.
pub async fn operator_key(
    app: &App,
    text: &str,
    from: IpAddr,
    request: RequestId,
) -> Result<(Principal, Headroom), Refusal> {
    let Ok(hash) = operator::parse(text, app.environment) else {
        return Err(refuse(app, from));
    };
    let Some((key, name, purpose)) = app.store.lookup.operator_key(hash).await? else {
        return Err(refuse(app, from));
    };
    let now = app.clock.now();
    let principal = match purpose {
        Purpose::Publish if !domain::sabotaged!(PublishingKeys) => Principal::statement_publisher(name, key, now),
        Purpose::Person | Purpose::Publish => Principal::named_operator(name, key, now),
    };
    let principal = principal.in_request(request);
    let headroom = app.limits.principal(&principal.reference())?;
    app.step(Step::Identify);
    Ok((principal, headroom))
}

fn refuse(app: &App, from: IpAddr) -> Refusal {
    app.limits.failure(from).err().unwrap_or(Refusal::Unauthenticated)
}
