//! Grants: authorization codes, and the families of tokens that come from them.
//!
//! All tokens that descend from one consent are a family. A refresh token is good once; presenting a spent one again kills
//! its whole family (RFC 9700 §4.14.2) unless a [`SpentRule`] says otherwise, and presenting a spent code always does (RFC 6749
//! §4.1.2). Pure: the hour is a parameter, clients arrive authenticated.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::world;

/// How long a code may be exchanged, in milliseconds: X gives 30 s.
pub(crate) const CODE_LIFETIME_MS: u64 = 30_000;
/// How long a refresh token may be used, in milliseconds: X gives six months.
const REFRESH_LIFETIME_MS: u64 = 180 * 24 * 3_600_000;
/// What is remembered. Past it the oldest are forgotten, and an unknown token is refused like a wrong one.
const MOST_TOKENS: usize = 200_000;
const MOST_CODES: usize = 10_000;

/// Which of the two a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Opens the API.
    Access,
    /// Opens the token endpoint, once.
    Refresh,
}

/// A token in the clear, as it was issued, so that a test knows what must be found nowhere. Not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// Access or refresh.
    pub kind: TokenKind,
    /// The token itself.
    pub text: String,
    /// Whether the platform would accept it now.
    pub live: bool,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("kind", &self.kind).field("live", &self.live).finish_non_exhaustive()
    }
}

/// What the platform does with a refresh token that was spent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpentRule {
    /// It is theft: the family dies (RFC 9700 §4.14.2).
    #[default]
    Punished,
    /// It is forgotten: refused like one that never was, and whoever revokes it ends nothing.
    Forgotten,
    /// The same pair is answered once more.
    Repeated,
}

/// What a consent gave, waiting to be exchanged.
#[derive(Debug)]
pub(crate) struct Consent {
    pub(crate) client_id: String,
    pub(crate) account_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) challenge: String,
    pub(crate) scopes: Vec<String>,
}

/// Why no token is given (RFC 6749 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Unknown, expired, spent, revoked, another client's, or its proof does not fit.
    InvalidGrant,
    /// More than was consented to.
    InvalidScope,
}

/// A fresh pair.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: Option<String>,
    pub(crate) scopes: Vec<String>,
}

/// Whom a live access token stands for.
#[derive(Debug)]
pub(crate) struct Bearer {
    pub(crate) account_id: String,
    pub(crate) scopes: Vec<String>,
}

struct Code {
    consent: Consent,
    expires_ms: u64,
    spent: bool,
    family: Option<u64>,
}

struct Family {
    client_id: String,
    account_id: String,
    scopes: Vec<String>,
    dead: bool,
    tokens: usize,
}

struct Token {
    kind: TokenKind,
    family: u64,
    scopes: Vec<String>,
    expires_ms: u64,
    spent: bool,
    /// What a refresh answered for it.
    answered: Option<Pair>,
}

/// All codes, families and tokens.
pub(crate) struct Grants {
    codes: HashMap<String, Code>,
    code_order: VecDeque<String>,
    families: HashMap<u64, Family>,
    tokens: HashMap<String, Token>,
    token_order: VecDeque<String>,
    next_family: u64,
    /// How long an access token lives, in seconds.
    pub(crate) access_lifetime_s: u64,
    pub(crate) spent_rule: SpentRule,
    pub(crate) replays_punished: u64,
    pub(crate) code_reuses_punished: u64,
    pub(crate) revocations: u64,
}

impl Grants {
    pub(crate) fn new(access_lifetime_s: u64) -> Self {
        Self {
            codes: HashMap::new(),
            code_order: VecDeque::new(),
            families: HashMap::new(),
            tokens: HashMap::new(),
            token_order: VecDeque::new(),
            next_family: 0,
            access_lifetime_s,
            spent_rule: SpentRule::default(),
            replays_punished: 0,
            code_reuses_punished: 0,
            revocations: 0,
        }
    }

    /// A code for what the owner has consented to.
    pub(crate) fn give_code(&mut self, consent: Consent, now_ms: u64) -> String {
        if self.code_order.len() >= MOST_CODES
            && let Some(oldest) = self.code_order.pop_front()
        {
            self.codes.remove(&oldest);
        }
        let code = world::secret("ac", now_ms);
        let expires_ms = now_ms.saturating_add(CODE_LIFETIME_MS);
        self.codes.insert(code.clone(), Code { consent, expires_ms, spent: false, family: None });
        self.code_order.push_back(code.clone());
        code
    }

