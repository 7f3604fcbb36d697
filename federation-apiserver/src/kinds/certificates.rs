//! certificates.k8s.io/v1 CertificateSigningRequest. `housekeeping/certificate_requests.rs` signs those of clients of the API; the others are for signers that
//! watch them.

mod signature;
mod status;

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, meta::Scope, names, names::NameRule};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use x509_parser::{
    certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer as _,
};

pub(crate) use status::same_conditions;

use crate::{
    auth::User,
    registry::{Column, ErrorList, Generation, Kind, Subresource, field, human_duration},
    validation::{items, one_of, text},
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
        changes: &[
            "/status/conditions",
            "/metadata/annotations",
            "/metadata/finalizers",
            "/metadata/labels",
            "/metadata/ownerReferences",
        ],
        validate: Some(status::validate_approval),
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
    name_rule: NameRule::PathSegment,
    prepare_create: |object| object["status"] = json!({}),
    sign,
    validate,
    // What was asked for stays, whatever an update says.
    prepare_update: |new, old| new["spec"] = old["spec"].clone(),
    stamp: status::settle,
    validate_update: status::validate_update,
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

/// Who asks is not for the asker to say.
fn sign(object: &mut Value, old: Option<&Value>, user: &User, _: &str) {
    let Some(spec) = object["spec"].as_object_mut() else { return };
    for name in ["username", "uid", "groups", "extra"] {
        spec.remove(name);
        if let Some(said) = old.and_then(|old| old["spec"].get(name)) {
            spec.insert(name.to_owned(), said.clone());
        }
    }
    if old.is_some() {
        return;
    }
    spec.insert("username".to_owned(), user.name.as_str().into());
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
}

/// The request must be PEM of what RFC 2986 defines.
fn check_request(request: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(request).unwrap_or_default();
    let block = parse_x509_pem(&bytes).map(|(_, block)| block).ok();
    let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let (rest, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|_| "asn1: structure error: no certification request".to_owned())?;
    if !rest.is_empty() {
        return Err("asn1: syntax error: trailing data".to_owned());
    }
    signature::check(&request)
}

/// The first of some groups that a certificate for this request would make its holder one of: the organization of a subject is that.
///
/// # Errors
/// When that cannot be told. There must be one block alone: who signs might take another one than the first for the request.
pub(crate) fn asks_for_group(
    object: &Value,
    groups: &[&'static str],
) -> Result<Option<&'static str>, String> {
    let bytes = STANDARD.decode(text(&object["spec"], "request")).unwrap_or_default();
    if memchr::memmem::find_iter(&bytes, b"-----BEGIN").nth(1).is_some() {
        return Err("PEM must hold one block only".to_owned());
    }
    let (_, block) = parse_x509_pem(&bytes).map_err(|error| error.to_string())?;
    let (_, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
    let subject = &request.certification_request_info.subject;
    let asked = |group: &&&'static str| {
        // Without its zeros, a text of ASCII letters is the same in every encoding that there is of it.
        let mut organizations = subject.iter_organization();
        organizations.any(|name| name.as_slice().iter().filter(|byte| **byte != 0).eq(group.as_bytes()))
    };
    Ok(groups.iter().find(asked).copied())
}

/// `apis/certificates/validation.ValidateCertificateRequestSignerName`.
fn check_signer(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let message = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(path, name, message));
    };
    let mut wrong = |whole: &str, label: &str, found: Vec<String>| {
        let none = found.is_empty();
        for error in found {
            errors.push(FieldError::invalid(path, whole, &format!("validating label {label:?}: {error}")));
        }
        !none
    };
    let _first = domain.split('.').find(|label| wrong(domain, label, names::dns1123_label(label)));
    let _first = rest.split('.').find(|label| wrong(rest, label, names::dns1123_subdomain(label)));
    if !domain.contains('.') {
        let message = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, message));
    }
}

/// What keys may be for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    if let Err(why) = check_request(text(spec, "request")) {
        errors.push(FieldError::invalid(&path.child("request"), text(spec, "request"), &why));
    }
    if spec["usages"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&path.child("usages"), "usages must be provided"));
    }
    let mut used = HashSet::new();
    for (index, usage) in items(spec, "usages").enumerate() {
        let (usage, path) = (usage.as_str().unwrap_or_default(), path.child("usages").index(index));
        one_of(usage, &path, &USAGES, errors);
        if !used.insert(usage) {
            errors.push(FieldError::duplicate(&path, usage));
        }
    }
    match text(spec, "signerName") {
        "" => errors.push(FieldError::required(&path.child("signerName"), "signerName must be provided")),
        name @ "kubernetes.io/legacy-unknown" => {
            let message = "the legacy signerName is not allowed via this API version";
            errors.push(FieldError::invalid(&path.child("signerName"), name, message));
        }
        name => check_signer(name, &path.child("signerName"), errors),
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64()
        && seconds < 600
    {
        let message = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, message));
    }
    status::validate_conditions(object, errors);
}
