//! Which fields were added, changed and removed between two states of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, PathElement};
use super::schema::{ListType, MapType, ObjectType, Relationship, Shape, TypeRef};

/// The differences between two objects, as field sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only the new object has these.
    pub added: FieldSet,
    /// Both have these, with different values.
    pub modified: FieldSet,
    /// Only the old object has these.
    pub removed: FieldSet,
}

impl Comparison {
    /// True when nothing differs.
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

impl<'a> ObjectType<'a> {
    /// Compares an old object with a new one.
    pub fn compare(self, old: &Value, new: &Value) -> Comparison {
        let mut comparison = Comparison::default();
        self.compare_at(self.root, Some(old), Some(new), &mut Vec::new(), &mut comparison);
        comparison
    }

    fn compare_at(
        self,
        reference: &'a TypeRef,
        old: Option<&Value>,
        new: Option<&Value>,
        path: &mut Vec<PathElement>,
        out: &mut Comparison,
    ) {
        if old.is_none() && new.is_none() {
            return;
        }
        let differs_in_kind = matches!((old, new), (Some(old), Some(new))
            if !old.is_null() && !new.is_null()
                && (old.is_object() != new.is_object() || old.is_array() != new.is_array()));
        if differs_in_kind {
            // Fields below vanish with the old kind of value and appear with the new.
            self.compare_at(reference, old, None, path, out);
            self.compare_at(reference, None, new, path, out);
            out.modified.insert(path);
            return;
        }
        let hint = new.filter(|value| !value.is_null()).or(old);
        match self.shape(reference, hint) {
            Shape::List(list, relationship) if relationship != Relationship::Atomic => {
                let (left, right) = (items(old), items(new));
                if left.is_empty() && right.is_empty() {
                    compare_leaf(old, new, path, out);
                    return;
                }
                self.compare_items(list, left, right, path, out);
            }
            Shape::Map(map, relationship) if relationship != Relationship::Atomic => {
                let empty = Map::new();
                let left = old.and_then(Value::as_object).unwrap_or(&empty);
                let right = new.and_then(Value::as_object).unwrap_or(&empty);
                if left.is_empty() && right.is_empty() {
                    compare_leaf(old, new, path, out);
                    return;
                }
                self.compare_entries(map, left, right, path, out);
            }
            _ => {
                compare_leaf(old, new, path, out);
                return;
            }
        }
        if old.is_none() {
            out.added.insert(path);
        } else if new.is_none() {
            out.removed.insert(path);
        }
    }

    fn compare_entries(
        self,
        map: &'a MapType,
        left: &Map<String, Value>,
        right: &Map<String, Value>,
        path: &mut Vec<PathElement>,
        out: &mut Comparison,
    ) {
        for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
            path.push(PathElement::field(name));
            match map.entry_type(name) {
                Some(reference) => self.compare_at(reference, left.get(name), right.get(name), path, out),
                None => compare_leaf(left.get(name), right.get(name), path, out),
            }
            path.pop();
        }
    }

    fn compare_items(
        self,
        list: &'a ListType,
        left: &[Value],
        right: &[Value],
        path: &mut Vec<PathElement>,
        out: &mut Comparison,
    ) {
        let mut by_element: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in left {
            if let Ok(element) = self.item_element(list, item) {
                by_element.entry(element).or_default().0.push(item);
            }
        }
        for item in right {
            if let Ok(element) = self.item_element(list, item) {
                by_element.entry(element).or_default().1.push(item);
            }
        }
        for (element, (left, right)) in by_element {
            path.push(element);
            if left.len() <= 1 && right.len() <= 1 {
                let (old, new) = (left.first().copied(), right.first().copied());
                self.compare_at(&list.element_type, old, new, path, out);
            } else if right.is_empty() {
                out.removed.insert(path);
            } else if left.is_empty() {
                out.added.insert(path);
            } else if left != right {
                // Items that are there twice have no fields of their own: they change as a whole.
                out.modified.insert(path);
            }
            path.pop();
        }
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn compare_leaf(old: Option<&Value>, new: Option<&Value>, path: &[PathElement], out: &mut Comparison) {
    match (old, new) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        (Some(old), Some(new)) if old != new => out.modified.insert(path),
        _ => {}
    }
}
