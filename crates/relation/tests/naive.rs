//! The searches against an evaluator that shares nothing with them but the types of their input.
//!
//! The naive one knows no search: it takes every place and every user that there is, and works out who stands where by going over all
//! rules again and again until nothing changes. What is taken away it works out between two bounds, of which the lower says who
//! surely stands somewhere and the upper who may (the well-founded semantics of logic programs). Where no circle runs through
//! something that is taken away the two are the same, and so must the engine's answer be; where one does, the engine may say no
//! to more, but yes to nobody whom the lower bound does not have.
#![expect(clippy::unwrap_used, reason = "what a test builds on fails by panicking, as the test does")]

use std::collections::{BTreeMap, BTreeSet};

use keyholder_relation::{
    BoundCondition, Relationship, Schema, Snapshot, check, explain,
    explain::{By, Explanation, Hindrance, Lack, Step},
    list_objects, list_users,
    model::{
        Condition, Model, ParameterKind, ParameterType, Relation, Restriction, Rewrite, Shape, Source, TypeDefinition,
    },
    query::{Brought, CheckRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

const USERS: [&str; 3] = ["user:a", "user:b", "user:c"];
const GROUPS: [&str; 3] = ["group:1", "group:2", "group:3"];
const DOCUMENTS: [&str; 3] = ["document:1", "document:2", "document:3"];
/// Relations of a document. What is taken away comes from the first two alone where no circle is wanted.
const RELATIONS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];

/// Who is asked about in the questions that are explained.
const ASKERS: [&str; 6] = ["user:a", "user:b", "user:c", "user:*", "group:1#member", "document:1#r0"];

/// Who stands where: object, relation, user.
type Standing = BTreeSet<(String, String, String)>;

struct Naive<'a> {
    model: &'a Model,
    tuples: &'a [Relationship],
    /// The parameter of the one condition.
    x: i64,
}

impl Naive<'_> {
    fn relation(&self, object: &str, name: &str) -> Option<&Relation> {
        let (type_name, _) = object.split_once(':')?;
        self.model.types.iter().find(|kind| kind.name == type_name)?.relations.get(name)
    }

    fn applies(&self, tuple: &Relationship) -> bool {
        let Some(relation) = self.relation(&tuple.object, &tuple.relation) else { return false };
        let (object, userset) = tuple.user.split_once('#').map_or((tuple.user.as_str(), None), |(o, r)| (o, Some(r)));
        let (type_name, id) = object.split_once(':').unwrap();
        let shape = match (userset, id) {
            (Some(relation), _) => Shape::Userset(relation.to_owned()),
            (None, "*") => Shape::Wildcard,
            (None, _) => Shape::Object,
        };
        let condition = tuple.condition.as_ref().map(|bound| bound.name.clone());
        let allowed =
            relation.restrictions.contains(&Restriction { type_name: type_name.to_owned(), shape, condition });
        allowed && (tuple.condition.is_none() || self.x < 10)
    }

    /// Who stands where, if what is taken away is taken away from whoever is in `taken`.
    fn least(&self, places: &[(String, String)], users: &[String], taken: &Standing) -> Standing {
        let mut standing: Standing = Standing::new();
        loop {
            let mut more = standing.clone();
            for (object, relation) in places {
                for user in users {
                    let rewrite = &self.relation(object, relation).unwrap().rewrite;
                    let own = *user == format!("{object}#{relation}");
                    if own || self.stands(object, relation, rewrite, user, &standing, taken) {
                        more.insert((object.clone(), relation.clone(), user.clone()));
                    }
                }
            }
            if more == standing {
                return standing;
            }
            standing = more;
        }
    }

    fn stands(
        &self,
        object: &str,
        relation: &str,
        rewrite: &Rewrite,
        user: &str,
        now: &Standing,
        taken: &Standing,
    ) -> bool {
        let in_it =
            |object: &str, relation: &str| now.contains(&(object.to_owned(), relation.to_owned(), user.to_owned()));
        let applying = |relation: &str| {
            let relation = relation.to_owned();
            self.tuples
                .iter()
                .filter(move |tuple| tuple.object == object && tuple.relation == relation && self.applies(tuple))
        };
        match rewrite {
            Rewrite::This => applying(relation).any(|tuple| {
                let everybody =
                    !user.contains(['#', '*']) && tuple.user == format!("{}:*", user.split_once(':').unwrap().0);
                tuple.user == user
                    || everybody
                    || tuple.user.split_once('#').is_some_and(|(object, relation)| in_it(object, relation))
            }),
            Rewrite::Computed(computed) => in_it(object, computed),
            Rewrite::From { computed, tupleset } => applying(tupleset).any(|tuple| in_it(&tuple.user, computed)),
            Rewrite::Union(all) => all.iter().any(|one| self.stands(object, relation, one, user, now, taken)),
            Rewrite::Intersection(all) => all.iter().all(|one| self.stands(object, relation, one, user, now, taken)),
            Rewrite::Difference(pair) => {
                self.stands(object, relation, &pair.0, user, now, taken)
                    && !self.stands(object, relation, &pair.1, user, taken, now)
            }
        }
    }

    /// Who surely stands where, and who may.
    fn bounds(&self) -> (Standing, Standing) {
        let objects = GROUPS.iter().chain(&DOCUMENTS);
        let places: Vec<(String, String)> = objects
            .flat_map(|object| {
                let (type_name, _) = object.split_once(':').unwrap();
                let kind = self.model.types.iter().find(|kind| kind.name == type_name).unwrap();
                kind.relations.keys().map(|relation| ((*object).to_owned(), relation.clone()))
            })
            .collect();
        let named = places.iter().map(|(object, relation)| format!("{object}#{relation}"));
        let users: Vec<String> =
            USERS.iter().map(|user| (*user).to_owned()).chain(["user:*".to_owned()]).chain(named).collect();
        let mut surely = Standing::new();
        loop {
            let maybe = self.least(&places, &users, &surely);
            let next = self.least(&places, &users, &maybe);
            if next == surely {
                return (surely, maybe);
            }
            surely = next;
        }
    }
}

