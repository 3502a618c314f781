//! Super-admins: named at the machine and never otherwise, and alone in raising a plan and in touching what is the system's own.

use std::collections::BTreeSet;

use domain::random;
use futures_util::future::join;
use serde_json::json;

use super::facts::{Stalled, listening};
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, Node},
    held::HeldHead,
    owner::{expect, text},
    probe::{Attack, Probe},
    routes::{Guard, Route, Table},
    stock::Stock,
    tenancy::Owner,
};

/// Whether somebody is super-admin whom nobody named so, or does without it what is a super-admin's alone.
pub(super) const SUPER_ADMINS: Probe = Probe {
    name: "super-admins",
    points: &["super-admins", "system-objects", "dismissed-persons", "dismissed-meanwhile", "publishing-keys"],
    tries: "to be super-admin by being one of the operator's persons; what is the super-admins' alone, by persons who are none and by a workspace's admin; what is the operator's, with a key that only publishes statements; to be one still when that was ended: at the first request, on a node that hears nothing, and in a change that waited meanwhile",
    attack: Attack::Rehearsed(|ground| Box::pin(super_admins(ground))),
};

/// The workspace's name.
const NAME: &str = "supers";
/// What is theirs alone: the permission, and what it is about.
const THEIRS: [(&str, &str); 2] = [("system_object.manage", "checklists"), ("plan.set", "plans")];
/// What a key may do that only publishes statements.
const PUBLISHING: &str = "trust_statement.publish";
/// What ends it in the database as the product would, but tells no node.
const RAISED: &str =
    "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() where kind = 'installation'";

async fn super_admins(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let table = ground.table().await?;
    let owner = Owner::open(ground.login("owner")?).await?;
    let before = appointed(&owner).await?;
    let name = format!("ordinary.{}", hex::encode(random::bytes::<3>()));
    let ordinary = ground.stranger().await?.with_key(&ground.operator(&name).await?);
    // A key of the operator's makes nobody one, and neither does a workspace: only the word at the machine.
    let unasked = only_the_named(&owner, &before, "").await?;
    evidence.tried("super-admins", "a new person of the operator's is none", &name, unasked);
    let stock = Stock::new(ground, NAME).await?;
    let named = only_the_named(&owner, &before, &stock.person).await?;
    evidence.tried("super-admins", "who is named at the machine is one, and nobody with him", &stock.person, named);
    theirs_alone(&table, &stock, &ordinary, &mut evidence).await?;
    publishing_alone((ground, &table), &stock, &mut evidence).await?;
    the_systems_own(&stock, &mut evidence).await?;
    let others = listening(&owner.sql, &BTreeSet::new()).await?;
    let second = ground.start_node(None).await?;
    let tried = async {
        let heard = listening(&owner.sql, &others).await?;
        let end = End { ground, stock: &stock, owner: &owner, second: &second };
        Failure::of_any([
            end.for_a_node_that_hears_nothing(&heard, &mut evidence).await,
            end.for_a_change_that_waits(&mut evidence).await,
            end.at_the_first_request(&mut evidence).await,
        ])
    };
    let tried: Result<(), Failure> = tried.await;
    second.end().await;
    tried.map(|()| evidence)
}

/// What is the super-admins' alone, by a person who is none, by a workspace's admin, and by one of them.
async fn theirs_alone(
    table: &Table,
    stock: &Stock<'_>,
    ordinary: &Caller,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    for (permission, subject) in THEIRS {
        let rows: Vec<&Route> = of(table, permission);
        if rows.is_empty() {
            return Err(Failure::unproven(format!("no route has the permission {permission}")));
        }
        for route in rows {
            let (values, _) = stock.fill(route).await?;
            for (whose, caller, status) in [
                ("a person of the operator's who is none", ordinary, 403),
                ("the workspace's admin", &stock.workspace.admin, 401),
            ] {
                let reply = route.send(caller, &values, &[]).await?;
                refused(route, whose, (&reply, &[status]))?;
                evidence.tried(subject, format!("{} by {whose}: {}", route.title(), reply.status), whose, &reply.body);
            }
            let reply = route.send(&stock.operator, &values, &[]).await?;
            if !reply.status.is_success() {
                return Err(Failure::unproven(format!("{} by a super-admin: {}", route.title(), reply.status)));
            }
            evidence.tried(subject, format!("{} by a super-admin: {}", route.title(), reply.status), route.title(), "");
        }
    }
    Ok(())
}

