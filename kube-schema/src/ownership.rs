//! The definitions as a structured-merge-diff schema: which lists and maps server-side apply treats as one value.
//!
//! The rules are those of kube-openapi's `schemaconv`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Schemas;
use crate::openapi::custom;
use crate::schemas::{OBJECT_META, custom_definition, definition_name, reference};

/// The type of what the schema leaves open; `apimachinery::apply` knows it by this name.
const DEDUCED: &str = "__untyped_deduced_";

impl Schemas {
    /// The schema document `{"types": [{"name", "map" | "list" | "scalar"}]}`, as `apimachinery::apply::Schema` deserializes it. The type
    /// of a kind is named as [`Schemas::name_of`] says.
    ///
    /// It covers every definition: build it once for each state of the registry.
    pub fn ownership_schema(&self) -> Value {
        let all: BTreeMap<&str, Value> = self.each_definition().collect();
        let types: Vec<Value> = all
            .iter()
            .map(|(name, schema)| {
                let mut atom = definition(name, schema);
                atom.insert("name".into(), json!(name));
                Value::Object(atom)
            })
            .collect();
        json!({ "types": types })
    }

    /// [`Schemas::ownership_schema`] as server-side apply takes it: root types are named as [`Schemas::name_of`] says.
    pub fn apply_schema(&self) -> apimachinery::apply::Schema {
        // One by one: together what they are made of takes several times as much memory as they do.
        let types = self.each_definition().map(|(name, schema)| {
            let atom = serde_json::from_value(Value::Object(definition(name, &schema)))
                .expect("invariant: the type has the form that Atom reads");
            (name.to_owned(), atom)
        });
        apimachinery::apply::Schema { types: types.collect() }
    }

