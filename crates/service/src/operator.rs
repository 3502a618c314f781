//! Named operators: keys of persons, and of what publishes statements for them; made, listed and ended at the machine. A key's text is
//! returned once, by the call that makes it.

use domain::{
    audit::Event,
    id::{InstallationId, OperatorId},
    operator::{self, Purpose},
    principal::{Identity, Principal},
};
use relation::action::{AppointSuperAdmin, ListOperators, ManageOperators};
use serde_json::{Map, Value, json};
use store::operator::Listed;
use zeroize::Zeroizing;

use crate::{App, Refusal, installation};

/// Makes a key: of a person, or of what publishes signed statements and does nothing else, for a run that no person stands beside. Whoever
/// has one already then has two, and is one person with both.
///
/// # Errors
/// `Invalid` for a name that is none; `Conflict` where there are too many keys.
pub async fn create(
    app: &App,
    host: &Principal,
    (name, purpose): (&str, Purpose),
) -> Result<(OperatorId, Zeroizing<String>), Refusal> {
    let name = operator::name(name).map_err(|error| Refusal::invalid("/name", error.to_string()))?;
    let mut opened = installation::enter::<ManageOperators>(app, host, InstallationId::ONE).await?;
    let id = OperatorId::new(&app.clock);
    let (text, hash) = operator::generate(app.environment);
    let dismissed = store::operator::create(&mut opened, id, (name, purpose), hash).await?;
    let mut detail = Map::from_iter([("name".to_owned(), json!(name))]);
    if purpose == Purpose::Publish {
        detail.insert("only".to_owned(), json!(purpose.as_str()));
    }
    opened.commit(changed("operator.created", id, (detail, dismissed))).await?;
    Ok((id, text))
}

/// What became of a key, and who is super-admin no longer by it.
fn changed(name: &'static str, id: OperatorId, (mut detail, dismissed): (Map<String, Value>, Vec<String>)) -> Event {
    if !dismissed.is_empty() {
        detail.insert("dismissed_super_admin".to_owned(), json!(dismissed));
    }
    let event = Event::new(name, format!("operator:{id}"));
    if detail.is_empty() { event } else { event.with(Value::Object(detail)) }
}

/// All keys, ended ones included: whose they are, never what they are.
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
    let dismissed = store::operator::revoke(&mut opened, id).await?;
    opened.commit(changed("operator.revoked", id, (Map::new(), dismissed))).await?;
    Ok(())
}

/// Makes a person super-admin: at the machine, by his name, and never as a consequence of anything else.
///
/// # Errors
/// `Invalid` for a name that is none; `NotFound` where nobody of that name has a good key; `Conflict` where he is one already.
pub async fn appoint_super_admin(app: &App, host: &Principal, name: &str) -> Result<(), Refusal> {
    let name = operator::name(name).map_err(|error| Refusal::invalid("/name", error.to_string()))?;
    let mut opened = installation::enter::<AppointSuperAdmin>(app, host, InstallationId::ONE).await?;
    store::super_admin::appoint(&mut opened, name).await?;
    opened.commit(Event::new("super_admin.appointed", format!("operator:{name}"))).await?;
    Ok(())
}

/// Ends that a person is super-admin: every node refuses him from the commit on.
///
/// # Errors
/// `Invalid` for a name that is none; `NotFound` where he is no super-admin.
pub async fn dismiss_super_admin(app: &App, host: &Principal, name: &str) -> Result<(), Refusal> {
    let name = operator::name(name).map_err(|error| Refusal::invalid("/name", error.to_string()))?;
    let mut opened = installation::enter::<AppointSuperAdmin>(app, host, InstallationId::ONE).await?;
    store::super_admin::dismiss(&mut opened, name).await?;
    opened.commit(Event::new("super_admin.dismissed", format!("operator:{name}"))).await?;
    Ok(())
}

/// Who is super-admin, by name.
///
/// # Errors
/// As for any use case.
pub async fn super_admins(app: &App, host: &Principal) -> Result<Vec<String>, Refusal> {
    let mut opened = installation::enter::<ListOperators>(app, host, InstallationId::ONE).await?;
    let names = store::super_admin::list(&mut opened).await?;
    opened.commit(Event::new("super_admin.listed", installation::reference())).await?;
    Ok(names)
}

/// The person behind a principal, and the key that he showed. Nobody else is one of two persons: neither the host, nor an API key.
pub(crate) fn person(principal: &Principal) -> Result<(&str, OperatorId), Refusal> {
    let key = principal.session.as_deref().and_then(|session| session.parse().ok());
    match (&principal.identity, key) {
        (Identity::Operator(name), Some(key)) => Ok((name, key)),
        _ => Err(Refusal::Forbidden),
    }
}
