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
        "!(dyn(1) in dyn({'a': 1}))",
        "1 < 2 == true && true == true == true && 1 == 1 in [true]",
        "bool('True') && bool('1') && bool('T') && !bool('F') && !bool('0') && !bool('FALSE')",
        "string(1e6) == '1e+06' && string(123456.0) == '123456' && string(1234567.5) == '1.2345675e+06'",
        "string(0.0001) == '0.0001' && string(0.00001) == '1e-05' && string(1.5e100) == '1.5e+100' && string(-0.0) == '-0'",
        "string(1.0 / 0.0) == '+Inf' && string(-1.0 / 0.0) == '-Inf' && string(0.0 / 0.0) == 'NaN'",
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
        ("1 < 2 < 3", 0),
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
        ("int", json!(1e18)),
        ("uint", json!(10)),
        ("uint", json!(1e19)),
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
        ("int", json!(1e19)),
        ("uint", json!(1e20)),
        ("uint", json!(-1)),
        ("double", json!("1e400")),
        ("bool", json!("true")),
        ("string", json!(1)),
        ("duration", json!("1 hour")),
        ("timestamp", json!("yesterday")),
        ("timestamp", json!("2024-01-01 00:30:00Z")),
        ("timestamp", json!("2024-01-01X00:30:00Z")),
        ("timestamp", json!("2024-01-01t00:30:00Z")),
        ("timestamp", json!("2024-01-01T00:30:00z")),
        ("timestamp", json!("2024-06-30T23:59:60Z")),
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

#[test]
fn a_moment_is_asked_in_utc_unless_a_zone_is_named_and_written_as_it_was_given() {
    let moment = |given: &str, expression: &str| ask(&[("t", "timestamp")], expression, &json!({ "t": given }));
    for (given, expression) in [
        ("2024-01-01T09:30:00+09:00", "t.getHours() == 0 && t.getMinutes() == 30"),
        ("2024-01-01T09:30:00+09:00", "t.getHours('') == 0 && t.getHours('UTC') == 0 && t.getHours('+09:00') == 9"),
        ("2024-01-01T00:30:00+02:00", "t.getFullYear() == 2023 && t.getMonth() == 11 && t.getDate() == 31"),
        ("2024-01-01T00:30:00+02:00", "t.getDayOfWeek() == 0 && t.getDayOfYear() == 364 && t.getDayOfMonth() == 30"),
        ("2024-01-01T00:30:00+02:00", "timestamp(string(t)).getHours() == 22 && (t + duration('1h')).getHours() == 23"),
        ("2024-01-01T00:30:00+02:00", "string(t) == '2024-01-01T00:30:00+02:00'"),
        ("2024-01-01T00:30:00+02:00", "string(t + duration('1h')) == '2024-01-01T01:30:00+02:00'"),
        ("2024-01-01T00:30:00.100-00:00", "string(t) == '2024-01-01T00:30:00.1Z'"),
        ("2024-01-01T12:30:00Z", "t.getHours('-2:45') == 9 && t.getMinutes('-0:30') == 0 && t.getHours('23:59') == 12"),
        ("9999-12-31T23:59:59-23:59", "string(t) == '9999-12-31T23:59:59-23:59'"),
    ] {
        assert_eq!(moment(given, expression), Ok(true), "{given} {expression}");
    }
    for zone in ["--128:00", "-128:00", "24:00", "2:60", "2:-30", "-2:-30", "2:", ":30", "++2:00", "Z", "utc"] {
        let expression = format!("t.getHours('{zone}') > -1");
        let outcome = moment("2024-01-01T12:30:00Z", &expression);
        assert!(matches!(outcome, Err(ConditionError::Failed(_))), "{zone}: {outcome:?}");
    }
}

