//! Field ownership and strategic merge, led by the published schemas.

use std::{collections::HashMap, sync::LazyLock};

use apimachinery::{
    ApiError,
    apply::{self, FieldSet, Manager, ObjectType, PathElement, TypeRef, Versions},
    patch::{
        PatchError,
        strategic::{self, FieldMerge, MergeSchema, MergeStrategy},
    },
};
use kube_schema::Schemas;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Call, sent_owners};
use crate::{
    crd::conversion,
    deletion,
    registry::{Kind, KindRef},
    server::Shared,
};

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
    pub(super) async fn own(&self, old: Option<&Value>, mut object: Value, manager: Option<&str>) -> Value {
        if !sent_owners::settle(&self.kind, &mut object) {
            return object;
        }
        let name = self.field_manager(manager);
        // Ownership that cannot be read is no reason to refuse a write: it is kept as it is, as kube-apiserver does.
        if self.kind.custom.is_none() {
            self.with_table_type(
                &self.manager(&name, &self.kind.api_version(), &deletion::seconds(self.now)),
                |kind, manager| {
                    let _kept = apply::record_update(kind, old, &mut object, manager);
                },
            );
            return object;
        }
        let step = |kind: ObjectType<'_>, manager: &Manager<'_>| {
            apply::update(kind, old, object.clone(), manager).map_err(ApiError::internal)
        };
        let owned = self.with_manager(&name, step).await;
        owned.unwrap_or(object)
    }

    /// Runs a step of field ownership with the kind's type and the writer's name. Where a webhook converts the kind it runs again with what
    /// it asked for in vain.
    pub(super) async fn with_manager(
        &self,
        name: &str,
        step: impl Fn(ObjectType<'_>, &Manager<'_>) -> Result<Value, ApiError>,
    ) -> Result<Value, ApiError> {
        let api_version = self.kind.api_version();
        let now = deletion::seconds(self.now);
        let manager = self.manager(name, &api_version, &now);
        let kind = &*self.kind;
        let Some(custom) = &kind.custom else { return self.with_table_type(&manager, step) };
        let (types, definition) = custom.ownership(kind.group, kind.version, kind.kind);
        let root = TypeRef::named(definition.as_str());
        let object_type = ObjectType::new(types, &root);
        if custom.converter.is_none() {
            return step(object_type, &manager);
        }
        let mut versions = OtherVersions::new(self);
        for _ in 0..ROUNDS {
            let outcome = step(object_type.with_versions(&versions), &manager);
            if !Box::pin(versions.learn(self)).await? {
                return outcome;
            }
        }
        Err(ApiError::internal("field ownership asks for ever more conversions"))
    }

    /// Runs a step over the type of a version of the kind, as server-side apply sees it.
    pub(crate) fn typed_as<T>(&self, kind: &Kind, step: impl FnOnce(ObjectType<'_>) -> T) -> T {
        if let Some(custom) = &kind.custom {
            let (types, definition) = custom.ownership(kind.group, kind.version, kind.kind);
            return step(ObjectType::new(types, &TypeRef::named(definition.as_str())));
        }
        match self.shared.schemas().name_of(kind.group, kind.version, kind.kind) {
            Some(definition) => step(ObjectType::new(self.shared.apply_types(), &TypeRef::named(definition))),
            None => step(ObjectType::deduced()),
        }
    }

    fn manager<'a>(&'a self, name: &'a str, api_version: &'a str, now: &'a str) -> Manager<'a> {
        let subresource = self.path.subresource.as_deref().unwrap_or_default();
        Manager { name, api_version, subresource, now, resets: reset_fields(&self.kind, subresource) }
    }

    fn with_table_type<T>(
        &self,
        manager: &Manager<'_>,
        step: impl FnOnce(ObjectType<'_>, &Manager<'_>) -> T,
    ) -> T {
        with_table_type(&self.shared, &self.kind, |kind| step(kind, manager))
    }
}

