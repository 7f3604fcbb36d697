//! Applying a strategic merge patch, and merging one patch into another.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::order::{Identity, normalize};
use super::{DELETE_LIST_PREFIX, FieldMerge, MergeSchema, ORDER_PREFIX, PATCH_DIRECTIVE, RETAIN_KEYS};
use crate::patch::PatchError;

type Object = Map<String, Value>;

/// What the patch is merged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// An object: directives act and vanish.
    Object,
    /// Another patch: directives are carried over.
    Patch,
}

pub(super) struct Merger<'s> {
    pub(super) schema: &'s dyn MergeSchema,
    pub(super) into: Into,
}

fn malformed(text: impl std::convert::Into<String>) -> PatchError {
    PatchError::Malformed(text.into())
}

impl Merger<'_> {
    fn field(&self, parent: Option<&str>, field: &str) -> FieldMerge {
        parent.and_then(|parent| self.schema.field(parent, field)).unwrap_or_default()
    }

    /// Merges `patch` into `original`, an object of type `kind` (`None`: unknown).
    pub(super) fn merge_object(
        &self,
        mut original: Object,
        mut patch: Object,
        kind: Option<&str>,
    ) -> Result<Object, PatchError> {
        if let Some(directive) = patch.remove(PATCH_DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(patch),
                Some("delete") => Ok(Object::new()),
                _ => Err(malformed(format!("unknown patch type found: {directive}"))),
            };
        }
        self.retain_keys(&mut original, &mut patch)?;
        self.merge_ordered_lists(&mut original, &mut patch, kind)?;
        for (key, value) in patch {
            self.merge_field(&mut original, key, value, kind)?;
        }
        Ok(original)
    }

    fn merge_field(
        &self,
        original: &mut Object,
        key: String,
        value: Value,
        kind: Option<&str>,
    ) -> Result<(), PatchError> {
        if let Some(field) = key.strip_prefix(DELETE_LIST_PREFIX) {
            if self.into == Into::Patch {
                original.insert(key, value);
                return Ok(());
            }
            let Value::Array(gone) = value else {
                return Err(malformed(format!(
                    "invalid value for {DELETE_LIST_PREFIX}{field}: it must be a list"
                )));
            };
            if let Some(Value::Array(items)) = original.get_mut(field) {
                let gone: HashSet<Value> = gone.into_iter().collect();
                items.retain(|item| !gone.contains(item));
            }
            return Ok(());
        }
        if value.is_null() {
            original.remove(&key);
            if self.into == Into::Patch {
                original.insert(key, value);
            }
            return Ok(());
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => {
                let meta = self.field(kind, &key);
                if meta.replaces() && !theirs.contains_key(PATCH_DIRECTIVE) {
                    self.fresh(Value::Object(theirs))
                } else {
                    Some(Value::Object(self.merge_object(ours, theirs, meta.child.as_deref())?))
                }
            }
            (Some(Value::Array(ours)), Value::Array(theirs)) => {
                let meta = self.field(kind, &key);
                if meta.merges() {
                    Some(Value::Array(self.merge_list(ours, theirs, &meta)?.0))
                } else {
                    self.fresh(Value::Array(theirs))
                }
            }
            (_, value) => self.fresh(value),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
        Ok(())
    }

    fn retain_keys(&self, original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
        let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
        let bad = || malformed("invalid patch format of retainKeys directive");
        if self.into == Into::Patch {
            return match original.insert(RETAIN_KEYS.to_owned(), directive.clone()) {
                Some(known) if known != directive => Err(bad()),
                _ => Ok(()),
            };
        }
        let retained = directive.as_array().ok_or_else(bad)?;
        let retains = |key: &str| retained.iter().any(|retained| retained.as_str() == Some(key));
        if patch.iter().any(|(key, value)| !value.is_null() && !key.starts_with('$') && !retains(key)) {
            return Err(bad());
        }
        original.retain(|key, _| retains(key));
        Ok(())
    }

    /// Merges the lists for which the patch gives an order; they are taken out of the patch.
    fn merge_ordered_lists(
        &self,
        original: &mut Object,
        patch: &mut Object,
        kind: Option<&str>,
    ) -> Result<(), PatchError> {
        let directives: Vec<String> =
            patch.keys().filter(|key| key.starts_with(ORDER_PREFIX)).cloned().collect();
        for directive in directives {
            let Some(order) = patch.remove(&directive) else { continue };
            let field = directive.strip_prefix(ORDER_PREFIX).unwrap_or_default().to_owned();
            let Value::Array(order_items) = &order else {
                return Err(malformed(format!("invalid value for {directive}: it must be a list")));
            };
            if self.into == Into::Patch {
                match original.get(&directive) {
                    Some(known) if *known != order => {
                        return Err(malformed("the two patches disagree on the order of a list"));
                    }
                    _ => original.insert(directive.clone(), order.clone()),
                };
            }
            let meta = self.field(kind, &field);
            let ours = original.get(&field).and_then(Value::as_array).cloned();
            let theirs = patch.remove(&field).and_then(|value| match value {
                Value::Array(items) => Some(items),
                _ => None,
            });
            let sample = ours.iter().flatten().chain(theirs.iter().flatten()).next();
            let Some(sample) = sample else { continue };
            let identity = identity(&meta, sample)?;
            if let Some(theirs) = &theirs {
                check_order(theirs, order_items, identity)?;
            }
            let mut before = ours.clone().unwrap_or_default();
            let merged = match (ours, theirs) {
                (Some(ours), Some(theirs)) => {
                    let merged;
                    (merged, before) = self.merge_list(ours, theirs, &meta)?;
                    merged
                }
                (Some(ours), None) => ours,
                (None, Some(theirs)) => match self.fresh(Value::Array(theirs)) {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                },
                (None, None) => continue,
            };
            original.insert(field, Value::Array(normalize(merged, order_items, &before, identity)));
        }
        Ok(())
    }

    /// Returns the merged list and the order of the list before, as Kubernetes sees it: the place of an item that the
    /// patch deleted is taken by one that it adds.
    fn merge_list(
        &self,
        ours: Vec<Value>,
        theirs: Vec<Value>,
        meta: &FieldMerge,
    ) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
        let Some(sample) = ours.iter().chain(&theirs).next() else { return Ok((ours, Vec::new())) };
        let identity = identity(meta, sample)?;
        let Identity::Key(key) = identity else {
            let mut seen = HashSet::with_capacity(ours.len() + theirs.len());
            let merged = ours.iter().chain(&theirs).filter(|item| seen.insert(*item)).cloned().collect();
            return Ok((normalize(merged, &theirs, &ours, identity), ours));
        };
        let length = ours.len();
        let (mut merged, theirs) = special_items(ours, theirs, key)?;
        let kept = merged.clone();
        let mut places = identity.places(&kept);
        for item in &theirs {
            let (Value::Object(item), Some(name)) = (item, item.get(key)) else {
                return Err(no_merge_key(item, key));
            };
            match places.get(name).and_then(|at| merged.get_mut(*at)) {
                Some(slot) => {
                    let known = slot.as_object().cloned().unwrap_or_default();
                    *slot = Value::Object(self.merge_object(known, item.clone(), meta.child.as_deref())?);
                }
                None => {
                    if let Some(fresh) = self.fresh(Value::Object(item.clone())) {
                        places.entry(name).or_insert(merged.len());
                        merged.push(fresh);
                    }
                }
            }
        }
        let before = merged.iter().take(length).cloned().collect();
        Ok((normalize(merged, &theirs, &kept, identity), before))
    }

    /// A value that has no counterpart: directives and nulls have nothing to act on. `None` if nothing is left.
    fn fresh(&self, value: Value) -> Option<Value> {
        match value {
            Value::Object(mut object) => {
                if object.remove(PATCH_DIRECTIVE).is_some_and(|directive| directive == "delete") {
                    return None;
                }
                if self.into == Into::Object {
                    object.retain(|key, value| {
                        !value.is_null()
                            && key != RETAIN_KEYS
                            && !key.starts_with(ORDER_PREFIX)
                            && !key.starts_with(DELETE_LIST_PREFIX)
                    });
                }
                let fields =
                    object.into_iter().filter_map(|(key, value)| Some((key, self.fresh(value)?))).collect();
                Some(Value::Object(fields))
            }
            Value::Array(items) => {
                let replaces = |item: &Value| item.get(PATCH_DIRECTIVE).is_some_and(|it| it == "replace");
                let items = items.into_iter().filter(|item| !replaces(item));
                Some(Value::Array(items.filter_map(|item| self.fresh(item)).collect()))
            }
            scalar => Some(scalar),
        }
    }
}

