//! Several processes on one database: one budget to its last unit, one refresh, one revocation.

use std::{collections::BTreeSet, sync::Arc};

use domain::id::Id;
use futures_util::future::join_all;
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::{
    harness::{ACCOUNT, TestApp, eventually, ok, text},
    node::Node,
};

/// How many acts each node has admitted.
async fn admitted_by_node(app: &TestApp) -> Vec<i64> {
    let mut owner = app.owner().await;
    sqlx::query_scalar("select count(*) from keyholder.acts where effect <> 'read' group by node_id order by 1")
        .fetch_all(&mut owner)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_spend_one_budget_to_its_last_unit_and_not_beyond() {
    const CAP: usize = 120;
    let app = TestApp::start().await;
    let limits = json!([{ "unit": "posts", "per": "month", "cap": CAP }]);
    let entrusted = app.entrust(&["profile.read", "post.create"], limits).await;
    let key = entrusted.agent.key().unwrap().to_owned();
    let nodes: Vec<_> = (0..3).map(|_| Node::start(&app)).collect();
    let pids: BTreeSet<_> = nodes.iter().map(Node::pid).collect();
    assert_eq!(pids.len(), 3);

    let barrier = Arc::new(Barrier::new(3 * 8));
    let workers = nodes.iter().enumerate().flat_map(|(node, running)| {
        let (key, mandate, barrier) = (&key, &entrusted.mandate, &barrier);
        (0..8).map(move |worker| {
            let caller = running.caller(key);
            async move {
                // Whoever has yet to open its connections would find the budget spent by those who have.
                let warm = format!("{node}-{worker}");
                ok(caller.act(mandate, "profile.read", &json!({}), Some(&warm)).await.unwrap(), 200);
                barrier.wait().await;
                let mut done = 0;
                for number in 0.. {
                    let name = format!("{node}-{worker}-{number}");
                    let reply =
                        caller.act(mandate, "post.create", &json!({ "text": name }), Some(&name)).await.unwrap();
                    match reply.status.as_u16() {
                        200 => done += 1,
                        429 => break,
                        other => panic!("{other}: {}", reply.json()),
                    }
                    if number == 0 {
                        // Nobody goes on before each has spent a first unit: a process that the machine lets wait has its part all the same.
                        barrier.wait().await;
                    }
                }
                done
            }
        })
    });
    let done: usize = join_all(workers).await.into_iter().sum();
    assert_eq!(done, CAP);
    assert_eq!(app.sandbox.platform().posts_by(ACCOUNT).len(), CAP, "counted at the platform");
    let shares = admitted_by_node(&app).await;
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.iter().all(|share| *share >= 8), "{shares:?}");
    drop(nodes);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_revocation_has_answered_the_platform_sees_no_act_outside_its_list() {
    let app = TestApp::start().await;
    let entrusted = app.entrust(&["post.create"], json!([])).await;
    let key = entrusted.agent.key().unwrap().to_owned();
    let nodes: Vec<_> = (0..3).map(|_| Node::start(&app)).collect();
    let workers = nodes.iter().enumerate().flat_map(|(node, running)| {
        let (key, mandate) = (&key, &entrusted.mandate);
        (0..4).map(move |worker| {
            let caller = running.caller(key);
            async move {
                let mut acts = Vec::new();
                for number in 0.. {
                    let name = format!("{node}-{worker}-{number}");
                    let reply =
                        caller.act(mandate, "post.create", &json!({ "text": name }), Some(&name)).await.unwrap();
                    match reply.status.as_u16() {
                        200 => acts.push((text(&reply.json(), "/act").to_owned(), name)),
                        403 => break,
                        other => panic!("{other}: {}", reply.json()),
                    }
                }
                acts
            }
        })
    });
    let platform = app.sandbox.platform().clone();
    let revoke = async {
        eventually("the platform has seen thirty", async || platform.posts_by(ACCOUNT).len() >= 30).await;
        let path = format!("/v1/mandates/{}/revoke", entrusted.mandate);
        let revoked = ok(app.admin.post(&path, &json!({})).await.unwrap(), 200);
        let there: BTreeSet<_> = platform.posts_by(ACCOUNT).into_iter().map(|post| post.text).collect();
        (revoked, there)
    };
    let (acts, (revoked, there)) = tokio::join!(join_all(workers), revoke);
    let listed: BTreeSet<_> = revoked["in_flight"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let acts: Vec<_> = acts.into_iter().flatten().collect();
    assert!(acts.len() >= 30);
    for post in platform.posts_by(ACCOUNT).into_iter().filter(|post| !there.contains(&post.text)) {
        let (act, _) = acts.iter().find(|(_, name)| *name == post.text).unwrap();
        assert!(
            listed.contains(act.as_str()),
            "{act} reached the platform after the revocation had answered, unlisted"
        );
    }
    drop(nodes);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_across_two_processes_make_one_refresh() {
    const CALLERS: usize = 1000;
    let app = TestApp::start().await;
    let platform = app.sandbox.platform().clone();
    let entrusted = app.entrust(&["profile.read"], json!([])).await;
    // Nobody can go on with the old token, so that the node without the lease asks for it until the answer is here.
    app.age("-1 second").await;
    let key = entrusted.agent.key().unwrap().to_owned();
    let nodes = [Node::start(&app), Node::start(&app)];
    assert_ne!(nodes[0].pid(), nodes[1].pid());
    let barrier = Arc::new(Barrier::new(CALLERS));
    let callers = [nodes[0].caller(&key), nodes[1].caller(&key)];
    let calls = (0..CALLERS).map(|number| {
        let (caller, barrier, mandate) = (&callers[number % 2], &barrier, &entrusted.mandate);
        async move {
            barrier.wait().await;
            caller.act(mandate, "profile.read", &json!({}), None).await
        }
    });
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::Refresh))).unwrap();
    // The answer is held until the other node has asked for the lease too, which writes the lease's row anew.
    let release = async {
        eventually("a node has called", async || platform.refreshes() > 0).await;
        app.another_asks_for_the_lease().await;
        platform.clear();
    };
    let (replies, ()) = tokio::join!(join_all(calls), release);
    for reply in replies {
        ok(reply.unwrap(), 200);
    }
    assert_eq!(platform.refreshes(), 1, "one call to the provider");
    assert_eq!(platform.replays_punished(), 0);
    let mut owner = app.owner().await;
    let version: i64 = sqlx::query_scalar("select max(version) from keyholder.credentials where workspace_id = $1")
        .bind(app.first.workspace.uuid())
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(version, 2);
    drop(nodes);
    app.stop().await;
}
