//! Trust statements: published by the operator's persons, byte for byte as they were signed, and read by whoever opens the trust page.
//!
//! Never judges a signature: a row is worth what its envelope's signature says, and that is asked each time it is read into memory.

use std::collections::BTreeSet;

use domain::{
    claim::ClaimId,
    statement::{Failures, Statement},
};
use relation::action::PublishStatement;

use crate::{Lookup, StoreError, installation::Installation};

/// A statement as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its number.
    pub sequence: u64,
    /// The envelope's bytes.
    pub envelope: Vec<u8>,
    /// The claims that were kept once and were not given up since.
    pub kept: BTreeSet<ClaimId>,
    /// What a part of a run of its program did not show, and none has since.
    pub failures: Failures,
}

/// What there is to be shown.
#[derive(Debug, Clone)]
pub struct Published {
    /// The number of the newest statement; `None` where there is none.
    pub newest: Option<u64>,
    /// The database's product and version, as the connection says.
    pub product: String,
    /// The newest statement and the newest of a whole run, each of all and of the program that was asked for, the newest first and each
    /// once; nothing where the asker has them.
    pub statements: Vec<Stored>,
}

/// What the statements until now leave in mind.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// What the newest statement of this program left open, of whichever blueprint.
    pub failures: Failures,
    /// What was kept, as of the newest statement; `None` where there is none.
    pub kept: Option<RememberedKept>,
}

/// What was kept, and of which blueprint.
#[derive(Debug, Clone)]
pub struct RememberedKept {
    /// The blueprint.
    pub blueprint: String,
    /// The claims that were kept once and were not given up since.
    pub kept: BTreeSet<ClaimId>,
}

/// What is remembered of the statements until now, for one of a program of this SHA-256, in hexadecimal.
///
/// # Errors
/// `Unavailable`; `Corrupt`.
pub async fn remembered(
    installation: &mut Installation<PublishStatement>,
    program: &str,
) -> Result<Remembered, StoreError> {
    let newest = sqlx::query!("select blueprint, kept from trust_statements order by sequence desc limit 1")
        .fetch_optional(installation.sql())
        .await?;
    let kept =
        newest.map(|row| Ok::<_, StoreError>(RememberedKept { blueprint: row.blueprint, kept: ids(&row.kept)? }));
    let open = sqlx::query_scalar!(
        "select failures from trust_statements where binary_sha256 = $1 order by sequence desc limit 1",
        program
    )
    .fetch_optional(installation.sql())
    .await?;
    Ok(Remembered { failures: open.map(failures).transpose()?.unwrap_or_default(), kept: kept.transpose()? })
}

/// Stores a statement, with what is remembered from now on.
///
/// # Errors
/// `OldStatement` where one of its number or a greater one is there; `Unavailable`.
pub async fn publish(
    installation: &mut Installation<PublishStatement>,
    statement: &Statement,
    envelope: &[u8],
    kept: &BTreeSet<ClaimId>,
    failures: &Failures,
) -> Result<(), StoreError> {
    let by = installation.principal().reference();
    let sequence = i64::try_from(statement.sequence).map_err(|_| StoreError::Corrupt("a statement's number"))?;
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    let failures = serde_json::to_value(failures).map_err(|_| StoreError::Corrupt("a statement's failures"))?;
    sqlx::query!(
        "insert into trust_statements (sequence, blueprint, scope, issued_at, expires_at, binary_sha256, envelope, kept, failures, published_by) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        sequence,
        statement.blueprint,
        statement.scope.as_str(),
        statement.issued_at,
        statement.expires_at,
        statement.build.binary_sha256,
        envelope,
        &kept,
        failures,
        by,
    )
    .execute(installation.sql())
    .await?;
    Ok(())
}

impl Lookup {
    /// What there is to be shown by a program of this SHA-256, in hexadecimal, for whoever has the statements up to this number already.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt`.
    pub async fn published(&self, known: Option<u64>, program: Option<&str>) -> Result<Published, StoreError> {
        let known = known.and_then(|known| i64::try_from(known).ok()).unwrap_or(0);
        let rows = sqlx::query!(
            "select newest, product as \"product!\", sequence, envelope, kept, failures from lookup_trust_statements($1, $2)",
            known,
            program.unwrap_or_default()
        )
        .fetch_all(&self.pool)
        .await?;
        let mut published = Published { newest: None, product: String::new(), statements: Vec::new() };
        for row in rows {
            published.newest = row.newest.and_then(|newest| u64::try_from(newest).ok());
            published.product = row.product;
            if let (Some(sequence), Some(envelope), Some(kept), Some(open)) =
                (row.sequence, row.envelope, row.kept, row.failures)
            {
                let sequence = u64::try_from(sequence).map_err(|_| StoreError::Corrupt("a statement's number"))?;
                published.statements.push(Stored { sequence, envelope, kept: ids(&kept)?, failures: failures(open)? });
            }
        }
        Ok(published)
    }
}

fn ids(texts: &[String]) -> Result<BTreeSet<ClaimId>, StoreError> {
    let id = |text: &String| text.parse().map_err(|_| StoreError::Corrupt("a statement's claims"));
    texts.iter().map(id).collect()
}

fn failures(json: serde_json::Value) -> Result<Failures, StoreError> {
    serde_json::from_value(json).map_err(|_| StoreError::Corrupt("a statement's failures"))
}
