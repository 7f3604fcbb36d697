//! core/v1 Namespace.

use apimachinery::{
    FieldError, FieldPath,
    meta::Scope,
    names::{NameRule, qualified_name},
};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Kind, Subresource, field},
    validation::{deleting, items, text},
};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    kind: "Namespace",
    plural: "namespaces",
    returns_deleted: true,
    singular: "namespace",
    short_names: &["ns"],
    scope: Scope::Cluster,
    status: true,
    // A Namespace is deleted one at a time, or a slip of the hand empties the federation.
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[Subresource {
        name: "finalize",
        group: "",
        version: "v1",
        kind: "Namespace",
        verbs: &["update"],
        changes: &["/spec/finalizers", "/metadata/finalizers"],
        validate: None,
    }],
    columns: &[
        Column::NAME,
        Column::text("Status", "The status of the namespace", |object, _| field(object, "/status/phase")),
        Column::AGE,
    ],
    selectable: &[("status.phase", "/status/phase")],
    name_rule: NameRule::Dns1123Label,
    default: label_with_its_name,
    prepare_create,
    prepare_update: keep_finalizers,
    validate_create: |object, errors| check_finalizers(object, |_| "spec.finalizers".into(), errors),
    validate_update: |new, old, errors| {
        if new["spec"]["finalizers"] != old["spec"]["finalizers"] {
            check_finalizers(new, |index| FieldPath::new("spec.finalizers").index(index), errors);
        }
        let phase = text(&new["status"], "phase");
        if phase == text(&old["status"], "phase") {
            return;
        }
        let (wanted, why) = if deleting(new) {
            ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
        } else {
            ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
        };
        if phase != wanted {
            errors.push(FieldError::invalid(&"status.Phase".into(), phase, why));
        }
    },
    ..Kind::BUILT_IN
}];

/// `validation.ValidateFinalizerName`. kube-apiserver tells which of the list is wrong where they are changed, but not where a namespace is made.
fn check_finalizers(object: &Value, place: impl Fn(usize) -> FieldPath, errors: &mut ErrorList) {
    for (index, finalizer) in items(&object["spec"], "finalizers").enumerate() {
        let (finalizer, path) = (finalizer.as_str().unwrap_or_default(), place(index));
        errors.extend(
            qualified_name(finalizer).iter().map(|error| FieldError::invalid(&path, finalizer, error)),
        );
        if !finalizer.contains('/') && finalizer != "kubernetes" {
            let message = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path, finalizer, message));
        }
    }
}

/// The label by which selectors find a namespace by name (KEP-2161).
fn label_with_its_name(object: &mut Value) {
    let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else { return };
    if !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = json!({});
    }
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
}

/// Whoever makes a namespace may hold it, too; `kubernetes` always does. One whose name was generated had none to be labelled with before.
fn prepare_create(object: &mut Value) {
    label_with_its_name(object);
    let mut finalizers = object["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    object["spec"] = json!({"finalizers": finalizers});
    object["status"] = json!({"phase": "Active"});
}

/// `spec.finalizers` changes only through the finalize subresource.
fn keep_finalizers(object: &mut Value, old: &Value) {
    object["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
    if object["spec"]["finalizers"].is_null()
        && let Some(spec) = object["spec"].as_object_mut()
    {
        spec.remove("finalizers");
    }
}
