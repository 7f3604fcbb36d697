//! An object serialized once, before its resourceVersion is known.

use apimachinery::{
    numbers::AsGo,
    order::{self, Ordered},
};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize as _;
use serde_json::{Map, Serializer, Value};

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
        for (position, (name, value)) in order::members(object, "", Some("metadata")).into_iter().enumerate()
        {
            write_name(&mut text, position, name);
            if name != "metadata" {
                write_value(&mut text, name, value);
                continue;
            }
            text.push(b'{');
            let members = order::members(metadata, "metadata", Some("resourceVersion"));
            for (position, (name, value)) in members.into_iter().enumerate() {
                write_name(&mut text, position, name);
                if name == "resourceVersion" {
                    text.extend_from_slice(b"\"\"");
                    hole = Some(text.len() - 1);
                } else {
                    write_value(&mut text, name, value);
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

    /// The object, whose resourceVersion says nothing.
    pub(crate) fn value(&self) -> serde_json::Result<Value> {
        serde_json::from_slice(&self.text)
    }

    /// Bytes that the filled text takes at most.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + REVISION_DIGITS_MAX
    }
}

fn write_name(text: &mut Vec<u8>, position: usize, name: &str) {
    if position > 0 {
        text.push(b',');
    }
    serde_json::to_writer(&mut *text, name)
        .expect("a string is valid JSON, and writing to memory cannot fail");
    text.push(b':');
}

fn write_value(text: &mut Vec<u8>, name: &str, value: &Value) {
    Ordered::member(name, value)
        .serialize(&mut Serializer::with_formatter(text, AsGo::compact()))
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
    fn members_are_in_the_order_of_go() {
        check(
            &json!({"apiVersion": "v1", "kind": "A", "metadata": {"labels": {}, "name": "n", "uid": "u"}, "spec": {}}),
            r#"{"kind":"A","apiVersion":"v1","metadata":{"name":"n","uid":"u","resourceVersion":"42","labels":{}},"spec":{}}"#,
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
        check(&json!({"a": 1, "z": 2}), r#"{"metadata":{"resourceVersion":"42"},"a":1,"z":2}"#);
    }

    /// serde_json's `preserve_order` would break the order of output.
    #[test]
    fn maps_are_in_alphabetical_order() {
        assert_eq!(json!({"b": 1, "a": 2}).to_string(), r#"{"a":2,"b":1}"#);
    }
}
