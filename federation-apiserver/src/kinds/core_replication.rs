//! core/v1 ReplicationController.

use apimachinery::{FieldError, FieldPath, labels::Selector};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Generation, Kind, count},
    validation::{non_negative, pod_warnings, set, status, workload},
};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    orphans: true,
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    status: true,
    scale: true,
    generation: Generation::Spec,
    columns: &[
        Column::NAME,
        Column::integer("Desired", "Wanted pods.", |object, _| count(object, "/spec/replicas")),
        Column::integer("Current", "Pods.", |object, _| count(object, "/status/replicas")),
        Column::integer("Ready", "Ready pods.", |object, _| count(object, "/status/readyReplicas")),
        Column::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        Column::text("Selector", "Which pods.", |object, _| workload::labels(&object["spec"]["selector"]))
            .wide(),
    ],
    selectable: &[("status.replicas", "/status/replicas")],
    default,
    prepare_create: |object| object["status"] = json!({"replicas": 0}),
    validate,
    warn: pod_warnings::of_named_workload,
    ..Kind::BUILT_IN
}];

fn default(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        set(&mut object["spec"], "selector", labels.clone());
        if object["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty) {
            object["metadata"]["labels"] = labels;
        }
    }
    set(&mut object["spec"], "replicas", 1);
    if object["spec"]["template"].is_object() {
        workload::default_template(&mut object["spec"]);
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    non_negative(spec, &path, &["replicas", "minReadySeconds"], errors);
    let selector = &spec["selector"];
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required(&path.child("selector"), ""));
    } else if Selector::from_label_selector(Some(&json!({"matchLabels": selector})))
        .is_ok_and(|selector| spec["template"].is_object() && !selector.matches_object(&spec["template"]))
    {
        let path = path.child("template").child("metadata").child("labels");
        let labels = spec["template"]["metadata"]["labels"].clone();
        errors.push(FieldError::invalid(&path, labels, "`selector` does not match template `labels`"));
    }
    workload::validate_template(spec, &path, "ReplicationController", errors);
    status::validate_counts(object, &status::REPLICAS, errors);
}
