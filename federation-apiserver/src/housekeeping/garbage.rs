//! Owner-reference garbage collection, after `attemptToDeleteItem` and `attemptToOrphan` of kube-controller-manager.

use std::sync::Arc;

use super::{Action, Edit, Kinds, graph::Graph};
use crate::{
    deletion::{FOREGROUND, ORPHAN, Propagation},
    store::{Key, OwnerRef, Snapshot, Stored},
};

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there; or its kind is unknown here, or it cannot own the object: nothing is deleted on such grounds.
    Solid,
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
    /// It is not there, or another one took its name.
    Absent,
}

/// Where an owner must be: in the dependent's own namespace, or without one. `None` if its kind is unknown.
pub(super) fn resolve(kinds: &dyn Kinds, owner: &OwnerRef, namespace: &str) -> Option<Key> {
    let (resource, namespaced) = kinds.resource_of(owner.group(), &owner.kind)?;
    Some(Key::new(resource, if namespaced { namespace } else { "" }, owner.name.clone()))
}

fn look_up(snapshot: &Snapshot, kinds: &dyn Kinds, owner: &OwnerRef, namespace: &str) -> Owner {
    let Some((_, namespaced)) = kinds.resource_of(owner.group(), &owner.kind) else { return Owner::Solid };
    if namespaced && namespace.is_empty() {
        // A cluster-scoped object cannot have a namespaced owner: which namespace would it be in?
        return Owner::Solid;
    }
    let owner_at = resolve(kinds, owner, namespace).and_then(|key| snapshot.get(&key));
    match owner_at.filter(|found| found.meta.uid == owner.uid) {
        None => Owner::Absent,
        Some(found) if found.meta.deleting && has(&found, FOREGROUND) => Owner::Waiting,
        Some(_) => Owner::Solid,
    }
}

/// Decides about the object at `key` as it stands in the snapshot.
pub(super) fn decide_key(snapshot: &Snapshot, graph: &Graph, kinds: &dyn Kinds, key: &Key) -> Vec<Action> {
    let Some(item) = snapshot.get(key) else { return Vec::new() };
    let owners: Vec<_> =
        item.meta.owners.iter().map(|owner| look_up(snapshot, kinds, owner, &key.namespace)).collect();
    let dependents: Vec<_> = graph.dependents(&item.meta.uid).filter_map(|key| snapshot.get(key)).collect();
    decide(&item, &owners, &dependents)
}

/// Decides about an object whose owners stand as `owners` says, one for each reference.
fn decide(item: &Stored, owners: &[Owner], dependents: &[Arc<Stored>]) -> Vec<Action> {
    let edit = |edit| Action::Edit { key: item.key.clone(), uid: item.meta.uid.clone(), edit };
    if item.meta.deleting {
        let mut actions = Vec::new();
        if has(item, ORPHAN) {
            // The finalizer goes in the round that finds no dependents left, so a crash in between orphans all the same.
            actions.extend(dependents.iter().map(|dependent| Action::Edit {
                key: dependent.key.clone(),
                uid: dependent.meta.uid.clone(),
                edit: Edit::DropOwners(vec![item.meta.uid.clone()]),
            }));
            if actions.is_empty() {
                actions.push(edit(Edit::DropFinalizer(ORPHAN)));
            }
        } else if has(item, FOREGROUND)
            && !dependents.iter().any(|dependent| blocks(dependent, &item.meta.uid))
        {
            actions.push(edit(Edit::DropFinalizer(FOREGROUND)));
        }
        return actions;
    }
    if owners.is_empty() {
        return Vec::new();
    }
    let uids_of = |wanted: &[Owner]| -> Vec<String> {
        let pairs = item.meta.owners.iter().zip(owners);
        pairs.filter(|(_, state)| wanted.contains(state)).map(|(owner, _)| owner.uid.clone()).collect()
    };
    if owners.contains(&Owner::Solid) {
        let gone = uids_of(&[Owner::Absent, Owner::Waiting]);
        return if gone.is_empty() { Vec::new() } else { vec![edit(Edit::DropOwners(gone))] };
    }
    let waited_for = owners.contains(&Owner::Waiting) && !dependents.is_empty();
    let in_circle =
        || dependents.iter().any(|dependent| dependent.meta.deleting && has(dependent, FOREGROUND));
    if waited_for && item.meta.owners.iter().any(|owner| owner.block) && in_circle() {
        // Its owners may be its dependents, too, so that all wait for each other. They do not wait for this one any more, and when that
        // is written it is deleted.
        return vec![edit(Edit::UnblockOwners)];
    }
    let propagation = if waited_for {
        Propagation::Foreground
    } else if has(item, ORPHAN) {
        Propagation::Orphan
    } else if has(item, FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    vec![Action::Delete {
        key: item.key.clone(),
        uid: item.meta.uid.clone(),
        propagation: Some(propagation),
        revision: Some(item.revision),
    }]
}

fn has(object: &Stored, finalizer: &str) -> bool {
    object.meta.finalizers.iter().any(|name| name == finalizer)
}

fn blocks(dependent: &Stored, uid: &str) -> bool {
    dependent.meta.owners.iter().any(|owner| owner.uid == uid && owner.block)
}
