//! What webhooks, admission policies and their bindings must be (`pkg/apis/admissionregistration/validation`).

use std::collections::{BTreeSet, HashSet};

use apimachinery::{FieldError, FieldPath, labels::validate_label_selector, names};
use http::Uri;
use serde_json::Value;

use crate::{
    admission,
    registry::ErrorList,
    validation::{items, one_of, required, subdomain, text},
};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
/// What is wanted of the URL of a webhook.
const FORM: &str = "; desired format: https://host[:port]/path";

/// Finds the errors of a configuration of webhooks.
pub(super) fn webhooks(object: &Value, errors: &mut ErrorList) {
    let mut names = HashSet::new();
    for (index, webhook) in items(object, "webhooks").enumerate() {
        let path = FieldPath::new("webhooks").index(index);
        let name = text(webhook, "name");
        full_name(name, &path.child("name"), errors);
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        for (at, rule) in items(webhook, "rules").enumerate() {
            operations(rule, &path.child("rules").index(at), errors);
        }
        one_of(text(webhook, "failurePolicy"), &path.child("failurePolicy"), &["Fail", "Ignore"], errors);
        one_of(text(webhook, "matchPolicy"), &path.child("matchPolicy"), &["Equivalent", "Exact"], errors);
        match text(webhook, "sideEffects") {
            "" => {
                let message = "must specify one of None, NoneOnDryRun";
                errors.push(FieldError::required(&path.child("sideEffects"), message));
            }
            effects => one_of(effects, &path.child("sideEffects"), &["None", "NoneOnDryRun"], errors),
        }
        if let Some(seconds) = webhook["timeoutSeconds"].as_i64()
            && !(1..=30).contains(&seconds)
        {
            let message = "the timeout value must be between 1 and 30 seconds";
            errors.push(FieldError::invalid(&path.child("timeoutSeconds"), seconds, message));
        }
        selectors(webhook, &path, errors);
        client(&webhook["clientConfig"], &path.child("clientConfig"), errors);
        versions(webhook, &path.child("admissionReviewVersions"), errors);
        admission::check_conditions(webhook, false, &path, errors);
    }
}

fn versions(webhook: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let versions: Vec<_> = items(webhook, "admissionReviewVersions").filter_map(Value::as_str).collect();
    if versions.is_empty() {
        errors.push(FieldError::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = HashSet::new();
    for (at, version) in versions.iter().enumerate() {
        let path = path.index(at);
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&path, *version, "duplicate version"));
            continue;
        }
        let wrong = names::dns1035_label(version);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&path, *version, &wrong.join(",")));
        }
    }
    if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        let message = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(path, webhook["admissionReviewVersions"].clone(), message));
    }
}

/// `IsFullyQualifiedName`
fn full_name(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, name, &wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let message = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, message));
    }
}

fn selectors(owner: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for name in ["namespaceSelector", "objectSelector"] {
        if owner[name].is_object() {
            errors.extend(validate_label_selector(&owner[name], &path.child(name)));
        }
    }
}

