//! Evidence: what a probe tried, what came back, and digests of both; or why there is none.

use std::{collections::BTreeMap, error::Error, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::Value;

/// The observations that a report shows of one probe. All are counted, and all are in the digest.
const SHOWN: usize = 24;
/// The characters that are shown of what was sent or came back. The digest is of all of it.
const CHARACTERS: usize = 240;

/// One thing that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Observation {
    /// What it was, in words.
    pub tried: String,
    /// What came back, shortened.
    pub came_back: String,
    /// SHA-256 of what was sent, in hexadecimal.
    pub sent_sha256: String,
    /// SHA-256 of what came back, in hexadecimal.
    pub answer_sha256: String,
}

/// What a probe returns when everything was as it should be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Evidence {
    /// How many of each subject were tried.
    pub tried: BTreeMap<String, u64>,
    /// How many observations there were.
    pub observations: u64,
    /// The first of them.
    pub shown: Vec<Observation>,
    /// SHA-256 over the digests of all observations in their order, in hexadecimal.
    pub sha256: String,
}

impl Evidence {
    /// Nothing tried yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes something that was tried without a subject of a claim: the allowed thing, a preparation.
    pub fn saw(&mut self, tried: impl Into<String>, sent: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        let (sent_sha256, answer_sha256) = (sha256(sent.as_ref()), sha256(answer.as_ref()));
        self.sha256 = sha256(format!("{}{sent_sha256}{answer_sha256}", self.sha256).as_bytes());
        self.observations += 1;
        if self.shown.len() < SHOWN {
            let came_back = shortened(&String::from_utf8_lossy(answer.as_ref()));
            self.shown.push(Observation { tried: tried.into(), came_back, sent_sha256, answer_sha256 });
        }
    }

    /// Notes one try of a subject that a claim names. Only what was really tried is noted: a subject without a try leaves its claim
    /// unproven.
    pub fn tried(&mut self, subject: &str, tried: impl Into<String>, sent: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
        *self.tried.entry(subject.to_owned()).or_default() += 1;
        self.saw(tried, sent, answer);
    }

    /// This, and what was tried after it. A part that has a lot to show leaves room for the other.
    #[must_use]
    pub fn join(mut self, later: Self) -> Self {
        self.sha256 = sha256(format!("{}{}", self.sha256, later.sha256).as_bytes());
        self.observations += later.observations;
        for (subject, tries) in later.tried {
            *self.tried.entry(subject).or_default() += tries;
        }
        self.shown.truncate(SHOWN.saturating_sub(later.shown.len()).max(SHOWN / 2));
        let room = SHOWN.saturating_sub(self.shown.len());
        self.shown.extend(later.shown.into_iter().take(room));
        self
    }
}

/// Why a probe returns no evidence.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The claim does not hold.
    Broken {
        /// What should have been, and what was.
        difference: String,
        /// What the attacker got hold of: a row's id, a token's digest, an answer.
        obtained: Value,
    },
    /// The probe could not be carried out, and says nothing of the claim.
    Unproven(String),
}

/// What comes of a probe.
pub type Outcome = Result<Evidence, Failure>;

impl Failure {
    /// The claim does not hold.
    pub fn broken(difference: impl Into<String>, obtained: impl Into<Value>) -> Self {
        Self::Broken { difference: difference.into(), obtained: obtained.into() }
    }

    /// What several ways came to, each of which was tried whatever another came to: a probe of several controls must notice each. What was
    /// found on any of them stands, also beside a way that could not be tried.
    ///
    /// # Errors
    /// `Broken` with every difference; where there is none, `Unproven` with every reason.
    pub fn of_any(ways: impl IntoIterator<Item = Result<(), Self>>) -> Result<(), Self> {
        let (mut differences, mut obtained, mut untried) = (Vec::new(), Vec::new(), Vec::new());
        for failure in ways.into_iter().filter_map(Result::err) {
            match failure {
                Self::Broken { difference, obtained: got } => {
                    differences.push(difference);
                    obtained.push(got);
                }
                Self::Unproven(why) => untried.push(why),
            }
        }
        match (differences.as_slice(), untried.as_slice()) {
            ([], []) => Ok(()),
            ([], _) => Err(Self::unproven(untried.join("; "))),
            _ => Err(Self::broken(differences.join("; "), obtained)),
        }
    }

    /// The probe could not be carried out.
    pub fn unproven(why: impl Into<String>) -> Self {
        Self::Unproven(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { difference, .. } => f.write_str(difference),
            Self::Unproven(why) => write!(f, "could not be tried: {why}"),
        }
    }
}

/// Whatever keeps a probe from its work leaves its claim unproven.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let (mut words, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        Self::Unproven(words)
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(CHARACTERS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_on_any_way_stands() {
        let (good, unknown) = (|| Ok(()), |why: &str| Err(Failure::unproven(why)));
        let broken = |what: &str| Err(Failure::broken(what, format!("got by {what}")));
        let cases = [
            (vec![], "good"),
            (vec![good(), good()], "good"),
            (vec![good(), unknown("a"), unknown("b")], "could not be tried: a; b"),
            (vec![broken("a"), good(), broken("b")], "a; b, with [\"got by a\",\"got by b\"]"),
            (vec![unknown("a"), broken("b"), unknown("c")], "b, with [\"got by b\"]"),
        ];
        for (ways, wanted) in cases {
            let came = match Failure::of_any(ways) {
                Ok(()) => "good".to_owned(),
                Err(Failure::Broken { difference, obtained }) => format!("{difference}, with {obtained}"),
                Err(unproven) => unproven.to_string(),
            };
            assert_eq!(came, wanted);
        }
    }

    #[test]
    fn what_is_joined_counts_and_shows_both() {
        let part = |subject: &str, times: usize| {
            let mut evidence = Evidence::new();
            (0..times).for_each(|time| evidence.tried(subject, format!("{subject} {time}"), "", ""));
            evidence
        };
        let both = part("a", 40).join(part("b", 2));
        assert_eq!(both.tried, BTreeMap::from([("a".to_owned(), 40), ("b".to_owned(), 2)]));
        assert_eq!((both.observations, both.shown.len()), (42, SHOWN));
        assert!(both.shown.iter().any(|seen| seen.tried == "b 1"));
        assert_ne!(both.sha256, part("a", 2).join(part("b", 40)).sha256);
        assert_eq!(part("a", 1).join(part("b", 100)).shown.len(), SHOWN);
    }
}