#[test]
fn nothing_panics_at_the_edges_of_time_and_number() {
    let moments = ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z"];
    let spans = ["2562047h47m16s", "-2562047h47m16s", "1ns"];
    let typed: &[(&str, &str)] =
        &[("t", "timestamp"), ("u", "timestamp"), ("d", "duration"), ("i", "int"), ("x", "double")];
    let parts = [
        "FullYear",
        "Month",
        "Date",
        "DayOfMonth",
        "DayOfWeek",
        "DayOfYear",
        "Hours",
        "Minutes",
        "Seconds",
        "Milliseconds",
    ];
    let mut expressions: Vec<String> = parts
        .iter()
        .flat_map(|part| ["", "'-23:59'", "'23:59'"].map(|zone| format!("t.get{part}({zone}) == 0")))
        .collect();
    for text in [
        "string(t) == ''",
        "t == u",
        "t < u",
        "t - u == d",
        "t + d == u",
        "d + t == u",
        "t - d == u",
        "d + d == d",
        "d - d - d == d",
        "-d == d",
        "int(t) == i",
        "int(d) == i",
        "string(d) == ''",
        "d.getMilliseconds() == d.getHours()",
        "timestamp(i) == t",
        "timestamp(string(t)) == t",
        "-i == i * i",
        "i / -1 == i % -1",
        "i - 1 == i + 1",
        "uint(i) == uint(x)",
        "int(x) == i",
        "int(-x) == i",
        "double(i) == x",
        "[1][i] == 1",
        "string(x * x) == string(-x)",
    ] {
        expressions.push(text.to_owned());
    }
    for expression in &expressions {
        let compiled = Compiled::new(&condition(typed, expression)).unwrap();
        for (t, u) in moments.iter().flat_map(|one| moments.iter().map(move |other| (one, other))) {
            for (d, i, x) in [(0, i64::MIN, f64::MAX), (1, i64::MAX, -1e19), (2, -1, 5e-324)] {
                let context = json!({ "t": t, "u": u, "d": spans[d], "i": i, "x": x });
                let outcome = compiled.evaluate(None, context.as_object());
                assert!(matches!(outcome, Ok(_) | Err(ConditionError::Failed(_))), "{expression}: {outcome:?}");
            }
        }
    }
}

#[test]
fn a_span_and_a_moment_that_are_reckoned_stay_in_bounds() {
    let typed: &[(&str, &str)] = &[("t", "timestamp"), ("d", "duration"), ("s", "string")];
    let given = json!({ "t": "9999-12-31T00:00:00Z", "d": "2562047h47m16s", "s": "0000-01-01T00:00:00Z" });
    for expression in [
        "t + duration('48h') > t",
        "t - timestamp('0001-01-01T00:00:00Z') > d",
        "d + d > d",
        "timestamp(s) < t",
        "timestamp(253402300800) > t",
    ] {
        let outcome = ask(typed, expression, &given);
        assert!(matches!(outcome, Err(ConditionError::Failed(_))), "{expression}: {outcome:?}");
    }
}

#[test]
fn an_address_of_version_4_is_the_same_in_both_its_forms() {
    for given in ["10.1.2.3", "::ffff:10.1.2.3"] {
        let network = |expression: &str| ask(&[("i", "ipaddress")], expression, &json!({ "i": given }));
        for expression in [
            "i == ipaddress('10.1.2.3') && i == ipaddress('::ffff:10.1.2.3')",
            "i in [ipaddress('10.1.2.3')] && [i] == [ipaddress('::ffff:10.1.2.3')]",
            "i.in_cidr('::ffff:10.0.0.0/104') && i.in_cidr('10.0.0.0/8') && i.in_cidr('::ffff:10.1.2.3/128')",
            "i.in_cidr('::ffff:0:0/96') && i.in_cidr('0.0.0.0/0')",
            "!i.in_cidr('::ffff:0:0/95') && !i.in_cidr('::/0') && !i.in_cidr('::ffff:10.0.0.0/8')",
            "!i.in_cidr('::ffff:11.0.0.0/104') && !ipaddress('::1').in_cidr('10.0.0.0/8')",
            "ipaddress('::1').in_cidr('::ffff:10.0.0.0/8') && ipaddress('::1').in_cidr('::/0')",
        ] {
            assert_eq!(network(expression), Ok(true), "{given} {expression}");
        }
        for malformed in ["10.1.2.3/33", "10.1.2.3/08", "10.1.2.3/+8", "10.1.2.3/", "10.1.2.3", "::ffff:10.0.0.0/129"] {
            let outcome = network(&format!("i.in_cidr('{malformed}')"));
            assert!(matches!(outcome, Err(ConditionError::Failed(_))), "{malformed}: {outcome:?}");
        }
    }
}

