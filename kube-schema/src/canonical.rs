//! The one form of what can be written in several: quantities, times, and fields that are null, unknown, or as good as absent.
//!
//! kube-apiserver decodes into Go's types and encodes them again: `1024Mi` comes back as `1Gi`, `0.5` as `500m`, the
//! number 2 as the text `2`, times in UTC, and a null or unknown field not at all. Objects are kept as JSON here, so this does the same to it.

use apimachinery::quantity::Quantity;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    Schemas,
    omitted::{is_left_out, is_zero},
    schemas::{JSON_SCHEMA, OBJECT_META, reference},
    times::{MICRO_TIME, TIME, to_micro, to_seconds},
    validate::{is_embedded, is_open},
};

pub(crate) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// Amounts are rounded in types of this group alone, in whichever kind they are.
const CORE: &str = "io.k8s.api.core.v1.";
const TIMES: [&str; 2] = [TIME, MICRO_TIME];
/// Objects nest less deep than this; a schema that refers to itself does not.
const DEPTH_MAX: usize = 64;

/// What becomes of lists and maps without elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empties {
    /// They stay: a type of our own may tell them from none.
    Kept,
    /// They go, as Go's `omitempty` has it.
    Omitted,
}

impl Schemas {
    /// Brings an object of a kind into its canonical form: what its schema does not know goes. Objects of unknown kinds stay as they are.
    pub fn canonicalise(&self, group: &str, version: &str, kind: &str, object: &mut Value, empties: Empties) {
        let name = self.name_of(group, version, kind);
        if let Some(schema) = name.and_then(|name| self.definition(name)) {
            if empties == Empties::Omitted {
                self.add_spec(schema, object);
            }
            self.canonical(name, schema, object, empties, 0);
            if kind == "Event" && empties == Empties::Omitted {
                self.add_times(schema, object);
            }
        }
    }

    /// The same of nothing but its metadata, which is that of all kinds.
    pub fn canonicalise_metadata(&self, object: &mut Value) {
        if let (Some(schema), Some(metadata)) = (self.definition(OBJECT_META), object.get_mut("metadata")) {
            self.canonical(Some(OBJECT_META), schema, metadata, Empties::Omitted, 0);
        }
    }

    /// In Go the spec of a kind is a struct, which is there in any case.
    fn add_spec(&self, schema: &Value, object: &mut Value) {
        let Some(spec) = self.resolve(schema).pointer("/properties/spec") else { return };
        let is_struct = self.resolve(spec).get("properties").is_some();
        if is_struct && object.is_object() && object["spec"].is_null() {
            object["spec"] = Value::Object(serde_json::Map::new());
        }
    }

    /// What Go's types have in any case within the member `key`: times that are no pointers, `null` if they are not set, and the metadata of
    /// templates.
    fn complete(&self, key: &str, schema: &Value, value: &mut Value) {
        match key {
            "conditions" => {
                let Some(items) = self.resolve(schema).get("items") else { return };
                for item in value.as_array_mut().into_iter().flatten() {
                    self.add_times(items, item);
                }
            }
            "running" | "terminated" | "series" | "attachError" | "detachError" => {
                self.add_times(schema, value);
            }
            "template" | "jobTemplate" | "volumeClaimTemplate" => {
                if let Some(template) = value.as_object_mut()
                    && !template.contains_key("metadata")
                    && self.resolve(schema).pointer("/properties/metadata").is_some()
                {
                    template.insert("metadata".into(), Value::Object(serde_json::Map::new()));
                }
            }
            _ => {}
        }
    }

