//! Pod specs and templates: the defaults and rules by which Deployments, ReplicaSets and Pods live
//! (`core/v1/defaults.go`, `validation.ValidatePodTemplateSpec`).

use apimachinery::{FieldError, FieldPath, names};
use serde_json::{Value, json};

use crate::registry::Faults;

fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if object[name].is_null() {
        object[name] = value.into();
    }
}

/// Fills in what kube-apiserver fills into a pod spec.
pub(crate) fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    for list in ["initContainers", "containers"] {
        for container in
            spec[list].as_array_mut().into_iter().flatten().filter(|container| container.is_object())
        {
            default_container(container);
        }
    }
    if spec["initContainers"].is_null()
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("initContainers");
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for source in ["secret", "configMap", "projected", "downwardAPI"] {
            if volume.get(source).is_some_and(Value::is_object) {
                set(&mut volume[source], "defaultMode", 420);
            }
        }
    }
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        set(spec, "serviceAccount", account);
    }
}

fn default_container(container: &mut Value) {
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let floating = !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    set(container, "imagePullPolicy", if floating { "Always" } else { "IfNotPresent" });
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.is_object() {
            set(port, "protocol", "TCP");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) else { continue };
        for (name, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            set(probe, name, value);
        }
        if let Some(get) = probe.get_mut("httpGet").filter(|get| get.is_object()) {
            set(get, "path", "/");
            set(get, "scheme", "HTTP");
        }
    }
    for env in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(source) = env.pointer_mut("/valueFrom/fieldRef") {
            set(source, "apiVersion", "v1");
        }
    }
}

/// Finds the faults of a pod template.
pub(crate) fn validate_template(template: &Value, path: &FieldPath, faults: &mut Faults) {
    let metadata = path.child("metadata");
    if let Some(labels) = template["metadata"].get("labels") {
        apimachinery::labels::validate_labels(labels, &metadata.child("labels"), faults);
    }
    if let Some(annotations) = template["metadata"].get("annotations") {
        apimachinery::meta::validate_annotations(annotations, &metadata.child("annotations"), faults);
    }
    validate_spec(&template["spec"], &path.child("spec"), faults);
    let policy = template["spec"]["restartPolicy"].as_str().unwrap_or_default();
    if policy != "Always" && template["spec"].is_object() {
        faults.push(FieldError::not_supported(
            &path.child("spec").child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
}

/// Finds the faults of a pod spec.
pub(crate) fn validate_spec(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    let none = Vec::new();
    let containers = spec["containers"].as_array().unwrap_or(&none);
    if containers.is_empty() {
        faults.push(FieldError::required(&path.child("containers"), ""));
    }
    let volumes: Vec<&str> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    for (index, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        check_name(volume, &path.child("volumes").index(index), &volumes, index, faults);
    }
    for list in ["containers", "initContainers"] {
        let all = spec[list].as_array().unwrap_or(&none);
        let seen: Vec<&str> = all.iter().filter_map(|container| container["name"].as_str()).collect();
        for (index, container) in all.iter().enumerate() {
            let path = path.child(list).index(index);
            check_name(container, &path, &seen, index, faults);
            validate_container(container, &path, &volumes, faults);
        }
    }
}

/// A required DNS label, unique in its list.
fn check_name(item: &Value, path: &FieldPath, all: &[&str], index: usize, faults: &mut Faults) {
    let path = path.child("name");
    let name = item["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        faults.push(FieldError::required(&path, ""));
        return;
    }
    for fault in names::dns1123_label(name) {
        faults.push(FieldError::invalid(&path, name, &fault));
    }
    if all.iter().take(index).any(|other| *other == name) {
        faults.push(FieldError::duplicate(&path, name));
    }
}

fn validate_container(container: &Value, path: &FieldPath, volumes: &[&str], faults: &mut Faults) {
    let image = container["image"].as_str().unwrap_or_default();
    if image.is_empty() {
        faults.push(FieldError::required(&path.child("image"), ""));
    } else if image.trim() != image {
        let message = "must not have leading or trailing whitespace";
        faults.push(FieldError::invalid(&path.child("image"), image, message));
    }
    let policy = container["imagePullPolicy"].as_str().unwrap_or_default();
    if !matches!(policy, "Always" | "IfNotPresent" | "Never") {
        let known = ["Always", "IfNotPresent", "Never"];
        faults.push(FieldError::not_supported(&path.child("imagePullPolicy"), policy, &known));
    }
    for (index, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        let path = path.child("ports").index(index);
        match port["containerPort"].as_i64() {
            None | Some(0) => faults.push(FieldError::required(&path.child("containerPort"), "")),
            Some(number) if !(1..=65535).contains(&number) => {
                let message = "must be between 1 and 65535, inclusive";
                faults.push(FieldError::invalid(&path.child("containerPort"), number, message));
            }
            Some(_) => {}
        }
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            faults.push(FieldError::not_supported(
                &path.child("protocol"),
                protocol,
                &["SCTP", "TCP", "UDP"],
            ));
        }
    }
    for (index, env) in container["env"].as_array().into_iter().flatten().enumerate() {
        if env["name"].as_str().unwrap_or_default().is_empty() {
            faults.push(FieldError::required(&path.child("env").index(index).child("name"), ""));
        }
    }
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let path = path.child("volumeMounts").index(index);
        let name = mount["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            faults.push(FieldError::required(&path.child("name"), ""));
        } else if !volumes.contains(&name) {
            faults.push(FieldError::not_found(&path.child("name"), name));
        }
        if mount["mountPath"].as_str().unwrap_or_default().is_empty() {
            faults.push(FieldError::required(&path.child("mountPath"), ""));
        }
    }
}
