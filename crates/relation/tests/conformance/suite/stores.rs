//! Checks and lists: models, tuples and assertions, executed as upstream executes them.
//!
//! A store a test, its stages in order: each has a new model, and the tuples of the stages before it stay. Then every test of one
//! stage again, its tuples sent along with each question and none of them stored.

use std::{collections::BTreeSet, path::Path};

use keyholder_relation::{
    Relationship, Schema, Snapshot, UserRef, batch_check, check, language, list_objects, list_users,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Report, material, same};

/// A request brings no more tuples along than this.
const CONTEXTUAL: usize = 100;

#[derive(Deserialize)]
struct Suite {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stage {
    model: String,
    #[serde(default)]
    tuples: Option<Vec<Tuple>>,
    #[serde(default)]
    check_assertions: Option<Vec<CheckAssertion>>,
    #[serde(default)]
    list_objects_assertions: Option<Vec<ObjectsAssertion>>,
    #[serde(default)]
    list_users_assertions: Option<Vec<UsersAssertion>>,
}

#[derive(Deserialize, Clone)]
struct Tuple {
    object: String,
    relation: String,
    user: String,
    condition: Option<Condition>,
}

#[derive(Deserialize, Clone)]
struct Condition {
    name: String,
    context: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckAssertion {
    tuple: Tuple,
    #[serde(default)]
    contextual_tuples: Vec<Tuple>,
    context: Option<Map<String, Value>>,
    expectation: Option<bool>,
    error_code: Option<u16>,
}

#[derive(Deserialize)]
struct ObjectsRequest {
    user: String,
    #[serde(rename = "type")]
    object_type: String,
    relation: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectsAssertion {
    request: ObjectsRequest,
    #[serde(default)]
    contextual_tuples: Vec<Tuple>,
    context: Option<Map<String, Value>>,
    expectation: Option<Vec<String>>,
    error_code: Option<u16>,
}

#[derive(Deserialize)]
struct UsersRequest {
    filters: Vec<String>,
    object: String,
    relation: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsersAssertion {
    request: UsersRequest,
    #[serde(default)]
    contextual_tuples: Vec<Tuple>,
    context: Option<Map<String, Value>>,
    expectation: Option<Vec<String>>,
    error_code: Option<u16>,
}

fn relationship(tuple: &Tuple) -> Relationship {
    let plain = Relationship::new(&tuple.object, &tuple.relation, &tuple.user);
    match &tuple.condition {
        Some(condition) => plain.under(&condition.name, condition.context.clone().unwrap_or_default()),
        None => plain,
    }
}

fn relationships(tuples: &[Tuple]) -> Vec<Relationship> {
    tuples.iter().map(relationship).collect()
}

/// Runs a file, first with stored tuples, then with contextual ones.
pub(crate) fn run(path: &Path, report: &mut Report) {
    let suite: Suite = material::yaml(path);
    let file = path.file_stem().unwrap().to_string_lossy().replace("_tests", "");
    for test in &suite.tests {
        let mut stored: Vec<Relationship> = Vec::new();
        for (at, stage) in test.stages.iter().enumerate() {
            let name = format!("{} stage {at}", test.name);
            let written = relationships(stage.tuples.as_deref().unwrap_or_default());
            if let Some(schema) = schema(stage, &file, &name, report) {
                for tuple in &written {
                    let outcome = schema.admit(tuple).map_err(|fault| fault.to_string());
                    report.note(&format!("{file}: writes"), &name, outcome);
                }
                stored.extend(written);
                let store = Store { schema, stored: Snapshot::new(&stored).unwrap(), brought: Vec::new() };
                store.run(stage, &file, &name, report);
            }
        }
        if let [stage] = test.stages.as_slice() {
            let brought = relationships(stage.tuples.as_deref().unwrap_or_default());
            if brought.len() <= CONTEXTUAL
                && let Some(schema) = schema(stage, &file, &test.name, report)
            {
                let store = Store { schema, stored: Snapshot::default(), brought };
                store.run(stage, &format!("{file}, contextual"), &test.name, report);
            }
        }
    }
}

fn schema(stage: &Stage, file: &str, name: &str, report: &mut Report) -> Option<Schema> {
    let schema = language::parse(&stage.model).and_then(|parsed| Schema::new(parsed.model().clone()));
    match schema {
        Ok(schema) => Some(schema),
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            report.note(&format!("{file}: models"), name, Err(faults.join("; ")));
            None
        }
    }
}

struct Store {
    schema: Schema,
    stored: Snapshot,
    brought: Vec<Relationship>,
}

impl Store {
    fn run(&self, stage: &Stage, file: &str, name: &str, report: &mut Report) {
        for (at, assertion) in stage.check_assertions.iter().flatten().enumerate() {
            report.note(&format!("{file}: check"), &format!("{name} #{at}"), self.check(assertion));
        }
        for (at, assertion) in stage.list_objects_assertions.iter().flatten().enumerate() {
            report.note(&format!("{file}: list objects"), &format!("{name} #{at}"), self.objects(assertion));
        }
        for (at, assertion) in stage.list_users_assertions.iter().flatten().enumerate() {
            report.note(&format!("{file}: list users"), &format!("{name} #{at}"), self.users(assertion));
        }
    }