fn restriction(type_name: &str, shape: Shape, condition: Option<&str>) -> Restriction {
    Restriction { type_name: type_name.to_owned(), shape, condition: condition.map(str::to_owned) }
}

/// Who may be written into any relation that is written into.
fn restrictions(usersets: &[&str]) -> Vec<Restriction> {
    let mut all = vec![
        restriction("user", Shape::Object, None),
        restriction("user", Shape::Object, Some("small")),
        restriction("user", Shape::Wildcard, None),
        restriction("group", Shape::Userset("member".to_owned()), None),
        restriction("group", Shape::Userset("member".to_owned()), Some("small")),
    ];
    all.extend(usersets.iter().map(|relation| restriction("document", Shape::Userset((*relation).to_owned()), None)));
    all
}

fn rewrite(to: &'static [&'static str], taken: &'static [&'static str], depth: u32) -> BoxedStrategy<Rewrite> {
    let computed = select(to).prop_map(|relation| Rewrite::Computed(relation.to_owned()));
    let from =
        select(to).prop_map(|relation| Rewrite::From { computed: relation.to_owned(), tupleset: "parent".to_owned() });
    let leaf = prop_oneof![2 => Just(Rewrite::This), 1 => computed, 1 => from];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = || rewrite(to, taken, depth - 1);
    let subtract = if taken.is_empty() { inner() } else { rewrite(taken, taken, 0) };
    let difference = (inner(), subtract).prop_map(|pair| Rewrite::Difference(Box::new(pair)));
    prop_oneof![
        2 => leaf,
        2 => prop::collection::vec(inner(), 2..4).prop_map(Rewrite::Union),
        2 => prop::collection::vec(inner(), 2..4).prop_map(Rewrite::Intersection),
        2 => difference,
    ]
    .boxed()
}

