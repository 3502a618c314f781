//! Two nodes at work, and the database killed under them, again and again: every count is exact afterwards.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use domain::clock::Clock;
use futures_util::future::join_all;
use keyholder::{caller::Caller, home::Home};
use serde_json::json;

use super::{OUTAGE, invariant, stage::Stage};
use crate::harness::{ACCOUNT, Ground, TestApp, cluster_options, in_the_end, text};

const KILLS: usize = 3;
const WORKERS: usize = 6;
const CAP: usize = 300;

/// What the platform must have seen of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Done,
    Unknown,
    Over,
}

/// The same request with the same key until the answer is a last one, whatever fails meanwhile.
async fn told(caller: &Caller, mandate: &str, name: &str) -> Told {
    loop {
        let input = json!({ "text": name });
        if let Ok(reply) = caller.act(mandate, "post.create", &input, Some(name)).await {
            let kind = text(&reply.json(), "/type").rsplit(':').next().unwrap_or_default().to_owned();
            match (reply.status.as_u16(), kind.as_str()) {
                (200, _) => return Told::Done,
                (409, "act-ambiguous") => return Told::Unknown,
                (429, "budget-exceeded") => return Told::Over,
                (409, "act-in-progress" | "stale") | (502..=504, _) => {}
                (status, kind) => panic!("{status} {kind}: {}", reply.json()),
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_under_load_at_two_nodes_leaves_every_count_exact() {
    let mut home = Home::open(None, cluster_options(), &Clock::system()).await.unwrap();
    let app = TestApp::start_on(Ground::of(&home), |_| {}).await;
    let entrusted = app.entrust(&["post.create"], json!([{ "unit": "posts", "per": "month", "cap": CAP }])).await;
    let stage = Stage::after(app).await;
    let nodes = [stage.node(None).await, stage.node(None).await];
    let key = entrusted.agent.key().unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let workers = nodes.iter().enumerate().flat_map(|(node, running)| {
        let (caller, mandate, enough) = (running.caller(key), &entrusted.mandate, Arc::clone(&enough));
        (0..WORKERS).map(move |worker| {
            let (caller, enough) = (caller.clone(), Arc::clone(&enough));
            async move {
                let mut seen = Vec::new();
                for number in 0.. {
                    if enough.load(Ordering::SeqCst) {
                        break;
                    }
                    let name = format!("{node}-{worker}-{number}");
                    let told = told(&caller, mandate, &name).await;
                    seen.push((name, told));
                    if told == Told::Over {
                        break;
                    }
                }
                seen
            }
        })
    });
    let platform = stage.sandbox.platform();
    let strikes = async {
        for number in 1..=KILLS {
            in_the_end("acts go on", async || platform.posts_by(ACCOUNT).len() >= number * 20).await;
            assert!(home.kill9().await.contains("signal: 9"));
            tokio::time::sleep(OUTAGE / 4).await;
            home = home.restart().await.unwrap();
        }
        let after = platform.posts_by(ACCOUNT).len() + 20;
        in_the_end("acts go on after the last", async || platform.posts_by(ACCOUNT).len() >= after.min(CAP)).await;
        enough.store(true, Ordering::SeqCst);
        home
    };
    let (seen, home) = tokio::join!(join_all(workers), strikes);

    invariant::every_act_has_ended(&stage, "under load").await;
    invariant::no_budget_is_wrong(&stage, "under load").await;
    let mut posts = BTreeMap::<String, usize>::new();
    for post in platform.posts_by(ACCOUNT) {
        *posts.entry(post.text).or_default() += 1;
    }
    let (mut done, mut unknown) = (0, 0);
    for (name, told) in seen.into_iter().flatten() {
        let effects = posts.remove(&name).unwrap_or(0);
        match told {
            Told::Done => {
                done += 1;
                assert_eq!(effects, 1, "{name} is done");
            }
            Told::Unknown => {
                unknown += 1;
                assert!(effects <= 1, "{name} had {effects} effects");
            }
            Told::Over => assert_eq!(effects, 0, "{name} was refused"),
        }
    }
    assert!(posts.is_empty(), "nobody asked for {posts:?}");
    let used = stage.count("select sum(used)::bigint from keyholder.budgets where unit = 'posts'").await;
    let counted = "select count(*) from keyholder.acts where state in ('settled', 'ambiguous')";
    assert_eq!(used, stage.count(counted).await);
    assert_eq!(usize::try_from(used).unwrap(), done + unknown, "each unit is an act that a caller was told of");
    drop(nodes);
    stage.clear().await;
    home.close().await.unwrap();
}
