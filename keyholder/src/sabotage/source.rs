//! What is planted in a copy of the source tree, for the checks of a build: the very thing that such a check must find.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use domain::random;
use proof::SourceTree;

/// A copy of a checkout with its history, below `folder`, in which what this check looks for was planted and committed.
///
/// # Errors
/// Where the copy cannot be made, or nothing is to be planted for a check of this name.
pub(crate) async fn plant(check: &str, tree: &SourceTree, folder: &Path) -> io::Result<SourceTree> {
    let root = folder.join(format!("planted-{check}"));
    let to = root.to_string_lossy().into_owned();
    tree.git(&["clone", "--quiet", "--no-hardlinks", ".", &to]).await?;
    let copy = SourceTree { root, program: tree.program.clone() };
    for (path, text) in planted(check).ok_or_else(|| io::Error::other("nothing is to be planted for it"))? {
        let path = copy.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, before + &text)?;
    }
    copy.git(&["add", "--all"]).await?;
    let who = ["-c", "user.name=Rehearsal", "-c", "user.email=rehearsal@keyholder.invalid"];
    copy.git(&[&who[..], &["commit", "--quiet", "--message", "What a check must find"]].concat()).await?;
    Ok(copy)
}

/// What is appended to which files for a check.
fn planted(check: &str) -> Option<Vec<(PathBuf, String)>> {
    let (path, text) = match check {
        "no-secret-in-history" => {
            // A fresh key, in the form that a root key has.
            ("docs/guides/deployment.md", format!("\nexport KEYHOLDER_ENCRYPTION_KEY={}\n", random::token()))
        }
        "pinned-dependencies" => {
            let package = "[[package]]\nname = \"unpinned\"\nversion = \"1.0.0\"\nsource = \"git+https://unpinned.example/unpinned#main\"";
            ("Cargo.lock", format!("\n{package}\n"))
        }
        "static-sql" => {
            let statement =
                "sqlx::query_scalar(sqlx::AssertSqlSafe(format!(\"select count(*) from keyholder.{table}\")))";
            let function = "pub async fn rows(sql: &mut sqlx::PgConnection, table: &str) -> Result<i64, sqlx::Error>";
            ("crates/store/src/workspace.rs", format!("\n{function} {{\n    {statement}.fetch_one(sql).await\n}}\n"))
        }
        _ => return None,
    };
    Some(vec![(PathBuf::from(path), text)])
}
