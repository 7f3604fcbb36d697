//! The selectors that an access review may ask about (KEP-4601).
//!
//! A raw selector and requirements say the same in two ways; only one may be there. An operator that is not known is no error: who asks may
//! be newer than this server. RBAC does not look at selectors, so the answer is the same with and without them.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

/// The errors of `resourceAttributes`: `authorization/validation.validateResourceAttributes`.
pub(super) fn errors(attributes: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["fieldSelector", "labelSelector"] {
        if attributes[name].is_object() {
            selector(&attributes[name], &path.child(name), &mut errors);
        }
    }
    errors
}

fn selector(selector: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    let requirements = selector["requirements"].as_array().map(Vec::as_slice).unwrap_or_default();
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let message = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(&path.child("rawSelector"), raw, message));
        }
        (true, true) => {
            let message = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&path.child("requirements"), &message));
        }
        _ => {}
    }
    for (place, requirement) in requirements.iter().enumerate() {
        self::requirement(requirement, &path.child("requirements").index(place), errors);
    }
}

fn requirement(requirement: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if requirement["key"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&path.child("key"), "must be specified"));
    }
    let values = requirement["values"].as_array().map(Vec::as_slice).unwrap_or_default();
    match requirement["operator"].as_str() {
        Some("In" | "NotIn") if values.is_empty() => {
            let message = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&path.child("values"), message));
        }
        Some("Exists" | "DoesNotExist") if !values.is_empty() => {
            let message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&path.child("values"), message));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(selector: Value, expect: &[&str]) {
        let found = errors(&json!({"labelSelector": selector}), &FieldPath::new("r"));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_selector_is_said_in_one_way() {
        let requirement = json!({"key": "a", "operator": "In", "values": ["b"]});
        check(json!({"rawSelector": "a=b"}), &[]);
        check(json!({"requirements": [requirement]}), &[]);
        check(
            json!({"rawSelector": "a=b", "requirements": [requirement]}),
            &[
                r#"r.labelSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements"#,
            ],
        );
        check(
            json!({}),
            &[
                "r.labelSelector.requirements: Required value: when r.labelSelector is specified, requirements or rawSelector is required",
            ],
        );
    }

    #[test]
    fn a_requirement_has_the_values_that_its_operator_needs() {
        check(
            json!({"requirements": [{"operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]}, {"key": "a", "operator": "New"}]}),
            &[
                "r.labelSelector.requirements[0].key: Required value: must be specified",
                "r.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "r.labelSelector.requirements[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ],
        );
    }
}
