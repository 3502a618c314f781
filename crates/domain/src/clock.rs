//! Time has one home. Everything that needs the hour takes a [`Clock`], so that a test can set it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

/// Where the time comes from: the system, or a hand that a test moves.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Set(Arc<Mutex<(OffsetDateTime, Duration)>>),
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::system",
            Source::Set(_) => "Clock::set",
        })
    }
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Source::System)
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
            Source::Set(hand) => hand.lock().unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Time since the machine started, suspended time included (`CLOCK_BOOTTIME`): for spans and deadlines, which no change
    /// of the hour, no SIGSTOP and no sleep of the machine may stretch.
    pub fn since_boot(&self) -> Duration {
        match &self.0 {
            Source::System => {
                let time = clock_gettime(ClockId::Boottime);
                Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
            }
            Source::Set(hand) => hand.lock().unwrap_or_else(PoisonError::into_inner).1,
        }
    }
}
