//! The rules of a resize: it gives a pod and its containers more or less processor and memory, and changes nothing else
//! (`validation.ValidatePodResize`).

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, items_mut, mirror_pod, pod, text, visit};
use crate::registry::ErrorList;

const PARTS: [&str; 2] = ["limits", "requests"];
const ONLY: &str = "only cpu and memory resources are mutable";

/// Finds the errors of a resize.
pub(crate) fn validate(new: &Value, old: &Value, errors: &mut ErrorList) {
    let of_others = [
        (mirror_pod::is_mirror(old), "static pods cannot be resized"),
        (old["spec"]["os"]["name"] == "windows", "windows pods cannot be resized"),
    ];
    if let Some((_, message)) = of_others.iter().find(|(is, _)| *is) {
        errors.clear();
        errors.push(FieldError::forbidden(&FieldPath::new(""), message));
        return;
    }
    let path = FieldPath::new("spec");
    let mut old = old.clone();
    pod::default_pod(&mut old);
    let (spec, before) = (&new["spec"], &old["spec"]);
    let class = match text(&old["status"], "qosClass") {
        "" => pod::qos_class(before),
        told => told,
    };
    if pod::qos_class(spec) != class {
        let message = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, class, message));
    }
    // Where a kubelet does not tell what a container has, it cannot give it something else.
    let mut running = items(&old["status"], "containerStatuses");
    if let Some(first) = running.find(|state| state["state"]["running"].is_object())
        && first["resources"].is_null()
    {
        errors.push(FieldError::forbidden(&path, "Pod running on node without support for resize"));
    }
    whole(&spec["resources"], &before["resources"], &path, errors);
    if items(&old["status"], "nodeAllocatableResourceClaimStatuses").next().is_some() {
        let message = "pods with node allocatable resource claims cannot be resized";
        errors.push(FieldError::forbidden(&path, message));
    }
    if !has_the_same_containers(spec, before, errors) {
        return;
    }
    let both = |list| items(spec, list).zip(items(before, list)).enumerate();
    for list in ["initContainers", "containers"] {
        for (index, (container, was)) in both(list) {
            let path = path.child(list).index(index).child("resources");
            for part in PARTS
                .iter()
                .rev()
                .filter(|part| has_gone(&container["resources"][**part], &was["resources"][**part]))
            {
                let message = format!("resource {part} cannot be removed");
                errors.push(FieldError::forbidden(&path.child(part), &message));
            }
        }
    }
    for (_, (container, was)) in both("containers") {
        if resized(container) != fixed(was) {
            errors.push(FieldError::forbidden(&path, ONLY));
        }
    }
    for (index, (container, was)) in both("initContainers") {
        let path = path.child("initContainers").index(index);
        if resized(container) != fixed(was) {
            let message = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(FieldError::forbidden(&path, message));
        }
        if visit::is_sidecar(container) || plain(container) == plain(was) {
            continue;
        }
        let anew = |policy: &&Value| policy["restartPolicy"] == "RestartContainer";
        for _ in items(container, "resizePolicy").filter(anew) {
            let message =
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(FieldError::forbidden(&path, message));
        }
    }
    if errors.is_empty() && others(spec) != others(before) {
        errors.push(FieldError::forbidden(&path, ONLY));
    }
}

/// What a pod has as a whole: `validation.validatePodLevelResourcesResize`.
fn whole(resources: &Value, before: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let said = |resources: &Value| {
        PARTS.iter().any(|part| resources[*part].as_object().is_some_and(|amounts| !amounts.is_empty()))
    };
    if !said(resources) && !said(before) {
        return;
    }
    let place = path.child("resources");
    if before.is_object() && !resources.is_object() {
        errors.push(FieldError::forbidden(&place, "pod-level resources cannot be removed"));
        return;
    }
    for part in PARTS.iter().rev().filter(|part| has_gone(&resources[**part], &before[**part])) {
        let message = format!("pod-level resource {part} cannot be removed");
        errors.push(FieldError::forbidden(&place.child(part), &message));
    }
    let kept = |resources: &Value| {
        let mut resources = resources.clone();
        drop_resizable(&mut resources);
        drop_empty(&mut resources);
        // Nothing may be said of it by nothing, or by an empty object.
        Some(resources).filter(|resources| resources.as_object().is_some_and(|map| !map.is_empty()))
    };
    if kept(resources) != kept(before) {
        let message = "only cpu and memory resources are mutable at pod-level";
        errors.push(FieldError::forbidden(path, message));
    }
}

