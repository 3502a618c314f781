//! Errors: every kind that a client can bring about, and faults of the server's own, none of which tells of the inside.
//!
//! Beside customers only a client's own faults are brought about, and none that a server counts against its network but one. What is odd
//! enough for a firewall, what a limit, a platform or the database refuses, and what lies below HTTP is for a scratch installation.

use http::Method;
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use url::Url;

use crate::{
    answered::by_server,
    belongings::Belongings,
    caller::{Caller, Reply},
    database::Session,
    evidence::{Evidence, Failure, Outcome},
    ground::{Ground, Limits, Node},
    owner::{Agent, RETURN, expect, text},
    probe::{Attack, Probe, Target},
    wire,
};

/// Whether an error tells of a stack, of SQL, or of a path.
pub(super) const OPAQUE_ERRORS: Probe = Probe {
    name: "opaque-errors",
    points: &["opaque-errors", "opaque-refusals"],
    tries: "a word about the inside (a stack, SQL, a table, a path) from an error of every kind, faults of the server's own included",
    attack: Attack::Both {
        live: |target| Box::pin(beside_customers(target)),
        rehearsed: |ground| Box::pin(opaque_errors(ground)),
    },
};

/// What the database says when it is made to fail: words that stand nowhere else.
const CANARY: &str = "the heron stands in the reeds";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn beside_customers(target: &Target) -> Outcome {
    let belongings = Belongings::make(&target.admin).await?;
    let walk = async {
        let mut seen = Seen { evidence: Evidence::new(), inside: Vec::new(), fails: false };
        seen.allowed(&target.admin).await?;
        of_clients(&mut seen, &target.admin, &target.stranger).await?;
        of_things(&mut seen, &target.admin, &belongings).await?;
        Ok(seen.evidence)
    };
    belongings.undoing.after(walk).await
}

async fn opaque_errors(ground: &Ground) -> Outcome {
    let mut seen = Seen { evidence: Evidence::new(), inside: inside(ground).await?, fails: true };
    let few = Limits { network: u32::MAX, principal: u32::MAX, failures: 3, links: 8 };
    let node = ground.start_node(Some(few)).await?;
    let stranger = ground.stranger_at(&node.url);
    let admin = crate::serving::admin(ground, &stranger).await?;
    seen.allowed(&admin).await?;

    of_clients(&mut seen, &admin, &stranger).await?;
    of_hostile_clients(&mut seen, &admin).await?;
    of_limits(&mut seen, &stranger, &admin).await?;
    on_the_wire(&mut seen, &node, &admin).await?;
    let agent = agent(ground, &admin).await?;
    of_the_platform(&mut seen, ground, &agent).await?;
    let page = link(&admin).await?;
    let failed = while_the_database_fails(&mut seen, ground, &admin, &page).await;
    let mended = mend(ground).await;
    failed?;
    mended?;
    // The search can find: where it may stand, the cause stands.
    let log = node.log_text()?;
    if !log.contains(CANARY) {
        return Err(Failure::unproven(
            "the cause of a fault is not in the log, so that nothing shows that it was there to be told",
        ));
    }
    seen.evidence.saw("the cause in the log, where it belongs", CANARY, CANARY);
    node.end().await;
    Ok(seen.evidence)
}

struct Seen {
    evidence: Evidence,
    /// Words of this installation's own inside.
    inside: Vec<String>,
    /// Whether the server is made to fail, and to be busy.
    fails: bool,
}

impl Seen {
    async fn allowed(&mut self, admin: &Caller) -> Result<(), Failure> {
        let workspace = admin.get("/v1/workspace").await?;
        expect(&workspace, 200)?;
        self.evidence.saw("GET /v1/workspace", "", workspace.status.as_str());
        Ok(())
    }

