//! The parts of an act by themselves: sealing and opening, the scrub, the permit, admission, and what the signed context costs.
//!
//! `cargo bench --workspace --bench micro`; a name after `--` chooses. Those that need a database run on an embedded cluster of their
//! own. What an act costs as a whole is `act`'s to say.

mod grounds;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use divan::{Bencher, black_box, counter::BytesCount};
use domain::{
    act::IdempotencyKey,
    clock::Clock,
    environment::Environment,
    id::{ActId, BudgetId, ConnectionId, Id, KeyId, MandateId, WorkspaceId},
    principal::Principal,
};
use egress::Scrubber;
use futures_util::future::try_join_all;
use keyholder::{
    cluster::{Binaries, ClusterOptions, Download},
    home::INSTALLATION,
    local::{Local, LocalOptions, PROVIDER},
};
use relation::{
    Permit,
    action::{OpenForAct, Perform, ReadActs},
    authorize,
};
use seal::{Binding, DataKey, Field, Place, Plain, Sealed, open, open_credential, seal, seal_credential};
use service::step::Hook;
use sqlx::PgPool;
use store::{
    ledger::{Entry, Verdict},
    snapshot::Snapshot,
};
use tokio::runtime::Runtime;

use grounds::{Outcome, entrust, postgres_bin, search_path};

/// As long as a platform's token is.
const TOKEN: &str = "dGhpc19pc19hX3BsYXRmb3JtX3Rva2VuX29mX3RoZV91c3VhbF9sZW5ndGhfd2l0aF9zb21lX21vcmU6MTox";
/// The largest answer that the shipped providers are likely to give.
const ANSWER: usize = 64 * 1024;

/// An installation that runs, with a mandate to act under.
struct Stage {
    runtime: Runtime,
    local: Local,
    /// The owner's way in, for whom no policy holds.
    owner: PgPool,
    snapshot: Arc<Snapshot>,
    admin: Principal,
    agent: Principal,
    workspace: WorkspaceId,
    mandate: MandateId,
    connection: ConnectionId,
    budget: BudgetId,
    acts: AtomicU64,
}

static STAGE: RwLock<Option<Stage>> = RwLock::new(None);

fn main() -> Outcome<()> {
    let _set_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    *STAGE.write().unwrap_or_else(PoisonError::into_inner) = Some(set());
    divan::main();
    let stage = STAGE.write().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Stage { runtime, local, owner, .. }) = stage else { return Ok(()) };
    runtime.block_on(async {
        owner.close().await;
        Ok(local.stop().await?)
    })
}

#[expect(clippy::expect_used, reason = "without its stage there is nothing to measure")]
fn set() -> Stage {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let made = runtime.block_on(begin());
    let (local, owner, snapshot, known) = made.expect("a stage");
    let now = local.instance().app().clock.now();
    let workspace = snapshot.facts.workspace();
    let mandate = snapshot.mandates.iter().find(|mandate| mandate.id == known.mandate).expect("the mandate");
    let budget = snapshot.budgets.first().expect("a budget").id;
    Stage {
        admin: Principal::api_key(known.admin, workspace, now),
        agent: Principal::api_key(known.agent, workspace, now),
        workspace,
        mandate: mandate.id,
        connection: mandate.connection,
        budget,
        acts: AtomicU64::new(0),
        runtime,
        local,
        owner,
        snapshot,
    }
}

/// The ids of what was made.
struct Known {
    admin: KeyId,
    agent: KeyId,
    mandate: MandateId,
}

async fn begin() -> Outcome<(Local, PgPool, Arc<Snapshot>, Known)> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let cluster = ClusterOptions {
        download: Download::Allowed,
        search_path: search_path(),
        binaries: Binaries::from_setting(postgres_bin().as_deref()),
        ..ClusterOptions::new(PathBuf::from(env!("CARGO_BIN_EXE_keyholder")), cache)
    };
    let render_metrics = Arc::new(String::new);
    let options = LocalOptions { state: None, cluster, port: 0, preset: None, hook: Hook::default(), render_metrics };
    let local = Box::pin(Local::start(options)).await?;
    let first = local.create_workspace("Acme").await?;
    let (platform, url) = (local.sandbox().platform(), local.instance().url());
    let entrusted = entrust(platform, url, &first.text, &["post.create", "profile.read"]).await?;
    let store = &local.instance().app().store;
    let hash = domain::api_key::parse(&entrusted.key, Environment::Local)?;
    let (workspace, agent) = store.lookup.api_key(hash).await?.ok_or("the key is not known")?;
    let known = Known { admin: first.key, agent, mandate: entrusted.mandate.parse()? };
    let snapshot = store.snapshots.get(workspace).await?;
    let owner = PgPool::connect(&local.home().owner_url(INSTALLATION)).await?;
    Ok((local, owner, snapshot, known))
}

