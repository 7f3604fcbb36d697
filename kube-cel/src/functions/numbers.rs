//! Operators of arithmetic, and the math library.

use std::{cmp::Ordering, sync::Arc};

use jiff::SignedDuration;

use super::{Outcome, time};
use crate::{Value, error::EvalError};

pub(crate) fn overflow() -> EvalError {
    EvalError::failed("integer overflow")
}

pub(super) fn unsigned_overflow() -> EvalError {
    EvalError::failed("unsigned integer overflow")
}

/// `+`, `-`, `*`, `/` and `%`.
pub(crate) fn arithmetic(operator: &str, left: &Value, right: &Value) -> Outcome {
    use Value::{Bytes, Double, Duration, Int, List, String, Timestamp, Uint};
    match (operator, left, right) {
        ("/", Int(_), Int(0)) | ("/", Uint(_), Uint(0)) => Err(EvalError::failed("division by zero")),
        ("%", Int(_), Int(0)) | ("%", Uint(_), Uint(0)) => Err(EvalError::failed("modulus by zero")),
        (_, Int(one), Int(other)) => {
            let result = match operator {
                "+" => one.checked_add(*other),
                "-" => one.checked_sub(*other),
                "*" => one.checked_mul(*other),
                "/" => one.checked_div(*other),
                _ => one.checked_rem(*other),
            };
            result.map(Int).ok_or_else(overflow)
        }
        (_, Uint(one), Uint(other)) => {
            let result = match operator {
                "+" => one.checked_add(*other),
                "-" => one.checked_sub(*other),
                "*" => one.checked_mul(*other),
                "/" => one.checked_div(*other),
                _ => one.checked_rem(*other),
            };
            result.map(Uint).ok_or_else(unsigned_overflow)
        }
        ("+", Double(one), Double(other)) => Ok(Double(one + other)),
        ("-", Double(one), Double(other)) => Ok(Double(one - other)),
        ("*", Double(one), Double(other)) => Ok(Double(one * other)),
        ("/", Double(one), Double(other)) => Ok(Double(one / other)),
        ("+", String(one), String(other)) => Ok(format!("{one}{other}").into()),
        ("+", Bytes(one), Bytes(other)) => Ok(Bytes([&**one, &**other].concat().into())),
        ("+", List(one), List(other)) => Ok(List(Arc::new(one.joined(other)))),
        ("+", Duration(one), Duration(other)) => one.checked_add(*other).map(Duration).ok_or_else(overflow),
        ("-", Duration(one), Duration(other)) => one.checked_sub(*other).map(Duration).ok_or_else(overflow),
        ("+", Timestamp(start), Duration(nanos)) | ("+", Duration(nanos), Timestamp(start)) => {
            start.checked_add(SignedDuration::from_nanos(*nanos)).map(Timestamp).map_err(|_| time::overflow())
        }
        ("-", Timestamp(start), Duration(nanos)) => {
            start.checked_sub(SignedDuration::from_nanos(*nanos)).map(Timestamp).map_err(|_| time::overflow())
        }
        ("-", Timestamp(one), Timestamp(other)) => {
            let nanos = one.as_nanosecond() - other.as_nanosecond();
            i64::try_from(nanos).map(Duration).map_err(|_| overflow())
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub(super) fn call(name: &str, _: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Double, Int, Uint};
    Some(match (name, values) {
        ("math.greatest", values) => extreme(values, Ordering::Greater),
        ("math.least", values) => extreme(values, Ordering::Less),
        ("math.abs", [Int(number)]) => number.checked_abs().map(Int).ok_or_else(overflow),
        ("math.abs", [Uint(number)]) => Ok(Uint(*number)),
        ("math.abs", [Double(number)]) => Ok(Double(number.abs())),
        ("math.sign", [Int(number)]) => Ok(Int(number.signum())),
        ("math.sign", [Uint(number)]) => Ok(Uint((*number > 0).into())),
        ("math.sign", [Double(number)]) => Ok(Double(if *number == 0.0 { 0.0 } else { number.signum() })),
        ("math.ceil", [Double(number)]) => Ok(Double(number.ceil())),
        ("math.floor", [Double(number)]) => Ok(Double(number.floor())),
        ("math.round", [Double(number)]) => Ok(Double(number.round())),
        ("math.trunc", [Double(number)]) => Ok(Double(number.trunc())),
        ("math.isNaN", [Double(number)]) => Ok(Value::Bool(number.is_nan())),
        ("math.isInf", [Double(number)]) => Ok(Value::Bool(number.is_infinite())),
        ("math.isFinite", [Double(number)]) => Ok(Value::Bool(number.is_finite())),
        _ => return None,
    })
}

/// The greatest or least of the arguments, or of the one list.
fn extreme(values: &[Value], wanted: Ordering) -> Outcome {
    let items: &[Value] = match values {
        [Value::List(items)] => items,
        values => values,
    };
    let mut items = items.iter();
    let first =
        items.next().ok_or_else(|| EvalError::failed("math.@max(list) argument must not be empty"))?;
    items
        .try_fold(first, |best, item| match item.compare(best) {
            Some(order) if order == wanted => Ok(item),
            Some(_) => Ok(best),
            None => Err(EvalError::NoSuchOverload),
        })
        .cloned()
}
