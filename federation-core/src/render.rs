//! The manifest of a template for one member.

use json_patch::PatchErrorKind;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::api::{ClusterTarget, Override, marks};
use crate::placement::Decision;
use crate::select::group_of;
use crate::template;

/// Metadata that the federation's API server sets, and that has no meaning in a member.
const SERVER_METADATA: [&str; 11] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Annotations that are bookkeeping of one API server and its clients.
const LOCAL_ANNOTATIONS: [&str; 5] = [
    "deprecated.daemonset.template.generation",
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
    marks::ADOPTED,
    marks::DELETION_PROPAGATION,
];

/// Why a template could not be rendered for a cluster.
#[derive(Debug, Error)]
pub enum RenderError {
    /// The template is not an object, or has no metadata.
    #[error("the template is not an object with metadata")]
    Shape,
    /// An override is no JSON Patch.
    #[error("overrides[{index}].jsonPatch: not a JSON Patch (RFC 6902): {source}")]
    PatchSyntax {
        /// Position of the override.
        index: usize,
        /// What serde says.
        source: serde_json::Error,
    },
    /// An override does not fit the template.
    #[error("overrides[{index}].jsonPatch[{operation}]: {path}: {source}")]
    PatchApply {
        /// Position of the override.
        index: usize,
        /// Position of the operation.
        operation: usize,
        /// The operation's path.
        path: String,
        /// What is wrong.
        source: PatchErrorKind,
    },
    /// An override could grant permissions that its author does not have.
    #[error(
        "overrides: {kind} of rbac.authorization.k8s.io takes none from a PlacementPolicy, since who may write one need not hold what a changed one grants; a ClusterPlacementPolicy may have them"
    )]
    Escalation {
        /// The template's kind.
        kind: String,
    },
    /// An override changes what the object is.
    #[error("overrides: {field} must not be changed")]
    Identity {
        /// The field.
        field: &'static str,
    },
}

/// Renders `template` as `decision` says for the cluster of `target`, one of the decision's; see [`render`].
///
/// # Errors
/// Besides those of [`render`]: overrides of a namespace's policy for what grants permissions. The API server checks that nobody
/// grants what he does not hold (Kubernetes' escalation check) when the template is written, and sees no override.
pub fn render_by(
    template: &Value,
    decision: &Decision,
    target: &ClusterTarget,
    epoch: u64,
) -> Result<Value, RenderError> {
    let text = |field: &str| template.get(field).and_then(Value::as_str).unwrap_or_default();
    let applies = |change: &Override| change.clusters.is_empty() || change.clusters.contains(&target.name);
    if decision.policy_of_namespace
        && group_of(text("apiVersion")) == "rbac.authorization.k8s.io"
        && decision.overrides.iter().any(applies)
    {
        return Err(RenderError::Escalation { kind: text("kind").to_owned() });
    }
    render(template, target, &decision.overrides, epoch)
}

/// Renders `template` for the cluster of `target`: without status and what the server wrote, with the target's replicas, then the
/// overrides in order, then the federation's marks (which no override can forge).
pub fn render(
    template: &Value,
    target: &ClusterTarget,
    overrides: &[Override],
    epoch: u64,
) -> Result<Value, RenderError> {
    let uid = template.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
    let generation = template::generation(template);
    let mut manifest = stripped(template)?;
    if let Some(replicas) = target.replicas {
        manifest["spec"]["replicas"] = json!(replicas);
    }
    for (index, change) in overrides.iter().enumerate() {
        if change.clusters.is_empty() || change.clusters.contains(&target.name) {
            patch(&mut manifest, index, change)?;
        }
    }
    leave_defaults(&mut manifest);
    for field in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
        if manifest.pointer(field) != template.pointer(field) {
            return Err(RenderError::Identity { field });
        }
    }
    let metadata = manifest["metadata"].as_object_mut().ok_or(RenderError::Shape)?;
    entries(metadata, "labels")?.insert(marks::MANAGED.into(), "true".into());
    let annotations = entries(metadata, "annotations")?;
    annotations.insert(marks::TEMPLATE_UID.into(), uid.into());
    annotations.insert(marks::TEMPLATE_GENERATION.into(), generation.to_string().into());
    annotations.insert(marks::EPOCH.into(), epoch.to_string().into());
    Ok(manifest)
}

