//! The rules of what is changed in a Pod through its subresources: `ephemeralcontainers` and `resize`.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, pod::qos_class, text};
use crate::registry::Faults;

/// What an ephemeral container may say (`validation.allowedEphemeralContainerFields`).
const OF_EPHEMERAL: [&str; 18] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
    "restartPolicy",
];

/// Ephemeral containers come, and neither change nor go: `validation.ValidatePodEphemeralContainersUpdate`.
pub(crate) fn validate_ephemeral(new: &Value, old: &Value, faults: &mut Faults) {
    const LIST: &str = "ephemeralContainers";
    let path = FieldPath::new("spec").child(LIST);
    let (spec, before) = (&new["spec"], &old["spec"]);
    let others = ["containers", "initContainers"];
    let known = |name: &str| {
        others.iter().any(|list| items(spec, list).any(|container| text(container, "name") == name))
    };
    for (index, container) in items(spec, LIST).enumerate() {
        let path = path.index(index);
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !known(target) {
            faults.push(FieldError::not_found(&path.child("targetContainerName"), target));
        }
        for (field, value) in container.as_object().into_iter().flatten() {
            let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty && !OF_EPHEMERAL.contains(&field.as_str()) {
                let message = "cannot be set for an Ephemeral Container";
                faults.push(FieldError::forbidden(&path.child(field), message));
            }
        }
    }
    for container in items(before, LIST) {
        let name = text(container, "name");
        let message = match items(spec, LIST).find(|own| text(own, "name") == name) {
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
            Some(own) if own != container => {
                format!("existing ephemeral containers {name:?} may not be changed\n")
            }
            Some(_) => continue,
        };
        faults.push(FieldError::forbidden(&path, &message));
    }
}

/// A resize gives running containers more or less processor and memory, and changes nothing else: `validation.ValidatePodResize`.
pub(crate) fn validate_resize(new: &Value, old: &Value, faults: &mut Faults) {
    let path = FieldPath::new("spec");
    let (spec, before) = (&new["spec"], &old["spec"]);
    for list in ["containers", "initContainers"] {
        for (index, (container, was)) in items(spec, list).zip(items(before, list)).enumerate() {
            let path = path.child(list).index(index).child("resources");
            for part in ["limits", "requests"] {
                let gone = |name: &String| container["resources"][part].get(name).is_none();
                if was["resources"][part].as_object().into_iter().flatten().any(|(name, _)| gone(name)) {
                    let message = format!("resource {part} cannot be removed");
                    faults.push(FieldError::forbidden(&path.child(part), &message));
                }
            }
        }
    }
    if others(spec) != others(before) {
        faults.push(FieldError::forbidden(&path, "only cpu and memory resources are mutable"));
    }
    let class = qos_class(before);
    if qos_class(spec) != class {
        let message = "Pod QOS Class may not change as a result of resizing";
        faults.push(FieldError::invalid(&path, class, message));
    }
}

/// A spec without what may be resized.
fn others(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in super::items_mut(&mut spec, list) {
            for part in ["limits", "requests"] {
                let amounts = container.pointer_mut(&format!("/resources/{part}"));
                if let Some(amounts) = amounts.and_then(Value::as_object_mut) {
                    amounts.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
                }
            }
            // Whether a list of amounts is empty or not there is the same.
            if let Some(resources) = container["resources"].as_object_mut() {
                resources.retain(|_, part| part.as_object().is_none_or(|part| !part.is_empty()));
            }
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(rules: fn(&Value, &Value, &mut Faults), new: Value, old: Value, expect: &[&str]) {
        let mut faults = Faults::new();
        rules(&json!({"spec": new}), &json!({"spec": old}), &mut faults);
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn ephemeral_containers_come_and_neither_change_nor_go() {
        let with =
            |list: Value| json!({"containers": [{"name": "c", "image": "i"}], "ephemeralContainers": list});
        let debugger = json!({"name": "d", "image": "i", "resources": {}, "targetContainerName": "c"});
        told(validate_ephemeral, with(json!([debugger])), with(json!([])), &[]);
        told(
            validate_ephemeral,
            with(json!([])),
            with(json!([debugger])),
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n",
            ],
        );
        told(
            validate_ephemeral,
            with(json!([{"name": "d", "image": "j"}])),
            with(json!([debugger])),
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n",
            ],
        );
        told(
            validate_ephemeral,
            with(
                json!([{"name": "d", "image": "i", "ports": [{"containerPort": 80}], "targetContainerName": "x"}]),
            ),
            with(json!([])),
            &[
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ],
        );
    }

    #[test]
    fn a_resize_changes_processors_and_memory_and_nothing_else() {
        let with =
            |resources: Value| json!({"containers": [{"name": "c", "image": "i", "resources": resources}]});
        let old = with(json!({"requests": {"cpu": "1"}}));
        told(validate_resize, with(json!({"requests": {"cpu": "2", "memory": "1Gi"}})), old.clone(), &[]);
        told(
            validate_resize,
            with(json!({})),
            old.clone(),
            &[
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
            ],
        );
        told(
            validate_resize,
            with(json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}})),
            old,
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        );
    }
}
