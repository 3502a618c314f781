//! What is sealed in a workspace, walked in pages, and put in its place again under a newer data key.
//!
//! Bytes in, bytes out. [`COLUMNS`] is the list of all that is sealed; a test compares it with the catalogue, so that a column which is
//! added is not forgotten. A row that somebody else has changed meanwhile is left to him.

use std::time::Duration;

use domain::id::{ActId, ConnectionId, DataKeyId, Id, LinkId};
use relation::action::{Reseal, Rewrap};
use uuid::Uuid;

use crate::{StoreError, Tenant, epoch::interval, workspace::WrappedKey};

/// Every sealed column, as table and column.
pub const COLUMNS: [(&str, &str); 4] =
    [("credentials", "sealed"), ("retired_credentials", "sealed"), ("connect_links", "verifier"), ("acts", "answer")];

/// The kinds of sealed values, in the order in which they are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Credentials of connections.
    Credentials,
    /// Credentials that a renewed consent replaced, until they are revoked.
    Retired,
    /// PKCE verifiers of links under way.
    Verifiers,
    /// Kept answers of acts.
    Answers,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Credentials, Self::Retired, Self::Verifiers, Self::Answers];

    /// The number in the database.
    pub fn number(self) -> i16 {
        match self {
            Self::Credentials => 0,
            Self::Retired => 1,
            Self::Verifiers => 2,
            Self::Answers => 3,
        }
    }

    /// The kind that is walked next.
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step > self)
    }
}

/// A place in the walk: a kind of values, and the id of the last that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The kind.
    pub step: Step,
    /// The last that was seen.
    pub after: Option<Uuid>,
}

impl Place {
    /// Where a workspace begins.
    pub const BEGINNING: Self = Self { step: Step::Credentials, after: None };

    pub(crate) fn from_row(step: i16, after: Option<Uuid>) -> Result<Self, StoreError> {
        let step = Step::ALL.into_iter().find(|known| known.number() == step);
        Ok(Self { step: step.ok_or(StoreError::Corrupt("a rotation's step"))?, after })
    }
}

/// Where a value was found: what its seal is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A field of a connection's credential, or of one that a renewed consent replaced.
    Credential {
        /// The connection.
        connection: ConnectionId,
        /// Its provider's name.
        provider: String,
        /// The field's word.
        field: String,
        /// Whether it was replaced.
        retired: bool,
    },
    /// A link's verifier.
    Verifier(LinkId),
    /// An act's answer.
    Answer(ActId),
}

/// A sealed value, and the data key that it is sealed under.
#[derive(Debug, Clone)]
pub struct SealedValue {
    /// Where it was found.
    pub found: Found,
    /// The data key.
    pub key: DataKeyId,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// The credential's version; else 0.
    version: i64,
}

/// A page of the walk.
#[derive(Debug)]
pub struct Page {
    /// What is sealed under another key than the newest.
    pub values: Vec<SealedValue>,
    /// The last id that was looked at, where there may be more of this kind.
    pub more_after: Option<Uuid>,
}

/// The data keys of the permit's workspace that are wrapped under an older epoch, locked in the order of their ids.
///
/// # Errors
/// `Unavailable`.
pub async fn wrapped_before(tenant: &mut Tenant<Rewrap>, epoch: i64) -> Result<Vec<WrappedKey>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select id, epoch, wrapped from data_keys where workspace_id = $1 and epoch < $2 and wrapped <> '' order by id for no key update",
        workspace,
        epoch
    )
    .fetch_all(tenant.sql())
    .await?;
    let key = |(id, epoch, wrapped)| WrappedKey { id: DataKeyId::from_uuid(id), epoch, wrapped };
    Ok(rows.into_iter().map(|row| key((row.id, row.epoch, row.wrapped))).collect())
}

