//! The rules of structural schemas (`pkg/apiserver/schema/validation.go`), and the errors of their keywords.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, FieldReason};
use kube_schema::structural::{Structural, Type};
use serde_json::{Map, Value};

use crate::registry::ErrorList;

/// Keywords of JSON schema that Kubernetes does not take.
const REFUSED: [(&str, &str); 6] = [
    ("$ref", "$ref is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("id", "id is not supported"),
];
/// Keywords that may stand only outside of allOf, anyOf, oneOf and not, and what they must be inside.
const STRUCTURE: [(&str, &str); 12] = [
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];
/// Schemas nested deeper are refused.
const DEPTH_MAX: usize = 100;

/// All errors of a version's schema.
pub(super) fn check(schema: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let before = errors.len();
    if schema["nullable"] == true {
        errors.push(FieldError::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    node(schema, path, Location::Root, 0, errors);
    match schema["type"].as_str().unwrap_or_default() {
        "" => errors.push(FieldError::required(&path.child("type"), "must not be empty at the root")),
        "object" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("type"), other, "must be object at the root"));
        }
    }
    if let Some(metadata) = schema["properties"]["metadata"].as_object() {
        root_metadata(metadata, &path.child("properties").key("metadata"), errors);
    }
    if errors.len() > before {
        return;
    }
    if names_dialect(schema) {
        errors.push(FieldError::invalid(path, "", "OpenAPIV3Schema 'schema' is not supported"));
        return;
    }
    match Structural::parse(schema) {
        Ok(mut parsed) => {
            let mut found = parsed.compile_rules();
            if found.is_empty() {
                found = parsed.expensive_rules();
            }
            let place = path;
            for error in found {
                let path = FieldPath::new(format!("{path}{}", error.path));
                let told = !matches!(error.reason, FieldReason::Required | FieldReason::Forbidden);
                let value = told.then_some(&error.value);
                let within = error.within.map(|within| format!("{place}{within}")).unwrap_or_default();
                let detail = format!("{}{within}", error.detail);
                errors.push(FieldError::new(error.reason, &path, value, &detail));
            }
            defaults(&parsed, path, errors);
        }
        Err(error) => errors.push(FieldError::invalid(path, "", &error.to_string())),
    }
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Location {
    Root,
    Field,
    Item,
    /// Inside of allOf and the like.
    Condition,
}

fn node(schema: &Value, path: &FieldPath, place: Location, depth: usize, errors: &mut ErrorList) {
    let Some(map) = schema.as_object() else { return };
    if depth > DEPTH_MAX {
        errors.push(FieldError::forbidden(path, "the schema is nested deeper than 100 levels"));
        return;
    }
    let flag = |key: &str| map.get(key).and_then(Value::as_bool) == Some(true);
    for (key, detail) in REFUSED {
        if map.contains_key(key) {
            errors.push(FieldError::forbidden(&path.child(key), detail));
        }
    }
    if flag("uniqueItems") {
        errors.push(FieldError::forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
        && let Err(error) = regex::Regex::new(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, &detail));
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    if !kind.is_empty() && Type::parse(kind).is_none() {
        let known = ["array", "boolean", "integer", "number", "object", "string"];
        errors.push(FieldError::not_supported(&path.child("type"), kind, &known));
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
    kinds_of_lists_and_maps(map, kind, path, errors);
    if place == Location::Condition {
        condition(map, path, errors);
    } else {
        structure(map, kind, path, place, errors);
        extensions(map, kind, path, errors);
        if place == Location::Root || flag("x-kubernetes-embedded-resource") {
            of_objects(map, path, errors);
        }
    }
    children(map, path, place, depth, errors);
}

/// Whether a schema, or one within it, names its dialect (`$schema`).
fn names_dialect(schema: &Value) -> bool {
    let inner = |value: &Value| match value {
        Value::Object(map) => map.values().any(names_dialect),
        Value::Array(all) => all.iter().any(names_dialect),
        _ => false,
    };
    let named = |name: &str| schema.get(name).is_some_and(&inner);
    schema.get("$schema").is_some_and(Value::is_string)
        || ["items", "additionalProperties", "not"]
            .iter()
            .any(|name| schema.get(name).is_some_and(names_dialect))
        || ["properties", "allOf", "anyOf", "oneOf"].into_iter().any(named)
}

fn structure(
    map: &Map<String, Value>,
    kind: &str,
    path: &FieldPath,
    place: Location,
    errors: &mut ErrorList,
) {
    let flag = |key: &str| map.get(key).and_then(Value::as_bool) == Some(true);
    let open = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    if kind.is_empty() && !open {
        let detail = match place {
            Location::Item => "must not be empty for specified array items",
            _ => "must not be empty for specified object fields",
        };
        if place != Location::Root {
            errors.push(FieldError::required(&path.child("type"), detail));
        }
    }
    if kind == "array" && !map.contains_key("items") {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if map.get("items").is_some_and(Value::is_array) {
        errors.push(FieldError::forbidden(
            &path.child("items"),
            "items must be a schema object and not an array",
        ));
    }
    if let Some(more) = map.get("additionalProperties").filter(|more| !more.is_null()) {
        let path = path.child("additionalProperties");
        let named = map.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
        if named && *more != true {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if place == Location::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if flag("x-kubernetes-embedded-resource") {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    // A property that only a condition names would be pruned before the condition is evaluated.
    for (branch, schema) in conditions(map) {
        specified(schema, Some(map), &branch.prefixed(path), path, errors);
    }
}

/// A branch of a condition: the keyword and, in a list, the index.
struct Branch(&'static str, Option<usize>);

impl Branch {
    fn prefixed(&self, path: &FieldPath) -> FieldPath {
        let path = path.child(self.0);
        self.1.map_or_else(|| path.clone(), |at| path.index(at))
    }
}

fn conditions(map: &Map<String, Value>) -> Vec<(Branch, &Value)> {
    let mut found = Vec::new();
    for key in ["allOf", "anyOf", "oneOf"] {
        let branches = map.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        found.extend(branches.map(|(at, schema)| (Branch(key, Some(at)), schema)));
    }
    found.extend(map.get("not").map(|schema| (Branch("not", None), schema)));
    found
}

/// Everything that a condition names must be specified outside of it, too.
fn specified(
    condition: &Value,
    schema: Option<&Map<String, Value>>,
    at: &FieldPath,
    path: &FieldPath,
    errors: &mut ErrorList,
) {
    let part = |name: &str| schema.and_then(|schema| schema.get(name));
    for (name, inner) in condition["properties"].as_object().into_iter().flatten() {
        let (at, own) = (at.child("properties").key(name), path.child("properties").key(name));
        match part("properties").and_then(|all| all.get(name)) {
            Some(schema) => specified(inner, schema.as_object(), &at, &own, errors),
            None => {
                errors.push(FieldError::required(&own, &format!("because it is defined in {at}")));
            }
        }
    }
    if condition["items"].is_object() {
        let (at, own) = (at.child("items"), path.child("items"));
        if let Some(items) = part("items").and_then(Value::as_object) {
            specified(&condition["items"], Some(items), &at, &own, errors);
        } else {
            errors.push(FieldError::required(&own, &format!("because it is defined in {at}")));
        }
    }
}

fn condition(map: &Map<String, Value>, path: &FieldPath, errors: &mut ErrorList) {
    for (key, detail) in STRUCTURE {
        // `anyOf: [{type: integer}, {type: string}]` is how int-or-string is written out.
        let int_or_string = key == "type"
            && map.len() == 1
            && matches!(map.get("type").and_then(Value::as_str), Some("integer" | "string"));
        let said = match map.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty() || key.ends_with("-type"),
            Some(Value::Array(items)) => !items.is_empty() || key == "default",
            Some(_) => true,
        };
        // A default of false is one.
        let said = said || key == "default" && map.get(key) == Some(&Value::Bool(false));
        if said && !int_or_string {
            errors.push(FieldError::forbidden(&path.child(key), detail));
        }
    }
    if map.get("properties").is_some_and(|all| all.get("metadata").is_some()) {
        let path = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&path, "must not be specified in a nested context"));
    }
    if map.contains_key("additionalProperties") {
        errors.push(FieldError::forbidden(
            &path.child("additionalProperties"),
            "must be undefined to be structural",
        ));
    }
}

fn extensions(map: &Map<String, Value>, kind: &str, path: &FieldPath, errors: &mut ErrorList) {
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if map.get(preserve) == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(&path.child(preserve), false, "must be true or undefined"));
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        for other in [preserve, "x-kubernetes-embedded-resource"] {
            if map.get(other) == Some(&Value::Bool(true)) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&path.child(other), true, detail));
            }
        }
    }
    if map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        if kind != "object" {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(FieldError::invalid(&path.child("type"), kind, detail));
        }
        if map.get(preserve) != Some(&Value::Bool(true))
            && map.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty)
        {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            errors.push(FieldError::required(&path.child("properties"), detail));
        }
    }
}

