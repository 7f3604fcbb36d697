//! Who may have devices that others use: claims with admin access are for namespaces that an administrator has labelled
//! (`registry/resource/utils.go`).

use apimachinery::{ApiError, FieldError, labels::labels_of};
use serde_json::Value;

use crate::{
    kinds::admin_access,
    store::{Key, ResourceKey},
    verbs::Call,
};

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Checks a write of a claim of devices, or of a template of claims. Other kinds pass.
pub(super) fn check(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    if call.kind.group != "resource.k8s.io" {
        return Ok(());
    }
    let Some(path) = admin_access(call.kind.plural, old, new) else { return Ok(()) };
    let key = Key::new(ResourceKey::new("", "namespaces"), "", call.namespace());
    let namespace = call.shared.storage.get(&key).and_then(|stored| stored.value().ok());
    if namespace.is_some_and(|namespace| labels_of(&namespace).get(LABEL).is_some_and(|said| said == "true"))
    {
        return Ok(());
    }
    let message =
        format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    let fault = FieldError::forbidden(&path, &message);
    Err(ApiError::invalid(call.kind.group, call.kind.kind, name, &[fault]))
}