    /// Exchanges a code (RFC 6749 §4.1.3, RFC 7636 §4.6). A code is spent by its client's first try, right or wrong.
    pub(crate) fn exchange(
        &mut self,
        client_id: &str,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
        now_ms: u64,
    ) -> Result<Pair, Refusal> {
        let known = self.codes.get_mut(code).ok_or(Refusal::InvalidGrant)?;
        if known.consent.client_id != client_id {
            return Err(Refusal::InvalidGrant);
        }
        if std::mem::replace(&mut known.spent, true) {
            if let Some(family) = known.family.and_then(|family| self.families.get_mut(&family)) {
                self.code_reuses_punished += u64::from(!family.dead);
                family.dead = true;
            }
            return Err(Refusal::InvalidGrant);
        }
        if now_ms >= known.expires_ms
            || known.consent.redirect_uri != redirect_uri
            || known.consent.challenge != URL_SAFE_NO_PAD.encode(world::sha256(verifier.as_bytes()))
        {
            return Err(Refusal::InvalidGrant);
        }
        let id = self.next_family;
        self.next_family += 1;
        known.family = Some(id);
        let family = Family {
            client_id: client_id.to_owned(),
            account_id: known.consent.account_id.clone(),
            scopes: known.consent.scopes.clone(),
            dead: false,
            tokens: 0,
        };
        let scopes = family.scopes.clone();
        self.families.insert(id, family);
        Ok(self.give_pair(id, scopes, now_ms))
    }

    /// Exchanges a refresh token, which is spent by that (RFC 6749 §6). `narrower` are the scopes asked for, if any.
    pub(crate) fn refresh(
        &mut self,
        client_id: &str,
        refresh: &str,
        narrower: Option<Vec<String>>,
        now_ms: u64,
    ) -> Result<Pair, Refusal> {
        let token = self.tokens.get_mut(refresh).ok_or(Refusal::InvalidGrant)?;
        let family = self.families.get_mut(&token.family).ok_or(Refusal::InvalidGrant)?;
        if token.kind != TokenKind::Refresh || family.client_id != client_id || family.dead {
            return Err(Refusal::InvalidGrant);
        }
        if token.spent {
            return match (self.spent_rule, &token.answered) {
                (SpentRule::Repeated, Some(pair)) => Ok(pair.clone()),
                (SpentRule::Punished, _) => {
                    family.dead = true;
                    self.replays_punished += 1;
                    Err(Refusal::InvalidGrant)
                }
                _ => Err(Refusal::InvalidGrant),
            };
        }
        if now_ms >= token.expires_ms {
            return Err(Refusal::InvalidGrant);
        }
        let scopes = narrower.unwrap_or_else(|| family.scopes.clone());
        if !scopes.iter().all(|scope| family.scopes.contains(scope)) {
            return Err(Refusal::InvalidScope);
        }
        token.spent = true;
        let id = token.family;
        let pair = self.give_pair(id, scopes, now_ms);
        if let Some(token) = self.tokens.get_mut(refresh) {
            token.answered = Some(pair.clone());
        }
        Ok(pair)
    }

    fn give_pair(&mut self, family: u64, scopes: Vec<String>, now_ms: u64) -> Pair {
        // What was consented to decides, not what this access token was narrowed to: else narrowing would end the grant.
        let offline =
            self.families.get(&family).is_some_and(|known| known.scopes.iter().any(|it| it == "offline.access"));
        let lifetime_ms = self.access_lifetime_s.saturating_mul(1000);
        let access = self.give(TokenKind::Access, family, scopes.clone(), now_ms, lifetime_ms);
        let refresh = offline.then(|| self.give(TokenKind::Refresh, family, Vec::new(), now_ms, REFRESH_LIFETIME_MS));
        Pair { access, refresh, scopes }
    }

    fn give(&mut self, kind: TokenKind, family: u64, scopes: Vec<String>, now_ms: u64, lifetime_ms: u64) -> String {
        if self.token_order.len() >= MOST_TOKENS {
            self.forget_oldest();
        }
        let text = world::secret(if kind == TokenKind::Access { "at" } else { "rt" }, now_ms);
        let expires_ms = now_ms.saturating_add(lifetime_ms);
        self.tokens.insert(text.clone(), Token { kind, family, scopes, expires_ms, spent: false, answered: None });
        self.token_order.push_back(text.clone());
        if let Some(family) = self.families.get_mut(&family) {
            family.tokens += 1;
        }
        text
    }