/// A model; in a layered one nothing hangs on itself through something that is taken away.
fn model(layered: bool) -> impl Strategy<Value = Model> {
    let low: &'static [&'static str] = &["r0", "r1"];
    let (base, taken): (BoxedStrategy<Rewrite>, &'static [&'static str]) =
        if layered { (union_of(low), low) } else { (rewrite(&RELATIONS, &[], 2), &[]) };
    let rest = prop::collection::vec(rewrite(&RELATIONS, taken, 2), 3);
    (base.clone(), base, rest).prop_map(move |(zero, one, rest)| {
        let mut relations = BTreeMap::new();
        for (name, rewrite) in RELATIONS.iter().zip([zero, one].into_iter().chain(rest)) {
            let usersets: &[&str] = if layered { &["r0", "r1"] } else { &RELATIONS };
            let restrictions = restrictions(usersets);
            relations.insert((*name).to_owned(), Relation { rewrite, restrictions, source: Source::default() });
        }
        let parent = Relation {
            rewrite: Rewrite::This,
            restrictions: vec![restriction("document", Shape::Object, None)],
            source: Source::default(),
        };
        relations.insert("parent".to_owned(), parent);
        let member = Relation { rewrite: Rewrite::This, restrictions: restrictions(&[]), source: Source::default() };
        let kind =
            |name: &str, relations| TypeDefinition { name: name.to_owned(), relations, ..TypeDefinition::default() };
        let small = Condition {
            name: "small".to_owned(),
            expression: "x < 10".to_owned(),
            parameters: BTreeMap::from([("x".to_owned(), ParameterType::plain(ParameterKind::Int))]),
            source: Source::default(),
        };
        Model {
            schema_version: "1.1".to_owned(),
            types: vec![
                kind("user", BTreeMap::new()),
                kind("group", BTreeMap::from([("member".to_owned(), member)])),
                kind("document", relations),
            ],
            conditions: BTreeMap::from([("small".to_owned(), small)]),
        }
    })
}

/// A rewrite in which nothing is taken away.
fn union_of(to: &'static [&'static str]) -> BoxedStrategy<Rewrite> {
    let leaf = || rewrite(to, &[], 0);
    prop_oneof![
        2 => Just(Rewrite::This),
        1 => prop::collection::vec(leaf(), 2..4).prop_map(Rewrite::Union),
        1 => prop::collection::vec(leaf(), 2..4).prop_map(Rewrite::Intersection),
    ]
    .boxed()
}

fn tuple() -> impl Strategy<Value = Relationship> {
    let usersets: Vec<String> = GROUPS
        .iter()
        .map(|group| format!("{group}#member"))
        .chain(
            DOCUMENTS
                .iter()
                .flat_map(|document| RELATIONS.iter().map(move |relation| format!("{document}#{relation}"))),
        )
        .collect();
    let plain: Vec<String> = USERS.iter().map(|user| (*user).to_owned()).chain(["user:*".to_owned()]).collect();
    let user = || prop_oneof![3 => select(plain.clone()), 2 => select(usersets.clone())];
    let of_document = (select(&DOCUMENTS[..]), select(&RELATIONS[..]), user());
    let of_group = (select(&GROUPS[..]), Just("member"), user());
    let parent = (select(&DOCUMENTS[..]), Just("parent"), select(&DOCUMENTS[..]).prop_map(str::to_owned));
    (prop_oneof![4 => of_document, 2 => of_group, 2 => parent], prop::bool::weighted(0.2)).prop_map(
        |((object, relation, user), conditional)| {
            let tuple = Relationship::new(object, relation, user);
            if conditional { tuple.under("small", serde_json::Map::new()) } else { tuple }
        },
    )
}

struct House {
    schema: Schema,
    stored: Snapshot,
    brought: Vec<Relationship>,
    context: Value,
}

impl House {
    fn brought(&self) -> Brought<'_> {
        Brought { context: self.context.as_object(), tuples: &self.brought, ..Brought::default() }
    }

    fn check(&self, object: &str, relation: &str, user: &str) -> Result<bool, QueryError> {
        let request = CheckRequest { object, relation, user, brought: self.brought() };
        check(&self.schema, &self.stored, request, &Limits::default())
    }
}

/// The tuples that are the model's. Of a key there is one, the last: what comes with a question stands in the place of what is stored.
fn admitted(schema: &Schema, tuples: &[Relationship]) -> Vec<Relationship> {
    let key = |tuple: &Relationship| (tuple.object.clone(), tuple.relation.clone(), tuple.user.clone());
    let last: BTreeMap<_, usize> = tuples.iter().map(key).zip(0..).collect();
    let of_one_key = tuples.iter().enumerate().filter(|(at, tuple)| last.get(&key(tuple)) == Some(at));
    of_one_key.map(|(_, tuple)| tuple).filter(|tuple| schema.admit(tuple).is_ok()).cloned().collect()
}

