//! Questions: check, batch check, expand, list objects, list users.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use axum::response::{IntoResponse, Response};
use domain::id::{RelationModelId, RelationStoreId};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use service::{
    App,
    action::ReadStores,
    fga::{self, Answer, Asked, Check, FgaError, Question, Relationship},
};
use utoipa::ToSchema;

use super::input::{
    Along, Anything, CheckKey, CheckKeyBody, Contextual, ContextualBody, Flag, Items, Tuple, TupleBody, consistency,
    members, model, text, tuples, word,
};
use crate::{
    answer,
    guard::Caller,
    input::{BodySchema, FromJson, Input, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// Says by which model a question was answered.
const MODEL: HeaderName = HeaderName::from_static("openfga-authorization-model-id");

/// Asks, and hands on the answer with the model that gave it.
async fn asked(
    app: &App,
    caller: &Caller<ReadStores>,
    (store, model): (RelationStoreId, Option<RelationModelId>),
    question: Question,
) -> Result<(Answer, RelationModelId), Problem> {
    Ok(fga::ask(app, caller.principal(), Asked { store, model, question }).await?)
}

fn answered(model: RelationModelId, body: &impl Serialize) -> Result<Response, Problem> {
    let mut response = answer::ok(body)?;
    if let Ok(model) = HeaderValue::from_str(&model.to_string()) {
        response.headers_mut().insert(MODEL, model);
    }
    Ok(response)
}

/// The engine has answered another question than was put.
fn confused() -> Problem {
    service::Refusal::Internal("an answer to another question", None).into()
}

/// A check.
#[derive(ToSchema)]
#[schema(as = FgaCheck)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct CheckBody {
    /// What is asked about.
    tuple_key: CheckKeyBody,
    /// Tuples that count for this question only.
    contextual_tuples: Option<ContextualBody>,
    /// What conditions are told.
    #[schema(value_type = Option<Object>)]
    context: Option<Map<String, Value>>,
    /// The model; the newest, where none is named.
    authorization_model_id: Option<String>,
    /// Accepted, and of no effect.
    trace: Option<bool>,
    /// Accepted, and of no effect: every answer is of the newest state.
    consistency: Option<String>,
}

/// A check, read.
pub(crate) struct CheckInput {
    store: RelationStoreId,
    model: Option<RelationModelId>,
    check: Check,
}

impl Input for CheckInput {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaCheck", collect::<CheckBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let key = body.required::<CheckKey>(from, "tuple_key");
        let along = Along::read(&mut body, from);
        let model = model(&mut body, from);
        let _trace = body.optional::<Flag>(from, "trace");
        consistency(&mut body, from);
        body.finish(from);
        let CheckKey(of) = key?;
        let check = Check { of, contextual: along.contextual, context: along.context };
        Some(Self { store: store?, model, check })
    }
}

/// The answer to a check.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaChecked)]
pub(crate) struct CheckView {
    /// Whether the user stands in the relation to the object.
    allowed: bool,
    /// Always empty.
    resolution: &'static str,
}

pub(crate) async fn check(app: Arc<App>, caller: Caller<ReadStores>, input: CheckInput) -> Result<Response, Problem> {
    let CheckInput { store, model, check } = input;
    let (Answer::Allowed(allowed), model) = asked(&app, &caller, (store, model), Question::Check(check)).await? else {
        return Err(confused());
    };
    answered(model, &CheckView { allowed, resolution: "" })
}

/// Several checks.
#[derive(ToSchema)]
#[schema(as = FgaBatch)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct BatchBody {
    /// 1 to 50.
    checks: Vec<ItemBody>,
    /// The model; the newest, where none is named.
    authorization_model_id: Option<String>,
    /// Accepted, and of no effect: every answer is of the newest state.
    consistency: Option<String>,
}

