//! The life of namespaces.

use std::{collections::BTreeMap, sync::Arc};

use federation_core::api::marks;
use serde_json::{Value, json};

use super::{Action, Edit, action::Condition};
use crate::{
    deletion::Propagation,
    store::{Key, ResourceKey, Snapshot, Stored},
};

/// The namespaces that must exist.
const REQUIRED: [&str; 5] =
    ["default", "kube-system", "kube-public", "kube-node-lease", marks::SYSTEM_NAMESPACE];
/// The ConfigMap that tells workloads whom to trust.
const ROOT_CA: &str = "kube-root-ca.crt";

/// Whether a change of this object may have taken away what [`required`] makes.
pub(super) fn concerns(key: &Key) -> bool {
    match &*key.resource.resource {
        "namespaces" => true,
        "serviceaccounts" => key.name == "default",
        "configmaps" => key.name == ROOT_CA,
        _ => false,
    }
}

/// Makes what must exist and does not: namespaces, and in each active one the ServiceAccount `default` and the root CA.
pub(super) fn required(snapshot: &Snapshot, root_ca_pem: Option<&str>) -> Vec<Action> {
    let mut actions = Vec::new();
    let namespaces = ResourceKey::new("", "namespaces");
    for name in REQUIRED {
        let key = Key::new(namespaces.clone(), "", name);
        if snapshot.get(&key).is_none() {
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            actions.push(Action::Create { key, object });
        }
    }
    for namespace in snapshot.range(&namespaces, None, None).filter(|namespace| !namespace.meta.deleting) {
        let name = &namespace.key.name;
        let key = Key::new(ResourceKey::new("", "serviceaccounts"), name, "default");
        if snapshot.get(&key).is_none() {
            let object = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name},
            });
            actions.push(Action::Create { key, object });
        }
        actions.extend(root_ca_pem.and_then(|pem| root_ca(snapshot, name, pem)));
    }
    actions
}

fn root_ca(snapshot: &Snapshot, namespace: &str, pem: &str) -> Option<Action> {
    let key = Key::new(ResourceKey::new("", "configmaps"), namespace, ROOT_CA);
    let data = json!({"ca.crt": pem});
    let Some(found) = snapshot.get(&key) else {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": ROOT_CA, "namespace": namespace, "annotations": {
                "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when \
                    using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage \
                    is guaranteed across distributions of Kubernetes clusters.",
            }},
        });
        return Some(Action::Create { key, object });
    };
    let right = found.value().is_ok_and(|object| object["data"] == data);
    (!right).then(|| Action::Edit { key, uid: found.meta.uid.clone(), edit: Edit::Data(data) })
}

/// Goes on with the end of each namespace that is being deleted.
pub(super) fn endings(snapshot: &Snapshot, namespaced: &[ResourceKey]) -> Vec<Action> {
    let namespaces = ResourceKey::new("", "namespaces");
    let ending = snapshot.range(&namespaces, None, None).filter(|namespace| namespace.meta.deleting);
    ending
        .flat_map(|namespace| {
            let contents: Vec<_> = namespaced
                .iter()
                .flat_map(|resource| {
                    snapshot.range(resource, Some(&namespace.key.name), None).collect::<Vec<_>>()
                })
                .collect();
            let asked = namespace.value().ok().and_then(|object| asked(&object));
            decide(&namespace, asked, &contents)
        })
        .collect()
}

/// What the namespace's delete asked for. Its contents are deleted with the same request: a delete that asked nothing
/// leaves their copies in the members.
fn asked(namespace: &Value) -> Option<Propagation> {
    Propagation::parse(namespace["metadata"]["annotations"][marks::DELETION_PROPAGATION].as_str()?)
}

fn decide(namespace: &Stored, asked: Option<Propagation>, contents: &[Arc<Stored>]) -> Vec<Action> {
    let edit = |edit| Action::Edit { key: namespace.key.clone(), uid: namespace.meta.uid.clone(), edit };
    // Pods go first, and what they may need only after the last of them (KEP-5080).
    let pods: Vec<_> = contents.iter().filter(|object| is_pod(object)).cloned().collect();
    let contents = if pods.is_empty() { contents } else { &pods };
    let mut actions: Vec<_> = contents
        .iter()
        .filter(|object| !object.meta.deleting)
        .map(|object| Action::Delete {
            key: object.key.clone(),
            uid: object.meta.uid.clone(),
            propagation: asked,
            revision: None,
        })
        .collect();
    if contents.is_empty() {
        actions.push(edit(Edit::FinalizeNamespace));
    } else if contents.iter().any(|object| stays(object)) {
        actions.push(edit(Edit::Conditions(conditions(contents))));
    }
    actions
}

fn is_pod(object: &Stored) -> bool {
    object.key.resource.group.is_empty() && &*object.key.resource.resource == "pods"
}

/// Whether something holds an object: without finalizers and a grace period it goes in this very round.
fn stays(object: &Stored) -> bool {
    !object.meta.finalizers.is_empty() || is_pod(object) && object.meta.deleting
}

/// The conditions by which a user learns why a namespace stays, in kube-controller-manager's words.
fn conditions(contents: &[Arc<Stored>]) -> Vec<Condition> {
    let held: Vec<_> = contents.iter().filter(|object| stays(object)).collect();
    let mut resources: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for object in held {
        let resource = &object.key.resource;
        *resources.entry(format!("{}.{}", resource.resource, resource.group)).or_default() += 1;
        for finalizer in &object.meta.finalizers {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    let resources: Vec<_> = resources
        .iter()
        .map(|(resource, count)| format!("{resource} has {count} resource instances"))
        .collect();
    let finalizers: Vec<_> = finalizers
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let well =
        |kind, reason, message: &str| Condition { kind, holds: false, reason, message: message.to_owned() };
    vec![
        well(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        well(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        well(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        Condition {
            kind: "NamespaceContentRemaining",
            holds: true,
            reason: "SomeResourcesRemain",
            message: format!("Some resources are remaining: {}", resources.join(", ")),
        },
        if finalizers.is_empty() {
            well(
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            )
        } else {
            Condition {
                kind: "NamespaceFinalizersRemaining",
                holds: true,
                reason: "SomeFinalizersRemain",
                message: format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    finalizers.join(", ")
                ),
            }
        },
    ]
}
