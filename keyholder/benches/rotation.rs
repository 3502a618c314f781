//! What a rotation over many credentials costs the acts that run beside it, measured in one run on real parts.
//!
//! `cargo bench --workspace --bench rotation -- --json`: seeds credentials by sealing them as the product does, has 16 callers act without
//! a pause, and counts their acts in rounds with and without a rotation of the data keys at work, in the order A B B A, so that what
//! drifts meets both alike. Prints one line. `--credentials N`, `--seconds N` a round, `--rounds N` pairs of rounds.

mod grounds;

use std::{
    error::Error,
    io::Write,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use domain::{
    clock::Clock,
    environment::Environment,
    id::{AccountId, ConnectionId, DataKeyId, Id, WorkspaceId},
    principal::Principal,
};
use futures_util::future::try_join_all;
use keyholder::{
    Instance,
    caller::Caller,
    cluster::{Binaries, ClusterOptions, Download},
    home::{Home, INSTALLATION},
    local::{self, PROVIDER, Place},
};
use sandbox::{Sandbox, SandboxOptions};
use seal::{Binding, EpochId, Field, Keyring, Plain, RootKey, WrappedDataKey, seal_credential};
use serde_json::json;
use service::{
    LimitOptions,
    rotation::{self, Order},
};
use sqlx::{Connection, PgConnection, types::Uuid};
use store::rotation::Kind;
use zeroize::Zeroizing;

use grounds::{Outcome, postgres_bin, said, search_path};

/// The callers that act at the same time.
const CALLERS: usize = 16;
/// The connections of one workspace.
const A_WORKSPACE: usize = 1000;
/// The rows of one statement that seeds.
const CHUNK: usize = 500;

struct Wishes {
    credentials: usize,
    seconds: u64,
    pairs: usize,
    json: bool,
}

impl Wishes {
    fn read() -> Outcome<Self> {
        let mut wishes = Self { credentials: 100_000, seconds: 5, pairs: 14, json: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Outcome<usize> { Ok(words.next().ok_or("a number is missing")?.parse()?) };
            match word.as_str() {
                "--credentials" => wishes.credentials = number()?,
                "--seconds" => wishes.seconds = u64::try_from(number()?)?,
                "--rounds" => wishes.pairs = number()?.max(1),
                "--json" => wishes.json = true,
                // What cargo itself hands to a bench.
                "--bench" => {}
                other => return Err(format!("{other} is none of --credentials, --seconds, --rounds, --json").into()),
            }
        }
        Ok(wishes)
    }
}

fn main() -> Outcome<()> {
    let _set_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let wishes = Wishes::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&wishes))
}

/// Everything that takes part.
struct Stage {
    home: Home,
    sandbox: Sandbox,
    instance: Instance,
    clock: Clock,
}

async fn measure(wishes: &Wishes) -> Outcome<()> {
    let stage = Stage::set().await?;
    let (agent, mandate) = stage.entrust().await?;
    note(&format!("seeding {} credentials", wishes.credentials));
    stage.seed(wishes.credentials).await?;

    let length = Duration::from_secs(wishes.seconds);
    let acted = AtomicU64::new(0);
    // Once unmeasured: plans, pools and caches come to be.
    stage.round(&agent, &mandate, &acted, length.min(Duration::from_secs(3))).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut rotated = 0;
    for pair in 0..wishes.pairs {
        for rotating in [pair % 2 == 1, pair % 2 == 0] {
            let before = stage.rotate(rotating).await?;
            let rate = stage.round(&agent, &mandate, &acted, length).await?;
            let renewed = stage.renewed().await? - before;
            note(&format!("{} rotation: {rate:.1} acts/s", if rotating { "with" } else { "without" }));
            if rotating {
                with.push(rate);
                rotated += renewed;
            } else {
                without.push(rate);
            }
        }
    }
    // Two pairs are one measurement, in the order A B B A: what drifts meets both alike, and one disturbed moment spoils one of them.
    let costs: Vec<_> =
        without.chunks(2).zip(with.chunks(2)).map(|(alone, beside)| 1.0 - mean(beside) / mean(alone)).collect();
    let seconds = length.as_secs_f64() * number(wishes.pairs as u64);
    let renewed_per_s = number(u64::try_from(rotated)?) / seconds;
    let line = json!({
        "credentials": wishes.credentials,
        "callers": CALLERS,
        "seconds_a_round": wishes.seconds,
        "acts_per_s_without": without,
        "acts_per_s_with": with,
        "cost": median(&costs),
        "costs": costs,
        "values_renewed": rotated,
        "values_renewed_per_s": renewed_per_s,
        "minutes_for_all": number(2 * wishes.credentials as u64) / renewed_per_s / 60.0,
    });
    let mut out = std::io::stdout().lock();
    if wishes.json {
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{}", serde_json::to_string_pretty(&line)?)?;
    }
    drop(out);
    stage.strike().await
}

