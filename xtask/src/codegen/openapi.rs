//! The OpenAPI definitions, put together from two published forms.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::write_compressed;

/// The definition prefixes whose kinds are served; whatever they refer to comes along.
const SERVED: &[&str] = &[
    "io.k8s.api.admissionregistration.v1.",
    "io.k8s.api.apps.v1.",
    "io.k8s.api.authentication.v1.",
    "io.k8s.api.authorization.v1.",
    "io.k8s.api.autoscaling.v1.",
    "io.k8s.api.autoscaling.v2.",
    "io.k8s.api.batch.v1.",
    "io.k8s.api.certificates.v1.",
    "io.k8s.api.coordination.v1.",
    "io.k8s.api.core.v1.",
    "io.k8s.api.discovery.v1.",
    "io.k8s.api.events.v1.",
    "io.k8s.api.flowcontrol.v1.",
    "io.k8s.api.networking.v1.",
    "io.k8s.api.node.v1.",
    "io.k8s.api.policy.v1.",
    "io.k8s.api.rbac.v1.",
    "io.k8s.api.resource.v1.",
    "io.k8s.api.scheduling.v1.",
    "io.k8s.api.storage.v1.",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
    "io.k8s.apimachinery.pkg.",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.",
];

/// The defaults of the one group whose Go files no package carries (`k8s.io/kube-aggregator`): definition, property, value.
const AGGREGATOR_DEFAULTS: &[(&str, &str, &str)] = &[
    ("APIService", "metadata", "{}"),
    ("APIService", "spec", "{}"),
    ("APIService", "status", "{}"),
    ("APIServiceCondition", "status", "\"\""),
    ("APIServiceCondition", "type", "\"\""),
    ("APIServiceList", "metadata", "{}"),
    ("APIServiceSpec", "groupPriorityMinimum", "0"),
    ("APIServiceSpec", "versionPriority", "0"),
];

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Writes the definitions of what is served.
pub(super) fn write(input: &Path, generated: &Path, output: &Path) -> anyhow::Result<()> {
    let document = read(input)?;
    let generated = read(generated)?;
    let all = document.get("$defs").and_then(Value::as_object).context("the input has no $defs")?;
    let mut wanted: Vec<String> =
        all.keys().filter(|name| SERVED.iter().any(|prefix| name.starts_with(prefix))).cloned().collect();
    let mut kept = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if kept.contains_key(&name) {
            continue;
        }
        let mut schema =
            all.get(&name).with_context(|| format!("{name} is referred to, but not defined"))?.clone();
        restore(&name, &mut schema);
        references(&schema, &mut wanted);
        kept.insert(name, schema);
    }
    for (name, definition) in &mut kept {
        if let Some(generated) = generated.get(name) {
            complete(definition, generated);
            if [QUANTITY, INT_OR_STRING].contains(&name.as_str()) {
                definition["description"] = generated["description"].clone();
            }
        }
    }
    kept.values_mut().for_each(elements);
    for (name, path, default) in AGGREGATOR_DEFAULTS {
        let name = format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.{name}");
        let property = kept
            .get_mut(&name)
            .and_then(|schema| schema.pointer_mut(&format!("/properties/{path}")))
            .and_then(Value::as_object_mut)
            .with_context(|| format!("{name} has no property {path}"))?;
        property.insert("default".into(), serde_json::from_str(default)?);
    }
    println!("{} definitions", kept.len());
    write_compressed(output, &serde_json::to_value(kept)?)
}

/// Undoes what the JSON-schema conversion changed: nullable types, reference prefixes, `oneOf` of the two scalar unions,
/// and the `enum` that ties apiVersion and kind of a top-level object.
fn restore(name: &str, schema: &mut Value) {
    if name == QUANTITY {
        *schema = json!({"type": "string"});
        return;
    }
    if name == INT_OR_STRING {
        *schema = json!({"type": "string", "format": "int-or-string"});
        return;
    }
    restore_types(schema);
    if schema.get("x-kubernetes-group-version-kind").is_some()
        && let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut)
    {
        for field in ["apiVersion", "kind"] {
            if let Some(property) = properties.get_mut(field).and_then(Value::as_object_mut) {
                property.remove("enum");
            }
        }
    }
}

fn restore_types(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = schema.get("type")
        && let Some(first) = types.iter().find(|t| t.as_str() != Some("null")).cloned()
    {
        schema.insert("type".into(), first);
    }
    if let Some(Value::String(reference)) = schema.get_mut("$ref") {
        *reference = reference.replace("#/$defs/", "#/components/schemas/");
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(restore_types);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            restore_types(inner);
        }
    }
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref")
                && let Some(name) = reference.strip_prefix("#/components/schemas/")
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// What ends the description of a field with a fixed set of values.
const ENUM_VALUES: &str = "\n\nPossible enum values:";

/// Adds the defaults and enumerations of `generated` where both have the same field.
fn complete(schema: &mut Value, generated: &Value) {
    let (Some(schema), Some(generated)) = (schema.as_object_mut(), generated.as_object()) else { return };
    for key in ["default", "enum"] {
        if let Some(value) = generated.get(key) {
            schema.insert(key.into(), value.clone());
        }
    }
    let text = |schema: &Map<String, Value>| Some(schema.get("description")?.as_str()?.to_owned());
    if let (Some(own), Some(other)) = (text(schema), text(generated))
        && let Some(at) = other.find(ENUM_VALUES)
        && !own.contains(ENUM_VALUES)
    {
        schema.insert("description".into(), json!(own + &other[at..]));
    }
    for key in ["items", "additionalProperties"] {
        if let (Some(schema), Some(generated)) = (schema.get_mut(key), generated.get(key)) {
            complete(schema, generated);
        }
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if let Some(generated) = generated.get("properties").and_then(|properties| properties.get(name)) {
            complete(property, generated);
        }
    }
}

/// Types that read themselves from JSON: their zero value is null, so kube-openapi names no default.
const OWN_READERS: &[&str] = &[
    "Quantity",
    "IntOrString",
    "Time",
    "MicroTime",
    "Duration",
    "FieldsV1",
    "RawExtension",
    "JSON",
    "JSONSchemaPropsOrArray",
    "JSONSchemaPropsOrBool",
    "JSONSchemaPropsOrStringArray",
];

/// The items of lists and the values of maps have the zero value of their type as default. Newer versions of the generator leave it out; that
/// of kube-apiserver 1.36 does not.
fn elements(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, property)| elements(property));
    for key in ["items", "additionalProperties"] {
        let Some(element) = schema.get_mut(key).filter(|element| element.is_object()) else { continue };
        elements(element);
        let text = |name: &str| element.get(name).and_then(Value::as_str);
        let zero = match (text("$ref"), text("type")) {
            (Some(reference), _) => {
                let name = reference.rsplit('.').next().unwrap_or_default();
                (!OWN_READERS.contains(&name)).then(|| json!({}))
            }
            (None, Some("string")) => (text("format") != Some("byte")).then(|| json!("")),
            (None, Some("integer" | "number")) => Some(json!(0)),
            (None, Some("boolean")) => Some(json!(false)),
            _ => None,
        };
        if let Some(zero) = zero {
            element["default"] = zero;
        }
    }
}
