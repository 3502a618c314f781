//! Assertions: what is expected of a model.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use service::{
    App,
    action::{ManageStores, ReadStores},
    fga::{self, Assertion},
};
use utoipa::ToSchema;

use super::{
    input::{Anything, CheckKey, CheckKeyBody, Flag, Items, Tuple, TupleBody, members, tuples},
    models::One,
};
use crate::{
    answer,
    guard::Caller,
    input::{BodySchema, FromJson, Input, Reader, Takes},
    problem::Problem,
    route::collect,
};

/// What is expected of a model.
#[derive(ToSchema)]
#[schema(as = FgaNewAssertions)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct AssertionsBody {
    /// At most 100; they take the place of those that were there.
    assertions: Vec<AssertionBody>,
}

/// One expectation.
#[derive(ToSchema)]
#[schema(as = FgaAssertion)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
struct AssertionBody {
    /// What would be asked.
    tuple_key: CheckKeyBody,
    /// What the answer should be.
    expectation: bool,
    /// Tuples that count for it only.
    contextual_tuples: Option<Vec<TupleBody>>,
    /// What conditions are told.
    #[schema(value_type = Option<Object>)]
    context: Option<Map<String, Value>>,
}

struct Expected(Assertion);

impl FromJson for Expected {
    fn from_json(value: &Value, at: &str, from: &mut Reader<'_>) -> Option<Self> {
        let mut fields = members(value, at, from)?;
        let key = fields.required::<CheckKey>(from, "tuple_key");
        let expectation = fields.required::<Flag>(from, "expectation");
        let contextual = fields.optional::<Items<Tuple>>(from, "contextual_tuples");
        let context = fields.optional::<Anything>(from, "context");
        fields.finish(from);
        let (CheckKey(of), Flag(expectation)) = (key?, expectation?);
        let contextual = contextual.map(tuples).unwrap_or_default();
        let mut json = Map::new();
        json.insert("tuple_key".to_owned(), json!({ "object": of.object, "relation": of.relation, "user": of.user }));
        json.insert("expectation".to_owned(), json!(expectation));
        if !contextual.is_empty() {
            let shown: Vec<TupleBody> = contextual.iter().map(TupleBody::from).collect();
            json.insert("contextual_tuples".to_owned(), json!(shown));
        }
        if let Some(Anything(context)) = context {
            json.insert("context".to_owned(), Value::Object(context));
        }
        Some(Self(Assertion { of, contextual, json: Value::Object(json) }))
    }
}

/// Assertions of a model, read.
pub(crate) struct NewAssertions {
    of: One,
    assertions: Vec<Assertion>,
}

impl Input for NewAssertions {
    const TAKES: Takes = Takes::Json;
    const SCHEMA: Option<BodySchema> = Some(("FgaNewAssertions", collect::<AssertionsBody>));

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let of = One::read(from);
        let mut body = from.body()?;
        let assertions = body.required::<Items<Expected>>(from, "assertions");
        body.finish(from);
        let assertions = assertions?.0.into_iter().map(|Expected(assertion)| assertion).collect();
        Some(Self { of: of?, assertions })
    }
}

pub(crate) async fn write(
    app: Arc<App>,
    caller: Caller<ManageStores>,
    NewAssertions { of: One { store, model }, assertions }: NewAssertions,
) -> Result<Response, Problem> {
    fga::write_assertions(&app, caller.principal(), store, model, assertions).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What is expected of a model.
#[derive(Serialize, ToSchema)]
#[schema(as = FgaAssertions)]
pub(crate) struct AssertionsView {
    /// The model.
    authorization_model_id: String,
    /// The assertions, as they were written.
    #[schema(value_type = Vec<Object>)]
    assertions: Value,
}

pub(crate) async fn read(
    app: Arc<App>,
    caller: Caller<ReadStores>,
    One { store, model }: One,
) -> Result<Response, Problem> {
    let assertions = fga::read_assertions(&app, caller.principal(), store, model).await?;
    answer::ok(&AssertionsView { authorization_model_id: model.to_string(), assertions })
}
