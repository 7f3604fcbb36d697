//! Structural schemas: what a CustomResourceDefinition says of its objects.
//!
//! An `openAPIV3Schema` is parsed once into a [`Structural`]; objects are then pruned ([`Structural::prune`]), completed
//! ([`Structural::fill_defaults`]) and checked ([`Structural::check`]) by walking schema and object together. The texts of faults are
//! those of kube-apiserver, which clients show and scripts match on.
//!
//! ```
//! use kube_schema::structural::Structural;
//! use serde_json::json;
//! let schema = Structural::parse(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
//!     "size": {"type": "integer", "minimum": 1, "default": 3},
//! }}}})).unwrap();
//! let mut object = json!({"spec": {"colour": "red"}});
//! assert_eq!(schema.prune(&mut object, true), ["spec.colour"]);
//! schema.fill_defaults(&mut object);
//! assert_eq!(object, json!({"spec": {"size": 3}}));
//! ```

mod check;
mod compile;
mod composite;
mod embedded;
mod estimate;
mod faults;
mod fill;
mod format;
mod former;
mod items;
mod parse;
mod rules;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use regex::Regex;
use serde_json::Value;

pub use format::is_known as is_known_format;
pub use parse::ParseError;
pub use rules::{Rule, RuleFault, RuleOutcome};

/// The JSON type that a schema asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A struct or a map.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
}

impl Type {
    /// Its name in OpenAPI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// Reads its name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Object, Self::Array, Self::String, Self::Integer, Self::Number, Self::Boolean]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// How the items of a list are told apart (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListKind {
    /// The list is one value, as it is where nothing is said.
    #[default]
    Atomic,
    /// Each value stands once.
    Set,
    /// Each combination of these fields stands once.
    Map(Vec<String>),
}

/// One node of a structural schema.
#[derive(Debug, Clone, Default)]
pub struct Structural {
    /// The type; none for what is left open and for int-or-string.
    pub kind: Option<Type>,
    /// Whether null is a value.
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: apiVersion, kind and metadata are those of any object.
    pub embedded: bool,
    /// Whether there may be such objects below this node.
    pub embeds: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// The fields of a struct.
    pub properties: BTreeMap<String, Self>,
    /// The values of a map.
    pub additional: Option<Box<Self>>,
    /// The items of a list.
    pub items: Option<Box<Self>>,
    /// What stands for an absent value.
    pub default: Option<Value>,
    /// How items are told apart.
    pub list: ListKind,
    /// `x-kubernetes-map-type: atomic`: the fields are one value as a whole.
    pub atomic_map: bool,
    /// Conditions on the value.
    pub checks: Checks,
    /// `x-kubernetes-validations` at this node, as they are written.
    pub rules: Vec<Value>,
    /// The same, once [`Structural::compile_rules`] has compiled them.
    pub compiled: Vec<Arc<Rule>>,
    /// Whether there are such rules at this node or below.
    pub ruled: bool,
}

/// Conditions on a value.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each field is the keyword of JSON schema itself")]
pub struct Checks {
    pub format: Option<String>,
    pub max_length: Option<u64>,
    pub min_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_items: Option<u64>,
    pub min_items: Option<u64>,
    pub unique_items: bool,
    pub max_properties: Option<u64>,
    pub min_properties: Option<u64>,
    pub required: Vec<String>,
    pub enumeration: Option<Vec<Value>>,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
}

/// A `pattern`. It is compiled when a value is first compared with it: that takes a fraction of a millisecond and up to megabytes, and a
/// definition may have thousands that no object ever needs.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    /// `None` if it does not compile.
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), compiled: OnceLock::new() }
    }

    #[cfg(test)]
    fn is_compiled(&self) -> bool {
        self.compiled.get().is_some()
    }

    /// Whether a text matches. None does if the pattern is none, which a definition of another version may have.
    fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&self.text).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl Structural {
    /// The schema of a field: a property, or else the value of a map.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// The nodes directly below, without those of allOf and the like.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.properties.values().chain(self.additional.as_deref()).chain(self.items.as_deref())
    }
}

/// The JSON type of a value, as OpenAPI and messages about schemas name it; Go's names are others.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if !number.is_i64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