    /// An error: not a success, and without a word of the inside. What the server tells is a difference whoever fails; where nobody was to
    /// fail, what does not tell says nothing, and neither does whatever stands in front of the server.
    fn error(&mut self, what: &str, reply: &Reply) -> Result<(), Failure> {
        let headers = reply.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let headers = headers.collect::<Vec<_>>().join("\n");
        let answer = format!("{headers}\n{}", String::from_utf8_lossy(&reply.body));
        let what = format!("{what}: {}", reply.status);
        if !(reply.status.is_client_error() || reply.status.is_server_error()) {
            return Err(Failure::unproven(format!("{what} is no error")));
        }
        let is_anothers = reply.header("request-id").is_empty();
        if !self.fails && (is_anothers || tells(&answer, &self.inside).is_none()) {
            by_server(&what, reply)?;
        }
        let subject = if reply.status.is_server_error() { "server-faults" } else { "errors" };
        self.bytes(subject, &what, answer.as_bytes())
    }

    fn bytes(&mut self, subject: &str, what: &str, answer: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(answer);
        if let Some(word) = tells(&text, &self.inside) {
            let obtained = json!({ "word": word, "answer": text.chars().take(600).collect::<String>() });
            return Err(Failure::broken(format!("{what} tells of the inside"), obtained));
        }
        self.evidence.tried(subject, what, what, answer);
        Ok(())
    }
}

/// What the inside consists of: our folders, the program's place, and the tables by the names that SQL has for them.
async fn inside(ground: &Ground) -> Result<Vec<String>, Failure> {
    let owner = Session::open(ground.login("owner")?).await?;
    let tables = owner.client.query("select relname::text from pg_class where relnamespace = 'keyholder'::regnamespace and relkind in ('r', 'p')", &[]).await?;
    let mut words: Vec<String> = tables.iter().map(|row| format!("keyholder.{}", row.get::<_, String>(0))).collect();
    words.push(ground.folder("nothing")?.display().to_string());
    words.extend(ground.program().parent().map(|folder| folder.display().to_string()));
    words.push(CANARY.to_owned());
    Ok(words)
}

/// The first word of the inside in a text.
fn tells(text: &str, inside: &[String]) -> Option<String> {
    const ALWAYS: [&str; 22] = [
        "sqlx",
        "sqlstate",
        "pgdatabaseerror",
        "tokio_postgres",
        "pl/pgsql",
        "returned from database",
        "relation \"",
        "column \"",
        "syntax error at",
        "violates",
        " pg_",
        "insert into",
        "select ",
        "update keyholder",
        ".rs:",
        "/src/",
        "/crates/",
        "panicked",
        "backtrace",
        "/home/",
        "/root/",
        "/tmp/",
    ];
    let lower = text.to_lowercase();
    let always = ALWAYS.into_iter().find(|word| lower.contains(word)).map(str::to_owned);
    always.or_else(|| inside.iter().find(|word| text.contains(word.as_str())).cloned())
}

/// What is wrong: in words, the method, the target, more headers, the body.
type Wrong<'a> = (&'a str, Method, &'a str, &'a [(&'a str, &'a str)], &'a str);

