//! Jobs: what runs by itself proves whose work it is, and what nobody guards is nobody's work.

use std::time::Duration;

use serde_json::json;

use crate::{
    database::Session,
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::expect,
    probe::{Attack, Probe},
    probes::routes::Walk,
    routes::{Guard, Table},
    stock::Stock,
    tenancy::{Came, Owner},
};

/// Whether something runs, or is served, without a guard.
pub(super) const GUARDED_JOBS: Probe = Probe {
    name: "guarded-jobs",
    points: &["guarded-jobs"],
    tries: "every route and every kind of job for its guard; a job of no kind, and jobs put in for another tenant's objects",
    attack: Attack::Rehearsed(|ground| Box::pin(guarded_jobs(ground))),
};

const ACCOUNT: &str = "jobs_acct";
const LOOKS: u32 = 400;
const EVERY: Duration = Duration::from_millis(50);

async fn guarded_jobs(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let table = ground.table().await?;
    audit(&table, &mut evidence)?;
    let stock = Stock::new(ground, "jobs_walk").await?;
    Walk::prepare(ground, &stock, &table).await?.by_nobody(&mut evidence).await?;
    let mine = ground.workspace("jobs").await?;
    ground.workspace("jobs_rival").await?;
    let connected = ground.connect(&mine.admin, ACCOUNT, &["profile.read"]).await?;
    let kinds: Vec<String> = table.jobs.into_iter().map(|job| job.kind).collect();
    let yard = Yard::prepare(ground).await?;
    yard.does_its_own(&mut evidence).await?;
    yard.takes_none_for_another(&mut evidence).await?;
    let before = live(ground);
    yard.harms_no_other(&kinds, &mut evidence).await?;
    let after = live(ground);
    if before == 0 || before != after {
        let obtained = json!({ "live_tokens_before": before, "live_tokens_after": after });
        return Err(Failure::broken("another tenant's job has ended a grant at the platform", obtained));
    }
    evidence.saw("the grant lives at the platform after all that", before.to_string(), after.to_string());
    expect(&mine.admin.get(&format!("/v1/connections/{}", connected.connection)).await?, 200)?;
    yard.clear().await?;
    Ok(evidence)
}

/// Two tenants' jobs in one table, put in by the login that serves them both. The first one's connection is what the second is after.
struct Yard {
    owner: Owner,
    app: Session,
    own: String,
    rival: String,
    victim: String,
}

impl Yard {
    async fn prepare(ground: &Ground) -> Result<Self, Failure> {
        let owner = Owner::open(ground.login("owner")?).await?;
        let (own, rival) = (owner.workspace("jobs").await?, owner.workspace("jobs_rival").await?);
        let victim =
            owner.text(&format!("select id::text from keyholder.connections where workspace_id = '{own}'")).await?;
        Ok(Self { app: Session::open(ground.login("app")?).await?, owner, own, rival, victim })
    }

    /// Stands under a tenant's own context.
    async fn stand_for(&self, workspace: &str) -> Result<String, Failure> {
        let context = self.owner.sign("workspace", workspace, self.app.backend().await?, 20_000).await?;
        self.app.stand_under(&context).await?;
        Ok(context)
    }

    /// A job in a workspace, for the first one's connection, due for so many hours.
    fn put(&self, workspace: &str, kind: &str, hours: u32) -> String {
        format!(
            "insert into keyholder.jobs (workspace_id, id, kind, subject, run_at) values \
             ('{workspace}', gen_random_uuid(), '{kind}', '{}', clock_timestamp() - interval '{hours} hours')",
            self.victim
        )
    }

    /// The jobs of a kind in a workspace, each with how often it was taken up.
    async fn jobs(&self, workspace: &str, kind: &str) -> Result<String, Failure> {
        let asked = format!(
            "select string_agg(id || ' ' || attempts, ',') from keyholder.jobs where workspace_id = '{workspace}' and kind = '{kind}'"
        );
        self.owner.text(&asked).await
    }

    /// Waits until a job is done and gone, or was taken up, has failed and rests: one that runs is leased for longer than it would rest.
    async fn settled(&self, workspace: &str, kind: &str) -> Result<(), Failure> {
        let unsettled = format!(
            "select count(*)::text from keyholder.jobs where workspace_id = '{workspace}' and kind = '{kind}' \
             and (attempts = 0 or run_at > clock_timestamp() + interval '1 minute')"
        );
        for _ in 0..LOOKS {
            if self.owner.text(&unsettled).await? == "0" {
                return Ok(());
            }
            tokio::time::sleep(EVERY).await;
        }
        Err(Failure::unproven(format!("a job of the kind {kind} is not taken up, or does not end")))
    }

