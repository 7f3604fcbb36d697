//! Validation of objects, in the words of kube-openapi's validators.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, FieldReason};
use serde_json::{Number, Value};

use super::{
    Checks, Structural, Type, composite,
    faults::{Faults, LOOKS_MAX},
    format,
    former::{Former, unchanged},
    items, type_name,
};
use crate::bounds::step;

impl Structural {
    /// The faults of an API object: all, or a hundred at least. Values that are as they were in `old` are not looked at: a rule that
    /// came later must not stand in the way of other changes (KEP-4008, ratcheting).
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        self.check_within(object, old, LOOKS_MAX)
    }

    fn check_within(&self, object: &Value, old: Option<&Value>, looks: usize) -> Vec<FieldError> {
        let Some(mut faults) = all_of(self, object, old, looks) else { return vec![too_long()] };
        items::embedded(self, object, "", true, &mut faults);
        items::duplicates(self, object, old, &mut faults);
        faults
    }

    /// The same of a write of nothing but the status, whose values are told from there. Objects within are not looked at.
    pub fn check_status(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if let (Some(schema), Some(status)) = (self.properties.get("status"), object.get("status")) {
            let old = old.and_then(|old| old.get("status"));
            let Some(found) = all_of(schema, status, old, LOOKS_MAX) else { return vec![too_long()] };
            faults = found;
        }
        for fault in &mut faults {
            fault.field = match &*fault.field {
                "" | NOWHERE => "status".to_owned(),
                field => format!("status.{field}"),
            };
        }
        items::duplicates(self, object, old, &mut faults);
        faults
    }
}

/// The faults of a value and all below it, each once: several alternatives may find the same. `None` if there is more to look at than there may be.
fn all_of(schema: &Structural, value: &Value, old: Option<&Value>, looks: usize) -> Option<Vec<FieldError>> {
    let mut faults = Faults::new(looks);
    check(schema, value, old, "", &mut faults);
    let mut found = faults.finish()?;
    let mut seen = HashSet::new();
    found.retain(|fault| seen.insert((fault.field.clone(), fault.message.clone())));
    Some(found)
}

fn too_long() -> FieldError {
    composite::about("the object takes too long to be checked".to_owned())
}

/// What kube-apiserver prints where a fault has no field: Go's nil.
pub(super) const NOWHERE: &str = "<nil>";

/// A fault at a path, which may be the object itself.
pub(super) fn fault(reason: FieldReason, path: &str, value: impl Into<Value>, detail: &str) -> FieldError {
    FieldError::new(reason, &FieldPath::new(path), Some(&value.into()), detail)
}

fn invalid(path: &str, value: impl Into<Value>, what: &str) -> FieldError {
    fault(FieldReason::Invalid, path, value, &format!("{path} in body {what}"))
}

/// The path of a field.
pub(super) fn below(path: &str, field: &str) -> String {
    let field = step(field);
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// Checks one value and all below it. Returns how many checks count (`Result.MatchCount`): of alternatives that all fail, the faults of the one
/// with the most are told. What is as it was before counts for nothing, and is not asked for that.
pub(super) fn check(
    schema: &Structural,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    faults: &mut Faults,
) -> u64 {
    if old.is_some_and(|old| unchanged(schema, value, old)) || !faults.look(value) {
        return 0;
    }
    // What has another type is looked at all the same, but of null nobody says more than whether it is listed.
    let typed = wrong_type(schema, value, path);
    let of_type = u64::from(!matches!(typed, Typed::Wrong(_)));
    if let Typed::Wrong(fault) | Typed::Unformatted(fault) = typed {
        faults.push(fault);
    }
    if value.is_null() {
        enumerated(&schema.checks, value, path, faults);
        return of_type;
    }
    let format = format::of(schema);
    let has_type = schema.kind.is_some() || schema.int_or_string || format.is_some();
    // Each sort of check counts for itself, and those of numbers, lists and types once more. Alternatives, enumerations and the whole always do.
    let mut counted = if has_type { 1 + of_type } else { 0 };
    counted += composite::check(&schema.checks, value, path, faults) + 4;
    match value {
        Value::String(text) => {
            string(&schema.checks, text, path, faults);
            counted += 1 + u64::from(format.is_some_and(format::is_of_text));
        }
        Value::Number(_) => {
            numeric(schema, value, path, faults);
            counted += 2;
        }
        Value::Array(items) => {
            counted += 2;
            sized(&schema.checks, items, path, faults);
            if let Some(element) = &schema.items {
                let former = Former::entries(&schema.list, old);
                for (at, item) in items.iter().enumerate() {
                    counted += check(element, item, former.of(item), &format!("{path}[{at}]"), faults);
                }
            }
        }
        Value::Object(map) => {
            counted += 1;
            let old = old.and_then(Value::as_object);
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    let old = old.and_then(|old| old.get(name));
                    counted += check(field, value, old, &below(path, name), faults);
                }
            }
            properties(&schema.checks, map, path, faults);
        }
        Value::Null | Value::Bool(_) => {}
    }
    enumerated(&schema.checks, value, path, faults);
    counted
}

