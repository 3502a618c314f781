//! Routes: every row of the table, by everybody who may not; and what a request leaves behind.

mod beside_customers;
mod refusals;

use domain::{api_key, environment::Environment};
use serde_json::{Value, json};

use self::refusals::{Refusals, silent};
use super::trust::Page;
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{RETURN, expect, text},
    probe::{Attack, Probe},
    roles::Role,
    routes::{Guard, Route, Table, Values},
    stock::Stock,
    tenancy::Owner,
};

/// Whether anybody comes in where he may not.
pub(super) const ROUTE_GUARDS: Probe = Probe {
    name: "route-guards",
    points: &["route-guards"],
    tries: "every route without a credential, with a broken one, with another workspace's, with a role below; every public one for what it tells",
    attack: Attack::Both {
        live: |target| Box::pin(beside_customers::route_guards(target)),
        rehearsed: |ground| Box::pin(route_guards(ground)),
    },
};

/// Whether something can be done, or read by the operator's staff, of which no trail is left.
pub(super) const AUDITED_ROUTES: Probe = Probe {
    name: "audited-routes",
    points: &["audited-routes"],
    tries: "every route that changes something, and every one of the operator's, without leaving a trail that names who it was",
    attack: Attack::Rehearsed(|ground| Box::pin(audited_routes(ground))),
};

/// Placeholders that name nothing of the workspace.
const UNOWNED: [&str; 8] = ["fresh", "provider", "action", "path", "statement", "signature", "plan", "feature"];

/// What a row answered to whoever may.
struct Answered {
    route: Route,
    reply: Reply,
    /// How many rows it added to the table that is itself the record, if that is where its record lies.
    rows: u64,
}

/// Sends every row's sample by whoever may, each with an object of its own.
async fn allowed(
    ground: &Ground,
    stock: &Stock<'_>,
    (table, owner): (&Table, &Owner),
    evidence: &mut Evidence,
) -> Result<Vec<Answered>, Failure> {
    let mut answered = Vec::new();
    for route in &table.routes {
        let (mut values, browser) = stock.fill(route).await?;
        if Stock::has_none(&values) {
            evidence.saw(format!("{}: this system has none of what it is about", route.title()), route.title(), "");
            continue;
        }
        let before = rows_of(owner, route).await?;
        let reply = if values.contains_key("statement") {
            // A node of a rehearsal trusts no key: a server beside it does, on the same database.
            let page = Page::open(ground, None).await?;
            let (statement, signature) = page.sample(ground)?;
            values.extend([("statement".to_owned(), statement), ("signature".to_owned(), signature)]);
            let operator = page.stranger.with_key(stock.operator.key().unwrap_or_default());
            let reply = route.send(&operator, &values, &[]).await?;
            page.close().await?;
            reply
        } else {
            route.send(stock.may(route, &browser), &values, &[]).await?
        };
        // What is open to all may be empty yet; nobody is turned away from it.
        let is_open = route.guard == Guard::Public && route.record.is_none() && reply.status == 404;
        if !(reply.status.is_success() || reply.status == 303 || is_open) {
            let body = String::from_utf8_lossy(&reply.body);
            return Err(Failure::unproven(format!("{} by whoever may: {} {body}", route.title(), reply.status)));
        }
        stock.settle(route, &values).await?;
        // An answer to whoever may holds a key or a link's token: evidence is published, and has its digest alone.
        let digest = sha256(&reply.body);
        evidence.saw(format!("{} by whoever may: {}", route.title(), reply.status), route.title(), digest);
        let rows = rows_of(owner, route).await?.saturating_sub(before);
        answered.push(Answered { route: route.clone(), reply, rows });
    }
    Ok(answered)
}

