//! Protobuf → JSON.

use apimachinery::go_duration;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::table::{Field, Kind, Message, OTHERS, SCHEMA, Shape, Tables};
use super::wire::{Raw, Reader};
use super::{Error, MAGIC, MAX_DEPTH, scalar};

/// Decodes the fields of a plain message into `object`; a field that comes again is merged, as protobuf asks.
///
/// Fields that the tables do not know are skipped, as a Go server of the tables' age does.
pub(super) fn fields(
    tables: &Tables,
    message: &Message,
    bytes: &[u8],
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.next()? {
        let Some(field) = message.field(number) else { continue };
        if field.inline {
            if let (Kind::Message(index), Raw::Bytes(bytes)) = (field.kind, &raw)
                && let Some(inner) = tables.message(index)
            {
                fields(tables, inner, bytes, depth + 1, object)?;
            }
        } else if field.map {
            let (key, value) = map_entry(tables, field, &raw, depth)?;
            if let Value::Object(map) = slot(object, &field.json, || Value::Object(Map::new())) {
                map.insert(key, value);
            }
        } else if field.repeated {
            if let Value::Array(items) = slot(object, &field.json, || Value::Array(Vec::new())) {
                repeated(tables, field, raw, depth, items)?;
            }
        } else {
            let before = object.get_mut(&field.json).map(Value::take);
            let value = single(tables, field, &raw, depth, before)?;
            if dropped(field, &value) {
                object.remove(&field.json);
            } else if let Some(place) = object.get_mut(&field.json) {
                *place = value;
            } else {
                object.insert(field.json.clone(), value);
            }
        }
    }
    Ok(())
}

fn slot<'a>(object: &'a mut Map<String, Value>, name: &str, empty: impl FnOnce() -> Value) -> &'a mut Value {
    if !object.contains_key(name) {
        object.insert(name.to_owned(), empty());
    }
    // The line above put it there; `entry` would allocate the key each time.
    &mut object[name]
}

/// What encoding/json's `omitempty` would leave out. An empty struct counts too: Go prints `status: {}` for want of a way to
/// tell it from an unset one, and a field nobody set must not get an owner.
fn dropped(field: &Field, value: &Value) -> bool {
    if field.pointer {
        return false;
    }
    match value {
        Value::Null => true,
        Value::Object(map) => field.omitempty && map.is_empty(),
        Value::String(text) => field.omitempty && text.is_empty(),
        Value::Bool(value) => field.omitempty && !value,
        // An IntOrString of 0 counts: Go takes it for unset too.
        Value::Number(number) => field.omitempty && number.as_f64() == Some(0.0),
        Value::Array(_) => false,
    }
}

fn repeated(
    tables: &Tables,
    field: &Field,
    raw: Raw<'_>,
    depth: usize,
    items: &mut Vec<Value>,
) -> Result<(), Error> {
    let scalar =
        !matches!(field.kind, Kind::Message(_) | Kind::String | Kind::Bytes | Kind::Double | Kind::Float);
    if let (true, Raw::Bytes(packed)) = (scalar, &raw) {
        let mut reader = Reader::new(packed);
        while let Some(value) = reader.packed_varint()? {
            items.push(number(field, value));
        }
        return Ok(());
    }
    items.push(single(tables, field, &raw, depth, None)?);
    Ok(())
}

