//! networking.k8s.io/v1 Ingress and IngressClass.

use apimachinery::{FieldError, FieldPath, addresses, meta::Scope, names};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Generation, Kind, field},
    validation::{domain_path, immutable, items, label, net, one_of, status, subdomain, text},
};

const GROUP: &str = "networking.k8s.io";

/// The annotation that names the class before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";

/// Marks the class of Ingresses that name none.
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        group: GROUP,
        kind: "IngressClass",
        plural: "ingressclasses",
        singular: "ingressclass",
        scope: Scope::Cluster,
        generation: Generation::Spec,
        columns: &[
            Column {
                cell: |object, _| {
                    let default = object["metadata"]["annotations"][DEFAULT_CLASS] == "true";
                    let name = text(&object["metadata"], "name");
                    if default { format!("{name} (default)").into() } else { name.into() }
                },
                ..Column::NAME
            },
            Column::text(
                "Controller",
                "Controller that is responsible for handling this class",
                |object, _| field(object, "/spec/controller"),
            ),
            Column::text(
                "Parameters",
                "A reference to a resource with additional parameters",
                |object, _| parameters(&object["spec"]["parameters"]),
            ),
            Column::AGE,
        ],
        default: |object| {
            if let Some(parameters) = object["spec"].get_mut("parameters") {
                crate::validation::set(parameters, "scope", "Cluster");
            }
        },
        validate: validate_class,
        validate_update: |new, old, errors| {
            let path = FieldPath::new("spec.controller");
            immutable(&new["spec"]["controller"], &old["spec"]["controller"], &path, errors);
        },
        ..Kind::BUILT_IN
    },
    &Kind {
        group: GROUP,
        kind: "Ingress",
        plural: "ingresses",
        singular: "ingress",
        short_names: &["ing"],
        status: true,
        generation: Generation::Spec,
        columns: &[
            Column::NAME,
            Column::text(
                "Class",
                "The name of the IngressClass resource that should be used",
                |object, _| {
                    let class = text(&object["spec"], "ingressClassName");
                    let old = text(&object["metadata"]["annotations"], CLASS);
                    [class, old].into_iter().find(|class| !class.is_empty()).unwrap_or("<none>").into()
                },
            ),
            Column::text("Hosts", "Hosts that incoming requests are matched against", |object, _| {
                hosts(object)
            }),
            Column::text("Address", "Where its load balancer is.", |object, _| address(object)),
            Column::text("Ports", "Ports of TLS configurations that open", |object, _| {
                let tls = object["spec"]["tls"].as_array().is_some_and(|tls| !tls.is_empty());
                if tls { "80, 443" } else { "80" }.into()
            }),
            Column::AGE,
        ],
        prepare_create: |object| object["status"] = json!({"loadBalancer": {}}),
        validate: validate_ingress,
        validate_create: |object, errors| {
            let Some(old) = object["metadata"]["annotations"][CLASS].as_str() else { return };
            if object["spec"]["ingressClassName"].as_str().is_some_and(|class| class != old) {
                let path = FieldPath::new("annotations").child(CLASS);
                let message = "must match `ingressClassName` when both are specified";
                errors.push(FieldError::invalid(&path, old, message));
            }
        },
        warn: |object, old| {
            let by_annotation = object["metadata"]["annotations"].get(CLASS).is_some();
            if old.is_some() || !by_annotation || !object["spec"]["ingressClassName"].is_null() {
                return Vec::new();
            }
            vec![format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead")]
        },
        ..Kind::BUILT_IN
    },
];

fn parameters(reference: &Value) -> Value {
    if !reference.is_object() {
        return "<none>".into();
    }
    let group = text(reference, "apiGroup");
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}{dot}{group}/{}", text(reference, "kind"), text(reference, "name")).into()
}

fn hosts(object: &Value) -> Value {
    let all: Vec<_> = items(&object["spec"], "rules")
        .map(|rule| text(rule, "host"))
        .filter(|host| !host.is_empty())
        .collect();
    match all.len() {
        0 => "*".into(),
        1..=3 => all.join(",").into(),
        count => format!("{} + {} more...", all[..3].join(","), count - 3).into(),
    }
}