fn identity<'m>(meta: &'m FieldMerge, sample: &Value) -> Result<Identity<'m>, PatchError> {
    match (sample, &meta.merge_key) {
        (Value::Object(_), Some(key)) => Ok(Identity::Key(key)),
        (Value::Object(_), None) => Err(malformed("cannot merge lists without merge key")),
        (Value::Array(_), _) => Err(malformed("lists of lists are not supported")),
        _ => Ok(Identity::Value),
    }
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    malformed(format!("map: {item} does not contain declared merge key: {key}"))
}

/// Obeys the directives among the items of a list; returns the list and the items without directive.
fn special_items(
    mut ours: Vec<Value>,
    theirs: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut rest = Vec::with_capacity(theirs.len());
    let (mut gone, mut replace) = (HashSet::new(), false);
    for item in theirs {
        match item.get(PATCH_DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
            None => rest.push(item),
            Some("delete") => {
                gone.insert(item.get(key).ok_or_else(|| no_merge_key(&item, key))?.clone());
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(malformed("merging lists cannot yet be specified in the patch")),
            Some(other) => return Err(malformed(format!("unknown patch type found: {other}"))),
        }
    }
    if !gone.is_empty() {
        ours.retain(|known| !known.get(key).is_some_and(|name| gone.contains(name)));
    }
    Ok(if replace { (rest, Vec::new()) } else { (ours, rest) })
}

/// The items of the patch must stand in the order that the directive gives.
fn check_order(items: &[Value], order: &[Value], identity: Identity<'_>) -> Result<(), PatchError> {
    let (mut last, places) = (0, identity.places(order));
    for item in items.iter().filter(|item| item.get(PATCH_DIRECTIVE).is_none()) {
        match identity.of(item).and_then(|name| places.get(name)) {
            Some(at) if *at >= last => last = *at,
            _ => {
                return Err(malformed(format!(
                    "The order in patch list:\n{}\n doesn't match {ORDER_PREFIX} list:\n{}\n",
                    Value::from(items.to_vec()),
                    Value::from(order.to_vec())
                )));
            }
        }
    }
    Ok(())
}
