//! apps/v1 StatefulSet and ControllerRevision.

use std::{borrow::Cow, collections::HashSet};

use apimachinery::{FieldError, FieldPath, names::NameRule};
use serde_json::{Value, json};

use super::core_claim;
use crate::{
    registry::{Column, ErrorList, Generation, Kind, count, field},
    validation::{
        immutable, intstr, items, items_mut, non_negative, one_of, pod_warnings, set, set_text, status, text,
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
        validate: |object, errors| {
            if object["data"].is_null() {
                errors.push(FieldError::required(&"data".into(), "data is mandatory"));
            }
            non_negative(object, &FieldPath::default(), &["revision"], errors);
        },
        validate_update: |new, old, errors| immutable(&new["data"], &old["data"], &"data".into(), errors),
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
        name_rule: NameRule::Dns1123Label,
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
        warn: |object, old| {
            let mut warnings = pod_warnings::of_workload(object, old);
            let claims = if old.is_none() { "" } else { ".Spec" };
            for (index, claim) in items(&object["spec"], "volumeClaimTemplates").enumerate() {
                let path = format!("spec.volumeClaimTemplates[{index}]{claims}");
                warnings.extend(core_claim::fractions(&claim["spec"], &path));
            }
            if object["spec"]["revisionHistoryLimit"].as_i64().is_some_and(|limit| limit < 0) {
                warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
            }
            warnings
        },
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
        core_claim::default_claim(claim);
        set(claim, "status", json!({}));
        set_text(&mut claim["status"], "phase", "Pending");
    }
}

fn validate_stateful_set(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let policies = ["OrderedReady", "Parallel"];
    match text(spec, "podManagementPolicy") {
        "" => errors.push(FieldError::required(&path.child("podManagementPolicy"), "")),
        policy if !policies.contains(&policy) => {
            let message = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid(&path.child("podManagementPolicy"), policy, message));
        }
        _ => {}
    }
    update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), errors);
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    for name in ["whenDeleted", "whenScaled"] {
        let path = path.child("persistentVolumeClaimRetentionPolicy").child(name);
        one_of(text(retention, name), &path, &["Delete", "Retain"], errors);
    }
    let claims = path.child("volumeClaimTemplates");
    for (index, claim) in items(spec, "volumeClaimTemplates").enumerate() {
        core_claim::validate_claim(&claim["spec"], &claims.index(index).child("spec"), errors);
    }
    non_negative(spec, &path, &["replicas", "minReadySeconds"], errors);
    non_negative(&spec["ordinals"], &path.child("ordinals"), &["start"], errors);
    workload::validate_selector(spec, &path, "statefulset", errors);
    workload::validate_template(&with_claims(spec), &path, "StatefulSet", errors);
    status::validate_counts(object, &COUNTS, errors);
}

/// A spec whose template has the claims among its volumes, as which containers mount them. A volume of the same name gives way:
/// `volumesToAddForTemplates`.
fn with_claims(spec: &Value) -> Cow<'_, Value> {
    let mut names = HashSet::new();
    let claims = items(spec, "volumeClaimTemplates").map(|claim| text(&claim["metadata"], "name"));
    let mut volumes: Vec<_> = claims
        .filter(|name| names.insert(*name))
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    if volumes.is_empty() || !spec["template"]["spec"].is_object() {
        return Cow::Borrowed(spec);
    }
    let own = items(&spec["template"]["spec"], "volumes");
    volumes.extend(own.filter(|volume| !names.contains(text(volume, "name"))).cloned());
    let mut template = spec["template"].clone();
    template["spec"]["volumes"] = volumes.into();
    Cow::Owned([("template".to_owned(), template)].into_iter().collect())
}

fn update_strategy(strategy: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "type") {
        "OnDelete" if rolling.is_object() => {
            let message = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&path.child("rollingUpdate"), rolling.clone(), message));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            non_negative(rolling, &path, &["partition"], errors);
            let unavailable = &rolling["maxUnavailable"];
            if !unavailable.is_null() {
                let path = path.child("maxUnavailable");
                intstr::non_negative(unavailable, &path, errors);
                if intstr::is_zero(unavailable) {
                    errors.push(FieldError::invalid(&path, unavailable.clone(), "cannot be 0"));
                }
                intstr::at_most_all(unavailable, &path, errors);
            }
        }
        "" => errors.push(FieldError::required(path, "")),
        other => {
            let message = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, json!({"Type": other, "RollingUpdate": null}), message));
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

fn validate_stateful_set_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    status::validate_collisions(new, old, errors);
    let fixed = |object: &Value| {
        let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
        spec.retain(|name, _| !MUTABLE.contains(&name.as_str()));
        // An older hub told a source by both of its names.
        for claim in spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Some(claim) = claim["spec"].as_object_mut()
                && claim.get("dataSource").is_some()
                && claim.get("dataSource") == claim.get("dataSourceRef")
            {
                claim.remove("dataSourceRef");
            }
        }
        spec
    };
    if fixed(new) != fixed(old) {
        let message = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden(&"spec".into(), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(spec: Value, expect: &[&str]) {
        let mut object = json!({"metadata": {"name": "db"}, "spec": spec});
        object["spec"]["selector"] = json!({"matchLabels": {"app": "db"}});
        object["spec"]["template"]["metadata"] = json!({"labels": {"app": "db"}});
        default_stateful_set(&mut object);
        let mut errors = ErrorList::new();
        validate_stateful_set(&object, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn mounting(volumes: Value, names: &[&str]) -> Value {
        let mounts: Vec<_> =
            names.iter().map(|name| json!({"name": name, "mountPath": format!("/{name}")})).collect();
        json!({"spec": {
            "containers": [{"name": "db", "image": "db:1", "volumeMounts": mounts}],
            "volumes": volumes,
        }})
    }

    #[test]
    fn containers_mount_the_claims_of_their_set() {
        let claim = json!({
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let config = json!([{"name": "config", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]);
        let template = mounting(config, &["data", "config"]);
        told(json!({"template": template, "volumeClaimTemplates": [claim, claim]}), &[]);
        told(
            json!({"template": mounting(json!([]), &["data", "other"]), "volumeClaimTemplates": [claim]}),
            &[r#"spec.template.spec.containers[0].volumeMounts[1].name: Not found: "other""#],
        );
    }

    #[test]
    fn claims_are_those_that_could_be_made() {
        let claims =
            json!([{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]);
        told(
            json!({"template": mounting(json!([]), &["data"]), "volumeClaimTemplates": claims}),
            &[
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            ],
        );
    }
}
