//! Conversions, sizes and optional values.

use std::sync::Arc;

use apimachinery::numbers;

use super::{
    Outcome,
    numbers::{overflow, unsigned_overflow},
    time,
};
use crate::{Value, error::EvalError};

pub(super) fn call(name: &str, _: bool, values: &[Value]) -> Option<Outcome> {
    Some(match (name, values) {
        ("size", [value]) => size(value),
        ("type", [value]) => Ok(Value::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("bool", [Value::String(text)]) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(EvalError::failed(format!("Type conversion error from 'string' to 'bool': {text}"))),
        },
        ("bool", [value @ Value::Bool(_)])
        | ("int", [value @ Value::Int(_)])
        | ("uint", [value @ Value::Uint(_)])
        | ("double", [value @ Value::Double(_)])
        | ("string", [value @ Value::String(_)])
        | ("bytes", [value @ Value::Bytes(_)]) => Ok(value.clone()),
        ("int", [value]) => int(value),
        ("uint", [value]) => uint(value),
        ("double", [Value::Int(number)]) => Ok(Value::Double(*number as f64)),
        ("double", [Value::Uint(number)]) => Ok(Value::Double(*number as f64)),
        ("double", [Value::String(text)]) => text
            .parse()
            .map(Value::Double)
            .map_err(|_| EvalError::failed(format!("cannot convert {text:?} to double"))),
        ("string", [value]) => text(value),
        ("bytes", [Value::String(text)]) => Ok(Value::Bytes(text.as_bytes().into())),
        ("optional.of", [value]) => Ok(Value::some(value.clone())),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", [value]) => {
            Ok(if is_zero(value) { Value::Optional(None) } else { Value::some(value.clone()) })
        }
        ("hasValue", [Value::Optional(inner)]) => Ok(Value::Bool(inner.is_some())),
        ("value", [Value::Optional(inner)]) => inner
            .as_ref()
            .map(|inner| Value::clone(inner))
            .ok_or_else(|| EvalError::failed("optional.none() dereference")),
        ("orValue", [Value::Optional(inner), other]) => {
            Ok(inner.as_ref().map_or_else(|| other.clone(), |inner| Value::clone(inner)))
        }
        ("or", [one @ Value::Optional(inner), other]) => {
            Ok(if inner.is_some() { one.clone() } else { other.clone() })
        }
        _ => return None,
    })
}

fn size(value: &Value) -> Outcome {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(Value::Int(size as i64))
}

fn int(value: &Value) -> Outcome {
    /// The first double that is too large, and the negative of the last that is too small.
    const LARGE: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Uint(number) => i64::try_from(*number).map(Value::Int).map_err(|_| overflow()),
        Value::Double(number) if number.abs() < LARGE => Ok(Value::Int(*number as i64)),
        Value::Double(_) => Err(overflow()),
        Value::String(text) => text
            .parse()
            .map(Value::Int)
            .map_err(|_| EvalError::failed(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        Value::Duration(nanos) => Ok(Value::Int(*nanos)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn uint(value: &Value) -> Outcome {
    const LARGE: f64 = 18_446_744_073_709_551_616.0;
    match value {
        Value::Int(number) => u64::try_from(*number).map(Value::Uint).map_err(|_| unsigned_overflow()),
        Value::Double(number) if *number >= 0.0 && *number < LARGE => Ok(Value::Uint(*number as u64)),
        Value::Double(_) => Err(unsigned_overflow()),
        Value::String(text) => text
            .parse()
            .map(Value::Uint)
            .map_err(|_| EvalError::failed(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// The text of a value, as `string()` and `%s` give it.
pub(crate) fn text(value: &Value) -> Outcome {
    Ok(match value {
        Value::String(_) => value.clone(),
        Value::Bool(flag) => flag.to_string().into(),
        Value::Int(number) => number.to_string().into(),
        Value::Uint(number) => number.to_string().into(),
        Value::Double(number) => numbers::general(*number).into(),
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes);
            text.map_err(|_| EvalError::failed("invalid UTF-8 in bytes, cannot convert to string"))?.into()
        }
        Value::Timestamp(time) => time.to_string().into(),
        Value::Duration(nanos) => time::duration_text(*nanos).into(),
        Value::Ip(address) => address.to_string().into(),
        Value::Cidr(address, length) => format!("{address}/{length}").into(),
        Value::Quantity(quantity) => quantity.to_string().into(),
        Value::Type(name) => (*name).into(),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Duration(nanos) => *nanos == 0,
        Value::Optional(inner) => inner.as_ref().is_none_or(|inner: &Arc<Value>| is_zero(inner)),
        _ => false,
    }
}