/// Whether of some amounts one is not there any more.
fn has_gone(amounts: &Value, before: &Value) -> bool {
    before.as_object().into_iter().flatten().any(|(name, _)| amounts.get(name).is_none())
}

/// Whether containers neither came nor went, and have the names and the order that they had.
fn has_the_same_containers(spec: &Value, before: &Value, errors: &mut ErrorList) -> bool {
    let known = errors.len();
    for list in ["containers", "initContainers"] {
        let path = FieldPath::new("spec").child(list);
        if items(spec, list).count() != items(before, list).count() {
            let message = format!("{list} may not be added or removed on resize");
            errors.push(FieldError::forbidden(&path, &message));
            continue;
        }
        for (index, (container, was)) in items(spec, list).zip(items(before, list)).enumerate() {
            if text(container, "name") != text(was, "name") {
                let message = format!("{list} may not be renamed or reordered on resize");
                errors.push(FieldError::forbidden(&path.index(index).child("name"), &message));
            }
        }
    }
    errors.len() == known
}

/// Takes away what a resize may change.
fn drop_resizable(resources: &mut Value) {
    for part in PARTS {
        if let Some(amounts) = resources.get_mut(part).and_then(Value::as_object_mut) {
            amounts.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
        }
    }
}

/// Whether a list of amounts is empty or not there is the same.
fn drop_empty(resources: &mut Value) {
    if let Some(resources) = resources.as_object_mut() {
        resources.retain(|_, part| {
            part.as_object().is_none_or(|part| !part.is_empty())
                && part.as_array().is_none_or(|part| !part.is_empty())
                && !part.is_null()
        });
    }
}

/// A container without what is empty.
fn plain(container: &Value) -> Value {
    let mut container = container.clone();
    drop_empty(&mut container["resources"]);
    container
}

/// A container without what a resize may change.
fn fixed(container: &Value) -> Value {
    let mut container = container.clone();
    drop_resizable(&mut container["resources"]);
    drop_empty(&mut container["resources"]);
    container
}

/// The same of a new state. kube-apiserver leaves its claims of devices out, so that nothing that has some is resized.
fn resized(container: &Value) -> Value {
    let mut container = fixed(container);
    if let Some(resources) = container["resources"].as_object_mut() {
        resources.remove("claims");
    }
    container
}

