//! Objects seen through their type: validation and the set of fields an object has.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, PathElement, path_text};
use super::schema::{ListType, ObjectType, Relationship, Scalar, Shape, TypeRef};
use crate::json::go_type;
use crate::patch::{as_source, printed};

/// Whether associative lists may hold an item twice: stored objects may, applied ones not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// An item that is there twice is an error.
    Refuse,
    /// An item that is there twice is one item.
    Allow,
}

fn at(path: &[PathElement], what: &str) -> String {
    if path.is_empty() { what.to_owned() } else { format!("{}: {what}", path_text(path)) }
}

/// So many faults, and so many atomic fields, are told of one object.
const MOST_TOLD: usize = 100;

/// A walk that looks for faults.
struct Validation {
    duplicates: Duplicates,
    path: Vec<PathElement>,
    errors: Vec<String>,
}

impl Validation {
    fn tell(&mut self, what: &str) {
        if !self.is_full() {
            self.errors.push(at(&self.path, what));
        }
    }

    fn is_full(&self) -> bool {
        self.errors.len() >= MOST_TOLD
    }

    fn value<'a>(&mut self, kind: ObjectType<'a>, reference: &'a TypeRef, value: &Value) {
        match (kind.shape(reference, Some(value)), value) {
            _ if self.is_full() => {}
            (Shape::Nothing, _) => self.tell("schema error: invalid atom"),
            (_, Value::Null) => {}
            (Shape::Scalar(scalar), _) => self.scalar(scalar, value),
            (Shape::List(list, Relationship::Atomic), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(PathElement::index(index), |walk| walk.value(kind, &list.element_type, item));
                }
            }
            (Shape::List(list, _), Value::Array(items)) => self.items(kind, list, items),
            (Shape::Map(map, _), Value::Object(entries)) => {
                for (name, entry) in entries {
                    self.within(PathElement::field(name), |walk| match map.entry_type(name) {
                        Some(reference) => walk.value(kind, reference, entry),
                        None => walk.tell("field not declared in schema"),
                    });
                }
            }
            (Shape::List(..), _) => self.tell(&format!("expected list, got &{{{}}}", printed(value))),
            (Shape::Map(..), _) => self.tell(&format!("expected map, got &{{{}}}", printed(value))),
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        let fits = match scalar {
            Scalar::Numeric => value.is_number(),
            Scalar::String => value.is_string(),
            Scalar::Boolean => value.is_boolean(),
            Scalar::Untyped => !value.is_array() && !value.is_object(),
        };
        if fits {
            return;
        }
        // structured-merge-diff prints each in another way.
        self.tell(&match scalar {
            Scalar::Numeric => format!("expected numeric (int or float), got {}", go_type(value)),
            Scalar::String => {
                format!("expected string, got &value.valueUnstructured{{Value:{}}}", as_source(value))
            }
            Scalar::Boolean => format!("expected boolean, got &{{{}}}", printed(value)),
            Scalar::Untyped => format!("expected any scalar, got &{{{}}}", printed(value)),
        });
    }

    /// The items of an associative list.
    fn items<'a>(&mut self, kind: ObjectType<'a>, list: &'a ListType, items: &[Value]) {
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            match kind.item_element(list, item) {
                Ok(element) if seen.contains(&element) => {
                    self.tell(&format!("duplicate entries for key {element}"));
                }
                Ok(element) => {
                    if self.duplicates == Duplicates::Refuse {
                        seen.insert(element.clone());
                    }
                    self.within(element, |walk| walk.value(kind, &list.element_type, item));
                }
                Err(what) => self.tell(&format!("element {index}: {what}")),
            }
            if self.is_full() {
                return;
            }
        }
    }

    fn within(&mut self, element: PathElement, work: impl FnOnce(&mut Self)) {
        self.path.push(element);
        work(self);
        self.path.pop();
    }
}