    /// The types of one kind that is not in this set, and the name of its root type. `schema` is its `openAPIV3Schema`; what
    /// the definition refers to comes from this set.
    pub fn apply_schema_of(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        schema: &Value,
    ) -> (apimachinery::apply::Schema, String) {
        let root = definition_name(group, version, kind);
        // As it is published, where objects within objects have what every object has.
        let own = custom::v3(&custom_definition(group, version, kind, schema));
        let named = |name: &str, schema: &Value| {
            let mut atom = definition(name, schema);
            atom.insert("name".into(), json!(name));
            Value::Object(atom)
        };
        let mut types = vec![named(&root, &own)];
        // The only references of a custom definition are those to metadata.
        for (name, schema) in crate::openapi::closure(self, [OBJECT_META]) {
            types.push(named(name, schema));
        }
        let schema = serde_json::from_value(json!({ "types": types }))
            .expect("invariant: the document has the form that Schema reads");
        (schema, root)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn definition(name: &str, schema: &Value) -> Map<String, Value> {
    match name {
        // Text or number.
        "io.k8s.apimachinery.pkg.api.resource.Quantity"
        | "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => object(json!({"scalar": "untyped"})),
        // An object of a type that only its reader knows is one value.
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => object(json!({
            "scalar": "untyped",
            "list": {"elementType": opaque(), "elementRelationship": "atomic"},
            "map": {"elementType": opaque(), "elementRelationship": "atomic"},
        })),
        _ => atom(schema, false),
    }
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

fn is_true(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool) == Some(true)
}

/// A reference to a type, or the type written out. What is written out below a schema that keeps unknown fields takes them,
/// too (`open`), though they are then pruned.
fn type_ref(schema: &Value, open: bool) -> Value {
    if let Some(name) = reference(schema) {
        let mut named = object(json!({"namedType": name}));
        match text(schema, "x-kubernetes-map-type") {
            Some("atomic") => named.insert("elementRelationship".into(), json!("atomic")),
            Some("granular") => named.insert("elementRelationship".into(), json!("separable")),
            _ => None,
        };
        return Value::Object(named);
    }
    Value::Object(atom(schema, open))
}

fn deduced() -> Value {
    json!({"namedType": DEDUCED})
}

fn opaque() -> Value {
    json!({"namedType": "__untyped_atomic_"})
}

fn atom(schema: &Value, open: bool) -> Map<String, Value> {
    let open = open || is_true(schema, "x-kubernetes-preserve-unknown-fields");
    if text(schema, "format") == Some("int-or-string") {
        return object(json!({"scalar": "untyped"}));
    }
    match text(schema, "type") {
        Some("string") => object(json!({"scalar": "string"})),
        Some("integer" | "number") => object(json!({"scalar": "numeric"})),
        Some("boolean") => object(json!({"scalar": "boolean"})),
        Some("array") => object(json!({"list": list(schema, open)})),
        Some("object") => object(json!({"map": map(schema, open)})),
        // Any JSON, as of what is `x-kubernetes-int-or-string`: validation refuses what is neither.
        _ => object(json!({
            "scalar": "untyped",
            "list": {"elementType": opaque(), "elementRelationship": "atomic"},
            "map": {"elementType": deduced(), "elementRelationship": "separable"},
        })),
    }
}

fn list(schema: &Value, open: bool) -> Value {
    let element = schema.get("items").map_or_else(deduced, |items| type_ref(items, open));
    let merged =
        text(schema, "x-kubernetes-patch-strategy").is_some_and(|list| list.split(',').any(|s| s == "merge"));
    let (relationship, keys) = match text(schema, "x-kubernetes-list-type") {
        Some("map") => ("associative", schema.get("x-kubernetes-list-map-keys").cloned()),
        Some("set") => ("associative", None),
        // Older fields have patch markers only; those without list type follow them.
        None if merged => {
            ("associative", text(schema, "x-kubernetes-patch-merge-key").map(|key| json!([key])))
        }
        _ => ("atomic", None),
    };
    let mut list = object(json!({"elementType": element, "elementRelationship": relationship}));
    if let Some(keys) = keys {
        list.insert("keys".into(), keys);
    }
    Value::Object(list)
}

fn map(schema: &Value, open: bool) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields: Vec<Value> = properties
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let mut field = object(json!({"name": name, "type": type_ref(property, open)}));
            if let Some(default) = property.get("default") {
                field.insert("default".into(), default.clone());
            }
            Value::Object(field)
        })
        .collect();
    let atomic = text(schema, "x-kubernetes-map-type") == Some("atomic");
    let mut map = object(json!({"elementRelationship": if atomic { "atomic" } else { "separable" }}));
    let takes_any = open || is_true(schema, "additionalProperties") || properties.is_none();
    match schema.get("additionalProperties").filter(|schema| schema.is_object()) {
        Some(values) => {
            map.insert("elementType".into(), type_ref(values, open));
        }
        None if takes_any => {
            map.insert("elementType".into(), deduced());
        }
        None => {}
    }
    if !fields.is_empty() {
        map.insert("fields".into(), Value::Array(fields));
    }
    Value::Object(map)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use apimachinery::apply::{Duplicates, ObjectType, TypeRef};

    use super::*;

    fn field(document: &Value, of: &str, name: &str) -> Value {
        let types = document["types"].as_array().unwrap();
        let found = types.iter().find(|t| t["name"] == of).unwrap();
        found["map"]["fields"].as_array().unwrap().iter().find(|f| f["name"] == name).unwrap().clone()
    }

    #[test]
    fn apimachinery_reads_the_document() {
        let schemas = Schemas::builtin();
        let schema = schemas.apply_schema();
        assert_eq!(schema.types.len(), schemas.definitions().count());
        assert!(schema.types["io.k8s.api.apps.v1.Deployment"].map.is_some());
    }

    #[test]
    fn an_object_within_an_object_has_what_every_object_has() {
        let schema = json!({"type": "object", "properties": {"template": {
            "type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}},
        }}});
        let (schema, root) = Schemas::builtin().apply_schema_of("e.com", "v1", "Thing", &schema);
        let thing = schema.types[&root].map.as_ref().unwrap();
        let template = &thing.fields["template"].field_type;
        let told = format!("{template:?}");
        for name in ["apiVersion", "kind", "spec", OBJECT_META] {
            assert!(told.contains(name), "{name} in {told}");
        }
    }

    #[test]
    fn list_maps_have_their_keys_and_defaults() {
        let document = Schemas::builtin().ownership_schema();
        let ports = field(&document, "io.k8s.api.core.v1.Container", "ports");
        assert_eq!(ports["type"]["list"]["keys"], json!(["containerPort", "protocol"]));
        assert_eq!(ports["type"]["list"]["elementRelationship"], "associative");
        let protocol = field(&document, "io.k8s.api.core.v1.ContainerPort", "protocol");
        assert_eq!(protocol["default"], "TCP");
    }

    #[test]
    fn what_lacks_its_key_is_the_entry_of_the_default_key() {
        let schema = Schemas::builtin().apply_schema();
        let root = TypeRef::named("io.k8s.api.core.v1.PodSpec");
        let spec = json!({"containers": [{"ports": [{"hostPort": 80}]}]});
        let fields = ObjectType::new(&schema, &root).field_set(&spec).to_value();
        let container = &fields["f:containers"][r#"k:{"name":""}"#];
        assert!(container["f:ports"][r#"k:{"containerPort":0,"protocol":"TCP"}"#].is_object(), "{fields}");
    }

    #[test]
    fn sets_atomic_lists_and_atomic_structs_are_told_apart() {
        let document = Schemas::builtin().ownership_schema();
        let finalizers = field(&document, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers");
        assert_eq!(finalizers["type"]["list"]["elementRelationship"], "associative");
        assert_eq!(finalizers["type"]["list"].get("keys"), None);
        let args = field(&document, "io.k8s.api.core.v1.Container", "args");
        assert_eq!(args["type"]["list"]["elementRelationship"], "atomic");
        let types = document["types"].as_array().unwrap();
        let selector =
            types.iter().find(|t| t["name"] == "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").unwrap();
        assert_eq!(selector["map"]["elementRelationship"], "atomic");
    }

    #[test]
    fn what_is_below_a_schema_that_keeps_unknown_fields_takes_them_too() {
        let text = json!({"type": "object", "properties": {"b": {"type": "string"}}});
        let kept = json!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"a": text, "l": {"type": "array", "items": text}, "port": {"x-kubernetes-int-or-string": true}},
        });
        let crd = json!({"type": "object", "properties": {"spec": kept, "plain": text}});
        let (schema, root) = Schemas::builtin().apply_schema_of("example.com", "v1", "Widget", &crd);
        let root = TypeRef::named(root);
        let check = |object: Value| ObjectType::new(&schema, &root).validate(&object, Duplicates::Refuse);
        let other = json!({"b": "1", "other": {"c": [2]}});
        assert_eq!(check(json!({"spec": {"a": other, "l": [other], "more": 1}})), Ok(()));
        assert_eq!(check(json!({"spec": {"port": {"a": 1}}})), Ok(()), "it is for validation to tell");
        let refused = check(json!({"plain": other})).unwrap_err();
        assert_eq!(refused, [".plain.other: field not declared in schema"]);
    }

    #[test]
    fn what_only_its_reader_knows_is_one_value() {
        let schema = Schemas::builtin().apply_schema();
        let root = TypeRef::named("io.k8s.api.apps.v1.ControllerRevision");
        let revision = json!({"revision": 1, "data": {"a": 1, "b": {"c": [2]}}});
        let fields = ObjectType::new(&schema, &root).field_set(&revision);
        assert_eq!(fields.to_value(), json!({"f:revision": {}, "f:data": {}}));
    }
}
