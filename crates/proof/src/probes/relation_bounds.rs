//! Bounds of relation stores: what one question, one model, one call and one workspace may take of the machine that all share.

mod models;

use serde_json::{Value, json};

use self::models::{bound, far, many_patterns, many_ways, one_pattern, wide};
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    tenancy::Owner,
};

/// Whether a tenant has more done for it, or more kept, than its bounds let.
pub(super) const RELATION_BOUNDS: Probe = Probe {
    name: "relation-bounds",
    points: &[
        "relation-bounds",
        "relation-weights",
        "relation-depth",
        "relation-batches",
        "relation-brought",
        "relation-patterns",
        "relation-patterns-together",
        "relation-models",
        "relation-store-number",
        "relation-model-number",
        "relation-writes",
        "relation-contexts",
        "relation-room",
        "relation-changes",
    ],
    tries: "questions of more steps, and of heavier ones, than a question may take; deeper ones; longer batches; more tuples brought along; models whose patterns or ways are too many; calls and contexts that are too large; more stores than a workspace may have, more models than a store, more than all stores may hold; a page of changes that looks through all of them",
    attack: Attack::Rehearsed(|ground| Box::pin(relation_bounds(ground))),
};

/// What this probe tries.
const SUBJECT: &str = "relation-bounds";

/// How the bounds are told.
const TOO_COMPLEX: &str = "authorization_model_resolution_too_complex";
const NO_MODEL: &str = "invalid_authorization_model";
const NOT_VALID: &str = "validation_error";
const TOO_MANY: &str = "exceeded_entity_limit";

/// How many users one list looks at whose condition reads a long text: it may look at about 250.
const LIGHT: usize = 100;
const HEAVY: usize = 400;
/// How many groups are in one: where the model lets nine hundred types of users in beside, a check of a full batch may look at about 700.
const GROUPS: usize = 900;
/// The most checks of a batch, tuples that a question brings along, and tuples of one call.
const CHECKS: usize = 50;
const TUPLES: usize = 100;
/// More than a tuple's context may have, in bytes.
const TOO_LONG: usize = 33 * 1024;
/// What all stores of a workspace hold at most.
const TUPLES_TOGETHER: i64 = 10_000_000;
const BYTES_TOGETHER: i64 = 8 * 1024 * 1024 * 1024;
/// The most stores of a workspace, and the most models of a store.
const STORES: i64 = 1_000;
const MODELS: i64 = 1_000;
/// How many changes a page looks through.
const CHANGES: usize = 20_000;

fn key(object: &str, relation: &str, user: &str) -> Value {
    json!({ "object": object, "relation": relation, "user": user })
}

/// A store of the attacker's own.
struct Store {
    admin: Caller,
    id: String,
}

impl Store {
    async fn new(admin: &Caller, name: &str, model: &Value) -> Result<Self, Failure> {
        let made = expect(&admin.post("/fga/stores", &json!({ "name": name })).await?, 201)?;
        let store = Self { admin: admin.clone(), id: text(&made, "/id").to_owned() };
        expect(&store.post("authorization-models", model).await?, 201)?;
        Ok(store)
    }

    async fn post(&self, what: &str, body: &Value) -> Result<Reply, Failure> {
        Ok(self.admin.post(&format!("/fga/stores/{}/{what}", self.id), body).await?)
    }

    async fn write(&self, tuples: &[Value]) -> Result<Reply, Failure> {
        self.post("write", &json!({ "writes": { "tuple_keys": tuples } })).await
    }

    async fn write_all(&self, tuples: &[Value]) -> Result<(), Failure> {
        for call in tuples.chunks(TUPLES) {
            expect(&self.write(call).await?, 200)?;
        }
        Ok(())
    }
}

/// Everything that is needed, with what was seen.
struct Scene {
    admin: Caller,
    evidence: Evidence,
}

