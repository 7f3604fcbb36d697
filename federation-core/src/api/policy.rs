//! The kinds PlacementPolicy and ClusterPlacementPolicy: what users say of placement.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// Placement rules for objects of one namespace.
    PlacementPolicy, "placementpolicies", k8s_openapi::NamespaceResourceScope, PlacementPolicySpec, PolicyStatus
}

kind! {
    /// Placement rules for objects of any namespace, and for cluster-scoped ones.
    ClusterPlacementPolicy, "clusterplacementpolicies", k8s_openapi::ClusterResourceScope, PlacementPolicySpec, PolicyStatus
}

/// Policies have no status of their own yet beyond what is common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Placement rules. Where several policies select one object, a PlacementPolicy wins over a ClusterPlacementPolicy, a
/// selector with a name over one without, and the older policy over the younger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementPolicySpec {
    /// Which objects; at least one.
    pub resource_selectors: Vec<ResourceSelector>,
    /// Which clusters; all ready ones if unset.
    pub clusters: ClusterSelection,
    /// How replicas are divided.
    pub replicas: ReplicaPolicy,
    /// Changes for some clusters, applied in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// What happens when a cluster fails.
    pub failover: FailoverPolicy,
    /// What a delete that names no propagationPolicy does to the copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Propagation>,
    /// What happens when a member already has an object of that name that is not the federation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
}

/// Selects objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSelector {
    /// For example `apps/v1`. Objects are selected in whatever version of the group they were written.
    pub api_version: String,
    /// For example `Deployment`. A kind that is not federated by default (Job, HorizontalPodAutoscaler, a custom kind) is federated
    /// where a policy selects it.
    pub kind: String,
    /// One object; all of the kind if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// By label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub label_selector: Option<LabelSelector>,
}

/// Selects clusters: those named (all if none is), that match the selector, less the excluded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSelection {
    /// By name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// By label of the Cluster object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub label_selector: Option<LabelSelector>,
    /// Never these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Taints that are put up with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// Tolerates taints of one key (all, if the key is empty) and, if given, one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// Key of the taint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Value of the taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How replicas are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaPolicy {
    /// Divide (default) or Duplicate.
    pub mode: ReplicaMode,
    /// By cluster name; `*` stands for every other. Equal weights if empty. A cluster that no entry names gets none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, ClusterShare>,
    /// Move running replicas when the wanted division changes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rebalance: bool,
}

/// How replicas are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReplicaMode {
    /// The template's replicas are divided: the copies sum to spec.
    #[default]
    Divide,
    /// Every cluster runs the template's replicas.
    Duplicate,
}

/// One cluster's share, as in Federation v1's ClusterReplicaSetPreferences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterShare {
    /// Relative weight of what is left after minima, at least 0.
    pub weight: i64,
    /// At least so many, if there are enough.
    pub min_replicas: i64,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i64>,
}

/// A change for some clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Override {
    /// Names of clusters; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// JSON Patch (RFC 6902) operations on the manifest.
    pub json_patch: Vec<serde_json::Value>,
}

/// What happens when a cluster fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverPolicy {
    /// Seconds of a bad verdict after which replicas are planned elsewhere; the controller's default if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evict_after_seconds: Option<u32>,
    /// What matters more when a cluster is out of reach. Kinds without replicas are not concerned.
    pub prefer: FailoverPreference,
    /// When a cluster that was lost, and replaced, gets its share again. Until then its copy stays as it was left, and no users are sent there.
    #[serde(skip_serializing_if = "is_default")]
    pub failback: FailbackPolicy,
}

/// When a cluster that was lost, and replaced, gets its share again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailbackPolicy {
    /// By itself, or by a person's word.
    pub mode: FailbackMode,
    /// Seconds for which it must have been healthy without a break; 0 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub after_seconds: Option<u32>,
}

/// Whose word brings a cluster's share back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailbackMode {
    /// Nobody's: it is healthy for long enough.
    #[default]
    Automatic,
    /// An operator's, since it has been healthy again: `fedctl failback`.
    Manual,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What matters more when a cluster is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailoverPreference {
    /// That it runs: replicas are divided, and replaced before the lost ones are known to be down.
    #[default]
    Availability,
    /// That it runs once: all replicas are in one cluster, whose agent stops them when the hub has not been heard for its lease, and
    /// another cluster starts only after that.
    Exclusivity,
}

/// What a delete does to the copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Propagation {
    /// The copies stay, and are the federation's no more.
    #[default]
    Orphan,
    /// The copies are removed, through the gate.
    Delete,
}

/// What to do with a member's object that is not the federation's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Conflict {
    /// Leave it, and say so.
    #[default]
    Refuse,
    /// Apply on top; a later Remove releases it.
    Adopt,
    /// Apply on top; a later Remove deletes it.
    Overwrite,
}
