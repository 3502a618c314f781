//! Named operators: keys of persons, made, listed and ended at the machine. A key's text is returned once, by the call that makes it.

use domain::{
    audit::Event,
    id::{InstallationId, OperatorId},
    operator,
    principal::{Identity, Principal},
};
use relation::action::{ListOperators, ManageOperators};
use serde_json::json;
use store::operator::Listed;
use zeroize::Zeroizing;

use crate::{App, Refusal, installation};

/// Makes a key of a person. Whoever has one already then has two, and is one person with both.
///
/// # Errors
/// `Invalid` for a name that is none; `Conflict` where there are too many keys.
pub async fn create(app: &App, host: &Principal, name: &str) -> Result<(OperatorId, Zeroizing<String>), Refusal> {
    let name = operator::name(name).map_err(|error| Refusal::invalid("/name", error.to_string()))?;
    let mut opened = installation::enter::<ManageOperators>(app, host, InstallationId::ONE).await?;
    let id = OperatorId::new(&app.clock);
    let (text, hash) = operator::generate(app.environment);
    store::operator::create(&mut opened, id, name, hash).await?;
    opened.commit(Event::new("operator.created", format!("operator:{id}")).with(json!({ "name": name }))).await?;
    Ok((id, text))
}

/// The keys of all persons, ended ones included: whose they are, never what they are.
///
/// # Errors
/// As for any use case.
pub async fn list(app: &App, host: &Principal) -> Result<Vec<Listed>, Refusal> {
    let mut opened = installation::enter::<ListOperators>(app, host, InstallationId::ONE).await?;
    let listed = store::operator::list(&mut opened).await?;
    opened.commit(Event::new("operator.listed", installation::reference())).await?;
    Ok(listed)
}

/// Ends a key. No request with it is answered from the commit on.
///
/// # Errors
/// `NotFound` where there is no such key that is still good.
pub async fn revoke(app: &App, host: &Principal, id: OperatorId) -> Result<(), Refusal> {
    let mut opened = installation::enter::<ManageOperators>(app, host, InstallationId::ONE).await?;
    store::operator::revoke(&mut opened, id).await?;
    opened.commit(Event::new("operator.revoked", format!("operator:{id}"))).await?;
    Ok(())
}

/// The person behind a principal, and the key that he showed. Nobody else is one of two persons: neither the host, nor an API key.
pub(crate) fn person(principal: &Principal) -> Result<(&str, OperatorId), Refusal> {
    let key = principal.session.as_deref().and_then(|session| session.parse().ok());
    match (&principal.identity, key) {
        (Identity::Operator(name), Some(key)) => Ok((name, key)),
        _ => Err(Refusal::Forbidden),
    }
}
