//! The OpenAPI definitions, found by kind.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::data;

pub(crate) const PREFIX: &str = "#/components/schemas/";

/// A cheap handle on a set of definitions; all clones share them.
#[derive(Debug, Clone)]
pub struct Schemas {
    inner: Arc<Inner>,
}

#[derive(Debug, Clone, Default)]
struct Inner {
    // Shared with the sets that this one was made from. Each write looks some of them up, and their names begin alike.
    definitions: HashMap<String, Arc<Definition>>,
    /// By kind: group, version, and the definition's name.
    by_kind: HashMap<String, Vec<(String, String, String)>>,
}

/// One definition. Most are never asked for, and parsed they are five times as large as their text.
#[derive(Debug)]
struct Definition {
    text: Arc<str>,
    parsed: OnceLock<Value>,
    zero: OnceLock<Value>,
}

impl Definition {
    fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), parsed: OnceLock::new(), zero: OnceLock::new() }
    }

    fn value(&self) -> &Value {
        self.parsed.get_or_init(|| self.parse())
    }

    fn parse(&self) -> Value {
        serde_json::from_str(&self.text).expect("invariant: a definition's text was taken from JSON")
    }
}

impl Schemas {
    /// The stable groups of Kubernetes 1.37, inflated at first use.
    pub fn builtin() -> Self {
        static BUILTIN: OnceLock<Schemas> = OnceLock::new();
        BUILTIN.get_or_init(|| Self::from_text(&data::openapi())).clone()
    }

    /// Definitions by name, as JSON.
    fn from_text(text: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Described {
            #[serde(rename = "x-kubernetes-group-version-kind", default)]
            kinds: Vec<OfKind>,
        }
        #[derive(Deserialize)]
        struct OfKind {
            #[serde(default)]
            group: String,
            version: String,
            kind: String,
        }
        let definitions: BTreeMap<String, &RawValue> =
            serde_json::from_slice(text).expect("invariant: the embedded data is JSON");
        let mut inner = Inner::default();
        for (name, schema) in definitions {
            let described: Described = serde_json::from_str(schema.get())
                .expect("invariant: the embedded definitions tell what kinds they describe");
            for of in described.kinds {
                inner.name(&of.group, &of.version, &of.kind, name.clone());
            }
            inner.definitions.insert(name, Arc::new(Definition::new(schema.get())));
        }
        Self { inner: Arc::new(inner) }
    }

    /// The same set with nothing parsed: for who looks at all of it and then no more.
    #[must_use]
    pub fn unparsed(&self) -> Self {
        let texts = self.inner.definitions.iter();
        let definitions = texts
            .map(|(name, known)| (name.clone(), Arc::new(Definition::new(Arc::clone(&known.text)))))
            .collect();
        let inner = Inner { definitions, by_kind: self.inner.by_kind.clone() };
        Self { inner: Arc::new(inner) }
    }

    /// A set that also holds the given kind. `schema` is an `openAPIV3Schema` or what schemars writes (with `$defs`); apiVersion,
    /// kind and metadata are filled in.
    pub fn with_kind(&self, group: &str, version: &str, kind: &str, schema: &Value) -> Self {
        self.with_kinds([(group, version, kind, schema)])
    }

