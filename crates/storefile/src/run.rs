//! The tests of a store file, run: each question is one that passes or fails.
//!
//! A question that has no answer fails, whatever was expected: a check that should say no must say it, and not break on the way.

use std::{error::Error, fmt, slice};

use relation::{
    Snapshot, check,
    condition::Context,
    list_objects, list_users,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
};

use crate::{
    document::{Check, ListObjects, ListUsers},
    store::{StoreFile, Test},
};

/// What running a store file came to.
#[derive(Debug, Default)]
pub struct Report {
    /// How many questions had the expected answer.
    pub passed: usize,
    /// Those that had not.
    pub failures: Vec<Failure>,
}

impl Report {
    /// How many questions had not the expected answer.
    pub fn failed(&self) -> usize {
        self.failures.len()
    }
}

/// A question that did not have the expected answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The test's name.
    pub test: String,
    /// What was asked.
    pub question: String,
    /// What should have been answered.
    pub expected: String,
    /// What was answered, or why nothing was.
    pub got: Result<String, String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { test, question, expected, got } = self;
        match got {
            Ok(got) => write!(f, "{test}: {question}: expected {expected}, got {got}"),
            Err(why) => write!(f, "{test}: {question}: expected {expected}, got no answer: {why}"),
        }
    }
}

impl StoreFile {
    /// Asks everything that the tests ask.
    pub fn run(&self) -> Report {
        let mut report = Report::default();
        // Most tests have no tuples of their own: those share one snapshot.
        let shared = Snapshot::new(self.tuples());
        for test in &self.tests {
            let own = (!test.tuples.is_empty()).then(|| Snapshot::new(self.tuples().iter().chain(&test.tuples)));
            match own.as_ref().unwrap_or(&shared) {
                Ok(tuples) => Run { store: self, tuples, test, report: &mut report }.run(),
                Err(fault) => report.failures.push(Failure {
                    test: test.name.clone(),
                    question: "the tuples".to_owned(),
                    expected: "a snapshot".to_owned(),
                    got: Err(fault.to_string()),
                }),
            }
        }
        report
    }
}

struct Run<'a> {
    store: &'a StoreFile,
    tuples: &'a Snapshot,
    test: &'a Test,
    report: &'a mut Report,
}

impl Run<'_> {
    fn run(&mut self) {
        let test = self.test;
        for asked in &test.check {
            self.check(asked);
        }
        for asked in &test.list_objects {
            self.list_objects(asked);
        }
        for asked in &test.list_users {
            self.list_users(asked);
        }
    }

    fn check(&mut self, asked: &Check) {
        let each = |one: &'_ Option<String>, many: &'_ Option<Vec<String>>| -> Vec<String> {
            let one = one.as_ref().map(slice::from_ref).unwrap_or_default();
            many.as_deref().filter(|many| !many.is_empty()).unwrap_or(one).to_vec()
        };
        for user in &each(&asked.user, &asked.users) {
            for object in &each(&asked.object, &asked.objects) {
                for (relation, expected) in &asked.assertions {
                    let request = CheckRequest { object, relation, user, brought: brought(asked.context.as_ref()) };
                    let got = check(self.store.schema(), self.tuples, request, &Limits::default());
                    let question = format!("check {user} {relation} {object}{}", shown(asked.context.as_ref()));
                    self.note(question, expected, &got, ToString::to_string);
                }
            }
        }
    }

    fn list_objects(&mut self, asked: &ListObjects) {
        let ListObjects { user, object_type, context, assertions } = asked;
        for (relation, expected) in assertions {
            let request = ListObjectsRequest { object_type, relation, user, brought: brought(context.as_ref()) };
            let got = list_objects(self.store.schema(), self.tuples, request, &Limits::default()).map(sorted);
            let question = format!("list_objects {user} {relation} {object_type}{}", shown(context.as_ref()));
            self.note(question, &sorted(expected.clone().unwrap_or_default()), &got, |list| listed(list));
        }
    }

    fn list_users(&mut self, asked: &ListUsers) {
        let ListUsers { object, user_filter, context, assertions } = asked;
        // As OpenFGA's command line does, which asks by the first filter and no other.
        let Some(filter) = user_filter.first() else { return };
        let (user_type, user_relation) = (filter.user_type.as_str(), filter.relation.as_deref());
        for (relation, expected) in assertions {
            let request =
                ListUsersRequest { object, relation, user_type, user_relation, brought: brought(context.as_ref()) };
            let got = list_users(self.store.schema(), self.tuples, request, &Limits::default()).map(sorted);
            let of = user_relation.map(|relation| format!("#{relation}")).unwrap_or_default();
            let question = format!("list_users {user_type}{of} {relation} {object}{}", shown(context.as_ref()));
            self.note(question, &sorted(expected.users.clone().unwrap_or_default()), &got, |list| listed(list));
        }
    }

    fn note<T: PartialEq>(
        &mut self,
        question: String,
        expected: &T,
        got: &Result<T, QueryError>,
        words: impl Fn(&T) -> String,
    ) {
        if got.as_ref().is_ok_and(|got| got == expected) {
            self.report.passed += 1;
            return;
        }
        self.report.failures.push(Failure {
            test: self.test.name.clone(),
            question,
            expected: words(expected),
            got: got.as_ref().map(words).map_err(chain),
        });
    }
}

fn brought(context: Option<&Context>) -> Brought<'_> {
    Brought { context, ..Brought::default() }
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

fn listed(list: &[String]) -> String {
    format!("[{}]", list.join(", "))
}

fn shown(context: Option<&Context>) -> String {
    let json = context.and_then(|context| serde_json::to_string(context).ok());
    json.map(|json| format!(" with {json}")).unwrap_or_default()
}

/// An error with its causes.
fn chain(error: &QueryError) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}
