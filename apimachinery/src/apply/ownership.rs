//! The two writes that move ownership: apply, and everything else.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

use super::compare::Comparison;
use super::fieldset::{FieldSet, PathElement};
use super::managed::{
    ManagedEntry, ManagedError, Operation, Owner, fold_old_updates, managed_fields, remove_managed_fields,
    set_managed_fields,
};
use super::schema::ObjectType;
use super::typed::Duplicates;
use crate::status::{ApiError, Cause, Reason};

/// Who owns the fields that an object had before anybody applied it and that nobody tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub struct Manager<'a> {
    /// The field manager's name: `?fieldManager=`, or the User-Agent up to its `/`.
    pub name: &'a str,
    /// The API version of the request, such as `apps/v1`.
    pub api_version: &'a str,
    /// The subresource written, or empty.
    pub subresource: &'a str,
    /// The time of the write, RFC 3339 to the second, in UTC.
    pub now: &'a str,
    /// What the server takes from the stored object whatever an apply says: nobody comes to own it by one. If any.
    pub resets: Option<&'a FieldSet>,
}

/// What to do about fields that others own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// Refuse the apply.
    Refuse,
    /// Take them over (`?force=true`).
    Force,
}

/// One field that somebody else owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub owner: Owner,
    /// The field, such as `.spec.replicas`.
    pub field: String,
}

/// Why an apply did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration carries managed fields.
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsInConfiguration,
    /// The stored managed fields cannot be read.
    #[error(transparent)]
    Managed(#[from] ManagedError),
    /// The configuration does not fit its type.
    #[error("failed to create typed patch object: {}", .0.join(", "))]
    Configuration(Vec<String>),
    /// The stored object and the configuration cannot be merged.
    #[error("failed to merge the configuration into the object: {0}")]
    Merge(String),
    /// Others own fields that the configuration sets to other values.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

impl From<&ApplyError> for ApiError {
    fn from(error: &ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => {
                let cause = |conflict: &Conflict| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", conflict.owner),
                    field: conflict.field.clone(),
                };
                Self::apply_conflict(error.to_string(), conflicts.iter().map(cause).collect())
            }
            ApplyError::ManagedFieldsInConfiguration => Self::bad_request(error.to_string()),
            // kube-apiserver has no word for it.
            ApplyError::Configuration(_) => Self::new(500, Reason::Unknown, error.to_string()),
            ApplyError::Managed(_) | ApplyError::Merge(_) => Self::internal(error),
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.owner, one.field);
    }
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        owners.entry(conflict.owner.to_string()).or_default().push(&conflict.field);
    }
    let mut lines = Vec::new();
    for (owner, fields) in owners {
        lines.push(format!("conflicts with {owner}:"));
        lines.extend(fields.into_iter().map(|field| format!("- {field}")));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Fields that nobody owns: the server writes them, or they name the object.
static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    let mut set = FieldSet::default();
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert(&[PathElement::field(name)]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&[PathElement::field("metadata"), PathElement::field(name)]);
    }
    set
});

impl Manager<'_> {
    fn owner(&self, operation: Operation) -> Owner {
        Owner {
            manager: self.name.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    /// What of a set counts in an apply.
    fn counted(&self, fields: FieldSet) -> FieldSet {
        match self.resets {
            Some(resets) => fields.recursive_difference(resets),
            None => fields,
        }
    }

    fn counted_changes(&self, comparison: Comparison) -> Comparison {
        Comparison {
            added: self.counted(comparison.added),
            modified: self.counted(comparison.modified),
            removed: self.counted(comparison.removed),
        }
    }
}

/// Applies a configuration. The result carries its new managed fields; a live object that has everything already
/// comes back as it is, times included.
///
/// `live` is the stored object, `None` if the apply creates it. KEP-555.
pub fn apply(
    kind: ObjectType<'_>,
    live: Option<&Value>,
    configuration: &Value,
    manager: &Manager<'_>,
    conflicts: Conflicts,
) -> Result<Value, ApplyError> {
    apply_sparing(kind, live, configuration, manager, conflicts, &FieldSet::default())
}

/// The same, where fields of `spared` are no conflicts.
pub(super) fn apply_sparing(
    kind: ObjectType<'_>,
    live: Option<&Value>,
    configuration: &Value,
    manager: &Manager<'_>,
    conflicts: Conflicts,
    spared: &FieldSet,
) -> Result<Value, ApplyError> {
    if configuration.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::ManagedFieldsInConfiguration);
    }
    kind.validate(configuration, Duplicates::Refuse).map_err(ApplyError::Configuration)?;
    let configuration = without_null_metadata(configuration);
    let mut managers = match live {
        Some(live) => managed_fields(live)?,
        None => Vec::new(),
    };
    let empty = Value::Object(Map::new());
    let mut old = live.unwrap_or(&empty).clone();
    remove_managed_fields(&mut old);
    if live.is_some() && managers.is_empty() {
        managers.push(untracked(kind, &old, manager));
    }

    let mut new = kind.merge(&old, &configuration).map_err(ApplyError::Merge)?;
    let owner = manager.owner(Operation::Apply);
    let fields = manager.counted(kind.field_set(&configuration).difference(&UNOWNED));
    // Whoever applies is the same in every version.
    let same = |entry: &ManagedEntry| {
        Owner { api_version: owner.api_version.clone(), ..entry.owner.clone() } == owner
    };
    let previous = managers.iter().position(same).map(|index| managers.remove(index));
    if let Some(last) = previous.as_ref().filter(|last| !last.fields.is_empty()) {
        let mut owned = BTreeMap::from([(manager.api_version, fields.clone())]);
        for entry in &managers {
            let version = Some(&*entry.owner.api_version).filter(|version| kind.is_apart(version));
            owned.entry(version.unwrap_or(manager.api_version)).or_default().add(entry.fields.clone());
        }
        new = prune(kind, &new, last, &owned, manager.api_version);
    }
    let comparison = manager.counted_changes(kind.compare(&old, &new));
    let change = Change { kind, old: &old, new: &new, manager, comparison: &comparison };
    let mut changed = take_over(&mut managers, &change, conflicts, spared)?;
    changed |= previous.as_ref().is_none_or(|last| last.fields != fields || last.owner != owner)
        || !comparison.is_same();
    if let (false, Some(live)) = (changed, live) {
        return Ok(live.clone());
    }
    // Who changes nothing but ownership has the time at which he last did more, if any.
    let time = if live.is_some() && new == old {
        previous.and_then(|last| last.time)
    } else {
        Some(manager.now.to_owned())
    };
    managers.push(ManagedEntry { owner, time, fields });
    set_managed_fields(&mut new, managers);
    Ok(new)
}

