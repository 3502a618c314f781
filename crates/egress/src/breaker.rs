//! Breakers: when to leave a peer alone that fails again and again, and how to find out that it is well again.
//!
//! One [`Breaker`] is a pure state machine. It is handed the time and chance, counts what is reported to it, and knows nothing of
//! calls. Never opens a socket, waits, or reads a clock.
//!
//! Closed, it lets all calls through; a run of failures without a success between opens it. Open, it refuses for a while that doubles
//! with each time up to a bound. After that it is half open: one call goes through as its probe, the others are refused at once; the
//! probe's success closes it, its failure opens it again.

use std::time::Duration;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So many failures in a row open it; 0 never does.
    pub failures: u32,
    /// Failures further apart than this are no run.
    pub memory: Duration,
    /// For how long it refuses the first time; each further time doubles that.
    pub first: Duration,
    /// The longest that it refuses by itself.
    pub most: Duration,
    /// The longest that it refuses because the peer has asked for it.
    pub asked_most: Duration,
}

/// One peer's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// Counts the openings and closings: what was let through before one of them says nothing about what came after.
    era: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
        last: Duration,
    },
    Open {
        until: Duration,
        /// How often it has opened since it was last closed.
        times: u32,
    },
    /// The probe is on its way.
    HalfOpen {
        times: u32,
    },
}

/// The leave to make one call. Whoever has it must say what came of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    era: u32,
    probe: bool,
}

impl Leave {
    /// Whether the call decides alone what becomes of the breaker.
    pub fn is_probe(self) -> bool {
        self.probe
    }
}

/// Where a breaker has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open,
    /// One call goes through.
    HalfOpen,
}

impl Place {
    /// The word in metrics and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The peer is well.
    Succeeded,
    /// The peer failed. It may have asked to be left alone for so long.
    Failed {
        /// What it asked for.
        asked: Option<Duration>,
    },
    /// Nothing was learned of the peer.
    Nothing,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0, last: Duration::ZERO }, era: 0 }
    }
}

impl Breaker {
    /// Lets a call through, or tells how long it is until another is let through.
    ///
    /// # Errors
    /// The span; zero where a probe is on its way and nobody knows how long it takes.
    pub fn enter(&mut self, now: Duration) -> Result<Leave, Duration> {
        match self.state {
            State::Closed { .. } => Ok(Leave { era: self.era, probe: false }),
            State::Open { until, .. } if now < until => Err(until.saturating_sub(now)),
            State::Open { times, .. } => {
                self.state = State::HalfOpen { times };
                Ok(Leave { era: self.era, probe: true })
            }
            State::HalfOpen { .. } => Err(Duration::ZERO),
        }
    }

    /// Takes note of what a call came to. `chance` is any number: it spreads the ends of what opened at the same time.
    pub fn report(&mut self, leave: Leave, report: Report, now: Duration, chance: u32, rules: &Rules) {
        if leave.era != self.era {
            return;
        }
        self.state = match (self.state, report) {
            (State::Closed { .. }, Report::Succeeded) => State::Closed { failures: 0, last: now },
            (State::Closed { failures, last }, Report::Failed { asked }) => {
                let run = if now.saturating_sub(last) > rules.memory { 0 } else { failures };
                let failures = run.saturating_add(1);
                if rules.failures > 0 && failures >= rules.failures {
                    self.open(1, asked, now, chance, rules)
                } else {
                    State::Closed { failures, last: now }
                }
            }
            (State::HalfOpen { .. }, Report::Succeeded) => {
                self.era = self.era.wrapping_add(1);
                State::Closed { failures: 0, last: now }
            }
            (State::HalfOpen { times }, Report::Failed { asked }) => {
                self.open(times.saturating_add(1), asked, now, chance, rules)
            }
            // The next call is the probe.
            (State::HalfOpen { times }, Report::Nothing) => State::Open { until: now, times },
            (state, _) => state,
        };
    }

