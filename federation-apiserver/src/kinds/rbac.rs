//! rbac.authorization.k8s.io/v1: roles and their bindings.

use apimachinery::{
    FieldError, FieldPath,
    meta::Scope,
    names::{self, NameRule},
    table::CREATION_DESCRIPTION,
};
use serde_json::Value;

use crate::{
    registry::{Column, ErrorList, Kind, field},
    validation::null_if_absent,
};

const GROUP: &str = "rbac.authorization.k8s.io";

const fn created_at() -> Column {
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        description: CREATION_DESCRIPTION,
        priority: 0,
        cell: |object, _| field(object, "/metadata/creationTimestamp"),
    }
}

const ROLE_COLUMNS: &[Column] = &[Column::NAME, created_at()];

const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Role", "The role that the subjects are given.", |object, _| {
        let part = |name: &str| object["roleRef"][name].as_str().unwrap_or_default();
        format!("{}/{}", part("kind"), part("name")).into()
    }),
    Column::AGE,
    Column::text("Users", "Users in the roleBinding", |object, _| subjects(object, "User")).wide(),
    Column::text("Groups", "Groups in the roleBinding", |object, _| subjects(object, "Group")).wide(),
    Column::text("ServiceAccounts", "ServiceAccounts in the roleBinding", |object, _| {
        subjects(object, "ServiceAccount")
    })
    .wide(),
];

/// A row that both scopes share.
const ROLE: Kind = Kind {
    group: GROUP,
    columns: ROLE_COLUMNS,
    name_rule: NameRule::PathSegment,
    create_on_update: true,
    always: &["/rules"],
    default: default_role,
    ..Kind::BUILT_IN
};

const BINDING: Kind = Kind {
    group: GROUP,
    columns: BINDING_COLUMNS,
    name_rule: NameRule::PathSegment,
    create_on_update: true,
    default: default_binding,
    validate_update: |new, old, errors| {
        if new["roleRef"] != old["roleRef"] {
            let path = FieldPath::new("roleRef");
            errors.push(FieldError::invalid(&path, new["roleRef"].clone(), "cannot change roleRef"));
        }
    },
    ..Kind::BUILT_IN
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        scope: Scope::Cluster,
        validate: validate_cluster_role,
        ..ROLE
    },
    &Kind {
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        singular: "clusterrolebinding",
        scope: Scope::Cluster,
        validate: |object, errors| validate_binding(object, Scope::Cluster, errors),
        ..BINDING
    },
    &Kind {
        kind: "Role",
        plural: "roles",
        singular: "role",
        validate: |object, errors| validate_rules(object, Scope::Namespaced, errors),
        ..ROLE
    },
    &Kind {
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        validate: |object, errors| validate_binding(object, Scope::Namespaced, errors),
        ..BINDING
    },
];

fn subjects(object: &Value, kind: &str) -> Value {
    let names: Vec<String> = object["subjects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|subject| subject["kind"] == kind)
        .map(|subject| {
            let part = |name: &str| subject[name].as_str().unwrap_or_default();
            if kind == "ServiceAccount" {
                format!("{}/{}", part("namespace"), part("name"))
            } else {
                part("name").to_owned()
            }
        })
        .collect();
    names.join(", ").into()
}

fn default_role(object: &mut Value) {
    null_if_absent(object, "rules");
}

fn default_binding(object: &mut Value) {
    crate::validation::set(object, "roleRef", serde_json::json!({}));
    crate::validation::set_text(&mut object["roleRef"], "apiGroup", GROUP);
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        let named = matches!(subject["kind"].as_str(), Some("User" | "Group"));
        if named && subject["apiGroup"].as_str().unwrap_or_default().is_empty() {
            subject["apiGroup"] = GROUP.into();
        }
    }
}

fn is_empty(rule: &Value, name: &str) -> bool {
    rule[name].as_array().is_none_or(Vec::is_empty)
}

