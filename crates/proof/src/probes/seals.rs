//! Seals: a value that was changed, or moved to another row, field or tenant, by somebody who may write every table.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    database::Session,
    entrusted::Entrusted,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::text,
    probe::{Attack, Probe},
    probes::at_rest::connection_id,
    unsealing::{FORM, NONCE, TAG},
};

/// Whether a sealed value opens anywhere but in its place, whole.
pub(super) const BOUND_SEALS: Probe = Probe {
    name: "bound-seals",
    points: &["bound-seals", "changed-seals"],
    tries: "an act with a sealed value that was changed, or that belongs to another row, field or tenant",
    attack: Attack::Rehearsed(|ground| Box::pin(bound_seals(ground))),
};

/// How many acts leave a sealed answer, for a look at their nonces.
const ANSWERS: u32 = 24;
const OTHER: &str = "probe_seals_other";
const FOREIGN: &str = "probe_seals_foreign";

/// What is done to the sealed access token of the connection that is acted on.
enum Change {
    /// An expression for its bytes.
    Bytes(&'static str),
    /// Another value in its place: the field of `mine`, `other` or `foreign`.
    Moved(&'static str, &'static str),
    /// The same with the data key that it was sealed under.
    MovedWithKey(&'static str, &'static str),
}

const CHANGES: [(&str, Change); 12] = [
    ("the form's byte", Change::Bytes("set_byte(sealed, 0, get_byte(sealed, 0) # 1)")),
    ("the nonce's first bit", Change::Bytes("set_byte(sealed, 1, get_byte(sealed, 1) # 128)")),
    ("the nonce's last bit", Change::Bytes("set_byte(sealed, 12, get_byte(sealed, 12) # 1)")),
    (
        "a bit of the value",
        Change::Bytes("set_byte(sealed, length(sealed) / 2, get_byte(sealed, length(sealed) / 2) # 1)"),
    ),
    (
        "the tag's last bit",
        Change::Bytes("set_byte(sealed, length(sealed) - 1, get_byte(sealed, length(sealed) - 1) # 1)"),
    ),
    ("a byte less", Change::Bytes("substring(sealed from 1 for length(sealed) - 1)")),
    ("a byte more", Change::Bytes(r"sealed || '\x00'")),
    ("another connection's access token", Change::Moved("other", "access")),
    ("its own refresh token", Change::Moved("mine", "refresh")),
    ("another connection's refresh token", Change::Moved("other", "refresh")),
    ("another tenant's access token", Change::Moved("foreign", "access")),
    ("another tenant's access token, with its data key", Change::MovedWithKey("foreign", "access")),
];

/// Two connections of a workspace and one of another, and the owner's hands on their rows.
struct Scene<'g> {
    ground: &'g Ground,
    mine: Entrusted,
    owner: Session,
}

async fn bound_seals(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let scene = Scene::set(ground).await?;
    for number in 0..ANSWERS {
        scene.mine.post(&format!("the same words, {number}")).await?;
    }
    evidence.saw("posts with the untouched credential", ANSWERS.to_string(), "all done");
    scene.look_at_seals(&mut evidence).await?;
    for (what, change) in &CHANGES {
        scene.put(change).await?;
        let tried = scene.act(what).await;
        scene.mend().await?;
        let answer = tried?;
        let subject = if matches!(change, Change::Bytes(_)) { "changed-seals" } else { "moved-seals" };
        evidence.tried(subject, format!("an act with {what} in the credential's place"), what, answer.to_string());
    }
    scene.mine.post("mended").await?;
    evidence.saw("a post with the mended credential", "mended", "done");
    Ok(evidence)
}

impl<'g> Scene<'g> {
    async fn set(ground: &'g Ground) -> Result<Self, Failure> {
        let mine = ground.entrust("probe_seals").await?;
        let other = ground.connect(&mine.workspace.admin, OTHER, &["post.create"]).await?;
        let foreign = ground.entrust(FOREIGN).await?;
        let owner = ground.owner().await?;
        // Neither triggers nor foreign keys stand in the way of somebody who owns the database.
        owner
            .client
            .batch_execute("set session_replication_role = replica; set search_path = pg_temp, keyholder")
            .await?;
        let other = Entrusted { connected: other, agent: mine.agent.clone(), workspace: mine.workspace.clone() };
        owner.client.batch_execute("create temp table kept (name text, like keyholder.credentials)").await?;
        for (name, entrusted) in [("mine", &mine), ("other", &other), ("foreign", &foreign)] {
            let keep = "insert into kept select $1::text, c.* from keyholder.credentials c where connection_id = $2";
            if owner.client.execute(keep, &[&name, &connection_id(entrusted)?]).await? != 2 {
                return Err(Failure::unproven(format!("the credential of {name} has not two fields")));
            }
        }
        Ok(Self { ground, mine, owner })
    }

