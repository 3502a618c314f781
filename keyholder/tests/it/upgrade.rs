//! Two versions of the binary side by side: the version before serves, the database is migrated under it, this version joins in, and the
//! version before leaves.
//!
//! The version before is built from the repository's own history (`.ci/version-before`). Both run as processes of their own on one
//! database and one platform.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use keyholder::{
    caller::{Caller, Reply},
    local::{self, PROVIDER},
    node::{Handover, Ready},
};
use sandbox::{Platform, Sandbox, SandboxOptions};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    harness::{ACCOUNT, Ground, RETURN, eventually, home, location, ok, query, text, variable},
    serve::said,
};

/// The binary of the version before; nothing, where the repository's history is not there.
fn version_before() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/version-before");
    let built = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    match built.status.code() {
        Some(0) => Some(PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())),
        Some(3) => None,
        code => panic!("the version before was not built: {code:?}"),
    }
}

/// This version's binary.
fn this_version() -> PathBuf {
    env!("CARGO_BIN_EXE_keyholder").into()
}

/// A node of one version or the other. Killed when dropped.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    ready: Ready,
}

impl Running {
    /// Lets it come to its end, and sees that it does so in order.
    fn drain(mut self) {
        drop(self.stdin.take());
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "it did not come to its end in order");
    }

    fn caller(&self, key: &str) -> Caller {
        Caller::new(&Url::parse(&self.ready.url).unwrap(), None).with_key(key)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One database, one platform, and what each version needs to run there.
struct Site {
    ground: Ground,
    database: String,
    sandbox: Sandbox,
    secret: Zeroizing<String>,
    folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let ground = Ground::shared();
        let database = format!("upgrade_{}", std::process::id());
        home().create_database(&database, None).await.unwrap();
        let folder = TempDir::new().unwrap();
        let accounts = [ACCOUNT, "acme_sales", "acme_press"];
        let accounts = accounts.map(|handle| (handle.to_owned(), handle.to_owned())).to_vec();
        let site = Self {
            sandbox: Sandbox::start(SandboxOptions { accounts, ..SandboxOptions::default() }).await.unwrap(),
            secret: Zeroizing::new(domain::random::token()),
            ground,
            database,
            folder,
        };
        site.write("root.key", site.ground.keys.root_key());
        site.write("owner.url", &site.ground.owner_url(&site.database));
        for group in store::migrate::GROUPS {
            site.write(&format!("{group}.url"), &site.ground.keys.url(group, &site.database));
        }
        site
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().unwrap().to_owned()
    }

    fn write(&self, file: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.path(file), text).unwrap();
        std::fs::set_permissions(self.path(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A command of one version, configured as an operator would; what it says as JSON.
    fn run(&self, program: &Path, arguments: &[&str], logins: &[&str]) -> Value {
        let mut command = Command::new(program);
        command.args(arguments).arg("--json").env_clear().env("PATH", variable("PATH").unwrap_or_default());
        command
            .env("KEYHOLDER_ENVIRONMENT", "local")
            .env("KEYHOLDER_INSTALLATION", keyholder::home::INSTALLATION)
            .env("KEYHOLDER_KEYRING", self.ground.keys.keyring())
            .env("KEYHOLDER_STATE_DIR", self.path("state"))
            .env("KEYHOLDER_ENCRYPTION_KEY_FILE", self.path("root.key"));
        for login in logins {
            let name = format!("KEYHOLDER_DATABASE_{}_URL_FILE", login.to_uppercase());
            command.env(name, self.path(&format!("{login}.url")));
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", said(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    fn migrate(&self, program: &Path) -> (i64, i64) {
        let done = self.run(program, &["migrate"], &["owner"]);
        (done["schema_before"].as_i64().unwrap(), done["schema"].as_i64().unwrap())
    }

    fn handed(&self, program: &Path) -> (Child, ChildStdin) {
        let handover = Handover {
            keys: self.ground.keys.clone(),
            database: self.database.clone(),
            sandbox: local::route(&self.sandbox),
            secret: self.secret.clone(),
            port: 0,
            state_dir: self.folder.path().join("state"),
            blueprint: None,
            limits: None,
        };
        let mut command = Command::new(program);
        command.arg("node").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut line = Zeroizing::new(serde_json::to_vec(&handover).unwrap());
        line.push(b'\n');
        stdin.write_all(&line).unwrap();
        (child, stdin)
    }

    /// Starts a node, and waits until it serves.
    fn start(&self, program: &Path) -> Running {
        let (mut child, stdin) = self.handed(program);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it does not serve: {line}"));
        Running { child, stdin: Some(stdin), ready }
    }

    /// The exit code of a node that must not serve.
    fn refused(&self, program: &Path) -> Option<i32> {
        let (child, stdin) = self.handed(program);
        let done = child.wait_with_output().unwrap();
        drop(stdin);
        done.status.code()
    }

    async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.ground.owner_url(&self.database)).await.unwrap()
    }

    /// Makes all credentials dead, as far as Keyholder knows.
    async fn age(&self) {
        let old = "update keyholder.credentials set issued_at = clock_timestamp() - interval '2 hours', \
             expires_at = clock_timestamp() - interval '1 second'";
        sqlx::query(old).execute(&mut self.owner().await).await.unwrap();
    }

    fn platform(&self) -> &Platform {
        self.sandbox.platform()
    }

    /// A connection that its owner has consented to, at this node.
    async fn connect(&self, admin: &Caller, account: &str, actions: &[&str]) -> String {
        let wanted = json!({ "provider": PROVIDER, "actions": actions, "return_url": RETURN });
        let link = ok(admin.post("/v1/connect-links", &wanted).await.unwrap(), 201);
        let link = Url::parse(text(&link, "/url")).unwrap().path().to_owned();
        let browser = admin.with_no_cookies();
        assert_eq!(browser.get(&link).await.unwrap().status, 200);
        let fields: Vec<_> = actions.iter().map(|action| ("allow", *action)).collect();
        let to = browser.submit(&link, &fields).await.unwrap();
        let back = self.platform().approve(location(&to), account).unwrap();
        let home = Url::parse(location(&browser.get(&back).await.unwrap())).unwrap();
        let code = query(&home, "keyholder_code").unwrap();
        let redeemed = admin.post("/v1/connections/redeem", &json!({ "code": code })).await.unwrap();
        text(&ok(redeemed, 200), "/id").to_owned()
    }
}

/// A mandate for this grantee.
async fn mandate(admin: &Caller, connection: &str, grantee: &str, limits: Value) -> String {
    let terms = json!({ "connection": connection, "grantee": grantee, "actions": ["post.create"], "limits": limits });
    text(&ok(admin.post("/v1/mandates", &terms).await.unwrap(), 201), "/id").to_owned()
}

async fn post(caller: &Caller, mandate: &str, name: &str) -> Reply {
    caller.act(mandate, "post.create", &json!({ "text": name }), Some(&name.replace(' ', "-"))).await.unwrap()
}

/// An act that the other version did is answered as it was then, and not done again.
async fn is_replayed(caller: &Caller, mandate: &str, name: &str, first: &Value) {
    let again = post(caller, mandate, name).await;
    assert_eq!(again.header("idempotency-replayed"), "true", "{name}");
    assert_eq!(ok(again, 200)["answer"], first["answer"], "{name}");
}

/// Posts from this caller until its mandate's budget has nothing left; the names of what was done.
async fn spend(caller: &Caller, mandate: &str, who: &str) -> Vec<String> {
    let mut done = Vec::new();
    for number in 0.. {
        let name = format!("{who}-{number}");
        let reply = post(caller, mandate, &name).await;
        match reply.status.as_u16() {
            200 => done.push(name),
            429 => break,
            other => panic!("{other}: {}", reply.json()),
        }
    }
    done
}

/// What one version has sealed the other opens; what one has refreshed the other uses, without a call of its own. A node that has looked
/// at a credential remembers how long it lives: each pair has a connection that neither has looked at.
async fn refreshes_cross(site: &Site, admin: &Caller, grantee: &str, pairs: [(&Caller, &Caller); 2]) {
    for (((refresher, user), account), calls) in pairs.into_iter().zip(["acme_sales", "acme_press"]).zip(1..) {
        let connection = site.connect(admin, account, &["post.create"]).await;
        let free = mandate(admin, &connection, grantee, json!([])).await;
        site.age().await;
        ok(post(refresher, &free, &format!("refreshed {calls}")).await, 200);
        ok(post(user, &free, &format!("used {calls}")).await, 200);
        assert_eq!(site.platform().refreshes(), calls);
    }
    assert_eq!(site.platform().replays_punished(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_serve_one_database_through_a_migration() {
    const CAP: usize = 80;
    let Some(before) = version_before() else { return };
    let site = Site::new().await;
    let (_, old_schema) = site.migrate(&before);
    assert!(
        old_schema < store::migrate::newest(),
        "the version before knows the newest schema: name a later migration's"
    );

    // The version before serves alone.
    let old = site.start(&before);
    local::register_at(&site.sandbox, &old.ready.redirect_uri, &site.secret).unwrap();
    let logins = store::migrate::GROUPS;
    let workspace = site.run(&before, &["workspace", "create", "Acme"], &logins);
    let workspace = text(&workspace, "/workspace");
    let made = ["api-key", "create", "--workspace", workspace, "--role", "admin", "--label", "back end"];
    let made = site.run(&before, &made, &logins);
    let key = made.as_object().unwrap().values().filter_map(Value::as_str).find(|key| key.starts_with("kh_local_"));
    let old_admin = old.caller(key.unwrap());
    ok(old_admin.post("/v1/return-addresses", &json!({ "url": RETURN })).await.unwrap(), 201);
    let agent = json!({ "label": "agent", "role": "service" });
    let agent = ok(old_admin.post("/v1/api-keys", &agent).await.unwrap(), 201);
    let connection = site.connect(&old_admin, ACCOUNT, &["post.create"]).await;
    let by = text(&agent, "/id");
    let limits = json!([{ "unit": "posts", "per": "month", "cap": CAP }]);
    let shared = mandate(&old_admin, &connection, by, limits).await;
    let (first, second) =
        (mandate(&old_admin, &connection, by, json!([])).await, mandate(&old_admin, &connection, by, json!([])).await);
    let old_agent = old.caller(text(&agent, "/key"));
    let by_old = ok(post(&old_agent, &first, "by the version before").await, 200);

    // The schema is migrated under acts that do not stop.
    let migrated = AtomicBool::new(false);
    let acts = async {
        let mut number = 0;
        while !migrated.load(Ordering::Relaxed) || number < 10 {
            ok(post(&old_agent, &first, &format!("meanwhile-{number}")).await, 200);
            number += 1;
        }
        number
    };
    let migration = async {
        let (from, to) = tokio::task::block_in_place(|| site.migrate(&this_version()));
        migrated.store(true, Ordering::Relaxed);
        assert_eq!((from, to), (old_schema, store::migrate::newest()));
    };
    tokio::join!(acts, migration);

    // Both serve. What one has done the other does not repeat.
    let new = site.start(&this_version());
    let (new_admin, new_agent) = (new.caller(key.unwrap()), new.caller(text(&agent, "/key")));
    is_replayed(&new_agent, &first, "by the version before", &by_old).await;
    let by_new = ok(post(&new_agent, &first, "by this version").await, 200);
    is_replayed(&old_agent, &first, "by this version", &by_new).await;

    // One budget, to its exact end.
    let workers = (0..8).map(|worker| {
        let caller = if worker % 2 == 0 { &old_agent } else { &new_agent };
        let (who, shared) = (format!("worker-{worker}"), &shared);
        async move { spend(caller, shared, &who).await }
    });
    let done: BTreeSet<_> = join_all(workers).await.into_iter().flatten().collect();
    let there: BTreeSet<_> = site.platform().posts_by(ACCOUNT).into_iter().map(|post| post.text).collect();
    assert_eq!(done.len(), CAP);
    assert!(done.is_subset(&there), "what was answered was done");
    assert_eq!(there.iter().filter(|text| text.starts_with("worker")).count(), CAP, "and nothing beyond it");
    let mut owner = site.owner().await;
    let by_node: Vec<i64> =
        sqlx::query_scalar("select count(*) from keyholder.acts group by node_id").fetch_all(&mut owner).await.unwrap();
    assert_eq!(by_node.len(), 2, "both versions admitted: {by_node:?}");

    refreshes_cross(&site, &old_admin, by, [(&old_agent, &new_agent), (&new_agent, &old_agent)]).await;

    // A revocation at one binds the other at once.
    for (admin, agent, revoked) in [(&old_admin, &new_agent, &first), (&new_admin, &old_agent, &second)] {
        ok(post(agent, revoked, &format!("last of {revoked}")).await, 200);
        ok(admin.post(&format!("/v1/mandates/{revoked}/revoke"), &json!({})).await.unwrap(), 200);
        ok(post(agent, revoked, &format!("too late for {revoked}")).await, 403);
    }

    // The version before leaves; this one goes on.
    let third = mandate(&new_admin, &connection, by, json!([])).await;
    old.drain();
    ok(post(&new_agent, &third, "alone").await, 200);
    eventually("this version alone is on the list", async || {
        let nodes = sqlx::query_scalar("select schema_version from keyholder.nodes");
        let nodes: Vec<Option<i64>> = nodes.fetch_all(&mut site.owner().await).await.unwrap();
        nodes == [Some(store::migrate::newest())]
    })
    .await;
    let open: i64 = sqlx::query_scalar("select count(*) from keyholder.acts where state <> 'settled'")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(open, 0, "nothing is left open by either");

    // After a contract step the version before does not come back.
    let contract = format!(
        "update keyholder.schema_versions set compatible_from = {0} where version = {0}",
        store::migrate::newest()
    );
    sqlx::raw_sql(AssertSqlSafe(contract)).execute(&mut owner).await.unwrap();
    assert_eq!(site.refused(&before), Some(4));
    new.drain();
    eventually("no node is left", async || {
        let left: i64 = sqlx::query_scalar("select count(*) from keyholder.nodes")
            .fetch_one(&mut site.owner().await)
            .await
            .unwrap();
        left == 0
    })
    .await;
    site.sandbox.shutdown().await;
}
