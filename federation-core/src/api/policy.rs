//! The kinds PlacementPolicy and ClusterPlacementPolicy: the users' rules for placement.

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

/// Status of a policy.
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
    /// What happens to the copies when the object is deleted without a propagationPolicy. Orphan if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Propagation>,
    /// What happens when a member already has an object of that name that the federation does not manage. Refuse if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
}

/// Selects objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSelector {
    /// For example `apps/v1`. Only the group matters: objects written in another version of it are selected, too.
    pub api_version: String,
    /// For example `Deployment`. Selecting a kind that is not federated by default (Job, HorizontalPodAutoscaler, a custom kind) makes it
    /// federated.
    pub kind: String,
    /// Name of the object; all objects of the kind if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Selects by label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub label_selector: Option<LabelSelector>,
}

/// Selects clusters: those in `names` (all if empty) that match `labelSelector` and are not in `exclude`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSelection {
    /// Names of clusters; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Selects by label of the Cluster object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub label_selector: Option<LabelSelector>,
    /// Names of clusters that are never selected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Taints that are tolerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// Tolerates taints with this key (any key if empty) and, if set, this value.
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

/// How replicas are divided over the clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaPolicy {
    /// Divide (default) or Duplicate.
    pub mode: ReplicaMode,
    /// Shares by cluster name; `*` stands for all others. If empty, all clusters have equal weights. Otherwise a cluster without a share gets no replicas.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, ClusterShare>,
    /// Move running replicas when the desired division changes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rebalance: bool,
}

/// Whether replicas are divided or duplicated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReplicaMode {
    /// The template's replicas are divided over the clusters.
    #[default]
    Divide,
    /// Every cluster runs as many replicas as the template says.
    Duplicate,
}

/// One cluster's share, as in Federation v1's ClusterReplicaSetPreferences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterShare {
    /// Relative weight for the replicas left after all minima; at least 0.
    pub weight: i64,
    /// Minimum number of replicas, if there are enough.
    pub min_replicas: i64,
    /// Maximum number of replicas.
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
    /// Seconds of a bad verdict after which replicas are placed elsewhere; the controller's `--evict-after` if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evict_after_seconds: Option<u32>,
    /// Whether availability or exclusivity matters more when a cluster is unreachable. Only for kinds with replicas.
    pub prefer: FailoverPreference,
    /// When a cluster that was lost and replaced gets its share back. Until then its copy stays unchanged and gets no users.
    #[serde(skip_serializing_if = "is_default")]
    pub failback: FailbackPolicy,
}

/// When a cluster that was lost and replaced gets its share back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailbackPolicy {
    /// Automatically, or when an operator allows it.
    pub mode: FailbackMode,
    /// Seconds for which it must have been healthy without interruption; 0 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub after_seconds: Option<u32>,
}

/// What brings a cluster's share back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailbackMode {
    /// The cluster has been healthy for long enough.
    #[default]
    Automatic,
    /// Additionally, an operator has run `fedctl failback` since the cluster became healthy.
    Manual,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What matters more when a cluster is unreachable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailoverPreference {
    /// That it runs: lost replicas are replaced even if it is not certain that they have stopped.
    #[default]
    Availability,
    /// That it runs in only one cluster at a time: its agent stops the replicas when it has not heard from the hub for the time of its lease,
    /// and another cluster starts them only after that.
    Exclusivity,
}

/// What a delete does to the copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Propagation {
    /// The copies stay, unmanaged.
    #[default]
    Orphan,
    /// The copies are removed, through the gate.
    Delete,
}

/// What to do with an existing object in a member that the federation does not manage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Conflict {
    /// Leave it unchanged and report the conflict.
    #[default]
    Refuse,
    /// Take it over; when the copy is removed later, the object stays, unmanaged.
    Adopt,
    /// Take it over; when the copy is removed later, the object is deleted.
    Overwrite,
}
