//! How custom kinds are described: their schemas as they are published, which is less than what is validated with.

use serde_json::{Map, Value, json};

use super::Resource;
use crate::{Schemas, schemas::OBJECT_META};

const OPEN: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// A custom kind's definition for version 3: integers or strings say that they are, and what holds whole objects says what all objects have.
pub(crate) fn v3(schema: &Value) -> Value {
    let mut published = every(schema, &v3);
    if let Some(object) = published.as_object_mut() {
        // Structural schemas have neither.
        for key in ["example", "externalDocs"] {
            object.remove(key);
        }
        unfold(object);
        embed(object);
    }
    published
}

/// A custom kind's definition for version 2, of which kubectl makes its own checks: what it would take for more than is meant is left out.
/// An object that may have any field must not list some, or kubectl refuses all others.
pub(super) fn v2(schema: &Value) -> Value {
    if flag(schema, OPEN) {
        let mut open = json!({"type": "object"});
        if let Some(kinds) = schema.get("x-kubernetes-group-version-kind") {
            open["x-kubernetes-group-version-kind"] = kinds.clone();
        }
        return open;
    }
    reduced(schema)
}

/// Has the lists of custom kinds say of what they are.
pub(super) fn describe_lists(
    schemas: &Schemas,
    resources: &[&Resource],
    definitions: &mut Map<String, Value>,
) {
    for resource in resources {
        let kind = format!("{}List", resource.kind);
        let name = schemas.name_of(&resource.group, &resource.version, &kind);
        let Some(name) = name.filter(|name| !Schemas::is_builtin(name)) else { continue };
        let items = definitions.get_mut(name).and_then(|list| list.pointer_mut("/properties/items"));
        if let Some(items) = items.and_then(Value::as_object_mut) {
            let text = format!(
                "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
                resource.plural
            );
            items.insert("description".into(), text.into());
        }
    }
}

fn reduced(schema: &Value) -> Value {
    let mut result = every(schema, &reduced);
    let Some(object) = result.as_object_mut() else { return result };
    let (open, nullable) = (flag(schema, OPEN), flag(schema, "nullable"));
    for key in ["allOf", "anyOf", "oneOf", "not", "nullable", "example", "externalDocs"] {
        object.remove(key);
    }
    if open || nullable {
        object.remove("items");
        object.remove("properties");
    }
    let list_of_anything = schema["type"] == "array" && !object.contains_key("items");
    if nullable || list_of_anything || (open && schema["type"] == "object") {
        object.remove("type");
    }
    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
    if object.contains_key("properties") {
        required
            .retain(|name| !name.as_str().is_some_and(|name| flag(&schema["properties"][name], "nullable")));
    }
    if required.is_empty() || flag(&schema["additionalProperties"], "nullable") {
        object.remove("required");
    } else {
        object.insert("required".into(), required.into());
    }
    if !open {
        embed(object);
    }
    result
}

