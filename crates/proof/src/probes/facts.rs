//! Facts: permission comes from relationship tuples alone, and a node that lags behind the database grants nothing by it.

mod beside_customers;

use std::{collections::BTreeSet, time::Duration};

use domain::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    answered::of_server,
    caller::{Caller, Reply},
    database::Session,
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, Node, Workspace},
    owner::{Connected, expect},
    probe::{Attack, Probe},
    probes::organisations,
    tenancy::Owner,
};

/// Whether anything is permitted without a tuple that says so.
pub(super) const RELATION_TUPLES: Probe = Probe {
    name: "relation-tuples",
    points: &["relation-tuples"],
    tries: "what a relation permits, before a tuple of it was given, and after each was taken away",
    attack: Attack::Both {
        live: |target| Box::pin(beside_customers::relation_tuples(target)),
        rehearsed: |ground| Box::pin(relation_tuples(ground)),
    },
};

/// Whether another node goes on granting what was revoked here.
pub(super) const REVOCATION_ACROSS_NODES: Probe = Probe {
    name: "revocation-across-nodes",
    points: &["revocation-across-nodes", "silent-notifications"],
    tries: "a key and a role that were ended on one node, on another: with notifications, and while that node's connection for them is stalled",
    attack: Attack::Rehearsed(|ground| Box::pin(revocation_across_nodes(ground))),
};

/// Within this many looks another node must have heard: six seconds, where a permission may be remembered for two at most.
const LOOKS: u32 = 300;
const EVERY: Duration = Duration::from_millis(20);
/// After so long nothing that was ended may count anywhere: twice what a permission may be remembered for without a word from the
/// database, and less than it takes a node to notice that the connection on which it listens is dead.
const REMEMBERED: Duration = Duration::from_secs(4);

async fn relation_tuples(ground: &Ground) -> Outcome {
    let workspace = ground.workspace("tuples").await?;
    let connected = ground.connect(&workspace.admin, "tuples_acct", &["profile.read"]).await?;
    let agent = ground.agent(&workspace.admin, &connected.connection, &["profile.read"], &json!([])).await?;
    let owner = Owner::open(ground.login("owner")?).await?;
    let id = owner.workspace("tuples").await?;
    let mut evidence = Evidence::new();
    let connection = format!("/v1/connections/{}", connected.connection);
    let mandate = format!("/v1/mandates/{}", agent.mandate);
    let act = Asked::Act(&agent.caller, &agent.mandate);
    let questions = [
        ("admin", "workspace:%", Asked::Get(&workspace.admin, "/v1/api-keys")),
        ("service", "workspace:%", Asked::Get(&agent.caller, "/v1/workspace")),
        ("workspace", "connection:%", Asked::Get(&workspace.admin, &connection)),
        ("connection", "mandate:%", Asked::Get(&workspace.admin, &mandate)),
        ("grantee", "mandate:%", act),
    ];
    for (relation, object, asked) in questions {
        let before = asked.send().await?;
        expect(&before, 200)?;
        evidence.saw(format!("{relation}: {} with the tuple: 200", asked.title()), relation, &before.body);
        let which = format!("workspace_id = '{id}' and relation = '{relation}' and object like '{object}'");
        let kept = owner.texts(&format!("select to_jsonb(t)::text from keyholder.tuples t where {which}")).await?;
        if kept.is_empty() {
            return Err(Failure::unproven(format!("there is no tuple `{relation}` on {object}")));
        }
        change(&owner, &id, &format!("delete from keyholder.tuples where {which}")).await?;
        let after = denied_soon(asked, (LOOKS, EVERY)).await?;
        if after.status.is_success() {
            let obtained = json!({ "relation": relation, "asked": asked.title(), "tuples": kept,
                "answer": String::from_utf8_lossy(&after.body).chars().take(200).collect::<String>() });
            return Err(Failure::broken(
                format!("{} is permitted without a tuple `{relation}`", asked.title()),
                obtained,
            ));
        }
        let tried = format!("{relation}: {} without the tuple: {}", asked.title(), after.status);
        evidence.tried("relationship-tuples", tried, kept.join("\n"), &after.body);
        for tuple in &kept {
            let back = format!(
                "insert into keyholder.tuples select * from jsonb_populate_record(null::keyholder.tuples, '{}')",
                tuple.replace('\'', "''")
            );
            change(&owner, &id, &back).await?;
        }
        expect(&asked.send().await?, 200)?;
    }
    Ok(evidence)
}