/// Records a write that was no apply: the manager owns what it changed and others lose it.
///
/// `live` is the stored object, `None` on create. `new` is the whole object to be stored; managed fields in it replace the
/// stored ones (a client may edit them), and `[]` or `[{}]` clears them. An object that nobody tracks stays untracked.
pub fn update(
    kind: ObjectType<'_>,
    live: Option<&Value>,
    mut new: Value,
    manager: &Manager<'_>,
) -> Result<Value, ManagedError> {
    record_update(kind, live, &mut new, manager)?;
    Ok(new)
}

/// The same in place; after an error the object is as it was.
pub fn record_update(
    kind: ObjectType<'_>,
    live: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'_>,
) -> Result<(), ManagedError> {
    if resets(new) {
        remove_managed_fields(new);
        // A new object is tracked all the same.
        if live.is_some() {
            return Ok(());
        }
    }
    let given = managed_fields(new).unwrap_or_default();
    let mut managers = match live {
        Some(live) if given.is_empty() => managed_fields(live)?,
        _ => given,
    };
    remove_managed_fields(new);
    if live.is_some() && managers.is_empty() {
        return Ok(());
    }
    let mut old = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    remove_managed_fields(&mut old);

    let comparison = match kind.zero.and_then(Value::as_object).filter(|zero| !zero.is_empty()) {
        Some(zero) => {
            let mut seen = new.clone();
            complete(&mut old, zero);
            complete(&mut seen, zero);
            kind.compare(&old, &seen)
        }
        None => kind.compare(&old, new),
    };
    // Force leaves no conflicts to report. What the writer owned already is taken like what others own, and comes back below.
    let change = Change { kind, old: &old, new, manager, comparison: &comparison };
    let _ = take_over(&mut managers, &change, Conflicts::Force, &FieldSet::default());
    let mut taken = comparison.modified;
    taken.add(comparison.added);
    taken.subtract(&UNOWNED);
    // The time tells when a manager last set something: what is only removed does not count.
    if !taken.is_empty() {
        let (owner, time) = (manager.owner(Operation::Update), Some(manager.now.to_owned()));
        match managers.iter_mut().find(|entry| entry.owner == owner) {
            Some(entry) => {
                entry.fields.add(taken);
                entry.time = time;
            }
            None => managers.push(ManagedEntry { owner, time, fields: taken }),
        }
    }
    fold_old_updates(&mut managers);
    set_managed_fields(new, managers);
    Ok(())
}

/// Adds what every object has, where it is not there.
fn complete(object: &mut Value, zero: &Map<String, Value>) {
    let Some(object) = object.as_object_mut() else { return };
    for (name, inner) in zero {
        let place = object.entry(name).or_insert_with(|| inner.clone());
        if let Some(inner) = inner.as_object() {
            complete(place, inner);
        }
    }
}

/// Whether a client asks to forget all ownership: `managedFields: [{}]`, or a list of nothing.
fn resets(object: &Value) -> bool {
    let fields = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    match fields.map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.is_empty(),
        _ => false,
    }
}

/// kubectl sends `creationTimestamp: null`; merged, it would erase the stored one.
fn without_null_metadata(configuration: &Value) -> Value {
    let mut configuration = configuration.clone();
    if let Some(Value::Object(meta)) = configuration.get_mut("metadata") {
        meta.retain(|_, value| !value.is_null());
    }
    configuration
}

