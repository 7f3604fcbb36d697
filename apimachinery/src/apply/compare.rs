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

/// What differs at a place: of each sort whether the place itself does, and the paths below it.
#[derive(Default)]
struct Differences {
    added: (bool, FieldSet),
    modified: (bool, FieldSet),
    removed: (bool, FieldSet),
}

impl Differences {
    fn is_empty(&self) -> bool {
        [&self.added, &self.modified, &self.removed].iter().all(|(own, below)| !own && below.is_empty())
    }

    /// Takes in those at the end of a step from here.
    fn take_in(&mut self, step: impl FnOnce() -> PathElement, inner: Self) {
        if inner.is_empty() {
            return;
        }
        let step = step();
        for (own, (member, below)) in [
            (&mut self.added, inner.added),
            (&mut self.modified, inner.modified),
            (&mut self.removed, inner.removed),
        ] {
            own.1.add_step(&step, member, below);
        }
    }
}

impl<'a> ObjectType<'a> {
    /// Compares an old object with a new one.
    pub fn compare(self, old: &Value, new: &Value) -> Comparison {
        let mut found = Differences::default();
        self.compare_at(self.root, Some(old), Some(new), &mut found);
        Comparison { added: found.added.1, modified: found.modified.1, removed: found.removed.1 }
    }

    fn compare_at(
        self,
        reference: &'a TypeRef,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Differences,
    ) {
        if old.is_none() && new.is_none() {
            return;
        }
        let differs_in_kind = matches!((old, new), (Some(old), Some(new))
            if !old.is_null() && !new.is_null()
                && (old.is_object() != new.is_object() || old.is_array() != new.is_array()));
        if differs_in_kind {
            // Fields below vanish with the old kind of value and appear with the new.
            self.compare_at(reference, old, None, out);
            self.compare_at(reference, None, new, out);
            out.modified.0 = true;
            return;
        }
        let hint = new.filter(|value| !value.is_null()).or(old);
        match self.shape(reference, hint) {
            Shape::List(list, relationship) if relationship != Relationship::Atomic => {
                let (left, right) = (items(old), items(new));
                if left.is_empty() && right.is_empty() {
                    compare_leaf(old, new, out);
                    return;
                }
                self.compare_items(list, left, right, out);
            }
            Shape::Map(map, relationship) if relationship != Relationship::Atomic => {
                let empty = Map::new();
                let left = old.and_then(Value::as_object).unwrap_or(&empty);
                let right = new.and_then(Value::as_object).unwrap_or(&empty);
                if left.is_empty() && right.is_empty() {
                    compare_leaf(old, new, out);
                    return;
                }
                self.compare_entries(map, left, right, out);
            }
            _ => {
                compare_leaf(old, new, out);
                return;
            }
        }
        if old.is_none() {
            out.added.0 = true;
        } else if new.is_none() {
            out.removed.0 = true;
        }
    }

    fn compare_entries(
        self,
        map: &'a MapType,
        left: &Map<String, Value>,
        right: &Map<String, Value>,
        out: &mut Differences,
    ) {
        for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
            let mut inner = Differences::default();
            match map.entry_type(name) {
                Some(reference) => self.compare_at(reference, left.get(name), right.get(name), &mut inner),
                None => compare_leaf(left.get(name), right.get(name), &mut inner),
            }
            out.take_in(|| PathElement::field(name), inner);
        }
    }

    fn compare_items(self, list: &'a ListType, left: &[Value], right: &[Value], out: &mut Differences) {
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
            let mut inner = Differences::default();
            if left.len() <= 1 && right.len() <= 1 {
                let (old, new) = (left.first().copied(), right.first().copied());
                self.compare_at(&list.element_type, old, new, &mut inner);
            } else if right.is_empty() {
                inner.removed.0 = true;
            } else if left.is_empty() {
                inner.added.0 = true;
            } else if left != right {
                // Items that are there twice have no fields of their own: they change as a whole.
                inner.modified.0 = true;
            }
            out.take_in(|| element, inner);
        }
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn compare_leaf(old: Option<&Value>, new: Option<&Value>, out: &mut Differences) {
    match (old, new) {
        (None, Some(_)) => out.added.0 = true,
        (Some(_), None) => out.removed.0 = true,
        (Some(old), Some(new)) if old != new => out.modified.0 = true,
        _ => {}
    }
}
