//! Quantities of resources.

use std::cmp::Ordering;

use apimachinery::quantity::Quantity;

use super::Outcome;
use crate::{Value, error::EvalError};

pub(super) fn call(name: &str, _: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Int, String};
    Some(match (name, values) {
        ("quantity", [String(text)]) => text
            .parse::<Quantity>()
            .map(Value::Quantity)
            .map_err(|error| EvalError::failed(error.to_string())),
        ("isQuantity", [String(text)]) => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
        ("sign", [Value::Quantity(own)]) => Ok(Int(match (own.is_zero(), own.is_negative()) {
            (true, _) => 0,
            (_, true) => -1,
            _ => 1,
        })),
        ("isInteger", [Value::Quantity(own)]) => Ok(Value::Bool(is_whole(*own))),
        ("asInteger", [Value::Quantity(own)]) if is_whole(*own) => Ok(Int(own.units())),
        ("asInteger", [Value::Quantity(_)]) => Err(EvalError::failed("cannot convert value to integer")),
        ("asApproximateFloat", [Value::Quantity(own)]) => {
            let whole = own.units();
            let rest = (*own - Quantity::from_units(whole)).millis();
            Ok(Value::Double(whole as f64 + rest as f64 / 1000.0))
        }
        ("add", [Value::Quantity(own), other]) => {
            amount(other).map(|other| Value::Quantity(own.saturating_add(other)))
        }
        ("sub", [Value::Quantity(own), other]) => amount(other).map(|other| Value::Quantity(*own - other)),
        ("isLessThan", [Value::Quantity(own), Value::Quantity(other)]) => Ok(Value::Bool(own < other)),
        ("isGreaterThan", [Value::Quantity(own), Value::Quantity(other)]) => Ok(Value::Bool(own > other)),
        ("compareTo", [Value::Quantity(own), Value::Quantity(other)]) => Ok(Int(match own.cmp(other) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        })),
        _ => return None,
    })
}

fn amount(value: &Value) -> Result<Quantity, EvalError> {
    match value {
        Value::Quantity(quantity) => Ok(*quantity),
        Value::Int(units) => Ok(Quantity::from_units(*units)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn is_whole(quantity: Quantity) -> bool {
    Quantity::from_units(quantity.units()) == quantity
}
