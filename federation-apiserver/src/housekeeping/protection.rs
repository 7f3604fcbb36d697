//! What is in use stays: takes the finalizers of `StorageObjectInUseProtection` away once nothing uses what is being deleted,
//! as the protection controllers of kube-controller-manager do.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Action, Edit};
use crate::store::{Key, ResourceKey, Snapshot, Stored};
use crate::validation::{items, text};

/// Holds a claim that pods use.
pub(crate) const CLAIM: &str = "kubernetes.io/pvc-protection";
/// Holds a volume that is bound.
pub(crate) const VOLUME: &str = "kubernetes.io/pv-protection";
/// Holds a class of attributes that claims or volumes have (KEP-3751).
pub(crate) const ATTRIBUTES_CLASS: &str = "kubernetes.io/vac-protection";

/// Whether a change of this object may end a use.
pub(super) fn concerns(key: &Key) -> bool {
    let resource = (&*key.resource.group, &*key.resource.resource);
    matches!(resource, ("", "pods" | "persistentvolumeclaims" | "persistentvolumes"))
        || resource == ("storage.k8s.io", "volumeattributesclasses")
}

/// Releases what is being deleted and not in use.
pub(super) fn releases(snapshot: &Snapshot) -> Vec<Action> {
    let release = |held: &Stored, finalizer| Action::Edit {
        key: held.key.clone(),
        uid: held.meta.uid.clone(),
        edit: Edit::DropFinalizer(finalizer),
    };
    let mut actions = Vec::new();
    let mut uses: BTreeMap<String, Uses> = BTreeMap::new();
    for claim in held(snapshot, &claims(), CLAIM) {
        let namespace = &claim.key.namespace;
        let uses = uses.entry(namespace.clone()).or_insert_with(|| Uses::in_namespace(snapshot, namespace));
        if !uses.has(&claim) {
            actions.push(release(&claim, CLAIM));
        }
    }
    for volume in held(snapshot, &volumes(), VOLUME) {
        if volume.value().is_ok_and(|volume| volume["status"]["phase"] != "Bound") {
            actions.push(release(&volume, VOLUME));
        }
    }
    let classes = ResourceKey::new("storage.k8s.io", "volumeattributesclasses");
    for class in held(snapshot, &classes, ATTRIBUTES_CLASS) {
        if !has_class(snapshot, &class.key.name) {
            actions.push(release(&class, ATTRIBUTES_CLASS));
        }
    }
    actions
}

fn claims() -> ResourceKey {
    ResourceKey::new("", "persistentvolumeclaims")
}

fn volumes() -> ResourceKey {
    ResourceKey::new("", "persistentvolumes")
}

fn held<'a>(
    snapshot: &'a Snapshot,
    resource: &'a ResourceKey,
    finalizer: &'a str,
) -> impl Iterator<Item = Arc<Stored>> + 'a {
    let holds = move |object: &Arc<Stored>| object.meta.finalizers.iter().any(|name| name == finalizer);
    snapshot.range(resource, None, None).filter(|object| object.meta.deleting).filter(holds)
}

/// The claims that pods of a namespace use.
#[derive(Default)]
struct Uses {
    /// By their names.
    named: HashSet<String>,
    /// Names of claims that are pods' own, and the pods' uids.
    own: HashSet<(String, String)>,
}

impl Uses {
    /// By pods that kubelets see. One that waits for a node is not let start with a claim that is being deleted.
    fn in_namespace(snapshot: &Snapshot, namespace: &str) -> Self {
        let on_node =
            |pod: &Arc<Stored>| pod.meta.fields.get("spec.nodeName").is_some_and(|node| !node.is_empty());
        let pods = ResourceKey::new("", "pods");
        let mut uses = Self::default();
        for pod in snapshot.range(&pods, Some(namespace), None).filter(on_node) {
            if let Ok(pod) = pod.value() {
                uses.take(&pod);
            }
        }
        uses
    }

    fn take(&mut self, pod: &Value) {
        let metadata = &pod["metadata"];
        // Removed by force, or its kubelet is done with it.
        let is_shut_down =
            metadata["deletionTimestamp"].is_string() && metadata["deletionGracePeriodSeconds"] == 0;
        for volume in items(&pod["spec"], "volumes") {
            let claim = &volume["persistentVolumeClaim"];
            if claim.is_object() {
                self.named.insert(text(claim, "claimName").to_owned());
            } else if volume["ephemeral"].is_object() && !is_shut_down {
                let claim = format!("{}-{}", text(metadata, "name"), text(volume, "name"));
                self.own.insert((claim, text(metadata, "uid").to_owned()));
            }
        }
    }

    fn has(&self, claim: &Stored) -> bool {
        let name = &claim.key.name;
        let mut owners = claim.meta.owners.iter().filter(|owner| owner.controller);
        self.named.contains(name.as_str())
            || owners.any(|owner| self.own.contains(&(name.clone(), owner.uid.clone())))
    }
}

fn has_class(snapshot: &Snapshot, class: &str) -> bool {
    let (claims, volumes) = (claims(), volumes());
    let all = snapshot.range(&claims, None, None).chain(snapshot.range(&volumes, None, None));
    all.filter_map(|object| object.value().ok()).any(|object| {
        [
            &object["spec"]["volumeAttributesClassName"],
            &object["status"]["currentVolumeAttributesClassName"],
            &object["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
        ]
        .into_iter()
        .any(|name| name == class)
    })
}
