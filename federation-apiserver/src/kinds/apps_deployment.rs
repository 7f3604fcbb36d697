//! apps/v1 Deployment and ReplicaSet.

use apimachinery::{FieldError, FieldPath};
use federation_core::api::marks;
use serde_json::{Value, json};

use super::federation::check_v1_annotations;
use crate::{
    registry::{Column, ErrorList, Generation, Kind, count},
    validation::{immutable, intstr, non_negative, pod_warnings, set, set_text, status, workload},
};

const BASE: Kind = Kind {
    group: "apps",
    categories: &["all"],
    status: true,
    scale: true,
    validate_update: |new, old, errors| {
        status::validate_collisions(new, old, errors);
        immutable(&new["spec"]["selector"], &old["spec"]["selector"], &"spec.selector".into(), errors);
    },
    warn: pod_warnings::of_named_workload,
    ..Kind::BUILT_IN
};

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
                count(object, "/status/updatedReplicas")
            }),
            Column::text("Available", "Pods ready for long enough.", |object, _| {
                count(object, "/status/availableReplicas")
            }),
            Column::AGE,
            workload::CONTAINERS,
            workload::IMAGES,
            workload::SELECTOR,
        ],
        default: default_deployment,
        prepare_create: |object| object["status"] = json!({}),
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
            workload::CONTAINERS,
            workload::IMAGES,
            workload::SELECTOR,
        ],
        default: default_replica_set,
        prepare_create: |object| object["status"] = json!({"replicas": 0}),
        validate: validate_replica_set,
        ..BASE
    },
];

const COUNTS: status::Counts = status::Counts {
    all: &[
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ],
    parts: &["updatedReplicas", "readyReplicas", "availableReplicas"],
    ready: "readyReplicas",
};

fn default_replica_set(object: &mut Value) {
    set(object, "spec", json!({}));
    set(&mut object["spec"], "replicas", 1);
    workload::default_template(&mut object["spec"]);
}

fn default_deployment(object: &mut Value) {
    set(object, "spec", json!({}));
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    set(spec, "replicas", 1);
    workload::default_template(spec);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    set(spec, "strategy", json!({}));
    let strategy = &mut spec["strategy"];
    set_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        set(&mut strategy["rollingUpdate"], "maxUnavailable", "25%");
        set(&mut strategy["rollingUpdate"], "maxSurge", "25%");
    }
}

/// What Deployments and ReplicaSets share: counts, selector, template.
fn validate_common(object: &Value, kind: &str, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    non_negative(spec, &path, &["replicas", "minReadySeconds"], errors);
    workload::validate_selector(spec, &path, kind, errors);
    workload::validate_template(spec, &path, "ReplicaSet", errors);
}

fn validate_replica_set(object: &Value, errors: &mut ErrorList) {
    validate_common(object, "deployment", errors);
    check_v1_annotations(object, marks::V1_REPLICA_SET_PREFERENCES, errors);
    status::validate_counts(object, &status::REPLICAS, errors);
}

fn validate_deployment(object: &Value, errors: &mut ErrorList) {
    validate_common(object, "deployment", errors);
    check_v1_annotations(object, marks::V1_DEPLOYMENT_PREFERENCES, errors);
    status::validate_counts(object, &COUNTS, errors);
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    non_negative(spec, &path, &["revisionHistoryLimit", "progressDeadlineSeconds"], errors);
    let strategy = path.child("strategy");
    match spec["strategy"]["type"].as_str().unwrap_or_default() {
        "RollingUpdate" => {
            rolling_update(&spec["strategy"]["rollingUpdate"], &strategy.child("rollingUpdate"), errors);
        }
        "Recreate" => {
            if spec["strategy"]["rollingUpdate"].is_object() {
                errors.push(FieldError::forbidden(
                    &strategy.child("rollingUpdate"),
                    "may not be specified when strategy `type` is 'Recreate'",
                ));
            }
        }
        other => {
            let known = ["Recreate", "RollingUpdate"];
            // Told as the struct that kube-apiserver has at this point.
            let value = json!({"Type": other, "RollingUpdate": null});
            errors.push(FieldError::not_supported(&strategy, value, &known));
        }
    }
    let (deadline, ready) = (&spec["progressDeadlineSeconds"], &spec["minReadySeconds"]);
    if let (Some(deadline), ready) = (deadline.as_i64(), ready.as_i64().unwrap_or_default())
        && deadline <= ready
    {
        errors.push(FieldError::invalid(
            &path.child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
}

fn rolling_update(value: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (unavailable, surge) = (path.child("maxUnavailable"), path.child("maxSurge"));
    intstr::non_negative(&value["maxUnavailable"], &unavailable, errors);
    intstr::non_negative(&value["maxSurge"], &surge, errors);
    if intstr::is_zero(&value["maxUnavailable"]) && intstr::is_zero(&value["maxSurge"]) {
        let message = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(&unavailable, value["maxUnavailable"].clone(), message));
    }
    intstr::at_most_all(&value["maxUnavailable"], &unavailable, errors);
}
