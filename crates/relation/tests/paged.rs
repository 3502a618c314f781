//! The same engine over a store that is not in memory: a reader that has no page yet says so, fetches it, and is asked again.

mod told;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use keyholder_relation::{
    Relationship, Schema, Snapshot, check, language, list_objects, list_users,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
    tuples::ReadError,
};

use crate::told::{Reading, Told};

#[derive(Debug, thiserror::Error)]
#[error("a page is not at hand")]
struct NotAtHand;

/// A store of which some pages are at hand.
struct Paged<'a> {
    /// What would be far away.
    store: &'a Snapshot,
    at_hand: HashSet<Reading>,
}

/// The store as one question sees it.
type Seen<'a> = Told<'a, &'a dyn Fn(Reading) -> Result<(), ReadError>>;

impl Paged<'_> {
    /// Asks until every page is at hand that the answer needs; tells how often.
    fn ask<A>(&mut self, question: impl Fn(&Seen<'_>) -> Result<A, QueryError>) -> (Result<A, QueryError>, usize) {
        for times in 1.. {
            let lacking = RefCell::<HashSet<Reading>>::default();
            let turn_to = |page: Reading| {
                if self.at_hand.contains(&page) {
                    return Ok(());
                }
                lacking.borrow_mut().insert(page);
                Err(ReadError(Box::new(NotAtHand)))
            };
            match question(&Told { kept: self.store, told: &turn_to }) {
                Err(QueryError::Read(_)) => self.at_hand.extend(lacking.into_inner()),
                answer => return (answer, times),
            }
        }
        unreachable!("there are as many questions as there are pages at most")
    }
}

#[test]
fn a_store_that_is_fetched_page_by_page_answers_as_one_in_memory() {
    let text = concat!(
        "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, group#member]\n",
        "type folder\n  relations\n    define parent: [folder]\n    define blocked: [user]\n",
        "    define viewer: ([user, group#member] or viewer from parent) but not blocked\n"
    );
    let schema = Schema::new(language::read_model(text).unwrap()).unwrap();
    let mut tuples = vec![
        Relationship::new("folder:0", "viewer", "group:0#member"),
        Relationship::new("group:0", "member", "group:1#member"),
        Relationship::new("group:1", "member", "user:anne"),
        Relationship::new("group:0", "member", "user:bob"),
        Relationship::new("folder:3", "blocked", "user:bob"),
    ];
    tuples.extend((1..8).map(|at| Relationship::new(format!("folder:{at}"), "parent", format!("folder:{}", at - 1))));
    let store = Snapshot::new(&tuples).unwrap();
    let mut asked = HashMap::new();
    for user in ["user:anne", "user:bob", "user:charlie"] {
        let mut paged = Paged { store: &store, at_hand: HashSet::new() };
        for at in 0..8 {
            let object = format!("folder:{at}");
            let request = CheckRequest { object: &object, relation: "viewer", user, brought: Brought::default() };
            let (answer, times) = paged.ask(|paged| check(&schema, paged, request, &Limits::default()));
            let expected = check(&schema, &store, request, &Limits::default()).unwrap();
            assert_eq!(answer.unwrap(), expected, "{object} {user}");
            let (_, again) = paged.ask(|paged| check(&schema, paged, request, &Limits::default()));
            assert_eq!(again, 1, "every page is at hand the second time");
            *asked.entry(user).or_insert(0) += times;
            let request = ListUsersRequest {
                object: &object,
                relation: "viewer",
                user_type: "user",
                user_relation: None,
                brought: Brought::default(),
            };
            let (listed, _) = paged.ask(|paged| list_users(&schema, paged, request, &Limits::default()));
            assert_eq!(listed.unwrap(), list_users(&schema, &store, request, &Limits::default()).unwrap());
        }
        let request =
            ListObjectsRequest { object_type: "folder", relation: "viewer", user, brought: Brought::default() };
        let (listed, _) = paged.ask(|paged| list_objects(&schema, paged, request, &Limits::default()));
        assert_eq!(listed.unwrap(), list_objects(&schema, &store, request, &Limits::default()).unwrap());
    }
    assert!(asked.values().all(|times| *times > 8), "pages were fetched on the way: {asked:?}");
}

#[test]
fn what_answers_questions_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Schema>();
    shared::<Snapshot>();
}
