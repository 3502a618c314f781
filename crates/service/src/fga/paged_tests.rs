use relation::{
    Relationship, Schema, Snapshot, check, language, list_objects, list_users,
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
};

use super::{
    super::question::{Check, Question, batch},
    *,
};

/// A store of which pages are read when they are wanted.
struct Store(Vec<Relationship>);

impl Store {
    fn page(&self, want: &Want) -> Arc<[Line]> {
        let line = |tuple: &Relationship| {
            let (user, relation) = tuple
                .user
                .split_once('#')
                .map_or((tuple.user.as_str(), None), |(user, relation)| (user, Some(relation)));
            Line {
                object: tuple.object.as_str().into(),
                user: user.into(),
                user_relation: relation.map(Arc::from),
                condition: tuple.condition.clone(),
            }
        };
        let is_wanted = |tuple: &&Relationship| match want {
            Want::Tuple { object, relation, user } => {
                (*tuple.object == **object) && (*tuple.relation == **relation) && (*tuple.user == **user)
            }
            Want::Object { object, relation, usersets } => {
                *tuple.object == **object && *tuple.relation == **relation && (!usersets || tuple.user.contains('#'))
            }
            Want::User { user, relation } => *tuple.user == **user && *tuple.relation == **relation,
        };
        self.0.iter().filter(is_wanted).map(line).collect()
    }

    /// Asks until nothing is missing; the answer, and how often pages were fetched.
    fn ask<A>(&self, question: impl Fn(&View) -> Result<A, QueryError>) -> (Result<A, QueryError>, usize) {
        self.ask_knowing(&[], question)
    }

    /// The same, where names are known from the beginning.
    fn ask_knowing<A>(
        &self,
        names: &[String],
        question: impl Fn(&View) -> Result<A, QueryError>,
    ) -> (Result<A, QueryError>, usize) {
        let mut view = View::knowing(names);
        let mut rounds = 0;
        loop {
            let answer = question(&view);
            let lacking = view.lacking();
            if lacking.is_empty() && !view.learns() {
                return (answer, rounds);
            }
            rounds += usize::from(!lacking.is_empty());
            for want in &lacking {
                view.add(want, self.page(want));
            }
            assert!(rounds < 1_000, "it never ends");
        }
    }
}

fn schema() -> Schema {
    let text = concat!(
        "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, user:*, group#member]\n",
        "type folder\n  relations\n    define parent: [folder]\n    define blocked: [user, group#member]\n",
        "    define viewer: ([user, group#member] or viewer from parent) but not blocked\n"
    );
    Schema::new(language::read_model(text).unwrap()).unwrap()
}

fn store() -> Store {
    let mut tuples = vec![
        Relationship::new("folder:0", "viewer", "group:0#member"),
        Relationship::new("group:0", "member", "group:1#member"),
        Relationship::new("group:1", "member", "group:0#member"),
        Relationship::new("group:1", "member", "user:anne"),
        Relationship::new("group:2", "member", "user:*"),
        Relationship::new("folder:5", "viewer", "group:2#member"),
        Relationship::new("folder:3", "blocked", "user:anne"),
        Relationship::new("folder:6", "blocked", "group:1#member"),
    ];
    tuples.extend((1..8).map(|at| Relationship::new(format!("folder:{at}"), "parent", format!("folder:{}", at - 1))));
    Store(tuples)
}

#[test]
fn pages_answer_as_memory_does() {
    let (schema, store, limits) = (schema(), store(), Limits::default());
    let held = Snapshot::new(&store.0).unwrap();
    let contextual = [Relationship::new("group:1", "member", "user:eve")];
    let brought = Brought { tuples: &contextual, ..Brought::default() };
    for user in ["user:anne", "user:bob", "user:eve", "group:1#member", "user:*"] {
        for at in 0..8 {
            let object = format!("folder:{at}");
            let request = CheckRequest { object: &object, relation: "viewer", user, brought };
            let (answer, _) = store.ask(|view| check(&schema, view, request, &limits));
            assert_eq!(answer.unwrap(), check(&schema, &held, request, &limits).unwrap(), "{object} {user}");
            let request = ListUsersRequest {
                object: &object,
                relation: "viewer",
                user_type: "user",
                user_relation: None,
                brought,
            };
            let (listed, _) = store.ask(|view| list_users(&schema, view, request, &limits));
            assert_eq!(listed.unwrap(), list_users(&schema, &held, request, &limits).unwrap(), "{object}");
        }
        let request = ListObjectsRequest { object_type: "folder", relation: "viewer", user, brought };
        let (listed, _) = store.ask(|view| list_objects(&schema, view, request, &limits));
        assert_eq!(listed.unwrap(), list_objects(&schema, &held, request, &limits).unwrap(), "{user}");
    }
}

#[test]
fn what_lies_beside_each_other_is_fetched_together() {
    let model = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, group#member]\n";
    let schema = Schema::new(language::read_model(model).unwrap()).unwrap();
    let mut tuples: Vec<_> =
        (1..300).map(|at| Relationship::new("group:0", "member", format!("group:{at}#member"))).collect();
    tuples.push(Relationship::new("group:299", "member", "user:anne"));
    let request =
        CheckRequest { object: "group:0", relation: "member", user: "user:anne", brought: Brought::default() };
    let (answer, rounds) = Store(tuples).ask(|view| check(&schema, view, request, &Limits::default()));
    assert!(answer.unwrap());
    assert!(rounds <= 4, "{rounds} rounds for two levels");
}

#[test]
fn what_a_batch_lacks_is_fetched_together() {
    let (schema, store, limits) = (schema(), store(), Limits::default());
    let held = Snapshot::new(&store.0).unwrap();
    let check_of = |at: usize| {
        let user = if at.is_multiple_of(3) { "user:anne".to_owned() } else { format!("user:{at}") };
        let contextual =
            (0..20).map(|more| Relationship::new("group:1", "member", format!("user:{at}-{more}"))).collect();
        Check { of: Relationship::new(format!("folder:{}", at % 8), "viewer", user), contextual, context: None }
    };
    let checks: Vec<Check> = (0..40).map(check_of).collect();
    let asked = std::cell::Cell::new(0_usize);
    let of = |checks: &[Check]| {
        let question = Question::Batch(checks.to_vec());
        let (answers, rounds) = store.ask_knowing(&question.names(), |view| {
            asked.set(asked.get() + 1);
            batch(&schema, view, checks, (&limits, None))
        });
        let answers: Vec<bool> = answers.unwrap().into_iter().map(Result::unwrap).collect();
        (answers, rounds)
    };
    let longest = checks.iter().map(|check| of(std::slice::from_ref(check)).1).max().unwrap();
    asked.set(0);
    let (answers, rounds) = of(&checks);
    assert!(rounds <= longest, "{rounds} rounds for all, {longest} for one");
    assert!(asked.get() <= rounds + 1, "{} askings for {rounds} rounds", asked.get());
    let expected = batch(&schema, &held, &checks, (&limits, None)).unwrap();
    assert_eq!(answers, expected.into_iter().map(Result::unwrap).collect::<Vec<_>>());
}
