//! Super-admins: named at the machine and never otherwise, and alone in raising a plan and in touching what is the system's own.

use std::{collections::BTreeSet, time::Duration};

use domain::{clock::Clock, random};
use serde_json::json;

use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, Node},
    owner::{expect, text},
    probe::{Attack, Probe},
    routes::{Guard, Route, Table},
    stock::Stock,
    tenancy::Owner,
};

/// Whether somebody is super-admin whom nobody named so, or does without it what is a super-admin's alone.
pub(super) const SUPER_ADMINS: Probe = Probe {
    name: "super-admins",
    points: &["super-admins", "system-objects"],
    tries: "to be super-admin by being one of the operator's persons; what is the super-admins' alone, by persons who are none and by a workspace's admin; to be one still when that was ended",
    attack: Attack::Rehearsed(|ground| Box::pin(super_admins(ground))),
};

/// What is theirs alone: the permission, and what it is about.
const THEIRS: [(&str, &str); 2] = [("system_object.manage", "checklists"), ("plan.set", "plans")];
/// After so long nothing that was ended may count anywhere.
const REMEMBERED: Duration = Duration::from_secs(4);
const EVERY: Duration = Duration::from_millis(20);

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
    let stock = Stock::new(ground, "supers").await?;
    let named = only_the_named(&owner, &before, &stock.person).await?;
    evidence.tried("super-admins", "who is named at the machine is one, and nobody with him", &stock.person, named);
    for (permission, subject) in THEIRS {
        let rows: Vec<&Route> = of(&table, permission);
        if rows.is_empty() {
            return Err(Failure::unproven(format!("no route has the permission {permission}")));
        }
        for route in rows {
            let (values, _) = stock.fill(route).await?;
            for (whose, caller, status) in [
                ("a person of the operator's who is none", &ordinary, 403),
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
    the_systems_own(&stock, &mut evidence).await?;
    let second = ground.start_node(None).await?;
    let ended = ended(ground, &stock, &second, &mut evidence).await;
    second.end().await;
    ended.map(|()| evidence)
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

/// Ended at the machine, it is ended on every node.
async fn ended(ground: &Ground, stock: &Stock<'_>, second: &Node, evidence: &mut Evidence) -> Result<(), Failure> {
    let key = stock.operator.key().unwrap_or_default();
    let nodes = [
        ("the first node", stock.operator.clone()),
        ("the second node", ground.stranger_at(&second.url).with_key(key)),
    ];
    let path = format!("/v1/installation/workspaces/{}/objects", stock.workspace.id);
    let asks = async |caller: &Caller| -> Result<Reply, Failure> {
        Ok(caller.post(&path, &json!({ "type": "folder", "name": "of a probe" })).await?)
    };
    for (node, caller) in &nodes {
        expect(&asks(caller).await?, 201)?;
        evidence.saw(format!("a super-admin on {node}"), &path, "201");
    }
    ground.operate(&["operator", "super-admin", "revoke", &stock.person]).await?;
    let clock = Clock::system();
    for (node, caller) in &nodes {
        let from = clock.since_boot();
        loop {
            let reply = asks(caller).await?;
            let took = clock.since_boot().saturating_sub(from);
            match reply.status.as_u16() {
                403 => {
                    let tried = format!("one whom that was taken from, on {node}: 403 after {} ms", took.as_millis());
                    evidence.tried("super-admins", tried, &path, &reply.body);
                    break;
                }
                201 if took < REMEMBERED => tokio::time::sleep(EVERY).await,
                201 => {
                    return Err(Failure::broken(
                        format!("who is no super-admin any more counts as one on {node}"),
                        reply.json(),
                    ));
                }
                other => return Err(Failure::unproven(format!("neither granted nor denied, but {other}"))),
            }
        }
    }
    Ok(())
}
