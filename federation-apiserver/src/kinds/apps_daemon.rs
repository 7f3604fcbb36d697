//! apps/v1 DaemonSet.

use apimachinery::{FieldError, FieldPath};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Generation, Kind, count},
    validation::{immutable, intstr, non_negative, pod_warnings, set, set_text, status, text, workload},
};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    status: true,
    generation: Generation::Spec,
    columns: &[
        Column::NAME,
        Column::integer("Desired", "Nodes that should run its pod.", |object, _| {
            count(object, "/status/desiredNumberScheduled")
        }),
        Column::integer("Current", "Nodes that run its pod.", |object, _| {
            count(object, "/status/currentNumberScheduled")
        }),
        Column::integer("Ready", "Nodes whose pod is ready.", |object, _| {
            count(object, "/status/numberReady")
        }),
        Column::integer("Up-to-date", "Nodes whose pod is of the present template.", |object, _| {
            count(object, "/status/updatedNumberScheduled")
        }),
        Column::integer("Available", "Nodes whose pod is ready for long enough.", |object, _| {
            count(object, "/status/numberAvailable")
        }),
        Column::text("Node Selector", "Which nodes run it.", |object, _| {
            workload::labels(&object["spec"]["template"]["spec"]["nodeSelector"])
        }),
        Column::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        workload::SELECTOR,
    ],
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update: |new, old, errors| {
        status::validate_collisions(new, old, errors);
        immutable(&new["spec"]["selector"], &old["spec"]["selector"], &"spec.selector".into(), errors);
    },
    warn: pod_warnings::of_workload,
    ..Kind::BUILT_IN
}];

/// The counts that are told even when they are zero.
const COUNTS: [&str; 4] =
    ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"];

const STATUS: status::Counts = status::Counts {
    all: &[
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ],
    parts: &[],
    ready: "",
};

/// The annotation in which the old API kept the generation of the template, and where clients still look for it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn prepare_create(object: &mut Value) {
    object["status"] = COUNTS.iter().map(|name| ((*name).to_owned(), json!(0))).collect();
    set(&mut object["metadata"], "annotations", json!({}));
    object["metadata"]["annotations"][TEMPLATE_GENERATION] = "1".into();
}

fn prepare_update(object: &mut Value, old: &Value) {
    let before = &old["metadata"]["annotations"][TEMPLATE_GENERATION];
    let before = before.as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    let changed = object["spec"]["template"] != old["spec"]["template"];
    set(&mut object["metadata"], "annotations", json!({}));
    object["metadata"]["annotations"][TEMPLATE_GENERATION] = (before + i64::from(changed)).to_string().into();
}

fn default(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    set(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    set_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        set(&mut strategy["rollingUpdate"], "maxUnavailable", 1);
        set(&mut strategy["rollingUpdate"], "maxSurge", 0);
    }
    set(spec, "revisionHistoryLimit", 10);
    workload::default_template(spec);
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    workload::validate_selector(spec, &path, "daemonset", errors);
    workload::validate_template(spec, &path, "DaemonSet", errors);
    non_negative(spec, &path, &["minReadySeconds", "revisionHistoryLimit"], errors);
    status::validate_counts(object, &STATUS, errors);
    let (strategy, path) = (&spec["updateStrategy"], path.child("updateStrategy"));
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, path) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            for (value, name) in [(unavailable, "maxUnavailable"), (surge, "maxSurge")] {
                intstr::non_negative(value, &path.child(name), errors);
                intstr::at_most_all(value, &path.child(name), errors);
            }
            match (intstr::is_zero(unavailable), intstr::is_zero(surge)) {
                (true, true) => {
                    let message = "cannot be 0 when maxSurge is 0";
                    errors.push(FieldError::invalid(
                        &path.child("maxUnavailable"),
                        unavailable.clone(),
                        message,
                    ));
                }
                (false, false) => {
                    let message = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(&path.child("maxSurge"), surge.clone(), message));
                }
                _ => {}
            }
        }
        other => {
            let known = ["RollingUpdate", "OnDelete"];
            let value = json!({"Type": other, "RollingUpdate": null});
            errors.push(FieldError::not_listed(&path, value, &known));
        }
    }
}
