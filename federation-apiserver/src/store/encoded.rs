//! An object serialized once, before its resourceVersion is known.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

use super::Meta;

/// An object as JSON with a hole where `metadata.resourceVersion` goes. The writer fills the hole when it assigns the
/// revision, so nothing is serialized under its lock, and reads send the very bytes that were stored.
#[derive(Clone, Debug)]
pub struct Encoded {
    text: Bytes,
    hole: usize,
    /// Facts about the object, kept beside its bytes.
    pub meta: Meta,
}

/// Decimal digits of `u64::MAX`.
const REVISION_DIGITS_MAX: usize = 20;

impl Encoded {
    /// Serializes `object`; a resourceVersion inside it is ignored. An object without `metadata` gets one.
    pub fn new(object: &Value, meta: Meta) -> Self {
        let mut text = Vec::with_capacity(1024);
        let mut hole = None;
        let empty = Map::new();
        let object = object.as_object().unwrap_or(&empty);
        let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        text.push(b'{');
        for (position, (name, value)) in with_key(object, "metadata").into_iter().enumerate() {
            write_name(&mut text, position, name);
            if name != "metadata" {
                write_value(&mut text, value);
                continue;
            }
            text.push(b'{');
            for (position, (name, value)) in with_key(metadata, "resourceVersion").into_iter().enumerate() {
                write_name(&mut text, position, name);
                if name == "resourceVersion" {
                    text.extend_from_slice(b"\"\"");
                    hole = Some(text.len() - 1);
                } else {
                    write_value(&mut text, value);
                }
            }
            text.push(b'}');
        }
        text.push(b'}');
        Self { hole: hole.unwrap_or_default(), text: text.into(), meta }
    }

    /// The JSON text with `revision` as its resourceVersion.
    pub(crate) fn fill(&self, revision: u64) -> Bytes {
        let mut text = BytesMut::with_capacity(self.size());
        text.put_slice(&self.text[..self.hole]);
        text.put_slice(revision.to_string().as_bytes());
        text.put_slice(&self.text[self.hole..]);
        text.freeze()
    }

    /// Bytes that the filled text takes at most.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + REVISION_DIGITS_MAX
    }
}

/// The map's entries in order, with `key` among them even when it is absent.
fn with_key<'a>(map: &'a Map<String, Value>, key: &'a str) -> Vec<(&'a str, &'a Value)> {
    let mut entries: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value)).collect();
    if !map.contains_key(key) {
        entries.insert(entries.partition_point(|(name, _)| *name < key), (key, &Value::Null));
    }
    entries
}

fn write_name(text: &mut Vec<u8>, position: usize, name: &str) {
    if position > 0 {
        text.push(b',');
    }
    serde_json::to_writer(&mut *text, name)
        .expect("a string is valid JSON, and writing to memory cannot fail");
    text.push(b':');
}

fn write_value(text: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(text, value)
        .expect("a JSON value is valid JSON, and writing to memory cannot fail");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(object: &Value, expect: &str) {
        let filled = Encoded::new(object, Meta::default()).fill(42);
        assert_eq!(std::str::from_utf8(&filled).unwrap(), expect);
    }

    #[test]
    fn the_revision_lands_in_alphabetical_place() {
        check(
            &json!({"kind": "A", "metadata": {"name": "n", "uid": "u"}, "spec": {}}),
            r#"{"kind":"A","metadata":{"name":"n","resourceVersion":"42","uid":"u"},"spec":{}}"#,
        );
    }

    #[test]
    fn an_old_revision_is_replaced() {
        check(
            &json!({"metadata": {"name": "é\"", "resourceVersion": "7"}}),
            r#"{"metadata":{"name":"é\"","resourceVersion":"42"}}"#,
        );
    }

    #[test]
    fn an_object_without_metadata_gets_one() {
        check(&json!({"a": 1, "z": 2}), r#"{"a":1,"metadata":{"resourceVersion":"42"},"z":2}"#);
    }

    /// serde_json's `preserve_order` would break both the order of output and this module.
    #[test]
    fn maps_are_in_alphabetical_order() {
        assert_eq!(json!({"b": 1, "a": 2}).to_string(), r#"{"a":2,"b":1}"#);
    }
}
