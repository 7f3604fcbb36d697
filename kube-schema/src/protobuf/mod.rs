//! The protobuf form of the built-in kinds (`application/vnd.kubernetes.protobuf`), both ways.
//!
//! A body is the four bytes `k8s\0` and a `runtime.Unknown` that names apiVersion and kind and holds the message. What the
//! messages look like is data: tables made from the published `generated.proto` files (numbers, types) and Go struct tags
//! (JSON names, `omitempty`, inlining); there is no code per kind. Fields newer than the tables (Kubernetes 1.36) are
//! skipped both ways, as a server of that version does.

mod decode;
mod encode;
mod list;
pub(crate) mod scalar;
mod table;
pub(crate) mod wire;

use serde_json::{Map, Value};

pub use list::ListEncoder;
use table::Tables;
use wire::{Raw, Reader, put_bytes, put_message, put_varint};

/// Whether Go leaves out a field of a message, by its name in JSON, where it has the zero of its scalar type.
pub(crate) fn leaves_out_zero(message: &str, field: &str) -> bool {
    let tables = Tables::builtin();
    tables.named(message).is_some_and(|message| tables.leaves_out_zero(message, field))
}

/// The media type of these bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The prefix of every body.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Nesting that is still decoded. The deepest built-in path (a pod template's affinity terms inside a list) needs 20.
const MAX_DEPTH: usize = 64;

/// apiVersion and kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TypeMeta {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: String,
}

/// Why a body is not what it claims to be. All but [`Error::Kind`] mean 400 BadRequest on a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first four bytes are not [`MAGIC`].
    #[error("the body does not start with the protobuf prefix of Kubernetes")]
    Magic,
    /// The data ends inside a field.
    #[error("unexpected end of protobuf data")]
    Truncated,
    /// A number of more than ten bytes.
    #[error("malformed protobuf number")]
    Varint,
    /// A field number of zero or an unknown wire type.
    #[error("malformed protobuf tag {0}")]
    Tag(u64),
    /// Messages nested deeper than any built-in kind.
    #[error("the object is nested too deeply")]
    TooDeep,
    /// There is no protobuf form: 415 on a request, JSON or 406 on a response.
    #[error("no protobuf form of {kind} in {api_version}")]
    Kind {
        /// As the envelope or the object says.
        api_version: String,
        /// As the envelope or the object says.
        kind: String,
    },
    /// The wire type does not fit the field.
    #[error("wrong protobuf wire type for field {0:?}")]
    WireType(String),
    /// A string is not UTF-8.
    #[error("field {0:?} is not valid UTF-8")]
    Utf8(String),
    /// Seconds beyond the years -9999 to 9999.
    #[error("field {0:?} holds a time out of range")]
    Time(String),
    /// Embedded JSON (an extension, field ownership) is malformed.
    #[error("embedded JSON is malformed")]
    Json(#[source] serde_json::Error),
    /// The JSON value has another type than the field.
    #[error("field {field:?} must be {expected}, found {found}")]
    Type {
        /// The path, `spec.containers[0].name`.
        field: String,
        /// What the message holds there.
        expected: &'static str,
        /// The JSON type that was found.
        found: &'static str,
    },
}

/// True when the kind has a protobuf form. Custom resources never do.
pub fn supports(api_version: &str, kind: &str) -> bool {
    Tables::builtin().kind(api_version, kind).is_some()
}

/// Decodes a request body; the value carries apiVersion and kind.
pub fn decode(bytes: &[u8]) -> Result<(TypeMeta, Value), Error> {
    decode_at(bytes, 0)
}

fn decode_at(bytes: &[u8], depth: usize) -> Result<(TypeMeta, Value), Error> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(Error::Magic)?);
    let (mut meta, mut raw, mut content_type) = (TypeMeta::default(), &[][..], &[][..]);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Raw::Bytes(bytes)) => meta = type_meta(bytes)?,
            (2, Raw::Bytes(bytes)) => raw = bytes,
            (4, Raw::Bytes(bytes)) => content_type = bytes,
            _ => {}
        }
    }
    if content_type == b"application/json" {
        return Ok((meta, serde_json::from_slice(raw).map_err(Error::Json)?));
    }
    let value = decode_message(&meta, raw, depth)?;
    Ok((meta, value))
}

