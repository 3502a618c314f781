//! What an operator watches of the database and of this node's clock, as metrics.
//!
//! Changes nothing in the database, and no expiry and no budget hangs on what is measured here. A schema that has come to exclude this
//! binary makes the node leave.

use std::{sync::Arc, time::Duration};

use store::StoreError;

use crate::App;

const EVERY: Duration = Duration::from_secs(5);
/// A node whose clock is off by more than this is told of: certificates and the hours in its log are judged by it.
const CLOCK_OFF: f64 = 2.0;

/// Watches for as long as the process lives.
pub(crate) async fn run(app: Arc<App>) {
    let mut was_off = false;
    loop {
        match round(&app).await {
            Ok(offset) => {
                let is_off = offset.abs() > CLOCK_OFF;
                if is_off && !was_off {
                    tracing::warn!(offset_s = offset, "this node's clock and the database's differ");
                }
                was_off = is_off;
            }
            Err(error) => tracing::debug!(%error, "the database cannot be watched"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Measures once. Answers how many seconds the database's clock is ahead of this node's.
async fn round(app: &App) -> Result<f64, StoreError> {
    let asked = (app.clock.now(), app.clock.since_boot());
    let seen = app.store.lookup.watch().await?;
    // The answer was given about half way between the question and now.
    let here = asked.0 + app.clock.since_boot().saturating_sub(asked.1) / 2;
    let offset = (seen.now - here).as_seconds_f64();
    metrics::gauge!("keyholder_clock_offset_seconds").set(offset);
    metrics::gauge!("keyholder_oldest_deletion_seconds").set(seen.oldest_deletion_s);
    metrics::gauge!("keyholder_oldest_snapshot_transactions").set(crate::gauge::count(seen.oldest_snapshot));
    if let Some(fault) = store::gate::schema_fault(&app.store).await?
        && !app.is_leaving()
    {
        tracing::error!(fault, "the schema does not let this binary run any more: this node is not ready from here on");
        app.leave();
    }
    Ok(offset)
}