/// Checks the keywords for lists and maps, wherever they stand.
fn kinds_of_lists_and_maps(map: &Map<String, Value>, kind: &str, path: &FieldPath, errors: &mut ErrorList) {
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    let mistyped = |detail: &str| match kind {
        "" => FieldError::required(&path.child("type"), detail),
        _ => FieldError::invalid(&path.child("type"), kind, detail),
    };
    let list_type = path.child("x-kubernetes-list-type");
    match text("x-kubernetes-list-type") {
        None | Some("atomic" | "set") => {}
        Some("map") => list_map(map, path, errors),
        Some(other) => {
            errors.push(FieldError::not_listed(&list_type, other, &["atomic", "set", "map"]));
        }
    }
    if text("x-kubernetes-list-type").is_some() && kind != "array" {
        errors.push(mistyped("must be array if x-kubernetes-list-type is specified"));
    } else if text("x-kubernetes-list-type") == Some("set") {
        set_items(map, path, errors);
    }
    let keyed = map.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    if keyed.is_some_and(|keys| !keys.is_empty()) {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match text("x-kubernetes-list-type") {
            Some("map") => {}
            None => errors.push(FieldError::required(&list_type, detail)),
            Some(other) => errors.push(FieldError::invalid(&list_type, other, detail)),
        }
    }
    if let Some(map_type) = text("x-kubernetes-map-type") {
        if kind != "object" {
            errors.push(mistyped("must be object if x-kubernetes-map-type is specified"));
        }
        if !matches!(map_type, "atomic" | "granular") {
            let path = path.child("x-kubernetes-map-type");
            errors.push(FieldError::not_supported(&path, map_type, &["atomic", "granular"]));
        }
    }
}

