//! SQL: whether a serving process makes any text of it while it runs.

use std::{collections::BTreeSet, io, path::Path};

use regex::Regex;
use serde_json::{Value, json};

use crate::{
    evidence::{Evidence, Failure, Outcome, sha256},
    probe::{Attack, Probe},
    rust_text::{self, Piece},
    source::SourceTree,
};

/// Whether a statement is put together at run time anywhere that a serving process can come to.
pub(super) const STATIC_SQL: Probe = Probe {
    name: "static-sql",
    points: &["static-sql"],
    tries: "a statement that a serving process puts together while it runs, or one without its text in the build",
    attack: Attack::Built(|tree| Box::pin(static_sql(tree))),
};

/// What makes SQL of a text that is not in the source.
const MAKERS: [&str; 9] = [
    "AssertSqlSafe",
    "SqlSafeStr",
    "SqlStr",
    "QueryBuilder",
    "leak",
    "raw_sql",
    "into_sql_str",
    "describe",
    "batch_execute",
];
/// Functions of the driver that are handed a text; the macros of these names are judged by theirs.
const UNCHECKED: [&str; 5] = ["query", "query_as", "query_scalar", "query_with", "query_file"];
/// Crates that speak to a database.
const DRIVERS: [&str; 6] = ["sqlx", "tokio_postgres", "postgres", "diesel", "sea_query", "deadpool_postgres"];
/// The one crate of a serving process with SQL.
const STORE: &str = "crates/store/src/";
/// Its files that work with the owner's login, which no serving process is given, and what stands in a build for rehearsals alone.
const OWNERS: [&str; 3] = ["crates/store/src/migrate.rs", "crates/store/src/owner.rs", "crates/store/src/sabotage.rs"];
/// What is never part of a serving process: the attackers' code.
const ELSEWHERE: [&str; 1] = ["crates/proof/"];

/// What is wrong with a file.
struct Fault {
    line: usize,
    what: String,
}

async fn static_sql(tree: &SourceTree) -> Outcome {
    let mut evidence = Evidence::new();
    see_what_is_planted()?;
    evidence.saw("texts in which SQL is put together are found out", "", "a canary each");
    let files = files(tree).await?;
    let known = known(tree, &files, &mut evidence)?;
    for path in files.iter().filter(|path| is_source(path)) {
        let Some(source) = read(tree, path)? else { continue };
        let (statements, faults) = examine(path, &source, &known);
        if let Some(fault) = faults.first() {
            return Err(Failure::broken(
                format!("{path}:{}: {}", fault.line, fault.what),
                json!({ "file": path, "line": fault.line, "sha256": sha256(source.as_bytes()) }),
            ));
        }
        evidence.tried("source-files", path.clone(), "", &source);
        for statement in statements {
            evidence.tried("sql-statements", format!("{path}: known at build"), &statement, &statement);
        }
    }
    for path in files.iter().filter(|path| path.starts_with("crates/store/migrations/")) {
        let Some(source) = read(tree, path)? else { continue };
        for statement in dynamic(&source) {
            if let Err(why) = statement.judge() {
                return Err(Failure::broken(
                    format!("{path}: the function {} {why}", statement.function),
                    statement.text,
                ));
            }
            evidence.tried(
                "sql-statements",
                format!("{path}: {} names catalogued tables alone", statement.function),
                &statement.text,
                "",
            );
        }
    }
    Ok(evidence)
}

