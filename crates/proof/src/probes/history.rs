//! The history: whether a secret is in the source tree, or was at any time.

use std::collections::HashSet;

use domain::{environment::Environment, random};
use serde_json::json;

use crate::{
    evidence::{Evidence, Failure, Outcome, sha256},
    probe::{Attack, Probe},
    secret_scan::{Found, Scanner},
    source::SourceTree,
};

/// Whether a secret is in a file of the tree, in any version that any commit has of any file, or in a commit's message.
pub(super) const NO_SECRET_IN_HISTORY: Probe = Probe {
    name: "no-secret-in-history",
    points: &["no-secret-in-history"],
    tries: "a root key, or any other secret, in the tree, in any version of any file of any commit, or in a commit's message",
    attack: Attack::Built(|tree| Box::pin(no_secret_in_history(tree))),
};

async fn no_secret_in_history(tree: &SourceTree) -> Outcome {
    let mut evidence = Evidence::new();
    let scanner = Scanner::new()?;
    let planted = see_what_is_planted(&scanner)?;
    evidence.saw(
        "fresh secrets of each kind are found where they are planted",
        planted.to_string(),
        scanner.examples().to_string(),
    );
    demand_whole_history(tree).await?;
    let mut seen = Seen { scanner, lines: HashSet::new() };
    let listed = tree.git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).await?;
    for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        // A file that was deleted, and whose deletion is not committed yet, is looked at in the history.
        let Ok(text) = tree.read(std::path::Path::new(&name)) else { continue };
        seen.look(&text).map_err(|found| broken(&format!("the file {name}"), &found))?;
        evidence.tried("source-files", name, "", text);
    }
    let objects = tree.git(&["cat-file", "--batch-all-objects", "--unordered", "--batch"]).await?;
    let (mut blobs, mut commits) = (0_u64, 0_u64);
    for object in Objects(&objects) {
        let text = String::from_utf8_lossy(object.body);
        match object.kind {
            "blob" => blobs += 1,
            "commit" => {
                commits += 1;
                evidence.tried("commits", format!("commit {}", object.id), object.id, object.body);
            }
            "tag" => {}
            // A tree holds names, which the files' own listing has.
            _ => continue,
        }
        seen.look(&text).map_err(|found| broken(&format!("the {} {}", object.kind, object.id), &found))?;
    }
    if blobs == 0 || commits == 0 {
        return Err(Failure::unproven("there is no history here"));
    }
    evidence.saw(
        "versions of files in all commits",
        blobs.to_string(),
        format!("{} different lines", seen.lines.len()),
    );
    Ok(evidence)
}

/// Refuses a clone that does not have all that its history names: what is not here is not looked at. A shallow one ends its history early; a
/// partial one (`git clone --filter`) has all commits, and fetches the versions of files when they are asked for.
async fn demand_whole_history(tree: &SourceTree) -> Result<(), Failure> {
    if tree.git(&["rev-parse", "--is-shallow-repository"]).await?.starts_with(b"true") {
        return Err(Failure::unproven("this clone does not have the whole history"));
    }
    let named = tree.git(&["rev-list", "--objects", "--all", "--missing=print"]).await?;
    let missing = named.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"?")).count();
    if missing > 0 {
        let why = format!("this clone does not have the whole history: {missing} objects of it are not here");
        return Err(Failure::unproven(why));
    }
    Ok(())
}

fn broken(place: &str, found: &Found) -> Failure {
    Failure::broken(format!("{} is in {place}", found.kind), json!({ "kind": found.kind, "sha256": found.sha256 }))
}

/// What was looked at: a line is looked at once, in however many versions it stands.
struct Seen {
    scanner: Scanner,
    lines: HashSet<[u8; 16]>,
}

impl Seen {
    fn look(&mut self, text: &str) -> Result<(), Found> {
        // A private key goes over many lines, and is looked for in the whole.
        if text.contains("PRIVATE KEY-----") {
            self.scanner.find(text).into_iter().next().map_or(Ok(()), Err)?;
        }
        let mut fresh = String::new();
        for line in text.lines().filter(|line| line.len() >= 8) {
            if self.lines.insert(short(line)) {
                fresh.push_str(line);
                fresh.push('\n');
            }
        }
        self.scanner.find(&fresh).into_iter().next().map_or(Ok(()), Err)
    }
}

fn short(line: &str) -> [u8; 16] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes());
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// What `git cat-file --batch` writes: of each object a line with its id, kind and length, then itself and a line's end.
struct Objects<'b>(&'b [u8]);

struct Object<'b> {
    id: &'b str,
    kind: &'b str,
    body: &'b [u8],
}

impl<'b> Iterator for Objects<'b> {
    type Item = Object<'b>;

    fn next(&mut self) -> Option<Object<'b>> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let (head, rest) = self.0.split_at_checked(end)?;
        let mut head = std::str::from_utf8(head).ok()?.split(' ');
        let (id, kind, length) = (head.next()?, head.next()?, head.next()?.parse::<usize>().ok()?);
        let (body, rest) = rest.get(1..)?.split_at_checked(length)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Some(Object { id, kind, body })
    }
}

/// Secrets that were made a moment ago, each in a text like those in which secrets are forgotten, are found. Returns how many.
fn see_what_is_planted(scanner: &Scanner) -> Result<usize, Failure> {
    // Letters and digits alone, and enough of them that none is too even by chance to look like a secret.
    let drawn = [random::token(), random::token()].concat();
    let body: String = drawn.chars().filter(char::is_ascii_alphanumeric).take(48).collect();
    let root = random::token();
    let key = domain::api_key::generate(Environment::Production).0;
    let texts = [
        format!("KEYHOLDER_ENCRYPTION_KEY={root}\n"),
        format!("encryption_key = \"{}\"\n", hex::encode(random::bytes::<48>())),
        format!("let key = \"{}\";", *key),
        format!("postgres://app:{body}@db.example/keyholder"),
        format!("token: gh{}_{body}", 'p'),
        format!("stripe = \"sk{}_{body}\"", "_live"),
        format!("client_secret={}", random::token()),
        format!("-----BEGIN {} KEY-----\n{root}{root}\n{root}\n-----END {} KEY-----", "PRIVATE", "PRIVATE"),
    ];
    match texts.iter().find(|text| scanner.find(text).is_empty()) {
        None => Ok(texts.len()),
        Some(text) => {
            Err(Failure::unproven(format!("the search does not find what was planted: {}", sha256(text.as_bytes()))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_secret_is_found_and_words_and_digests_are_none() {
        let scanner = Scanner::new().unwrap();
        assert_eq!(see_what_is_planted(&scanner).unwrap(), 8);
        for innocent in [
            "password: String, token: Option<Secret>, api_key = generate(environment)",
            "checksum = \"683d7910e743518b0e34f1186f92494becacb047c7b6bf616c96772180fef923\"",
            "postgres://LOGIN:PASSWORD@HOST/DATABASE",
            "a_credential_is_read_for_an_act_under_its_own_workspaces_context_alone",
        ] {
            assert_eq!(scanner.find(innocent), [], "{innocent}");
        }
    }

    #[test]
    fn objects_are_read_as_git_writes_them() {
        let written = b"aa blob 3\na\nb\nbb commit 0\n\ncc blob 1\nx\n";
        let read: Vec<_> = Objects(written).map(|object| (object.id, object.kind, object.body)).collect();
        assert_eq!(read, [("aa", "blob", &b"a\nb"[..]), ("bb", "commit", b""), ("cc", "blob", b"x")]);
    }
}
