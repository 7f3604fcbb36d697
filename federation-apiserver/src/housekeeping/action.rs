//! Actions that decisions request.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    crd::TakenNames,
    deletion::{self, Propagation, seconds},
    store::Key,
};

/// One thing to do to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make it, if it is absent.
    Create {
        /// Where.
        key: Key,
        /// What, without uid and times.
        object: Value,
    },
    /// Delete it as a client would, if it still is the one with this uid.
    Delete {
        /// Which.
        key: Key,
        /// Its uid.
        uid: String,
        /// What the delete asks for.
        propagation: Option<Propagation>,
        /// Only if it still is at this revision.
        revision: Option<u64>,
    },
    /// Tell of a pod that it failed, if it has not ended, and delete it without grace, if it still is the one with this uid.
    End {
        /// Which.
        key: Key,
        /// Its uid.
        uid: String,
        /// Why: a condition of its status.
        condition: Option<Condition>,
    },
    /// Change it, if it still is the one with this uid. What the change releases is removed.
    Edit {
        /// Which.
        key: Key,
        /// Its uid.
        uid: String,
        /// How.
        edit: Edit,
    },
}

impl Action {
    /// The object it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. }
            | Self::Delete { key, .. }
            | Self::End { key, .. }
            | Self::Edit { key, .. } => key,
        }
    }
}

/// A change of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Drop the owner references with these uids.
    DropOwners(Vec<String>),
    /// No owner's end waits for it any more.
    UnblockOwners,
    /// Drop a finalizer.
    DropFinalizer(&'static str),
    /// Add a finalizer.
    AddFinalizer(&'static str),
    /// Drop `kubernetes` from a namespace's `spec.finalizers`.
    FinalizeNamespace,
    /// Set status conditions: type, status, reason, message.
    Conditions(Vec<Condition>),
    /// Set `data`.
    Data(Value),
    /// Set these top-level fields; of `metadata`, the fields that are given.
    Parts(Value),
    /// Set `status.certificate`, base64, if none was issued yet.
    Certificate(String),
    /// Bring a definition's status up to date, given the names that others hold.
    Accept(TakenNames),
}

/// One status condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

/// Takes dropped owner references out of the record of who owns fields; `all` if the list itself is gone. Who owns nothing
/// more is not recorded.
fn disown(metadata: &mut Map<String, Value>, uids: &[String], all: bool) {
    let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) else { return };
    let dropped: HashSet<_> = uids.iter().map(|uid| format!(r#"k:{{"uid":"{uid}"}}"#)).collect();
    entries.retain_mut(|entry| {
        let Some(fields) = entry["fieldsV1"].as_object_mut() else { return true };
        let Some(owned) = fields.get_mut("f:metadata").and_then(Value::as_object_mut) else { return true };
        let Some(references) = owned.get_mut("f:ownerReferences").and_then(Value::as_object_mut) else {
            return true;
        };
        references.retain(|key, _| !dropped.contains(key));
        if all || references.is_empty() {
            owned.remove("f:ownerReferences");
        }
        if owned.is_empty() {
            fields.remove("f:metadata");
        }
        !fields.is_empty()
    });
    if entries.is_empty() {
        metadata.remove("managedFields");
    }
}

impl Edit {
    /// Makes the change.
    pub fn apply(&self, object: &mut Value, now: Timestamp) {
        match self {
            Self::DropOwners(uids) => {
                let Some(metadata) = object["metadata"].as_object_mut() else { return };
                let Some(owners) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) else {
                    return;
                };
                let dropped: HashSet<&str> = uids.iter().map(String::as_str).collect();
                owners.retain(|owner| !owner["uid"].as_str().is_some_and(|uid| dropped.contains(uid)));
                let none = owners.is_empty();
                if none {
                    metadata.remove("ownerReferences");
                }
                disown(metadata, uids, none);
            }
            Self::UnblockOwners => {
                let owners = object["metadata"].get_mut("ownerReferences").and_then(Value::as_array_mut);
                for owner in owners.into_iter().flatten() {
                    if owner["blockOwnerDeletion"] == true {
                        owner["blockOwnerDeletion"] = false.into();
                    }
                }
            }
            Self::DropFinalizer(name) => {
                let mut finalizers = deletion::finalizers(object);
                finalizers.retain(|finalizer| finalizer != name);
                deletion::set_finalizers(object, &finalizers);
            }
            Self::AddFinalizer(name) => {
                let mut finalizers = deletion::finalizers(object);
                if !finalizers.iter().any(|finalizer| finalizer == name) {
                    finalizers.push((*name).to_owned());
                }
                deletion::set_finalizers(object, &finalizers);
            }
            Self::FinalizeNamespace => {
                if let Some(spec) = object["spec"].as_object_mut() {
                    if let Some(finalizers) = spec.get_mut("finalizers").and_then(Value::as_array_mut) {
                        finalizers.retain(|finalizer| finalizer != "kubernetes");
                    }
                    if spec.get("finalizers").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                        spec.remove("finalizers");
                    }
                }
            }
            Self::Conditions(conditions) => {
                for condition in conditions {
                    condition.set(object, now);
                }
            }
            Self::Data(data) => object["data"] = data.clone(),
            Self::Parts(parts) => {
                for (name, value) in parts.as_object().into_iter().flatten() {
                    if name != "metadata" {
                        object[name] = value.clone();
                        continue;
                    }
                    for (name, value) in value.as_object().into_iter().flatten() {
                        object["metadata"][name] = value.clone();
                    }
                }
            }
            Self::Certificate(certificate) => {
                let issued = &mut object["status"]["certificate"];
                if issued.as_str().is_none_or(str::is_empty) {
                    *issued = certificate.as_str().into();
                }
            }
            Self::Accept(taken) => crate::crd::status::settle(object, taken, &seconds(now)),
        }
    }
}

