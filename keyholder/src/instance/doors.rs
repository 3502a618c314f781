//! The doors of an instance, the API's and that of its metrics: opened when there is an application behind them, and not before.

use std::{mem, sync::Arc};

use server::{Door, EdgeOptions, Server, ServerOptions};
use service::App;
use tokio::sync::Notify;

use super::{
    InstanceOptions, StartError,
    listening::{Listening, for_metrics, within_descriptors},
};

/// What the doors are made of.
pub(super) struct Doors {
    listening: Listening,
    edge: EdgeOptions,
    bounds: ServerOptions,
    /// How many connections the pool of the database takes.
    pool: u32,
    render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Doors {
    /// Takes what is the doors' out of the options.
    pub(super) fn take(listening: Listening, options: &mut InstanceOptions) -> Self {
        let edge = mem::take(&mut options.edge);
        let bounds = ServerOptions { proxies: edge.proxies.clone(), ..options.server.clone() };
        let render_metrics = Arc::clone(&options.render_metrics);
        Self { listening, edge, bounds, pool: options.connections, render_metrics }
    }

    /// Opens both, the API's first. Whoever notifies `reread` has the certificate's files read again.
    pub(super) fn open(self, app: &Arc<App>, reread: &Arc<Notify>) -> Result<(Server, Server), StartError> {
        let Listening { listener, metrics, certificates, tls, metrics_tls } = self.listening;
        if let Some(certificates) = certificates {
            app.tasks.background(certificates.keep_fresh(app.clock.clone(), Arc::clone(reread)));
        }
        let bounds = within_descriptors(self.bounds, self.pool);
        let door = Door { name: "api", listener, tls, router: server::router(app, self.edge) };
        let api = Server::start(app, door, bounds.clone())?;
        let render = self.render_metrics;
        let router = server::metrics_router(move || render(), metrics_tls.is_some());
        let door = Door { name: "metrics", listener: metrics, tls: metrics_tls, router };
        let metrics = Server::start(app, door, for_metrics(&bounds))?;
        Ok((api, metrics))
    }
}
