//! The types of an expression, worked out before any value is known.
//!
//! What JSON says freely (`any`) fits everywhere, and is looked at when the value comes. Everything else must fit here.

use std::collections::BTreeMap;

use super::{
    ConditionFault,
    function::Function,
    parse::{Each, Expression, Form, Macro, Operator},
    value::Value,
};
use crate::model::{ParameterKind, ParameterType};

/// A type, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Type {
    Any,
    Null,
    Plain(ParameterKind),
    List(Box<Type>),
    /// From texts to these.
    Map(Box<Type>),
}

const BOOL: Type = Type::Plain(ParameterKind::Bool);
const INT: Type = Type::Plain(ParameterKind::Int);
const UINT: Type = Type::Plain(ParameterKind::Uint);
const DOUBLE: Type = Type::Plain(ParameterKind::Double);
const TEXT: Type = Type::Plain(ParameterKind::String);
const DURATION: Type = Type::Plain(ParameterKind::Duration);
const TIMESTAMP: Type = Type::Plain(ParameterKind::Timestamp);
const ADDRESS: Type = Type::Plain(ParameterKind::IpAddress);

/// Checks that an expression is a truth about these parameters.
pub(super) fn check(
    expression: &Expression,
    parameters: &BTreeMap<String, ParameterType>,
) -> Result<(), ConditionFault> {
    let found = Inference { parameters, names: Vec::new() }.of(expression)?;
    needs(&found, &BOOL, expression)
}

fn of_parameter(kind: &ParameterType) -> Type {
    let of = || Box::new(kind.of.as_deref().map_or(Type::Any, of_parameter));
    match kind.kind {
        ParameterKind::Any => Type::Any,
        ParameterKind::List => Type::List(of()),
        ParameterKind::Map => Type::Map(of()),
        plain => Type::Plain(plain),
    }
}

impl Type {
    fn name(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Plain(kind) => kind.name().to_owned(),
            Self::List(of) => format!("list<{}>", of.name()),
            Self::Map(of) => format!("map<{}>", of.name()),
        }
    }

    /// Whether a value of one may be where the other is expected.
    fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::List(one), Self::List(other)) | (Self::Map(one), Self::Map(other)) => one.fits(other),
            _ => self == other,
        }
    }

    /// The type of a value that is of one or of the other.
    fn joined(self, other: &Self) -> Self {
        if self == *other { self } else { Self::Any }
    }
}

fn fault<T>(problem: String, expression: &Expression) -> Result<T, ConditionFault> {
    Err(ConditionFault { problem, at: expression.at })
}

fn needs(found: &Type, expected: &Type, expression: &Expression) -> Result<(), ConditionFault> {
    if found.fits(expected) {
        return Ok(());
    }
    fault(format!("this is {} and should be {}", found.name(), expected.name()), expression)
}

struct Inference<'a> {
    parameters: &'a BTreeMap<String, ParameterType>,
    /// What macros name, the innermost last.
    names: Vec<(&'a str, Type)>,
}

