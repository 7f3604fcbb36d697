//! The order of merged lists: what the patch orders comes in its order, the rest keeps its place.

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

    pub(super) fn position(&self, items: &[Value], item: &Value) -> Option<usize> {
        let wanted = self.of(item)?;
        items.iter().position(|candidate| self.of(candidate) == Some(wanted))
    }
}

/// Orders `merged`: items named in `order` come in that order; the others, in the order of `original`, go before the
/// first ordered item that follows them in `original`.
pub(super) fn normalize(
    merged: Vec<Value>,
    order: &[Value],
    original: &[Value],
    identity: Identity<'_>,
) -> Vec<Value> {
    let (mut ordered, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| identity.position(order, item).is_some());
    ordered.sort_by_key(|item| identity.position(order, item));
    others.sort_by_key(|item| identity.position(original, item).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(ordered.len() + others.len());
    let (mut ordered, mut others) = (ordered.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let take_other = match (others.peek(), ordered.peek()) {
            (Some(other), Some(item)) => {
                match (identity.position(original, other), identity.position(original, item)) {
                    (Some(other), Some(item)) => other < item,
                    _ => false,
                }
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        out.extend(if take_other { others.next() } else { ordered.next() });
    }
}
