//! Mirror pods: they stand for what a kubelet runs by itself, act as nobody and have nobody's secrets
//! (`plugin/pkg/admission/serviceaccount`, `validation.ValidatePodSpecificAnnotations`).

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, text, walk};
use crate::registry::Faults;

/// The annotation that makes a pod one.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The annotation's value, if it is one.
fn mark(pod: &Value) -> Option<&str> {
    pod["metadata"]["annotations"].get(MIRROR).map(|value| value.as_str().unwrap_or_default())
}

/// Whether a pod is one.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    mark(pod).is_some()
}

/// What a mirror pod names and may not.
pub(crate) fn wrong_reference(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    let mut sources = items(spec, "volumes").flat_map(|volume| items(&volume["projected"], "sources"));
    if !text(spec, "serviceAccountName").is_empty() {
        Some("a mirror pod may not reference service accounts")
    } else if names_secrets(spec) {
        Some("a mirror pod may not reference secrets")
    } else if sources.any(|source| source["serviceAccountToken"].is_object()) {
        Some("a mirror pod may not use ServiceAccountToken volume projections")
    } else {
        None
    }
}

/// `podutil.VisitPodSecretNames`.
fn names_secrets(spec: &Value) -> bool {
    let of_container = |container: &Value| {
        items(container, "env").any(|one| one["valueFrom"]["secretKeyRef"].is_object())
            || items(container, "envFrom").any(|one| one["secretRef"].is_object())
    };
    let of_volume = |volume: &Value| {
        let mut members = volume.as_object().into_iter().flatten().map(|(_, source)| source);
        members.any(|source| {
            ["secretRef", "nodePublishSecretRef"].iter().any(|name| source[*name].is_object())
                || !text(source, "secretName").is_empty()
                || items(source, "sources").any(|source| source["secret"].is_object())
        })
    };
    items(spec, "imagePullSecrets").next().is_some()
        || walk::containers(spec).any(of_container)
        || items(spec, "volumes").any(of_volume)
}

/// A kubelet runs it already, somewhere, and claims nothing for it.
pub(crate) fn validate(pod: &Value, faults: &mut Faults) {
    if is_mirror(pod) && items(&pod["spec"], "resourceClaims").next().is_some() {
        faults.push(FieldError::forbidden(&FieldPath::new(""), "static pods do not support resource claims"));
    }
    if let Some(value) = mark(pod)
        && text(&pod["spec"], "nodeName").is_empty()
    {
        let path = FieldPath::new("metadata.annotations").key(MIRROR);
        let message = "must set spec.nodeName if mirror pod annotation is set";
        faults.push(FieldError::invalid(&path, value, message));
    }
}

/// A pod does not become one, and does not cease to be one.
pub(crate) fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let what = match (mark(old), mark(new)) {
        (Some(_), None) => "remove",
        (old, new) if old != new => "update",
        _ => return,
    };
    let path = FieldPath::new("metadata.annotations").key(MIRROR);
    faults.push(FieldError::forbidden(&path, &format!("may not {what} mirror pod annotation")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"annotations": {MIRROR: "x"}}, "spec": spec})
    }

    #[test]
    fn a_mirror_pod_has_nobodys_secrets() {
        let volume = |source: Value| json!({"volumes": [source]});
        let secrets = "a mirror pod may not reference secrets";
        for (spec, expect) in [
            (json!({"containers": [{"name": "a"}]}), None),
            (json!({"serviceAccountName": "a"}), Some("a mirror pod may not reference service accounts")),
            (json!({"imagePullSecrets": [{"name": "a"}]}), Some(secrets)),
            (
                json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "a"}}}]}]}),
                Some(secrets),
            ),
            (json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]}), Some(secrets)),
            (volume(json!({"name": "v", "secret": {"secretName": "a"}})), Some(secrets)),
            (
                volume(json!({"name": "v", "projected": {"sources": [{"secret": {"name": "a"}}]}})),
                Some(secrets),
            ),
            (volume(json!({"name": "v", "configMap": {"name": "a"}})), None),
            (
                volume(
                    json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
                ),
                Some("a mirror pod may not use ServiceAccountToken volume projections"),
            ),
        ] {
            assert_eq!(wrong_reference(&pod(spec.clone())), expect, "{spec}");
        }
    }

    #[test]
    fn a_pod_is_one_from_the_start_and_has_a_node() {
        let told = |rules: &dyn Fn(&mut Faults)| {
            let mut faults = Faults::new();
            rules(&mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (plain, mirror) = (json!({"spec": {}}), pod(json!({})));
        let path = "metadata.annotations[kubernetes.io/config.mirror]";
        assert_eq!(
            told(&|faults| validate(&mirror, faults)),
            [format!("{path}: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set")]
        );
        assert!(told(&|faults| validate(&pod(json!({"nodeName": "n"})), faults)).is_empty());
        let claims =
            pod(json!({"nodeName": "n", "resourceClaims": [{"name": "a", "resourceClaimName": "a"}]}));
        assert_eq!(
            told(&|faults| validate(&claims, faults)),
            ["Forbidden: static pods do not support resource claims"]
        );
        assert!(told(&|faults| validate_update(&mirror, &mirror, faults)).is_empty());
        for (new, old, what) in [(&mirror, &plain, "update"), (&plain, &mirror, "remove")] {
            assert_eq!(
                told(&|faults| validate_update(new, old, faults)),
                [format!("{path}: Forbidden: may not {what} mirror pod annotation")]
            );
        }
    }
}