/// One of several checks.
#[derive(ToSchema)]
#[schema(as = FgaBatchItem)]
#[expect(dead_code, reason = "the shape of a part of the body, for the document")]
struct ItemBody {
    /// What is asked about.
    tuple_key: CheckKeyBody,
    /// Tuples that count for this check only.
    contextual_tuples: Option<ContextualBody>,
    /// What conditions are told.
    #[schema(value_type = Option<Object>)]
    context: Option<Map<String, Value>>,
    /// How its answer is called: 1 to 36 letters, digits and hyphens, another one for each.
    correlation_id: String,
}

struct Item {
    check: Check,
    name: String,
}

impl FromJson for Item {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let key = fields.required::<CheckKey>(from, "tuple_key");
        let along = Along::read(&mut fields, from);
        let (place, name) = (fields.at("correlation_id"), word(&mut fields, from, "correlation_id"));
        fields.finish(from);
        let is_known = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if name.as_ref().is_some_and(|name| name.len() > 36 || !name.chars().all(is_known)) {
            from.fault(place, "is 1 to 36 letters, digits and hyphens");
        }
        let CheckKey(of) = key?;
        Some(Self { check: Check { of, contextual: along.contextual, context: along.context }, name: name? })
    }
}

/// Several checks, read.
pub(crate) struct BatchInput {
    store: RelationStoreId,
    model: Option<RelationModelId>,
    items: Vec<Item>,
}

impl Input for BatchInput {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaBatch", collect::<BatchBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let items = body.required::<Items<Item>>(from, "checks");
        let model = model(&mut body, from);
        consistency(&mut body, from);
        body.finish(from);
        Some(Self { store: store?, model, items: items?.0 })
    }
}

/// The answers to several checks.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaBatchAnswers)]
pub(crate) struct BatchView {
    /// By their correlation ids.
    #[schema(value_type = Object)]
    result: BTreeMap<String, Value>,
}

pub(crate) async fn batch_check(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    input: BatchInput,
) -> Result<Response, Problem> {
    let BatchInput { store, model, items } = input;
    let (checks, names): (Vec<Check>, Vec<String>) = items.into_iter().map(|item| (item.check, item.name)).unzip();
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(FgaError::Invalid(format!("received duplicate correlation id: {twice}")).into());
    }
    let (Answer::Batch(answers), model) = asked(&app, &caller, (store, model), Question::Batch(checks)).await? else {
        return Err(confused());
    };
    let shown = answers.into_iter().map(|answer| match answer {
        Ok(allowed) => Ok(json!({ "allowed": allowed })),
        Err(error) => match error.refused() {
            Some(refused) => Ok(json!({ "error": { "input_error": refused.code, "message": error.words() } })),
            None => Err(Problem::from(error)),
        },
    });
    let shown: Result<Vec<Value>, Problem> = shown.collect();
    answered(model, &BatchView { result: names.into_iter().zip(shown?).collect() })
}

/// What is expanded.
#[derive(ToSchema)]
#[schema(as = FgaExpand)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct ExpandBody {
    /// Of which object, which relation.
    tuple_key: ExpandKeyBody,
    /// Tuples that count for this question only.
    contextual_tuples: Option<ContextualBody>,
    /// The model; the newest, where none is named.
    authorization_model_id: Option<String>,
    /// Accepted, and of no effect: every answer is of the newest state.
    consistency: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = FgaExpandKey)]
#[expect(dead_code, reason = "the shape of a part of the body, for the document")]
struct ExpandKeyBody {
    /// The relation.
    relation: String,
    /// `type:id`
    object: String,
}

struct ExpandKey {
    object: String,
    relation: String,
}

impl FromJson for ExpandKey {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let relation = word(&mut fields, from, "relation");
        let object = word(&mut fields, from, "object");
        // Clients that hold a whole tuple send its user along, which has no meaning here.
        let _user = text(&mut fields, from, "user");
        fields.finish(from);
        Some(Self { object: object?, relation: relation? })
    }
}

/// What is expanded, read.
pub(crate) struct ExpandInput {
    store: RelationStoreId,
    model: Option<RelationModelId>,
    key: ExpandKey,
    contextual: Vec<Relationship>,
}

