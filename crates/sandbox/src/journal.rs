//! What reached the platform: exact counts by kind and outcome, the newest requests, and, where somebody asked for them, the
//! newest answers.
//!
//! Of requests, bodies and queries are kept for the API's calls only. Never keeps a request's credential: of the Authorization
//! header it remembers that there was one, and of OAuth's requests neither query nor body. Answers are kept as they were sent,
//! with whatever they hold: that is what they are looked at for.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use crate::params::Params;

const NEWEST: usize = 4096;
const BODY_KEPT: usize = 1024;
/// The most answers that can be kept.
const MOST_ANSWERS: usize = 65_536;
/// How much of an answer's body is kept.
const ANSWER_KEPT: usize = 16 * 1024;

/// The kinds of request that the platform tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The consent page is shown.
    ShowConsent,
    /// The account's owner has allowed or denied.
    DecideConsent,
    /// A code is exchanged for tokens, or a token request of no known grant type.
    Exchange,
    /// A refresh token is presented.
    Refresh,
    /// A token is revoked.
    Revoke,
    /// `GET /2/users/me`
    ReadProfile,
    /// `POST /2/tweets` that answers no post.
    CreatePost,
    /// `POST /2/tweets` that answers a post.
    Reply,
    /// `DELETE /2/tweets/:id`
    DeletePost,
    /// `GET /2/tweets/:id`
    ReadPost,
    /// `GET /account`, of the generic provider.
    ReadAccount,
    /// Anything else.
    Unknown,
}

impl Call {
    /// Tells the kind from the request.
    pub(crate) fn of(method: &Method, path: &str, body: &[u8]) -> Self {
        match (method.as_str(), path) {
            ("GET", "/i/oauth2/authorize" | "/oauth/authorize") => Self::ShowConsent,
            ("POST", "/i/oauth2/authorize" | "/oauth/authorize") => Self::DecideConsent,
            ("POST", "/2/oauth2/token" | "/oauth/token") => {
                let refresh = Params::parse(body).is_ok_and(|form| form.get("grant_type") == Some("refresh_token"));
                if refresh { Self::Refresh } else { Self::Exchange }
            }
            ("POST", "/2/oauth2/revoke" | "/oauth/revoke") => Self::Revoke,
            ("GET", "/2/users/me") => Self::ReadProfile,
            ("GET", "/account") => Self::ReadAccount,
            ("POST", "/2/tweets") => {
                let reply = serde_json::from_slice::<serde_json::Value>(body)
                    .is_ok_and(|json| json.get("reply").is_some_and(|reply| !reply.is_null()));
                if reply { Self::Reply } else { Self::CreatePost }
            }
            ("DELETE", path) if is_post(path) => Self::DeletePost,
            ("GET", path) if is_post(path) => Self::ReadPost,
            _ => Self::Unknown,
        }
    }

    /// Whether it is a call of the API, made with a bearer token.
    pub(crate) fn is_api(self) -> bool {
        matches!(
            self,
            Self::ReadProfile | Self::CreatePost | Self::Reply | Self::DeletePost | Self::ReadPost | Self::ReadAccount
        )
    }
}

fn is_post(path: &str) -> bool {
    path.strip_prefix("/2/tweets/").is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

/// How the platform answered, whether or not the answer arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// 2xx or 3xx.
    Done,
    /// 4xx.
    Refused,
    /// 5xx.
    Failed,
}

impl Outcome {
    fn of(status: u16) -> Self {
        match status {
            0..400 => Self::Done,
            400..500 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// One request, as it reached the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its kind.
    pub call: Call,
    /// The method.
    pub method: String,
    /// The name under which the platform was reached, without the port.
    pub host: String,
    /// The path, without the query.
    pub path: String,
    /// The query of an API call.
    pub query: Option<String>,
    /// The names of all headers, in lower case and sorted.
    pub headers: Vec<String>,
    /// Whether there was an Authorization header.
    pub authorization_present: bool,
    /// The first 1,024 bytes of an API call's body.
    pub body: Vec<u8>,
    /// The status of the answer, also of one that was lost or cut on purpose.
    pub status: u16,
    /// The quirk that was applied, by its name.
    pub quirk: Option<&'static str>,
}

/// One answer, as the platform sent it: before it was held, cut or lost.
#[derive(Clone, PartialEq, Eq)]
pub struct Answered {
    /// The request's kind.
    pub call: Call,
    /// The status.
    pub status: u16,
    /// All headers that the platform wrote itself.
    pub headers: HeaderMap,
    /// The first 16 KiB of the body before any compression.
    pub body: Bytes,
    /// The same after it, where the answer was compressed.
    pub compressed: Option<Bytes>,
}

impl Answered {
    /// Headers and body as one text, as they would stand on the wire.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.body.len() + 256);
        for (name, value) in &self.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(&self.body);
        text
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answered({:?}, {}, {} bytes)", self.call, self.status, self.body.len())
    }
}

/// Counts and the newest requests.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    newest: VecDeque<Recorded>,
    answers: VecDeque<Answered>,
    most_answers: usize,
    counts: BTreeMap<(Call, Outcome), u64>,
    quirked: BTreeMap<(Call, &'static str), u64>,
}

impl Journal {
    /// Keeps the newest so many answers from now on, and forgets older ones.
    pub(crate) fn keep_answers(&mut self, most: usize) {
        self.most_answers = most.min(MOST_ANSWERS);
        while self.answers.len() > self.most_answers {
            self.answers.pop_front();
        }
    }

