//! JSON → protobuf.

use apimachinery::{go_duration, json::type_name, rfc3339::UnixTime};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::table::{Field, Kind, Message, OTHERS, SCHEMA, Shape, Tables};
use super::wire::{put_bytes, put_double, put_message, put_number, put_varint};
use super::{Error, MAX_DEPTH, scalar};

/// Where in the object the encoder stands; only spelt out when something fails.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Self = Self { parent: None, step: Step::Root };

    pub(super) fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Name(name) }
    }

    pub(super) fn index(&'a self, at: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(at) }
    }

    fn text(&self) -> String {
        let before = self.parent.map(Path::text).unwrap_or_default();
        match self.step {
            Step::Root => before,
            Step::Name(name) if before.is_empty() => name.to_owned(),
            Step::Name(name) => format!("{before}.{name}"),
            Step::Index(at) => format!("{before}[{at}]"),
        }
    }

    fn wrong(&self, expected: &'static str, found: &Value) -> Error {
        Error::Type { field: self.text(), expected, found: type_name(found) }
    }
}

/// Appends the fields of `value` (without tag and length) as `message`.
pub(super) fn message(
    tables: &Tables,
    message: &Message,
    value: &Value,
    path: &Path<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    match message.shape {
        Shape::Struct => match value {
            Value::Null => Ok(()),
            Value::Object(object) => fields(tables, message, object, path, depth, out),
            other => Err(path.wrong("object", other)),
        },
        Shape::Either => match value {
            Value::Null => Ok(()),
            value => {
                let name = if value.is_object() { SCHEMA } else { OTHERS };
                let mut part = Map::from_iter([(name.to_owned(), value.clone())]);
                // gogo writes the bool in any case, and a schema allows what it describes.
                if value.is_object() && message.fields.iter().any(|field| field.kind == Kind::Bool) {
                    part.insert(OTHERS.to_owned(), true.into());
                }
                fields(tables, message, &part, path, depth, out)
            }
        },
        Shape::List => match value {
            Value::Null => Ok(()),
            Value::Array(items) => {
                for item in items {
                    put_bytes(out, 1, text(item, path)?.as_bytes());
                }
                Ok(())
            }
            other => Err(path.wrong("array", other)),
        },
        Shape::Time | Shape::MicroTime => time(message.shape, value, path, out),
        Shape::Quantity => {
            match value {
                Value::Null => {}
                Value::String(text) => put_bytes(out, 1, text.as_bytes()),
                Value::Number(number) => put_bytes(out, 1, number.to_string().as_bytes()),
                other => return Err(path.wrong("quantity", other)),
            }
            Ok(())
        }
        Shape::IntOrString => {
            let (kind, number, text) = match value {
                Value::Null => return Ok(()),
                Value::String(text) => (1, 0, text.as_str()),
                Value::Number(_) => (0, integer(value, i32::MIN.into(), i32::MAX.into(), path)?, ""),
                other => return Err(path.wrong("integer or string", other)),
            };
            put_number(out, 1, kind);
            put_number(out, 2, number as u64);
            put_bytes(out, 3, text.as_bytes());
            Ok(())
        }
        Shape::Duration => {
            if !value.is_null() {
                let nanos =
                    go_duration::parse(text(value, path)?).ok_or_else(|| path.wrong("duration", value))?;
                put_number(out, 1, nanos as u64);
            }
            Ok(())
        }
        Shape::RawExtension | Shape::JsonText => {
            if !value.is_null() {
                let json = serde_json::to_vec(value).map_err(Error::Json)?;
                put_bytes(out, 1, &json);
            }
            Ok(())
        }
    }
}

fn time(shape: Shape, value: &Value, path: &Path<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let UnixTime { seconds, nanos } =
        scalar::parse_time(text(value, path)?).ok_or_else(|| path.wrong("RFC 3339 time", value))?;
    put_number(out, 1, seconds as u64);
    put_number(out, 2, if shape == Shape::MicroTime { (nanos / 1000 * 1000) as u64 } else { 0 });
    Ok(())
}

fn fields(
    tables: &Tables,
    message: &Message,
    object: &Map<String, Value>,
    path: &Path<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    for field in &message.fields {
        if field.inline {
            if let Kind::Message(index) = field.kind
                && let Some(inner) = tables.message(index)
            {
                put_message(out, field.number, |out| fields(tables, inner, object, path, depth + 1, out))?;
            }
            continue;
        }
        let Some(value) = object.get(&field.json).filter(|value| !value.is_null()) else { continue };
        let path = path.child(&field.json);
        if field.map {
            map(tables, field, value, &path, depth, out)?;
        } else if field.repeated {
            let items = value.as_array().ok_or_else(|| path.wrong("array", value))?;
            for (at, item) in items.iter().enumerate() {
                single(tables, field, field.number, item, &path.index(at), depth, out)?;
            }
        } else {
            single(tables, field, field.number, value, &path, depth, out)?;
        }
    }
    Ok(())
}

fn map(
    tables: &Tables,
    field: &Field,
    value: &Value,
    path: &Path<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let entries = value.as_object().ok_or_else(|| path.wrong("object", value))?;
    for (key, value) in entries {
        let path = path.child(key);
        put_message(out, field.number, |out| {
            put_bytes(out, 1, key.as_bytes());
            single(tables, field, 2, value, &path, depth, out)
        })?;
    }
    Ok(())
}

fn single(
    tables: &Tables,
    field: &Field,
    number: u32,
    value: &Value,
    path: &Path<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match field.kind {
        Kind::Message(index) => {
            let inner = tables.message(index).ok_or(Error::TooDeep)?;
            put_message(out, number, |out| message(tables, inner, value, path, depth + 1, out))?;
        }
        Kind::String => put_bytes(out, number, text(value, path)?.as_bytes()),
        Kind::Bytes => {
            let bytes = STANDARD.decode(text(value, path)?).map_err(|_| path.wrong("base64", value))?;
            put_bytes(out, number, &bytes);
        }
        Kind::Bool => match value {
            Value::Bool(value) => put_number(out, number, u64::from(*value)),
            Value::Null => put_number(out, number, 0),
            other => return Err(path.wrong("bool", other)),
        },
        Kind::Int32 => {
            put_number(out, number, integer(value, i32::MIN.into(), i32::MAX.into(), path)? as u64);
        }
        Kind::Int64 => put_number(out, number, integer(value, i64::MIN, i64::MAX, path)? as u64),
        Kind::Uint32 => put_number(out, number, integer(value, 0, u32::MAX.into(), path)? as u64),
        Kind::Uint64 => {
            put_number(out, number, value.as_u64().ok_or_else(|| path.wrong("unsigned integer", value))?);
        }
        Kind::Double => put_double(out, number, value.as_f64().ok_or_else(|| path.wrong("number", value))?),
        Kind::Float => {
            let value = value.as_f64().ok_or_else(|| path.wrong("number", value))? as f32;
            put_varint(out, u64::from(number) << 3 | 5);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    Ok(())
}

/// Null inside a list or map is Go's zero value.
fn text<'a>(value: &'a Value, path: &Path<'_>) -> Result<&'a str, Error> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        other => Err(path.wrong("string", other)),
    }
}

fn integer(value: &Value, min: i64, max: i64, path: &Path<'_>) -> Result<i64, Error> {
    match value {
        Value::Null => Ok(0),
        other => other
            .as_i64()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| path.wrong("integer in range", other)),
    }
}
