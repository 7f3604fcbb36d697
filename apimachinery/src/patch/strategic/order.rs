//! The order of merged lists: what the patch orders comes in its order, the rest keeps its place.

use std::collections::HashMap;

use serde_json::Value;

/// How items of a merging list are told apart.
#[derive(Debug, Clone, Copy)]
pub(super) enum Identity<'a> {
    /// Objects, by this field.
    Key(&'a str),
    /// Scalars, by value.
    Value,
}

impl Identity<'_> {
    pub(super) fn of<'v>(&self, item: &'v Value) -> Option<&'v Value> {
        match self {
            Identity::Key(key) => item.get(*key),
            Identity::Value => Some(item),
        }
    }

    /// Where the items of a list stand; of what stands twice, the first.
    pub(super) fn places<'v>(&self, items: &'v [Value]) -> HashMap<&'v Value, usize> {
        let mut places = HashMap::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            if let Some(name) = self.of(item) {
                places.entry(name).or_insert(at);
            }
        }
        places
    }
}

/// Where an item stands in the order and in the original, if it does.
struct Placed {
    in_order: Option<usize>,
    in_original: Option<usize>,
    item: Value,
}

/// Orders `merged`: items named in `order` come in that order; the others, in the order of `original`, go before the
/// first ordered item that follows them in `original`.
pub(super) fn normalize(
    merged: Vec<Value>,
    order: &[Value],
    original: &[Value],
    identity: Identity<'_>,
) -> Vec<Value> {
    let (order, original) = (identity.places(order), identity.places(original));
    let placed = merged.into_iter().map(|item| {
        let place = |places: &HashMap<&Value, usize>| places.get(identity.of(&item)?).copied();
        let (in_order, in_original) = (place(&order), place(&original));
        Placed { in_order, in_original, item }
    });
    let (mut ordered, mut others): (Vec<Placed>, Vec<Placed>) =
        placed.partition(|item| item.in_order.is_some());
    ordered.sort_by_key(|item| item.in_order);
    others.sort_by_key(|item| item.in_original.unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(ordered.len() + others.len());
    let (mut ordered, mut others) = (ordered.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let take_other = match (others.peek(), ordered.peek()) {
            (Some(other), Some(item)) => match (other.in_original, item.in_original) {
                (Some(other), Some(item)) => other < item,
                _ => false,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        let next = if take_other { others.next() } else { ordered.next() };
        out.extend(next.map(|placed| placed.item));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({"name": name, "value": "x"})).collect()
    }

    #[track_caller]
    fn check(merged: &[&str], order: &[&str], original: &[&str], expect: &[&str]) {
        let by_key = normalize(named(merged), &named(order), &named(original), Identity::Key("name"));
        assert_eq!(by_key, named(expect));
        let scalars = |names: &[&str]| names.iter().map(|name| json!(name)).collect::<Vec<_>>();
        let by_value = normalize(scalars(merged), &scalars(order), &scalars(original), Identity::Value);
        assert_eq!(by_value, scalars(expect));
    }

    #[test]
    fn what_is_not_ordered_keeps_its_place() {
        check(&["a", "b", "c"], &["c", "a"], &["a", "b", "c"], &["b", "c", "a"]);
        check(&["a", "b", "c"], &["b", "a"], &["a", "b", "c"], &["b", "a", "c"]);
        check(&["a", "new", "b"], &["b"], &["a", "b"], &["a", "b", "new"]);
        check(&["a", "b"], &[], &["b", "a"], &["b", "a"]);
        // Of what stands twice the first counts.
        check(&["b", "a"], &["a", "b", "a"], &[], &["a", "b"]);
    }

    #[test]
    fn what_has_no_name_comes_last() {
        let items = vec![json!({"value": 1}), json!({"name": "a"})];
        let original = [json!({"name": "a"})];
        let ordered = normalize(items, &[json!({"value": 2})], &original, Identity::Key("name"));
        assert_eq!(ordered, [json!({"name": "a"}), json!({"value": 1})]);
    }

    #[test]
    fn long_lists_are_ordered_in_one_go() {
        let names: Vec<String> = (0..100_000).map(|number| format!("n{number}")).collect();
        let items: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let backwards: Vec<Value> = items.iter().rev().cloned().collect();
        let ordered = normalize(items.clone(), &backwards, &items, Identity::Key("name"));
        assert!(ordered == backwards);
    }
}
