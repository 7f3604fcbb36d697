//! What tests write, and where.

use serde_json::{Value, json};

/// A ConfigMap.
pub(crate) fn config_map(name: &str, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": data}})
}

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const EVENTS: &str = "/api/v1/namespaces/default/events";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const PLACEMENTS: &str = "/apis/federation.rs/v1alpha1/namespaces/default/placements";
pub(crate) const POLICIES: &str = "/apis/federation.rs/v1alpha1/namespaces/default/placementpolicies";
pub(crate) const CLUSTERS: &str = "/apis/federation.rs/v1alpha1/clusters";

/// A Deployment whose pods answer on port 8080.
pub(crate) fn deployment(name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "example.test/web:1",
            "ports": [{"containerPort": 8080}]}]}}}})
}

/// A policy for one kind.
pub(crate) fn policy(api_version: &str, kind: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["resourceSelectors"] = json!([{"apiVersion": api_version, "kind": kind}]);
    json!({"apiVersion": "federation.rs/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": "policy"}, "spec": spec})
}

/// How a copy is marked: `Some(uid)` of its template while it is the federation's.
pub(crate) fn template_uid(copy: &Value) -> Option<&str> {
    (copy["metadata"]["labels"]["federation.rs/managed"] == "true")
        .then(|| copy["metadata"]["annotations"]["federation.rs/template-uid"].as_str().unwrap())
}
