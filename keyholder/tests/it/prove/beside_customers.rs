//! The probes that run beside customers: what they decide at each of the five systems, and that nobody notices them there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::Stdio,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{id::Id, principal::Principal, statement::Scope};
use http::Method;
use keyholder::{
    config::{Preset, named_blueprint},
    instance::{Instance, InstanceOptions},
    prove::{
        self, Report,
        signing::{OwnWords, Signing, sign},
    },
};
use proof::{PROBES, Target, caller::Caller, routes::Table, wire};
use rustls::pki_types::CertificateDer;
use seal::signature::SigningKey;
use serde_json::{Value, json};
use server::TlsFiles;
use service::Role;
use sqlx::{AssertSqlSafe, PgConnection, types::Uuid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::{keyholder, program, run, said};
use crate::{
    harness::{TestApp, eventually, ok, spare_port, text},
    matrices::operator,
    serve::{Operator, Serving},
};

/// The key that signs what the daily run came to, which the sites trust.
static KEY: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);

/// The wrong credentials that a network may show in a minute here, half of what is usual. All probes together must leave some of them.
const FAILURES: u32 = 30;

/// What a run changes for good in the probes' own workspace: its trail; keys that are ended, of which the row tells when; and links that are.
const LASTING: [&str; 3] = ["api_keys", "audit", "connect_links"];

/// A server of a system with a customer, and the probes' own workspace there.
pub(super) struct Site {
    pub(super) app: TestApp,
    /// Where probes come in over TLS, and its certificate's folder.
    node: Option<(Instance, TempDir)>,
    workspace: Uuid,
    pub(super) target: Target,
}

/// What a system's blueprint configures, and what a test needs beside.
fn set_up(options: &mut InstanceOptions, blueprint: &str) {
    Preset::of(&named_blueprint(blueprint).unwrap()).unwrap().apply(options);
    options.connections = 8;
    options.limits.failures_per_minute = FAILURES.try_into().unwrap();
    options.trust.keys = vec![KEY.verifying_key()];
}

impl Site {
    /// Over TLS, as browsers and back ends come in.
    async fn over_tls(blueprint: &str) -> Self {
        let app = TestApp::start_with(|options| set_up(options, blueprint)).await;
        let (made, folder) = (wire::certificate().unwrap(), TempDir::new().unwrap());
        let files = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        fs::write(&files.certificate, &made.certificate).unwrap();
        fs::write(&files.key, &made.key).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        let node = app.second_node_with(|options| {
            set_up(options, blueprint);
            options.tls = Some(files);
        });
        let node = node.await;
        let stranger = Caller::trusting(node.url(), None, Some(&made.authority));
        assert_eq!(stranger.base().scheme(), "https");
        Self::of(blueprint, app, stranger, Some((node, folder))).await
    }

    /// In the clear on this machine, where browsers come by another address.
    pub(super) async fn behind(blueprint: &str, public: &Url, change: impl FnOnce(&mut InstanceOptions)) -> Self {
        let app = TestApp::start_with(|options| {
            set_up(options, blueprint);
            options.public_url = Some(public.clone());
            change(options);
        });
        Self::of(blueprint, app.await, Caller::new(public, None), None).await
    }

    async fn of(blueprint: &str, app: TestApp, stranger: Caller, node: Option<(Instance, TempDir)>) -> Self {
        let inner = app.instance.app();
        let host = Principal::operator("local", inner.clock.now());
        let workspace = service::workspace::create_for_probes(inner, &host, "Probes").await.unwrap();
        let issued = service::workspace::issue_key(inner, &host, workspace, "probe", Role::Admin, None).await;
        let admin = stranger.with_key(&issued.unwrap().1);
        let told = run(keyholder(program(), &["routes", "--json"])).await;
        let table: Table = serde_json::from_slice(&told.stdout).unwrap();
        let blueprint = named_blueprint(blueprint).unwrap();
        let target = Target { admin, stranger, table, blueprint };
        Self { app, node, workspace: workspace.uuid(), target }
    }

    pub(super) async fn close(self) {
        if let Some((node, _folder)) = self.node {
            node.stop().await;
        }
        self.app.stop().await;
    }

    async fn prove(&self, only: &[String]) -> Report {
        let callers = (&self.target.admin, &self.target.stranger);
        prove::at_server(callers, vec![self.target.blueprint.clone()]).await.unwrap();
        prove::live(&self.target, only).await.unwrap()
    }

