//! Tuples: written, read, and what was written since.

use std::sync::Arc;

use axum::response::Response;
use domain::id::RelationStoreId;
use serde::Serialize;
use serde_json::Value;
use service::{
    App,
    action::{ReadStores, WriteTuples},
    fga::{self, Changes, ChangesWanted, FgaError, Filter, Page, Relationship},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::input::{
    Items, MOST_OF_A_PAGE, PAGE, Tuple, TupleBody, consistency, is_bounded, members, model, page, text, tuples,
};
use crate::{
    answer,
    guard::Caller,
    input::{BodySchema, FromJson, Input, Query, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// What is written and deleted. At most 100 tuples together.
#[derive(ToSchema)]
#[schema(as = FgaWrite)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct WriteBody {
    /// Tuples that are to be there.
    writes: Option<WritesBody>,
    /// Tuples that are to be gone.
    deletes: Option<DeletesBody>,
    /// The model that the writes must be of; the newest, where none is named.
    authorization_model_id: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = FgaWrites)]
#[expect(dead_code, reason = "the shape of a part of the body, for the document")]
struct WritesBody {
    /// The tuples.
    tuple_keys: Vec<TupleBody>,
    /// `ignore`: what is there already is passed over; `error`, or nothing: it is a fault.
    on_duplicate: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = FgaDeletes)]
#[expect(dead_code, reason = "the shape of a part of the body, for the document")]
struct DeletesBody {
    /// The tuples; their conditions do not count.
    tuple_keys: Vec<TupleBody>,
    /// `ignore`: what is not there is passed over; `error`, or nothing: it is a fault.
    on_missing: Option<String>,
}

/// Tuples of one kind, and whether what needs nothing is passed over.
struct Half<const WRITES: bool> {
    tuples: Vec<Relationship>,
    ignore: bool,
}

impl<const WRITES: bool> FromJson for Half<WRITES> {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let keys = fields.required::<Items<Tuple>>(from, "tuple_keys");
        let name = if WRITES { "on_duplicate" } else { "on_missing" };
        let place = fields.at(name);
        let ignore = match text(&mut fields, from, name).as_deref() {
            None | Some("error") => Some(false),
            Some("ignore") => Some(true),
            Some(_) => {
                from.fault(place, "is one of error, ignore");
                None
            }
        };
        fields.finish(from);
        let keys = tuples(keys?);
        if keys.is_empty() {
            from.fault(format!("{at}/tuple_keys"), "has at least one item");
        }
        Some(Self { tuples: keys, ignore: ignore? })
    }
}

/// What is written, with its store.
pub(crate) struct Write {
    store: RelationStoreId,
    changes: Changes,
}

impl Input for Write {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaWrite", collect::<WriteBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let writes = body.optional::<Half<true>>(from, "writes");
        let deletes = body.optional::<Half<false>>(from, "deletes");
        let model = model(&mut body, from);
        body.finish(from);
        let mut changes = Changes { model, ..Changes::default() };
        if let Some(Half { tuples, ignore }) = writes {
            (changes.writes, changes.ignore_duplicates) = (tuples, ignore);
        }
        if let Some(Half { tuples, ignore }) = deletes {
            (changes.deletes, changes.ignore_missing) = (tuples, ignore);
        }
        Some(Self { store: store?, changes })
    }
}

/// An answer that says nothing but that it was done.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaDone)]
pub(crate) struct Nothing {}

pub(crate) async fn write(
    app: Arc<App>,
    caller: Caller<WriteTuples>,
    Write { store, changes }: Write,
) -> Result<Response, Problem> {
    fga::write_tuples(&app, caller.principal(), store, &changes).await?;
    answer::ok(&Nothing {})
}

/// Which tuples are read.
#[derive(ToSchema)]
#[schema(as = FgaRead)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct ReadBody {
    /// All of the store where it is not there.
    tuple_key: Option<FilterBody>,
    /// 1 to 100; 50 if not given.
    page_size: Option<u64>,
    /// What the page before ended with.
    continuation_token: Option<String>,
    /// Accepted, and of no effect: what is read is the newest state.
    consistency: Option<String>,
}

/// Which tuples: of an object, or of a user with objects of a type (`document:`).
#[derive(ToSchema)]
#[schema(as = FgaFilter)]
#[expect(dead_code, reason = "the shape of a part of the body, for the document")]
struct FilterBody {
    /// `type:id`, `type:*`, or `type:id#relation`.
    user: Option<String>,
    /// The relation.
    relation: Option<String>,
    /// `type:id`, or `type:` for all of a type.
    object: Option<String>,
}

