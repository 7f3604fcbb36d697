//! Pods that nobody else ends, after `podgc` of kube-controller-manager.
//!
//! A deleted Pod stays until the kubelet of its node says that it ended. Where no kubelet can, it is removed here: when its node does
//! not exist, or is out of service, or never had a kubelet. Templates that have copies in members are not touched: their pods
//! run there, and the controller ends them.

use std::collections::BTreeMap;

use federation_core::api::marks;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Action, action::Condition};
use crate::{
    store::{Key, ResourceKey, Snapshot, Stored},
    validation::{condition, holds, pod},
};

/// How long a node must be missed until its pods are taken for lost, as in kube-controller-manager: it may be made after them.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);

/// Nodes that pods name and that do not exist, and since when that is known.
#[derive(Default)]
pub(super) struct MissingNodes(BTreeMap<String, Timestamp>);

/// The pods to end at `now`.
pub(super) fn endings(snapshot: &Snapshot, missed: &mut MissingNodes, now: Timestamp) -> Vec<Action> {
    let nodes = ResourceKey::new("", "nodes");
    // Where there are no nodes at all, a pod that names one is a manifest and no process: it stays until it is deleted.
    let any = snapshot.range(&nodes, None, None).next().is_some();
    let mut still = BTreeMap::new();
    let mut actions = Vec::new();
    for pod in snapshot.range(&ResourceKey::new("", "pods"), None, None) {
        if pod.meta.finalizers.iter().any(|finalizer| finalizer == marks::FINALIZER) {
            continue;
        }
        let end = |condition| Action::End { key: pod.key.clone(), uid: pod.meta.uid.clone(), condition };
        let deleting = pod.meta.deleting;
        let name = pod.meta.fields.get("spec.nodeName").map_or("", String::as_str);
        if name.is_empty() {
            if deleting {
                actions.push(end(None));
            }
            continue;
        }
        if let Some(node) = snapshot.get(&Key::new(nodes.clone(), "", name)) {
            if deleting
                && (is_out_of_service(&node) || is_long_past(&pod, now) && never_lived(snapshot, &node))
            {
                actions.push(end(None));
            }
            continue;
        }
        let since = missed.0.get(name).copied().unwrap_or(now);
        still.insert(name.to_owned(), since);
        if now.duration_since(since) >= QUARANTINE && (any || deleting) {
            actions.push(end(Some(lost())));
        }
    }
    missed.0 = still;
    actions
}

fn lost() -> Condition {
    Condition {
        kind: "DisruptionTarget",
        holds: true,
        reason: "DeletionByPodGC",
        message: "PodGC: node no longer exists".to_owned(),
    }
}

/// Tells of a pod that it failed, and why. Returns whether that is news: what has ended stays as it is.
pub(super) fn fail(pod: &mut Value, condition: Option<&Condition>, now: Timestamp) -> bool {
    if pod::has_ended(pod) {
        return false;
    }
    pod["status"]["phase"] = "Failed".into();
    if let Some(condition) = condition {
        condition.set(pod, now);
    }
    true
}

/// Whether an operator says that nothing runs on a node any more, and it does not say otherwise (KEP-2268).
fn is_out_of_service(node: &Stored) -> bool {
    let Ok(node) = node.value() else { return false };
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.any(|taint| taint["key"] == "node.kubernetes.io/out-of-service") && !holds(&node, "Ready")
}

/// Whether no kubelet ever spoke for a node, so that nothing can run there.
fn never_lived(snapshot: &Snapshot, node: &Stored) -> bool {
    let leases = ResourceKey::new("coordination.k8s.io", "leases");
    snapshot.get(&Key::new(leases, "kube-node-lease", node.key.name.as_str())).is_none()
        && node.value().is_ok_and(|node| condition(&node, "Ready").is_none())
}

fn is_long_past(pod: &Stored, now: Timestamp) -> bool {
    let Ok(pod) = pod.value() else { return false };
    let until = pod["metadata"]["deletionTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    until.is_some_and(|until| now.duration_since(until) >= QUARANTINE)
}