    /// Half of the span is certain and half is chance, so that nodes and connections that failed together do not come back together.
    fn open(&mut self, times: u32, asked: Option<Duration>, now: Duration, chance: u32, rules: &Rules) -> State {
        self.era = self.era.wrapping_add(1);
        let doubled = 1_u32.checked_shl(times - 1).unwrap_or(u32::MAX);
        let half = rules.first.saturating_mul(doubled).min(rules.most) / 2;
        let spread = half.mul_f64(f64::from(chance) / f64::from(u32::MAX));
        let asked = asked.unwrap_or_default().min(rules.asked_most);
        State::Open { until: now.saturating_add((half + spread).max(asked)), times }
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        match self.state {
            State::Closed { .. } => Place::Closed,
            State::Open { .. } => Place::Open,
            State::HalfOpen { .. } => Place::HalfOpen,
        }
    }

    /// Whether it may be forgotten, since a new one would do as well. One that has opened is remembered for a while: what was let
    /// through before must not count against a new one.
    pub fn is_idle(&self, now: Duration, rules: &Rules) -> bool {
        match self.state {
            State::Closed { failures, last } => {
                (failures == 0 && self.era == 0) || now.saturating_sub(last) > rules.memory
            }
            // Nobody has called for long after it would have let a call through.
            State::Open { until, .. } => now.saturating_sub(until) > rules.memory,
            State::HalfOpen { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        failures: 3,
        memory: Duration::from_mins(10),
        first: Duration::from_secs(2),
        most: Duration::from_mins(1),
        asked_most: Duration::from_mins(5),
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const FAILED: Report = Report::Failed { asked: None };

    /// One call: when, what it came to, or in how many seconds another would pass, and where the breaker is after it.
    type Call = (u64, Result<Report, u64>, Place);

    #[test]
    fn runs_of_failures_open_it_and_a_probe_closes_it() {
        use Place::{Closed, Open};
        let tables: [(&str, &[Call]); 6] = [
            (
                "a success between ends the run",
                &[
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Closed),
                    (0, Ok(Report::Succeeded), Closed),
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Open),
                ],
            ),
            (
                "what says nothing ends no run",
                &[
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Closed),
                    (0, Ok(Report::Nothing), Closed),
                    (0, Ok(FAILED), Open),
                ],
            ),
            (
                "failures far apart are no run",
                &[
                    (0, Ok(FAILED), Closed),
                    (1, Ok(FAILED), Closed),
                    (700, Ok(FAILED), Closed),
                    (701, Ok(FAILED), Closed),
                ],
            ),
            (
                "a probe that fails opens it for longer, up to a bound",
                &[
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Open),
                    (1, Err(1), Open),
                    (2, Ok(FAILED), Open),
                    (3, Err(3), Open),
                    (6, Ok(FAILED), Open),
                    (14, Ok(FAILED), Open),
                    (30, Ok(FAILED), Open),
                    (62, Ok(FAILED), Open),
                    (63, Err(59), Open),
                    (122, Ok(FAILED), Open),
                    (123, Err(59), Open),
                    (182, Ok(Report::Succeeded), Closed),
                    (182, Ok(FAILED), Closed),
                ],
            ),
            (
                "a probe that came to nothing is given back",
                &[
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Open),
                    (2, Ok(Report::Nothing), Open),
                    (2, Ok(Report::Succeeded), Closed),
                ],
            ),
            (
                "what the peer asks for is granted within a bound",
                &[
                    (0, Ok(FAILED), Closed),
                    (0, Ok(FAILED), Closed),
                    (0, Ok(Report::Failed { asked: Some(s(30)) }), Open),
                    (1, Err(29), Open),
                    (30, Ok(Report::Failed { asked: Some(s(86_400)) }), Open),
                    (31, Err(299), Open),
                    (330, Ok(Report::Succeeded), Closed),
                ],
            ),
        ];
        for (name, calls) in tables {
            let mut breaker = Breaker::default();
            for (at, outcome, place) in calls {
                match (breaker.enter(s(*at)), outcome) {
                    (Ok(leave), Ok(report)) => breaker.report(leave, *report, s(*at), u32::MAX, &RULES),
                    (Err(wait), Err(seconds)) => assert_eq!(wait, s(*seconds), "{name} at {at}"),
                    (entered, wanted) => panic!("{name} at {at}: {entered:?}, not {wanted:?}"),
                }
                assert_eq!(breaker.place(), *place, "{name} at {at}");
            }
        }
    }

    #[test]
    fn only_one_call_is_the_probe_and_old_calls_decide_nothing() {
        let mut breaker = Breaker::default();
        let old: Vec<_> = (0..6).map(|_| breaker.enter(s(0)).unwrap()).collect();
        for leave in &old[..3] {
            breaker.report(*leave, FAILED, s(0), 0, &RULES);
        }
        assert_eq!(breaker.enter(s(0)), Err(s(1)), "half of the span is certain");
        breaker.report(old[3], Report::Succeeded, s(1), 0, &RULES);
        breaker.report(old[4], FAILED, s(1), 0, &RULES);
        assert_eq!(breaker.place(), Place::Open, "what was on its way before says nothing");
        let probe = breaker.enter(s(1)).unwrap();
        assert!(probe.is_probe());
        assert_eq!(breaker.enter(s(1)), Err(Duration::ZERO));
        breaker.report(old[5], Report::Succeeded, s(1), 0, &RULES);
        assert_eq!(breaker.enter(s(1)), Err(Duration::ZERO), "and frees no probe");
        breaker.report(probe, Report::Succeeded, s(1), 0, &RULES);
        assert!(!breaker.enter(s(1)).unwrap().is_probe());
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let mut breaker = Breaker::default();
        assert!(breaker.is_idle(s(0), &RULES));
        for _ in 0..3 {
            let leave = breaker.enter(s(0)).unwrap();
            breaker.report(leave, FAILED, s(0), 0, &RULES);
            assert!(!breaker.is_idle(s(1), &RULES));
        }
        assert!(!breaker.is_idle(s(601), &RULES));
        assert!(breaker.is_idle(s(602), &RULES));
        let never = Rules { failures: 0, ..RULES };
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            let leave = breaker.enter(s(0)).unwrap();
            breaker.report(leave, FAILED, s(0), 0, &never);
        }
        assert_eq!(breaker.place(), Place::Closed);
    }

    proptest! {
        /// Whatever happens: at most one probe is out, an open breaker lets nothing through before its time, that time is within its bounds,
        /// and a success of the probe always closes it.
        #[test]
        fn it_keeps_its_word(
            events in proptest::collection::vec((0_u64..20, 0_u8..5, any::<u32>(), proptest::option::of(0_u64..1000)), 1..200),
        ) {
            let (mut breaker, mut now) = (Breaker::default(), Duration::ZERO);
            let mut out: Vec<Leave> = Vec::new();
            let mut not_before = Duration::ZERO;
            for (passed, kind, chance, asked) in events {
                now += s(passed);
                if kind < 2 {
                    let before = breaker.place();
                    match breaker.enter(now) {
                        Ok(leave) => {
                            prop_assert!(now >= not_before);
                            prop_assert_eq!(leave.is_probe(), before != Place::Closed);
                            out.push(leave);
                        }
                        Err(wait) => prop_assert!(before != Place::Closed && now + wait <= not_before.max(now)),
                    }
                } else if let Some(leave) = (!out.is_empty()).then(|| out.remove(chance as usize % out.len())) {
                    let current = leave.era == breaker.era;
                    let report = match kind {
                        2 => Report::Succeeded,
                        3 => Report::Failed { asked: asked.map(s) },
                        _ => Report::Nothing,
                    };
                    let before = breaker.place();
                    breaker.report(leave, report, now, chance, &RULES);
                    if let (State::Open { until, .. }, Report::Failed { .. }) = (breaker.state, report)
                        && before != Place::Open
                    {
                        prop_assert!(until >= now + RULES.first / 2 && until <= now + RULES.asked_most);
                        not_before = until;
                    }
                    if current && leave.is_probe() && report == Report::Succeeded {
                        prop_assert_eq!(breaker.place(), Place::Closed);
                    }
                    if !current {
                        prop_assert_eq!(breaker.place(), before);
                    }
                }
                let probes = out.iter().filter(|leave| leave.is_probe() && leave.era == breaker.era).count();
                prop_assert!(probes <= 1);
            }
        }
    }
}
