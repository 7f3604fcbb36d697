//! Objects that a cluster has from its first moment: the two priority classes of the system, and an APIService for each
//! group version that this server serves.

use serde_json::{Value, json};

use super::{Action, Edit};
use crate::{
    kinds::apiregistration,
    registry::Registry,
    store::{Key, ResourceKey, Snapshot},
};

/// (name, value, description), as kube-apiserver's post-start hook makes them.
const PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// Groups in the order in which a name without a group is looked up, with their least priority: kube-apiserver's table.
const PRIORITIES: &[(&str, i64)] = &[
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("resource.k8s.io", 15900),
];

/// The priority of groups that the table does not know: that of custom resources.
const OTHER_PRIORITY: i64 = 1000;

/// Where servers of group versions behind this one read whom to believe.
const EXTENSION_AUTHENTICATION: &str = "extension-apiserver-authentication";

/// Whether a change of this object may have taken away what this module makes.
pub(super) fn concerns(key: &Key) -> bool {
    &*key.resource.resource == "configmaps" && key.name == EXTENSION_AUTHENTICATION
}

/// Keeps the ConfigMap for servers of group versions behind this one.
pub(super) fn extension_authentication(snapshot: &Snapshot, data: &Value) -> Option<Action> {
    let key = Key::new(ResourceKey::new("", "configmaps"), "kube-system", EXTENSION_AUTHENTICATION);
    let Some(found) = snapshot.get(&key) else {
        let metadata = json!({"name": EXTENSION_AUTHENTICATION, "namespace": "kube-system"});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
        return Some(Action::Create { key, object });
    };
    let right = found.value().is_ok_and(|object| object["data"] == *data);
    (!right).then(|| Action::Edit { key, uid: found.meta.uid.clone(), edit: Edit::Data(data.clone()) })
}

/// Makes the priority classes that are not there.
pub(super) fn classes(snapshot: &Snapshot) -> Vec<Action> {
    missing(
        snapshot,
        PRIORITY_CLASSES.iter().map(|(name, value, description)| {
            let key = Key::new(ResourceKey::new("scheduling.k8s.io", "priorityclasses"), "", *name);
            let object = json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name, "generation": 1},
                "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
            });
            (key, object)
        }),
    )
}

/// Makes the APIServices that are not there.
pub(super) fn services(snapshot: &Snapshot) -> Vec<Action> {
    missing(snapshot, Registry::get().group_versions().into_iter().map(|(group, version)| {
        let known = PRIORITIES.iter().find(|(name, _)| *name == group).map(|(_, priority)| *priority);
        // The preferred version of a group is the higher one.
        let version_priority = match (group, version) {
            ("", _) => 1,
            (_, "v2") => 30,
            _ if known.is_none() => 100,
            _ => 15,
        };
        let name = format!("{version}.{group}");
        let object = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name, "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
            "spec": {
                "group": group, "version": version, "versionPriority": version_priority,
                "groupPriorityMinimum": known.unwrap_or(OTHER_PRIORITY),
            },
            "status": apiregistration::local(),
        });
        (Key::new(ResourceKey::new("apiregistration.k8s.io", "apiservices"), "", name), object)
    }))
}

fn missing(snapshot: &Snapshot, wanted: impl Iterator<Item = (Key, Value)>) -> Vec<Action> {
    wanted
        .filter(|(key, _)| snapshot.get(key).is_none())
        .map(|(key, object)| Action::Create { key, object })
        .collect()
}
