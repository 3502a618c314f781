//! The load: callers that act without pause on two nodes, and each ask until they have a final answer, under the same key.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use super::{
    effects::{Effects, Marker},
    grounds::{Lane, Lanes},
    plan::Dice,
};
use crate::caller::{Caller, Reply};

/// How long a caller waits for one answer: longer than a node is ever stopped.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// How often a caller asks again before it gives up: no outage of a soak lasts so long.
const MOST_TRIES: u32 = 2_000;
/// The longest pause of a caller between two acts, and before it asks again, in milliseconds.
const PAUSE_MS: u64 = 100;

/// What the callers were answered.
#[derive(Debug, Default)]
pub(super) struct Told {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Told {
    fn note(&self, what: String) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    /// Each kind of answer, and how often it was given.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the callers found out by themselves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Acts that were pursued to a final answer.
    pub(super) pursued: u64,
    /// Acts that were answered as done, and did not happen.
    pub(super) missing: u64,
    /// Acts that were refused at the first try, and happened.
    pub(super) unsaid: u64,
    /// Acts that never came to a final answer.
    pub(super) given_up: u64,
}

impl Found {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            pursued: self.pursued + other.pursued,
            missing: self.missing + other.missing,
            unsaid: self.unsaid + other.unsaid,
            given_up: self.given_up + other.given_up,
        }
    }
}

/// One caller.
pub(super) struct Worker {
    pub(super) id: usize,
    pub(super) dice: Dice,
    /// A caller of each node.
    pub(super) nodes: [Caller; 2],
    pub(super) lanes: Arc<Lanes>,
    pub(super) effects: Arc<Effects>,
    pub(super) told: Arc<Told>,
    pub(super) stop: Arc<AtomicBool>,
}

/// What a caller wants.
enum Errand {
    /// A post of its own.
    Post(Marker),
    /// A read; with a key it passes the ledger.
    Read(Option<String>),
}

/// What an answer means to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It happened, and the platform said so.
    Done,
    /// The platform has answered something else.
    Answered,
    /// It was refused, for good.
    Refused,
    /// Nobody can say.
    Unknown,
    /// Ask again.
    Again,
}

impl Worker {
    /// Acts until it is told to stop, and then comes to the end of what it began.
    pub(super) async fn work(mut self) -> Found {
        let mut found = Found::default();
        let mut number = 0;
        while !self.stop.load(Ordering::Acquire) {
            let lane = self.lane();
            let errand = self.errand(number, &lane);
            number += 1;
            found = found.and(self.pursue(&lane, &errand).await);
            self.pause().await;
        }
        found
    }

    /// Acts under the small budget alone, until it has no room or an act is not answered.
    pub(super) async fn spend(mut self, lane: &Lane) -> Found {
        let mut found = Found::default();
        for number in 0.. {
            let marker = Marker { worker: self.id, number, is_narrow: true };
            let (meaning, pursued) = self.pursue_to(lane, &Errand::Post(marker)).await;
            found = found.and(pursued);
            if matches!(meaning, Meaning::Refused | Meaning::Again) {
                break;
            }
        }
        found
    }

    fn lane(&mut self) -> Arc<Lane> {
        let most = u64::try_from(self.lanes.len()).unwrap_or(1);
        let at = usize::try_from(self.dice.between(0, most)).unwrap_or(0);
        self.lanes.get(at)
    }

