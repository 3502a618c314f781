//! What is interrupted: the six pieces of work whose steps the matrix walks, each with what prepares it, what calls for it, and
//! what drives it to its end afterwards, as a caller would who was not answered.

use keyholder::{caller::Reply, local::PROVIDER};
use sandbox::{Platform, Sandbox, TokenKind};
use serde_json::{Value, json};
use service::step::{Step, UseCase};
use url::Url;

use super::stage::{Callers, Stage};
use crate::harness::{ACCOUNT, Entrusted, RETURN, TestApp, in_the_end, location, ok, query, text};

/// What the act writes, and its idempotency key: one effect, counted at the platform.
const TEXT: &str = "written-once";
/// How long the first token lives, in seconds; as far as Keyholder knows, it is dead already.
const SOON: u64 = 30;
const LATER: u64 = 7200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// A send that budgets bind.
    Act,
    /// A read that passes without the ledger.
    Read,
    /// A read whose credential is about to expire.
    Refresh,
    /// An owner's way back from the platform.
    Connect,
    /// The same, by an owner who consents anew to a connection that is in use.
    Reconnect,
    /// The end of a connection.
    Disconnect,
}

/// How a piece of work ended, after everything that had died was started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The caller has the answer, of this try or the first.
    Done,
    /// The ledger says that nobody can know, and keeps the units.
    Ambiguous,
    /// Only the owner can mend the connection, and everybody is told so.
    ReconnectRequired,
    /// The connection can be used.
    Connected,
    /// There is no connection, and no grant at the platform.
    NothingLeft,
    /// The connection goes on with its owner's new consent.
    Renewed,
    /// The connection goes on with the consent that it had.
    Unchanged,
    /// There is a certificate, and nothing that could open the account.
    Certified,
}

/// What a piece of work stands on.
pub(super) struct Prepared {
    pub(super) entrusted: Option<Entrusted>,
}

/// What the interrupted call was answered.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// The status; 0 for a call that was not answered at all.
    pub(super) status: u16,
    /// The code that the owner's browser brought home.
    code: Option<String>,
}

