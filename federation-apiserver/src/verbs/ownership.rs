//! Field ownership and strategic merge, led by the published schemas.

use apimachinery::{
    apply::{self, Manager, ObjectType, TypeRef},
    patch::{
        PatchError,
        strategic::{self, FieldMerge, MergeSchema, MergeStrategy},
    },
};
use kube_schema::Schemas;
use serde_json::Value;

use super::Call;
use crate::deletion;

/// Merge keys and strategies of the published definitions.
struct MergeKeys<'a>(&'a Schemas);

impl MergeSchema for MergeKeys<'_> {
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge> {
        let rule = self.0.merge_rule(parent, field)?;
        let strategies = rule.strategies.iter().filter_map(|strategy| match strategy.as_str() {
            "merge" => Some(MergeStrategy::Merge),
            "replace" => Some(MergeStrategy::Replace),
            "retainKeys" => Some(MergeStrategy::RetainKeys),
            _ => None,
        });
        Some(FieldMerge { merge_key: rule.merge_key, strategies: strategies.collect(), child: rule.child })
    }
}

impl Call {
    /// Applies a strategic merge patch.
    pub(super) fn merge_strategically(&self, object: &Value, patch: &Value) -> Result<Value, PatchError> {
        let kind = &*self.kind;
        let schemas = self.shared.schemas();
        let definition = schemas.name_of(kind.group, kind.version, kind.kind).unwrap_or_default();
        strategic::apply(&MergeKeys(schemas), definition, object, patch)
    }

    /// Keeps `metadata.managedFields` for a write that is not an apply.
    pub(super) fn own(&self, old: Option<&Value>, object: Value, manager: Option<&str>) -> Value {
        let name = self.field_manager(manager);
        let fallback = object.clone();
        let owned = self.with_manager(&name, |kind, manager| apply::update(kind, old, object, manager));
        // Ownership that cannot be read is no reason to refuse a write: it is kept as it is, as kube-apiserver does.
        owned.unwrap_or(fallback)
    }

    /// Runs a step of field ownership with the kind's type and the writer's name.
    pub(super) fn with_manager<T>(
        &self,
        name: &str,
        step: impl FnOnce(ObjectType<'_>, &Manager<'_>) -> T,
    ) -> T {
        let api_version = self.kind.api_version();
        let now = deletion::seconds(self.now);
        let manager = Manager {
            name,
            api_version: &api_version,
            subresource: self.path.subresource.as_deref().unwrap_or_default(),
            now: &now,
        };
        let kind = &*self.kind;
        if let Some(custom) = &kind.custom {
            let (types, definition) = custom.ownership(kind.group, kind.version, kind.kind);
            let root = TypeRef::named(definition.as_str());
            return step(ObjectType::new(types, &root), &manager);
        }
        let types = self.shared.apply_types();
        match self.shared.schemas().name_of(kind.group, kind.version, kind.kind) {
            Some(definition) => {
                let root = TypeRef::named(definition);
                let zero = self.shared.schemas().zero(kind.group, kind.version, kind.kind);
                step(ObjectType::new(types, &root).with_zero(&zero), &manager)
            }
            None => step(ObjectType::deduced(), &manager),
        }
    }
}