/// Puts data keys' new wrappings in place of those under the epochs beside them. How many: of the others, somebody else was first.
///
/// One statement for all of them, so that the epochs whose use it notes are locked once, in the order of their numbers.
///
/// # Errors
/// `Database` where the new epoch was retired; `Unavailable`.
pub async fn rewrap(tenant: &mut Tenant<Rewrap>, keys: &[(i64, WrappedKey)]) -> Result<u64, StoreError> {
    let workspace = tenant.workspace().uuid();
    let ids: Vec<Uuid> = keys.iter().map(|(_, key)| key.id.uuid()).collect();
    let from: Vec<i64> = keys.iter().map(|(from, _)| *from).collect();
    let to: Vec<i64> = keys.iter().map(|(_, key)| key.epoch).collect();
    let wrapped: Vec<Vec<u8>> = keys.iter().map(|(_, key)| key.wrapped.clone()).collect();
    let changed = sqlx::query!(
        "update data_keys k set epoch = x.epoch, wrapped = x.wrapped \
         from unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[]) x(id, was, epoch, wrapped) \
         where k.workspace_id = $1 and k.id = x.id and k.epoch = x.was and k.wrapped <> ''",
        workspace,
        &ids,
        &from,
        &to,
        &wrapped,
    )
    .execute(tenant.sql())
    .await?;
    Ok(changed.rows_affected())
}

/// Whether the permit's workspace has a data key of this generation or a newer one: the one that seals.
///
/// # Errors
/// `Unavailable`.
pub async fn newest_of_generation(
    tenant: &mut Tenant<Reseal>,
    generation: i64,
) -> Result<Option<DataKeyId>, StoreError> {
    let workspace = tenant.workspace().uuid();
    let id = sqlx::query_scalar!(
        "select id from data_keys where workspace_id = $1 and generation >= $2 order by generation desc limit 1",
        workspace,
        generation
    )
    .fetch_optional(tenant.sql())
    .await?;
    Ok(id.map(DataKeyId::from_uuid))
}

/// Gives the permit's workspace a data key of this generation, which seals from the commit on. The older ones only open.
///
/// # Errors
/// `Conflict` where another node was first; `Unavailable`.
pub async fn supersede(tenant: &mut Tenant<Reseal>, generation: i64, key: &WrappedKey) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "insert into data_keys (workspace_id, id, epoch, wrapped, generation, created_at) \
         values ($1, $2, $3, $4, $5, clock_timestamp())",
        workspace,
        key.id.uuid(),
        key.epoch,
        key.wrapped,
        generation,
    )
    .execute(tenant.sql())
    .await?;
    sqlx::query!(
        "update data_keys set idle_since = clock_timestamp() where workspace_id = $1 and generation < $2 and idle_since is null",
        workspace,
        generation
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// The next values of one kind that are sealed under another key than the newest, in the order of their ids.
///
/// # Errors
/// `Unavailable`.
pub async fn page(tenant: &mut Tenant<Reseal>, newest: DataKeyId, place: Place, most: i64) -> Result<Page, StoreError> {
    match place.step {
        Step::Credentials => credentials(tenant, newest, place.after, most).await,
        Step::Retired => retired(tenant, newest, place.after, most).await,
        Step::Verifiers => verifiers(tenant, newest, place.after, most).await,
        Step::Answers => answers(tenant, newest, place.after).await,
    }
}

/// A page, with the id to go on behind: that of the last row of a page which is full.
fn page_of(rows: Vec<(Uuid, SealedValue)>, most: i64) -> Page {
    let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= most);
    let more_after = rows.last().map(|(id, _)| *id).filter(|_| full);
    Page { values: rows.into_iter().map(|(_, value)| value).collect(), more_after }
}

/// A field of a credential, or of a retired one, with the provider that its seal is bound to.
struct CredentialRow {
    connection_id: Uuid,
    provider: String,
    field: String,
    data_key_id: Uuid,
    sealed: Vec<u8>,
    version: i64,
}

impl CredentialRow {
    /// The value, beside the id by which its page is ordered.
    fn found(self, retired: bool) -> (Uuid, SealedValue) {
        let Self { connection_id: id, provider, field, data_key_id, sealed, version } = self;
        let found = Found::Credential { connection: ConnectionId::from_uuid(id), provider, field, retired };
        (id, SealedValue { found, key: DataKeyId::from_uuid(data_key_id), sealed, version })
    }
}