fn map_entry(tables: &Tables, field: &Field, raw: &Raw<'_>, depth: usize) -> Result<(String, Value), Error> {
    let Raw::Bytes(entry) = raw else { return Err(Error::WireType(field.json.clone())) };
    let mut key = String::new();
    let mut value = None;
    let mut reader = Reader::new(entry);
    while let Some((number, raw)) = reader.next()? {
        match (number, &raw) {
            (1, Raw::Bytes(bytes)) => utf8(bytes, field)?.clone_into(&mut key),
            (2, _) => value = Some(single(tables, field, &raw, depth, None)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        // An absent value is the zero of its type.
        None => match field.kind {
            Kind::String | Kind::Bytes => Value::String(String::new()),
            Kind::Bool => Value::Bool(false),
            Kind::Message(_) => single(tables, field, &Raw::Bytes(&[]), depth, None)?,
            _ => Value::from(0),
        },
    };
    Ok((key, value))
}

fn single(
    tables: &Tables,
    field: &Field,
    raw: &Raw<'_>,
    depth: usize,
    before: Option<Value>,
) -> Result<Value, Error> {
    Ok(match (field.kind, raw) {
        (Kind::String, Raw::Bytes(bytes)) => Value::String(utf8(bytes, field)?.to_owned()),
        (Kind::Bytes, Raw::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (Kind::Message(index), Raw::Bytes(bytes)) => {
            let inner = tables.message(index).ok_or(Error::TooDeep)?;
            message(tables, inner, field, bytes, depth + 1, before)?
        }
        (Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64, Raw::Varint(value)) => {
            number(field, *value)
        }
        (Kind::Double, Raw::Fixed64(bits)) => double(f64::from_bits(*bits)),
        (Kind::Float, Raw::Fixed32(bits)) => Value::from(f32::from_bits(*bits)),
        _ => return Err(Error::WireType(field.json.clone())),
    })
}

/// A whole number has no fraction in JSON, as Go writes it.
fn double(value: f64) -> Value {
    let whole = value as i64;
    if whole as f64 == value { Value::from(whole) } else { Value::from(value) }
}

fn number(field: &Field, value: u64) -> Value {
    match field.kind {
        Kind::Bool => Value::Bool(value != 0),
        Kind::Int32 => Value::from(value as i32),
        Kind::Uint32 => Value::from(value as u32),
        Kind::Uint64 => Value::from(value),
        _ => Value::from(value as i64),
    }
}

fn utf8<'a>(bytes: &'a [u8], field: &Field) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Utf8(field.json.clone()))
}

fn message(
    tables: &Tables,
    message: &Message,
    field: &Field,
    bytes: &[u8],
    depth: usize,
    before: Option<Value>,
) -> Result<Value, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    Ok(match message.shape {
        Shape::Struct => {
            let mut object = match before {
                Some(Value::Object(object)) => object,
                _ => Map::new(),
            };
            fields(tables, message, bytes, depth, &mut object)?;
            Value::Object(object)
        }
        Shape::List => {
            let mut items = match before {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let mut reader = Reader::new(bytes);
            while let Some((number, raw)) = reader.next()? {
                if let (1, Raw::Bytes(bytes)) = (number, raw) {
                    items.push(Value::String(utf8(bytes, field)?.to_owned()));
                }
            }
            Value::Array(items)
        }
        Shape::Time | Shape::MicroTime => {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            let parts = Parts::read(bytes)?;
            let (seconds, nanos) = (parts.numbers[0] as i64, parts.numbers[1] as i32);
            let text = match message.shape {
                Shape::Time => scalar::time(seconds),
                _ => scalar::micro_time(seconds, nanos),
            };
            Value::String(text.ok_or_else(|| Error::Time(field.json.clone()))?)
        }
        Shape::Quantity => {
            let text = Parts::read(bytes)?.texts[0];
            Value::String(if text.is_empty() { "0".to_owned() } else { utf8(text, field)?.to_owned() })
        }
        Shape::IntOrString => {
            let parts = Parts::read(bytes)?;
            match parts.numbers[0] {
                0 => Value::from(parts.numbers[1] as i32),
                1 => Value::String(utf8(parts.texts[2], field)?.to_owned()),
                _ => return Err(Error::WireType(field.json.clone())),
            }
        }
        Shape::Duration => Value::String(go_duration::text(Parts::read(bytes)?.numbers[0] as i64)),
        Shape::Either => {
            let mut parts = Map::new();
            fields(tables, message, bytes, depth, &mut parts)?;
            parts.remove(SCHEMA).or_else(|| parts.remove(OTHERS)).unwrap_or_default()
        }
        Shape::JsonText => json_text(Parts::read(bytes)?.texts[0])?,
        Shape::RawExtension => {
            let raw = Parts::read(bytes)?.texts[0];
            if raw.starts_with(MAGIC) { super::decode_at(raw, depth + 1)?.1 } else { json_text(raw)? }
        }
    })
}

fn json_text(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(Error::Json)
}

/// The first three fields of a small message, by number.
#[derive(Default)]
struct Parts<'a> {
    numbers: [u64; 3],
    texts: [&'a [u8]; 3],
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut parts = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            let at = number as usize - 1;
            match raw {
                Raw::Varint(value) => {
                    if let Some(place) = parts.numbers.get_mut(at) {
                        *place = value;
                    }
                }
                Raw::Bytes(value) => {
                    if let Some(place) = parts.texts.get_mut(at) {
                        *place = value;
                    }
                }
                Raw::Fixed64(_) | Raw::Fixed32(_) => {}
            }
        }
        Ok(parts)
    }
}