    /// Changes the sealed access token of the connection that is acted on.
    async fn put(&self, change: &Change) -> Result<(), Failure> {
        let place =
            "c.field = 'access' and c.connection_id = (select distinct connection_id from kept where name = 'mine')";
        let from = |source: &str, field: &str| {
            format!("from kept f where f.name = '{source}' and f.field = '{field}' and {place}")
        };
        let statement = match change {
            Change::Bytes(expression) => format!("update credentials c set sealed = {expression} where {place}"),
            Change::Moved(source, field) => {
                format!("update credentials c set sealed = f.sealed {}", from(source, field))
            }
            Change::MovedWithKey(source, field) => {
                format!(
                    "update credentials c set sealed = f.sealed, data_key_id = f.data_key_id {}",
                    from(source, field)
                )
            }
        };
        match self.owner.client.execute(&statement, &[]).await? {
            1 => Ok(()),
            rows => Err(Failure::unproven(format!("{rows} rows were changed: {statement}"))),
        }
    }

    async fn mend(&self) -> Result<(), Failure> {
        let mend = "update credentials c set sealed = f.sealed, data_key_id = f.data_key_id \
                    from kept f where f.name = 'mine' and f.field = c.field and f.connection_id = c.connection_id";
        self.owner.client.execute(mend, &[]).await?;
        Ok(())
    }

    /// An act on a credential that must not open: refused here, and nothing reaches the platform.
    async fn act(&self, what: &str) -> Result<Value, Failure> {
        let (platform, words) = (self.ground.platform(), format!("with {what}"));
        let calls = platform.requests().len();
        let answer = self.mine.try_to_post(&words).await?;
        let body = answer.json();
        let author = ["probe_seals", OTHER, FOREIGN].into_iter().find_map(|account| {
            platform.posts_by(account).into_iter().find(|post| post.text == words).map(|post| (account, post.id))
        });
        if let Some((account, post)) = author {
            let obtained = json!({ "post": post, "as": account, "instead_of": "probe_seals" });
            return Err(Failure::broken(
                format!("{what}, in the credential's place, opened: a post was made as @{account}"),
                obtained,
            ));
        }
        if platform.requests().len() != calls {
            let sent = json!({ "answered": answer.status.as_u16(), "body": body });
            return Err(Failure::broken(
                format!("{what}, in the credential's place, opened and was sent to the platform"),
                sent,
            ));
        }
        if !text(&body, "/type").ends_with(":credential-unavailable") {
            return Err(Failure::unproven(format!("{what}: answered {} {body}", answer.status)));
        }
        Ok(body)
    }

    /// Every value that is sealed so, anywhere: long enough for nonce and tag, and no nonce twice.
    async fn look_at_seals(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        let all = "select 'a credential', sealed from credentials union all select 'a data key', wrapped from data_keys \
                   union all select 'an answer', answer from acts where answer is not null \
                   union all select 'a verifier', verifier from connect_links where verifier is not null";
        let (mut nonces, mut counts) = (BTreeSet::new(), [0_u32; 256]);
        for row in self.owner.client.query(all, &[]).await? {
            let (kind, sealed): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            let obtained = json!({ "kind": kind, "sha256": sha256(&sealed), "bytes": sealed.len() });
            let nonce =
                sealed.get(1..=NONCE).filter(|_| sealed.len() > 1 + NONCE + TAG && sealed.first() == Some(&FORM));
            let Some(nonce) = nonce else {
                return Err(Failure::broken(
                    format!("{kind} has no room for a nonce of 96 and a tag of 128 bits"),
                    obtained,
                ));
            };
            if !nonces.insert(nonce.to_vec()) {
                return Err(Failure::broken(format!("{kind} has the nonce of another value"), obtained));
            }
            for byte in nonce {
                if let Some(count) = counts.get_mut(usize::from(*byte)) {
                    *count += 1;
                }
            }
            evidence.tried(
                "sealed-values",
                format!("{kind}: a nonce of its own, and a tag"),
                &sealed,
                hex::encode(nonce),
            );
        }
        // Of so many random bytes no value is a tenth; a counter's or a clock's nonces have the same byte at the same place.
        let (most, all) = (counts.iter().max().copied().unwrap_or_default(), counts.iter().sum::<u32>());
        if most * 10 > all {
            return Err(Failure::broken(
                "nonces are not random: a tenth of their bytes is one value",
                json!({ "of": all, "same": most }),
            ));
        }
        Ok(())
    }
}
