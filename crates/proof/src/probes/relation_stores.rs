//! Relation stores: another workspace's is not there, at no address and with none of its ids, also where a node has it in memory.

use serde_json::{Value, json};

use super::organisations::key;
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    roles::Role,
    routes::{Guard, Route, Values},
    stock::{self, Stock},
    tenancy::Owner,
};

/// Whether anybody but its workspace learns of a relation store, or changes it.
pub(super) const RELATION_STORES: Probe = Probe {
    name: "relation-stores",
    points: &["relation-stores"],
    tries: "every address of a relation store with a real store's and a real model's id: by another workspace's admin and service, while the node holds the store in memory; with the own store and the other's model; by roles below",
    attack: Attack::Rehearsed(|ground| Box::pin(relation_stores(ground))),
};

/// What is asked of everything that is answered from memory, by the tuple that is planted.
const QUESTIONS: [&str; 4] = ["check", "expand", "list-objects", "list-users"];

/// A store with a model and a tuple, and everybody who should not reach it.
struct Scene<'s> {
    stock: &'s Stock<'s>,
    rows: Vec<Route>,
    /// The store's id and its model's, and whatever else samples name.
    values: Values,
    /// A user in the store, who is nowhere else.
    canary: String,
    rivals: [(&'static str, Caller); 2],
    /// A store of the rivals' own.
    own: (String, String),
    below: Vec<(Role, Caller)>,
    owner: Owner,
    id: String,
}

impl<'s> Scene<'s> {
    async fn settle(ground: &Ground, stock: &'s Stock<'s>) -> Result<Self, Failure> {
        let admin = &stock.workspace.admin;
        let names_store =
            |route: &Route| route.guard == Guard::ApiKey && route.placeholders().contains("relation_store");
        let rows: Vec<Route> = ground.table().await?.routes.into_iter().filter(names_store).collect();
        if rows.is_empty() {
            return Err(Failure::unproven("no route is about a relation store"));
        }
        let mut values = stock.everything(&rows).await?;
        let (store, model) = stock::relation_store(admin).await?;
        values.extend([("relation_store".to_owned(), store.clone()), ("relation_model".to_owned(), model)]);
        let canary = format!("user:canary-{}", hex::encode(domain::random::bytes::<8>()));
        let tuple = json!({ "user": canary, "relation": "viewer", "object": "document:1" });
        let written = json!({ "writes": { "tuple_keys": [tuple] } });
        expect(&admin.post(&format!("/fga/stores/{store}/write"), &written).await?, 200)?;
        let rival = ground.workspace("stores_rival").await?.admin;
        let own = stock::relation_store(&rival).await?;
        let below = vec![
            (Role::SupportAgent, key(admin, "support_agent").await?.0),
            (Role::User, key(admin, "user").await?.0),
            (Role::Service, key(admin, "service").await?.0),
        ];
        let service = key(&rival, "service").await?.0;
        let owner = Owner::open(ground.login("owner")?).await?;
        let id = owner.workspace("stores").await?;
        let rivals = [("another workspace's admin", rival), ("another workspace's service", service)];
        Ok(Self { stock, rows, values, canary, rivals, own, below, owner, id })
    }

    fn value(&self, name: &str) -> &str {
        self.values.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The body of a question about the planted tuple, by the model that is named.
    fn question(&self, kind: &str) -> Value {
        let mut body = match kind {
            "check" => json!({ "tuple_key": { "user": self.canary, "relation": "viewer", "object": "document:1" } }),
            "expand" => json!({ "tuple_key": { "relation": "viewer", "object": "document:1" } }),
            "list-objects" => json!({ "type": "document", "relation": "viewer", "user": self.canary }),
            _ => {
                json!({ "object": { "type": "document", "id": "1" }, "relation": "viewer", "user_filters": [{ "type": "user" }] })
            }
        };
        if let Some(members) = body.as_object_mut() {
            members.insert("authorization_model_id".to_owned(), json!(self.value("relation_model")));
        }
        body
    }

    /// What somebody was answered who should have met nothing.
    fn nothing(&self, (what, whose): (&str, &str), reply: &Reply, statuses: &[u16]) -> Result<(), Failure> {
        let said = String::from_utf8_lossy(&reply.body);
        let tells = said.contains(&self.canary) || said.contains(self.value("relation_model"));
        if reply.status.is_success() || tells {
            let obtained = json!({ "what": what, "by": whose, "status": reply.status.as_u16(), "answer": said.chars().take(300).collect::<String>() });
            return Err(Failure::broken(format!("{what} is answered to {whose}"), obtained));
        }
        if statuses.contains(&reply.status.as_u16()) {
            return Ok(());
        }
        Err(Failure::unproven(format!("{what} by {whose} was answered {}: {said}", reply.status)))
    }

    /// The whole table with the real ids, by whoever is in another workspace.
    async fn try_from_elsewhere(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        for (whose, rival) in &self.rivals {
            for route in &self.rows {
                let reply = route.send(rival, &self.values, &[]).await?;
                let title = route.title();
                // Who may not do it in his own workspace either hears that first.
                self.nothing((&title, whose), &reply, &[404, 403])?;
                if reply.status == 403 && whose.ends_with("admin") {
                    return Err(Failure::unproven(format!("{title} by {whose}: 403")));
                }
                evidence.tried("relation-stores", format!("{title} by {whose}: {}", reply.status), &title, &reply.body);
            }
            let listed = rival.get("/fga/stores").await?;
            expect(&listed, 200)?;
            if String::from_utf8_lossy(&listed.body).contains(self.value("relation_store")) {
                return Err(Failure::broken(format!("a store is listed to {whose}"), listed.json()));
            }
        }
        Ok(())
    }

    /// Questions that the node has just answered to whoever may, so that it holds everything that they need.
    async fn try_from_memory(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        for kind in QUESTIONS {
            let path = format!("/fga/stores/{}/{kind}", self.value("relation_store"));
            let question = self.question(kind);
            let answered = self.stock.workspace.admin.post(&path, &question).await?;
            expect(&answered, 200)?;
            evidence.saw(format!("{kind} by whoever may"), &path, &answered.body);
            for (whose, rival) in &self.rivals {
                let reply = rival.post(&path, &question).await?;
                self.nothing((&format!("a {kind}"), whose), &reply, &[404])?;
                let tried = format!("{kind} by {whose}, while the node holds the store: {}", reply.status);
                evidence.tried("relation-stores", tried, question.to_string(), &reply.body);
                // The own store, and the other's model.
                let reply = rival.post(&format!("/fga/stores/{}/{kind}", self.own.0), &question).await?;
                self.nothing((&format!("a {kind} by another's model"), whose), &mute(reply, self), &[400, 404])?;
                evidence.tried(
                    "relation-stores",
                    format!("{kind} of the own store by another's model"),
                    kind,
                    "refused",
                );
            }
        }
        let path = format!("/fga/stores/{}/authorization-models/{}", self.own.0, self.value("relation_model"));
        for (whose, rival) in &self.rivals {
            let reply = rival.get(&path).await?;
            self.nothing(("another's model in the own store", whose), &mute(reply, self), &[400, 404])?;
            evidence.tried(
                "relation-stores",
                format!("another's model in the own store, by {whose}"),
                &path,
                "refused",
            );
        }
        Ok(())
    }

    /// Every row by roles below: what one may not do is refused.
    async fn try_from_below(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        for (role, caller) in &self.below {
            for route in self.rows.iter().filter(|route| !role.may(&route.permission)) {
                let reply = route.send(caller, &self.values, &[]).await?;
                let (title, whose) = (route.title(), role.words());
                self.nothing((&title, whose), &reply, &[role.refusal(route.object().as_deref())])?;
                evidence.tried("relation-stores", format!("{title} by {whose}: {}", reply.status), &title, &reply.body);
            }
        }
        Ok(())
    }
}

/// The reply without the model's id, where it is what was asked about and is named back.
fn mute(mut reply: Reply, scene: &Scene<'_>) -> Reply {
    let said = String::from_utf8_lossy(&reply.body).replace(scene.value("relation_model"), "…");
    reply.body = said.into();
    reply
}

async fn relation_stores(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let stock = Stock::new(ground, "stores").await?;
    let scene = Scene::settle(ground, &stock).await?;
    let before = scene.owner.state_of(&scene.id).await?;
    scene.try_from_memory(&mut evidence).await?;
    scene.try_from_elsewhere(&mut evidence).await?;
    scene.try_from_below(&mut evidence).await?;
    for ((name, was), (_, is)) in before.iter().zip(scene.owner.state_of(&scene.id).await?) {
        if *was != is {
            let obtained = json!({ "table": name, "before": was, "after": is });
            return Err(Failure::broken(format!("somebody who may not has changed {name}"), obtained));
        }
    }
    let path = format!("/fga/stores/{}", scene.value("relation_store"));
    let there = expect(&stock.workspace.admin.get(&path).await?, 200)?;
    evidence.saw("the store is there as it was", &path, text(&there, "/id"));
    Ok(evidence)
}
