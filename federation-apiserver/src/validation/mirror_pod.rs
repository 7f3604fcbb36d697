//! Mirror pods: they stand for what a kubelet runs by itself, act as nobody and have nobody's secrets
//! (`plugin/pkg/admission/serviceaccount`).

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, text, visit};
use crate::registry::ErrorList;

/// The annotation that makes a pod one.
pub(super) const MARK: &str = "kubernetes.io/config.mirror";

/// Whether a pod is one.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MARK).is_some()
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
        || visit::containers(spec).any(of_container)
        || items(spec, "volumes").any(of_volume)
}

/// A kubelet runs it already, and claims nothing for it.
pub(crate) fn validate(pod: &Value, errors: &mut ErrorList) {
    if is_mirror(pod) && items(&pod["spec"], "resourceClaims").next().is_some() {
        errors.push(FieldError::forbidden(&FieldPath::new(""), "static pods do not support resource claims"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"annotations": {MARK: "x"}}, "spec": spec})
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
    fn a_mirror_pod_claims_nothing() {
        let mut errors = ErrorList::new();
        let claims = json!([{"name": "a", "resourceClaimName": "a"}]);
        validate(&json!({"spec": {"resourceClaims": claims}}), &mut errors);
        assert!(errors.is_empty());
        validate(&pod(json!({"resourceClaims": claims})), &mut errors);
        assert_eq!(errors[0].to_string(), ": Forbidden: static pods do not support resource claims");
    }
}