/// What a client can do wrong anywhere.
async fn of_clients(seen: &mut Seen, admin: &Caller, stranger: &Caller) -> Result<(), Failure> {
    let (post, get, put, delete) = (Method::POST, Method::GET, Method::PUT, Method::DELETE);
    let no_mandate = "{\"mandate\":\"man_00000000000000000000000000\",\"action\":\"x\"}";
    let no_provider = "{\"provider\":\"none\",\"actions\":[\"x\"],\"return_url\":\"https://app.example.com/none\"}";
    let all: [Wrong<'_>; 29] = [
        ("nowhere", get.clone(), "/v1/nowhere", &[], ""),
        ("an id that could not be", get.clone(), "/v1/connections/x", &[], ""),
        ("no such object", get.clone(), "/v1/connections/con_00000000000000000000000000", &[], ""),
        ("nothing to disconnect", delete.clone(), "/v1/connections/con_00000000000000000000000000", &[], ""),
        ("no such method", put.clone(), "/v1/api-keys", &[], ""),
        ("not JSON", post.clone(), "/v1/api-keys", &[JSON], "{\"label\": nonsense"),
        ("JSON with a zero", post.clone(), "/v1/api-keys", &[JSON], "{\"label\":\"\\u0000\",\"role\":\"service\"}"),
        ("another content type", post.clone(), "/v1/api-keys", &[("content-type", "application/xml")], "<x/>"),
        ("a compressed body", post.clone(), "/v1/api-keys", &[JSON, ("content-encoding", "gzip")], "{}"),
        ("wrong fields", post.clone(), "/v1/api-keys", &[JSON], "{\"label\":1,\"role\":\"root\",\"none\":1}"),
        ("a wrong parameter", get.clone(), "/v1/acts?limit=x&before=x", &[], ""),
        ("another origin", post.clone(), "/v1/api-keys", &[("origin", "https://evil.example")], ""),
        ("no such mandate", post.clone(), "/v1/acts", &[JSON], no_mandate),
        ("no such provider", post.clone(), "/v1/connect-links", &[JSON], no_provider),
        ("a dead code", post.clone(), "/v1/connections/redeem", &[JSON], "{\"code\":\"none\"}"),
        ("a return address that is none", post.clone(), "/v1/return-addresses", &[JSON], "{\"url\":\"file:///x\"}"),
        ("an unknown permission", post.clone(), "/v1/permissions/explain", &[JSON], "{\"permission\":\"x\"}"),
        ("no such feature", get.clone(), "/v1/features/none", &[], ""),
        ("no such store", get.clone(), "/fga/stores/01000000000000000000000000", &[], ""),
        ("nowhere in OpenFGA's API", get.clone(), "/fga/nowhere", &[], ""),
        ("no such method of OpenFGA's API", put.clone(), "/fga/stores", &[], ""),
        ("a store without a name", post.clone(), "/fga/stores", &[JSON], "{\"name\":7}"),
        ("not JSON, in OpenFGA's API", post.clone(), "/fga/stores", &[JSON], "{\"name\""),
        ("a token of nobody's", get.clone(), "/fga/stores?continuation_token=x", &[], ""),
        ("a dead link", get.clone(), "/connect/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &[], ""),
        ("a callback from nowhere", get.clone(), "/connect/callback/x?state=1&code=1&error=denied", &[], ""),
        ("a page with a parameter", get.clone(), "/trust?none=1", &[], ""),
        ("a page by no such method", put, "/docs", &[], ""),
        ("a statement of no scope", get.clone(), "/trust/statement.json?scope=none", &[], ""),
    ];
    for (what, method, target, headers, body) in all {
        seen.error(what, &admin.send(method, target, headers, body.to_owned().into()).await?)?;
    }
    for (what, method, path) in [
        ("no credential", get.clone(), "/v1/workspace"),
        ("no credential, and no body", post.clone(), "/v1/api-keys"),
        ("no credential, at the operator's", get.clone(), "/v1/installation/kill-drills"),
        ("no credential, in OpenFGA's API", get.clone(), "/fga/stores"),
        ("no credential, in OpenFGA's API, and no body", post.clone(), "/fga/stores/01000000000000000000000000/check"),
        ("a form of no page", post, "/connect/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ] {
        seen.error(what, &stranger.send(method, path, &[], bytes::Bytes::new()).await?)?;
    }
    // Of another scheme, none is a credential. A wrong one counts against its network: once is no harm.
    let basic = [("authorization", "Basic bm9ib2R5Om5vYm9keQ==")];
    seen.error("another scheme", &stranger.send(get, "/v1/workspace", &basic, bytes::Bytes::new()).await?)?;
    seen.error("a wrong credential", &stranger.with_key("kh_not-a-key").get("/v1/workspace").await?)
}

/// What a client can do wrong with a thing that is there.
async fn of_things(seen: &mut Seen, admin: &Caller, own: &Belongings) -> Result<(), Failure> {
    let tuple = |object: &str| json!({ "user": "user:anne", "relation": "viewer", "object": object });
    let store = format!("/fga/stores/{}", own.store);
    let (template, object) = (format!("/v1/role-templates/{}", own.template), format!("/v1/objects/{}", own.object));
    let condition =
        json!({ "c": { "name": "c", "expression": "x ==", "parameters": { "x": { "type_name": "TYPE_NAME_INT" } } } });
    let types = json!([{ "type": "user" }]);
    let direct = json!({ "relations": { "viewer": { "directly_related_user_types": [{ "type": "nobody" }] } } });
    let document = json!({ "type": "document", "relations": { "viewer": { "this": {} } }, "metadata": direct });
    let change = json!({ "name": "Of a probe", "permissions": ["audit.read"], "confirm": "0".repeat(64) });
    let cap = json!({ "scope": "principal", "subject": own.key, "unit": "acts", "per": "month", "cap": u64::MAX });
    let listed = json!({ "type": "nothing", "relation": "viewer", "user": "user:anne" });
    let all = [
        ("an unknown type", format!("{store}/check"), json!({ "tuple_key": tuple("nothing:1") })),
        ("a tuple of no form", format!("{store}/check"), json!({ "tuple_key": tuple("document") })),
        (
            "no such model",
            format!("{store}/check"),
            json!({ "tuple_key": tuple("document:1"), "authorization_model_id": "01000000000000000000000000" }),
        ),
        (
            "a tuple that the model does not know",
            format!("{store}/write"),
            json!({ "writes": { "tuple_keys": [tuple("nothing:1")] } }),
        ),
        ("objects of no type", format!("{store}/list-objects"), listed),
        ("a page of nobody's", format!("{store}/read"), json!({ "continuation_token": "x" })),
        (
            "a condition that does not end",
            format!("{store}/authorization-models"),
            json!({ "schema_version": "1.1", "type_definitions": types, "conditions": condition }),
        ),
        (
            "a model of what it lacks",
            format!("{store}/authorization-models"),
            json!({ "schema_version": "1.1", "type_definitions": [document] }),
        ),
        (
            "a model of another form",
            format!("{store}/authorization-models"),
            json!({ "schema_version": "1.1", "type_definitions": [{ "type": { "x": 1 } }] }),
        ),
        ("a change that was not shown", template.clone(), change),
        ("a template of nothing known", template, json!({ "name": "Of a probe", "permissions": ["nothing.known"] })),
        (
            "a relation of no model",
            format!("{object}/relationships"),
            json!({ "relation": "none", "subject": own.key }),
        ),
        ("a thing of no type", format!("{object}/objects"), json!({ "type": "none", "name": "Of a probe" })),
        ("a cap beyond all", "/v1/budgets".to_owned(), cap),
    ];
    for (what, target, body) in all {
        seen.error(what, &admin.post(&target, &body).await?)?;
    }
    Ok(())
}

/// What no honest client sends, and a firewall before a server may take for an attack.
async fn of_hostile_clients(seen: &mut Seen, admin: &Caller) -> Result<(), Failure> {
    let (post, get) = (Method::POST, Method::GET);
    let long = format!("/{}", "a".repeat(9_000));
    let all: [Wrong<'_>; 9] = [
        ("a path to a file", get.clone(), "/../../../../etc/passwd", &[], ""),
        ("a path to a file, escaped", get.clone(), "/assets/%2e%2e%2f%2e%2e%2fCargo.toml", &[], ""),
        ("an id that is SQL", get.clone(), "/v1/connections/'%20or%201=1--", &[], ""),
        ("a field that is SQL", post, "/v1/api-keys", &[JSON], "{\"label\":1,\"role\":\"root\",\"'; drop table\":1}"),
        ("too long an address", get.clone(), &long, &[], ""),
        ("parameters that are quotes", get.clone(), "/v1/acts?limit=%27&before=%22", &[], ""),
        ("another host", get.clone(), "/v1/workspace", &[("host", "evil.example")], ""),
        (
            "a callback that is a script",
            get.clone(),
            "/connect/callback/x?state=1&code=%27&error=%3Cscript%3E",
            &[],
            "",
        ),
        ("an operator's route", get, "/v1/installation/audit", &[], ""),
    ];
    for (what, method, target, headers, body) in all {
        seen.error(what, &admin.send(method, target, headers, body.to_owned().into()).await?)?;
    }
    Ok(())
}

/// What is too much.
async fn of_limits(seen: &mut Seen, stranger: &Caller, admin: &Caller) -> Result<(), Failure> {
    let guess = stranger.with_key("kh_local_not-a-key");
    for number in 0..6 {
        seen.error(&format!("wrong credential {number}"), &guess.get("/v1/workspace").await?)?;
    }
    let odd = json!({ "provider": "no-such-provider", "actions": ["x"], "return_url": RETURN });
    for number in 0..5 {
        seen.error(
            &format!("link {number} for a provider that is none"),
            &admin.post("/v1/connect-links", &odd).await?,
        )?;
    }
    Ok(())
}

/// What is no request at all.
async fn on_the_wire(seen: &mut Seen, node: &Node, admin: &Caller) -> Result<(), Failure> {
    let at = wire::address(&node.url)?;
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    for (what, bytes) in [
        ("noise", "\u{1}\u{2}\u{3}\r\n\r\n"),
        ("two hosts", "GET /v1/workspace HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n"),
        ("two lengths", "POST /v1/acts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
        ("too large a head", &head),
        ("too large a body", &wire::too_large_a_body(admin.key().unwrap_or_default())),
    ] {
        let answer = wire::exchange(&mut wire::connect(at).await?, bytes.as_bytes()).await;
        seen.bytes("errors", &format!("{what}, on the wire"), &answer)?;
    }
    Ok(())
}

async fn agent(ground: &Ground, admin: &Caller) -> Result<Agent, Failure> {
    // By the ground's first node, whose links nobody limits.
    let actions = ["profile.read", "post.create"];
    let connected = ground.connect(&ground.target().await?.admin, "errors", &actions).await?;
    ground.agent(admin, &connected.connection, &actions, &json!([{ "unit": "posts", "per": "day", "cap": 1 }])).await
}

/// What a platform does wrong, and what a mandate does not hold.
async fn of_the_platform(seen: &mut Seen, ground: &Ground, agent: &Agent) -> Result<(), Failure> {
    let act = |action: &'static str, input: Value, key: Option<&'static str>| async move {
        agent.caller.act(&agent.mandate, action, &input, key).await
    };
    let post = json!({ "text": "of a probe" });
    seen.error("a post without a key", &act("post.create", post.clone(), None).await?)?;
    seen.error("an action that is not allowed", &act("post.delete", json!({ "id": "1" }), Some("e1")).await?)?;
    seen.error("a wrong input", &act("post.create", json!({ "text": 1 }), Some("e2")).await?)?;
    expect(&act("post.create", post.clone(), Some("e3")).await?, 200)?;
    seen.error("another act under the same key", &act("post.create", json!({ "text": "another" }), Some("e3")).await?)?;
    seen.error("over the budget", &act("post.create", post, Some("e4")).await?)?;
    for quirk in [Quirk::LoseAnswer, Quirk::MalformedJson, Quirk::CutAnswer { after_bytes: 3 }] {
        let what = format!("a platform with {quirk:?}");
        ground.platform().switch(quirk, Scope::always(Route::Only(Call::ReadProfile)))?;
        let reply = act("profile.read", json!({}), None).await;
        ground.platform().clear();
        let reply = reply?;
        // A platform's own odd words may be passed on as its answer.
        if !reply.status.is_success() {
            seen.error(&what, &reply)?;
        }
    }
    Ok(())
}

/// A link's path, which nobody has opened.
async fn link(admin: &Caller) -> Result<String, Failure> {
    admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await?;
    let invitation = json!({ "provider": "x", "actions": ["profile.read"], "return_url": RETURN });
    let link = expect(&admin.post("/v1/connect-links", &invitation).await?, 201)?;
    Ok(Url::parse(text(&link, "/url"))?.path().to_owned())
}

/// Makes statements of the database fail with words of their own, and brings them about.
async fn while_the_database_fails(seen: &mut Seen, ground: &Ground, admin: &Caller, page: &str) -> Result<(), Failure> {
    let owner = Session::open(ground.login("owner")?).await?;
    let fail = format!(
        "create function keyholder.probe_of_errors() returns trigger language plpgsql as $$ begin raise exception '{CANARY}'; end $$;
         create trigger probe_of_errors before insert on keyholder.api_keys for each row execute function keyholder.probe_of_errors();
         create trigger probe_of_errors before insert on keyholder.budgets for each row execute function keyholder.probe_of_errors();
         create trigger probe_of_errors before update on keyholder.connect_links for each row execute function keyholder.probe_of_errors()"
    );
    owner.client.batch_execute(&fail).await?;
    let key = json!({ "label": "probe of errors", "role": "service" });
    let budget = json!({ "scope": "workspace", "unit": "acts", "per": "month", "cap": 1_000_000 });
    for (what, reply) in [
        ("a key that the database does not take", admin.post("/v1/api-keys", &key).await?),
        ("a budget that the database does not take", admin.post("/v1/budgets", &budget).await?),
        ("a page that the database does not take", admin.with_no_cookies().get(page).await?),
    ] {
        if reply.status != 500 {
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            return Err(Failure::unproven(format!("{what} was answered {}: {body}", reply.status)));
        }
        seen.error(what, &reply)?;
    }
    Ok(())
}

async fn mend(ground: &Ground) -> Result<(), Failure> {
    let owner = Session::open(ground.login("owner")?).await?;
    Ok(owner.client.batch_execute("drop function if exists keyholder.probe_of_errors() cascade").await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside_customers() -> Seen {
        Seen { evidence: Evidence::new(), inside: Vec::new(), fails: false }
    }

    fn reply(status: u16, request_id: &str, body: &'static str) -> Reply {
        let id = (http::HeaderName::from_static("request-id"), http::HeaderValue::from_str(request_id).unwrap());
        let status = http::StatusCode::from_u16(status).unwrap();
        Reply { status, headers: [id].into_iter().collect(), body: bytes::Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn beside_customers_only_the_server_tells_of_its_inside() {
        const TOLD: &str = "no such file: /home/www/502.html";
        for (status, request_id, body, is_broken) in [
            (502, "", TOLD, false),
            (404, "", TOLD, false),
            (404, "", "not found", false),
            (503, "req_1", "busy", false),
            (404, "req_1", TOLD, true),
            (500, "req_1", TOLD, true),
        ] {
            let failure = beside_customers().error("of a test", &reply(status, request_id, body)).unwrap_err();
            assert_eq!(matches!(failure, Failure::Broken { .. }), is_broken, "{status} {request_id} {body}");
        }
    }

    #[test]
    fn only_what_the_server_fails_is_tried_as_its_fault() {
        let mut seen = beside_customers();
        seen.error("of a test", &reply(404, "req_1", "not found")).unwrap();
        assert_eq!(seen.evidence.tried.keys().collect::<Vec<_>>(), ["errors"]);
        seen.fails = true;
        seen.error("of a test", &reply(500, "req_1", "an internal fault")).unwrap();
        assert_eq!(seen.evidence.tried.keys().collect::<Vec<_>>(), ["errors", "server-faults"]);
    }

    #[test]
    fn the_search_finds_what_tells_and_nothing_else() {
        let inside = vec!["keyholder.api_keys".to_owned(), "/var/lib/kh".to_owned(), CANARY.to_owned()];
        for told in [
            "error returned from database: relation \"x\" does not exist",
            "thread 'main' panicked at crates/x/src/lib.rs:3",
            "insert into keyholder.api_keys",
            "open /var/lib/kh/log",
            &format!("detail: {CANARY}"),
        ] {
            assert!(tells(told, &inside).is_some(), "{told}");
        }
        for fine in
            ["{\"title\":\"Not found\",\"acts\":1}", "/assets/keyholder.css", "", "urn:keyholder:problem:internal"]
        {
            assert_eq!(tells(fine, &inside), None, "{fine}");
        }
    }
}
