//! What one node knows of one connection's credential, and whose turn it is to refresh it. Never asks anybody.

use std::time::Duration;

use domain::clock::Clock;
use store::credential::{NewCredential, Renewed, ToRefresh};
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::UpstreamFault;

/// A credential is refreshed when it has less than this left to live, or less than a quarter of its life where that is shorter.
const AHEAD: Duration = Duration::from_mins(1);
/// With less than this left, an old token might die on its way.
const SPARE: Duration = Duration::from_secs(5);
/// For how long a first failure is everybody's answer; each further one doubles it.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MOST: Duration = Duration::from_mins(1);
/// The longest that a token endpoint may ask to be left alone.
const RETRY_AFTER_MOST: Duration = Duration::from_mins(10);

/// Until when the stored credential is known to be good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    version: i64,
    after_refusal: bool,
    renewable: bool,
    ahead: Duration,
    expires_at: Option<OffsetDateTime>,
}

impl Fresh {
    pub(super) fn of(held: &ToRefresh) -> Self {
        let expires_at = held.stored.expires_at;
        let life = expires_at.and_then(|end| Duration::try_from(end - held.issued_at).ok()).unwrap_or_default();
        Self {
            version: held.stored.version,
            after_refusal: held.after_refusal,
            renewable: held.stored.refresh.is_some(),
            ahead: AHEAD.min(life / 4),
            expires_at,
        }
    }

    pub(super) fn of_renewed(renewed: &Renewed) -> Self {
        let NewCredential { refresh, issued_at, expires_at, .. } = &renewed.new;
        let life = expires_at.and_then(|end| Duration::try_from(end - *issued_at).ok()).unwrap_or_default();
        Self {
            version: renewed.version + 1,
            after_refusal: renewed.after_refusal,
            renewable: refresh.is_some(),
            ahead: AHEAD.min(life / 4),
            expires_at: *expires_at,
        }
    }

    fn outlives(&self, now: OffsetDateTime, by: Duration) -> bool {
        self.expires_at.is_none_or(|end| now + by < end)
    }

    /// Nothing need be done about it. What cannot be renewed is good to its last moment.
    fn is_good(&self, now: OffsetDateTime) -> bool {
        self.outlives(now, if self.renewable { self.ahead } else { Duration::ZERO })
    }

    /// An act may still go on with it.
    fn lives(&self, now: OffsetDateTime) -> bool {
        self.outlives(now, SPARE.min(self.ahead))
    }
}

/// What keeps a credential from being refreshed and may pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The provider failed.
    Upstream(UpstreamFault),
    /// The database, or something else of ours.
    Unavailable,
}

/// Until when nobody asks again.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// On the boot-time clock.
    until: Duration,
    /// What everybody is answered whose token does not live; nothing, where another node is at it.
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    fresh: Option<Fresh>,
    rest: Option<Rest>,
    failures: u32,
    refused: Option<i64>,
}

impl Known {
    /// Whether the version must be refreshed because the provider refused it: not, where it was made for that very reason.
    fn is_refused(&self, fresh: &Fresh) -> bool {
        self.refused == Some(fresh.version) && fresh.renewable && !fresh.after_refusal
    }

    fn answer(&self, clock: &Clock) -> Option<Result<(), Fault>> {
        let now = clock.now();
        if self.fresh.is_some_and(|fresh| fresh.is_good(now) && !self.is_refused(&fresh)) {
            return Some(Ok(()));
        }
        let rest = self.rest.filter(|rest| clock.since_boot() < rest.until)?;
        if self.fresh.is_some_and(|fresh| fresh.lives(now)) {
            return Some(Ok(()));
        }
        rest.fault.map(Err)
    }
}

/// One connection's place.
pub(crate) struct Slot {
    known: watch::Sender<Known>,
    turn: Mutex<()>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { known: watch::Sender::new(Known::default()), turn: Mutex::new(()) }
    }
}

/// What a caller gets.
pub(super) enum Turn<'a> {
    /// What is known is enough.
    Answer(Result<(), Fault>),
    /// The caller refreshes, for all who wait.
    Ours(MutexGuard<'a, ()>),
}