fn address(object: &Value) -> Value {
    let entries = items(&object["status"]["loadBalancer"], "ingress");
    let mut all: Vec<_> = entries
        .map(|entry| match text(entry, "ip") {
            "" => text(entry, "hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    all.join(",").into()
}

fn validate_class(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let controller = text(spec, "controller");
    if controller.len() > 250 {
        errors.push(FieldError::too_long(&path.child("controller"), 250));
    }
    domain_path(controller, &path.child("controller"), errors);
    let (asked, path) = (&spec["parameters"], path.child("parameters"));
    if asked.is_object() {
        reference(asked, &path, errors);
        let scope = text(asked, "scope");
        one_of(scope, &path.child("scope"), &["Cluster", "Namespace"], errors);
        match (scope, text(asked, "namespace")) {
            ("Namespace", "") => {
                let message = "`parameters.scope` is set to 'Namespace'";
                errors.push(FieldError::required(&path.child("namespace"), message));
            }
            ("Cluster", namespace) if !namespace.is_empty() => {
                let message = "`parameters.scope` is set to 'Cluster'";
                errors.push(FieldError::forbidden(&path.child("namespace"), message));
            }
            _ => {}
        }
    }
}

fn validate_ingress(object: &Value, errors: &mut ErrorList) {
    status::validate_load_balancer(object, None, errors);
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let no_rules = spec["rules"].as_array().is_none_or(Vec::is_empty);
    if no_rules && !spec["defaultBackend"].is_object() {
        let message = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&path, spec["rules"].clone(), message));
    }
    if spec["defaultBackend"].is_object() {
        backend(&spec["defaultBackend"], &path.child("defaultBackend"), errors);
    }
    for (index, rule) in items(spec, "rules").enumerate() {
        let path = path.child("rules").index(index);
        let name = text(rule, "host");
        if !name.is_empty() {
            if addresses::sloppy_ip(name).is_some() {
                let message = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(&path.child("host"), name, message));
            }
            host(name, &path.child("host"), errors);
        }
        if !rule["http"].is_object() {
            continue;
        }
        let path = path.child("http").child("paths");
        if rule["http"]["paths"].as_array().is_none_or(Vec::is_empty) {
            errors.push(FieldError::required(&path, ""));
        }
        for (index, entry) in items(&rule["http"], "paths").enumerate() {
            http_path(entry, &path.index(index), errors);
        }
    }
    for (index, tls) in items(spec, "tls").enumerate() {
        let path = path.child("tls").index(index);
        for (at, name) in items(tls, "hosts").enumerate() {
            host(name.as_str().unwrap_or_default(), &path.child("hosts").index(at), errors);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            subdomain(secret, &path.child("secretName"), errors);
        }
    }
    if let Some(class) = spec["ingressClassName"].as_str() {
        subdomain(class, &path.child("ingressClassName"), errors);
    }
}

fn host(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    if name.contains('*') {
        let rest = name.strip_prefix("*.");
        if rest.is_none_or(|rest| !names::dns1123_subdomain(rest).is_empty()) {
            let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
            errors.push(FieldError::invalid(path, name, message));
        }
    } else {
        subdomain(name, path, errors);
    }
}

fn http_path(entry: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let at = text(entry, "path");
    match entry["pathType"].as_str() {
        // Nothing else is looked at.
        None => {
            errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
            return;
        }
        Some("Exact" | "Prefix") => {
            if !at.starts_with('/') {
                errors.push(FieldError::invalid(&path.child("path"), at, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if at.contains(bad) {
                    let message = format!("must not contain '{bad}'");
                    errors.push(FieldError::invalid(&path.child("path"), at, &message));
                }
            }
            for bad in ["/..", "/."] {
                if at.ends_with(bad) {
                    let message = format!("cannot end with '{bad}'");
                    errors.push(FieldError::invalid(&path.child("path"), at, &message));
                }
            }
        }
        Some("ImplementationSpecific") => {
            if !at.is_empty() && !at.starts_with('/') {
                errors.push(FieldError::invalid(&path.child("path"), at, "must be an absolute path"));
            }
        }
        Some(other) => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(&path.child("pathType"), other, &known));
        }
    }
    backend(&entry["backend"], &path.child("backend"), errors);
}

/// An object of some group that is referred to by kind and name.
fn reference(object: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(group) = object["apiGroup"].as_str() {
        subdomain(group, &path.child("apiGroup"), errors);
    }
    for name in ["kind", "name"] {
        let (found, path) = (text(object, name), path.child(name));
        if found.is_empty() {
            errors.push(FieldError::required(&path, &format!("{name} is required")));
        }
        errors
            .extend(names::path_segment(found).iter().map(|error| FieldError::invalid(&path, found, error)));
    }
}

fn backend(backend: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (resource, service) = (backend["resource"].is_object(), &backend["service"]);
    match (resource, service.is_object()) {
        (true, true) => {
            let message = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", message));
        }
        (true, false) => {
            reference(&backend["resource"], &path.child("resource"), errors);
        }
        (false, false) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
        (false, true) => {
            let (whole, path) = (path, path.child("service"));
            match text(service, "name") {
                "" => errors.push(FieldError::required(&path.child("name"), "")),
                name => label(name, &path.child("name"), errors),
            }
            let (number, name) =
                (service["port"]["number"].as_i64().unwrap_or_default(), text(&service["port"], "name"));
            let path = path.child("port");
            match (number, name) {
                (0, "") => errors.push(FieldError::required(whole, "port name or number is required")),
                (0, name) => errors.extend(
                    net::port_name(name)
                        .iter()
                        .map(|error| FieldError::invalid(&path.child("name"), name, error)),
                ),
                (number, "") => net::port(number, &path.child("number"), errors),
                _ => errors.push(FieldError::invalid(whole, "", "cannot set both port name & port number")),
            }
        }
    }
}
