//! Pruning and defaulting: apiextensions-apiserver's `schema/pruning` and `schema/defaulting`.

use serde_json::{Map, Value};

use super::Structural;
use crate::bounds;

impl Structural {
    /// Drops the fields that the schema does not specify, and returns the paths of the first hundred. `is_object` says that the value
    /// is an API object, whose apiVersion, kind and metadata are not the schema's.
    pub fn prune(&self, value: &mut Value, is_object: bool) -> Vec<String> {
        let mut dropped = Vec::new();
        prune(Some(self), value, is_object || self.embedded, &mut String::new(), &mut dropped);
        dropped
    }

    /// Drops null where it is no value and no default stands in for it (`defaulting.PruneNonNullableNullsWithoutDefaults`). Elements of
    /// lists stay.
    pub fn prune_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(map) => map.retain(|name, value| {
                let Some(field) = self.field(name) else { return true };
                if value.is_null() {
                    return field.nullable || field.default.is_some();
                }
                field.prune_nulls(value);
                true
            }),
            Value::Array(items) => {
                let Some(schema) = &self.items else { return };
                for item in items {
                    schema.prune_nulls(item);
                }
            }
            _ => {}
        }
    }

    /// Fills in the defaults of absent fields, and of null where null is no value. What would be filled in beyond all that an object
    /// can hold is left out: the object is refused for its size.
    pub fn fill_defaults(&self, value: &mut Value) {
        let mut left = FILLED_MAX;
        fill(self, value, &mut left);
    }
}

/// Bytes of JSON of all defaults that are filled into one object: five times what it may have. A write of more is refused for its size. What is
/// read may lack some, if it was written before its schema had so many.
const FILLED_MAX: usize = 8 << 20;

fn fill(schema: &Structural, value: &mut Value, left: &mut usize) {
    match value {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                if let Some(default) = &property.default
                    && map.get(name).is_none_or(|found| found.is_null() && !property.nullable)
                    && let Some(default) = taken(default, name.len(), left)
                {
                    map.insert(name.clone(), default);
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    fill(property, value, left);
                } else if let Some(additional) = &schema.additional {
                    fill_null(additional, value, left);
                    fill(additional, value, left);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for item in items {
                fill_null(schema, item, left);
                fill(schema, item, left);
            }
        }
        _ => {}
    }
}

fn fill_null(schema: &Structural, value: &mut Value, left: &mut usize) {
    if let (Some(default), true) = (&schema.default, value.is_null() && !schema.nullable)
        && let Some(default) = taken(default, 0, left)
    {
        *value = default;
    }
}

/// A default, if there is room for it.
fn taken(default: &Value, name: usize, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(name + length(default)).unwrap_or_default();
    (*left > 0).then(|| default.clone())
}

/// About as many bytes as a value takes in JSON.
fn length(value: &Value) -> usize {
    match value {
        Value::Object(map) => {
            map.iter().map(|(name, value)| name.len() + 4 + length(value)).sum::<usize>() + 2
        }
        Value::Array(items) => items.iter().map(|item| length(item) + 1).sum::<usize>() + 2,
        Value::String(text) => text.len() + 2,
        _ => 4,
    }
}

fn within(path: &mut String, step: &str, work: impl FnOnce(&mut String)) {
    let length = path.len();
    if !path.is_empty() && !step.starts_with('[') {
        path.push('.');
    }
    path.push_str(bounds::step(step));
    work(path);
    path.truncate(length);
}

fn prune(
    schema: Option<&Structural>,
    value: &mut Value,
    is_object: bool,
    path: &mut String,
    dropped: &mut Vec<String>,
) {
    let preserve = schema.is_some_and(|schema| schema.preserve_unknown);
    match value {
        Value::Object(map) => prune_map(schema, map, is_object, preserve, path, dropped),
        Value::Array(items) => {
            let schema = schema.and_then(|schema| schema.items.as_deref());
            // Below an unknown list of what is kept nothing is known either.
            if schema.is_none() {
                return;
            }
            for (at, item) in items.iter_mut().enumerate() {
                within(path, &format!("[{at}]"), |path| {
                    prune(schema, item, schema.is_some_and(|schema| schema.embedded), path, dropped);
                });
            }
        }
        _ => {}
    }
}

