//! The walk through the routes beside customers: every row without a credential that is one, and by keys of the roles below an admin's.
//!
//! Harmless also where a guard is broken: a row that would change something is sent with a body that nobody can read, what it names is the
//! probe's own and ended afterwards, or is nowhere, and no kill drill can come of anything. A key that is wrong is shown twice in all: a
//! network has few of those, and others may sit behind the same one.

use std::collections::BTreeSet;

use domain::{api_key, environment::Environment};
use serde_json::Value;

use super::refusals::Refusals;
use crate::{
    answered::by_server,
    belongings::Belongings,
    caller::Caller,
    evidence::{Evidence, Failure, Outcome, sha256},
    owner::{expect, text},
    probe::Target,
    roles::Role,
    routes::{Guard, Route, Values},
};

/// Of what nothing can be made over HTTP alone, or nothing that could be ended again: an id that is nowhere, or a word.
const NOWHERE: [(&str, &str); 12] = [
    ("act", "act_00000000000000000000000000"),
    ("connection", "con_00000000000000000000000000"),
    ("gone_connection", "con_00000000000000000000000000"),
    ("mandate", "man_00000000000000000000000000"),
    ("kill_drill", "kd_00000000000000000000000000"),
    ("system_object", "obj_00000000000000000000000000"),
    ("workspace", "ws_00000000000000000000000000"),
    ("provider", "nowhere"),
    ("path", "nowhere"),
    ("action", "nowhere"),
    ("feature", "nowhere"),
    ("plan", "nowhere"),
];

pub(super) async fn route_guards(target: &Target) -> Outcome {
    let own = Belongings::make(&target.admin).await?;
    own.undoing.after(walk(target, &own)).await
}

async fn walk(target: &Target, own: &Belongings) -> Outcome {
    let mut evidence = Evidence::new();
    let workspace = target.admin.get("/v1/workspace").await?;
    let id = text(&expect(&workspace, 200)?, "/id").to_owned();
    evidence.saw("an admin's key comes in: 200", "GET /v1/workspace", sha256(&workspace.body));
    same_table(target).await?;
    let ids = [&own.key, &own.budget, &own.object, &own.template, &own.store, &own.model, &own.return_address, &id];
    let refusals = Refusals { private: ids.into_iter().cloned().collect() };
    let walk = Walk { target, values: values(own), refusals };
    walk.guessing(&mut evidence).await?;
    for route in &target.table.routes {
        walk.without_credential(route, &mut evidence).await?;
    }
    for (role, name) in [(Role::SupportAgent, "support_agent"), (Role::User, "user"), (Role::Service, "service")] {
        let (caller, _) = own.undoing.key(name).await?;
        expect(&caller.get("/v1/workspace").await?, 200)?;
        for route in target.table.routes.iter().filter(|route| route.guard == Guard::ApiKey) {
            walk.try_from_below(route, role, &caller, &mut evidence).await?;
        }
    }
    Ok(evidence)
}

/// What stands for the placeholders.
fn values(own: &Belongings) -> Values {
    let known = [
        ("key", &own.key),
        ("viewer", &own.key),
        ("assignee", &own.key),
        ("budget", &own.budget),
        ("object", &own.object),
        ("role_template", &own.template),
        ("relation_store", &own.store),
        ("relation_model", &own.model),
        ("own_return_url", &own.return_address),
    ];
    let known = known.map(|(name, id)| (name.to_owned(), id.clone()));
    let nowhere = NOWHERE.map(|(name, id)| (name.to_owned(), id.to_owned()));
    known.into_iter().chain(nowhere).collect()
}

