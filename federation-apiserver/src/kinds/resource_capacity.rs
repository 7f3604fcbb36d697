//! How the capacity of a device may be shared (KEP-5075): `pkg/apis/resource/validation` for request policies.

use apimachinery::{FieldError, FieldPath, quantity::Quantity};
use serde_json::Value;

use super::resource::few;
use crate::{
    registry::ErrorList,
    validation::{items, quantities},
};

/// Values that one may choose from.
const CHOICES_MAX: usize = 10;

/// How much of a capacity may be asked for at a time.
pub(super) fn request_policy(policy: &Value, most: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (values, range) = (items(policy, "validValues").next().is_some(), policy["validRange"].is_object());
    if values && range {
        let message = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
        errors.push(FieldError::forbidden(path, message));
        return;
    }
    let name = if values { "validValues" } else { "validRange" };
    if !values && !range {
        return;
    }
    let Some(default) = quantities::parse(&policy["default"]) else {
        let message = format!("required when {name} is defined");
        errors.push(FieldError::required(&path.child("default"), &message));
        return;
    };
    let Some(most) = quantities::parse(most) else { return };
    if values {
        choices(policy, default, most, path, errors);
    } else {
        span(&policy["validRange"], default, most, &path.child("validRange"), errors);
    }
}

fn choices(policy: &Value, default: Quantity, most: Quantity, path: &FieldPath, errors: &mut ErrorList) {
    let values: Vec<_> =
        few(policy, "validValues", path, CHOICES_MAX, errors).iter().filter_map(quantities::parse).collect();
    let path = path.child("validValues");
    for (at, pair) in values.windows(2).enumerate() {
        if pair[0] > pair[1] {
            let message = "values must be sorted in ascending order";
            errors.push(FieldError::invalid(&path.index(at + 1), pair[1].to_string(), message));
        }
    }
    for (at, value) in values.iter().enumerate() {
        if *value > most {
            let message = format!("option is larger than capacity value: {most}");
            errors.push(FieldError::invalid(&path.index(at), value.to_string(), &message));
        }
        if values[..at].contains(value) {
            errors.push(FieldError::duplicate(&path.index(at), value.units().to_string()));
        }
    }
    if !values.contains(&default) {
        let message = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(&path, default.to_string(), message));
    }
}

fn span(range: &Value, default: Quantity, most: Quantity, path: &FieldPath, errors: &mut ErrorList) {
    let Some(least) = quantities::parse(&range["min"]) else {
        errors.push(FieldError::required(&path.child("min"), "required when validRange is defined"));
        return;
    };
    let mut wrong = |field: &str, value: Quantity, why: String| {
        errors.push(FieldError::invalid(&path.child(field), value.to_string(), &why));
    };
    if least > most {
        wrong("min", least, format!("min is larger than capacity value: {most}"));
    }
    if default < least {
        wrong("default", default, format!("default is less than min: {least}"));
    }
    let end = quantities::parse(&range["max"]);
    if let Some(end) = end {
        if least > end {
            wrong("max", least, format!("min is larger than max: {end}"));
        }
        if end > most {
            wrong("max", end, format!("max is larger than capacity value: {most}"));
        }
        if default > end {
            wrong("default", default, format!("default is more than max: {end}"));
        }
    }
    let Some(step) = quantities::parse(&range["step"]) else { return };
    if step.is_zero() || step.is_negative() {
        wrong("step", step, "must be greater than zero".to_owned());
        return;
    }
    let first = least.saturating_add(step);
    if first > most {
        wrong("step", step, format!("one step {first} is larger than capacity value: {most}"));
    }
    for value in [Some(default), end].into_iter().flatten() {
        let (value_units, least_units, step_units) = (value.units(), least.units(), step.units());
        if value_units.checked_sub(least_units).and_then(|over| over.checked_rem(step_units)) != Some(0) {
            wrong("step", value, format!("value is not a multiple of a given step ({step}) from ({least})"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_of_a_capacity_are_as_its_policy_says() {
        let check = |policy: Value, expect: &[&str]| {
            let mut errors = ErrorList::new();
            request_policy(&policy, &json!("8Gi"), &FieldPath::new("p"), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect, "{policy}");
        };
        check(json!({"default": "1Gi", "validValues": ["1Gi", "2Gi"]}), &[]);
        check(json!({"default": "2Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}), &[]);
        check(
            json!({"default": "3Gi", "validValues": ["2Gi", "1Gi", "9Gi"]}),
            &[
                r#"p.validValues[1]: Invalid value: "1Gi": values must be sorted in ascending order"#,
                r#"p.validValues[2]: Invalid value: "9Gi": option is larger than capacity value: 8Gi"#,
                r#"p.validValues: Invalid value: "3Gi": default value is not valid according to the requestPolicy"#,
            ],
        );
        check(
            json!({"default": "1500Mi", "validRange": {"min": "1Gi", "max": "4Gi", "step": "1Gi"}}),
            &[
                r#"p.validRange.step: Invalid value: "1500Mi": value is not a multiple of a given step (1Gi) from (1Gi)"#,
            ],
        );
        check(json!({"validRange": {}}), &["p.default: Required value: required when validRange is defined"]);
    }
}
