//! Acts, as they are read. Only the ledger writes them.

use domain::{
    act::{Act, State},
    id::{ActId, ConnectionId, DataKeyId, Id, MandateId},
};
use relation::action::{ReadActs, RevokeMandate};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{StoreError, Tenant};

struct Row {
    id: Uuid,
    principal: String,
    mandate_id: Uuid,
    connection_id: Uuid,
    action: String,
    state: String,
    status: Option<i16>,
    admitted_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Act {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: ActId::from_uuid(row.id),
            principal: row.principal,
            mandate: MandateId::from_uuid(row.mandate_id),
            connection: ConnectionId::from_uuid(row.connection_id),
            action: row.action,
            state: State::from_row(&row.state).ok_or(StoreError::Corrupt("an act's state"))?,
            status: row.status.and_then(|status| u16::try_from(status).ok()),
            admitted_at: row.admitted_at,
            ended_at: row.ended_at,
        })
    }
}

/// An answer that is kept sealed, for a replay.
pub struct KeptAnswer {
    /// The sealed status, content type and body.
    pub sealed: Vec<u8>,
    /// The data key that it is sealed under.
    pub key: DataKeyId,
}

/// One act.
///
/// # Errors
/// `NotFound`.
pub async fn get(tenant: &mut Tenant<ReadActs>, id: ActId) -> Result<Act, StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query_as!(
        Row,
        "select id, principal, mandate_id, connection_id, action, state, status, admitted_at, ended_at from acts \
         where workspace_id = $1 and id = $2",
        workspace,
        id.uuid(),
    )
    .fetch_one(tenant.sql())
    .await?
    .try_into()
}

/// The kept answer of an act; nothing, where it has none or no longer.
///
/// # Errors
/// `NotFound`.
pub async fn kept_answer(tenant: &mut Tenant<ReadActs>, id: ActId) -> Result<Option<KeptAnswer>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let row =
        sqlx::query!("select answer, answer_key from acts where workspace_id = $1 and id = $2", workspace, id.uuid())
            .fetch_one(tenant.sql())
            .await?;
    Ok(row.answer.zip(row.answer_key).map(|(sealed, key)| KeptAnswer { sealed, key: DataKeyId::from_uuid(key) }))
}

/// The newest acts before a given one, newest first; of one principal where it is given.
///
/// # Errors
/// `Unavailable`.
pub async fn list(
    tenant: &mut Tenant<ReadActs>,
    of: Option<&str>,
    before: Option<ActId>,
    most: i64,
) -> Result<Vec<Act>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query_as!(
        Row,
        "select id, principal, mandate_id, connection_id, action, state, status, admitted_at, ended_at from acts \
         where workspace_id = $1 and ($2::text is null or principal = $2) and ($3::uuid is null or id < $3) \
         order by id desc limit $4",
        workspace,
        of,
        before.map(Id::uuid),
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    rows.into_iter().map(Act::try_from).collect()
}

/// The acts under the revoked mandate that were admitted before and are still on their way. Asked in the revocation's own
/// transaction, which holds the head: nothing can be admitted meanwhile.
///
/// # Errors
/// `Unavailable`.
pub async fn in_flight(tenant: &mut Tenant<RevokeMandate>) -> Result<Vec<ActId>, StoreError> {
    let (workspace, mandate) = (tenant.workspace().uuid(), tenant.object());
    let rows = sqlx::query_scalar!(
        "select id from acts where workspace_id = $1 and mandate_id = $2 and state = 'admitted' order by id",
        workspace,
        mandate.uuid(),
    )
    .fetch_all(tenant.sql())
    .await?;
    Ok(rows.into_iter().map(ActId::from_uuid).collect())
}

/// Where these acts are.
///
/// # Errors
/// `Unavailable`; `Corrupt`.
pub async fn states(tenant: &mut Tenant<ReadActs>, acts: &[ActId]) -> Result<Vec<(ActId, State)>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let ids: Vec<Uuid> = acts.iter().map(|act| act.uuid()).collect();
    let rows = sqlx::query!(
        "select id, state from acts where workspace_id = $1 and id = any($2) order by id",
        workspace,
        &ids,
    )
    .fetch_all(tenant.sql())
    .await?;
    let state = |word: &str| State::from_row(word).ok_or(StoreError::Corrupt("an act's state"));
    rows.into_iter().map(|row| Ok((ActId::from_uuid(row.id), state(&row.state)?))).collect()
}
