//! The application's state: everything that a use case needs, made once, concrete.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{
    api_key::ApiKeyHash,
    clock::Clock,
    environment::Environment,
    id::{ConnectionId, KeyId, NodeId, WorkspaceId},
    principal::{Identity, Means, Principal},
};
use moka::future::Cache;
use relation::{Action, Permit, authorize};
use seal::{DerivedKey, Keyring};
use store::{Store, StoreError, Tenant, snapshot::Snapshot};
use tokio::sync::{Mutex, OwnedMutexGuard};
use url::Url;

use crate::{
    LimitOptions, Providers, Refusal,
    custody::Custody,
    fga,
    health::{Health, HealthOptions},
    limits::Limits,
    refresh::{self, Calls, Owed, Slot, Spills},
    step::{Hook, Step},
    tasks::Tasks,
    trust::{Trust, TrustOptions},
};

/// How long a use case asks for new permits while the workspace moves under it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an application is made of.
pub struct AppOptions {
    /// The database.
    pub store: Store,
    /// Epoch keys.
    pub keyring: Keyring,
    /// Keys the digests of what is only compared.
    pub digests: DerivedKey,
    /// The form in which credentials are written.
    pub credential_form: seal::Form,
    /// The providers.
    pub providers: Providers,
    /// The cheap limits.
    pub limits: LimitOptions,
    /// When a platform that fails is left alone.
    pub health: HealthOptions,
    /// Where browsers reach this installation.
    pub public_url: Url,
    /// The name of the operator, as owners are shown it.
    pub operator: String,
    /// Its environment.
    pub environment: Environment,
    /// This process.
    pub node: NodeId,
    /// The time.
    pub clock: Clock,
    /// What is called at each step.
    pub hook: Hook,
    /// What runs beside the requests.
    pub tasks: Tasks,
    /// Where answers of token endpoints are until the database has them.
    pub spills: Spills,
    /// What the trust page shows, and whom it believes.
    pub trust: TrustOptions,
    /// What one question to a relation store may take.
    pub relations: fga::Bounds,
}

/// The application.
pub struct App {
    /// The database.
    pub store: Store,
    /// The providers.
    pub providers: Providers,
    /// Where browsers reach this installation.
    pub public_url: Url,
    /// The name of the operator, as owners are shown it.
    pub operator: String,
    /// Its environment.
    pub environment: Environment,
    /// This process.
    pub node: NodeId,
    /// The time.
    pub clock: Clock,
    /// What runs beside the requests.
    pub tasks: Tasks,
    pub(crate) trust: Trust,
    pub(crate) fga: fga::Relations,
    pub(crate) custody: Custody,
    pub(crate) limits: Limits,
    pub(crate) health: Health,
    pub(crate) keys: Cache<ApiKeyHash, (WorkspaceId, KeyId)>,
    turns: Cache<WorkspaceId, Arc<Mutex<()>>>,
    pub(crate) fresh: Cache<ConnectionId, Arc<Slot>>,
    pub(crate) calls: Calls,
    pub(crate) owed: Owed,
    pub(crate) spills: Arc<Spills>,
    hook: Hook,
    leaving: AtomicBool,
}

impl App {
    /// Makes the application, and starts what runs beside the requests.
    pub fn start(options: AppOptions) -> Arc<Self> {
        let AppOptions {
            store,
            keyring,
            digests,
            credential_form,
            providers,
            limits,
            health,
            public_url,
            operator,
            environment,
            node,
            clock,
            hook,
            tasks,
            spills,
            trust,
            relations,
        } = options;
        let app = Arc::new(Self {
            spills: Arc::new(spills),
            trust: Trust::new(trust),
            fga: fga::Relations::new(relations),
            custody: Custody::new(keyring, environment, digests, (credential_form, clock.clone())),
            limits: Limits::new(limits),
            health: Health::new(health, clock.clone()),
            turns: Cache::builder().max_capacity(10_000).time_to_idle(Duration::from_mins(1)).build(),
            keys: Cache::builder().max_capacity(100_000).time_to_live(Duration::from_mins(5)).build(),
            calls: Calls::default(),
            owed: Owed::default(),
            fresh: Cache::builder().max_capacity(100_000).time_to_idle(Duration::from_hours(1)).build(),
            store,
            providers,
            public_url,
            operator,
            environment,
            node,
            clock,
            hook,
            tasks,
            leaving: AtomicBool::new(false),
        });
        metrics::gauge!("keyholder_leaving").set(0.0);
        app.tasks.background(app.store.snapshots.clone().listen(node));
        let until = app.tasks.clone();
        app.tasks.winding_up(app.store.ledger.clone().run(async move { until.stopping().await }));
        app.tasks.background(app.store.opener.clone().run());
        app.tasks.background(crate::ledger::run(Arc::clone(&app)));
        app.tasks.winding_up(refresh::watch(Arc::clone(&app)));
        app.tasks.background(refresh::forget_gone(Arc::clone(&app)));
        crate::jobs::start(&app);
        app.tasks.background(crate::watch::run(Arc::clone(&app)));
        app.tasks.background(crate::epoch::run(Arc::clone(&app)));
        app.tasks.background(crate::rotation::run(Arc::clone(&app)));
        app.tasks.background(crate::kill_drill::run(Arc::clone(&app)));
        app.tasks.background(crate::provider_migration::watch(Arc::clone(&app)));
        app.tasks.background(crate::trust::watch(Arc::clone(&app)));
        app.tasks.background(crate::role_template::watch(Arc::clone(&app)));
        app
    }

