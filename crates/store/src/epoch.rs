//! Epochs as the database knows them, and the nodes that must know them: who is alive, which epochs each has, and when an epoch was last
//! of use.
//!
//! Holds no key: those are in the keyring. What it does hold is the word that keeps the two from contradicting each other: nothing is
//! wrapped under an epoch that was retired here, and nothing is retired that still wraps.

use std::time::Duration;

use domain::id::{Id, InstallationId, NodeId};
use sqlx::{Postgres, Transaction, postgres::types::PgInterval};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Store, StoreError, context::Kind, schema};

/// A node that is gone for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// What a node says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The node.
    pub node: NodeId,
    /// The version of its binary.
    pub version: &'a str,
    /// The epochs whose keys it holds.
    pub epochs: &'a [i64],
    /// The epoch that it wraps under.
    pub wrapping: i64,
}

/// A node that has reported itself lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// The node.
    pub node: NodeId,
    /// The version of its binary.
    pub version: String,
    /// The epochs whose keys it holds.
    pub epochs: Vec<i64>,
    /// The epoch that it wraps under.
    pub wrapping: i64,
    /// When it last reported itself, by the database's clock.
    pub seen_at: OffsetDateTime,
}

/// What the database knows of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochUse {
    /// The epoch.
    pub epoch: i64,
    /// How many data keys are wrapped under it.
    pub data_keys: i64,
    /// When a data key was last wrapped, moved or deleted under it: a backup from before that moment needs it.
    pub last_used_at: Option<OffsetDateTime>,
    /// Since when nothing may be wrapped under it.
    pub retired_at: Option<OffsetDateTime>,
    /// When its key was destroyed.
    pub destroyed_at: Option<OffsetDateTime>,
}

/// Whether an epoch was retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// Nothing will be wrapped under it any more. So many data keys are left under it, which only an emergency allows.
    Yes {
        /// How many.
        data_keys: i64,
    },
    /// Data keys are wrapped under it.
    InUse {
        /// How many.
        data_keys: i64,
    },
    /// It was of use not long enough ago.
    TooSoon {
        /// When.
        last_used_at: OffsetDateTime,
    },
}

impl Store {
    /// A transaction in the installation's own context.
    pub(crate) async fn begin_installation(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let installation = InstallationId::ONE;
        let (transaction, _) = self.begin(&self.app, Kind::Installation, installation, false).await?;
        Ok(transaction)
    }

    /// Writes that a node is alive, and what it knows. Nodes that have been silent for a day are forgotten.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn report_node(&self, report: Report<'_>) -> Result<(), StoreError> {
        let mut transaction = self.begin_installation().await?;
        sqlx::query!(
            "insert into nodes as n (node_id, version, epochs, wrapping, schema_version) values ($1, $2, $3, $4, $5) \
             on conflict (node_id) do update set version = excluded.version, epochs = excluded.epochs, \
               wrapping = excluded.wrapping, schema_version = excluded.schema_version, seen_at = clock_timestamp()",
            report.node.uuid(),
            report.version,
            report.epochs,
            report.wrapping,
            schema::newest(),
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("delete from nodes where seen_at < clock_timestamp() - $1::interval", interval(FORGOTTEN)?)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The node stops: nobody needs to wait for it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn node_left(&self, node: NodeId) -> Result<(), StoreError> {
        let mut transaction = self.begin_installation().await?;
        sqlx::query!("delete from nodes where node_id = $1", node.uuid()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The nodes that have reported themselves within so long.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn live_nodes(&self, within: Duration) -> Result<Vec<LiveNode>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let rows = sqlx::query!(
            "select node_id, version, epochs, wrapping, seen_at from nodes \
             where seen_at > clock_timestamp() - $1::interval order by node_id",
            interval(within)?
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let node = |row: (Uuid, String, Vec<i64>, i64, OffsetDateTime)| LiveNode {
            node: NodeId::from_uuid(row.0),
            version: row.1,
            epochs: row.2,
            wrapping: row.3,
            seen_at: row.4,
        };
        Ok(rows
            .into_iter()
            .map(|row| node((row.node_id, row.version, row.epochs, row.wrapping, row.seen_at)))
            .collect())
    }

    /// What the database knows of epochs, in the order of their numbers.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn epoch_uses(&self) -> Result<Vec<EpochUse>, StoreError> {
        let mut transaction = self.begin_installation().await?;
        let uses = sqlx::query_as!(
            EpochUse,
            "select coalesce(e.epoch, k.epoch) as \"epoch!\", coalesce(k.data_keys, 0) as \"data_keys!\", \
               nullif(e.last_used_at, '-infinity') as \"last_used_at?\", e.retired_at, e.destroyed_at \
             from epochs e full join epoch_data_keys() k on k.epoch = e.epoch order by 1"
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(uses)
    }

    /// Retires an epoch that wraps nothing and has not been of use for `rest`; in an emergency, whatever it wraps. A data key that is
    /// being wrapped at this moment is waited for, and counts.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn retire_epoch(&self, epoch: i64, rest: Duration, emergency: bool) -> Result<Retired, StoreError> {
        let mut transaction = self.begin_installation().await?;
        sqlx::query!(
            "insert into epochs (epoch, last_used_at) values ($1, '-infinity') on conflict (epoch) do nothing",
            epoch
        )
        .execute(&mut *transaction)
        .await?;
        let known = sqlx::query!(
            "select case when last_used_at > '-infinity' then last_used_at end as last_used_at, \
               last_used_at > clock_timestamp() - $2::interval as \"recent!\" from epochs where epoch = $1 for update",
            epoch,
            interval(rest)?,
        )
        .fetch_one(&mut *transaction)
        .await?;
        // Counted under the row's lock, by a statement of its own: it sees what was waited for.
        let data_keys = sqlx::query_scalar!(
            "select coalesce(sum(data_keys), 0)::bigint as \"keys!\" from epoch_data_keys() where epoch = $1",
            epoch
        )
        .fetch_one(&mut *transaction)
        .await?;
        if !emergency && data_keys > 0 {
            return Ok(Retired::InUse { data_keys });
        }
        if let (false, true, Some(last_used_at)) = (emergency, known.recent, known.last_used_at) {
            return Ok(Retired::TooSoon { last_used_at });
        }
        sqlx::query!("update epochs set retired_at = coalesce(retired_at, clock_timestamp()) where epoch = $1", epoch)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Retired::Yes { data_keys })
    }

    /// The epoch's key is gone from the keyring.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn epoch_destroyed(&self, epoch: i64) -> Result<(), StoreError> {
        let mut transaction = self.begin_installation().await?;
        sqlx::query!(
            "update epochs set destroyed_at = coalesce(destroyed_at, clock_timestamp()) where epoch = $1 and retired_at is not null",
            epoch
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

pub(crate) fn interval(length: Duration) -> Result<PgInterval, StoreError> {
    PgInterval::try_from(length).map_err(|_| StoreError::Corrupt("an interval of whole microseconds"))
}