/// Every row of the operator's, with a key that only publishes statements: it is no person, and knows of no workspace.
async fn publishing_alone(
    (ground, table): (&Ground, &Table),
    stock: &Stock<'_>,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let name = format!("publisher.{}", hex::encode(random::bytes::<3>()));
    let publisher = stock.operator.with_key(&ground.publisher(&name).await?);
    let whose = "a key that only publishes statements";
    let (mut publishing, mut others) = (0, 0);
    for route in table.routes.iter().filter(|route| route.guard == Guard::OperatorKey) {
        let (values, _) = stock.fill(route).await?;
        let reply = route.send(&publisher, &values, &[]).await?;
        if route.permission == PUBLISHING {
            // What the statement itself is worth is another question: it was let in to ask.
            if ![200, 201, 409, 422].contains(&reply.status.as_u16()) {
                return Err(Failure::unproven(format!("{} by {whose}: {}", route.title(), reply.status)));
            }
            publishing += 1;
        } else {
            let answers: &[u16] = if route.object().is_some() { &[403, 404] } else { &[403] };
            refused(route, whose, (&reply, answers))?;
            others += 1;
        }
        evidence.saw(format!("{} by {whose}: {}", route.title(), reply.status), whose, &reply.body);
    }
    if publishing == 0 || others == 0 {
        return Err(Failure::unproven("the operator's rows do not have both: what such a key may do, and what not"));
    }
    Ok(())
}

/// The rows of the operator's with a permission.
fn of<'t>(table: &'t Table, permission: &str) -> Vec<&'t Route> {
    let is_one = |route: &&Route| route.guard == Guard::OperatorKey && route.permission == permission;
    table.routes.iter().filter(is_one).collect()
}

/// Refused by one of these; a server that fails neither lets in nor refuses.
fn refused(route: &Route, whose: &str, (reply, statuses): (&Reply, &[u16])) -> Result<(), Failure> {
    if statuses.contains(&reply.status.as_u16()) {
        return Ok(());
    }
    let title = route.title();
    if !reply.status.is_success() {
        return Err(Failure::unproven(format!("{title} by {whose} was answered {}", reply.status)));
    }
    let obtained = json!({ "route": title, "by": whose, "answer": reply.json() });
    Err(Failure::broken(format!("{title} is done by {whose}"), obtained))
}

/// Who is super-admin, as the database has it.
async fn appointed(owner: &Owner) -> Result<BTreeSet<String>, Failure> {
    let named = owner.texts("select subject from keyholder.installation_tuples where relation = 'super_admin'").await?;
    Ok(named.into_iter().collect())
}

/// Who has become super-admin since: the person of this name, and nobody else; nobody at all where it is empty. In words.
async fn only_the_named(owner: &Owner, before: &BTreeSet<String>, name: &str) -> Result<String, Failure> {
    let now = appointed(owner).await?;
    let wanted = format!("operator:{name}");
    if let Some(other) = now.difference(before).find(|subject| **subject != wanted) {
        let obtained = json!({ "tuple": format!("super_admin@{other}") });
        return Err(Failure::broken(format!("{other} is super-admin, and nobody made him one"), obtained));
    }
    if !name.is_empty() && !now.contains(&wanted) {
        return Err(Failure::unproven("who was made super-admin is not found in the database"));
    }
    Ok(format!("{} in all", now.len()))
}

/// What is the system's own is seen by a workspace's admin, and changed by nobody there.
async fn the_systems_own(stock: &Stock<'_>, evidence: &mut Evidence) -> Result<(), Failure> {
    let path = format!("/v1/installation/workspaces/{}/objects", stock.workspace.id);
    for (kind, inner) in [("folder", "folder"), ("checklist", "checklist_item")] {
        let own = json!({ "type": kind, "name": "The system's own" });
        let made = expect(&stock.operator.post(&path, &own).await?, 201)?;
        let id = text(&made, "/id").to_owned();
        let within = json!({ "type": inner, "name": "In it", "parent": id });
        let within = expect(&stock.operator.post(&path, &within).await?, 201)?;
        for id in [&id, text(&within, "/id")] {
            untouched(stock, (id, inner), evidence).await?;
        }
    }
    Ok(())
}

/// Whatever a workspace's admin tries with one of the system's own.
async fn untouched(stock: &Stock<'_>, (id, inner): (&str, &str), evidence: &mut Evidence) -> Result<(), Failure> {
    let (admin, at) = (&stock.workspace.admin, format!("/v1/objects/{id}"));
    let before = expect(&admin.get(&at).await?, 200)?;
    evidence.saw("the workspace's admin sees it", &at, before.to_string());
    let relation = if inner == "checklist_item" && text(&before, "/type") == inner { "assignee" } else { "viewer" };
    let attacks = [
        ("renames", at.clone(), json!({ "name": "Mine" })),
        ("adds to", format!("{at}/objects"), json!({ "type": inner, "name": "Mine" })),
        ("gives away", format!("{at}/relationships"), json!({ "relation": relation, "subject": stock.admins_key })),
        ("removes", at.clone(), serde_json::Value::Null),
    ];
    for (what, path, body) in attacks {
        let reply = if body.is_null() { admin.delete(&path).await? } else { admin.post(&path, &body).await? };
        if reply.status.is_success() {
            let obtained = json!({ "object": id, "answer": reply.json(), "status": reply.status.as_u16() });
            return Err(Failure::broken(format!("a workspace's admin {what} what is the system's own"), obtained));
        }
        if ![403, 404, 422].contains(&reply.status.as_u16()) {
            return Err(Failure::unproven(format!("a workspace's admin {what} one: {}", reply.status)));
        }
        let tried = format!("a workspace's admin {what} one of the system's own: {}", reply.status);
        evidence.tried("checklists", tried, body.to_string(), &reply.body);
    }
    if expect(&admin.get(&at).await?, 200)? != before {
        return Err(Failure::broken("one of the system's own was changed", json!({ "object": id })));
    }
    Ok(())
}

