//! The same engine over a store that is not in memory: a reader that has no page yet says so, fetches it, and is asked again.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use keyholder_relation::{
    Relationship, Schema, Snapshot, check, language, list_objects, list_users,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
    tuples::{ReadError, Tuples, User},
};

/// A page: by object or by user, and the relation.
type Page = (bool, u32, String);

/// A store of which some pages are at hand.
struct Paged<'a> {
    /// What would be far away.
    store: &'a Snapshot,
    at_hand: HashSet<Page>,
    lacking: RefCell<HashSet<Page>>,
}

#[derive(Debug, thiserror::Error)]
#[error("a page is not at hand")]
struct NotAtHand;

impl Paged<'_> {
    fn turn_to(&self, page: Page) -> Result<(), ReadError> {
        if self.at_hand.contains(&page) {
            return Ok(());
        }
        self.lacking.borrow_mut().insert(page);
        Err(ReadError(Box::new(NotAtHand)))
    }

    /// Asks until every page is at hand that the answer needs; tells how often.
    fn ask<A>(&mut self, question: impl Fn(&Self) -> Result<A, QueryError>) -> (Result<A, QueryError>, usize) {
        for times in 1.. {
            match question(self) {
                Err(QueryError::Read(_)) => self.at_hand.extend(self.lacking.take()),
                answer => return (answer, times),
            }
        }
        unreachable!("there are as many questions as there are pages at most")
    }
}

impl Tuples for Paged<'_> {
    type Object = u32;
    type Rows<'a>
        = <Snapshot as Tuples>::Rows<'a>
    where
        Self: 'a;

    fn object(&self, name: &str) -> Result<Option<u32>, ReadError> {
        self.store.object(name)
    }

    fn name(&self, object: u32) -> &str {
        self.store.name(object)
    }

    fn tuple<'a>(&'a self, object: u32, relation: &str, user: User<'_, u32>) -> Result<Self::Rows<'a>, ReadError> {
        self.turn_to((false, object, relation.to_owned()))?;
        self.store.tuple(object, relation, user)
    }

    fn users<'a>(&'a self, object: u32, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        self.turn_to((false, object, relation.to_owned()))?;
        self.store.users(object, relation)
    }

    fn usersets<'a>(&'a self, object: u32, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        self.turn_to((false, object, relation.to_owned()))?;
        self.store.usersets(object, relation)
    }

    fn objects<'a>(&'a self, user: User<'_, u32>, relation: &str) -> Result<Self::Rows<'a>, ReadError> {
        self.turn_to((true, user.object, format!("{relation} of {:?}", user.relation)))?;
        self.store.objects(user, relation)
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
        let mut paged = Paged { store: &store, at_hand: HashSet::new(), lacking: RefCell::default() };
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
