//! Defaults and rules that several kinds share.

pub(crate) mod container;
pub(crate) mod cron;
mod env;
pub(crate) mod ephemeral_containers;
pub(crate) mod intstr;
pub(crate) mod legacy_annotations;
mod lifecycle;
pub(crate) mod mirror_pod;
pub(crate) mod net;
mod overlapping_paths;
pub(crate) mod pod;
pub(crate) mod pod_annotations;
mod pod_os;
pub(crate) mod pod_resize;
pub(crate) mod pod_resources;
pub(crate) mod pod_security;
pub(crate) mod pod_spec;
pub(crate) mod pod_warnings;
pub(crate) mod quantities;
pub(crate) mod restart_policy;
pub(crate) mod security_context;
pub(crate) mod status;
pub(crate) mod topology_spread;
pub(crate) mod visit;
pub(crate) mod volume;
mod windows;
pub(crate) mod workload;

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, names};
use serde_json::Value;

use crate::registry::ErrorList;

/// What most counts are refused with.
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// What changes of fields that never change are refused with.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Finds the errors that the old object has not.
pub(crate) fn news(rule: fn(&Value, &mut ErrorList), new: &Value, old: &Value, errors: &mut ErrorList) {
    let mut found = ErrorList::new();
    rule(new, &mut found);
    if found.is_empty() {
        return;
    }
    let mut before = ErrorList::new();
    rule(old, &mut before);
    let known: HashSet<_> = before.iter().map(|error| (error.reason, error.message.as_str())).collect();
    found.retain(|error| !known.contains(&(error.reason, error.message.as_str())));
    errors.extend(found);
}

/// Fills a default in where nothing stands; nothing happens to what is no object.
pub(crate) fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if object.is_object() && object[name].is_null() {
        object[name] = value.into();
    }
}

/// Fills a default in where nothing or the empty text stands.
pub(crate) fn set_text(object: &mut Value, name: &str, value: &str) {
    if object.is_object() && object[name].as_str().unwrap_or_default().is_empty() {
        object[name] = value.into();
    }
}

/// A list that Go writes without `omitempty`: null where it is not there.
pub(crate) fn null_if_absent(object: &mut Value, name: &str) {
    if let Some(object) = object.as_object_mut() {
        object.entry(name).or_insert(Value::Null);
    }
}

/// A field as text; empty if it is none.
pub(crate) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

/// The items of a list; none if it is none.
pub(crate) fn items<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object[name].as_array().into_iter().flatten()
}

/// The objects in a list, to be changed; none if it is none.
pub(crate) fn items_mut<'a>(
    object: &'a mut Value,
    name: &str,
) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter(|item| item.is_object())
}

/// Counts that cannot be below zero.
pub(crate) fn non_negative(spec: &Value, path: &FieldPath, fields: &[&str], errors: &mut ErrorList) {
    for name in fields {
        if let Some(number) = spec[*name].as_i64()
            && number < 0
        {
            errors.push(FieldError::invalid(&path.child(name), number, NOT_NEGATIVE));
        }
    }
}

/// A text that must be there.
pub(crate) fn required<'a>(
    object: &'a Value,
    path: &FieldPath,
    name: &str,
    errors: &mut ErrorList,
) -> Option<&'a str> {
    let found = text(object, name);
    if found.is_empty() {
        errors.push(FieldError::required(&path.child(name), ""));
        return None;
    }
    Some(found)
}

/// One of a set of words.
pub(crate) fn one_of(value: &str, path: &FieldPath, known: &[&str], errors: &mut ErrorList) {
    if !known.contains(&value) {
        errors.push(FieldError::not_supported(path, value, known));
    }
}

/// One of a list of words, which are told in this order.
pub(crate) fn listed(value: &str, path: &FieldPath, known: &[&str], errors: &mut ErrorList) {
    if !known.contains(&value) {
        errors.push(FieldError::not_listed(path, value, known));
    }
}

/// `validation.IsQualifiedName` of a field, if it is there.
pub(crate) fn qualified(object: &Value, path: &FieldPath, name: &str, errors: &mut ErrorList) {
    if let Some(found) = object[name].as_str() {
        let path = path.child(name);
        errors.extend(
            names::qualified_name(found).iter().map(|error| FieldError::invalid(&path, found, error)),
        );
    }
}

/// A name that must be a DNS subdomain.
pub(crate) fn subdomain(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    errors.extend(names::dns1123_subdomain(name).iter().map(|error| FieldError::invalid(path, name, error)));
}

/// `validation.ValidateCSIDriverName`: a name that must be there, short, and but for its case a DNS subdomain.
pub(crate) fn driver(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    let found = names::dns1123_subdomain(&name.to_lowercase());
    errors.extend(found.iter().map(|error| FieldError::invalid(path, name, error)));
}

/// A name that must be a DNS label.
pub(crate) fn label(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    errors.extend(names::dns1123_label(name).iter().map(|error| FieldError::invalid(path, name, error)));
}

/// `validation.IsConfigMapKey`: what names a datum of a ConfigMap or a Secret.
pub(crate) fn config_key(key: &str, path: &FieldPath, errors: &mut ErrorList) {
    if key.len() > 253 {
        errors.push(FieldError::invalid(path, key, "must be no more than 253 bytes"));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(good) {
        errors.push(FieldError::invalid(
            path,
            key,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ));
    } else if key == "." || key == ".." || key.starts_with("..") {
        let what = if key == "." {
            "must not be '.'"
        } else if key == ".." {
            "must not be '..'"
        } else {
            "must not start with '..'"
        };
        errors.push(FieldError::invalid(path, key, what));
    }
}

/// `validation.IsDomainPrefixedPath`: `example.com/controller`.
pub(crate) fn domain_path(value: &str, path: &FieldPath, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let parts = value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty());
    let Some((host, rest)) = parts else {
        let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, value, message));
        return;
    };
    subdomain(host, path, errors);
    if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)) {
        let message = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(path, rest, message));
    }
}

/// The condition of a type in an object's status.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(&object["status"], "conditions").find(|condition| condition["type"] == kind)
}

/// Whether an object's status says that a condition of a type holds.
pub(crate) fn holds(object: &Value, kind: &str) -> bool {
    let mut conditions = items(&object["status"], "conditions");
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// A field that stays as it was made: `apimachinery/validation.ValidateImmutableField`.
pub(crate) fn immutable(new: &Value, old: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if new != old {
        errors.push(FieldError::invalid(path, new.clone(), IMMUTABLE));
    }
}

/// Whether an object of metadata says that it is an object that is being deleted.
pub(crate) fn deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}
