//! Amounts of resources: requests and limits.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldPath, names, quantity::Quantity};
use serde_json::Value;

use super::NOT_NEGATIVE;
use crate::registry::ErrorList;

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

/// Amounts of resources by their names.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// The amounts that an object says, without what is none.
pub(crate) fn amounts(object: &Value) -> Amounts {
    let all = object.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), parse(value)?))).collect()
}

/// A quantity that is not below zero.
pub(crate) fn non_negative(value: &Value, path: &FieldPath, errors: &mut ErrorList) -> Option<Quantity> {
    let Some(quantity) = parse(value) else {
        errors.push(FieldError::invalid(path, value.clone(), SYNTAX));
        return None;
    };
    if quantity.is_negative() {
        errors.push(FieldError::invalid(path, value.clone(), NOT_NEGATIVE));
    }
    Some(quantity)
}

/// A map of resource names to amounts.
pub(crate) fn map(amounts: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (name, value) in amounts.as_object().into_iter().flatten() {
        let path = path.key(name);
        self::name(name, &path, errors);
        non_negative(value, &path, errors);
    }
}

/// The name of a resource.
pub(crate) fn name(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    errors.extend(names::qualified_name(name).iter().map(|error| FieldError::invalid(path, name, error)));
}

/// Resources that a container has a right to.
const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What may be limited by a bare name (`helper.IsStandardResourceName`), but for huge pages.
const STANDARD: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

/// `validation.validateResourceName`: a name that is qualified, and if it is bare, known. Of a name that is not even qualified nothing else is told.
pub(crate) fn standard_name(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    let before = errors.len();
    self::name(name, path, errors);
    let huge = name.starts_with(HUGE_PAGES) || name.starts_with("requests.hugepages-");
    if errors.len() == before && !name.contains('/') && !STANDARD.contains(&name) && !huge {
        let message = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, name, message));
    }
}

