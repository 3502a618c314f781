//! The report: what a soak found, as one line for a program and a table for a person, and whether it may be called passed.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

/// How long an act may be in no final state beyond its stated bound, in seconds: longer than any outage that is thrown, since nobody can
/// write an end while the database is down.
pub const STUCK_LIMIT_S: f64 = 30.0;
/// By how much a node's memory may grow after it is warm.
const GROWTH: u64 = 2;

/// A table, after the warm-up and at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableGrowth {
    /// Rows after the warm-up.
    pub rows_first: i64,
    /// Rows at the end.
    pub rows_last: i64,
    /// KiB on disk with indexes, after the warm-up.
    pub kib_first: i64,
    /// KiB at the end.
    pub kib_last: i64,
}

/// What a soak found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SoakReport {
    /// Acts that the ledger has.
    pub acts: i64,
    /// Answered by the platform.
    pub settled: i64,
    /// Never sent.
    pub not_sent: i64,
    /// Of unknown effect, and said to be.
    pub ambiguous: i64,
    /// Faults that were thrown.
    pub faults: u64,
    /// Posts at the platform whose act had posted before.
    pub effects_repeated: u64,
    /// Units taken beyond a cap, and posts beyond the small budget's.
    pub budget_overspent: u64,
    /// Connections that lost a token whose answer had arrived whole.
    pub tokens_lost: u64,
    /// The longest time that an act was in no final state past its stated bound.
    pub stuck_seconds_max: f64,
    /// A node's resident memory after the warm-up: of the larger.
    pub rss_first_mib: u64,
    /// At the end.
    pub rss_last_mib: u64,
    /// The seed of the plan.
    pub seed: u64,
    /// How long callers acted, in seconds.
    pub seconds: u64,
    /// How many callers there were.
    pub callers: usize,
    /// The same memory of the node that was stopped, and never killed.
    pub rss_kept_node_first_mib: u64,
    /// At the end.
    pub rss_kept_node_last_mib: u64,
    /// Acts still on their way when everything had come to rest: none may be.
    pub unfinished: i64,
    /// Posts at the platform.
    pub effects: u64,
    /// Acts answered as done that did not happen: none may be.
    pub effects_missing: u64,
    /// Acts refused at once that happened: none may be.
    pub effects_unsaid: u64,
    /// Acts that callers pursued to a final answer.
    pub pursued: u64,
    /// Acts whose caller gave up in the end: none may be.
    pub given_up: u64,
    /// The small budget's cap.
    pub narrow_cap: u64,
    /// What is used of it in the end: all.
    pub narrow_used: u64,
    /// Posts at the platform under it: no more.
    pub narrow_effects: u64,
    /// By how much the budgets' counters differ from what acts hold: nothing.
    pub budget_drift: i64,
    /// Connections that their owner had to consent to anew, because a refresh was interrupted.
    pub reconnects_required: u64,
    /// Refreshes that reached the platform.
    pub refreshes: u64,
    /// Spent refresh tokens that were shown again: none may be.
    pub replays_punished: u64,
    /// Connections to the database, after the warm-up and at the end.
    pub database_connections: [i64; 2],
    /// Connections to the platform.
    pub platform_connections: [usize; 2],
    /// The tables.
    pub tables: BTreeMap<String, TableGrowth>,
    /// The faults by kind.
    pub faults_by_kind: BTreeMap<&'static str, u64>,
    /// What callers were told, and how often.
    pub answers: BTreeMap<String, u64>,
    /// What went wrong beside the counts.
    pub complaints: Vec<String>,
}