    /// Says that this process is about to stop: from here on it is not ready, though it still serves whoever comes.
    pub fn leave(&self) {
        metrics::gauge!("keyholder_leaving").set(1.0);
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether it is about to stop.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn step(&self, step: Step) {
        self.hook.pass(step);
    }

    /// Membership: the facts of the workspace in which the principal acts. A stranger loads nothing.
    pub(crate) async fn workspace_of(&self, principal: &Principal) -> Result<Arc<Snapshot>, Refusal> {
        let workspace = principal.workspace().ok_or(Refusal::NotFound)?;
        let snapshot = self.store.snapshots.get(workspace).await?;
        let Identity::ApiKey { key, .. } = &principal.identity else { return Ok(snapshot) };
        if snapshot.accepts_key(*key, self.clock.now()) {
            return Ok(snapshot);
        }
        let newer = self.store.snapshots.newer(&snapshot).await?;
        newer.filter(|newer| newer.accepts_key(*key, self.clock.now())).ok_or(Refusal::Unauthenticated)
    }

    /// Asks for a permit by the workspace's present facts.
    pub(crate) async fn permit<A: Action>(
        &self,
        principal: &Principal,
        workspace: WorkspaceId,
        object: A::Object,
    ) -> Result<(Permit<A>, Arc<Snapshot>), Refusal> {
        let snapshot = match (principal.workspace(), principal.means) {
            (Some(_), _) => self.workspace_of(principal).await?,
            // The operator's persons are few, and what one of them is no longer, he is no longer from the commit on.
            (None, Means::OperatorKey) if !domain::sabotaged!(DismissedPersons) => {
                let held = self.store.snapshots.get(workspace).await?;
                self.store.snapshots.newer(&held).await?.unwrap_or(held)
            }
            (None, _) => self.store.snapshots.get(workspace).await?,
        };
        // A principal of one workspace has no business in another, whatever the facts say of it.
        if snapshot.facts.workspace() != workspace {
            return Err(Refusal::NotFound);
        }
        let ask = |snapshot: &Snapshot| authorize::<A>(&snapshot.facts, principal, object, &self.clock);
        match ask(&snapshot) {
            Ok(permit) => Ok((permit, snapshot)),
            Err(denied) => match self.store.snapshots.newer(&snapshot).await? {
                Some(newer) => Ok((ask(&newer)?, newer)),
                None => Err(denied.into()),
            },
        }
    }

    /// Whether the caller may do `A` to this object by its own workspace's present facts. It opens nothing: a verb asks for its permit
    /// itself. An edge that reads input asks here first, so that a refusal comes before the faults of an input.
    ///
    /// # Errors
    /// `Unauthenticated` for a credential that was ended, `NotFound`, `Forbidden`; `Unavailable`.
    pub async fn allows<A: Action>(&self, caller: &Principal, object: A::Object) -> Result<(), Refusal> {
        let workspace = caller.workspace().ok_or(Refusal::NotFound)?;
        self.permit::<A>(caller, workspace, object).await.map(drop)
    }

    /// Enters the database with a permit of the present revision, asking anew where the workspace has moved on.
    ///
    /// Changes of one workspace take turns on this node: each makes the permits of all others stale, and a crowd of them would else
    /// ask again and again until the last is refused. The turn is a courtesy; what counts is the head.
    pub(crate) async fn enter<A: Action>(
        &self,
        principal: &Principal,
        workspace: WorkspaceId,
        object: A::Object,
    ) -> Result<(Tenant<A>, Arc<Snapshot>), Refusal> {
        // A stranger, and whoever may not, is refused before the wait, and holds up nobody.
        self.permit::<A>(principal, workspace, object).await?;
        let mut turn = if A::CHANGES_FACTS { self.turn(workspace).await } else { None };
        let give_up = self.clock.since_boot() + PATIENCE;
        while self.clock.since_boot() < give_up {
            let (permit, snapshot) = self.permit::<A>(principal, workspace, object).await?;
            match self.store.enter(permit).await {
                Err(StoreError::Stale) => self.store.snapshots.forget(&snapshot).await,
                entered => {
                    let mut tenant = entered?;
                    // To enter is to wait, for a connection and for the workspace's head; that head orders nothing of the installation's.
                    // So what makes one of the operator's persons what he is, is asked once more when the waiting is over.
                    let is_person = principal.means == Means::OperatorKey && !domain::sabotaged!(DismissedPersons);
                    let waited = is_person && !domain::sabotaged!(DismissedMeanwhile);
                    if waited && self.store.snapshots.newer(&snapshot).await?.is_some() {
                        continue;
                    }
                    if let Some(turn) = turn.take() {
                        tenant.keep(turn);
                    }
                    return Ok((tenant, snapshot));
                }
            }
        }
        Err(Refusal::Stale)
    }

    /// The turn to change a workspace, or to be admitted while nobody here changes it; nothing, where it does not come in time: then
    /// whoever waited tries without.
    pub(crate) async fn turn(&self, workspace: WorkspaceId) -> Option<OwnedMutexGuard<()>> {
        let queue = self.turns.get_with(workspace, async { Arc::default() }).await;
        tokio::time::timeout(PATIENCE, queue.lock_owned()).await.ok()
    }

    /// Where the provider sends browsers back to: one address a provider, so that one provider's answer cannot pass for another's.
    pub fn redirect_uri(&self, provider: &str) -> String {
        format!("{}/connect/callback/{provider}", self.public_url.as_str().trim_end_matches('/'))
    }

    /// The workspaces' own name for a set of actions, sorted and without repetition.
    pub(crate) fn sorted(actions: &[String]) -> Vec<String> {
        actions.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}
