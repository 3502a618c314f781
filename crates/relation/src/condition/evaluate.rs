//! The meaning of an expression for given values.
//!
//! *And* and *or* are those of CEL: an error on one side is none if the other side alone decides. Must never look at anything that grows
//! with what it was told before it has taken the steps for it.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use super::{
    ConditionError,
    function::Function,
    moment,
    parse::{Each, Expression, Form, Macro, Operator},
    pattern::Pattern,
    value::Value,
};
use crate::budget::StopSign;

/// How many steps a condition may take.
const STEPS: usize = 20_000;

type Evaluated<T = Value> = Result<T, ConditionError>;

/// Whether the expression is true, and how many steps that took. The parameters are in the order of their names. Whose asker is gone ends
/// as what is too costly does.
pub(super) fn evaluate<'a>(
    expression: &'a Expression,
    parameters: Vec<(&'a str, Value)>,
    stop: Option<&'a StopSign>,
) -> (Evaluated<bool>, usize) {
    let mut evaluation = Evaluation { parameters, names: Vec::new(), steps: STEPS, stop };
    let truth = match evaluation.value(expression) {
        Ok(Value::Bool(bool)) => Ok(bool),
        Ok(other) => failed(format!("the condition gave {} and no truth", other.kind())),
        Err(error) => Err(error),
    };
    (truth, STEPS - evaluation.steps)
}

fn failed<T>(why: impl Into<String>) -> Evaluated<T> {
    Err(ConditionError::Failed(why.into()))
}

