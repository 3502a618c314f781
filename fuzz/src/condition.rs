//! A condition: an expression of a stranger over parameters of every type.

use std::collections::BTreeMap;

use relation::{
    condition::{Compiled, ConditionError, ConditionFault, Context},
    model::{Condition, ParameterKind, ParameterType, Source},
};
use serde_json::{Value, json};

use super::choices::Choices;

/// The parameters, each with a value of its type.
fn parameters() -> [(&'static str, ParameterType, Value); 8] {
    let of = |kind| ParameterType { kind, of: None };
    let list = ParameterType { kind: ParameterKind::List, of: Some(Box::new(of(ParameterKind::String))) };
    let map = ParameterType { kind: ParameterKind::Map, of: Some(Box::new(of(ParameterKind::Int))) };
    [
        ("d", of(ParameterKind::Duration), json!("-1h30m")),
        ("i", of(ParameterKind::Int), json!(i64::MAX)),
        ("l", list, json!(["a", "b", "c"])),
        ("m", map, json!({ "a": 1, "b": -2 })),
        ("p", of(ParameterKind::IpAddress), json!("10.0.0.1")),
        ("s", of(ParameterKind::String), json!("a\u{1f600}b")),
        ("t", of(ParameterKind::Timestamp), json!("2024-02-29T23:59:59.999Z")),
        ("x", of(ParameterKind::Any), json!({ "a": [null, 1.5e300, true] })),
    ]
}

/// Takes an expression over the parameters.
///
/// # Errors
/// What is wrong with it.
pub fn compile(expression: &str) -> Result<Compiled, ConditionFault> {
    let parameters = parameters().into_iter().map(|(name, kind, _)| (name.to_owned(), kind));
    Compiled::new(&Condition {
        name: "condition".to_owned(),
        expression: expression.to_owned(),
        parameters: parameters.collect::<BTreeMap<_, _>>(),
        source: Source::default(),
    })
}

/// The first byte says which parameters get no value; the rest is the expression.
///
/// # Panics
/// Where an answer is not the same twice, or says of parameters what is not so.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let withheld = choices.byte();
    let Ok(compiled) = compile(&choices.text()) else { return };
    let mut context = Context::new();
    for (at, (name, _, value)) in parameters().into_iter().enumerate() {
        if withheld & (1 << at) == 0 {
            context.insert(name.to_owned(), value);
        }
    }
    let said = compiled.evaluate(None, Some(&context));
    assert_eq!(compiled.evaluate(Some(&context), None), said, "{}", choices.text());
    match said {
        Ok(_) | Err(ConditionError::Failed(_) | ConditionError::TooCostly) => assert_eq!(withheld, 0),
        Err(ConditionError::Missing(names)) => assert_eq!(names.len(), withheld.count_ones() as usize),
        Err(error @ ConditionError::Mistyped { .. }) => panic!("{error}"),
    }
}
