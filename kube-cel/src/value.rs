//! Values, and how they compare.

use std::{cmp::Ordering, collections::BTreeMap, net::IpAddr, sync::Arc};

use apimachinery::quantity::Quantity;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use crate::{
    EvalError,
    access::{Access, Decision},
    functions::Semver,
    list::{List, ListKind},
};

/// The extent of values that are made into JSON: an object of the greatest length is less.
const JSON_MAX: u64 = 2_000_000;

/// A key of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `true`, `false`.
    Bool(bool),
    /// A whole number; unsigned ones that fit are the same key.
    Int(i64),
    /// An unsigned number beyond `Int`.
    Uint(u64),
    /// Text.
    String(Arc<str>),
}

impl Key {
    /// Its length in tens of bytes.
    fn weight(&self) -> u64 {
        match self {
            Self::String(text) => text.len() as u64 / 10,
            _ => 0,
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Uint(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(text),
        }
    }
}

/// A value of an expression. Cloning one copies a pointer at most.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A signed whole number.
    Int(i64),
    /// An unsigned whole number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    String(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<List>),
    /// A map, or an object with its fields.
    Map(Arc<BTreeMap<Key, Self>>),
    /// Nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(Timestamp),
    /// A type, by its name.
    Type(&'static str),
    /// An optional value.
    Optional(Option<Arc<Self>>),
    /// `quantity("1Gi")`.
    Quantity(Quantity),
    /// `url("https://…")`.
    Url(Arc<Url>),
    /// `ip("10.0.0.1")`.
    Ip(IpAddr),
    /// `cidr("10.0.0.0/8")`: the address as it was written, and the length of the prefix.
    Cidr(IpAddr, u8),
    /// `format.dns1123Label()`: a named format.
    Format(&'static str),
    /// `semver("1.2.3")`.
    Semver(Arc<Semver>),
    /// `Object.spec{replicas: 1}`: an object that the expression makes.
    Made(Arc<Made>),
    /// `authorizer`, and what its methods lead to.
    Access(Arc<Access>),
    /// What the authorizer says.
    Decision(Arc<Decision>),
}

/// An object that an expression makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The name of its type.
    pub name: String,
    /// Its fields.
    pub fields: BTreeMap<String, Value>,
}

impl Made {
    /// Objects inside must be called as where they stand: `Object.spec` in the field `spec` of an `Object`.
    ///
    /// # Errors
    /// The first that is not, in Kubernetes' words.
    pub fn check_names(&self) -> Result<(), String> {
        self.fields.iter().try_for_each(|(field, value)| value.check_names(&format!("{}.{field}", self.name)))
    }
}

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub(crate) scheme: String,
    /// With the port.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) text: String,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl Value {
    /// A list.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(List::new(items, ListKind::Plain)))
    }

    /// A map with text keys.
    pub fn map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Key::String(key.into()), value));
        Self::Map(Arc::new(entries.collect()))
    }

    /// Some optional value.
    pub(crate) fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// JSON without a schema: whole numbers are ints.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(flag) => Self::Bool(*flag),
            serde_json::Value::Number(number) => number.as_i64().map_or_else(
                || {
                    number
                        .as_u64()
                        .map_or_else(|| Self::Double(number.as_f64().unwrap_or(f64::NAN)), Self::Uint)
                },
                Self::Int,
            ),
            serde_json::Value::String(text) => text.as_str().into(),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => {
                Self::map(map.iter().map(|(key, value)| (key.clone(), Self::from_json(value))))
            }
        }
    }

    /// The value as JSON: of an optional value what is in it, times as text, bytes in base64.
    ///
    /// # Errors
    /// Of values that are nothing in JSON, and of those that are larger than any object.
    pub fn to_json(&self) -> Result<serde_json::Value, EvalError> {
        if self.extent(JSON_MAX) > JSON_MAX {
            return Err(EvalError::Budget);
        }
        self.json()
    }

    fn json(&self) -> Result<serde_json::Value, EvalError> {
        use serde_json::Value as Json;
        let unfit = || EvalError::failed(format!("a {} is nothing in JSON", self.type_name()));
        Ok(match self {
            Self::Null | Self::Optional(None) => Json::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Int(number) => (*number).into(),
            Self::Uint(number) => (*number).into(),
            // A whole number is one, whatever the expression took it for.
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => (*number as i64).into(),
            Self::Double(number) => {
                serde_json::Number::from_f64(*number).map(Json::Number).ok_or_else(unfit)?
            }
            Self::String(text) => (**text).into(),
            Self::Bytes(bytes) => STANDARD.encode(bytes).into(),
            Self::List(items) => items.iter().map(Self::json).collect::<Result<Vec<_>, _>>()?.into(),
            Self::Map(map) => {
                let mut object = serde_json::Map::new();
                for (key, value) in map.iter() {
                    let Key::String(key) = key else { return Err(unfit()) };
                    object.insert(key.to_string(), value.json()?);
                }
                object.into()
            }
            Self::Made(made) => {
                let fields = made.fields.iter().map(|(name, value)| Ok((name.clone(), value.json()?)));
                Json::Object(fields.collect::<Result<_, EvalError>>()?)
            }
            Self::Optional(Some(inner)) => inner.json()?,
            Self::Duration(_) | Self::Timestamp(_) | Self::Quantity(_) | Self::Ip(_) | Self::Cidr(..) => {
                match crate::functions::text(self)? {
                    Self::String(text) => (*text).into(),
                    _ => return Err(unfit()),
                }
            }
            Self::Url(url) => url.text.as_str().into(),
            Self::Semver(version) => version.to_string().into(),
            Self::Type(_) | Self::Format(_) | Self::Access(_) | Self::Decision(_) => return Err(unfit()),
        })
    }

    fn check_names(&self, expected: &str) -> Result<(), String> {
        match self {
            Self::Made(made) if made.name != expected => Err(format!(
                "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
                made.name
            )),
            Self::Made(made) => made.check_names(),
            Self::List(items) => items.iter().try_for_each(|item| item.check_names(expected)),
            Self::Map(map) => map.values().try_for_each(|value| value.check_names(expected)),
            Self::Optional(Some(inner)) => inner.check_names(expected),
            _ => Ok(()),
        }
    }

    /// The value as a map key, if it can be one.
    pub(crate) fn key(&self) -> Option<Key> {
        match self {
            Self::Bool(flag) => Some(Key::Bool(*flag)),
            Self::Int(number) => Some(Key::Int(*number)),
            Self::Uint(number) => Some(i64::try_from(*number).map_or_else(|_| Key::Uint(*number), Key::Int)),
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Some(Key::Int(*number as i64))
            }
            Self::String(text) => Some(Key::String(Arc::clone(text))),
            _ => None,
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Made(_) => "object",
            Self::Access(access) => access.type_name(),
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// What handling it costs: its length in tens of bytes, or its items.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::String(text) => text.len() as u64 / 10,
            Self::Bytes(bytes) => bytes.len() as u64 / 10,
            Self::List(items) => items.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Made(made) => made.fields.len() as u64,
            // Roles are looked through, or another server is asked.
            Self::Access(_) => 2_000,
            _ => 0,
        }
    }

    /// Order, where there is one.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::String(one), Self::String(other)) => Some(one.cmp(other)),
            (Self::Bytes(one), Self::Bytes(other)) => Some(one.cmp(other)),
            (Self::Duration(one), Self::Duration(other)) => Some(one.cmp(other)),
            (Self::Timestamp(one), Self::Timestamp(other)) => Some(one.cmp(other)),
            (Self::Quantity(one), Self::Quantity(other)) => Some(one.cmp(other)),
            (Self::Semver(one), Self::Semver(other)) => Some(one.cmp(other)),
            _ => self.compare_numbers(other),
        }
    }

    fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        let whole = |value: &Self| match value {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        };
        if let (Some(one), Some(other)) = (whole(self), whole(other)) {
            return Some(one.cmp(&other));
        }
        match (self, other) {
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(other),
            (Self::Double(real), other) => compare_exactly(*real, whole(other)?),
            (one, Self::Double(real)) => compare_exactly(*real, whole(one)?).map(Ordering::reverse),
            _ => None,
        }
    }

    /// What going through all of it costs: each value in it, and the length of its texts. A list may hold the same one many times, and that
    /// one others, so it is counted no further than to what can be paid.
    pub(crate) fn extent(&self, most: u64) -> u64 {
        let all: Box<dyn Iterator<Item = (u64, &Self)>> = match self {
            Self::List(items) => Box::new(items.iter().map(|item| (0, item))),
            Self::Map(map) => Box::new(map.iter().map(|(key, value)| (key.weight(), value))),
            Self::Made(made) => Box::new(made.fields.values().map(|value| (0, value))),
            Self::Optional(Some(inner)) => return inner.extent(most),
            Self::String(_) | Self::Bytes(_) => return 1 + self.weight(),
            _ => return 1,
        };
        let mut extent: u64 = 1;
        for (name, value) in all {
            if extent > most {
                break;
            }
            extent = extent.saturating_add(name).saturating_add(value.extent(most.saturating_sub(extent)));
        }
        extent
    }
}

