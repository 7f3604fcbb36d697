//! Answers: objects, lists and watch frames, in every form.
//!
//! The common case costs nothing: JSON of the object itself is the stored bytes.

mod pieces;
mod shared;
mod table;
mod unnamed;

use std::sync::Arc;

use apimachinery::{ApiError, order::Ordered};
use jiff::Timestamp;
use kube_schema::protobuf::ListEncoder;
use serde_json::{Value, json};

pub(crate) use self::{
    pieces::{Pieces, is_large},
    shared::SharedFrames,
};
use crate::{
    http::{
        negotiate::{Encoding, Format, View},
        respond,
    },
    registry::Kind,
    store::Stored,
    validation::items_mut,
    verbs::call::parse,
};

/// `metav1.ListMeta`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub(crate) resource_version: u64,
    pub(crate) continuation: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    fn value(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.resource_version.to_string()});
        if let Some(token) = &self.continuation {
            meta["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }
}

/// Whether the stored bytes are the answer.
fn is_verbatim(kind: &Kind, format: Format) -> bool {
    format.encoding == Encoding::Json
        && format.view == View::Object
        && !format.pretty
        && kind.conversion.is_none()
        // A schema that has changed since may prune and default what is read.
        && kind.custom.is_none()
}

/// One object.
pub(crate) fn object(
    kind: &Kind,
    format: Format,
    stored: &Stored,
    now: Timestamp,
) -> Result<(&'static str, Vec<u8>), ApiError> {
    if is_verbatim(kind, format) {
        let mut bytes = Vec::with_capacity(stored.bytes.len() + 1);
        bytes.extend_from_slice(&stored.bytes);
        bytes.push(b'\n');
        return Ok((format.content_type(false), bytes));
    }
    let value = parse(kind, stored)?;
    let value = match format.view {
        View::Object => value,
        View::Metadata => metadata(&value),
        View::Table => {
            let meta = ListMeta { resource_version: stored.revision, ..ListMeta::default() };
            table::table(kind, format.include, &meta, vec![value], now, true)
        }
    };
    Ok(written(kind, format, &of_version(format, value)))
}

/// An object that is not stored as such, in the view that was asked for.
pub(crate) fn in_view(kind: &Kind, format: Format, value: Value, now: Timestamp) -> Value {
    let value = match format.view {
        View::Object => value,
        View::Metadata => metadata(&value),
        View::Table => {
            let version = value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
            let meta = ListMeta { resource_version: version.unwrap_or_default(), ..ListMeta::default() };
            table::table(kind, format.include, &meta, vec![value], now, true)
        }
    };
    of_version(format, value)
}

/// Calls a view and the views in it by the version that was asked for.
fn of_version(format: Format, mut value: Value) -> Value {
    let call = |value: &mut Value| {
        if value["apiVersion"] == "meta.k8s.io/v1" {
            value["apiVersion"] = "meta.k8s.io/v1beta1".into();
        }
    };
    if format.beta {
        call(&mut value);
        items_mut(&mut value, "items").for_each(call);
        items_mut(&mut value, "rows").for_each(|row| call(&mut row["object"]));
    }
    value
}

fn written(kind: &Kind, format: Format, value: &Value) -> (&'static str, Vec<u8>) {
    if kind.custom.is_some() && format.view == View::Object {
        respond::encode_custom(format, value)
    } else {
        respond::encode(format, value)
    }
}

/// A list.
pub(crate) fn list(
    kind: &Kind,
    format: Format,
    items: &[Arc<Stored>],
    meta: &ListMeta,
    now: Timestamp,
) -> Result<(&'static str, Vec<u8>), ApiError> {
    if is_verbatim(kind, format) {
        return Ok((format.content_type(false), verbatim_list(kind, items, meta)));
    }
    if format.encoding == Encoding::Protobuf
        && let Some(bytes) = protobuf_list(kind, format, items, meta, now)?
    {
        return Ok((format.content_type(false), bytes));
    }
    let values = items.iter().map(|stored| parse(kind, stored)).collect::<Result<Vec<_>, _>>()?;
    Ok(written(kind, format, &list_of_values(kind, format, values, meta, now)))
}

/// A list as protobuf, made object by object: all values at once would take ten times their text in memory. `None` if it has no form in
/// which its objects come last.
fn protobuf_list(
    kind: &Kind,
    format: Format,
    items: &[Arc<Stored>],
    meta: &ListMeta,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, ApiError> {
    let head = list_of_values(kind, format, Vec::new(), meta, now);
    let size = items.iter().map(|stored| stored.bytes.len()).sum();
    let Ok(mut list) = ListEncoder::new(&head, size) else { return Ok(None) };
    for stored in items {
        let element = element(kind, format, parse(kind, stored)?, now);
        if list.push(&element).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(list.finish()))
}

/// The list that has these objects.
fn list_of_values(kind: &Kind, format: Format, values: Vec<Value>, meta: &ListMeta, now: Timestamp) -> Value {
    let value = match format.view {
        View::Table => table::table(kind, format.include, meta, values, now, true),
        View::Metadata => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": meta.value(),
            "items": values.iter().map(metadata).collect::<Vec<_>>(),
        }),
        View::Object => {
            let mut meta = meta.value();
            // Lists of custom kinds are maps in Go, in which nothing is left out.
            if kind.custom.is_some() && meta["continue"].is_null() {
                meta["continue"] = "".into();
            }
            json!({
                "kind": format!("{}List", kind.kind),
                "apiVersion": kind.api_version(),
                "metadata": meta,
                "items": elements(kind, values),
            })
        }
    };
    of_version(format, value)
}

