//! What a value was before, and whether it is the same (KEP-4008, ratcheting): apiserver's `CorrelatedObject`.

use std::collections::HashMap;

use serde_json::Value;

use super::{ListKind, Structural};

/// The items of an old list, as those of a new one look for theirs. It is made once for a list, however long that is.
pub(super) enum Former<'a> {
    /// No item is told from one state to the next.
    None,
    /// By the values of the keys; of items that are the same entry, the first.
    Entries(&'a [String], HashMap<Vec<&'a Value>, &'a Value>),
}

impl<'a> Former<'a> {
    /// Items that are the same entry: only list maps have any.
    pub(super) fn entries(list: &'a ListKind, old: Option<&'a Value>) -> Self {
        let (ListKind::Map(keys), Some(items)) = (list, old.and_then(Value::as_array)) else {
            return Self::None;
        };
        let mut entries = HashMap::with_capacity(items.len());
        for item in items {
            if let Some(identity) = identity(keys, item) {
                entries.entry(identity).or_insert(item);
            }
        }
        Self::Entries(keys, entries)
    }

    /// What an item was before.
    pub(super) fn of(&self, item: &Value) -> Option<&'a Value> {
        match self {
            Self::None => None,
            Self::Entries(keys, entries) => entries.get(&identity(keys, item)?).copied(),
        }
    }
}

/// The values of the keys; none if one of them is missing or no scalar.
fn identity<'v>(keys: &[String], item: &'v Value) -> Option<Vec<&'v Value>> {
    let scalar = |value: &&Value| !matches!(value, Value::Null | Value::Array(_) | Value::Object(_));
    keys.iter().map(|key| item.get(key).filter(scalar)).collect()
}

/// Whether a value is what it was. Entries of list maps may have changed their places; a field that the schema does not name is never the
/// same, for nothing is known of it.
pub(super) fn unchanged(schema: &Structural, value: &Value, old: &Value) -> bool {
    match (value, old) {
        (Value::Array(items), Value::Array(before)) => {
            if items.len() != before.len() {
                return false;
            }
            let (ListKind::Map(_), Some(element)) = (&schema.list, &schema.items) else {
                return items == before;
            };
            let former = Former::entries(&schema.list, Some(old));
            items.iter().all(|item| former.of(item).is_some_and(|old| unchanged(element, item, old)))
        }
        (Value::Object(fields), Value::Object(before)) => {
            let same = |(name, value): (&String, &Value)| {
                let (Some(old), Some(field)) = (before.get(name), schema.field(name)) else { return false };
                unchanged(field, value, old)
            };
            fields.len() == before.len() && fields.iter().all(same)
        }
        _ => value == old,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn list_maps_are_the_same_in_any_order_and_what_is_unknown_never_is() {
        let text = json!({"type": "string"});
        let entry = json!({"type": "object", "properties": {"k": text, "v": text}});
        let schema = Structural::parse(&json!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": entry},
                "plain": {"type": "array", "items": text},
            },
        }))
        .unwrap();
        let same = |old: Value, new: Value| unchanged(&schema, &new, &old);
        let (a, b) = (json!({"k": "a", "v": "1"}), json!({"k": "b"}));
        assert!(same(json!({"map": [a, b]}), json!({"map": [b, a]})));
        assert!(!same(json!({"map": [a, b]}), json!({"map": [a, {"k": "b", "v": ""}]})));
        assert!(!same(json!({"map": [{"v": "1"}]}), json!({"map": [{"v": "1"}]})), "it has no key");
        assert!(same(json!({"plain": ["a", "b"]}), json!({"plain": ["a", "b"]})));
        assert!(!same(json!({"plain": ["a", "b"]}), json!({"plain": ["b", "a"]})));
        assert!(!same(json!({"other": 1}), json!({"other": 1})));
    }
}