fn client(config: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let service = &config["service"];
    match (config["url"].as_str(), service.is_object()) {
        (Some(url), false) => address(url, &path.child("url"), errors),
        (None, true) => {
            let path = path.child("service");
            for name in ["name", "namespace"] {
                if text(service, name).is_empty() {
                    let message = format!("service {name} is required");
                    errors.push(FieldError::required(&path.child(name), &message));
                }
            }
            if let Some(port) = service["port"].as_i64().filter(|port| !(1..=65535).contains(port)) {
                let message = "port is not valid: must be between 1 and 65535, inclusive";
                errors.push(FieldError::invalid(&path.child("port"), port, message));
            }
            service_path(service, &path.child("path"), errors);
        }
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

/// `webhook.ValidateWebhookURL`
fn address(url: &str, path: &FieldPath, errors: &mut ErrorList) {
    let Ok(parsed) = url.parse::<Uri>() else {
        let message = format!("url must be a valid URL: parse {url:?}: invalid URI for request{FORM}");
        errors.push(FieldError::required(path, &message));
        return;
    };
    let scheme = parsed.scheme_str().unwrap_or_default();
    let mut wrong = |value: &str, message: &str| errors.push(FieldError::invalid(path, value, message));
    if scheme != "https" {
        wrong(scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let authority = parsed.authority().filter(|_| !scheme.is_empty()).map(http::uri::Authority::as_str);
    let (user, host) = authority.map_or((None, ""), |authority| {
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host))
    });
    if host.is_empty() {
        wrong("", &format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        wrong(user, "user information is not permitted in the URL");
    }
    if let Some((_, fragment)) = url.split_once('#').filter(|(_, fragment)| !fragment.is_empty()) {
        wrong(fragment, "fragments are not permitted in the URL");
    }
    if let Some(query) = parsed.query().filter(|query| !query.is_empty()) {
        wrong(query, "query parameters are not permitted in the URL");
    }
}

/// `webhook.ValidateWebhookService`, of its path.
fn service_path(service: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let Some(given) = service["path"].as_str() else { return };
    let mut wrong = |message: &str| errors.push(FieldError::invalid(path, given, message));
    if given.is_empty() || given == "/" || given == "//" {
        if given == "//" {
            wrong("segment[0] may not be empty");
        }
        return;
    }
    if !given.starts_with('/') {
        wrong("must start with a '/'");
    }
    // kube-apiserver looks at the rest all the same, without whatever stands first.
    let mut letters = given.chars();
    letters.next();
    let rest = letters.as_str();
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (at, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            wrong(&format!("segment[{at}] may not be empty"));
            continue;
        }
        for message in names::dns1123_subdomain(step) {
            wrong(&format!("segment[{at}]: {message}"));
        }
    }
}

/// Finds the errors that policies of both kinds may have.
pub(super) fn policy(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    one_of(text(spec, "failurePolicy"), &path.child("failurePolicy"), &["Fail", "Ignore"], errors);
    if spec["paramKind"].is_object() {
        param_kind(&spec["paramKind"], &path.child("paramKind"), errors);
    }
    let at = path.child("matchConstraints");
    if spec["matchConstraints"].is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        resources(&spec["matchConstraints"], &at, errors);
        if items(&spec["matchConstraints"], "resourceRules").next().is_none() {
            errors.push(FieldError::required(&at.child("resourceRules"), ""));
        }
    }
    admission::check_policy(object, errors);
}

/// Finds the errors that bindings of both kinds may have.
pub(super) fn binding(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    if let Some(name) = required(spec, &path, "policyName", errors) {
        subdomain(name, &path.child("policyName"), errors);
    }
    if spec["paramRef"].is_object() {
        param_ref(&spec["paramRef"], &path.child("paramRef"), errors);
    }
    if spec["matchResources"].is_object() {
        // So it is spelt by kube-apiserver.
        resources(&spec["matchResources"], &path.child("matchResouces"), errors);
    }
}

fn param_kind(kind: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (version, name) = (text(kind, "apiVersion"), text(kind, "kind"));
    let at = path.child("apiVersion");
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.push(FieldError::required(&at, "")),
        [_, _, _, ..] => {
            let message = format!("unexpected GroupVersion string: {version}");
            errors.push(FieldError::invalid(&at, version, &message));
        }
        parts => {
            let (group, own) = if let [group, own] = parts { (*group, *own) } else { ("", version) };
            if !group.is_empty() {
                let wrong = names::dns1123_subdomain(group);
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(&at, group, &wrong.join(",")));
                }
            }
            let wrong = names::dns1035_label(own);
            if own.is_empty() {
                errors.push(FieldError::invalid(&at, version, "version must be specified"));
            } else if !wrong.is_empty() {
                errors.push(FieldError::invalid(&at, own, &wrong.join(",")));
            }
        }
    }
    let at = path.child("kind");
    let wrong = names::dns1035_label(&name.to_lowercase());
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !wrong.is_empty() {
        let message = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(FieldError::invalid(&at, name, &message));
    }
}

fn param_ref(reference: &Value, path: &FieldPath, errors: &mut ErrorList) {
    const ONE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (text(reference, "name"), &reference["selector"]);
    for message in names::path_segment(name) {
        errors.push(FieldError::invalid(&path.child("name"), name, &message));
    }
    if selector.is_object() {
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&path.child("name"), ONE));
        }
        errors.extend(validate_label_selector(selector, &path.child("selector")));
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&path.child("selector"), ONE));
        }
    } else if name.is_empty() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let at = path.child("parameterNotFoundAction");
    match text(reference, "parameterNotFoundAction") {
        "" => errors.push(FieldError::required(&at, "")),
        action => one_of(action, &at, &["Deny", "Allow"], errors),
    }
}

