//! The start of a server: with a wrong root key or in a wrong environment there is none, and it says why.

use std::{fs, os::unix::fs::PermissionsExt};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;

use crate::{
    database::Session,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    serving,
};

/// Whether a server starts without a root key, or with one of a wrong size.
pub(super) const ROOT_KEY_NEEDED: Probe = Probe {
    name: "root-key-needed",
    points: &["root-key-needed"],
    tries: "a server without a root key, or with one of a wrong size",
    attack: Attack::Rehearsed(|ground| Box::pin(root_key_needed(ground))),
};

/// Whether a key or a database of another environment is taken.
pub(super) const ENVIRONMENTS_APART: Probe = Probe {
    name: "environments-apart",
    points: &["environments-apart", "foreign-databases"],
    tries: "to use a key, and to serve a database, of another environment",
    attack: Attack::Rehearsed(|ground| Box::pin(environments_apart(ground))),
};

async fn root_key_needed(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let good = ground.configuration("", serving::ROOMY);
    drop(ground.serve(&good, &[]).await?);
    evidence.saw("the right root key serves", "", "ready");
    let key = text(ground.handover(), "/keys/root_key");
    let bytes = decoded(key)?;
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let wrong = [
        // First what a reader who cuts and fills up would take for the right one.
        ("it and a byte more", base64(&[&bytes[..], &[0]].concat())),
        ("an empty file", String::new()),
        ("a line's end", "\n".to_owned()),
        ("31 bytes of it", base64(bytes.get(..31).unwrap_or_default())),
        ("16 bytes of it in hexadecimal digits", hex::encode(bytes.get(..16).unwrap_or_default())),
        ("it twice", base64(&[&bytes[..], &bytes[..]].concat())),
        ("the same byte 32 times", base64(&[0; 32])),
        ("a password", "correct horse battery staple".to_owned()),
    ];
    for (what, text) in wrong {
        let file = ground.folder("root-key")?.join("root.key");
        fs::write(&file, &text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let variable = [("KEYHOLDER_ENCRYPTION_KEY_FILE", file.to_string_lossy().into_owned())];
        let said =
            not_served(ground, &good, &variable.each_ref().map(|(name, path)| (*name, path.as_str())), what).await?;
        if !says_why(&said) {
            return Err(Failure::broken(
                format!("{what}: the message does not say that the root key is at fault"),
                said,
            ));
        }
        if !text.trim().is_empty() && said.contains(text.trim()) {
            return Err(Failure::broken(
                format!("{what}: the message repeats it"),
                json!({ "sha256": sha256(text.as_bytes()) }),
            ));
        }
        fs::remove_file(&file)?;
        evidence.tried("wrong-root-keys", format!("{what}: {said}"), sha256(text.as_bytes()), &said);
    }
    // Nobody names one: there is no default.
    let without = good.lines().filter(|line| !line.starts_with("encryption_key_file")).collect::<Vec<_>>().join("\n");
    for (what, variables) in
        [("no root key at all", &[][..]), ("an empty variable", &[("KEYHOLDER_ENCRYPTION_KEY", "")][..])]
    {
        let said = not_served(ground, &without, variables, what).await?;
        if !said.contains("there is no root key") {
            return Err(Failure::broken(format!("{what}: the message does not say so"), said));
        }
        evidence.tried("missing-root-keys", format!("{what}: {said}"), "", &said);
    }
    Ok(evidence)
}

/// What a server said that did not start.
async fn not_served(
    ground: &Ground,
    configuration: &str,
    variables: &[(&str, &str)],
    what: &str,
) -> Result<String, Failure> {
    match ground.serve(configuration, variables).await {
        Ok(server) => {
            let live = ground.stranger_at(&server.url).get("/health/live").await?;
            let obtained = json!({ "url": server.url.as_str(), "live": live.status.as_u16() });
            Err(Failure::broken(format!("with {what} a server serves"), obtained))
        }
        Err(Failure::Unproven(said)) => Ok(said),
        Err(broken) => Err(broken),
    }
}

/// Whether a message speaks of the root key's form, and not of what came of it later.
fn says_why(said: &str) -> bool {
    let lower = said.to_lowercase();
    [
        "the root key is empty",
        "the root key is neither",
        "the root key has",
        "the root key is the same byte",
        "is empty",
        "holds nothing",
    ]
    .iter()
    .any(|words| lower.contains(words))
}

/// The bytes of a root key's text.
fn decoded(text: &str) -> Result<Vec<u8>, Failure> {
    let text = text.trim();
    let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| hex::decode(text));
    let bytes = bytes.map_err(|_| Failure::unproven("the root key is in no known form"))?;
    if bytes.len() == 32 { Ok(bytes) } else { Err(Failure::unproven("the root key has another size")) }
}