    /// The rows of every tenant's table, of the probes' workspace or of all others: a digest a table.
    async fn rows(&self, of_probes: bool) -> BTreeMap<String, String> {
        let mut owner = self.app.owner().await;
        let tables = "select c.table_name::text from information_schema.columns c \
            join information_schema.tables t using (table_schema, table_name) \
            where c.table_schema = 'keyholder' and c.column_name = 'workspace_id' and t.table_type = 'BASE TABLE'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut owner).await.unwrap();
        assert!(tables.len() > 10, "{tables:?}");
        let mut rows = BTreeMap::new();
        for table in tables {
            let digest = self.digest(&mut owner, (&table, "workspace_id"), of_probes).await;
            rows.insert(table, digest);
        }
        if !of_probes {
            rows.insert("heads".to_owned(), self.digest(&mut owner, ("heads", "id"), false).await);
        }
        rows
    }

    async fn digest(&self, owner: &mut PgConnection, (table, column): (&str, &str), of_probes: bool) -> String {
        let is = if of_probes { "=" } else { "<>" };
        let all = format!(
            "select count(*) || ' ' || md5(coalesce(string_agg(it::text, '|' order by it::text), '')) \
             from keyholder.{table} it where {column} {is} $1"
        );
        sqlx::query_scalar(AssertSqlSafe(all)).bind(self.workspace).fetch_one(owner).await.unwrap()
    }

    /// The tables in which something of the probes' workspace is not as it was, but for what lasts.
    async fn changed_since(&self, before: &BTreeMap<String, String>) -> BTreeSet<String> {
        let now = self.rows(true).await;
        let changed = before.iter().filter(|(table, digest)| now.get(*table) != Some(digest)).map(|(table, _)| table);
        changed.filter(|table| !LASTING.contains(&table.as_str())).cloned().collect()
    }

    /// Sees that the probes' workspace is as it was. What is deleted page by page goes a moment later.
    async fn is_as_before(&self, before: &BTreeMap<String, String>, when: &str) {
        for _ in 0..100 {
            if self.changed_since(before).await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.changed_since(before).await, BTreeSet::new(), "{when}: something is left behind");
        let mut owner = self.app.owner().await;
        let living = "select count(*) from keyholder.api_keys where workspace_id = $1 and revoked_at is null \
                      and (expires_at is null or expires_at > now() + interval '11 minutes')";
        let living: i64 = sqlx::query_scalar(living).bind(self.workspace).fetch_one(&mut owner).await.unwrap();
        assert_eq!(living, 1, "{when}: keys without an end");
    }
}

/// The claims of a report in this state.
fn ids<'r>(report: &'r Report, state: &str) -> Vec<&'r str> {
    report.claims.iter().filter(|line| line.state == state).map(|line| line.id.as_str()).collect()
}

/// What a run beside customers shows to be kept, blueprint by blueprint, before any statement is published and where no account is connected
/// for probes. The rest is left for a rehearsal.
const KEPT: [(&str, &str); 5] = [
    ("social-agent", "SA-05 SA-04 SA-24"),
    ("media-workspace", "MW-17 MW-43"),
    ("chat-assistant", "CA-01"),
    ("social-publisher", "SP-05"),
    ("engineering-playbook", "EP-07 EP-28 EP-27 EP-33 EP-35 EP-36 EP-37"),
];
/// Kept in a report alone: what the shipped example attests is in no statement.
const BY_AN_EXAMPLE: &str = "MW-43";

#[tokio::test(flavor = "multi_thread")]
async fn each_systems_claims_are_tried_beside_its_customers_and_nobody_notices() {
    let mut all = Vec::new();
    for (name, _) in KEPT {
        let site = Site::over_tls(name).await;
        let entrusted = site.app.entrust(&["profile.read"], json!([])).await;
        ok(entrusted.act("profile.read", &json!({}), None).await, 200);
        let (others, own) = (site.rows(false).await, site.rows(true).await);

        let report = site.prove(&[]).await;
        assert_eq!(ids(&report, "broken"), [""; 0], "{name}: {}", told(&report));
        assert_eq!(ids(&report, "unproven"), [""; 0], "{name}: {}", told(&report));
        let ran: BTreeSet<_> = report.walks.iter().flat_map(|walk| walk.outcomes.keys().copied()).collect();
        let live = PROBES.iter().filter(|probe| probe.live().is_some()).map(|probe| probe.name);
        assert_eq!(ran, live.collect(), "{name}");
        all.push((name, ids(&report, "kept").join(" ")));

        assert_eq!(site.rows(false).await, others, "{name}: something of somebody else has changed");
        site.is_as_before(&own, name).await;
        let mut owner = site.app.owner().await;
        let trail = "select count(*) from keyholder.audit where workspace_id = $1";
        let entries: i64 = sqlx::query_scalar(trail).bind(site.workspace).fetch_one(&mut owner).await.unwrap();
        let tagged = ok(site.target.admin.get("/v1/audit?limit=100").await.unwrap(), 200);
        let tagged = tagged["data"].as_array().unwrap();
        assert!(entries > 3 && tagged.iter().all(|entry| entry["probe"] == json!(true)), "{name}: {tagged:?}");
        // Nobody of this network is locked out: it may still be wrong.
        let wrong = site.target.stranger.with_key("kh_local_wrong").get("/v1/workspace").await.unwrap();
        assert_eq!(wrong.status, 401, "{name}");
        ok(entrusted.act("profile.read", &json!({}), None).await, 200);
        let said = told(&report);
        for secret in [site.target.admin.key().unwrap(), site.app.admin.key().unwrap(), &site.app.secret] {
            assert!(!said.contains(secret), "{name}: a secret is in the report");
        }
        drop(owner);
        site.close().await;
    }
    assert_eq!(all, KEPT.map(|(name, kept)| (name, kept.to_owned())));
    let guide = include_str!("../../../../docs/guides/proving.md");
    for (name, kept) in KEPT {
        let by_itself: Vec<_> = kept.split(' ').filter(|id| *id != BY_AN_EXAMPLE).collect();
        assert!(
            guide.contains(&format!("| `{name}` | {} |", by_itself.join(", "))),
            "the guide says otherwise of {name}"
        );
    }
}

