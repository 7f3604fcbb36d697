//! The plugin `PersistentVolumeClaimResize`: only a bound claim whose class allows expansion may ask for more storage.

use apimachinery::{ApiError, quantity::Quantity};
use serde_json::Value;

use super::is_core;
use crate::{
    store::{Key, ResourceKey},
    validation::{quantities::parse, text},
    verbs::Call,
};

/// The older annotation for the class of a claim.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Checks a change of a claim. Other kinds pass, and so do parts of claims.
pub(super) fn check(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let Some(old) = old.filter(|_| is_core(call, "persistentvolumeclaims")) else { return Ok(()) };
    if call.path.subresource.is_some() || size(new) <= size(old) {
        return Ok(());
    }
    let why = if text(&old["status"], "phase") != "Bound" {
        "Only bound persistent volume claims can be expanded"
    } else if !class_grows(call, old, new) {
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    } else {
        return Ok(());
    };
    Err(ApiError::forbidden(&call.resource(), name, why))
}

fn size(claim: &Value) -> Quantity {
    parse(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or_default()
}

fn class_grows(call: &Call, old: &Value, new: &Value) -> bool {
    let class = class_of(new);
    if class.is_empty() || class != class_of(old) {
        return false;
    }
    let key = Key::new(ResourceKey::new("storage.k8s.io", "storageclasses"), "", class);
    let found = call.shared.storage.get(&key).and_then(|stored| stored.value().ok());
    found.is_some_and(|class| class["allowVolumeExpansion"] == true)
}

fn class_of(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"][CLASS].as_str();
    annotated.unwrap_or_else(|| text(&claim["spec"], "storageClassName"))
}
