//! Relationships to an object: who stands how to it.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use domain::{
    id::ObjectId,
    object::{Subject, is_name},
};
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
    input::{Input, Query, Reader, limit, members::members},
    problem::Problem,
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

members! {
    /// A relationship to be given.
    pub(crate) struct NewRelationship as NewRelationship {
        /// A relation that the model gives to objects of its type.
        relation: String,
        /// An API key's id; a role template's id, for whoever holds it; or an object's id, `#` and a relation, for whoever stands in that.
        #[schema(value_type = String)]
        subject: Subject,
    }
}

pub(crate) async fn add(
    app: Arc<App>,
    caller: Caller<ManageObject>,
    (One(object), NewRelationship { relation, subject }): (One, NewRelationship),
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

/// Which page of the relationships to an object.
pub(crate) struct Listing {
    object: ObjectId,
    after: Option<(String, Subject)>,
    limit: usize,
}

impl Input for Listing {
    const QUERY: Query = Query::Known(&[
        ("limit", "The most items, 1 to 100; 50 if not given."),
        ("before", "Only what stands behind the last item of the page that named this as its `next`."),
    ]);

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let object = from.path("id");
        let after = from.query("before").map(place);
        if after == Some(None) {
            from.fault("?before", "is what a page of this list named as its `next`");
        }
        let limit = limit(from);
        Some(Self { object: object?, after: after.flatten(), limit: limit? })
    }
}

/// Where a page ends, as its `next` says it: in an address no letter of it means anything else.
fn next((relation, subject): &(String, Subject)) -> String {
    format!("{relation}:{subject}").replace('#', ":")
}

/// What [`next`] says, read.
fn place(text: &str) -> Option<(String, Subject)> {
    let (relation, subject) = text.split_once(':').filter(|(relation, _)| is_name(relation))?;
    Some((relation.to_owned(), subject.replacen(':', "#", 1).parse().ok()?))
}

pub(crate) async fn list(
    app: Arc<App>,
    caller: Caller<ListRelationships>,
    Listing { object, after, limit }: Listing,
) -> Result<Response, Problem> {
    let found = relationship::list(&app, caller.principal(), object, (after.as_ref(), answer::and_one(limit))).await?;
    answer::page(found, limit, next, |(relation, subject)| view(object, relation, &subject))
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
        if !relation.as_deref().is_some_and(is_name) {
            from.fault("?relation", "has 1 to 50 small letters, digits, `_` and `-`");
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

#[cfg(test)]
mod tests {
    use domain::{
        clock::Clock,
        id::{KeyId, RoleTemplateId},
    };

    use super::*;

    #[test]
    fn a_pages_end_is_read_as_it_is_said_and_needs_no_escaping() {
        let clock = Clock::system();
        let object = ObjectId::new(&clock);
        for subject in [
            Subject::Key(KeyId::new(&clock)),
            Subject::Role(RoleTemplateId::new(&clock)),
            Subject::Members(object, "member-of_it".to_owned()),
        ] {
            let end = ("viewer".to_owned(), subject);
            let said = next(&end);
            assert!(said.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-:".contains(letter)), "{said}");
            assert_eq!(place(&said), Some(end));
        }
        for text in ["", "viewer", "viewer:", "viewer:anyone", "Viewer:key_1", ":", &format!("viewer:{object}")] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
