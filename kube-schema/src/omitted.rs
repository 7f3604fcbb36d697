//! Which zero values Go leaves out.
//!
//! kube-apiserver decodes into Go's types and encodes them again, so `hostNetwork: false` and `subPath: ""` are stored as nothing at all: who
//! sends them changes nothing, and owns nothing. Fields that are pointers (`runAsUser: 0`, `immutable: false`) keep their zero, and so do those
//! without `omitempty`. The OpenAPI definitions do not tell the one from the other; the tables of the protobuf messages do.

use serde_json::Value;

use crate::protobuf;

/// Whether a value is the zero of a scalar type.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Whether Go leaves a field of a definition out where it has the zero of its type.
pub(crate) fn is_left_out(definition: &str, field: &str) -> bool {
    let Some(message) = message_of(definition) else { return false };
    protobuf::leaves_out_zero(&message, field)
}

/// The message of a definition: groups that stand in repositories of their own have their tables beside the others.
fn message_of(definition: &str) -> Option<String> {
    const API: &str = "k8s.io.api.";
    let path = definition.strip_prefix("io.k8s.")?;
    let elsewhere = ["apiextensions-apiserver.pkg.apis.", "kube-aggregator.pkg.apis."];
    if let Some(path) = elsewhere.iter().find_map(|prefix| path.strip_prefix(prefix)) {
        return Some(format!("{API}{path}"));
    }
    Some(format!("k8s.io.{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pointer_and_may_be_left_out_is() {
        let left_out = [
            ("io.k8s.api.core.v1.PodSpec", "hostNetwork"),
            ("io.k8s.api.core.v1.VolumeMount", "readOnly"),
            ("io.k8s.api.apps.v1.DeploymentSpec", "minReadySeconds"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "generateName"),
            // Of a struct that stands in another one without a name.
            ("io.k8s.api.core.v1.SecretKeySelector", "name"),
            (
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
                "x-kubernetes-int-or-string",
            ),
            ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceSpec", "insecureSkipTLSVerify"),
        ];
        for (definition, field) in left_out {
            assert!(is_left_out(definition, field), "{definition}.{field}");
        }
        let kept = [
            ("io.k8s.api.core.v1.PodSpec", "automountServiceAccountToken"),
            ("io.k8s.api.core.v1.ConfigMap", "immutable"),
            ("io.k8s.api.core.v1.Container", "name"),
            ("io.k8s.api.scheduling.v1.PriorityClass", "value"),
            ("io.k8s.api.core.v1.PodSpec", "nothing"),
            ("example.v1.Thing", "hostNetwork"),
        ];
        for (definition, field) in kept {
            assert!(!is_left_out(definition, field), "{definition}.{field}");
        }
    }
}
