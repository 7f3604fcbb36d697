//! The kind ClientRegions: which region the users of an address prefix are in, and what is near to them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// Regions of DNS clients, by address prefix.
    ClientRegions, "clientregions", k8s_openapi::ClusterResourceScope, ClientRegionsSpec, ClientRegionsStatus
}

/// Regions of DNS clients. All ClientRegions objects together are one table; of a prefix that two of them name, the object whose name
/// sorts first has it. A client is of the region of its longest prefix, and of none if no prefix holds it: it then gets what
/// a TrafficPolicy without `proximity` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientRegionsSpec {
    /// By name. A region whose name is that of Clusters' `spec.region` has these clusters for its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, ClientRegion>,
}

/// One region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientRegion {
    /// Address prefixes of its clients, such as `203.0.113.0/24` or `2001:db8::/32`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Countries whose clients are here where no prefix says otherwise: ISO 3166-1 alpha-2 codes, upper case. DNS servers need a
    /// database for it (`--geo-database`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// Continents likewise, where no country says otherwise: AF, AN, AS, EU, NA, OC, SA.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub continents: Vec<String>,
    /// Regions of clusters, nearest first, for TrafficPolicies whose proximity is Nearest. Regions not named follow by distance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
    /// Where it lies: latitude and longitude in decimal degrees, such as `25.04,121.56`. Distances are reckoned between regions that
    /// say where they lie, so regions of clusters are named here too, without prefixes if they have none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Instances of DNS servers whose probes measure the round-trip times from this region.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vantages: Vec<String>,
}

/// What the controller found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientRegionsStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Prefixes that are in the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<u32>,
    /// What was left out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
