//! The kinds Placement and ClusterPlacement: where one template goes, and why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// The decision for one namespaced template. Made by the controller; nobody else writes it.
    Placement, "placements", k8s_openapi::NamespaceResourceScope, PlacementSpec, PlacementStatus
}

kind! {
    /// The decision for one cluster-scoped template.
    ClusterPlacement, "clusterplacements", k8s_openapi::ClusterResourceScope, PlacementSpec, PlacementStatus
}

/// The decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementSpec {
    /// What is placed.
    pub template: TemplateReference,
    /// Where, ordered by name.
    pub clusters: Vec<ClusterTarget>,
    /// Hash of what users wrote and of how each cluster stands. Informational: an equal hash means that the decision tends to the same end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub inputs_hash: String,
    /// Name of the policy that decided, `ClusterPlacementPolicy/x` or `PlacementPolicy/x`; empty for the defaults.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// metadata.generation of that policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_generation: Option<i64>,
    /// For an exclusive workload: the lease that agents are given with this decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Epoch of the decision.
    pub epoch: u64,
    /// What members did by contingency plans while the hub was away, and this decision started from. Ordered by cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adopted: Vec<AdoptedPlan>,
    /// Copies of earlier templates of this name, in clusters where this one is not placed, until their agents have released them. Ordered by
    /// cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerCopy>,
}

/// A copy of an earlier template of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FormerCopy {
    /// The Cluster's name.
    pub cluster: String,
    /// UID of that template.
    pub uid: String,
}

/// What one member did by a contingency plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdoptedPlan {
    /// The Cluster's name.
    pub cluster: String,
    /// Epoch of the plans that it acted on.
    pub epoch: u64,
    /// The member's own counter of its actions.
    pub revision: u64,
    /// Replicas that it ran by the plan.
    pub replicas: i64,
}

/// How long a copy can keep running after its agent was last heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lease {
    /// Milliseconds without renewal after which the agent stops the copy; never if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<i64>,
    /// Milliseconds that the pods may then take to end, with a margin.
    pub ending_ms: i64,
}

/// Identity of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateReference {
    /// As in the manifest.
    pub api_version: String,
    /// As in the manifest.
    pub kind: String,
    /// The plural, as in the URL.
    pub resource: String,
    /// Name; the namespace is the Placement's.
    pub name: String,
    /// uid.
    pub uid: String,
}

/// One cluster of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterTarget {
    /// The Cluster's name.
    pub name: String,
    /// Replicas for this cluster; unset for kinds without replicas, and for policies that duplicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
    /// The copy stays only until its replacement is ready elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// The cluster was lost and is replaced elsewhere. It gets its share back as the policy's `failover.failback` says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// The lease of an earlier decision, if it is longer: the agent may still follow that one, until it has confirmed a later decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// The state of the decision in the members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementStatus {
    /// One entry for each cluster that holds, or should hold, a copy; ordered by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterOutcome>,
    /// Why each cluster got what it got.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// `Placed`, `Applied`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub conditions: Vec<Condition>,
}

/// The state of the copy in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterOutcome {
    /// The Cluster's name.
    pub name: String,
    /// Template generation that the member holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_generation: Option<i64>,
    /// `Applied`, `Pending`, `Conflict`, `Invalid`, `Forbidden`, `NotServed`, `Unavailable`, `Removing`…
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Ready replicas in this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i64>,
}

/// One step of the decision, for one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Reason {
    /// The Cluster's name.
    pub cluster: String,
    /// Whether the rule selects the cluster.
    pub selected: bool,
    /// Name of the rule: `Default`, `ClusterSelector`, `Taint`, `NotReady`, `ApiNotServed`, `Weight`, `Overflow`…
    pub rule: String,
    /// For people.
    pub message: String,
}
