//! The platform itself: everything that it knows, behind one lock, and the handle through which tests and demonstrations
//! look inside and throw switches.
//!
//! The lock is held for one step of one request and never across an await.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;
use url::Url;

use crate::{
    consent::{self, Fault},
    grant::{Grants, IssuedToken, SpentRule, TokenKind},
    journal::{Answered, Call, Journal, Outcome, Recorded},
    params::Params,
    post::{Post, Posts},
    quirk::{Armed, Quirk, Scope, SwitchError, Switchboard},
    registry::{Account, Client, RegisterError, Registry},
    sandbox::SandboxOptions,
    world::Hour,
};

/// X's rate limits count in windows of a quarter of an hour.
const WINDOW_MS: u64 = 900_000;

/// The account's owner could not approve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApproveError {
    /// The text is no address.
    #[error("not an address")]
    Address(#[source] url::ParseError),
    /// There is no such account.
    #[error("no account has the handle {0}")]
    UnknownAccount(String),
    /// The platform shows a page instead of asking: the client or its redirect address is not registered.
    #[error("the platform would not ask: {0}")]
    Refused(&'static str),
    /// The platform sends the browser back with an error at once, to this address.
    #[error("the platform sends the browser back with an error")]
    SentBack(String),
}

/// Everything that the platform knows.
pub(crate) struct Interior {
    pub(crate) hour: Hour,
    pub(crate) registry: Registry,
    pub(crate) grants: Grants,
    pub(crate) posts: Posts,
    pub(crate) journal: Journal,
    pub(crate) board: Switchboard,
    pub(crate) rates: Rates,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) last_echo: Option<Bytes>,
    pub(crate) witness: Option<PostWitness>,
}

/// How many calls an account may make of one kind in a window, and how many it has made.
pub(crate) struct Rates {
    per_window: u32,
    used: HashMap<(String, Call), (u64, u32)>,
}

/// What the rate limit headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    /// When the window ends, in seconds since 1970.
    pub(crate) reset_s: u64,
    pub(crate) exceeded: bool,
}

impl Rates {
    /// Counts one call.
    pub(crate) fn count(&mut self, account_id: &str, call: Call, now_ms: u64) -> Rate {
        let window = now_ms / WINDOW_MS;
        // Accounts are made in memory only, so this map is as small as their number times the kinds of call.
        let (begun, used) = self.used.entry((account_id.to_owned(), call)).or_insert((window, 0));
        if *begun != window {
            (*begun, *used) = (window, 0);
        }
        let exceeded = *used >= self.per_window;
        *used += u32::from(!exceeded);
        Rate {
            limit: self.per_window,
            remaining: self.per_window - *used,
            reset_s: (window + 1) * WINDOW_MS / 1000,
            exceeded,
        }
    }
}

/// Hears of each post that a client writes.
pub type PostWitness = Arc<dyn Fn(&Post) + Send + Sync>;

struct Shared {
    interior: Mutex<Interior>,
    hosts: BTreeSet<String>,
    released: watch::Sender<u64>,
}

/// A handle on the platform. Clones are the same platform.
#[derive(Clone)]
pub struct Platform(Arc<Shared>);

impl Platform {
    pub(crate) fn new(options: SandboxOptions, hosts: BTreeSet<String>) -> Result<Self, RegisterError> {
        let mut interior = Interior {
            hour: Hour::default(),
            registry: Registry::default(),
            grants: Grants::new(options.token_lifetime_s),
            posts: Posts::new(options.most_posts),
            journal: Journal::default(),
            board: Switchboard::default(),
            rates: Rates { per_window: options.rate_limit, used: HashMap::new() },
            scopes: consent::X_SCOPES.iter().map(|&scope| scope.to_owned()).chain(options.extra_scopes).collect(),
            last_echo: None,
            witness: None,
        };
        for client in options.clients {
            interior.registry.register(client)?;
        }
        let platform =
            Self(Arc::new(Shared { interior: Mutex::new(interior), hosts, released: watch::Sender::new(0) }));
        for (handle, name) in &options.accounts {
            platform.open_account(handle, name);
        }
        Ok(platform)
    }

    pub(crate) fn interior(&self) -> MutexGuard<'_, Interior> {
        self.0.interior.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn knows_host(&self, host: &str) -> bool {
        self.0.hosts.contains(host)
    }

    /// A receiver that changes when the switchboard is cleared. Taken before the effect, so that no clearing is missed.
    pub(crate) fn releases(&self) -> watch::Receiver<u64> {
        self.0.released.subscribe()
    }

