//! From an `openAPIV3Schema` to a [`Structural`].

use serde_json::{Map, Value};

use super::{Checks, ListKind, Pattern, Structural, Type};

/// Schemas nested deeper are refused; objects are not stored deeper than 100 levels either.
const DEPTH_MAX: usize = 100;

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The schema is nested too deeply.
    #[error("{field}: the schema is nested deeper than 100 levels")]
    TooDeep {
        /// Where.
        field: String,
    },
}

impl Structural {
    /// Parses a schema. Keywords that are unknown, or have a value of the wrong type, are left out: finding those is the part of
    /// the definition's validation.
    pub fn parse(schema: &Value) -> Result<Self, ParseError> {
        node(schema, "", 0)
    }
}

fn node(schema: &Value, path: &str, depth: usize) -> Result<Structural, ParseError> {
    if depth > DEPTH_MAX {
        return Err(ParseError::TooDeep { field: path.to_owned() });
    }
    let empty = Map::new();
    let map = schema.as_object().unwrap_or(&empty);
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or_default();
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    let below = |key: &str| format!("{path}.{key}");
    let mut properties = std::collections::BTreeMap::new();
    for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.properties[{name}]");
        properties.insert(name.clone(), node(property, &path, depth + 1)?);
    }
    let additional = match map.get("additionalProperties") {
        Some(Value::Bool(true)) => {
            Some(Box::new(Structural { preserve_unknown: true, ..Structural::default() }))
        }
        Some(schema @ Value::Object(_)) => {
            Some(Box::new(node(schema, &below("additionalProperties"), depth + 1)?))
        }
        _ => None,
    };
    let items = match map.get("items") {
        Some(schema @ Value::Object(_)) => Some(Box::new(node(schema, &below("items"), depth + 1)?)),
        _ => None,
    };
    let list = match text("x-kubernetes-list-type") {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(strings(map.get("x-kubernetes-list-map-keys"))),
        _ => ListKind::Atomic,
    };
    let mut parsed = Structural {
        kind: text("type").and_then(Type::parse),
        nullable: flag("nullable"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        embeds: false,
        int_or_string: flag("x-kubernetes-int-or-string"),
        properties,
        additional,
        items,
        default: map.get("default").filter(|default| !default.is_null()).cloned(),
        list,
        atomic_map: text("x-kubernetes-map-type") == Some("atomic"),
        checks: checks(map, path, depth)?,
        rules: map.get("x-kubernetes-validations").and_then(Value::as_array).cloned().unwrap_or_default(),
        compiled: Vec::new(),
        ruled: false,
    };
    let embeds = parsed.children().any(|child| child.embedded || child.embeds);
    parsed.embeds = embeds;
    Ok(parsed)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn checks(map: &Map<String, Value>, path: &str, depth: usize) -> Result<Checks, ParseError> {
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or_default();
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    let count = |key: &str| map.get(key).and_then(Value::as_u64);
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let branches = |key: &str| -> Result<Vec<Structural>, ParseError> {
        let schemas = map.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        schemas.map(|(at, schema)| node(schema, &format!("{path}.{key}[{at}]"), depth + 1)).collect()
    };
    Ok(Checks {
        format: text("format").map(str::to_owned),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        pattern: text("pattern").filter(|pattern| !pattern.is_empty()).map(Pattern::new),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        unique_items: flag("uniqueItems"),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        required: strings(map.get("required")),
        enumeration: map.get("enum").and_then(Value::as_array).cloned(),
        all_of: branches("allOf")?,
        any_of: branches("anyOf")?,
        one_of: branches("oneOf")?,
        not: match map.get("not") {
            Some(schema @ Value::Object(_)) => {
                Some(Box::new(node(schema, &format!("{path}.not"), depth + 1)?))
            }
            _ => None,
        },
    })
}
