use time::OffsetDateTime;

use super::*;

const X: &str = "x";
const FAILED: Heard = Heard::Failed(None);

/// A node's knowledge, its clock, and connections that it meets.
struct Bench {
    health: Health,
    clock: Clock,
    connections: Vec<ConnectionId>,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::set(OffsetDateTime::UNIX_EPOCH);
        let connections = (0..20).map(|_| ConnectionId::new(&Clock::system())).collect();
        Self { health: Health::new(HealthOptions::default(), clock.clone()), clock, connections }
    }

    fn enter(&self, connection: usize, action: &str) -> Result<Leave<'_>, LeftAlone> {
        self.health.enter(X, self.connections[connection], action)
    }

    /// One act, and what was heard by it; or why it is not tried.
    fn act(&self, connection: usize, action: &str, heard: Heard) -> Option<LeftAlone> {
        match self.enter(connection, action) {
            Ok(leave) => {
                leave.tell(action, heard);
                None
            }
            Err(left) => Some(left),
        }
    }

    fn passes(&self, connection: usize, action: &str) -> bool {
        self.enter(connection, action).is_ok()
    }
}

#[test]
fn an_account_that_fails_is_left_alone_and_no_other() {
    let bench = Bench::new();
    for _ in 0..5 {
        assert_eq!(bench.act(0, "a", FAILED), None);
    }
    let left = bench.act(0, "a", FAILED).unwrap();
    assert_eq!(left.why, Why::Failing);
    assert!((1..=2).contains(&left.retry_after_s), "{left:?}");
    assert!(!bench.passes(0, "b"), "whatever it wants to do");
    assert!(bench.passes(1, "a"));
    // Its probes go on to fail, and count for itself alone.
    for _ in 0..30 {
        bench.clock.advance(Duration::from_mins(1));
        assert_eq!(bench.act(0, "a", FAILED), None);
        assert!(!bench.passes(0, "a") && bench.passes(1, "a"));
    }
    bench.clock.advance(Duration::from_mins(1));
    assert_eq!(bench.act(0, "a", Heard::Well), None);
    assert!(bench.passes(0, "a"));
}

#[test]
fn a_provider_that_fails_at_two_accounts_is_left_alone_by_all() {
    let bench = Bench::new();
    for connection in [0, 1] {
        for _ in 0..5 {
            assert_eq!(bench.act(connection, "a", FAILED), None);
        }
    }
    assert_eq!(bench.act(2, "a", FAILED).unwrap().why, Why::Failing);
    assert!(bench.health.enter("other", bench.connections[2], "a").is_ok(), "no other provider");
    bench.clock.advance(Duration::from_secs(2));
    let probe = bench.enter(2, "a").unwrap();
    assert_eq!(bench.enter(3, "a").err().unwrap().retry_after_s, 1, "one is enough");
    drop(probe);
    let probe = bench.enter(3, "a").unwrap();
    assert!(!bench.passes(2, "a"));
    probe.tell("a", Heard::Well);
    assert!(bench.passes(2, "a") && bench.passes(4, "a"));
}

#[test]
fn one_account_alone_opens_no_provider() {
    let bench = Bench::new();
    let together: Vec<_> = (0..64).map(|_| bench.enter(0, "a").unwrap()).collect();
    for leave in together {
        leave.tell("a", FAILED);
    }
    assert!(!bench.passes(0, "a") && bench.passes(1, "a"), "sixty-four at once");
}

#[test]
fn what_cannot_be_reached_is_nobodys_own_fault() {
    let bench = Bench::new();
    for _ in 0..10 {
        assert_eq!(bench.act(0, "a", Heard::Unreachable), None);
    }
    assert!(!bench.passes(1, "a"));
    bench.clock.advance(Duration::from_secs(2));
    assert_eq!(bench.act(1, "a", Heard::Well), None);
    assert!(bench.passes(0, "a"));
    assert!(bench.health.lock().accounts.is_empty());
}

