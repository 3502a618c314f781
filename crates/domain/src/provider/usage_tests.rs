//! What acts reserve, and what their answers say they used.

use super::{
    fault_tests::{SMALL, told},
    *,
};
use crate::budget::{MOST_CAP, Unit};

fn with(units: &str) -> String {
    SMALL.replace("path = \"/notes/{box}\"", &format!("path = \"/notes/{{box}}\"\nunits = {units}"))
}

#[test]
fn an_answer_says_what_was_used_and_what_it_does_not_say_is_not_made_up() {
    let text = with(
        r#"{ posts = 1, tokens = { max = 1000, used = "/usage/total" }, bytes = { bytes = "text", used = "answer" } }"#,
    );
    let provider = Provider::parse("small.toml", &text).unwrap();
    let action = provider.action("note.create").unwrap();
    let input = action.validate(&serde_json::json!({ "box": "a", "text": "größe" })).unwrap();
    assert_eq!(input.units(), [(Unit::Acts, 1), (Unit::Posts, 1), (Unit::Tokens, 1000), (Unit::Bytes, 7)]);
    let cases: [(&str, Option<u64>); 11] = [
        (r#"{"usage":{"total":12}}"#, Some(12)),
        (r#"{"usage":{"total":0}}"#, Some(0)),
        (r#"{"usage":{"total":1001}}"#, Some(1001)),
        (r#"{"usage":{"total":18446744073709551615}}"#, Some(MOST_CAP)),
        (r#"{"usage":{"total":-1}}"#, None),
        (r#"{"usage":{"total":1.5}}"#, None),
        (r#"{"usage":{"total":"12"}}"#, None),
        (r#"{"usage":{"total":1,"total":2}}"#, None),
        (r#"{"usage":[]}"#, None),
        ("", None),
        ("oops", None),
    ];
    for (body, tokens) in cases {
        let used = action.used(body.as_bytes());
        let of = |wanted: Unit| used.iter().find(|(unit, _)| *unit == wanted).map(|(_, units)| *units);
        assert_eq!(of(Unit::Tokens), tokens, "{body}");
        assert_eq!(of(Unit::Bytes), Some(body.len() as u64), "{body}");
        assert_eq!(of(Unit::Posts), None, "{body}");
    }
}

#[test]
fn a_maximum_needs_a_place_and_a_place_is_a_pointer() {
    for (units, fault) in [
        ("{ tokens = { max = 9 } }", "`max` is what is reserved: `used` must say where the answer tells what was used"),
        ("{ tokens = { max = 0, used = \"/a\" } }", "must be from 1 to 1000000000"),
        (
            "{ tokens = { used = \"/a\" } }",
            "exactly one of `count`, `bytes` and `value` names the field that is measured, or `max` is given",
        ),
        (
            "{ tokens = { max = 9, bytes = \"text\", used = \"/a\" } }",
            "exactly one of `count`, `bytes` and `value` names the field that is measured, or `max` is given",
        ),
        ("{ tokens = { max = 9, used = \"answer\" } }", "only `bytes` are measured by the answer itself"),
        ("{ tokens = { max = 9, used = \"a\" } }", "a pointer begins with a slash, such as \"/data/id\""),
        ("{ tokens = { max = 9, used = 1 } }", "must be text, not an integer"),
        ("{ acts = { max = 1, used = \"/a\" } }", "must be an integer, not a table"),
    ] {
        let told = told(&with(units));
        assert!(told.iter().any(|line| line.ends_with(fault)), "{units}: {told:?}");
    }
}