async fn route_guards(ground: &Ground) -> Outcome {
    let table = ground.table().await?;
    let mut evidence = Evidence::new();
    let stock = Stock::new(ground, "guarded").await?;
    let owner = Owner::open(ground.login("owner")?).await?;
    allowed(ground, &stock, (&table, &owner), &mut evidence).await?;

    let walk = Walk::prepare(ground, &stock, &table).await?;
    let workspace = owner.workspace("guarded").await?;
    let before = owner.state_of(&workspace).await?;
    walk.by_nobody(&mut evidence).await?;
    for route in table.routes.iter().filter(|route| route.guard == Guard::ApiKey) {
        walk.try_from_elsewhere(route, &mut evidence).await?;
        walk.try_from_below(route, &mut evidence).await?;
    }
    for ((name, was), (_, is)) in before.iter().zip(owner.state_of(&workspace).await?) {
        if *was != is {
            let obtained = json!({ "workspace": workspace, "table": name, "before": was, "after": is });
            return Err(Failure::broken(format!("somebody who may not has changed {name}"), obtained));
        }
    }
    Ok(evidence)
}

/// Those who may not, and what they must not learn.
pub(super) struct Walk<'w> {
    table: &'w Table,
    stranger: Caller,
    /// A person of the operator's, and an admin: neither's key is one where the other's is wanted.
    operator: Caller,
    admin: Caller,
    broken: Vec<(&'static str, Caller)>,
    rival: Caller,
    /// A key of every role below an admin's.
    below: Vec<(Role, Caller)>,
    values: Values,
    refusals: Refusals,
}

impl<'w> Walk<'w> {
    pub(super) async fn prepare(ground: &Ground, stock: &Stock<'_>, table: &'w Table) -> Result<Self, Failure> {
        let values = stock.everything(&table.routes).await?;
        let admin = stock.workspace.admin.clone();
        let key = async |role: &str| {
            let made = admin.post("/v1/api-keys", &json!({ "label": format!("a {role}"), "role": role })).await?;
            let made = expect(&made, 201)?;
            Ok::<_, Failure>((admin.with_key(text(&made, "/key")), text(&made, "/id").to_owned()))
        };
        let (revoked, ended) = key("service").await?;
        expect(&revoked.get("/v1/workspace").await?, 200)?;
        admin.delete(&format!("/v1/api-keys/{ended}")).await?;
        let connection = values.get("connection").cloned().unwrap_or_default();
        let below = vec![
            (Role::SupportAgent, key("support_agent").await?.0),
            (Role::User, key("user").await?.0),
            (Role::Service, key("service").await?.0),
            (Role::Grantee, ground.agent(&admin, &connection, &["profile.read"], &json!([])).await?.caller),
        ];
        let stranger = admin.with_no_cookies();
        let good = stock.workspace.key.as_str();
        let swapped = if good.ends_with('0') { '1' } else { '0' };
        let typo = format!("{}{swapped}", good.get(..good.len() - 1).unwrap_or_default());
        let broken = vec![
            ("no key", stranger.clone()),
            ("another word", stranger.with_key("password")),
            ("a key with a typing error", stranger.with_key(&typo)),
            ("a key in capitals", stranger.with_key(&good.to_uppercase())),
            ("a key of another environment", stranger.with_key(&api_key::generate(Environment::Production).0)),
            ("a revoked key", revoked),
        ];
        let rival = ground.workspace("rival").await?.admin;
        let owned = |name: &&String| !UNOWNED.contains(&name.as_str());
        let mut private: Vec<_> = values.keys().filter(owned).filter_map(|name| values.get(name)).cloned().collect();
        private.extend([
            stock.workspace.id.clone(),
            stock.admins_key.clone(),
            stock.account.clone(),
            RETURN.to_owned(),
        ]);
        let operator = stock.operator.clone();
        let refusals = Refusals { private };
        Ok(Self { table, stranger, operator, admin, broken, rival, below, values, refusals })
    }

    /// Every row by somebody without a credential that is one, and what is beside the table.
    pub(super) async fn by_nobody(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        for route in &self.table.routes {
            if route.guard == Guard::Public {
                self.refusals.as_anybody(route, (&self.stranger, &self.values), evidence).await?;
            } else {
                self.without_credential(route, evidence).await?;
            }
        }
        self.beside_the_table(evidence).await
    }