/// All answers for one model and its tuples, the last few of which come with the question.
fn compare(model: &Model, tuples: &[Relationship], x: i64, layered: bool) -> Result<(), TestCaseError> {
    // Relations in which nobody can ever stand are refused with the model.
    let Ok(schema) = Schema::new(model.clone()) else { return Err(TestCaseError::reject("no model")) };
    let admitted = admitted(&schema, tuples);
    let (kept, brought) = admitted.split_at(admitted.len() - admitted.len() / 5);
    let stored = Snapshot::new(kept).unwrap();
    let house = House { schema, stored, brought: brought.to_vec(), context: json!({ "x": x }) };
    let (surely, maybe) = Naive { model, tuples: &admitted, x }.bounds();
    prop_assert!(!layered || surely == maybe);
    let relations: Vec<(&str, &str)> = DOCUMENTS.iter().flat_map(|d| RELATIONS.iter().map(move |r| (*d, *r))).collect();
    let stands = |object: &str, relation: &str, user: &str| {
        surely.contains(&(object.to_owned(), relation.to_owned(), user.to_owned()))
    };
    for (object, relation) in &relations {
        for user in USERS.iter().chain(&["user:*", "group:1#member", "document:1#r0", "document:2#r3"]) {
            match house.check(object, relation, user) {
                Ok(said) if layered => {
                    prop_assert_eq!(said, stands(object, relation, user), "{} {} {}", object, relation, user);
                }
                Ok(said) => prop_assert!(!said || stands(object, relation, user), "{object} {relation} {user}"),
                Err(QueryError::TooComplex) if !layered => {}
                Err(error) => prop_assert!(false, "{error:?}"),
            }
        }
    }
    lists(&house, &relations, &stands, layered)
}

fn lists(
    house: &House,
    relations: &[(&str, &str)],
    stands: &dyn Fn(&str, &str, &str) -> bool,
    layered: bool,
) -> Result<(), TestCaseError> {
    for user in USERS.iter().chain(&["user:*", "group:1#member", "document:1#r0"]) {
        for relation in &RELATIONS {
            let request = ListObjectsRequest { object_type: "document", relation, user, brought: house.brought() };
            match list_objects(&house.schema, &house.stored, request, &Limits::default()) {
                Ok(listed) => {
                    let all: Vec<&str> =
                        DOCUMENTS.iter().copied().filter(|document| stands(document, relation, user)).collect();
                    for object in &listed {
                        prop_assert!(all.contains(&object.as_str()), "{object} is in the list of {relation} {user}");
                    }
                    prop_assert!(
                        !layered || listed.len() == all.len(),
                        "{relation} {user}: {listed:?} and not {all:?}"
                    );
                }
                Err(error) => prop_assert!(!layered && matches!(error, QueryError::TooComplex), "{error:?}"),
            }
        }
    }
    for (object, relation) in relations {
        for (user_type, user_relation, all) in [
            ("user", None, &USERS[..]),
            ("group", Some("member"), &["group:1#member", "group:2#member", "group:3#member"][..]),
        ] {
            let request = ListUsersRequest { object, relation, user_type, user_relation, brought: house.brought() };
            match list_users(&house.schema, &house.stored, request, &Limits::default()) {
                Ok(listed) => {
                    for user in &listed {
                        prop_assert!(stands(object, relation, user), "{user} is in the list of {object} {relation}");
                    }
                    let everybody = listed.iter().any(|user| user == "user:*");
                    for user in all.iter().filter(|user| stands(object, relation, user)) {
                        let told = listed.iter().any(|listed| listed == user) || everybody;
                        prop_assert!(told || !layered, "{user} is not in the list of {object} {relation}");
                    }
                }
                Err(error) => prop_assert!(!layered && matches!(error, QueryError::TooComplex), "{error:?}"),
            }
        }
    }
    Ok(())
}

impl House {
    fn explain(&self, (object, relation, user): (&str, &str, &str)) -> Explanation {
        let request = CheckRequest { object, relation, user, brought: self.brought() };
        explain(&self.schema, &self.stored, request, &Limits::default()).unwrap()
    }

