//! Asks the policies of the administrators about a write.

use apimachinery::{ApiError, labels::labels_of};
use serde_json::Value;

use super::{
    matching::{Operation, Subject},
    policy,
};
use crate::{
    registry::Served,
    store::{Key, ResourceKey},
    verbs::Call,
};

/// Asks about a write of `new` in place of `old`, either of which may be absent. Warnings go to the call.
pub(crate) fn judge(
    call: &Call,
    old: Option<&Value>,
    new: Option<&Value>,
    dry_run: bool,
) -> Result<(), ApiError> {
    let kind = &call.kind;
    // Policies do not judge themselves, or a bad one could not be removed.
    if kind.group == "admissionregistration.k8s.io" {
        return Ok(());
    }
    let snapshot = call.shared.storage.snapshot();
    if call.shared.policies().is_idle(&snapshot) {
        return Ok(());
    }
    let operation = match (old, new) {
        (None, _) => Operation::Create,
        (Some(_), Some(_)) => Operation::Update,
        (Some(_), None) => Operation::Delete,
    };
    let object = new.or(old);
    let text =
        |pointer: &str| object.and_then(|object| object.pointer(pointer)?.as_str()).unwrap_or_default();
    let (name, own_namespace) = (text("/metadata/name"), text("/metadata/namespace"));
    let namespace = if kind.namespaced() { own_namespace } else { "" };
    let found = (!namespace.is_empty())
        .then(|| snapshot.get(&Key::new(ResourceKey::new("", "namespaces"), "", namespace)))
        .flatten()
        .and_then(|stored| stored.value().ok());
    let namespace_labels = if kind.group.is_empty() && kind.plural == "namespaces" {
        object.map(labels_of)
    } else {
        found.as_ref().map(labels_of)
    };
    let subject = Subject {
        group: kind.group,
        version: kind.version,
        resource: kind.plural,
        subresource: call.path.subresource.as_deref().unwrap_or_default(),
        namespaced: kind.namespaced(),
        name,
        operation,
        namespace_labels,
        object: new,
        old,
    };
    let request = policy::request_value(&subject, kind.kind, namespace, &call.user, dry_run);
    let request = policy::Request { subject, request, namespace: found };
    let served = call.shared.served();
    let refused = |why: &str| ApiError::forbidden(&call.resource(), name, why);
    let warnings = call.shared.policies().admit(&snapshot, &*served, &request, refused)?;
    call.told.lock().extend(warnings);
    Ok(())
}

impl policy::Parameters for Served {
    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(ResourceKey, bool)> {
        let row = self.kinds().iter().find(|row| row.kind == kind && row.api_version() == api_version)?;
        Some((row.storage(), row.namespaced()))
    }
}
