//! Applying a strategic merge patch, and merging one patch into another.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::order::{Identity, normalize};
use super::{DELETE_LIST, FieldMerge, MergeSchema, ORDER, PATCH_DIRECTIVE, RETAIN_KEYS};
use crate::patch::{
    PatchError,
    go::{as_text, printed, type_of},
};

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

fn unexpected(text: impl std::convert::Into<String>) -> PatchError {
    PatchError::Unexpected(text.into())
}

/// `mergepatch.ErrBadArgType`.
fn mistyped(wanted: &str, found: &Value) -> PatchError {
    unexpected(format!("expected a {wanted}, but received a {}", type_of(found)))
}

/// `mergepatch.ErrBadPatchType`.
fn no_directive(directive: &Value, within: &Value) -> PatchError {
    unexpected(format!("unknown patch type: {} in map: {}", as_text(directive), printed(within)))
}

/// The field that a directive's name ends with; nothing if the name is another one.
fn field_of<'k>(key: &'k str, directive: &str) -> Option<Result<&'k str, PatchError>> {
    let rest = key.strip_prefix(directive)?;
    let what = if directive == ORDER { "setElementOrder" } else { "primitive" };
    Some(rest.strip_prefix('/').ok_or_else(|| malformed(format!("invalid patch format of {what} list"))))
}

fn list(value: Option<&Value>) -> Result<Option<&Vec<Value>>, PatchError> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(mistyped("[]interface {}", other)),
    }
}

/// Refuses lists whose elements are of different types, and lists of lists.
fn check_elements(lists: [&[Value]; 2]) -> Result<(), PatchError> {
    let mut all = lists.into_iter().flatten();
    let Some(first) = all.next() else { return Ok(()) };
    if first.is_array() {
        return Err(PatchError::Failed("lists of lists are not supported".to_owned()));
    }
    if all.all(|other| type_of(other) == type_of(first)) {
        return Ok(());
    }
    let lists = Value::from(lists.map(|list| Value::from(list.to_vec())).to_vec());
    Err(unexpected(format!("list element types are not identical: {}", printed(&lists))))
}

