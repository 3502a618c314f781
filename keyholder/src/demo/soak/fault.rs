//! The faults themselves: each is thrown, lasts for a while, and is over before the next one comes. And the owners' part in between:
//! whoever is told to consent anew does.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use domain::id::{ConnectionId, Id, NodeId};
use sandbox::{Quirk, Route, Scope};
use serde_json::json;
use store::tally;

use super::{
    SoakError,
    child::Berth,
    grounds::{Grounds, Lane},
    plan::{Kind, Plan},
};
use crate::{
    demo::stage::{Fault, expect, text},
    home::INSTALLATION,
};

/// How often what an owner or an admin does is tried while the last fault is still felt.
const TRIES: u32 = 60;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);
/// For how long after it a node's fault explains that a refresh was interrupted: a lease's term, and a margin.
const FELT_FOR: Duration = Duration::from_mins(1);
/// The quirks that spend a refresh token and keep the new one back.
const GARBLES: [&str; 3] = ["lose_answer", "cut_answer", "malformed_json"];

/// What the driver has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many faults of each kind were thrown.
    pub(super) faults: BTreeMap<&'static str, u64>,
    /// Connections that their owner had to consent to anew.
    pub(super) reconnects: u64,
    /// Of these, the ones whose refresh was under way at a node when it was killed or stopped.
    by_node: u64,
    /// The connections whose refresh a node's fault has interrupted, and when.
    interrupted: Vec<(String, Duration)>,
    /// What an admin or an owner could not do though no fault was left.
    pub(super) complaints: Vec<String>,
}

impl Seen {
    /// Connections whose owner had to consent anew though neither a node's fault nor an answer that the platform kept back explains it.
    pub(super) fn unexplained(&self, grounds: &Grounds) -> u64 {
        let platform = grounds.sandbox.platform();
        let kept_back: u64 = GARBLES.iter().map(|quirk| platform.calls_with_quirk(sandbox::Call::Refresh, quirk)).sum();
        self.reconnects.saturating_sub(self.by_node).saturating_sub(kept_back)
    }

    /// Remembers which refreshes were under way at a node that has just been killed or stopped. One whose answer already lies in the
    /// node's folder has arrived whole, and nothing excuses its loss.
    async fn interrupt(&mut self, grounds: &Grounds, berth: &Berth, node: &str) -> Result<(), SoakError> {
        let now = grounds.clock.since_boot();
        self.interrupted.retain(|(_, then)| now.saturating_sub(*then) < FELT_FOR);
        let Ok(node) = node.parse::<NodeId>() else { return Ok(()) };
        let kept = answers_in(&berth.state_dir);
        for leased in tally::leased_by(&grounds.owner, node.uuid()).await? {
            let connection = ConnectionId::from_uuid(leased).to_string();
            let is_kept = kept.iter().any(|name| name.starts_with(&connection));
            tracing::info!(connection, is_kept, "a refresh was under way there");
            if !is_kept {
                self.interrupted.push((connection, now));
            }
        }
        Ok(())
    }
}

/// The names of the files in a node's state folder that were written whole: what was answered and is not in the database yet.
fn answers_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.retain(|name| Path::new(name).extension().is_none_or(|part| part != "new"));
    names
}

/// Throws one fault, and returns when it is over.
pub(super) async fn throw(
    grounds: &mut Grounds,
    seen: &mut Seen,
    plan: &mut Plan,
    kind: Kind,
) -> Result<(), SoakError> {
    *seen.faults.entry(kind.as_str()).or_default() += 1;
    tracing::info!(fault = kind.as_str(), "a fault");
    match kind {
        Kind::NodeKilled => kill_node(grounds, seen, plan).await?,
        Kind::NodeStopped => stop_node(grounds, seen, plan).await?,
        Kind::DatabaseKilled => grounds.crash_database(Duration::from_millis(plan.between(50, 1500))).await?,
        Kind::ListenerCut => drop(tally::cut(&grounds.owner, INSTALLATION, "loader").await?),
        Kind::DatabaseCut => {
            for group in ["app", "ledger", "lookup"] {
                tally::cut(&grounds.owner, INSTALLATION, group).await?;
            }
        }
        Kind::MandateRevoked => revoke(grounds, seen, plan).await,
        Kind::Disconnected => disconnect(grounds, seen, plan).await,
        Kind::TokensExpired => {
            let lane = some_lane(grounds, plan).1;
            grounds.sandbox.platform().expire_access_tokens(&lane.account);
        }
        Kind::TokensDown => {
            arm(grounds, Quirk::Status { code: 503, retry_after_s: None }, Scope::always(Route::Token))?;
            tokio::time::sleep(Duration::from_millis(plan.between(2000, 6000))).await;
            grounds.sandbox.platform().clear();
        }
        _ => misbehave(grounds, plan, kind)?,
    }
    Ok(())
}