fn prune_map(
    schema: Option<&Structural>,
    map: &mut Map<String, Value>,
    is_object: bool,
    preserve: bool,
    path: &mut String,
    dropped: &mut Vec<String>,
) {
    map.retain(|name, value| {
        if is_object && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        match schema.and_then(|schema| schema.field(name)) {
            Some(field) => {
                within(path, name, |path| prune(Some(field), value, field.embedded, path, dropped));
                true
            }
            None if preserve => true,
            None => {
                within(path, name, |path| bounds::tell(dropped, || path.clone()));
                false
            }
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(value: Value) -> Structural {
        Structural::parse(&value).unwrap()
    }

    #[test]
    fn unspecified_fields_are_dropped_unless_they_are_preserved() {
        let schema = schema(json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "closed": {"type": "object", "properties": {"x": {"type": "string"}}},
                }},
                "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
            }},
        }}));
        let mut object = json!({
            "apiVersion": "e/v1", "kind": "K", "metadata": {"name": "n"}, "top": 1,
            "spec": {"a": "1", "b": 2, "open": {"any": {"thing": 1}, "closed": {"x": "", "y": 1}},
                "list": [{"x": "", "y": 1}], "map": {"k": {"x": "", "z": 1}}},
        });
        let dropped = schema.prune(&mut object, true);
        assert_eq!(dropped, ["spec.b", "spec.list[0].y", "spec.map.k.z", "spec.open.closed.y", "top"]);
        assert_eq!(
            object,
            json!({
                "apiVersion": "e/v1", "kind": "K", "metadata": {"name": "n"},
                "spec": {"a": "1", "open": {"any": {"thing": 1}, "closed": {"x": ""}}, "list": [{"x": ""}], "map": {"k": {"x": ""}}},
            })
        );
    }

    #[test]
    fn all_unspecified_fields_are_dropped_and_some_are_told() {
        let schema = schema(json!({"type": "object", "additionalProperties": {"type": "object"}}));
        let many: Map<_, _> = (0..1000).map(|at| (at.to_string(), Value::from(1))).collect();
        let key = "k".repeat(1 << 20);
        let mut object = json!({key.as_str(): many});
        let dropped = schema.prune(&mut object, false);
        assert_eq!(dropped.len(), bounds::MOST_TOLD);
        assert!(dropped.iter().all(|path| path.len() < 2048));
        assert_eq!(object, json!({key: {}}));
    }

    #[test]
    fn null_goes_where_it_is_no_value_and_has_no_default() {
        let schema = schema(json!({"type": "object", "properties": {
            "a": {"type": "string"},
            "b": {"type": "string", "nullable": true},
            "c": {"type": "string", "default": "x"},
            "d": {"type": "object", "additionalProperties": {"type": "integer"}},
            "e": {"type": "array", "items": {"type": "object", "properties": {"f": {"type": "string"}}}},
            "g": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}));
        let mut object = json!({"a": null, "b": null, "c": null, "d": {"k": null, "l": 1}, "e": [{"f": null}, null], "g": {"h": null}});
        schema.prune_nulls(&mut object);
        assert_eq!(object, json!({"b": null, "c": null, "d": {"l": 1}, "e": [{}, null], "g": {"h": null}}));
    }

    #[test]
    fn an_embedded_resource_keeps_its_own_metadata() {
        let schema = schema(json!({"type": "object", "properties": {
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
        }}));
        let mut object = json!({"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"y": 1}, "z": 1}});
        assert_eq!(schema.prune(&mut object, true), ["template.spec.y", "template.z"]);
        assert_eq!(object["template"]["metadata"]["name"], "x");
    }

    #[test]
    fn defaults_fill_what_is_absent_and_null_where_null_is_no_value() {
        let schema = schema(json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "b": {"type": "string", "default": "x"},
            "c": {"type": "string", "nullable": true, "default": "x"},
            "d": {"type": "object", "default": {}, "properties": {"e": {"type": "integer", "default": 7}}},
            "f": {"type": "array", "items": {"type": "object", "properties": {"g": {"type": "boolean", "default": false}}}},
            "h": {"type": "object", "properties": {"i": {"type": "string", "default": "never"}}},
        }}));
        let mut object = json!({"b": null, "c": null, "f": [{}]});
        schema.fill_defaults(&mut object);
        assert_eq!(object, json!({"a": "x", "b": "x", "c": null, "d": {"e": 7}, "f": [{"g": false}]}));
    }

    #[test]
    fn no_more_defaults_are_filled_in_than_an_object_can_hold() {
        let schema = schema(
            json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object",
            "properties": {"a": {"type": "string", "default": "x".repeat(1 << 20)}}}}}}),
        );
        let mut object = json!({"l": vec![json!({}); 100_000]});
        schema.fill_defaults(&mut object);
        let filled = object["l"].as_array().unwrap().iter().filter(|item| item["a"].is_string()).count();
        assert_eq!(filled, 7);
    }
}
