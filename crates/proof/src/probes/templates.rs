//! Role templates: a row that is not the one that Keyholder wrote last gives nobody anything, and is told of.

use std::time::Duration;

use domain::id::RoleTemplateId;
use serde_json::{Value, json};

use super::organisations::{key, stored};
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::{Ground, Node},
    owner::{expect, text},
    probe::{Attack, Probe},
    tenancy::Owner,
};

/// Whether a template that was changed in the database gives what it does not give by Keyholder's own last word.
pub(super) const ROLE_TEMPLATES: Probe = Probe {
    name: "role-templates",
    points: &["role-templates", "role-template-trail", "unseen-changes"],
    tries: "a permission by a role template whose row was rewritten in the database, with its hash, its version, or in another one's place; by an older row of its own and by one that was removed, put back; by a rewriting that no node is told of; that nobody is told; and a change of one that nobody was shown",
    attack: Attack::Rehearsed(|ground| Box::pin(role_templates(ground))),
};

/// What the template gives, and what whoever rewrites it is after: names of permissions, each with a route that wants it.
const GIVEN: (&str, &str) = ("audit.read", "/v1/audit?limit=1");
const WANTED: (&str, &str) = ("api_key.list", "/v1/api-keys");
/// What a node writes to its log.
const TOLD: &str = "a role template was rewritten outside of Keyholder";
/// Within this many looks a node must have heard, and told.
const LOOKS: u32 = 300;
const EVERY: Duration = Duration::from_millis(20);

/// The canonical text (RFC 8785) of a template with these permissions, which are in their order.
fn body(name: &str, permissions: &[&str]) -> String {
    format!("{{\"name\":\"{name}\",\"permissions\":[\"{}\"]}}", permissions.join("\",\""))
}

/// What a template is made of, for the API.
fn bundle(permissions: &[&str]) -> Value {
    json!({ "name": "Auditor", "permissions": permissions })
}

/// A row of a table as one writes it back, out of what was kept of it.
fn as_row(table: &str, kept: &str) -> String {
    format!("jsonb_populate_record(null::keyholder.{table}, '{}')", kept.replace('\'', "''"))
}

struct Scene {
    owner: Owner,
    workspace: String,
    admin: Caller,
    holder: Caller,
    /// The template that is held. Beside it there is a wider one, which nobody holds.
    template: String,
    /// Its row, by the database's ids.
    row: String,
    /// Its row before an admin narrowed it: genuine, and wider.
    older: String,
}

impl Scene {
    async fn settle(ground: &Ground) -> Result<Self, Failure> {
        let admin = ground.workspace("templates").await?.admin;
        let owner = Owner::open(ground.login("owner")?).await?;
        let workspace = owner.workspace("templates").await?;
        let (holder, holders_key) = key(&admin, "service").await?;
        for path in [GIVEN.1, WANTED.1] {
            if !is_refused(&holder.get(path).await?)? {
                return Err(Failure::unproven(format!("a key that was given nothing reads {path}")));
            }
        }
        let wide = bundle(&[WANTED.0, GIVEN.0]);
        let made = expect(&admin.post("/v1/role-templates", &wide).await?, 201)?;
        expect(&admin.post("/v1/role-templates", &wide).await?, 201)?;
        let template = text(&made, "/id").to_owned();
        let at = format!("/v1/role-templates/{template}");
        expect(&admin.post(&format!("{at}/assignees"), &json!({ "key": holders_key })).await?, 204)?;
        for path in [GIVEN.1, WANTED.1] {
            expect(&holder.get(path).await?, 200)?;
        }
        let row = format!("workspace_id = '{workspace}' and id = '{}'", stored::<RoleTemplateId>(&template)?);
        let mut scene = Self { owner, workspace, admin, holder, template, row, older: String::new() };
        scene.older = scene.kept().await?;
        let mut narrower = bundle(&[GIVEN.0]);
        let shown = expect(&scene.admin.post(&at, &narrower).await?, 200)?;
        if let Some(members) = narrower.as_object_mut() {
            members.insert("confirm".to_owned(), json!(text(&shown, "/confirm")));
        }
        expect(&scene.admin.post(&at, &narrower).await?, 200)?;
        if !is_refused(&scene.holder.get(WANTED.1).await?)? {
            return Err(Failure::unproven("a template that was narrowed gives what it gave before"));
        }
        Ok(scene)
    }

