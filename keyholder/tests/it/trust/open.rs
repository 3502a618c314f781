//! What a run beside customers found not to hold: under review until a run that tried it passes, however many come meanwhile that did not.

use domain::statement::{Came, Mode, Scope, Standing, Statement};
use serde_json::{Value, json};
use time::Duration;

use super::{claim, count, operator, page, publish, some_kept, statement_of};
use crate::harness::{TestApp, text};

/// A statement of a part of a run, in which this probe came to that, by the program that serves.
fn part(app: &TestApp, probe: &str, came: Came) -> Statement {
    statement_of(app, |frame, runs| {
        (frame.scope, frame.life) = (Scope::ProductionSafe, Duration::hours(2));
        runs.retain(|run| run.name == probe);
        (runs[0].mode, runs[0].sabotage_caught) = (Mode::ProductionSafe, None);
        runs[0].came = came;
        if came != Came::Passed {
            runs[0].evidence = None;
        }
    })
}

/// How a claim is shown, and by which statement it failed.
async fn shown(app: &TestApp, id: &str) -> (String, Value) {
    let page = page(&app.stranger).await;
    let claim = claim(&page, id);
    (text(claim, "/state").to_owned(), claim["failed_in"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_beside_customers_outlives_the_runs_after_it_that_did_not_try() {
    let app = TestApp::start().await;
    let person = operator(&app).await;
    let whole = statement_of(&app, |_, _| {});
    publish(&person, &whole).await;
    let (id, probe) = some_kept(&whole);
    let kept = whole.ids(Standing::Kept).len() as u64;
    assert_eq!(shown(&app, &id).await, ("kept".to_owned(), Value::Null));

    // The probe finds a difference; then it cannot be carried out, twice: a server that is busy, a platform that fails.
    let broken = part(&app, &probe, Came::Differs);
    let lost = publish(&person, &broken).await["kept_no_longer"].as_array().unwrap().len();
    assert!(lost > 0);
    let review = ("under_review".to_owned(), json!(broken.sequence));
    assert_eq!(shown(&app, &id).await, review);
    for _ in 0..2 {
        let silent = part(&app, &probe, Came::NotProven);
        assert_eq!(publish(&person, &silent).await["kept_no_longer"], json!([]), "it is told once");
        assert_eq!(shown(&app, &id).await, review);
    }
    let now = page(&app.stranger).await;
    assert_eq!((count(&now, "under_review"), count(&now, "kept")), (lost as u64, kept - lost as u64));
    let html = app.stranger.get("/trust").await.unwrap();
    let told = format!("Statement {} tells of a run beside customers that did not show it", broken.sequence);
    assert!(String::from_utf8_lossy(&html.body).contains(&told));

    // A statement of the next build, and what was tried of it, is no answer of this one; nor is it asked about this one's.
    let other = |mut statement: Statement| {
        statement.build.binary_sha256 = "de".repeat(32);
        statement
    };
    for next in [statement_of(&app, |_, _| {}), part(&app, &probe, Came::Passed)] {
        publish(&person, &other(next)).await;
        assert_eq!(shown(&app, &id).await, review);
    }
    publish(&person, &part(&app, &probe, Came::NotProven)).await;
    assert_eq!(shown(&app, &id).await, review);
    // Another node reads it from the database.
    let origin = app.instance.app().public_url.clone();
    let second = app.second_node_with(|options| options.public_url = Some(origin)).await;
    let there = page(&keyholder::caller::Caller::new(second.url(), None)).await;
    assert_eq!(claim(&there, &id)["failed_in"], json!(broken.sequence));
    second.stop().await;

    publish(&person, &part(&app, &probe, Came::Passed)).await;
    assert_eq!(shown(&app, &id).await, ("kept".to_owned(), Value::Null));
    // So is it by a whole run.
    publish(&person, &part(&app, &probe, Came::Differs)).await;
    publish(&person, &part(&app, &probe, Came::NotProven)).await;
    assert_eq!(shown(&app, &id).await.0, "under_review");
    publish(&person, &statement_of(&app, |_, _| {})).await;
    assert_eq!(shown(&app, &id).await, ("kept".to_owned(), Value::Null));
    publish(&person, &part(&app, &probe, Came::NotProven)).await;
    assert_eq!(shown(&app, &id).await, ("kept".to_owned(), Value::Null));
    app.stop().await;
}
