//! Health: what this node has seen of whether a platform, or one account at it, can be called at the moment.
//!
//! Two breakers stand before each act, one of its provider and one of its connection, and beside them what the platform itself has asked
//! for: to be left alone, by one account at one action, until a time. Who is refused here has taken nothing: no unit, no key, no turn.
//!
//! It is this node's own knowledge, kept in memory and learned from its own calls: nodes that share it would also share its errors. Calls
//! of token endpoints are not counted here: each connection's refresh remembers its own failures (`refresh::slot`). Never calls anybody.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{clock::Clock, id::ConnectionId, random};
use egress::{
    RawAnswer, SendError, Stage,
    breaker::{self, Breaker, Place, Report, Rules},
};
use http::StatusCode;

/// The longest that a platform's wish to be left alone is granted: what is wrong about a header must not close an action for days.
const ASKED_MOST: Duration = Duration::from_mins(15);
/// The most connections that something is known of. Past it nothing new is learned, and the providers' breakers stand alone.
const MOST_CONNECTIONS: usize = 50_000;
/// How often what nobody uses is forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// When breakers open, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct HealthOptions {
    /// A provider's: failures to reach it, and those of answers, the latter up to where its connection's own breaker opens.
    pub provider: Rules,
    /// A connection's: answers that say that the platform failed, or none in time.
    pub connection: Rules,
}

impl Default for HealthOptions {
    /// Ten failures in a row open a provider's, five a connection's, for 2 s at first and a minute at most.
    fn default() -> Self {
        let connection = Rules {
            failures: 5,
            memory: Duration::from_mins(10),
            first: Duration::from_secs(2),
            most: Duration::from_mins(1),
            asked_most: ASKED_MOST,
        };
        // One account's answer may ask for its own silence, and not for everybody's.
        Self { provider: Rules { failures: 10, asked_most: Duration::ZERO, ..connection }, connection }
    }
}

impl HealthOptions {
    /// Breakers that never open: for tests whose platform must go on failing.
    #[must_use]
    pub fn never_opening() -> Self {
        let Self { provider, connection } = Self::default();
        Self { provider: Rules { failures: 0, ..provider }, connection: Rules { failures: 0, ..connection } }
    }
}

/// Why an act is not tried, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftAlone {
    pub(crate) why: Why,
    /// Whole seconds, at least one.
    pub(crate) retry_after_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The provider, or this account at it, fails.
    Failing,
    /// The platform said that this account has done this too often.
    RateLimited,
}

/// What was heard of a platform by one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It answered.
    Well,
    /// It answered that this was too often. It may have said until when.
    TooOften(Option<Duration>),
    /// It answered that it failed, or nothing in time. It may have said until when.
    Failed(Option<Duration>),
    /// It could not be reached.
    Unreachable,
    /// Nothing.
    Nothing,
}

impl Heard {
    /// What an act's call tells of its platform's health. `reset_header` is the header in which the platform tells when a window ends.
    pub(crate) fn from(
        sent: Result<&RawAnswer, &SendError>,
        reset_header: Option<&str>,
        now: time::OffsetDateTime,
    ) -> Self {
        let asked = |answer: &RawAnswer, header| {
            let asked = answer.asks_to_wait(header, now);
            asked.filter(|span| !span.is_zero()).map(|span| span.min(ASKED_MOST))
        };
        match sent {
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => Self::TooOften(asked(answer, reset_header)),
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => Self::Failed(asked(answer, None)),
            Ok(answer) if answer.status.is_server_error() => Self::Failed(None),
            Ok(_) => Self::Well,
            // That a turn did not come, or came too late, is of our own making.
            Err(
                SendError::NotSent { stage: Stage::Turn, .. }
                | SendError::Malformed(_)
                | SendError::HostRefused
                | SendError::DeadlinePassed,
            ) => Self::Nothing,
            Err(SendError::NotSent { .. } | SendError::AddressRefused) => Self::Unreachable,
            Err(SendError::TooLarge { status } | SendError::Encoded { status }) if !status.is_server_error() => {
                Self::Well
            }
            Err(SendError::Ambiguous { .. } | SendError::TooLarge { .. } | SendError::Encoded { .. }) => {
                Self::Failed(None)
            }
        }
    }

    fn of_provider(self, account_is_well: bool) -> Report {
        match self {
            Self::Well | Self::TooOften(_) => Report::Succeeded,
            Self::Unreachable => Report::Failed { asked: None },
            // One account whose every call fails must not take the others with it.
            Self::Failed(asked) if account_is_well => Report::Failed { asked },
            Self::Failed(_) | Self::Nothing => Report::Nothing,
        }
    }

    fn of_account(self) -> Report {
        match self {
            Self::Well | Self::TooOften(Some(_)) => Report::Succeeded,
            Self::TooOften(None) => Report::Failed { asked: None },
            Self::Failed(asked) => Report::Failed { asked },
            Self::Unreachable | Self::Nothing => Report::Nothing,
        }
    }

