//! Settlements: outcomes go to the database a batch at a time, and are held for as long as it cannot take them.
//!
//! An outcome is given up in one case only: the database says that this very outcome can never be written. Then the sweep calls the
//! act ambiguous, and its units stay taken.

use std::{collections::HashSet, time::Duration};

use domain::id::Id;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{BATCH, Inbox, Ledger, Outcome, QUEUE, Ticket, code, columns::Endings};
use crate::StoreError;

/// How long an outcome that could not be written rests before it is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// An outcome on its way to the database.
pub(super) struct Ending {
    ticket: Ticket,
    outcome: Outcome,
    /// Who waits to hear; nobody, once it was told that the outcome is not written yet.
    answer: Option<oneshot::Sender<Result<bool, StoreError>>>,
}

impl Ending {
    pub(super) fn new(
        ticket: Ticket,
        outcome: Outcome,
        answer: Option<oneshot::Sender<Result<bool, StoreError>>>,
    ) -> Self {
        Self { ticket, outcome, answer }
    }

    fn told_to_wait(mut self) -> Self {
        if let Some(answer) = self.answer.take() {
            drop(answer.send(Err(StoreError::Busy)));
        }
        self
    }
}

impl Ledger {
    /// Settles whatever comes; what cannot be written now is handed over to [`Ledger::settle_again`], so that it keeps nobody waiting.
    pub(super) async fn settle_batches(&self, mut inbox: Inbox<Ending>, again: mpsc::Sender<Ending>) {
        let mut batch: Vec<Ending> = Vec::new();
        while inbox.next(&mut batch).await > 0 {
            for kept in self.settle_batch(std::mem::take(&mut batch)).await {
                if again.send(kept).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Tries again what could not be written, until it is: also after the process was told to stop.
    pub(super) async fn settle_again(&self, mut queue: mpsc::Receiver<Ending>) {
        let mut held: Vec<Ending> = Vec::new();
        loop {
            metrics::gauge!("keyholder_unwritten_outcomes").set(u32::try_from(held.len()).unwrap_or(u32::MAX));
            if held.is_empty() && queue.recv_many(&mut held, BATCH).await == 0 {
                return;
            }
            tokio::time::sleep(RETRY).await;
            while held.len() < QUEUE
                && let Ok(next) = queue.try_recv()
            {
                held.push(next);
            }
            let mut kept = Vec::new();
            while !held.is_empty() {
                let batch: Vec<_> = held.drain(..held.len().min(BATCH)).collect();
                kept.extend(self.settle_batch(batch).await);
            }
            held = kept;
        }
    }

    /// Settles a batch; gives back what must be tried again.
    async fn settle_batch(&self, batch: Vec<Ending>) -> Vec<Ending> {
        let error = match self.call_settle(&batch).await {
            Ok(ended) => {
                for ending in batch {
                    let ended = ended.contains(&ending.ticket.act.uuid());
                    ending.answer.map(|answer| answer.send(Ok(ended)));
                }
                return Vec::new();
            }
            Err(error) => error,
        };
        metrics::counter!("keyholder_ledger_settle_failures_total").increment(1);
        tracing::warn!(acts = batch.len(), %error, "a batch was not settled yet");
        match error {
            StoreError::Unavailable(_) => batch.into_iter().map(Ending::told_to_wait).collect(),
            // One bad outcome must not hold its neighbours: each is tried by itself, and only that one is given up.
            _ if batch.len() > 1 => {
                let mut kept = Vec::new();
                for ending in batch {
                    kept.extend(Box::pin(self.settle_batch(vec![ending])).await);
                }
                kept
            }
            _ if may_pass(&error) => batch.into_iter().map(Ending::told_to_wait).collect(),
            _ => {
                for ending in batch {
                    tracing::error!(act = %ending.ticket.act, %error, "an act's outcome can never be written");
                    ending.told_to_wait();
                }
                Vec::new()
            }
        }
    }

    async fn call_settle(&self, endings: &[Ending]) -> Result<HashSet<Uuid>, StoreError> {
        let columns = Endings::of(endings.iter().map(|ending| (&ending.ticket, &ending.outcome)));
        let ended = sqlx::query_scalar!(
            "select ended as \"ended!\" from ledger_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ended",
            self.node.uuid(),
            &columns.workspace,
            &columns.id,
            &columns.state,
            &columns.status as &[Option<i16>],
            &columns.answer as &[Option<Vec<u8>>],
            &columns.answer_key as &[Option<Uuid>],
            &columns.used_act,
            &columns.used_budget,
            &columns.used_units,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ended.into_iter().collect())
    }
}

/// Whether the same statement may succeed later: all but bad data (class 22), broken integrity (23), and what cannot be read.
fn may_pass(error: &StoreError) -> bool {
    code(error).is_some_and(|code| !code.starts_with("22") && !code.starts_with("23"))
}
