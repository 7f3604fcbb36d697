//! The rules of what is changed in a Pod through its subresources: `ephemeralcontainers` and `resize`.

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, mirror, pod::qos_class, text, walk};
use crate::registry::Faults;

/// What an ephemeral container may say (`validation.allowedEphemeralContainerFields`).
const OF_EPHEMERAL: [&str; 17] = [
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
];

const CANNOT: &str = "cannot be set for an Ephemeral Container";

/// Ephemeral containers come, and neither change nor go: `validation.ValidatePodEphemeralContainersUpdate`.
pub(crate) fn validate_ephemeral(new: &Value, old: &Value, faults: &mut Faults) {
    const LIST: &str = "ephemeralContainers";
    let path = FieldPath::new("spec").child(LIST);
    let mut old = old.clone();
    super::pod::default_pod(&mut old);
    let (spec, before) = (&new["spec"], &old["spec"]);
    let known: HashSet<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| items(spec, list))
        .map(|container| text(container, "name"))
        .collect();
    for (index, container) in items(spec, LIST).enumerate() {
        let path = path.index(index);
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !known.contains(target) {
            faults.push(FieldError::not_found(&path.child("targetContainerName"), target));
        }
        for (field, value) in container.as_object().into_iter().flatten() {
            // Go keeps a struct for them, whether anything is said of them or not.
            let empty = value.is_null()
                || field == "resources" && value.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty && !OF_EPHEMERAL.contains(&field.as_str()) {
                faults.push(FieldError::forbidden(&path.child(field), CANNOT));
            }
        }
        // What is mounted of a part of a volume stays mounted until the pod ends.
        for (index, mount) in items(container, "volumeMounts").enumerate() {
            let path = path.child("volumeMounts").index(index);
            for field in ["subPath", "subPathExpr"].into_iter().filter(|field| !text(mount, field).is_empty())
            {
                faults.push(FieldError::forbidden(&path.child(field), CANNOT));
            }
        }
    }
    let own: HashMap<&str, &Value> =
        items(spec, LIST).map(|container| (text(container, "name"), container)).collect();
    for container in items(before, LIST) {
        let name = text(container, "name");
        let message = match own.get(name) {
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
            Some(own) if *own != container => {
                format!("existing ephemeral containers {name:?} may not be changed\n")
            }
            Some(_) => continue,
        };
        faults.push(FieldError::forbidden(&path, &message));
    }
}

/// A resize gives running containers more or less processor and memory, and changes nothing else: `validation.ValidatePodResize`.
pub(crate) fn validate_resize(new: &Value, old: &Value, faults: &mut Faults) {
    let whole = FieldPath::new("");
    if mirror::is_mirror(old) {
        faults.push(FieldError::forbidden(&whole, "static pods cannot be resized"));
        return;
    }
    if old["spec"]["os"]["name"] == "windows" {
        faults.push(FieldError::forbidden(&whole, "windows pods cannot be resized"));
        return;
    }
    let path = FieldPath::new("spec");
    let mut old = old.clone();
    super::pod::default_pod(&mut old);
    let (spec, before) = (&new["spec"], &old["spec"]);
    if !has_the_same_containers(spec, before, faults) {
        return;
    }
    for list in ["containers", "initContainers"] {
        for (index, (container, was)) in items(spec, list).zip(items(before, list)).enumerate() {
            let path = path.child(list).index(index).child("resources");
            if list == "initContainers" && !walk::is_sidecar(container) {
                if container["resources"] != was["resources"] {
                    let message = "resources for non-sidecar init containers are immutable";
                    faults.push(FieldError::forbidden(&path, message));
                }
                continue;
            }
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

/// Whether containers neither came nor went, and have the names and the order that they had.
fn has_the_same_containers(spec: &Value, before: &Value, faults: &mut Faults) -> bool {
    let known = faults.len();
    for list in ["containers", "initContainers"] {
        let path = FieldPath::new("spec").child(list);
        if items(spec, list).count() != items(before, list).count() {
            let message = format!("{list} may not be added or removed on resize");
            faults.push(FieldError::forbidden(&path, &message));
            continue;
        }
        for (index, (container, was)) in items(spec, list).zip(items(before, list)).enumerate() {
            if text(container, "name") != text(was, "name") {
                let message = format!("{list} may not be renamed or reordered on resize");
                faults.push(FieldError::forbidden(&path.index(index).child("name"), &message));
            }
        }
    }
    faults.len() == known
}

/// A spec without what may be resized.
fn others(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        let resized = |container: &&mut Value| list == "containers" || walk::is_sidecar(container);
        for container in super::items_mut(&mut spec, list).filter(resized) {
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
        let mut new = json!({"spec": new});
        super::super::pod::default_pod(&mut new);
        rules(&new, &json!({"spec": old}), &mut faults);
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
            with(json!([{
                "name": "d", "image": "i", "ports": [{"containerPort": 80}], "targetContainerName": "x", "restartPolicy": "Always",
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a"}],
            }])),
            with(json!([])),
            &[
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].restartPolicy: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
            ],
        );
    }

    #[test]
    fn a_resize_changes_processors_and_memory_and_nothing_else() {
        let with =
            |resources: Value| json!({"containers": [{"name": "c", "image": "i", "resources": resources}]});
        let old = with(json!({"requests": {"cpu": "1"}}));
        let of =
            |names: [&str; 2]| json!({"containers": names.map(|name| json!({"name": name, "image": "i"}))});
        told(
            validate_resize,
            of(["b", "a"]),
            of(["a", "b"]),
            &[
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
                "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
            ],
        );
        told(
            validate_resize,
            of(["a", "b"]),
            with(json!({})),
            &["spec.containers: Forbidden: containers may not be added or removed on resize"],
        );
        let init = |cpu: &str| {
            json!({"initContainers": [{"name": "i", "image": "i", "resources": {"requests": {"cpu": cpu}}}],
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]})
        };
        told(
            validate_resize,
            init("2"),
            init("1"),
            &[
                "spec.initContainers[0].resources: Forbidden: resources for non-sidecar init containers are immutable",
                "spec: Forbidden: only cpu and memory resources are mutable",
            ],
        );
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
