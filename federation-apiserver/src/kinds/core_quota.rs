//! core/v1 ResourceQuota and LimitRange.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Kind},
    validation::{items, items_mut, null_if_absent, quantities, set, text},
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short_names: &["limits"],
        create_on_update: true,
        columns: &[Column::NAME, Column::CREATED_AT],
        always: &["/spec/limits"],
        default: default_limits,
        validate: validate_limits,
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        returns_deleted: true,
        singular: "resourcequota",
        short_names: &["quota"],
        status: true,
        columns: &[
            Column::NAME,
            Column::text("Request", "Used and hard amounts of what is requested.", |object, _| {
                used(object, |name| !name.starts_with("limits."))
            }),
            Column::text("Limit", "Used and hard amounts of what is limited.", |object, _| {
                used(object, |name| name.starts_with("limits."))
            }),
            Column::AGE,
        ],
        prepare_create: |object| object["status"] = json!({}),
        validate: validate_quota,
        validate_update: |new, old, errors| {
            let scopes = |object: &Value| {
                let mut scopes: Vec<_> =
                    items(&object["spec"], "scopes").filter_map(Value::as_str).map(str::to_owned).collect();
                scopes.sort();
                scopes
            };
            if scopes(new) != scopes(old) {
                let path = FieldPath::new("spec.scopes");
                errors.push(FieldError::invalid(&path, new["spec"]["scopes"].clone(), "field is immutable"));
            }
        },
        ..Kind::BUILT_IN
    },
];

/// `cpu: 0/4, memory: 0/8Gi`
fn used(object: &Value, chosen: fn(&str) -> bool) -> Value {
    let hard = object["status"]["hard"].as_object().into_iter().flatten();
    let amounts: Vec<_> = hard
        .filter(|(name, _)| chosen(name))
        .map(|(name, hard)| {
            let used = &object["status"]["used"][name];
            let used = if used.is_null() { "0".to_owned() } else { quantities::shown(used) };
            format!("{name}: {used}/{}", quantities::shown(hard))
        })
        .collect();
    amounts.join(", ").into()
}

/// Limits stand in for the defaults that are not given (`SetDefaults_LimitRangeItem`).
fn default_limits(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        null_if_absent(spec, "limits");
    }
    for item in items_mut(&mut object["spec"], "limits") {
        if item["type"] != "Container" {
            continue;
        }
        for (part, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            let amounts = item[from].as_object().cloned().unwrap_or_default();
            for (name, amount) in amounts {
                set(item, part, json!({}));
                set(&mut item[part], &name, amount);
            }
        }
    }
}

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];

/// Pairs of a limit's parts of which the first must not be greater than the second, in the order in which they are checked.
const ORDERED: [(&str, &str); 6] = [
    ("min", "max"),
    ("min", "defaultRequest"),
    ("defaultRequest", "max"),
    ("defaultRequest", "default"),
    ("min", "default"),
    ("default", "max"),
];

fn validate_limits(object: &Value, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, item) in items(&object["spec"], "limits").enumerate() {
        let path = FieldPath::new("spec.limits").index(index);
        let kind = text(item, "type");
        validate_limit_type(kind, &path.child("type"), &mut seen, errors);
        for part in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            validate_limit_amounts(kind, &item[part], &path.child(part), errors);
        }
        if kind == "PersistentVolumeClaim"
            && item["min"]["storage"].is_null()
            && item["max"]["storage"].is_null()
        {
            let message = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(&path.child("limits"), message));
        }
        for part in ["default", "defaultRequest"] {
            if kind == "Pod" && item[part].as_object().is_some_and(|amounts| !amounts.is_empty()) {
                let message = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(&path.child(part), message));
            }
        }
        for (low, high) in ORDERED {
            validate_limit_order(item, low, high, &path, errors);
        }
        for (name, value) in item["maxLimitRequestRatio"].as_object().into_iter().flatten() {
            if quantities::parse(value).is_some_and(|ratio| ratio.millis() < 1000) {
                let message = format!("ratio {} is less than 1", quantities::shown(value));
                let path = path.child("maxLimitRequestRatio").key(name);
                errors.push(FieldError::invalid(&path, quantities::shown(value), &message));
            }
        }
    }
}