/// The server has the routes of this program: what another version has is not for this one to judge.
async fn same_table(target: &Target) -> Result<(), Failure> {
    let document = expect(&target.stranger.get("/openapi.json").await?, 200)?;
    let paths = document.get("paths").and_then(Value::as_object).cloned().unwrap_or_default();
    let served: BTreeSet<String> = paths.keys().cloned().collect();
    // A capture of the rest of a path is written without its star in the document, which is for programs and lists no page.
    let of = |route: &Route| route.path.replace("{*", "{");
    let all: BTreeSet<String> = target.table.routes.iter().map(of).collect();
    let guarded = target.table.routes.iter().filter(|route| route.guard != Guard::Public).map(of);
    let odd: Vec<String> =
        guarded.filter(|path| !served.contains(path)).chain(served.difference(&all).cloned()).collect();
    match odd.first() {
        None => Ok(()),
        Some(path) => {
            Err(Failure::unproven(format!("the server is of another version: {path} is served by one of the two")))
        }
    }
}

struct Walk<'w> {
    target: &'w Target,
    values: Values,
    refusals: Refusals,
}

impl Walk<'_> {
    /// A well-formed key that nobody made, and one that is good elsewhere.
    async fn guessing(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let Target { admin, stranger, table, .. } = self.target;
        let named = admin.key().and_then(|key| key.split('_').nth(1));
        let environment: Option<Environment> = named.and_then(|name| name.parse().ok());
        let environment = environment.ok_or_else(|| Failure::unproven("an admin's key names no environment"))?;
        let made_up = stranger.with_key(&api_key::generate(environment).0);
        let first = |guard: Guard| {
            let mut rows = table.routes.iter().filter(move |route| route.guard == guard && route.method == "GET");
            rows.find(|route| route.placeholders().is_empty())
        };
        for (guard, what, caller) in [
            (Guard::ApiKey, "a well-formed key that nobody made", &made_up),
            (Guard::OperatorKey, "a key of the other kind", admin),
        ] {
            let route = first(guard).ok_or_else(|| Failure::unproven("no row reads without naming anything"))?;
            let reply = route.send(caller, &self.values, &[]).await?;
            self.refusals.note(route, what, &[401], &reply, evidence)?;
        }
        Ok(())
    }

    /// Refused with 401 where a key is wanted; told nothing of anybody where none is.
    async fn without_credential(&self, route: &Route, evidence: &mut Evidence) -> Result<(), Failure> {
        let stranger = &self.target.stranger;
        if route.guard == Guard::Public {
            return self.refusals.as_anybody(route, (stranger, &self.values), evidence).await;
        }
        let reply = route.send_unreadable(stranger, &self.values, &[]).await?;
        self.refusals.note(route, "no key", &[401], &reply, evidence)?;
        let basic = format!("Basic {}", self.target.admin.key().unwrap_or_default());
        let reply = route.send_unreadable(stranger, &self.values, &[("authorization", &basic)]).await?;
        self.refusals.note(route, "a good key under another scheme", &[401], &reply, evidence)
    }

    /// A key of a role below is refused what the role may not; what an agent of the support may read, he reads.
    async fn try_from_below(
        &self,
        route: &Route,
        role: Role,
        caller: &Caller,
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        let object = route.object();
        let is_nowhere = |name: &str| NOWHERE.iter().any(|(known, _)| *known == name);
        if !role.may(&route.permission) {
            let reply = route.send_unreadable(caller, &self.values, &[]).await?;
            let status = if object.as_deref().is_some_and(is_nowhere) { 404 } else { role.refusal(object.as_deref()) };
            return self.refusals.note(route, role.words(), &[status], &reply, evidence);
        }
        if role != Role::SupportAgent || route.method != "GET" {
            return Ok(());
        }
        let reply = route.send(caller, &self.values, &[]).await?;
        let title = route.title();
        by_server(&title, &reply)?;
        let names_nowhere = route.placeholders().iter().any(|name| is_nowhere(name));
        if !(reply.status.is_success() || (reply.status == 404 && names_nowhere)) {
            return Err(Failure::unproven(format!("{title} by {}: {}", role.words(), reply.status)));
        }
        evidence.saw(format!("{title} by {}: {}", role.words(), reply.status), title, sha256(&reply.body));
        Ok(())
    }
}
