//! Logins of a serving process: which ones its pools use, how old they are, and how new ones take over without a request noticing.
//!
//! New connections are made with the new login from one moment on; old ones end as soon as nobody uses them. Never adopts a login
//! that does not get in, or that the gate would refuse.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{clock::Clock, environment::Environment};
use sqlx::{
    PgPool,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::{Notify, watch};

use crate::{
    Lookup, Store, StoreError, Urls,
    error::LOGIN_REFUSED,
    gate::{self, Expectation, Transported},
    migrate::GROUPS,
    pool,
};

/// How often the addresses are read again where nothing else says that they changed.
const REREAD: Duration = Duration::from_secs(10);
/// How long the addresses rest after a refused login had them read again.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// A connection that was being made with the old login when the new one came is there after this long, or not at all.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// How often a process says how old its logins are.
const AGES: Duration = Duration::from_hours(1);
/// The group that may ask which installation a database is of.
const GROUP_OF_LOOKUPS: &str = GROUPS[2];
/// How the comment on a login begins that `migrate` made; the time of its making follows (RFC 3339).
pub(crate) const MADE: &str = "keyholder login made ";

/// Reads the four addresses again. `None` where they cannot be read: whoever reads has said why.
pub type Reread = Arc<dyn Fn() -> Option<Urls> + Send + Sync>;

/// How the logins of a process are kept.
#[derive(Clone)]
pub struct Keeping {
    /// Reads the addresses again.
    pub reread: Reread,
    /// Says that they should be read now.
    pub hint: Arc<Notify>,
    /// The installation's name, with which its roles begin.
    pub installation: String,
    /// The environment that this process serves.
    pub environment: Environment,
    /// The value that this process's root key gives.
    pub root_check: [u8; 32],
    /// After how many days a login is overdue for its rotation.
    pub days: u32,
}

impl Keeping {
    fn expectation(&self) -> Expectation<'_> {
        Expectation { installation: &self.installation, environment: self.environment, root_check: self.root_check }
    }
}

/// One login, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAge {
    /// `app`, `ledger`, `lookup` or `loader`.
    pub group: &'static str,
    /// The login's name.
    pub name: String,
    /// When `migrate` made it; not known of a login that was made by hand.
    pub made_at: Option<OffsetDateTime>,
}

impl LoginAge {
    /// How many whole days old it is.
    pub fn days(&self, now: OffsetDateTime) -> Option<i64> {
        self.made_at.map(|made| (now - made).whole_days())
    }

    /// Whether it is older than it should be. What is not known is not overdue.
    pub fn is_overdue(&self, now: OffsetDateTime, days: u32) -> bool {
        self.days(now).is_some_and(|age| age > i64::from(days)) && !domain::sabotaged!(OverdueLogins)
    }
}

/// What the four pools know of their logins.
#[derive(Clone)]
pub(crate) struct Logins {
    clock: Clock,
    /// Connections made before this, in milliseconds since boot, are another login's.
    turned_ms: Arc<AtomicU64>,
    turned: watch::Sender<()>,
    current: Arc<Mutex<[[u8; 32]; 4]>>,
}

impl Logins {
    pub(crate) fn new(urls: &Urls, clock: Clock) -> Self {
        let current = Arc::new(Mutex::new(digests(urls)));
        Self { clock, turned_ms: Arc::default(), turned: watch::Sender::new(()), current }
    }

    /// Sees to it that a pool's connections end once their login is no longer the pool's.
    pub(crate) fn watch_over(&self, options: PgPoolOptions) -> PgPoolOptions {
        let (before, after) = (self.clone(), self.clone());
        options
            .before_acquire(move |_, known| {
                let stays = before.is_current(&known);
                Box::pin(async move { Ok(stays) })
            })
            .after_release(move |_, known| {
                let stays = after.is_current(&known);
                Box::pin(async move { Ok(stays) })
            })
    }

    /// Tells whoever holds a connection for long that its login has changed.
    pub(crate) fn turns(&self) -> watch::Receiver<()> {
        self.turned.subscribe()
    }