fn validate_limit_type<'a>(
    kind: &'a str,
    path: &FieldPath,
    seen: &mut HashSet<&'a str>,
    errors: &mut ErrorList,
) {
    if kind.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if !seen.insert(kind) {
        errors.push(FieldError::duplicate(path, kind));
    }
    if !kind.contains('/') && !TYPES.contains(&kind) {
        errors.push(FieldError::invalid(path, kind, "must be a standard limit type or fully qualified"));
    }
}

fn validate_limit_amounts(kind: &str, amounts: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (name, value) in amounts.as_object().into_iter().flatten() {
        let path = path.key(name);
        if matches!(kind, "Pod" | "Container") {
            quantities::container_name(name, &path, errors);
        } else {
            quantities::standard_name(name, &path, errors);
        }
        quantities::non_negative(value, &path, errors);
    }
}

/// Checks that no amount of the part `low` is greater than that of the part `high`.
fn validate_limit_order(item: &Value, low: &str, high: &str, path: &FieldPath, errors: &mut ErrorList) {
    for (name, value) in item[low].as_object().into_iter().flatten() {
        let limit = &item[high][name.as_str()];
        let (Some(least), Some(most)) = (quantities::parse(value), quantities::parse(limit)) else {
            continue;
        };
        if least <= most {
            continue;
        }
        let other =
            if (low, high) == ("defaultRequest", "default") { "default limit" } else { limit_part(high) };
        let message = format!(
            "{} value {} is greater than {other} value {}",
            limit_part(low),
            quantities::shown(value),
            quantities::shown(limit)
        );
        // Kubernetes blames `default` and `defaultRequest` rather than `min`, and never `max`. Of `default` and `max`, the error is of the
        // field `default` but has the value of `max`.
        let (part, wrong) = match (low, high) {
            ("min", "default" | "defaultRequest") => (high, limit),
            ("default", "max") => (low, limit),
            _ => (low, value),
        };
        errors.push(FieldError::invalid(&path.child(part).key(name), quantities::shown(wrong), &message));
    }
}

/// A part of a limit as messages name it.
fn limit_part(part: &str) -> &str {
    if part == "defaultRequest" { "default request" } else { part }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// What a quota counts by its bare name.
const COUNTED: [&str; 12] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// What of it may be a fraction of one.
const DIVISIBLE: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// What pods use, for which alone scopes make sense.
const OF_PODS: [&str; 7] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "pods", "requests.cpu", "requests.memory"];

fn amounts(amounts: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (name, value) in amounts.as_object().into_iter().flatten() {
        let path = path.key(name);
        let before = errors.len();
        quantities::name(name, &path, errors);
        let qualified = errors.len() == before;
        let counted = ["requests.", "limits.", "hugepages-"].iter().any(|start| name.starts_with(start));
        if !counted && !name.contains('/') && !COUNTED.contains(&name.as_str()) {
            if qualified {
                let message = "must be a standard resource type or fully qualified";
                errors.push(FieldError::invalid(&path, name.as_str(), message));
            }
            errors.push(FieldError::invalid(&path, name.as_str(), "must be a standard resource for quota"));
        }
        let quantity = quantities::non_negative(value, &path, errors);
        let whole = COUNTED.contains(&name.as_str()) && !DIVISIBLE.contains(&name.as_str());
        if whole && quantity.is_some_and(|quantity| quantity.millis() % 1000 != 0) {
            errors.push(FieldError::invalid(&path, value.clone(), quantities::NOT_WHOLE));
        }
    }
}

/// Whether a scope says anything of a resource (`IsResourceQuotaScopeValidForResource`).
fn is_in_scope(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => OF_PODS.contains(&resource),
        _ => true,
    }
}

const MISAPPLIED: &str = "unsupported scope applied to resource";
const CONFLICTING: &str = "conflicting scopes";

