//! Who is in a list that has everybody in it: whoever is found otherwise than by that, as in OpenFGA's.
#![expect(clippy::unwrap_used, reason = "what a test builds on fails by panicking, as the test does")]

use keyholder_relation::{
    Relationship, Schema, Snapshot, language, list_users,
    query::{Brought, Limits, ListUsersRequest},
};

/// The users who stand to `doc:1` as `viewer`.
fn viewers(relations: &str, tuples: &[&str]) -> Vec<String> {
    let types = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, user:*]\n    define banned: [user]\n    define guest: member but not banned\n";
    let doc: Vec<String> = relations.lines().map(|line| format!("    define {}\n", line.trim())).collect();
    let schema =
        Schema::new(language::read_model(&format!("{types}type doc\n  relations\n{}", doc.concat())).unwrap()).unwrap();
    let tuples: Vec<Relationship> = tuples
        .iter()
        .map(|tuple| {
            let (place, user) = tuple.split_once('@').unwrap();
            let (object, relation) = place.split_once('#').unwrap();
            Relationship::new(object, relation, user)
        })
        .collect();
    let request = ListUsersRequest {
        object: "doc:1",
        relation: "viewer",
        user_type: "user",
        user_relation: None,
        brought: Brought::default(),
    };
    list_users(&schema, &Snapshot::new(&tuples).unwrap(), request, &Limits::default()).unwrap()
}

#[test]
fn beside_everybody_only_those_are_listed_who_are_named_where_they_stand() {
    const UNION: &str = "viewer: [user:*] or editor\neditor: [user] and staff\nstaff: [user]";
    const SPECIAL: &str = "viewer: [user:*] or special\nspecial: [user] but not blocked\nblocked: [user]";
    const BLOCKED: &str = "viewer: [user, user:*, group#guest] but not nope\nnope: blocked but not excused\nblocked: [user, user:*]\nexcused: [user]";
    const BOTH: &str = "viewer: [user, user:*] and allowed\nallowed: [user, user:*]";
    const PARENT: &str = "parent: [group]\nviewer: [user:*] or guest from parent";
    for (relations, tuples, listed) in [
        // Half of what must hold names nobody.
        (UNION, &["doc:1#viewer@user:*", "doc:1#staff@user:b"][..], &["user:*"][..]),
        (UNION, &["doc:1#viewer@user:*", "doc:1#staff@user:b", "doc:1#editor@user:b"], &["user:*", "user:b"]),
        // To be taken away from some does not make one of all.
        (SPECIAL, &["doc:1#viewer@user:*", "doc:1#blocked@user:b"], &["user:*"]),
        (SPECIAL, &["doc:1#viewer@user:*", "doc:1#blocked@user:b", "doc:1#special@user:b"], &["user:*"]),
        (SPECIAL, &["doc:1#viewer@user:*", "doc:1#special@user:b"], &["user:*", "user:b"]),
        // Taken away from those who are taken away, somebody is named, as he stands by that.
        (BLOCKED, &["doc:1#viewer@user:*", "doc:1#blocked@user:b"], &["user:*"]),
        (BLOCKED, &["doc:1#viewer@user:*", "doc:1#blocked@user:b", "doc:1#excused@user:b"], &["user:*", "user:b"]),
        (BLOCKED, &["doc:1#viewer@user:*", "doc:1#excused@user:b"], &["user:*"]),
        // All are taken away but him.
        (BLOCKED, &["doc:1#viewer@user:*", "doc:1#blocked@user:*", "doc:1#excused@user:b"], &["user:b"]),
        (BLOCKED, &["doc:1#viewer@user:*", "doc:1#viewer@user:c", "doc:1#blocked@user:b"], &["user:*", "user:c"]),
        // Through groups.
        (
            BLOCKED,
            &["doc:1#viewer@user:*", "doc:1#viewer@group:1#guest", "group:1#member@user:b", "group:1#banned@user:c"],
            &["user:*", "user:b"],
        ),
        // One of both suffices, where the other has all.
        (BOTH, &["doc:1#viewer@user:*", "doc:1#allowed@user:*", "doc:1#allowed@user:b"], &["user:*", "user:b"]),
        (BOTH, &["doc:1#viewer@user:*", "doc:1#allowed@user:b"], &["user:b"]),
        // Through what an object belongs to.
        (PARENT, &["doc:1#viewer@user:*", "doc:1#parent@group:1", "group:1#banned@user:b"], &["user:*"]),
        (
            PARENT,
            &["doc:1#viewer@user:*", "doc:1#parent@group:1", "group:1#member@user:*", "group:1#banned@user:b"],
            &["user:*"],
        ),
        (
            PARENT,
            &["doc:1#parent@group:1", "group:1#member@user:*", "group:1#member@user:c", "group:1#banned@user:b"],
            &["user:*", "user:c"],
        ),
    ] {
        assert_eq!(viewers(relations, tuples), listed, "{relations}\n{tuples:?}");
    }
}
