//! admissionregistration.k8s.io/v1: webhook configurations and admission policies.

mod rules;

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, meta::Scope};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Generation, Kind, field},
    validation::{items, items_mut, one_of, set, set_text, text},
};

const BASE: Kind = Kind {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    generation: Generation::Spec,
    bare_finalizers: true,
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
        default: |object| {
            default_policy(&mut object["spec"]);
            set_text(&mut object["spec"], "reinvocationPolicy", "Never");
        },
        validate: |object, errors| {
            rules::policy(object, errors);
            let policies = ["IfNeeded", "Never"];
            let path = FieldPath::new("spec.reinvocationPolicy");
            one_of(text(&object["spec"], "reinvocationPolicy"), &path, &policies, errors);
        },
        ..BASE
    },
    &Kind {
        kind: "MutatingAdmissionPolicyBinding",
        plural: "mutatingadmissionpolicybindings",
        singular: "mutatingadmissionpolicybinding",
        columns: BINDING,
        default: default_binding,
        validate: rules::binding,
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
                set(webhook, "reinvocationPolicy", "Never");
            }
        },
        validate: |object, errors| {
            rules::webhooks(object, errors);
            for (index, webhook) in items(object, "webhooks").enumerate() {
                let path = FieldPath::new("webhooks").index(index).child("reinvocationPolicy");
                one_of(text(webhook, "reinvocationPolicy"), &path, &["IfNeeded", "Never"], errors);
            }
        },
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
        validate: |object, errors| {
            rules::policy(object, errors);
            let (spec, path) = (&object["spec"], FieldPath::new("spec"));
            let empty = |name: &str| spec[name].as_array().is_none_or(Vec::is_empty);
            if empty("validations") && empty("auditAnnotations") {
                for name in ["validations", "auditAnnotations"] {
                    let message = "validations or auditAnnotations must contain at least one item";
                    errors.push(FieldError::required(&path.child(name), message));
                }
            }
        },
        ..BASE
    },
    &Kind {
        kind: "ValidatingAdmissionPolicyBinding",
        plural: "validatingadmissionpolicybindings",
        singular: "validatingadmissionpolicybinding",
        columns: BINDING,
        default: default_binding,
        validate: |object, errors| {
            rules::binding(object, errors);
            let path = FieldPath::new("spec.validationActions");
            let actions: Vec<_> =
                items(&object["spec"], "validationActions").filter_map(Value::as_str).collect();
            if actions.is_empty() {
                errors.push(FieldError::required(&path, "at least one validation action is required"));
            }
            let mut seen = HashSet::new();
            for (at, action) in actions.iter().enumerate() {
                one_of(action, &path.index(at), &["Audit", "Deny", "Warn"], errors);
                if !seen.insert(action) {
                    errors.push(FieldError::duplicate(&path.index(at), *action));
                }
            }
            if actions.contains(&"Deny") && actions.contains(&"Warn") {
                let message = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
                errors.push(FieldError::invalid(&path, actions.clone(), message));
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
        validate: rules::webhooks,
        ..BASE
    },
];

fn default_webhook(webhook: &mut Value) {
    set(webhook, "failurePolicy", "Fail");
    set(webhook, "matchPolicy", "Equivalent");
    set(webhook, "namespaceSelector", json!({}));
    set(webhook, "objectSelector", json!({}));
    set(webhook, "timeoutSeconds", 10);
    if let Some(service) = webhook.get_mut("clientConfig").and_then(|config| config.get_mut("service")) {
        set(service, "port", 443);
    }
    items_mut(webhook, "rules").for_each(|rule| set(rule, "scope", "*"));
}

fn default_policy(spec: &mut Value) {
    set(spec, "failurePolicy", "Fail");
    if let Some(constraints) = spec.get_mut("matchConstraints").filter(|constraints| constraints.is_object())
    {
        default_match(constraints);
    }
}

fn default_binding(object: &mut Value) {
    let resources = object["spec"].get_mut("matchResources");
    if let Some(resources) = resources.filter(|resources| resources.is_object()) {
        default_match(resources);
    }
}

fn default_match(constraints: &mut Value) {
    set(constraints, "matchPolicy", "Equivalent");
    set(constraints, "namespaceSelector", json!({}));
    set(constraints, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        items_mut(constraints, list).for_each(|rule| set(rule, "scope", "*"));
    }
}
