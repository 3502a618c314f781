//! A crowd: a thousand callers at once on a credential that the platform no longer takes.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Barrier;

use super::stage::{Outcome, Stage, check, connect, expect, text};

const CALLERS: usize = 1000;
/// A second account, so that the first one's story is not disturbed.
const ACCOUNT: &str = "rival_brand";

pub(super) async fn gather(stage: &mut Stage) -> Outcome {
    let platform = stage.local.sandbox().platform().clone();
    let (connection, _) = connect(&stage.local, &stage.stranger, stage.backend()?, ACCOUNT, &["profile.read"]).await?;
    let terms = json!({ "connection": connection, "grantee": stage.agent_key(), "actions": ["profile.read"] });
    let mandate = expect(&stage.backend()?.post("/v1/mandates", &terms).await?, 201)?;
    let mandate = text(&mandate, "/id").to_owned();

    // The platform ends the token early, as platforms do. Whoever meets that first is told; the next act refreshes.
    platform.expire_access_tokens(ACCOUNT);
    let agent = stage.agent()?.clone();
    let input = json!({});
    let first = agent.act(&mandate, "profile.read", &input, None).await?;
    check(first.status.as_u16() == 200 && first.json().pointer("/status") == Some(&json!(401)), || {
        format!("the platform takes a token that it has ended: {}", first.json())
    })?;

    let before = platform.refreshes();
    let barrier = Arc::new(Barrier::new(CALLERS));
    let calls = (0..CALLERS).map(|_| async {
        barrier.wait().await;
        match agent.act(&mandate, "profile.read", &input, None).await {
            Ok(reply) if reply.status.as_u16() == 200 => None,
            Ok(reply) => Some(reply.json().to_string()),
            Err(error) => Some(error.to_string()),
        }
    });
    let refused: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
    let (answered, refreshes) = (CALLERS - refused.len(), platform.refreshes() - before);
    check(refused.is_empty() && refreshes == 1, || {
        let first = refused.first().map(String::as_str).unwrap_or_default();
        format!("{answered} answered, {refreshes} refreshes; the first refusal: {first}")
    })?;
    Ok(format!("{answered} of {CALLERS} answered, {refreshes} call to the provider"))
}