/// Lets the platform misbehave at the next few calls.
fn misbehave(grounds: &Grounds, plan: &mut Plan, kind: Kind) -> Result<(), SoakError> {
    let few = u32::try_from(plan.between(1, 40)).unwrap_or(1);
    let refreshes = Route::Only(sandbox::Call::Refresh);
    let malformed = plan.between(0, 2) == 0;
    let (quirk, scope) = match kind {
        Kind::AnswersLost => (Quirk::LoseAnswer, Scope::exactly(Route::Api, few)),
        Kind::AnswersSlow => {
            // Some are later than the provider file's limit of ten seconds.
            (Quirk::SlowAnswer { ms: plan.between(200, 12_000) }, Scope::exactly(Route::Api, few))
        }
        Kind::AnswersCut => (Quirk::CutAnswer { after_bytes: 9 }, Scope::exactly(Route::Api, few)),
        Kind::ApiFails => {
            let code = u16::try_from(plan.between(500, 505)).unwrap_or(500);
            (Quirk::Status { code, retry_after_s: Some(1) }, Scope::exactly(Route::Api, few))
        }
        Kind::ApiLimits => (Quirk::RateLimited { reset_after_s: 1 }, Scope::exactly(Route::Api, few)),
        Kind::AnswersMalformed => (Quirk::MalformedJson, Scope::exactly(Route::Api, few)),
        Kind::TokensSlow => (Quirk::SlowAnswer { ms: plan.between(500, 4000) }, Scope::exactly(refreshes, few.min(8))),
        Kind::TokenLost => (Quirk::LoseAnswer, Scope::once(refreshes)),
        _ if malformed => (Quirk::MalformedJson, Scope::once(refreshes)),
        _ => (Quirk::CutAnswer { after_bytes: 20 }, Scope::once(refreshes)),
    };
    arm(grounds, quirk, scope)
}

fn arm(grounds: &Grounds, quirk: Quirk, scope: Scope) -> Result<(), SoakError> {
    Ok(grounds.sandbox.platform().switch(quirk, scope)?)
}

async fn kill_node(grounds: &mut Grounds, seen: &mut Seen, plan: &mut Plan) -> Result<(), SoakError> {
    let Some(node) = grounds.nodes[1].take() else { return Err(SoakError::Lost("the second node")) };
    let id = node.ready.node.clone();
    node.kill().await;
    seen.interrupt(grounds, &grounds.berths[1], &id).await?;
    tokio::time::sleep(Duration::from_millis(plan.between(0, 1000))).await;
    grounds.nodes[1] = Some(grounds.berths[1].launch().await?);
    Ok(())
}

async fn stop_node(grounds: &Grounds, seen: &mut Seen, plan: &mut Plan) -> Result<(), SoakError> {
    let [first, second] = &grounds.nodes;
    let [kept, killed] = &grounds.berths;
    let (node, berth) = if plan.between(0, 2) == 0 { (first, kept) } else { (second, killed) };
    let Some(node) = node else { return Err(SoakError::Lost("a node")) };
    node.stop();
    let looked = seen.interrupt(grounds, berth, &node.ready.node).await;
    tokio::time::sleep(Duration::from_millis(plan.between(5500, 8000))).await;
    node.go_on();
    looked
}

/// A lane, and its place among all.
fn some_lane(grounds: &Grounds, plan: &mut Plan) -> (usize, Lane) {
    // The first lane's small budget ends with its mandate, and its count with it: the first stays as it is.
    let most = u64::try_from(grounds.lanes.len()).unwrap_or(2);
    let at = usize::try_from(plan.between(1, most)).unwrap_or(1);
    (at, Lane::clone(&grounds.lanes.get(at)))
}

async fn revoke(grounds: &Grounds, seen: &mut Seen, plan: &mut Plan) {
    let (at, mut lane) = some_lane(grounds, plan);
    let admin = grounds.admin(lane.workspace);
    let path = format!("/v1/mandates/{}/revoke", lane.mandate);
    let revoke = async || Ok(expect(&admin.post(&path, &json!({ "wait_ms": 1000 })).await?, 200).map(drop)?);
    insist(seen, "a mandate could not be revoked", revoke).await;
    let mut given = None;
    insist(seen, "a mandate could not be given", async || {
        given = Some(grounds.give_mandate(&lane, 1_000_000_000).await?);
        Ok(())
    })
    .await;
    if let Some(mandate) = given {
        lane.mandate = mandate;
        grounds.lanes.put(at, lane);
    }
}

async fn disconnect(grounds: &Grounds, seen: &mut Seen, plan: &mut Plan) {
    let (at, mut lane) = some_lane(grounds, plan);
    let admin = grounds.admin(lane.workspace);
    let path = format!("/v1/connections/{}", lane.connection);
    insist(seen, "a connection could not be disconnected", async || {
        let reply = admin.delete(&path).await?;
        // 409 where an earlier try, whose answer was not heard, is at it or has done it.
        if reply.status.as_u16() == 409 { Ok(()) } else { Ok(expect(&reply, 200).map(drop)?) }
    })
    .await;
    insist(seen, "an account could not be connected", async || grounds.connect(&mut lane).await).await;
    grounds.lanes.put(at, lane);
}

/// Does what a person would try again, and remembers what failed in the end.
async fn insist(seen: &mut Seen, what: &str, mut work: impl AsyncFnMut() -> Result<(), Fault>) {
    let mut last = String::new();
    for _ in 0..TRIES {
        match work().await {
            Ok(()) => return,
            Err(Fault(why)) => last = why,
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    seen.complaints.push(format!("{what}: {last}"));
}

/// Plays the owners of all connections that say that only a new consent helps, and finds out why each had to.
pub(super) async fn mend(grounds: &Grounds, seen: &mut Seen) {
    for at in 0..grounds.lanes.len() {
        let lane = grounds.lanes.get(at);
        let path = format!("/v1/connections/{}", lane.connection);
        let Ok(reply) = grounds.admin(lane.workspace).get(&path).await else { continue };
        if text(&reply.json(), "/state") != "reconnect_required" {
            continue;
        }
        seen.reconnects += 1;
        let known = seen.interrupted.len();
        seen.interrupted.retain(|(connection, _)| *connection != lane.connection);
        let by_node = seen.interrupted.len() < known;
        seen.by_node += u64::from(by_node);
        tracing::info!(connection = lane.connection, by_node, "an owner consents anew");
        insist(seen, "a connection could not be consented to anew", async || grounds.reconnect(&lane).await).await;
    }
}