/// Which tuples are read, with their store.
pub(crate) struct Read {
    store: RelationStoreId,
    key: Key,
    size: usize,
    token: Option<String>,
}

/// A filter as it came.
#[derive(Default)]
struct Key {
    user: Option<String>,
    relation: Option<String>,
    object: Option<String>,
}

impl FromJson for Key {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let user = text(&mut fields, from, "user");
        let relation = text(&mut fields, from, "relation");
        let object = text(&mut fields, from, "object");
        fields.finish(from);
        Some(Self { user, relation, object })
    }
}

impl Input for Read {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaRead", collect::<ReadBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let mut body = from.body()?;
        let key = body.optional::<Key>(from, "tuple_key");
        let size = match body.optional::<u64>(from, "page_size").map(usize::try_from) {
            None => PAGE,
            Some(Ok(size)) if (1..=MOST_OF_A_PAGE).contains(&size) => size,
            Some(_) => {
                from.fault("/page_size", "is a whole number from 1 to 100");
                PAGE
            }
        };
        let token = text(&mut body, from, "continuation_token");
        consistency(&mut body, from);
        body.finish(from);
        is_bounded(token.as_ref(), "/continuation_token", from);
        Some(Self { store: store?, key: key.unwrap_or_default(), size, token })
    }
}

impl Key {
    /// Which tuples it means.
    fn filter(&self) -> Result<Filter<'_>, FgaError> {
        let Self { user, relation, object } = self;
        let (user, relation) = (user.as_deref(), relation.as_deref());
        let Some(object) = object.as_deref() else {
            return match (user, relation) {
                (None, None) => Ok(Filter::All),
                _ => Err(needs("the object type field is required")),
            };
        };
        match (object.split_once(':'), user) {
            (Some((type_name, "")), Some(user)) if !type_name.is_empty() => {
                Ok(Filter::User { user, type_name, relation })
            }
            (Some((_, "")), None) => Err(needs("both the object id and user cannot be empty")),
            (Some((type_name, _)), _) if !type_name.is_empty() => Ok(Filter::Object { object, relation, user }),
            _ => Err(needs("the object type field is required")),
        }
    }
}

fn needs(what: &str) -> FgaError {
    FgaError::Invalid(format!("the 'tuple_key' field was provided but {what}"))
}

/// The token of a page that ends with this tuple. `#` stands in no object, and `@` in no relation.
fn token_of(last: &Relationship) -> String {
    format!("{}#{}@{}", last.object, last.relation, last.user)
}

fn of_token(token: &str) -> Result<Relationship, FgaError> {
    let (object, rest) = token.split_once('#').ok_or(FgaError::InvalidToken)?;
    let (relation, user) = rest.split_once('@').ok_or(FgaError::InvalidToken)?;
    let is_whole = [object, relation, user].iter().all(|part| !part.is_empty()) && object.contains(':');
    if is_whole { Ok(Relationship::new(object, relation, user)) } else { Err(FgaError::InvalidToken) }
}

/// Tuples, a page of them.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaTuples)]
pub(crate) struct TuplesView {
    /// In an order that stays.
    tuples: Vec<StoredView>,
    /// What to give for the next page; empty where there is none.
    continuation_token: String,
}

/// A tuple, and when it was written.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaTuple)]
struct StoredView {
    /// The tuple.
    key: TupleBody,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

pub(crate) async fn read(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    Read { store, key, size, token }: Read,
) -> Result<Response, Problem> {
    let after = token.as_deref().map(of_token).transpose()?;
    let page = Page { after, most: size };
    let mut found = fga::read_tuples(&app, caller.principal(), store, key.filter()?, &page).await?;
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| more).map(|stored| token_of(&stored.tuple));
    let view = |stored: &fga::Stored| StoredView { key: TupleBody::from(&stored.tuple), timestamp: stored.written_at };
    answer::ok(&TuplesView { tuples: found.iter().map(view).collect(), continuation_token: last.unwrap_or_default() })
}

/// Which changes are read.
pub(crate) struct WantedChanges {
    store: RelationStoreId,
    type_name: Option<String>,
    since: Option<OffsetDateTime>,
    size: usize,
    token: Option<String>,
}