/// The end of it, on two nodes.
struct End<'e> {
    ground: &'e Ground,
    stock: &'e Stock<'e>,
    owner: &'e Owner,
    second: &'e Node,
}

impl End<'_> {
    fn on_second(&self, caller: &Caller) -> Caller {
        self.ground.stranger_at(&self.second.url).with_key(caller.key().unwrap_or_default())
    }

    /// Something that is a super-admin's alone: a folder of the system's own.
    async fn asks(&self, caller: &Caller) -> Result<Reply, Failure> {
        let path = format!("/v1/installation/workspaces/{}/objects", self.stock.workspace.id);
        Ok(caller.post(&path, &json!({ "type": "folder", "name": "of a probe" })).await?)
    }

    fn denied(what: &str, reply: &Reply, evidence: &mut Evidence) -> Result<(), Failure> {
        match reply.status.as_u16() {
            403 => {
                evidence.tried("super-admins", format!("{what}: 403"), what, &reply.body);
                Ok(())
            }
            201 => Err(Failure::broken(format!("{what} counts"), reply.json())),
            other => Err(Failure::unproven(format!("{what} is neither granted nor denied, but {other}"))),
        }
    }

    /// Another person who is super-admin, and the statements that end that without a word to any node.
    async fn another(&self, name: &str) -> Result<(Caller, String), Failure> {
        let name = format!("{name}.{}", hex::encode(random::bytes::<3>()));
        let caller = self.stock.operator.with_key(&self.ground.operator(&name).await?);
        self.ground.operate(&["operator", "super-admin", "grant", &name]).await?;
        expect(&self.asks(&caller).await?, 201)?;
        let gone = "delete from keyholder.installation_tuples where relation = 'super_admin'";
        Ok((caller, format!("{RAISED}; {gone} and subject = 'operator:{name}'")))
    }

    /// While the other node hears nothing and trusts what it holds, it asks before one of the operator's persons does anything.
    async fn for_a_node_that_hears_nothing(
        &self,
        heard: &BTreeSet<i32>,
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        let (caller, gone) = self.another("unheard").await?;
        let (caller, admin) = (self.on_second(&caller), self.on_second(&self.stock.workspace.admin));
        expect(&self.asks(&caller).await?, 201)?;
        // By this the node holds the facts.
        expect(&admin.get("/v1/workspace").await?, 200)?;
        let _stalled = Stalled::begin(heard)?;
        self.owner.sql.client.batch_execute(&format!("begin; {gone}; commit")).await?;
        let what = "the first request of one whom it was taken from, on a node that hears nothing";
        Self::denied(what, &self.asks(&caller).await?, evidence)
    }

    /// A change that began while he was one, and waits for the workspace when that is ended.
    async fn for_a_change_that_waits(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let (caller, gone) = self.another("waiting").await?;
        let workspace = self.owner.workspace(NAME).await?;
        let held = HeldHead::take(self.ground.login("owner")?, &workspace).await?;
        let ended = async {
            held.is_awaited(self.owner).await?;
            self.owner.sql.client.batch_execute(&format!("begin; {gone}; commit")).await?;
            held.release().await
        };
        let (reply, ended) = join(self.asks(&caller), ended).await;
        ended?;
        Self::denied("a change that waited while that was taken from whoever makes it", &reply?, evidence)
    }

    /// Ended at the machine, it is ended on every node, from the first request on.
    async fn at_the_first_request(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let nodes = [
            ("the first node", self.stock.operator.clone()),
            ("the second node", self.on_second(&self.stock.operator)),
        ];
        for (node, caller) in &nodes {
            expect(&self.asks(caller).await?, 201)?;
            evidence.saw(format!("a super-admin on {node}"), *node, "201");
        }
        self.ground.operate(&["operator", "super-admin", "revoke", &self.stock.person]).await?;
        for (node, caller) in &nodes {
            let what = format!("the first request of one whom it was taken from, on {node}");
            Self::denied(&what, &self.asks(caller).await?, evidence)?;
        }
        Ok(())
    }
}
