//! Field ownership that a client sends with an object, of versions that the kind does not have.

use apimachinery::apply;
use serde_json::Value;

use crate::registry::{Kind, Registry};

/// Leaves out the entries of versions in which the kind is not known; of versions that are none nothing can be kept, and so of custom kinds, whose
/// objects nobody converts to such a version. Returns whether there is ownership to go on with: without, kube-apiserver stores none at all.
pub(super) fn settle(kind: &Kind, object: &mut Value) -> bool {
    let Some(entries) = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut) else {
        return true;
    };
    // An entry without anything is a wish: to forget all ownership.
    let is_strange = |entry: &Value| {
        let version = entry["apiVersion"].as_str().unwrap_or_default();
        let is_entry = !version.is_empty() || kind.custom.is_none() && entry["operation"].is_string();
        is_entry && !is_known(kind, version)
    };
    if !entries.iter().any(is_strange) {
        return true;
    }
    let is_version =
        |entry: &Value| entry["apiVersion"].as_str().is_none_or(|version| version.matches('/').count() < 2);
    if kind.custom.is_some() || !entries.iter().all(is_version) {
        apply::remove_managed_fields(object);
        return false;
    }
    // One is left empty: an object without any would be owned by its writer as a whole.
    for entry in entries.iter_mut().filter(|entry| is_strange(entry)) {
        entry["apiVersion"] = kind.api_version().into();
        entry["fieldsV1"] = Value::Object(serde_json::Map::new());
    }
    true
}

/// Whether a kind exists in a version. Of built-in kinds, those before the first stable version exist that Kubernetes does not serve any more.
fn is_known(kind: &Kind, version: &str) -> bool {
    if let Some(custom) = &kind.custom {
        return custom.versions.iter().any(|known| known == version);
    }
    let (group, name) = version.split_once('/').unwrap_or(("", version));
    let served = || {
        let known = Registry::get().kinds().iter();
        known
            .into_iter()
            .any(|other| other.kind == kind.kind && other.group == group && other.version == name)
    };
    let before = group == kind.group && (name.contains("alpha") || name.contains("beta"));
    version == kind.api_version() || version == "extensions/v1beta1" || before || served()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_of_built_in_kinds_are_those_of_kubernetes() {
        let find = |group: &str, version: &str, plural: &str| {
            Registry::get().find(group, version, plural).expect("it is built in")
        };
        let known = |group: &str, plural: &str, version: &str| is_known(find(group, "v1", plural), version);
        for version in ["apps/v1", "apps/v1beta2", "extensions/v1beta1"] {
            assert!(known("apps", "deployments", version), "{version}");
        }
        assert!(known("autoscaling", "horizontalpodautoscalers", "autoscaling/v2"));
        assert!(known("", "events", "events.k8s.io/v1"));
        for version in ["q", "v9", "apps/v1", "a/b/c"] {
            assert!(!known("", "configmaps", version), "{version}");
        }
    }

    #[test]
    fn of_a_version_that_is_none_nothing_is_kept() {
        let kind = Registry::get().find("", "v1", "configmaps").expect("it is built in");
        let mut object = json!({"metadata": {"managedFields": [{"apiVersion": "a/b/c", "manager": "m"}]}});
        assert!(!settle(kind, &mut object));
        assert_eq!(object["metadata"].get("managedFields"), None);
    }
}