    /// The allowed thing: a job that was put in by its own workspace is done.
    async fn does_its_own(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        self.stand_for(&self.own).await?;
        must_go_through(self.app.run(&self.put(&self.own, "revoke_retired", 1)).await?)?;
        self.settled(&self.own, "revoke_retired").await?;
        let left = self.jobs(&self.own, "revoke_retired").await?;
        if !left.is_empty() {
            return Err(Failure::unproven(format!("a job of its own workspace is not done: {left}")));
        }
        evidence.saw("a job of its own workspace is done", "revoke_retired", "gone");
        Ok(())
    }

    /// A job for another tenant is not even put in, neither under a context that is signed for the rival nor under none.
    async fn takes_none_for_another(&self, evidence: &mut Evidence) -> Result<(), Failure> {
        for whose in ["another tenant's", "no"] {
            let context = if whose == "no" { String::new() } else { self.stand_for(&self.rival).await? };
            self.app.stand_under(&context).await?;
            let came = self.app.attempt(&self.put(&self.own, "abandon", 1)).await?;
            if !came.is_nothing() {
                let obtained = json!({ "workspace": self.own, "came": came.words() });
                return Err(Failure::broken(format!("a job was put in for a tenant under {whose} context"), obtained));
            }
            let tried = format!("a job for a tenant under {whose} context: {}", came.words());
            evidence.tried("jobs", tried, &context, came.words());
        }
        Ok(())
    }

    /// One's own jobs for another's object: each kind runs, and nothing comes of it. One of a kind that has no guard, due before them all,
    /// is never taken up.
    async fn harms_no_other(&self, kinds: &[String], evidence: &mut Evidence) -> Result<(), Failure> {
        self.stand_for(&self.rival).await?;
        must_go_through(self.app.run(&self.put(&self.rival, "unguarded", 2)).await?)?;
        for kind in kinds {
            must_go_through(self.app.run(&self.put(&self.rival, kind, 1)).await?)?;
        }
        let state = format!(
            "select state from keyholder.connections where workspace_id = '{}' and id = '{}'",
            self.own, self.victim
        );
        for kind in kinds {
            self.settled(&self.rival, kind).await?;
        }
        // Only when all have ended: what one has begun shows no later.
        for kind in kinds {
            let is = self.owner.text(&state).await?;
            if is != "active" {
                let obtained = json!({ "connection": self.victim, "state": is });
                return Err(Failure::broken(
                    format!("another tenant's job `{kind}` has changed a connection"),
                    obtained,
                ));
            }
            evidence.tried("jobs", format!("{kind} by another tenant for a connection: it stays {is}"), kind, &is);
        }
        let unguarded = self.jobs(&self.rival, "unguarded").await?;
        if !unguarded.ends_with(" 0") {
            let obtained = json!({ "job": unguarded });
            return Err(Failure::broken("a node took up a job of a kind that has no guard", obtained));
        }
        evidence.tried("jobs", "a kind without a guard: nobody takes it up", "unguarded", &unguarded);
        Ok(())
    }

    /// Leaves nobody anything to work at.
    async fn clear(&self) -> Result<(), Failure> {
        let left = format!("delete from keyholder.jobs where workspace_id in ('{}', '{}')", self.own, self.rival);
        Ok(self.owner.sql.client.batch_execute(&left).await?)
    }
}

/// How many of the first tenant's tokens the platform takes.
fn live(ground: &Ground) -> usize {
    ground.platform().tokens(ACCOUNT).iter().filter(|token| token.live).count()
}

/// Every route and every kind of job names its guard.
fn audit(table: &Table, evidence: &mut Evidence) -> Result<(), Failure> {
    for route in &table.routes {
        let is_guarded = match route.guard {
            Guard::Public => route.why.as_deref().is_some_and(|why| why.len() > 10),
            _ => route.permission.contains('.') && route.relation.is_some(),
        };
        if !is_guarded {
            return Err(Failure::broken(format!("{} has no guard", route.title()), route.title()));
        }
        let guard = format!("{:?} {} {}", route.guard, route.permission, route.why.as_deref().unwrap_or_default());
        let subject = if route.guard == Guard::Public { "public-routes" } else { "api-routes" };
        evidence.tried(subject, format!("{}: {guard}", route.title()), route.title(), &guard);
    }
    for job in &table.jobs {
        if job.permissions.is_empty() || job.permissions.iter().any(|name| !name.contains('.')) {
            return Err(Failure::broken(format!("the kind of job {} has no guard", job.kind), job.kind.as_str()));
        }
        evidence.tried(
            "jobs",
            format!("{}: {}", job.kind, job.permissions.join(", ")),
            &job.kind,
            job.permissions.join(", "),
        );
    }
    Ok(())
}

fn must_go_through(came: Came) -> Result<(), Failure> {
    match came {
        Came::Through { .. } => Ok(()),
        Came::Refused(code) => Err(Failure::unproven(format!("the allowed thing was refused ({code})"))),
    }
}
