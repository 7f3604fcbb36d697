//! `audit.k8s.io/v1` Event. Its members stand in the order of the alphabet, and nothing is copied to write it.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

/// One event; a record fills it in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<Cow<'static, str>, Cow<'static, str>>,
    pub(super) api_version: &'static str,
    #[serde(rename = "auditID")]
    pub(super) audit_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authentication_metadata: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<Value>,
    pub(super) kind: &'static str,
    pub(super) level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Value>,
    pub(super) request_received_timestamp: MicroTime,
    #[serde(rename = "requestURI")]
    pub(super) request_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<ResponseStatus>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub(super) source_ips: Vec<IpAddr>,
    pub(super) stage: &'static str,
    pub(super) stage_timestamp: MicroTime,
    /// The user as JSON: it stands in each event of the request.
    pub(super) user: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user_agent: String,
    pub(super) verb: String,
}

/// How it was that the user could act as another.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) impersonation_constraint: String,
}

/// What a request is about.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) api_group: String,
    pub(crate) api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    pub(crate) resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) subresource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

/// How a request ended.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ResponseStatus {
    /// With a code and nothing to say about it.
    Code { code: u16, metadata: Empty },
    /// With a Status.
    Status(Value),
}

/// `{}`
#[derive(Serialize)]
pub(super) struct Empty {}

/// `metav1.MicroTime`.
#[derive(Clone, Copy)]
pub(super) struct MicroTime(pub(super) Timestamp);

impl Serialize for MicroTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}
