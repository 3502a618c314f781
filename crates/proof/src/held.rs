//! A workspace that somebody is about to change: whoever else would change it, or act in it, waits, with the permission that he was given
//! before.
//!
//! By the hand of the database's owner, who holds the workspace's head. What is changed meanwhile is what a probe is about.

use std::time::Duration;

use crate::{database::Session, evidence::Failure, tenancy::Owner};

/// Within this many looks whoever is to wait must be found waiting. Shorter than a request may wait for a lock.
const LOOKS: u32 = 120;
const EVERY: Duration = Duration::from_millis(20);

/// A transaction that holds the head of a workspace. Dropped, it has changed nothing.
pub struct HeldHead {
    sql: Session,
    backend: i32,
    workspace: String,
}

impl HeldHead {
    /// Takes the head of the workspace that has this id in the database.
    ///
    /// # Errors
    /// `Unproven` where there is no such workspace, or the login is refused.
    pub async fn take(url: &str, workspace: &str) -> Result<Self, Failure> {
        let sql = Session::open(url).await?;
        let backend = sql.backend().await?;
        sql.client.batch_execute("begin").await?;
        let raised = format!(
            "update keyholder.heads set revision = revision + 1, raised_in = pg_current_xact_id() \
             where kind = 'workspace' and id = '{workspace}'"
        );
        if sql.client.execute(&raised, &[]).await? == 0 {
            return Err(Failure::unproven("there is no head of the workspace that is to be held"));
        }
        Ok(Self { sql, backend, workspace: workspace.to_owned() })
    }

    /// Waits until somebody waits for it.
    ///
    /// # Errors
    /// `Unproven` where nobody does.
    pub async fn is_awaited(&self, owner: &Owner) -> Result<(), Failure> {
        let asked = format!(
            "select count(*)::text from pg_locks where not granted and {} = any (pg_blocking_pids(pid))",
            self.backend
        );
        for _ in 0..LOOKS {
            if owner.text(&asked).await? != "0" {
                return Ok(());
            }
            tokio::time::sleep(EVERY).await;
        }
        Err(Failure::unproven("nobody waits for the workspace that is held"))
    }

    /// Does this in it, announces it as the product would, and commits: from here on whoever waited goes on.
    ///
    /// # Errors
    /// `Unproven` where the statement fails.
    pub async fn commit(self, statement: &str) -> Result<(), Failure> {
        let announced = format!(
            "select pg_notify('keyholder_facts', id || ' ' || revision) from keyholder.heads \
             where kind = 'workspace' and id = '{}'",
            self.workspace
        );
        Ok(self.sql.client.batch_execute(&format!("{statement}; {announced}; commit")).await?)
    }

    /// Does this in it and commits, and announces nothing: a node that remembers how it was goes on remembering that.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_unheard(self, statement: &str) -> Result<(), Failure> {
        Ok(self.sql.client.batch_execute(&format!("{statement}; commit")).await?)
    }

    /// Changes nothing after all: whoever waited goes on.
    ///
    /// # Errors
    /// `Unproven` where the connection is lost.
    pub async fn release(self) -> Result<(), Failure> {
        Ok(self.sql.client.batch_execute("rollback").await?)
    }
}
