//! Who may have devices that others use: claims with admin access are for namespaces that an administrator has labelled
//! (`registry/resource/utils.go`).

use apimachinery::{ApiError, FieldError, FieldPath, labels::labels_of};
use serde_json::Value;

use crate::{
    store::{Key, ResourceKey},
    validation::items,
    verbs::Call,
};

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Checks a write of a claim of devices, or of a template of claims. Other kinds pass.
pub(super) fn check(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    if call.kind.group != "resource.k8s.io" {
        return Ok(());
    }
    let path = match call.kind.plural {
        // What is asked for never changes.
        "resourceclaims" if old.is_none() => asked(&new["spec"]),
        "resourceclaimtemplates" if old.is_none() => asked(&new["spec"]["spec"]),
        "resourceclaims" if old.is_some_and(|old| granted(old).is_none()) => granted(new),
        _ => None,
    };
    let Some(path) = path else { return Ok(()) };
    let key = Key::new(ResourceKey::new("", "namespaces"), "", call.namespace());
    let namespace = call.shared.storage.get(&key).and_then(|stored| stored.value().ok());
    if namespace.is_some_and(|namespace| labels_of(&namespace).get(LABEL).is_some_and(|said| said == "true"))
    {
        return Ok(());
    }
    let message =
        format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    let fault = FieldError::forbidden(&path.child("adminAccess"), &message);
    Err(ApiError::invalid(call.kind.group, call.kind.kind, name, &[fault]))
}

/// The first request that asks for it. Kubernetes tells its path in a template as if it were in a claim.
fn asked(spec: &Value) -> Option<FieldPath> {
    let mut requests = items(&spec["devices"], "requests");
    let at = requests.position(|request| request["exactly"]["adminAccess"] == true)?;
    Some(FieldPath::new("spec.devices.requests").index(at))
}

/// The first device that was allocated so.
fn granted(claim: &Value) -> Option<FieldPath> {
    let at = items(&claim["status"]["allocation"]["devices"], "results")
        .position(|device| device["adminAccess"] == true)?;
    Some(FieldPath::new("status.allocation.devices.results").index(at))
}
