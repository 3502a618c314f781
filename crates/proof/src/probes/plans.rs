//! Plans: what a workspace's plan does not open is closed to it on every node, from the moment at which a super-admin says so.

use std::{collections::BTreeSet, time::Duration};

use domain::clock::Clock;
use serde_json::{Value, json};

use super::organisations::key;
use crate::{
    caller::{Caller, Reply},
    evidence::{Evidence, Failure, Outcome},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    routes::{Guard, Route, Values},
    stock::Stock,
};

/// Whether a feature is open that the plan does not open, or stays open when the plan was taken away.
pub(super) const PLAN_FEATURES: Probe = Probe {
    name: "plan-features",
    points: &["plan-features"],
    tries: "a feature that the workspace's plan does not open, at every route that is about one, by its admin and by a service; and on two nodes, when a super-admin has taken the plan away",
    attack: Attack::Rehearsed(|ground| Box::pin(plan_features(ground))),
};

/// After so long no node may know of the former plan: twice what facts may be trusted for without a word from the database.
const HEARD: Duration = Duration::from_secs(4);
const EVERY: Duration = Duration::from_millis(20);
/// What is said to whoever's plan does not open something.
const PLAN_REQUIRED: &str = "urn:keyholder:problem:plan-required";

/// A feature, a plan that opens it, and the one without it.
struct Sold {
    feature: String,
    with: String,
    without: String,
}

/// What is sold here and the plan of a new workspace does not open. By the plans' own lists, not by what the server says is open.
fn sold(view: &Value) -> Vec<Sold> {
    let without = text(view, "/plan");
    let features = view.get("features").and_then(Value::as_array).into_iter().flatten();
    let lacking = features.filter(|feature| {
        let plans = feature.get("plans").and_then(Value::as_array);
        plans.is_some_and(|plans| plans.iter().all(|plan| plan.as_str() != Some(without)))
    });
    let sold = lacking.map(|feature| Sold {
        feature: text(feature, "/name").to_owned(),
        with: text(feature, "/plans/0").to_owned(),
        without: without.to_owned(),
    });
    sold.filter(|it| !it.with.is_empty() && !it.without.is_empty()).collect()
}

/// Whoever asks, on which node.
struct Asker {
    words: String,
    caller: Caller,
}

struct Scene<'s> {
    stock: &'s Stock<'s>,
    rows: Vec<Route>,
    values: Values,
    /// On the node at which plans are set, and on another one.
    nodes: [Vec<Asker>; 2],
}

async fn plan_features(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let stock = Stock::new(ground, "plans").await?;
    let admin = &stock.workspace.admin;
    let all = sold(&expect(&admin.get("/v1/plan").await?, 200)?);
    if all.is_empty() {
        return Err(Failure::unproven("no plan here opens what another one does not"));
    }
    let about = |route: &Route| route.guard == Guard::ApiKey && route.placeholders().contains("feature");
    let rows: Vec<Route> = ground.table().await?.routes.into_iter().filter(about).collect();
    let values = stock.everything(&rows).await?;
    if rows.is_empty() || Stock::has_none(&values) {
        return Err(Failure::unproven("no route is about a feature"));
    }
    let (service, _) = key(admin, "service").await?;
    let second = ground.start_node(None).await?;
    let on =
        |node: &str, caller: &Caller, who: &str| Asker { words: format!("{who} on {node}"), caller: caller.clone() };
    let there = |caller: &Caller| ground.stranger_at(&second.url).with_key(caller.key().unwrap_or_default());
    let nodes = [
        vec![on("the first node", admin, "its admin"), on("the first node", &service, "a service")],
        vec![on("the second node", &there(admin), "its admin"), on("the second node", &there(&service), "a service")],
    ];
    let mut scene = Scene { stock: &stock, rows, values, nodes };
    let tried = async {
        for sold in &all {
            scene.buys_and_loses(sold, &mut evidence).await?;
        }
        trails(&stock, &all, &mut evidence).await
    };
    let tried: Result<(), Failure> = tried.await;
    second.end().await;
    tried.map(|()| evidence)
}