/// What a value is by the type of its schema.
enum Typed {
    Right,
    /// It has another type.
    Wrong(FieldError),
    /// It has the type, and lacks the format.
    Unformatted(FieldError),
}

/// Whether a value has the JSON type that the schema asks for, and the format.
fn wrong_type(schema: &Structural, value: &Value, path: &str) -> Typed {
    if value.is_null() && schema.nullable {
        return Typed::Right;
    }
    let (good, expected) = match schema.kind {
        None if schema.int_or_string => (value.is_string() || value.as_i64().is_some(), "integer,string"),
        // Only texts and lists may have a format that is asked for without a type.
        None => (format::of(schema).is_none() || value.is_string() || value.is_array(), ""),
        Some(kind) => {
            let good = match (kind, value) {
                (Type::Object, Value::Object(_))
                | (Type::Array, Value::Array(_))
                | (Type::String, Value::String(_))
                | (Type::Number, Value::Number(_))
                | (Type::Boolean, Value::Bool(_)) => true,
                (Type::Integer, Value::Number(number)) => is_integer(number),
                _ => false,
            };
            (good, kind.as_str())
        }
    };
    if good {
        return format::fault(schema, value, path).map_or(Typed::Right, Typed::Unformatted);
    }
    let (expected, found) = match format::of(schema).filter(|_| !value.is_null()) {
        Some(format) => {
            match value {
                Value::String(_) | Value::Array(_)
                    if !matches!(schema.kind, Some(Type::Integer | Type::Number)) =>
                {
                    return Typed::Right;
                }
                Value::String(_) | Value::Array(_) => (expected, type_name(value)),
                // Where there is a format, the formats are told apart.
                Value::Number(number) => (format, if number.is_f64() { "float64" } else { "int64" }),
                _ => (format, ""),
            }
        }
        _ => (expected, type_name(value)),
    };
    let detail = format!("{path} in body must be of type {expected}: {found:?}");
    Typed::Wrong(fault(FieldReason::TypeInvalid, path, found, &detail))
}

/// Whether a number is an integer: as Go reads numbers, 64 bits, or a float that is exact.
fn is_integer(number: &Number) -> bool {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let exact = |number: f64| number.fract() == 0.0 && number.abs() <= EXACT;
    number.is_i64() || number.as_f64().is_some_and(exact)
}

/// Only the first fault of a string is told.
fn string(checks: &Checks, text: &str, path: &str, faults: &mut Faults) {
    let length = text.chars().count() as u64;
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        faults.push(FieldError::too_long(&FieldPath::new(path), max as usize));
    } else if let Some(min) = checks.min_length.filter(|min| length < *min) {
        faults.push(invalid(path, text, &format!("should be at least {min} chars long")));
    } else if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        faults.push(invalid(path, text, &format!("should match '{}'", pattern.text)));
    }
}

