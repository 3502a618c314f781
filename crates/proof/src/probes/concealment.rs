//! Explanations: whoever is told what he lacks, learns from it of nothing that he may not know of.

use serde_json::{Value, json};

use super::organisations::{key, relate};
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    stock,
};

/// Whether an explanation names something that its reader may not know of.
pub(super) const CONCEALED_EXPLANATIONS: Probe = Probe {
    name: "concealed-explanations",
    points: &["concealed-explanations"],
    tries: "the name of a folder that one may not know of, out of the explanations of what one may know of; and a word on what is not there for one: another's folder, another workspace's, another's mandate, somebody else",
    attack: Attack::Rehearsed(|ground| Box::pin(concealed_explanations(ground))),
};

const ASK: &str = "/v1/permissions/explain";

/// A folder in another one. The reader may view the inner one, and may know of nothing else.
struct Scene {
    admin: Caller,
    reader: Caller,
    readers_key: String,
    inner: String,
    /// What the reader may not know of, in words and by its id.
    hidden: Vec<(&'static str, String)>,
}

impl Scene {
    async fn settle(ground: &Ground) -> Result<Self, Failure> {
        let admin = ground.workspace("concealed").await?.admin;
        let outer = stock::folder(&admin, "/v1/objects").await?;
        let inner = stock::folder(&admin, &format!("/v1/objects/{outer}/objects")).await?;
        let beside = stock::folder(&admin, "/v1/objects").await?;
        let (reader, readers_key) = key(&admin, "service").await?;
        let (_, managers_key) = key(&admin, "service").await?;
        relate(&admin, &inner, "viewer", &readers_key).await?;
        relate(&admin, &outer, "manager", &managers_key).await?;
        relate(&admin, &inner, "manager", &format!("{beside}#manager")).await?;
        let connected = ground.connect(&admin, "concealed_acct", &["profile.read"]).await?;
        let agent = ground.agent(&admin, &connected.connection, &["profile.read"], &json!([])).await?;
        let rival = ground.workspace("concealed_rival").await?.admin;
        let foreign = stock::folder(&rival, "/v1/objects").await?;
        let hidden = vec![
            ("the folder above", outer),
            ("a folder beside it", beside),
            ("who manages the folder above", managers_key),
            ("a connection", connected.connection),
            ("a mandate", agent.mandate),
            ("its grantee", agent.key),
            ("another workspace's folder", foreign),
        ];
        let scene = Self { admin, reader, readers_key, inner, hidden };
        expect(&scene.reader.get(&format!("/v1/objects/{}", scene.inner)).await?, 200)?;
        Ok(scene)
    }

    /// What of the hidden an answer names.
    fn named(&self, reply: &Reply) -> Option<&(&'static str, String)> {
        let said = String::from_utf8_lossy(&reply.body);
        self.hidden.iter().find(|(_, id)| said.contains(id.as_str()))
    }

    /// Everything that one may ask of what he knows: what he lacks is told, and nothing hidden is named.
    async fn of_the_known(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        for permission in ["object.manage", "can_manage", "can_read", "manager"] {
            let question = json!({ "permission": permission, "object": self.inner, "user": self.readers_key });
            let told = self.admin.post(ASK, &question).await?;
            let whole = expect(&told, 200)?;
            let answer = self.reader.post(ASK, &question).await?;
            let said = expect(&answer, 200)?;
            if said.get("allowed") != whole.get("allowed") {
                return Err(Failure::broken("an explanation that conceals answers otherwise", json!([said, whole])));
            }
            // Where the whole answer names nothing hidden either, there was nothing to conceal.
            let Some((what, id)) = self.named(&told) else { continue };
            if let Some((what, id)) = self.named(&answer) {
                let obtained = json!({ "question": question, "named": id, "needed": said.get("needed") });
                return Err(Failure::broken(
                    format!("an explanation names {what} to one who may not know of it"),
                    obtained,
                ));
            }
            let tried = format!("{permission} of what one may view: {what} is named to an admin, and not to him");
            evidence.tried("concealed-explanations", tried, id, &answer.body);
        }
        if evidence.tried.is_empty() {
            return Err(Failure::unproven("no explanation names anything that there was to conceal"));
        }
        Ok(())
    }

    /// What is hidden is answered as what is nowhere is, and somebody else is nobody's business.
    async fn of_the_hidden(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        for (what, id) in self.hidden.iter().filter(|(_, id)| !id.starts_with("key_")) {
            for permission in ["can_read", "object.read", "mandate.read", "connection.read"] {
                let question = json!({ "permission": permission, "object": id });
                let nowhere = json!({ "permission": permission, "object": elsewhere(id) });
                let (answer, other) = (self.reader.post(ASK, &question).await?, self.reader.post(ASK, &nowhere).await?);
                if shape(&answer) != shape(&other) {
                    let obtained = json!({ "question": question, "answer": answer.json(), "of_nowhere": other.json() });
                    return Err(Failure::broken(format!("{what} is told from what is nowhere"), obtained));
                }
                if answer.status != 404 {
                    return Err(Failure::unproven(format!("{permission} of {what}: {}", answer.status)));
                }
                evidence.tried("concealed-explanations", format!("{permission} of {what}: 404"), id, &answer.body);
            }
        }
        for (what, id) in self.hidden.iter().filter(|(_, id)| id.starts_with("key_")) {
            let question = json!({ "permission": "can_read", "object": self.inner, "user": id });
            let answer = self.reader.post(ASK, &question).await?;
            if answer.status.is_success() {
                return Err(Failure::broken(format!("it is told what {what} may"), answer.json()));
            }
            evidence.tried("concealed-explanations", format!("what {what} may: {}", answer.status), id, &answer.body);
        }
        Ok(())
    }
}

/// An id of the same kind that nothing has: the last characters of another's, turned round.
fn elsewhere(id: &str) -> String {
    let (kind, rest) = id.split_once('_').unwrap_or(("obj", id));
    let (head, tail) = rest.split_at(rest.len().saturating_sub(8));
    let turned: String = tail.chars().rev().collect();
    format!("{kind}_{head}{turned}")
}

/// What an answer is, but for what it says of this one request.
fn shape(reply: &Reply) -> (u16, Value) {
    let mut body = reply.json();
    if let Some(members) = body.as_object_mut() {
        members.retain(|name, _| matches!(name.as_str(), "type" | "title" | "status" | "detail" | "errors"));
    }
    (reply.status.as_u16(), body)
}

async fn concealed_explanations(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let scene = Scene::settle(ground).await?;
    // An admin, who knows of everything there, is told everything.
    let question = json!({ "permission": "object.manage", "object": scene.inner, "user": scene.readers_key });
    let told = expect(&scene.admin.post(ASK, &question).await?, 200)?;
    evidence.saw("an admin is told what a reader lacks", question.to_string(), text(&told, "/relation"));
    scene.of_the_known(&mut evidence).await?;
    scene.of_the_hidden(&mut evidence).await?;
    Ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_nowhere_is_of_the_same_kind_and_length() {
        let id = "obj_01kaz8v6q3w4m5n6p7r8s9t0ab";
        let other = elsewhere(id);
        assert!(other != id && other.len() == id.len() && other.starts_with("obj_01kaz8v6q3"), "{other}");
    }
}
