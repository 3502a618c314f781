//! Dependencies: whether anything gets into a build whose version and hash are not written down in the tree.

use std::{collections::BTreeSet, io, path::Path};

use regex::Regex;
use serde_json::json;
use toml::{Table, Value};

use crate::{
    evidence::{Evidence, Failure, Outcome, sha256},
    probe::{Attack, Probe},
    source::SourceTree,
};

/// Whether something that is built in, run by the build, or sent to browsers can change without a change of the tree.
pub(super) const PINNED_DEPENDENCIES: Probe = Probe {
    name: "pinned-dependencies",
    points: &["pinned-dependencies", "browser-assets", "scripts", "database-wheels", "shipped-builds"],
    tries: "a crate, a browser's asset, a script's download or the database's wheel without a version and a hash in the tree, or a shipped build beside the lock file",
    attack: Attack::Built(|tree| Box::pin(pinned_dependencies(tree))),
};

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
const WHEEL: &str = "keyholder/src/cluster/wheel.rs";

type Judged = Result<(), String>;

async fn pinned_dependencies(tree: &SourceTree) -> Outcome {
    let mut evidence = Evidence::new();
    see_what_is_planted()?;
    evidence.saw("what is not pinned is found out", "", "a canary of each kind");
    let files = files(tree).await?;
    let manifests = manifests(tree, &files)?;
    locked_crates(tree, &manifests, &mut evidence)?;
    for (path, manifest) in &manifests {
        broken(path, path, declared(manifest))?;
        evidence.saw(format!("{path}: nothing but crates of the registry and of this tree"), path, "");
    }
    for path in &files {
        let Some(text) = read(tree, path)? else { continue };
        if is_asset(path) {
            broken(path, &text, self_contained(&text))?;
            evidence.tried(
                "browser-assets",
                format!("{path}: compiled in, and loads nothing from elsewhere"),
                &text,
                "",
            );
        }
        if is_script(path) {
            broken(path, &text, downloads(&text))?;
            evidence.tried("scripts", format!("{path}: downloads nothing without version and hash"), &text, "");
        }
        if Path::new(path).extension().is_some_and(|kind| kind == "txt")
            && path.contains("/tests/")
            && text.contains("--hash=")
        {
            broken(path, &text, requirements(&text))?;
            evidence.tried("scripts", format!("{path}: every package by version and hash"), &text, "");
        }
        if Path::new(path).file_name().is_some_and(|name| name == "package-lock.json") {
            broken(path, &text, locked_packages(&text))?;
            evidence.tried("scripts", format!("{path}: every package by version and hash"), &text, "");
        }
        if path.starts_with("packaging/") && !shipped(&text).is_empty() {
            for build in shipped(&text) {
                broken(path, &build, locked(&build))?;
                evidence.tried("shipped-builds", format!("{path}: {build}"), &build, "");
            }
        }
    }
    let wheel = read(tree, WHEEL)?.unwrap_or_default();
    for hash in wheels(&wheel).map_err(|why| Failure::broken(format!("{WHEEL}: {why}"), sha256(wheel.as_bytes())))? {
        evidence.tried("database-wheels", "a wheel, by version and SHA-256, which pip is made to require", hash, "");
    }
    Ok(evidence)
}

fn broken(path: &str, text: &str, judged: Judged) -> Result<(), Failure> {
    judged.map_err(|why| {
        Failure::broken(format!("{path}: {why}"), json!({ "file": path, "sha256": sha256(text.as_bytes()) }))
    })
}

async fn files(tree: &SourceTree) -> io::Result<BTreeSet<String>> {
    let listed = tree.git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).await?;
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