    /// Whether a reply shows something that others must not learn.
    pub(super) fn is_private(&self, reply: &Reply) -> bool {
        let said = String::from_utf8_lossy(&reply.body);
        self.refusals.private.iter().any(|word| !word.is_empty() && said.contains(word.as_str()))
    }

    /// Refused with 401, whatever is wrong with the credential.
    async fn without_credential(&self, route: &Route, evidence: &mut Evidence) -> Result<(), Failure> {
        let bearer = format!("Basic {}", self.admin.key().unwrap_or_default());
        let other = if route.guard == Guard::ApiKey { &self.operator } else { &self.admin };
        for (what, caller) in &self.broken {
            let reply = route.send(caller, &self.values, &[]).await?;
            self.refusals.note(route, what, &[401], &reply, evidence)?;
        }
        // A new one each time: what a node makes of a key, it remembers.
        let made_up = self.stranger.with_key(&api_key::generate(Environment::Local).0);
        for (what, caller) in [("a well-formed key that nobody made", &made_up), ("a key of the other kind", other)] {
            let reply = route.send(caller, &self.values, &[]).await?;
            self.refusals.note(route, what, &[401], &reply, evidence)?;
        }
        let reply = route.send(&self.stranger, &self.values, &[("authorization", &bearer)]).await?;
        self.refusals.note(route, "a good key under another scheme", &[401], &reply, evidence)
    }

    /// Another workspace's admin meets what is not there, or his own workspace.
    pub(super) async fn try_from_elsewhere(&self, route: &Route, evidence: &mut Evidence) -> Result<(), Failure> {
        let reply = route.send(&self.rival, &self.values, &[]).await?;
        let wanted = route.placeholders();
        let named = wanted.iter().any(|name| !UNOWNED.contains(&name.as_str()));
        let statuses: &[u16] = match named {
            true if route.names_in_path(&wanted.iter().map(String::as_str).collect::<Vec<_>>()) => &[404],
            // What a body names may be called an input that is not valid, in the words for what is nowhere.
            true => &[404, 422],
            false => &[],
        };
        self.refusals.note(route, "another workspace's admin", statuses, &reply, evidence)
    }

    /// Every role below: refused what it may not; and what it may read, it reads, and nothing that does not concern it.
    pub(super) async fn try_from_below(&self, route: &Route, evidence: &mut Evidence) -> Result<(), Failure> {
        for (role, caller) in &self.below {
            let whose = role.words();
            if !role.may(&route.permission) {
                let reply = route.send(caller, &self.values, &[]).await?;
                self.refusals.note(route, whose, &[role.refusal(route.object().as_deref())], &reply, evidence)?;
                continue;
            }
            // What changes something is tried by whoever may as well, and here it would hide what somebody changes who may not.
            if route.record.is_some() || route.method != "GET" {
                continue;
            }
            let reply = route.send(caller, &self.values, &[]).await?;
            // What everybody may ask for may still name what only some may know of.
            if !(reply.status.is_success() || (reply.status == 404 && role.sees_its_own())) {
                let body = String::from_utf8_lossy(&reply.body);
                return Err(Failure::unproven(format!("{} by {whose}: {} {body}", route.title(), reply.status)));
            }
            if role.sees_its_own() && *role != Role::Grantee {
                let others = ["connection", "mandate", "act"].iter().filter_map(|name| self.values.get(*name));
                silent(route, whose, &reply, others)?;
            }
            let tried = format!("{} by {whose}: {}", route.title(), reply.status);
            // What somebody reads who may is his workspace's own.
            evidence.tried("api-routes", tried, route.title(), sha256(&reply.body));
        }
        Ok(())
    }

