//! The rules of variables of a container's environment, and of what a pod tells of itself by them and by files.

use std::collections::HashMap;

use apimachinery::{FieldError, FieldPath, names};
use serde_json::Value;

use super::{items, label, one_of, quantities, required, text, visit, volume};
use crate::registry::ErrorList;

const VARIABLE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// `validation.IsRelaxedEnvVarName`.
fn is_variable(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_graphic() && letter != '=' || letter == ' ')
}

/// Finds the errors of a container's `env` and `envFrom`.
pub(super) fn validate(container: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (index, env) in items(container, "env").enumerate() {
        let path = path.child("env").index(index);
        if let Some(name) = required(env, &path, "name", errors)
            && !is_variable(name)
        {
            errors.push(FieldError::invalid(&path.child("name"), name, VARIABLE));
        }
        if env["valueFrom"].is_object() {
            value_from(&env["valueFrom"], text(env, "value"), &path.child("valueFrom"), errors);
        }
    }
    for (index, from) in items(container, "envFrom").enumerate() {
        let (whole, path) = (path.child("envFrom"), path.child("envFrom").index(index));
        if let Some(prefix) = from["prefix"].as_str().filter(|prefix| !is_variable(prefix)) {
            errors.push(FieldError::invalid(&path.child("prefix"), prefix, VARIABLE));
        }
        let given: Vec<_> =
            ["configMapRef", "secretRef"].into_iter().filter(|name| from[*name].is_object()).collect();
        for source in &given {
            let path = path.child(source);
            if let Some(name) = required(&from[*source], &path, "name", errors) {
                super::subdomain(name, &path.child("name"), errors);
            }
        }
        let message = match given.len() {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(&whole, "", message));
    }
}

/// Where a variable's value is read: `validation.validateEnvVarValueFrom`.
fn value_from(source: &Value, value: &str, path: &FieldPath, errors: &mut ErrorList) {
    const SOURCES: [&str; 5] =
        ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let mut given = 0;
    for name in SOURCES.into_iter().filter(|name| source[*name].is_object()) {
        given += 1;
        let (source, path) = (&source[name], path.child(name));
        match name {
            "fieldRef" => field_reference(source, &path, &TOLD, errors),
            "resourceFieldRef" => amount_reference(source, &path, errors),
            "fileKeyRef" => file_key(source, &path, errors),
            _ => {
                super::subdomain(text(source, "name"), &path.child("name"), errors);
                if let Some(key) = required(source, &path, "key", errors) {
                    super::config_key(key, &path.child("key"), errors);
                }
            }
        }
    }
    if given == 0 {
        let message = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(path, "", message));
    } else if !value.is_empty() {
        errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if given > 1 {
        let message = "may not have more than one field specified at a time";
        errors.push(FieldError::invalid(path, "", message));
    }
}

/// A variable in a file of a volume (KEP-3721).
fn file_key(source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(key) = required(source, path, "key", errors)
        && !is_variable(key)
    {
        errors.push(FieldError::invalid(&path.child("key"), key, VARIABLE));
    }
    if let Some(name) = required(source, path, "volumeName", errors) {
        label(name, &path.child("volumeName"), errors);
    }
    if let Some(file) = required(source, path, "path", errors)
        && file.split('/').any(|part| part == "..")
    {
        errors.push(FieldError::invalid(&path.child("path"), file, volume::NO_BACKSTEPS));
    }
}

/// Files of variables stand in volumes that begin empty: `validation.validateFileKeyRefVolumes`.
pub(super) fn volumes(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut empty: Option<HashMap<&str, bool>> = None;
    for (container, path) in visit::placed(spec, path) {
        for (index, env) in items(container, "env").enumerate() {
            let source = &env["valueFrom"]["fileKeyRef"];
            if !source.is_object() {
                continue;
            }
            let known = empty.get_or_insert_with(|| {
                let all = items(spec, "volumes");
                all.map(|volume| (text(volume, "name"), volume["emptyDir"].is_object())).collect()
            });
            let place =
                path.child("env").index(index).child("valueFrom").child("fileKeyRef").child("volumeName");
            let name = text(source, "volumeName");
            match known.get(name) {
                None => errors.push(FieldError::not_found(&place, name)),
                Some(false) => {
                    let message = "referenced volume must be of type emptyDir";
                    errors.push(FieldError::invalid(&place, name, message));
                }
                Some(true) => {}
            }
        }
    }
}

/// Fields of a pod that its environment can tell.
const TOLD: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that have a label, but are not for its environment.
const UNTOLD: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase"];

/// A field of a pod, of which its environment and its files can tell some: `validation.validateObjectFieldSelector`.
pub(super) fn field_reference(reference: &Value, path: &FieldPath, told: &[&str], errors: &mut ErrorList) {
    let Some(field) = required(reference, path, "fieldPath", errors) else { return };
    let (place, version) = (path.child("fieldPath"), text(reference, "apiVersion"));
    let mut unconverted = |why: String| {
        let message = format!("error converting fieldPath: {why}");
        errors.push(FieldError::invalid(&place, field, &message));
    };
    if !matches!(version, "" | "v1") {
        return unconverted(format!("unsupported pod version: {version}"));
    }
    let subscript = field.strip_suffix("']").and_then(|field| field.split_once("['"));
    match subscript.filter(|(map, _)| !map.is_empty()) {
        Some((map @ ("metadata.annotations" | "metadata.labels"), key)) => {
            let key = if map == "metadata.labels" { key.to_owned() } else { key.to_lowercase() };
            let found = names::qualified_name(&key);
            errors.extend(found.iter().map(|error| FieldError::invalid(path, key.as_str(), error)));
        }
        Some((map, _)) => unconverted(format!("field label does not support subscript: {map}")),
        None if told.contains(&field) => {}
        None if TOLD.contains(&field) || UNTOLD.contains(&field) => {
            errors.push(FieldError::not_supported(&place, field, told));
        }
        None => unconverted(format!("field label not supported: {field}")),
    }
}

