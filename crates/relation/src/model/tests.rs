//! The worst that may be sent: what is done with it is counted, and grows with its length and the ways in it alone.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Fault, FaultKind, Model, tally::steps, validate};
use crate::{
    Schema,
    language::{TEXT_BYTES, parse, read_model},
};

/// How many ways a model may have, and about how many steps are done for each, and for each byte of a text.
const WAYS: usize = 200_000;
const EACH_WAY: usize = 16;
const EACH_BYTE: usize = 30;
/// About how many steps the parser does for each byte: at worst it looks at each rule that is open, and hundreds may be.
const EACH_LETTER: usize = 250;

fn text(types: &[(String, Vec<String>)]) -> String {
    let mut text = "model\n  schema 1.1\n".to_owned();
    for (name, relations) in types {
        writeln!(text, "type {name}").unwrap();
        if !relations.is_empty() {
            text.push_str("  relations\n");
        }
        for relation in relations {
            writeln!(text, "    define {relation}").unwrap();
        }
    }
    text
}

fn kind(name: impl Into<String>, relations: impl IntoIterator<Item = String>) -> (String, Vec<String>) {
    (name.into(), relations.into_iter().collect())
}

fn list(count: usize, one: impl Fn(usize) -> String, between: &str) -> String {
    (0..count).map(one).collect::<Vec<String>>().join(between)
}

/// What is in its way is counted: all that is said of a text from its letters to its schema.
fn outcome(text: &str) -> (Result<Schema, Vec<Fault>>, usize) {
    assert!(text.len() <= TEXT_BYTES, "{} bytes", text.len());
    steps(|| read_model(text).and_then(Schema::new))
}

/// The same of a model as JSON.
fn json_outcome(json: &Value) -> (Result<Schema, Vec<Fault>>, usize) {
    let length = json.to_string().len();
    assert!(length <= TEXT_BYTES, "{length} bytes");
    steps(|| Schema::new(Model::from_json(json).unwrap()))
}

fn bounded(name: &str, length: usize, steps: usize) {
    let bound = EACH_BYTE * length + EACH_WAY * WAYS;
    assert!(steps <= bound, "{name}: {steps} steps for {length} bytes");
}

/// `r` is all of many things that hang on one type among many, and the one that has them is looked at last.
fn conjunction(parents: usize, leaves: usize, backwards: bool) -> String {
    let mut types = vec![kind("u", []), kind("z", (0..leaves).map(|at| format!("x{at}: [u]")))];
    types.extend((0..parents).map(|at| kind(format!("t{at}"), [])));
    let at = |at: usize| if backwards { leaves - 1 - at } else { at };
    let rule = list(leaves, |leaf| format!("x{} from p", at(leaf)), " and ");
    let parents = list(parents, |at| format!("t{at}"), ", ");
    types.push(kind("d", [format!("p: [{parents}, z]"), format!("r: {rule}")]));
    text(&types)
}

#[test]
fn what_a_type_lacks_is_not_looked_up_among_all_that_may_have_it() {
    for backwards in [false, true] {
        let text = conjunction(990, 5_000, backwards);
        let (outcome, steps) = outcome(&text);
        assert_eq!(outcome.unwrap().ways(), 991 + 5_000 + 5_000);
        assert!(steps <= 8 * text.len(), "{steps} steps for {} bytes", text.len());
    }
}

/// Types with their relations, as they are written.
type Types = Vec<(String, Vec<String>)>;

