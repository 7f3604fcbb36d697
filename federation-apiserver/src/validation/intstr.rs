//! IntOrString: a count, or a percentage of one.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::NOT_NEGATIVE;
use crate::registry::ErrorList;

/// The number before a `%` sign; `None` if the value is no percentage.
pub(crate) fn percent(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// `ValidatePositiveIntOrPercent`.
pub(crate) fn non_negative(value: &Value, path: &FieldPath, errors: &mut ErrorList) {
    match value {
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.push(FieldError::invalid(path, value.clone(), NOT_NEGATIVE));
        }
        Value::String(_) if percent(value).is_none() => {
            let message = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            errors.push(FieldError::invalid(path, value.clone(), message));
        }
        _ => {}
    }
}

/// `IsNotMoreThan100Percent`.
pub(crate) fn at_most_all(value: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

/// Whether it is none at all: 0 or 0%, or a text that is no number (`getIntOrPercentValue`).
pub(crate) fn is_zero(value: &Value) -> bool {
    let count = match value {
        Value::String(text) => percent(value).or_else(|| text.parse().ok()),
        value => value.as_i64(),
    };
    count.unwrap_or_default() == 0
}
