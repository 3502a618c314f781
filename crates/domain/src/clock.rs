//! Time has one home. Everything that needs the hour takes a [`Clock`], so that a test can set it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

/// Where the time comes from: the system, the system with a wrong hour, or a hand that a test moves.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    /// How many seconds the hour is wrong by. The time since the start is right: nothing that sets an hour moves it.
    Wrong(Arc<AtomicI64>),
    Set(Arc<Mutex<(OffsetDateTime, Duration)>>),
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::system",
            Source::Wrong(_) => "Clock::wrong",
            Source::Set(_) => "Clock::set",
        })
    }
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The machine's own clock, whose hour [`Clock::set_wrong_by`] puts wrong, as a bad time server would.
    pub fn wrong() -> Self {
        Self(Source::Wrong(Arc::default()))
    }

    /// Puts the hour wrong by so many seconds, forward or back. Other clocks than [`Clock::wrong`] do not move.
    pub fn set_wrong_by(&self, seconds: i64) {
        if let Source::Wrong(by) = &self.0 {
            by.store(seconds, Ordering::Release);
        }
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn set(now: OffsetDateTime) -> Self {
        Self(Source::Set(Arc::new(Mutex::new((now, Duration::ZERO)))))
    }

    /// Moves a set clock. A system clock does not move.
    pub fn advance(&self, by: Duration) {
        if let Source::Set(hand) = &self.0 {
            let mut hand = hand.lock().unwrap_or_else(PoisonError::into_inner);
            hand.0 += by;
            hand.1 += by;
        }
    }

    /// The time of day, UTC.
    pub fn now(&self) -> OffsetDateTime {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the home of time")]
            Source::System => OffsetDateTime::now_utc(),
            Source::Wrong(by) => {
                let by = time::Duration::seconds(by.load(Ordering::Acquire));
                let now = Self::system().now();
                now.checked_add(by).unwrap_or(now)
            }
            Source::Set(hand) => hand.lock().unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Time since the machine started, suspended time included (`CLOCK_BOOTTIME`): for spans and deadlines, which no change
    /// of the hour, no SIGSTOP and no sleep of the machine may stretch.
    pub fn since_boot(&self) -> Duration {
        match &self.0 {
            Source::System | Source::Wrong(_) => {
                let time = clock_gettime(ClockId::Boottime);
                Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
            }
            Source::Set(hand) => hand.lock().unwrap_or_else(PoisonError::into_inner).1,
        }
    }
}