/// The faults of a number: whether there is room for it in what it shall be, and how it compares with the numbers that the schema names. Those
/// need room, too.
fn numeric(schema: &Structural, value: &Value, path: &str, faults: &mut Faults) {
    let Some(number) = value.as_f64() else { return };
    let checks = &schema.checks;
    let room = |what: &str, number: &Value| format::range(schema, number, what, path);
    let wrong = |what: String| [invalid(path, value.clone(), &what)];
    // Whole numbers are compared with a bound as Go converts it to one: its fraction is cut off.
    let whole = value.as_i64().is_some();
    let bound = |limit: f64, fits: bool| if whole && fits { limit.trunc() } else { limit };
    faults.extend(room("Checked", value));
    if let Some(divisor) = checks.multiple_of {
        faults.extend(room("MultipleOf", &divisor.into()));
        if divisor > 0.0 && !is_multiple(value, number, divisor) {
            faults.extend(wrong(format!("should be a multiple of {divisor}")));
        }
    }
    if let Some(min) = checks.minimum {
        let misfit = room("Minimum boundary", &min.into());
        let min = bound(min, misfit.is_none());
        faults.extend(misfit);
        if checks.exclusive_minimum && number <= min {
            faults.extend(wrong(format!("should be greater than {min}")));
        } else if number < min {
            faults.extend(wrong(format!("should be greater than or equal to {min}")));
        }
    }
    if let Some(max) = checks.maximum {
        let misfit = room("Maximum boundary", &max.into());
        let max = bound(max, misfit.is_none());
        faults.extend(misfit);
        if checks.exclusive_maximum && number >= max {
            faults.extend(wrong(format!("should be less than {max}")));
        } else if number > max {
            faults.extend(wrong(format!("should be less than or equal to {max}")));
        }
    }
}

/// Whether a number is a multiple of another (`MultipleOfNativeType`): of whole ones exactly, of others as near as their digits tell.
fn is_multiple(value: &Value, number: f64, divisor: f64) -> bool {
    /// Beyond this not every whole number is a double.
    const EXACT: f64 = 9_007_199_254_740_991.0;
    // Here, too, a whole number is compared with a whole one.
    if let (Some(number), true) = (value.as_i64(), (1.0..=EXACT).contains(&divisor)) {
        return number % divisor as i64 == 0;
    }
    let quotient = if divisor < 1.0 { 1.0 / divisor * number } else { number / divisor };
    let whole = quotient.round();
    quotient.abs() <= EXACT && (quotient - whole).abs() <= 1e-9 * whole.abs()
}

fn sized(checks: &Checks, items: &[Value], path: &str, faults: &mut Faults) {
    let count = items.len() as u64;
    if let Some(min) = checks.min_items.filter(|min| count < *min) {
        faults.push(invalid(path, count, &format!("should have at least {min} items")));
    }
    if let Some(max) = checks.max_items.filter(|max| count > *max) {
        faults.push(FieldError::too_many(&FieldPath::new(path), items.len(), max as usize));
    }
    if checks.unique_items && items::first_duplicate(items).is_some() {
        faults.push(invalid(path, "", "shouldn't contain duplicates"));
    }
}

fn properties(checks: &Checks, map: &serde_json::Map<String, Value>, path: &str, faults: &mut Faults) {
    let count = map.len() as u64;
    if let Some(min) = checks.min_properties.filter(|min| count < *min) {
        // kube-apiserver tells how many there should be as the value.
        faults.push(invalid(path, min, &format!("should have at least {min} properties")));
    }
    if let Some(max) = checks.max_properties.filter(|max| count > *max) {
        faults.push(FieldError::too_many(&FieldPath::new(path), map.len(), max as usize));
    }
    for name in checks.required.iter().filter(|name| !map.contains_key(*name)) {
        faults.push(FieldError::required(&FieldPath::new(below(path, name)), ""));
    }
}

fn enumerated(checks: &Checks, value: &Value, path: &str, faults: &mut Faults) {
    /// Listed values that are compared in one look.
    const LISTED: usize = 16;
    let Some(known) = &checks.enumeration else { return };
    if !faults.spend(known.len() / LISTED) || known.iter().any(|known| is_listed(known, value)) {
        return;
    }
    let names: Vec<_> = known
        .iter()
        .map(|known| known.as_str().map_or_else(|| known.to_string(), str::to_owned))
        .map(|name| format!("{name:?}"))
        .collect();
    let detail = format!("supported values: {}", names.join(", "));
    faults.push(fault(FieldReason::NotSupported, path, value.clone(), &detail));
}

/// Whether a value is one of an enumeration. Go converts it to the type of the listed one, so numbers lose their fraction, and null, which has
/// no type, is none.
fn is_listed(known: &Value, value: &Value) -> bool {
    match (known, value) {
        (Value::Null, _) => false,
        (Value::Number(known), Value::Number(value)) => match (known.as_i64(), value.as_f64()) {
            (Some(known), Some(float)) if !value.is_i64() => known == float as i64,
            _ => known.as_f64() == value.as_f64(),
        },
        _ => known == value,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
