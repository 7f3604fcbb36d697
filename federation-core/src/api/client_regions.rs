//! The kind ClientRegions: which region clients of an address prefix are in, and which clusters are near.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// Regions of DNS clients, by address prefix.
    ClientRegions, "clientregions", k8s_openapi::ClusterResourceScope, ClientRegionsSpec, ClientRegionsStatus
}

/// Regions of DNS clients. All ClientRegions objects form one table; if two define the same prefix, the one whose name sorts first wins.
/// A client belongs to the region of its longest matching prefix. Without a match it has no region, and gets the answer of a TrafficPolicy
/// without `proximity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientRegionsSpec {
    /// Regions by name. Clusters with this name as `spec.region` are in the region.
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
    /// Countries of its clients, unless a prefix matches: ISO 3166-1 alpha-2 codes, upper case. DNS servers need a database for this
    /// (`--geo-database`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// Continents of its clients, unless a prefix or country matches: AF, AN, AS, EU, NA, OC, SA.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub continents: Vec<String>,
    /// Regions of clusters, nearest first, for TrafficPolicies whose proximity is Nearest. Regions not named follow by distance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
    /// Latitude and longitude in decimal degrees, such as `25.04,121.56`. Distances are computed between regions that have a location, so
    /// regions that only have clusters should be listed, too, without prefixes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Names (`--instance`) of DNS servers whose probes measure the round-trip times from this region.
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
    /// Number of its prefixes that are in the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<u32>,
    /// What was left out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