/// The answer once what a node remembers, which may be a notification behind, denies; else the last one.
async fn denied_soon(asked: Asked<'_>, (looks, every): (u32, Duration)) -> Result<Reply, Failure> {
    let mut after = asked.send().await?;
    for _ in 0..looks {
        if is_denied(&after)? {
            break;
        }
        tokio::time::sleep(every).await;
        after = asked.send().await?;
    }
    Ok(after)
}

/// Whether somebody was denied what he asked for. Any other answer but a success says nothing of permission.
fn is_denied(reply: &Reply) -> Result<bool, Failure> {
    match reply.status.as_u16() {
        401 | 403 | 404 => Ok(true),
        200..300 => Ok(false),
        other => Err(Failure::unproven(format!("neither granted nor denied, but {other}"))),
    }
}

/// What is asked for by somebody.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Get(&'a Caller, &'a str),
    Act(&'a Caller, &'a str),
}

impl Asked<'_> {
    async fn send(&self) -> Result<Reply, Failure> {
        let reply = match self {
            Self::Get(caller, path) => caller.get(path).await?,
            Self::Act(caller, mandate) => caller.act(mandate, "profile.read", &json!({}), None).await?,
        };
        of_server(&self.title(), &reply)?;
        Ok(reply)
    }

    fn title(&self) -> String {
        match self {
            Self::Get(_, path) => format!("GET {path}"),
            Self::Act(..) => "POST /v1/acts".to_owned(),
        }
    }
}

/// Changes facts by the owner's hand as the product would: under a raised head, and announced.
async fn change(owner: &Owner, workspace: &str, statement: &str) -> Result<(), Failure> {
    let head = format!("kind = 'workspace' and id = '{workspace}'");
    let statements = format!(
        "begin; update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where {head}; {statement}; \
         select pg_notify('keyholder_facts', id || ' ' || revision) from keyholder.heads where {head}; commit"
    );
    Ok(owner.sql.client.batch_execute(&statements).await?)
}

async fn revocation_across_nodes(ground: &Ground) -> Outcome {
    let workspace = ground.workspace("nodes").await?;
    let connected = ground.connect(&workspace.admin, "nodes_acct", &["profile.read"]).await?;
    let owner = Session::open(ground.login("owner")?).await?;
    let others = listening(&owner, &BTreeSet::new()).await?;
    let second = ground.start_node(None).await?;
    let mut evidence = Evidence::new();
    let tried = async {
        let heard = listening(&owner, &others).await?;
        Failure::of_any([
            revoke(ground, (&workspace, &connected), &second, None, &mut evidence).await,
            revoke(ground, (&workspace, &connected), &second, Some(&heard), &mut evidence).await,
        ])
    };
    let tried: Result<(), Failure> = tried.await;
    second.end().await;
    tried.map(|()| evidence)
}

