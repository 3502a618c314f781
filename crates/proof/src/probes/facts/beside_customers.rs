//! Tuples beside customers: given and taken in the probe's own workspace, over HTTP alone.
//!
//! Whoever is asked for has a key that was made for it, and sees folders that were: both are ended afterwards. Nothing is asked by which
//! something would change where it is permitted by mistake.

use std::time::Duration;

use serde_json::json;
use url::form_urlencoded;

use super::{Asked, denied_soon, is_denied};
use crate::{
    caller::Caller,
    evidence::{Evidence, Failure, Outcome},
    owner::expect,
    probe::Target,
    probes::organisations,
    undoing::Undoing,
};

/// What is given and taken.
const SUBJECT: &str = "relationship-tuples";
/// So often, and so far apart, it is looked whether a node still grants what was taken: six seconds, where a permission may be remembered
/// for two at most.
const LOOKS: (u32, Duration) = (30, Duration::from_millis(200));
/// So often, and so far apart, it is looked whether a node has heard of what was given.
const HEARD: (u32, Duration) = (10, Duration::from_millis(200));

pub(super) async fn relation_tuples(target: &Target) -> Outcome {
    let undoing = Undoing::of(&target.admin);
    undoing.after(given_and_taken(&target.admin, &undoing)).await
}

async fn given_and_taken(admin: &Caller, undoing: &Undoing) -> Outcome {
    let mut evidence = Evidence::new();
    let (member, key) = undoing.key("service").await?;
    let bench = Bench { admin, member: &member };
    let own = undoing.folder(None).await?;
    bench.stands_and_falls(&own, &[Tuple::new(&own, "viewer", &key)], &mut evidence).await?;
    let outer = undoing.folder(None).await?;
    let within = undoing.folder(Some(&outer)).await?;
    bench.stands_and_falls(&within, &[Tuple::new(&outer, "viewer", &key)], &mut evidence).await?;
    // Through others: the key manages a folder, whoever manages that one views another, and what is in that one is seen with it.
    let (team, shared) = (undoing.folder(None).await?, undoing.folder(None).await?);
    let within = undoing.folder(Some(&shared)).await?;
    let way = [Tuple::new(&team, "manager", &key), Tuple::new(&shared, "viewer", &format!("{team}#manager"))];
    bench.stands_and_falls(&within, &way, &mut evidence).await?;
    bundled((admin, undoing), (&member, &key), &mut evidence).await?;
    roles((admin, undoing), &own, &mut evidence).await?;
    Ok(evidence)
}

/// That somebody stands how to an object.
struct Tuple {
    object: String,
    relation: &'static str,
    subject: String,
}

impl Tuple {
    fn new(object: &str, relation: &'static str, subject: &str) -> Self {
        Self { object: object.to_owned(), relation, subject: subject.to_owned() }
    }

    fn words(&self) -> String {
        format!("{}#{}@{}", self.object, self.relation, self.subject)
    }

    async fn give(&self, admin: &Caller) -> Result<(), Failure> {
        organisations::relate(admin, &self.object, self.relation, &self.subject).await.map(drop)
    }

    async fn take(&self, admin: &Caller) -> Result<(), Failure> {
        let named: String = form_urlencoded::byte_serialize(self.subject.as_bytes()).collect();
        let path = format!("/v1/objects/{}/relationships?relation={}&subject={named}", self.object, self.relation);
        expect(&admin.delete(&path).await?, 204).map(drop)
    }
}

/// Who gives and takes, and to whom.
struct Bench<'a> {
    admin: &'a Caller,
    member: &'a Caller,
}

impl Bench<'_> {
    /// An object is not there for who stands in no relation to it; with the tuples it is, and without any one of them it is not.
    async fn stands_and_falls(&self, object: &str, tuples: &[Tuple], evidence: &mut Evidence) -> Result<(), Failure> {
        let path = format!("/v1/objects/{object}");
        let asked = Asked::Get(self.member, &path);
        denied(asked, "without any tuple", evidence).await?;
        for tuple in tuples {
            tuple.give(self.admin).await?;
        }
        granted(asked, "with every tuple", evidence).await?;
        for tuple in tuples {
            tuple.take(self.admin).await?;
            denied(asked, &format!("without {}", tuple.words()), evidence).await?;
            tuple.give(self.admin).await?;
            granted(asked, &format!("with {} again", tuple.words()), evidence).await?;
        }
        Ok(())
    }
}

/// What a role template gives counts while the key holds it.
async fn bundled(
    (admin, undoing): (&Caller, &Undoing),
    (member, key): (&Caller, &str),
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let template = undoing.template(&["audit.read"]).await?;
    let asked = Asked::Get(member, "/v1/audit?limit=1");
    let holders = format!("/v1/role-templates/{template}/assignees");
    denied(asked, "without a role template", evidence).await?;
    expect(&admin.post(&holders, &json!({ "key": key })).await?, 204)?;
    granted(asked, "with a role template", evidence).await?;
    expect(&admin.delete(&format!("{holders}/{key}")).await?, 204)?;
    denied(asked, "without the role template again", evidence).await
}

/// A key's role is a tuple of the workspace: each opens what it is for and nothing else, and with the key it goes.
async fn roles((admin, undoing): (&Caller, &Undoing), folder: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let managed = format!("/v1/objects/{folder}/relationships");
    let (keys, stores, own) = ("/v1/api-keys?limit=1", "/fga/stores?page_size=1", "/v1/workspace");
    let all: [(&str, &[&str], &[&str]); 4] = [
        ("admin", &[own, keys, stores, &managed], &[]),
        ("support_agent", &[own, keys, stores], &[&managed]),
        ("service", &[own, stores], &[keys, &managed]),
        ("user", &[own], &[keys, stores, &managed]),
    ];
    for (role, opened, closed) in all {
        let (caller, id) = undoing.key(role).await?;
        for path in closed {
            denied(Asked::Get(&caller, path), &format!("by the role {role} alone"), evidence).await?;
        }
        for path in opened {
            granted(Asked::Get(&caller, path), &format!("by the role {role}"), evidence).await?;
        }
        expect(&admin.delete(&format!("/v1/api-keys/{id}")).await?, 204)?;
        denied(Asked::Get(&caller, own), &format!("without the role {role} again"), evidence).await?;
    }
    Ok(())
}

/// Breaks where something is permitted, also after what nodes may remember is forgotten.
async fn denied(asked: Asked<'_>, how: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let reply = denied_soon(asked, LOOKS).await?;
    let title = asked.title();
    if !is_denied(&reply)? {
        let obtained = json!({ "asked": title, "how": how, "status": reply.status.as_u16() });
        return Err(Failure::broken(format!("{title} is permitted {how}"), obtained));
    }
    evidence.tried(SUBJECT, format!("{title} {how}: {}", reply.status), title, &reply.body);
    Ok(())
}

/// Whoever may is let in. What he reads is the workspace's own, and no evidence.
async fn granted(asked: Asked<'_>, how: &str, evidence: &mut Evidence) -> Result<(), Failure> {
    let mut reply = asked.send().await?;
    for _ in 0..HEARD.0 {
        if !is_denied(&reply)? {
            break;
        }
        tokio::time::sleep(HEARD.1).await;
        reply = asked.send().await?;
    }
    expect(&reply, 200)?;
    evidence.saw(format!("{} {how}: 200", asked.title()), asked.title(), reply.status.as_str());
    Ok(())
}
