//! HorizontalPodAutoscaler: autoscaling/v2, and v1 over the same stored objects.

use apimachinery::{FieldError, FieldPath};
use serde_json::{Value, json};

use super::autoscaling_v1;
use crate::{
    registry::{Column, Conversion, ErrorList, Kind, field},
    validation::{items, non_negative, one_of, quantities, required, set, text},
};

const BASE: Kind = Kind {
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    status: true,
    ..Kind::BUILT_IN
};

const REFERENCE: Column = Column::text("Reference", "What it scales.", |object, _| {
    let target = &object["spec"]["scaleTargetRef"];
    format!("{}/{}", text(target, "kind"), text(target, "name")).into()
});
const MIN_PODS: Column = Column::text("MinPods", "The fewest replicas.", |object, _| {
    object["spec"]["minReplicas"]
        .as_i64()
        .map_or_else(|| "<unset>".to_owned(), |count| count.to_string())
        .into()
});
const MAX_PODS: Column =
    Column::text("MaxPods", "The most replicas.", |object, _| field(object, "/spec/maxReplicas"));
const REPLICAS: Column = Column::text("Replicas", "The replicas that it saw last.", |object, _| {
    object["status"]["currentReplicas"].as_i64().unwrap_or_default().into()
});

pub(super) const KINDS: &[&Kind] = &[
    // The first version of a group is the preferred one.
    &Kind {
        version: "v2",
        columns: &[
            Column::NAME,
            REFERENCE,
            Column::text("Targets", "Measured and wanted values.", |object, _| targets(object)),
            MIN_PODS,
            MAX_PODS,
            REPLICAS,
            Column::AGE,
        ],
        default,
        prepare_create: |object| object["status"] = json!({"desiredReplicas": 0, "currentMetrics": null}),
        validate,
        ..BASE
    },
    &Kind {
        version: "v1",
        columns: &[
            Column::NAME,
            REFERENCE,
            Column::text("Targets", "Measured and wanted values.", |object, _| {
                targets(&autoscaling_v1::to_v2(object.clone()))
            }),
            MIN_PODS,
            MAX_PODS,
            REPLICAS,
            Column::AGE,
        ],
        default: autoscaling_v1::default,
        prepare_create: |object| object["status"] = json!({"currentReplicas": 0, "desiredReplicas": 0}),
        validate: |object, errors| validate(&autoscaling_v1::to_v2(object.clone()), errors),
        conversion: Some(Conversion {
            group: "autoscaling",
            resource: "horizontalpodautoscalers",
            to_stored: |object| {
                let mut object = autoscaling_v1::to_v2(object);
                default(&mut object);
                object
            },
            from_stored: autoscaling_v1::from_v2,
        }),
        ..BASE
    },
];

/// The source of a metric: the part that is named after its type.
fn source(metric: &Value) -> (&'static str, &Value) {
    let name = match text(metric, "type") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => "",
    };
    (name, &metric[name])
}

/// `cpu: 10%/80%, 3/5 + 1 more...`
fn targets(object: &Value) -> Value {
    let metrics: Vec<_> = items(&object["spec"], "metrics").collect();
    if metrics.is_empty() {
        return "<none>".into();
    }
    let current = object["status"]["currentMetrics"].as_array();
    let told: Vec<_> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| {
            let (name, source) = source(metric);
            let current = current.and_then(|all| all.get(index)).map(|status| &status[name]["current"]);
            target(name, source, current.unwrap_or(&Value::Null))
        })
        .collect();
    let shown = told.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
    match told.len() {
        0..=2 => shown,
        all => format!("{shown} + {} more...", all - 2),
    }
    .into()
}

fn target(name: &str, source: &Value, current: &Value) -> String {
    let amount = |value: &Value, unknown: &str| match value {
        Value::Null => unknown.to_owned(),
        value => quantities::shown(value),
    };
    let wanted = &source["target"];
    match name {
        "resource" | "containerResource" => {
            let resource = text(source, "name");
            if !wanted["averageValue"].is_null() {
                let (current, wanted) = (&current["averageValue"], &wanted["averageValue"]);
                return format!("{resource}: {}/{}", amount(current, "<unknown>"), amount(wanted, ""));
            }
            let percent = |value: &Value, unknown: &str| {
                value.as_i64().map_or_else(|| unknown.to_owned(), |percent| format!("{percent}%"))
            };
            let current = percent(&current["averageUtilization"], "<unknown>");
            format!("{resource}: {current}/{}", percent(&wanted["averageUtilization"], "<auto>"))
        }
        "" => "<unknown type>".to_owned(),
        _ if !wanted["averageValue"].is_null() => {
            let average = if name == "pods" { "" } else { " (avg)" };
            let current = amount(&current["averageValue"], "<unknown>");
            format!("{current}/{}{average}", amount(&wanted["averageValue"], ""))
        }
        _ => format!("{}/{}", amount(&current["value"], "<unknown>"), amount(&wanted["value"], "")),
    }
}

