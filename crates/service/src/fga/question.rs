//! Questions: what a model and a store's tuples answer.
//!
//! One question is answered by one model and one state of the store. A small store is held in memory as it was at a revision; of a large
//! one the pages that a question needs are read, in one transaction that sees one state, and kept for those who ask at the same revision.
//! The revision is asked of the database each time. A question that needs more than its bounds ends with an error, never with an answer of
//! half the tuples; one that takes long has a place of its own, so that the others go on.

use std::{sync::Arc, time::Duration};

use domain::{
    id::{RelationModelId, RelationStoreId, WorkspaceId},
    principal::Principal,
};
use relation::{
    Relationship, Schema, Snapshot, StopSign, UserRef,
    action::ReadStores,
    condition::Context,
    expand::{self, Node},
    query::{Brought, CheckRequest, ExpandRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
    tuples::Tuples,
};
use store::{
    StoreError, Tenant,
    fga::{
        Standing,
        page::{Line, Room, Want},
    },
};
use tokio::sync::OwnedSemaphorePermit;

pub use super::cache::Bounds;
use super::{
    FgaError,
    cache::{Held, Place, State},
    model,
    paged::View,
    refused::store_or_not_found,
};
use crate::{App, Refusal, gateway::workspace_of};

/// What a question may take before it is one that takes long.
const QUICK: Limits = Limits { depth: 25, steps: 20_000, results: 1_000, contextual: 100, batch: 50 };
/// What all checks of a batch may take together where they may take long: so many times what one may.
const BATCH: usize = 4;
/// How often a permit is asked for again that the workspace has moved on from.
const TRIES: usize = 5;

/// A question whether a user stands in a relation to an object.
#[derive(Debug, Clone)]
pub struct Check {
    /// Which object, relation and user.
    pub of: Relationship,
    /// Tuples that count for this question only.
    pub contextual: Vec<Relationship>,
    /// What conditions are told.
    pub context: Option<Context>,
}

/// A question.
#[derive(Debug, Clone)]
pub enum Question {
    /// Whether a user stands in a relation to an object.
    Check(Check),
    /// Several of these, each with its own answer.
    Batch(Vec<Check>),
    /// How a relation to an object comes about.
    Expand {
        /// `type:id`
        object: String,
        /// The relation.
        relation: String,
        /// Tuples that count for this question only.
        contextual: Vec<Relationship>,
    },
    /// To which objects of a type a user stands in a relation.
    ListObjects {
        /// The type.
        object_type: String,
        /// The relation.
        relation: String,
        /// The user.
        user: String,
        /// Tuples that count for this question only.
        contextual: Vec<Relationship>,
        /// What conditions are told.
        context: Option<Context>,
    },
    /// Which users stand in a relation to an object.
    ListUsers {
        /// `type:id`
        object: String,
        /// The relation.
        relation: String,
        /// The type of the users.
        user_type: String,
        /// The relation of the users, where it is usersets that are asked for.
        user_relation: Option<String>,
        /// Tuples that count for this question only.
        contextual: Vec<Relationship>,
        /// What conditions are told.
        context: Option<Context>,
    },
}

/// What was answered.
#[derive(Debug)]
pub enum Answer {
    /// To a check.
    Allowed(bool),
    /// To each check of a batch, in their order.
    Batch(Vec<Result<bool, FgaError>>),
    /// To expand.
    Tree(Node),
    /// Objects, sorted.
    Objects(Vec<String>),
    /// Users, sorted.
    Users(Vec<String>),
}

/// A question to a store.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which store.
    pub store: RelationStoreId,
    /// By which model; the newest, where none is named.
    pub model: Option<RelationModelId>,
    /// The question.
    pub question: Question,
}