impl<'a> ObjectType<'a> {
    /// Checks an object against its type. Every error names its path, such as `.spec.foo: field not declared in schema`. The first hundred are
    /// told.
    pub fn validate(self, object: &Value, duplicates: Duplicates) -> Result<(), Vec<String>> {
        let mut walk = Validation { duplicates, path: Vec::new(), errors: Vec::new() };
        walk.value(self, self.root, object);
        if walk.errors.is_empty() { Ok(()) } else { Err(walk.errors) }
    }

    /// The lists, maps and structures in an object that are one value as a whole, by their paths: `.spec.selector`. The first hundred.
    pub fn atomic_fields(self, object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_atomic(self.root, object, &mut Vec::new(), &mut found);
        found
    }

    fn collect_atomic(
        self,
        reference: &'a TypeRef,
        value: &Value,
        path: &mut Vec<PathElement>,
        found: &mut Vec<String>,
    ) {
        match (self.shape(reference, Some(value)), value) {
            _ if found.len() >= MOST_TOLD => {}
            (Shape::Map(map, relationship), Value::Object(entries)) => {
                if relationship == Relationship::Atomic {
                    found.push(path_text(path));
                }
                for (name, entry) in entries {
                    if let Some(field) = map.fields.get(name) {
                        path.push(PathElement::field(name));
                        self.collect_atomic(&field.field_type, entry, path, found);
                        path.pop();
                    }
                }
            }
            (Shape::List(list, relationship), Value::Array(items)) => {
                if relationship == Relationship::Atomic {
                    found.push(path_text(path));
                }
                for (index, item) in items.iter().enumerate() {
                    path.push(PathElement::index(index));
                    self.collect_atomic(&list.element_type, item, path, found);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    /// How an item of an associative list is told apart from the others.
    pub(super) fn item_element(self, list: &'a ListType, item: &Value) -> Result<PathElement, String> {
        if list.keys.is_empty() {
            return match item {
                Value::Null | Value::Object(_) | Value::Array(_) => {
                    Err(format!("associative list without keys has an element that is no scalar: {item}"))
                }
                scalar => Ok(PathElement::value(scalar)),
            };
        }
        let Value::Object(fields) = item else {
            return Err("associative list with keys may not have non-map elements".to_owned());
        };
        let mut keys = Map::new();
        for key in &list.keys {
            let default = || match self.shape(&list.element_type, Some(item)) {
                Shape::Map(map, _) => map.fields.get(key).and_then(|field| field.default.as_ref()),
                _ => None,
            };
            if let Some(value) = fields.get(key).or_else(default) {
                if value.is_object() || value.is_array() {
                    return Err(format!("the key field {key:?} must be a scalar, got {value}"));
                }
                keys.insert(key.clone(), value.clone());
            }
        }
        if keys.is_empty() {
            return Err(format!(
                "associative list with keys has an element that omits all key fields {:?} (and doesn't have default values for any key fields)",
                list.keys
            ));
        }
        Ok(PathElement::keys(keys))
    }

    /// The fields that an object has: what an applier of it owns.
    pub fn field_set(self, object: &Value) -> FieldSet {
        self.fields_of(self.root, object).1
    }

    /// Whether a value is a field as a whole, and the fields below it.
    fn fields_of(self, reference: &'a TypeRef, value: &Value) -> (bool, FieldSet) {
        let mut fields = FieldSet::default();
        match (self.shape(reference, Some(value)), value) {
            (Shape::List(list, Relationship::Associative | Relationship::Separable), Value::Array(items)) => {
                for item in items {
                    // An item that cannot be told apart has no owner; validation has refused it before.
                    let Ok(element) = self.item_element(list, item) else { continue };
                    let (_, below) = self.fields_of(&list.element_type, item);
                    fields.add_step(&element, true, below);
                }
                (false, fields)
            }
            (
                Shape::Map(map, Relationship::Separable | Relationship::Associative),
                Value::Object(entries),
            ) => {
                for (name, entry) in entries {
                    let inner = map.entry_type(name).map(|reference| self.fields_of(reference, entry));
                    let (whole, below) = inner.unwrap_or_default();
                    let empty = entry.is_null() || entry.as_object().is_some_and(Map::is_empty);
                    let member = whole || empty || !map.fields.contains_key(name);
                    fields.add_step(&PathElement::field(name), member, below);
                }
                (false, fields)
            }
            (
                Shape::List(_, Relationship::Associative | Relationship::Separable)
                | Shape::Map(_, Relationship::Separable | Relationship::Associative),
                Value::Null,
            ) => (false, fields),
            _ => (true, fields),
        }
    }

    /// The set with every declared field on the way to a member made a member too.
    pub(super) fn with_named_fields(self, reference: &'a TypeRef, set: &FieldSet) -> FieldSet {
        // The shape of any map value: the sets only know paths.
        let map = match self.shape(reference, Some(&Value::Object(Map::new()))) {
            Shape::Map(map, _) => Some(map),
            _ => None,
        };
        let list = match self.shape(reference, Some(&Value::Array(Vec::new()))) {
            Shape::List(list, _) => Some(list),
            _ => None,
        };
        set.map_nodes(|element, member, below| {
            let name = element.as_field();
            let named = name.is_some_and(|name| map.is_some_and(|map| map.fields.contains_key(name)));
            let child = match name {
                Some(name) => map.and_then(|map| map.entry_type(name)),
                None if element.is_item() => list.map(|list| &list.element_type),
                None => None,
            };
            let below = child.map_or_else(|| below.clone(), |child| self.with_named_fields(child, below));
            (member || named, below)
        })
    }

    /// The object without the fields of the set.
    pub(super) fn without(self, object: &Value, set: &FieldSet) -> Value {
        match self.without_at(self.root, object, set) {
            Value::Null => Value::Object(Map::new()),
            left => left,
        }
    }

    /// Null when nothing is left of what had something: so a typed object forgets it, and a custom one is refused.
    fn without_at(self, reference: &'a TypeRef, value: &Value, set: &FieldSet) -> Value {
        match (self.shape(reference, Some(value)), value) {
            (Shape::List(list, Relationship::Associative | Relationship::Separable), Value::Array(items))
                if !items.is_empty() =>
            {
                let mut kept = Vec::with_capacity(items.len());
                for item in items {
                    let Ok(element) = self.item_element(list, item) else {
                        kept.push(item.clone());
                        continue;
                    };
                    if set.has(&element) {
                        continue;
                    }
                    match set.below(&element) {
                        Some(below) => {
                            let left = self.without_at(&list.element_type, item, below);
                            kept.extend((!left.is_null()).then_some(left));
                        }
                        None => kept.push(item.clone()),
                    }
                }
                if kept.is_empty() { Value::Null } else { Value::Array(kept) }
            }
            (
                Shape::Map(map, Relationship::Separable | Relationship::Associative),
                Value::Object(entries),
            ) if !entries.is_empty() => {
                let mut kept = Map::new();
                for (name, entry) in entries {
                    let element = PathElement::field(name);
                    if set.has(&element) {
                        continue;
                    }
                    let entry = match (set.below(&element), map.entry_type(name)) {
                        (Some(below), Some(reference)) => self.without_at(reference, entry, below),
                        _ => entry.clone(),
                    };
                    kept.insert(name.clone(), entry);
                }
                if kept.is_empty() { Value::Null } else { Value::Object(kept) }
            }
            _ => value.clone(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::schema::Schema;
    use super::*;

    #[test]
    fn what_has_another_type_is_told_as_structured_merge_diff_prints_it() {
        let schema: Schema = serde_json::from_value(json!({"types": [{"name": "T", "map": {"fields": [
            {"name": "text", "type": {"scalar": "string"}},
            {"name": "number", "type": {"scalar": "numeric"}},
            {"name": "flag", "type": {"scalar": "boolean"}},
            {"name": "list", "type": {"list": {"elementType": {"scalar": "string"}}}},
            {"name": "map", "type": {"map": {"elementType": {"scalar": "string"}}}},
        ]}}]}))
        .unwrap();
        let root = TypeRef::named("T");
        let told = |object: Value| {
            ObjectType::new(&schema, &root).validate(&object, Duplicates::Refuse).unwrap_err().remove(0)
        };
        for (object, expect) in [
            (json!({"text": 1}), ".text: expected string, got &value.valueUnstructured{Value:1}"),
            (
                json!({"text": {"a": ["x", 1.5]}}),
                r#".text: expected string, got &value.valueUnstructured{Value:map[string]interface {}{"a":[]interface {}{"x", 1.5}}}"#,
            ),
            (json!({"number": "x"}), ".number: expected numeric (int or float), got string"),
            (json!({"flag": "x"}), ".flag: expected boolean, got &{x}"),
            (json!({"list": {"a": 1}}), ".list: expected list, got &{map[a:1]}"),
            (json!({"map": [1, "x"]}), ".map: expected map, got &{[1 x]}"),
        ] {
            assert_eq!(told(object), expect);
        }
    }

    #[test]
    fn items_are_told_apart_however_many_there_are() {
        let schema: Schema = serde_json::from_value(json!({"types": [
            {"name": "Container", "map": {"fields": [
                {"name": "env", "type": {"list": {"elementRelationship": "associative", "keys": ["name"], "elementType": {"namedType": "Env"}}}},
            ]}},
            {"name": "Env", "map": {"fields": [{"name": "name", "type": {"scalar": "string"}}]}},
        ]}))
        .unwrap();
        let root = TypeRef::named("Container");
        let kind = ObjectType::new(&schema, &root);
        let mut items: Vec<Value> =
            (0..100_000).map(|number| json!({"name": format!("a{number}")})).collect();
        items.push(json!({"name": "a7"}));
        let object = json!({"env": items});
        let told = kind.validate(&object, Duplicates::Refuse).unwrap_err();
        assert_eq!(told, [r#".env: duplicate entries for key [name="a7"]"#]);
        assert_eq!(kind.validate(&object, Duplicates::Allow), Ok(()));
    }

    /// Any JSON, as a kind without a schema has it.
    fn open() -> ObjectType<'static> {
        ObjectType::deduced()
    }

    #[test]
    fn faults_below_long_names_take_little_to_tell() {
        let schema: Schema = serde_json::from_value(json!({"types": [
            {"name": "Pod", "map": {"fields": [
                {"name": "containers", "type": {"list": {"elementRelationship": "associative", "keys": ["name"], "elementType": {"namedType": "Container"}}}},
            ]}},
            {"name": "Container", "map": {"fields": [
                {"name": "name", "type": {"scalar": "string"}},
                {"name": "env", "type": {"list": {"elementRelationship": "associative", "keys": ["name"], "elementType": {"scalar": "string"}}}},
            ]}},
        ]}))
        .unwrap();
        let root = TypeRef::named("Pod");
        let kind = ObjectType::new(&schema, &root);
        let object = json!({"containers": [{"name": "x".repeat(1 << 20), "env": vec![1; 500_000]}]});
        let told = kind.validate(&object, Duplicates::Refuse).unwrap_err();
        assert_eq!(told.len(), MOST_TOLD);
        assert!(told.iter().all(|text| text.len() < 4096 && text.contains(".env: element ")), "{}", told[0]);
    }

    #[test]
    fn fields_below_long_names_take_little_to_collect() {
        let below: Map<String, Value> = (0..50_000).map(|at| (at.to_string(), at.into())).collect();
        let object = json!({"x".repeat(1 << 20): below});
        let fields = open().field_set(&object);
        assert!(open().compare(&json!({}), &object).added == fields);
        assert_eq!(fields.to_value()[format!("f:{}", "x".repeat(1 << 20))]["f:49999"], json!({}));
    }

    #[test]
    fn what_is_nested_is_merged_once() {
        let nested = |name: &str| {
            let inner: Map<String, Value> =
                (0..20_000).map(|at| (format!("{name}{at}"), at.into())).collect();
            (0..90).fold(Value::Object(inner), |inner, _| json!({"a": inner}))
        };
        let mut merged = open().merge(&nested("l"), &nested("r")).unwrap();
        for _ in 0..90 {
            merged = merged["a"].take();
        }
        assert_eq!(merged.as_object().unwrap().len(), 40_000);
    }
}