/// `matchConstraints` and `matchResources`.
fn resources(constraints: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let policies = ["Equivalent", "Exact"];
    one_of(text(constraints, "matchPolicy"), &path.child("matchPolicy"), &policies, errors);
    selectors(constraints, path, errors);
    for list in ["resourceRules", "excludeResourceRules"] {
        for (at, rule) in items(constraints, list).enumerate() {
            let path = path.child(list).index(at);
            let mut seen = HashSet::new();
            for (at, name) in items(rule, "resourceNames").filter_map(Value::as_str).enumerate() {
                let path = path.child("resourceNames").index(at);
                for message in names::path_segment(name) {
                    errors.push(FieldError::invalid(&path, name, &message));
                }
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(&path, name));
                }
            }
            operations(rule, &path, errors);
        }
    }
}

/// `validateRuleWithOperations`
fn operations(rule: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let list = |name: &str| -> Vec<&str> { items(rule, name).filter_map(Value::as_str).collect() };
    let whole = |name: &str, what: &str, errors: &mut ErrorList| {
        let (found, path) = (list(name), path.child(name));
        if found.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if found.len() > 1 && found.contains(&"*") {
            let message = format!("if '*' is present, must not specify other {what}");
            errors.push(FieldError::invalid(&path, rule[name].clone(), &message));
        }
    };
    whole("operations", "operations", errors);
    for (at, operation) in list("operations").into_iter().enumerate() {
        one_of(operation, &path.child("operations").index(at), &OPERATIONS, errors);
    }
    whole("apiGroups", "API groups", errors);
    whole("apiVersions", "API versions", errors);
    for (at, version) in list("apiVersions").into_iter().enumerate() {
        if version.is_empty() {
            errors.push(FieldError::required(&path.child("apiVersions").index(at), ""));
        }
    }
    patterns(rule, &list("resources"), &path.child("resources"), errors);
    if let Some(scope) = rule["scope"].as_str() {
        one_of(scope, &path.child("scope"), &SCOPES, errors);
    }
}

/// `validateResources`
fn patterns(rule: &Value, patterns: &[&str], path: &FieldPath, errors: &mut ErrorList) {
    if patterns.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut all_of, mut of_all) = (BTreeSet::new(), BTreeSet::new());
    for (at, pattern) in patterns.iter().enumerate() {
        let path = path.index(at);
        if pattern.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let Some((resource, part)) = pattern.split_once('/') else { continue };
        if all_of.contains(resource) {
            let message = format!("if '{resource}/*' is present, must not specify {pattern}");
            errors.push(FieldError::invalid(&path, *pattern, &message));
        }
        if of_all.contains(part) {
            let message = format!("if '*/{part}' is present, must not specify {pattern}");
            errors.push(FieldError::invalid(&path, *pattern, &message));
        }
        if part == "*" {
            all_of.insert(resource);
        }
        if resource == "*" {
            of_all.insert(part);
        }
    }
    if patterns.len() > 1 && patterns.contains(&"*/*") {
        let message = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, rule["resources"].clone(), message));
    }
    if patterns.contains(&"*") && patterns.iter().any(|pattern| *pattern != "*" && !pattern.contains('/')) {
        let message = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, rule["resources"].clone(), message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(errors: &ErrorList, expect: &[&str]) {
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn many(last: &str) -> Vec<String> {
        (0..100_000).map(|number| format!("a{number}")).chain([last.to_owned()]).collect()
    }

    #[test]
    fn names_of_webhooks_are_told_apart() {
        let hook = |name: &str| json!({"name": name, "sideEffects": "None", "failurePolicy": "Fail", "matchPolicy": "Exact", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://a.example/"}});
        let mut errors = ErrorList::new();
        webhooks(&json!({"webhooks": [hook("a.b.c"), hook("a.b.d"), hook("a.b.c")]}), &mut errors);
        told(&errors, &[r#"webhooks[2].name: Duplicate value: "a.b.c""#]);
    }

    #[test]
    fn versions_are_told_apart_however_many_there_are() {
        let mut listed = many("a7");
        listed[0] = "v1".to_owned();
        let mut errors = ErrorList::new();
        versions(&json!({"admissionReviewVersions": listed}), &FieldPath::new("v"), &mut errors);
        told(&errors, &[r#"v[100000]: Invalid value: "a7": duplicate version"#]);
    }

    #[test]
    fn names_of_resources_are_told_apart_however_many_there_are() {
        let rule = json!({"resourceNames": many("a7"), "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        let constraints = json!({"matchPolicy": "Exact", "resourceRules": [rule]});
        let mut errors = ErrorList::new();
        resources(&constraints, &FieldPath::new("m"), &mut errors);
        told(&errors, &[r#"m.resourceRules[0].resourceNames[100000]: Duplicate value: "a7""#]);
    }
}
