//! What a route is: a row of the table in [`crate::routes`].
//!
//! A row begins with method and path, but is none before a guard was chosen: `with_key` (and then a permission, and where the
//! object's id comes from) or `open_to_all` (and then the reason). Only then can it be given a handler.

use std::{fmt, future::Future, marker::PhantomData, net::IpAddr, str::FromStr, sync::Arc};

use axum::{extract::Request, response::Response};
use domain::{id::RequestId, problem::Kind};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use service::{
    Action, App,
    action::{Listed, OfOperator},
};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    fga::{self, refusal},
    guard::{self, Caller},
    input::{BodySchema, Input, Query, Reader, Takes},
    pages,
    problem::Problem,
    sample::Sample,
};

/// The method of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// GET; HEAD with it, where nothing is changed.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// Whatever the platform's own API uses.
    Any,
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Somebody with an API key, by the permission of this name.
    ApiKey(&'static str),
    /// One of the operator's persons with a key of his own, by the permission of this name.
    Operator(&'static str),
    /// Everybody, and why.
    Public(&'static str),
}

/// Where the id of the object comes from, on which the permission is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFrom {
    /// It is the workspace of the caller's credential.
    CallersWorkspace,
    /// A capture of the path.
    Path(&'static str),
    /// A JSON pointer into the body.
    Body(&'static str),
    /// It is the installation itself.
    Installation,
    /// There is none: the route asks for no permission.
    None,
}

/// What a request to the route leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Nothing: it changes nothing.
    Nothing,
    /// An entry of the audit trail with this event.
    Audit(&'static str),
    /// An entry of the installation's trail with this event.
    InstallationAudit(&'static str),
    /// A row that is itself the record of who did what, when: it says which.
    Row(&'static str),
}

impl Record {
    /// The audit event, where there is one.
    pub fn audit_event(self) -> Option<&'static str> {
        match self {
            Self::Audit(event) | Self::InstallationAudit(event) => Some(event),
            Self::Nothing | Self::Row(_) => None,
        }
    }
}

/// What a route answers when it goes well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answers {
    pub(crate) status: u16,
    pub(crate) shape: Shape,
}

/// The shape of an answer, for the document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Nothing but the status (and headers).
    Empty,
    /// JSON of this schema; a list of such, if so.
    Json { name: fn() -> String, collect: fn(&mut Vec<(String, RefOr<Schema>)>), list: bool },
    /// Something of this media type.
    Media(&'static str),
}

/// What a handler of a public route is given.
pub(crate) struct Visit<I> {
    pub(crate) input: I,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: IpAddr,
    pub(crate) request: RequestId,
}

type Run = Box<dyn Fn(Arc<App>, Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// A row of the table.
pub struct Route {
    /// Its method.
    pub method: Verb,
    /// Its path, captures in braces.
    pub path: &'static str,
    /// What it is for, in a few words.
    pub summary: &'static str,
    /// Who may come in.
    pub guard: Guard,
    /// What this permission needs of its object; none behind a public row.
    pub needs: Option<Listed>,
    /// Where the object's id comes from.
    pub object: ObjectFrom,
    /// What it leaves behind.
    pub record: Record,
    /// One valid request.
    pub sample: Sample,
    /// Whether its answers are for people, and its refusals pages.
    pub(crate) is_page: bool,
    pub(crate) takes: Takes,
    pub(crate) query: Query,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) schema: Option<BodySchema>,
    pub(crate) answers: Answers,
    #[cfg(test)]
    pub(crate) reads: fn(&crate::input::Arrived) -> Result<(), Problem>,
    #[cfg(test)]
    pub(crate) asks: fn(&crate::input::Arrived) -> std::collections::BTreeSet<&'static str>,
    run: Run,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} ({:?})", self.method, self.path, self.guard)
    }
}

/// A row without a guard: no row yet.
pub(crate) struct Place {
    method: Verb,
    path: &'static str,
    summary: &'static str,
}

pub(crate) fn get(path: &'static str, summary: &'static str) -> Place {
    Place { method: Verb::Get, path, summary }
}

pub(crate) fn post(path: &'static str, summary: &'static str) -> Place {
    Place { method: Verb::Post, path, summary }
}

pub(crate) fn put(path: &'static str, summary: &'static str) -> Place {
    Place { method: Verb::Put, path, summary }
}

pub(crate) fn delete(path: &'static str, summary: &'static str) -> Place {
    Place { method: Verb::Delete, path, summary }
}

pub(crate) fn any(path: &'static str, summary: &'static str) -> Place {
    Place { method: Verb::Any, path, summary }
}

impl Place {
    /// Behind an API key and this permission on this object.
    pub(crate) fn with_key<A: Action>(self, _permission: A, object: ObjectFrom) -> Guarded<A> {
        Guarded { place: self, object, action: PhantomData }
    }

    /// Behind a key of one of the operator's persons and this permission on this object.
    pub(crate) fn with_operator_key<A: OfOperator>(self, _permission: A, object: ObjectFrom) -> GuardedForOperator<A> {
        GuardedForOperator { place: self, object, action: PhantomData }
    }

    /// Open to everybody, for this reason.
    pub(crate) fn open_to_all(self, why: &'static str) -> Open {
        Open { place: self, why, page: false }
    }
}

/// A row behind an API key that has no handler yet.
pub(crate) struct Guarded<A> {
    place: Place,
    object: ObjectFrom,
    action: PhantomData<A>,
}

impl<A: Action> Guarded<A>
where
    A::Object: FromStr,
{
    pub(crate) fn reads<I, F, Fut>(self, handler: F) -> Route
    where
        I: Input,
        F: Fn(Arc<App>, Caller<A>, I) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        self.leaving(Record::Nothing, handler)
    }

    pub(crate) fn leaving<I, F, Fut>(self, record: Record, handler: F) -> Route
    where
        I: Input,
        F: Fn(Arc<App>, Caller<A>, I) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        let (object, is_openfga) = (self.object, fga::is_ours(self.place.path));
        let run: Run = Box::new(move |app, request| {
            let handler = handler.clone();
            Box::pin(async move {
                let id = request.extensions().get::<RequestId>().copied();
                let answer = async {
                    refuse_head(&request, record)?;
                    let (caller, arrived) = guard::admit::<A>(&app, request, object, I::TAKES).await?;
                    let input = Reader::read::<I>(&arrived)?;
                    drop(arrived);
                    handler(Arc::clone(&app), caller, input).await
                };
                let answer = answer.await;
                answer.unwrap_or_else(|problem| {
                    let id = id.unwrap_or_else(|| RequestId::new(&app.clock));
                    if is_openfga {
                        refusal::respond(&problem, id, &app.clock)
                    } else {
                        problem.respond(id, &app.clock)
                    }
                })
            })
        });
        Route { needs: Some(Listed::of::<A>()), ..row::<I>(&self.place, Guard::ApiKey(A::NAME), object, record, run) }
    }
}

