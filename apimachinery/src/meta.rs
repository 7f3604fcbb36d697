//! The rules of `metadata` that hold for every kind (`apimachinery/pkg/api/validation.ValidateObjectMeta`).

use serde_json::Value;

use crate::field::{FAULTS_MAX, FieldError, FieldPath};
use crate::labels::validate_labels;
use crate::names::{self, NameRule};

/// Whether a kind lives in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `metadata.namespace` is required.
    Namespaced,
    /// `metadata.namespace` is forbidden.
    Cluster,
}

/// Every fault of an object's `metadata`.
pub fn validate_object_meta(object: &Value, rule: NameRule, scope: Scope) -> Vec<FieldError> {
    let meta = object.get("metadata").unwrap_or(&Value::Null);
    validate_meta(meta, &FieldPath::new("metadata"), rule, scope)
}

/// The same of the metadata of an object inside of another one: its name may be absent, and whether it has a namespace is its own affair.
pub fn validate_embedded_meta(meta: &Value, path: &FieldPath) -> Vec<FieldError> {
    let has = |name: &str| meta.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let scope = if has("namespace") { Scope::Namespaced } else { Scope::Cluster };
    let mut errors = validate_meta(meta, path, NameRule::PathSegment, scope);
    if !has("name") {
        let place = path.child("name").to_string();
        errors.retain(|error| error.field != place);
    }
    errors
}

fn validate_meta(meta: &Value, path: &FieldPath, rule: NameRule, scope: Scope) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |name: &str| meta.get(name).and_then(Value::as_str).unwrap_or_default();

    let generate_name = text("generateName");
    if !generate_name.is_empty() {
        for fault in rule.check_prefix(generate_name) {
            errors.push(FieldError::invalid(&path.child("generateName"), generate_name, &fault));
        }
    }
    let name = text("name");
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        for fault in rule.check(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, &fault));
        }
    }
    validate_namespace(text("namespace"), scope, path, &mut errors);
    if meta.get("generation").and_then(Value::as_i64).is_some_and(|generation| generation < 0) {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            meta.get("generation").cloned().unwrap_or_default(),
            "must be greater than or equal to 0",
        ));
    }
    if let Some(labels) = meta.get("labels") {
        validate_labels(labels, &path.child("labels"), &mut errors);
    }
    if let Some(annotations) = meta.get("annotations") {
        validate_annotations(annotations, &path.child("annotations"), &mut errors);
    }
    validate_owner_references(meta, &path.child("ownerReferences"), &mut errors);
    validate_finalizers(meta, &path.child("finalizers"), &mut errors);
    errors
}

fn validate_namespace(namespace: &str, scope: Scope, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("namespace");
    match (scope, namespace.is_empty()) {
        (Scope::Namespaced, true) => errors.push(FieldError::required(&path, "")),
        (Scope::Namespaced, false) => {
            for fault in names::dns1123_label(namespace) {
                errors.push(FieldError::invalid(&path, namespace, &fault));
            }
        }
        (Scope::Cluster, false) => errors.push(FieldError::forbidden(&path, "not allowed on this type")),
        (Scope::Cluster, true) => {}
    }
}

/// Adds the faults of a map of annotations at `path`.
pub fn validate_annotations(annotations: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(annotations) = annotations.as_object() else { return };
    let mut bytes = 0;
    for (key, value) in annotations {
        if errors.len() >= FAULTS_MAX {
            return;
        }
        for fault in names::annotation_key(key) {
            errors.push(FieldError::invalid(path, key.as_str(), &fault));
        }
        match value.as_str() {
            Some(text) => bytes += key.len() + text.len(),
            None => errors.push(FieldError::type_invalid(&path.key(key), value.clone(), "must be a string")),
        }
    }
    if bytes > names::ANNOTATIONS_MAX_BYTES {
        errors.push(FieldError::too_long(path, names::ANNOTATIONS_MAX_BYTES));
    }
}

/// So many controllers too many are told, as each is told with all references.
const CONTROLLERS_TOLD: usize = 10;