#[test]
fn a_comparison_costs_what_it_visits() {
    let numbers = json!({ "n": (0..40).collect::<Vec<_>>(), "m": { "a".repeat(50_000): 1 }, "s": "a".repeat(50_000) });
    let typed: &[(&str, &str)] = &[("n", "list<int>"), ("m", "map<int>"), ("s", "string")];
    for costly in [
        "[n.map(i, n)].exists(a, [n.map(i, a)].exists(b, [n.map(i, b)].exists(c, c == c)))",
        "[n.map(i, n)].exists(a, [n.map(i, a)].exists(b, [n.map(i, b)].exists(c, c != c)))",
        "[n.map(i, n)].exists(a, [n.map(i, a)].exists(b, [n.map(i, b)].exists(c, c in [c])))",
        "[n.map(i, n)].exists(a, [n.map(i, a)].exists(b, [n.map(i, b)].exists(c, {'k': c} == {'k': c})))",
        "n.all(i, s == s)",
        "n.all(i, m[s] == 1)",
        "n.all(i, s in m)",
        "n.all(i, [s] == [s])",
        "n.all(i, m == m)",
        "n.all(i, {s: i}.size() == 1)",
        "n.all(i, m.all(k, true))",
    ] {
        assert_eq!(ask(typed, costly, &numbers), Err(ConditionError::TooCostly), "{costly}");
    }
    // What ends early costs no more than it looked at.
    let long = json!({ "n": (0..15_000).collect::<Vec<_>>(), "m": {}, "s": "" });
    assert_eq!(ask(typed, "[1, 2, 3, 4].all(i, i in n && n != [i])", &long), Ok(true));
}

#[test]
fn parameters_cost_a_step_each() {
    let names: Vec<String> = (0..6_000).map(|at| format!("p{at}")).collect();
    let parameters: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "int")).collect();
    let compiled = Compiled::new(&condition(&parameters, "p0 + p5999 == 2 && [1].all(p0, p0 == 1)")).unwrap();
    let given: Context = names.iter().map(|name| (name.clone(), json!(1))).collect();
    let (met, cost) = compiled.weighed(None, Some(&given), None);
    assert_eq!(met, Ok(true));
    assert!((6_000..6_100).contains(&cost), "{cost}");
    let (met, cost) = compiled.weighed(None, None, None);
    assert!(matches!(met, Err(ConditionError::Missing(_))));
    assert!(cost >= 6_000, "{cost}");
}

#[test]
fn a_condition_ends_when_nobody_waits_for_it() {
    let compiled = Compiled::new(&condition(&[], "1 == 1")).unwrap();
    let stop = StopSign::default();
    assert_eq!(compiled.weighed(None, None, Some(&stop)).0, Ok(true));
    stop.set();
    assert_eq!(compiled.weighed(None, None, Some(&stop)).0, Err(ConditionError::TooCostly));
}

#[test]
fn what_was_too_costly_once_is_not_tried_again() {
    let keys: Context = (0..30_000).map(|at| (format!("k{at}"), json!(1))).collect();
    let given = json!({ "m": keys, "n": (0..100).collect::<Vec<_>>() });
    let typed: &[(&str, &str)] = &[("m", "map<int>"), ("n", "list<int>")];
    // The division's error hides that the other side is too costly, and the macro passes over it.
    let compiled = Compiled::new(&condition(typed, "n.exists(i, 1 / 0 == i || m.all(k, true))")).unwrap();
    let (met, cost) = compiled.weighed(None, given.as_object(), None);
    let (_, told) = Compiled::new(&condition(typed, "true")).unwrap().weighed(None, given.as_object(), None);
    assert_eq!((met, cost - told), (Err(ConditionError::TooCostly), 20_000 - 1));
}
