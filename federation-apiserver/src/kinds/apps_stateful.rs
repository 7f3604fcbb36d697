//! apps/v1 StatefulSet and ControllerRevision.

use apimachinery::{FieldError, FieldPath};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Generation, Kind, count, field},
    validation::{
        immutable, intstr, items_mut, non_negative, one_of, pod_warnings, set, set_text, status, text,
        workload,
    },
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        group: "apps",
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        singular: "controllerrevision",
        columns: &[
            Column::NAME,
            Column::text("Controller", "Controller of the object", |object, _| controller(object)),
            Column::text("Revision", "Revision of the state represented by Data.", |object, _| {
                field(object, "/revision")
            }),
            Column::AGE,
        ],
        validate: |object, faults| {
            if object["data"].is_null() {
                faults.push(FieldError::required(&"data".into(), "data is mandatory"));
            }
            non_negative(object, &FieldPath::default(), &["revision"], faults);
        },
        validate_update: |new, old, faults| immutable(&new["data"], &old["data"], &"data".into(), faults),
        ..Kind::BUILT_IN
    },
    &Kind {
        group: "apps",
        kind: "StatefulSet",
        plural: "statefulsets",
        singular: "statefulset",
        short_names: &["sts"],
        categories: &["all"],
        status: true,
        scale: true,
        generation: Generation::Spec,
        columns: &[
            Column::NAME,
            Column::text("Ready", "Number of the pod with ready state", |object, _| {
                format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas"))
                    .into()
            }),
            Column::AGE,
            workload::CONTAINERS,
            workload::IMAGES,
        ],
        default: default_stateful_set,
        prepare_create: |object| object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        validate: validate_stateful_set,
        validate_update: validate_stateful_set_update,
        warn: pod_warnings::of_workload,
        ..Kind::BUILT_IN
    },
];

/// `statefulset.apps/web`: the owner that controls it.
fn controller(object: &Value) -> Value {
    let mut owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let Some(owner) = owners.find(|owner| owner["controller"] == true) else { return "<none>".into() };
    let group = text(owner, "apiVersion").split_once('/').map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}{dot}{group}/{}", text(owner, "kind").to_lowercase(), text(owner, "name")).into()
}

fn default_stateful_set(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    set_text(spec, "podManagementPolicy", "OrderedReady");
    set(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    if text(strategy, "type").is_empty() {
        set_text(strategy, "type", "RollingUpdate");
    }
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        set(&mut strategy["rollingUpdate"], "partition", 0);
    }
    set(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    for name in ["whenDeleted", "whenScaled"] {
        set_text(&mut spec["persistentVolumeClaimRetentionPolicy"], name, "Retain");
    }
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    workload::default_template(spec);
    for claim in items_mut(spec, "volumeClaimTemplates") {
        claim["apiVersion"] = "v1".into();
        claim["kind"] = "PersistentVolumeClaim".into();
        super::core_volume::default_claim(claim);
        set(claim, "status", json!({}));
        set_text(&mut claim["status"], "phase", "Pending");
    }
}

fn validate_stateful_set(object: &Value, faults: &mut Faults) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let policies = ["OrderedReady", "Parallel"];
    match text(spec, "podManagementPolicy") {
        "" => faults.push(FieldError::required(&path.child("podManagementPolicy"), "")),
        policy if !policies.contains(&policy) => {
            let message = "must be 'OrderedReady' or 'Parallel'";
            faults.push(FieldError::invalid(&path.child("podManagementPolicy"), policy, message));
        }
        _ => {}
    }
    update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), faults);
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    for name in ["whenDeleted", "whenScaled"] {
        let path = path.child("persistentVolumeClaimRetentionPolicy").child(name);
        one_of(text(retention, name), &path, &["Delete", "Retain"], faults);
    }
    non_negative(spec, &path, &["replicas", "minReadySeconds"], faults);
    non_negative(&spec["ordinals"], &path.child("ordinals"), &["start"], faults);
    workload::validate_selector(spec, &path, "statefulset", faults);
    workload::validate_template(spec, &path, "StatefulSet", faults);
    status::validate_counts(object, &COUNTS, faults);
}

fn update_strategy(strategy: &Value, path: &FieldPath, faults: &mut Faults) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "OnDelete" if rolling.is_object() => {
            let message = "only allowed for updateStrategy 'RollingUpdate'";
            faults.push(FieldError::invalid(&path.child("rollingUpdate"), rolling.clone(), message));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            non_negative(rolling, &path, &["partition"], faults);
            let unavailable = &rolling["maxUnavailable"];
            if !unavailable.is_null() {
                let path = path.child("maxUnavailable");
                intstr::non_negative(unavailable, &path, faults);
                if intstr::is_zero(unavailable) {
                    faults.push(FieldError::invalid(&path, unavailable.clone(), "cannot be 0"));
                }
                intstr::at_most_all(unavailable, &path, faults);
            }
        }
        "" => faults.push(FieldError::required(path, "")),
        other => {
            let message = "must be 'RollingUpdate' or 'OnDelete'";
            faults.push(FieldError::invalid(path, json!({"Type": other, "RollingUpdate": null}), message));
        }
    }
}

const COUNTS: status::Counts = status::Counts {
    all: &[
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ],
    parts: &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
    ready: "status.readyReplicas",
};

/// Fields of the spec that change after creation.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn validate_stateful_set_update(new: &Value, old: &Value, faults: &mut Faults) {
    status::validate_collisions(new, old, faults);
    let fixed = |object: &Value| {
        let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
        spec.retain(|name, _| !MUTABLE.contains(&name.as_str()));
        spec
    };
    if fixed(new) != fixed(old) {
        let message = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        faults.push(FieldError::forbidden(&"spec".into(), message));
    }
}
