//! Relationships to an object: who stands how to it.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::{id::ObjectId, object::Subject};
use http::StatusCode;
use serde::Serialize;
use service::{
    App,
    action::{ListRelationships, ManageObject},
    relationship,
};
use utoipa::ToSchema;

use crate::{
    answer,
    guard::Caller,
    input::{BodySchema, Input, Query, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// That a subject stands in a relation to an object.
#[derive(Serialize, ToSchema)]
#[schema(as = Relationship)]
pub(crate) struct RelationshipView {
    /// The object, `obj_…`.
    object: String,
    /// A relation that the model gives to objects of its type.
    relation: String,
    /// An API key's id; a role template's id, for whoever holds it; or an object's id, `#` and a relation, for whoever stands in that.
    subject: String,
}

/// A relationship to be given.
#[derive(ToSchema)]
#[schema(as = NewRelationship)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct RelationshipBody {
    /// A relation that the model gives to objects of its type.
    relation: String,
    /// An API key's id; a role template's id, for whoever holds it; or an object's id, `#` and a relation, for whoever stands in that.
    subject: String,
}

/// A relationship to be given, read.
pub(crate) struct NewRelationship {
    object: ObjectId,
    relation: String,
    subject: Subject,
}

impl Input for NewRelationship {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("NewRelationship", collect::<RelationshipBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let object = from.path("id");
        let mut body = from.body()?;
        let relation = body.required(from, "relation");
        let subject = body.required(from, "subject");
        body.finish(from);
        Some(Self { object: object?, relation: relation?, subject: subject? })
    }
}

pub(crate) async fn add(
    app: Arc<App>,
    caller: Caller<ManageObject>,
    NewRelationship { object, relation, subject }: NewRelationship,
) -> Result<Response, Problem> {
    relationship::add(&app, caller.principal(), object, (&relation, &subject)).await?;
    answer::json(StatusCode::CREATED, &view(object, relation, &subject))
}

fn view(object: ObjectId, relation: String, subject: &Subject) -> RelationshipView {
    RelationshipView { object: object.to_string(), relation, subject: subject.to_string() }
}

/// One object, by the path.
pub(crate) struct One(ObjectId);

impl Input for One {
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path("id").map(Self)
    }
}

pub(crate) async fn list(app: Arc<App>, caller: Caller<ListRelationships>, One(id): One) -> Result<Response, Problem> {
    let found = relationship::list(&app, caller.principal(), id).await?;
    let most = found.len();
    answer::page(found, most, |_| String::new(), |(relation, subject)| view(id, relation, &subject))
}

/// A relationship to be taken, read from path and query.
pub(crate) struct Taken {
    object: ObjectId,
    relation: String,
    subject: Subject,
}

impl Input for Taken {
    const QUERY: Query =
        Query::Known(&[("relation", "The relation."), ("subject", "Who stands in it, as the list names him.")]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let object = from.path("id");
        let relation = from.query("relation").map(str::to_owned);
        if relation.is_none() {
            from.fault("?relation", "is required");
        }
        let subject = match from.query("subject").map(str::parse) {
            Some(Ok(subject)) => Some(subject),
            Some(Err(error)) => {
                let error: domain::object::SubjectError = error;
                from.fault("?subject", error.to_string());
                None
            }
            None => {
                from.fault("?subject", "is required");
                None
            }
        };
        Some(Self { object: object?, relation: relation?, subject: subject? })
    }
}

pub(crate) async fn remove(
    app: Arc<App>,
    caller: Caller<ManageObject>,
    Taken { object, relation, subject }: Taken,
) -> Result<Response, Problem> {
    relationship::remove(&app, caller.principal(), object, (&relation, &subject)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
