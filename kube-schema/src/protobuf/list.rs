//! Lists that are encoded object by object, so that the values of all objects are never in memory at once.

use serde_json::Value;

use super::table::{Field, Kind, Message, Tables};
use super::wire::put_message;
use super::{Error, TypeMeta, encode, put_head, put_length, put_tail, type_meta_of, unknown};

/// A list of which some objects are encoded already.
pub struct ListEncoder {
    meta: TypeMeta,
    items: &'static Field,
    item: &'static Message,
    count: usize,
    message: Vec<u8>,
}

impl ListEncoder {
    /// Begins a list. `list` has its apiVersion, kind and metadata, and no items; `size` is about how many bytes the items will take.
    ///
    /// # Errors
    /// [`Error::Kind`] if it has no protobuf form in which the items come last, or what is wrong with its metadata.
    pub fn new(list: &Value, size: usize) -> Result<Self, Error> {
        let meta = type_meta_of(list);
        let tables = Tables::builtin();
        let message = tables.kind(&meta.api_version, &meta.kind).ok_or_else(|| unknown(&meta))?;
        let items = message.fields.last().filter(|field| field.json == "items" && field.repeated);
        let item = items.and_then(|items| match items.kind {
            Kind::Message(index) => tables.message(index),
            _ => None,
        });
        let (Some(items), Some(item)) = (items, item) else { return Err(unknown(&meta)) };
        let mut out = Vec::with_capacity(size.saturating_add(1024));
        encode::message(tables, message, list, &encode::Path::ROOT, 0, &mut out)?;
        Ok(Self { meta, items, item, count: 0, message: out })
    }

    /// Adds an object.
    ///
    /// # Errors
    /// What in it does not fit its message. The list is of no use then.
    pub fn push(&mut self, object: &Value) -> Result<(), Error> {
        let items = encode::Path::ROOT.child(&self.items.json);
        let path = items.index(self.count);
        self.count += 1;
        put_message(&mut self.message, self.items.number, |out| {
            encode::message(Tables::builtin(), self.item, object, &path, 1, out)
        })
    }

    /// The whole body, as [`super::encode`] gives it.
    pub fn finish(mut self) -> Vec<u8> {
        let mut head = Vec::with_capacity(256);
        put_head(&mut head, &self.meta);
        put_length(&mut head, self.message.len());
        self.message.splice(..0, head);
        put_tail(&mut self.message);
        self.message
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::encode_object;
    use super::*;

    fn list(api_version: &str, kind: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"resourceVersion": "7", "continue": "c"}})
    }

    fn objects(count: usize) -> Vec<Value> {
        let object = |number| {
            json!({
                "metadata": {"name": format!("n-{number}"), "labels": {"a": "b"}, "creationTimestamp": "2026-11-30T00:00:00Z"},
                "data": {"text": "x".repeat(number)},
                "spec": {"replicas": number, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            })
        };
        (0..count).map(object).collect()
    }

    #[test]
    fn an_object_after_the_other_is_the_whole_list() {
        for (api_version, kind) in [
            ("v1", "ConfigMapList"),
            ("apps/v1", "DeploymentList"),
            ("meta.k8s.io/v1", "PartialObjectMetadataList"),
        ] {
            for count in [0, 1, 300] {
                let mut whole = list(api_version, kind);
                let mut encoder = ListEncoder::new(&whole, 0).unwrap();
                whole["items"] = objects(count).into();
                for object in whole["items"].as_array().unwrap() {
                    encoder.push(object).unwrap();
                }
                assert_eq!(encoder.finish(), encode_object(&whole).unwrap(), "{count} of {kind}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_what_is_no_list_is_none() {
        for (api_version, kind) in [
            ("v1", "ConfigMap"),
            ("example.com/v1", "ThingList"),
            ("", ""),
            // Its items come first.
            ("meta.k8s.io/v1beta1", "PartialObjectMetadataList"),
        ] {
            assert!(
                matches!(ListEncoder::new(&list(api_version, kind), 0), Err(Error::Kind { .. })),
                "{kind}"
            );
        }
        let mut encoder = ListEncoder::new(&list("v1", "ConfigMapList"), 0).unwrap();
        encoder.push(&json!({"data": {}})).unwrap();
        let error = encoder.push(&json!({"data": {"a": 1}})).unwrap_err();
        assert!(error.to_string().contains("items[1].data.a"), "{error}");
    }
}
