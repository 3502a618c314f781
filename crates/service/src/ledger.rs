//! The ledger's housekeeping: acts that nobody settled, keys that have had their seven days, and whether the database is still itself.
//!
//! It has a loop of its own, so that nothing which calls a platform can hold it up. Never calls a platform.

use std::{sync::Arc, time::Duration};

use store::{StoreError, ledger::Raised};

use crate::{App, Refusal, gauge::count};

const EVERY: Duration = Duration::from_secs(1);

/// Keeps house for as long as the process lives.
pub(crate) async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_well = true;
    loop {
        tick.tick().await;
        metrics::gauge!("keyholder_snapshot_lease_overdue_ms").set(count(app.store.snapshots.lease_overdue_ms()));
        let outcome = round(&app).await;
        if let (Err(error), true) = (&outcome, was_well) {
            tracing::warn!(%error, "the ledger's housekeeping does not come through; it goes on trying");
        }
        was_well = outcome.is_ok();
    }
}

/// Does all four, whatever becomes of the others: a watch that fails must not let acts hang that the sweep would end. The first error
/// is told.
async fn round(app: &App) -> Result<(), StoreError> {
    let ledger = &app.store.ledger;
    let watched = recognise(ledger).await;
    let swept = sweep(ledger).await;
    let expired = ledger.expire().await.map(|_| ());
    let stood = stand(ledger).await;
    watched.and(swept).and(expired).and(stood)
}

async fn sweep(ledger: &store::Ledger) -> Result<(), StoreError> {
    let swept = ledger.sweep().await?;
    if swept > 0 {
        metrics::counter!("keyholder_ambiguous_total").increment(swept as u64);
        tracing::warn!(acts = swept, "acts were not settled in time and are ambiguous");
    }
    Ok(())
}

async fn stand(ledger: &store::Ledger) -> Result<(), StoreError> {
    let standing = ledger.standing().await?;
    metrics::gauge!("keyholder_unsettled_acts").set(count(standing.unsettled));
    metrics::gauge!("keyholder_oldest_unsettled_seconds").set(standing.oldest_unsettled_s);
    metrics::gauge!("keyholder_ambiguous_acts").set(count(standing.ambiguous));
    metrics::gauge!("keyholder_indebted_budgets").set(count(standing.indebted));
    Ok(())
}

/// Sees, before a process serves, whether its database is the one that it was. Where it is not, all epochs are raised first.
///
/// # Errors
/// `Unavailable`.
pub async fn recognise(ledger: &store::Ledger) -> Result<(), StoreError> {
    if let Some(raised) = ledger.watch().await? {
        tell(&raised);
    }
    Ok(())
}

/// Raises all epochs because the operator says so: after a restore that leaves no trace which a node could see.
///
/// # Errors
/// `Unavailable`.
pub async fn raise_epochs(app: &App) -> Result<Raised, Refusal> {
    let raised = app.store.ledger.raise_epochs("command").await?;
    tell(&raised);
    Ok(raised)
}

fn tell(raised: &Raised) {
    let reason = raised.reason.clone().unwrap_or_else(|| "unfinished".to_owned());
    tracing::error!(
        reason,
        workspaces = raised.workspaces,
        acts = raised.acts,
        "the database was promoted or restored: a new epoch has begun, and the acts under way are ambiguous"
    );
    metrics::counter!("keyholder_epochs_total", "reason" => reason).increment(1);
    metrics::counter!("keyholder_ambiguous_total").increment(raised.acts);
}