    /// What Go makes of a null in a list: the zero of the list's type.
    fn zero_item(&self, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => "".into(),
            Some("integer" | "number") => 0.into(),
            Some("boolean") => false.into(),
            Some("object") if schema.get("properties").is_some() => Value::Object(serde_json::Map::new()),
            _ => Value::Null,
        }
    }

    /// Rounds the amounts of a `v1.ResourceList` up to thousandths (`SetDefaults_ResourceList`).
    fn round(&self, schema: &Value, amounts: &mut Value) {
        let is_list = self.resolve(schema).get("additionalProperties").and_then(reference) == Some(QUANTITY);
        for amount in amounts.as_object_mut().filter(|_| is_list).into_iter().flat_map(|all| all.values_mut())
        {
            if let Some(exact) = quantity(amount) {
                let rounded = exact.rounded_to_millis();
                if rounded != exact {
                    *amount = rounded.to_string().into();
                }
            }
        }
    }

    fn add_times(&self, schema: &Value, value: &mut Value) {
        let properties = self.resolve(schema).get("properties").and_then(Value::as_object);
        let (Some(properties), Some(members)) = (properties, value.as_object_mut()) else { return };
        for (name, property) in properties {
            if reference(property).is_some_and(|kind| TIMES.contains(&kind)) && !members.contains_key(name) {
                members.insert(name.clone(), Value::Null);
            }
        }
    }

    /// `name` is that of the definition that the schema is, if it is one and no reference to one.
    fn canonical(
        &self,
        name: Option<&str>,
        schema: &Value,
        value: &mut Value,
        empties: Empties,
        depth: usize,
    ) {
        if depth > DEPTH_MAX {
            return;
        }
        let name = reference(schema).or(name);
        if let Some(inner) = self.schema_in(name) {
            let list = if let Value::Array(items) = value { items.as_mut_slice() } else { &mut [] };
            for item in list.iter_mut() {
                self.canonical(Some(JSON_SCHEMA), inner, item, empties, depth + 1);
            }
            if value.is_object() {
                self.canonical(Some(JSON_SCHEMA), inner, value, empties, depth + 1);
            }
            return;
        }
        match name {
            Some(QUANTITY) => {
                if let Some(quantity) = quantity(value) {
                    *value = quantity.to_string().into();
                }
                return;
            }
            Some(TIME) => {
                if let Some(time) = value.as_str().and_then(to_seconds) {
                    *value = time;
                }
                return;
            }
            Some(MICRO_TIME) => {
                if let Some(time) = value.as_str().and_then(to_micro) {
                    *value = time;
                }
                return;
            }
            _ => {}
        }
        let schema = self.resolve(schema);
        match value {
            Value::Object(object) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let additional = schema.get("additionalProperties").filter(|inner| inner.is_object());
                let open = additional.is_some() || is_open(schema);
                let inner = |key: &String| properties.and_then(|properties| properties.get(key));
                let rounds = empties == Empties::Omitted && name.is_some_and(|name| name.starts_with(CORE));
                object.retain(|key, value| match inner(key) {
                    Some(inner) => !value.is_null() || may_be_null(self.resolve(inner)),
                    None => open || is_embedded(schema, key),
                });
                for (key, value) in object.iter_mut() {
                    // A text in a map that is null is Go's empty one, and a quantity is zero.
                    if value.is_null()
                        && inner(key).is_none()
                        && let Some(inner) = additional
                        && self.resolve(inner)["type"] == "string"
                    {
                        *value = if reference(inner) == Some(QUANTITY) { "0" } else { "" }.into();
                    }
                    if let Some(inner) = inner(key).or(additional) {
                        self.canonical(None, inner, value, empties, depth + 1);
                        if rounds {
                            self.round(inner, value);
                        }
                        if empties == Empties::Omitted {
                            self.complete(key, inner, value);
                        }
                    }
                }
                if empties == Empties::Omitted {
                    object.retain(|key, value| {
                        if is_zero(value) {
                            return !name.is_some_and(|name| is_left_out(name, key));
                        }
                        let omitted = |inner| is_omitted(self.resolve(inner)) && !needs(schema, key);
                        !is_empty(value) || !inner(key).is_some_and(omitted)
                    });
                }
            }
            Value::Array(items) => {
                if let Some(inner) = schema.get("items") {
                    for item in items {
                        if item.is_null() && empties == Empties::Omitted {
                            *item = self.zero_item(inner);
                        }
                        self.canonical(None, inner, item, empties, depth + 1);
                    }
                }
            }
            Value::String(text) if schema["format"] == "byte" && empties == Empties::Omitted => {
                if let Some(plain) = canonical_base64(text) {
                    *text = plain;
                }
            }
            _ => {}
        }
    }
}

