//! The row of the kind CustomResourceDefinition.

use apimachinery::meta::Scope;
use serde_json::{Value, json};

use super::{GROUP, PLURAL, validate};
use crate::registry::{Column, Generation, Kind};

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
            description: "CreationTimestamp is a timestamp representing the server time when this object was created.",
            cell: |object, _| object["metadata"]["creationTimestamp"].clone(),
            ..Column::AGE
        },
    ],
    generation: Generation::Spec,
    unconditional_update: false,
    default,
    validate: validate::definition,
    validate_create: validate::name,
    validate_update: validate::update,
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
        let storage =
            crate::validation::items(&object["spec"], "versions").find(|version| version["storage"] == true);
        if let Some(storage) = storage.map(|version| version["name"].clone()) {
            object["status"]["storedVersions"] = json!([storage]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