/// `autoscaling/v2.SetDefaults_HorizontalPodAutoscaler`.
fn default(object: &mut Value) {
    // Go writes this list in any case.
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        && status.get("currentMetrics").and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        status.insert("currentMetrics".into(), Value::Null);
    }
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    set(spec, "minReplicas", 1);
    let none = spec["metrics"].as_array().is_none_or(Vec::is_empty);
    if none {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    if let Some(behavior) = spec.get_mut("behavior").filter(|behavior| behavior.is_object()) {
        rules(
            &mut behavior["scaleUp"],
            &json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]),
        );
        set(&mut behavior["scaleUp"], "stabilizationWindowSeconds", 0);
        rules(&mut behavior["scaleDown"], &json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
}

fn rules(rules: &mut Value, policies: &Value) {
    if !rules.is_object() {
        *rules = json!({});
    }
    set(rules, "selectPolicy", "Max");
    set(rules, "policies", policies.clone());
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let least = spec["minReplicas"].as_i64();
    let most = spec["maxReplicas"].as_i64().unwrap_or_default();
    if let Some(least) = least
        && least < 1
    {
        let message = "must be greater than or equal to 1";
        errors.push(FieldError::invalid(&path.child("minReplicas"), least, message));
    }
    if most < 1 {
        errors.push(FieldError::invalid(&path.child("maxReplicas"), most, "must be greater than 0"));
    }
    if least.is_some_and(|least| most < least) {
        let message = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&path.child("maxReplicas"), most, message));
    }
    let target = &spec["scaleTargetRef"];
    reference(target, &path.child("scaleTargetRef"), target["kind"] == CORE, errors);
    non_negative(&object["status"], &"status".into(), &["currentReplicas", "desiredReplicas"], errors);
    for (index, metric) in items(spec, "metrics").enumerate() {
        validate_metric(metric, &path.child("metrics").index(index), errors);
    }
    let external = items(spec, "metrics").any(|metric| matches!(text(metric, "type"), "Object" | "External"));
    if least == Some(0) && !external {
        let message =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(&path.child("metrics"), message));
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &spec["behavior"][direction];
        if rules.is_object() {
            validate_rules(rules, &path.child("behavior").child(direction), errors);
        }
    }
}

/// The only kind without a group that has a scale.
const CORE: &str = "ReplicationController";

/// Another object, by its kind and name; it may be one of the group without a name only where that is said.
fn reference(target: &Value, path: &FieldPath, core: bool, errors: &mut ErrorList) {
    for name in ["kind", "name"] {
        if let Some(found) = required(target, path, name, errors) {
            errors.extend(
                apimachinery::names::path_segment(found)
                    .iter()
                    .map(|error| FieldError::invalid(&path.child(name), found, error)),
            );
        }
    }
    let version = text(target, "apiVersion");
    let why = match version.matches('/').count() {
        0 if !core => "apiVersion must specify API group".to_owned(),
        1 if !core && version.starts_with('/') => "apiVersion must specify API group".to_owned(),
        0 | 1 => return,
        _ => format!("unexpected GroupVersion string: {version}"),
    };
    errors.push(FieldError::invalid(&path.child("apiVersion"), version, &why));
}

/// The parts of a metric, in the order in which they are looked at.
const SOURCES: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

fn validate_metric(metric: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = text(metric, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
    }
    one_of(kind, &path.child("type"), &known, errors);
    let present: Vec<_> = SOURCES.into_iter().filter(|name| metric[*name].is_object()).collect();
    // Of several only the first one is looked into.
    if let Some(first) = present.first() {
        validate_source(first, &metric[*first], &path.child(first), errors);
    }
    let wanted = source(metric).0;
    if wanted.is_empty() {
        // kube-apiserver tells it once more where it looks for the source that the type asks for.
        one_of(kind, &path.child("type"), &known, errors);
    }
    if !wanted.is_empty() && !metric[wanted].is_object() {
        let message = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(wanted), message));
    }
    if present.len() > 1 {
        for other in present.into_iter().filter(|name| *name != wanted) {
            let message = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(other), message));
        }
    }
}

