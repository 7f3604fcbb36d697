//! Amounts of resources: requests and limits.

use apimachinery::{FieldError, FieldPath, names, quantity::Quantity};
use serde_json::Value;

use super::NOT_NEGATIVE;
use crate::registry::Faults;

/// What a text that is no quantity is refused with.
const SYNTAX: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The amount that a JSON value says: a text, or a bare number.
pub(crate) fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// A quantity that is not below zero.
pub(crate) fn non_negative(value: &Value, path: &FieldPath, faults: &mut Faults) -> Option<Quantity> {
    let Some(quantity) = parse(value) else {
        faults.push(FieldError::invalid(path, value.clone(), SYNTAX));
        return None;
    };
    if quantity.is_negative() {
        faults.push(FieldError::invalid(path, value.clone(), NOT_NEGATIVE));
    }
    Some(quantity)
}

/// A map of resource names to amounts.
pub(crate) fn map(amounts: &Value, path: &FieldPath, faults: &mut Faults) {
    for (name, value) in amounts.as_object().into_iter().flatten() {
        let path = path.key(name);
        self::name(name, &path, faults);
        non_negative(value, &path, faults);
    }
}

/// The name of a resource.
pub(crate) fn name(name: &str, path: &FieldPath, faults: &mut Faults) {
    faults.extend(names::qualified_name(name).iter().map(|fault| FieldError::invalid(path, name, fault)));
}

/// Resources that a container has a right to.
const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// The name of a resource of containers.
pub(crate) fn container_name(name: &str, path: &FieldPath, faults: &mut Faults) {
    self::name(name, path, faults);
    if !name.contains('/') && !CONTAINER.contains(&name) && !name.starts_with("hugepages-") {
        let message = "must be a standard resource type or fully qualified";
        faults.push(FieldError::invalid(path, name, message));
        faults.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
}

/// `validation.ValidateContainerResources`: limits and requests fit each other.
pub(crate) fn container(resources: &Value, path: &FieldPath, faults: &mut Faults) {
    let (limits, requests) = (&resources["limits"], &resources["requests"]);
    for (part, amounts) in [("limits", limits), ("requests", requests)] {
        let path = path.child(part);
        for (name, value) in amounts.as_object().into_iter().flatten() {
            let path = path.key(name);
            container_name(name, &path, faults);
            non_negative(value, &path, faults);
        }
    }
    for (name, value) in requests.as_object().into_iter().flatten() {
        let (Some(request), Some(limit)) = (parse(value), limits.get(name).and_then(parse)) else { continue };
        let path = path.child("requests");
        if request > limit {
            let message =
                format!("must be less than or equal to {name} limit of {}", shown(&limits[name.as_str()]));
            faults.push(FieldError::invalid(&path, shown(value), &message));
        }
    }
}

/// An amount as text.
pub(crate) fn shown(value: &Value) -> String {
    parse(value).map_or_else(|| value.to_string(), |quantity| quantity.to_string())
}