    fn is_current(&self, known: &PoolConnectionMetadata) -> bool {
        let made = self.clock.since_boot().saturating_sub(known.age);
        ms(made) >= self.turned_ms.load(Ordering::Acquire)
    }

    fn turn(&self) {
        self.turned_ms.store(ms(self.clock.since_boot()), Ordering::Release);
        // Nobody may be listening yet, which is no fault.
        self.turned.send_replace(());
    }
}

impl Store {
    /// The four pools, by their groups.
    pub(crate) fn pools(&self) -> [(&'static str, &PgPool); 4] {
        let [app, ledger, lookup, loader] = GROUPS;
        [(app, &self.app), (ledger, self.ledger.pool()), (lookup, &self.lookup.pool), (loader, &self.loader.pool)]
    }

    /// Keeps the process logged in, for as long as it lives: reads the addresses again every ten seconds, when it is told to, and
    /// when a login was refused.
    pub async fn keep_logged_in(self, keeping: Keeping) {
        let mut said = None::<Duration>;
        let mut refused = false;
        let reread = if domain::sabotaged!(LoginsReread) { AGES } else { REREAD };
        loop {
            if refused {
                // While a server turns logins away it does so many times a second.
                tokio::time::sleep(AFTER_REFUSAL).await;
            }
            refused = false;
            if said.is_none_or(|said| self.clock.since_boot() >= said + AGES) {
                said = Some(self.clock.since_boot());
                self.tell_ages(keeping.days).await;
            }
            tokio::select! {
                () = tokio::time::sleep(reread) => {}
                () = keeping.hint.notified() => tracing::info!("the addresses of the database are read again"),
                () = LOGIN_REFUSED.notified() => {
                    refused = true;
                    tracing::warn!("a login was refused; the addresses of the database are read again");
                }
            }
            let Some(urls) = (keeping.reread)() else { continue };
            if digests(&urls) == *self.logins.current.lock().unwrap_or_else(PoisonError::into_inner) {
                continue;
            }
            let outcome = match self.log_in_anew(&urls, &keeping.expectation()).await {
                Ok(faults) if faults.is_empty() => {
                    tracing::info!("new database logins are in use");
                    said = None;
                    "adopted"
                }
                Ok(faults) => {
                    tracing::error!(
                        faults = faults.join("; "),
                        "new database logins are refused; the former ones stay in use"
                    );
                    "refused"
                }
                Err(error) => {
                    tracing::error!(%error, cause = ?std::error::Error::source(&error).map(ToString::to_string),
                        "new database logins do not get in; the former ones stay in use");
                    "unreachable"
                }
            };
            metrics::counter!("keyholder_login_changes_total", "outcome" => outcome).increment(1);
        }
    }

    /// Takes new logins into use, after each has got in and has passed the gate, and all of them have led to this installation's
    /// database. Returns what the gate has against them; then nothing has changed.
    ///
    /// # Errors
    /// Where one does not get in; then nothing has changed.
    pub async fn log_in_anew(&self, urls: &Urls, expected: &Expectation<'_>) -> Result<Vec<String>, StoreError> {
        let addresses = [&urls.app, &urls.ledger, &urls.lookup, &urls.loader];
        let mut faults = Vec::new();
        let mut led_to = None;
        for (group, address) in GROUPS.into_iter().zip(addresses) {
            let trial = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(5));
            let trial = trial.connect_lazy_with(pool::with_limits(address.0.clone()));
            let checked = check_trial(&trial, expected, group, &mut faults).await;
            trial.close().await;
            let Some(database) = checked? else { continue };
            if *led_to.get_or_insert_with(|| database.clone()) != database {
                faults.push(format!("the {group} login leads to another database than the logins before it"));
            }
        }
        if !faults.is_empty() {
            return Ok(faults);
        }
        if domain::sabotaged!(LoginRotation) {
            return Ok(faults);
        }
        for ((_, pool), address) in self.pools().into_iter().zip(addresses) {
            let options: PgConnectOptions = pool::with_limits(address.0.clone());
            pool.set_connect_options(options);
        }
        *self.logins.current.lock().unwrap_or_else(PoisonError::into_inner) = digests(urls);
        self.end_former().await;
        // Those that were being made when the change came, and were counted as new.
        tokio::time::sleep(STRAGGLERS).await;
        self.end_former().await;
        Ok(faults)
    }

