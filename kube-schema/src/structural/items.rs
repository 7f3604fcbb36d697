//! Lists that are sets and maps, and objects inside of objects.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, FieldReason, meta, names};
use serde_json::{Map, Value};

use super::{
    ListKind, Structural,
    check::{below, fault},
};
use crate::bounds::MOST_TOLD;

/// The index of the first value that stood before.
pub(super) fn first_duplicate(items: &[Value]) -> Option<usize> {
    let mut seen = HashSet::new();
    items.iter().position(|item| !seen.insert(item.to_string()))
}

/// The item of an old list that is the same entry: only list maps have any.
pub(super) fn counterpart<'a>(list: &ListKind, old: &'a Value, item: &Value) -> Option<&'a Value> {
    let ListKind::Map(keys) = list else { return None };
    old.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}

/// The same for faults that may stay (`ratchetingValueValidator`): of a list that says nothing of its kind, the item at the same place.
pub(super) fn at_place<'a>(list: &ListKind, old: &'a Value, at: usize, item: &Value) -> Option<&'a Value> {
    if *list == ListKind::Unsaid { old.as_array()?.get(at) } else { counterpart(list, old, item) }
}

/// Finds duplicates, and embedded objects that are none. The root's own metadata is checked elsewhere.
pub(super) fn check(
    schema: &Structural,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    root: bool,
    faults: &mut Vec<FieldError>,
) {
    if old == Some(value) || faults.len() >= MOST_TOLD {
        return;
    }
    match value {
        Value::Object(map) => {
            if schema.embedded && !root {
                embedded(map, path, faults);
            }
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    let old = old.and_then(|old| old.get(name));
                    check(field, value, old, &below(path, name), false, faults);
                }
            }
        }
        Value::Array(items) => {
            unique(&schema.list, items, path, faults);
            if let Some(element) = &schema.items {
                for (at, item) in items.iter().enumerate() {
                    let old = old.and_then(|old| at_place(&schema.list, old, at, item));
                    check(element, item, old, &format!("{path}[{at}]"), false, faults);
                }
            }
        }
        _ => {}
    }
}

fn unique(list: &ListKind, items: &[Value], path: &str, faults: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (at, item) in items.iter().enumerate() {
        let identity = match list {
            ListKind::Unsaid | ListKind::Atomic => return,
            ListKind::Set => item.clone(),
            ListKind::Map(keys) => {
                let entries = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        };
        if !seen.insert(identity.to_string()) {
            if faults.len() >= MOST_TOLD {
                return;
            }
            faults.push(FieldError::duplicate(&FieldPath::new(format!("{path}[{at}]")), identity));
        }
    }
}

/// An object inside of an object names its kind, and its metadata is that of any object (`schema/objectmeta.validateEmbeddedResource`).
fn embedded(map: &Map<String, Value>, path: &str, faults: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let place = FieldPath::new(below(path, name));
        match map.get(name) {
            None => faults.push(FieldError::required(&place, "must not be empty")),
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
