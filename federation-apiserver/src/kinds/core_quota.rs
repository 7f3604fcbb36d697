//! core/v1 ResourceQuota and LimitRange.

use apimachinery::{FieldError, FieldPath};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Kind},
    validation::{items, items_mut, null_if_absent, one_of, quantities, set, text},
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
        validate_update: |new, old, faults| {
            let scopes = |object: &Value| {
                let mut scopes: Vec<_> =
                    items(&object["spec"], "scopes").filter_map(Value::as_str).map(str::to_owned).collect();
                scopes.sort();
                scopes
            };
            if scopes(new) != scopes(old) {
                let path = FieldPath::new("spec.scopes");
                faults.push(FieldError::invalid(&path, new["spec"]["scopes"].clone(), "field is immutable"));
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

fn validate_limits(object: &Value, faults: &mut Faults) {
    let mut seen = Vec::new();
    for (index, item) in items(&object["spec"], "limits").enumerate() {
        let path = FieldPath::new("spec.limits").index(index);
        let kind = text(item, "type");
        if kind.is_empty() {
            faults.push(FieldError::required(&path.child("type"), ""));
        } else if seen.contains(&kind) {
            faults.push(FieldError::duplicate(&path.child("type"), kind));
        }
        seen.push(kind);
        for part in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            quantities::map(&item[part], &path.child(part), faults);
        }
        for part in ["default", "defaultRequest"] {
            if kind == "Pod" && item[part].as_object().is_some_and(|amounts| !amounts.is_empty()) {
                let message = "may not be specified when `type` is 'Pod'";
                faults.push(FieldError::forbidden(&path.child(part), message));
            }
        }
        // Each of the pairs must be in this order.
        for (low, high) in [
            ("min", "max"),
            ("min", "defaultRequest"),
            ("defaultRequest", "max"),
            ("defaultRequest", "default"),
            ("min", "default"),
            ("default", "max"),
        ] {
            for (name, value) in item[low].as_object().into_iter().flatten() {
                let limit = &item[high][name.as_str()];
                let (Some(least), Some(most)) = (quantities::parse(value), quantities::parse(limit)) else {
                    continue;
                };
                if least > most {
                    let words = |part: &str| match part {
                        "defaultRequest" => "default request",
                        "min" => "min",
                        "max" => "max",
                        _ => "default",
                    };
                    let message = format!(
                        "{} value {} is greater than {} value {}",
                        words(low),
                        quantities::shown(value),
                        words(high),
                        quantities::shown(limit)
                    );
                    // Of a pair with `min`, the other one is wrong; only `max` is never.
                    let (part, wrong) =
                        if low == "min" && high != "max" { (high, limit) } else { (low, value) };
                    let path = path.child(part).key(name);
                    faults.push(FieldError::invalid(&path, quantities::shown(wrong), &message));
                }
            }
        }
    }
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

fn validate_quota(object: &Value, faults: &mut Faults) {
    let path = FieldPath::new("spec");
    quantities::map(&object["spec"]["hard"], &path.child("hard"), faults);
    for (name, _) in object["spec"]["hard"].as_object().into_iter().flatten() {
        let counted = ["requests.", "limits.", "hugepages-"].iter().any(|start| name.starts_with(start));
        if !counted && !name.contains('/') && !COUNTED.contains(&name.as_str()) {
            let path = path.child("hard").key(name);
            for message in [
                "must be a standard resource type or fully qualified",
                "must be a standard resource for quota",
            ] {
                faults.push(FieldError::invalid(&path, name.as_str(), message));
            }
        }
    }
    for scope in items(&object["spec"], "scopes") {
        let scope = scope.as_str().unwrap_or_default();
        if !SCOPES.contains(&scope) {
            let scopes = object["spec"]["scopes"].clone();
            faults.push(FieldError::invalid(&path.child("scopes"), scopes, "unsupported scope"));
        }
    }
    let expressions = &object["spec"]["scopeSelector"];
    for (index, expression) in items(expressions, "matchExpressions").enumerate() {
        let path = path.child("scopeSelector").child("matchExpressions").index(index);
        let known = ["DoesNotExist", "Exists", "In", "NotIn"];
        one_of(text(expression, "operator"), &path.child("operator"), &known, faults);
        one_of(text(expression, "scopeName"), &path.child("scopeName"), &SCOPES, faults);
    }
}