/// Runs a step over the type of a kind of the table.
fn with_table_type<T>(shared: &Shared, kind: &Kind, step: impl FnOnce(ObjectType<'_>) -> T) -> T {
    let schemas = shared.schemas();
    match schemas.name_of(kind.group, kind.version, kind.kind) {
        Some(definition) => {
            let root = TypeRef::named(definition);
            let zero = schemas.zero(kind.group, kind.version, kind.kind);
            step(ObjectType::new(shared.apply_types(), &root).with_zero(zero))
        }
        None => step(ObjectType::deduced()),
    }
}

/// Keeps `metadata.managedFields` for a write of the status of a kind of the table by this server itself.
pub(crate) fn own_status(shared: &Shared, kind: &Kind, old: &Value, mut object: Value, now: &str) -> Value {
    let (api_version, subresource) = (kind.api_version(), "status");
    let resets = reset_fields(kind, subresource);
    let manager = Manager { name: "kube-apiserver", api_version: &api_version, subresource, now, resets };
    with_table_type(shared, kind, |kind| {
        let _kept = apply::record_update(kind, Some(old), &mut object, &manager);
    });
    object
}

/// What a write through a subresource, or past all of them, leaves as it is (`rest.ResetFieldsStrategy`).
fn reset_fields(kind: &Kind, subresource: &str) -> Option<&'static FieldSet> {
    match subresource {
        "" => kind.status.then_some(&*STATUS),
        "status" if kind.custom.is_some() => Some(&*SPEC_AND_METADATA),
        "status" => match (kind.group, kind.plural) {
            ("apiextensions.k8s.io" | "flowcontrol.apiserver.k8s.io" | "admissionregistration.k8s.io", _) => {
                Some(&*SPEC_AND_METADATA)
            }
            ("apps", "deployments") => Some(&*SPEC_AND_LABELS),
            ("", "pods") => Some(&*SPEC_AND_OWNERS),
            _ => Some(&*SPEC),
        },
        _ => None,
    }
}

static STATUS: LazyLock<FieldSet> = LazyLock::new(|| paths(&[&["status"]]));
static SPEC: LazyLock<FieldSet> = LazyLock::new(|| paths(&[&["spec"]]));
static SPEC_AND_METADATA: LazyLock<FieldSet> = LazyLock::new(|| paths(&[&["metadata"], &["spec"]]));
static SPEC_AND_LABELS: LazyLock<FieldSet> = LazyLock::new(|| paths(&[&["metadata", "labels"], &["spec"]]));
static SPEC_AND_OWNERS: LazyLock<FieldSet> = LazyLock::new(|| {
    paths(&[&["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"], &["spec"]])
});

fn paths(paths: &[&[&str]]) -> FieldSet {
    let mut set = FieldSet::default();
    for path in paths {
        set.insert(&path.iter().map(|name| PathElement::field(name)).collect::<Vec<_>>());
    }
    set
}

/// Rounds of a step that asks for conversions: each asks for what the last one's answers led to.
const ROUNDS: usize = 16;

/// The versions of a kind that a webhook converts, and what it has made so far.
struct OtherVersions {
    own: KindRef,
    kinds: Vec<(String, KindRef, TypeRef)>,
    /// By object and version.
    known: HashMap<(String, String), Value>,
    missing: Mutex<Vec<(Value, String)>>,
}

impl OtherVersions {
    fn new(call: &Call) -> Self {
        let served = call.shared.served();
        let storage = call.kind.storage();
        let kinds = served.kinds().iter().filter(|kind| kind.custom.is_some() && kind.storage() == storage);
        let kinds = kinds.filter_map(|kind| {
            let (_, definition) = kind.custom.as_ref()?.ownership(kind.group, kind.version, kind.kind);
            Some((kind.api_version(), kind.clone(), TypeRef::named(definition.as_str())))
        });
        Self {
            own: call.kind.clone(),
            kinds: kinds.collect(),
            known: HashMap::new(),
            missing: Mutex::default(),
        }
    }

    /// Converts what was asked for in vain; false if that is nothing.
    async fn learn(&mut self, call: &Call) -> Result<bool, ApiError> {
        let missing = std::mem::take(&mut *self.missing.lock());
        let any = !missing.is_empty();
        for (object, version) in missing {
            let Some((_, kind, _)) = self.kinds.iter().find(|(known, ..)| *known == version) else {
                continue;
            };
            let text = object.to_string();
            let made = conversion::between(&call.shared.storage, &self.own, kind, object).await?;
            self.known.insert((text, version), made);
        }
        Ok(any)
    }
}

impl std::fmt::Debug for OtherVersions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.kinds.iter().map(|(version, ..)| version)).finish()
    }
}

impl Versions for OtherVersions {
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let asked = (object.to_string(), api_version.to_owned());
        let known = self.known.get(&asked).cloned();
        if known.is_none() && self.kinds.iter().any(|(version, ..)| version == api_version) {
            self.missing.lock().push((object.clone(), asked.1));
        }
        known
    }

    fn kind(&self, api_version: &str) -> Option<ObjectType<'_>> {
        let (_, kind, root) = self.kinds.iter().find(|(version, ..)| version == api_version)?;
        let (types, _) = kind.custom.as_ref()?.ownership(kind.group, kind.version, kind.kind);
        Some(ObjectType::new(types, root).with_versions(self))
    }
}
