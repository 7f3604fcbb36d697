//! The rules of what is changed in a Pod through its subresource `ephemeralcontainers`.

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, mirror_pod, text};
use crate::registry::ErrorList;

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
pub(crate) fn validate_ephemeral(new: &Value, old: &Value, errors: &mut ErrorList) {
    const LIST: &str = "ephemeralContainers";
    let path = FieldPath::new("spec").child(LIST);
    if mirror_pod::is_mirror(old) {
        errors.clear();
        errors.push(FieldError::forbidden(
            &FieldPath::new(""),
            "static pods do not support ephemeral containers",
        ));
        return;
    }
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
            errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
        }
        for (field, value) in container.as_object().into_iter().flatten() {
            // Go keeps a struct for them, whether anything is said of them or not.
            let empty = value.is_null()
                || field == "resources" && value.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty && !OF_EPHEMERAL.contains(&field.as_str()) {
                errors.push(FieldError::forbidden(&path.child(field), CANNOT));
            }
        }
        // What is mounted of a part of a volume stays mounted until the pod ends.
        for (index, mount) in items(container, "volumeMounts").enumerate() {
            let path = path.child("volumeMounts").index(index);
            for field in ["subPath", "subPathExpr"].into_iter().filter(|field| !text(mount, field).is_empty())
            {
                errors.push(FieldError::forbidden(&path.child(field), CANNOT));
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
        errors.push(FieldError::forbidden(&path, &message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(new: Value, old: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let mut new = json!({"spec": new});
        super::super::pod::default_pod(&mut new);
        validate_ephemeral(&new, &json!({"spec": old}), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn ephemeral_containers_come_and_neither_change_nor_go() {
        let with =
            |list: Value| json!({"containers": [{"name": "c", "image": "i"}], "ephemeralContainers": list});
        let debugger = json!({"name": "d", "image": "i", "resources": {}, "targetContainerName": "c"});
        told(with(json!([debugger])), with(json!([])), &[]);
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": with(json!([]))});
        let mut errors = ErrorList::new();
        validate_ephemeral(&mirror, &mirror, &mut errors);
        assert_eq!(errors[0].to_string(), ": Forbidden: static pods do not support ephemeral containers");
        told(
            with(json!([])),
            with(json!([debugger])),
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n",
            ],
        );
        told(
            with(json!([{"name": "d", "image": "j"}])),
            with(json!([debugger])),
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n",
            ],
        );
        told(
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
}
