//! Retired credentials: a grant that a renewed consent replaced is given back to its provider. Nobody else would ever revoke it.
//!
//! The consent's own transaction keeps it aside and leaves a job, so that a crash loses nothing. A provider at which revoking a token ends
//! everything that the client holds for the account is not told: it would end the new consent as well (`revoke_ends` in its file).

use domain::{
    audit::Event,
    id::{ConnectionId, WorkspaceId},
    principal::{Cause, Principal},
};
use relation::action::RevokeRetired;
use seal::{Credential, Field};
use serde_json::json;
use store::{Tenant, retired::Retired};
use time::Duration;

use crate::{App, Refusal, jobs::REVOKE_RETIRED, oauth};

/// For how long a provider is asked.
const OFFER: Duration = Duration::days(7);

/// What became of the retired grants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// There is none left, and the provider has acknowledged each.
    AllRevoked,
    /// None is left, and some were given up: they do not open, or the provider revokes nothing, or it did not answer for too long.
    SomeGivenUp,
    /// Some are still to be given back.
    Owed,
}

/// Gives back what is retired of a connection. May be done again: a revoked token stays revoked.
///
/// # Errors
/// `Unavailable` where the provider has not acknowledged yet: the job stays.
pub(crate) async fn revoke(app: &App, workspace: WorkspaceId, connection: ConnectionId) -> Result<(), Refusal> {
    match offer(app, workspace, connection).await? {
        Offered::AllRevoked | Offered::SomeGivenUp => Ok(()),
        Offered::Owed => Err(Refusal::Unavailable(None)),
    }
}

/// Offers each retired grant of a connection to its provider once; when none is left, the job goes, too.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn offer(app: &App, workspace: WorkspaceId, connection: ConnectionId) -> Result<Offered, Refusal> {
    let principal = Principal::system(Cause::Retire(connection), app.clock.now());
    let (mut tenant, _) = app.enter::<RevokeRetired>(&principal, workspace, connection).await?;
    let mut offers = Vec::new();
    for retired in store::retired::of_connection(&mut tenant).await? {
        let opened = open(app, &mut tenant, &retired).await;
        offers.push((retired, opened));
    }
    tenant.finish().await?;
    let (mut owed, mut given_up) = (false, false);
    for (retired, opened) in offers {
        let outcome = match (opened, app.providers.going(&retired.stored.provider)) {
            (None, _) => "does_not_open",
            (Some(opened), Ok(to)) if to.provider.auth.revoke_url.is_some() => {
                if oauth::give_back(to, opened, field(&retired)).await { "revoked" } else { "not_acknowledged" }
            }
            (_, Ok(_) | Err(Refusal::Unavailable(None))) => "no_endpoint",
            (_, Err(_)) => "not_acknowledged",
        };
        if outcome == "not_acknowledged" && app.clock.now() - retired.retired_at < OFFER {
            owed = true;
            continue;
        }
        given_up |= outcome != "revoked";
        metrics::counter!("keyholder_retired_credentials_total", "outcome" => outcome).increment(1);
        let (mut tenant, _) = app.enter::<RevokeRetired>(&principal, workspace, connection).await?;
        store::retired::remove(&mut tenant, retired.version).await?;
        let detail = json!({ "version": retired.version, "outcome": outcome });
        tenant.commit(Event::new("credential.retired", format!("connection:{connection}")).with(detail)).await?;
    }
    if owed {
        return Ok(Offered::Owed);
    }
    let (mut tenant, _) = app.enter::<RevokeRetired>(&principal, workspace, connection).await?;
    store::job::done(&mut tenant, REVOKE_RETIRED, connection).await?;
    tenant.finish().await?;
    Ok(if given_up { Offered::SomeGivenUp } else { Offered::AllRevoked })
}

async fn open(app: &App, tenant: &mut Tenant<RevokeRetired>, retired: &Retired) -> Option<Credential> {
    let key = app.custody.key(tenant, Some(retired.stored.access.key)).await.ok()?;
    let opened = app.custody.open_credential(&key, &retired.stored, field(retired));
    if let Err(error) = &opened {
        tracing::warn!(connection = %retired.stored.connection, %error, "a credential that is to be revoked does not open");
    }
    opened.ok()
}

fn field(retired: &Retired) -> Field {
    if retired.stored.refresh.is_some() { Field::Refresh } else { Field::Access }
}