fn validate_owner_references(meta: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let (mut controller, mut others): (Option<&str>, usize) = (None, 0);
    let references = meta.get("ownerReferences").and_then(Value::as_array);
    for reference in references.into_iter().flatten() {
        if errors.len() >= FAULTS_MAX {
            return;
        }
        let text = |name: &str| reference.get(name).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or_else(|| ("", text("apiVersion")));
        // More than a group and a version is neither (`schema.FromAPIVersionAndKind`).
        let (group, version) = if version.contains('/') { ("", "") } else { (group, version) };
        // The place in the list is told nowhere here: so it is in Kubernetes.
        for (field, value, detail) in [
            ("apiVersion", version, "version must not be empty"),
            ("kind", text("kind"), "must not be empty"),
            ("name", text("name"), "must not be empty"),
            ("uid", text("uid"), "must not be empty"),
        ] {
            if value.is_empty() {
                errors.push(FieldError::invalid(&path.child(field), text(field), detail));
            }
        }
        // Events are made by the thousand and never looked up by their owner's end.
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            let detail = format!("{group}/{version}, Kind=Event is disallowed from being an owner");
            errors.push(FieldError::invalid(path, reference.clone(), &detail));
        }
        if reference.get("controller").and_then(Value::as_bool) == Some(true) {
            match controller {
                None => controller = Some(text("name")),
                Some(_) if others == CONTROLLERS_TOLD => {}
                Some(first) => {
                    others += 1;
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                        text("name")
                    );
                    errors.push(FieldError::invalid(path, meta["ownerReferences"].clone(), &detail));
                }
            }
        }
    }
}

fn validate_finalizers(meta: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, finalizer) in
        meta.get("finalizers").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        if errors.len() >= FAULTS_MAX {
            return;
        }
        let Some(finalizer) = finalizer.as_str() else {
            errors.push(FieldError::type_invalid(&path.index(index), finalizer.clone(), "must be a string"));
            continue;
        };
        seen.push(finalizer);
        for fault in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(path, finalizer, &fault));
        }
    }
    if seen.contains(&"orphan") && seen.contains(&"foregroundDeletion") {
        errors.push(FieldError::invalid(
            path,
            serde_json::json!(seen),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_million_faults_the_first_are_found() {
        let many = |item: Value| vec![item; 10_000];
        let keys: serde_json::Map<_, _> = (0..10_000).map(|at| (format!("!{at}"), json!(1))).collect();
        for (field, value) in [
            ("finalizers", json!(many(json!("")))),
            ("ownerReferences", json!(many(json!({})))),
            ("labels", json!(keys)),
            ("annotations", json!(keys)),
        ] {
            let found =
                texts(&json!({"metadata": {"name": "a", "namespace": "b", field: value}}), Scope::Namespaced);
            assert!((FAULTS_MAX..FAULTS_MAX + 10).contains(&found.len()), "{field}: {}", found.len());
        }
    }

    fn texts(object: &Value, scope: Scope) -> Vec<String> {
        validate_object_meta(object, NameRule::Dns1123Subdomain, scope)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_name_and_a_namespace_are_required() {
        assert_eq!(
            texts(&json!({"metadata": {}}), Scope::Namespaced),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        assert!(texts(&json!({"metadata": {"name": "a", "namespace": "b"}}), Scope::Namespaced).is_empty());
    }

    #[test]
    fn a_cluster_scoped_object_has_no_namespace() {
        assert_eq!(
            texts(&json!({"metadata": {"name": "a", "namespace": "b"}}), Scope::Cluster),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
    }

    #[test]
    fn annotations_are_bounded_in_total() {
        let meta = json!({"metadata": {"name": "a", "annotations": {"k": "x".repeat(262_144)}}});
        assert_eq!(
            texts(&meta, Scope::Cluster),
            ["metadata.annotations: Too long: may not be more than 262144 bytes"]
        );
    }

    #[test]
    fn owners_are_named_in_full_and_one_controls() {
        let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
        let meta = json!({"metadata": {"name": "a", "ownerReferences": [owner("x"), owner("y"), {}]}});
        let texts = texts(&meta, Scope::Cluster);
        assert_eq!(texts.len(), 5, "{texts:?}");
        assert!(texts[0].contains("references for x and y"));
        assert!(texts[1].starts_with("metadata.ownerReferences.apiVersion"));
    }

    #[test]
    fn many_controllers_take_little_to_tell() {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u", "controller": true});
        let meta = json!({"metadata": {"name": "a", "ownerReferences": vec![owner; 30_000]}});
        assert_eq!(texts(&meta, Scope::Cluster).len(), CONTROLLERS_TOLD);
    }

    #[test]
    fn every_label_fault_is_told() {
        let meta = json!({"metadata": {"name": "a", "labels": {"-k": "v", "k": "a b"}}});
        assert_eq!(texts(&meta, Scope::Cluster).len(), 2);
    }
}