impl Input for ExpandInput {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaExpand", collect::<ExpandBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let key = body.required::<ExpandKey>(from, "tuple_key");
        let contextual = body.optional::<Contextual>(from, "contextual_tuples");
        let model = model(&mut body, from);
        consistency(&mut body, from);
        body.finish(from);
        let contextual = contextual.map(|Contextual(tuples)| tuples).unwrap_or_default();
        Some(Self { store: store?, model, key: key?, contextual })
    }
}

/// How a relation comes about.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaTree)]
pub(crate) struct TreeView {
    /// The tree; its `root` has a name, and a leaf or an operator.
    #[schema(value_type = Object)]
    tree: Value,
}

pub(crate) async fn expand(app: Arc<App>, caller: Caller<ReadStores>, input: ExpandInput) -> Result<Response, Problem> {
    let ExpandInput { store, model, key: ExpandKey { object, relation }, contextual } = input;
    let question = Question::Expand { object, relation, contextual };
    let (Answer::Tree(node), model) = asked(&app, &caller, (store, model), question).await? else {
        return Err(confused());
    };
    answered(model, &TreeView { tree: json!({ "root": node.to_json() }) })
}

/// Which objects are listed.
#[derive(ToSchema)]
#[schema(as = FgaListObjects)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct ListObjectsBody {
    /// The type.
    r#type: String,
    /// The relation.
    relation: String,
    /// The user.
    user: String,
    /// Tuples that count for this question only.
    contextual_tuples: Option<ContextualBody>,
    /// What conditions are told.
    #[schema(value_type = Option<Object>)]
    context: Option<Map<String, Value>>,
    /// The model; the newest, where none is named.
    authorization_model_id: Option<String>,
    /// Accepted, and of no effect: every answer is of the newest state.
    consistency: Option<String>,
}

/// Which objects are listed, read.
pub(crate) struct ListObjectsInput {
    store: RelationStoreId,
    model: Option<RelationModelId>,
    question: Question,
}

impl Input for ListObjectsInput {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaListObjects", collect::<ListObjectsBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let object_type = word(&mut body, from, "type");
        let relation = word(&mut body, from, "relation");
        let user = word(&mut body, from, "user");
        let Along { contextual, context } = Along::read(&mut body, from);
        let model = model(&mut body, from);
        consistency(&mut body, from);
        body.finish(from);
        let (object_type, relation, user) = (object_type?, relation?, user?);
        let question = Question::ListObjects { object_type, relation, user, contextual, context };
        Some(Self { store: store?, model, question })
    }
}

/// Objects.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaObjects)]
pub(crate) struct ObjectsView {
    /// Sorted; at most 1,000.
    objects: Vec<String>,
}

async fn objects(
    app: &App,
    caller: &Caller<ReadStores>,
    input: ListObjectsInput,
) -> Result<(Vec<String>, RelationModelId), Problem> {
    let ListObjectsInput { store, model, question } = input;
    match asked(app, caller, (store, model), question).await? {
        (Answer::Objects(objects), model) => Ok((objects, model)),
        _ => Err(confused()),
    }
}

pub(crate) async fn list_objects(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    input: ListObjectsInput,
) -> Result<Response, Problem> {
    let (objects, model) = objects(&app, &caller, input).await?;
    answered(model, &ObjectsView { objects })
}

pub(crate) async fn streamed_list_objects(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    input: ListObjectsInput,
) -> Result<Response, Problem> {
    let (objects, model) = objects(&app, &caller, input).await?;
    let mut lines = String::new();
    for object in objects {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{}", json!({ "result": { "object": object } }));
    }
    let mut response = lines.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(model) = HeaderValue::from_str(&model.to_string()) {
        response.headers_mut().insert(MODEL, model);
    }
    Ok(response)
}

