//! A model, tuples and questions of a stranger: the searches agree with each other, and with an evaluator that knows no search.

use std::collections::{BTreeMap, BTreeSet};

use relation::{
    Relationship, Schema, Snapshot, batch_check, check, expand, list_objects, list_users,
    model::{
        Condition, Model, ParameterKind, ParameterType, Relation, Restriction, Rewrite, Shape, Source, TypeDefinition,
    },
    query::{Brought, CheckRequest, ExpandRequest, Limits, ListObjectsRequest, ListUsersRequest, QueryError},
};
use serde_json::json;

use super::choices::Choices;

const RELATIONS: [&str; 4] = ["r0", "r1", "r2", "r3"];
const DOCUMENTS: [&str; 4] = ["document:0", "document:1", "document:2", "document:3"];
const USERS: [&str; 3] = ["user:a", "user:b", "user:c"];

/// Makes a model and tuples of the bytes, and asks everything.
///
/// # Panics
/// Where two answers that must be the same are not.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let model = model(&mut choices);
    let Ok(schema) = Schema::new(model.clone()) else { return };
    let mut tuples: Vec<Relationship> = Vec::new();
    while !choices.is_over() && tuples.len() < 60 {
        let tuple = tuple(&mut choices);
        if schema.admit(&tuple).is_ok() && !tuples.contains(&tuple) {
            tuples.push(tuple);
        }
    }
    let stored = Snapshot::new(&tuples).unwrap();
    let context = json!({ "x": 3 });
    let kept = Brought { context: context.as_object(), ..Brought::default() };
    let brought = Brought { tuples: &tuples, ..kept };
    let nothing = Snapshot::default();
    let house = House { schema: &schema, stored: &stored, brought: kept };
    let guest = House { schema: &schema, stored: &nothing, brought };
    let mut answers = BTreeMap::new();
    for object in DOCUMENTS {
        for relation in RELATIONS {
            for user in USERS.iter().copied().chain(["user:*", "document:1#r1"]) {
                let said = house.check(object, relation, user);
                assert_eq!(guest.check(object, relation, user), said, "brought along: {object} {relation} {user}");
                answers.insert((object, relation, user), said);
            }
            let request = ExpandRequest { object, relation, brought: kept };
            assert!(expand(&schema, &stored, request, &Limits::default()).is_ok());
        }
    }
    house.lists(&answers);
    let takes_away = model.types.iter().flat_map(|kind| kind.relations.values()).any(|of| takes_away(&of.rewrite));
    if !takes_away {
        let standing = Naive { model: &model, tuples: &tuples }.standing();
        for ((object, relation, user), said) in answers {
            let stands = standing.contains(&(object.to_owned(), relation.to_owned(), user.to_owned()));
            if let Answer::Said(said) = said {
                assert_eq!(said, stands, "{object} {relation} {user}");
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Said(bool),
    TooComplex,
}

struct House<'a> {
    schema: &'a Schema,
    stored: &'a Snapshot,
    brought: Brought<'a>,
}

impl House<'_> {
    fn check(&self, object: &str, relation: &str, user: &str) -> Answer {
        let request = CheckRequest { object, relation, user, brought: self.brought };
        let said = check(self.schema, self.stored, request, &Limits::default());
        let batch = batch_check(self.schema, self.stored, &[request, request], &Limits::default()).unwrap();
        for other in batch {
            assert_eq!(format!("{other:?}"), format!("{said:?}"), "in a batch");
        }
        match said {
            Ok(said) => Answer::Said(said),
            Err(QueryError::TooComplex) => Answer::TooComplex,
            Err(error) => panic!("{object} {relation} {user}: {error:?}"),
        }
    }

    /// Who is in a list stands there; who surely stands there is in it.
    fn lists(&self, answers: &BTreeMap<(&str, &str, &str), Answer>) {
        let all_said = answers.values().all(|answer| *answer != Answer::TooComplex);
        for relation in RELATIONS {
            for user in USERS {
                let request = ListObjectsRequest { object_type: "document", relation, user, brought: self.brought };
                let Ok(listed) = list_objects(self.schema, self.stored, request, &Limits::default()) else {
                    assert!(!all_said, "list_objects {relation} {user}");
                    continue;
                };
                for object in DOCUMENTS {
                    match answers[&(object, relation, user)] {
                        Answer::Said(said) => {
                            let is_in_it = listed.iter().any(|listed| listed == object);
                            assert_eq!(is_in_it, said, "list_objects {relation} {user}: {object}");
                        }
                        Answer::TooComplex => {}
                    }
                }
            }
            for object in DOCUMENTS {
                let request = ListUsersRequest {
                    object,
                    relation,
                    user_type: "user",
                    user_relation: None,
                    brought: self.brought,
                };
                let Ok(listed) = list_users(self.schema, self.stored, request, &Limits::default()) else {
                    assert!(!all_said, "list_users {object} {relation}");
                    continue;
                };
                let everybody = listed.iter().any(|user| user == "user:*");
                for user in USERS {
                    let is_in_it = listed.iter().any(|listed| listed == user);
                    match answers[&(object, relation, user)] {
                        Answer::Said(true) => assert!(is_in_it || everybody, "list_users {object} {relation}: {user}"),
                        Answer::Said(false) => assert!(!is_in_it, "list_users {object} {relation}: {user}"),
                        Answer::TooComplex => {}
                    }
                }
            }
        }
    }
}

fn restriction(type_name: &str, shape: Shape, condition: Option<&str>) -> Restriction {
    Restriction { type_name: type_name.to_owned(), shape, condition: condition.map(str::to_owned) }
}

