//! admissionregistration.k8s.io/v1: webhook configurations and admission policies.

use apimachinery::{FieldError, FieldPath, meta::Scope};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Generation, Kind, field},
    validation::{items, items_mut, one_of, required, set, set_text, subdomain, text},
};

const BASE: Kind = Kind {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    generation: Generation::Spec,
    unconditional_update: false,
    ..Kind::BUILT_IN
};

const WEBHOOKS: &[Column] = &[
    Column::NAME,
    Column::integer(
        "Webhooks",
        "Webhooks indicates the number of webhooks registered in this configuration",
        |object, _| object["webhooks"].as_array().map_or(0, Vec::len).into(),
    ),
    Column::AGE,
];

const PARAM_KIND: Column = Column::text("ParamKind", "The kind of its parameters.", |object, _| {
    let kind = &object["spec"]["paramKind"];
    if !kind.is_object() {
        return "<unset>".into();
    }
    format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into()
});

const BINDING: &[Column] = &[
    Column::NAME,
    Column::text("PolicyName", "The policy that it binds.", |object, _| field(object, "/spec/policyName")),
    Column::text("ParamRef", "Its parameters.", |object, _| {
        let reference = &object["spec"]["paramRef"];
        if !reference.is_object() {
            return "<unset>".into();
        }
        let name = text(reference, "name");
        let name = if name.is_empty() { "*" } else { name };
        match text(reference, "namespace") {
            "" => name.into(),
            namespace => format!("{namespace}/{name}").into(),
        }
    }),
    Column::AGE,
];

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "MutatingAdmissionPolicy",
        plural: "mutatingadmissionpolicies",
        singular: "mutatingadmissionpolicy",
        columns: &[
            Column::NAME,
            Column::integer("Mutations", "How many mutations it has.", |object, _| {
                object["spec"]["mutations"].as_array().map_or(0, Vec::len).into()
            }),
            PARAM_KIND,
            Column::AGE,
        ],
        default: |object| default_policy(&mut object["spec"]),
        ..BASE
    },
    &Kind {
        kind: "MutatingAdmissionPolicyBinding",
        plural: "mutatingadmissionpolicybindings",
        singular: "mutatingadmissionpolicybinding",
        columns: BINDING,
        validate: validate_binding,
        ..BASE
    },
    &Kind {
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        singular: "mutatingwebhookconfiguration",
        columns: WEBHOOKS,
        default: |object| {
            for webhook in items_mut(object, "webhooks") {
                default_webhook(webhook);
                set_text(webhook, "reinvocationPolicy", "Never");
            }
        },
        validate: validate_webhooks,
        ..BASE
    },
    &Kind {
        kind: "ValidatingAdmissionPolicy",
        plural: "validatingadmissionpolicies",
        singular: "validatingadmissionpolicy",
        status: true,
        columns: &[
            Column::NAME,
            Column::integer("Validations", "How many validations it has.", |object, _| {
                object["spec"]["validations"].as_array().map_or(0, Vec::len).into()
            }),
            PARAM_KIND,
            Column::AGE,
        ],
        default: |object| default_policy(&mut object["spec"]),
        prepare_create: |object| object["status"] = json!({}),
        validate: |object, faults| {
            crate::admission::check_expressions(object, faults);
            let (spec, path) = (&object["spec"], FieldPath::new("spec"));
            let empty = |name: &str| spec[name].as_array().is_none_or(Vec::is_empty);
            if empty("validations") && empty("auditAnnotations") {
                let message = "validations or auditAnnotations must be non-empty";
                faults.push(FieldError::required(&path.child("validations"), message));
            }
            for (index, rule) in items(spec, "validations").enumerate() {
                let path = path.child("validations").index(index).child("expression");
                if text(rule, "expression").trim().is_empty() {
                    faults.push(FieldError::required(&path, "expression is not specified"));
                }
            }
            let path = path.child("matchConstraints");
            if spec["matchConstraints"].is_null() {
                faults.push(FieldError::required(&path, ""));
            } else if spec["matchConstraints"]["resourceRules"].as_array().is_none_or(Vec::is_empty) {
                faults.push(FieldError::required(&path.child("resourceRules"), ""));
            }
        },
        ..BASE
    },
    &Kind {
        kind: "ValidatingAdmissionPolicyBinding",
        plural: "validatingadmissionpolicybindings",
        singular: "validatingadmissionpolicybinding",
        columns: BINDING,
        validate: |object, faults| {
            validate_binding(object, faults);
            let path = FieldPath::new("spec.validationActions");
            let actions: Vec<_> =
                items(&object["spec"], "validationActions").filter_map(Value::as_str).collect();
            if actions.is_empty() {
                faults.push(FieldError::required(&path, "at least one validation action is required"));
            }
            for action in &actions {
                one_of(action, &path, &["Audit", "Deny", "Warn"], faults);
            }
            if actions.contains(&"Deny") && actions.contains(&"Warn") {
                let message = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
                faults.push(FieldError::invalid(&path, actions.clone(), message));
            }
        },
        ..BASE
    },
    &Kind {
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        singular: "validatingwebhookconfiguration",
        columns: WEBHOOKS,
        default: |object| items_mut(object, "webhooks").for_each(default_webhook),
        validate: validate_webhooks,
        ..BASE
    },
];

