//! Strategic merge patch: the format of `kubectl patch` and client-side `kubectl apply`, driven by merge keys.
//!
//! Directives: `$patch: delete|replace` in objects and list items, `$retainKeys`, `$deleteFromPrimitiveList/FIELD`,
//! `$setElementOrder/FIELD`.

use serde_json::{Map, Value};

use super::PatchError;

mod diff;
mod merge;
mod order;

const PATCH_DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_LIST: &str = "$deleteFromPrimitiveList";
const ORDER: &str = "$setElementOrder";

/// How a patch changes a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MergeStrategy {
    /// A list whose items merge, by key or as a set of scalars.
    Merge,
    /// Replaced whole.
    Replace,
    /// The fields that the patch names in `$retainKeys` stay, all others go.
    RetainKeys,
}

/// What the schema says about one field (`x-kubernetes-patch-strategy`, `x-kubernetes-patch-merge-key`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldMerge {
    /// The key that tells list items apart.
    pub merge_key: Option<String>,
    /// The strategies; none is the default: objects merge, lists are replaced.
    pub strategies: Vec<MergeStrategy>,
    /// The type of the field, or of its items if it is a list; opaque to the patch code.
    pub child: Option<String>,
}

impl FieldMerge {
    fn merges(&self) -> bool {
        self.strategies.contains(&MergeStrategy::Merge)
    }

    fn replaces(&self) -> bool {
        self.strategies.contains(&MergeStrategy::Replace)
    }

    fn retains_keys(&self) -> bool {
        self.strategies.contains(&MergeStrategy::RetainKeys)
    }
}

/// The schema that a strategic merge follows.
pub trait MergeSchema {
    /// What is known about `field` of objects of type `parent`; `None` for an unknown field or type.
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge>;
}

/// Applies a strategic merge patch to an object of type `kind`.
pub fn apply(
    schema: &dyn MergeSchema,
    kind: &str,
    original: &Value,
    patch: &Value,
) -> Result<Value, PatchError> {
    let merger = merge::Merger { schema, into: merge::Into::Object };
    merger.merge_object(object(original)?, object(patch)?, Some(kind)).map(Value::Object)
}

/// The patch that turns `original` into `modified`.
pub fn create_two_way(
    schema: &dyn MergeSchema,
    kind: &str,
    original: &Value,
    modified: &Value,
) -> Result<Value, PatchError> {
    let differ = diff::Differ { schema, tell: diff::Tell::Everything };
    differ.diff_objects(&object(original)?, &object(modified)?, Some(kind), false).map(Value::Object)
}

/// The patch that brings `current` to `modified` and removes what `original` had and `modified` has not: client-side
/// apply, where `original` is what was applied last time. What others added to `current` stays.
pub fn create_three_way(
    schema: &dyn MergeSchema,
    kind: &str,
    original: &Value,
    modified: &Value,
    current: &Value,
) -> Result<Value, PatchError> {
    let (original, modified, current) = (object(original)?, object(modified)?, object(current)?);
    let changes = diff::Differ { schema, tell: diff::Tell::Changes };
    let changes = changes.diff_objects(&current, &modified, Some(kind), false)?;
    let deletions = diff::Differ { schema, tell: diff::Tell::Deletions };
    let deletions = deletions.diff_objects(&original, &modified, Some(kind), false)?;
    let merger = merge::Merger { schema, into: merge::Into::Patch };
    merger.merge_object(deletions, changes, Some(kind)).map(Value::Object)
}

/// An object, with null (an absent document) counted as the empty one.
fn object(value: &Value) -> Result<Map<String, Value>, PatchError> {
    match value {
        Value::Object(object) => Ok(object.clone()),
        Value::Null => Ok(Map::new()),
        other => Err(PatchError::Malformed(format!("a strategic merge patch needs objects, got {other}"))),
    }
}