/// A connection has two rows at most; the page goes on *at* its last connection, lest its second row be passed over. What was sealed
/// anew is not found again.
async fn credentials(
    tenant: &mut Tenant<Reseal>,
    newest: DataKeyId,
    from: Option<Uuid>,
    most: i64,
) -> Result<Page, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query_as!(
        CredentialRow,
        "select d.connection_id, c.provider, d.field, d.data_key_id, d.sealed, d.version \
         from credentials d join connections c on c.workspace_id = d.workspace_id and c.id = d.connection_id \
         where d.workspace_id = $1 and d.data_key_id <> $2 and ($3::uuid is null or d.connection_id >= $3) \
         order by d.connection_id, d.field limit $4",
        workspace,
        newest.uuid(),
        from,
        most.max(3),
    )
    .fetch_all(tenant.sql())
    .await?;
    let rows = rows.into_iter().map(|row| row.found(false));
    Ok(page_of(rows.collect(), most.max(3)))
}

/// As for credentials, the page goes on at its last connection.
async fn retired(
    tenant: &mut Tenant<Reseal>,
    newest: DataKeyId,
    from: Option<Uuid>,
    most: i64,
) -> Result<Page, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query_as!(
        CredentialRow,
        "select d.connection_id, c.provider, d.field, d.data_key_id, d.sealed, d.version \
         from retired_credentials d join connections c on c.workspace_id = d.workspace_id and c.id = d.connection_id \
         where d.workspace_id = $1 and d.data_key_id <> $2 and ($3::uuid is null or d.connection_id >= $3) \
         order by d.connection_id, d.version limit $4",
        workspace,
        newest.uuid(),
        from,
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    let rows = rows.into_iter().map(|row| row.found(true));
    Ok(page_of(rows.collect(), most))
}

async fn verifiers(
    tenant: &mut Tenant<Reseal>,
    newest: DataKeyId,
    after: Option<Uuid>,
    most: i64,
) -> Result<Page, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select id, verifier as \"verifier!\", verifier_key as \"verifier_key!\" from connect_links \
         where workspace_id = $1 and verifier_key <> $2 and verifier is not null and ($3::uuid is null or id > $3) \
         order by id limit $4",
        workspace,
        newest.uuid(),
        after,
        most,
    )
    .fetch_all(tenant.sql())
    .await?;
    let rows = rows.into_iter().map(|row| {
        let found = Found::Verifier(LinkId::from_uuid(row.id));
        (row.id, SealedValue { found, key: DataKeyId::from_uuid(row.verifier_key), sealed: row.verifier, version: 0 })
    });
    Ok(page_of(rows.collect(), most))
}

/// The most acts that one page looks at. Most of them hold no answer, or one under the newest key: an index that found the others would
/// cost every act that is settled.
const ACTS: i64 = 1000;

async fn answers(tenant: &mut Tenant<Reseal>, newest: DataKeyId, after: Option<Uuid>) -> Result<Page, StoreError> {
    let workspace = tenant.workspace().uuid();
    let rows = sqlx::query!(
        "select id, answer_key, case when answer_key <> $2 then answer end as answer from acts \
         where workspace_id = $1 and ($3::uuid is null or id > $3) order by id limit $4",
        workspace,
        newest.uuid(),
        after,
        ACTS,
    )
    .fetch_all(tenant.sql())
    .await?;
    let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= ACTS);
    let more_after = rows.last().map(|row| row.id).filter(|_| full);
    let values = rows.into_iter().filter_map(|row| {
        let (sealed, key) = row.answer.zip(row.answer_key)?;
        let found = Found::Answer(ActId::from_uuid(row.id));
        Some(SealedValue { found, key: DataKeyId::from_uuid(key), sealed, version: 0 })
    });
    Ok(Page { values: values.collect(), more_after })
}

