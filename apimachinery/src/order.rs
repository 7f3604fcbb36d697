//! The order in which kube-apiserver writes the members of what it has Go types for: `kind`, `apiVersion` and `metadata` first, as the
//! structs have them. People read answers of `kubectl get --raw` and of curl, and scripts search their text.

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::{Map, Value};

/// Members of an object that says its type, and of a `Status`.
const TYPED: &[&str] = &["kind", "apiVersion", "metadata", "status", "message", "reason", "details", "code"];
/// The same of what has a status of its own kind, which comes last.
const OBJECT: &[&str] = &["kind", "apiVersion", "metadata"];
/// `metav1.ObjectMeta` and `metav1.ListMeta`.
const METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "continue",
    "remainingItemCount",
];
const DETAILS: &[&str] = &["name", "group", "kind", "uid", "causes", "retryAfterSeconds"];
/// `metav1.StatusCause`.
const CAUSE: &[&str] = &["reason", "message", "field"];
/// `metav1.OwnerReference`.
const OWNER: &[&str] = &["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
/// `metav1.ManagedFieldsEntry`.
const MANAGED: &[&str] =
    &["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"];
/// `metav1.APIGroup`.
const GROUP: &[&str] = &["kind", "apiVersion", "name", "versions", "preferredVersion"];
/// `metav1.APIResource`.
const RESOURCE: &[&str] =
    &["name", "singularName", "namespaced", "group", "version", "kind", "verbs", "shortNames", "categories"];
/// `apidiscovery.k8s.io` APIResourceDiscovery and APISubresourceDiscovery.
const DISCOVERED: &[&str] = &[
    "resource",
    "subresource",
    "responseKind",
    "scope",
    "singularResource",
    "verbs",
    "shortNames",
    "categories",
    "subresources",
];
/// `metav1.GroupVersionKind`.
const GROUP_VERSION_KIND: &[&str] = &["group", "version", "kind"];
const DISCOVERED_VERSION: &[&str] = &["version", "resources", "freshness"];

/// A value that is written in Go's order.
#[derive(Clone, Copy, Debug)]
pub struct Ordered<'a> {
    value: &'a Value,
    /// The member that it is the value of, or in the list of; empty for the whole.
    name: &'a str,
}

impl<'a> Ordered<'a> {
    /// A whole document.
    pub fn new(value: &'a Value) -> Self {
        Self { value, name: "" }
    }

    /// The value of a member.
    pub fn member(name: &'a str, value: &'a Value) -> Self {
        Self { value, name }
    }
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                if order(object, self.name).is_empty() {
                    for (name, value) in object {
                        map.serialize_entry(name, &Ordered { value, name })?;
                    }
                } else {
                    for (name, value) in members(object, self.name, None) {
                        map.serialize_entry(name, &Ordered { value, name })?;
                    }
                }
                map.end()
            }
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for value in items {
                    list.serialize_element(&Ordered { value, name: self.name })?;
                }
                list.end()
            }
            other => other.serialize(serializer),
        }
    }
}

/// The members of an object in Go's order; `name` is the member that it is the value of, empty if it is none. `needed` is among them, as null
/// if it is not there.
pub fn members<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    needed: Option<&'a str>,
) -> Vec<(&'a str, &'a Value)> {
    let order = order(object, name);
    let mut members: Vec<_> = object.iter().map(|(name, value)| (name.as_str(), value)).collect();
    members.extend(needed.filter(|name| !object.contains_key(*name)).map(|name| (name, &Value::Null)));
    if !order.is_empty() {
        members.sort_by_key(|(name, _)| order.iter().position(|other| other == name).unwrap_or(order.len()));
    }
    members
}

fn order(object: &Map<String, Value>, name: &str) -> &'static [&'static str] {
    let has = |name| object.contains_key(name);
    match name {
        "metadata" => METADATA,
        "details" => DETAILS,
        "causes" => CAUSE,
        "responseKind" => GROUP_VERSION_KIND,
        "ownerReferences" => OWNER,
        "managedFields" => MANAGED,
        _ if has("preferredVersion") => GROUP,
        _ if has("namespaced") => RESOURCE,
        _ if has("responseKind") || has("subresource") => DISCOVERED,
        _ if has("freshness") => DISCOVERED_VERSION,
        "" if object.get("kind").is_some_and(|kind| kind == "Status") => TYPED,
        "" | "items" | "object" => OBJECT,
        _ => &[],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: &Value, expect: &str) {
        assert_eq!(serde_json::to_string(&Ordered::new(value)).unwrap(), expect);
    }

    #[test]
    fn what_it_is_comes_first_and_the_status_last() {
        check(
            &json!({"apiVersion": "v1", "data": {"z": 1, "a": 2}, "kind": "A", "metadata": {"uid": "u", "name": "n", "labels": {}}, "status": {}}),
            r#"{"kind":"A","apiVersion":"v1","metadata":{"name":"n","uid":"u","labels":{}},"data":{"a":2,"z":1},"status":{}}"#,
        );
    }

    #[test]
    fn a_status_is_told_as_scripts_know_it() {
        check(
            &json!({"apiVersion": "v1", "kind": "Status", "code": 404, "message": "m", "metadata": {}, "reason": "NotFound", "status": "Failure", "details": {"kind": "pods", "name": "x"}}),
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"m","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#,
        );
        check(
            &json!({"kind": "Status", "details": {"causes": [{"field": "f", "message": "m", "reason": "FieldValueInvalid"}]}}),
            r#"{"kind":"Status","details":{"causes":[{"reason":"FieldValueInvalid","message":"m","field":"f"}]}}"#,
        );
    }

    #[test]
    fn discovery_is_told_as_scripts_know_it() {
        check(
            &json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
                {"kind": "Pod", "name": "pods", "namespaced": true, "singularName": "pod", "verbs": ["get"], "shortNames": ["po"], "storageVersionHash": "x", "categories": ["all"]},
            ]}),
            r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"],"shortNames":["po"],"categories":["all"],"storageVersionHash":"x"}]}"#,
        );
        check(
            &json!({"preferredVersion": {"groupVersion": "a/v1", "version": "v1"}, "name": "a", "versions": []}),
            r#"{"name":"a","versions":[],"preferredVersion":{"groupVersion":"a/v1","version":"v1"}}"#,
        );
    }
}