    /// Whether the check says yes with more tuples, or with others alone.
    fn check_with(&self, question: (&str, &str, &str), stored: &Snapshot, more: &[Relationship]) -> bool {
        let (object, relation, user) = question;
        let brought = Brought { context: self.context.as_object(), tuples: more, ..Brought::default() };
        let request = CheckRequest { object, relation, user, brought };
        check(&self.schema, stored, request, &Limits { contextual: 1_000, ..Limits::default() }).unwrap_or(false)
    }
}

/// All tuples of a way, and whether nothing is shown not to hold on it.
fn tuples_of(step: &Step, all: &mut Vec<Relationship>) {
    match &step.by {
        By::Itself => {}
        By::Tuple(tuple) => all.push(tuple.clone()),
        By::Next { tuple, step } => {
            all.extend(tuple.clone());
            tuples_of(step, all);
        }
        By::All(steps) => steps.iter().for_each(|step| tuples_of(step, all)),
        By::Without { step, .. } => tuples_of(step, all),
    }
}

/// One question: the answer is the check's, and what is shown of it is true.
fn explained(
    house: &House,
    all: &[Relationship],
    question: (&str, &str, &str),
    layered: bool,
) -> Result<(), TestCaseError> {
    let (object, relation, user) = question;
    let said = house.check(object, relation, user);
    match (house.explain(question), said) {
        (Explanation::Stands(step), Ok(true)) => {
            prop_assert_eq!((step.object.as_str(), step.relation.as_str()), (object, relation));
            let mut tuples = Vec::new();
            tuples_of(&step, &mut tuples);
            for tuple in &tuples {
                prop_assert!(all.contains(tuple), "{tuple:?} is not there");
            }
            // What is taken away is taken away by more tuples, never by fewer: the way's own are enough.
            let alone = house.check_with(question, &Snapshot::new(&tuples).unwrap(), &[]);
            prop_assert!(alone || !layered, "{step:?}");
        }
        (Explanation::Lacks(lack), Ok(false)) => helps(house, all, question, &lack)?,
        (Explanation::Withheld { .. }, Err(_)) => {}
        (explanation, said) => prop_assert!(false, "{said:?} is explained by {explanation:?}"),
    }
    Ok(())
}

/// Each set gives a yes, and none of its parts does; and where one tuple would do, there is a set.
fn helps(house: &House, all: &[Relationship], question: (&str, &str, &str), lack: &Lack) -> Result<(), TestCaseError> {
    let with = |more: &[Relationship]| {
        let brought: Vec<Relationship> = house.brought.iter().chain(more).cloned().collect();
        house.check_with(question, &house.stored, &brought)
    };
    for set in &lack.needed {
        prop_assert!(with(set), "{set:?} is not enough");
        prop_assert!(set.iter().all(|tuple| !all.contains(tuple)), "{set:?} is there");
        for at in 0..set.len() {
            let mut fewer = set.clone();
            fewer.remove(at);
            prop_assert!(!with(&fewer), "of {set:?} {fewer:?} is enough");
        }
    }
    let excluded = lack.hindrances.iter().any(|hindrance| matches!(hindrance, Hindrance::Excluded { .. }));
    if lack.needed.is_empty() && lack.is_complete && !excluded {
        for object in GROUPS.iter().chain(&DOCUMENTS) {
            for relation in RELATIONS.iter().chain(&["member", "parent"]) {
                for user in [question.2, "user:*", "document:1", "document:2", "group:1#member"] {
                    let tuple = Relationship::new(*object, *relation, user);
                    if house.schema.admit(&tuple).is_ok() {
                        prop_assert!(!with(std::slice::from_ref(&tuple)), "{tuple:?} would have helped");
                    }
                }
            }
        }
    }
    Ok(())
}