/// Which users are listed.
#[derive(ToSchema)]
#[schema(as = FgaListUsers)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct ListUsersBody {
    /// To which object they stand.
    object: ObjectBody,
    /// In which relation.
    relation: String,
    /// Just one: which users.
    user_filters: Vec<UserFilterBody>,
    /// Tuples that count for this question only.
    contextual_tuples: Option<Vec<TupleBody>>,
    /// What conditions are told.
    #[schema(value_type = Option<Object>)]
    context: Option<Map<String, Value>>,
    /// The model; the newest, where none is named.
    authorization_model_id: Option<String>,
    /// Accepted, and of no effect: every answer is of the newest state.
    consistency: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = FgaObject)]
#[expect(dead_code, reason = "the shape of a part of the body, for the document")]
struct ObjectBody {
    /// The type.
    r#type: String,
    /// The id.
    id: String,
}

#[derive(ToSchema)]
#[schema(as = FgaUserFilter)]
#[expect(dead_code, reason = "the shape of a part of the body, for the document")]
struct UserFilterBody {
    /// The users' type.
    r#type: String,
    /// Their relation, where usersets are asked for.
    relation: Option<String>,
}

struct Object(String);

impl FromJson for Object {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let type_name = word(&mut fields, from, "type");
        let id = word(&mut fields, from, "id");
        fields.finish(from);
        Some(Self(format!("{}:{}", type_name?, id?)))
    }
}

struct UserFilter {
    type_name: String,
    relation: Option<String>,
}

impl FromJson for UserFilter {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let type_name = word(&mut fields, from, "type");
        let relation = text(&mut fields, from, "relation");
        fields.finish(from);
        Some(Self { type_name: type_name?, relation })
    }
}

/// Which users are listed, read.
pub(crate) struct ListUsersInput {
    store: RelationStoreId,
    model: Option<RelationModelId>,
    question: Question,
}

impl Input for ListUsersInput {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaListUsers", collect::<ListUsersBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let object = body.required::<Object>(from, "object");
        let relation = word(&mut body, from, "relation");
        let filters = body.required::<Items<UserFilter>>(from, "user_filters");
        let contextual = body.optional::<Items<Tuple>>(from, "contextual_tuples");
        let context = body.optional::<Anything>(from, "context");
        let model = model(&mut body, from);
        consistency(&mut body, from);
        body.finish(from);
        let mut filters = filters?.0;
        if filters.len() != 1 {
            from.fault("/user_filters", "has just one item");
        }
        let UserFilter { type_name: user_type, relation: user_relation } = filters.pop()?;
        let Object(object) = object?;
        let question = Question::ListUsers {
            object,
            relation: relation?,
            user_type,
            user_relation,
            contextual: contextual.map(tuples).unwrap_or_default(),
            context: context.map(|Anything(context)| context),
        };
        Some(Self { store: store?, model, question })
    }
}

/// Users.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaUsers)]
pub(crate) struct UsersView {
    /// Each an `object`, a `userset`, or a `wildcard`; at most 1,000.
    #[schema(value_type = Vec<Object>)]
    users: Vec<Value>,
}

pub(crate) async fn list_users(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    ListUsersInput { store, model, question }: ListUsersInput,
) -> Result<Response, Problem> {
    let (Answer::Users(users), model) = asked(&app, &caller, (store, model), question).await? else {
        return Err(confused());
    };
    answered(model, &UsersView { users: users.iter().map(|user| shown(user)).collect() })
}

/// A user in the form of the answer.
fn shown(user: &str) -> Value {
    let (object, relation) = user.split_once('#').map_or((user, None), |(object, relation)| (object, Some(relation)));
    let (type_name, id) = object.split_once(':').unwrap_or((object, ""));
    match (relation, id) {
        (Some(relation), _) => json!({ "userset": { "type": type_name, "id": id, "relation": relation } }),
        (None, "*") => json!({ "wildcard": { "type": type_name } }),
        (None, _) => json!({ "object": { "type": type_name, "id": id } }),
    }
}
