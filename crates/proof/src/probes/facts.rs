//! Facts: permission comes from relationship tuples alone, and a node that lags behind the database grants nothing by it.

use std::time::Duration;

use serde_json::json;

use crate::{
    caller::{Caller, Reply},
    database::Session,
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::expect,
    probe::{Attack, Probe},
    tenancy::Owner,
};

/// Whether anything is permitted without a tuple that says so.
pub(super) const RELATION_TUPLES: Probe = Probe {
    name: "relation-tuples",
    tries: "what a relation permits, after each tuple of it was taken away",
    attack: Attack::Rehearsed(|ground| Box::pin(relation_tuples(ground))),
};

/// Whether another node goes on granting what was revoked here.
pub(super) const REVOCATION_ACROSS_NODES: Probe = Probe {
    name: "revocation-across-nodes",
    tries: "a key and a role that were ended on one node, on another: with notifications, and while that node hears none",
    attack: Attack::Rehearsed(|ground| Box::pin(revocation_across_nodes(ground))),
};

/// Within this many looks another node must have heard: six seconds, where a permission may be remembered for two at most.
const LOOKS: u32 = 300;
const EVERY: Duration = Duration::from_millis(20);

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
        // What a node remembers may be a notification behind.
        let mut after = asked.send().await?;
        for _ in 0..LOOKS {
            if !after.status.is_success() {
                break;
            }
            tokio::time::sleep(EVERY).await;
            after = asked.send().await?;
        }
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

/// What is asked for by somebody.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Get(&'a Caller, &'a str),
    Act(&'a Caller, &'a str),
}

impl Asked<'_> {
    async fn send(&self) -> Result<Reply, Failure> {
        Ok(match self {
            Self::Get(caller, path) => caller.get(path).await?,
            Self::Act(caller, mandate) => caller.act(mandate, "profile.read", &json!({}), None).await?,
        })
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
    let second = ground.start_node(None).await?;
    let there = ground.stranger_at(&second.url);
    let mut evidence = Evidence::new();

    let tried = async {
        for is_deaf in [false, true] {
            let how = if is_deaf { "while it hears nothing" } else { "with notifications" };
            let agent = ground.agent(&workspace.admin, &connected.connection, &["profile.read"], &json!([])).await?;
            let on_second = there.with_key(agent.caller.key().unwrap_or_default());
            let mandate = format!("/v1/mandates/{}", agent.mandate);
            expect(&on_second.get(&mandate).await?, 200)?;
            expect(&on_second.act(&agent.mandate, "profile.read", &json!({}), None).await?, 200)?;
            evidence.saw(format!("both nodes serve the agent, {how}"), &agent.key, "200");
            let deaf = if is_deaf { Some(Deaf::begin(ground).await?) } else { None };
            // A role: the mandate, by whose relation it may act.
            let revoked = workspace.admin.post(&format!("{mandate}/revoke"), &json!({})).await?;
            expect(&revoked, 200)?;
            let act = Asked::Act(&on_second, &agent.mandate);
            refused(("role-changes", "a revoked role"), how, deaf.as_ref(), act, &mut evidence).await?;
            // The credential itself, once more remembered there.
            expect(&on_second.get("/v1/connections").await?, 200)?;
            workspace.admin.delete(&format!("/v1/api-keys/{}", agent.key)).await?;
            let read = Asked::Get(&on_second, "/v1/connections");
            refused(("deletions", "a deleted key"), how, deaf.as_ref(), read, &mut evidence).await?;
        }
        Ok(())
    };
    let tried: Result<(), Failure> = tried.await;
    second.end().await;
    tried.map(|()| evidence)
}

/// Waits until the other node refuses too.
async fn refused(
    (subject, what): (&str, &str),
    how: &str,
    deaf: Option<&Deaf>,
    asked: Asked<'_>,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let mut last = None;
    for look in 0..LOOKS {
        if let Some(deaf) = deaf {
            deaf.strike().await?;
        }
        let reply = asked.send().await?;
        if matches!(reply.status.as_u16(), 401 | 403 | 404) {
            let tried = format!("{what} on the other node, {how}: {} at look {look}", reply.status);
            if deaf.is_some() {
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

/// Ends every connection on which a node listens, again and again: no notification arrives anywhere.
struct Deaf(Session);

impl Deaf {
    async fn begin(ground: &Ground) -> Result<Self, Failure> {
        let deaf = Self(Session::open(ground.login("owner")?).await?);
        if deaf.strike().await? == 0 {
            return Err(Failure::unproven("no node was found listening"));
        }
        Ok(deaf)
    }

    async fn strike(&self) -> Result<u64, Failure> {
        let struck = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
                      and pid <> pg_backend_pid() and query ~* '^listen '";
        Ok(self.0.client.execute(struck, &[]).await?)
    }
}
