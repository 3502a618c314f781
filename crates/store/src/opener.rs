//! The opener: sealed credentials for acts, a batch at a time, on a connection of its own.
//!
//! Every act asks for one, so whoever waits at the moment is answered by one statement. It is the tenant's entrance all the same: a
//! permit opens it, its object is all that is asked for, and each workspace's rows are read under that workspace's signed context.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    clock::Clock,
    connection::State,
    id::{ConnectionId, DataKeyId, Id},
};
use relation::{Permit, action::OpenForAct};
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::{
    ContextKey, StoreError,
    context::{Backend, Kind},
    credential::{SealedField, Stored},
    tenant::backend,
    workspace::WrappedKey,
};

/// The most credentials of one statement.
const BATCH: usize = 64;
/// The most acts that wait; the next is told that the store is busy.
const QUEUE: usize = 4096;

/// What one act opens.
pub struct ForAct {
    /// The credential; its refresh token is left where it is.
    pub stored: Stored,
    /// The data key that it is sealed under.
    pub key: WrappedKey,
    /// Whether the facts that the permit was given by are those of the moment at which this was read.
    pub is_current: bool,
}

struct Waiting {
    permit: Permit<OpenForAct>,
    answer: oneshot::Sender<Result<ForAct, StoreError>>,
}

/// Reads sealed credentials for acts.
#[derive(Clone)]
pub struct Opener {
    pool: PgPool,
    key: Arc<ContextKey>,
    clock: Clock,
    requests: mpsc::Sender<Waiting>,
    queue: Arc<Mutex<Option<mpsc::Receiver<Waiting>>>>,
    /// Says that the login of the connection at hand is another now.
    turns: watch::Receiver<()>,
}

/// A connection with the pid of its backend, which its contexts are signed for.
struct Line {
    sql: PoolConnection<Postgres>,
    backend: Backend,
}