/// Has something measured on the stage.
#[expect(clippy::expect_used, reason = "it was set before anything is measured")]
fn on_stage(measure: impl FnOnce(&Stage)) {
    measure(STAGE.read().unwrap_or_else(PoisonError::into_inner).as_ref().expect("the stage is set"));
}

/// A data key, and the place of a credential under it.
struct Safe {
    key: DataKey,
    workspace: WorkspaceId,
    connection: ConnectionId,
    act: ActId,
}

impl Safe {
    fn new() -> Self {
        let clock = Clock::system();
        let workspace = WorkspaceId::new(&clock);
        let (connection, act) = (ConnectionId::new(&clock), ActId::new(&clock));
        Self { key: DataKey::generate(workspace, &clock), workspace, connection, act }
    }

    fn credential(&self) -> Binding<'static> {
        let place = Place::Credential { connection: self.connection, provider: PROVIDER, field: Field::Access };
        self.binding(place)
    }

    fn answer(&self) -> Binding<'static> {
        self.binding(Place::Answer { act: self.act })
    }

    #[expect(clippy::expect_used, reason = "no part of it is empty")]
    fn binding<'a>(&self, place: Place<'a>) -> Binding<'a> {
        Binding::new(Environment::Local, self.workspace, self.key.id(), place).expect("a binding")
    }
}

#[divan::bench]
fn seal_a_credential(bencher: Bencher<'_, '_>) {
    let safe = Safe::new();
    let binding = safe.credential();
    bencher
        .with_inputs(|| Plain::from(TOKEN.to_owned()))
        .bench_values(|secret| seal_credential(&safe.key, &binding, secret, &["api.x.com", "x.com"]));
}

#[divan::bench]
#[expect(clippy::expect_used, reason = "what is sealed here opens here")]
fn open_a_credential(bencher: Bencher<'_, '_>) {
    let safe = Safe::new();
    let binding = safe.credential();
    let secret = Plain::from(TOKEN.to_owned());
    let sealed = seal_credential(&safe.key, &binding, secret, &["api.x.com", "x.com"]).expect("sealed");
    bencher.bench(|| open_credential(&safe.key, &binding, black_box(&sealed)).is_ok());
}

#[divan::bench(args = [256, ANSWER])]
fn seal_an_answer(bencher: Bencher<'_, '_>, bytes: usize) {
    let safe = Safe::new();
    let binding = safe.answer();
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| Plain::new(answer(bytes)))
        .bench_values(|plain| seal(&safe.key, &binding, plain));
}

#[divan::bench(args = [256, ANSWER])]
#[expect(clippy::expect_used, reason = "what is sealed here opens here")]
fn open_an_answer(bencher: Bencher<'_, '_>, bytes: usize) {
    let safe = Safe::new();
    let binding = safe.answer();
    let sealed: Sealed = seal(&safe.key, &binding, Plain::new(answer(bytes))).expect("sealed");
    bencher.counter(BytesCount::new(bytes)).bench(|| open(&safe.key, &binding, black_box(&sealed)).is_ok());
}

/// JSON as a platform answers it, so long.
fn answer(bytes: usize) -> Vec<u8> {
    let post = br#"{"id":"1445880548472328192","text":"Hello! Open Settings, then Security. https:\/\/t.co\/xyz"},"#;
    post.iter().copied().cycle().take(bytes).collect()
}

/// What a call is searched with is learnt for each anew.
#[divan::bench(args = [256, ANSWER])]
fn scrub(bencher: Bencher<'_, '_>, bytes: usize) {
    let text = answer(bytes);
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        let mut stream = Scrubber::new([TOKEN.as_bytes()]).stream();
        let clean = stream.push(black_box(&text));
        (clean, stream.finish())
    });
}

