//! The plugin `PodSecurity`: checks pods by the Pod Security Standards that the namespace's labels name, and warns about workloads whose pods will
//! be refused.

use std::collections::HashMap;

use apimachinery::{
    ApiError,
    field::aggregate,
    labels::{Labels, labels_of},
};
use serde_json::Value;

use crate::{
    store::{Key, ResourceKey},
    validation::{
        items,
        legacy_annotations::{SECCOMP, SECCOMP_OF_POD},
        pod_security::{Level, Policy, Standard, check, details, survey},
        text,
    },
    verbs::Call,
};

/// Checks a write of `new` in place of `old`. Warnings go to the call, and violations of the `audit` level to the audit log.
pub(crate) fn secure(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let (group, plural) = (call.kind.group, call.kind.plural);
    match (group, plural, call.path.subresource.as_deref()) {
        ("", "namespaces", None) => secure_namespace(call, old, new),
        ("", "pods", None | Some("ephemeralcontainers" | "resize")) => {
            if old.is_none_or(|old| is_significant(new, old)) {
                secure_pods(call, new, new, true)
            } else {
                Ok(())
            }
        }
        (_, _, None) => match template(group, plural, new) {
            Some(template) if template["spec"].is_object() => secure_pods(call, new, template, false),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The pod template of a workload.
fn template<'a>(group: &str, plural: &str, object: &'a Value) -> Option<&'a Value> {
    match (group, plural) {
        ("", "podtemplates") => Some(&object["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&object["spec"]["template"]),
        ("batch", "cronjobs") => Some(&object["spec"]["jobTemplate"]["spec"]["template"]),
        _ => None,
    }
}

fn secure_pods(call: &Call, object: &Value, pod: &Value, enforce: bool) -> Result<(), ApiError> {
    let key = Key::new(ResourceKey::new("", "namespaces"), "", call.namespace());
    let namespace = call.shared.storage.get(&key).and_then(|stored| stored.value().ok());
    let labels: Labels = namespace.as_ref().map(labels_of).unwrap_or_default();
    if labels.is_empty() {
        return Ok(());
    }
    let (policy, errors) = Policy::of(&labels);
    let wrong = |standard: Standard| {
        let found = check(standard, &pod["metadata"], &pod["spec"]);
        (!found.is_empty()).then(|| format!("violate PodSecurity \"{standard}\": {}", details(&found)))
    };
    if !errors.is_empty() {
        note(call, "error", format!("Failed to parse policy: {}", aggregate(&errors)));
    }
    if let Some(violation) = wrong(policy.audit) {
        note(call, "audit-violations", format!("would {violation}"));
    }
    if enforce {
        if policy.enforce.level != Level::Privileged || policy.audit.level != Level::Privileged {
            note(call, "enforce-policy", policy.enforce.to_string());
        }
        if let Some(violation) = wrong(policy.enforce) {
            let why = violation.replacen("violate", "violates", 1);
            return Err(ApiError::forbidden(&call.resource(), text(&object["metadata"], "name"), &why));
        }
    }
    if let Some(violation) = wrong(policy.warn) {
        call.shared_warnings.lock().push(format!("would {violation}"));
    }
    Ok(())
}

fn note(call: &Call, name: &str, value: String) {
    if let Some(record) = &call.record {
        record.annotate(&format!("pod-security.kubernetes.io/{name}"), &value);
    }
}

/// New labels must be readable, and there is a warning if existing pods violate the new level.
fn secure_namespace(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let name = text(&new["metadata"], "name");
    let (policy, errors) = Policy::of(&labels_of(new));
    let before = old.map(|old| Policy::of(&labels_of(old)));
    if !errors.is_empty() && before.as_ref().is_none_or(|(_, before)| *before != errors) {
        return Err(ApiError::invalid("", "Namespace", name, &errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let (is, was) = (policy.enforce, before.enforce);
    if is == was || is.level == Level::Privileged || is.minor == was.minor && is.level <= was.level {
        return Ok(());
    }
    let snapshot = call.shared.storage.snapshot();
    let pods: Vec<_> = snapshot.range(&ResourceKey::new("", "pods"), Some(name), None).collect();
    let read = pods.iter().filter_map(|stored| stored.value().ok());
    call.shared_warnings.lock().extend(survey(name, is, pods.len(), read));
    Ok(())
}

/// Whether a change of a pod is one that the standards check.
fn is_significant(new: &Value, old: &Value) -> bool {
    let annotation = |pod: &Value, key: &str| pod["metadata"]["annotations"][key].clone();
    if annotation(new, SECCOMP_OF_POD) != annotation(old, SECCOMP_OF_POD) {
        return true;
    }
    let changed = |new_one: &Value, old_one: &Value| {
        let key = format!("{SECCOMP}{}", text(new_one, "name"));
        new_one["image"] != old_one["image"] || annotation(new, &key) != annotation(old, &key)
    };
    for list in ["containers", "initContainers"] {
        let all = |pod| -> Vec<&Value> { items(pod, list).collect() };
        let (ours, theirs) = (all(&new["spec"]), all(&old["spec"]));
        if ours.len() != theirs.len() || ours.iter().zip(theirs).any(|(ours, theirs)| changed(ours, theirs)) {
            return true;
        }
    }
    let known: HashMap<&str, &Value> =
        items(&old["spec"], "ephemeralContainers").map(|one| (text(one, "name"), one)).collect();
    items(&new["spec"], "ephemeralContainers")
        .any(|one| known.get(text(one, "name")).is_none_or(|other| changed(one, other)))
}
