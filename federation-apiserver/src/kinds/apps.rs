//! apps/v1 Deployment and ReplicaSet.

use apimachinery::{
    FieldError, FieldPath,
    labels::{Selector, validate_label_selector},
};
use federation_core::api::marks;
use serde_json::{Value, json};

use super::federation::check_v1_annotations;
use crate::{
    registry::{Column, Faults, Generation, Kind, count, joined},
    validation::pod,
};

const BASE: Kind = Kind {
    group: "apps",
    categories: &["all"],
    status: true,
    scale: true,
    validate_update: |new, old, faults| {
        if new["spec"]["selector"] != old["spec"]["selector"] {
            let path = FieldPath::new("spec.selector");
            faults.push(FieldError::invalid(&path, new["spec"]["selector"].clone(), "field is immutable"));
        }
    },
    prepare_create: |object| object["status"] = json!({}),
    ..Kind::BUILT_IN
};

const CONTAINERS: Column =
    Column::text("Containers", "Names of its containers.", |object, _| containers(object, "name")).wide();
const IMAGES: Column =
    Column::text("Images", "Images of its containers.", |object, _| containers(object, "image")).wide();
const SELECTOR: Column = Column::text("Selector", "Which pods.", |object, _| selector(object)).wide();

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        generation: Generation::SpecAndAnnotations,
        columns: &[
            Column::NAME,
            Column::text("Ready", "Number of the pod with ready state", |object, _| {
                format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas"))
                    .into()
            }),
            Column::text("Up-to-date", "Pods of the present template.", |object, _| {
                count(object, "/status/updatedReplicas").to_string().into()
            }),
            Column::text("Available", "Pods ready for long enough.", |object, _| {
                count(object, "/status/availableReplicas").to_string().into()
            }),
            Column::AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        default: default_deployment,
        validate: validate_deployment,
        ..BASE
    },
    &Kind {
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        generation: Generation::Spec,
        columns: &[
            Column::NAME,
            Column::integer("Desired", "Wanted pods.", |object, _| count(object, "/spec/replicas")),
            Column::integer("Current", "Pods.", |object, _| count(object, "/status/replicas")),
            Column::integer("Ready", "Ready pods.", |object, _| count(object, "/status/readyReplicas")),
            Column::AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        selectable: &[("status.replicas", "/status/replicas")],
        default: default_replica_set,
        validate: validate_replica_set,
        ..BASE
    },
];

fn containers(object: &Value, field: &str) -> Value {
    let all = object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
    joined(all.filter_map(|container| container[field].as_str()).map(str::to_owned))
}

fn selector(object: &Value) -> Value {
    Selector::from_label_selector(object["spec"].get("selector"))
        .map(|selector| selector.to_string())
        .unwrap_or_default()
        .into()
}

fn default_template(spec: &mut Value) {
    if spec["replicas"].is_null() {
        spec["replicas"] = 1.into();
    }
    if spec["template"].is_object() {
        pod::default_spec(&mut spec["template"]["spec"]);
    }
}

fn default_replica_set(object: &mut Value) {
    if object["spec"].is_object() {
        default_template(&mut object["spec"]);
    }
}

fn default_deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    default_template(spec);
    let mut set = |name: &str, value: Value| {
        if spec[name].is_null() {
            spec[name] = value;
        }
    };
    set("revisionHistoryLimit", 10.into());
    set("progressDeadlineSeconds", 600.into());
    set("strategy", json!({}));
    let strategy = &mut spec["strategy"];
    if strategy["type"].as_str().unwrap_or_default().is_empty() {
        strategy["type"] = "RollingUpdate".into();
    }
    if strategy["type"] == "RollingUpdate" {
        for name in ["maxSurge", "maxUnavailable"] {
            if strategy["rollingUpdate"][name].is_null() {
                strategy["rollingUpdate"][name] = "25%".into();
            }
        }
    }
}

fn non_negative(spec: &Value, names: &[&str], faults: &mut Faults) {
    for name in names {
        if let Some(number) = spec[*name].as_i64()
            && number < 0
        {
            let path = FieldPath::new("spec").child(name);
            faults.push(FieldError::invalid(&path, number, "must be greater than or equal to 0"));
        }
    }
}

