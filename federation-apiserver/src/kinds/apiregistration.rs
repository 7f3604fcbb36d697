//! apiregistration.k8s.io/v1 APIService: which group versions there are. Those of this server are listed by themselves.

use apimachinery::{
    FieldError, FieldPath,
    meta::Scope,
    names::{self, NameRule},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Kind},
    validation::{condition, net, required, set, subdomain, text},
};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    status: true,
    // The core group is empty, so its name ends in a dot.
    name_rule: NameRule::PathSegment,
    bare_finalizers: true,
    unconditional_update: false,
    columns: &[
        Column::NAME,
        Column::text("Service", "The reference to the service that hosts this API endpoint.", |object, _| {
            let service = &object["spec"]["service"];
            if !service.is_object() {
                return "Local".into();
            }
            format!("{}/{}", text(service, "namespace"), text(service, "name")).into()
        }),
        Column::text("Available", "Whether this service is available.", |object, _| available(object)),
        Column::AGE,
    ],
    default: |object| {
        if let Some(service) = object["spec"].get_mut("service") {
            set(service, "port", 443);
        }
    },
    prepare_create: |object| {
        object["status"] = if object["spec"]["service"].is_object() { json!({}) } else { local() };
    },
    validate,
    ..Kind::BUILT_IN
}];

/// What the status of a group version of this very server says.
pub(crate) fn local() -> Value {
    json!({"conditions": [{
        "type": "Available",
        "status": "True",
        "reason": "Local",
        "message": "Local APIServices are always available",
    }]})
}

fn available(object: &Value) -> Value {
    let Some(condition) = condition(object, "Available") else { return "Unknown".into() };
    match (text(condition, "status"), text(condition, "reason")) {
        ("True", _) => "True".into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}

/// `pkg/apis/apiregistration/validation.ValidateAPIService`.
fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let wanted = format!("{version}.{group}");
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if name != wanted {
        let message = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid(&"metadata.name".into(), name, &message));
    }
    if !group.is_empty() {
        subdomain(group, &path.child("group"), errors);
    } else if version != "v1" {
        let message = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(&path.child("group"), message));
    }
    let wrong = names::dns1035_label(version);
    errors.extend(wrong.iter().map(|error| FieldError::invalid(&path.child("version"), version, error)));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = spec[field].as_i64().unwrap_or_default();
        if !(1..=most).contains(&number) {
            let message = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(&path.child(field), number, &message));
        }
    }
    let bundle = STANDARD.decode(text(spec, "caBundle")).unwrap_or_default();
    let (bundle_path, skip_path) = (path.child("caBundle"), path.child("insecureSkipTLSVerify"));
    let skips = spec["insecureSkipTLSVerify"] == true;
    let service = &spec["service"];
    if !service.is_object() {
        if !bundle.is_empty() {
            let (size, message) = (bundle.len(), "local APIServices may not have a caBundle");
            errors.push(FieldError::invalid(&bundle_path, format!("{size} bytes"), message));
        }
        if skips {
            let message = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&skip_path, true, message));
        }
        return;
    }
    let path = path.child("service");
    required(service, &path, "namespace", errors);
    required(service, &path, "name", errors);
    let port = service["port"].as_i64().unwrap_or_default();
    if !(1..=65535).contains(&port) {
        let message = format!("port is not valid: {}", net::PORT_RANGE);
        errors.push(FieldError::invalid(&path.child("port"), port, &message));
    }
    if skips && !bundle.is_empty() {
        errors.push(FieldError::invalid(&skip_path, true, "may not be true if caBundle is present"));
    }
}