#[test]
fn a_probe_that_the_connections_own_breaker_refuses_is_given_back() {
    let bench = Bench::new();
    for _ in 0..5 {
        assert_eq!(bench.act(0, "a", FAILED), None);
    }
    for _ in 0..5 {
        assert_eq!(bench.act(1, "a", Heard::Unreachable), None);
    }
    // The provider's breaker would let a probe through, and the connection's does not: it has failed again meanwhile.
    bench.clock.advance(Duration::from_secs(2));
    let held = bench.enter(0, "a").unwrap();
    drop(held);
    let probe = bench.enter(0, "a").unwrap();
    probe.tell("a", FAILED);
    assert!(!bench.passes(0, "a"));
    assert_eq!(bench.act(1, "a", Heard::Well), None, "the provider's probe is free for another account");
    assert!(bench.passes(2, "a"));
}

#[test]
fn what_the_platform_asks_for_is_kept_by_account_and_action() {
    let bench = Bench::new();
    let minute = Some(Duration::from_mins(1));
    assert_eq!(bench.act(0, "a", Heard::TooOften(minute)), None);
    assert_eq!(bench.act(0, "a", Heard::Well), Some(LeftAlone { why: Why::RateLimited, retry_after_s: 60 }));
    assert!(bench.passes(0, "b") && bench.passes(1, "a"));
    bench.clock.advance(Duration::from_millis(1500));
    assert_eq!(bench.act(0, "a", Heard::Well).unwrap().retry_after_s, 59, "rounded up: not a moment too early");
    bench.clock.advance(Duration::from_millis(58_500));
    assert_eq!(bench.act(0, "a", Heard::Well), None);
    assert!(bench.health.lock().accounts.is_empty());

    assert_eq!(bench.act(0, "a", Heard::Failed(minute)), None);
    assert_eq!(bench.act(0, "a", Heard::Well).unwrap().why, Why::Failing);
    assert!(bench.passes(0, "b"));
    // Too often, and no word of until when: after five times the account is left alone.
    for _ in 0..5 {
        assert_eq!(bench.act(1, "a", Heard::TooOften(None)), None);
    }
    assert_eq!(bench.act(1, "b", Heard::Well).unwrap().why, Why::Failing);
}

#[test]
fn what_is_known_does_not_grow_for_ever() {
    let bench = Bench::new();
    for connection in 0..20 {
        bench.act(connection, "a", FAILED);
        bench.act(connection, "a", Heard::TooOften(Some(Duration::from_secs(1))));
        for _ in 0..5 {
            bench.act(connection, "b", FAILED);
        }
        bench.act(connection, "", Heard::Well);
        bench.health.lock().providers.clear();
    }
    assert_eq!(bench.health.lock().accounts.len(), 20);
    bench.clock.advance(Duration::from_mins(20));
    assert!(bench.passes(0, "a"));
    assert!(bench.health.lock().accounts.is_empty());
}

#[test]
fn each_answer_says_what_it_says() {
    let late = || SendError::NotSent { stage: Stage::Turn, source: egress::Fault::TimedOut };
    let at = |stage| SendError::NotSent { stage, source: egress::Fault::TimedOut };
    let status = |code| StatusCode::from_u16(code).unwrap();
    let cases = [
        (late(), Heard::Nothing),
        (at(Stage::Resolve), Heard::Unreachable),
        (at(Stage::Connect), Heard::Unreachable),
        (at(Stage::Tls), Heard::Unreachable),
        (at(Stage::Request), Heard::Unreachable),
        (SendError::AddressRefused, Heard::Unreachable),
        (SendError::DeadlinePassed, Heard::Nothing),
        (SendError::HostRefused, Heard::Nothing),
        (SendError::Malformed("x"), Heard::Nothing),
        (SendError::TooLarge { status: status(200) }, Heard::Well),
        (SendError::Encoded { status: status(404) }, Heard::Well),
        (SendError::Encoded { status: status(502) }, FAILED),
        (SendError::Ambiguous { stage: Stage::FirstByte, status: None, source: egress::Fault::TimedOut }, FAILED),
    ];
    for (error, expected) in cases {
        assert_eq!(Heard::from(Err(&error), None, OffsetDateTime::UNIX_EPOCH), expected, "{error:?}");
    }
}
