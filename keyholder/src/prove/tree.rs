//! The checkout at which the checks of a build look, and whether it is what a program was built from.
//!
//! Owns that question alone: what is found in the checkout is the probes' business. Never changes anything there.

use std::{
    io,
    path::{Path, PathBuf},
};

use proof::SourceTree;

/// Why nothing that is found in a checkout speaks for a program.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Git cannot be asked there.
    #[error("git does not say what is in {root}")]
    Git {
        /// The checkout's folder.
        root: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody knows which commit the program is of.
    #[error("it is not known which commit this program was built from, so what is in {root} says nothing of it")]
    UnknownCommit {
        /// The checkout's folder.
        root: String,
    },
    /// The checkout is of another commit than the program.
    #[error("{root} is at the commit {there}, and this program is of {here}: what is there says nothing of it")]
    OtherCommit {
        /// The checkout's folder.
        root: String,
        /// The commit that is checked out.
        there: String,
        /// The program's.
        here: String,
    },
    /// Something in it is not as the commit has it.
    #[error("{root} is not as its commit has it, so what is there says nothing of this program; first of all: {first}")]
    Changed {
        /// The checkout's folder.
        root: String,
        /// The first difference, as git names it.
        first: String,
    },
}

/// Refuses a checkout that is not, byte for byte, the commit from which a program was built: what was looked at there would be signed as
/// evidence of a program that was made of something else.
///
/// # Errors
/// [`SourceError`].
pub async fn demand_commit(root: &Path, commit: Option<&str>) -> Result<(), SourceError> {
    let tree = SourceTree { root: root.to_owned(), program: PathBuf::new() };
    let root = root.display().to_string();
    let Some(commit) = commit else { return Err(SourceError::UnknownCommit { root }) };
    let head = ask(&tree, &root, &["rev-parse", "--verify", "HEAD"]).await?;
    // A commit may be given in short.
    if !head.trim().starts_with(commit) {
        return Err(SourceError::OtherCommit { root, there: head.trim().to_owned(), here: commit.to_owned() });
    }
    let status = ["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none"];
    let changed = ask(&tree, &root, &status).await?;
    // What git was told not to look at, or what a sparse checkout leaves out, is in no status.
    let listed = ask(&tree, &root, &["ls-files", "-v"]).await?;
    let mut unwatched = listed.lines().filter(|line| !line.starts_with("H "));
    match changed.lines().next().or_else(|| unwatched.next()) {
        None => Ok(()),
        Some(first) => Err(SourceError::Changed { root, first: first.trim().to_owned() }),
    }
}

async fn ask(tree: &SourceTree, root: &str, arguments: &[&str]) -> Result<String, SourceError> {
    let said = tree.git(arguments).await.map_err(|source| SourceError::Git { root: root.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use proof::{Failure, PROBES, probe::Attack};

    use super::*;

    fn git(root: &Path, arguments: &[&str]) -> String {
        let who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"];
        let ran = Command::new("git").arg("-C").arg(root).args(who).args(arguments).output().unwrap();
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    /// A checkout of two commits, at the second, and their names.
    fn checkout() -> (tempfile::TempDir, String, String) {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet"]);
        let [former, this] = ["one", "two"].map(|text| {
            fs::write(folder.path().join("source.rs"), text).unwrap();
            fs::write(folder.path().join(".gitignore"), "built\n").unwrap();
            git(folder.path(), &["add", "--all"]);
            git(folder.path(), &["commit", "--quiet", "--message", text]);
            git(folder.path(), &["rev-parse", "HEAD"])
        });
        (folder, former, this)
    }

    #[tokio::test]
    async fn a_checkout_speaks_for_a_program_of_its_commit_as_long_as_nothing_is_changed() {
        let (folder, former, this) = checkout();
        let root = folder.path();
        let demand = async |commit| demand_commit(root, commit).await;
        fs::write(root.join("built"), "what git does not keep").unwrap();
        for commit in [this.as_str(), &this[..7]] {
            demand(Some(commit)).await.unwrap();
        }
        let other = demand(Some(&former)).await;
        assert!(matches!(&other, Err(SourceError::OtherCommit { there, .. }) if *there == this), "{other:?}");
        assert!(matches!(demand(None).await, Err(SourceError::UnknownCommit { .. })));
        let is_changed = async |what: &str| {
            let said = demand(Some(&this)).await;
            assert!(matches!(&said, Err(SourceError::Changed { first, .. }) if first.ends_with(what)), "{said:?}");
        };

        fs::write(root.join("more.rs"), "").unwrap();
        is_changed("more.rs").await;
        fs::remove_file(root.join("more.rs")).unwrap();
        fs::write(root.join("source.rs"), "three").unwrap();
        is_changed("source.rs").await;
        git(root, &["add", "--all"]);
        is_changed("source.rs").await;
        git(root, &["reset", "--quiet", "--hard"]);
        demand(Some(&this)).await.unwrap();
        // Told not to look at the file, git finds nothing changed.
        for (hidden, shown) in
            [("--assume-unchanged", "--no-assume-unchanged"), ("--skip-worktree", "--no-skip-worktree")]
        {
            git(root, &["update-index", hidden, "source.rs"]);
            fs::write(root.join("source.rs"), "three").unwrap();
            assert_eq!(git(root, &["status", "--porcelain"]), "", "{hidden}");
            is_changed("source.rs").await;
            git(root, &["update-index", shown, "source.rs"]);
            git(root, &["checkout", "--quiet", "source.rs"]);
        }
        demand(Some(&this)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_checkout_speaks_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let said = demand_commit(folder.path(), Some("0123456")).await;
        assert!(matches!(said, Err(SourceError::Git { .. })), "{said:?}");
    }

    #[tokio::test]
    async fn a_clone_that_lacks_a_part_of_the_history_shows_nothing_of_secrets_in_it() {
        let probe = PROBES.iter().find(|probe| probe.name == "no-secret-in-history").unwrap();
        let Attack::Built(attack) = probe.attack else { panic!("it looks at more than the source") };
        let tried = async |root: &Path| attack(&SourceTree { root: root.to_owned(), program: PathBuf::new() }).await;
        let (whole, ..) = checkout();
        let evidence = tried(whole.path()).await.unwrap();
        assert_eq!(evidence.tried.get("commits"), Some(&2));
        git(whole.path(), &["config", "uploadpack.allowFilter", "true"]);
        let from = format!("file://{}", whole.path().display());
        for how in ["--filter=blob:none", "--filter=tree:0", "--depth=1"] {
            let part = tempfile::tempdir().unwrap();
            git(part.path(), &["clone", "--quiet", how, &from, "."]);
            let said = tried(part.path()).await;
            assert!(matches!(&said, Err(Failure::Unproven(why)) if why.contains("whole history")), "{how}: {said:?}");
        }
    }
}