impl<'a> Inference<'a> {
    fn of(&mut self, expression: &'a Expression) -> Result<Type, ConditionFault> {
        match &expression.form {
            Form::Literal(value) => Ok(of_literal(value)),
            Form::Name(name) => match self.names.iter().rev().find(|(known, _)| known == name) {
                Some((_, found)) => Ok(found.clone()),
                None => match self.parameters.get(name) {
                    Some(kind) => Ok(of_parameter(kind)),
                    None => fault(format!("'{name}' is no parameter of the condition"), expression),
                },
            },
            Form::Member(of, _) => self.member(of, expression),
            Form::Has(of, _) => self.member(of, expression).map(|_| BOOL),
            Form::Index(of, index) => self.element(of, index, expression),
            Form::Not(inner) => self.expects(inner, &BOOL).map(|()| BOOL),
            Form::Negate(inner) => {
                let found = self.of(inner)?;
                let known = [INT, DOUBLE, DURATION].iter().any(|kind| found.fits(kind));
                if known { Ok(found) } else { fault(format!("{} has no negative", found.name()), expression) }
            }
            Form::And(sides) | Form::Or(sides) => {
                self.expects(&sides.0, &BOOL)?;
                self.expects(&sides.1, &BOOL).map(|()| BOOL)
            }
            Form::Choice(parts) => {
                self.expects(&parts.0, &BOOL)?;
                let yes = self.of(&parts.1)?;
                Ok(yes.joined(&self.of(&parts.2)?))
            }
            Form::Binary(operator, sides) => {
                let (left, right) = (self.of(&sides.0)?, self.of(&sides.1)?);
                binary(*operator, &left, &right).map_or_else(
                    || {
                        let message = format!("{operator:?} is not known for {} and {}", left.name(), right.name());
                        fault(message, expression)
                    },
                    Ok,
                )
            }
            Form::List(parts) => {
                let inner = self.common(parts.iter())?;
                Ok(Type::List(Box::new(inner)))
            }
            Form::Map(parts) => {
                for (key, _) in parts {
                    self.expects(key, &TEXT)?;
                }
                let inner = self.common(parts.iter().map(|(_, value)| value))?;
                Ok(Type::Map(Box::new(inner)))
            }
            Form::Matches(of, _) => self.expects(of, &TEXT).map(|()| BOOL),
            Form::Call(function, arguments) => {
                let types: Result<Vec<Type>, _> = arguments.iter().map(|argument| self.of(argument)).collect();
                let types = types?;
                function_type(*function, &types).map_or_else(
                    || {
                        let names: Vec<String> = types.iter().map(Type::name).collect();
                        fault(format!("{function:?} is not known for {}", names.join(", ")), expression)
                    },
                    Ok,
                )
            }
            Form::Each(each, inner) => self.each(*each, inner, expression),
        }
    }

    fn member(&mut self, of: &'a Expression, expression: &'a Expression) -> Result<Type, ConditionFault> {
        match self.of(of)? {
            Type::Any => Ok(Type::Any),
            Type::Map(inner) => Ok(*inner),
            other => fault(format!("{} has no members", other.name()), expression),
        }
    }

    fn element(
        &mut self,
        of: &'a Expression,
        index: &'a Expression,
        expression: &'a Expression,
    ) -> Result<Type, ConditionFault> {
        let (found, at) = (self.of(of)?, self.of(index)?);
        match found {
            Type::Any => Ok(Type::Any),
            Type::List(inner) if at.fits(&INT) || at.fits(&UINT) => Ok(*inner),
            Type::Map(inner) if at.fits(&TEXT) => Ok(*inner),
            other => fault(format!("{} has no element at {}", other.name(), at.name()), expression),
        }
    }

    fn expects(&mut self, expression: &'a Expression, expected: &Type) -> Result<(), ConditionFault> {
        let found = self.of(expression)?;
        needs(&found, expected, expression)
    }

    fn common(&mut self, parts: impl Iterator<Item = &'a Expression>) -> Result<Type, ConditionFault> {
        let mut all: Option<Type> = None;
        for part in parts {
            let found = self.of(part)?;
            all = Some(all.map_or_else(|| found.clone(), |all| all.joined(&found)));
        }
        Ok(all.unwrap_or(Type::Any))
    }

    fn each(&mut self, each: Macro, inner: &'a Each, expression: &'a Expression) -> Result<Type, ConditionFault> {
        let element = match self.of(&inner.of)? {
            Type::Any => Type::Any,
            Type::List(of) => *of,
            Type::Map(_) => TEXT,
            other => return fault(format!("{} has no elements", other.name()), expression),
        };
        self.names.push((&inner.name, element.clone()));
        if let Some(filter) = &inner.filter {
            self.expects(filter, &BOOL)?;
        }
        let body = self.of(&inner.body)?;
        self.names.pop();
        match each {
            Macro::Map => return Ok(Type::List(Box::new(body))),
            _ => needs(&body, &BOOL, &inner.body)?,
        }
        Ok(if each == Macro::Filter { Type::List(Box::new(element)) } else { BOOL })
    }
}