/// Both permits of an act.
#[divan::bench]
fn permit(bencher: Bencher<'_, '_>) {
    let clock = Clock::system();
    on_stage(|stage| {
        bencher.bench(|| {
            let perform = authorize::<Perform>(&stage.snapshot.facts, &stage.agent, stage.mandate, &clock);
            let open = authorize::<OpenForAct>(&stage.snapshot.facts, &stage.agent, stage.mandate, &clock);
            (perform.is_ok(), open.is_ok())
        });
    });
}

impl Stage {
    /// An act that takes a post of a budget, under a key of its own.
    #[expect(clippy::expect_used, reason = "the mandate is in force, and the key is one")]
    fn entry(&self) -> Entry {
        let clock = Clock::system();
        let permit: Permit<Perform> =
            authorize(&self.snapshot.facts, &self.agent, self.mandate, &clock).expect("a permit");
        let number = self.acts.fetch_add(1, Ordering::Relaxed);
        let key: IdempotencyKey = format!("micro-{number}").parse().expect("a key");
        Entry {
            permit,
            act: ActId::new(&clock),
            connection: self.connection,
            action: "post.create".to_owned(),
            effect: "send",
            key: Some(key),
            request_hash: [7; 32],
            timeout: Duration::from_secs(10),
            units: vec![(self.budget, 1)],
        }
    }
}

/// So many acts that wait at the same time, until all are durably admitted.
#[divan::bench(args = [1, 64], sample_count = 200, sample_size = 1)]
#[expect(clippy::expect_used, reason = "an act that is not admitted is no measurement")]
fn admit(bencher: Bencher<'_, '_>, acts: usize) {
    on_stage(|stage| {
        let ledger = &stage.local.instance().app().store.ledger;
        bencher.counter(acts).with_inputs(|| (0..acts).map(|_| stage.entry()).collect::<Vec<_>>()).bench_values(
            |entries| {
                let verdicts =
                    stage.runtime.block_on(try_join_all(entries.into_iter().map(|entry| ledger.admit(entry))));
                let verdicts = verdicts.expect("the ledger answers");
                assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Admitted(_))));
            },
        );
    });
}

/// A tenant's transaction that lists one act: the context is signed, verified, and met by the policies.
#[divan::bench(sample_count = 500, sample_size = 1)]
#[expect(clippy::expect_used, reason = "an admin may list acts")]
fn transaction_with_the_signed_context(bencher: Bencher<'_, '_>) {
    let clock = Clock::system();
    on_stage(|stage| {
        let store = &stage.local.instance().app().store;
        bencher.bench(|| {
            stage.runtime.block_on(async {
                let permit: Permit<ReadActs> =
                    authorize(&stage.snapshot.facts, &stage.admin, stage.workspace, &clock).expect("a permit");
                let mut tenant = store.enter(permit).await.expect("a transaction");
                let found = store::act::list(&mut tenant, None, None, 1).await.expect("a list");
                tenant.finish().await.expect("an end");
                found.len()
            })
        });
    });
}

/// The same statements by the tables' owner, for whom no policy looks at a context: what the transaction would cost without one.
#[divan::bench(sample_count = 500, sample_size = 1)]
#[expect(clippy::expect_used, reason = "the owner may list acts")]
fn transaction_without_a_context(bencher: Bencher<'_, '_>) {
    let head = "select epoch, revision from keyholder.heads where kind = 'workspace' and id = $1";
    let list = "select id, principal, mandate_id, connection_id, action, state, status, admitted_at, ended_at \
                from keyholder.acts where workspace_id = $1 order by id desc limit 1";
    on_stage(|stage| {
        bencher.bench(|| {
            stage.runtime.block_on(async {
                let mut transaction = stage.owner.begin().await.expect("a transaction");
                let workspace = stage.workspace.uuid();
                sqlx::query(head).bind(workspace).fetch_one(&mut *transaction).await.expect("a head");
                let found = sqlx::query(list).bind(workspace).fetch_all(&mut *transaction).await.expect("a list");
                transaction.commit().await.expect("an end");
                found.len()
            })
        });
    });
}
