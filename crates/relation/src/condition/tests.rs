//! What expressions mean, as a table.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::model::{ParameterKind, Source};

fn condition(parameters: &[(&str, &str)], expression: &str) -> Condition {
    let kind = |text: &str| match text.split_once('<') {
        Some((container, of)) => ParameterType {
            kind: ParameterKind::from_name(container).unwrap(),
            of: Some(Box::new(ParameterType::plain(ParameterKind::from_name(of.trim_end_matches('>')).unwrap()))),
        },
        None => ParameterType::plain(ParameterKind::from_name(text).unwrap()),
    };
    let parameters = parameters.iter().map(|(name, text)| ((*name).to_owned(), kind(text))).collect();
    Condition { name: "c".to_owned(), expression: expression.to_owned(), parameters, source: Source::default() }
}

fn ask(parameters: &[(&str, &str)], expression: &str, context: &Json) -> Result<bool, ConditionError> {
    Compiled::new(&condition(parameters, expression)).unwrap().evaluate(None, context.as_object())
}

#[test]
fn what_expressions_mean() {
    for expression in [
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "-7 / 2 == -3 && -7 % 2 == -1",
        "-9223372036854775808 < 0",
        "1 < 2u && 2.5 > 2 && 3u == 3u",
        "0x1F == 31 && 1e3 == 1000.0",
        "'a' + \"b\" == 'ab' && 'b' > 'a'",
        "r'\\d' == '\\\\d' && '\\u00e9'.size() == 1",
        "[1, 2, 3].exists(x, x == 2) && ![1, 2].exists(x, x == 3)",
        "[1, 2, 3].all(x, x > 0) && [].all(x, false)",
        "[1, 2, 2].exists_one(x, x == 1) && ![1, 2, 2].exists_one(x, x == 2)",
        "[1, 2, 3].filter(x, x > 1) == [2, 3]",
        "[1, 2, 3].map(x, x * x) == [1, 4, 9] && [1, 2].map(x, x > 1, x) == [2]",
        "{'a': 1, 'b': 2}.a == 1 && {'a': 1}['a'] == 1 && 'a' in {'a': 1} && !('c' in {'a': 1})",
        "has({'a': 1}.a) && !has({'a': 1}.b)",
        "size('abc') == 3 && [1, 2].size() == 2 && size({'a': 1}) == 1",
        "true ? 1 == 1 : false",
        "2 in [1, 2] && !(3 in [1, 2])",
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1)",
        "'abc'.matches('^a.c$') && 'abc'.startsWith('ab') && 'abc'.endsWith('bc') && 'abc'.contains('b')",
        "duration('1h30m') == duration('90m') && duration('-1.5s') < duration('0s')",
        "timestamp('2023-10-11T10:00:00Z') + duration('1h') == timestamp('2023-10-11T13:00:00+02:00')",
        "timestamp('2023-10-11T10:00:00Z').getFullYear() == 2023 && timestamp('2023-10-11T10:00:00Z').getMonth() == 9",
        "timestamp('2023-10-11T23:30:00Z').getDayOfWeek() == 3 && timestamp('2023-10-11T23:30:00Z').getDate('+01:00') == 12",
        "ipaddress('192.168.0.1').in_cidr('192.168.0.0/24') && !ipaddress('192.168.1.1').in_cidr('192.168.0.0/24')",
        "ipaddress('2001:db8::1').in_cidr('2001:db8::/32') && ipaddress('10.0.0.1').in_cidr('0.0.0.0/0')",
        "string(1) == '1' && int('2') == 2 && double('1.5') == 1.5 && uint(3) == 3u && string(duration('90s')) == '90s'",
        "dyn(1) == dyn(1.0) // a comment",
        "null == null && !(dyn(1) == null)",
    ] {
        assert_eq!(ask(&[], expression, &json!({})), Ok(true), "{expression}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_model() {
    for (expression, at) in [
        ("", 0),
        ("x", 0),
        ("1", 0),
        ("1 == ", 5),
        ("1 == 'a'", 0),
        ("1 + 'a' == 2", 0),
        ("true && 1", 8),
        ("'a'.in_cidr('b')", 0),
        ("missing('a')", 0),
        ("true true", 5),
        ("'a", 0),
        ("[1].exists(1, true)", 11),
        ("9223372036854775808 > 0", 0),
        ("'a'.matches('(')", 4),
        ("1 == 1 = 2", 7),
    ] {
        let fault = Compiled::new(&condition(&[], expression)).unwrap_err();
        assert_eq!(fault.at, at, "{expression}: {fault}");
    }
    let high = |height: usize| Compiled::new(&condition(&[], &vec!["true"; height].join(" && ")));
    assert_eq!(high(200).unwrap().evaluate(None, None), Ok(true));
    assert!(high(201).is_err());
    let leaning = (0..60).fold("true".to_owned(), |inner, _| format!("({inner}) && true && true && true && true"));
    assert!(Compiled::new(&condition(&[], &leaning)).is_err());
    let deep = format!("{}true{}", "(".repeat(5000), ")".repeat(5000));
    assert!(Compiled::new(&condition(&[], &deep)).is_err());
    assert!(Compiled::new(&condition(&[], &vec!["true"; 4000].join(" && "))).is_err());
    assert!(Compiled::new(&condition(&[], &format!("{}true", "!".repeat(9000)))).is_ok());
}

#[test]
fn parameters_are_taken_in_their_types_and_in_no_other() {
    let yes = |kind: &str, json: Json| ask(&[("p", kind)], "p == p", &json!({ "p": json }));
    for (kind, json) in [
        ("int", json!(10)),
        ("int", json!(10.0)),
        ("int", json!("10")),
        ("uint", json!(10)),
        ("double", json!(1)),
        ("double", json!("1.5")),
        ("bool", json!(true)),
        ("string", json!("a")),
        ("duration", json!("1h")),
        ("timestamp", json!("2023-10-11T10:00:00Z")),
        ("ipaddress", json!("::1")),
        ("list<int>", json!([1, 2])),
        ("map<string>", json!({ "a": "b" })),
        ("any", json!([1, "a", null])),
    ] {
        assert_eq!(yes(kind, json.clone()), Ok(true), "{kind} {json}");
    }
    for (kind, json) in [
        ("int", json!(1.5)),
        ("int", json!("a")),
        ("uint", json!(-1)),
        ("double", json!("1e400")),
        ("bool", json!("true")),
        ("string", json!(1)),
        ("duration", json!("1 hour")),
        ("timestamp", json!("yesterday")),
        ("ipaddress", json!("256.0.0.1")),
        ("list<int>", json!([1, "a"])),
        ("map<string>", json!({ "a": 1 })),
    ] {
        let expected = ConditionError::Mistyped { name: "p".to_owned(), expected: kind.to_owned() };
        assert_eq!(yes(kind, json.clone()), Err(expected), "{kind} {json}");
    }
}

#[test]
fn what_the_tuple_says_goes_before_what_the_request_says() {
    let compiled = Compiled::new(&condition(&[("x", "int"), ("y", "int")], "x == 1 && y == 2")).unwrap();
    let (tuple, request) = (json!({ "x": 1 }), json!({ "x": 5, "y": 2, "z": 3 }));
    assert_eq!(compiled.evaluate(tuple.as_object(), request.as_object()), Ok(true));
    assert_eq!(compiled.evaluate(None, request.as_object()), Ok(false));
    assert_eq!(compiled.evaluate(tuple.as_object(), None), Err(ConditionError::Missing(vec!["y".to_owned()])));
}

#[test]
fn no_condition_takes_longer_than_it_is_given() {
    let list = json!({ "l": (0..1000).collect::<Vec<_>>() });
    let nested = "l.all(a, l.all(b, l.all(c, a + b + c >= 0)))";
    assert_eq!(ask(&[("l", "list<int>")], nested, &list), Err(ConditionError::TooCostly));
    let long = json!({ "l": (0..15_000).collect::<Vec<_>>(), "s": "a".repeat(1_000_000) });
    let typed: &[(&str, &str)] = &[("l", "list<int>"), ("s", "string")];
    for costly in
        ["l.all(a, a in l)", "l.all(a, s + s != '')", "l.all(a, 'b'.matches(s))", "s.matches('a*b')", "l + l == l + l"]
    {
        assert_eq!(ask(typed, costly, &long), Err(ConditionError::TooCostly), "{costly}");
    }
    // A pattern that comes with the question is compiled each time, and one of many classes costs more than a condition has.
    let given: &[(&str, &str)] = &[("s", "string"), ("p", "string")];
    let pattern = |text: &str| ask(given, "s.matches(p)", &json!({ "s": "abc", "p": text }));
    assert_eq!(pattern("^a.c$"), Ok(true));
    assert_eq!(pattern(r"^\w{3}$"), Ok(true));
    for costly in [&r"\w?".repeat(200), &format!("(?i){}", "[^a]".repeat(7)), &"a".repeat(20_000)] {
        assert_eq!(pattern(costly), Err(ConditionError::TooCostly), "{costly:.40}");
    }
    let mut parameters = BTreeMap::new();
    parameters.insert("x".to_owned(), ParameterType::plain(ParameterKind::Int));
    assert!(fits(&parameters, json!({ "x": 1 }).as_object().unwrap()));
    assert!(!fits(&parameters, json!({ "x": "a" }).as_object().unwrap()));
    assert!(!fits(&parameters, json!({ "y": 1 }).as_object().unwrap()));
}