impl Stage {
    async fn set() -> Outcome<Self> {
        let clock = Clock::system();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let cluster = ClusterOptions {
            download: Download::Allowed,
            search_path: search_path(),
            binaries: Binaries::from_setting(postgres_bin().as_deref()),
            ..ClusterOptions::new(PathBuf::from(env!("CARGO_BIN_EXE_keyholder")), cache)
        };
        let home = Home::open(None, cluster, &clock).await?;
        let sandbox = Sandbox::start(SandboxOptions::default()).await?;
        sandbox.platform().set_rate_limit(u32::MAX);
        let secret = Zeroizing::new(domain::random::token());
        let place = Place { database: INSTALLATION, port: 0 };
        let mut options = place.options(home.keys(), Some(local::route(&sandbox)), &secret)?;
        let most = NonZeroU32::MAX;
        options.limits = LimitOptions {
            network_per_minute: most,
            principal_per_minute: most,
            failures_per_minute: most,
            links_per_minute: most,
        };
        let instance = Instance::start(options).await?;
        local::register(&sandbox, &instance, &secret)?;
        Ok(Self { home, sandbox, instance, clock })
    }

    /// A connection, and an agent with a mandate on it.
    async fn entrust(&self) -> Outcome<(Caller, String)> {
        let first = local::create_workspace(self.instance.app(), "Acme").await?;
        let platform = self.sandbox.platform();
        let entrusted = grounds::entrust(platform, self.instance.url(), &first.text, &["post.create"]).await?;
        Ok((Caller::new(self.instance.url(), None).with_key(&entrusted.key), entrusted.mandate))
    }

    /// Connections whose credentials are sealed as the product seals them, put in by the database's owner.
    async fn seed(&self, credentials: usize) -> Outcome<()> {
        let root = RootKey::from_text(self.home.keys().root_key())?;
        let keyring = Keyring::open(self.home.keys().keyring(), &root, Environment::Local)?;
        let mut owner = PgConnection::connect(&self.home.owner_url(INSTALLATION)).await?;
        sqlx::query("set search_path = keyholder").execute(&mut owner).await?;
        sqlx::query("set session_replication_role = replica").execute(&mut owner).await?;
        let account = AccountId::new(&self.clock).uuid();
        sqlx::query("insert into accounts (account_id, provider, subject, created_at) values ($1, $2, 'seed', now())")
            .bind(account)
            .bind(PROVIDER)
            .execute(&mut owner)
            .await?;
        let operator = Principal::operator("bench", self.clock.now());
        let mut left = credentials;
        while left > 0 {
            let workspace = service::workspace::create(self.instance.app(), &operator, "Seeded").await?;
            let wrapped: (Uuid, i64, Vec<u8>) =
                sqlx::query_as("select id, epoch, wrapped from data_keys where workspace_id = $1")
                    .bind(workspace.uuid())
                    .fetch_one(&mut owner)
                    .await?;
            let key = DataKeyId::from_uuid(wrapped.0);
            let wrapped = WrappedDataKey { epoch: EpochId::from_i64(wrapped.1), bytes: wrapped.2 };
            let key = wrapped.unwrap(&keyring, workspace, key)?;
            let here = left.min(A_WORKSPACE);
            let mut done = 0;
            while done < here {
                let number = (here - done).min(CHUNK);
                put(&mut owner, workspace, account, &key, number, &self.clock).await?;
                done += number;
            }
            left -= here;
        }
        sqlx::query("analyze").execute(&mut owner).await?;
        owner.close().await?;
        Ok(())
    }