    /// Registers a client, in place of one of the same id.
    ///
    /// # Errors
    /// A redirect address or the issuer is not one.
    pub fn register(&self, client: Client) -> Result<(), RegisterError> {
        self.interior().registry.register(client)
    }

    /// The account of this handle; it is opened if there is none.
    pub fn open_account(&self, handle: &str, name: &str) -> Account {
        let mut interior = self.interior();
        let now_ms = interior.hour.now_ms();
        let Interior { registry, posts, .. } = &mut *interior;
        registry.open_account(handle, name, || posts.next_id(now_ms).to_string())
    }

    /// The account of this handle.
    pub fn account(&self, handle: &str) -> Option<Account> {
        self.interior().registry.by_handle(handle).cloned()
    }

    /// Plays the owner who opens the authorization address, chooses this account and allows: answers the address to which
    /// the platform sends the browser back, with `code`, `state` and `iss`.
    ///
    /// # Errors
    /// The platform would not have asked, or there is no such account.
    pub fn approve(&self, authorize_url: &str, account: &str) -> Result<String, ApproveError> {
        let url = Url::parse(authorize_url).map_err(ApproveError::Address)?;
        let mut interior = self.interior();
        let ask = ask(&interior, &url)?;
        consent::allow(&mut interior, ask, account).ok_or_else(|| ApproveError::UnknownAccount(account.to_owned()))
    }

    /// Plays the owner who denies.
    ///
    /// # Errors
    /// The platform would not have asked.
    pub fn deny(&self, authorize_url: &str) -> Result<String, ApproveError> {
        let url = Url::parse(authorize_url).map_err(ApproveError::Address)?;
        Ok(consent::deny(&ask(&self.interior(), &url)?))
    }

    /// Throws a switch: the quirk meets the requests of its scope. Switches that cover the same request apply one after
    /// the other, in the order in which they were thrown.
    ///
    /// # Errors
    /// A value is out of range, or 64 switches wait already.
    pub fn switch(&self, quirk: Quirk, scope: Scope) -> Result<(), SwitchError> {
        self.interior().board.switch(quirk, scope)
    }

    /// Takes back all switches, and lets go of the answers that are held.
    pub fn clear(&self) {
        self.interior().board.clear();
        self.0.released.send_modify(|generation| *generation += 1);
    }

    /// The switches that still wait.
    pub fn armed(&self) -> Vec<Armed> {
        self.interior().board.armed().cloned().collect()
    }

    /// How many requests have met a quirk.
    pub fn fired(&self) -> u64 {
        self.interior().board.fired()
    }

    /// How many requests of this kind arrived, whatever the answer.
    pub fn calls(&self, call: Call) -> u64 {
        self.interior().journal.calls(call)
    }

    /// How many requests of this kind arrived and ended so.
    pub fn calls_with(&self, call: Call, outcome: Outcome) -> u64 {
        self.interior().journal.count(call, outcome)
    }

    /// How many requests of this kind met the quirk of this name ([`Quirk::name`]).
    pub fn calls_with_quirk(&self, call: Call, quirk: &str) -> u64 {
        self.interior().journal.quirked(call, quirk)
    }

    /// How many requests reached the token endpoint.
    pub fn token_calls(&self) -> u64 {
        let interior = self.interior();
        interior.journal.calls(Call::Exchange) + interior.journal.calls(Call::Refresh)
    }

    /// How many requests presented a refresh token, accepted or not.
    pub fn refreshes(&self) -> u64 {
        self.calls(Call::Refresh)
    }

    /// How often a family died because a spent refresh token came again.
    pub fn replays_punished(&self) -> u64 {
        self.interior().grants.replays_punished
    }

    /// How often a family died because its code came again.
    pub fn code_reuses_punished(&self) -> u64 {
        self.interior().grants.code_reuses_punished
    }

    /// How many revocations ended something that was live.
    pub fn revocations(&self) -> u64 {
        self.interior().grants.revocations
    }