fn untracked(kind: ObjectType<'_>, live: &Value, manager: &Manager<'_>) -> ManagedEntry {
    let comparison = kind.compare(&Value::Object(Map::new()), live);
    let owner = Owner {
        manager: BEFORE_FIRST_APPLY.to_owned(),
        operation: Operation::Update,
        api_version: manager.api_version.to_owned(),
        subresource: manager.subresource.to_owned(),
    };
    let fields = manager.counted(comparison.added.difference(&UNOWNED));
    ManagedEntry { owner, time: Some(manager.now.to_owned()), fields }
}

/// What a write changes.
struct Change<'a> {
    kind: ObjectType<'a>,
    old: &'a Value,
    new: &'a Value,
    /// Who writes, in the version that they are of.
    manager: &'a Manager<'a>,
    comparison: &'a Comparison,
}

/// What is changed or added, and what is removed.
type Taken = (FieldSet, FieldSet);

/// The same in the names of each version.
struct ByVersion {
    own: Taken,
    others: BTreeMap<String, Taken>,
}

impl ByVersion {
    fn of(&self, version: &str) -> &Taken {
        self.others.get(version).unwrap_or(&self.own)
    }
}

impl Change<'_> {
    /// What is taken, in the names of each version that managers wrote in.
    fn by_version(&self, managers: &[ManagedEntry]) -> ByVersion {
        let sets = |comparison: &Comparison| {
            (comparison.modified.union(&comparison.added), comparison.removed.clone())
        };
        let mut others = BTreeMap::new();
        for entry in managers {
            let version = &entry.owner.api_version;
            if version == self.manager.api_version
                || !self.kind.is_apart(version)
                || others.contains_key(version)
            {
                continue;
            }
            let (_, old) = self.kind.in_version(self.old, version);
            let (kind, new) = self.kind.in_version(self.new, version);
            let seen = sets(&self.manager.counted_changes(kind.compare(&old, &new)));
            others.insert(version.clone(), seen);
        }
        ByVersion { own: sets(self.comparison), others }
    }
}

/// Bytes that conflicts are told in, but for the last of them: a client chooses the names of fields and of managers.
const TOLD_BYTES: usize = 1 << 20;

/// The conflicts with what managers own, as many as can be told.
fn conflicts_with(managers: &[ManagedEntry], changes: &ByVersion, spared: &FieldSet) -> Vec<Conflict> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for entry in managers {
        let (changed, _) = changes.of(&entry.owner.api_version);
        let owner = &entry.owner;
        let owner_bytes = owner.manager.len() + owner.api_version.len() + owner.subresource.len();
        let more = entry.fields.intersection(changed).each_leaf(spared, &mut |field| {
            found.push(Conflict { owner: owner.clone(), field: field.to_owned() });
            bytes += owner_bytes + field.len();
            bytes < TOLD_BYTES
        });
        if !more {
            break;
        }
    }
    found
}

/// Takes from all managers what the write changed or removed; true if any lost something.
fn take_over(
    managers: &mut [ManagedEntry],
    change: &Change<'_>,
    conflicts: Conflicts,
    spared: &FieldSet,
) -> Result<bool, ApplyError> {
    let changes = change.by_version(managers);
    if conflicts == Conflicts::Refuse {
        let found = conflicts_with(managers, &changes, spared);
        if !found.is_empty() {
            return Err(ApplyError::Conflicts(found));
        }
    }
    let mut lost = false;
    for entry in managers {
        let (changed, removed) = changes.of(&entry.owner.api_version);
        let kept = entry.fields.difference(changed).difference(removed);
        lost |= kept != entry.fields;
        entry.fields = kept;
    }
    Ok(lost)
}

/// Removes what the manager applied last time and does not apply now, unless somebody owns it. `owned` is by version.
fn prune(
    kind: ObjectType<'_>,
    merged: &Value,
    last: &ManagedEntry,
    owned: &BTreeMap<&str, FieldSet>,
    api_version: &str,
) -> Value {
    let version = last.owner.api_version.as_str();
    let (own, merged) = kind.in_version(merged, version);
    let last = own.with_named_fields(own.root, &last.fields);
    let mut pruned = own.without(&merged, &last);
    for (version, owned) in owned {
        // Put back what others own below something that was removed, with the fields on the way to it.
        let (seen, merged) = kind.in_version(&merged, version);
        let (_, left) = kind.in_version(&pruned, version);
        let named = |set: &FieldSet| seen.with_named_fields(seen.root, set);
        let all = named(&seen.field_set(&merged));
        let keep = named(&seen.field_set(&left)).union(&named(owned));
        pruned = seen.without(&merged, &all.difference(&keep));
    }
    // Put back what was not the manager's to remove: it dangled below an item that was.
    let named = |set: &FieldSet| own.with_named_fields(own.root, set);
    let (_, pruned) = kind.in_version(&pruned, version);
    let gone = named(&own.field_set(&merged)).difference(&named(&own.field_set(&pruned)));
    let pruned = own.without(&merged, &gone.intersection(&last));
    kind.in_version(&pruned, api_version).1
}