fn told(report: &Report) -> String {
    serde_json::to_string(report).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_run_published_is_no_difference_to_the_next() {
    let name = "media-workspace";
    let site = Site::over_tls(name).await;
    let first = site.prove(&[]).await;
    let signing = Signing {
        keys: vec![SigningKey::from_text(&KEY.to_text()).unwrap()],
        life: time::Duration::HOUR,
        audience: None,
        commit: None,
        sabotaged: None,
    };
    let (words, now) =
        (OwnWords::of(&named_blueprint(name).unwrap(), None).unwrap(), site.app.instance.app().clock.now());
    let statement = sign(&first, &words, (Scope::ProductionSafe, now), &signing).unwrap();
    let json = [("content-type", "application/json")];
    let publish = "/v1/installation/trust-statements";
    ok(operator(&site.app).await.send(Method::POST, publish, &json, statement.into()).await.unwrap(), 201);
    // The probe's own words on certificates are folded into the article of the claim that it decides.
    eventually("the evidence is on the page", async || {
        let page = site.target.stranger.get("/trust").await.unwrap();
        String::from_utf8_lossy(&page.body).contains("SOC 2 Type II is named as not held, and nowhere claimed")
    })
    .await;
    let second = site.prove(&[]).await;
    assert_eq!(ids(&second, "broken"), [""; 0], "{}", told(&second));
    assert_eq!(ids(&second, "kept"), ids(&first, "kept"));
    site.close().await;
}

/// A way to a server on which one request is lost: the connection that it came on is cut.
struct Lossy {
    url: Url,
    requests: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl Lossy {
    #[expect(clippy::disallowed_methods, reason = "what stands on the way to a server is no part of the application")]
    fn lay(listener: TcpListener, to: &Url) -> Self {
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (requests, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
        let at = to.socket_addrs(|| None).unwrap()[0];
        let counts = (Arc::clone(&requests), Arc::clone(&lost));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counts = (Arc::clone(&counts.0), Arc::clone(&counts.1));
                tokio::spawn(async move { pass(client, TcpStream::connect(at).await.unwrap(), counts).await });
            }
        });
        Self { url, requests, lost }
    }

    /// Loses the request that comes after so many others from now on.
    fn lose(&self, after: usize) {
        self.requests.store(0, Ordering::SeqCst);
        self.lost.store(after, Ordering::SeqCst);
    }
}

/// Passes requests, each of which a client writes in one piece as long as it is short.
async fn pass(mut client: TcpStream, mut server: TcpStream, (requests, lost): (Arc<AtomicUsize>, Arc<AtomicUsize>)) {
    let (mut asked, mut answered) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                if requests.fetch_add(1, Ordering::SeqCst) == lost.load(Ordering::SeqCst) {
                    return;
                }
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_broken_off_half_way_leaves_nothing_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let public: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let site = Site::behind("engineering-playbook", &public, |_| {}).await;
    let way = Lossy::lay(listener, site.app.instance.url());
    assert_eq!(site.target.admin.base(), &way.url);
    let before = site.rows(true).await;
    for probe in PROBES.iter().filter(|probe| probe.live().is_some()) {
        let only = [probe.name.to_owned()];
        way.lose(usize::MAX);
        site.prove(&only).await;
        let requests = way.requests.load(Ordering::SeqCst);
        site.is_as_before(&before, probe.name).await;
        let mut broken_off = 0;
        // The first two ask whose key it is, and which blueprint's page.
        for after in [2, requests / 3, 2 * requests / 3].into_iter().filter(|after| (2..requests).contains(after)) {
            way.lose(after);
            let report = site.prove(&only).await;
            broken_off += usize::from(report.walks.iter().any(|walk| walk.outcomes.values().any(Result::is_err)));
            site.is_as_before(&before, &format!("{} without its request {after}", probe.name)).await;
        }
        assert!(broken_off > 0, "{} has not noticed that requests are lost", probe.name);
    }
    site.close().await;
}