/// What Deployments and ReplicaSets share: counts, selector, template.
fn validate_common(object: &Value, faults: &mut Faults) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    non_negative(spec, &["replicas", "minReadySeconds"], faults);
    let selector_path = path.child("selector");
    let labels_path = path.child("template").child("metadata").child("labels");
    match spec.get("selector") {
        None | Some(Value::Null) => faults.push(FieldError::required(&selector_path, "")),
        Some(selector) => {
            let found = validate_label_selector(selector, &selector_path);
            let good = found.is_empty();
            faults.extend(found);
            match Selector::from_label_selector(Some(selector)) {
                Ok(parsed) if parsed.is_everything() => faults.push(FieldError::invalid(
                    &selector_path,
                    selector.clone(),
                    "empty selector is invalid for deployment",
                )),
                Ok(parsed) if good && !parsed.matches_object(&spec["template"]) => {
                    let labels =
                        spec["template"]["metadata"].get("labels").cloned().unwrap_or_else(|| json!({}));
                    faults.push(FieldError::invalid(
                        &labels_path,
                        labels,
                        "`selector` does not match template `labels`",
                    ));
                }
                _ => {}
            }
        }
    }
    if !spec["template"].is_object() {
        faults.push(FieldError::required(&path.child("template"), ""));
        return;
    }
    pod::validate_template(&spec["template"], &path.child("template"), faults);
}

fn validate_replica_set(object: &Value, faults: &mut Faults) {
    validate_common(object, faults);
    check_v1_annotations(object, marks::V1_REPLICA_SET_PREFERENCES, faults);
}

fn validate_deployment(object: &Value, faults: &mut Faults) {
    validate_common(object, faults);
    check_v1_annotations(object, marks::V1_DEPLOYMENT_PREFERENCES, faults);
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    non_negative(spec, &["revisionHistoryLimit", "progressDeadlineSeconds"], faults);
    let strategy = path.child("strategy");
    match spec["strategy"]["type"].as_str().unwrap_or_default() {
        "RollingUpdate" => {
            rolling_update(&spec["strategy"]["rollingUpdate"], &strategy.child("rollingUpdate"), faults);
        }
        "Recreate" => {
            if spec["strategy"]["rollingUpdate"].is_object() {
                faults.push(FieldError::forbidden(
                    &strategy.child("rollingUpdate"),
                    "may not be specified when strategy `type` is 'Recreate'",
                ));
            }
        }
        other => {
            let known = ["Recreate", "RollingUpdate"];
            faults.push(FieldError::not_supported(&strategy.child("type"), other, &known));
        }
    }
    let (deadline, ready) = (&spec["progressDeadlineSeconds"], &spec["minReadySeconds"]);
    if let (Some(deadline), ready) = (deadline.as_i64(), ready.as_i64().unwrap_or_default())
        && deadline >= 0
        && deadline <= ready
    {
        faults.push(FieldError::invalid(
            &path.child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
}

fn rolling_update(value: &Value, path: &FieldPath, faults: &mut Faults) {
    let zero = |value: &Value| *value == 0 || *value == "0%";
    for name in ["maxUnavailable", "maxSurge"] {
        let path = path.child(name);
        match &value[name] {
            Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
                faults.push(FieldError::invalid(
                    &path,
                    number.as_i64(),
                    "must be greater than or equal to 0",
                ));
            }
            Value::String(text) => match text.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok())
            {
                Some(percent) if percent > 100 && name == "maxUnavailable" => {
                    faults.push(FieldError::invalid(&path, text.as_str(), "must not be greater than 100%"));
                }
                Some(_) => {}
                None => {
                    let message = "must be an integer or percentage (e.g '5%%')";
                    faults.push(FieldError::invalid(&path, text.as_str(), message));
                }
            },
            _ => {}
        }
    }
    if zero(&value["maxUnavailable"]) && zero(&value["maxSurge"]) {
        faults.push(FieldError::invalid(
            &path.child("maxUnavailable"),
            value["maxUnavailable"].clone(),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
}