    /// A set that also holds the given kinds: group, version, kind and schema, as for [`Schemas::with_kind`].
    pub fn with_kinds<'a>(
        &self,
        kinds: impl IntoIterator<Item = (&'a str, &'a str, &'a str, &'a Value)>,
    ) -> Self {
        let mut inner = (*self.inner).clone();
        for (group, version, kind, schema) in kinds {
            inner.insert(group, version, kind, schema);
        }
        Self { inner: Arc::new(inner) }
    }

    /// The name of the definition that describes a kind: `io.k8s.api.apps.v1.Deployment`.
    pub fn name_of(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        let named = self.inner.by_kind.get(kind)?;
        let found = named.iter().find(|(of, in_version, _)| of == group && in_version == version);
        found.map(|(_, _, name)| name.as_str())
    }

    /// Whether a definition is one of Kubernetes' own. Its name does not tell: kinds of the groups below k8s.io may be custom ones.
    pub(crate) fn is_builtin(name: &str) -> bool {
        Self::builtin().inner.definitions.contains_key(name)
    }

    /// What objects of a definition always have, made when it is first asked for; none if there is no such definition.
    pub(crate) fn kept_zero(&self, name: &str, make: impl FnOnce() -> Value) -> Option<&Value> {
        self.inner.definitions.get(name).map(|definition| definition.zero.get_or_init(make))
    }

    /// All definitions, by name, each parsed for as long as it is looked at.
    pub(crate) fn each_definition(&self) -> impl Iterator<Item = (&str, Value)> {
        self.inner.definitions.iter().map(|(name, known)| (name.as_str(), known.parse()))
    }

    /// The definition that describes a kind.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Value> {
        self.definition(self.name_of(group, version, kind)?)
    }

    /// The definition of the schemas that may stand where a definition says no more than that a schema, or something else, does.
    pub(crate) fn schema_in(&self, name: Option<&str>) -> Option<&Value> {
        let which = name?.strip_prefix(JSON_SCHEMA)?;
        if matches!(which, "OrArray" | "OrBool" | "OrStringArray") {
            self.definition(JSON_SCHEMA)
        } else {
            None
        }
    }

    /// A definition by its name.
    pub fn definition(&self, name: &str) -> Option<&Value> {
        self.inner.definitions.get(name).map(|definition| definition.value())
    }

    /// All definitions, by name.
    pub fn definitions(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.inner.definitions.iter().map(|(name, known)| (name.as_str(), known.value()));
        all.collect::<BTreeMap<_, _>>().into_iter()
    }

    /// Follows a `$ref`; anything else, and a reference to nothing, is returned as it is.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        reference(schema).and_then(|name| self.definition(name)).unwrap_or(schema)
    }

    /// What strategic merge patch must know about one field of a definition, or `None` if there is no such field.
    pub fn merge_rule(&self, parent: &str, field: &str) -> Option<MergeRule> {
        let property = self.definition(parent)?.get("properties")?.get(field)?;
        let text = |key: &str| property.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(MergeRule {
            merge_key: text("x-kubernetes-patch-merge-key"),
            strategies: text("x-kubernetes-patch-strategy")
                .map(|list| list.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            child: [Some(property), property.get("items"), property.get("additionalProperties")]
                .into_iter()
                .flatten()
                .find_map(reference)
                .map(str::to_owned),
        })
    }
}

/// The patch rules of one field (`x-kubernetes-patch-merge-key`, `x-kubernetes-patch-strategy`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeRule {
    /// The key that tells the items of a merged list apart.
    pub merge_key: Option<String>,
    /// `merge`, `replace`, `retainKeys`; none means objects merge and lists are replaced.
    pub strategies: Vec<String>,
    /// The definition of the field, or of its items or values; `None` for scalars and inline schemas.
    pub child: Option<String>,
}

impl Inner {
    /// Has a kind described by a definition.
    fn name(&mut self, group: &str, version: &str, kind: &str, name: String) {
        let named = self.by_kind.entry(kind.to_owned()).or_default();
        named.retain(|(of, in_version, _)| (of.as_str(), in_version.as_str()) != (group, version));
        named.push((group.to_owned(), version.to_owned(), name));
    }

    fn insert(&mut self, group: &str, version: &str, kind: &str, schema: &Value) {
        let name = definition_name(group, version, kind);
        let definition = custom_definition(group, version, kind, schema);
        self.definitions.insert(name.clone(), Arc::new(Definition::new(definition.to_string())));
        self.name(group, version, kind, name.clone());
        let list_kind = format!("{kind}List");
        let list = definition_name(group, version, &list_kind);
        self.definitions.insert(
            list.clone(),
            Arc::new(Definition::new(json!({
                "description": format!("{list_kind} is a list of {kind}"),
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": api_version(),
                    "kind": kind_property(),
                    "metadata": {"$ref": format!("{PREFIX}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"), "description": format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds")},
                    "items": {"type": "array", "items": {"$ref": format!("{PREFIX}{name}")}},
                },
                "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": list_kind}],
            }).to_string())),
        );
        self.name(group, version, &list_kind, list);
    }
}

/// The definition of a kind that is not built in: its schema with apiVersion, kind and metadata filled in.
pub(crate) fn custom_definition(group: &str, version: &str, kind: &str, schema: &Value) -> Value {
    let mut definition = inline(schema, schema, 0);
    if let Some(object) = definition.as_object_mut() {
        object.insert("type".into(), json!("object"));
        let properties = object.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("apiVersion".into(), api_version());
            properties.insert("kind".into(), kind_property());
            properties.insert("metadata".into(), json!({"$ref": format!("{PREFIX}{OBJECT_META}"), "description": format!("Standard object's metadata. More info: {CONVENTIONS}#metadata")}));
        }
        object.insert(
            "x-kubernetes-group-version-kind".into(),
            json!([{"group": group, "version": version, "kind": kind}]),
        );
    }
    definition
}

const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

fn api_version() -> Value {
    json!({"type": "string", "description": format!("APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: {CONVENTIONS}#resources")})
}

fn kind_property() -> Value {
    json!({"type": "string", "description": format!("Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: {CONVENTIONS}#types-kinds")})
}

pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// What describes the fields of custom kinds.
pub(crate) const JSON_SCHEMA: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// The definition's name that a schema refers to.
pub(crate) fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(PREFIX)
}

/// Custom kinds are named as the API server names them: reversed group, version, kind.
pub(crate) fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// Nesting up to which local references are written out; a recursive type becomes an open object below it.
const MAX_INLINE: usize = 24;

/// Turns schemars' JSON Schema into the structural form: no `$defs`, no type lists, `nullable` instead of a null branch.
fn inline(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > MAX_INLINE {
        return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    let Value::Object(source) = schema else {
        return match schema {
            // `true` allows everything.
            Value::Bool(_) => json!({"x-kubernetes-preserve-unknown-fields": true}),
            other => other.clone(),
        };
    };
    let local =
        source.get("$ref").and_then(Value::as_str).and_then(|target| root.pointer(target.strip_prefix('#')?));
    let mut result = match local {
        Some(target) => match inline(target, root, depth + 1) {
            Value::Object(object) => object,
            _ => Map::new(),
        },
        None => Map::new(),
    };
    for (key, value) in source {
        match (key.as_str(), value) {
            ("$schema" | "$defs" | "definitions", _) => {}
            ("$ref", _) if local.is_some() => {}
            ("type", Value::Array(types)) => {
                if types.iter().any(|t| t == "null") {
                    result.insert("nullable".into(), json!(true));
                }
                if let Some(first) = types.iter().find(|t| *t != "null") {
                    result.insert("type".into(), first.clone());
                }
            }
            ("anyOf" | "oneOf", Value::Array(branches)) => {
                let real: Vec<&Value> =
                    branches.iter().filter(|b| b.get("type") != Some(&json!("null"))).collect();
                if real.len() < branches.len() {
                    result.insert("nullable".into(), json!(true));
                }
                if let [only] = real.as_slice() {
                    if let Value::Object(object) = inline(only, root, depth + 1) {
                        for (key, value) in object {
                            result.entry(key).or_insert(value);
                        }
                    }
                } else {
                    result.insert(key.clone(), real.iter().map(|b| inline(b, root, depth + 1)).collect());
                }
            }
            ("properties", Value::Object(properties)) => {
                let inner =
                    properties.iter().map(|(name, value)| (name.clone(), inline(value, root, depth + 1)));
                result.insert(key.clone(), Value::Object(inner.collect()));
            }
            ("items" | "additionalProperties", Value::Object(_)) => {
                result.insert(key.clone(), inline(value, root, depth + 1));
            }
            _ => {
                result.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(result)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn merge_keys_come_from_the_schema() {
        let schemas = Schemas::builtin();
        let rule = schemas.merge_rule("io.k8s.api.core.v1.PodSpec", "containers").unwrap();
        assert_eq!(rule.merge_key.as_deref(), Some("name"));
        assert_eq!(rule.strategies, ["merge"]);
        assert_eq!(rule.child.as_deref(), Some("io.k8s.api.core.v1.Container"));
        let volumes = schemas.merge_rule("io.k8s.api.core.v1.PodSpec", "volumes").unwrap();
        assert_eq!(volumes.strategies, ["merge", "retainKeys"]);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(schemas: &Schemas, value: &Value) {
            if let Some(name) = reference(value) {
                assert!(schemas.definition(name).is_some(), "{name}");
            }
            match value {
                Value::Object(map) => map.values().for_each(|value| walk(schemas, value)),
                Value::Array(items) => items.iter().for_each(|value| walk(schemas, value)),
                _ => {}
            }
        }
        let schemas = Schemas::builtin();
        schemas.definitions().for_each(|(_, schema)| walk(&schemas, schema));
    }

    #[test]
    fn a_schemars_schema_becomes_structural() {
        let schema = json!({
            "$defs": {"Mode": {"type": "string", "enum": ["A", "B"]}},
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {
                "mode": {"anyOf": [{"$ref": "#/$defs/Mode"}, {"type": "null"}]},
                "count": {"type": ["integer", "null"]},
            }}},
        });
        let schemas = Schemas::builtin().with_kind("federation.rs", "v1alpha1", "Thing", &schema);
        assert_eq!(
            schemas.name_of("federation.rs", "v1alpha1", "Thing"),
            Some("rs.federation.v1alpha1.Thing")
        );
        let spec = &schemas.of_kind("federation.rs", "v1alpha1", "Thing").unwrap()["properties"]["spec"]["properties"];
        assert_eq!(spec["mode"], json!({"type": "string", "enum": ["A", "B"], "nullable": true}));
        assert_eq!(spec["count"], json!({"type": "integer", "nullable": true}));
    }
}