    /// The held template's row, as it is.
    async fn kept(&self) -> Result<String, Failure> {
        let asked = format!("select to_jsonb(t)::text from keyholder.role_templates t where {}", self.row);
        let kept = self.owner.text(&asked).await?;
        if kept.is_empty() { Err(Failure::unproven("the template is not found in the database")) } else { Ok(kept) }
    }

    /// The template as the admin is shown it.
    async fn shown(&self) -> Result<Value, Failure> {
        expect(&self.admin.get(&format!("/v1/role-templates/{}", self.template)).await?, 200)
    }

    /// Changes rows as somebody who owns the database, as the product would: under a raised head, and announced.
    async fn rewrite(&self, what: &str) -> Result<(), Failure> {
        let head = format!("kind = 'workspace' and id = '{}'", self.workspace);
        let changed = format!(
            "begin; update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where {head}; {what}; \
             select pg_notify('keyholder_facts', id || ' ' || revision) from keyholder.heads where {head}; commit"
        );
        Ok(self.owner.sql.client.batch_execute(&changed).await?)
    }

    /// What puts a row that was kept into the held template's place.
    fn put(kept: &str) -> String {
        format!(
            "update keyholder.role_templates t set body = b.body, sha256 = b.sha256, mac = b.mac, version = b.version \
             from {} b where t.workspace_id = b.workspace_id and t.id = b.id",
            as_row("role_templates", kept)
        )
    }

