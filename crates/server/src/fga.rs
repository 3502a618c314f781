//! OpenFGA's HTTP API under `/fga`: a team points its existing client here.
//!
//! A handler parses, calls one verb of [`service::fga`], renders as OpenFGA does. Refusals have OpenFGA's form too, whoever refuses:
//! see [`refusal`]. Input is read as strictly as everywhere: a field that OpenFGA does not know is a fault, since a slip in a word such as
//! `contextual_tuples` would else quietly change the answer.

mod assertions;
mod input;
mod models;
mod questions;
pub(crate) mod refusal;
mod stores;
mod tuples;

use serde_json::{Value, json};
use service::action::{ManageStores, ReadStores, WriteTuples};

use crate::route::{
    ObjectFrom::CallersWorkspace,
    Record::{Audit, Row},
    Route, delete, get, post, put,
};

/// What all addresses begin with.
const ROOT: &str = "/fga/";

/// Whether an address is one of OpenFGA's API.
pub(crate) fn is_ours(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// The rows of the table.
pub(crate) fn routes() -> Vec<Route> {
    [store_routes(), model_routes(), tuple_routes(), question_routes()].into_iter().flatten().collect()
}

fn store_routes() -> Vec<Route> {
    vec![
        post("/fga/stores", "Make a relation store")
            .with_key(ManageStores, CallersWorkspace)
            .leaving(Audit("relation_store.created"), stores::create)
            .answers::<stores::StoreView>(201)
            .sample(|it| it.json(json!({ "name": "a store" }))),
        get("/fga/stores", "The workspace's relation stores")
            .with_key(ReadStores, CallersWorkspace)
            .reads(stores::list)
            .answers::<stores::StoresView>(200)
            .sample(|it| it.query("page_size", "10")),
        get("/fga/stores/{store}", "One relation store")
            .with_key(ReadStores, CallersWorkspace)
            .reads(stores::get)
            .answers::<stores::StoreView>(200)
            .sample(|it| it.path("store", "{relation_store}")),
        delete("/fga/stores/{store}", "Delete a relation store with everything in it")
            .with_key(ManageStores, CallersWorkspace)
            .leaving(Audit("relation_store.deleted"), stores::delete)
            .answers_status(204)
            .sample(|it| it.path("store", "{relation_store}")),
    ]
}

fn model_routes() -> Vec<Route> {
    vec![
        post("/fga/stores/{store}/authorization-models", "Write a model, which is the newest from then on")
            .with_key(ManageStores, CallersWorkspace)
            .leaving(Audit("relation_model.written"), models::write)
            .answers::<models::WrittenView>(201)
            .sample(|it| it.path("store", "{relation_store}").json(example_model())),
        get("/fga/stores/{store}/authorization-models", "The models of a store, newest first")
            .with_key(ReadStores, CallersWorkspace)
            .reads(models::list)
            .answers::<models::ModelsView>(200)
            .sample(|it| it.path("store", "{relation_store}")),
        get("/fga/stores/{store}/authorization-models/{model}", "One model")
            .with_key(ReadStores, CallersWorkspace)
            .reads(models::get)
            .answers::<models::ModelAnswer>(200)
            .sample(|it| it.path("store", "{relation_store}").path("model", "{relation_model}")),
        get("/fga/stores/{store}/assertions/{model}", "What is expected of a model")
            .with_key(ReadStores, CallersWorkspace)
            .reads(assertions::read)
            .answers::<assertions::AssertionsView>(200)
            .sample(|it| it.path("store", "{relation_store}").path("model", "{relation_model}")),
        put("/fga/stores/{store}/assertions/{model}", "Say what is expected of a model")
            .with_key(ManageStores, CallersWorkspace)
            .leaving(Audit("relation_assertions.written"), assertions::write)
            .answers_status(204)
            .sample(|it| {
                it.path("store", "{relation_store}")
                    .path("model", "{relation_model}")
                    .json(json!({ "assertions": [{ "tuple_key": example_key(), "expectation": true }] }))
            }),
    ]
}

fn tuple_routes() -> Vec<Route> {
    vec![
        post("/fga/stores/{store}/write", "Write and delete tuples, all of them or none")
            .with_key(WriteTuples, CallersWorkspace)
            .leaving(Row("fga_changes"), tuples::write)
            .answers::<tuples::Nothing>(200)
            .sample(|it| {
                let key = json!({ "user": "user:{fresh}", "relation": "viewer", "object": "document:1" });
                it.path("store", "{relation_store}")
                    .json(json!({ "writes": { "tuple_keys": [key], "on_duplicate": "ignore" } }))
            }),
        post("/fga/stores/{store}/read", "The tuples of a store, as they were written")
            .with_key(ReadStores, CallersWorkspace)
            .reads(tuples::read)
            .answers::<tuples::TuplesView>(200)
            .sample(|it| it.path("store", "{relation_store}").json(json!({ "page_size": 10 }))),
        get("/fga/stores/{store}/changes", "What was written to a store and deleted from it, the oldest first")
            .with_key(ReadStores, CallersWorkspace)
            .reads(tuples::changes)
            .answers::<tuples::ChangesView>(200)
            .sample(|it| it.path("store", "{relation_store}").query("type", "document")),
    ]
}

fn question_routes() -> Vec<Route> {
    vec![
        post("/fga/stores/{store}/check", "Whether a user stands in a relation to an object")
            .with_key(ReadStores, CallersWorkspace)
            .reads(questions::check)
            .answers::<questions::CheckView>(200)
            .sample(|it| it.path("store", "{relation_store}").json(json!({ "tuple_key": example_key() }))),
        post("/fga/stores/{store}/batch-check", "Several checks of one state")
            .with_key(ReadStores, CallersWorkspace)
            .reads(questions::batch_check)
            .answers::<questions::BatchView>(200)
            .sample(|it| {
                let check = json!({ "tuple_key": example_key(), "correlation_id": "first" });
                it.path("store", "{relation_store}").json(json!({ "checks": [check] }))
            }),
        post("/fga/stores/{store}/expand", "How a relation to an object comes about, one level of it")
            .with_key(ReadStores, CallersWorkspace)
            .reads(questions::expand)
            .answers::<questions::TreeView>(200)
            .sample(|it| {
                let key = json!({ "relation": "viewer", "object": "document:1" });
                it.path("store", "{relation_store}").json(json!({ "tuple_key": key }))
            }),
        post("/fga/stores/{store}/list-objects", "To which objects of a type a user stands in a relation")
            .with_key(ReadStores, CallersWorkspace)
            .reads(questions::list_objects)
            .answers::<questions::ObjectsView>(200)
            .sample(|it| it.path("store", "{relation_store}").json(example_list())),
        post("/fga/stores/{store}/streamed-list-objects", "The same, one object a line")
            .with_key(ReadStores, CallersWorkspace)
            .reads(questions::streamed_list_objects)
            .answers_media("application/json")
            .sample(|it| it.path("store", "{relation_store}").json(example_list())),
        post("/fga/stores/{store}/list-users", "Which users stand in a relation to an object")
            .with_key(ReadStores, CallersWorkspace)
            .reads(questions::list_users)
            .answers::<questions::UsersView>(200)
            .sample(|it| {
                it.path("store", "{relation_store}").json(json!({
                    "object": { "type": "document", "id": "1" },
                    "relation": "viewer",
                    "user_filters": [{ "type": "user" }],
                }))
            }),
    ]
}

fn example_key() -> Value {
    json!({ "user": "user:anne", "relation": "viewer", "object": "document:1" })
}

fn example_list() -> Value {
    json!({ "type": "document", "relation": "viewer", "user": "user:anne" })
}

/// Users who view documents.
fn example_model() -> Value {
    json!({
        "schema_version": "1.1",
        "type_definitions": [
            { "type": "user" },
            {
                "type": "document",
                "relations": { "viewer": { "this": {} } },
                "metadata": { "relations": { "viewer": { "directly_related_user_types": [{ "type": "user" }] } } },
            },
        ],
    })
}