impl Input for WantedChanges {
    const QUERY: Query = Query::Known(&[
        ("type", "Only changes of objects of this type."),
        ("page_size", "The most items, 1 to 100; 50 if not given."),
        ("continuation_token", "What the page before ended with."),
        ("start_time", "Only changes since then, as RFC 3339 writes a time."),
    ]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let store = from.path("store");
        let type_name = from.query("type").map(str::to_owned).filter(|name| !name.is_empty());
        let is_none = |name: &str| {
            name.chars().count() > 254
                || name.contains([':', '#', '@'])
                || name.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        };
        if type_name.as_deref().is_some_and(is_none) {
            from.fault("?type", "has at most 254 characters, and no space, `:`, `#` or `@`");
        }
        let since = from.query("start_time").filter(|text| !text.is_empty());
        let since = since.map(|text| OffsetDateTime::parse(text, &Rfc3339));
        if let Some(Err(_)) = since {
            from.fault("?start_time", "is a time as RFC 3339 writes it, such as 2030-01-31T12:00:00Z");
        }
        let since = since.and_then(Result::ok);
        let (size, token) = page(from)?;
        Some(Self { store: store?, type_name, since, size, token })
    }
}

/// Changes, a page of them.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaChanges)]
pub(crate) struct ChangesView {
    /// The oldest first; perhaps fewer than were asked for, or none, though more come.
    changes: Vec<ChangeView>,
    /// What to give for what comes next: the same again, where nothing has come since.
    continuation_token: String,
}

/// One change.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaChange)]
struct ChangeView {
    /// The tuple.
    tuple_key: TupleBody,
    /// `TUPLE_OPERATION_WRITE` or `TUPLE_OPERATION_DELETE`.
    operation: &'static str,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

/// A place among the changes: revision, place, and the type that was asked for.
fn place_of(token: &str, type_name: Option<&str>) -> Result<(i64, i32), FgaError> {
    let (place, of) = token.split_once('|').ok_or(FgaError::InvalidToken)?;
    if of != type_name.unwrap_or_default() {
        return Err(FgaError::TokenOfAnotherType);
    }
    let (revision, place) = place.split_once('.').ok_or(FgaError::InvalidToken)?;
    let numbers = revision.parse().ok().zip(place.parse().ok());
    numbers.filter(|(revision, place)| *revision >= 0 && *place >= 0).ok_or(FgaError::InvalidToken)
}

pub(crate) async fn changes(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    wanted: WantedChanges,
) -> Result<Response, Problem> {
    let WantedChanges { store, type_name, since, size, token } = wanted;
    let type_name = type_name.as_deref();
    let place = token.as_deref().map(|token| place_of(token, type_name)).transpose()?;
    let (revision, place) = place.unwrap_or((0, 0));
    let after = fga::ChangePlace { revision, place };
    let most = i64::try_from(size).unwrap_or(i64::MAX);
    let wanted = ChangesWanted { after, type_name, since, most };
    let found = fga::read_changes(&app, caller.principal(), store, wanted).await?;
    let next = found.end.map(|end| format!("{}.{}|{}", end.revision, end.place, type_name.unwrap_or_default()));
    let view = |change: &fga::Change| ChangeView {
        tuple_key: TupleBody::from(&change.tuple),
        operation: if change.is_write { "TUPLE_OPERATION_WRITE" } else { "TUPLE_OPERATION_DELETE" },
        timestamp: change.changed_at,
    };
    answer::ok(&ChangesView {
        changes: found.changes.iter().map(view).collect(),
        continuation_token: next.or(token).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_what_a_page_ended_with() {
        for user in ["user:anne", "group:a@b#member", "user:*"] {
            let tuple = Relationship::new("document:1@x", "viewer", user);
            assert_eq!(of_token(&token_of(&tuple)).unwrap(), tuple);
        }
        for token in ["", "x", "a:b#c", "#@", "ab#c@d", "a:b#@c"] {
            assert!(of_token(token).is_err(), "{token}");
        }
        assert_eq!(place_of("12.3|", None).unwrap(), (12, 3));
        assert_eq!(place_of("12.3|document", Some("document")).unwrap(), (12, 3));
        assert!(matches!(place_of("12.3|document", None), Err(FgaError::TokenOfAnotherType)));
        for token in ["", "12", "12.3", "-1.0|", "x.y|", "1.99999999999|"] {
            assert!(matches!(place_of(token, None), Err(FgaError::InvalidToken)), "{token}");
        }
    }
}