    /// The changes of a row by which whoever owns the database would make the template a wider one.
    fn rewritings(&self) -> [(&'static str, String); 5] {
        let wide = body("Auditor", &[WANTED.0, GIVEN.0]);
        let digest = format!("sha256 = decode('{}', 'hex')", sha256(wide.as_bytes()));
        let others = format!(
            "from keyholder.role_templates o where o.workspace_id = '{}' and o.body = '{wide}' and not (o.{})",
            self.workspace,
            self.row.replace(" and id", " and o.id")
        );
        let set = |change: String| format!("update keyholder.role_templates set {change} where {}", self.row);
        [
            ("its text", set(format!("body = '{wide}'"))),
            ("its text and its hash", set(format!("body = '{wide}', {digest}"))),
            ("its text, its hash and its version", set(format!("body = '{wide}', {digest}, version = version + 1"))),
            (
                "a wider template of the same tenant's in its place",
                set(format!(
                    "body = (select o.body {others}), sha256 = (select o.sha256 {others}), mac = (select o.mac {others})"
                )),
            ),
            ("an older row of its own, wider and genuine,", Self::put(&self.older)),
        ]
    }

    /// Each rewriting gives nothing, also not what the template gave before, and is shown; written back, the template counts again.
    async fn rewritten(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let before = self.kept().await?;
        for (what, change) in self.rewritings() {
            self.rewrite(&change).await?;
            let (wanted, has_given) = self.after().await?;
            self.gives_nothing(what, &wanted)?;
            let shown = self.shown().await?;
            if has_given || shown.get("drifted") != Some(&json!(true)) {
                return Err(Failure::broken(
                    format!("with {what} rewritten, a template counts, or is not shown as drifted"),
                    shown,
                ));
            }
            let tried = format!("{what} rewritten: it gives nothing, and is shown as drifted");
            evidence.tried("role-templates", tried, &change, shown.to_string());
            self.rewrite(&Self::put(&before)).await?;
            self.regained().await?;
        }
        Ok(())
    }

    /// Nothing that whoever rewrote it was after.
    fn gives_nothing(&self, what: &str, wanted: &Reply) -> Result<(), Failure> {
        if is_refused(wanted)? {
            return Ok(());
        }
        let obtained = json!({ "rewritten": what, "route": WANTED.1, "answer_sha256": sha256(&wanted.body), "template": self.template });
        Err(Failure::broken(format!("with {what} rewritten, a template gives {}", WANTED.0), obtained))
    }

    /// What the holder reads of what the rewriting was after, if anything, once the node has heard; and whether he still has what the
    /// template gave.
    async fn after(&self) -> Result<(Reply, bool), Failure> {
        let mut wanted = self.holder.get(WANTED.1).await?;
        for _ in 0..LOOKS {
            let has_lost = is_refused(&self.holder.get(GIVEN.1).await?)?;
            wanted = self.holder.get(WANTED.1).await?;
            if has_lost || wanted.status.is_success() {
                return Ok((wanted, !has_lost));
            }
            tokio::time::sleep(EVERY).await;
        }
        Ok((wanted, true))
    }

    /// Written back, the template counts again.
    async fn regained(&self) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            if self.holder.get(GIVEN.1).await?.status.is_success() {
                return Ok(());
            }
            tokio::time::sleep(EVERY).await;
        }
        Err(Failure::unproven("the template that was written back does not count"))
    }

    /// A change that nobody was shown: of another text, for others than those who held it then, or by a word that is made up.
    async fn unseen(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let at = format!("/v1/role-templates/{}", self.template);
        let (before, wide) = (self.shown().await?, bundle(&[WANTED.0, GIVEN.0]));
        let other = expect(&self.admin.post(&at, &bundle(&[GIVEN.0, "budget.read_all"])).await?, 200)?;
        let shown = expect(&self.admin.post(&at, &wide).await?, 200)?;
        let (_, another) = key(&self.admin, "service").await?;
        expect(&self.admin.post(&format!("{at}/assignees"), &json!({ "key": another })).await?, 204)?;
        for (what, confirm) in [
            ("another one that was shown", text(&other, "/confirm").to_owned()),
            ("the same, for fewer who hold it", text(&shown, "/confirm").to_owned()),
            ("none", hex::encode(domain::random::bytes::<32>())),
        ] {
            let mut change = wide.clone();
            if let Some(members) = change.as_object_mut() {
                members.insert("confirm".to_owned(), json!(confirm));
            }
            let reply = self.admin.post(&at, &change).await?;
            if reply.status.is_success() {
                let obtained = json!({ "template": self.template, "confirmed": what, "answer": reply.json() });
                return Err(Failure::broken("a change of a template is done that nobody was shown", obtained));
            }
            expect(&reply, 409)?;
            evidence.saw(format!("a change, confirmed by {what}: 409"), change.to_string(), &reply.body);
        }
        if text(&self.shown().await?, "/sha256") != text(&before, "/sha256") {
            return Err(Failure::broken("a change of a template that was refused has changed it", before));
        }
        Ok(())
    }

    /// A template that an admin removed, put back with its holder: every row of it is genuine.
    async fn removed(&self, node: &Node, evidence: &mut Evidence) -> Result<(), Failure> {
        let (holder, holders_key) = key(&self.admin, "service").await?;
        let made = self.admin.post("/v1/role-templates", &bundle(&[WANTED.0])).await?;
        let template = text(&expect(&made, 201)?, "/id").to_owned();
        let at = format!("/v1/role-templates/{template}");
        expect(&self.admin.post(&format!("{at}/assignees"), &json!({ "key": holders_key })).await?, 204)?;
        expect(&holder.get(WANTED.1).await?, 200)?;
        let id = stored::<RoleTemplateId>(&template)?;
        let mut back = Vec::new();
        for (table, column) in [("role_templates", "id"), ("role_assignments", "role_id")] {
            let asked = format!(
                "select to_jsonb(t)::text from keyholder.{table} t where workspace_id = '{}' and {column} = '{id}'",
                self.workspace
            );
            let kept = self.owner.text(&asked).await?;
            back.push(format!("insert into keyholder.{table} select * from {}", as_row(table, &kept)));
        }
        expect(&self.admin.delete(&at).await?, 204)?;
        if !is_refused(&holder.get(WANTED.1).await?)? {
            return Err(Failure::unproven("a template that was removed gives what it gave"));
        }
        self.rewrite(&back.join("; ")).await?;
        // The node tells of it when it has read the facts anew.
        let mut is_told = false;
        for _ in 0..LOOKS {
            self.gives_nothing("a removed one put back, and nothing", &holder.get(WANTED.1).await?)?;
            is_told = tells_of(node, &template)?;
            if is_told {
                break;
            }
            tokio::time::sleep(EVERY).await;
        }
        let shown = expect(&self.admin.get(&at).await?, 200)?;
        if !is_told || shown.get("drifted") != Some(&json!(true)) {
            return Err(Failure::broken("of a removed template that was put back nobody is told", shown));
        }
        evidence.tried("role-templates", "a removed one put back: it gives nothing", &template, shown.to_string());
        expect(&self.admin.delete(&at).await?, 204)?;
        Ok(())
    }

    /// A rewriting past the database's own triggers, of which no node is told: it gives nothing there, and a node that starts tells of it.
    async fn unannounced(&self, ground: &Ground, evidence: &mut Evidence) -> Result<(), Failure> {
        let before = self.kept().await?;
        let [_, (what, change), ..] = self.rewritings();
        let silent = format!("begin; set local session_replication_role = replica; {change}; commit");
        self.owner.sql.client.batch_execute(&silent).await?;
        let here = self.holder.get(WANTED.1).await?;
        let second = ground.start_node(None).await?;
        let tried = async {
            let holder = ground.stranger_at(&second.url).with_key(self.holder.key().unwrap_or_default());
            for (node, wanted) in [("the first node", here), ("a node that starts", holder.get(WANTED.1).await?)] {
                let what = format!("{what}, of which {node} is not told,");
                self.gives_nothing(&what, &wanted)?;
                evidence.tried("role-templates", format!("{what} rewritten: it gives nothing"), &change, &wanted.body);
            }
            self.told(&second, evidence).await
        };
        let tried: Result<(), Failure> = tried.await;
        second.end().await;
        tried?;
        self.rewrite(&Self::put(&before)).await?;
        self.regained().await
    }

    /// The node's log names the template.
    async fn told(&self, node: &Node, evidence: &mut Evidence) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            if tells_of(node, &self.template)? {
                let tried = "the log names the template that was rewritten";
                evidence.tried("role-templates", tried, &self.template, TOLD);
                return Ok(());
            }
            tokio::time::sleep(EVERY).await;
        }
        Err(Failure::broken("nobody is told of a template that was rewritten", self.template.as_str()))
    }
}