    /// Nothing is served beside the table: what the document of the API lists is in it, and what is in neither is not there.
    async fn beside_the_table(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let document = expect(&self.stranger.get("/openapi.json").await?, 200)?;
        let listed = document.get("paths").and_then(Value::as_object).cloned().unwrap_or_default();
        for path in listed.keys() {
            // A capture of the rest of a path is written without its star in the document.
            let is_known = |route: &Route| route.path.replace("{*", "{") == *path;
            if !self.table.routes.iter().any(is_known) {
                return Err(Failure::broken(format!("{path} is served and is not in the table"), path.as_str()));
            }
        }
        for path in [
            "/v1",
            "/v1/",
            "/v1/workspaces",
            "/v1/admin",
            "/v1/installation",
            "/metrics",
            "/debug",
            "/.env",
            "/v1/../v1/workspace",
        ] {
            let reply = self.stranger.get(path).await?;
            if reply.status.is_success() {
                let obtained = json!({ "path": path, "answer_sha256": sha256(&reply.body) });
                return Err(Failure::broken(format!("{path} is served and is not in the table"), obtained));
            }
            evidence.saw(format!("GET {path}: {}", reply.status), path, &reply.body);
        }
        Ok(())
    }
}

async fn audited_routes(ground: &Ground) -> Outcome {
    let table = ground.table().await?;
    let mut evidence = Evidence::new();
    let stock = Stock::new(ground, "audited").await?;
    let owner = Owner::open(ground.login("owner")?).await?;
    for Answered { route, reply, rows } in allowed(ground, &stock, (&table, &owner), &mut evidence).await? {
        let Some(record) = &route.record else { continue };
        let request = reply.header("request-id").to_owned();
        let trail = if record.place == "audit" { "audit" } else { "installation_audit" };
        let left =
            format!("select principal || ' ' || event from keyholder.{trail} where request = '{request}' order by id");
        let left = owner.texts(&left).await?;
        let event = format!(" {}", record.name);
        let found = match record.place.as_str() {
            "row" => (rows > 0).then(|| format!("{rows} of {}", record.name)),
            _ => left.iter().find(|entry| entry.ends_with(&event)).cloned(),
        };
        let Some(entry) = found else {
            let obtained =
                json!({ "route": route.title(), "request": request, "answered": reply.status.as_u16(), "trail": left });
            return Err(Failure::broken(format!("{} left no entry of {}", route.title(), record.name), obtained));
        };
        if route.guard == Guard::OperatorKey && !entry.contains(&stock.person) {
            return Err(Failure::broken(format!("{} does not say which person it was", route.title()), entry));
        }
        let subject = if route.guard == Guard::OperatorKey { "staff-accounts" } else { "api-routes" };
        evidence.tried(subject, format!("{} left: {entry}", route.title()), &request, &entry);
    }
    no_access_without_a_name(&stock, &table, &mut evidence).await?;
    Ok(evidence)
}

/// How many rows there are of what is itself a row's record.
async fn rows_of(owner: &Owner, route: &Route) -> Result<u64, Failure> {
    let Some(record) = route.record.as_ref().filter(|record| record.place == "row") else { return Ok(0) };
    // A link is there before it is opened: what opening leaves is the mark on it.
    let which = if record.name == "connect_links" { " where opened_at is not null" } else { "" };
    Ok(owner.text(&format!("select count(*)::text from keyholder.{}{which}", record.name)).await?.parse()?)
}

/// The operator's routes take a person's key and nothing else; and such a key opens nothing of any workspace.
async fn no_access_without_a_name(stock: &Stock<'_>, table: &Table, evidence: &mut Evidence) -> Result<(), Failure> {
    let values = stock.everything(&table.routes).await?;
    for route in table.routes.iter().filter(|route| route.guard != Guard::Public) {
        let (whose, caller) = match route.guard {
            Guard::OperatorKey => ("an admin of a workspace", &stock.workspace.admin),
            _ => ("a person of the operator's", &stock.operator),
        };
        let reply = route.send(caller, &values, &[]).await?;
        if reply.status != 401 {
            let obtained = json!({ "route": route.title(), "with": whose, "status": reply.status.as_u16() });
            return Err(Failure::broken(format!("{} opened to {whose}", route.title()), obtained));
        }
        let tried = format!("{} by {whose}: 401", route.title());
        evidence.tried("staff-access", tried, route.title(), &reply.body);
    }
    Ok(())
}
