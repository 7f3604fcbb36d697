//! The schema's side of strategic merge patch.

use apimachinery::patch::strategic::{FieldMerge, MergeSchema, MergeStrategy};

use crate::Schemas;

/// Types are definition names: begin with [`Schemas::name_of`].
impl MergeSchema for Schemas {
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge> {
        let rule = self.merge_rule(parent, field)?;
        let strategies = rule
            .strategies
            .iter()
            .filter_map(|name| match name.as_str() {
                "merge" => Some(MergeStrategy::Merge),
                "replace" => Some(MergeStrategy::Replace),
                "retainKeys" => Some(MergeStrategy::RetainKeys),
                _ => None,
            })
            .collect();
        Some(FieldMerge { merge_key: rule.merge_key, strategies, child: rule.child })
    }
}