    /// The newest 4,096 requests, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.interior().journal.newest().cloned().collect()
    }

    /// The posts of this handle that still exist, oldest first.
    pub fn posts_by(&self, handle: &str) -> Vec<Post> {
        self.interior().posts.all().filter(|post| post.author == handle).cloned().collect()
    }

    /// How many posts this handle ever wrote, deleted ones included.
    pub fn posts_written_by(&self, handle: &str) -> u64 {
        let interior = self.interior();
        interior.registry.by_handle(handle).map_or(0, |account| interior.posts.written_by(&account.id))
    }

    /// Writes a post as this handle, without any client: something to reply to. `None` where there is no such account.
    pub fn post_as(&self, handle: &str, text: &str) -> Option<Post> {
        let mut interior = self.interior();
        let author = interior.registry.by_handle(handle)?.clone();
        let now_ms = interior.hour.now_ms();
        interior.posts.write(&author.id, &author.handle, text.to_owned(), None, now_ms)
    }

    /// Has a witness told of each post that a client writes, before its answer leaves: for whoever counts more than is kept. It is
    /// called under the platform's lock, and must not ask the platform.
    pub fn witness_posts(&self, witness: PostWitness) {
        self.interior().witness = Some(witness);
    }

    /// Every token that was issued for this handle, in the clear, oldest first (the newest 200,000 of the platform).
    pub fn tokens(&self, handle: &str) -> Vec<IssuedToken> {
        let interior = self.interior();
        let now_ms = interior.hour.now_ms();
        interior.registry.by_handle(handle).map_or_else(Vec::new, |account| interior.grants.issued(&account.id, now_ms))
    }

    /// The access token that was issued last for this handle, live or not.
    pub fn last_access_token(&self, handle: &str) -> Option<String> {
        self.tokens(handle).into_iter().rfind(|token| token.kind == TokenKind::Access).map(|token| token.text)
    }

    /// Whether the API would accept this access token now.
    pub fn is_live(&self, access_token: &str) -> bool {
        let interior = self.interior();
        interior.grants.bearer(access_token, interior.hour.now_ms()).is_some()
    }

    /// How long access tokens live that are issued from now on, in seconds.
    pub fn set_token_lifetime(&self, seconds: u64) {
        self.interior().grants.access_lifetime_s = seconds;
    }

    /// What becomes of refresh tokens that were spent before.
    pub fn set_spent_rule(&self, rule: SpentRule) {
        self.interior().grants.spent_rule = rule;
    }

    /// Lets all access tokens of this handle expire now; its refresh tokens stay good.
    pub fn expire_access_tokens(&self, handle: &str) {
        let mut interior = self.interior();
        let now_ms = interior.hour.now_ms();
        if let Some(id) = interior.registry.by_handle(handle).map(|account| account.id.clone()) {
            interior.grants.expire_access(&id, now_ms);
        }
    }

    /// How many calls of one kind an account may make in a quarter of an hour.
    pub fn set_rate_limit(&self, per_window: u32) {
        let mut interior = self.interior();
        interior.rates = Rates { per_window, used: HashMap::new() };
    }

    /// Lets time pass at the platform: codes and tokens grow older, windows end.
    pub fn pass_time(&self, by: Duration) {
        self.interior().hour.advance(by);
    }

    /// Keeps the newest so many answers from now on, at most 65,536; at first none is kept.
    pub fn keep_answers(&self, most: usize) {
        self.interior().journal.keep_answers(most);
    }

    /// The answers that are kept, oldest first.
    pub fn answers(&self) -> Vec<Answered> {
        self.interior().journal.answers().cloned().collect()
    }

    /// The newest answer that is kept.
    pub fn last_answer(&self) -> Option<Answered> {
        self.interior().journal.answers().next_back().cloned()
    }

    /// The last answer that echoed a credential: the header that held it, or its body before any compression.
    pub fn last_echo(&self) -> Option<Bytes> {
        self.interior().last_echo.clone()
    }
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform").field("hosts", &self.0.hosts).finish_non_exhaustive()
    }
}

fn ask(interior: &Interior, url: &Url) -> Result<consent::Ask, ApproveError> {
    let params = Params::parse(url.query().unwrap_or_default().as_bytes())
        .map_err(|_| ApproveError::Refused("a parameter comes twice"))?;
    consent::read(interior, &params).map_err(|fault| match fault {
        Fault::Page(why) => ApproveError::Refused(why),
        Fault::SendBack(location) => ApproveError::SentBack(location),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_down_per_account_and_kind_and_begin_anew_with_the_window() {
        let mut rates = Rates { per_window: 2, used: HashMap::new() };
        let first = rates.count("1", Call::Reply, 0);
        assert_eq!(first, Rate { limit: 2, remaining: 1, reset_s: 900, exceeded: false });
        assert!(!rates.count("1", Call::Reply, 1).exceeded);
        assert!(rates.count("1", Call::Reply, WINDOW_MS - 1).exceeded);
        assert!(!rates.count("1", Call::ReadPost, 1).exceeded);
        assert!(!rates.count("2", Call::Reply, 1).exceeded);
        assert!(!rates.count("1", Call::Reply, WINDOW_MS).exceeded);
    }
}
