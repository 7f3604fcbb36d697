//! `metadata.managedFields`: who owns which fields.

use std::{collections::HashMap, fmt};

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

/// Who owns: two entries with the same owner are one.
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

/// Reads the managed fields of an object; none at all is an empty list.
pub fn managed_fields(object: &Value) -> Result<Vec<ManagedEntry>, ManagedError> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut out: Vec<ManagedEntry> = Vec::new();
    let mut places: HashMap<Owner, usize> = HashMap::new();
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match entry.get("operation").and_then(Value::as_str) {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err(ManagedError::Entry(index)),
        };
        if !matches!(text("fieldsType").as_str(), "FieldsV1" | "") {
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
        match places.get(&owner).and_then(|at| out.get_mut(*at)) {
            Some(known) => known.fields.add(fields),
            None => {
                places.insert(owner.clone(), out.len());
                out.push(ManagedEntry { owner, time, fields });
            }
        }
    }
    Ok(out)
}

/// Writes the managed fields into an object, in kube-apiserver's order; an empty list removes the field.
pub(super) fn set_managed_fields(object: &mut Value, mut entries: Vec<ManagedEntry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    fold_old_updates(&mut entries);
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

/// Folds the oldest entries of operation Update into one for each version and subresource, until few enough are left.
fn fold_old_updates(entries: &mut Vec<ManagedEntry>) {
    let (mut ancient, mut order) = (HashMap::new(), Vec::new());
    let place = |owner: &Owner| (owner.api_version.clone(), owner.subresource.clone());
    for (at, entry) in entries.iter().enumerate() {
        match (entry.owner.operation, &*entry.owner.manager) {
            (Operation::Apply, _) => {}
            (Operation::Update, ANCIENT) => drop(ancient.insert(place(&entry.owner), at)),
            (Operation::Update, _) => order.push((entry.time.clone(), at)),
        }
    }
    let mut updates = ancient.len() + order.len();
    order.sort();
    for (time, at) in order {
        if updates <= MAX_UPDATE_MANAGERS {
            break;
        }
        let Some(entry) = entries.get_mut(at) else { continue };
        let into = *ancient.entry(place(&entry.owner)).or_insert(at);
        if into == at {
            ANCIENT.clone_into(&mut entry.owner.manager);
            continue;
        }
        // What owns nothing any more is left out below.
        let fields = std::mem::take(&mut entry.fields);
        if let Some(known) = entries.get_mut(into) {
            known.fields.add(fields);
            known.time = known.time.take().max(time);
        }
        updates -= 1;
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