impl Work {
    pub(super) const ALL: [Self; 6] =
        [Self::Act, Self::Read, Self::Refresh, Self::Connect, Self::Reconnect, Self::Disconnect];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Read => "read",
            Self::Refresh => "refresh",
            Self::Connect => "connect",
            Self::Reconnect => "reconnect",
            Self::Disconnect => "disconnect",
        }
    }

    /// The use case whose steps it is interrupted at.
    fn use_case(self) -> UseCase {
        match self {
            Self::Act | Self::Read => UseCase::Act,
            Self::Refresh => UseCase::Refresh,
            Self::Connect | Self::Reconnect => UseCase::Connect,
            Self::Disconnect => UseCase::Disconnect,
        }
    }

    /// The steps at which it is interrupted. A read that no budget binds is not admitted.
    pub(super) fn steps(self) -> impl Iterator<Item = Step> {
        let of_it =
            move |step: &Step| step.use_case() == self.use_case() && (self != Self::Read || *step != Step::Admit);
        Step::ALL.iter().copied().filter(of_it)
    }

    /// Brings the workspace to where the work can be called for.
    pub(super) async fn prepare(self, app: &TestApp) -> Prepared {
        let platform = app.sandbox.platform();
        let entrusted = match self {
            Self::Connect => None,
            Self::Act => {
                let limits =
                    json!([{ "unit": "posts", "per": "month", "cap": 2 }, { "unit": "acts", "per": "day", "cap": 9 }]);
                Some(app.entrust(&["post.create"], limits).await)
            }
            Self::Read | Self::Reconnect | Self::Disconnect => Some(app.entrust(&["profile.read"], json!([])).await),
            Self::Refresh => {
                platform.set_token_lifetime(SOON);
                let entrusted = app.entrust(&["profile.read"], json!([])).await;
                platform.set_token_lifetime(LATER);
                app.age("-1 second").await;
                Some(entrusted)
            }
        };
        Prepared { entrusted }
    }

    /// Calls for the work, once.
    pub(super) async fn call(self, sandbox: &Sandbox, callers: &Callers, prepared: &Prepared) -> Said {
        let reply = match (self, &prepared.entrusted) {
            (Self::Connect, _) => return connect(sandbox, callers, None).await,
            (Self::Reconnect, Some(it)) => return connect(sandbox, callers, Some(&it.connection)).await,
            (Self::Disconnect, Some(it)) => callers.admin.delete(&format!("/v1/connections/{}", it.connection)).await,
            (_, Some(it)) => self.act(callers, it).await,
            (_, None) => panic!("{self:?} has nothing to stand on"),
        };
        Said { status: reply.map_or(0, |reply| reply.status.as_u16()), code: None }
    }

    async fn act(self, callers: &Callers, it: &Entrusted) -> Result<Reply, keyholder::caller::CallError> {
        let agent = callers.stranger.with_key(it.agent.key().unwrap());
        match self {
            Self::Act => agent.act(&it.mandate, "post.create", &json!({ "text": TEXT }), Some(TEXT)).await,
            _ => agent.act(&it.mandate, "profile.read", &json!({}), None).await,
        }
    }

    /// Drives the work to its end at a node that lives, as whoever called for it would.
    pub(super) async fn finish(self, stage: &Stage, callers: &Callers, prepared: &Prepared, said: &Said) -> End {
        match (self, &prepared.entrusted) {
            (Self::Act | Self::Read, Some(it)) => self.ask_until_told(callers, it).await,
            (Self::Refresh, Some(it)) => {
                // The old token is dead before long: an act that passes then passes by the new one.
                stage.sandbox.platform().pass_time(std::time::Duration::from_secs(SOON + 1));
                let end = self.ask_until_told(callers, it).await;
                if end == End::ReconnectRequired {
                    renew(stage, callers, it).await;
                    assert_eq!(
                        self.ask_until_told(callers, it).await,
                        End::Done,
                        "the owner's new consent did not mend it"
                    );
                }
                end
            }
            (Self::Connect, _) => end_of_connect(stage, callers, said).await,
            (Self::Reconnect, Some(it)) => self.end_of_reconnect(stage, callers, it, said).await,
            (Self::Disconnect, Some(it)) => end_of_disconnect(stage, callers, it).await,
            (_, None) => panic!("{self:?} has nothing to stand on"),
        }
    }

    /// The connection has the new consent or the one before, and acts pass by it. The other one is ended at the platform: what nobody here
    /// holds, nobody would ever revoke. And the owner may try again.
    async fn end_of_reconnect(self, stage: &Stage, callers: &Callers, it: &Entrusted, said: &Said) -> End {
        let only_one_is_live = async || {
            in_the_end("one grant is live at the platform, and no other", async || {
                stage.hurry_jobs().await;
                live(stage.sandbox.platform(), TokenKind::Refresh) == 1
            })
            .await;
            assert_eq!(self.ask_until_told(callers, it).await, End::Done);
        };
        only_one_is_live().await;
        let consents = stage.count("select max(consent) from keyholder.credentials").await;
        assert!(consents == 2 || said.status != 303, "the browser was told of a renewal that is not there");
        in_the_end("the owner can try again", async || {
            connect(&stage.sandbox, callers, Some(&it.connection)).await.status == 303
        })
        .await;
        only_one_is_live().await;
        if consents == 2 { End::Renewed } else { End::Unchanged }
    }

    /// The same request with the same key, until the answer is a last one.
    async fn ask_until_told(self, callers: &Callers, it: &Entrusted) -> End {
        let end = std::cell::Cell::new(None);
        in_the_end("the act has a last answer", async || {
            let Ok(reply) = self.act(callers, it).await else { return false };
            let kind = text(&reply.json(), "/type").rsplit(':').next().unwrap_or_default().to_owned();
            end.set(match (reply.status.as_u16(), kind.as_str()) {
                (200, _) => match (self, reply.json().pointer("/status").and_then(Value::as_u64)) {
                    (Self::Act, Some(201)) | (Self::Read | Self::Refresh | Self::Reconnect, Some(200)) => {
                        Some(End::Done)
                    }
                    // Until the lease of a dead node runs out, an act tries the old token, which is dead at the platform.
                    (Self::Refresh, Some(401)) => None,
                    (_, status) => panic!("the platform answered {status:?}: {}", reply.json()),
                },
                (409, "act-ambiguous") => Some(End::Ambiguous),
                (503, "reconnect-required") => Some(End::ReconnectRequired),
                (409, "act-in-progress") | (502..=504, _) => None,
                (status, _) => panic!("{status}: {}", reply.json()),
            });
            end.get().is_some()
        })
        .await;
        end.get().unwrap()
    }
}

