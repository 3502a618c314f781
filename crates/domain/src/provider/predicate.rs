//! What tells two actions of the same method and path apart, and the proof that it does.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::place::{Parsed, Place, Scalar};

/// A predicate on a request: all of it must hold.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct When {
    /// Something stands there, be it `null`.
    pub present: BTreeSet<Place>,
    /// Nothing stands there.
    pub absent: BTreeSet<Place>,
    /// Exactly this stands there.
    pub equals: BTreeMap<Place, Scalar>,
}

impl When {
    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty() && self.absent.is_empty() && self.equals.is_empty()
    }

    /// Whether a request is one that the predicate speaks of.
    pub(super) fn holds(&self, request: &Parsed) -> bool {
        self.present.iter().all(|place| request.has(place))
            && !self.absent.iter().any(|place| request.has(place))
            && self.equals.iter().all(|(place, value)| request.equals(place, value))
    }

    /// Whether it is proven that no request fulfils both. `false` means only that there is no proof.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.denies(other) || other.denies(self) || self.differs(other)
    }

    /// One says nothing is where the other says something is, or is inside.
    fn denies(&self, other: &Self) -> bool {
        let claimed = |absent| other.claimed().any(|place: &Place| place.is_within(absent));
        self.absent.iter().any(claimed) || self.holds_scalar_above(other) || other.holds_scalar_above(self)
    }

    /// A scalar has no members: what equals one here cannot have something inside there.
    fn holds_scalar_above(&self, other: &Self) -> bool {
        self.equals.keys().any(|scalar| other.claimed().any(|place| place != scalar && place.is_within(scalar)))
    }

    fn differs(&self, other: &Self) -> bool {
        self.equals.iter().any(|(place, value)| other.equals.get(place).is_some_and(|theirs| theirs != value))
    }

    /// The places where something must stand.
    fn claimed(&self) -> impl Iterator<Item = &Place> {
        self.present.iter().chain(self.equals.keys())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    fn when(present: &[&str], absent: &[&str], equals: &[(&str, Scalar)]) -> When {
        When {
            present: present.iter().map(|text| place(text)).collect(),
            absent: absent.iter().map(|text| place(text)).collect(),
            equals: equals.iter().map(|(text, value)| (place(text), value.clone())).collect(),
        }
    }

    #[test]
    fn what_is_proven() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        for (proven, left, right) in [
            (true, when(&["/a/b"], &[], &[]), when(&[], &["/a/b"], &[])),
            (true, when(&["/a/b"], &[], &[]), when(&[], &["/a"], &[])),
            (true, when(&["?q"], &[], &[]), when(&[], &["?q"], &[])),
            (true, when(&[], &[], &[("/a", text("x"))]), when(&[], &[], &[("/a", text("y"))])),
            (true, when(&[], &[], &[("/a", text("1"))]), when(&[], &[], &[("/a", Scalar::Integer(1))])),
            (true, when(&[], &[], &[("/a", text("x"))]), when(&[], &["/a"], &[])),
            (true, when(&[], &[], &[("/a", text("x"))]), when(&["/a/b"], &[], &[])),
            (false, when(&[], &[], &[]), when(&[], &[], &[])),
            (false, when(&["/a"], &[], &[]), when(&[], &["/a/b"], &[])),
            (false, when(&["/a"], &[], &[]), when(&["/b"], &[], &[])),
            (false, when(&["/q"], &[], &[]), when(&[], &["?q"], &[])),
            (false, when(&["/ab"], &[], &[]), when(&[], &["/a"], &[])),
            (false, when(&[], &[], &[("/a", text("x"))]), when(&[], &[], &[("/b", text("y"))])),
            (false, when(&[], &[], &[("/a", text("x"))]), when(&["/a"], &[], &[])),
        ] {
            assert_eq!(left.excludes(&right), proven, "{left:?} {right:?}");
            assert_eq!(right.excludes(&left), proven, "{right:?} {left:?}");
        }
    }

    fn any_place() -> impl Strategy<Value = Place> {
        "(/[ab](/[ab])?|\\?[ab])".prop_map(|text| place(&text))
    }

    fn any_when() -> impl Strategy<Value = When> {
        let places = || prop::collection::btree_set(any_place(), 0..3);
        let scalar = prop_oneof![
            "[xy]".prop_map(Scalar::Text),
            (0_i64..2).prop_map(Scalar::Integer),
            any::<bool>().prop_map(Scalar::Boolean)
        ];
        (places(), places(), prop::collection::btree_map(any_place(), scalar, 0..3))
            .prop_map(|(present, absent, equals)| When { present, absent, equals })
    }

    fn any_request() -> impl Strategy<Value = Parsed> {
        let scalar = || {
            prop_oneof![Just(json!("x")), Just(json!("y")), Just(json!(0)), Just(json!(true)), Just(json!([{"a": 1}]))]
        };
        let object = |member: BoxedStrategy<Value>| {
            prop::collection::btree_map("[ab]", member, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        };
        let member = prop_oneof![scalar(), object(scalar().boxed())];
        (prop::collection::btree_map("[ab]", "[xy]", 0..3), object(member.boxed()))
            .prop_map(|(query, body)| Parsed { query, body })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn no_request_fulfils_two_that_exclude_each_other(left in any_when(), right in any_when(), request in any_request()) {
            prop_assert!(!(left.excludes(&right) && left.holds(&request) && right.holds(&request)));
        }
    }
}