    /// Ends the connections of former logins: those at rest now, those in use when they come back.
    async fn end_former(&self) {
        self.logins.turn();
        for (_, pool) in self.pools() {
            for _ in 0..pool.num_idle() {
                let Some(resting) = pool.try_acquire() else { break };
                // One that cannot say goodbye is gone all the same.
                let _gone = resting.close().await;
            }
        }
    }

    /// The logins in use, and when each was made.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn login_ages(&self) -> Result<Vec<LoginAge>, StoreError> {
        let mut ages = Vec::new();
        for (group, pool) in self.pools() {
            let row = sqlx::query!(
                "select r.rolname::text as \"name!\", shobj_description(r.oid, 'pg_authid') as made from pg_roles r where r.rolname = current_user"
            )
            .fetch_one(pool)
            .await?;
            ages.push(LoginAge { group, name: row.name, made_at: row.made.as_deref().and_then(made_at) });
        }
        Ok(ages)
    }

    async fn tell_ages(&self, days: u32) {
        let now = self.clock.now();
        let Ok(ages) = self.login_ages().await else { return };
        for login in ages {
            if let Some(age) = login.days(now) {
                metrics::gauge!("keyholder_login_age_days", "group" => login.group)
                    .set(i32::try_from(age).unwrap_or(i32::MAX));
            }
            if login.is_overdue(now, days) {
                tracing::warn!(login = login.name, days, "a database login is overdue for its rotation");
            }
        }
    }
}

/// Which database of which server a login leads to.
type Database = (String, OffsetDateTime);

/// Whether a new login is one of its group, and leads to a database that would pass at the start. `None` where it was not sent to whoever
/// answered.
async fn check_trial(
    trial: &PgPool,
    expected: &Expectation<'_>,
    group: &str,
    faults: &mut Vec<String>,
) -> Result<Option<Database>, StoreError> {
    let transport = gate::check_transport(trial, group).await?;
    let sent = !matches!(transport, Transported::NotAtAll(_));
    faults.extend(transport.fault());
    if !sent {
        return Ok(None);
    }
    gate::check_role(trial, expected.installation, group, faults).await?;
    gate::check_server(trial, faults).await?;
    if group == GROUP_OF_LOOKUPS {
        gate::check_installation(&Lookup { pool: trial.clone() }, expected, faults).await?;
    }
    let row = sqlx::query!("select current_database()::text as \"name!\", pg_postmaster_start_time() as \"started!\"")
        .fetch_one(trial)
        .await?;
    Ok(Some((row.name, row.started)))
}

/// The time in the comment that `migrate` put on a login.
fn made_at(comment: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(comment.strip_prefix(MADE)?, &Rfc3339).ok()
}

fn digests(urls: &Urls) -> [[u8; 32]; 4] {
    [urls.app.1, urls.ledger.1, urls.lookup.1, urls.loader.1]
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_login_is_overdue_past_its_last_day_and_one_of_unknown_age_is_not() {
        let now = datetime!(2026-04-01 12:00 UTC);
        let made = |comment: &str| LoginAge { group: "app", name: "kh_app_1".to_owned(), made_at: made_at(comment) };
        let table = [
            ("keyholder login made 2026-01-01T12:00:00Z", Some(90), false),
            ("keyholder login made 2026-01-01T11:59:59Z", Some(90), false),
            ("keyholder login made 2025-12-31T12:00:00Z", Some(91), true),
            ("made by hand", None, false),
        ];
        for (comment, age, overdue) in table {
            let login = made(comment);
            assert_eq!((login.days(now), login.is_overdue(now, 90)), (age, overdue), "{comment}");
        }
    }
}