/// The access and refresh tokens at the platform that are live.
pub(super) fn live(platform: &Platform, kind: TokenKind) -> usize {
    platform.tokens(ACCOUNT).iter().filter(|token| token.live && token.kind == kind).count()
}

/// How often the act had its effect.
pub(super) fn effects(platform: &Platform) -> usize {
    platform.posts_by(ACCOUNT).iter().filter(|post| post.text == TEXT).count()
}

/// An owner's browser, from a link to the return address: what it was answered at the platform's callback.
async fn connect(sandbox: &Sandbox, callers: &Callers, renews: Option<&str>) -> Said {
    let home = walk_home(sandbox, callers, renews).await;
    let code = home.as_ref().and_then(|home| query(home, "keyholder_code"));
    let failed = home.as_ref().is_some_and(|home| query(home, "keyholder_error").is_some());
    let status = match (&home, failed) {
        (None, _) => 0,
        (_, true) => 503,
        _ => 303,
    };
    Said { status, code }
}

/// Where the browser ends; nowhere, if the node fell silent while it was on its way.
async fn walk_home(sandbox: &Sandbox, callers: &Callers, renews: Option<&str>) -> Option<Url> {
    let wanted =
        json!({ "provider": PROVIDER, "actions": ["profile.read"], "return_url": RETURN, "connection": renews });
    let link = callers.admin.post("/v1/connect-links", &wanted).await.ok().filter(|reply| reply.status == 201)?;
    let link = Url::parse(text(&link.json(), "/url")).unwrap().path().to_owned();
    let browser = callers.stranger.with_no_cookies();
    // After an outage a node's first question on each old connection fails.
    if browser.get(&link).await.ok()?.status != 200 {
        return None;
    }
    let to = browser.submit(&link, &[("allow", "profile.read")]).await.ok().filter(|reply| reply.status == 303)?;
    let back = sandbox.platform().approve(location(&to), ACCOUNT).unwrap();
    let reply = browser.get(&back).await.ok()?;
    // A callback that could not be taken at all is a page, and leads nowhere.
    (reply.status == 303).then(|| Url::parse(location(&reply)).unwrap())
}

async fn redeem(callers: &Callers, code: &str) -> bool {
    let redeemed = callers.admin.post("/v1/connections/redeem", &json!({ "code": code })).await;
    redeemed.is_ok_and(|reply| reply.status == 200)
}

/// The owner consents anew.
async fn renew(stage: &Stage, callers: &Callers, it: &Entrusted) {
    let path = format!("/v1/connections/{}", it.connection);
    let said = ok(callers.admin.get(&path).await.unwrap(), 200);
    assert_eq!(text(&said, "/state"), "reconnect_required");
    let home = walk_home(&stage.sandbox, callers, Some(&it.connection)).await.unwrap();
    assert_eq!(query(&home, "keyholder_connection").as_ref(), Some(&it.connection));
}

/// Either the browser brought a code home, which is redeemed; or there is nothing, here and at the platform, within the time that
/// a connection may lie unredeemed. And the owner may try again.
async fn end_of_connect(stage: &Stage, callers: &Callers, said: &Said) -> End {
    let platform = stage.sandbox.platform();
    let end = if let Some(code) = &said.code {
        in_the_end("the code is redeemed", async || redeem(callers, code).await).await;
        End::Connected
    } else {
        in_the_end("no grant is left at the platform that nobody here holds", async || {
            stage.hurry_jobs().await;
            live(platform, TokenKind::Refresh) == 0
        })
        .await;
        End::NothingLeft
    };
    let before = live(platform, TokenKind::Refresh);
    in_the_end("the owner can try again", async || match connect(&stage.sandbox, callers, None).await.code {
        Some(code) => redeem(callers, &code).await,
        None => false,
    })
    .await;
    assert_eq!(live(platform, TokenKind::Refresh), before + 1);
    end
}

async fn end_of_disconnect(stage: &Stage, callers: &Callers, it: &Entrusted) -> End {
    let path = format!("/v1/connections/{}/certificate", it.connection);
    in_the_end("there is a certificate", async || {
        stage.hurry_jobs().await;
        callers.admin.get(&path).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    let certificate = ok(callers.admin.get(&path).await.unwrap(), 200);
    assert_eq!(text(&certificate, "/old_token"), "dead", "{certificate}");
    End::Certified
}