/// A spec without what is looked at by itself.
fn others(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in items_mut(&mut spec, list) {
            *container = Value::Null;
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("resources");
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(new: Value, old: Value, status: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let mut new = json!({"spec": new, "status": status});
        pod::default_pod(&mut new);
        validate(&new, &json!({"spec": old, "status": status}), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[track_caller]
    fn told(new: Value, old: Value, expect: &[&str]) {
        refused(new, old, json!({}), expect);
    }

    fn with(resources: Value) -> Value {
        json!({"containers": [{"name": "c", "image": "i", "resources": resources}]})
    }

    fn asks(cpu: &str) -> Value {
        json!({"requests": {"cpu": cpu}})
    }

    #[test]
    fn a_resize_changes_processors_and_memory_and_nothing_else() {
        let of =
            |names: [&str; 2]| json!({"containers": names.map(|name| json!({"name": name, "image": "i"}))});
        told(
            of(["b", "a"]),
            of(["a", "b"]),
            &[
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
                "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
            ],
        );
        told(
            of(["a", "b"]),
            with(json!({})),
            &["spec.containers: Forbidden: containers may not be added or removed on resize"],
        );
        told(with(json!({"requests": {"cpu": "2", "memory": "1Gi"}})), with(asks("1")), &[]);
        told(
            with(json!({})),
            with(asks("1")),
            &[
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ],
        );
        let only = "spec: Forbidden: only cpu and memory resources are mutable";
        told(with(json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}})), with(asks("1")), &[only]);
        let mut policy = with(asks("1"));
        policy["containers"][0]["resizePolicy"] =
            json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        told(policy, with(asks("1")), &[only]);
        let claims = |cpu: &str| with(json!({"requests": {"cpu": cpu}, "claims": [{"name": "a"}]}));
        told(claims("2"), claims("1"), &[only]);
    }

    #[test]
    fn init_containers_are_resized_unless_they_would_begin_anew() {
        let init = |cpu: &str, policy: &str, image: &str| {
            let policies = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
            let mut spec = with(asks("1"));
            spec["initContainers"] =
                json!([{"name": "i", "image": image, "resources": asks(cpu), "resizePolicy": policies}]);
            spec
        };
        told(init("2", "NotRequired", "i"), init("1", "NotRequired", "i"), &[]);
        told(
            init("2", "RestartContainer", "i"),
            init("1", "RestartContainer", "i"),
            &[
                "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
            ],
        );
        let sidecar = |cpu: &str| {
            let mut spec = init(cpu, "RestartContainer", "i");
            spec["initContainers"][0]["restartPolicy"] = "Always".into();
            spec
        };
        told(sidecar("2"), sidecar("1"), &[]);
        told(
            init("1", "NotRequired", "j"),
            init("1", "NotRequired", "i"),
            &[
                "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable",
            ],
        );
        let mut less = init("1", "NotRequired", "i");
        less["initContainers"][0]["resources"] = json!({});
        told(
            less,
            init("1", "NotRequired", "i"),
            &["spec.initContainers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        );
    }

    #[test]
    fn a_pod_has_more_or_less_as_a_whole() {
        let pod = |resources: Value| {
            let mut spec = with(asks("1"));
            spec["resources"] = resources;
            spec
        };
        let of = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}});
        told(pod(of("4", "1Gi")), pod(of("2", "2Gi")), &[]);
        told(pod(of("4", "1Gi")), with(asks("1")), &[]);
        told(
            with(asks("1")),
            pod(asks("2")),
            &["spec.resources: Forbidden: pod-level resources cannot be removed"],
        );
        told(
            pod(asks("2")),
            pod(of("2", "1Gi")),
            &["spec.resources.requests: Forbidden: pod-level resource requests cannot be removed"],
        );
        let pages = |amount: &str| json!({"requests": {"cpu": "2", "hugepages-2Mi": amount}, "limits": {"hugepages-2Mi": amount}});
        told(
            pod(pages("4Mi")),
            pod(pages("2Mi")),
            &["spec: Forbidden: only cpu and memory resources are mutable at pod-level"],
        );
    }

    #[test]
    fn who_tells_of_no_resources_of_containers_that_run_resizes_none() {
        let state = |resources: Value| json!({"containerStatuses": [{"name": "c", "state": {"running": {}}, "resources": resources}]});
        refused(with(asks("2")), with(asks("1")), state(asks("1")), &[]);
        refused(
            with(asks("2")),
            with(asks("1")),
            state(Value::Null),
            &["spec: Forbidden: Pod running on node without support for resize"],
        );
        refused(
            with(asks("2")),
            with(asks("1")),
            json!({"nodeAllocatableResourceClaimStatuses": [{"resourceClaimName": "a"}]}),
            &["spec: Forbidden: pods with node allocatable resource claims cannot be resized"],
        );
    }

    #[test]
    fn pods_of_kubelets_and_of_windows_are_not_resized() {
        let check = |old: Value, expect: &str| {
            let mut errors = ErrorList::new();
            errors.push(FieldError::required(&FieldPath::new("x"), ""));
            validate(&old, &old, &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expect]);
        };
        check(
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {}}),
            ": Forbidden: static pods cannot be resized",
        );
        check(json!({"spec": {"os": {"name": "windows"}}}), ": Forbidden: windows pods cannot be resized");
    }
}