/// What is in the checkout, tracked or new.
async fn files(tree: &SourceTree) -> io::Result<BTreeSet<String>> {
    let listed = tree.git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).await?;
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// A file's text; nothing where it was deleted and that is not committed yet.
fn read(tree: &SourceTree, path: &str) -> io::Result<Option<String>> {
    match tree.read(Path::new(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Whether a file is compiled into a serving process, as far as its place says.
fn is_source(path: &str) -> bool {
    let tests = ["/tests/", "/benches/", "fuzz/", "/examples/"].iter().any(|folder| path.contains(folder));
    let rust = Path::new(path).extension().is_some_and(|extension| extension == "rs");
    let tests = tests || path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
    rust && !tests && !ELSEWHERE.iter().any(|folder| path.starts_with(folder))
}

/// The statements that were checked against a database at build, by their digests: `.sqlx`.
fn known(tree: &SourceTree, files: &BTreeSet<String>, evidence: &mut Evidence) -> Result<BTreeSet<String>, Failure> {
    let mut known = BTreeSet::new();
    for path in files.iter().filter(|path| path.starts_with(".sqlx/query-")) {
        let Some(text) = read(tree, path)? else { continue };
        let described: Value = serde_json::from_str(&text)?;
        let statement = described.get("query").and_then(Value::as_str).unwrap_or_default();
        let digest = sha256(statement.as_bytes());
        if !path.contains(&digest) {
            return Err(Failure::broken(format!("{path} describes another statement than its name says"), digest));
        }
        known.insert(digest);
    }
    evidence.saw("the statements that were checked at build", known.len().to_string(), "each under its own digest");
    Ok(known)
}

/// The statements of a file, and what is wrong with it.
fn examine(path: &str, source: &str, known: &BTreeSet<String>) -> (Vec<String>, Vec<Fault>) {
    let pieces = rust_text::pieces(source);
    let (mut statements, mut faults) = (Vec::new(), Vec::new());
    let is_owners = OWNERS.contains(&path);
    for (at, (piece, line)) in pieces.iter().enumerate() {
        let Piece::Word(word) = piece else { continue };
        let mut fault = |what: String| faults.push(Fault { line: *line, what });
        let next = |offset: usize| pieces.get(at + offset).map(|(piece, _)| piece);
        if !path.starts_with(STORE) {
            // `egress::postgres` or the like would be a word of ours: only a path's first part is a crate.
            let begins =
                !at.checked_sub(1).and_then(|before| pieces.get(before)).is_some_and(|(piece, _)| piece.marks(':'));
            let is_path =
                next(1).is_some_and(|piece| piece.marks(':')) && next(2).is_some_and(|piece| piece.marks(':'));
            if DRIVERS.contains(&word.as_str()) && begins && is_path {
                fault(format!("{word} is named outside of the store"));
            }
            continue;
        }
        let is_macro = next(1).is_some_and(|piece| piece.marks('!'));
        if UNCHECKED.contains(&word.as_str()) && is_macro {
            let literal = pieces.iter().skip(at + 3).take(12).find_map(|(piece, _)| match piece {
                Piece::Text(text) => Some(text.clone()),
                _ => None,
            });
            match literal {
                Some(statement) if known.contains(&sha256(statement.as_bytes())) => statements.push(statement),
                Some(_) => fault("a statement is not among those that were checked at build".to_owned()),
                None => fault("a statement has no text here".to_owned()),
            }
        } else if is_owners {
        } else if MAKERS.contains(&word.as_str()) {
            fault(format!("{word} makes SQL of a text that is put together"));
        } else if UNCHECKED.contains(&word.as_str()) && is_path_of_driver(&pieces, at) {
            fault(format!("sqlx::{word} takes a statement that nobody checked"));
        }
    }
    (statements, faults)
}

fn is_path_of_driver(pieces: &[(Piece, usize)], at: usize) -> bool {
    let before = |offset: usize| at.checked_sub(offset).and_then(|at| pieces.get(at)).map(|(piece, _)| piece);
    before(1).is_some_and(|piece| piece.marks(':')) && before(3).is_some_and(|piece| piece.is("sqlx"))
}

/// A statement that a function of the database puts together.
struct Dynamic {
    function: String,
    body: String,
    text: String,
}

impl Dynamic {
    /// Whether all that is put into it are names from the catalogue: `format` with variables that are declared `regclass`.
    fn judge(&self) -> Result<(), &'static str> {
        let form = Regex::new(r"^execute\s+format\(\s*'(?:[^']|'')*'\s*((?:,\s*[a-z_]+\s*)+)\)")
            .map_err(|_| "cannot be judged")?;
        let found = form.captures(&self.text).ok_or("puts a statement together of more than a format and names")?;
        let names = found.get(1).map_or("", |names| names.as_str());
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let declared = format!(r"\b{name}\s+regclass\b");
            if !Regex::new(&declared).is_ok_and(|declared| declared.is_match(&self.body)) {
                return Err("puts something into a statement that is no table of the catalogue");
            }
        }
        Ok(())
    }
}

/// The statements that functions of a migration put together. What the migration itself executes is the owner's, and runs once.
fn dynamic(migration: &str) -> Vec<Dynamic> {
    let patterns = (
        Regex::new(r"(?is)create\s+(?:or\s+replace\s+)?function\s+([a-z_.]+).*?\$\$(.*?)\$\$"),
        Regex::new(r"(?is)\bexecute\b[^;]*;"),
    );
    let (Ok(functions), Ok(executes)) = patterns else { return Vec::new() };
    let mut found = Vec::new();
    for function in functions.captures_iter(migration) {
        let (name, body) = (function.get(1).map_or("", |it| it.as_str()), function.get(2).map_or("", |it| it.as_str()));
        found.extend(executes.find_iter(body).map(|text| Dynamic {
            function: name.to_owned(),
            body: body.to_owned(),
            text: text.as_str().to_owned(),
        }));
    }
    found
}

/// The search finds what it is for, where it is.
fn see_what_is_planted() -> Result<(), Failure> {
    let nothing = BTreeSet::new();
    let planted = [
        ("crates/store/src/planted.rs", "fn a(n: &str) { sqlx::query(AssertSqlSafe(format!(\"select '{n}'\"))); }"),
        ("crates/store/src/planted.rs", "fn a(n: String) { sqlx::query_scalar::<_, i64>(n.leak()); }"),
        ("crates/store/src/planted.rs", "fn a() { sqlx::query!(\"select a statement that nobody has seen\"); }"),
        ("crates/server/src/planted.rs", "fn a() { tokio_postgres::connect(\"\", NoTls); }"),
    ];
    let blind = planted.iter().find(|(path, source)| examine(path, source, &nothing).1.is_empty());
    let function = "create function f(n text) returns void as $$ begin execute 'select ' || n; end $$;";
    let allowed =
        "create function f() returns void as $$ declare t regclass; begin execute format('delete from %s', t); end $$;";
    let judged = |text| dynamic(text).iter().map(|it| it.judge().is_ok()).collect::<Vec<_>>();
    if blind.is_some() || judged(function) != [false] || judged(allowed) != [true] {
        return Err(Failure::unproven("the search does not find what was planted"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_is_found_and_what_is_checked_at_build_is_not() {
        see_what_is_planted().unwrap_or_else(|failure| panic!("{failure}"));
        let statement = "select id from acts where \
             workspace_id = $1";
        let known = BTreeSet::from([sha256(statement.as_bytes())]);
        let source = format!("fn a() {{ sqlx::query_as!(Row, \"{statement}\", id); }}");
        let (statements, faults) = examine("crates/store/src/act.rs", &source, &known);
        assert_eq!((statements.len(), faults.len()), (1, 0));
        let (_, faults) = examine("crates/store/src/owner.rs", "fn a() { raw_sql(AssertSqlSafe(x)); }", &known);
        assert!(faults.is_empty());
    }
}
