//! What is planted in a copy of the source tree, for the checks of a build: the very thing that such a check must find.

use std::{fs, io, path::Path};

use domain::random;
use proof::SourceTree;

/// What is done to a file.
enum Change {
    /// This is put at its end.
    Append(String),
    /// The first is replaced by the second.
    Replace(&'static str, &'static str),
}

/// A copy of a checkout with its history, below `folder`, in which what is to be found at this point was planted and committed. `None` where
/// the point is none of the source's.
///
/// # Errors
/// Where the copy cannot be made, or the file is not what it was.
pub(crate) async fn plant(point: &str, tree: &SourceTree, folder: &Path) -> io::Result<Option<SourceTree>> {
    let Some((path, change)) = planted(point) else { return Ok(None) };
    let root = folder.join(format!("planted-{point}"));
    let to = root.to_string_lossy().into_owned();
    tree.git(&["clone", "--quiet", "--no-hardlinks", ".", &to]).await?;
    let copy = SourceTree { root, program: tree.program.clone() };
    let path = copy.root.join(path);
    let before = fs::read_to_string(&path)?;
    let after = match change {
        Change::Append(text) => before + &text,
        Change::Replace(from, to) if before.contains(from) => before.replacen(from, to, 1),
        Change::Replace(from, _) => return Err(io::Error::other(format!("{} has no `{from}`", path.display()))),
    };
    fs::write(&path, after)?;
    copy.git(&["add", "--all"]).await?;
    let who = ["-c", "user.name=Rehearsal", "-c", "user.email=rehearsal@keyholder.invalid"];
    copy.git(&[&who[..], &["commit", "--quiet", "--message", "What a check must find"]].concat()).await?;
    Ok(Some(copy))
}

/// What is done to which file at a point.
fn planted(point: &str) -> Option<(&'static str, Change)> {
    Some(match point {
        "browser-assets" => {
            let script = "<script src=\"https://unpinned.example/x.js\"></script>\n";
            ("crates/server/templates/docs.html", Change::Append(script.to_owned()))
        }
        "database-wheels" => {
            ("keyholder/src/cluster/wheel.rs", Change::Replace("\"--require-hashes\"", "\"--no-cache-dir\""))
        }
        "logins-in-source" => {
            // A password as `migrate` makes one.
            let login =
                format!("app_url = \"{}://keyholder_app_3:{}@db.example/keyholder\"", "postgres", random::token());
            ("docs/guides/deployment.md", Change::Append(format!("\n{login}\n")))
        }
        "logins-rested" => ("packaging/keyholder-logins.service", Change::Replace("ExecStart=/bin/sleep 60\n", "")),
        "no-secret-in-history" => {
            // A fresh key, in the form that a root key has.
            let key = format!("\nexport KEYHOLDER_ENCRYPTION_KEY={}\n", random::token());
            ("docs/guides/deployment.md", Change::Append(key))
        }
        "pinned-dependencies" => {
            let package = "[[package]]\nname = \"unpinned\"\nversion = \"1.0.0\"\nsource = \"git+https://unpinned.example/unpinned#main\"";
            ("Cargo.lock", Change::Append(format!("\n{package}\n")))
        }
        "scheduled-rotations" => {
            ("packaging/keyholder-logins.timer", Change::Replace("OnCalendar=monthly", "OnCalendar=yearly"))
        }
        "scripts" => (".ci/run", Change::Append("\npip install unpinned\n".to_owned())),
        "shipped-builds" => {
            ("packaging/Containerfile", Change::Replace("cargo build --release --locked", "cargo build --release"))
        }
        "static-sql" => {
            let statement =
                "sqlx::query_scalar(sqlx::AssertSqlSafe(format!(\"select count(*) from keyholder.{table}\")))";
            let function = "pub async fn rows(sql: &mut sqlx::PgConnection, table: &str) -> Result<i64, sqlx::Error>";
            let text = format!("\n{function} {{\n    {statement}.fetch_one(sql).await\n}}\n");
            ("crates/store/src/workspace.rs", Change::Append(text))
        }
        _ => return None,
    })
}