/// The schema with another one in place of each one below it.
fn every(schema: &Value, other: &dyn Fn(&Value) -> Value) -> Value {
    let Value::Object(source) = schema else { return schema.clone() };
    let each = |(key, value): (&String, &Value)| {
        let value = match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                Value::Object(properties.iter().map(|(name, schema)| (name.clone(), other(schema))).collect())
            }
            ("items" | "additionalProperties", schema) => other(schema),
            (_, value) => value.clone(),
        };
        (key.clone(), value)
    };
    Value::Object(source.iter().map(each).collect())
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn unfold(schema: &mut Map<String, Value>) {
    if schema.get(INT_OR_STRING) != Some(&Value::Bool(true)) {
        return;
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let said = schema.get("anyOf") == Some(&either)
        || schema.get("allOf").is_some_and(|all| all.pointer("/0/anyOf") == Some(&either));
    if said {
        return;
    }
    if schema.contains_key("anyOf") {
        let all = schema.entry("allOf").or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut() {
            all.insert(0, json!({"anyOf": either}));
        }
    } else {
        schema.insert("anyOf".into(), either);
    }
}

fn embed(schema: &mut Map<String, Value>) {
    if schema.get(EMBEDDED) != Some(&Value::Bool(true)) {
        return;
    }
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        let conventions =
            "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
        properties.insert("apiVersion".into(), json!({"type": "string", "description": format!("apiVersion defines the versioned schema of this representation of an object. More info: {conventions}#resources")}));
        properties.insert("kind".into(), json!({"type": "string", "description": format!("kind is a string value representing the type of this object. In CamelCase. More info: {conventions}#types-kinds")}));
        properties.insert("metadata".into(), json!({"$ref": format!("#/components/schemas/{OBJECT_META}"), "description": format!("Standard object's metadata. More info: {conventions}#metadata")}));
    }
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == name) {
                required.push(name.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_with_any_fields_lists_none_in_version_2() {
        let schema = json!({"type": "object", OPEN: true, "description": "d", "properties": {"spec": {"type": "object"}},
            "x-kubernetes-group-version-kind": [{"kind": "A"}]});
        assert_eq!(
            v2(&schema),
            json!({"type": "object", "x-kubernetes-group-version-kind": [{"kind": "A"}]})
        );
        assert_eq!(v3(&schema), schema);
    }

    #[test]
    fn version_2_says_nothing_that_kubectl_would_misread() {
        let check = |schema: Value, expected: Value| {
            let whole = |inner: Value| json!({"type": "object", "properties": {"it": inner}});
            assert_eq!(v2(&whole(schema)), whole(expected));
        };
        check(json!({"type": "object", "nullable": true, "properties": {"x": {}}}), json!({}));
        check(json!({OPEN: true}), json!({OPEN: true}));
        check(json!({"type": "object", OPEN: true, "properties": {"y": {}}}), json!({OPEN: true}));
        check(json!({"type": "array", "nullable": true, "items": {"type": "string"}}), json!({}));
        check(
            json!({"type": "array", "items": {"type": "object", OPEN: true}}),
            json!({"type": "array", "items": {OPEN: true}}),
        );
        check(json!({"type": "object", EMBEDDED: true, OPEN: true}), json!({EMBEDDED: true, OPEN: true}));
        check(
            json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string", "nullable": true}, "b": {"type": "string"}}}),
            json!({"type": "object", "required": ["b"], "properties": {"a": {}, "b": {"type": "string"}}}),
        );
        check(
            json!({"type": "string", "example": "bar", "anyOf": [{"pattern": "a"}], "pattern": "b"}),
            json!({"type": "string", "pattern": "b"}),
        );
        let told = json!({"type": "string", "externalDocs": {"url": "https://example.com"}});
        check(told.clone(), json!({"type": "string"}));
        assert_eq!(v3(&told), json!({"type": "string"}));
    }

    #[test]
    fn objects_inside_have_what_all_objects_have() {
        let schema = json!({"type": "object", "properties": {"it": {"type": "object", EMBEDDED: true, "properties": {"spec": {"type": "string"}}}}});
        for published in [v2(&schema), v3(&schema)] {
            let it = &published["properties"]["it"];
            assert_eq!(it["required"], json!(["kind", "apiVersion"]));
            let properties = it["properties"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
            let mut properties = properties.unwrap_or_default();
            properties.sort();
            assert_eq!(properties, ["apiVersion", "kind", "metadata", "spec"]);
        }
    }

    #[test]
    fn integers_or_strings_say_so_in_version_3() {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        assert_eq!(v3(&json!({INT_OR_STRING: true})), json!({INT_OR_STRING: true, "anyOf": either}));
        let said = json!({INT_OR_STRING: true, "anyOf": either, "pattern": "a"});
        assert_eq!(v3(&said), said);
        assert_eq!(
            v3(&json!({INT_OR_STRING: true, "anyOf": [{"pattern": "a"}]})),
            json!({INT_OR_STRING: true, "anyOf": [{"pattern": "a"}], "allOf": [{"anyOf": either}]})
        );
    }
}