impl Question {
    fn kind(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Batch(_) => "batch-check",
            Self::Expand { .. } => "expand",
            Self::ListObjects { .. } => "list-objects",
            Self::ListUsers { .. } => "list-users",
        }
    }

    /// The names of objects that it comes with itself, and those of all users of a type.
    pub(super) fn names(&self) -> Vec<String> {
        let (mut written, mut tuples): (Vec<&str>, Vec<&Relationship>) = (Vec::new(), Vec::new());
        match self {
            Self::Check(Check { of, contextual, .. }) => tuples.extend(contextual.iter().chain([of])),
            Self::Batch(all) => tuples.extend(all.iter().flat_map(|asked| asked.contextual.iter().chain([&asked.of]))),
            Self::Expand { object: named, contextual, .. }
            | Self::ListObjects { user: named, contextual, .. }
            | Self::ListUsers { object: named, contextual, .. } => {
                written.push(named);
                tuples.extend(contextual);
            }
        }
        written.extend(tuples.into_iter().flat_map(|tuple| [tuple.object.as_str(), tuple.user.as_str()]));
        let objects = written.into_iter().filter_map(UserRef::parse);
        objects.flat_map(|user| [user.object.to_owned(), format!("{}:*", user.type_name())]).collect()
    }

    /// Puts it to tuples. A batch with a check that was too complex for these limits is one as a whole, unless they are the widest.
    fn put<T: Tuples>(&self, schema: &Schema, tuples: &T, limits: &Limits, stop: &StopSign) -> Result<Put, QueryError> {
        let stop = Some(stop);
        Ok(match self {
            Self::Check(asked) => Put::Allowed(check(schema, tuples, asked, (limits, stop))?),
            Self::Batch(all) => Put::Batch(batch(schema, tuples, all, (limits, stop))?),
            Self::Expand { object, relation, contextual } => {
                let brought = Brought { context: None, tuples: contextual, stop };
                Put::Tree(expand::expand(schema, tuples, ExpandRequest { object, relation, brought }, limits)?)
            }
            Self::ListObjects { object_type, relation, user, contextual, context } => {
                let brought = Brought { context: context.as_ref(), tuples: contextual, stop };
                let request = ListObjectsRequest { object_type, relation, user, brought };
                Put::Objects(relation::list_objects(schema, tuples, request, limits)?)
            }
            Self::ListUsers { object, relation, user_type, user_relation, contextual, context } => {
                let brought = Brought { context: context.as_ref(), tuples: contextual, stop };
                let user_relation = user_relation.as_deref();
                let request = ListUsersRequest { object, relation, user_type, user_relation, brought };
                Put::Users(relation::list_users(schema, tuples, request, limits)?)
            }
        })
    }
}

/// What a question may take that takes long.
fn long(bounds: Bounds) -> Limits {
    Limits { steps: bounds.steps, ..QUICK }
}

/// What each check of a batch may take: all of them together take no more than one question where it must be quick, and no more than a
/// few where it may take long.
fn of_batch(limits: &Limits, checks: usize) -> Limits {
    let all = if *limits == QUICK { QUICK.steps } else { limits.steps.saturating_mul(BATCH) };
    Limits { steps: limits.steps.min(all / checks.max(1)), ..*limits }
}

/// Each check with its own answer. Where tuples are missing, all that any of the checks lacks is found before it is said.
pub(super) fn batch<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    all: &[Check],
    (limits, stop): (&Limits, Option<&StopSign>),
) -> Result<Vec<Result<bool, QueryError>>, QueryError> {
    let each = of_batch(limits, all.len());
    let (mut answers, mut missing) = (Vec::with_capacity(all.len()), None);
    for asked in all {
        match check(schema, tuples, asked, (&each, stop)) {
            Err(QueryError::Stopped) => return Err(QueryError::Stopped),
            Err(QueryError::TooComplex) if *limits == QUICK => return Err(QueryError::TooComplex),
            Err(error @ QueryError::Read(_)) => missing = Some(error),
            answer => answers.push(answer),
        }
    }
    missing.map_or(Ok(answers), Err)
}

fn check<T: Tuples>(
    schema: &Schema,
    tuples: &T,
    asked: &Check,
    (limits, stop): (&Limits, Option<&StopSign>),
) -> Result<bool, QueryError> {
    let brought = Brought { context: asked.context.as_ref(), tuples: &asked.contextual, stop };
    let Relationship { object, relation, user, .. } = &asked.of;
    relation::check(schema, tuples, CheckRequest { object, relation, user, brought }, limits)
}

/// An answer as the engine gives it.
enum Put {
    Allowed(bool),
    Batch(Vec<Result<bool, QueryError>>),
    Tree(Node),
    Objects(Vec<String>),
    Users(Vec<String>),
}

impl From<Put> for Answer {
    fn from(put: Put) -> Self {
        match put {
            Put::Allowed(allowed) => Self::Allowed(allowed),
            Put::Batch(answers) => {
                Self::Batch(answers.into_iter().map(|answer| answer.map_err(FgaError::from)).collect())
            }
            Put::Tree(node) => Self::Tree(node),
            Put::Objects(objects) => Self::Objects(objects),
            Put::Users(users) => Self::Users(users),
        }
    }
}

