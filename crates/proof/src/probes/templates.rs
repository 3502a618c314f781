//! Role templates: a row that somebody else than Keyholder has written gives nobody anything, and is told of.

use std::time::Duration;

use serde_json::json;

use super::organisations::key;
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    tenancy::Owner,
};

/// Whether a template that was changed in the database gives what it did not give before.
pub(super) const ROLE_TEMPLATES: Probe = Probe {
    name: "role-templates",
    points: &["role-templates"],
    tries: "a permission by a role template whose row was rewritten in the database, with its hash, its version, or in another one's place; and that nobody is told",
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

struct Scene {
    owner: Owner,
    workspace: String,
    admin: Caller,
    holder: Caller,
    /// The template that is held. Beside it there is a wider one, which nobody holds.
    template: String,
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
        let bundle = |permissions: &[&str]| json!({ "name": "Auditor", "permissions": permissions });
        let made = expect(&admin.post("/v1/role-templates", &bundle(&[GIVEN.0])).await?, 201)?;
        let wider = expect(&admin.post("/v1/role-templates", &bundle(&[WANTED.0, GIVEN.0])).await?, 201)?;
        expect(&admin.get(&format!("/v1/role-templates/{}", text(&wider, "/id"))).await?, 200)?;
        let template = text(&made, "/id").to_owned();
        let path = format!("/v1/role-templates/{template}/assignees");
        expect(&admin.post(&path, &json!({ "key": holders_key })).await?, 204)?;
        Ok(Self { owner, workspace, admin, holder, template })
    }

    /// The template as the admin is shown it.
    async fn shown(&self) -> Result<serde_json::Value, Failure> {
        expect(&self.admin.get(&format!("/v1/role-templates/{}", self.template)).await?, 200)
    }

    /// Rewrites the held template's row as somebody who owns the database, as the product would: under a raised head, and announced.
    async fn rewrite(&self, what: &str) -> Result<(), Failure> {
        let head = format!("kind = 'workspace' and id = '{}'", self.workspace);
        let changed = format!(
            "begin; update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where {head}; {what}; \
             select pg_notify('keyholder_facts', id || ' ' || revision) from keyholder.heads where {head}; commit"
        );
        Ok(self.owner.sql.client.batch_execute(&changed).await?)
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
    evidence.tried(
        "role-templates",
        "a template with the hash of its canonical JSON, and its holder",
        &said,
        text(&shown, "/sha256"),
    );

    let wide = body("Auditor", &[WANTED.0, GIVEN.0]);
    let digest = format!("sha256 = decode('{}', 'hex')", sha256(wide.as_bytes()));
    let which = format!(
        "workspace_id = '{}' and body = '{said}' and sha256 = decode('{}', 'hex')",
        scene.workspace,
        sha256(said.as_bytes())
    );
    let id = scene.owner.text(&format!("select id::text from keyholder.role_templates where {which}")).await?;
    let row = format!("workspace_id = '{}' and id = '{id}'", scene.workspace);
    let (before, others) = (
        format!("select to_jsonb(t)::text from keyholder.role_templates t where {row}"),
        format!(
            "from keyholder.role_templates o where o.workspace_id = '{}' and o.body = '{wide}' and o.id <> '{id}'",
            scene.workspace
        ),
    );
    let before = scene.owner.text(&before).await?;
    if id.is_empty() || before.is_empty() {
        return Err(Failure::unproven("the template is not found in the database"));
    }
    let changes = [
        ("its text", format!("body = '{wide}'")),
        ("its text and its hash", format!("body = '{wide}', {digest}")),
        ("its text, its hash and its version", format!("body = '{wide}', {digest}, version = version + 1")),
        (
            "a wider template of the same tenant's in its place",
            format!(
                "body = (select o.body {others}), sha256 = (select o.sha256 {others}), mac = (select o.mac {others})"
            ),
        ),
    ];
    for (what, change) in changes {
        scene.rewrite(&format!("update keyholder.role_templates set {change} where {row}")).await?;
        let (wanted, has_given) = scene.after().await?;
        if wanted.status.is_success() {
            let obtained = json!({ "rewritten": what, "route": WANTED.1, "answer_sha256": sha256(&wanted.body), "template": scene.template });
            return Err(Failure::broken(format!("with {what} rewritten, a template gives {}", WANTED.0), obtained));
        }
        let shown = scene.shown().await?;
        if has_given || shown.get("drifted") != Some(&json!(true)) {
            return Err(Failure::broken(
                format!("with {what} rewritten, a template counts, or is not shown as drifted"),
                shown,
            ));
        }
        evidence.tried(
            "role-templates",
            format!("{what} rewritten: it gives nothing, and is shown as drifted"),
            &change,
            shown.to_string(),
        );
        let back = format!(
            "update keyholder.role_templates t set body = b.body, sha256 = b.sha256, mac = b.mac, version = b.version \
             from jsonb_populate_record(null::keyholder.role_templates, '{}') b where t.workspace_id = b.workspace_id and t.id = b.id",
            before.replace('\'', "''")
        );
        scene.rewrite(&back).await?;
        regained(&scene).await?;
    }
    told(ground, &scene, &mut evidence).await?;
    Ok(evidence)
}

/// Written back, the template counts again.
async fn regained(scene: &Scene) -> Result<(), Failure> {
    for _ in 0..LOOKS {
        if scene.holder.get(GIVEN.1).await?.status.is_success() {
            return Ok(());
        }
        tokio::time::sleep(EVERY).await;
    }
    Err(Failure::unproven("the template that was written back does not count"))
}

/// The node's log names the template.
async fn told(ground: &Ground, scene: &Scene, evidence: &mut Evidence) -> Result<(), Failure> {
    let node = ground.node().await?;
    for _ in 0..LOOKS {
        let log = node.log_text()?;
        let line = log.lines().find(|line| line.contains(TOLD) && line.contains(&scene.template));
        if let Some(line) = line {
            evidence.tried("role-templates", "the log names the template that was rewritten", &scene.template, line);
            return Ok(());
        }
        tokio::time::sleep(EVERY).await;
    }
    Err(Failure::broken("nobody is told of a template that was rewritten", scene.template.as_str()))
}