/// Objects as elements of a list: those of built-in kinds leave to the list what they are.
pub(crate) fn elements(kind: &Kind, mut objects: Vec<Value>) -> Vec<Value> {
    if kind.built_in {
        for object in objects.iter_mut().filter_map(Value::as_object_mut) {
            object.remove("apiVersion");
            object.remove("kind");
        }
    }
    objects
}

/// An object as an element of a list.
fn element(kind: &Kind, format: Format, value: Value, now: Timestamp) -> Value {
    match format.view {
        View::Table => {
            let mut row = table::row(kind, format.include, value, now);
            row["object"] = of_version(format, row["object"].take());
            row
        }
        View::Metadata => of_version(format, metadata(&value)),
        View::Object => elements(kind, vec![value]).pop().unwrap_or_default(),
    }
}

fn verbatim_list(kind: &Kind, items: &[Arc<Stored>], meta: &ListMeta) -> Vec<u8> {
    let size: usize = items.iter().map(|stored| stored.bytes.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    out.extend_from_slice(list_head(kind, meta).as_bytes());
    for (index, stored) in items.iter().enumerate() {
        append_element(&mut out, kind, index > 0, stored);
    }
    out.extend_from_slice(LIST_END);
    out
}

const LIST_END: &[u8] = b"]}\n";

fn list_head(kind: &Kind, meta: &ListMeta) -> String {
    let (name, version) = (kind.kind, kind.api_version());
    let meta = serde_json::to_string(&Ordered::member("metadata", &meta.value())).unwrap_or_default();
    format!(r#"{{"kind":"{name}List","apiVersion":"{version}","metadata":{meta},"items":["#)
}

fn append_element(out: &mut Vec<u8>, kind: &Kind, has_others: bool, stored: &Stored) {
    if has_others {
        out.push(b',');
    }
    if kind.built_in {
        unnamed::append(out, &stored.bytes);
    } else {
        out.extend_from_slice(&stored.bytes);
    }
}

/// `meta.k8s.io/v1` PartialObjectMetadata.
fn metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// What a watch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl FrameKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }
}

/// One frame of a watch about a stored object. `first` makes a Table tell its columns.
pub(crate) fn frame(
    kind: &Kind,
    format: Format,
    event: FrameKind,
    stored: &Stored,
    now: Timestamp,
    first: bool,
) -> Result<Vec<u8>, ApiError> {
    if is_verbatim(kind, Format { pretty: false, ..format }) {
        return Ok(json_frame(event, &stored.bytes));
    }
    let value = parse(kind, stored)?;
    Ok(frame_of_value(kind, format, event, value, now, first))
}

/// One frame of a watch about a value.
pub(crate) fn frame_of_value(
    kind: &Kind,
    format: Format,
    event: FrameKind,
    value: Value,
    now: Timestamp,
    first: bool,
) -> Vec<u8> {
    let value = match (event, format.view) {
        (FrameKind::Error, _) | (_, View::Object) => value,
        (_, View::Metadata) => metadata(&value),
        (_, View::Table) => {
            let version = value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
            let meta = ListMeta { resource_version: version.unwrap_or_default(), ..ListMeta::default() };
            table::table(kind, format.include, &meta, vec![value], now, first)
        }
    };
    let value = if event == FrameKind::Error { value } else { of_version(format, value) };
    if format.encoding == Encoding::Protobuf {
        return protobuf_frame(event, &value);
    }
    let (_, object) = written(kind, Format { pretty: false, encoding: Encoding::Json, ..format }, &value);
    json_frame(event, object.trim_ascii_end())
}

/// Four bytes of length, big-endian, and the event. What has no protobuf form is told as an error: a frame of another form
/// would garble all that follow.
fn protobuf_frame(event: FrameKind, value: &Value) -> Vec<u8> {
    let encode = kube_schema::protobuf::encode_object;
    let (event, object) = encode(value).map_or_else(
        |error| {
            tracing::error!(%error, "an object has no protobuf form; its watchers are told to list again");
            let status = ApiError::internal(format!("the object has no protobuf form: {error}")).to_value();
            (FrameKind::Error, encode(&status).unwrap_or_default())
        },
        |object| (event, object),
    );
    let event = kube_schema::protobuf::encode_watch_event(event.as_str(), &object);
    let mut frame = Vec::with_capacity(event.len() + 4);
    frame.extend_from_slice(&(event.len() as u32).to_be_bytes());
    frame.extend_from_slice(&event);
    frame
}

fn json_frame(event: FrameKind, object: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(object.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(event.as_str().as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::negotiate::Include,
        store::{Key, Meta, ResourceKey},
    };

    pub(super) fn stored(name: &str, data: &Value) -> Arc<Stored> {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "resourceVersion": "7"}, "data": data,
        });
        Arc::new(Stored {
            key: Key::new(ResourceKey::new("", "configmaps"), "default", name),
            revision: 7,
            bytes: serde_json::to_vec(&object).expect("JSON").into(),
            meta: Meta::default(),
        })
    }

    #[test]
    fn a_protobuf_list_is_the_same_object_by_object_as_at_once() {
        let config_maps = crate::kinds::all().into_iter().find(|kind| kind.is("", "configmaps"));
        let kind = config_maps.expect("a kind of core");
        let fine = [stored("a", &json!({"k": "v"})), stored("b", &json!({}))];
        // What does not fit is sent as JSON.
        let misfit = [stored("a", &json!({"k": 1}))];
        let meta = ListMeta { resource_version: 9, continuation: Some("next".into()), remaining: Some(3) };
        let now = Timestamp::UNIX_EPOCH;
        for items in [&[][..], &fine, &misfit] {
            for view in [View::Object, View::Metadata, View::Table] {
                for beta in [false, true] {
                    let include = Include::Metadata;
                    let format = Format { encoding: Encoding::Protobuf, view, beta, include, ..Format::JSON };
                    let values = items.iter().map(|stored| parse(kind, stored).expect("JSON")).collect();
                    let whole = respond::encode(format, &list_of_values(kind, format, values, &meta, now));
                    assert_eq!(list(kind, format, items, &meta, now).expect("a list"), whole, "{format:?}");
                }
            }
        }
    }
}
