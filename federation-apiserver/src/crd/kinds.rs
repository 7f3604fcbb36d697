//! The kind CustomResourceDefinition itself, as a row of the table of kinds.

use std::collections::HashSet;

use apimachinery::{field::quoted, meta::Scope, table::CREATION_DESCRIPTION};
use kube_schema::structural::is_known_format;
use serde_json::{Value, json};

use super::{GROUP, PLURAL, validate};
use crate::{
    registry::{Column, Generation, Kind},
    validation::{items, text},
};

pub(crate) const KINDS: &[&Kind] = &[&Kind {
    group: GROUP,
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: PLURAL,
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    status: true,
    columns: &[
        Column::NAME,
        Column {
            name: "Created At",
            kind: "date",
            description: CREATION_DESCRIPTION,
            cell: |object, _| object["metadata"]["creationTimestamp"].clone(),
            ..Column::AGE
        },
    ],
    generation: Generation::Spec,
    bare_finalizers: true,
    unconditional_update: false,
    default,
    validate: validate::definition,
    validate_create: validate::name,
    validate_update: validate::update,
    warn,
    ..Kind::BUILT_IN
}];

/// `apis/apiextensions/v1.SetDefaults_CustomResourceDefinitionSpec`.
fn default(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if let Some(names) = spec["names"].as_object_mut() {
        let empty = |names: &serde_json::Map<String, Value>, key: &str| {
            names.get(key).and_then(Value::as_str).unwrap_or_default().is_empty()
        };
        if empty(names, "singular") {
            names.insert("singular".into(), kind.to_lowercase().into());
        }
        if empty(names, "listKind") && !kind.is_empty() {
            names.insert("listKind".into(), format!("{kind}List").into());
        }
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    if let Some(service) =
        spec.pointer_mut("/conversion/webhook/clientConfig/service").and_then(Value::as_object_mut)
    {
        service.entry("port").or_insert_with(|| 443.into());
    }
    let status = &object["status"];
    if status.is_object() && status["storedVersions"].as_array().is_none_or(Vec::is_empty) {
        let storage = items(&object["spec"], "versions").find(|version| version["storage"] == true);
        if let Some(storage) = storage.map(|version| version["name"].clone()) {
            object["status"]["storedVersions"] = json!([storage]);
        }
    }
}

/// Unknown formats, which are not checked, that the definition did not have before.
fn warn(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut seen: HashSet<_> = old.map(unknown_formats).unwrap_or_default().into_iter().collect();
    let found = unknown_formats(new).into_iter().filter(|format| seen.insert(*format));
    found.map(|format| format!("unrecognized format {}", quoted(format))).collect()
}

fn unknown_formats(object: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut left: Vec<_> = items(&object["spec"], "versions")
        .map(|version| &version["schema"]["openAPIV3Schema"])
        .filter(|schema| schema.is_object())
        .collect();
    left.reverse();
    while let Some(schema) = left.pop() {
        let (kind, format) = (text(schema, "type"), text(schema, "format"));
        if !format.is_empty() && !is_known_format(kind, format) {
            found.push(format);
        }
        let lists = ["items", "allOf", "anyOf", "oneOf"].iter().flat_map(|list| items(schema, list));
        let single =
            ["items", "not", "additionalProperties", "additionalItems"].iter().map(|one| &schema[*one]);
        let named = ["properties", "patternProperties", "definitions", "dependencies"]
            .iter()
            .flat_map(|map| schema[*map].as_object().into_iter().flat_map(|map| map.values()));
        left.extend(lists.chain(single).chain(named).filter(|schema| schema.is_object()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_nobody_checks_are_warned_of_once() {
        let definition = |formats: &[&str]| {
            let fields = formats.iter().enumerate().map(|(at, format)| {
                (format!("f{at}"), json!({"type": "array", "items": {"type": "string", "format": format}}))
            });
            let fields: serde_json::Map<_, _> = fields.collect();
            let schema = json!({"type": "object", "properties": fields});
            let version = json!({"name": "v1", "schema": {"openAPIV3Schema": schema}});
            json!({"spec": {"versions": [version, version]}})
        };
        let new = definition(&["date-time", "k8s-short-name", "zzz", "zzz", "int32"]);
        let mut told = warn(&new, None);
        told.sort();
        assert_eq!(told, [r#"unrecognized format "int32""#, r#"unrecognized format "zzz""#]);
        assert_eq!(warn(&new, Some(&definition(&["zzz"]))), [r#"unrecognized format "int32""#]);
    }

    #[test]
    fn a_status_always_tells_a_version_that_objects_may_be_stored_in() {
        let versions = json!([{"name": "v1"}, {"name": "v2", "storage": true}]);
        let mut object = json!({"spec": {"versions": versions}, "status": {"storedVersions": []}});
        default(&mut object);
        assert_eq!(object["status"]["storedVersions"], json!(["v2"]));
        let mut object = json!({"spec": {"versions": versions}});
        default(&mut object);
        assert_eq!(object.get("status"), None);
    }
}
