//! One immutable state of all objects.

use std::sync::Arc;

use im::OrdMap;

use super::{Event, EventKind};
use crate::store::{Change, Key, ResourceKey, Stored};

/// A resource's objects by `namespace NUL name`.
pub(super) type Table = OrdMap<Arc<str>, Arc<Stored>>;

/// Groups of what the server itself goes by. Each request asks for several of them, and they seldom change.
const CONFIGURING: [&str; 5] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "rbac.authorization.k8s.io",
];

/// All objects as of one revision. Cloning copies a pointer; a change copies the few nodes on its path.
#[derive(Clone, Default)]
pub(super) struct Root {
    pub(super) revision: u64,
    /// The newest change of what the server itself goes by; none if that is not known, as of a past state.
    pub(super) configured: Option<u64>,
    pub(super) tables: OrdMap<ResourceKey, Table>,
}

impl Root {
    /// Makes a change, and tells it as an event.
    pub(super) fn apply(&mut self, change: Change) -> Event {
        let object = change.object;
        let path = Key::path(&object.key.namespace, &object.key.name);
        let previous = if change.deleted {
            self.tables.get_mut(&object.key.resource).and_then(|table| table.remove(path.as_str()))
        } else if let Some(table) = self.tables.get_mut(&object.key.resource) {
            table.insert(path.into(), Arc::clone(&object))
        } else {
            self.tables.insert(object.key.resource.clone(), OrdMap::unit(path.into(), Arc::clone(&object)));
            None
        };
        let kind = match (change.deleted, &previous) {
            (true, _) => EventKind::Deleted,
            (false, Some(_)) => EventKind::Modified,
            (false, None) => EventKind::Added,
        };
        let revision = object.revision;
        self.revision = revision;
        if CONFIGURING.contains(&&*object.key.resource.group) {
            self.configured = Some(revision);
        }
        Event { kind, object, previous, revision }
    }

    /// Takes the change of an event back. The revision is left to the caller.
    pub(super) fn take_back(&mut self, event: &Event) {
        let key = &event.object.key;
        self.configured = None;
        let path = Key::path(&key.namespace, &key.name);
        let Some(table) = self.tables.get_mut(&key.resource) else { return };
        match &event.previous {
            Some(previous) => table.insert(path.into(), Arc::clone(previous)),
            None => table.remove(path.as_str()),
        };
    }
}
