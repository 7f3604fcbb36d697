//! The rules of Pods, beyond those that templates have: `validation.ValidatePodCreate` and `ValidatePodUpdate`.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::status;
use crate::{
    registry::ErrorList,
    validation::{container, items, items_mut, mirror_pod, pod, pod_annotations, text, topology_spread},
};

pub(super) fn validate(object: &Value, errors: &mut ErrorList) {
    pod_annotations::validate(object, &"metadata.annotations".into(), errors);
    pod::validate_spec(&object["spec"], &"spec".into(), errors);
    if text(&object["spec"], "serviceAccountName").is_empty() {
        tokens_of_nobody(&object["spec"], errors);
    }
    container::validate_of_pods(&object["spec"], &"spec".into(), errors);
    for (index, volume) in items(&object["spec"], "volumes").enumerate() {
        // In a template it may be filled in later.
        if volume["image"].is_object() && text(&volume["image"], "reference").is_empty() {
            let path = FieldPath::new("spec.volumes").index(index).child("image").child("reference");
            errors.push(FieldError::required(&path, ""));
        }
    }
    mirror_pod::validate(object, errors);
}

/// A token is an account's.
fn tokens_of_nobody(spec: &Value, errors: &mut ErrorList) {
    for (index, volume) in items(spec, "volumes").enumerate() {
        let path = FieldPath::new("spec.volumes").index(index).child("projected").child("sources");
        for (at, source) in items(&volume["projected"], "sources").enumerate() {
            if source["serviceAccountToken"].is_object() {
                let path = path.index(at).child("serviceAccountToken");
                let message = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(&path, message));
            }
        }
    }
}

pub(super) fn validate_create(object: &Value, errors: &mut ErrorList) {
    if object["spec"]["ephemeralContainers"].as_array().is_some_and(|list| !list.is_empty()) {
        let path = FieldPath::new("spec.ephemeralContainers");
        errors.push(FieldError::forbidden(&path, "cannot be set on create"));
    }
    let gated = items(&object["spec"], "schedulingGates").next().is_some();
    if gated && !text(&object["spec"], "nodeName").is_empty() {
        let message = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&"spec.nodeName".into(), message));
    }
    pod_annotations::match_fields(object, &"spec".into(), errors);
}

/// The deadline of a pod comes nearer, and never goes.
fn validate_deadline(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec.activeDeadlineSeconds");
    let seconds = |pod: &Value| pod["spec"]["activeDeadlineSeconds"].as_i64();
    match (seconds(old), seconds(new)) {
        (Some(before), Some(after)) if after > before => {
            errors.push(FieldError::invalid(&path, after, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            let message = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, "null", message));
        }
        _ => {}
    }
}

/// What a pod behind a gate requires of nodes becomes more, and never less: `validation.validateNodeAffinityMutation`.
fn narrow_affinity(new: &Value, old: &Value, path: &FieldPath, errors: &mut ErrorList) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const TERMS: &str = "nodeSelectorTerms";
    let (path, count) = (path.child(REQUIRED).child(TERMS), items(&old[REQUIRED], TERMS).count());
    if new == old || count == 0 {
        return;
    }
    let terms = || items(&new[REQUIRED], TERMS);
    if terms().count() != count {
        let message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&path, new[REQUIRED][TERMS].clone(), message));
        return;
    }
    for (index, (term, before)) in terms().zip(items(&old[REQUIRED], TERMS)).enumerate() {
        let said = |term, list| items(term, list).collect::<Vec<_>>();
        let lists = ["matchExpressions", "matchFields"];
        // A term of nothing is no node, and one more word would make it some.
        let of_nothing = lists.iter().all(|list| said(before, list).is_empty());
        let changed = lists.iter().any(|list| {
            let (now, then) = (said(term, list), said(before, list));
            if of_nothing { !now.is_empty() } else { !now.starts_with(&then) }
        });
        if changed {
            let message = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path.index(index), term.clone(), message));
        }
    }
}

