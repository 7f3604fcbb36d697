//! A template: a user's object, kept as it came, with the few fields that decisions read at every look.

use std::sync::Arc;

use serde_json::{Map, Value};

use federation_core::api::marks;
use federation_runtime::clock::Instant;

use super::kinds::{Key, Kind};

/// One federated object.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// Identity.
    pub(crate) key: Key,
    /// metadata.uid.
    pub(crate) uid: Arc<str>,
    /// metadata.resourceVersion.
    pub(crate) resource_version: Arc<str>,
    /// Whether metadata.deletionTimestamp is set.
    pub(crate) deleting: bool,
    /// Whether our finalizer is on it.
    pub(crate) finalized: bool,
    /// The object.
    pub(crate) object: Arc<Value>,
    /// When the watch told of it, for the propagation histogram.
    pub(crate) seen: Instant,
}

impl Template {
    /// Reads an object of a kind.
    pub(crate) fn read(kind: &'static Kind, mut object: Value) -> Self {
        // Never read, and often the larger half of an object; but for Services, where it tells what a user chose from what was allocated.
        if !kind.is_service()
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("managedFields");
        }
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let key = Key::new(kind, text("/metadata/namespace"), text("/metadata/name"));
        let uid = text("/metadata/uid").into();
        let resource_version = text("/metadata/resourceVersion").into();
        let finalized = object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == marks::FINALIZER));
        let deleting = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
        Self {
            key,
            uid,
            resource_version,
            deleting,
            finalized,
            object: Arc::new(object),
            seen: Instant::now(),
        }
    }

    /// An annotation's value.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.object.get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    /// metadata.generation; `None` for kinds that have none.
    pub(crate) fn generation(&self) -> Option<i64> {
        self.object.get("metadata")?.get("generation")?.as_i64()
    }

    /// Labels of the Pods that it makes; `None` for what makes none.
    pub(crate) fn pod_labels(&self) -> Option<&Map<String, Value>> {
        // Not by a pointer, each part of which is copied: this is asked of all workloads.
        self.object.get("spec")?.get("template")?.get("metadata")?.get("labels")?.as_object()
    }

    /// Of a Service: the Pods that it sends users to.
    pub(crate) fn selector(&self) -> Option<&Map<String, Value>> {
        self.object.pointer("/spec/selector")?.as_object()
    }

    /// Finalizers, less ours.
    pub(crate) fn other_finalizers(&self) -> Vec<Value> {
        self.object
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .map(|all| all.iter().filter(|finalizer| *finalizer != marks::FINALIZER).cloned().collect())
            .unwrap_or_default()
    }
}
