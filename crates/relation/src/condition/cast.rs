//! From a context's JSON to a parameter's type.
//!
//! JSON has one kind of number and no moments, so that whole numbers may come as `10`, `10.0` or `"10"`, and spans of time,
//! moments and addresses come as texts. Nothing that does not fit exactly is taken.

use std::sync::Arc;

use serde_json::{Number, Value as Json};

use super::{moment, network, value::Value};
use crate::model::{ParameterKind, ParameterType};

/// How deep lists and objects may be inside each other.
const DEPTH: usize = 32;

/// The value of a parameter; none if it is not of the type.
pub(super) fn cast(json: &Json, kind: &ParameterType) -> Option<Value> {
    match kind.kind {
        ParameterKind::Any => any(json, DEPTH),
        ParameterKind::Bool => json.as_bool().map(Value::Bool),
        ParameterKind::String => json.as_str().map(Value::text),
        ParameterKind::Int => whole(json).and_then(|number| i64::try_from(number).ok()).map(Value::Int),
        ParameterKind::Uint => whole(json).and_then(|number| u64::try_from(number).ok()).map(Value::Uint),
        ParameterKind::Double => double(json).map(Value::Double),
        ParameterKind::Duration => json.as_str().and_then(moment::duration).map(Value::Duration),
        ParameterKind::Timestamp => json.as_str().and_then(moment::timestamp).map(Value::Timestamp),
        ParameterKind::IpAddress => json.as_str().and_then(network::address).map(Value::Address),
        ParameterKind::List => {
            let of = kind.of.as_deref()?;
            let list: Option<Vec<Value>> = json.as_array()?.iter().map(|json| cast(json, of)).collect();
            list.map(|list| Value::List(list.into()))
        }
        ParameterKind::Map => {
            let of = kind.of.as_deref()?;
            let map =
                json.as_object()?.iter().map(|(key, json)| Some((key.clone(), cast(json, of)?))).collect::<Option<_>>();
            map.map(|map| Value::Map(Arc::new(map)))
        }
    }
}

/// What JSON itself says. Its numbers are floating-point ones, as they are to OpenFGA.
fn any(json: &Json, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    match json {
        Json::Null => Some(Value::Null),
        Json::Bool(bool) => Some(Value::Bool(*bool)),
        Json::Number(number) => number.as_f64().map(Value::Double),
        Json::String(text) => Some(Value::text(text.as_str())),
        Json::Array(list) => {
            let list: Option<Vec<Value>> = list.iter().map(|json| any(json, depth)).collect();
            list.map(|list| Value::List(list.into()))
        }
        Json::Object(map) => {
            let map = map.iter().map(|(key, json)| Some((key.clone(), any(json, depth)?))).collect::<Option<_>>();
            map.map(|map| Value::Map(Arc::new(map)))
        }
    }
}

fn whole(json: &Json) -> Option<i128> {
    /// Up to here every whole number is a floating-point number exactly, and no text becomes another number by being read as one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let of_double = |double: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and what is beyond the edge is beyond every type")]
        (double.fract() == 0.0).then_some(double as i128)
    };
    let of_number = |number: &Number| {
        number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)).or(number.as_f64().and_then(of_double))
    };
    match json {
        Json::Number(number) => of_number(number),
        Json::String(text) => {
            let exact = || text.parse().ok().filter(|double: &f64| double.abs() <= EXACT).and_then(of_double);
            text.parse().ok().or_else(exact)
        }
        _ => None,
    }
}

fn double(json: &Json) -> Option<f64> {
    let double = match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    double.filter(|double| double.is_finite())
}
