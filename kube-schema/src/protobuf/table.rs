//! The message tables that drive both directions: field number → JSON name and type, resolved once.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::data;

/// How the JSON form of a message differs from a plain object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Struct,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    RawExtension,
    /// The message wraps JSON text: FieldsV1.
    JsonText,
    Duration,
    /// The message has one repeated field `items` and is a plain list in JSON (ExtraValue, Verbs).
    List,
    /// In JSON it is what stands in the one of its two fields that is set: a schema, or something else (`JSONSchemaPropsOrBool`).
    Either,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Bytes,
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    String,
    Message(usize),
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) json: String,
    pub(super) kind: Kind,
    pub(super) map: bool,
    pub(super) repeated: bool,
    pub(super) pointer: bool,
    pub(super) omitempty: bool,
    pub(super) inline: bool,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) shape: Shape,
    /// Ascending by number, as gogo writes them.
    pub(super) fields: Vec<Field>,
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        // Most tables are dense from 1, so the guess is nearly always right.
        match self.fields.get(number.wrapping_sub(1) as usize) {
            Some(field) if field.number == number => Some(field),
            _ => self
                .fields
                .binary_search_by_key(&number, |f| f.number)
                .ok()
                .and_then(|at| self.fields.get(at)),
        }
    }
}

pub(super) struct Tables {
    messages: Vec<Message>,
    by_name: HashMap<String, usize>,
}

/// The two fields of [`Shape::Either`].
pub(super) const SCHEMA: &str = "schema";
pub(super) const OTHERS: &str = "others";

const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";

impl Tables {
    /// The tables of all built-in kinds, parsed at first use.
    pub(super) fn builtin() -> &'static Self {
        static TABLES: OnceLock<Tables> = OnceLock::new();
        TABLES.get_or_init(|| Self::parse(&data::protobuf()))
    }

    fn parse(data: &Value) -> Self {
        let empty = serde_json::Map::new();
        let source = data.as_object().unwrap_or(&empty);
        let by_name: HashMap<String, usize> = source.keys().cloned().zip(0..).collect();
        let messages = source
            .iter()
            .map(|(name, fields)| {
                let mut fields: Vec<Field> = fields
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|field| parse_field(field, &by_name))
                    .collect();
                fields.sort_by_key(|field| field.number);
                Message { shape: shape(name, &fields), fields }
            })
            .collect();
        Self { messages, by_name }
    }

    pub(super) fn message(&self, index: usize) -> Option<&Message> {
        self.messages.get(index)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Message> {
        self.by_name.get(name).and_then(|index| self.message(*index))
    }

    /// Whether a scalar field of a message, or of one that stands in it without a name, is no pointer and has `omitempty`.
    pub(super) fn leaves_out_zero(&self, message: &Message, json: &str) -> bool {
        message.fields.iter().any(|field| match field.kind {
            Kind::Message(inner) => {
                field.inline && self.message(inner).is_some_and(|inner| self.leaves_out_zero(inner, json))
            }
            _ => field.json == json && field.omitempty && !(field.pointer || field.repeated || field.map),
        })
    }

    /// Finds the message of a kind; option and event kinds of any group live in meta/v1.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let package = match group {
            "" => "core",
            other => other.split('.').next().unwrap_or(other),
        };
        let own = format!("k8s.io.api.{package}.{version}.{kind}");
        let meta = format!("{META}.{kind}");
        let meta_beta = format!("k8s.io.apimachinery.pkg.apis.meta.v1beta1.{kind}");
        let candidates: &[&str] = match (api_version, kind) {
            (
                _,
                "WatchEvent" | "DeleteOptions" | "CreateOptions" | "UpdateOptions" | "PatchOptions"
                | "ListOptions" | "GetOptions",
            ) => &[&meta],
            ("v1" | "meta.k8s.io/v1", _) => &[&own, &meta],
            ("meta.k8s.io/v1beta1", _) => &[&meta_beta, &meta],
            _ => &[&own],
        };
        let index = candidates.iter().find_map(|name| self.by_name.get(*name))?;
        self.message(*index).filter(|message| message.shape == Shape::Struct)
    }
}

fn parse_field(field: &Value, by_name: &HashMap<String, usize>) -> Option<Field> {
    let kind = field.get(2)?.as_str()?;
    let flags = field.get(3)?.as_str()?;
    let (map, kind) = match kind.strip_prefix("map:") {
        Some(value) => (true, value),
        None => (false, kind),
    };
    Some(Field {
        number: u32::try_from(field.get(0)?.as_u64()?).ok()?,
        json: field.get(1)?.as_str()?.to_owned(),
        kind: match kind {
            "bool" => Kind::Bool,
            "bytes" => Kind::Bytes,
            "double" => Kind::Double,
            "float" => Kind::Float,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "uint32" => Kind::Uint32,
            "uint64" => Kind::Uint64,
            "string" => Kind::String,
            message => Kind::Message(*by_name.get(message.strip_prefix('.')?)?),
        },
        map,
        repeated: flags.contains('r'),
        pointer: flags.contains('p'),
        omitempty: flags.contains('o'),
        inline: flags.contains('i'),
    })
}

fn shape(name: &str, fields: &[Field]) -> Shape {
    match name.strip_prefix("k8s.io.apimachinery.pkg.").unwrap_or(name) {
        "apis.meta.v1.Time" => Shape::Time,
        "apis.meta.v1.MicroTime" => Shape::MicroTime,
        "apis.meta.v1.Duration" => Shape::Duration,
        "apis.meta.v1.FieldsV1" => Shape::JsonText,
        "api.resource.Quantity" => Shape::Quantity,
        "util.intstr.IntOrString" => Shape::IntOrString,
        "runtime.RawExtension" => Shape::RawExtension,
        "k8s.io.api.apiextensions.v1.JSON" => Shape::JsonText,
        name if name.starts_with("k8s.io.api.apiextensions.v1.JSONSchemaPropsOr") => Shape::Either,
        // A Go slice type: the generator gives it one field and no struct tag, hence no flags but `repeated`.
        _ => match fields {
            [only]
                if only.repeated && only.json == "items" && name.ends_with("ExtraValue")
                    || is_verbs(name) =>
            {
                Shape::List
            }
            _ => Shape::Struct,
        },
    }
}

fn is_verbs(name: &str) -> bool {
    name.ends_with(".meta.v1.Verbs")
}