impl Slot {
    /// Waits until what is known is enough, or until it is the caller's turn. Who has a token that still lives does not wait for
    /// somebody else's refresh.
    pub(super) async fn turn(&self, clock: &Clock) -> Turn<'_> {
        let mut news = self.known.subscribe();
        let mut waited = None;
        loop {
            let known = *news.borrow_and_update();
            if let Some(answer) = known.answer(clock) {
                return Turn::Answer(answer);
            }
            if let Some(turn) = waited.take().or_else(|| self.turn.try_lock().ok()) {
                return Turn::Ours(turn);
            }
            if known.fresh.is_some_and(|fresh| fresh.lives(clock.now()) && !known.is_refused(&fresh)) {
                return Turn::Answer(Ok(()));
            }
            tokio::select! {
                turn = self.turn.lock() => waited = Some(turn),
                // The sender is this slot's own: it does not close.
                _ = news.changed() => {}
            }
        }
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.try_lock().ok()
    }

    /// Notes what is stored. Whether nothing need be done about it.
    pub(super) fn learn(&self, fresh: Fresh, now: OffsetDateTime) -> bool {
        let mut good = false;
        self.known.send_modify(|known| {
            good = fresh.is_good(now) && !known.is_refused(&fresh);
            known.fresh = Some(fresh);
            if good {
                (known.rest, known.failures) = (None, 0);
            }
        });
        good
    }

    /// Whether an act may go on with the token that is known, though it ought to be refreshed.
    pub(super) fn lives(&self, now: OffsetDateTime) -> bool {
        self.known.borrow().fresh.is_some_and(|fresh| fresh.lives(now))
    }

    /// The provider refused this version.
    pub(super) fn refused(&self, version: i64) {
        self.known.send_modify(|known| known.refused = known.refused.max(Some(version)));
    }

    /// Whether this version is to be refreshed because the provider refused it.
    pub(super) fn was_refused(&self, version: i64) -> bool {
        self.known.borrow().refused == Some(version)
    }

    /// Another node is at it: nobody here asks for a moment.
    pub(super) fn rest(&self, clock: &Clock) {
        let until = clock.since_boot() + BACKOFF;
        self.known.send_modify(|known| known.rest = Some(Rest { until, fault: None }));
    }

    /// Nobody asks again for a while, as long as the provider said or else longer each time. What is remembered already stands.
    pub(super) fn failed(&self, clock: &Clock, fault: Fault, retry_after: Option<Duration>) {
        let now = clock.since_boot();
        self.known.send_modify(|known| {
            if known.rest.is_some_and(|rest| rest.fault.is_some() && now < rest.until) {
                return;
            }
            let backoff = BACKOFF.saturating_mul(1 << known.failures.min(6)).min(BACKOFF_MOST);
            let span = match fault {
                Fault::Upstream(_) => retry_after.map_or(backoff, |said| said.clamp(BACKOFF, RETRY_AFTER_MOST)),
                Fault::Unavailable => BACKOFF,
            };
            if matches!(fault, Fault::Upstream(_)) {
                known.failures = known.failures.saturating_add(1);
            }
            known.rest = Some(Rest { until: now + span, fault: Some(fault) });
        });
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    fn fresh(life_s: u32, left_s: u32) -> Fresh {
        Fresh {
            version: 1,
            after_refusal: false,
            renewable: true,
            ahead: AHEAD.min(Duration::from_secs(life_s.into()) / 4),
            expires_at: Some(NOW + Duration::from_secs(left_s.into())),
        }
    }

    #[test]
    fn a_token_is_refreshed_a_minute_or_a_quarter_of_its_life_ahead() {
        let table = [
            // life, left, good, lives
            (7200, 61, true, true),
            (7200, 60, false, true),
            (7200, 5, false, false),
            (60, 59, true, true),
            (60, 16, true, true),
            (60, 15, false, true),
            (8, 3, true, true),
            (8, 2, false, false),
            (0, 0, false, false),
        ];
        for (life, left, good, lives) in table {
            let fresh = fresh(life, left);
            assert_eq!((fresh.is_good(NOW), fresh.lives(NOW)), (good, lives), "{life} {left}");
        }
        assert!(Fresh { expires_at: None, ..fresh(0, 0) }.is_good(NOW), "it never expires");
        assert!(Fresh { renewable: false, ..fresh(7200, 1) }.is_good(NOW), "nothing is gained by asking");
    }

    #[test]
    fn a_failure_is_the_answer_for_longer_each_time_and_a_success_ends_that() {
        let clock = Clock::set(NOW);
        let slot = Slot::default();
        let fault = Fault::Upstream(UpstreamFault::Invalid);
        let answers = |slot: &Slot| slot.known.borrow().answer(&clock).is_some();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            slot.failed(&clock, fault, None);
            clock.advance(Duration::from_millis(seconds * 1000 - 1));
            assert!(answers(&slot), "{seconds}");
            // Who comes late with the same failure does not lengthen it.
            slot.failed(&clock, fault, None);
            clock.advance(Duration::from_millis(1));
            assert!(!answers(&slot), "{seconds}");
        }
        slot.failed(&clock, fault, Some(Duration::from_hours(9)));
        clock.advance(RETRY_AFTER_MOST);
        assert!(!answers(&slot), "nobody may close a connection for hours");
        let good = Fresh { expires_at: None, ..fresh(0, 0) };
        assert!(slot.learn(good, clock.now()) && answers(&slot));
        assert_eq!(slot.known.borrow().failures, 0);
    }

    #[test]
    fn a_version_is_refreshed_once_because_it_was_refused() {
        let clock = Clock::set(NOW);
        let slot = Slot::default();
        assert!(slot.learn(fresh(7200, 7000), NOW));
        slot.refused(1);
        assert!(slot.known.borrow().answer(&clock).is_none());
        assert!(!slot.learn(fresh(7200, 7000), NOW));
        assert!(slot.learn(Fresh { version: 2, after_refusal: true, ..fresh(7200, 7200) }, NOW));
        slot.refused(2);
        assert!(matches!(slot.known.borrow().answer(&clock), Some(Ok(()))));
        // What cannot be refreshed is not asked for either.
        slot.refused(3);
        assert!(slot.learn(Fresh { version: 3, renewable: false, ..fresh(7200, 7000) }, NOW));
    }
}