/// Answers a question, and says by which model.
///
/// # Errors
/// `StoreNotFound`, `ModelNotFound`, `NoModel`; `Invalid` for a batch of none or too many; `Query`; `TookTooLong`.
pub async fn ask(app: &App, caller: &Principal, asked: Asked) -> Result<(Answer, RelationModelId), FgaError> {
    if let Question::Batch(checks) = &asked.question
        && (checks.is_empty() || (checks.len() > QUICK.batch && !domain::sabotaged!(RelationBatches)))
    {
        let (number, most) = (checks.len(), QUICK.batch);
        return Err(FgaError::Invalid(format!(
            "batchCheck received {number} checks, it takes at least one and at most {most}"
        )));
    }
    let (kind, began) = (asked.question.kind(), app.clock.since_boot());
    let answer = match tokio::time::timeout(app.fga.bounds.longest, answer(app, caller, asked)).await {
        Ok(answer) => answer,
        Err(_) => Err(FgaError::TookTooLong),
    };
    let took: Duration = app.clock.since_boot().saturating_sub(began);
    metrics::histogram!("keyholder_relation_question_seconds", "kind" => kind).record(took.as_secs_f64());
    if let Err(FgaError::TookTooLong | FgaError::Query(QueryError::TooComplex)) = &answer {
        metrics::counter!("keyholder_relation_questions_given_up_total", "kind" => kind).increment(1);
        tracing::info!(kind, "a question to a relation store was given up at its bound");
    }
    answer
}

async fn answer(app: &App, caller: &Principal, asked: Asked) -> Result<(Answer, RelationModelId), FgaError> {
    let Asked { store, model: named, question } = asked;
    let workspace = workspace_of(caller)?;
    let (mut tenant, _) = app.enter::<ReadStores>(caller, workspace, workspace).await?;
    let standing = store::fga::standing(&mut tenant, store).await.map_err(store_or_not_found)?;
    let id = named.or(standing.newest).ok_or_else(|| FgaError::NoModel(store.to_string()))?;
    let (found, epoch) = (model::find(app, &mut tenant, store, id).await?, tenant.epoch());
    tenant.finish().await?;
    let schema = model::schema(app, (store, epoch, id), found).await?;
    let (question, waiting) = (Arc::new(question), Waiting::default());
    let on_its_way = Asker { app, caller, workspace, store, schema, question, waiting };
    let put = match on_its_way.held(standing).await? {
        Some(held) => on_its_way.in_memory(held).await?,
        None => on_its_way.paged(standing.at).await?,
    };
    Ok((put.into(), id))
}

/// Whoever waits for an answer. Gone, it leaves the sign behind at which work for the answer ends.
#[derive(Default)]
struct Waiting(Arc<StopSign>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Counts work that ended because nobody waited for its answer any more.
fn told(kind: &'static str, outcome: Result<Put, QueryError>) -> Result<Put, QueryError> {
    if matches!(outcome, Err(QueryError::Stopped)) {
        metrics::counter!("keyholder_relation_questions_stopped_total", "kind" => kind).increment(1);
        tracing::debug!(kind, "a question to a relation store ended: nobody waited for it any more");
    }
    outcome
}

/// A question on its way.
struct Asker<'a> {
    app: &'a App,
    caller: &'a Principal,
    workspace: WorkspaceId,
    store: RelationStoreId,
    schema: Arc<Schema>,
    question: Arc<Question>,
    waiting: Waiting,
}