/// Ends a role and a key on the first node, and asks with them on the second, which may be made to hear nothing.
async fn revoke(
    ground: &Ground,
    (workspace, connected): (&Workspace, &Connected),
    second: &Node,
    silent: Option<&BTreeSet<i32>>,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let how = if silent.is_some() { "while it hears nothing" } else { "with notifications" };
    let agent = ground.agent(&workspace.admin, &connected.connection, &["profile.read"], &json!([])).await?;
    let on_second = ground.stranger_at(&second.url).with_key(agent.caller.key().unwrap_or_default());
    let mandate = format!("/v1/mandates/{}", agent.mandate);
    expect(&on_second.get(&mandate).await?, 200)?;
    expect(&on_second.act(&agent.mandate, "profile.read", &json!({}), None).await?, 200)?;
    let (admin, admins_key) = organisations::key(&workspace.admin, "admin").await?;
    let admin_on_second = ground.stranger_at(&second.url).with_key(admin.key().unwrap_or_default());
    expect(&admin_on_second.get("/v1/api-keys").await?, 200)?;
    evidence.saw(format!("both nodes serve the agent and a second admin, {how}"), &agent.key, "200");
    let stalled = silent.map(Stalled::begin).transpose()?;
    // A role: the mandate, by whose relation it may act.
    let revoked = workspace.admin.post(&format!("{mandate}/revoke"), &json!({})).await?;
    expect(&revoked, 200)?;
    let act = Asked::Act(&on_second, &agent.mandate);
    refused(("role-changes", "a revoked role"), how, stalled.as_ref(), act, evidence).await?;
    // The credential itself, once more remembered there.
    expect(&on_second.get("/v1/connections").await?, 200)?;
    let deleted = workspace.admin.delete(&format!("/v1/api-keys/{}", agent.key)).await?;
    expect(&deleted, 204)?;
    let read = Asked::Get(&on_second, "/v1/connections");
    refused(("deletions", "a deleted key"), how, stalled.as_ref(), read, evidence).await?;
    let read = Asked::Get(&admin_on_second, "/v1/api-keys");
    let deleted = workspace.admin.delete(&format!("/v1/api-keys/{admins_key}")).await?;
    expect(&deleted, 204)?;
    refused(("deletions", "a revoked admin"), how, stalled.as_ref(), read, evidence).await
}

/// Waits until the other node refuses too, and tells how long that took.
async fn refused(
    (subject, what): (&str, &str),
    how: &str,
    stalled: Option<&Stalled>,
    asked: Asked<'_>,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let (clock, mut last) = (Clock::system(), None);
    let from = clock.since_boot();
    while clock.since_boot().saturating_sub(from) < REMEMBERED {
        let reply = asked.send().await?;
        if is_denied(&reply)? {
            let took = clock.since_boot().saturating_sub(from).as_millis();
            let tried = format!("{what} on the other node, {how}: {} after {took} ms", reply.status);
            if stalled.is_some() {
                evidence.tried("silent-notifications", &tried, what, &reply.body);
            }
            evidence.tried(subject, tried, what, &reply.body);
            return Ok(());
        }
        last = Some(reply);
        tokio::time::sleep(EVERY).await;
    }
    let last = last.map(|reply| json!({ "status": reply.status.as_u16(), "answer": reply.json() }));
    Err(Failure::broken(
        format!("{what} still counts on the other node, {how}"),
        json!({ "what": what, "how": how, "obtained": last }),
    ))
}

/// The processes of the database on whose connections nodes listen, but for these: at least one.
pub(super) async fn listening(owner: &Session, others: &BTreeSet<i32>) -> Result<BTreeSet<i32>, Failure> {
    let asked = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
                 and query ~* '^listen '";
    for _ in 0..LOOKS {
        let rows = owner.client.query(asked, &[]).await?;
        let found: BTreeSet<i32> =
            rows.iter().map(|row| row.get::<_, i32>(0)).filter(|pid| !others.contains(pid)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        tokio::time::sleep(EVERY).await;
    }
    Err(Failure::unproven("no node was found listening"))
}

/// The far ends of connections, stopped: each stays open, nothing more arrives on it, and nobody is told. They go on when this ends.
pub(super) struct Stalled(Vec<Pid>);

impl Stalled {
    pub(super) fn begin(far_ends: &BTreeSet<i32>) -> Result<Self, Failure> {
        let mut stalled = Self(Vec::new());
        for pid in far_ends.iter().copied().filter_map(Pid::from_raw) {
            kill_process(pid, Signal::STOP)?;
            stalled.0.push(pid);
        }
        Ok(stalled)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that has gone needs nothing.
            let _gone = kill_process(*pid, Signal::CONT);
        }
    }
}