/// Puts the values of one page in their places, sealed anew under the newest key. How many rows were changed: of the others, somebody
/// else has changed the row meanwhile, and what he wrote counts.
///
/// # Errors
/// `Unavailable`.
pub async fn put(
    tenant: &mut Tenant<Reseal>,
    newest: DataKeyId,
    values: Vec<(SealedValue, Vec<u8>)>,
) -> Result<u64, StoreError> {
    let columns = Columns::of(values);
    // One of the four has rows: a page is of one kind. Each locks its rows in the order in which everybody else takes them, before it
    // writes: an update takes them in whatever order it finds them, and two of them could wait for each other.
    let mut changed = 0;
    if !columns.credentials.ids.is_empty() {
        changed += put_credentials(tenant, newest, &columns.credentials).await?;
    }
    if !columns.retired.ids.is_empty() {
        changed += put_retired(tenant, newest, &columns.retired).await?;
    }
    if !columns.verifiers.ids.is_empty() {
        changed += put_verifiers(tenant, newest, &columns.verifiers, &columns.verifiers_before).await?;
    }
    if !columns.answers.ids.is_empty() {
        changed += put_answers(tenant, newest, &columns.answers).await?;
    }
    Ok(changed)
}

async fn put_credentials(tenant: &mut Tenant<Reseal>, newest: DataKeyId, rows: &Rows) -> Result<u64, StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "select field from credentials where workspace_id = $1 and connection_id = any ($2) order by connection_id, field for update",
        workspace,
        &rows.ids,
    )
    .fetch_all(tenant.sql())
    .await?;
    let put = sqlx::query!(
        "update credentials c set sealed = x.sealed, data_key_id = $7 \
         from unnest($2::uuid[], $3::text[], $4::bigint[], $5::uuid[], $6::bytea[]) x(id, field, version, key, sealed) \
         where c.workspace_id = $1 and c.connection_id = x.id and c.field = x.field and c.version = x.version \
           and c.data_key_id = x.key",
        workspace,
        &rows.ids,
        &rows.fields,
        &rows.versions,
        &rows.keys,
        &rows.sealed,
        newest.uuid(),
    )
    .execute(tenant.sql())
    .await?;
    Ok(put.rows_affected())
}

async fn put_retired(tenant: &mut Tenant<Reseal>, newest: DataKeyId, rows: &Rows) -> Result<u64, StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "select version from retired_credentials where workspace_id = $1 and connection_id = any ($2) \
         order by connection_id, version for update",
        workspace,
        &rows.ids,
    )
    .fetch_all(tenant.sql())
    .await?;
    let put = sqlx::query!(
        "update retired_credentials c set sealed = x.sealed, data_key_id = $6 \
         from unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::bytea[]) x(id, version, key, sealed) \
         where c.workspace_id = $1 and c.connection_id = x.id and c.version = x.version and c.data_key_id = x.key",
        workspace,
        &rows.ids,
        &rows.versions,
        &rows.keys,
        &rows.sealed,
        newest.uuid(),
    )
    .execute(tenant.sql())
    .await?;
    Ok(put.rows_affected())
}

async fn put_verifiers(
    tenant: &mut Tenant<Reseal>,
    newest: DataKeyId,
    rows: &Rows,
    before: &[Vec<u8>],
) -> Result<u64, StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "select id from connect_links where workspace_id = $1 and id = any ($2) order by id for no key update",
        workspace,
        &rows.ids,
    )
    .fetch_all(tenant.sql())
    .await?;
    let put = sqlx::query!(
        "update connect_links l set verifier = x.sealed, verifier_key = $6 \
         from unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::bytea[]) x(id, key, sealed, before) \
         where l.workspace_id = $1 and l.id = x.id and l.verifier_key = x.key and l.verifier = x.before",
        workspace,
        &rows.ids,
        &rows.keys,
        &rows.sealed,
        before,
        newest.uuid(),
    )
    .execute(tenant.sql())
    .await?;
    Ok(put.rows_affected())
}

async fn put_answers(tenant: &mut Tenant<Reseal>, newest: DataKeyId, rows: &Rows) -> Result<u64, StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "select id from acts where workspace_id = $1 and id = any ($2) order by id for no key update",
        workspace,
        &rows.ids,
    )
    .fetch_all(tenant.sql())
    .await?;
    let put = sqlx::query!(
        "update acts a set answer = x.sealed, answer_key = $5 from unnest($2::uuid[], $3::uuid[], $4::bytea[]) x(id, key, sealed) \
         where a.workspace_id = $1 and a.id = x.id and a.answer_key = x.key",
        workspace,
        &rows.ids,
        &rows.keys,
        &rows.sealed,
        newest.uuid(),
    )
    .execute(tenant.sql())
    .await?;
    Ok(put.rows_affected())
}