/// A pod's spec stands, but for images, its deadline, its grace, more tolerations, and where it was not scheduled yet.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    pod_annotations::validate_update(new, old, errors);
    status::validate_update(new, old, errors);
    let path = FieldPath::new("spec");
    // An older hub may not have filled in every default.
    let mut defaulted = old.clone();
    pod::default_pod(&mut defaulted);
    let old = &defaulted;
    for list in ["containers", "initContainers"] {
        if items(&new["spec"], list).count() != items(&old["spec"], list).count() {
            let message = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(list), message));
            return;
        }
    }
    let before = errors.len();
    validate_deadline(new, old, errors);
    if errors.len() > before && !new["spec"]["activeDeadlineSeconds"].is_null() {
        return;
    }
    let gated = items(&old["spec"], "schedulingGates").next().is_some();
    let kept = |object: &Value| {
        let mut spec = object["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in items_mut(&mut spec, list) {
                container["image"] = Value::Null;
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            for name in ["activeDeadlineSeconds", "tolerations"] {
                spec.remove(name);
            }
            // A grace below zero counts as one second, and may be written so.
            if old["spec"]["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0)
                && new["spec"]["terminationGracePeriodSeconds"] == 1
            {
                spec.remove("terminationGracePeriodSeconds");
            }
            // Gates open, and a pod behind one may be narrowed down.
            spec.remove("schedulingGates");
            if gated {
                spec.remove("nodeSelector");
                if let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) {
                    affinity.remove("nodeAffinity");
                }
                let nothing = |affinity: &Value| affinity.as_object().is_none_or(serde_json::Map::is_empty);
                if spec.get("affinity").is_some_and(nothing) {
                    spec.remove("affinity");
                }
            }
        }
        spec
    };
    // How long a taint is tolerated may change.
    let alike = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(map) = toleration.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        toleration
    };
    let after: HashSet<Value> = items(&new["spec"], "tolerations").map(alike).collect();
    if items(&old["spec"], "tolerations").any(|toleration| !after.contains(&alike(toleration))) {
        let message = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), message));
    }
    topology_spread::gates_only_go(&new["spec"], &old["spec"], &path, errors);
    for (key, value) in old["spec"]["nodeSelector"].as_object().into_iter().flatten().filter(|_| gated) {
        let now = &new["spec"]["nodeSelector"][key];
        if now != value {
            let message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            let now = now.as_str().unwrap_or_default();
            errors.push(FieldError::invalid(&path.child("nodeSelector"), now, message));
        }
    }
    if gated {
        let nodes = |pod: &'_ Value| pod["spec"]["affinity"]["nodeAffinity"].clone();
        narrow_affinity(&nodes(new), &nodes(old), &path.child("affinity").child("nodeAffinity"), errors);
    }
    if kept(new) != kept(old) {
        let message = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        errors.push(FieldError::forbidden(&path, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(errors: &ErrorList, expect: &[&str]) {
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_deadline_comes_nearer_and_never_goes() {
        let pod = |seconds: Value| {
            let mut pod = json!({"spec": {"activeDeadlineSeconds": seconds}});
            pod::default_pod(&mut pod);
            pod
        };
        let check = |old: Value, new: Value, expect: &[&str]| {
            let mut errors = ErrorList::new();
            validate_update(&pod(new), &pod(old), &mut errors);
            told(&errors, expect);
        };
        check(Value::Null, json!(9), &[]);
        check(json!(9), json!(5), &[]);
        check(
            json!(9),
            json!(99),
            &["spec.activeDeadlineSeconds: Invalid value: 99: must be less than or equal to previous value"],
        );
        check(
            json!(9),
            Value::Null,
            &[
                "spec.activeDeadlineSeconds: Invalid value: \"null\": must not update from a positive integer to nil value",
            ],
        );
    }

    #[test]
    fn a_pod_behind_a_gate_is_sent_to_fewer_nodes_and_not_beside_other_pods() {
        let pod = |affinity: Value, gated: bool| {
            let gates = if gated { json!([{"name": "g"}]) } else { json!([]) };
            let mut pod = json!({"spec": {"affinity": affinity, "schedulingGates": gates, "containers": []}});
            pod::default_pod(&mut pod);
            pod
        };
        let check = |old: Value, new: Value, gated: bool| {
            let mut errors = ErrorList::new();
            validate_update(&pod(new, gated), &pod(old, gated), &mut errors);
            errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        let required = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
        let term = |keys: &[&str]| json!({"matchExpressions": keys.iter().map(|key| json!({"key": key, "operator": "Exists"})).collect::<Vec<_>>()});
        let terms =
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let one = || required(json!([term(&["a"])]));
        assert_eq!(check(Value::Null, one(), true), [""; 0]);
        assert_eq!(check(Value::Null, one(), false), ["spec"], "without a gate it stands");
        assert_eq!(check(one(), required(json!([term(&["a", "b"])])), true), [""; 0]);
        assert_eq!(check(one(), required(json!([term(&["b"])])), true), [format!("{terms}[0]")]);
        assert_eq!(check(one(), required(json!([term(&["a"]), term(&["b"])])), true), [terms]);
        assert_eq!(check(one(), Value::Null, true), [terms]);
        assert_eq!(check(required(json!([{}])), one(), true), [format!("{terms}[0]")]);
        let beside = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}});
        assert_eq!(check(Value::Null, beside, true), ["spec"]);
    }

    #[test]
    fn containers_neither_come_nor_go() {
        let pod = |names: &[&str]| json!({"spec": {"containers": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()}});
        let mut errors = ErrorList::new();
        validate_update(&pod(&["a", "b"]), &pod(&["a"]), &mut errors);
        told(&errors, &["spec.containers: Forbidden: pod updates may not add or remove containers"]);
    }

    #[test]
    fn what_is_tolerated_stays_in_any_order_however_much_it_is() {
        let toleration = |number: usize| json!({"operator": "Exists", "key": format!("a{number}")});
        let pod = |tolerations: Vec<Value>| json!({"spec": {"tolerations": tolerations}});
        let check = |old: Vec<Value>, new: Vec<Value>, expect: &[&str]| {
            let mut errors = ErrorList::new();
            validate_update(&pod(new), &pod(old), &mut errors);
            let told: Vec<_> = errors.iter().filter(|error| error.field == "spec.tolerations").collect();
            assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
        };
        let old: Vec<Value> = (0..100_000).map(toleration).collect();
        let new: Vec<Value> = (0..100_001).rev().map(toleration).collect();
        check(old.clone(), new, &[]);
        let fewer = old[1..].to_vec();
        check(
            old,
            fewer,
            &[
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ],
        );
    }
}
