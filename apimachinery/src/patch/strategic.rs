//! Strategic merge patch: the format of `kubectl patch` and client-side `kubectl apply`, driven by merge keys.

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

/// The schema that a strategic merge follows.
pub trait MergeSchema {
    /// What is known about `field` of objects of type `parent`; `None` for an unknown field or type.
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge>;
}