/// Values as the statements take them, a column a vector.
#[derive(Default)]
struct Columns {
    credentials: Rows,
    retired: Rows,
    verifiers: Rows,
    /// A link may be followed again, under the same key: the verifier itself tells.
    verifiers_before: Vec<Vec<u8>>,
    answers: Rows,
}

#[derive(Default)]
struct Rows {
    ids: Vec<Uuid>,
    fields: Vec<String>,
    versions: Vec<i64>,
    keys: Vec<Uuid>,
    sealed: Vec<Vec<u8>>,
}

impl Columns {
    fn of(values: Vec<(SealedValue, Vec<u8>)>) -> Self {
        let mut columns = Self::default();
        for (value, sealed) in values {
            let (rows, id) = match value.found {
                Found::Credential { connection, retired: true, .. } => {
                    columns.retired.versions.push(value.version);
                    (&mut columns.retired, connection.uuid())
                }
                Found::Credential { connection, field, retired: false, .. } => {
                    columns.credentials.fields.push(field);
                    columns.credentials.versions.push(value.version);
                    (&mut columns.credentials, connection.uuid())
                }
                Found::Verifier(link) => {
                    columns.verifiers_before.push(value.sealed);
                    (&mut columns.verifiers, link.uuid())
                }
                Found::Answer(act) => (&mut columns.answers, act.uuid()),
            };
            rows.ids.push(id);
            rows.keys.push(value.key.uuid());
            rows.sealed.push(sealed);
        }
        columns
    }
}

/// Notes that something was found under these keys just now; `for_good`, that it does not open, and they must be kept.
///
/// # Errors
/// `Unavailable`.
pub async fn still_of_use(tenant: &mut Tenant<Reseal>, keys: &[DataKeyId], for_good: bool) -> Result<(), StoreError> {
    let workspace = tenant.workspace().uuid();
    let keys: Vec<Uuid> = keys.iter().map(|key| key.uuid()).collect();
    sqlx::query!(
        "update data_keys k set idle_since = case when $3 then 'infinity' else clock_timestamp() end \
         from (select id from data_keys where workspace_id = $1 and id = any ($2) and idle_since is not null \
           order by id for no key update) found where k.workspace_id = $1 and k.id = found.id",
        workspace,
        &keys,
        for_good,
    )
    .execute(tenant.sql())
    .await?;
    Ok(())
}

/// Deletes the permit's workspace's data keys under which nothing was found for `rest`. The caller has just walked everything that is
/// sealed here.
///
/// # Errors
/// `Unavailable`.
pub async fn delete_idle(tenant: &mut Tenant<Reseal>, rest: Duration) -> Result<u64, StoreError> {
    let workspace = tenant.workspace().uuid();
    sqlx::query!(
        "select id from data_keys where workspace_id = $1 and idle_since < clock_timestamp() - $2::interval order by id for update",
        workspace,
        interval(rest)?,
    )
    .fetch_all(tenant.sql())
    .await?;
    let gone = sqlx::query!(
        "delete from data_keys k where k.workspace_id = $1 and k.idle_since < clock_timestamp() - $2::interval \
           and not exists (select from credentials c where c.workspace_id = k.workspace_id and c.data_key_id = k.id) \
           and not exists (select from retired_credentials c where c.workspace_id = k.workspace_id and c.data_key_id = k.id) \
           and not exists (select from connect_links l where l.workspace_id = k.workspace_id and l.verifier_key = k.id)",
        workspace,
        interval(rest)?,
    )
    .execute(tenant.sql())
    .await?;
    // What still points at a key although the walk did not find it is looked for again after another rest, and not at once.
    sqlx::query!(
        "update data_keys set idle_since = clock_timestamp() where workspace_id = $1 and idle_since < clock_timestamp() - $2::interval",
        workspace,
        interval(rest)?
    )
    .execute(tenant.sql())
    .await?;
    Ok(gone.rows_affected())
}