    fn forget_oldest(&mut self) {
        let Some(token) = self.token_order.pop_front().and_then(|oldest| self.tokens.remove(&oldest)) else { return };
        if let Some(family) = self.families.get_mut(&token.family) {
            family.tokens -= 1;
            if family.tokens == 0 {
                self.families.remove(&token.family);
            }
        }
    }

    /// Revokes (RFC 7009 §2.1): a refresh token takes its whole family along, an access token only itself. A token that is
    /// unknown is as good as revoked; another client's is refused.
    pub(crate) fn revoke(&mut self, client_id: &str, text: &str) -> Result<(), Refusal> {
        let Some(token) = self.tokens.get_mut(text) else { return Ok(()) };
        let Some(family) = self.families.get_mut(&token.family) else { return Ok(()) };
        if family.client_id != client_id {
            return Err(Refusal::InvalidGrant);
        }
        match token.kind {
            TokenKind::Refresh if token.spent && self.spent_rule == SpentRule::Forgotten => {}
            TokenKind::Refresh => {
                self.revocations += u64::from(!family.dead);
                family.dead = true;
            }
            TokenKind::Access => {
                self.revocations += u64::from(!family.dead && !token.spent);
                token.spent = true;
            }
        }
        Ok(())
    }

    /// Whom the access token stands for, if it is live.
    pub(crate) fn bearer(&self, access: &str, now_ms: u64) -> Option<Bearer> {
        let token = self.tokens.get(access).filter(|token| token.kind == TokenKind::Access)?;
        let family = self.families.get(&token.family)?;
        live(token, family, now_ms)
            .then(|| Bearer { account_id: family.account_id.clone(), scopes: token.scopes.clone() })
    }

    /// Lets every access token of the account expire now.
    pub(crate) fn expire_access(&mut self, account_id: &str, now_ms: u64) {
        for token in self.tokens.values_mut().filter(|token| token.kind == TokenKind::Access) {
            if self.families.get(&token.family).is_some_and(|family| family.account_id == account_id) {
                token.expires_ms = token.expires_ms.min(now_ms);
            }
        }
    }

    /// Every remembered token of the account, oldest first.
    pub(crate) fn issued(&self, account_id: &str, now_ms: u64) -> Vec<IssuedToken> {
        self.token_order
            .iter()
            .filter_map(|text| {
                let token = self.tokens.get(text)?;
                let family = self.families.get(&token.family).filter(|family| family.account_id == account_id)?;
                Some(IssuedToken { kind: token.kind, text: text.clone(), live: live(token, family, now_ms) })
            })
            .collect()
    }
}