impl Opener {
    pub(crate) fn new(pool: PgPool, key: Arc<ContextKey>, clock: Clock, turns: watch::Receiver<()>) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        Self { pool, key, clock, requests, queue: Arc::new(Mutex::new(Some(queue))), turns }
    }

    /// The sealed credential of the connection that the permit's mandate opens.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Stale` for a permit that was carried too long; `Busy`; `Unavailable`.
    pub async fn credential(&self, permit: Permit<OpenForAct>) -> Result<ForAct, StoreError> {
        let (answer, found) = oneshot::channel();
        self.requests.try_send(Waiting { permit, answer }).map_err(|_| StoreError::Busy)?;
        found.await.map_err(|_| StoreError::Busy)?
    }

    /// Answers for as long as the process lives. Runs once; a second call has nothing to do.
    pub async fn run(mut self) {
        let Some(mut queue) = self.queue.lock().await.take() else { return };
        let mut line = None;
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                // A login that ends waits for no act: its connection goes back, and is closed there.
                Ok(()) = self.turns.changed() => {
                    line = None;
                    continue;
                }
                came = queue.recv_many(&mut batch, BATCH) => if came == 0 {
                    return;
                },
            }
            let (current, late): (Vec<_>, Vec<_>) =
                batch.drain(..).partition(|waiting: &Waiting| waiting.permit.is_live(&self.clock));
            for waiting in late {
                drop(waiting.answer.send(Err(StoreError::Stale)));
            }
            line = self.answer(line, current).await;
        }
    }

    /// Answers a batch; gives the connection back where it is still good.
    async fn answer(&self, line: Option<Line>, batch: Vec<Waiting>) -> Option<Line> {
        if batch.is_empty() {
            return line;
        }
        let had_rested = line.is_some();
        match self.try_answer(line, batch).await {
            Ok(line) => Some(line),
            // The connection may have died while it rested: that is nobody's failure yet.
            Err((batch, StoreError::Unavailable(_) | StoreError::Database(_))) if had_rested => {
                match self.try_answer(None, batch).await {
                    Ok(line) => Some(line),
                    Err((batch, error)) => refuse(batch, &error),
                }
            }
            Err((batch, error)) => refuse(batch, &error),
        }
    }

    async fn try_answer(&self, line: Option<Line>, batch: Vec<Waiting>) -> Result<Line, (Vec<Waiting>, StoreError)> {
        let mut line = match line {
            Some(line) if line.backend.is_believed(&self.clock) => line,
            Some(mut line) => match backend(&mut line.sql, &self.clock).await {
                Ok(asked) => Line { backend: asked, ..line },
                Err(error) => return Err((batch, error)),
            },
            None => match self.connect().await {
                Ok(line) => line,
                Err(error) => return Err((batch, error)),
            },
        };
        match self.ask(&mut line, &batch).await {
            Ok(mut found) => {
                for (place, waiting) in batch.into_iter().enumerate() {
                    drop(waiting.answer.send(found.remove(&place).ok_or(StoreError::NotFound)));
                }
                Ok(line)
            }
            Err(error) => Err((batch, error)),
        }
    }

    async fn connect(&self) -> Result<Line, StoreError> {
        let mut sql = self.pool.acquire().await?;
        let backend = backend(&mut sql, &self.clock).await?;
        Ok(Line { sql, backend })
    }

    async fn ask(&self, line: &mut Line, batch: &[Waiting]) -> Result<BTreeMap<usize, ForAct>, StoreError> {
        let Groups { contexts, from, to, mandates, places } = self.group(line.backend, batch);
        let rows = sqlx::query!(
            "select ord as \"ord!\", connection_id as \"connection_id!\", provider as \"provider!\", state as \"state!\", \
             sealed as \"sealed!\", version as \"version!\", expires_at, key_id as \"key_id!\", key_epoch as \"key_epoch!\", \
             key_wrapped as \"key_wrapped!\", epoch as \"epoch!\", revision as \"revision!\", \
             installation_revision as \"installation_revision!\" from sealed_at_head($1, $2, $3, $4)",
            &contexts,
            &from,
            &to,
            &mandates,
        )
        .fetch_all(&mut *line.sql)
        .await?;
        let mut found = BTreeMap::new();
        for row in rows {
            let place = usize::try_from(row.ord - 1).ok().and_then(|ord| places.get(ord)).copied();
            let asked = place.and_then(|place| Some((place, &batch.get(place)?.permit)));
            let (place, permit) = asked.ok_or(StoreError::Corrupt("a credential that was not asked for"))?;
            let is_current =
                (row.epoch, row.revision) == permit.at() && row.installation_revision == permit.installation_revision();
            let state = State::from_row(&row.state).ok_or(StoreError::Corrupt("a connection's state"))?;
            let id = DataKeyId::from_uuid(row.key_id);
            let stored = Stored {
                connection: ConnectionId::from_uuid(row.connection_id),
                provider: row.provider,
                state,
                access: SealedField { sealed: row.sealed, key: id },
                refresh: None,
                version: row.version,
                expires_at: row.expires_at,
            };
            let key = WrappedKey { id, epoch: row.key_epoch, wrapped: row.key_wrapped };
            found.insert(place, ForAct { stored, key, is_current });
        }
        Ok(found)
    }

    /// The batch by workspaces, each with its signed context.
    fn group(&self, backend: Backend, batch: &[Waiting]) -> Groups {
        let mut by_workspace: BTreeMap<Uuid, Vec<(usize, Uuid)>> = BTreeMap::new();
        for (place, waiting) in batch.iter().enumerate() {
            let (workspace, mandate) = (waiting.permit.workspace().uuid(), waiting.permit.object().uuid());
            by_workspace.entry(workspace).or_default().push((place, mandate));
        }
        let mut groups = Groups::default();
        for (workspace, members) in by_workspace {
            groups.contexts.push(self.key.sign(Kind::Workspace, workspace, backend, &self.clock));
            groups.from.push(ordinal(groups.mandates.len()) + 1);
            for (place, mandate) in members {
                groups.places.push(place);
                groups.mandates.push(mandate);
            }
            groups.to.push(ordinal(groups.mandates.len()));
        }
        groups
    }
}

/// A batch as the database's function takes it.
#[derive(Default)]
struct Groups {
    contexts: Vec<String>,
    from: Vec<i32>,
    to: Vec<i32>,
    mandates: Vec<Uuid>,
    /// The place in the batch of each mandate.
    places: Vec<usize>,
}

/// A batch is short: its places fit.
fn ordinal(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

fn refuse(batch: Vec<Waiting>, error: &StoreError) -> Option<Line> {
    tracing::warn!(acts = batch.len(), %error, "credentials could not be read");
    for waiting in batch {
        drop(waiting.answer.send(Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed))));
    }
    None
}
