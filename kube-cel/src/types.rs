//! Types, as far as they are known before an evaluation.

use std::{collections::BTreeMap, sync::Arc};

/// The type of an expression. Types of one origin are known to be equal without a look at their fields: that needs `Eq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Not known before the evaluation.
    Dyn,
    /// `null`.
    Null,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `uint`.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// `google.protobuf.Duration`.
    Duration,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// A list.
    List(Box<Self>),
    /// A map.
    Map(Box<Self>, Box<Self>),
    /// An object with these fields and no others.
    Object(Arc<ObjectType>),
    /// `type(…)`.
    Type,
    /// An optional value.
    Optional(Box<Self>),
    /// A type of a library, by its name.
    Opaque(&'static str),
    /// An object that expressions make by the name of its type, such as `Object.spec`. Its fields may hold anything.
    Made(Arc<str>),
}

/// The fields of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectType {
    /// By name, as expressions write it.
    pub fields: BTreeMap<String, Type>,
}

impl Type {
    /// The type of the variable `authorizer`.
    pub const AUTHORIZER: Self = Self::Opaque(crate::access::AUTHORIZER);

    /// An object with these fields.
    pub fn object(fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::Object(Arc::new(ObjectType { fields: fields.into_iter().collect() }))
    }

    /// Whether a value of this type may stand where one of the other type is expected.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(one), Self::List(other)) | (Self::Optional(one), Self::Optional(other)) => {
                one.fits(other)
            }
            (Self::Map(key, value), Self::Map(other_key, other)) => key.fits(other_key) && value.fits(other),
            (Self::Object(_), Self::Map(..)) | (Self::Map(..), Self::Object(_)) => true,
            (Self::Object(one), Self::Object(other)) if Arc::ptr_eq(one, other) => true,
            (Self::Object(one), Self::Object(other)) => one
                .fields
                .iter()
                .all(|(name, own)| other.fields.get(name).is_none_or(|field| own.fits(field))),
            _ => self == other,
        }
    }

    /// Whether cel-go knows it as exactly.
    pub(crate) fn is_certain(&self) -> bool {
        match self {
            Self::Dyn | Self::Object(_) | Self::Made(_) | Self::Opaque(_) | Self::Type => false,
            Self::List(inner) | Self::Optional(inner) => inner.is_certain(),
            Self::Map(key, value) => key.is_certain() && value.is_certain(),
            _ => true,
        }
    }

    /// The type of both.
    pub(crate) fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::Dyn }
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("google.protobuf.Duration"),
            Self::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(_) => f.write_str("object"),
            Self::Type => f.write_str("type"),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Opaque(name) => f.write_str(name),
            Self::Made(name) => f.write_str(name),
        }
    }
}
