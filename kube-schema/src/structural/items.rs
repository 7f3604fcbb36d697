//! Lists that are sets and maps, and objects inside of objects.

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldError, FieldPath, FieldReason, meta, names};
use serde_json::{Map, Value};

use super::{
    ListKind, Structural,
    check::{below, fault},
};
use crate::bounds::{MOST_TOLD, step};

/// The index of the first value that stood before.
pub(super) fn first_duplicate(items: &[Value]) -> Option<usize> {
    let mut seen = HashSet::new();
    items.iter().position(|item| !seen.insert(item.to_string()))
}

/// Finds embedded objects that are none. The root's own metadata is checked elsewhere. They are told whether they are new or not.
pub(super) fn embedded(
    schema: &Structural,
    value: &Value,
    path: &str,
    root: bool,
    faults: &mut Vec<FieldError>,
) {
    if faults.len() >= MOST_TOLD {
        return;
    }
    match value {
        Value::Object(map) => {
            if schema.embedded && !root {
                resource(map, path, faults);
            }
            for (field, value, path) in fields(schema, map, path) {
                embedded(field, value, &path, false, faults);
            }
        }
        Value::Array(items) => {
            if let Some(element) = &schema.items {
                for (at, item) in items.iter().enumerate() {
                    embedded(element, item, &format!("{path}[{at}]"), false, faults);
                }
            }
        }
        _ => {}
    }
}

/// Finds the duplicates of sets and list maps. Those of an object that had some before may stay, all of them.
pub(super) fn duplicates(
    schema: &Structural,
    object: &Value,
    old: Option<&Value>,
    faults: &mut Vec<FieldError>,
) {
    let mut before = Vec::new();
    if let Some(old) = old {
        lists(schema, old, "", &mut before);
    }
    if before.is_empty() {
        lists(schema, object, "", faults);
    }
}

fn lists(schema: &Structural, value: &Value, path: &str, faults: &mut Vec<FieldError>) {
    if faults.len() >= MOST_TOLD {
        return;
    }
    match value {
        Value::Object(map) => {
            for (field, value, path) in fields(schema, map, path) {
                lists(field, value, &path, faults);
            }
        }
        Value::Array(items) => {
            unique(&schema.list, items, path, faults);
            if let Some(element) = &schema.items {
                for (at, item) in items.iter().enumerate() {
                    lists(element, item, &format!("{path}[{at}]"), faults);
                }
            }
        }
        _ => {}
    }
}

/// The fields of an object that the schema names, each with its schema and its path.
fn fields<'a>(
    schema: &'a Structural,
    map: &'a Map<String, Value>,
    path: &'a str,
) -> impl Iterator<Item = (&'a Structural, &'a Value, String)> {
    map.iter().filter_map(move |(name, value)| Some((schema.field(name)?, value, member(schema, path, name))))
}

/// The path of a member: a field of a struct, or an entry of a map.
pub(super) fn member(schema: &Structural, path: &str, name: &str) -> String {
    if schema.properties.contains_key(name) { below(path, name) } else { format!("{path}[{}]", step(name)) }
}

fn unique(list: &ListKind, items: &[Value], path: &str, faults: &mut Vec<FieldError>) {
    let place = |at: usize| FieldPath::new(format!("{path}[{at}]"));
    let keys = match list {
        ListKind::Atomic => return,
        ListKind::Set => None,
        ListKind::Map(keys) => Some(keys),
    };
    if keys.is_some()
        && let Some((at, item)) =
            items.iter().enumerate().find(|(_, item)| !(item.is_object() || item.is_null()))
    {
        let detail = "must be an object for an array of list-type map";
        faults.push(FieldError::invalid(&place(at), item.clone(), detail));
        return;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (at, item) in items.iter().enumerate() {
        let identity = keys.map_or_else(
            || item.clone(),
            |keys| {
                let entries = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                Value::Object(entries.collect::<Map<_, _>>())
            },
        );
        let times = seen.entry(identity.to_string()).or_default();
        *times += 1;
        // Each is told once.
        if *times == 2 {
            if faults.len() >= MOST_TOLD {
                return;
            }
            faults.push(FieldError::duplicate(&place(at), identity));
        }
    }
}

/// An object inside of an object names its kind, and its metadata is that of any object (`schema/objectmeta.validateEmbeddedResource`).
fn resource(map: &Map<String, Value>, path: &str, faults: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let place = FieldPath::new(below(path, name));
        match map.get(name) {
            None => faults.push(FieldError::required(&place, "")),
            Some(Value::String(text)) if text.is_empty() => {
                faults.push(FieldError::invalid(&place, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "kind" => {
                let found = names::dns1035_label(&text.to_lowercase());
                if !found.is_empty() {
                    let detail =
                        format!("may have mixed case, but should otherwise match: {}", found.join(","));
                    faults.push(FieldError::invalid(&place, text.as_str(), &detail));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                let detail = format!("unexpected GroupVersion string: {text}");
                faults.push(FieldError::invalid(&place, text.as_str(), &detail));
            }
            Some(Value::String(_)) => {}
            Some(other) => faults.push(FieldError::invalid(&place, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = map.get("metadata").filter(|metadata| metadata.is_object()) {
        faults.extend(meta::validate_embedded_meta(metadata, &FieldPath::new(below(path, "metadata"))));
    }
    if map.get("metadata").is_some_and(|metadata| !metadata.is_object()) {
        faults.push(fault(
            FieldReason::Invalid,
            &below(path, "metadata"),
            map.get("metadata").cloned().unwrap_or_default(),
            "must be an object",
        ));
    }
}
