//! The rules of containers.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{
    env, items, label, lifecycle, listed, net, one_of, pod_resources, quantities, required, security_context,
    text,
};
use crate::registry::ErrorList;

/// Finds the errors of all containers of a pod spec.
pub(super) fn validate_all(spec: &Value, path: &FieldPath, volumes: &HashSet<&str>, errors: &mut ErrorList) {
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&path.child("containers"), ""));
    }
    let mut seen = HashSet::new();
    let (pod, host_users) = (lifecycle::Pod::of(spec), spec["hostUsers"] != false);
    let claims = pod_resources::Claims::of(spec);
    let blocks: HashSet<_> = items(spec, "volumes")
        .filter(|volume| volume["persistentVolumeClaim"].is_object() || volume["ephemeral"].is_object())
        .map(|volume| text(volume, "name"))
        .collect();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let whole = path.child(list);
        for (index, container) in items(spec, list).enumerate() {
            if errors.is_full() {
                return;
            }
            let path = whole.index(index);
            let name = required(container, &path, "name", errors);
            if let Some(name) = name {
                label(name, &path.child("name"), errors);
            }
            validate(container, &path, (volumes, &blocks), errors);
            claims.validate(container, &path, errors);
            lifecycle::resize_policy(container, &path, &pod, errors);
            let context = &container["securityContext"];
            security_context::validate_container(context, host_users, &path.child("securityContext"), errors);
            if list == "initContainers" {
                lifecycle::restarts(container, &path, errors);
            }
            if let Some(name) = name.filter(|name| !seen.insert(*name)) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            if list == "initContainers" {
                // They run one after the other. kube-apiserver names the place of each as the first one's.
                host_ports(container, &whole.index(0), &mut HashSet::new(), errors);
            }
            lifecycle::validate(container, &path, list, &pod, errors);
        }
        if list == "containers" {
            let mut ports = HashSet::new();
            for (index, container) in items(spec, list).enumerate() {
                host_ports(container, &whole.index(index), &mut ports, errors);
            }
        }
    }
}

/// What is asked of the containers of Pods, and not of templates, of whom something else may make Pods: `validation.validateContainersOnlyForPod`.
pub(crate) fn validate_of_pods(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in items(spec, list).enumerate() {
            let image = text(container, "image");
            if image.trim() != image {
                let path = path.child(list).index(index).child("image");
                let message = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(&path, image, message));
            }
        }
    }
}

/// The names of all volumes of a pod, and of those that may be used as devices.
type Volumes<'a> = (&'a HashSet<&'a str>, &'a HashSet<&'a str>);

/// The rules of one container; of the volumes the second ones may be used as devices.
fn validate(container: &Value, path: &FieldPath, (volumes, blocks): Volumes<'_>, errors: &mut ErrorList) {
    let image = text(container, "image");
    if image.is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    }
    let policy = text(container, "terminationMessagePolicy");
    listed(policy, &path.child("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], errors);
    ports(container, path, errors);
    env::validate(container, path, errors);
    mounts(container, path, volumes, errors);
    devices(container, path, (volumes, blocks), errors);
    let known = ["Always", "IfNotPresent", "Never"];
    one_of(text(container, "imagePullPolicy"), &path.child("imagePullPolicy"), &known, errors);
    quantities::container(&container["resources"], &path.child("resources"), errors);
}

fn ports(container: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut names = HashSet::new();
    for (index, port) in items(container, "ports").enumerate() {
        if errors.is_full() {
            return;
        }
        let path = path.child("ports").index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let bad = net::port_name(name);
            let first = names.insert(name);
            if bad.is_empty() && !first {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            errors.extend(bad.iter().map(|error| FieldError::invalid(&path.child("name"), name, error)));
        }
        match port["containerPort"].as_i64() {
            None | Some(0) => errors.push(FieldError::required(&path.child("containerPort"), "")),
            Some(number) => net::port(number, &path.child("containerPort"), errors),
        }
        if let Some(number) = port["hostPort"].as_i64().filter(|number| *number != 0) {
            net::port(number, &path.child("hostPort"), errors);
        }
        one_of(text(port, "protocol"), &path.child("protocol"), &net::PROTOCOLS, errors);
    }
}

/// Who runs at the same time cannot listen at the same port of the host.
fn host_ports(container: &Value, path: &FieldPath, seen: &mut HashSet<String>, errors: &mut ErrorList) {
    for (index, port) in items(container, "ports").enumerate() {
        let Some(number) = port["hostPort"].as_i64().filter(|number| *number != 0) else { continue };
        let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
        if seen.contains(&key) {
            let path = path.child("ports").index(index).child("hostPort");
            errors.push(FieldError::duplicate(&path, key.as_str()));
        }
        seen.insert(key);
    }
}

/// What the elements of a list say of a field.
fn said<'a>(container: &'a Value, list: &str, field: &str) -> HashSet<&'a str> {
    items(container, list).map(|item| text(item, field)).collect()
}

