//! Small accessors for Kubernetes objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Namespace and name; empty where there is none.
pub(crate) fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

pub(crate) fn owner(api_version: &str, kind: &str, meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What controls it, if anything does.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub(crate) fn pod_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn selects(selector: &BTreeMap<String, String>, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

/// The port on the pods. Named ports are not resolved: the Service's own port stands for them.
pub(crate) fn target_port(port: &ServicePort) -> i32 {
    match port.target_port {
        Some(IntOrString::Int(number)) if number > 0 => number,
        _ => port.port,
    }
}

/// The port that a pod's server listens on: its first container port, or 8080.
pub(crate) fn container_port(pod: &Pod) -> u16 {
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let port = first
        .and_then(|container| container.ports.as_ref()?.first())
        .map_or(8080, |port| port.container_port);
    u16::try_from(port).unwrap_or(8080)
}

/// A short name for a pod template's content, stable across processes.
pub(crate) fn hash_of_template(template: &PodTemplateSpec) -> String {
    // FNV-1a, 64 bit: names need no more.
    let text = serde_json::to_string(template).unwrap_or_default();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:010x}", hash & 0xff_ffff_ffff)
}

pub(crate) fn label_of_hash(hash: &str) -> (String, String) {
    ("pod-template-hash".into(), hash.into())
}