/// The name of a resource of containers.
pub(crate) fn container_name(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    standard_name(name, path, errors);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !name.starts_with(HUGE_PAGES) {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

const HUGE_PAGES: &str = "hugepages-";

/// What a part of something that is only there as a whole is refused with.
pub(crate) const NOT_WHOLE: &str = "must be an integer";

/// Whether Kubernetes itself knows the resource, by a bare name or one of its own domain (`helper.IsNativeResource`).
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a resource of others that a quota can count (`helper.IsExtendedResourceName`).
fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether an amount of huge pages is one of whole pages (`helper.IsHugePageResourceValueDivisible`).
fn is_of_pages(name: &str, amount: Quantity) -> bool {
    let page = name.strip_prefix(HUGE_PAGES).and_then(|size| size.parse::<Quantity>().ok());
    page.is_some_and(|page| {
        page.units() > 0 && page.millis() % 1000 == 0 && amount.units().checked_rem(page.units()) == Some(0)
    })
}

/// What names a resource, and what is wrong with the name.
type Namer = fn(&str, &FieldPath, &mut ErrorList);

/// Whether nodes may be promised more than they have (`helper.IsOvercommitAllowed`).
fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// The limits and requests of a container: `validation.ValidateContainerResourceRequirements`.
pub(crate) fn container(resources: &Value, path: &FieldPath, errors: &mut ErrorList) {
    requirements(resources, path, container_name, errors);
}

/// `validation.validateResourceRequirements`: limits and requests fit each other.
pub(crate) fn requirements(resources: &Value, path: &FieldPath, namer: Namer, errors: &mut ErrorList) {
    let (limits, requests) = (&resources["limits"], &resources["requests"]);
    let limits_path = path.child("limits");
    for (part, amounts) in [("limits", limits), ("requests", requests)] {
        let path = path.child(part);
        for (name, value) in amounts.as_object().into_iter().flatten() {
            let place = path.key(name);
            namer(name, &place, errors);
            let amount = non_negative(value, &place, errors);
            // Devices and the like come whole.
            if is_extended(name) && amount.is_some_and(|amount| amount.millis() % 1000 != 0) {
                errors.push(FieldError::invalid(&place, shown(value), NOT_WHOLE));
            }
            if part == "requests" {
                fits(name, value, limits, (&path, &limits_path), errors);
            }
            if let Some(amount) = amount
                && name.starts_with(HUGE_PAGES)
                && !is_of_pages(name, amount)
            {
                let message = format!("{amount} is not positive integer multiple of {name}");
                errors.push(FieldError::invalid(&place, amount.to_string(), &message));
            }
        }
    }
    let given = |name: &str| !limits[name].is_null() || !requests[name].is_null();
    let mut all = [limits, requests].into_iter().filter_map(Value::as_object).flatten();
    if all.any(|(name, _)| name.starts_with(HUGE_PAGES)) && !given("cpu") && !given("memory") {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// What is requested must be within its limit; without one of its own, if nodes cannot be promised more of it than they have.
fn fits(
    name: &str,
    value: &Value,
    limits: &Value,
    (path, limits_path): (&FieldPath, &FieldPath),
    errors: &mut ErrorList,
) {
    let limit = &limits[name];
    if limit.is_null() {
        if !may_be_overcommitted(name) {
            let message = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(limits_path, message));
        }
        return;
    }
    let (Some(request), Some(most)) = (parse(value), parse(limit)) else { return };
    let relation = if !may_be_overcommitted(name) && request != most {
        "equal to"
    } else if request > most {
        "less than or equal to"
    } else {
        return;
    };
    let message = format!("must be {relation} {name} limit of {}", shown(limit));
    errors.push(FieldError::invalid(path, shown(value), &message));
}

/// An amount as text.
pub(crate) fn shown(value: &Value) -> String {
    parse(value).map_or_else(|| value.to_string(), |quantity| quantity.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(resources: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        container(&resources, &FieldPath::new("r"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn devices_come_whole_and_with_a_limit() {
        check(json!({"limits": {"example.com/a": 2}, "requests": {"example.com/a": 2, "cpu": 1}}), &[]);
        check(
            json!({"limits": {"example.com/a": 1.5}}),
            &[r#"r.limits[example.com/a]: Invalid value: "1500m": must be an integer"#],
        );
        check(
            json!({"requests": {"example.com/a": 1}}),
            &["r.limits: Required value: Limit must be set for non overcommitable resources"],
        );
        check(
            json!({"limits": {"example.com/a": 2}, "requests": {"example.com/a": 1}}),
            &[r#"r.requests: Invalid value: "1": must be equal to example.com/a limit of 2"#],
        );
    }

    #[test]
    fn a_resource_of_others_has_a_name_that_quotas_can_count() {
        check(
            json!({"limits": {"requests.example.com/a": 1}}),
            &[
                r#"r.limits[requests.example.com/a]: Invalid value: "requests.example.com/a": doesn't follow extended resource name standard"#,
            ],
        );
    }

    #[test]
    fn huge_pages_come_whole() {
        check(json!({"limits": {"cpu": 1, "hugepages-2Mi": "4Mi"}}), &[]);
        for (name, amount) in [("hugepages-2Mi", "3Mi"), ("hugepages-x", "2Mi"), ("hugepages-0", "1")] {
            let error = format!(
                "r.limits[{name}]: Invalid value: {amount:?}: {amount} is not positive integer multiple of {name}"
            );
            check(json!({"limits": {"cpu": 1, name: amount}}), &[&error]);
        }
    }

    #[test]
    fn of_a_name_that_is_not_qualified_it_is_not_told_that_it_is_unknown() {
        let mut errors = ErrorList::new();
        container_name("a b", &FieldPath::new("r"), &mut errors);
        let told: Vec<_> =
            errors.iter().map(|error| error.message.rsplit(": ").next().unwrap_or_default()).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1], "must be a standard resource for containers");
        errors.clear();
        container_name("odd", &FieldPath::new("r"), &mut errors);
        assert_eq!(errors.len(), 2);
    }
}