/// Amounts of a container that its environment can tell, and in which units.
const AMOUNTS: [(&str, &[&str]); 6] = [
    ("limits.cpu", &["1m", "1"]),
    ("limits.ephemeral-storage", &BYTES),
    ("limits.memory", &BYTES),
    ("requests.cpu", &["1m", "1"]),
    ("requests.ephemeral-storage", &BYTES),
    ("requests.memory", &BYTES),
];
const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// An amount of a container: `validation.validateContainerResourceFieldSelector`.
pub(super) fn amount_reference(reference: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let Some(resource) = required(reference, path, "resource", errors) else { return };
    let known = AMOUNTS.into_iter().find(|(name, _)| *name == resource);
    let units: &[&str] = match known {
        Some((_, units)) => units,
        None if ["limits.hugepages-", "requests.hugepages-"]
            .iter()
            .any(|start| resource.starts_with(start)) =>
        {
            &BYTES
        }
        None => {
            one_of(resource, &path.child("resource"), &AMOUNTS.map(|(name, _)| name), errors);
            return;
        }
    };
    let divisor = &reference["divisor"];
    let amount = quantities::parse(divisor);
    let fits =
        amount.is_none_or(|amount| amount.is_zero() || units.iter().any(|unit| unit.parse() == Ok(amount)));
    if !fits {
        let kind = resource.split_once('.').map_or(resource, |(_, kind)| kind);
        let message = if kind == "cpu" {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        } else {
            let word = match kind {
                "ephemeral-storage" => "local ephemeral storage",
                _ if kind.starts_with("hugepages-") => "hugepages",
                _ => kind,
            };
            format!("only divisor's values {UNITS_TOLD} are supported with the {word} resource")
        };
        errors.push(FieldError::invalid(&path.child("divisor"), resource, &message));
    }
}

const UNITS_TOLD: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn variable(env: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let whole = env["valueFrom"].is_object();
        let env = if whole { env } else { json!({"name": "A", "valueFrom": env}) };
        validate(&json!({"env": [env]}), &FieldPath::new("c"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_variable_is_read_in_one_place() {
        let missing = "c.env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        variable(json!({}), &[missing]);
        let secret = json!({"name": "s", "key": "a b"});
        let key = "c.env[0].valueFrom.secretKeyRef.key: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        variable(
            json!({"configMapKeyRef": {"name": "m", "key": "k"}, "secretKeyRef": secret}),
            &[
                key,
                "c.env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time",
            ],
        );
        variable(
            json!({"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            &["c.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"],
        );
    }

    #[test]
    fn a_variable_tells_fields_that_there_are() {
        let field = |field: &str| json!({"fieldRef": {"fieldPath": field, "apiVersion": "v1"}});
        for known in ["status.podIPs", "metadata.labels['a.b/c']", "metadata.annotations['A']"] {
            variable(field(known), &[]);
        }
        let start = "c.env[0].valueFrom.fieldRef";
        variable(
            field("spec.x['a']"),
            &[&format!(
                "{start}.fieldPath: Invalid value: \"spec.x['a']\": error converting fieldPath: field label does not support subscript: spec.x"
            )],
        );
        variable(
            json!({"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v2"}}),
            &[&format!(
                "{start}.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v2"
            )],
        );
        let mut errors = ErrorList::new();
        field_reference(
            &json!({"fieldPath": "metadata.labels['a/b/c']"}),
            &FieldPath::new("f"),
            &TOLD,
            &mut errors,
        );
        assert!(
            errors[0].to_string().starts_with("f: Invalid value: \"a/b/c\": a valid label key must"),
            "{}",
            errors[0]
        );
        variable(
            json!({"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "3"}}),
            &[
                "c.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.ephemeral-storage\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource",
            ],
        );
    }

    #[test]
    fn a_variable_of_a_file_says_which() {
        let start = "c.env[0].valueFrom.fileKeyRef";
        variable(json!({"fileKeyRef": {"volumeName": "v", "path": "a/b", "key": "K"}}), &[]);
        variable(
            json!({"fileKeyRef": {}}),
            &[
                &format!("{start}.key: Required value"),
                &format!("{start}.volumeName: Required value"),
                &format!("{start}.path: Required value"),
            ],
        );
        variable(
            json!({"fileKeyRef": {"volumeName": "v", "path": "../b", "key": "a=b"}}),
            &[
                &format!("{start}.key: Invalid value: \"a=b\": {VARIABLE}"),
                &format!("{start}.path: Invalid value: \"../b\": must not contain '..'"),
            ],
        );
    }
}
