//! Permits: one that was given before the facts changed is no leave to do anything after, however long whoever has it waited.

use futures_util::future::join;
use serde_json::{Value, json};

use super::organisations::key;
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, Workspace},
    held::HeldHead,
    owner::{expect, text},
    probe::{Attack, Probe},
    tenancy::Owner,
};

/// Whether somebody goes on by a permit that the facts no longer give.
pub(super) const STALE_PERMITS: Probe = Probe {
    name: "stale-permits",
    points: &["stale-permits", "stale-admissions", "stale-reads"],
    tries: "a change by an admin who was none any more when his turn came, and an act under a mandate that was taken back while it waited to be admitted, a read under one whose end was never announced",
    attack: Attack::Rehearsed(|ground| Box::pin(stale_permits(ground))),
};

struct Scene<'g> {
    ground: &'g Ground,
    workspace: Workspace,
    owner: Owner,
    /// The workspace's id, as the database has it.
    id: String,
}

async fn stale_permits(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let workspace = ground.workspace("stale").await?;
    let owner = Owner::open(ground.login("owner")?).await?;
    let id = owner.workspace("stale").await?;
    let scene = Scene { ground, workspace, owner, id };
    let tried =
        [scene.a_change(&mut evidence).await, scene.an_act(&mut evidence).await, scene.a_read(&mut evidence).await];
    Failure::of_any(tried)?;
    Ok(evidence)
}