/// Decodes a message that came without envelope (the objects of a raw stream).
pub fn decode_raw(meta: &TypeMeta, raw: &[u8]) -> Result<Value, Error> {
    decode_message(meta, raw, 0)
}

fn decode_message(meta: &TypeMeta, raw: &[u8], depth: usize) -> Result<Value, Error> {
    let tables = Tables::builtin();
    let message = tables.kind(&meta.api_version, &meta.kind).ok_or_else(|| unknown(meta))?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), Value::String(meta.api_version.clone()));
    object.insert("kind".to_owned(), Value::String(meta.kind.clone()));
    decode::fields(tables, message, raw, depth, &mut object)?;
    Ok(Value::Object(object))
}

fn unknown(meta: &TypeMeta) -> Error {
    Error::Kind { api_version: meta.api_version.clone(), kind: meta.kind.clone() }
}

fn type_meta(bytes: &[u8]) -> Result<TypeMeta, Error> {
    let mut meta = TypeMeta::default();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        let Raw::Bytes(bytes) = raw else { continue };
        let text =
            || std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::Utf8("typeMeta".to_owned()));
        match number {
            1 => meta.api_version = text()?,
            2 => meta.kind = text()?,
            _ => {}
        }
    }
    Ok(meta)
}

/// Encodes an object whose apiVersion and kind stand in it.
pub fn encode_object(value: &Value) -> Result<Vec<u8>, Error> {
    encode(&type_meta_of(value), value)
}

fn type_meta_of(value: &Value) -> TypeMeta {
    let text = |field| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    TypeMeta { api_version: text("apiVersion"), kind: text("kind") }
}

/// Encodes a body: prefix, envelope, message.
pub fn encode(meta: &TypeMeta, value: &Value) -> Result<Vec<u8>, Error> {
    let tables = Tables::builtin();
    let message = tables.kind(&meta.api_version, &meta.kind).ok_or_else(|| unknown(meta))?;
    // A rough guess that spares most of the growing: built-in objects are some hundred bytes.
    let mut out = Vec::with_capacity(1024);
    put_head(&mut out, meta);
    put_message(&mut out, RAW, |out| encode::message(tables, message, value, &encode::Path::ROOT, 0, out))?;
    put_tail(&mut out);
    Ok(out)
}

/// Where the message is in a `runtime.Unknown`.
const RAW: u32 = 2;

/// What comes before the message.
fn put_head(out: &mut Vec<u8>, meta: &TypeMeta) {
    out.extend_from_slice(MAGIC);
    let mut names = Vec::with_capacity(meta.api_version.len() + meta.kind.len() + 4);
    put_bytes(&mut names, 1, meta.api_version.as_bytes());
    put_bytes(&mut names, 2, meta.kind.as_bytes());
    put_bytes(out, 1, &names);
}

/// The tag and the length of a message that follows.
fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, u64::from(RAW) << 3 | 2);
    put_varint(out, length as u64);
}

/// What comes behind it: gogo writes the two empty strings of Unknown, and byte-for-byte equality is worth four bytes.
fn put_tail(out: &mut Vec<u8>) {
    put_bytes(out, 3, b"");
    put_bytes(out, 4, b"");
}

/// One watch event: a bare `metav1.WatchEvent` whose object is a whole body, as [`encode`] gives it. The 4-byte big-endian
/// length in front of each frame is the caller's.
pub fn encode_watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + event_type.len() + 24);
    put_bytes(&mut out, 1, event_type.as_bytes());
    let mut extension = Vec::with_capacity(object.len() + 12);
    put_bytes(&mut extension, 1, object);
    put_bytes(&mut out, 2, &extension);
    out
}
