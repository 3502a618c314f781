//! The plan: which fault comes when, drawn from a seed, so that a soak that found something can be run again.
//!
//! Owns the order of faults and their sizes. Throws none: that is `fault`'s part.

/// The faults that are drawn. Each comes once before any comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The second node is killed with SIGKILL and started again in the same state folder.
    NodeKilled,
    /// A node is stopped with SIGSTOP, past the time within which an act must be sent, and continued.
    NodeStopped,
    /// The database is killed with SIGKILL, all its processes, and started again.
    DatabaseKilled,
    /// The connections of the listener's login are cut.
    ListenerCut,
    /// The connections of the application's and the ledger's logins are cut.
    DatabaseCut,
    /// Answers of the API are lost: the effect has happened.
    AnswersLost,
    /// Answers of the API come late.
    AnswersSlow,
    /// Answers of the API break off.
    AnswersCut,
    /// The API fails with 5xx.
    ApiFails,
    /// The API says 429.
    ApiLimits,
    /// Answers of the API are not the JSON that they claim to be.
    AnswersMalformed,
    /// The token endpoint is down for some seconds.
    TokensDown,
    /// The token endpoint is slow.
    TokensSlow,
    /// An answer of the token endpoint is lost: the old token is spent, and nobody has the new one.
    TokenLost,
    /// An answer of the token endpoint breaks off, or is not JSON.
    TokenGarbled,
    /// The access tokens of an account expire at the platform, unannounced.
    TokensExpired,
    /// A mandate is revoked, and another given.
    MandateRevoked,
    /// A connection is disconnected, and the account connected anew.
    Disconnected,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 18] = [
        Self::NodeKilled,
        Self::NodeStopped,
        Self::DatabaseKilled,
        Self::ListenerCut,
        Self::DatabaseCut,
        Self::AnswersLost,
        Self::AnswersSlow,
        Self::AnswersCut,
        Self::ApiFails,
        Self::ApiLimits,
        Self::AnswersMalformed,
        Self::TokensDown,
        Self::TokensSlow,
        Self::TokenLost,
        Self::TokenGarbled,
        Self::TokensExpired,
        Self::MandateRevoked,
        Self::Disconnected,
    ];

    /// Its name in the report.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NodeKilled => "node_killed",
            Self::NodeStopped => "node_stopped",
            Self::DatabaseKilled => "database_killed",
            Self::ListenerCut => "listener_cut",
            Self::DatabaseCut => "database_cut",
            Self::AnswersLost => "answers_lost",
            Self::AnswersSlow => "answers_slow",
            Self::AnswersCut => "answers_cut",
            Self::ApiFails => "api_fails",
            Self::ApiLimits => "api_limits",
            Self::AnswersMalformed => "answers_malformed",
            Self::TokensDown => "tokens_down",
            Self::TokensSlow => "tokens_slow",
            Self::TokenLost => "token_lost",
            Self::TokenGarbled => "token_garbled",
            Self::TokensExpired => "tokens_expired",
            Self::MandateRevoked => "mandate_revoked",
            Self::Disconnected => "disconnected",
        }
    }
}

/// A sequence of numbers that only its seed decides (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014). Of no use for anything that must not be guessed.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Other dice, which fall independently of these.
    pub(super) fn split(&mut self, salt: u64) -> Self {
        Self(self.next() ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `least` up to and without `end`.
    pub(super) fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.next() % end.saturating_sub(least).max(1)
    }
}

/// The faults to come.
pub(super) struct Plan {
    dice: Dice,
    deck: Vec<Kind>,
}

impl Plan {
    pub(super) fn new(dice: Dice) -> Self {
        Self { dice, deck: Vec::new() }
    }

    /// The next fault.
    pub(super) fn next(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = Kind::ALL.to_vec();
        }
        let most = u64::try_from(self.deck.len()).unwrap_or(1);
        let place = usize::try_from(self.dice.between(0, most)).unwrap_or(0);
        self.deck.swap_remove(place)
    }

    /// A size for what comes next.
    pub(super) fn between(&mut self, least: u64, end: u64) -> u64 {
        self.dice.between(least, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_plan_and_each_fault_comes_before_any_comes_again() {
        let drawn = |seed| {
            let mut plan = Plan::new(Dice::new(seed));
            (0..36).map(|_| plan.next()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        for deck in drawn(7).chunks(Kind::ALL.len()) {
            let mut deck = deck.to_vec();
            deck.sort();
            let mut all = Kind::ALL.to_vec();
            all.sort();
            assert_eq!(deck, all);
        }
    }

    #[test]
    fn dice_stay_in_their_bounds() {
        let mut dice = Dice::new(1);
        for _ in 0..1000 {
            assert!((3..7).contains(&dice.between(3, 7)));
        }
        assert_eq!(dice.between(5, 5), 5);
    }
}