/// The elements of a set are compared as a whole, so a part of one cannot have a field manager of its own.
fn set_items(map: &Map<String, Value>, path: &FieldPath, errors: &mut ErrorList) {
    let (items, path) = (map.get("items").unwrap_or(&Value::Null), path.child("items"));
    let text = |key: &str| items[key].as_str();
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    match text("type") {
        Some("array") if text("x-kubernetes-list-type").is_some_and(|kind| kind != "atomic") => {
            let kind = text("x-kubernetes-list-type").unwrap_or_default();
            errors.push(FieldError::invalid(&path.child("x-kubernetes-list-type"), kind, detail));
        }
        Some("object") if text("x-kubernetes-map-type") != Some("atomic") => {
            // kube-apiserver reports the list type here, which an object never has.
            errors.push(FieldError::invalid(&path.child("x-kubernetes-map-type"), Value::Null, detail));
        }
        _ => {}
    }
}

/// `apiVersion`, `kind` and `metadata`, for which a schema may specify nothing else.
fn of_objects(map: &Map<String, Value>, path: &FieldPath, errors: &mut ErrorList) {
    for (name, kind) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let said = map.get("properties").and_then(|all| all[name]["type"].as_str());
        if let Some(said) = said.filter(|said| *said != kind) {
            let path = path.child("properties").key(name).child("type");
            errors.push(FieldError::invalid(&path, said, &format!("must be {kind}")));
        }
    }
}

