//! The status of ValidatingAdmissionPolicies: that they were looked at, and what their expressions ask for in vain.

use serde_json::json;

use super::{Action, Edit, Kinds};
use crate::store::{Key, ResourceKey, Snapshot};

const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";

/// Whether a change of this object may leave a policy to be looked at.
pub(super) fn concerns(key: &Key) -> bool {
    (&*key.resource.group, &*key.resource.resource) == (GROUP, PLURAL)
}

/// Checks policies of a generation that was not checked yet.
pub(super) fn statuses(snapshot: &Snapshot, kinds: &dyn Kinds) -> Vec<Action> {
    let all = snapshot.range(&ResourceKey::new(GROUP, PLURAL), None, None);
    all.filter_map(|stored| {
        let object = stored.value().ok()?;
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
        let mut status = object["status"].as_object().cloned().unwrap_or_default();
        if status.get("observedGeneration").and_then(serde_json::Value::as_i64) == Some(generation)
            && status.contains_key("typeChecking")
        {
            return None;
        }
        let warnings = kinds.type_warnings(&object["spec"]);
        let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
        status.insert("observedGeneration".into(), generation.into());
        status.insert("typeChecking".into(), checked);
        Some(Action::Edit {
            key: stored.key.clone(),
            uid: stored.meta.uid.clone(),
            edit: Edit::Parts(json!({"status": status})),
        })
    })
    .collect()
}