impl Condition {
    /// Sets it in the status of an object.
    pub(super) fn set(&self, object: &mut Value, now: Timestamp) {
        let status = if self.holds { "True" } else { "False" };
        let conditions = &mut object["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let Some(conditions) = conditions.as_array_mut() else { return };
        let at = conditions.iter().position(|condition| condition["type"] == self.kind);
        let since = at
            .filter(|at| conditions[*at]["status"] == status)
            .map_or_else(|| json!(seconds(now)), |at| conditions[at]["lastTransitionTime"].clone());
        let condition = json!({
            "type": self.kind, "status": status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": since,
        });
        match at {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_owners_are_nobodys_fields() {
        let owner = |uid: &str| json!({"uid": uid, "name": "o"});
        let mut object = json!({"metadata": {
            "ownerReferences": [owner("a"), owner("b")],
            "managedFields": [
                {"manager": "m", "fieldsV1": {"f:metadata": {"f:ownerReferences": {".": {}, "k:{\"uid\":\"a\"}": {}, "k:{\"uid\":\"b\"}": {}}}}},
                {"manager": "n", "fieldsV1": {"f:data": {}, "f:metadata": {"f:ownerReferences": {"k:{\"uid\":\"a\"}": {}}}}},
            ],
        }});
        Edit::DropOwners(vec!["a".into()]).apply(&mut object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            object["metadata"]["managedFields"],
            json!([
                {"manager": "m", "fieldsV1": {"f:metadata": {"f:ownerReferences": {".": {}, "k:{\"uid\":\"b\"}": {}}}}},
                {"manager": "n", "fieldsV1": {"f:data": {}}},
            ])
        );
        Edit::DropOwners(vec!["b".into()]).apply(&mut object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            object["metadata"],
            json!({"managedFields": [{"manager": "n", "fieldsV1": {"f:data": {}}}]})
        );
    }

    #[test]
    fn many_owners_take_little_to_drop() {
        let uids: Vec<String> = (0..20_000).map(|at| format!("u{at}")).collect();
        let key = |uid: &str| (format!(r#"k:{{"uid":"{uid}"}}"#), json!({}));
        let owners: Vec<Value> =
            uids.iter().map(String::as_str).chain(["stays"]).map(|uid| json!({"uid": uid})).collect();
        let owned: Map<String, Value> = uids.iter().map(String::as_str).chain(["stays"]).map(key).collect();
        let fields = json!({"f:metadata": {"f:ownerReferences": owned}});
        let mut object = json!({"metadata": {
            "ownerReferences": owners, "managedFields": [{"manager": "m", "fieldsV1": fields}],
        }});
        Edit::DropOwners(uids).apply(&mut object, Timestamp::UNIX_EPOCH);
        let owned = json!({"f:metadata": {"f:ownerReferences": {"k:{\"uid\":\"stays\"}": {}}}});
        assert_eq!(
            object["metadata"],
            json!({"ownerReferences": [{"uid": "stays"}], "managedFields": [{"manager": "m", "fieldsV1": owned}]})
        );
    }
}