fn validate_quota(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    amounts(&spec["hard"], &path.child("hard"), errors);
    for name in ["hard", "used"] {
        amounts(&object["status"][name], &FieldPath::new("status").child(name), errors);
    }
    let standard = |name: &String| {
        COUNTED.contains(&name.as_str()) || name.starts_with("requests.") || name.starts_with("limits.")
    };
    let hard: Vec<&str> = spec["hard"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .filter(|name| standard(name))
        .map(String::as_str)
        .collect();
    let misapplied = SCOPES.map(|scope| hard.iter().filter(|name| !is_in_scope(scope, name)).count());
    // One error for each resource that the scope says nothing of. An unknown scope says something of all.
    let misapplied =
        |scope: &str| SCOPES.iter().position(|known| *known == scope).map_or(0, |at| misapplied[at]);
    let conflicting = |scopes: &[&str]| {
        let both = |one, other| scopes.contains(&one) && scopes.contains(&other);
        usize::from(both("BestEffort", "NotBestEffort")) + usize::from(both("Terminating", "NotTerminating"))
    };
    let scopes: Vec<&str> = items(spec, "scopes").filter_map(Value::as_str).collect();
    let at = path.child("scopes");
    let list = &spec["scopes"];
    for scope in &scopes {
        if errors.is_full() {
            return;
        }
        refuse(usize::from(!SCOPES.contains(scope)), &at, list, "unsupported scope", errors);
        refuse(misapplied(scope), &at, list, MISAPPLIED, errors);
    }
    refuse(conflicting(&scopes), &at, list, CONFLICTING, errors);
    let (selector, path) = (&spec["scopeSelector"], path.child("scopeSelector").child("matchExpressions"));
    let mut scopes = Vec::new();
    for expression in items(selector, "matchExpressions") {
        if errors.is_full() {
            return;
        }
        let scope = text(expression, "scopeName");
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        refuse(misapplied(scope), &path, selector, MISAPPLIED, errors);
        expression_rules(expression, scope, &path, errors);
        scopes.push(scope);
    }
    refuse(conflicting(&scopes), &path, &selector["matchExpressions"], CONFLICTING, errors);
}

/// Refuses a list as a whole so many times. It is printed only where that is told: it may be long, and there is one question for each entry.
fn refuse(times: usize, path: &FieldPath, list: &Value, why: &str, errors: &mut ErrorList) {
    if times > 0 {
        let error = FieldError::invalid(path, list.clone(), why);
        errors.extend(std::iter::repeat_n(error, times));
    }
}

fn expression_rules(expression: &Value, scope: &str, path: &FieldPath, errors: &mut ErrorList) {
    let operator = text(expression, "operator");
    let at = path.child("operator");
    if !matches!(scope, "PriorityClass" | "VolumeAttributesClass")
        && SCOPES.contains(&scope)
        && operator != "Exists"
    {
        let message = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(&at, operator, message));
    }
    let none = expression["values"].as_array().is_none_or(Vec::is_empty);
    match operator {
        "In" | "NotIn" if none => {
            let message = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(FieldError::required(&path.child("values"), message));
        }
        "Exists" | "DoesNotExist" if !none => {
            let message = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(&path.child("values"), expression["values"].clone(), message));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(&at, other, "not a valid selector operator")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_scopes_take_little_to_refuse() {
        let unknown = vec![json!("s"); 100_000];
        let known = vec![json!("VolumeAttributesClass"); 50_000];
        let hard: serde_json::Map<_, _> =
            (0..50_000).map(|number| (format!("requests.a{number}"), json!("1"))).collect();
        for spec in [
            json!({"scopes": unknown}),
            json!({"scopes": known, "hard": hard}),
            json!({"scopeSelector": {"matchExpressions": vec![json!({}); 100_000]}}),
            json!({"hard": hard, "scopeSelector": {"matchExpressions": vec![json!({"scopeName": "BestEffort"}); 20_000]}}),
        ] {
            let mut errors = ErrorList::new();
            validate_quota(&json!({"spec": spec}), &mut errors);
            let bytes: usize = errors.iter().map(|error| error.message.len()).sum();
            assert!(bytes < 16 << 20, "{bytes} bytes of errors");
        }
    }

    #[test]
    fn limits_are_told_apart_however_many_there_are() {
        let limit = |number: usize| json!({"type": format!("example.com/a{number}")});
        let mut listed: Vec<_> = (0..100_000).map(limit).collect();
        listed.extend([limit(7), json!({}), json!({})]);
        let mut errors = ErrorList::new();
        validate_limits(&json!({"spec": {"limits": listed}}), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                r#"spec.limits[100000].type: Duplicate value: "example.com/a7""#,
                "spec.limits[100001].type: Required value",
                "spec.limits[100002].type: Required value",
            ]
        );
    }
}
