//! Epochs: what was admitted or remembered under another history of the database counts no more.
//!
//! A promotion or a restore takes back commits. The database cannot tell so by its rows; its cluster's identity, its timeline and the end
//! of its WAL tell. Whichever node sees the difference first begins the new epoch, in one row; until that is done, `ledger_admit`
//! itself admits nothing on another timeline. Never decides what became of an act: it only stops to claim that this is known.

use std::sync::atomic::Ordering;

use super::Ledger;
use crate::StoreError;

/// How many workspaces are raised in one transaction.
const PAGE: i32 = 500;

/// A new epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Why it began: `another_cluster`, `another_timeline`, `rewound`, what a command says; nothing, where a raising that somebody had
    /// begun was finished.
    pub reason: Option<String>,
    /// How many workspaces were raised here.
    pub workspaces: u64,
    /// How many acts were under way in them, and are ambiguous now.
    pub acts: u64,
}

impl Ledger {
    /// Sees whether this is still the same history of the same database, and raises all epochs where it is not. Nothing, where nothing
    /// was to be done.
    ///
    /// # Errors
    /// `Unavailable`: what was begun is finished by the next call, on whichever node.
    pub async fn watch(&self) -> Result<Option<Raised>, StoreError> {
        let seen = Some(self.flushed.load(Ordering::Acquire)).filter(|seen| *seen >= 0);
        let now = sqlx::query!("select reason, pending as \"pending!\", flushed from ledger_watch($1)", seen)
            .fetch_one(&self.pool)
            .await?;
        self.flushed.store(now.flushed.unwrap_or(-1), Ordering::Release);
        if now.pending { self.raise_all(now.reason).await.map(Some) } else { Ok(None) }
    }

    /// Begins a new epoch because somebody says so: after a restore that leaves no trace which a node could see.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn raise_epochs(&self, reason: &str) -> Result<Raised, StoreError> {
        sqlx::query!("select ledger_begin_epochs($1)", reason).execute(&self.pool).await?;
        self.raise_all(Some(reason.to_owned())).await
    }

    async fn raise_all(&self, reason: Option<String>) -> Result<Raised, StoreError> {
        let mut raised = Raised { reason, workspaces: 0, acts: 0 };
        loop {
            let page = sqlx::query!(
                "select finished as \"finished!\", workspaces as \"workspaces!\", acts as \"acts!\" from ledger_raise_epochs($1)",
                PAGE
            )
            .fetch_one(&self.pool)
            .await?;
            raised.workspaces += u64::try_from(page.workspaces).unwrap_or(0);
            raised.acts += u64::try_from(page.acts).unwrap_or(0);
            if page.finished {
                return Ok(raised);
            }
        }
    }
}