impl Scene {
    /// What is within the bound is done.
    fn done(&mut self, what: &str, reply: &Reply) -> Result<Value, Failure> {
        let answer = reply.json();
        if reply.status.is_success() {
            self.evidence.saw(format!("{what}: {}", reply.status), what, &reply.body);
            return Ok(answer);
        }
        Err(Failure::unproven(format!("{what} was answered {}: {}", reply.status, text(&answer, "/message"))))
    }

    /// What is past it is refused, by the code of its bound.
    fn refused(&mut self, what: &str, reply: &Reply, code: &str) -> Result<(), Failure> {
        let answer = reply.json();
        if reply.status.is_success() {
            let said: String = answer.to_string().chars().take(300).collect();
            let obtained = json!({ "what": what, "status": reply.status.as_u16(), "answer": said });
            return Err(Failure::broken(format!("{what}: it was done"), obtained));
        }
        if reply.status == 400 && text(&answer, "/code") == code {
            self.evidence.tried(SUBJECT, format!("{what}: {code}"), what, &reply.body);
            return Ok(());
        }
        Err(Failure::unproven(format!("{what} was answered {}: {}", reply.status, text(&answer, "/message"))))
    }

    /// A list whose conditions read a long text is one of many steps, though of few tuples.
    async fn try_steps(&mut self) -> Result<(), Failure> {
        let store = Store::new(&self.admin, "steps", &bound()).await?;
        for (document, users) in [("light", LIGHT), ("heavy", HEAVY)] {
            let tuple = |at: usize| {
                let mut tuple = key(&format!("document:{document}"), "reader", &format!("user:{at}"));
                if let Some(members) = tuple.as_object_mut() {
                    members.insert("condition".to_owned(), json!({ "name": "ends" }));
                }
                tuple
            };
            store.write_all(&(0..users).map(tuple).collect::<Vec<Value>>()).await?;
        }
        let list = |document: &str| {
            json!({
                "object": { "type": "document", "id": document }, "relation": "reader",
                "user_filters": [{ "type": "user" }], "context": { "text": "a".repeat(30_000) },
            })
        };
        let reply = store.post("list-users", &list("light")).await?;
        let listed = self.done("a list of as many steps as a question may take", &reply)?;
        if listed.pointer("/users").and_then(Value::as_array).map(Vec::len) != Some(LIGHT) {
            return Err(Failure::unproven(format!("not all of {LIGHT} users are listed")));
        }
        let reply = store.post("list-users", &list("heavy")).await?;
        self.refused("a list of more steps than a question may take", &reply, TOO_COMPLEX)
    }

    /// A tuple of a relation into which very many types may be written costs more than another.
    async fn try_weights(&mut self) -> Result<(), Failure> {
        let store = Store::new(&self.admin, "weights", &wide(1)).await?;
        let tuple = |at: usize| key("group:0", "member", &format!("group:{at}#member"));
        store.write_all(&(1..=GROUPS).map(tuple).collect::<Vec<Value>>()).await?;
        // All but one ask about groups of nobody.
        let check = |at: usize| {
            let group = if at == 0 { "group:0".to_owned() } else { format!("group:empty-{at}") };
            json!({ "tuple_key": key(&group, "member", "user:nobody"), "correlation_id": format!("{at}") })
        };
        let batch = json!({ "checks": (0..CHECKS).map(check).collect::<Vec<Value>>() });
        let what = "a check of a batch through a narrow relation";
        let reply = store.post("batch-check", &batch).await?;
        let answer = self.done(what, &reply)?;
        if answer.pointer("/result/0/allowed") != Some(&json!(false)) {
            return Err(Failure::unproven(format!("{what} has no answer: {answer}")));
        }
        expect(&store.post("authorization-models", &wide(900)).await?, 201)?;
        let (reply, what) = (store.post("batch-check", &batch).await?, "the same through one of very many types");
        let answer = self.done(what, &reply)?;
        if let Some(allowed) = answer.pointer("/result/0/allowed") {
            let obtained = json!({ "what": what, "allowed": allowed, "tuples": GROUPS });
            return Err(Failure::broken("a check took more steps than one of a batch may", obtained));
        }
        if text(&answer, "/result/0/error/input_error") != TOO_COMPLEX {
            return Err(Failure::unproven(format!("{what} has another answer: {answer}")));
        }
        self.evidence.tried(SUBJECT, format!("{what}: {TOO_COMPLEX}"), what, &reply.body);
        Ok(())
    }

