//! Lists, and what tells their items apart.

use std::{cmp::Ordering, fmt, ops::Deref, sync::OnceLock};

use crate::{Key, Value};

/// How the items of a list are told apart: `x-kubernetes-list-type`. Operators go by the list on their left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListKind {
    /// By where they stand.
    #[default]
    Plain,
    /// Each is there once, wherever it stands.
    Set,
    /// Of those whose fields of these names are the same there is one, wherever it stands.
    Map(Vec<Key>),
}

/// The items of a list, in order.
#[derive(Clone)]
pub struct List {
    items: Vec<Value>,
    kind: ListKind,
    /// Where the items are that are told apart by what they are, in the order of that; made when it is first asked for.
    sorted: OnceLock<Vec<usize>>,
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

impl Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items
    }
}

impl List {
    /// A list of a kind.
    pub fn new(items: Vec<Value>, kind: ListKind) -> Self {
        Self { items, kind, sorted: OnceLock::new() }
    }

    /// Whether its items are told apart by where they stand.
    pub(crate) fn is_plain(&self) -> bool {
        self.kind == ListKind::Plain
    }

    /// `self + other`: of a set or a map what is in both stands where it stood, a map's items with what is in the other.
    pub(crate) fn joined(&self, other: &Self) -> Self {
        let mut all = self.items.clone();
        if self.is_plain() {
            all.extend_from_slice(other);
            return Self::new(all, ListKind::Plain);
        }
        let mut added = Vec::new();
        for item in other.iter() {
            match self.position(item) {
                Some(at) if self.kind != ListKind::Set => all[at] = item.clone(),
                Some(_) => {}
                None => added.push(item.clone()),
            }
        }
        if self.kind == ListKind::Set {
            // What the other has several times stands where it has it first.
            let mut places: Vec<usize> = (0..added.len()).collect();
            places.sort_by(|one, two| order(&added[*one], &added[*two]));
            let mut is_first = vec![false; added.len()];
            for same in places.chunk_by(|one, two| order(&added[*one], &added[*two]).is_eq()) {
                if let Some(first) = same.first() {
                    is_first[*first] = true;
                }
            }
            all.extend(
                added.into_iter().zip(is_first).filter(|(_, is_first)| *is_first).map(|(item, _)| item),
            );
        } else {
            all.extend(added);
        }
        Self::new(all, self.kind.clone())
    }

    /// Where the item is that is the same as another one, as the kind tells them apart: the last of several.
    fn position(&self, wanted: &Value) -> Option<usize> {
        let sorted = self.sorted.get_or_init(|| {
            let mut places: Vec<usize> = (0..self.items.len()).collect();
            places.sort_by(|one, two| self.by_identity(&self.items[*one], &self.items[*two]));
            places
        });
        let end = sorted.partition_point(|at| self.by_identity(&self.items[*at], wanted).is_le());
        let found = *sorted.get(end.checked_sub(1)?)?;
        self.by_identity(&self.items[found], wanted).is_eq().then_some(found)
    }

    fn by_identity(&self, one: &Value, other: &Value) -> Ordering {
        let ListKind::Map(keys) = &self.kind else { return order(one, other) };
        let orders = keys.iter().map(|key| match (field(one, key), field(other, key)) {
            (Some(one), Some(other)) => order(one, other),
            (one, other) => one.is_some().cmp(&other.is_some()),
        });
        orders.fold(Ordering::Equal, Ordering::then)
    }
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        if self.is_plain() {
            return self.items == other.items;
        }
        let same = |item: &Value| {
            self.position(item).is_some_and(|at| self.kind == ListKind::Set || self.items[at] == *item)
        };
        self.items.len() == other.items.len() && other.iter().all(same)
    }
}

fn field<'v>(item: &'v Value, key: &Key) -> Option<&'v Value> {
    match item {
        Value::Map(fields) => fields.get(key),
        _ => None,
    }
}

/// An order of values of all types: what is equal in it is the same, of the same type.
fn order(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Double(one), Value::Double(other)) => one.total_cmp(other),
        (Value::List(one), Value::List(other)) => {
            let mut orders = one.iter().zip(other.iter()).map(|(one, other)| order(one, other));
            orders.find(|order| order.is_ne()).unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Value::Map(one), Value::Map(other)) => {
            let mut orders = one.iter().zip(other.iter()).map(|((name, one), (other_name, other))| {
                name.cmp(other_name).then_with(|| order(one, other))
            });
            orders.find(|order| order.is_ne()).unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        _ if one.type_name() == other.type_name() => one.compare(other).unwrap_or(Ordering::Equal),
        _ => one.type_name().cmp(other.type_name()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn set(items: &[&str]) -> List {
        List::new(items.iter().map(|item| Value::from(*item)).collect(), ListKind::Set)
    }

    /// A list of maps that the field `k` tells apart.
    fn map(items: &[(&str, i64)]) -> List {
        let item = |(key, value): &(&str, i64)| {
            Value::map([("k".to_owned(), Value::from(*key)), ("v".to_owned(), Value::Int(*value))])
        };
        List::new(items.iter().map(item).collect(), ListKind::Map(vec![Key::String("k".into())]))
    }

    #[test]
    fn sets_and_maps_are_equal_in_any_order() {
        assert_eq!(set(&["a", "b"]), set(&["b", "a"]));
        assert_ne!(set(&["a", "b"]), set(&["a", "c"]));
        assert_ne!(set(&["a", "b"]), set(&["a"]));
        assert_eq!(map(&[("a", 1), ("b", 2)]), map(&[("b", 2), ("a", 1)]));
        assert_ne!(map(&[("a", 1), ("b", 2)]), map(&[("b", 1), ("a", 2)]));
        let plain = List::new(set(&["b", "a"]).to_vec(), ListKind::Plain);
        assert_eq!(set(&["a", "b"]), plain);
        assert_ne!(plain, set(&["a", "b"]), "the left one says how");
    }

    #[test]
    fn what_is_in_both_stands_where_it_stood() {
        let joined = set(&["c", "a"]).joined(&set(&["b", "a", "d", "b"]));
        assert_eq!(joined.to_vec(), set(&["c", "a", "b", "d"]).to_vec());
        let joined = map(&[("c", 1), ("a", 1)]).joined(&map(&[("b", 2), ("a", 2)]));
        assert_eq!(joined.to_vec(), map(&[("c", 1), ("a", 2), ("b", 2)]).to_vec());
        assert_eq!(joined, map(&[("a", 2), ("b", 2), ("c", 1)]), "it is a map, too");
    }

    #[test]
    fn items_of_different_types_are_none_of_each_other() {
        let items = vec![
            Value::Int(1),
            "1".into(),
            Value::Double(0.5),
            Value::Null,
            Value::list(vec![Value::Int(1)]),
        ];
        let reversed: Vec<_> = items.iter().rev().cloned().collect();
        let set = |items: Vec<Value>| Value::List(Arc::new(List::new(items, ListKind::Set)));
        assert_eq!(set(items), set(reversed));
        assert_ne!(set(vec![Value::Int(1), Value::Bool(true)]), set(vec!["1".into(), Value::Bool(true)]));
    }
}