fn stripped(template: &Value) -> Result<Value, RenderError> {
    let mut manifest = template.as_object().ok_or(RenderError::Shape)?.clone();
    manifest.remove("status");
    let kind = manifest.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let owned = Owned::of(template);
    let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut).ok_or(RenderError::Shape)?;
    // Other finalizers belong to controllers of the federation's API server: no member has them, and a copy would never go away.
    metadata.retain(|key, _| !SERVER_METADATA.contains(&key.as_str()));
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !LOCAL_ANNOTATIONS.contains(&key.as_str()));
    }
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut)
        && kind == "Job"
    {
        labels.retain(|key, _| !JOB_LABELS.contains(&key.as_str()));
    }
    if let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
        match kind.as_str() {
            "Service" => strip_service(spec, &owned),
            "Job" => strip_job(spec),
            "Namespace" => {
                spec.remove("finalizers");
            }
            _ => {}
        }
    }
    Ok(Value::Object(manifest))
}

/// Defaults that our API server wrote, of fields that members of Kubernetes 1.20 refuse in server-side apply: JSON pointers
/// and values. Members that have the fields write the same defaults.
type Defaults = &'static [(&'static str, &'static str)];

/// 1.21 brought the first, 1.20 the second behind a gate.
const SERVICE_DEFAULTS: Defaults =
    &[("/internalTrafficPolicy", r#""Cluster""#), ("/allocateLoadBalancerNodePorts", "true")];
/// Before 1.26 this is refused for a Service with external addresses that is neither of type NodePort nor LoadBalancer.
const EXTERNAL_SERVICE_DEFAULTS: Defaults = &[("/externalTrafficPolicy", r#""Cluster""#)];
const STATEFUL_SET_DEFAULTS: Defaults =
    &[("/persistentVolumeClaimRetentionPolicy", r#"{"whenDeleted":"Retain","whenScaled":"Retain"}"#)];
const DAEMON_SET_DEFAULTS: Defaults = &[("/updateStrategy/rollingUpdate/maxSurge", "0")];
const JOB_DEFAULTS: Defaults = &[
    ("/completionMode", r#""NonIndexed""#),
    ("/podReplacementPolicy", r#""TerminatingOrFailed""#),
    ("/suspend", "false"),
];

/// Defaults stay behind after the overrides, which may replace or test what the template shows.
fn leave_defaults(manifest: &mut Value) {
    let kind = manifest.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) else { return };
    match kind.as_str() {
        "Service" => {
            strip_defaults(spec, SERVICE_DEFAULTS);
            // Who owns it says nothing here: defaults of what was not applied are owned by whoever wrote the object.
            if spec.get("type").and_then(Value::as_str).unwrap_or("ClusterIP") == "ClusterIP" {
                strip_defaults(spec, EXTERNAL_SERVICE_DEFAULTS);
            }
        }
        "StatefulSet" => strip_defaults(spec, STATEFUL_SET_DEFAULTS),
        "DaemonSet" => strip_defaults(spec, DAEMON_SET_DEFAULTS),
        "Job" => strip_defaults(spec, JOB_DEFAULTS),
        _ => {}
    }
}

fn strip_defaults(spec: &mut Map<String, Value>, defaults: Defaults) {
    for (pointer, default) in defaults {
        let Some((parent, name)) = pointer.rsplit_once('/') else { continue };
        let mut steps = parent.split('/').filter(|step| !step.is_empty());
        let place = steps.try_fold(&mut *spec, |at, step| at.get_mut(step)?.as_object_mut());
        if let Some(place) = place
            && serde_json::from_str(default).is_ok_and(|default: Value| place.get(name) == Some(&default))
        {
            place.remove(name);
        }
    }
}

/// Labels that a Job's API server makes from its uid and name.
const JOB_LABELS: [&str; 4] =
    ["batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"];

/// The selector of a Job is made from its uid, and each member's copy has one of its own.
fn strip_job(spec: &mut Map<String, Value>) {
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    spec.remove("selector");
    let labels = spec.get_mut("template").and_then(|template| template.pointer_mut("/metadata/labels"));
    if let Some(labels) = labels.and_then(Value::as_object_mut) {
        labels.retain(|key, _| !JOB_LABELS.contains(&key.as_str()));
    }
}

/// Cluster IPs and node ports are each member's own to allocate, but for those that a user asked for.
fn strip_service(spec: &mut Map<String, Value>, owned: &Owned<'_>) {
    let headless = spec.get("clusterIP").and_then(Value::as_str) == Some("None");
    if !headless {
        if !owned.has(&["f:spec", "f:clusterIP"]) {
            spec.remove("clusterIP");
        }
        if !owned.has(&["f:spec", "f:clusterIPs"]) {
            spec.remove("clusterIPs");
        }
    }
    for (field, owner) in [
        ("healthCheckNodePort", "f:healthCheckNodePort"),
        ("ipFamilies", "f:ipFamilies"),
        ("ipFamilyPolicy", "f:ipFamilyPolicy"),
    ] {
        if !owned.has(&["f:spec", owner]) {
            spec.remove(field);
        }
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        let number = port.get("port").and_then(Value::as_u64).unwrap_or_default();
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        let key = format!("k:{{\"port\":{number},\"protocol\":\"{protocol}\"}}");
        if !owned.has(&["f:spec", "f:ports", &key, "f:nodePort"]) {
            port.remove("nodePort");
        }
    }
}

/// Who asked for a field: what an API server allocates has no owner among the managed fields.
enum Owned<'a> {
    /// The object's managed fields.
    Fields(Vec<&'a Value>),
    /// The object has no managed fields: it is as the user wrote it.
    AsWritten,
}

impl<'a> Owned<'a> {
    fn of(template: &'a Value) -> Self {
        match template.pointer("/metadata/managedFields").and_then(Value::as_array) {
            Some(managers) if !managers.is_empty() => {
                Self::Fields(managers.iter().filter_map(|manager| manager.get("fieldsV1")).collect())
            }
            _ => Self::AsWritten,
        }
    }

    fn has(&self, path: &[&str]) -> bool {
        match self {
            Self::AsWritten => true,
            Self::Fields(sets) => {
                sets.iter().any(|set| path.iter().try_fold(*set, |at, key| at.get(key)).is_some())
            }
        }
    }
}

fn patch(manifest: &mut Value, index: usize, change: &Override) -> Result<(), RenderError> {
    let operations = Value::Array(change.json_patch.clone());
    let patch: json_patch::Patch =
        serde_json::from_value(operations).map_err(|source| RenderError::PatchSyntax { index, source })?;
    json_patch::patch(manifest, &patch).map_err(|error| RenderError::PatchApply {
        index,
        operation: error.operation,
        path: error.path.to_string(),
        source: error.kind,
    })
}

fn entries<'a>(
    metadata: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, RenderError> {
    let value = metadata.entry(key).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or(RenderError::Shape)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u-1", "generation": 4, "resourceVersion": "77",
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "kubectl"}],
                "finalizers": [marks::FINALIZER], "labels": {"app": "web"},
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    "deployment.kubernetes.io/revision": "2",
                    "note": "kept",
                },
            },
            "spec": {"replicas": 4, "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
            "status": {"replicas": 4},
        })
    }

    fn target(name: &str, replicas: Option<i64>) -> ClusterTarget {
        ClusterTarget { name: name.into(), replicas, ..ClusterTarget::default() }
    }

    fn image(clusters: &[&str], image: &str) -> Override {
        Override {
            clusters: clusters.iter().map(|name| (*name).to_owned()).collect(),
            json_patch: vec![
                json!({"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}),
            ],
        }
    }

    #[test]
    fn a_member_gets_the_users_object_with_its_share_and_the_marks() {
        let manifest = render(&deployment(), &target("taiwan", Some(3)), &[], 9).unwrap();
        assert_eq!(
            manifest,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {
                    "name": "web", "namespace": "shop",
                    "labels": {"app": "web", "federation.rs/managed": "true"},
                    "annotations": {
                        "note": "kept",
                        "federation.rs/template-uid": "u-1",
                        "federation.rs/template-generation": "4",
                        "federation.rs/epoch": "9",
                    },
                },
                "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
            })
        );
    }

    #[test]
    fn overrides_change_only_the_clusters_that_they_name() {
        let overrides = [image(&["tokyo"], "web:tokyo")];
        let at = "/spec/template/spec/containers/0/image";
        let taiwan = render(&deployment(), &target("taiwan", None), &overrides, 1).unwrap();
        let tokyo = render(&deployment(), &target("tokyo", None), &overrides, 1).unwrap();
        assert_eq!(
            (taiwan.pointer(at).unwrap(), tokyo.pointer(at).unwrap()),
            (&json!("web:1"), &json!("web:tokyo"))
        );
        assert_eq!(taiwan.pointer("/spec/replicas"), Some(&json!(4)));
    }

    #[test]
    fn a_policy_of_a_namespace_changes_nothing_that_grants_permissions() {
        let role = |kind: &str| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": "r", "namespace": "shop", "uid": "u"}, "rules": [],
            })
        };
        let grants = Override {
            clusters: vec!["tokyo".into()],
            json_patch: vec![json!({"op": "add", "path": "/rules/-", "value": {"verbs": ["*"]}})],
        };
        let by = |policy_of_namespace| Decision {
            policy_of_namespace,
            overrides: vec![grants.clone()],
            ..Decision::default()
        };
        let (taiwan, tokyo) = (target("taiwan", None), target("tokyo", None));
        for kind in ["Role", "RoleBinding"] {
            let refused = render_by(&role(kind), &by(true), &tokyo, 1).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("overrides: {kind} of rbac")), "{refused}");
            assert_eq!(render_by(&role(kind), &by(true), &taiwan, 1).unwrap()["rules"], json!([]));
            assert_eq!(
                render_by(&role(kind), &by(false), &tokyo, 1).unwrap()["rules"][0]["verbs"],
                json!(["*"])
            );
        }
    }

    #[test]
    fn a_bad_override_is_refused_with_its_place() {
        let mut absent = image(&[], "x");
        absent.json_patch = vec![json!({"op": "replace", "path": "/spec/absent", "value": 1})];
        let refuse = |change: Override| {
            render(&deployment(), &target("taiwan", None), &[image(&[], "y"), change], 1)
                .unwrap_err()
                .to_string()
        };
        assert!(refuse(absent.clone()).starts_with("overrides[1].jsonPatch[0]: /spec/absent"));
        absent.json_patch = vec![json!({"op": "change"})];
        assert!(refuse(absent.clone()).starts_with("overrides[1].jsonPatch: not a JSON Patch"));
        absent.json_patch = vec![json!({"op": "replace", "path": "/metadata/name", "value": "other"})];
        assert_eq!(refuse(absent), "overrides: /metadata/name must not be changed");
    }

    #[test]
    fn an_override_cannot_forge_the_marks() {
        let forged = Override {
            clusters: vec![],
            json_patch: vec![
                json!({"op": "add", "path": "/metadata/annotations/federation.rs~1epoch", "value": "999"}),
                json!({"op": "remove", "path": "/metadata/labels"}),
            ],
        };
        let manifest = render(&deployment(), &target("taiwan", None), &[forged], 5).unwrap();
        assert_eq!(manifest["metadata"]["annotations"][marks::EPOCH], "5");
        assert_eq!(manifest["metadata"]["labels"][marks::MANAGED], "true");
    }

    #[test]
    fn defaults_that_old_members_do_not_know_stay_behind() {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "LoadBalancer", "internalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true},
        });
        let taiwan = target("taiwan", None);
        assert_eq!(render(&service, &taiwan, &[], 1).unwrap()["spec"], json!({"type": "LoadBalancer"}));
        service["spec"] = json!({"internalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false});
        assert_eq!(render(&service, &taiwan, &[], 1).unwrap()["spec"], service["spec"]);
    }

    #[test]
    fn overrides_find_the_defaults_that_the_template_shows() {
        let object = |kind: &str, spec: &Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "n"}, "spec": spec});
        for (kind, field, default, other) in [
            ("Service", "externalTrafficPolicy", json!("Cluster"), json!("Local")),
            ("Service", "internalTrafficPolicy", json!("Cluster"), json!("Local")),
            ("Job", "suspend", json!(false), json!(true)),
        ] {
            let path = format!("/spec/{field}");
            let change = Override {
                clusters: vec![],
                json_patch: vec![
                    json!({"op": "test", "path": path, "value": default}),
                    json!({"op": "replace", "path": path, "value": other}),
                ],
            };
            let template = object(kind, &json!({field: default}));
            let manifest = render(&template, &target("taiwan", None), &[change], 1).unwrap();
            assert_eq!(manifest["spec"], json!({field: other}));
        }
    }

    #[test]
    fn an_external_traffic_policy_is_enforced_where_members_of_all_versions_know_it() {
        let copy = |kind: &str| {
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"type": kind, "externalIPs": ["203.0.113.5"], "externalTrafficPolicy": "Cluster"},
            });
            let copy = render(&service, &target("taiwan", None), &[], 1).unwrap();
            copy.pointer("/spec/externalTrafficPolicy").is_some()
        };
        assert!(copy("NodePort") && copy("LoadBalancer"), "what a member has by itself is replaced");
        assert!(!copy("ClusterIP"), "members before 1.26 refuse it");
    }

    #[test]
    fn a_job_leaves_its_generated_selector_behind() {
        let labels = json!({"app": "a", "controller-uid": "u", "batch.kubernetes.io/job-name": "a"});
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": labels},
            "spec": {"selector": {"matchLabels": {"controller-uid": "u"}}, "suspend": false, "completions": 2,
                "template": {"metadata": {"labels": labels}}},
        });
        let taiwan = ClusterTarget { name: "taiwan".into(), ..ClusterTarget::default() };
        let copy = render(&job, &taiwan, &[], 1).unwrap();
        assert_eq!(
            copy["spec"],
            json!({"completions": 2, "template": {"metadata": {"labels": {"app": "a"}}}})
        );
        assert_eq!(copy["metadata"]["labels"], json!({"app": "a", "federation.rs/managed": "true"}));
    }

    #[test]
    fn allocated_addresses_stay_behind_and_asked_ones_travel() {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop", "managedFields": [{"manager": "kubectl", "fieldsV1": {
                "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:nodePort": {}}}}}}]},
            "spec": {
                "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "type": "NodePort",
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 443, "nodePort": 31111}],
            },
        });
        let taiwan = target("taiwan", None);
        let manifest = render(&service, &taiwan, &[], 1).unwrap();
        assert_eq!(
            manifest["spec"],
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}, {"port": 443}]})
        );
        service["spec"]["clusterIP"] = json!("None");
        assert_eq!(render(&service, &taiwan, &[], 1).unwrap()["spec"]["clusterIP"], "None");
        // Without managed fields the object is as the user wrote it.
        service["metadata"].as_object_mut().unwrap().remove("managedFields");
        service["spec"]["clusterIP"] = json!("10.0.0.7");
        assert_eq!(render(&service, &taiwan, &[], 1).unwrap()["spec"]["clusterIP"], "10.0.0.7");
    }
}