fn live(token: &Token, family: &Family, now_ms: u64) -> bool {
    !family.dead && !token.spent && now_ms < token.expires_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-000000";

    fn consent(scopes: &[&str]) -> Consent {
        Consent {
            client_id: "c".into(),
            account_id: "1".into(),
            redirect_uri: "https://a.example/cb".into(),
            challenge: URL_SAFE_NO_PAD.encode(world::sha256(VERIFIER.as_bytes())),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        }
    }

    fn connected(grants: &mut Grants) -> Pair {
        let code = grants.give_code(consent(&["tweet.read", "offline.access"]), 0);
        grants.exchange("c", &code, "https://a.example/cb", VERIFIER, 1).ok().unwrap()
    }

    #[test]
    fn a_code_is_exchanged_by_its_client_in_time_with_its_address_and_verifier_only() {
        let table = [
            ("d", "https://a.example/cb", VERIFIER, 1),
            ("c", "https://a.example/cb/", VERIFIER, 1),
            ("c", "https://a.example/cb", "another-verifier-that-is-long-enough-0000000000", 1),
            ("c", "https://a.example/cb", VERIFIER, CODE_LIFETIME_MS),
        ];
        for (client, uri, verifier, now) in table {
            let mut grants = Grants::new(7200);
            let code = grants.give_code(consent(&["tweet.read"]), 0);
            let refused = grants.exchange(client, &code, uri, verifier, now).err();
            assert_eq!(refused, Some(Refusal::InvalidGrant), "{client} {uri} {verifier} {now}");
        }
        let mut grants = Grants::new(7200);
        let code = grants.give_code(consent(&["tweet.read"]), 0);
        let pair = grants.exchange("c", &code, "https://a.example/cb", VERIFIER, CODE_LIFETIME_MS - 1).ok().unwrap();
        assert!(pair.refresh.is_none(), "no offline.access, no refresh token");
        assert!(grants.bearer(&pair.access, 2).is_some());
    }

    #[test]
    fn a_spent_code_kills_what_came_from_it() {
        let mut grants = Grants::new(7200);
        let code = grants.give_code(consent(&["tweet.read"]), 0);
        let pair = grants.exchange("c", &code, "https://a.example/cb", VERIFIER, 1).ok().unwrap();
        assert!(grants.exchange("c", &code, "https://a.example/cb", VERIFIER, 2).is_err());
        assert!(grants.bearer(&pair.access, 3).is_none());
        assert_eq!(grants.code_reuses_punished, 1);
    }

    #[test]
    fn a_replayed_refresh_token_kills_its_family_and_is_punished_once() {
        let mut grants = Grants::new(7200);
        let first = connected(&mut grants);
        let other = connected(&mut grants);
        let old = first.refresh.unwrap();
        let second = grants.refresh("c", &old, None, 2).ok().unwrap();
        assert!(grants.bearer(&first.access, 3).is_some(), "a refresh does not end the access token before it");
        for _ in 0..2 {
            assert!(grants.refresh("c", &old, None, 3).is_err());
        }
        assert!(grants.bearer(&second.access, 4).is_none());
        assert!(grants.refresh("c", &second.refresh.unwrap(), None, 4).is_err());
        assert_eq!(grants.replays_punished, 1);
        assert!(grants.bearer(&other.access, 4).is_some(), "another consent is another family");
    }

    #[test]
    fn a_refresh_is_its_clients_own_and_may_narrow_and_never_widen() {
        let mut grants = Grants::new(7200);
        let refresh = connected(&mut grants).refresh.unwrap();
        assert!(grants.refresh("d", &refresh, None, 2).is_err(), "another client's, which spends nothing");
        let wider = grants.refresh("c", &refresh, Some(vec!["tweet.write".into()]), 2).err();
        assert_eq!(wider, Some(Refusal::InvalidScope));
        let pair = grants.refresh("c", &refresh, Some(vec!["tweet.read".into()]), 2).ok().unwrap();
        assert_eq!(grants.bearer(&pair.access, 3).unwrap().scopes, ["tweet.read"]);
        assert!(pair.refresh.is_some());
    }

    #[test]
    fn tokens_end_with_time_and_by_revocation_of_their_own_client() {
        let mut grants = Grants::new(10);
        let pair = connected(&mut grants);
        assert!(grants.bearer(&pair.access, 10_000).is_some());
        assert!(grants.bearer(&pair.access, 10_001).is_none());

        let mut grants = Grants::new(7200);
        let pair = connected(&mut grants);
        let refresh = pair.refresh.unwrap();
        assert!(grants.revoke("d", &refresh).is_err() && grants.bearer(&pair.access, 2).is_some());
        assert!(grants.revoke("c", "never issued").is_ok());
        assert!(grants.revoke("c", &pair.access).is_ok() && grants.bearer(&pair.access, 2).is_none());
        let next = grants.refresh("c", &refresh, None, 2).ok().unwrap();
        assert!(grants.revoke("c", &next.refresh.unwrap()).is_ok() && grants.bearer(&next.access, 3).is_none());
        assert_eq!(grants.revocations, 2);
        assert!(grants.issued("1", 3).iter().all(|token| !token.live));
        assert_eq!(grants.issued("1", 3).len(), 4);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut grants = Grants::new(7200);
        for _ in 0..=MOST_CODES {
            grants.give_code(consent(&[]), 0);
        }
        assert_eq!((grants.codes.len(), grants.code_order.len()), (MOST_CODES, MOST_CODES));
        let pair = connected(&mut grants);
        grants.forget_oldest();
        assert!(grants.bearer(&pair.access, 2).is_none());
        grants.forget_oldest();
        assert!(grants.families.is_empty() && grants.tokens.is_empty());
    }
}