    /// What lies too deep has no answer, though the answer would be yes.
    async fn try_depth(&mut self) -> Result<(), Failure> {
        let store = Store::new(&self.admin, "depth", &bound()).await?;
        let step = |at: usize| key(&format!("document:{at}"), "parent", &format!("document:{}", at - 1));
        let mut tuples: Vec<Value> = (1..=40).map(step).collect();
        tuples.push(key("document:0", "owner", "user:anne"));
        store.write_all(&tuples).await?;
        let views = |document: &str| json!({ "tuple_key": key(document, "viewer", "user:anne") });
        let near = self.done("a check ten documents up", &store.post("check", &views("document:10")).await?)?;
        if near.pointer("/allowed") != Some(&json!(true)) {
            return Err(Failure::unproven("who owns a document does not view those below it"));
        }
        let reply = store.post("check", &views("document:40")).await?;
        self.refused("a check forty documents up", &reply, TOO_COMPLEX)
    }

    /// Checks of a batch, and tuples that a question brings along.
    async fn try_requests(&mut self) -> [Result<(), Failure>; 2] {
        let store = match Store::new(&self.admin, "requests", &bound()).await {
            Ok(store) => store,
            Err(failure) => return [Err(failure.clone()), Err(failure)],
        };
        [self.try_batches(&store).await, self.try_brought(&store).await]
    }

    async fn try_batches(&mut self, store: &Store) -> Result<(), Failure> {
        let check = |at: usize| json!({ "tuple_key": key("document:1", "owner", "user:anne"), "correlation_id": format!("{at}") });
        let batch = |checks: usize| json!({ "checks": (0..checks).map(check).collect::<Vec<Value>>() });
        self.done("a full batch", &store.post("batch-check", &batch(CHECKS)).await?)?;
        self.refused("a longer batch", &store.post("batch-check", &batch(CHECKS + 1)).await?, NOT_VALID)
    }

    async fn try_brought(&mut self, store: &Store) -> Result<(), Failure> {
        let check = |tuples: usize| {
            let brought: Vec<Value> = (0..tuples).map(|at| key("document:1", "owner", &format!("user:{at}"))).collect();
            let asked = key("document:1", "owner", "user:0");
            json!({ "tuple_key": asked, "contextual_tuples": { "tuple_keys": brought } })
        };
        let answer = self.done("a check with tuples of its own", &store.post("check", &check(TUPLES)).await?)?;
        if answer.pointer("/allowed") != Some(&json!(true)) {
            return Err(Failure::unproven("what a question brings along does not count"));
        }
        self.refused("a check with more of them", &store.post("check", &check(TUPLES + 1)).await?, NOT_VALID)
    }

    /// Models that cost more to be made ready than their words would tell.
    async fn try_models(&mut self) -> [Result<(), Failure>; 3] {
        let store = match Store::new(&self.admin, "models", &bound()).await {
            Ok(store) => store,
            Err(failure) => return [Err(failure.clone()), Err(failure.clone()), Err(failure)],
        };
        [
            self.try_model(&store, "a pattern of classes", [one_pattern(100), one_pattern(190)]).await,
            self.try_model(&store, "patterns of a model", [many_patterns(50), many_patterns(100)]).await,
            self.try_model(&store, "ways from relation to relation", [many_ways(200), many_ways(460)]).await,
        ]
    }

