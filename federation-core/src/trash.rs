//! Deleted templates: what is kept, and how it is restored.

use serde_json::Value;

use crate::api::{TrashSpec, marks};

/// Written by API servers: neither desired by a user, nor valid in a new object.
const SERVER_WRITTEN: [&str; 7] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];
/// Finalizers of the delete itself.
const OF_THE_DELETE: [&str; 3] = [marks::FINALIZER, "foregroundDeletion", "orphan"];

/// What the trash keeps of `template`. `resource` is its plural.
pub fn keep(template: &Value, resource: &str, clusters: Vec<String>, expires: String) -> TrashSpec {
    let mut manifest = template.clone();
    clean(&mut manifest);
    let text =
        |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    TrashSpec {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        resource: resource.to_owned(),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        manifest: manifest.to_string(),
        clusters,
        expires,
    }
}

/// Name of the Trash object of a template: readable where that makes a valid name, else its uid.
pub fn name(placement: &str, namespace: &str, uid: &str) -> String {
    let short = uid.get(..8).unwrap_or(uid);
    let readable = if namespace.is_empty() {
        format!("{placement}.{short}")
    } else {
        format!("{placement}.{namespace}.{short}")
    };
    let valid = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if readable.len() <= 253 && readable.split('.').all(valid) { readable } else { uid.to_owned() }
}

fn clean(manifest: &mut Value) {
    let Some(fields) = manifest.as_object_mut() else { return };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !SERVER_WRITTEN.contains(&name.as_str()));
        // By uid: the owner, even if it is made anew, is another one then, and what is owned by nobody that is there is collected at once.
        metadata.remove("ownerReferences");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(marks::DELETION_PROPAGATION);
        }
        if let Some(finalizers) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|name| !name.as_str().is_some_and(|name| OF_THE_DELETE.contains(&name)));
        }
        metadata.retain(|name, value| {
            !(matches!(name.as_str(), "annotations" | "finalizers")
                && (value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty)))
        });
    }
    // An address that was given out to the Service may be somebody else's by now.
    if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("clusterIP").is_some_and(|address| address != "None")
    {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_trash_keeps_what_the_user_wrote_and_nothing_that_a_server_did() {
        let template = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 2,
                "labels": {"a": "b"}, "deletionTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "gone"}],
                "annotations": {marks::DELETION_PROPAGATION: "Background"},
                "finalizers": [marks::FINALIZER, "example.com/mine"],
            },
            "spec": {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "ports": [{"port": 80}]},
            "status": {"loadBalancer": {}},
        });
        let kept = keep(&template, "services", vec!["taiwan".into()], "2026-01-02T00:00:00Z".into());
        let manifest: Value = serde_json::from_str(&kept.manifest).unwrap();
        assert_eq!(
            manifest,
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "name": "web", "namespace": "shop", "labels": {"a": "b"}, "finalizers": ["example.com/mine"],
                },
                "spec": {"ports": [{"port": 80}]},
            })
        );
        assert_eq!((kept.namespace.as_str(), kept.name.as_str()), ("shop", "web"));
    }

    #[test]
    fn a_name_that_cannot_be_read_out_is_the_uid() {
        assert_eq!(name("services.web", "shop", "0123456789"), "services.web.shop.01234567");
        assert_eq!(name("roles.rbac.authorization.k8s.io.system:x", "shop", "0123456789"), "0123456789");
        assert_eq!(name(&"x".repeat(250), "shop", "0123456789"), "0123456789");
    }
}