fn mounts(container: &Value, path: &FieldPath, volumes: &HashSet<&str>, errors: &mut ErrorList) {
    let (mut seen, whole) = (HashSet::new(), path.child("volumeMounts"));
    let (devices, device_paths) =
        (said(container, "volumeDevices", "name"), said(container, "volumeDevices", "devicePath"));
    for (index, mount) in items(container, "volumeMounts").enumerate() {
        let path = whole.index(index);
        let name = text(mount, "name");
        required(mount, &path, "name", errors);
        if !volumes.contains(name) {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        if let Some(at) = required(mount, &path, "mountPath", errors)
            && !seen.insert(at)
        {
            errors.push(FieldError::invalid(&path.child("mountPath"), at, "must be unique"));
        }
        if devices.contains(name) {
            errors.push(FieldError::invalid(
                &path.child("name"),
                name,
                "must not already exist in volumeDevices",
            ));
        }
        if device_paths.contains(text(mount, "mountPath")) {
            let message = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&path.child("mountPath"), text(mount, "mountPath"), message));
        }
        // Without the index, as kube-apiserver names the place.
        security_context::descending(text(mount, "subPath"), &whole.child("subPath"), errors);
        let expression = text(mount, "subPathExpr");
        if !expression.is_empty() && !text(mount, "subPath").is_empty() {
            let message = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("subPathExpr"), expression, message));
        }
        security_context::descending(expression, &whole.child("subPathExpr"), errors);
        if let Some(propagation) = mount["mountPropagation"].as_str() {
            let path = whole.child("mountPropagation");
            one_of(propagation, &path, &["Bidirectional", "HostToContainer", "None"], errors);
            if propagation == "Bidirectional" && container["securityContext"]["privileged"] != true {
                let message = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(FieldError::forbidden(&path, message));
            }
        }
        read_only(mount, &whole.child("recursiveReadOnly"), errors);
    }
}

/// What is read-only all the way down: `validation.validateMountRecursiveReadOnly`.
fn read_only(mount: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let Some(mode) = mount["recursiveReadOnly"].as_str() else { return };
    if !matches!(mode, "Disabled" | "Enabled" | "IfPossible") {
        errors.push(FieldError::not_supported(path, mode, &["Disabled", "Enabled", "IfPossible"]));
        return;
    }
    if mode == "Disabled" {
        return;
    }
    if mount["readOnly"] != true {
        errors.push(FieldError::forbidden(path, "may only be specified when readOnly is true"));
    }
    if mount["mountPropagation"].as_str().is_some_and(|propagation| propagation != "None") {
        let message = "may only be specified when mountPropagation is None or not specified";
        errors.push(FieldError::forbidden(path, message));
    }
}

/// Volumes that a container has as devices: `validation.ValidateVolumeDevices`.
fn devices(container: &Value, path: &FieldPath, (volumes, blocks): Volumes<'_>, errors: &mut ErrorList) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    let (mounts, mount_paths) =
        (said(container, "volumeMounts", "name"), said(container, "volumeMounts", "mountPath"));
    for (index, device) in items(container, "volumeDevices").enumerate() {
        let path = path.child("volumeDevices").index(index);
        let (name_path, at_path) = (path.child("name"), path.child("devicePath"));
        let (name, at) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        }
        if names.contains(name) {
            errors.push(FieldError::invalid(&name_path, name, "must be unique"));
        }
        if !volumes.contains(name) {
            errors.push(FieldError::not_found(&name_path, name));
        } else if !blocks.contains(name) {
            let message =
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.push(FieldError::invalid(&name_path, name, message));
        }
        if at.is_empty() {
            errors.push(FieldError::required(&at_path, ""));
        }
        if paths.contains(at) {
            errors.push(FieldError::invalid(&at_path, at, "must be unique"));
        }
        if at.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(&at_path, at, "can not contain backsteps ('..')"));
        } else {
            paths.insert(at);
        }
        if mounts.contains(name) {
            errors.push(FieldError::invalid(&name_path, name, "must not already exist in volumeMounts"));
        }
        if mount_paths.contains(at) {
            let message = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&at_path, at, message));
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(container: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let path = FieldPath::new("c");
        let (volumes, blocks) = (HashSet::from(["v", "w"]), HashSet::from(["w"]));
        mounts(&container, &path, &volumes, &mut errors);
        devices(&container, &path, (&volumes, &blocks), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_volume_is_mounted_or_a_device_and_not_both() {
        told(
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}], "volumeDevices": [{"name": "w", "devicePath": "/d"}]}),
            &[],
        );
        told(
            json!({"volumeMounts": [{"name": "w", "mountPath": "/w"}], "volumeDevices": [{"name": "w", "devicePath": "/w"}]}),
            &[
                r#"c.volumeMounts[0].name: Invalid value: "w": must not already exist in volumeDevices"#,
                r#"c.volumeMounts[0].mountPath: Invalid value: "/w": must not already exist as a path in volumeDevices"#,
                r#"c.volumeDevices[0].name: Invalid value: "w": must not already exist in volumeMounts"#,
                r#"c.volumeDevices[0].devicePath: Invalid value: "/w": must not already exist as a path in volumeMounts"#,
            ],
        );
        told(
            json!({"volumeDevices": [{"name": "v", "devicePath": "../x"}, {"name": "none"}]}),
            &[
                r#"c.volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
                r#"c.volumeDevices[0].devicePath: Invalid value: "../x": can not contain backsteps ('..')"#,
                r#"c.volumeDevices[1].name: Not found: "none""#,
                "c.volumeDevices[1].devicePath: Required value",
            ],
        );
    }

    #[test]
    fn ports_are_told_apart_however_many_there_are() {
        let port =
            |number: usize| json!({"name": format!("a{number}"), "containerPort": 80, "protocol": "TCP"});
        let mut listed: Vec<_> = (0..100_000).map(port).collect();
        listed.push(port(7));
        let mut errors = ErrorList::new();
        ports(&json!({"ports": listed}), &FieldPath::new("c"), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, [r#"c.ports[100000].name: Duplicate value: "a7""#]);
    }
}