fn explain_some(
    model: &Model,
    tuples: &[Relationship],
    x: i64,
    asked: &[(&str, &str, &str)],
    layered: bool,
) -> Result<(), TestCaseError> {
    let Ok(schema) = Schema::new(model.clone()) else { return Err(TestCaseError::reject("no model")) };
    let admitted = admitted(&schema, tuples);
    let (kept, brought) = admitted.split_at(admitted.len() - admitted.len() / 5);
    let stored = Snapshot::new(kept).unwrap();
    let house = House { schema, stored, brought: brought.to_vec(), context: json!({ "x": x }) };
    for question in asked {
        explained(&house, &admitted, *question, layered)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, max_global_rejects: 100_000, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_explanation_is_the_checks_and_holds(
        model in model(true),
        tuples in prop::collection::vec(tuple(), 0..20),
        x in 0..20_i64,
        asked in prop::collection::vec((select(&DOCUMENTS[..]), select(&RELATIONS[..]), select(&ASKERS[..])), 6),
    ) {
        explain_some(&model, &tuples, x, &asked, true)?;
    }

    #[test]
    fn an_explanation_is_the_checks_where_circles_run_through_exclusions(
        model in model(false),
        tuples in prop::collection::vec(tuple(), 0..20),
        x in 0..20_i64,
        asked in prop::collection::vec((select(&DOCUMENTS[..]), select(&RELATIONS[..]), select(&ASKERS[..])), 6),
    ) {
        explain_some(&model, &tuples, x, &asked, false)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_global_rejects: 100_000, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_naive_ones(
        model in model(true),
        tuples in prop::collection::vec(tuple(), 0..25),
        x in 0..20_i64,
    ) {
        compare(&model, &tuples, x, true)?;
    }

    #[test]
    fn a_circle_through_an_exclusion_never_makes_a_yes(
        model in model(false),
        tuples in prop::collection::vec(tuple(), 0..25),
        x in 0..20_i64,
    ) {
        compare(&model, &tuples, x, false)?;
    }
}

#[test]
fn the_naive_evaluator_can_tell_a_wrong_answer() {
    let mut relations = BTreeMap::new();
    let relation = |rewrite| Relation { rewrite, restrictions: restrictions(&[]), source: Source::default() };
    for name in RELATIONS {
        relations.insert(name.to_owned(), relation(Rewrite::This));
    }
    let kind = |name: &str, relations| TypeDefinition { name: name.to_owned(), relations, ..TypeDefinition::default() };
    let member = BTreeMap::from([("member".to_owned(), relation(Rewrite::This))]);
    let model = Model {
        schema_version: "1.1".to_owned(),
        types: vec![kind("user", BTreeMap::new()), kind("group", member), kind("document", relations)],
        ..Model::default()
    };
    let tuples = [
        Relationship::new("document:1", "r0", "group:1#member"),
        Relationship::new("group:1", "member", "user:a"),
        Relationship {
            condition: Some(BoundCondition { name: "small".to_owned(), context: serde_json::Map::new() }),
            ..Relationship::new("group:1", "member", "user:b")
        },
    ];
    let (surely, maybe) = Naive { model: &model, tuples: &tuples, x: 11 }.bounds();
    assert_eq!(surely, maybe);
    let stands = |user: &str| surely.contains(&("document:1".to_owned(), "r0".to_owned(), user.to_owned()));
    assert_eq!(["user:a", "user:b", "group:1#member"].map(stands), [true, false, true]);
}

/// A circle that has nothing to do with what takes away is no doubt: nobody stands in it, and who is not in it keeps what he has.
#[test]
fn a_circle_wholly_below_what_is_taken_away_is_a_sure_no() {
    let text = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define admin: [user:*, group#member]\n    define member: [group#member] or admin\ntype folder\n  relations\n    define viewer: [group#member]\ntype doc\n  relations\n    define owner: [folder#viewer]\n    define nope: [user:*, group#member] but not owner\n";
    let schema = Schema::new(keyholder_relation::language::read_model(text).unwrap()).unwrap();
    let tuples = [
        Relationship::new("group:2", "member", "group:3#member"),
        Relationship::new("group:3", "admin", "group:3#member"),
        Relationship::new("folder:2", "viewer", "group:2#member"),
        Relationship::new("doc:1", "owner", "folder:2#viewer"),
        Relationship::new("doc:1", "nope", "group:1#member"),
        Relationship::new("doc:1", "nope", "group:3#member"),
    ];
    let tuples = Snapshot::new(&tuples).unwrap();
    let stands = |relation, user| {
        let request = CheckRequest { object: "doc:1", relation, user, brought: Brought::default() };
        check(&schema, &tuples, request, &Limits::default()).unwrap()
    };
    assert!(!stands("owner", "group:1#member") && stands("nope", "group:1#member"));
    assert!(stands("owner", "group:3#member") && !stands("nope", "group:3#member"));
}
