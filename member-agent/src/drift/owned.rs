//! What of a live object is the federation's, by `metadata.managedFields`.

use federation_core::api::marks;
use serde_json::{Map, Value};

/// Whether an entry of `managedFields` is that of our applies.
pub(crate) fn is_ours(entry: &Value) -> bool {
    let is = |name: &str, text: &str| entry.get(name).and_then(Value::as_str) == Some(text);
    let whole = entry.get("subresource").is_none_or(|subresource| subresource == "");
    whole && is("manager", marks::FIELD_MANAGER) && is("operation", "Apply")
}

/// Whether a value that we applied is ours still.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owned<'a> {
    /// All of it: a leaf, or a list or map that is one value.
    Whole,
    /// These parts of it.
    Parts(&'a Map<String, Value>),
    /// Nothing of it: somebody else changed it since.
    Lost,
    /// That cannot be told.
    Unknown,
}

impl<'a> Owned<'a> {
    /// Of an object. Without an entry of ours, nothing: every server keeps one from the first apply on.
    pub(super) fn of(live: &'a Value) -> Self {
        let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
        let entry = entries.and_then(|entries| entries.iter().find(|entry| is_ours(entry)));
        match entry.and_then(|entry| entry.get("fieldsV1")).and_then(Value::as_object) {
            Some(fields) => Self::Parts(fields),
            None => Self::Lost,
        }
    }

    pub(super) fn is_lost(self) -> bool {
        matches!(self, Self::Lost)
    }

    /// Whether others may own other parts of it.
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::Parts(_))
    }

    /// Of a field.
    pub(super) fn field(self, name: &str) -> Self {
        match self {
            Self::Parts(parts) => parts.get(&format!("f:{name}")).map_or(Self::Lost, Self::node),
            other => other,
        }
    }

    /// Of an item of a list, as we want it.
    pub(super) fn item(self, wanted: &Value) -> Self {
        let Self::Parts(parts) = self else { return self };
        let is_it = |(name, _): &(&String, &Value)| match name.split_once(':') {
            Some(("k", keys)) => {
                let keys: Option<Map<String, Value>> = serde_json::from_str(keys).ok();
                keys.is_some_and(|keys| keys.iter().all(|(name, value)| wanted.get(name) == Some(value)))
            }
            Some(("v", value)) => serde_json::from_str(value).is_ok_and(|value: Value| value == *wanted),
            _ => false,
        };
        // The server may have filled in a key.
        parts.iter().find(is_it).map_or(Self::Unknown, |(_, node)| Self::node(node))
    }

    fn node(node: &'a Value) -> Self {
        match node.as_object() {
            Some(parts) if parts.keys().any(|name| name != ".") => Self::Parts(parts),
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_our_applies_count() {
        let of = |manager: &str, operation: &str| json!({"metadata": {"managedFields": [{"manager": manager, "operation": operation, "fieldsV1": {"f:a": {}}}]}});
        assert!(matches!(Owned::of(&of(marks::FIELD_MANAGER, "Apply")).field("a"), Owned::Whole));
        assert!(Owned::of(&of(marks::FIELD_MANAGER, "Update")).field("a").is_lost());
        assert!(Owned::of(&of("kubectl-edit", "Apply")).field("a").is_lost());
        assert!(Owned::of(&json!({})).is_lost());
    }

    #[test]
    fn items_are_told_apart_by_their_keys_or_values() {
        let fields = json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:set": {"v:\"a\"": {}}});
        let Value::Object(fields) = fields else { unreachable!("a map") };
        let (ports, set) = (Owned::Parts(&fields).field("ports"), Owned::Parts(&fields).field("set"));
        assert!(matches!(ports.item(&json!({"port": 80, "protocol": "TCP", "name": "x"})), Owned::Parts(_)));
        assert!(matches!(ports.item(&json!({"port": 80})), Owned::Unknown));
        assert!(matches!(set.item(&json!("a")), Owned::Whole));
        assert!(matches!(set.item(&json!("b")), Owned::Unknown));
    }
}