impl SoakReport {
    /// Why this soak may not be called passed: nothing, if it may.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = self.complaints.clone();
        let none = [
            ("an effect was repeated", self.effects_repeated),
            ("a budget was overspent", self.budget_overspent),
            ("a token was lost", self.tokens_lost),
            ("an act was called done and did not happen", self.effects_missing),
            ("an act was refused and happened", self.effects_unsaid),
            ("a caller had no final answer", self.given_up),
            ("an act stayed unfinished", u64::try_from(self.unfinished).unwrap_or(u64::MAX)),
            ("a budget's counter is not what acts hold", self.budget_drift.unsigned_abs()),
            ("a spent refresh token was shown again", self.replays_punished),
            ("the small budget was not spent", self.narrow_cap.saturating_sub(self.narrow_used)),
        ];
        failures.extend(none.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}")));
        if self.stuck_seconds_max > STUCK_LIMIT_S {
            failures.push(format!("an act was stuck for {:.1} s", self.stuck_seconds_max));
        }
        let nodes =
            [(self.rss_first_mib, self.rss_last_mib), (self.rss_kept_node_first_mib, self.rss_kept_node_last_mib)];
        if let Some((first, last)) = nodes.iter().find(|(first, last)| *last > first * GROWTH) {
            failures.push(format!("a node's memory grew from {first} to {last} MiB"));
        }
        failures
    }

    /// A table for a person.
    pub fn in_words(&self) -> String {
        let mut words = String::new();
        let lines: [(&str, String); 16] = [
            ("seed, seconds, callers", format!("{}, {}, {}", self.seed, self.seconds, self.callers)),
            ("acts in the ledger", self.acts.to_string()),
            ("  settled", self.settled.to_string()),
            ("  not sent", self.not_sent.to_string()),
            ("  ambiguous", self.ambiguous.to_string()),
            ("  unfinished", self.unfinished.to_string()),
            ("posts at the platform", self.effects.to_string()),
            ("  repeated", self.effects_repeated.to_string()),
            ("budgets overspent, drift", format!("{}, {}", self.budget_overspent, self.budget_drift)),
            (
                "small budget: cap, used, posts",
                format!("{}, {}, {}", self.narrow_cap, self.narrow_used, self.narrow_effects),
            ),
            ("refreshes, tokens lost", format!("{}, {}", self.refreshes, self.tokens_lost)),
            ("owners consented anew", self.reconnects_required.to_string()),
            ("longest stuck", format!("{:.1} s", self.stuck_seconds_max)),
            ("memory of a node", format!("{} -> {} MiB", self.rss_first_mib, self.rss_last_mib)),
            (
                "  of the one never killed",
                format!("{} -> {} MiB", self.rss_kept_node_first_mib, self.rss_kept_node_last_mib),
            ),
            (
                "connections to database, platform",
                format!(
                    "{} -> {}, {} -> {}",
                    self.database_connections[0],
                    self.database_connections[1],
                    self.platform_connections[0],
                    self.platform_connections[1]
                ),
            ),
        ];
        // Writing to a String does not fail.
        for (name, value) in &lines {
            let _never = writeln!(words, "{name:<36} {value}");
        }
        let _never = writeln!(words, "{:<36} {}", "faults", self.faults);
        for (fault, count) in &self.faults_by_kind {
            let _never = writeln!(words, "  {fault:<34} {count}");
        }
        let _never = writeln!(words, "answers");
        for (answer, count) in &self.answers {
            let _never = writeln!(words, "  {answer:<34} {count}");
        }
        let _never = writeln!(words, "tables: rows, KiB");
        for (table, TableGrowth { rows_first, rows_last, kib_first, kib_last }) in &self.tables {
            let _never = writeln!(words, "  {table:<34} {rows_first} -> {rows_last}, {kib_first} -> {kib_last}");
        }
        for failure in self.failures() {
            let _never = writeln!(words, "FAIL {failure}");
        }
        words.push_str(if self.failures().is_empty() { "passed" } else { "failed" });
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_must_not_be_fails_the_soak_by_itself() {
        let good = SoakReport {
            rss_first_mib: 50,
            rss_last_mib: 90,
            rss_kept_node_first_mib: 50,
            rss_kept_node_last_mib: 100,
            ..SoakReport::default()
        };
        assert_eq!(good.failures(), Vec::<String>::new());
        let bad = [
            SoakReport { effects_repeated: 1, ..good.clone() },
            SoakReport { budget_overspent: 1, ..good.clone() },
            SoakReport { tokens_lost: 1, ..good.clone() },
            SoakReport { effects_missing: 1, ..good.clone() },
            SoakReport { effects_unsaid: 1, ..good.clone() },
            SoakReport { given_up: 1, ..good.clone() },
            SoakReport { unfinished: 1, ..good.clone() },
            SoakReport { budget_drift: -1, ..good.clone() },
            SoakReport { replays_punished: 1, ..good.clone() },
            SoakReport { narrow_cap: 2, narrow_used: 1, ..good.clone() },
            SoakReport { stuck_seconds_max: STUCK_LIMIT_S + 1.0, ..good.clone() },
            SoakReport { rss_last_mib: 101, ..good.clone() },
            SoakReport { rss_kept_node_last_mib: 101, ..good.clone() },
            SoakReport { complaints: vec!["a node ended".to_owned()], ..good },
        ];
        for report in bad {
            assert_eq!(report.failures().len(), 1, "{report:?}");
            assert!(report.in_words().ends_with("failed"));
        }
    }
}