    async fn try_model(&mut self, store: &Store, what: &str, [within, past]: [Value; 2]) -> Result<(), Failure> {
        self.done(&format!("{what}, few enough"), &store.post("authorization-models", &within).await?)?;
        let reply = store.post("authorization-models", &past).await?;
        self.refused(&format!("{what}, too many"), &reply, NO_MODEL)
    }

    /// Calls that write too much at once.
    async fn try_writes(&mut self) -> [Result<(), Failure>; 2] {
        let store = match Store::new(&self.admin, "writes", &bound()).await {
            Ok(store) => store,
            Err(failure) => return [Err(failure.clone()), Err(failure)],
        };
        [self.try_calls(&store).await, self.try_contexts(&store).await]
    }

    async fn try_calls(&mut self, store: &Store) -> Result<(), Failure> {
        let tuples = |object: &str, tuples: usize| -> Vec<Value> {
            (0..tuples).map(|at| key(object, "owner", &format!("user:{at}"))).collect()
        };
        self.done("a full call", &store.write(&tuples("document:1", TUPLES)).await?)?;
        self.refused("a longer call", &store.write(&tuples("document:2", TUPLES + 1)).await?, TOO_MANY)
    }

    async fn try_contexts(&mut self, store: &Store) -> Result<(), Failure> {
        let tuple = |object: &str, bytes: usize| {
            let context = json!({ "text": "a".repeat(bytes) });
            let condition = json!({ "name": "ends", "context": context });
            json!({ "object": object, "relation": "reader", "user": "user:anne", "condition": condition })
        };
        self.done("a tuple with a long context", &store.write(&[tuple("document:3", 30_000)]).await?)?;
        self.refused("a tuple with a longer one", &store.write(&[tuple("document:4", TOO_LONG)]).await?, NOT_VALID)
    }

    /// Whatever a workspace's other stores hold counts for each.
    async fn try_room(&mut self, ground: &Ground, owner: &Owner) -> Result<(), Failure> {
        let admin = ground.workspace("bounds_room").await?.admin;
        let id = owner.workspace("bounds_room").await?;
        let (_ballast, store) =
            (Store::new(&admin, "ballast", &bound()).await?, Store::new(&admin, "room", &bound()).await?);
        // Nobody could write so much here: that it is there is said by the hand of the database's owner.
        let says = async |tuples: i64, bytes: i64| {
            let said = format!(
                "update keyholder.fga_stores set tuples = {tuples}, bytes = {bytes} where workspace_id = '{id}' and name = 'ballast'"
            );
            owner.sql.client.batch_execute(&said).await
        };
        let tuple = |document: &str| [key(document, "owner", "user:anne")];
        self.done("a tuple where there is room", &store.write(&tuple("document:1")).await?)?;
        says(TUPLES_TOGETHER, 0).await?;
        let reply = store.write(&tuple("document:2")).await?;
        self.refused("a tuple beside as many as a workspace may have", &reply, TOO_MANY)?;
        says(0, BYTES_TOGETHER).await?;
        let reply = store.write(&tuple("document:3")).await?;
        self.refused("a tuple beside as many bytes", &reply, TOO_MANY)?;
        self.refused("a model beside as many bytes", &store.post("authorization-models", &bound()).await?, TOO_MANY)?;
        let others = Store::new(&self.admin, "others", &bound()).await?;
        self.done("a tuple of another workspace", &others.write(&tuple("document:4")).await?)?;
        says(0, 0).await?;
        self.done("a tuple where there is room again", &store.write(&tuple("document:5")).await?)?;
        Ok(())
    }

