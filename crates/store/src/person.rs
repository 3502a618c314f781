//! The entrance of a person: one account's own rows, in whichever workspaces they stand.

use domain::id::{AccountId, ConnectionId, ConsentId, Id, WorkspaceId};
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;

use crate::{Store, StoreError, context::Kind};

/// A transaction for one account. Opened only for somebody who has just proved to be that person.
pub struct Person {
    transaction: Transaction<'static, Postgres>,
    account: AccountId,
}

/// Proof that somebody controls an account at a provider: the provider said so to us, over TLS, a moment ago.
///
/// It is made by the use case that made the call, and names the account by the provider's own words.
#[derive(Debug)]
pub struct ProofOfControl {
    /// The provider file's name.
    pub provider: String,
    /// The account's id at the provider.
    pub subject: String,
}

impl Store {
    /// Enters as the person who controls that account, whom this makes known if nobody is yet.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn person(&self, proof: &ProofOfControl) -> Result<Person, StoreError> {
        match self.try_person(proof).await {
            // Somebody made the same person known in this moment: then it is known.
            Err(StoreError::Conflict) => self.try_person(proof).await,
            entered => entered,
        }
    }

    async fn try_person(&self, proof: &ProofOfControl) -> Result<Person, StoreError> {
        let known = self.lookup.account(&proof.provider, &proof.subject).await?;
        let account = known.unwrap_or_else(|| AccountId::new(&self.clock));
        let (mut transaction, head) = self.begin(&self.app, Kind::Account, account, false).await?;
        if head.is_none() {
            sqlx::query!("insert into heads (kind, id) values ('account', $1)", account.uuid())
                .execute(&mut *transaction)
                .await?;
            sqlx::query!(
                "insert into accounts (account_id, provider, subject, created_at) values ($1, $2, $3, $4)",
                account.uuid(),
                proof.provider,
                proof.subject,
                self.clock.now(),
            )
            .execute(&mut *transaction)
            .await?;
        }
        Ok(Person { transaction, account })
    }
}

impl Person {
    /// The account.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Keeps the receipt of what the person consented to.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn keep_receipt(
        &mut self,
        receipt: ConsentId,
        connection: (WorkspaceId, ConnectionId),
        terms: (&[String], &[String]),
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.keep(receipt, connection, terms, "consented", at).await
    }

    /// Keeps the receipt of what the operator brought along for the person, which says that nobody consented here.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn keep_import_receipt(
        &mut self,
        receipt: ConsentId,
        connection: (WorkspaceId, ConnectionId),
        terms: (&[String], &[String]),
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.keep(receipt, connection, terms, "imported", at).await
    }

    async fn keep(
        &mut self,
        receipt: ConsentId,
        (workspace, connection): (WorkspaceId, ConnectionId),
        (actions, scopes): (&[String], &[String]),
        origin: &str,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into consents (account_id, id, workspace_id, connection_id, actions, scopes, at, origin) values ($1, $2, $3, $4, $5, $6, $7, $8)",
            self.account.uuid(),
            receipt.uuid(),
            workspace.uuid(),
            connection.uuid(),
            actions,
            scopes,
            at,
            origin,
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Commits.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        Ok(())
    }
}