fn list_map(map: &Map<String, Value>, path: &FieldPath, errors: &mut ErrorList) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let keys = map.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let keys = keys.map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&keys_path, detail));
    }
    let items = map.get("items").unwrap_or(&Value::Null);
    if items["type"] != "object" {
        let kind = items["type"].as_str().unwrap_or_default();
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&path.child("items").child("type"), kind, detail));
        return;
    }
    let all = map.get("x-kubernetes-list-map-keys").cloned().unwrap_or_default();
    let required: HashSet<&str> =
        items["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    // An error of one key lists all keys, so it is reported once.
    let (mut seen, mut twice, mut strange) = (HashSet::new(), false, false);
    for name in keys.iter().map(|key| key.as_str().unwrap_or_default()) {
        if !seen.insert(name) {
            twice = true;
            continue;
        }
        let property = &items["properties"][name];
        let here = path.child("items").child("properties").key(name);
        if property.is_null() {
            strange = true;
        } else if !required.contains(name) && property.get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&here.child("default"), detail));
        }
    }
    if twice {
        errors.push(FieldError::invalid(&keys_path, all.clone(), "must not contain duplicate entries"));
    }
    if strange {
        errors.push(FieldError::invalid(&keys_path, all, "entries must all be names of item properties"));
    }
}

fn children(
    map: &Map<String, Value>,
    path: &FieldPath,
    place: Location,
    depth: usize,
    errors: &mut ErrorList,
) {
    let inner = |own: Location| if place == Location::Condition { Location::Condition } else { own };
    for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        // The three of any object are implied, with their types.
        let implied = place == Location::Root && matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
        if !implied || property.get("type").is_some() {
            let path = path.child("properties").key(name);
            node(property, &path, inner(Location::Field), depth + 1, errors);
        }
    }
    if let Some(more) = map.get("additionalProperties").filter(|more| more.is_object()) {
        node(more, &path.child("additionalProperties"), inner(Location::Field), depth + 1, errors);
    }
    if let Some(items) = map.get("items").filter(|items| items.is_object()) {
        node(items, &path.child("items"), inner(Location::Item), depth + 1, errors);
    }
    for (branch, schema) in conditions(map) {
        node(schema, &branch.prefixed(path), Location::Condition, depth + 1, errors);
    }
}

fn root_metadata(metadata: &Map<String, Value>, path: &FieldPath, errors: &mut ErrorList) {
    let allowed = |key: &String| matches!(key.as_str(), "type" | "description" | "properties");
    let others = metadata.get("properties").and_then(Value::as_object).into_iter().flatten();
    let only_names = others.into_iter().all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    if metadata.keys().all(allowed) && only_names {
        return;
    }
    errors.push(FieldError::forbidden(
        path,
        "must not specify anything other than name and generateName, but metadata is implicitly specified",
    ));
}

/// A default must be valid, with the defaults within it filled in.
fn defaults(schema: &Structural, path: &FieldPath, errors: &mut ErrorList) {
    let one = |schema: &Structural, path: &FieldPath, errors: &mut ErrorList| {
        if let Some(default) = &schema.default {
            let path = path.child("default");
            let mut filled = default.clone();
            let unknown = schema.prune(&mut filled, false);
            if !unknown.is_empty() {
                let detail = format!("must not have unknown fields: {}", unknown.join(", "));
                errors.push(FieldError::invalid(&path, default.clone(), &detail));
            }
            schema.fill_defaults(&mut filled);
            let rules = schema.check_rules(&filled, None).faults;
            for error in schema.check(&filled, None).into_iter().chain(rules) {
                // An error without a field is one of the default itself.
                let inner = if matches!(&*error.field, "" | "<nil>") {
                    path.clone()
                } else {
                    FieldPath::new(format!("{path}.{}", error.field))
                };
                errors.push(FieldError { field: inner.to_string(), ..error });
            }
        }
        defaults(schema, path, errors);
    };
    for (name, property) in &schema.properties {
        one(property, &path.child("properties").key(name), errors);
    }
    if let Some(more) = &schema.additional {
        one(more, &path.child("additionalProperties"), errors);
    }
    if let Some(items) = &schema.items {
        one(items, &path.child("items"), errors);
    }
}

#[cfg(test)]
mod tests;