impl Merger<'_> {
    fn field(&self, parent: Option<&str>, field: &str) -> FieldMerge {
        parent.and_then(|parent| self.schema.field(parent, field)).unwrap_or_default()
    }

    /// The same of a field that must be there, where the type is known.
    fn known_field(&self, parent: Option<&str>, field: &str) -> Result<FieldMerge, PatchError> {
        let Some(parent) = parent else { return Ok(FieldMerge::default()) };
        self.schema.field(parent, field).ok_or_else(|| {
            let parent = parent.rsplit('.').next().unwrap_or_default();
            unexpected(format!(
                "unable to find api field in struct {parent} for the json field {}",
                crate::field::quoted(field)
            ))
        })
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
                _ => {
                    patch.insert(PATCH_DIRECTIVE.to_owned(), directive.clone());
                    Err(no_directive(&directive, &Value::Object(patch)))
                }
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
        if let Some(field) = field_of(&key, DELETE_LIST) {
            if self.into == Into::Patch {
                original.insert(key, value);
                return Ok(());
            }
            return self.delete_from_list(original, field?, value, kind);
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
                    Some(Value::Object(theirs))
                } else {
                    Some(Value::Object(self.merge_object(ours, theirs, meta.child.as_deref())?))
                }
            }
            (Some(Value::Array(ours)), Value::Array(theirs)) => {
                let meta = self.field(kind, &key);
                if meta.merges() {
                    Some(Value::Array(self.merge_list(ours, theirs, &meta)?.0))
                } else {
                    // What takes the place of another list is taken as it is.
                    Some(Value::Array(theirs))
                }
            }
            (_, value) => self.fresh(value),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
        Ok(())
    }

    /// Takes values out of a list of scalars, whatever its strategy is. Of other fields, and of those that are not there, nothing is taken.
    fn delete_from_list(
        &self,
        original: &mut Object,
        field: &str,
        gone: Value,
        kind: Option<&str>,
    ) -> Result<(), PatchError> {
        if gone.is_null() {
            original.remove(field);
            return Ok(());
        }
        let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(field), gone) else {
            return Ok(());
        };
        check_elements([items, &gone])?;
        if items.iter().chain(&gone).any(Value::is_object) {
            // Of objects it is a patch like any other.
            let merged = self.merge_list(std::mem::take(items), gone, &self.field(kind, field))?.0;
            *items = merged;
        } else {
            let gone: HashSet<Value> = gone.into_iter().collect();
            items.retain(|item| !gone.contains(item));
        }
        Ok(())
    }

    fn retain_keys(&self, original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
        let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
        let bad = || malformed("invalid patch format of retainKeys");
        if self.into == Into::Patch {
            return match original.insert(RETAIN_KEYS.to_owned(), directive.clone()) {
                Some(known) if known != directive => Err(bad()),
                _ => Ok(()),
            };
        }
        let retained: HashSet<&str> =
            directive.as_array().ok_or_else(bad)?.iter().filter_map(Value::as_str).collect();
        let retains = |key: &str| retained.contains(key);
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
        let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER)).cloned().collect();
        for directive in directives {
            let Some(order) = patch.remove(&directive) else { continue };
            let Value::Array(order_items) = &order else { return Err(mistyped("[]interface {}", &order)) };
            let field = field_of(&directive, ORDER).transpose()?.unwrap_or_default().to_owned();
            if self.into == Into::Patch {
                match original.get(&directive) {
                    Some(known) if *known != order => {
                        return Err(malformed("invalid patch format of setElementOrder list"));
                    }
                    _ => original.insert(directive.clone(), order.clone()),
                };
            }
            let ours = list(original.get(&field))?.cloned();
            let theirs = list(patch.get(&field))?.cloned();
            patch.remove(&field);
            let meta = self.known_field(kind, &field)?;
            let (all_ours, all_theirs) =
                (ours.as_deref().unwrap_or_default(), theirs.as_deref().unwrap_or_default());
            let Some(sample) = all_ours.iter().chain(all_theirs).next() else { continue };
            let identity = identity(&meta, sample)?;
            check_order(all_theirs, order_items, identity)?;
            let mut before = ours.clone().unwrap_or_default();
            let merged = match (ours, theirs) {
                (Some(_), Some(theirs)) if !meta.merges() => theirs,
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
            check_named(&merged, order_items, identity)?;
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
        check_elements([&ours, &theirs])?;
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
                let directive = object.remove(PATCH_DIRECTIVE);
                // What says how to change something does so, or there is nothing to change.
                if directive.is_some_and(|directive| self.into == Into::Object || directive == "delete") {
                    return None;
                }
                if self.into == Into::Object {
                    object.retain(|key, value| {
                        !value.is_null()
                            && key != RETAIN_KEYS
                            && !key.starts_with(ORDER)
                            && !key.starts_with(DELETE_LIST)
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
        (Value::Object(_), None) => Err(unexpected("cannot merge lists without merge key")),
        (Value::Array(_), _) => Err(PatchError::Failed("lists of lists are not supported".to_owned())),
        _ => Ok(Identity::Value),
    }
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    unexpected(format!("map: {} does not contain declared merge key: {key}", printed(item)))
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
        let Some(directive) = item.get(PATCH_DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                gone.insert(item.get(key).ok_or_else(|| no_merge_key(&item, key))?.clone());
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(unexpected("merging lists cannot yet be specified in the patch")),
            _ => return Err(no_directive(directive, &item)),
        }
    }
    if !gone.is_empty() {
        ours.retain(|known| !known.get(key).is_some_and(|name| gone.contains(name)));
    }
    Ok(if replace { (rest, Vec::new()) } else { (ours, rest) })
}

/// The items of the patch must stand in the order that the directive gives. Where either is empty, any order will do.
fn check_order(items: &[Value], order: &[Value], identity: Identity<'_>) -> Result<(), PatchError> {
    if items.is_empty() || order.is_empty() {
        return Ok(());
    }
    if let (Identity::Key(_), Some(other)) = (identity, items.iter().find(|item| !item.is_object())) {
        return Err(mistyped("map[string]interface {}", other));
    }
    let mut rest = order.iter();
    for item in items.iter().filter(|item| item.get(PATCH_DIRECTIVE).is_none()) {
        let found = loop {
            match rest.next() {
                Some(at) if named(item, identity)? == named(at, identity)? => break true,
                Some(_) => {}
                None => break false,
            }
        };
        if !found {
            return Err(unexpected(format!(
                "the order in patch list:\n{}\n doesn't match {ORDER} list:\n{}",
                printed(&Value::from(items.to_vec())),
                printed(&Value::from(order.to_vec()))
            )));
        }
    }
    Ok(())
}

/// What an item is known by, which it must have.
fn named<'v>(item: &'v Value, identity: Identity<'_>) -> Result<&'v Value, PatchError> {
    match identity {
        Identity::Value => Ok(item),
        Identity::Key(_) if !item.is_object() => Err(mistyped("map[string]interface {}", item)),
        Identity::Key(key) => item.get(key).ok_or_else(|| no_merge_key(item, key)),
    }
}

/// What is ordered, and what orders it, must have names.
fn check_named(items: &[Value], order: &[Value], identity: Identity<'_>) -> Result<(), PatchError> {
    let Identity::Key(_) = identity else { return Ok(()) };
    let places = identity.places(order);
    let odd = order.iter().position(|item| !item.is_object());
    for item in items {
        let place = places.get(named(item, identity)?);
        // It is looked for from the beginning.
        if let Some(odd) = odd.filter(|odd| place.is_none_or(|place| odd < place)) {
            return Err(unexpected(format!("value for key {odd} is not a map")));
        }
    }
    order.iter().try_for_each(|item| named(item, identity).map(drop))
}