fn default_webhook(webhook: &mut Value) {
    set_text(webhook, "failurePolicy", "Fail");
    set_text(webhook, "matchPolicy", "Equivalent");
    set(webhook, "namespaceSelector", json!({}));
    set(webhook, "objectSelector", json!({}));
    set(webhook, "timeoutSeconds", 10);
    if let Some(service) = webhook.get_mut("clientConfig").and_then(|config| config.get_mut("service")) {
        set(service, "port", 443);
    }
    items_mut(webhook, "rules").for_each(|rule| set_text(rule, "scope", "*"));
}

fn default_policy(spec: &mut Value) {
    set_text(spec, "failurePolicy", "Fail");
    if let Some(constraints) = spec.get_mut("matchConstraints") {
        set_text(constraints, "matchPolicy", "Equivalent");
        set(constraints, "namespaceSelector", json!({}));
        set(constraints, "objectSelector", json!({}));
        for list in ["resourceRules", "excludeResourceRules"] {
            items_mut(constraints, list).for_each(|rule| set_text(rule, "scope", "*"));
        }
    }
}

fn validate_binding(object: &Value, faults: &mut Faults) {
    required(&object["spec"], &"spec".into(), "policyName", faults);
}

fn validate_webhooks(object: &Value, faults: &mut Faults) {
    let mut names = Vec::new();
    for (index, webhook) in items(object, "webhooks").enumerate() {
        let path = FieldPath::new("webhooks").index(index);
        if let Some(name) = required(webhook, &path, "name", faults) {
            let path = path.child("name");
            subdomain(name, &path, faults);
            if name.split('.').count() < 3 {
                let message = "should be a domain with at least three segments separated by dots";
                faults.push(FieldError::invalid(&path, name, message));
            }
            if names.contains(&name) {
                faults.push(FieldError::duplicate(&path, name));
            }
            names.push(name);
        }
        let versions: Vec<_> = items(webhook, "admissionReviewVersions").filter_map(Value::as_str).collect();
        let path_of = |name: &str| path.child(name);
        if versions.is_empty() {
            let message = "must specify one of v1, v1beta1";
            faults.push(FieldError::required(&path_of("admissionReviewVersions"), message));
        } else if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
            let message = "must include at least one of v1, v1beta1";
            faults.push(FieldError::invalid(
                &path_of("admissionReviewVersions"),
                webhook["admissionReviewVersions"].clone(),
                message,
            ));
        }
        one_of(text(webhook, "failurePolicy"), &path_of("failurePolicy"), &["Fail", "Ignore"], faults);
        one_of(text(webhook, "matchPolicy"), &path_of("matchPolicy"), &["Equivalent", "Exact"], faults);
        match text(webhook, "sideEffects") {
            "" => {
                let message = "must specify one of None, NoneOnDryRun";
                faults.push(FieldError::required(&path_of("sideEffects"), message));
            }
            effects => one_of(effects, &path_of("sideEffects"), &["None", "NoneOnDryRun"], faults),
        }
        if let Some(seconds) = webhook["timeoutSeconds"].as_i64()
            && !(1..=30).contains(&seconds)
        {
            let message = "the timeout value must be between 1 and 30 seconds";
            faults.push(FieldError::invalid(&path_of("timeoutSeconds"), seconds, message));
        }
        let config = &webhook["clientConfig"];
        let (url, service) = (config["url"].is_string(), config["service"].is_object());
        if url == service {
            let message = "exactly one of url or service is required";
            faults.push(FieldError::required(&path_of("clientConfig"), message));
        }
        for (at, rule) in items(webhook, "rules").enumerate() {
            let path = path.child("rules").index(at);
            for name in ["apiGroups", "apiVersions", "operations", "resources"] {
                if rule[name].as_array().is_none_or(Vec::is_empty) {
                    faults.push(FieldError::required(&path.child(name), ""));
                }
            }
        }
    }
}
