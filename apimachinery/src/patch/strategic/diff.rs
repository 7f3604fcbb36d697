//! Making a strategic merge patch from two states of an object.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::order::{Identity, normalize};
use super::{DELETE_LIST, FieldMerge, MergeSchema, ORDER, PATCH_DIRECTIVE, RETAIN_KEYS};
use crate::patch::PatchError;

type Object = Map<String, Value>;

/// Which differences a patch tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// All.
    Everything,
    /// What was added or changed.
    Changes,
    /// What was removed.
    Deletions,
}

pub(super) struct Differ<'s> {
    pub(super) schema: &'s dyn MergeSchema,
    pub(super) tell: Tell,
}

#[derive(Default)]
struct ListDiff {
    items: Vec<Value>,
    deleted: Vec<Value>,
    order: Vec<Value>,
}

impl Differ<'_> {
    fn tells_changes(&self) -> bool {
        self.tell != Tell::Deletions
    }

    fn tells_deletions(&self) -> bool {
        self.tell != Tell::Changes
    }

    fn field(&self, parent: Option<&str>, field: &str) -> FieldMerge {
        parent.and_then(|parent| self.schema.field(parent, field)).unwrap_or_default()
    }

    /// The patch from `original` to `modified`, objects of type `kind`.
    pub(super) fn diff_objects(
        &self,
        original: &Object,
        modified: &Object,
        kind: Option<&str>,
        retain_keys: bool,
    ) -> Result<Object, PatchError> {
        let mut patch = Object::new();
        for (key, new) in modified {
            let Some(old) = original.get(key) else {
                if self.tells_changes() {
                    patch.insert(key.clone(), new.clone());
                }
                continue;
            };
            match (old, new) {
                (Value::Object(old), Value::Object(new)) => {
                    let meta = self.field(kind, key);
                    if meta.replaces() {
                        if self.tells_changes() && old != new {
                            patch.insert(key.clone(), Value::Object(new.clone()));
                        }
                        continue;
                    }
                    let below = self.diff_objects(old, new, meta.child.as_deref(), meta.retains_keys())?;
                    if !below.is_empty() {
                        patch.insert(key.clone(), Value::Object(below));
                    }
                }
                (Value::Array(old), Value::Array(new)) if self.field(kind, key).merges() => {
                    let diff = self.diff_lists(old, new, &self.field(kind, key))?;
                    for (key, list) in [
                        (key.clone(), diff.items),
                        (format!("{DELETE_LIST}/{key}"), diff.deleted),
                        (format!("{ORDER}/{key}"), diff.order),
                    ] {
                        if !list.is_empty() {
                            patch.insert(key, Value::Array(list));
                        }
                    }
                }
                _ => {
                    if self.tells_changes() && old != new {
                        patch.insert(key.clone(), new.clone());
                    }
                }
            }
        }
        let dropped = || original.keys().filter(|key| !modified.contains_key(*key));
        if self.tells_deletions() {
            for key in dropped() {
                patch.insert(key.clone(), Value::Null);
            }
        }
        if retain_keys {
            // serde_json's maps are sorted, as the directive has to be.
            let keys: Vec<Value> =
                modified.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k.as_str().into()).collect();
            if !keys.is_empty() && (!patch.is_empty() || dropped().next().is_some()) {
                patch.insert(RETAIN_KEYS.to_owned(), Value::Array(keys));
            }
        }
        Ok(patch)
    }

    fn diff_lists(
        &self,
        original: &[Value],
        modified: &[Value],
        meta: &FieldMerge,
    ) -> Result<ListDiff, PatchError> {
        if original.is_empty() {
            let items = if self.tells_changes() { modified.to_vec() } else { Vec::new() };
            return Ok(ListDiff { items, ..ListDiff::default() });
        }
        let sample = original.first().unwrap_or(&Value::Null);
        if sample.is_array() {
            return Err(PatchError::Malformed("lists of lists are not supported".to_owned()));
        }
        if !sample.is_object() {
            return Ok(self.diff_scalars(original, modified));
        }
        let key = meta
            .merge_key
            .as_deref()
            .ok_or_else(|| PatchError::Malformed("cannot merge lists without merge key".to_owned()))?;
        let (items, deletions) = self.diff_items(original, modified, meta, key)?;
        let mut items = normalize(items, modified, modified, Identity::Key(key));
        items.extend(deletions);
        let mut diff = ListDiff { items, ..ListDiff::default() };
        let reordered = self.tells_changes() && !same_order(original, modified, key);
        if !diff.items.is_empty() || reordered {
            let only_key = |item: &Value| json!({ key: item.get(key).cloned().unwrap_or_default() });
            diff.order = modified.iter().map(only_key).collect();
        }
        Ok(diff)
    }

    fn diff_scalars(&self, original: &[Value], modified: &[Value]) -> ListDiff {
        let mut diff = ListDiff::default();
        let count = |list: &[Value], item: &Value| list.iter().filter(|other| *other == item).count();
        for item in modified {
            if self.tells_changes()
                && count(modified, item) > count(original, item)
                && !diff.items.contains(item)
            {
                diff.items.push(item.clone());
            }
        }
        for item in original {
            if self.tells_deletions()
                && count(original, item) > count(modified, item)
                && !diff.deleted.contains(item)
            {
                diff.deleted.push(item.clone());
            }
        }
        let reordered = self.tells_changes() && original != modified;
        if !diff.items.is_empty() || !diff.deleted.is_empty() || reordered {
            diff.order = modified.to_vec();
        }
        diff
    }

    /// Walks both lists in the order of their keys. Returns changed and added items, and the directives that delete.
    fn diff_items(
        &self,
        original: &[Value],
        modified: &[Value],
        meta: &FieldMerge,
        key: &str,
    ) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
        let old = sorted(original, key)?;
        let new = sorted(modified, key)?;
        let (mut o, mut n) = (0, 0);
        let (mut items, mut deletions) = (Vec::new(), Vec::new());
        loop {
            let order = match (old.get(o), new.get(n)) {
                (Some((old, _)), Some((new, _))) => old.cmp(new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Ok((items, deletions)),
            };
            match order {
                Ordering::Equal => {
                    if let (Some((_, old)), Some((_, new))) = (old.get(o), new.get(n)) {
                        let mut below =
                            self.diff_objects(old, new, meta.child.as_deref(), meta.retains_keys())?;
                        if !below.is_empty() {
                            below.insert(key.to_owned(), new.get(key).cloned().unwrap_or_default());
                            items.push(Value::Object(below));
                        }
                    }
                    o += 1;
                    n += 1;
                }
                Ordering::Less => {
                    if let (true, Some((_, old))) = (self.tells_deletions(), old.get(o)) {
                        let value = old.get(key).cloned().unwrap_or_default();
                        let directive = json!({ PATCH_DIRECTIVE: "delete", key: value });
                        if !deletions.contains(&directive) {
                            deletions.push(directive);
                        }
                    }
                    o += 1;
                }
                Ordering::Greater => {
                    if let (true, Some((_, new))) = (self.tells_changes(), new.get(n)) {
                        items.push(Value::Object((*new).clone()));
                    }
                    n += 1;
                }
            }
        }
    }
}

fn sorted<'v>(items: &'v [Value], key: &str) -> Result<Vec<(String, &'v Object)>, PatchError> {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match (item.as_object(), item.get(key)) {
            (Some(object), Some(Value::String(text))) => out.push((text.clone(), object)),
            (Some(object), Some(value)) => out.push((value.to_string(), object)),
            _ => {
                return Err(PatchError::Malformed(format!(
                    "map: {item} does not contain declared merge key: {key}"
                )));
            }
        }
    }
    out.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(out)
}

fn same_order(original: &[Value], modified: &[Value], key: &str) -> bool {
    original.len() == modified.len()
        && original.iter().zip(modified).all(|(old, new)| old.get(key) == new.get(key))
}
