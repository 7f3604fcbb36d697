//! Lists and sets.

use std::{cmp::Ordering, collections::BTreeSet};

use super::{Outcome, numbers};
use crate::{Key, Value, error::EvalError};

/// Items that `lists.range` may make.
const RANGE_MAX: i64 = 100_000;

pub(super) fn call(name: &str, _: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Int, List};
    Some(match (name, values) {
        ("isSorted", [List(items)]) => {
            let mut sorted = true;
            for pair in items.windows(2) {
                match pair[0].compare(&pair[1]) {
                    Some(order) => sorted &= order.is_le(),
                    None => return Some(Err(EvalError::NoSuchOverload)),
                }
            }
            Ok(Value::Bool(sorted))
        }
        ("sum", [List(items)]) => {
            use Value::{Double, Duration, Uint};
            let mut items = items.iter();
            let first = items.next().cloned().unwrap_or(Int(0));
            // Texts and lists have no sum, which would be copied again for each of them.
            if !matches!(first, Int(_) | Uint(_) | Double(_) | Duration(_)) {
                return Some(Err(EvalError::NoSuchOverload));
            }
            items.try_fold(first, |sum, item| numbers::arithmetic("+", &sum, item))
        }
        ("min", [List(items)]) => extreme(items, Ordering::Less),
        ("max", [List(items)]) => extreme(items, Ordering::Greater),
        ("indexOf", [List(items), wanted]) => {
            Ok(Int(items.iter().position(|item| item == wanted).map_or(-1, |at| at as i64)))
        }
        ("lastIndexOf", [List(items), wanted]) => {
            Ok(Int(items.iter().rposition(|item| item == wanted).map_or(-1, |at| at as i64)))
        }
        ("includes", [List(items), wanted]) => Ok(Value::Bool(items.contains(wanted))),
        ("slice", [List(items), Int(from), Int(to)]) => {
            let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
            let part = range.and_then(|(from, to)| items.get(from..to));
            part.map(|part| Value::list(part.to_vec())).ok_or_else(|| {
                EvalError::failed(format!("cannot slice({from}, {to}), list is length {}", items.len()))
            })
        }
        ("flatten", [List(items), rest @ ..]) => {
            let depth = match rest {
                [Int(depth)] => *depth,
                _ => 1,
            };
            let mut flat = Vec::new();
            flatten(items, depth, &mut flat);
            Ok(Value::list(flat))
        }
        ("reverse", [List(items)]) => Ok(Value::list(items.iter().rev().cloned().collect())),
        ("distinct", [List(items)]) => Ok(Value::list(distinct(items))),
        ("sort", [List(items)]) => {
            let mut sorted = items.to_vec();
            sort_by(&mut sorted, |item| item).map(|()| Value::list(sorted))
        }
        ("first", [List(items)]) => {
            Ok(items.first().map_or(Value::Optional(None), |item| Value::some(item.clone())))
        }
        ("last", [List(items)]) => {
            Ok(items.last().map_or(Value::Optional(None), |item| Value::some(item.clone())))
        }
        ("lists.range", [Int(count)]) if *count <= RANGE_MAX => {
            Ok(Value::list((0..*count).map(Int).collect()))
        }
        ("lists.range", [Int(_)]) => Err(EvalError::Budget),
        ("sets.contains", [List(one), List(other)]) => {
            Ok(Value::Bool(other.iter().all(|item| one.contains(item))))
        }
        ("sets.equivalent", [List(one), List(other)]) => Ok(Value::Bool(
            other.iter().all(|item| one.contains(item)) && one.iter().all(|item| other.contains(item)),
        )),
        ("sets.intersects", [List(one), List(other)]) => {
            Ok(Value::Bool(other.iter().any(|item| one.contains(item))))
        }
        _ => return None,
    })
}

/// What sorting by keys costs: each is compared as often as their number can be halved.
pub(crate) fn sorting_cost<'a>(keys: impl ExactSizeIterator<Item = &'a Value>) -> u64 {
    let halvings = u64::from(keys.len().max(1).ilog2()) + 1;
    keys.map(|key| key.weight() + 1).sum::<u64>().saturating_mul(halvings)
}

/// Sorts by keys, which must all be of one type that has an order.
pub(crate) fn sort_by<T>(items: &mut [T], key: impl Fn(&T) -> &Value) -> Result<(), EvalError> {
    for pair in items.windows(2) {
        let [one, other] = pair else { continue };
        if key(one).type_name() != key(other).type_name() {
            return Err(EvalError::failed("list elements must have the same type"));
        }
        if key(one).compare(key(other)).is_none() {
            return Err(EvalError::failed("list elements must be comparable"));
        }
    }
    items.sort_by(|one, other| key(one).compare(key(other)).unwrap_or(Ordering::Equal));
    Ok(())
}

/// The first of each that are equal.
fn distinct(items: &[Value]) -> Vec<Value> {
    let key = keys_of(items);
    let (mut keys, mut others, mut found) = (BTreeSet::new(), Vec::new(), Vec::new());
    for item in items {
        let new = match key(item) {
            Some(key) => keys.insert(key),
            None if others.contains(&item) => false,
            None => {
                others.push(item);
                true
            }
        };
        if new {
            found.push(item.clone());
        }
    }
    found
}

/// How many items `distinct` compares each with each.
pub(super) fn compared(items: &[Value]) -> u64 {
    let key = keys_of(items);
    items.iter().filter(|item| key(item).is_none()).count() as u64
}

/// What tells an item apart from all that are not equal to it, if there is something. A whole number may be equal to one that is not.
fn keys_of(items: &[Value]) -> impl Fn(&Value) -> Option<Key> + use<> {
    let whole = !items.iter().any(|item| matches!(item, Value::Double(_)));
    move |item| match item {
        Value::Int(_) | Value::Uint(_) if whole => item.key(),
        Value::String(_) | Value::Bool(_) => item.key(),
        _ => None,
    }
}

fn extreme(items: &[Value], wanted: Ordering) -> Outcome {
    let mut items = items.iter();
    let name = if wanted.is_lt() { "min" } else { "max" };
    let first = items.next().ok_or_else(|| EvalError::failed(format!("{name} called on empty list")))?;
    items
        .try_fold(first, |best, item| match item.compare(best) {
            Some(order) if order == wanted => Ok(item),
            Some(_) => Ok(best),
            None => Err(EvalError::NoSuchOverload),
        })
        .cloned()
}

fn flatten(items: &[Value], depth: i64, flat: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::List(inner) if depth > 0 => flatten(inner, depth - 1, flat),
            other => flat.push(other.clone()),
        }
    }
}