/// A row behind an operator's key that has no handler yet.
pub(crate) struct GuardedForOperator<A> {
    place: Place,
    object: ObjectFrom,
    action: PhantomData<A>,
}

impl<A: OfOperator> GuardedForOperator<A>
where
    A::Object: FromStr,
{
    /// Every use leaves an entry in the installation's trail, also one that only reads.
    pub(crate) fn leaving<I, F, Fut>(self, event: &'static str, handler: F) -> Route
    where
        I: Input,
        F: Fn(Arc<App>, Caller<A>, I) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        let (object, record) = (self.object, Record::InstallationAudit(event));
        let run: Run = Box::new(move |app, request| {
            let handler = handler.clone();
            Box::pin(async move {
                let id = request.extensions().get::<RequestId>().copied();
                let answer = async {
                    refuse_head(&request, record)?;
                    let (caller, arrived) = guard::admit_operator::<A>(&app, request, object, I::TAKES).await?;
                    let input = Reader::read::<I>(&arrived)?;
                    drop(arrived);
                    handler(Arc::clone(&app), caller, input).await
                };
                let answer = answer.await;
                answer.unwrap_or_else(|problem| {
                    problem.respond(id.unwrap_or_else(|| RequestId::new(&app.clock)), &app.clock)
                })
            })
        });
        Route { needs: Some(Listed::of::<A>()), ..row::<I>(&self.place, Guard::Operator(A::NAME), object, record, run) }
    }
}

/// A public row that has no handler yet.
pub(crate) struct Open {
    place: Place,
    why: &'static str,
    page: bool,
}

impl Open {
    /// Its refusals are pages for people.
    pub(crate) fn for_people(mut self) -> Self {
        self.page = true;
        self
    }

    pub(crate) fn reads<I, F, Fut>(self, handler: F) -> Route
    where
        I: Input,
        F: Fn(Arc<App>, Visit<I>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        self.leaving(Record::Nothing, handler)
    }