struct Evaluation<'a> {
    /// In the order of their names.
    parameters: Vec<(&'a str, Value)>,
    /// What macros name, the innermost last: no more than the parser lets be inside each other.
    names: Vec<(&'a str, Value)>,
    steps: usize,
    stop: Option<&'a StopSign>,
}

impl<'a> Evaluation<'a> {
    fn spend(&mut self, steps: usize) -> Evaluated<()> {
        if self.stop.is_some_and(StopSign::is_set) {
            return Err(ConditionError::TooCostly);
        }
        // Where there are not as many, none are left: what was too costly once must not be tried again, by a macro for each element.
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.map(|_| ()).ok_or(ConditionError::TooCostly)
    }

    /// Calls itself for the parts of an expression, whose depth the parser has bounded.
    fn value(&mut self, expression: &'a Expression) -> Evaluated {
        self.spend(1)?;
        match &expression.form {
            Form::Literal(value) => Ok(value.clone()),
            Form::Name(name) => self.named(name),
            Form::Member(of, key) => {
                let member = self.member(of, key)?;
                member.map_or_else(|| failed(format!("there is no key {key}")), Ok)
            }
            Form::Has(of, key) => Ok(Value::Bool(self.member(of, key)?.is_some())),
            Form::Index(of, index) => {
                let (of, index) = (self.value(of)?, self.value(index)?);
                if let (Value::Map(map), Value::Text(key)) = (&of, &index) {
                    self.spend(search(map, key))?;
                }
                element(&of, &index)
            }
            Form::Not(inner) => Ok(Value::Bool(!self.truth(inner)?)),
            Form::Negate(inner) => match self.value(inner)? {
                Value::Int(number) => number.checked_neg().map(Value::Int).map_or_else(overflow, Ok),
                Value::Double(number) => Ok(Value::Double(-number)),
                Value::Duration(span) => {
                    let negative = time::Duration::ZERO.checked_sub(span).and_then(moment::span);
                    negative.map(Value::Duration).map_or_else(overflow, Ok)
                }
                other => failed(format!("{} has no negative", other.kind())),
            },
            Form::Binary(operator, sides) => {
                let (left, right) = (self.value(&sides.0)?, self.value(&sides.1)?);
                self.binary(*operator, &left, &right)
            }
            Form::And(sides) => self.decided(&sides.0, &sides.1, false),
            Form::Or(sides) => self.decided(&sides.0, &sides.1, true),
            Form::Choice(parts) => {
                if self.truth(&parts.0)? {
                    self.value(&parts.1)
                } else {
                    self.value(&parts.2)
                }
            }
            Form::List(parts) => {
                let list: Evaluated<Vec<Value>> = parts.iter().map(|part| self.value(part)).collect();
                Ok(Value::List(list?.into()))
            }
            Form::Map(parts) => self.map(parts),
            Form::Call(function, arguments) => self.call(*function, arguments),
            Form::Matches(of, pattern) => match self.value(of)? {
                Value::Text(text) => self.matches(pattern, &text),
                other => failed(format!("{} is no text", other.kind())),
            },
            Form::Each(each, inner) => self.each(*each, inner),
        }
    }

    fn named(&mut self, name: &str) -> Evaluated {
        self.spend(name.len() / 64)?;
        if let Some((_, value)) = self.names.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        let found = self.parameters.binary_search_by(|(known, _)| (*known).cmp(name)).ok();
        let value = found.and_then(|at| self.parameters.get(at)).map(|(_, value)| value.clone());
        value.map_or_else(|| failed(format!("{name} has no value")), Ok)
    }

    fn member(&mut self, of: &'a Expression, key: &str) -> Evaluated<Option<Value>> {
        match self.value(of)? {
            Value::Map(map) => {
                self.spend(search(&map, key))?;
                Ok(map.get(key).cloned())
            }
            other => failed(format!("{} has no members", other.kind())),
        }
    }

    fn binary(&mut self, operator: Operator, left: &Value, right: &Value) -> Evaluated {
        match operator {
            Operator::Equal => self.same(left, right).map(Value::Bool),
            Operator::Unequal => self.same(left, right).map(|same| Value::Bool(!same)),
            Operator::In => self.is_in(left, right).map(Value::Bool),
            Operator::Add => {
                self.spend(left.weight() + right.weight())?;
                add(left, right)
            }
            _ => {
                self.spend(left.weight().min(right.weight()))?;
                reckoned(operator, left, right)
            }
        }
    }

    /// Whether two values are the same, by as many steps as there are values that it looks at: one that holds others may hold the same
    /// one many times over, and is then far larger than what it took to make it. Calls itself for what lists and maps hold, which is no
    /// deeper than an expression and a context together.
    fn same(&mut self, one: &Value, other: &Value) -> Evaluated<bool> {
        match (one, other) {
            (Value::List(one), Value::List(other)) => {
                self.spend(1)?;
                if one.len() != other.len() {
                    return Ok(false);
                }
                for (one, other) in one.iter().zip(other.iter()) {
                    if !self.same(one, other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Map(one), Value::Map(other)) => {
                self.spend(1)?;
                if one.len() != other.len() {
                    return Ok(false);
                }
                for ((key, one), (other_key, other)) in one.iter().zip(other.iter()) {
                    self.spend(key.len() / 64)?;
                    if key != other_key || !self.same(one, other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => {
                self.spend(one.weight().min(other.weight()))?;
                Ok(one.same(other))
            }
        }
    }

    fn is_in(&mut self, value: &Value, container: &Value) -> Evaluated<bool> {
        match (value, container) {
            (_, Value::List(list)) => {
                for element in list.iter() {
                    if self.same(element, value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Text(key), Value::Map(map)) => {
                self.spend(search(map, key))?;
                Ok(map.contains_key(key.as_ref()))
            }
            // A key is a text, so that nothing else is one. Only what came as `any` gets here.
            (_, Value::Map(_)) => Ok(false),
            _ => failed(format!("nothing is in {}", container.kind())),
        }
    }

    fn call(&mut self, function: Function, arguments: &'a [Expression]) -> Evaluated {
        let values: Evaluated<Vec<Value>> = arguments.iter().map(|argument| self.value(argument)).collect();
        let values = values?;
        self.spend(values.iter().map(Value::weight).sum::<usize>() + function.cost(&values))?;
        match (function, values.as_slice()) {
            (Function::Matches, [Value::Text(text), Value::Text(of)]) => match Pattern::new(of) {
                Ok(pattern) => self.matches(&pattern, text),
                Err(fault) => failed(format!("what 'matches' is to look for {fault}")),
            },
            _ => function
                .apply(&values)
                .map_or_else(|| failed(format!("{function:?} makes nothing of its arguments")), Ok),
        }
    }

    fn matches(&mut self, pattern: &Pattern, text: &str) -> Evaluated {
        self.spend(pattern.cost(text))?;
        Ok(Value::Bool(pattern.is_in(text)))
    }

    fn truth(&mut self, expression: &'a Expression) -> Evaluated<bool> {
        match self.value(expression)? {
            Value::Bool(bool) => Ok(bool),
            other => failed(format!("{} is no truth", other.kind())),
        }
    }

    /// *Or* where true decides, *and* where false does.
    fn decided(&mut self, left: &'a Expression, right: &'a Expression, deciding: bool) -> Evaluated {
        let left = match self.truth(left) {
            Ok(left) if left == deciding => return Ok(Value::Bool(deciding)),
            Err(ConditionError::TooCostly) => return Err(ConditionError::TooCostly),
            left => left,
        };
        match (left, self.truth(right)) {
            (_, Ok(right)) if right == deciding => Ok(Value::Bool(deciding)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Ok(Value::Bool(!deciding)),
        }
    }

    fn map(&mut self, parts: &'a [(Expression, Expression)]) -> Evaluated {
        let mut map = BTreeMap::new();
        for (key, value) in parts {
            let Value::Text(key) = self.value(key)? else { return failed("a key of a map must be a text") };
            let value = self.value(value)?;
            self.spend(search(&map, &key))?;
            if map.insert(key.to_string(), value).is_some() {
                return failed("a map has a key twice");
            }
        }
        Ok(Value::Map(Arc::new(map)))
    }

    fn each(&mut self, each: Macro, inner: &'a Each) -> Evaluated {
        let values: Arc<[Value]> = match self.value(&inner.of)? {
            Value::List(list) => {
                self.spend(list.len())?;
                list
            }
            Value::Map(map) => {
                self.spend(map.keys().map(|key| 1 + key.len() / 64).sum())?;
                map.keys().map(|key| Value::text(key.as_str())).collect()
            }
            other => return failed(format!("{} has no elements", other.kind())),
        };
        let (mut kept, mut met, mut error) = (Vec::new(), 0_usize, None);
        for value in values.iter() {
            self.names.push((&inner.name, value.clone()));
            let outcome = self.one(each, inner, value, &mut kept);
            self.names.pop();
            match outcome {
                Ok(true) if each == Macro::Exists => return Ok(Value::Bool(true)),
                Ok(false) if each == Macro::All => return Ok(Value::Bool(false)),
                Ok(truth) => met += usize::from(truth),
                Err(why) if matches!(each, Macro::Exists | Macro::All) && why != ConditionError::TooCostly => {
                    error = error.or(Some(why));
                }
                Err(why) => return Err(why),
            }
        }
        match (error, each) {
            (Some(error), _) => Err(error),
            (None, Macro::All) => Ok(Value::Bool(true)),
            (None, Macro::Exists) => Ok(Value::Bool(false)),
            (None, Macro::ExistsOne) => Ok(Value::Bool(met == 1)),
            (None, Macro::Filter | Macro::Map) => Ok(Value::List(kept.into())),
        }
    }

    fn one(&mut self, each: Macro, inner: &'a Each, value: &Value, kept: &mut Vec<Value>) -> Evaluated<bool> {
        if each == Macro::Map {
            if inner.filter.as_ref().map_or(Ok(true), |filter| self.truth(filter))? {
                kept.push(self.value(&inner.body)?);
            }
            return Ok(true);
        }
        let truth = self.truth(&inner.body)?;
        if truth && each == Macro::Filter {
            kept.push(value.clone());
        }
        Ok(truth)
    }
}

fn overflow<T>() -> Evaluated<T> {
    failed("a number is too large")
}

/// What it costs to look for a key in a map, or to put it there: it is compared with few of the map's keys, but as far as it is the same.
fn search(map: &BTreeMap<String, Value>, key: &str) -> usize {
    let few = map.len().checked_ilog2().and_then(|few| usize::try_from(few).ok()).unwrap_or(0);
    (1 + key.len() / 64) * (1 + few)
}

fn element(of: &Value, index: &Value) -> Evaluated {
    let found = match (of, index) {
        (Value::List(list), Value::Int(at)) => usize::try_from(*at).ok().and_then(|at| list.get(at)),
        (Value::List(list), Value::Uint(at)) => usize::try_from(*at).ok().and_then(|at| list.get(at)),
        (Value::Map(map), Value::Text(key)) => map.get(key.as_ref()),
        _ => None,
    };
    found.cloned().map_or_else(|| failed("there is no such element"), Ok)
}

fn reckoned(operator: Operator, left: &Value, right: &Value) -> Evaluated {
    let ordered = |accept: fn(Ordering) -> bool| {
        left.order(right)
            .map(|order| Value::Bool(accept(order)))
            .map_or_else(|| failed(format!("{} and {} have no order", left.kind(), right.kind())), Ok)
    };
    match operator {
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessOrEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge),
        _ => arithmetic(operator, left, right),
    }
}

fn add(left: &Value, right: &Value) -> Evaluated {
    let sum = match (left, right) {
        (Value::Int(one), Value::Int(other)) => one.checked_add(*other).map(Value::Int),
        (Value::Uint(one), Value::Uint(other)) => one.checked_add(*other).map(Value::Uint),
        (Value::Double(one), Value::Double(other)) => Some(Value::Double(one + other)),
        (Value::Text(one), Value::Text(other)) => Some(Value::text(format!("{one}{other}"))),
        (Value::List(one), Value::List(other)) => Some(Value::List(one.iter().chain(other.iter()).cloned().collect())),
        (Value::Duration(one), Value::Duration(other)) => {
            one.checked_add(*other).and_then(moment::span).map(Value::Duration)
        }
        (Value::Timestamp(moment), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(moment)) => {
            moment.checked_add(*span).and_then(moment::within).map(Value::Timestamp)
        }
        _ => return failed(format!("{} and {} have no sum", left.kind(), right.kind())),
    };
    sum.map_or_else(overflow, Ok)
}

fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Evaluated {
    let result = match (left, right) {
        (Value::Int(one), Value::Int(other)) => match operator {
            Operator::Subtract => one.checked_sub(*other),
            Operator::Multiply => one.checked_mul(*other),
            Operator::Divide => one.checked_div(*other),
            _ => one.checked_rem(*other),
        }
        .map(Value::Int),
        (Value::Uint(one), Value::Uint(other)) => match operator {
            Operator::Subtract => one.checked_sub(*other),
            Operator::Multiply => one.checked_mul(*other),
            Operator::Divide => one.checked_div(*other),
            _ => one.checked_rem(*other),
        }
        .map(Value::Uint),
        (Value::Double(one), Value::Double(other)) => match operator {
            Operator::Subtract => Some(Value::Double(one - other)),
            Operator::Multiply => Some(Value::Double(one * other)),
            Operator::Divide => Some(Value::Double(one / other)),
            _ => return failed("a floating-point number has no remainder"),
        },
        (Value::Duration(one), Value::Duration(other)) if operator == Operator::Subtract => {
            one.checked_sub(*other).and_then(moment::span).map(Value::Duration)
        }
        (Value::Timestamp(moment), Value::Duration(span)) if operator == Operator::Subtract => {
            moment.checked_sub(*span).and_then(moment::within).map(Value::Timestamp)
        }
        (Value::Timestamp(one), Value::Timestamp(other)) if operator == Operator::Subtract => {
            moment::span(*one - *other).map(Value::Duration)
        }
        _ => return failed(format!("{} and {} cannot be reckoned with", left.kind(), right.kind())),
    };
    result.map_or_else(overflow, Ok)
}