fn over_types() -> [(&'static str, Types); 4] {
    let all = list(200, |at| format!("t{at}"), ", ");
    let other = |p: usize| format!("p{p}: [{}, t{}]", list(60, |at| format!("t{}", 2 * at + p), ", "), 1 - p);
    let halves = (0..120).map(|at| kind(format!("t{at}"), (at % 2..120).step_by(2).map(|of| format!("x{of}: [t0]"))));
    let through = (0..1_000).map(|r| format!("r{r}: x{} from p{}", r % 120, (r + 1) % 2));
    let chain = |at: usize| [format!("p: [t{}]", (at + 1) % 990), "x: [t0] or x from p".to_owned()];
    let everywhere = || [format!("p: [{all}]"), "x: [t0] or x from p".to_owned()];
    [
        ("wide", (0..600).map(|at| kind(format!("t{at}"), (0..16).map(|of| format!("r{of}: [t{of}]")))).collect()),
        ("a chain over types", (0..990).map(|at| kind(format!("t{at}"), chain(at))).collect()),
        ("one name everywhere", (0..200).map(|at| kind(format!("t{at}"), everywhere())).collect()),
        ("few in common", halves.chain([kind("d", (0..2).map(other).chain(through))]).collect()),
    ]
}

fn within_a_type() -> [(&'static str, Types); 3] {
    let step = |at: usize| if at == 0 { "r0: [u]".to_owned() } else { format!("r{at}: r{}", at - 1) };
    let ends = [
        format!("all: {}", list(5_000, |at| format!("r{at}"), " and ")),
        format!("some: {}", list(5_000, |at| format!("r{}", 4_999 - at), " or ")),
    ];
    let circle = |at: usize| format!("r{at}: {}", list(100, |of| format!("r{}", (at + of) % 100), " and "));
    let nested = (0..90).fold("a".to_owned(), |inner, _| format!("a or ({inner})"));
    let deep = ["a: [u]".to_owned()].into_iter().chain((0..150).map(|at| format!("b{at}: {nested}")));
    [
        ("one after the other", vec![kind("u", []), kind("d", (0..5_000).map(step).chain(ends))]),
        ("circles", vec![kind("u", []), kind("d", (0..100).map(circle))]),
        ("deep", vec![kind("u", []), kind("d", deep)]),
    ]
}

#[test]
fn the_work_on_a_model_grows_with_its_ways_and_its_length() {
    for (name, types) in over_types().into_iter().chain(within_a_type()) {
        let text = text(&types);
        let (outcome, steps) = outcome(&text);
        assert_eq!(outcome.is_ok(), !["circles", "deep"].contains(&name), "{name}");
        bounded(name, text.len(), steps);
    }
}

fn model_of(relations: &Value, metadata: &Value) -> Value {
    json!({ "schema_version": "1.1", "type_definitions": [
        { "type": "u" },
        { "type": "d", "relations": relations, "metadata": { "relations": metadata } },
    ] })
}

#[test]
fn what_is_written_directly_is_one_thing_however_often_it_is_written() {
    let direct: Vec<Value> = (0..8_000).map(|_| json!({ "this": {} })).collect();
    let model = |restrictions: Vec<Value>, directs: usize| {
        model_of(
            &json!({ "r": { "union": { "child": direct[..directs] } } }),
            &json!({ "r": { "directly_related_user_types": restrictions } }),
        )
    };
    // Each of many restrictions is wrong, once.
    let wrong = model((0..6_000).map(|at| json!({ "type": format!("t{at}") })).collect(), 8_000);
    let (outcome, steps) = json_outcome(&wrong);
    assert_eq!(outcome.unwrap_err()[0].kind, FaultKind::TooLarge);
    bounded("wrong and direct", wrong.to_string().len(), steps);
    let wrong = model((0..2_000).map(|at| json!({ "type": format!("t{at}") })).collect(), 90);
    let (outcome, _) = json_outcome(&wrong);
    assert_eq!(outcome.unwrap_err().len(), 2_000);
    // They are ways, each of them.
    let right = model((0..5_000).map(|_| json!({ "type": "d", "relation": "r" })).collect(), 8_000);
    assert_eq!(json_outcome(&right).0.unwrap_err()[0].kind, FaultKind::TooLarge);
}

#[test]
fn few_words_that_are_wrong_in_many_ways_are_told_up_to_a_bound() {
    let told = |faults: &[Fault]| faults.iter().map(|fault| fault.message.len()).sum::<usize>();
    let name = |letters: usize| "x".repeat(letters);
    // No parent has what each of many relations asks of it, and its name is long.
    for (letters, leaves, parents) in [(1, 5_000, 900), (100_000, 1, 900), (20, 3_000, 900)] {
        let types = (0..parents).map(|at| kind(format!("t{at}"), [])).chain([kind(
            "d",
            [format!("p: [{}]", list(parents, |at| format!("t{at}"), ", "))]
                .into_iter()
                .chain((0..leaves).map(|at| format!("r{at}: {}{at} from p", name(letters)))),
        )]);
        let text = text(&types.collect::<Vec<_>>());
        let (outcome, steps) = outcome(&text);
        let faults = outcome.unwrap_err();
        assert_eq!(faults[0].kind, FaultKind::InvalidRelationOnTupleset);
        assert_eq!(faults.last().unwrap().kind, FaultKind::TooLarge);
        assert!(faults.len() <= 10_001 && told(&faults) <= 3 * 1024 * 1024);
        bounded("nobody has it", text.len(), steps);
    }
    // A long name of a type is in the message of each of its relations.
    let relations: serde_json::Map<String, Value> =
        (0..5_000).map(|at| (format!("#{at}"), json!({ "this": {} }))).collect();
    let json =
        json!({ "schema_version": "1.1", "type_definitions": [{ "type": name(100_000), "relations": relations }] });
    let faults = validate(&Model::from_json(&json).unwrap());
    assert!(told(&faults) <= 3 * 1024 * 1024 && faults.last().unwrap().kind == FaultKind::TooLarge);
    let again =
        format!("model\n  schema 1.1\ntype {}\n  relations\n{}", name(100_000), "    define a: a\n".repeat(5_000));
    let faults = parse(&again).unwrap_err();
    assert!(told(&faults) <= 3 * 1024 * 1024 && faults.last().unwrap().kind == FaultKind::TooLarge);
}

#[test]
fn conditions_that_are_refused_cost_what_those_cost_that_are_taken() {
    for wrong in ["s.matches('(?i)[^a]') && nope", "s.matches('(?i)[^a](')"] {
        let texts: Vec<String> =
            (0..2_000).map(|at| format!("condition c{at}(s: string) {{\n  {wrong}\n}}\n")).collect();
        let users = list(2_000, |at| format!("u with c{at}"), ", ");
        let text = format!("{}{}", text(&[kind("u", []), kind("d", [format!("r: [{users}]")])]), texts.concat());
        let faults = read_model(&text).unwrap_err();
        assert!(faults.len() < 200, "{}", faults.len());
        assert_eq!(faults.last().unwrap().kind, FaultKind::TooLarge);
        let parsed = parse(&text).unwrap();
        let faults = Schema::new(parsed.model().clone()).unwrap_err();
        assert!(faults.len() < 200, "{}", faults.len());
    }
    // A long name is in no path that is not told.
    let parameters = |kind: &str| -> serde_json::Map<String, Value> {
        (0..3_000).map(|at| (format!("p{at}"), json!({ "type_name": kind }))).collect()
    };
    let condition = |kind: &str| json!({ "conditions": { "c": { "name": "c", "expression": "1 < 2", "parameters": parameters(kind) } } });
    assert!(Model::from_json(&condition("TYPE_NAME_INT")).is_ok());
    let fault = Model::from_json(&condition("TYPE_NAME_NONE")).unwrap_err();
    assert_eq!(fault.path, "conditions.c.parameters.p0");
}

#[test]
fn a_file_of_very_many_modules_is_told_once() {
    let relations: serde_json::Map<String, Value> =
        (0..1_500).map(|at| (format!("r{at}"), json!({ "this": {} }))).collect();
    let metadata: serde_json::Map<String, Value> = (0..1_500)
        .map(|at| {
            let of = json!([{ "type": "u" }]);
            (format!("r{at}"), json!({ "directly_related_user_types": of, "module": format!("m{at}"), "source_info": { "file": "f" } }))
        })
        .collect();
    let json = model_of(&json!(relations), &json!(metadata));
    let (outcome, steps) = json_outcome(&json);
    let faults = outcome.unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(), [FaultKind::MultipleModulesInFile]);
    bounded("modules", json.to_string().len(), steps);
}

/// What a text is made of: pieces that may be repeated, and what they may stand behind.
const PIECES: [&str; 52] = [
    "\n",
    " ",
    "\t\n",
    "(",
    ")",
    "((",
    "()",
    "[",
    "]",
    "[u, ",
    "[ \n",
    ",",
    "u",
    "u ",
    "a or ",
    " or a",
    " and (",
    " or (a",
    " but not ",
    "but  ",
    "#",
    "a#b ",
    ":",
    "*",
    "{",
    "}",
    "<",
    ">",
    "type ",
    "\ntype t",
    "\nextend type ",
    "\n  relations",
    "\n    define ",
    "\n    define a",
    "\n    define b: ",
    "\n    define b: (",
    "\n    define b: (a or (a",
    "\n    define b: a from ",
    "\n    define b: [u with c] or a",
    "\ncondition c(",
    "\ncondition c(s: string",
    "\ncondition c(s: string) {",
    "\ncondition c(s: string) {\n x }",
    "\ncondition c(a: list<",
    ", p: int",
    "\nmodule m",
    "\n# c",
    " # c\n",
    "é",
    "'",
    "with ",
    "1.1 ",
];
const HEAD: &str = "model\n  schema 1.1\ntype u\ntype d\n  relations\n    define a: [u]";

#[test]
fn a_text_is_read_in_steps_that_grow_with_it_and_no_faster() {
    let deep = |rule: &str| format!("{HEAD}\n    define b: {}", rule.repeat(120));
    let leads = [
        String::new(),
        HEAD.to_owned(),
        "module m\n".to_owned(),
        format!("{HEAD}\n    define b: ["),
        deep("("),
        deep("a or ("),
        deep("a and ("),
        format!("{HEAD}\ncondition c("),
    ];
    let check = |lead: &str, piece: &str, tail: &str, bytes: usize| {
        let text = format!("{lead}{}{tail}", piece.repeat(bytes / piece.len()));
        let steps = steps(|| parse(&text).map(|parsed| parsed.validate().len())).1;
        assert!(steps <= EACH_LETTER * text.len(), "{lead:?}, then {piece:?}: {steps} steps for {} bytes", text.len());
    };
    for lead in &leads {
        for piece in PIECES {
            check(lead, piece, "\ntype x\n", 3_000);
        }
    }
    for (lead, piece) in leads.iter().skip(4).zip(["u ", "u ", " and (", " or a"]) {
        check(lead, piece, ")", 60_000);
    }
}
