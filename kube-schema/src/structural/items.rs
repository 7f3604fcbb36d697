//! Lists that are sets and maps, and objects inside of objects.

use std::collections::{HashMap, HashSet};

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

/// The items of an old list, as those of a new one look for theirs. It is made once for a list, however long that is.
pub(super) enum Former<'a> {
    /// No item is told from one state to the next.
    None,
    /// By their places.
    Places(&'a [Value]),
    /// By the values of the keys; of items that are the same entry, the first.
    Entries(&'a [String], HashMap<Vec<Option<&'a Value>>, &'a Value>),
}

impl<'a> Former<'a> {
    /// Items that are the same entry: only list maps have any.
    pub(super) fn entries(list: &'a ListKind, old: Option<&'a Value>) -> Self {
        let (ListKind::Map(keys), Some(items)) = (list, old.and_then(Value::as_array)) else {
            return Self::None;
        };
        let mut entries = HashMap::with_capacity(items.len());
        for item in items {
            entries.entry(identity(keys, item)).or_insert(item);
        }
        Self::Entries(keys, entries)
    }

    /// The same for faults that may stay (`ratchetingValueValidator`): of a list that says nothing of its kind, the items at the same places.
    pub(super) fn places(list: &'a ListKind, old: Option<&'a Value>) -> Self {
        match (list, old.and_then(Value::as_array)) {
            (ListKind::Unsaid, Some(items)) => Self::Places(items),
            _ => Self::entries(list, old),
        }
    }

    /// What an item at a place was before.
    pub(super) fn of(&self, at: usize, item: &Value) -> Option<&'a Value> {
        match self {
            Self::None => None,
            Self::Places(items) => items.get(at),
            Self::Entries(keys, entries) => entries.get(&identity(keys, item)).copied(),
        }
    }
}

fn identity<'v>(keys: &[String], item: &'v Value) -> Vec<Option<&'v Value>> {
    keys.iter().map(|key| item.get(key)).collect()
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
                let former = Former::places(&schema.list, old);
                for (at, item) in items.iter().enumerate() {
                    check(element, item, former.of(at, item), &format!("{path}[{at}]"), false, faults);
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
            ListKind::Map(_) if !item.is_object() => {
                if !item.is_null() {
                    let detail = "must be an object for an array of list-type map";
                    let path = FieldPath::new(format!("{path}[{at}]"));
                    faults.push(FieldError::invalid(&path, item.clone(), detail));
                }
                continue;
            }
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
