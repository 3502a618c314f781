//! The house's model: what a blueprint adds to it gives nobody what the house does not give him.

use std::fs;

use serde_json::json;

use super::organisations::key;
use crate::{
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::{Ground, Serving},
    owner::expect,
    probe::{Attack, Probe},
    serving,
};

/// Whether a blueprint widens what is the house's own.
pub(super) const HOUSE_MODEL: Probe = Probe {
    name: "house-model",
    points: &["house-model"],
    tries: "a server whose blueprint says anew, or wider, who may do what in the house: who lists keys, who makes them, who is an admin or super-admin, who acts under a mandate",
    attack: Attack::Rehearsed(|ground| Box::pin(house_model(ground))),
};

/// What a blueprint may add, and does no harm: a type of its own, and a relation of its own to a type of the house.
const SOUND: &str = "extend type workspace\n  relations\n    define can_dust: admin\n\n\
    type shelf\n  relations\n    define workspace: [workspace]\n    define can_see: can_read\n    define can_read: member from workspace\n    \
    define can_manage: can_dust from workspace\n";

/// What each would give whom, and what the blueprint would have to say for it.
const WIDER: [(&str, &str); 7] = [
    (
        "keys listed to every member",
        "extend type workspace\n  relations\n    define can_list_keys: [role#assignee] or member\n",
    ),
    ("keys made by every member", "extend type workspace\n  relations\n    define can_manage_keys: member\n"),
    ("every service an admin", "extend type workspace\n  relations\n    define admin: [api_key, account] or service\n"),
    (
        "every person of the operator's super-admin",
        "extend type installation\n  relations\n    define super_admin: operator\n",
    ),
    ("acts under everybody's mandate", "extend type mandate\n  relations\n    define can_act: can_see\n"),
    ("connections read by every member", "extend type connection\n  relations\n    define can_read: actor\n"),
    ("a type of the house said anew", "type workspace\n  relations\n    define admin: [api_key]\n"),
];

/// A blueprint with this addition.
fn blueprint(addition: &str) -> String {
    let head =
        "name = \"widened\"\ntitle = \"Widened\"\nprefix = \"SA\"\nsummary = \"Of a probe.\"\nproviders = [\"x\"]\n";
    format!("{head}\n[model]\ntext = '''\nmodule widened\n\n{addition}'''\n")
}

/// Serves with a blueprint of this addition; why it does not, where it does not.
async fn served(ground: &Ground, addition: &str) -> Result<Result<Serving, String>, Failure> {
    let file = ground.folder("blueprint")?.join("blueprint.toml");
    fs::write(&file, blueprint(addition))?;
    let path = file.display().to_string();
    let configuration = ground.configuration("", serving::ROOMY);
    match ground.serve(&configuration, &[("KEYHOLDER_BLUEPRINT", &path)]).await {
        Ok(serving) => Ok(Ok(serving)),
        // Any other reason not to serve says nothing of the model: the file, the addition and a line of it must be named.
        Err(Failure::Unproven(said)) if said.contains(&format!("{path}:")) && said.contains("model.text") => {
            Ok(Err(said))
        }
        Err(other) => Err(other),
    }
}

async fn house_model(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let admin = ground.workspace("widened").await?.admin;
    let (service, _) = key(&admin, "service").await?;
    expect(&service.get("/v1/workspace").await?, 200)?;
    expect(&service.get("/v1/api-keys").await?, 403)?;
    match served(ground, SOUND).await? {
        Ok(serving) => {
            let there = ground.stranger_at(&serving.url).with_key(service.key().unwrap_or_default());
            expect(&there.get("/v1/workspace").await?, 200)?;
            expect(&there.get("/v1/api-keys").await?, 403)?;
            serving.kill().await?;
            evidence.saw("an addition of one's own is served, and gives nothing of the house's", SOUND, "ready");
        }
        Err(said) => return Err(Failure::unproven(format!("a sound addition is not served: {said}"))),
    }
    for (what, addition) in WIDER {
        match served(ground, addition).await? {
            Err(said) => {
                evidence.tried("house-model", format!("{what}: no server, and the line is named"), addition, said);
            }
            Ok(serving) => {
                let there = ground.stranger_at(&serving.url).with_key(service.key().unwrap_or_default());
                let keys = there.get("/v1/api-keys").await?;
                serving.kill().await?;
                let obtained = json!({ "addition": addition, "keys": { "status": keys.status.as_u16(), "sha256": sha256(&keys.body) } });
                return Err(Failure::broken(format!("a blueprint has {what}"), obtained));
            }
        }
    }
    Ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_addition_is_a_module_of_a_blueprints_file() {
        for (_, addition) in [("", SOUND)].into_iter().chain(WIDER) {
            let parsed: toml::Table = blueprint(addition).parse().unwrap();
            let text = parsed["model"]["text"].as_str().unwrap();
            assert!(text.starts_with("module widened\n") && text.ends_with(addition), "{text}");
        }
    }
}