impl Scene<'_> {
    /// An admin whose relation ends while his change waits for the workspace's head.
    async fn a_change(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let (admin, admins_key) = key(&self.workspace.admin, "admin").await?;
        let folder = json!({ "type": "folder", "name": "of a probe" });
        expect(&admin.post("/v1/objects", &folder).await?, 201)?;
        evidence.saw("an admin makes a folder: 201", folder.to_string(), "");
        let ends = format!("relation = 'admin' and subject = 'api_key:{admins_key}'");
        let reply = self.meanwhile(&ends, async { Ok(admin.post("/v1/objects", &folder).await?) }).await?;
        if reply.status.is_success() {
            let obtained = json!({ "object": text(&reply.json(), "/id"), "by": admins_key });
            return Err(Failure::broken(
                "who was no admin any more when his turn came has changed something",
                obtained,
            ));
        }
        Self::denied("a change that waited while its admin was one no more", &reply, evidence)
    }

    /// A grantee whose relation ends while his act waits to be admitted.
    async fn an_act(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let admin = &self.workspace.admin;
        let connected = self.ground.connect(admin, "stale_acct", &["profile.read"]).await?;
        let agent = self.ground.agent(admin, &connected.connection, &["profile.read"], &json!([])).await?;
        expect(&metered(&agent.caller, &agent.mandate, "before").await?, 200)?;
        evidence.saw("an agent acts under its mandate: 200", &agent.mandate, "");
        let ends = format!("relation = 'grantee' and object = 'mandate:{}'", agent.mandate);
        let reply = self.meanwhile(&ends, metered(&agent.caller, &agent.mandate, "meanwhile")).await?;
        if reply.status.is_success() {
            let obtained = json!({ "act": text(&reply.json(), "/act"), "mandate": agent.mandate });
            return Err(Failure::broken("an act was admitted that was permitted no more", obtained));
        }
        Self::denied("an act that waited while its mandate was taken back", &reply, evidence)
    }

    /// A grantee whose relation ends without a word to the node that remembers it: a read passes no ledger that would compare, where no cap
    /// binds it. The installation's own are lifted meanwhile.
    async fn a_read(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let caps = "from keyholder.budgets b where b.scope = 'installation' and b.unit = 'acts'";
        let lifted = self.owner.texts(&format!("select to_jsonb(b)::text {caps}")).await?;
        self.of_installation(&format!("delete {caps}")).await?;
        // A node that has heard of something else meanwhile has read the facts anew: once says little.
        let mut read = Ok(());
        for number in 0..3 {
            read = read.and(self.a_read_without_caps(number, evidence).await);
        }
        for cap in lifted {
            let back = format!(
                "insert into keyholder.budgets select * from jsonb_populate_record(null::keyholder.budgets, '{}')",
                cap.replace('\'', "''")
            );
            self.of_installation(&back).await?;
        }
        read
    }

    /// Changes the installation's facts by the owner's hand as the product would: under a raised head, and announced.
    async fn of_installation(&self, statement: &str) -> Result<(), Failure> {
        let statements = format!(
            "begin; update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'installation'; \
             {statement}; select pg_notify('keyholder_facts', 'installation'); commit"
        );
        Ok(self.owner.sql.client.batch_execute(&statements).await?)
    }

    async fn a_read_without_caps(&self, number: usize, evidence: &mut Evidence) -> Result<(), Failure> {
        let admin = &self.workspace.admin;
        let connected = self.ground.connect(admin, &format!("stale_reader_{number}"), &["profile.read"]).await?;
        let agent = self.ground.agent(admin, &connected.connection, &["profile.read"], &json!([])).await?;
        let read = async || agent.caller.act(&agent.mandate, "profile.read", &json!({}), None).await;
        let before = expect(&read().await?, 200)?;
        if !before.get("act").is_some_and(Value::is_null) {
            return Err(Failure::unproven("the read passes the ledger, and is no read of this kind"));
        }
        evidence.saw("an agent reads under its mandate: 200", &agent.mandate, "");
        let which = format!("relation = 'grantee' and object = 'mandate:{}'", agent.mandate);
        let held = HeldHead::take(self.ground.login("owner")?, &self.id).await?;
        held.commit_unheard(&self.deletion(&which)).await?;
        self.demand_gone(&which).await?;
        let reply = read().await?;
        if reply.status.is_success() {
            let obtained = json!({ "answer": reply.json().get("answer"), "mandate": agent.mandate });
            return Err(Failure::broken("a read was answered that was permitted no more", obtained));
        }
        Self::denied("a read under a mandate whose end was never announced", &reply, evidence)
    }

    /// What comes of a request that finds the workspace held, once these tuples are gone.
    async fn meanwhile(
        &self,
        which: &str,
        request: impl Future<Output = Result<Reply, Failure>>,
    ) -> Result<Reply, Failure> {
        let held = HeldHead::take(self.ground.login("owner")?, &self.id).await?;
        let ended = async {
            held.is_awaited(&self.owner).await?;
            held.commit(&self.deletion(which)).await
        };
        let (reply, ended) = join(request, ended).await;
        ended?;
        self.demand_gone(which).await?;
        reply
    }

    fn deletion(&self, which: &str) -> String {
        format!("delete from keyholder.tuples where workspace_id = '{}' and {which}", self.id)
    }

    async fn demand_gone(&self, which: &str) -> Result<(), Failure> {
        let left =
            format!("select count(*)::text from keyholder.tuples where workspace_id = '{}' and {which}", self.id);
        if self.owner.text(&left).await? != "0" {
            return Err(Failure::unproven("the tuples are still there"));
        }
        Ok(())
    }

    fn denied(what: &str, reply: &Reply, evidence: &mut Evidence) -> Result<(), Failure> {
        if ![401, 403, 404].contains(&reply.status.as_u16()) {
            return Err(Failure::unproven(format!("{what} is neither done nor denied, but {}", reply.status)));
        }
        evidence.tried("relationship-tuples", format!("{what}: {}", reply.status), what, &reply.body);
        Ok(())
    }
}

/// An act that passes the ledger, as everything does that is to happen once.
async fn metered(agent: &Caller, mandate: &str, idempotency_key: &str) -> Result<Reply, Failure> {
    Ok(agent.act(mandate, "profile.read", &json!({}), Some(idempotency_key)).await?)
}
