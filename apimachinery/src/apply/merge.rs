//! Merging an applied configuration into the live object, keeping the order of lists.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fieldset::PathElement;
use super::schema::{ListType, ObjectType, Relationship, Shape, TypeRef};

impl<'a> ObjectType<'a> {
    /// Merges `rhs` over `lhs`: scalars and atomic values of `rhs` win, maps and associative lists unite.
    pub fn merge(self, lhs: &Value, rhs: &Value) -> Result<Value, String> {
        Ok(self.merge_at(self.root, Some(lhs), Some(rhs))?.unwrap_or(Value::Null))
    }

    fn merge_at(
        self,
        reference: &'a TypeRef,
        lhs: Option<&Value>,
        rhs: Option<&Value>,
    ) -> Result<Option<Value>, String> {
        let leaf = || Ok(rhs.or(lhs).cloned());
        let (Some(left), Some(right)) = (lhs, rhs) else { return leaf() };
        match (self.shape(reference, Some(if right.is_null() { left } else { right })), left, right) {
            (Shape::List(list, Relationship::Associative | Relationship::Separable), _, _) => {
                // Null on one side counts as an empty list; two empty ones are a leaf, so null can replace [].
                match (items(left), items(right)) {
                    (Some(left), Some(right)) if !(left.is_empty() && right.is_empty()) => {
                        self.merge_lists(list, left, right).map(|items| Some(Value::Array(items)))
                    }
                    _ => leaf(),
                }
            }
            (Shape::Map(map, Relationship::Separable | Relationship::Associative), left, right) => {
                let empty = Map::new();
                let entries = |value| entries(value, &empty);
                let (Some(left), Some(right)) = (entries(left), entries(right)) else { return leaf() };
                if left.is_empty() && right.is_empty() {
                    return leaf();
                }
                let kept = left.iter().filter(|(name, _)| !right.contains_key(*name));
                let mut out: Map<_, _> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
                for (name, value) in right {
                    let merged = match map.entry_type(name) {
                        Some(reference) => self.merge_at(reference, left.get(name), Some(value))?,
                        None => Some(value.clone()),
                    };
                    out.extend(merged.map(|merged| (name.clone(), merged)));
                }
                Ok(Some(Value::Object(out)))
            }
            _ => leaf(),
        }
    }

    /// Unites two associative lists. The order follows `rhs` where it says anything; items of `lhs` alone keep their
    /// place between their neighbours. Items that `lhs` has twice are kept as they are unless `rhs` names them.
    fn merge_lists(self, list: &'a ListType, lhs: &[Value], rhs: &[Value]) -> Result<Vec<Value>, String> {
        let left = lhs.iter().map(|item| self.item_element(list, item)).collect::<Result<Vec<_>, _>>()?;
        let right = rhs.iter().map(|item| self.item_element(list, item)).collect::<Result<Vec<_>, _>>()?;
        let left_items = first_by_element(&left, lhs);
        let right_items = first_by_element(&right, rhs);
        if right_items.len() != right.len() {
            return Err("duplicate entries in the applied list".to_owned());
        }
        let mut shared = right.iter().filter(|element| left_items.contains_key(element));
        let mut next_shared = shared.next();
        let mut merged: BTreeSet<&PathElement> = BTreeSet::new();
        let mut out = Vec::with_capacity(lhs.len().max(rhs.len()));
        // An item that lhs has twice is not merged with: it is unclear with which of the two.
        let merge_item = |element: &PathElement| {
            let ours = left_items.get(element).copied().flatten();
            self.merge_at(&list.element_type, ours, right_items.get(element).copied().flatten())
        };
        let (mut l, mut r) = (0, 0);
        while l < left.len() || r < right.len() {
            if let (Some(ours), Some(theirs)) = (left.get(l), right.get(r)) {
                if ours == theirs {
                    merged.insert(ours);
                    out.extend(merge_item(ours)?);
                    l += 1;
                    r += 1;
                    next_shared = shared.next();
                    continue;
                }
                if right_items.contains_key(ours) && next_shared.is_some_and(|next| next != ours) {
                    // Shared, but its turn in the order of rhs comes later.
                    l += 1;
                    continue;
                }
            }
            if let Some(ours) = left.get(l) {
                if !right_items.contains_key(ours) {
                    out.extend(lhs.get(l).cloned());
                    l += 1;
                    continue;
                }
                if merged.contains(ours) {
                    l += 1;
                }
            }
            if let Some(theirs) = right.get(r) {
                merged.insert(theirs);
                out.extend(merge_item(theirs)?);
                r += 1;
                if next_shared == Some(theirs) {
                    next_shared = shared.next();
                }
            }
        }
        Ok(out)
    }
}

/// Null is as good as an empty list.
fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        Value::Null => Some(&[]),
        _ => None,
    }
}

/// Null is as good as an empty map.
fn entries<'v>(value: &'v Value, empty: &'v Map<String, Value>) -> Option<&'v Map<String, Value>> {
    match value {
        Value::Object(entries) => Some(entries),
        Value::Null => Some(empty),
        _ => None,
    }
}

/// Items by element; `None` for an element that is there more than once.
fn first_by_element<'v>(
    elements: &[PathElement],
    items: &'v [Value],
) -> BTreeMap<PathElement, Option<&'v Value>> {
    let mut out = BTreeMap::new();
    for (element, item) in elements.iter().zip(items) {
        out.entry(element.clone()).and_modify(|known| *known = None).or_insert(Some(item));
    }
    out
}