impl Scene<'_> {
    /// A plan that does not open the feature, one that does, and back again.
    async fn buys_and_loses(&mut self, sold: &Sold, evidence: &mut Evidence) -> Result<(), Failure> {
        self.values.insert("feature".to_owned(), sold.feature.clone());
        for (plan, opens) in [
            (&sold.without, false),
            (&sold.with, true),
            (&sold.without, false),
            (&sold.with, true),
            (&sold.without, false),
        ] {
            self.set(plan).await?;
            let [here, there] = &self.nodes;
            for route in &self.rows {
                for asker in here.iter().chain(there) {
                    // A node is told of a change that was made on another; nobody is refused by what it has not heard yet.
                    let may_lag = !opens && !here.iter().any(|it| it.words == asker.words);
                    let within = if may_lag { HEARD } else { Duration::ZERO };
                    self.answers((route, asker), (sold, plan, opens), within, evidence).await?;
                }
            }
        }
        Ok(())
    }

    async fn set(&self, plan: &str) -> Result<(), Failure> {
        let path = format!("/v1/installation/workspaces/{}/plan", self.stock.workspace.id);
        expect(&self.stock.operator.post(&path, &json!({ "plan": plan })).await?, 200)?;
        Ok(())
    }

    /// Asks until the answer is the plan's, for so long at most.
    async fn answers(
        &self,
        (route, asker): (&Route, &Asker),
        (sold, plan, opens): (&Sold, &str, bool),
        within: Duration,
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        let (clock, title, who) = (Clock::system(), route.title(), &asker.words);
        let from = clock.since_boot();
        loop {
            let reply = route.send(&asker.caller, &self.values, &[]).await?;
            let took = clock.since_boot().saturating_sub(from);
            match (reply.status.is_success(), opens) {
                (true, true) => {
                    evidence.saw(format!("{title} for {who} with {plan}: {}", reply.status), plan, &reply.body);
                    return Ok(());
                }
                (false, false) => {
                    refused(&reply, sold)?;
                    let tried = format!("{title} for {who} with {plan}: 403 after {} ms", took.as_millis());
                    evidence.tried("plans", tried, plan, &reply.body);
                    return Ok(());
                }
                (true, false) if took < within => tokio::time::sleep(EVERY).await,
                (true, false) => {
                    let obtained = json!({ "feature": sold.feature, "route": title, "by": who, "plan": plan, "answer": reply.json() });
                    return Err(Failure::broken(
                        format!("{} is open to {who} with the plan {plan}", sold.feature),
                        obtained,
                    ));
                }
                (false, true) => {
                    return Err(Failure::unproven(format!("{title} for {who} with {plan}: {}", reply.status)));
                }
            }
        }
    }
}

/// Refused for the plan, with the plans that would open it: any other refusal says nothing of plans.
fn refused(reply: &Reply, sold: &Sold) -> Result<(), Failure> {
    let said = expect(reply, 403)?;
    let plans = said.get("plans").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let plans: BTreeSet<&str> = plans.collect();
    if text(&said, "/type") == PLAN_REQUIRED
        && plans.contains(sold.with.as_str())
        && !plans.contains(sold.without.as_str())
    {
        return Ok(());
    }
    Err(Failure::unproven(format!("{} is refused for another reason: {said}", sold.feature)))
}

/// Both trails have each plan that was set.
async fn trails(stock: &Stock<'_>, all: &[Sold], evidence: &mut Evidence) -> Result<(), Failure> {
    let (admin, operator) = (&stock.workspace.admin, &stock.operator);
    for (whose, who, path) in [
        ("the workspace's", admin, "/v1/audit?limit=100"),
        ("the installation's", operator, "/v1/installation/audit?limit=100"),
    ] {
        let trail = expect(&who.get(path).await?, 200)?;
        let entries: Vec<&Value> = trail
            .get("data")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|entry| text(entry, "/event") == "plan.set" && text(entry, "/object").contains(&stock.workspace.id))
            .collect();
        for plan in all.iter().flat_map(|sold| [&sold.with, &sold.without]) {
            if !entries.iter().any(|entry| text(entry, "/detail/plan") == plan) {
                let obtained = json!({ "trail": whose, "plan": plan, "entries": entries.len() });
                return Err(Failure::broken(
                    format!("{whose} trail does not say that the plan {plan} was set"),
                    obtained,
                ));
            }
            evidence.saw(format!("{whose} trail has {plan}"), plan, "plan.set");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_present_plan_does_not_open_is_found_whatever_is_said_to_be_open() {
        let view = json!({ "plan": "FREE", "features": [
            { "name": "standard", "open": true, "plans": ["FREE", "PRO"] },
            { "name": "priority", "open": true, "plans": ["PRO", "MAX"] },
            { "name": "nobodys", "open": false, "plans": [] },
        ] });
        let found = sold(&view);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].feature.as_str(), found[0].with.as_str(), found[0].without.as_str()),
            ("priority", "PRO", "FREE")
        );
        assert!(sold(&json!({ "plan": null, "features": [{ "name": "x", "plans": ["PRO"] }] })).is_empty());
    }
}