impl Asker<'_> {
    /// The store in memory, where it is or is worth being.
    async fn held(&self, standing: Standing) -> Result<Option<Arc<Held>>, FgaError> {
        let kept = &self.app.fga;
        if let Some(held) = kept.held(self.store, standing.at).await {
            return Ok(Some(held));
        }
        if !kept.is_worth_holding(self.store, standing.at, standing.tuples).await {
            return Ok(None);
        }
        let turn = kept.turns.get_with(self.store, async { Arc::default() }).await;
        let _turn = turn.lock().await;
        if let Some(held) = kept.held(self.store, standing.at).await {
            return Ok(Some(held));
        }
        let _place = kept.loading(standing.tuples).await?;
        let mut tenant = self.reading().await?;
        let standing = store::fga::standing(&mut tenant, self.store).await.map_err(store_or_not_found)?;
        let room = Room { tuples: usize::try_from(kept.bounds.held_tuples).unwrap_or(0), bytes: kept.bounds.bytes };
        let Some(tuples) = store::fga::page::all(&mut tenant, self.store, room).await? else {
            kept.is_too_large(self.store, standing.at).await;
            return Ok(None);
        };
        tenant.finish().await?;
        let made = kept.work(move || Snapshot::new(&tuples)).await?;
        let tuples = made.map_err(|fault| Refusal::internal("a snapshot of a store", fault))?;
        let held = Arc::new(Held { at: standing.at, tuples });
        kept.hold(self.store, Arc::clone(&held)).await;
        Ok(Some(held))
    }

    /// A transaction that sees one state.
    async fn reading(&self) -> Result<Tenant<ReadStores>, FgaError> {
        for _ in 0..TRIES {
            let (permit, facts) = self.app.permit::<ReadStores>(self.caller, self.workspace, self.workspace).await?;
            match self.app.store.enter_reading(permit).await {
                Err(StoreError::Stale) => self.app.store.snapshots.forget(&facts).await,
                entered => return Ok(entered?),
            }
        }
        Err(Refusal::Stale.into())
    }

    async fn in_memory(&self, held: Arc<Held>) -> Result<Put, FgaError> {
        let put = |limits: Limits| {
            let (schema, held, question) = (Arc::clone(&self.schema), Arc::clone(&held), Arc::clone(&self.question));
            let stop = Arc::clone(&self.waiting.0);
            move || told(question.kind(), question.put(&schema, &held.tuples, &limits, &stop))
        };
        match self.app.fga.work(put(QUICK)).await? {
            Err(QueryError::TooComplex) => {
                let place = self.app.fga.heavy_place().await?;
                Ok(self.app.fga.work_at(&place, put(long(self.app.fga.bounds))).await??)
            }
            answer => Ok(answer?),
        }
    }

    /// Puts the question to the pages that are there, and fetches what is missing, until nothing is.
    async fn paged(&self, at: State) -> Result<Put, FgaError> {
        let mut known = Known::new(at, self.app.fga.bounds, &self.question.names());
        let mut place = None;
        loop {
            let outcome = self.put(&mut known.view, place.as_ref()).await?;
            let (lacking, learnt) = (known.view.lacking(), known.view.learns());
            if !lacking.is_empty() {
                self.fetch(&mut known, lacking).await?;
            } else if !learnt {
                match outcome {
                    Err(QueryError::TooComplex) if place.is_none() => {
                        // Whoever waits for a place keeps no transaction from others: the next one says whether it sees the same state.
                        if let Some(reading) = known.reading.take() {
                            reading.tenant.finish().await?;
                        }
                        place = Some(self.app.fga.heavy_place().await?);
                    }
                    answer => return Ok(answer?),
                }
            }
        }
    }

    /// Puts the question to a view; it may take long where it has a place for that.
    async fn put(&self, view: &mut View, place: Option<&Place>) -> Result<Result<Put, QueryError>, FgaError> {
        let limits = if place.is_some() { long(self.app.fga.bounds) } else { QUICK };
        let (schema, question, given) = (Arc::clone(&self.schema), Arc::clone(&self.question), std::mem::take(view));
        let stop = Arc::clone(&self.waiting.0);
        let work = move || {
            let outcome = question.put(&schema, &given, &limits, &stop);
            (given, told(question.kind(), outcome))
        };
        let kept = &self.app.fga;
        let (back, outcome) = match place {
            None => kept.work(work).await?,
            Some(place) => kept.work_at(place, work).await?,
        };
        *view = back;
        Ok(outcome)
    }

    /// Adds the pages that are missing: those that are kept, then those of the database.
    async fn fetch(&self, known: &mut Known, wants: Vec<Want>) -> Result<(), FgaError> {
        let kept = &self.app.fga;
        known.pages += wants.len();
        if known.pages > kept.bounds.pages {
            return Err(FgaError::Query(QueryError::TooComplex));
        }
        let mut missing = Vec::new();
        for want in wants {
            match kept.pages.get(&(self.store, known.at, want.clone())).await {
                Some(lines) => known.add(&want, lines)?,
                None => missing.push(want),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if known.reading.is_none() {
            let place = Arc::clone(&kept.readers).acquire_owned().await.map_err(|_| Refusal::Unavailable(None))?;
            let mut tenant = self.reading().await?;
            let standing = store::fga::standing(&mut tenant, self.store).await.map_err(store_or_not_found)?;
            store::fga::by_index(&mut tenant).await?;
            known.reading = Some(Reading { tenant, _place: place });
            if standing.at != known.at {
                // What was added before is of an older state: it is asked for again, of this one.
                let (pages, reading) = (known.pages, known.reading.take());
                *known = Known { pages, reading, ..Known::new(standing.at, kept.bounds, &self.question.names()) };
                return Ok(());
            }
        }
        let Some(reading) = &mut known.reading else { return Ok(()) };
        let found = store::fga::page::fetch(&mut reading.tenant, self.store, &missing, known.room).await?;
        let found = found.ok_or(FgaError::Query(QueryError::TooComplex))?;
        metrics::counter!("keyholder_relation_pages_read_total")
            .increment(u64::try_from(found.len()).unwrap_or(u64::MAX));
        for (want, lines) in found {
            let lines: Arc<[Line]> = lines.into();
            kept.pages.insert((self.store, known.at, want.clone()), Arc::clone(&lines)).await;
            known.add(&want, lines)?;
        }
        kept.tell();
        Ok(())
    }
}

/// What a question knows of a large store by now.
struct Known {
    at: State,
    view: View,
    pages: usize,
    /// How much more it may know.
    room: Room,
    /// The transaction of the first page that was not kept; all others are read in it.
    reading: Option<Reading>,
}

/// A transaction with its place.
struct Reading {
    tenant: Tenant<ReadStores>,
    _place: OwnedSemaphorePermit,
}

impl Known {
    /// One that knows the names that the question comes with.
    fn new(at: State, bounds: Bounds, names: &[String]) -> Self {
        let room = Room { tuples: bounds.lines, bytes: bounds.bytes };
        Self { at, view: View::knowing(names), pages: 0, room, reading: None }
    }

    fn add(&mut self, want: &Want, lines: Arc<[Line]>) -> Result<(), FgaError> {
        if !lines.iter().all(|line| self.room.take(line.bytes())) {
            return Err(FgaError::Query(QueryError::TooComplex));
        }
        self.view.add(want, lines);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups that all are members of each other, where membership takes two things: it takes longer than anybody waits.
    fn tangle() -> (Schema, Snapshot) {
        let text = concat!(
            "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define cleared: [user, group#member]\n",
            "    define member: [user, group#member] but not cleared\n"
        );
        let schema = Schema::new(relation::language::read_model(text).unwrap()).unwrap();
        let pairs = (0..24).flat_map(|one| (0..24).map(move |other| (one, other)));
        let tuples: Vec<Relationship> = pairs
            .flat_map(|(one, other)| {
                let of = |name| Relationship::new(format!("group:{one}"), name, format!("group:{other}#member"));
                ["member", "cleared"].map(of)
            })
            .collect();
        (schema, Snapshot::new(&tuples).unwrap())
    }

    #[tokio::test]
    async fn work_ends_when_whoever_waited_for_it_is_gone() {
        let kept = super::super::Relations::new(Bounds::default());
        let (schema, tuples) = tangle();
        let of = Relationship::new("group:0", "member", "user:nobody");
        let question = Question::Check(Check { of, contextual: Vec::new(), context: None });
        let waiting = Waiting::default();
        let (stop, (tells, told_of)) = (Arc::clone(&waiting.0), std::sync::mpsc::channel());
        let endless = Limits { steps: usize::MAX, ..Limits::default() };
        let place = kept.heavy_place().await.unwrap();
        let work = kept.work_at(&place, move || {
            let outcome = told("check", question.put(&schema, &tuples, &endless, &stop));
            tells.send(matches!(outcome, Err(QueryError::Stopped))).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err(), "it goes on");
        drop(waiting);
        let ended = told_of.recv_timeout(Duration::from_mins(1));
        assert_eq!(ended, Ok(true), "it goes on though nobody waits");
    }

    #[test]
    fn a_batch_takes_no_more_than_one_quick_question_before_it_is_one_that_takes_long() {
        for checks in [1, 7, 50] {
            assert!(of_batch(&QUICK, checks).steps * checks <= QUICK.steps);
            assert!(of_batch(&Limits::default(), checks).steps * checks <= BATCH * Limits::default().steps);
        }
        assert_eq!(of_batch(&QUICK, 1), QUICK);
        assert_eq!(of_batch(&Limits::default(), 1), Limits::default());
    }
}