    /// All callers act until the round is over: acts a second.
    async fn round(&self, agent: &Caller, mandate: &str, acted: &AtomicU64, length: Duration) -> Outcome<f64> {
        let began = self.clock.since_boot();
        let end = began + length;
        let callers = (0..CALLERS).map(|_| async {
            let mut acts = 0_u64;
            while self.clock.since_boot() < end {
                let name = format!("bench-{}", acted.fetch_add(1, Ordering::Relaxed));
                said(agent.act(mandate, "post.create", &json!({ "text": name }), Some(&name)).await?)?;
                acts += 1;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(acts)
        });
        let acts: u64 = try_join_all(callers).await?.into_iter().sum();
        Ok(number(acts) / self.clock.since_boot().saturating_sub(began).as_secs_f64())
    }

    /// Has the rotation work, or not: how many values it had renewed by then.
    async fn rotate(&self, work: bool) -> Outcome<i64> {
        let app = self.instance.app();
        let root = RootKey::from_text(self.home.keys().root_key())?;
        let keyring = Keyring::open(self.home.keys().keyring(), &root, Environment::Local)?;
        let order = |order| rotation::order(&app.store, &keyring, Kind::DataKeys, order);
        if !work {
            // Nothing to be stopped is as good.
            let _none = order(Order::Stop).await;
            return self.renewed().await;
        }
        if order(Order::Resume).await.is_err() {
            order(Order::Start).await?;
        }
        let before = self.renewed().await?;
        while self.renewed().await? == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let standing = rotation::standing(&app.store).await?;
            if standing.iter().any(|standing| standing.phase == "retire" || standing.state == "done") {
                note("the rotation has come to the end of its first phase: take more credentials");
                break;
            }
        }
        self.renewed().await
    }

    async fn renewed(&self) -> Outcome<i64> {
        Ok(rotation::standing(&self.instance.app().store).await?.iter().map(|standing| standing.done.renewed).sum())
    }

    async fn strike(self) -> Outcome<()> {
        self.instance.stop().await;
        self.sandbox.shutdown().await;
        self.home.close().await?;
        Ok(())
    }
}

async fn put(
    owner: &mut PgConnection,
    workspace: WorkspaceId,
    account: Uuid,
    key: &seal::DataKey,
    number: usize,
    clock: &Clock,
) -> Outcome<()> {
    let connections: Vec<ConnectionId> = (0..number).map(|_| ConnectionId::new(clock)).collect();
    let ids: Vec<Uuid> = connections.iter().map(|id| id.uuid()).collect();
    sqlx::query(
        "insert into connections (workspace_id, id, provider, provider_digest, account_id, account_name, owner_id, state, scopes, created_at) \
         select $1, x.id, $2, '', x.id::text, 'seed', $3, 'active', '{}', now() from unnest($4::uuid[]) x(id)",
    )
    .bind(workspace.uuid())
    .bind(PROVIDER)
    .bind(account)
    .bind(&ids)
    .execute(&mut *owner)
    .await?;
    for field in [Field::Access, Field::Refresh] {
        let seal = |connection: &ConnectionId| -> Outcome<Vec<u8>> {
            let place = seal::Place::Credential { connection: *connection, provider: PROVIDER, field };
            let binding = Binding::new(Environment::Local, workspace, key.id(), place)?;
            // As long as a platform's tokens are.
            let secret = Plain::from(format!("{}{}", domain::random::token(), domain::random::token()));
            Ok(seal_credential(key, &binding, secret, &["api.x.com"])?.into_bytes())
        };
        let sealed: Vec<Vec<u8>> = connections.iter().map(seal).collect::<Outcome<_>>()?;
        sqlx::query(
            "insert into credentials (workspace_id, connection_id, field, data_key_id, sealed, version) \
             select $1, x.id, $2, $3, x.sealed, 1 from unnest($4::uuid[], $5::bytea[]) x(id, sealed)",
        )
        .bind(workspace.uuid())
        .bind(field.as_str())
        .bind(key.id().uuid())
        .bind(&ids)
        .bind(&sealed)
        .execute(&mut *owner)
        .await?;
    }
    Ok(())
}

fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / number(rates.len() as u64)
}

fn median(costs: &[f64]) -> Option<f64> {
    let mut sorted = costs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
fn number(count: u64) -> f64 {
    count as f64
}

fn note(text: &str) {
    let _hung_up = writeln!(std::io::stderr(), "{text}");
}