    fn with(&self, more: &[Tuple]) -> Vec<Relationship> {
        self.brought.iter().cloned().chain(relationships(more)).collect()
    }

    fn check(&self, assertion: &CheckAssertion) -> Result<(), String> {
        let tuples = self.with(&assertion.contextual_tuples);
        let Tuple { object, relation, user, .. } = &assertion.tuple;
        let brought = Brought { context: assertion.context.as_ref(), tuples: &tuples, ..Brought::default() };
        let request = CheckRequest { object, relation, user, brought };
        let asked = check(&self.schema, &self.stored, request, &Limits::default());
        let batch = batch_check(&self.schema, &self.stored, &[request], &Limits::default()).unwrap();
        same(&format!("{:?}", batch[0]), &format!("{asked:?}"))?;
        compare(asked, assertion.error_code, &assertion.expectation.unwrap_or_default())
    }

    fn objects(&self, assertion: &ObjectsAssertion) -> Result<(), String> {
        let tuples = self.with(&assertion.contextual_tuples);
        let ObjectsRequest { user, object_type, relation } = &assertion.request;
        let brought = Brought { context: assertion.context.as_ref(), tuples: &tuples, ..Brought::default() };
        let request = ListObjectsRequest { object_type, relation, user, brought };
        let listed = list_objects(&self.schema, &self.stored, request, &Limits::default()).map(set);
        compare(listed, assertion.error_code, &set(assertion.expectation.clone().unwrap_or_default()))
    }

    fn users(&self, assertion: &UsersAssertion) -> Result<(), String> {
        let tuples = self.with(&assertion.contextual_tuples);
        let UsersRequest { filters, object, relation } = &assertion.request;
        let brought = Brought { context: assertion.context.as_ref(), tuples: &tuples, ..Brought::default() };
        let [filter] = filters.as_slice() else { return Err("there is not one filter".to_owned()) };
        let (user_type, user_relation) = match filter.split_once('#') {
            Some((user_type, relation)) => (user_type, Some(relation)),
            None => (filter.as_str(), None),
        };
        let request = ListUsersRequest { object, relation, user_type, user_relation, brought };
        let listed = list_users(&self.schema, &self.stored, request, &Limits::default()).map(set);
        if let Ok(users) = &listed {
            for user in users {
                UserRef::parse(user).ok_or_else(|| format!("{user} is no user"))?;
                let request = CheckRequest { object, relation, user, brought };
                let stands = check(&self.schema, &self.stored, request, &Limits::default());
                same(&stands.ok(), &Some(true)).map_err(|why| format!("{user} is in the list, {why}"))?;
            }
        }
        compare(listed, assertion.error_code, &set(assertion.expectation.clone().unwrap_or_default()))
    }
}

fn set(list: Vec<String>) -> BTreeSet<String> {
    list.into_iter().collect()
}

fn compare<T: PartialEq + std::fmt::Debug>(
    got: Result<T, QueryError>,
    code: Option<u16>,
    expected: &T,
) -> Result<(), String> {
    match (got, code) {
        (Ok(got), None) => same(&got, expected),
        (Err(error), Some(code)) => same(&error.code(), &Some(code)).map_err(|why| format!("{error}: {why}")),
        (Ok(got), Some(code)) => Err(format!("got {got:?}, expected the error {code}")),
        (Err(error), None) => Err(format!("{error} ({error:?}), expected {expected:?}")),
    }
}