fn model(choices: &mut Choices<'_>) -> Model {
    let mut relations = BTreeMap::new();
    for name in RELATIONS {
        let mut restrictions = vec![
            restriction("user", Shape::Object, None),
            restriction("user", Shape::Wildcard, None),
            restriction("user", Shape::Object, Some("small")),
        ];
        let usersets = choices.byte();
        let named = RELATIONS.iter().enumerate().filter(|(at, _)| usersets & (1 << at) != 0);
        restrictions.extend(named.map(|(_, of)| restriction("document", Shape::Userset((*of).to_owned()), None)));
        let rewrite = rewrite(choices, 3);
        relations.insert(name.to_owned(), Relation { rewrite, restrictions, source: Source::default() });
    }
    let parent = Relation {
        rewrite: Rewrite::This,
        restrictions: vec![restriction("document", Shape::Object, None)],
        source: Source::default(),
    };
    relations.insert("parent".to_owned(), parent);
    let kind = |name: &str, relations| TypeDefinition { name: name.to_owned(), relations, ..TypeDefinition::default() };
    let small = Condition {
        name: "small".to_owned(),
        expression: "x < 10".to_owned(),
        parameters: BTreeMap::from([("x".to_owned(), ParameterType { kind: ParameterKind::Int, of: None })]),
        source: Source::default(),
    };
    Model {
        schema_version: "1.1".to_owned(),
        types: vec![kind("user", BTreeMap::new()), kind("document", relations)],
        conditions: BTreeMap::from([("small".to_owned(), small)]),
    }
}

/// Calls itself, as deep as it is told.
fn rewrite(choices: &mut Choices<'_>, depth: u8) -> Rewrite {
    let computed = |choices: &mut Choices<'_>| (*choices.one(&RELATIONS)).to_owned();
    match choices.below(if depth == 0 { 3 } else { 6 }) {
        0 => Rewrite::This,
        1 => Rewrite::Computed(computed(choices)),
        2 => Rewrite::From { computed: computed(choices), tupleset: "parent".to_owned() },
        3 => Rewrite::Union(vec![rewrite(choices, depth - 1), rewrite(choices, depth - 1)]),
        4 => Rewrite::Intersection(vec![rewrite(choices, depth - 1), rewrite(choices, depth - 1)]),
        _ => Rewrite::Difference(Box::new((rewrite(choices, depth - 1), rewrite(choices, depth - 1)))),
    }
}

fn takes_away(rewrite: &Rewrite) -> bool {
    match rewrite {
        Rewrite::This | Rewrite::Computed(_) | Rewrite::From { .. } => false,
        Rewrite::Union(all) | Rewrite::Intersection(all) => all.iter().any(takes_away),
        Rewrite::Difference(_) => true,
    }
}

fn tuple(choices: &mut Choices<'_>) -> Relationship {
    let object = *choices.one(&DOCUMENTS);
    let user = match choices.below(4) {
        0 => "user:*".to_owned(),
        1 => format!("{}#{}", choices.one(&DOCUMENTS), choices.one(&RELATIONS)),
        2 => return Relationship::new(object, "parent", *choices.one(&DOCUMENTS)),
        _ => (*choices.one(&USERS)).to_owned(),
    };
    let tuple = Relationship::new(object, *choices.one(&RELATIONS), user);
    if choices.below(5) == 4 { tuple.under("small", serde_json::Map::new()) } else { tuple }
}

/// Who stands where: object, relation, user.
type Standing = BTreeSet<(String, String, String)>;

/// Goes over all rules again and again until nothing changes. Every condition is met.
struct Naive<'a> {
    model: &'a Model,
    tuples: &'a [Relationship],
}

impl Naive<'_> {
    fn standing(&self) -> Standing {
        let named = DOCUMENTS.iter().flat_map(|object| RELATIONS.iter().map(move |of| format!("{object}#{of}")));
        let users: Vec<String> =
            USERS.iter().map(|user| (*user).to_owned()).chain(["user:*".to_owned()]).chain(named).collect();
        let relations = &self.model.types[1].relations;
        let mut standing = Standing::new();
        loop {
            let before = standing.len();
            for object in DOCUMENTS {
                for (relation, of) in relations {
                    for user in &users {
                        let own = *user == format!("{object}#{relation}");
                        if own || self.stands((object, relation), &of.rewrite, user, &standing) {
                            standing.insert((object.to_owned(), relation.clone(), user.clone()));
                        }
                    }
                }
            }
            if standing.len() == before {
                return standing;
            }
        }
    }

    fn stands(&self, at: (&str, &str), rewrite: &Rewrite, user: &str, now: &Standing) -> bool {
        let in_it =
            |object: &str, relation: &str| now.contains(&(object.to_owned(), relation.to_owned(), user.to_owned()));
        let written = |relation: &str| {
            let relation = relation.to_owned();
            self.tuples.iter().filter(move |tuple| tuple.object == at.0 && tuple.relation == relation)
        };
        match rewrite {
            Rewrite::This => written(at.1).any(|tuple| {
                let everybody = tuple.user == "user:*" && USERS.contains(&user);
                let userset = tuple.user.split_once('#').is_some_and(|(object, relation)| in_it(object, relation));
                tuple.user == user || everybody || userset
            }),
            Rewrite::Computed(computed) => in_it(at.0, computed),
            Rewrite::From { computed, tupleset } => written(tupleset).any(|tuple| in_it(&tuple.user, computed)),
            Rewrite::Union(all) => all.iter().any(|one| self.stands(at, one, user, now)),
            Rewrite::Intersection(all) => all.iter().all(|one| self.stands(at, one, user, now)),
            Rewrite::Difference(_) => false,
        }
    }
}
