//! `routes`: the table of routes and the kinds of jobs as data, for whoever audits them. Asks no server: both are compiled in.

use std::{fmt::Write as _, process::ExitCode};

use relation::permission::{self, Example, ROLES};
use serde::Serialize;
use serde_json::{Map, Value, json};
use server::{Guard, ObjectFrom, Record, Route, SampleBody, Verb, routes::table};

use super::{failure::Exit, output::Voice};

/// The table as data.
#[derive(Serialize)]
pub(super) struct Listed {
    routes: Vec<Value>,
    jobs: Vec<Value>,
}

/// The table as data, of which `proof::routes::Table` is the reader.
pub(super) fn listed() -> Listed {
    let example = Example::new(&permission::own());
    let jobs = service::jobs::KINDS.iter().map(|job| json!({ "kind": job.name, "permissions": job.permissions }));
    Listed { routes: table().iter().map(|route| as_json(route, &example)).collect(), jobs: jobs.collect() }
}

/// Lists them.
pub(super) fn list(voice: Voice) -> ExitCode {
    let mut words = String::new();
    for route in table() {
        let (guard, permission, _) = guard(route);
        let needed = route.needs.and_then(|it| Some(format!(" ({} of the {})", it.relation?, it.object)));
        let needed = needed.unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(words, "{:<7} {:<52} {:<13} {permission}{needed}", verb(route.method), route.path, guard);
    }
    for job in service::jobs::KINDS {
        let _ = writeln!(words, "{:<7} {:<52} {:<13} {}", "job", job.name, "cause", job.permissions.join(", "));
    }
    voice.say(&listed(), words.trim_end());
    Exit::Done.into()
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
        Verb::Any => "ANY",
    }
}

/// The guard's name, the permission behind it, and the reason of a public row.
fn guard(route: &Route) -> (&'static str, &'static str, Option<&'static str>) {
    match route.guard {
        Guard::ApiKey(permission) => ("api-key", permission, None),
        Guard::Operator(permission) => ("operator-key", permission, None),
        Guard::Public(why) => ("public", "", Some(why)),
    }
}

/// How each role of API keys stands to a route's permission, where it is one of theirs.
fn roles(route: &Route, example: &Example) -> Value {
    let Some(needs) = route.needs.filter(|_| matches!(route.guard, Guard::ApiKey(_))) else { return Value::Null };
    let standing = |role: &&'static str| Some((*role, example.standing(role, &needs).ok()?.as_str()));
    ROLES
        .iter()
        .filter_map(standing)
        .map(|(role, word)| (role.to_owned(), Value::from(word)))
        .collect::<Map<_, _>>()
        .into()
}

fn as_json(route: &Route, example: &Example) -> Value {
    let (guard, permission, why) = guard(route);
    let object = match route.object {
        ObjectFrom::CallersWorkspace => json!({ "from": "callers-workspace" }),
        ObjectFrom::Path(name) => json!({ "from": "path", "name": name }),
        ObjectFrom::Body(pointer) => json!({ "from": "body", "name": pointer }),
        ObjectFrom::Installation => json!({ "from": "installation" }),
        ObjectFrom::None => Value::Null,
    };
    let record = match route.record {
        Record::Nothing => Value::Null,
        Record::Audit(event) => json!({ "in": "audit", "name": event }),
        Record::InstallationAudit(event) => json!({ "in": "installation-audit", "name": event }),
        Record::Row(table) => json!({ "in": "row", "name": table }),
    };
    let sample = &route.sample;
    let body = match &sample.body {
        SampleBody::Nothing => Value::Null,
        SampleBody::Json(body) => json!({ "json": body }),
        SampleBody::Form(fields) => json!({ "form": fields }),
    };
    json!({
        "method": verb(route.method),
        "path": route.path,
        "summary": route.summary,
        "guard": guard,
        "permission": permission,
        "relation": route.needs.and_then(|needs| needs.relation),
        "on": route.needs.map(|needs| needs.object),
        "roles": roles(route, example),
        "why": why,
        "object": object,
        "record": record,
        "sample": {
            "method": sample.method,
            "path": sample.path,
            "query": sample.query,
            "headers": sample.headers,
            "body": body,
        },
    })
}

#[cfg(all(test, feature = "sandbox"))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_told_of_a_route_is_what_a_walk_reads() {
        let example = Example::new(&permission::own());
        for route in table() {
            let read: proof::routes::Route = serde_json::from_value(as_json(route, &example)).unwrap();
            assert_eq!(read.title(), format!("{} {}", verb(route.method), route.path));
            assert_eq!(read.relation.is_some(), read.why.is_none(), "{}", read.title());
            let known: BTreeSet<_> = server::PLACEHOLDERS.iter().map(|(name, ..)| (*name).to_owned()).collect();
            assert!(read.placeholders().is_subset(&known), "{:?}", read.placeholders());
        }
    }

    #[test]
    fn every_kind_of_job_is_permitted_something_by_name() {
        for job in service::jobs::KINDS {
            assert!(!job.permissions.is_empty() && job.permissions.iter().all(|name| name.contains('.')), "{job:?}");
        }
    }
}
