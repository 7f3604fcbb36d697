//! `metadata.managedFields`: who owns which fields.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use serde_json::{Map, Value, json};

use super::fieldset::{DecodeError, FieldSet};

/// Entries of operation Update that an object keeps; older ones are folded into one, as in kube-apiserver.
pub const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    /// The wire form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The field manager's name.
    pub manager: String,
    /// Apply or Update.
    pub operation: Operation,
    /// The API version in which the fields are named.
    pub api_version: String,
    /// `status`, `scale`, or empty for the main resource.
    pub subresource: String,
}

impl Owner {
    /// What tells owners apart: whoever applies is the same in every version.
    fn identity(&self) -> Self {
        match self.operation {
            Operation::Apply => Self { api_version: String::new(), ..self.clone() },
            Operation::Update => self.clone(),
        }
    }
}

/// As conflict messages name an owner: `"mgr"`, with ` using v1` when it was an Update.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// One entry of `metadata.managedFields`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedEntry {
    /// Who owns.
    pub owner: Owner,
    /// When the entry last changed, RFC 3339 to the second, in UTC.
    pub time: Option<String>,
    /// What is owned.
    pub fields: FieldSet,
}

/// Why `metadata.managedFields` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// An entry is not an object or lacks manager, operation or version.
    #[error("metadata.managedFields[{0}] is not a managed fields entry")]
    Entry(usize),
    /// The fieldsType is not FieldsV1.
    #[error("metadata.managedFields[{0}].fieldsType must be FieldsV1")]
    FieldsType(usize),
    /// The fields cannot be read.
    #[error("metadata.managedFields[{index}].fieldsV1: {source}")]
    Fields {
        /// Which entry.
        index: usize,
        /// Why.
        source: DecodeError,
    },
}

/// Reads the managed fields of an object; none at all is an empty list. Of several entries of one owner the last counts, as in kube-apiserver.
pub fn managed_fields(object: &Value) -> Result<Vec<ManagedEntry>, ManagedError> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut out: Vec<ManagedEntry> = Vec::new();
    let mut places = HashMap::new();
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match entry.get("operation").and_then(Value::as_str) {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err(ManagedError::Entry(index)),
        };
        if text("apiVersion").is_empty() {
            return Err(ManagedError::Entry(index));
        }
        if text("fieldsType") != "FieldsV1" {
            return Err(ManagedError::FieldsType(index));
        }
        let fields = match entry.get("fieldsV1") {
            Some(fields) => {
                FieldSet::from_value(fields).map_err(|source| ManagedError::Fields { index, source })?
            }
            None => FieldSet::default(),
        };
        let owner = Owner {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        };
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        let entry = ManagedEntry { owner, time, fields };
        match places.entry(entry.owner.identity()) {
            Entry::Occupied(known) => {
                if let Some(known) = out.get_mut(*known.get()) {
                    *known = entry;
                }
            }
            Entry::Vacant(place) => {
                place.insert(out.len());
                out.push(entry);
            }
        }
    }
    Ok(out)
}

/// Writes the managed fields into an object, in kube-apiserver's order; an empty list removes the field.
pub(super) fn set_managed_fields(object: &mut Value, mut entries: Vec<ManagedEntry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| {
        let (one, other) = (&a.owner, &b.owner);
        (one.operation, &a.time, &one.manager, &one.api_version, &one.subresource).cmp(&(
            other.operation,
            &b.time,
            &other.manager,
            &other.api_version,
            &other.subresource,
        ))
    });
    if entries.is_empty() {
        remove_managed_fields(object);
        return;
    }
    let entries = entries.iter().map(entry_value).collect();
    if let Value::Object(object) = object {
        let meta = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(meta) = meta {
            meta.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }
}

/// Takes the managed fields off an object.
pub fn remove_managed_fields(object: &mut Value) {
    if let Some(Value::Object(meta)) = object.get_mut("metadata") {
        meta.remove("managedFields");
    }
}

/// Folds the oldest entries of operation Update into one for each version, until few enough are left. A version that has only one of them
/// keeps it.
///
/// Follows `capManagersManager` of apimachinery's managed fields, which an apply goes past.
pub(super) fn fold_old_updates(entries: &mut Vec<ManagedEntry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    let is_update = |entry: &&ManagedEntry| entry.owner.operation == Operation::Update;
    let mut left = entries.iter().filter(is_update).count();
    if left <= MAX_UPDATE_MANAGERS {
        return;
    }
    let mut order: Vec<usize> =
        (0..entries.len()).filter(|at| entries.get(*at).as_ref().is_some_and(is_update)).collect();
    order.sort_by_cached_key(|at| entries.get(*at).map(|entry| (entry.time.clone(), entry.owner.clone())));
    let bucket = |(at, entry): (usize, &ManagedEntry)| {
        let Owner { manager, subresource, api_version, .. } = &entry.owner;
        (is_update(&entry) && manager == ANCIENT && subresource.is_empty()).then(|| (api_version.clone(), at))
    };
    let mut buckets: HashMap<String, usize> = entries.iter().enumerate().filter_map(bucket).collect();
    let mut firsts = HashMap::new();
    for at in order {
        if left <= MAX_UPDATE_MANAGERS {
            break;
        }
        let Some(entry) = entries.get_mut(at) else { continue };
        let version = entry.owner.api_version.clone();
        let Some(first) = firsts.get(&version) else {
            firsts.insert(version, at);
            continue;
        };
        let into = *buckets.entry(version).or_insert(*first);
        if into == at {
            continue;
        }
        // What owns nothing any more is left out below.
        let (fields, time) = (std::mem::take(&mut entry.fields), entry.time.take());
        if let Some(known) = entries.get_mut(into) {
            ANCIENT.clone_into(&mut known.owner.manager);
            known.owner.subresource.clear();
            known.fields.add(fields);
            // It is of later than what was folded before.
            known.time = time;
        }
        left -= 1;
    }
    entries.retain(|entry| !entry.fields.is_empty());
}

fn entry_value(entry: &ManagedEntry) -> Value {
    let mut value = json!({
        "manager": entry.owner.manager,
        "operation": entry.owner.operation.as_str(),
        "apiVersion": entry.owner.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": entry.fields.to_value(),
    });
    if let Value::Object(object) = &mut value {
        if let Some(time) = &entry.time {
            object.insert("time".to_owned(), time.as_str().into());
        }
        if !entry.owner.subresource.is_empty() {
            object.insert("subresource".to_owned(), entry.owner.subresource.as_str().into());
        }
    }
    value
}