/// `validation.ValidatePolicyRule` of each rule.
fn validate_rules(object: &Value, scope: Scope, errors: &mut ErrorList) {
    let rules = FieldPath::new("rules");
    for (index, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        let path = rules.index(index);
        if is_empty(rule, "verbs") {
            errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        if !is_empty(rule, "nonResourceURLs") {
            let path = path.child("nonResourceURLs");
            let mut refuse = |why| {
                errors.push(FieldError::invalid(&path, rule["nonResourceURLs"].clone(), why));
            };
            if scope == Scope::Namespaced {
                refuse("namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|name| !is_empty(rule, name)) {
                refuse("rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if is_empty(rule, "apiGroups") {
            let why = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&path.child("apiGroups"), why));
        }
        if is_empty(rule, "resources") {
            let why = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&path.child("resources"), why));
        }
    }
}

fn validate_cluster_role(object: &Value, errors: &mut ErrorList) {
    validate_rules(object, Scope::Cluster, errors);
    let aggregation = &object["aggregationRule"];
    if aggregation.is_null() {
        return;
    }
    let path = FieldPath::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = aggregation["clusterRoleSelectors"].as_array().map_or(&[][..], Vec::as_slice);
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(&path, why));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let (path, before) = (path.index(index), errors.len());
        errors.extend(apimachinery::labels::validate_label_selector(selector, &path));
        if errors.len() > before {
            errors.push(FieldError::invalid(&path, "null", "invalid label selector."));
        }
    }
}

/// `validation.ValidateRoleBinding` and `ValidateClusterRoleBinding`.
fn validate_binding(object: &Value, scope: Scope, errors: &mut ErrorList) {
    let role = &object["roleRef"];
    let path = FieldPath::new("roleRef");
    let text = |name: &str| role[name].as_str().unwrap_or_default();
    if text("apiGroup") != GROUP {
        errors.push(FieldError::not_supported(&path.child("apiGroup"), text("apiGroup"), &[GROUP]));
    }
    let kinds: &[&str] = if scope == Scope::Cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    if !kinds.contains(&text("kind")) {
        errors.push(not_supported(&path.child("kind"), text("kind"), kinds));
    }
    if text("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    for why in names::path_segment(text("name")) {
        errors.push(FieldError::invalid(&path.child("name"), text("name"), &why));
    }
    for (index, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        validate_subject(subject, scope, &FieldPath::new("subjects").index(index), errors);
    }
}

/// With the supported values in Kubernetes' order, which is not the alphabet's here.
fn not_supported(path: &FieldPath, found: &str, supported: &[&str]) -> FieldError {
    let values: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    let message = format!("Unsupported value: {found:?}: supported values: {}", values.join(", "));
    FieldError { message, ..FieldError::not_supported(path, found, supported) }
}

fn validate_subject(subject: &Value, scope: Scope, path: &FieldPath, errors: &mut ErrorList) {
    let text = |name: &str| subject[name].as_str().unwrap_or_default();
    if text("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let group = |expect: &str, errors: &mut ErrorList| {
        if text("apiGroup") != expect {
            errors.push(FieldError::not_supported(&path.child("apiGroup"), text("apiGroup"), &[expect]));
        }
    };
    match text("kind") {
        "ServiceAccount" => {
            if !text("name").is_empty() {
                for why in names::dns1123_subdomain(text("name")) {
                    errors.push(FieldError::invalid(&path.child("name"), text("name"), &why));
                }
            }
            group("", errors);
            if scope == Scope::Cluster && text("namespace").is_empty() {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => group(GROUP, errors),
        other => {
            errors.push(not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: &str, object: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let mut object = object.clone();
        for row in KINDS.iter().filter(|row| row.kind == kind) {
            (row.default)(&mut object);
            (row.validate)(&object, &mut errors);
        }
        let found: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_rule_is_of_resources_or_of_paths() {
        let rule =
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "nonResourceURLs": ["/x"]});
        check(
            "ClusterRole",
            &json!({"rules": [rule]}),
            &[
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
            ],
        );
        check(
            "Role",
            &json!({"rules": [{"apiGroups": [""]}]}),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ],
        );
    }

    #[test]
    fn a_binding_says_whom_and_what() {
        let good = json!({
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "a"}, {"kind": "ServiceAccount", "name": "b", "namespace": "c"}],
        });
        check("ClusterRoleBinding", &good, &[]);
        let bad = json!({"roleRef": {"kind": "Role", "name": "a/b"}, "subjects": [{"kind": "ServiceAccount", "name": "b"}]});
        check(
            "ClusterRoleBinding",
            &bad,
            &[
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
                "subjects[0].namespace: Required value",
            ],
        );
    }
}