/// What raises an alarm, by the runbooks' index, as a server's metrics name it; and of whom the network's own refusals tell.
const ALARMS: [&str; 12] = [
    "keyholder_edge_refusals_total{reason=\"in-the-clear\"}",
    "keyholder_connections_refused_total",
    "keyholder_acts_total",
    "keyholder_over_declared_total",
    "keyholder_indebted_budgets",
    "keyholder_kill_drills_total",
    "keyholder_role_template_drifts_total",
    "keyholder_job_failures_total",
    "keyholder_relation_questions_given_up_total",
    "keyholder_credential_refusals_total",
    "keyholder_scrubbed_total",
    "keyholder_provider_rate_limits_total",
];

/// The lines of a server's metrics that raise an alarm.
async fn alarms(metrics: &Caller) -> Vec<String> {
    let reply = metrics.get("/metrics").await.unwrap();
    assert_eq!(reply.status, 200);
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    let is_alarm = |line: &&str| ALARMS.iter().any(|alarm| line.starts_with(alarm));
    let mut alarms: Vec<_> = text.lines().filter(is_alarm).map(str::to_owned).collect();
    alarms.sort();
    alarms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_beside_customers_trips_no_alarm() {
    let operator = Operator::new("proved").await;
    operator.migrate();
    let made = wire::certificate().unwrap();
    operator.write("tls.crt", &made.certificate);
    operator.write("tls.key", &made.key);
    operator.write("authority.pem", &pem(&made.authority));
    // The address by which browsers come in has to be known before it serves.
    let port = spare_port();
    let url = format!("https://localhost:{port}");
    let log = operator.path("serve.log");
    let mut serving = operator.serving();
    serving
        .env("KEYHOLDER_LISTEN", format!("127.0.0.1:{port}"))
        .env("KEYHOLDER_PUBLIC_URL", &url)
        .env("KEYHOLDER_TLS_CERTIFICATE", operator.path("tls.crt"))
        .env("KEYHOLDER_TLS_KEY", operator.path("tls.key"))
        .env("KEYHOLDER_BLUEPRINT", "chat-assistant")
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log).unwrap());
    let mut child = Serving(serving.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", fs::read_to_string(&log).unwrap()));
    let metrics_url = text(&ready, "/metrics_url").parse().unwrap();
    let metrics = Caller::trusting(&metrics_url, None, Some(&made.authority));

    let workspace = operator.with_logins(&["workspace", "create", "--probe", "Probes", "--json"]);
    let named = |told: &Value, begin: &str| {
        let mut words = told.as_object().unwrap().values().filter_map(Value::as_str);
        words.find(|word| word.starts_with(begin)).unwrap().to_owned()
    };
    let workspace = named(&workspace, "ws_");
    let create = ["api-key", "create", "--workspace", &workspace, "--role", "admin", "--label", "probe", "--json"];
    operator.write("probe.key", &named(&operator.with_logins(&create), "kh_staging_"));

    let before = alarms(&metrics).await;
    let (key, roots) = (operator.path("probe.key"), operator.path("authority.pem"));
    let arguments = ["prove", "--target", &url, "--api-key-file", &key, "--tls-roots", &roots, "--json"];
    let done = run(keyholder(program(), &arguments)).await;
    let report: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", said(&done)));
    let lines = report["claims"].as_array().unwrap();
    // Outside of the environment `local` nobody's examples are shown: there is no security.txt yet, which is told.
    let faults: BTreeSet<_> = lines
        .iter()
        .filter(|line| matches!(text(line, "/state"), "broken" | "unproven"))
        .map(|line| text(line, "/probe"))
        .collect();
    assert!(faults.is_subset(&BTreeSet::from(["security-txt", "review-date"])), "{report}");
    assert!(report["kept"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(alarms(&metrics).await, before);
    let log = fs::read_to_string(&log).unwrap();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("\"level\":\"ERROR\"")).collect();
    assert!(errors.is_empty() && log.contains("\"level\":\"INFO\""), "{errors:#?}");
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}