    /// For how long this account leaves this action alone, and why.
    fn rest(self) -> Option<(Duration, Why)> {
        match self {
            Self::TooOften(Some(span)) => Some((span, Why::RateLimited)),
            Self::Failed(Some(span)) => Some((span, Why::Failing)),
            _ => None,
        }
    }
}

/// What is known of one connection. There is an entry only where something is.
struct Account {
    provider: String,
    breaker: Breaker,
    /// The actions that are left alone, until when since boot, and why. An action's file bounds how many there are.
    rests: Vec<(String, Duration, Why)>,
}

impl Account {
    fn is_idle(&self, now: Duration, rules: &Rules) -> bool {
        self.breaker.is_idle(now, rules) && self.rests.iter().all(|(_, until, _)| *until <= now)
    }
}

#[derive(Default)]
struct Known {
    providers: HashMap<String, Breaker>,
    accounts: HashMap<ConnectionId, Account>,
    forgot: Duration,
}

/// The health of all platforms, as this node knows it.
pub(crate) struct Health {
    options: HealthOptions,
    clock: Clock,
    known: Mutex<Known>,
}

/// A breaker that went from one place to another: told once nothing is locked any more.
struct Moved {
    level: &'static str,
    connection: Option<ConnectionId>,
    from: Place,
    to: Place,
}

impl Health {
    pub(crate) fn new(options: HealthOptions, clock: Clock) -> Self {
        Self { options, clock, known: Mutex::default() }
    }