    pub(crate) fn leaving<I, F, Fut>(self, record: Record, handler: F) -> Route
    where
        I: Input,
        F: Fn(Arc<App>, Visit<I>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response, Problem>> + Send + 'static,
    {
        let page = self.page;
        let run: Run = Box::new(move |app, request| {
            let handler = handler.clone();
            Box::pin(async move {
                let id = request.extensions().get::<RequestId>().copied();
                let id = id.unwrap_or_else(|| RequestId::new(&app.clock));
                let answer = async {
                    refuse_head(&request, record)?;
                    let peer = guard::peer(request.extensions());
                    let arrived = guard::visit(request, I::TAKES).await?;
                    let input = Reader::read::<I>(&arrived)?;
                    handler(Arc::clone(&app), Visit { input, headers: arrived.headers, peer, request: id }).await
                };
                match answer.await {
                    Ok(response) => response,
                    Err(problem) if page => pages::refusal(&problem, id, &app.clock),
                    Err(problem) => problem.respond(id, &app.clock),
                }
            })
        });
        Route { is_page: page, ..row::<I>(&self.place, Guard::Public(self.why), ObjectFrom::None, record, run) }
    }
}

/// HEAD stands for GET only where GET changes nothing: a preview of an address must not use it up.
fn refuse_head(request: &Request, record: Record) -> Result<(), Problem> {
    if request.method() == Method::HEAD
        && record != Record::Nothing
        && request.extensions().get::<AnyMethod>().is_none()
    {
        return Err(Problem::new(Kind::MethodNotAllowed).allowing("GET"));
    }
    Ok(())
}

/// Marks a request to a row that takes any method: HEAD is one of them.
#[derive(Clone, Copy)]
pub(crate) struct AnyMethod;

fn row<I: Input>(place: &Place, guard: Guard, object: ObjectFrom, record: Record, run: Run) -> Route {
    let Place { method, path, summary } = *place;
    Route {
        method,
        path,
        summary,
        guard,
        needs: None,
        object,
        record,
        sample: Sample::new(match method {
            Verb::Get => "GET",
            Verb::Post | Verb::Any => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
        }),
        is_page: false,
        takes: I::TAKES,
        query: I::QUERY,
        headers: I::HEADERS,
        schema: I::SCHEMA,
        answers: Answers { status: 200, shape: Shape::Empty },
        #[cfg(test)]
        reads: |arrived| Reader::read::<I>(arrived).map(drop),
        #[cfg(test)]
        asks: |arrived| {
            let mut reader = Reader::new(arrived);
            let _faulty = I::read(&mut reader);
            reader.asked
        },
        run,
    }
}

impl Route {
    /// Answers a request that was routed here.
    pub(crate) fn run(&self, app: Arc<App>, mut request: Request) -> BoxFuture<'static, Response> {
        if self.method == Verb::Any {
            request.extensions_mut().insert(AnyMethod);
        }
        (self.run)(app, request)
    }

    /// With this valid request.
    pub(crate) fn sample(mut self, fill: impl FnOnce(Sample) -> Sample) -> Self {
        self.sample = fill(self.sample);
        self
    }

    /// Answers this JSON.
    pub(crate) fn answers<T: ToSchema>(mut self, status: u16) -> Self {
        self.answers = Answers { status, shape: json::<T>(false) };
        self
    }

    /// Answers a page of a list of these.
    pub(crate) fn answers_list<T: ToSchema>(mut self) -> Self {
        self.answers = Answers { status: 200, shape: json::<T>(true) };
        self
    }

    /// Answers something of a media type.
    pub(crate) fn answers_media(mut self, media: &'static str) -> Self {
        self.answers = Answers { status: 200, shape: Shape::Media(media) };
        self
    }

    /// Answers a status alone.
    pub(crate) fn answers_status(mut self, status: u16) -> Self {
        self.answers = Answers { status, shape: Shape::Empty };
        self
    }

    /// Whether a request with this route's method changes something.
    pub fn changes(&self) -> bool {
        self.record != Record::Nothing
    }
}

fn json<T: ToSchema>(list: bool) -> Shape {
    Shape::Json { name: || T::name().into_owned(), collect: collect::<T>, list }
}

/// Collects a schema with all that it refers to.
pub(crate) fn collect<T: ToSchema>(into: &mut Vec<(String, RefOr<Schema>)>) {
    T::schemas(into);
    into.push((T::name().into_owned(), T::schema()));
}
