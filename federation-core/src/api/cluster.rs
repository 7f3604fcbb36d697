//! The kind Cluster: one member of the federation.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// A member cluster.
    Cluster, "clusters", k8s_openapi::ClusterResourceScope, ClusterSpec, ClusterStatus
}

/// An operator's settings for a member cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSpec {
    /// Region, for example `asia-east`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Zone inside the region.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Provider, for example a cloud's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// Taints that keep placements away, or evict them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Weight among the clusters of a tier in DNS answers, 0 to 1000; 100 if unset. 0 means no traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub traffic_weight: Option<u32>,
    /// Whether the hub accepts this cluster's agent; true if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub_accepts: Option<bool>,
    /// No new placements; existing copies stay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// IP addresses at which users reach this cluster's Services, if the Services have none of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// Keeps placements that do not tolerate it away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Qualified name.
    pub key: String,
    /// Optional value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Effect on placements that do not tolerate it.
    pub effect: TaintEffect,
}

/// What a taint does to placements that do not tolerate it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No new placements.
    #[default]
    NoSchedule,
    /// No new placements, and existing copies move away, through the gate.
    NoExecute,
}

/// What the federation observed of a member cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// `Joined`, `Ready`, `Reachable`, `Serving`, `Frozen`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub conditions: Vec<Condition>,
    /// The one health verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why the verdict is what it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verdict_reason: String,
    /// Epoch of the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// When the last heartbeat came; written at most every 10 s, and when the verdict changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_heartbeat_time: Option<Time>,
    /// Version of the member's API server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kubernetes_version: String,
    /// Version of the agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent_version: String,
    /// APIs that the member serves, as `group/version/Kind`; `v1/Secret` for core.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<String>,
    /// Allocatable resources, as quantities: `cpu`, `memory`, `pods`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: BTreeMap<String, String>,
    /// Allocatable less what is requested.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub free: BTreeMap<String, String>,
    /// Ready nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_nodes: Option<u32>,
    /// Expiry of the agent's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub certificate_not_after: Option<Time>,
    /// Objects that the agent holds as desired state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u32>,
}

/// The health of a cluster, as decided from all votes. Traffic and replicas both follow it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Verdict {
    /// No vote yet.
    #[default]
    Unknown,
    /// All is well.
    Healthy,
    /// The agent does not reach the hub; users may still be served.
    HubUnreachable,
    /// The member's API server does not answer its agent.
    ApiDown,
    /// Users are not served.
    DataPlaneDown,
    /// Voters disagree: some see users served, others do not.
    Partitioned,
}

/// Condition types of a Cluster.
pub mod conditions {
    /// A certificate was issued and the agent connected with it.
    pub const JOINED: &str = "Joined";
    /// The verdict is Healthy.
    pub const READY: &str = "Ready";
    /// Heartbeats arrive.
    pub const REACHABLE: &str = "Reachable";
    /// Users are sent here.
    pub const SERVING: &str = "Serving";
    /// Removals are frozen, with the reason.
    pub const FROZEN: &str = "Frozen";
}
