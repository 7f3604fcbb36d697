//! certificates.k8s.io/v1 CertificateSigningRequest. Nothing here signs: that is for a signer that watches them.

use apimachinery::{FieldError, FieldPath, meta::Scope};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Generation, Kind, Subresource, field, human_duration},
    validation::{immutable, items, required, text},
};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    scope: Scope::Cluster,
    status: true,
    generation: Generation::None,
    subresources: &[Subresource {
        name: "approval",
        group: "certificates.k8s.io",
        version: "v1",
        kind: "CertificateSigningRequest",
        verbs: Subresource::PART,
        changes: &["/status/conditions"],
    }],
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName", "Requested signer for the request.", |object, _| {
            field(object, "/spec/signerName")
        }),
        Column::text("Requestor", "Who asks.", |object, _| field(object, "/spec/username")),
        Column::text("RequestedDuration", "For how long it shall be valid.", |object, _| {
            object["spec"]["expirationSeconds"]
                .as_i64()
                .map_or_else(|| "<none>".to_owned(), human_duration)
                .into()
        }),
        Column::text("Condition", "Whether it is approved or denied, and issued.", |object, _| {
            condition(object)
        }),
    ],
    selectable: &[("spec.signerName", "/spec/signerName")],
    prepare_create: |object| object["status"] = json!({}),
    validate,
    validate_update: |new, old, faults| immutable(&new["spec"], &old["spec"], &"spec".into(), faults),
    ..Kind::BUILT_IN
}];

fn condition(object: &Value) -> Value {
    let has = |kind: &str| items(&object["status"], "conditions").any(|found| found["type"] == kind);
    let mut words = Vec::new();
    if has("Approved") {
        words.push("Approved");
    } else if has("Denied") {
        words.push("Denied");
    } else if !has("Failed") {
        words.push("Pending");
    }
    if has("Failed") {
        words.push("Failed");
    }
    if object["status"]["certificate"].is_string() {
        words.push("Issued");
    }
    words.join(",").into()
}

fn validate(object: &Value, faults: &mut Faults) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    required(spec, &path, "request", faults);
    if let Some(name) = required(spec, &path, "signerName", faults)
        && !name.contains('/')
    {
        let message = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        faults.push(FieldError::invalid(&path.child("signerName"), name, message));
    }
    if spec["usages"].as_array().is_none_or(Vec::is_empty) {
        faults.push(FieldError::required(&path.child("usages"), ""));
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64()
        && seconds < 600
    {
        let message = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, message));
    }
    let mut seen = Vec::new();
    for (index, found) in items(&object["status"], "conditions").enumerate() {
        let path = FieldPath::new("status.conditions").index(index).child("type");
        let kind = text(found, "type");
        if kind.is_empty() {
            faults.push(FieldError::required(&path, ""));
        } else if seen.contains(&kind) {
            faults.push(FieldError::duplicate(&path, kind));
        }
        seen.push(kind);
    }
    if seen.contains(&"Approved") && seen.contains(&"Denied") {
        let path = FieldPath::new("status.conditions");
        let message = "Approved and Denied conditions are mutually exclusive";
        faults.push(FieldError::invalid(&path, object["status"]["conditions"].clone(), message));
    }
}