    /// The control that a platform which fails, or asks for it, is left alone: the leave for one act, or why there is none.
    pub(crate) fn enter<'a>(
        &'a self,
        provider: &'a str,
        connection: ConnectionId,
        action: &str,
    ) -> Result<Leave<'a>, LeftAlone> {
        let now = self.clock.since_boot();
        let mut moved = Vec::new();
        let entered = {
            let mut known = self.lock();
            if now.saturating_sub(known.forgot) > FORGET_EVERY {
                known.forget(now, &self.options.connection);
            }
            known.enter((provider, connection, action), now, &self.options, &mut moved)
        };
        tell(provider, &moved);
        let (of_provider, of_account) = entered.map_err(|(left, level)| {
            count_refusal(provider, level, left.why);
            left
        })?;
        Ok(Leave { health: self, provider, connection, of_provider, of_account, open: true })
    }

    fn heard(&self, leave: &Leave<'_>, action: &str, heard: Heard) {
        let now = self.clock.since_boot();
        let is_good = matches!(heard, Heard::Well | Heard::Nothing);
        let chance = if is_good { 0 } else { u32::from_le_bytes(random::bytes()) };
        let mut moved = Vec::new();
        self.lock().heard((leave, action, heard), (now, chance), &self.options, &mut moved);
        tell(leave.provider, &moved);
        if let Some((span, Why::RateLimited)) = heard.rest() {
            let (connection, wait_s) = (leave.connection, span.as_secs());
            tracing::info!(provider = leave.provider, %connection, action, wait_s, "a platform wants to be left alone");
            metrics::counter!("keyholder_provider_rate_limits_total", "provider" => leave.provider.to_owned())
                .increment(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn enter(
        &mut self,
        (provider, connection, action): (&str, ConnectionId, &str),
        now: Duration,
        options: &HealthOptions,
        moved: &mut Vec<Moved>,
    ) -> Result<(breaker::Leave, breaker::Leave), (LeftAlone, &'static str)> {
        let refused = |why, wait, level| (LeftAlone { why, retry_after_s: whole_seconds(wait) }, level);
        let mut account = self.accounts.get_mut(&connection);
        let rest = account.iter().flat_map(|account| &account.rests);
        if let Some((_, until, why)) = rest.into_iter().find(|(of, until, _)| of == action && *until > now) {
            return Err(refused(*why, until.saturating_sub(now), "action"));
        }
        let mut fresh = Breaker::default();
        let of_provider = match self.providers.get_mut(provider) {
            Some(breaker) => watched(breaker, ("provider", None), moved, |breaker| breaker.enter(now)),
            None => fresh.enter(now),
        };
        let of_provider = of_provider.map_err(|wait| refused(Why::Failing, wait, "provider"))?;
        let of_account = match account.as_mut() {
            Some(account) => {
                watched(&mut account.breaker, ("connection", Some(connection)), moved, |breaker| breaker.enter(now))
            }
            None => fresh.enter(now),
        };
        let of_account = of_account.map_err(|wait| {
            if let Some(breaker) = self.providers.get_mut(provider) {
                let back = |breaker: &mut Breaker| {
                    breaker.report(of_provider, Report::Nothing, now, 0, &options.provider);
                };
                watched(breaker, ("provider", None), moved, back);
            }
            refused(Why::Failing, wait, "connection")
        })?;
        Ok((of_provider, of_account))
    }

    fn heard(
        &mut self,
        (leave, action, heard): (&Leave<'_>, &str, Heard),
        (now, chance): (Duration, u32),
        options: &HealthOptions,
        moved: &mut Vec<Moved>,
    ) {
        let account_is_well = !leave.of_account.is_probe()
            && self.accounts.get(&leave.connection).is_none_or(|account| account.breaker.place() == Place::Closed);
        let of_provider = heard.of_provider(account_is_well);
        if matches!(of_provider, Report::Failed { .. }) && !self.providers.contains_key(leave.provider) {
            self.providers.insert(leave.provider.to_owned(), Breaker::default());
        }
        if let Some(breaker) = self.providers.get_mut(leave.provider) {
            let report = |breaker: &mut Breaker| {
                breaker.report(leave.of_provider, of_provider, now, chance, &options.provider);
            };
            watched(breaker, ("provider", None), moved, report);
        }

        let (of_account, rest) = (heard.of_account(), heard.rest());
        let is_news = matches!(of_account, Report::Failed { .. }) || rest.is_some();
        if is_news && !self.accounts.contains_key(&leave.connection) && self.accounts.len() < MOST_CONNECTIONS {
            let provider = leave.provider.to_owned();
            let account = Account { provider, breaker: Breaker::default(), rests: Vec::new() };
            self.accounts.insert(leave.connection, account);
        }
        let Some(account) = self.accounts.get_mut(&leave.connection) else { return };
        let report = |breaker: &mut Breaker| {
            breaker.report(leave.of_account, of_account, now, chance, &options.connection);
        };
        watched(&mut account.breaker, ("connection", Some(leave.connection)), moved, report);
        if let Some((span, why)) = rest {
            account.rests.retain(|(of, until, _)| of != action && *until > now);
            account.rests.push((action.to_owned(), now + span, why));
        }
        if account.is_idle(now, &options.connection) {
            self.accounts.remove(&leave.connection);
        }
    }

    fn forget(&mut self, now: Duration, rules: &Rules) {
        self.forgot = now;
        self.accounts.retain(|_, account| {
            let idle = account.is_idle(now, rules);
            if idle && account.breaker.place() != Place::Closed {
                open_breakers(&account.provider, "connection").decrement(1.0);
            }
            !idle
        });
    }
}

/// Does something to a breaker, and notes where it went.
fn watched<T>(
    breaker: &mut Breaker,
    (level, connection): (&'static str, Option<ConnectionId>),
    moved: &mut Vec<Moved>,
    with: impl FnOnce(&mut Breaker) -> T,
) -> T {
    let from = breaker.place();
    let done = with(breaker);
    let to = breaker.place();
    if from != to {
        moved.push(Moved { level, connection, from, to });
    }
    done
}

/// Tells operators of each transition, once.
fn tell(provider: &str, moved: &[Moved]) {
    for Moved { level, connection, from, to } in moved {
        let connection = connection.map(|connection| connection.to_string());
        let (from, place) = (*from, to.as_str());
        match to {
            Place::Open => {
                tracing::warn!(provider, level, connection, "a breaker is open: acts are refused for a while");
            }
            Place::HalfOpen => tracing::info!(provider, level, connection, "a breaker is half open: one act is tried"),
            Place::Closed => tracing::info!(provider, level, connection, "a breaker is closed again"),
        }
        let provider_label = provider.to_owned();
        metrics::counter!("keyholder_breaker_transitions_total", "provider" => provider_label, "level" => *level, "to" => place)
            .increment(1);
        match (from, to) {
            (Place::Closed, _) => open_breakers(provider, level).increment(1.0),
            (_, Place::Closed) => open_breakers(provider, level).decrement(1.0),
            _ => {}
        }
    }
}

fn open_breakers(provider: &str, level: &'static str) -> metrics::Gauge {
    metrics::gauge!("keyholder_breaker_open", "provider" => provider.to_owned(), "level" => level)
}

fn count_refusal(provider: &str, level: &'static str, why: Why) {
    let provider = provider.to_owned();
    match why {
        Why::Failing => {
            metrics::counter!("keyholder_breaker_refused_total", "provider" => provider, "level" => level).increment(1);
        }
        Why::RateLimited => {
            metrics::counter!("keyholder_provider_rate_limited_acts_total", "provider" => provider).increment(1);
        }
    }
}

/// Whole seconds, at least one: who comes back earlier is refused again.
fn whole_seconds(span: Duration) -> u64 {
    (span.as_secs() + u64::from(span.subsec_nanos() > 0)).max(1)
}

/// The leave for one act. If it is dropped without a word, nothing was learned, and a probe's slot is given back.
pub(crate) struct Leave<'a> {
    health: &'a Health,
    provider: &'a str,
    connection: ConnectionId,
    of_provider: breaker::Leave,
    of_account: breaker::Leave,
    open: bool,
}

impl Leave<'_> {
    /// Says what was heard of the platform when this action was tried.
    pub(crate) fn tell(mut self, action: &str, heard: Heard) {
        self.open = false;
        self.health.heard(&self, action, heard);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.open {
            self.health.heard(self, "", Heard::Nothing);
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
