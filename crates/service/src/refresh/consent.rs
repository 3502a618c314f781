//! What an owner's consent brought, from the exchange of its code until its callback is over: a grant that is live at the provider, and that
//! nobody would ever revoke if this process died now. It lies in the state folder as a refresh's answer does.
//!
//! It is put in place by its own callback and by nobody else: the browser has not come home, so the owner must consent again, and what was in
//! use before stays in use. Whoever finds it later closes the link, so that the callback cannot come after him, and has it given back.

use std::sync::Arc;

use domain::{
    id::{ConnectionId, LinkId, WorkspaceId},
    principal::{Cause, Principal},
};
use relation::action::FollowLink;
use store::{
    StoreError,
    credential::{Brought, NewCredential, Renewed},
    link,
};

use super::{
    owed::Callback,
    recover::{self, Settled},
    spill::{Name, Spilled},
};
use crate::{App, Refusal};

/// The grant of a callback that still runs, in the state folder. Nobody of this process settles it while this is held.
pub(crate) struct Consent<'a> {
    app: &'a App,
    spilled: Arc<Spilled>,
    _callback: Callback<'a>,
}

impl<'a> Consent<'a> {
    /// Keeps what a code was exchanged for. No database is asked.
    pub(crate) async fn keep(
        app: &'a App,
        (workspace, connection): (WorkspaceId, ConnectionId),
        (provider, link): (&str, LinkId),
        new: &NewCredential,
    ) -> Self {
        let NewCredential { access, refresh, issued_at, expires_at } = new;
        let (issued_at, expires_at) = (*issued_at, *expires_at);
        let new = NewCredential { access: access.clone(), refresh: refresh.clone(), issued_at, expires_at };
        // It takes the place of no version, under no lease; its consent's number is given by the commit that it may never see.
        let renewed = Renewed { connection, fence: 0, version: 0, consent: 0, after_refusal: false, new };
        let spilled = Arc::new(Spilled { workspace, provider: provider.to_owned(), link: Some(link), renewed });
        let callback = app.owed.called_back(Name::of_consent(connection, link));
        recover::keep(app, &spilled).await;
        Self { app, spilled, _callback: callback }
    }

    /// The connection has it: the copy goes.
    pub(crate) async fn stored(self) {
        recover::clear(self.app, &self.spilled).await;
    }

    /// The callback came to nothing, as far as it knows: the grant is given back, unless the commit took place all the same. What cannot be
    /// settled now stays in the state folder, and is settled when it can be.
    pub(crate) async fn not_stored(self) {
        match recover::settle(self.app, &self.spilled, "credential.recovered").await {
            Ok(Settled::Owed) => {}
            Ok(_) => recover::clear(self.app, &self.spilled).await,
            Err(error) => {
                let connection = self.spilled.renewed.connection;
                tracing::warn!(%connection, %error, "a new grant waits until it can be settled");
            }
        }
    }
}

/// Ends the callback's try, and tells what became of it: stored, or never to be.
///
/// Nobody knows whose account an unstored grant is, and the client is the installation's. So it counts as another's rival as soon as any
/// workspace has a connection at its provider: where a revocation ends all that the client holds for an account, it is not worth the risk.
///
/// # Errors
/// `Unavailable`: whether it is stored is not known yet.
pub(super) async fn close(app: &App, spilled: &Spilled, link: LinkId) -> Result<Brought, Refusal> {
    let principal = Principal::system(Cause::ConnectCallback(link), app.clock.now());
    let (mut tenant, _) = app.enter::<FollowLink>(&principal, spilled.workspace, spilled.workspace).await?;
    let stored = match link::close(&mut tenant).await {
        // A link goes only when its workspace is taken apart, and by then there is nothing that it could have stored.
        Err(StoreError::NotFound) => false,
        closed => closed?,
    };
    tenant.finish().await?;
    if stored {
        return Ok(Brought::Superseded);
    }
    let rival = !app.store.lookup.connections_of(&spilled.provider, None, 1).await?.is_empty();
    Ok(if rival { Brought::Replaced } else { Brought::Gone })
}
