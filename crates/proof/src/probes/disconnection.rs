//! Disconnecting: what is left of a credential, here and at the platform, from the moment that a disconnection was answered.

use serde_json::json;

use crate::{
    dump,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    probes::at_rest::connection_id,
    unsealing::{self, Environment},
};

/// Whether a stored token outlives its connection.
pub(super) const DISCONNECT: Probe = Probe {
    name: "disconnect",
    points: &["disconnect", "provider-revocations"],
    tries: "a token that is still stored, or still good at the platform, when a disconnection was answered",
    attack: Attack::Rehearsed(|ground| Box::pin(disconnect(ground))),
};

const ACCOUNT: &str = "probe_disconnect";

async fn disconnect(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let entrusted = ground.entrust(ACCOUNT).await?;
    entrusted.refresh(ground).await?;
    let owner = ground.owner().await?;
    let id = connection_id(&entrusted)?;
    let mut sealed = unsealing::fields(&owner).await?;
    sealed.retain(|field| field.connection == id);
    let live: Vec<_> = ground.platform().tokens(ACCOUNT).into_iter().filter(|token| token.live).collect();
    if sealed.is_empty() || live.is_empty() {
        return Err(Failure::unproven("nothing was stored, or nothing lived"));
    }
    evidence.saw("a post with the stored token, before", "post.create", format!("{} live tokens", live.len()));

    let path = format!("/v1/connections/{}", entrusted.connected.connection);
    let certificate = expect(&entrusted.workspace.admin.delete(&path).await?, 200)?;
    let after = ground.platform().tokens(ACCOUNT);
    for token in &live {
        if after.iter().any(|it| it.text == token.text && it.live) {
            let obtained = json!({ "kind": format!("{:?}", token.kind), "sha256": sha256(token.text.as_bytes()), "certificate": certificate });
            return Err(Failure::broken("a token is still good at the platform", obtained));
        }
        let tried = format!("the {:?} token at the platform", token.kind).to_lowercase();
        evidence.tried("provider-revocations", tried, sha256(token.text.as_bytes()), "dead");
    }
    let environment = Environment::open(ground.handover())?;
    let mut left = unsealing::fields(&owner).await?;
    left.retain(|field| field.connection == id);
    if let Some(field) = left.first() {
        let secret = environment.read(field).map(|secret| sha256(&secret));
        let obtained =
            json!({ "connection": entrusted.connected.connection, "field": field.field, "opens_to_sha256": secret });
        return Err(Failure::broken("a stored token outlived its disconnection", obtained));
    }
    let cells = dump::every_cell(&owner).await?;
    for field in &sealed {
        if let Some(cell) = cells.iter().find(|cell| cell.bytes == field.sealed) {
            let obtained = json!({ "in": cell.place, "row": cell.row, "sha256": sha256(&field.sealed) });
            return Err(Failure::broken("a sealed token is still in the database", obtained));
        }
        evidence.tried(
            "stored-tokens",
            format!("the sealed {} token in every table", field.field),
            &field.sealed,
            "gone",
        );
    }
    let refused = entrusted.try_to_post("after the disconnection").await?;
    if refused.status.is_success() {
        return Err(Failure::broken("an act passed after the disconnection", refused.json()));
    }
    evidence.saw(format!("an act after it: {}", refused.status), text(&certificate, "/old_token"), &refused.body);
    Ok(evidence)
}