fn read(tree: &SourceTree, path: &str) -> io::Result<Option<String>> {
    match tree.read(Path::new(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn manifests(tree: &SourceTree, files: &BTreeSet<String>) -> Result<Vec<(String, Table)>, Failure> {
    let mut manifests = Vec::new();
    for path in files.iter().filter(|path| Path::new(path).file_name().is_some_and(|name| name == "Cargo.toml")) {
        if let Some(text) = read(tree, path)? {
            manifests.push((path.clone(), text.parse()?));
        }
    }
    Ok(manifests)
}

/// Every package of every lock file: one of this tree's own, or one of the registry with its SHA-256.
fn locked_crates(tree: &SourceTree, manifests: &[(String, Table)], evidence: &mut Evidence) -> Result<(), Failure> {
    let own: BTreeSet<&str> =
        manifests.iter().filter_map(|(_, manifest)| manifest.get("package")?.get("name")?.as_str()).collect();
    let text = read(tree, "Cargo.lock")?.ok_or_else(|| Failure::broken("there is no lock file", "Cargo.lock"))?;
    let lock: Table = text.parse()?;
    let packages = lock.get("package").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut names = BTreeSet::new();
    for package in &packages {
        let field = |name| package.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, version, checksum) = (field("name"), field("version"), field("checksum"));
        names.insert(name.to_owned());
        broken("Cargo.lock", name, locked_crate(package, &own))?;
        evidence.tried("locked-crates", format!("{name} {version}"), format!("{name} {version}"), checksum);
    }
    let wanted =
        manifests.iter().flat_map(|(path, manifest)| crates(manifest).into_iter().map(move |name| (path, name)));
    for (path, name) in wanted {
        if !path.starts_with("fuzz/") && !names.contains(&name) {
            return Err(Failure::broken(format!("{path} wants {name}, which is not in the lock file"), name));
        }
    }
    Ok(())
}

fn locked_crate(package: &Value, own: &BTreeSet<&str>) -> Judged {
    let field = |name| package.get(name).and_then(Value::as_str);
    let name = field("name").unwrap_or_default();
    match (field("source"), field("checksum")) {
        (None, None) if own.contains(name) => Ok(()),
        (None, _) => Err(format!("{name} has no source and is none of this tree's crates")),
        (Some(REGISTRY), Some(checksum)) if is_sha256(checksum) => Ok(()),
        (Some(REGISTRY), _) => Err(format!("{name} has no checksum")),
        (Some(source), _) => Err(format!("{name} comes from {source}")),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a manifest depends on: each name with what is said of it.
fn dependencies(manifest: &Table) -> Vec<(&String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let workspace = manifest.get("workspace").into_iter();
    let places = targets.chain(workspace).filter_map(Value::as_table).chain(std::iter::once(manifest));
    places.flat_map(|place| SECTIONS.iter().filter_map(|section| place.get(*section)?.as_table())).flatten().collect()
}

fn crates(manifest: &Table) -> Vec<String> {
    let renamed =
        |(name, said): (&String, &Value)| said.get("package").and_then(Value::as_str).unwrap_or(name).to_owned();
    let inherits = |said: &Value| said.get("workspace").and_then(Value::as_bool) == Some(true);
    dependencies(manifest).into_iter().filter(|(_, said)| !inherits(said)).map(renamed).collect()
}

/// A manifest names crates of the registry, of the workspace, or of this tree, and overrides none.
fn declared(manifest: &Table) -> Judged {
    if let Some(section) = ["patch", "replace"].into_iter().find(|section| manifest.contains_key(*section)) {
        return Err(format!("[{section}] puts something else in a crate's place"));
    }
    for (name, said) in dependencies(manifest) {
        if ["git", "registry", "registry-index"].iter().any(|place| said.get(place).is_some()) {
            return Err(format!("{name} does not come from the registry"));
        }
        if said.get("path").and_then(Value::as_str).is_some_and(|path| path.starts_with('/')) {
            return Err(format!("{name} lies outside of this tree"));
        }
        let version = said.as_str().or_else(|| said.get("version")?.as_str());
        if version.is_some_and(|version| version.contains('*')) {
            return Err(format!("{name} may be any version"));
        }
    }
    Ok(())
}

fn is_asset(path: &str) -> bool {
    let kind = ["html", "css", "js", "svg", "mjs"].iter().any(|kind| path.ends_with(&format!(".{kind}")));
    kind && path.starts_with("crates/server/")
}

/// An asset has no script, style, font or picture that lies elsewhere: what is sent is what was compiled in.
fn self_contained(text: &str) -> Judged {
    let loads = r#"(?i)(?:<(?:script|img|iframe|source|embed|object)\b[^>]*\b(?:src|data)|<link\b[^>]*\bhref|@import|\bimport|url\()\s*[=(]?\s*["']?\s*(?:https?:)?//"#;
    let loads = Regex::new(loads).map_err(|error| error.to_string())?;
    match loads.find(text) {
        Some(found) => Err(format!("loads something from elsewhere: {}", found.as_str())),
        None => Ok(()),
    }
}

fn is_script(path: &str) -> bool {
    let named =
        [".sh", ".bash", ".py", "Containerfile", "Dockerfile", "Makefile"].iter().any(|end| path.ends_with(end));
    named || (path.starts_with(".ci/") && !path.ends_with(".commit")) || path.starts_with(".github/")
}

/// The commands of a script, each in one line, without comments.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.flat_map(|line| line.split("&&").flat_map(|part| part.split("||"))).map(str::to_owned).collect()
}

/// A script downloads nothing but by version and hash. What Debian's own tools install is signed by Debian.
fn downloads(text: &str) -> Judged {
    for command in commands(text) {
        let has = |word: &str| command.contains(word);
        let cargo = has("cargo ") || has("cargo}\" ");
        let fault = if cargo && has(" install ") && !(has("--locked") && has("--version ")) {
            "installs a crate without its version and its lock file"
        } else if cargo
            && [" build", " test", " check", " clippy", " run"].iter().any(|verb| has(verb))
            && !has("--locked")
        {
            "builds beside the lock file"
        } else if ["pip install", "pip3 install", "pip download"].iter().any(|verb| has(verb))
            && !has("--require-hashes")
        {
            "installs a Python package without its hash"
        } else if has("npm ci ") && has("--ignore-scripts") {
            // It takes what the lock file beside it names, whose hashes are judged, and nothing else.
            continue;
        } else if ["curl ", "wget ", "npm i", "npm ci", "npm exec", "npx ", "yarn ", "git clone http"]
            .iter()
            .any(|verb| has(verb))
        {
            "downloads something whose hash nobody compares"
        } else {
            continue;
        };
        return Err(format!("{fault}: {command}"));
    }
    Ok(())
}

/// Every package of a list for pip has one version and a hash.
fn requirements(text: &str) -> Judged {
    let one = Regex::new(r"^[A-Za-z0-9._\[\]-]+==[^\s*]+\s.*--hash=sha256:[0-9a-f]{64}")
        .map_err(|error| error.to_string())?;
    let joined = text.replace("\\\n", " ");
    let mut packages = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match packages.find(|package| !one.is_match(package)) {
        Some(package) => Err(format!("a package without version and hash: {package}")),
        None => Ok(()),
    }
}

/// Every package of npm's lock file has one version and a hash (package-lock.json, lockfileVersion 2 or 3).
fn locked_packages(text: &str) -> Judged {
    let lock: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let packages = lock.get("packages").and_then(serde_json::Value::as_object).ok_or("there are no packages in it")?;
    // The first, without a name, is the folder itself.
    for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
        let said = |field: &str| package.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
        if said("version").is_empty() || !said("integrity").starts_with("sha512-") {
            return Err(format!("a package without version and hash: {name}"));
        }
    }
    Ok(())
}

/// The commands of a file that build what is shipped.
fn shipped(text: &str) -> Vec<String> {
    let builds = |command: &String| command.contains("cargo build") || command.contains("cargo install");
    commands(text).into_iter().filter(builds).collect()
}

fn locked(command: &str) -> Judged {
    if command.contains("--locked") { Ok(()) } else { Err(format!("builds beside the lock file: {command}")) }
}

/// The hashes of the database's wheels, which pip is told to require.
fn wheels(source: &str) -> Result<Vec<String>, String> {
    let pin = Regex::new(r#""([0-9a-f]{64})""#).map_err(|error| error.to_string())?;
    let version = Regex::new(r#"const VERSION: &str = "[0-9]+(?:\.[0-9]+)+";"#).map_err(|error| error.to_string())?;
    let pins: Vec<String> =
        pin.captures_iter(source).filter_map(|found| Some(found.get(1)?.as_str().to_owned())).collect();
    if pins.is_empty() || !version.is_match(source) {
        return Err("the wheel has no version, or no hash".to_owned());
    }
    if !source.contains("\"--require-hashes\"") {
        return Err("pip is not told to require the hash".to_owned());
    }
    Ok(pins)
}

/// The search finds what it is for, where it is.
fn see_what_is_planted() -> Result<(), Failure> {
    let lock = |text: &str| text.parse::<Table>().map(Value::Table);
    let nobody = BTreeSet::new();
    let manifest = |text: &str| text.parse::<Table>();
    let found = [
        locked_crate(&lock("name = 'a'\nversion = '1.0.0'\nsource = 'git+https://example.com/a#1'")?, &nobody),
        locked_crate(&lock(&format!("name = 'a'\nversion = '1.0.0'\nsource = '{REGISTRY}'"))?, &nobody),
        locked_crate(&lock("name = 'a'\nversion = '1.0.0'")?, &nobody),
        declared(&manifest("[dependencies]\na = { git = 'https://example.com/a' }")?),
        declared(&manifest("[workspace.dependencies]\na = '*'")?),
        declared(&manifest("[patch.crates-io]\na = { path = 'a' }")?),
        self_contained("<script src=\"https://cdn.example/x.js\"></script>"),
        self_contained("<link rel=stylesheet href='//cdn.example/x.css'>"),
        self_contained("body { background: url(https://cdn.example/x.png) }"),
        downloads("cargo install cargo-deny --locked"),
        downloads("pip install requests"),
        downloads("curl -sSf https://example.com/install | sh"),
        downloads("cargo build --release"),
        requirements("requests==2.0.0"),
        requirements("requests>=2.0.0 --hash=sha256:00"),
        downloads("npm install left-pad"),
        downloads("npm ci"),
        locked_packages(r#"{ "packages": { "": {}, "node_modules/a": { "version": "1.0.0" } } }"#),
        locked_packages("{}"),
        wheels("const VERSION: &str = \"18.6.3\";").map(drop),
    ];
    match found.iter().position(Result::is_ok) {
        None => Ok(()),
        Some(at) => Err(Failure::unproven(format!("the search does not find what was planted: number {at}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_passes_and_what_is_not_is_found() {
        see_what_is_planted().unwrap_or_else(|failure| panic!("{failure}"));
        downloads("# curl x\ncargo install a \\\n  --version 1.0.0 --locked\npip install --require-hashes -r x")
            .unwrap();
        self_contained("<a href=\"https://example.com\">elsewhere</a><img src=\"data:,\">").unwrap();
        downloads("npm ci --ignore-scripts --prefix x").unwrap();
        locked_packages(
            r#"{ "packages": { "": {}, "node_modules/a": { "version": "1.0.0", "integrity": "sha512-x" } } }"#,
        )
        .unwrap();
        let manifest: Table = "[dependencies]\na = '1'\nb = { path = '../b' }\nc.workspace = true".parse().unwrap();
        declared(&manifest).unwrap();
        assert_eq!(crates(&manifest), ["a", "b"]);
        requirements("# a list\nattrs==1.0 \\\n    --hash=sha256:13b2beaad985e05e2d6407ee4c4f35590b11f8d693a258a561055cac8f64cab7\n").unwrap();
    }
}