/// Whether a node's log tells of a template.
fn tells_of(node: &Node, template: &str) -> Result<bool, Failure> {
    Ok(node.log_text()?.lines().any(|line| line.contains(TOLD) && line.contains(template)))
}

/// Refused for want of a permission. Any other answer but a success says nothing of permission.
fn is_refused(reply: &Reply) -> Result<bool, Failure> {
    match reply.status.as_u16() {
        403 | 404 => Ok(true),
        200 => Ok(false),
        other => Err(Failure::unproven(format!("neither granted nor refused, but {other}"))),
    }
}

async fn role_templates(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let scene = Scene::settle(ground).await?;
    // The allowed thing: who holds the template may what it says, and its hash is that of its canonical text.
    let shown = scene.shown().await?;
    let said = body("Auditor", &[GIVEN.0]);
    if text(&shown, "/sha256") != sha256(said.as_bytes()) || shown.get("drifted") != Some(&json!(false)) {
        return Err(Failure::broken("a template is not stored with the hash of its canonical JSON", shown));
    }
    expect(&scene.holder.get(GIVEN.1).await?, 200)?;
    let hash = text(&shown, "/sha256");
    evidence.tried("role-templates", "a template with the hash of its canonical JSON, and its holder", &said, hash);
    scene.unseen(&mut evidence).await?;
    scene.rewritten(&mut evidence).await?;
    let node = ground.node().await?;
    scene.removed(node, &mut evidence).await?;
    scene.told(node, &mut evidence).await?;
    scene.unannounced(ground, &mut evidence).await?;
    Ok(evidence)
}