fn validate_source(name: &str, source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if name == "object" {
        reference(&source["describedObject"], &path.child("describedObject"), true, errors);
    }
    if name == "containerResource" && text(source, "container").is_empty() {
        errors.push(FieldError::required(&path.child("container"), "must specify a container"));
    }
    if matches!(name, "resource" | "containerResource") {
        if text(source, "name").is_empty() {
            errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
        }
    } else {
        identifier(&source["metric"], &path.child("metric"), errors);
    }
    let (target, path) = (&source["target"], path.child("target"));
    validate_target(target, &path, errors);
    let (utilization, average, value) =
        (&target["averageUtilization"], &target["averageValue"], &target["value"]);
    let mut required =
        |name: &str, message: &str| errors.push(FieldError::required(&path.child(name), message));
    match name {
        "resource" | "containerResource" if utilization.is_null() && average.is_null() => {
            required("averageUtilization", "must set either a target raw value or a target utilization");
        }
        "resource" | "containerResource" if !utilization.is_null() && !average.is_null() => {
            let message = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(&path.child("averageValue"), message));
        }
        "pods" if average.is_null() => {
            required("averageValue", "must specify a positive target averageValue");
        }
        "object" if average.is_null() && value.is_null() => {
            required("averageValue", "must set either a target value or averageValue");
        }
        "external" if average.is_null() && value.is_null() => {
            required("averageValue", "must set either a target value for metric or a per-pod target");
        }
        "external" if !average.is_null() && !value.is_null() => {
            let message = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&path.child("value"), message));
        }
        _ => {}
    }
}

fn identifier(metric: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (name, path) = (text(metric, "name"), path.child("name"));
    if name.is_empty() {
        errors.push(FieldError::required(&path, "must specify a metric name"));
    }
    errors.extend(
        apimachinery::names::path_segment(name).iter().map(|error| FieldError::invalid(&path, name, error)),
    );
}

fn is_positive(amount: &Value) -> bool {
    quantities::parse(amount).is_some_and(|amount| !amount.is_negative() && !amount.is_zero())
}

fn validate_target(target: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let message = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&path.child("type"), kind, message));
    }
    for name in ["value", "averageValue"] {
        if !target[name].is_null() && !is_positive(&target[name]) {
            errors.push(FieldError::invalid(&path.child(name), target[name].clone(), "must be positive"));
        }
    }
    if let Some(percent) = target["averageUtilization"].as_i64()
        && percent < 1
    {
        errors.push(FieldError::invalid(
            &path.child("averageUtilization"),
            percent,
            "must be greater than 0",
        ));
    }
}

fn validate_rules(rules: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(seconds) = rules["stabilizationWindowSeconds"].as_i64() {
        let path = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.push(FieldError::invalid(&path, seconds, "must be greater than or equal to zero"));
        } else if seconds > 3600 {
            errors.push(FieldError::invalid(&path, seconds, "must be less than or equal to 3600"));
        }
    }
    if !rules["tolerance"].is_null() {
        quantities::non_negative(&rules["tolerance"], &path.child("tolerance"), errors);
    }
    one_of(text(rules, "selectPolicy"), &path.child("selectPolicy"), &["Disabled", "Max", "Min"], errors);
    if rules["policies"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&path.child("policies"), "must specify at least one Policy"));
    }
    for (index, policy) in items(rules, "policies").enumerate() {
        let path = path.child("policies").index(index);
        one_of(text(policy, "type"), &path.child("type"), &["Percent", "Pods"], errors);
        let number = |name: &str| policy[name].as_i64().unwrap_or_default();
        for name in ["value", "periodSeconds"] {
            if number(name) <= 0 {
                errors.push(FieldError::invalid(
                    &path.child(name),
                    number(name),
                    "must be greater than zero",
                ));
            }
        }
        if number("periodSeconds") > 1800 {
            let message = "must be less than or equal to 1800";
            errors.push(FieldError::invalid(&path.child("periodSeconds"), number("periodSeconds"), message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scaled_is_of_a_group() {
        let told = |kind: &str, version: &str| {
            let target = json!({"kind": kind, "name": "web", "apiVersion": version});
            let mut errors = ErrorList::new();
            validate(&json!({"spec": {"maxReplicas": 2, "scaleTargetRef": target}}), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told("Deployment", "apps/v1"), [""; 0]);
        assert_eq!(told("ReplicationController", "v1"), [""; 0]);
        for version in ["", "v1"] {
            let error = format!(
                "spec.scaleTargetRef.apiVersion: Invalid value: {version:?}: apiVersion must specify API group"
            );
            assert_eq!(told("Deployment", version), [error]);
        }
        assert_eq!(
            told("Deployment", "apps/v1/beta"),
            [
                r#"spec.scaleTargetRef.apiVersion: Invalid value: "apps/v1/beta": unexpected GroupVersion string: apps/v1/beta"#
            ]
        );
    }
}