    fn errand(&mut self, number: usize, lane: &Lane) -> Errand {
        match self.dice.between(0, 10) {
            0..6 => Errand::Post(Marker {
                worker: self.id,
                number,
                // Where there is a small budget, a tenth of the posts want it: it is empty early, and refuses from then on.
                is_narrow: lane.narrow.is_some() && self.dice.between(0, 10) == 0,
            }),
            6..8 => Errand::Read(Some(format!("read-{}-{number}", self.id))),
            _ => Errand::Read(None),
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.dice.between(0, PAUSE_MS))).await;
    }

    async fn pursue(&mut self, lane: &Lane, errand: &Errand) -> Found {
        self.pursue_to(lane, errand).await.1
    }

    /// Asks until there is a final answer, at the other node where one does not answer.
    async fn pursue_to(&mut self, lane: &Lane, errand: &Errand) -> (Meaning, Found) {
        let mut found = Found { pursued: 1, ..Found::default() };
        let mut node = self.id % 2;
        // Whether an earlier try may have had its effect without our hearing of it.
        let mut doubtful = false;
        for _ in 0..MOST_TRIES {
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.ask(node, lane, errand)).await;
            let Ok(Ok(reply)) = answer else {
                self.told.note("no answer".to_owned());
                doubtful = true;
                node = 1 - node;
                self.pause().await;
                continue;
            };
            let (meaning, word) = judge(&reply);
            self.told.note(word);
            if let Errand::Post(marker) = errand {
                found.missing += u64::from(meaning == Meaning::Done && !self.effects.has(*marker));
                found.unsaid += u64::from(meaning == Meaning::Refused && !doubtful && self.effects.has(*marker));
            }
            if meaning != Meaning::Again {
                return (meaning, found);
            }
            doubtful = true;
            node = 1 - node;
            self.pause().await;
        }
        found.given_up += 1;
        (Meaning::Again, found)
    }

    async fn ask(&self, node: usize, lane: &Lane, errand: &Errand) -> Result<Reply, crate::caller::CallError> {
        let [first, second] = &self.nodes;
        let caller = if node == 0 { first } else { second }.with_key(&lane.agent);
        match errand {
            Errand::Post(marker) => {
                let narrow = lane.narrow.as_ref().filter(|_| marker.is_narrow);
                let mandate = narrow.unwrap_or(&lane.mandate);
                caller.act(mandate, "post.create", &json!({ "text": marker.text() }), Some(&marker.key())).await
            }
            Errand::Read(key) => caller.act(&lane.mandate, "profile.read", &json!({}), key.as_deref()).await,
        }
    }
}

/// What an answer means, and the word under which it is counted.
fn judge(reply: &Reply) -> (Meaning, String) {
    let body = reply.json();
    let status = reply.status.as_u16();
    if status == 200 {
        let provider = body.pointer("/status").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let meaning = if provider == 201 { Meaning::Done } else { Meaning::Answered };
        return (meaning, format!("200, and {provider} from the platform"));
    }
    let kind = body.pointer("/type").and_then(serde_json::Value::as_str).unwrap_or_default();
    let kind = kind.strip_prefix("urn:keyholder:problem:").unwrap_or("no problem");
    (meaning_of(status, kind), format!("{status} {kind}"))
}

fn meaning_of(status: u16, kind: &str) -> Meaning {
    match (status, kind) {
        (409, "act-ambiguous") => Meaning::Unknown,
        // The act has ended, and its answer was not one that could be kept.
        (409, "conflict") => Meaning::Answered,
        (429, "budget-exceeded") | (400 | 401 | 403 | 404 | 422, _) | (503, "reconnect-required") => Meaning::Refused,
        _ => Meaning::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_still_change_is_asked_again() {
        let cases = [
            (409, "act-ambiguous", Meaning::Unknown),
            (409, "act-in-progress", Meaning::Again),
            (409, "stale", Meaning::Again),
            (429, "budget-exceeded", Meaning::Refused),
            (429, "rate-limited", Meaning::Again),
            (403, "outside-mandate", Meaning::Refused),
            (503, "reconnect-required", Meaning::Refused),
            (503, "unavailable", Meaning::Again),
            (502, "upstream-unreachable", Meaning::Again),
            (504, "upstream-timeout", Meaning::Again),
            (500, "internal", Meaning::Again),
        ];
        for (status, kind, wanted) in cases {
            assert_eq!(meaning_of(status, kind), wanted, "{status} {kind}");
        }
    }
}
