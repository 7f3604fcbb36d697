//! What an object in Go always has: the fields of its zero value.
//!
//! kube-apiserver tells who owns a field by comparing two objects as Go writes them. There, a struct that is no pointer is written even if
//! nothing is in it, and so is a list without `omitempty`, as null: no write adds them, and nobody comes to own them. The published
//! definitions do not tell pointers from structs, so this is a table of those of k8s.io/api that stand outside of lists.

use serde_json::{Map, Value};

use crate::{Schemas, schemas::reference};

/// Definitions without their common prefix, and their fields. `spec` and `status` of every kind are such, too.
const ALWAYS: &[(&str, &[&str])] = &[
    ("api.apps.v1.DaemonSetSpec", &["template", "updateStrategy"]),
    ("api.apps.v1.DeploymentSpec", &["strategy", "template"]),
    ("api.apps.v1.ReplicaSetSpec", &["template"]),
    ("api.apps.v1.StatefulSetSpec", &["template", "updateStrategy"]),
    ("api.autoscaling.v1.HorizontalPodAutoscalerSpec", &["scaleTargetRef"]),
    ("api.autoscaling.v2.HorizontalPodAutoscalerSpec", &["scaleTargetRef"]),
    ("api.autoscaling.v2.HorizontalPodAutoscalerStatus", &["currentMetrics", "desiredReplicas"]),
    ("api.batch.v1.CronJobSpec", &["jobTemplate"]),
    ("api.batch.v1.JobSpec", &["template"]),
    ("api.batch.v1.JobTemplateSpec", &["metadata", "spec"]),
    ("api.core.v1.DaemonEndpoint", &["Port"]),
    (
        "api.core.v1.Event",
        &[
            "eventTime",
            "firstTimestamp",
            "involvedObject",
            "lastTimestamp",
            "reportingComponent",
            "reportingInstance",
            "source",
        ],
    ),
    ("api.core.v1.LimitRangeSpec", &["limits"]),
    ("api.core.v1.NodeDaemonEndpoints", &["kubeletEndpoint"]),
    ("api.core.v1.NodeStatus", &["daemonEndpoints", "nodeInfo"]),
    (
        "api.core.v1.NodeSystemInfo",
        &[
            "architecture",
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
            "kubeProxyVersion",
            "kubeletVersion",
            "machineID",
            "operatingSystem",
            "osImage",
            "systemUUID",
        ],
    ),
    ("api.core.v1.PersistentVolumeClaimSpec", &["resources"]),
    ("api.core.v1.PodSpec", &["containers"]),
    ("api.core.v1.PodTemplate", &["template"]),
    ("api.core.v1.PodTemplateSpec", &["metadata", "spec"]),
    ("api.core.v1.ServiceStatus", &["loadBalancer"]),
    ("api.discovery.v1.EndpointSlice", &["endpoints", "ports"]),
    (
        "api.events.v1.Event",
        &["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedSource", "eventTime"],
    ),
    ("api.networking.v1.IngressStatus", &["loadBalancer"]),
    ("api.networking.v1.NetworkPolicySpec", &["podSelector"]),
    ("api.rbac.v1.ClusterRole", &["rules"]),
    ("api.rbac.v1.ClusterRoleBinding", &["roleRef"]),
    ("api.rbac.v1.Role", &["rules"]),
    ("api.rbac.v1.RoleBinding", &["roleRef"]),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec",
        &["names", "versions"],
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        &["acceptedNames", "conditions", "storedVersions"],
    ),
];

const PREFIX: &str = "io.k8s.";

impl Schemas {
    /// The zero value of a kind; null if nothing is known of it.
    pub fn zero(&self, group: &str, version: &str, kind: &str) -> &Value {
        let name = self.name_of(group, version, kind);
        name.and_then(|name| self.kept_zero(name, || self.zero_of_kind(name))).unwrap_or(&Value::Null)
    }

    fn zero_of_kind(&self, name: &str) -> Value {
        let mut fields = Map::new();
        for field in ["spec", "status"] {
            if let Some(inner) = self.property(name, field) {
                fields.insert(field.to_owned(), self.zero_of(inner));
            }
        }
        if let Value::Object(rest) = self.zero_of(name) {
            fields.extend(rest);
        }
        Value::Object(fields)
    }

    /// The definition that a field refers to, if it is an object.
    fn property(&self, definition: &str, field: &str) -> Option<&str> {
        let inner = reference(self.definition(definition)?.get("properties")?.get(field)?)?;
        (self.definition(inner)?.get("type")? == "object").then_some(inner)
    }

    fn zero_of(&self, definition: &str) -> Value {
        let short = definition.strip_prefix(PREFIX).unwrap_or_default();
        let fields = ALWAYS.iter().find(|(name, _)| *name == short).map_or(&[][..], |(_, fields)| fields);
        let zero = |field: &&str| {
            let value = self.property(definition, field).map_or_else(
                || {
                    let kind = self
                        .definition(definition)
                        .and_then(|own| own.pointer(&format!("/properties/{field}/type")));
                    match kind.and_then(Value::as_str) {
                        Some("string") => "".into(),
                        Some("integer") => 0.into(),
                        _ => Value::Null,
                    }
                },
                |inner| self.zero_of(inner),
            );
            ((*field).to_owned(), value)
        };
        Value::Object(fields.iter().map(zero).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn structs_are_there_and_pointers_are_not() {
        let schemas = Schemas::builtin();
        assert_eq!(
            *schemas.zero("apps", "v1", "Deployment"),
            json!({
                "spec": {"strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}},
                "status": {},
            })
        );
        assert_eq!(*schemas.zero("", "v1", "ConfigMap"), json!({}));
    }

    #[test]
    fn every_entry_names_a_field_that_there_is() {
        let schemas = Schemas::builtin();
        for (name, fields) in ALWAYS {
            let definition = schemas.definition(&format!("{PREFIX}{name}"));
            for field in *fields {
                let found = definition.and_then(|definition| definition.get("properties")?.get(field));
                assert!(found.is_some(), "{name}.{field}");
            }
        }
    }
}
