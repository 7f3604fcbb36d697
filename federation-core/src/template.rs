//! The view of a template (the user's object, as stored) that decisions are made from.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

/// A view of one template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// As in the manifest: `apps/v1`, `v1`.
    pub api_version: String,
    /// As in the manifest.
    pub kind: String,
    /// The plural, as in the URL.
    pub resource: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// metadata.uid.
    pub uid: String,
    /// See [`generation`].
    pub generation: i64,
    /// metadata.labels.
    pub labels: BTreeMap<String, String>,
    /// metadata.annotations.
    pub annotations: BTreeMap<String, String>,
    /// Wanted replicas; `None` for kinds without replicas. Kubernetes' default of 1 is filled in.
    pub replicas: Option<i64>,
    /// `type` of a Secret; empty otherwise.
    pub secret_type: String,
    /// A controller owns the object: a ReplicaSet of a Deployment, for example.
    pub controlled: bool,
    /// What its pods may take to end, milliseconds: the pod template's terminationGracePeriodSeconds, or its default.
    pub grace_ms: i64,
    /// metadata.deletionTimestamp is set.
    pub deleting: bool,
}

/// Why a value is no template.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// A field that every stored object has is missing.
    #[error("{0}: missing")]
    Missing(&'static str),
}

impl Template {
    /// Reads a stored object; `resource` is its plural.
    pub fn from_value(resource: &str, object: &Value) -> Result<Self, TemplateError> {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let required = |pointer: &'static str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or(TemplateError::Missing(pointer))
        };
        let map = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let kind = required("/kind")?;
        let replicas = has_replicas(&kind)
            .then(|| object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1));
        let controlled = object
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
        Ok(Self {
            api_version: required("/apiVersion")?,
            resource: resource.to_owned(),
            namespace: text("/metadata/namespace"),
            name: required("/metadata/name")?,
            uid: text("/metadata/uid"),
            generation: generation(object),
            labels: map("/metadata/labels"),
            annotations: map("/metadata/annotations"),
            replicas,
            secret_type: if kind == "Secret" { text("/type") } else { String::new() },
            controlled,
            grace_ms: object
                .pointer("/spec/template/spec/terminationGracePeriodSeconds")
                .and_then(Value::as_i64)
                .unwrap_or(30)
                .saturating_mul(1000),
            deleting: object.pointer("/metadata/deletionTimestamp").is_some_and(|value| !value.is_null()),
            kind,
        })
    }

    /// The API group; empty for core.
    pub fn group(&self) -> &str {
        crate::select::group_of(&self.api_version)
    }

    /// The version.
    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(&self.api_version, |(_, version)| version)
    }

    /// `namespace/name`, or the name alone for cluster-scoped kinds: the planner's key.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// Name of the template's Placement: `<plural>[.<group>].<name>`.
    pub fn placement_name(&self) -> String {
        match self.group() {
            "" => format!("{}.{}", self.resource, self.name),
            group => format!("{}.{group}.{}", self.resource, self.name),
        }
    }

    /// The API as members list it in `Cluster.status.apis`: `apps/v1/Deployment`, `v1/Secret`.
    pub fn api(&self) -> String {
        format!("{}/{}", self.api_version, self.kind)
    }
}

/// The number that rises with each change of what is wanted: metadata.generation, or, for kinds that have none
/// (Secret, ConfigMap, …), the resourceVersion. 0 if neither is there.
pub fn generation(object: &Value) -> i64 {
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    object
        .pointer("/metadata/generation")
        .and_then(number)
        .filter(|generation| *generation > 0)
        .or_else(|| object.pointer("/metadata/resourceVersion").and_then(number))
        .unwrap_or_default()
}

/// Whether objects of this kind have `spec.replicas` that may be divided.
pub fn has_replicas(kind: &str) -> bool {
    matches!(kind, "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_without_replicas_wants_one() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {},
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": "9"}});
        let template = Template::from_value("deployments", &object).unwrap();
        assert_eq!((template.replicas, template.generation), (Some(1), 3));
        assert_eq!((template.group(), template.version()), ("apps", "v1"));
        assert_eq!(template.placement_name(), "deployments.apps.web");
        assert_eq!(template.api(), "apps/v1/Deployment");
        assert_eq!(template.key(), "shop/web");
    }

    #[test]
    fn a_kind_without_generation_counts_by_resource_version() {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "s", "namespace": "shop", "resourceVersion": "41"}});
        let template = Template::from_value("secrets", &object).unwrap();
        assert_eq!((template.generation, template.replicas), (41, None));
        assert_eq!(
            (template.placement_name().as_str(), template.secret_type.as_str()),
            ("secrets.s", "Opaque")
        );
    }
}