async fn environments_apart(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    keys_of_others(ground, &mut evidence).await?;
    databases_of_others(ground, &mut evidence).await?;
    Ok(evidence)
}

/// A key whose text names another environment, and whose hash somebody has brought into this one's database.
async fn keys_of_others(ground: &Ground, evidence: &mut Evidence) -> Result<(), Failure> {
    let target = ground.target().await?;
    let mut owner = Session::open(ground.login("owner")?).await?;
    for environment in ["staging", "production"] {
        let made =
            target.admin.post("/v1/api-keys", &json!({ "label": "of another environment", "role": "admin" })).await?;
        let made = expect(&made, 201)?;
        let (id, here) = (text(&made, "/id"), text(&made, "/key"));
        let allowed = target.stranger.with_key(here).get("/v1/workspace").await?;
        expect(&allowed, 200)?;
        evidence.saw("a key of this environment", sha256(here.as_bytes()), allowed.status.as_str());
        let there = renamed(here, environment);
        let (from, to) = (digest(&SHA256, here.as_bytes()), digest(&SHA256, there.as_bytes()));
        // The head is raised as for every change, which the database asks of its owner, too.
        let brought = owner.client.transaction().await?;
        let raise = "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() \
                     where id = (select workspace_id from keyholder.api_keys where hash = $1)";
        brought.execute(raise, &[&from.as_ref()]).await?;
        let moved = brought
            .execute("update keyholder.api_keys set hash = $2 where hash = $1", &[&from.as_ref(), &to.as_ref()])
            .await?;
        brought.commit().await?;
        if moved != 1 {
            return Err(Failure::unproven("the key of another environment could not be brought into the database"));
        }
        let answer = target.stranger.with_key(&there).get("/v1/workspace").await?;
        target.admin.delete(&format!("/v1/api-keys/{id}")).await?;
        if answer.status != 401 {
            return Err(Failure::broken(
                format!("a key of {environment} was taken"),
                json!({ "key_sha256": sha256(there.as_bytes()), "status": answer.status.as_u16(), "workspace": answer.json().get("id") }),
            ));
        }
        evidence.tried(
            "foreign-environment-keys",
            format!("a key of {environment} whose hash is here: {}", answer.status),
            sha256(there.as_bytes()),
            &answer.body,
        );
    }
    Ok(())
}

/// The same key as another environment would have made it, with the checksum that belongs to it.
fn renamed(key: &str, environment: &str) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let body = key.replacen("kh_local_", &format!("kh_{environment}_"), 1);
    let body = body.get(..body.len().saturating_sub(6)).unwrap_or_default();
    let sum = digest(&SHA256, body.as_bytes());
    let letters = sum.as_ref().iter().take(6).filter_map(|byte| ALPHABET.get(usize::from(byte & 31)).copied());
    format!("{body}{}", letters.map(char::from).collect::<String>())
}

/// A server of another environment does not serve this one's database, whoever names it.
async fn databases_of_others(ground: &Ground, evidence: &mut Evidence) -> Result<(), Failure> {
    let good = ground.configuration("", serving::ROOMY);
    for environment in ["staging", "production"] {
        // Its keyring is of the same environment as the database: a new one in its place leaves only the database to refuse.
        let keyring = ground.folder("keyring")?.join("keyring.json").to_string_lossy().into_owned();
        let variables = [
            ("KEYHOLDER_ENVIRONMENT", environment),
            ("KEYHOLDER_OPERATOR", "A rehearsal"),
            ("KEYHOLDER_PUBLIC_URL", "https://localhost"),
        ];
        let said = not_served(ground, &good, &variables, &format!("a database of local in {environment}")).await?;
        refused_by_environment(&said, environment)?;
        evidence.tried(
            "foreign-environment-databases",
            format!("the database in {environment}: {said}"),
            environment,
            &said,
        );
        let with_keyring = [&variables[..], &[("KEYHOLDER_KEYRING", &keyring)]].concat();
        let said =
            not_served(ground, &good, &with_keyring, &format!("a database of local and a keyring of {environment}"))
                .await?;
        refused_by_environment(&said, environment)?;
        evidence.tried(
            "foreign-environment-databases",
            format!("the database and a keyring of {environment}: {said}"),
            environment,
            &said,
        );
    }
    Ok(())
}

fn refused_by_environment(said: &str, environment: &str) -> Result<(), Failure> {
    if said.contains("environment") && said.contains(environment) {
        return Ok(());
    }
    Err(Failure::unproven(format!("a server of {environment} did not start for another reason: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_environment_has_its_own_checksum() {
        let (key, _) = domain::api_key::generate(domain::environment::Environment::Local);
        let other = renamed(&key, "production");
        assert!(domain::api_key::parse(&other, domain::environment::Environment::Production).is_ok());
        assert_eq!(renamed(&key, "local"), *key);
    }
}
