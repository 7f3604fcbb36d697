//! The graph of owner references.

use std::collections::{BTreeSet, HashMap};

use crate::{
    deletion::{FOREGROUND, ORPHAN},
    store::{EventKind, Key, OwnerRef, Snapshot, Stored},
};

/// Finds an owner's key, given the namespace of the dependent.
pub(super) type Resolve<'a> = dyn Fn(&OwnerRef, &str) -> Option<Key> + 'a;

/// The dependents of each owner, and the objects about which something must be decided.
#[derive(Default)]
pub(super) struct Graph {
    dependents: HashMap<String, BTreeSet<Key>>,
    dirty: BTreeSet<Key>,
}

impl Graph {
    /// Begins again with all objects of a snapshot; what was marked stays marked.
    pub(super) fn rebuild(&mut self, snapshot: &Snapshot, resolve: &Resolve<'_>) {
        self.dependents.clear();
        for resource in snapshot.resources() {
            for object in snapshot.range(resource, None, None) {
                self.observe(None, &object, EventKind::Added, resolve);
            }
        }
    }

    /// Takes in one change.
    pub(super) fn observe(
        &mut self,
        previous: Option<&Stored>,
        object: &Stored,
        kind: EventKind,
        resolve: &Resolve<'_>,
    ) {
        let key = &object.key;
        for owner in previous.into_iter().flat_map(|previous| &previous.meta.owners) {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
            // The owner may have waited for this.
            self.dirty.extend(resolve(owner, &key.namespace));
        }
        if kind == EventKind::Deleted {
            self.mark_dependents(&object.meta.uid);
            return;
        }
        for owner in &object.meta.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        let holds =
            object.meta.finalizers.iter().any(|finalizer| finalizer == FOREGROUND || finalizer == ORPHAN);
        let ending = object.meta.deleting && holds;
        if ending {
            self.mark_dependents(&object.meta.uid);
        }
        if ending || !object.meta.owners.is_empty() {
            self.mark(key.clone());
        }
    }

    /// The keys of those who name this uid as an owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.dependents.get(uid).into_iter().flatten()
    }

    pub(super) fn mark(&mut self, key: Key) {
        self.dirty.insert(key);
    }

    fn mark_dependents(&mut self, uid: &str) {
        self.dirty.extend(self.dependents.get(uid).into_iter().flatten().cloned());
    }

    /// Where to look now.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.dirty)
    }
}
