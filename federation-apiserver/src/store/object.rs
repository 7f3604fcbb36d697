//! What the cache keeps of an object: its bytes, and the few facts that selectors and collectors ask for.
//!
//! A parsed `serde_json::Value` costs eleven times the memory of its text and a typed object nine times, so neither is
//! kept: reads answer with the stored bytes, and only writes parse.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Key;

/// An owner reference: `metadata.ownerReferences[]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRef {
    /// The owner's uid: the only part that identifies it.
    pub uid: String,
    /// Kind, for finding the owner's resource.
    pub kind: String,
    /// Name.
    pub name: String,
    /// `apps/v1`.
    pub api_version: String,
    /// `blockOwnerDeletion`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub block: bool,
    /// `controller`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub controller: bool,
}

impl OwnerRef {
    /// Reads one element of `metadata.ownerReferences`.
    pub fn from_value(reference: &Value) -> Self {
        let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
        let flag = |field: &str| reference[field].as_bool().unwrap_or_default();
        Self {
            uid: text("uid"),
            kind: text("kind"),
            name: text("name"),
            api_version: text("apiVersion"),
            block: flag("blockOwnerDeletion"),
            controller: flag("controller"),
        }
    }

    /// The API group of the owner; empty for core.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// The facts of an object that are asked for without reading its bytes. Name and namespace stand in its [`Key`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `metadata.ownerReferences`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<OwnerRef>,
    /// `metadata.finalizers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Whether `metadata.deletionTimestamp` is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// `metadata.creationTimestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Values that field selectors of this resource may ask for, by selector path (`status.phase`); the caller chooses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl Meta {
    /// Reads the facts out of an object. `fields` are the selectable field values of its resource.
    pub fn from_value(object: &Value, fields: BTreeMap<String, String>) -> Self {
        let metadata = &object["metadata"];
        Self {
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            labels: metadata["labels"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            owners: metadata["ownerReferences"]
                .as_array()
                .into_iter()
                .flatten()
                .map(OwnerRef::from_value)
                .collect(),
            finalizers: metadata["finalizers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|finalizer| finalizer.as_str().map(str::to_owned))
                .collect(),
            deleting: metadata["deletionTimestamp"].is_string(),
            created: metadata["creationTimestamp"].as_str().and_then(|time| time.parse().ok()),
            fields,
        }
    }
}

/// One state of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it is.
    pub key: Key,
    /// The write that made this state; the number in `metadata.resourceVersion`. For the last state of a deleted object it
    /// is the deletion's revision.
    pub revision: u64,
    /// The object as JSON, `metadata.resourceVersion` inside: what GET, LIST and WATCH send.
    pub bytes: Bytes,
    /// Facts about it.
    pub meta: Meta,
}

impl Stored {
    /// Parses the object.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }
}