    /// As many stores and models as there may be, by the hand of the database's owner; then one more.
    async fn try_numbers(&mut self, ground: &Ground, owner: &Owner) -> Result<(), Failure> {
        let admin = ground.workspace("bounds_numbers").await?.admin;
        let id = owner.workspace("bounds_numbers").await?;
        let store = Store::new(&admin, "numbers", &bound()).await?;
        let filled = format!(
            "insert into keyholder.fga_stores (workspace_id, id, name)                select '{id}', gen_random_uuid(), 'ballast' from generate_series(1, {STORES} - 2);              update keyholder.fga_stores set models = {MODELS} - 1 where workspace_id = '{id}' and name = 'numbers'"
        );
        owner.sql.client.batch_execute(&filled).await?;
        let make = async || admin.post("/fga/stores", &json!({ "name": "another" })).await;
        let model = async || store.post("authorization-models", &bound()).await;
        self.done("the last store that a workspace may have", &make().await?)?;
        self.done("the last model that a store may have", &model().await?)?;
        Failure::of_any([
            self.refused("one store more", &make().await?, TOO_MANY),
            self.refused("one model more", &model().await?, TOO_MANY),
        ])
    }

    /// Of one type there is one change, behind very many of another.
    async fn try_changes(&mut self, owner: &Owner) -> Result<(), Failure> {
        let store = Store::new(&self.admin, "changes", &bound()).await?;
        let id = owner.workspace("bounds").await?;
        let of = format!("workspace_id = '{id}' and name = 'changes'");
        let planted = format!(
            "insert into keyholder.fga_changes \
               (workspace_id, store_id, revision, place, is_write, object, relation, subject, principal, at) \
             select workspace_id, id, at, 0, true, 'document:' || at, 'owner', 'user:x', 'a probe', now() \
               from keyholder.fga_stores, generate_series(1, {CHANGES}) at where {of}; \
             update keyholder.fga_stores set revision = {CHANGES} where {of}"
        );
        owner.sql.client.batch_execute(&planted).await?;
        expect(&store.write(&[far()]).await?, 200)?;
        let page = async |token: &str| {
            let path = format!("/fga/stores/{}/changes?type=group&continuation_token={token}", store.id);
            let reply = self.admin.get(&path).await?;
            expect(&reply, 200).map(|page| (page, reply))
        };
        let found = |page: &Value| page.pointer("/changes/0/tuple_key").cloned();
        let (first, reply) = page("").await?;
        if let Some(change) = found(&first) {
            let obtained = json!({ "change": change, "behind": CHANGES });
            return Err(Failure::broken("a page of changes looked through all of them", obtained));
        }
        let token: String =
            url::form_urlencoded::byte_serialize(text(&first, "/continuation_token").as_bytes()).collect();
        let (second, next) = page(&token).await?;
        if found(&second).is_none() {
            return Err(Failure::unproven("a change is on neither of two pages"));
        }
        let what = format!("a page of changes, behind {CHANGES} of another type");
        self.evidence.tried(SUBJECT, format!("{what}: it says how far it came"), &what, &reply.body);
        self.evidence.saw("the next page has the change", &what, &next.body);
        let gone = format!(
            "delete from keyholder.fga_changes c using keyholder.fga_stores s \
             where c.workspace_id = s.workspace_id and c.store_id = s.id and s.workspace_id = '{id}' and s.name = 'changes'"
        );
        Ok(owner.sql.client.batch_execute(&gone).await?)
    }
}

async fn relation_bounds(ground: &Ground) -> Outcome {
    let owner = Owner::open(ground.login("owner")?).await?;
    let mut scene = Scene { admin: ground.workspace("bounds").await?.admin, evidence: Evidence::new() };
    let mut ways = vec![scene.try_steps().await, scene.try_weights().await, scene.try_depth().await];
    ways.extend(scene.try_requests().await);
    ways.extend(scene.try_models().await);
    ways.extend(scene.try_writes().await);
    ways.push(scene.try_room(ground, &owner).await);
    ways.push(scene.try_numbers(ground, &owner).await);
    ways.push(scene.try_changes(&owner).await);
    Failure::of_any(ways)?;
    Ok(scene.evidence)
}