/// The one way to write the bytes of a text in base64, if it is another one: Go skips line breaks, and bits behind the last byte.
fn canonical_base64(text: &str) -> Option<String> {
    if !text.ends_with('=') && !text.contains(['\r', '\n']) {
        return None;
    }
    let bytes = crate::validate::decode_base64(text).ok()?;
    let plain = STANDARD.encode(bytes);
    (plain != text).then_some(plain)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Empty lists and maps are as good as none to Go, which leaves them out; an empty struct says that something is there.
fn is_omitted(schema: &Value) -> bool {
    let has = |key: &str| schema.get(key).is_some();
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => true,
        Some("object") => {
            schema.get("additionalProperties").is_some_and(Value::is_object) && !has("properties")
        }
        _ => false,
    }
}

/// Whether a schema requires a member, which then is told even if it is empty.
fn needs(schema: &Value, key: &str) -> bool {
    // Rules of roles are told, although nobody needs to give them.
    // So are a schema's dependencies, for whoever refuses them.
    matches!(key, "rules" | "dependencies")
        || schema
            .get("required")
            .and_then(Value::as_array)
            .is_some_and(|all| all.iter().any(|name| name == key))
}

/// Null is a value of its own where a schema says so: in kinds of our own, never in Kubernetes'.
fn may_be_null(schema: &Value) -> bool {
    ["nullable", "x-kubernetes-preserve-unknown-fields"]
        .iter()
        .any(|flag| schema.get(flag) == Some(&Value::Bool(true)))
}

pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_stays_where_it_is_a_value() {
        let schema = json!({"type": "object", "properties": {
            "value": {"x-kubernetes-preserve-unknown-fields": true}, "mode": {"type": "string", "nullable": true},
            "name": {"type": "string"},
        }});
        let schemas = Schemas::builtin().with_kind("a.example", "v1", "Thing", &schema);
        let mut thing = json!({"value": null, "mode": null, "name": null, "more": null});
        schemas.canonicalise("a.example", "v1", "Thing", &mut thing, Empties::Kept);
        assert_eq!(thing, json!({"value": null, "mode": null}));
    }

    #[test]
    fn bytes_are_written_in_one_way() {
        let mut secret =
            json!({"data": {"lines": "aGVs\r\nbG8=\n", "bits": "QR==", "plain": "aGVsbG8=", "none": "="}});
        Schemas::builtin().canonicalise("", "v1", "Secret", &mut secret, Empties::Omitted);
        assert_eq!(
            secret,
            json!({"data": {"lines": "aGVsbG8=", "bits": "QQ==", "plain": "aGVsbG8=", "none": "="}})
        );
    }

    #[test]
    fn what_go_cannot_leave_out_is_there() {
        let mut map =
            json!({"metadata": {"labels": {"a": null}}, "data": {"k": null}, "binaryData": {"k": null}});
        Schemas::builtin().canonicalise("", "v1", "ConfigMap", &mut map, Empties::Omitted);
        assert_eq!(
            map,
            json!({"metadata": {"labels": {"a": ""}}, "data": {"k": ""}, "binaryData": {"k": ""}})
        );
        let mut lease = json!({"metadata": {"name": "a"}});
        Schemas::builtin().canonicalise("coordination.k8s.io", "v1", "Lease", &mut lease, Empties::Omitted);
        assert_eq!(lease, json!({"metadata": {"name": "a"}, "spec": {}}));
    }

    #[test]
    fn times_that_go_cannot_leave_out_are_null() {
        let mut pod = json!({"status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "a", "state": {"running": {}, "waiting": {}}}],
            "startTime": null,
        }});
        Schemas::builtin().canonicalise("", "v1", "Pod", &mut pod, Empties::Omitted);
        assert_eq!(
            pod["status"],
            json!({
                "conditions": [
                    {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}
                ],
                "containerStatuses": [{"name": "a", "state": {"running": {"startedAt": null}, "waiting": {}}}],
            })
        );
        let mut event = json!({"reason": "a", "eventTime": null});
        Schemas::builtin().canonicalise("", "v1", "Event", &mut event, Empties::Omitted);
        assert_eq!(
            event,
            json!({"reason": "a", "eventTime": null, "firstTimestamp": null, "lastTimestamp": null})
        );
        let mut job = json!({"spec": {"template": {"spec": {"containers": []}}}});
        Schemas::builtin().canonicalise("batch", "v1", "Job", &mut job, Empties::Omitted);
        assert_eq!(job["spec"]["template"]["metadata"], json!({}));
    }

    #[test]
    fn empty_lists_and_maps_go_and_empty_structs_stay() {
        let mut policy = json!({
            "metadata": {"name": "a", "labels": {}},
            "spec": {"podSelector": {"matchLabels": {}}, "egress": [{}], "ingress": [{"from": []}]},
        });
        Schemas::builtin().canonicalise(
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            &mut policy,
            Empties::Omitted,
        );
        assert_eq!(
            policy,
            json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}, "egress": [{}], "ingress": [{}]}})
        );
        let mut map = json!({"data": {}, "binaryData": {}, "metadata": {}});
        Schemas::builtin().canonicalise("", "v1", "ConfigMap", &mut map, Empties::Omitted);
        assert_eq!(map, json!({"metadata": {}}));
        let mut ranges = json!({"metadata": {"name": "a"}, "spec": {"limits": []}});
        Schemas::builtin().canonicalise("", "v1", "LimitRange", &mut ranges, Empties::Omitted);
        assert_eq!(ranges["spec"], json!({"limits": []}));
    }

    #[test]
    fn what_is_as_good_as_absent_goes_and_a_pointer_to_it_stays() {
        let mut pod = json!({
            "metadata": {"name": "a", "generateName": "", "generation": 0},
            "spec": {
                "hostNetwork": false, "automountServiceAccountToken": false, "priority": 0, "nodeName": "",
                "containers": [{"name": "", "stdin": false, "args": [null, "b"],
                    "env": [{"name": "A", "value": ""}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "", "key": ""}}}],
                    "securityContext": {"runAsUser": 0, "privileged": false}}, null],
            },
        });
        Schemas::builtin().canonicalise("", "v1", "Pod", &mut pod, Empties::Omitted);
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a"},
                "spec": {
                    "automountServiceAccountToken": false, "priority": 0,
                    "containers": [{"name": "", "args": ["", "b"],
                        "env": [{"name": "A"}, {"name": "B", "valueFrom": {"secretKeyRef": {"key": ""}}}],
                        "securityContext": {"runAsUser": 0, "privileged": false}}, {}],
                },
            })
        );
    }

    #[test]
    fn a_quantity_that_is_null_is_zero() {
        let mut pod =
            json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": null}}}]}});
        Schemas::builtin().canonicalise("", "v1", "Pod", &mut pod, Empties::Omitted);
        assert_eq!(pod["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "0"}}));
    }

    #[test]
    fn amounts_of_resources_are_rounded_up_to_thousandths_in_types_of_the_core_group_only() {
        let mut pod = json!({"spec": {"overhead": {"cpu": "1u"}, "containers": [{"name": "c", "resources":
            {"limits": {"cpu": "100u", "memory": "1.0005", "a": "-1n", "b": "1e-9", "c": "1500m"}}}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1n"}}]}});
        Schemas::builtin().canonicalise("", "v1", "Pod", &mut pod, Empties::Omitted);
        assert_eq!(
            pod["spec"],
            json!({"overhead": {"cpu": "1m"}, "containers": [{"name": "c", "resources":
                {"limits": {"cpu": "1m", "memory": "1001m", "a": "-1m", "b": "1e-3", "c": "1500m"}}}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1n"}}]})
        );
        let mut class = json!({"handler": "h", "overhead": {"podFixed": {"cpu": "100u"}}});
        Schemas::builtin().canonicalise("node.k8s.io", "v1", "RuntimeClass", &mut class, Empties::Omitted);
        assert_eq!(class["overhead"]["podFixed"]["cpu"], "100u");
    }

    #[test]
    fn quantities_have_one_form_and_what_is_null_or_unknown_goes() {
        let mut pod = json!({
            "metadata": {"name": "a", "creationTimestamp": null, "annotations": {"b": "0.5"}},
            "more": 1, "spec": {"containers": [{"name": "c", "image": null, "imagee": "x",
                "resources": {"limits": {"memory": "1024Mi", "cpu": 2, "x": "0.5"}}}]},
        });
        Schemas::builtin().canonicalise("", "v1", "Pod", &mut pod, Empties::Omitted);
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a", "annotations": {"b": "0.5"}},
                "spec": {"containers": [{"name": "c",
                    "resources": {"limits": {"memory": "1Gi", "cpu": "2", "x": "500m"}}}]},
            })
        );
    }
}
