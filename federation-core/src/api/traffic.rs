//! The kind TrafficPolicy: which DNS answers users of one Service get.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HealthCheck;
use super::resource::kind;

kind! {
    /// DNS answers for one Service.
    TrafficPolicy, "trafficpolicies", k8s_openapi::NamespaceResourceScope, TrafficPolicySpec, TrafficPolicyStatus
}

/// DNS answers for one Service. A Service without a TrafficPolicy is answered with the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicySpec {
    /// Name of the Service, in the same namespace.
    pub service: String,
    /// Host names inside the federation's zone, besides the Service's own names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// How clusters are chosen.
    pub strategy: Strategy,
    /// For Failover: cluster names, best first; clusters not named come last, together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// For Weighted: by cluster name; the Cluster's trafficWeight if not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
    /// Seconds; the zone's default if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub ttl_seconds: Option<u32>,
    /// How probers look whether users are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// How clusters are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// All serving clusters, each answer one of them, by weight.
    #[default]
    Weighted,
    /// The first serving cluster in order.
    Failover,
    /// All serving clusters in each answer.
    All,
}

/// What is answered now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicyStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Clusters that are answered now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answering: Vec<String>,
    /// Epoch of the zone that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}