/// Compares a number with a whole one by what they are: as doubles, different ones beyond 2^53 would be equal to the same third. Not a number is
/// nowhere in the order.
fn compare_exactly(real: f64, whole: i128) -> Option<Ordering> {
    /// Beyond all that are as large as a `u64`.
    const LARGE: f64 = 18_446_744_073_709_551_616.0;
    if real.is_nan() {
        return None;
    }
    if real.abs() > LARGE {
        return Some(if real > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    // Within these bounds a cast drops the fraction and nothing else.
    let part = real.fract().partial_cmp(&0.0)?;
    Some((real.trunc() as i128).cmp(&whole).then(part))
}

impl PartialEq for Value {
    /// CEL's equality: numbers by amount, whatever their types; values of different types are unequal.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(one), Self::List(other)) => one == other,
            (Self::Map(one), Self::Map(other)) => one == other,
            (Self::Type(one), Self::Type(other)) | (Self::Format(one), Self::Format(other)) => one == other,
            (Self::Optional(one), Self::Optional(other)) => one == other,
            (Self::Url(one), Self::Url(other)) => one == other,
            (Self::Made(one), Self::Made(other)) => one == other,
            (Self::Ip(one), Self::Ip(other)) => one == other,
            (Self::Cidr(one, length), Self::Cidr(other, other_length)) => {
                one == other && length == other_length
            }
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }
}