    /// Whether answers are kept at all.
    pub(crate) fn keeps_answers(&self) -> bool {
        self.most_answers > 0
    }

    pub(crate) fn answered(&mut self, mut answer: Answered) {
        if self.most_answers == 0 {
            return;
        }
        if self.answers.len() >= self.most_answers {
            self.answers.pop_front();
        }
        answer.body = shortened(&answer.body);
        answer.compressed = answer.compressed.as_ref().map(shortened);
        self.answers.push_back(answer);
    }

    pub(crate) fn answers(&self) -> impl DoubleEndedIterator<Item = &Answered> {
        self.answers.iter()
    }

    pub(crate) fn record(&mut self, mut request: Recorded) {
        *self.counts.entry((request.call, Outcome::of(request.status))).or_default() += 1;
        if let Some(quirk) = request.quirk {
            *self.quirked.entry((request.call, quirk)).or_default() += 1;
        }
        if request.call.is_api() {
            request.body.truncate(BODY_KEPT);
        } else {
            request.body.clear();
            request.query = None;
        }
        if self.newest.len() >= NEWEST {
            self.newest.pop_front();
        }
        self.newest.push_back(request);
    }

    pub(crate) fn count(&self, call: Call, outcome: Outcome) -> u64 {
        self.counts.get(&(call, outcome)).copied().unwrap_or(0)
    }

    pub(crate) fn calls(&self, call: Call) -> u64 {
        self.counts.iter().filter(|((kind, _), _)| *kind == call).map(|(_, count)| count).sum()
    }

    pub(crate) fn quirked(&self, call: Call, quirk: &str) -> u64 {
        self.quirked.iter().filter(|((kind, name), _)| *kind == call && *name == quirk).map(|(_, count)| count).sum()
    }

    pub(crate) fn counts(&self) -> &BTreeMap<(Call, Outcome), u64> {
        &self.counts
    }

    pub(crate) fn newest(&self) -> impl Iterator<Item = &Recorded> {
        self.newest.iter()
    }
}

/// The beginning of a body, as a copy: a part of it would keep all of it in memory.
fn shortened(body: &Bytes) -> Bytes {
    Bytes::copy_from_slice(body.get(..ANSWER_KEPT).unwrap_or(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_from_its_neighbours() {
        let table: &[(Method, &str, &str, Call)] = &[
            (Method::GET, "/i/oauth2/authorize", "", Call::ShowConsent),
            (Method::POST, "/i/oauth2/authorize", "", Call::DecideConsent),
            (Method::POST, "/2/oauth2/token", "grant_type=authorization_code", Call::Exchange),
            (Method::POST, "/2/oauth2/token", "grant_type=refresh_token", Call::Refresh),
            (Method::POST, "/2/oauth2/revoke", "", Call::Revoke),
            (Method::GET, "/2/users/me", "", Call::ReadProfile),
            (Method::POST, "/2/tweets", r#"{"text":"a"}"#, Call::CreatePost),
            (Method::POST, "/2/tweets", r#"{"text":"a","reply":null}"#, Call::CreatePost),
            (Method::POST, "/2/tweets", r#"{"reply":{"in_reply_to_tweet_id":"1"}}"#, Call::Reply),
            (Method::DELETE, "/2/tweets/1", "", Call::DeletePost),
            (Method::GET, "/2/tweets/1", "", Call::ReadPost),
            (Method::GET, "/2/tweets/", "", Call::Unknown),
            (Method::GET, "/2/tweets/1/2", "", Call::Unknown),
            (Method::GET, "/account", "", Call::ReadAccount),
            (Method::PUT, "/2/users/me", "", Call::Unknown),
        ];
        for (method, path, body, expected) in table {
            assert_eq!(Call::of(method, path, body.as_bytes()), *expected, "{method} {path} {body}");
        }
    }

    #[test]
    fn answers_are_kept_only_where_they_are_wanted_and_never_without_a_bound() {
        let answer = |status| Answered {
            call: Call::ReadProfile,
            status,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![b'a'; ANSWER_KEPT + 1]),
            compressed: None,
        };
        let mut journal = Journal::default();
        journal.answered(answer(200));
        assert_eq!((journal.keeps_answers(), journal.answers().count()), (false, 0));
        journal.keep_answers(2);
        (200..203).for_each(|status| journal.answered(answer(status)));
        let kept: Vec<_> = journal.answers().map(|it| (it.status, it.body.len())).collect();
        assert_eq!(kept, [(201, ANSWER_KEPT), (202, ANSWER_KEPT)]);
        journal.keep_answers(0);
        assert_eq!(journal.answers().count(), 0);
        journal.keep_answers(usize::MAX);
        assert_eq!(journal.most_answers, MOST_ANSWERS);
    }

    #[test]
    fn counts_stay_exact_when_requests_are_forgotten_and_forms_are_never_kept() {
        let mut journal = Journal::default();
        let request = Recorded {
            call: Call::Refresh,
            method: "POST".into(),
            host: "localhost".into(),
            path: "/2/oauth2/token".into(),
            query: Some("secret".into()),
            headers: vec![],
            authorization_present: true,
            body: b"refresh_token=secret".to_vec(),
            status: 200,
            quirk: None,
        };
        for _ in 0..NEWEST + 10 {
            journal.record(request.clone());
        }
        assert_eq!(journal.calls(Call::Refresh), NEWEST as u64 + 10);
        assert_eq!(journal.newest().count(), NEWEST);
        assert!(journal.newest().all(|kept| kept.body.is_empty() && kept.query.is_none()));
    }
}