fn of_literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => BOOL,
        Value::Int(_) => INT,
        Value::Uint(_) => UINT,
        Value::Double(_) => DOUBLE,
        Value::Text(_) => TEXT,
        _ => Type::Any,
    }
}

fn binary(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    let is = |one: &Type, other: &Type| left.fits(one) && right.fits(other);
    let numbers = [INT, UINT, DOUBLE];
    let number = |kind: &Type| numbers.iter().any(|number| kind.fits(number));
    match operator {
        Operator::Equal | Operator::Unequal => {
            let comparable = left.fits(right) || *left == Type::Null || *right == Type::Null;
            comparable.then_some(BOOL)
        }
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let ordered = [BOOL, TEXT, DURATION, TIMESTAMP].iter().any(|kind| is(kind, kind));
            (ordered || (number(left) && number(right))).then_some(BOOL)
        }
        Operator::In => match right {
            Type::Any => Some(BOOL),
            Type::List(of) => left.fits(of).then_some(BOOL),
            Type::Map(_) => left.fits(&TEXT).then_some(BOOL),
            _ => None,
        },
        _ if *left == Type::Any || *right == Type::Any => Some(Type::Any),
        Operator::Add => match (left, right) {
            _ if numbers.iter().chain([&TEXT, &DURATION]).any(|kind| is(kind, kind)) => Some(left.clone()),
            _ if is(&TIMESTAMP, &DURATION) || is(&DURATION, &TIMESTAMP) => Some(TIMESTAMP),
            (Type::List(one), Type::List(other)) => Some(Type::List(Box::new(one.as_ref().clone().joined(other)))),
            _ => None,
        },
        Operator::Subtract if is(&DURATION, &DURATION) || is(&TIMESTAMP, &TIMESTAMP) => Some(DURATION),
        Operator::Subtract if is(&TIMESTAMP, &DURATION) => Some(TIMESTAMP),
        Operator::Remainder => [INT, UINT].iter().any(|kind| is(kind, kind)).then(|| left.clone()),
        _ => numbers.iter().any(|kind| is(kind, kind)).then(|| left.clone()),
    }
}

fn function_type(function: Function, arguments: &[Type]) -> Option<Type> {
    let first = arguments.first()?;
    let any_of = |kinds: &[Type], result: Type| kinds.iter().any(|kind| first.fits(kind)).then_some(result);
    let second = |kind: &Type| arguments.get(1).is_none_or(|argument| argument.fits(kind));
    match function {
        Function::Size => (matches!(first, Type::List(_) | Type::Map(_) | Type::Any) || *first == TEXT).then_some(INT),
        Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches => {
            any_of(&[TEXT], BOOL).filter(|_| second(&TEXT))
        }
        Function::InCidr => any_of(&[ADDRESS], BOOL).filter(|_| second(&TEXT)),
        Function::ToInt => any_of(&[INT, UINT, DOUBLE, TEXT, TIMESTAMP, DURATION], INT),
        Function::ToUint => any_of(&[INT, UINT, DOUBLE, TEXT], UINT),
        Function::ToDouble => any_of(&[INT, UINT, DOUBLE, TEXT], DOUBLE),
        Function::ToText => any_of(&[TEXT, BOOL, INT, UINT, DOUBLE, TIMESTAMP, DURATION, ADDRESS], TEXT),
        Function::ToBool => any_of(&[BOOL, TEXT], BOOL),
        Function::ToDyn => Some(Type::Any),
        Function::ToDuration => any_of(&[DURATION, TEXT], DURATION),
        Function::ToTimestamp => any_of(&[TIMESTAMP, TEXT, INT], TIMESTAMP),
        Function::ToAddress => any_of(&[TEXT], ADDRESS),
        Function::Time(part) => {
            let span = arguments.len() == 1 && part.is_of_span() && first.fits(&DURATION);
            (span || (first.fits(&TIMESTAMP) && second(&TEXT))).then_some(INT)
        }
    }
}
