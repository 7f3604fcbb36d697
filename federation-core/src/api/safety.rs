//! The kinds that limit removals: DeletionBudget, HeldRemoval and Trash.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// How much one cause may remove before a person is asked.
    DeletionBudget, "deletionbudgets", k8s_openapi::ClusterResourceScope, DeletionBudgetSpec, SafetyStatus
}

kind! {
    /// Removals of one cause that exceed its budget. None of them happens until a person decides. Created by the controller, which deletes it
    /// once there is nothing left to decide.
    HeldRemoval, "heldremovals", k8s_openapi::ClusterResourceScope, HeldRemovalSpec, SafetyStatus
}

kind! {
    /// A deleted template as its user last wrote it, kept for a grace period. `fedctl undo` restores it.
    Trash, "trash", k8s_openapi::ClusterResourceScope, TrashSpec, SafetyStatus
}

/// How much one cause (the deletion of a Namespace, an edit of a policy, a cluster that leaves) may remove before a person is asked. Of
/// several budgets the tightest value of each field counts (of windows the longest); without any, the defaults do. What a user deletes by
/// its own name is never held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionBudgetSpec {
    /// Maximum number of member copies that one cause may remove within the window; 100 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u32>,
    /// Maximum percentage of all member copies that one cause may remove within the window, 1 to 100; 50 if unset. Applies only if there are
    /// more than 20 copies, and not to the deletion of a Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent_of_fleet: Option<u32>,
    /// Length of the window in seconds; 600 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub window_seconds: Option<u32>,
}

/// Removals that wait for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldRemovalSpec {
    /// What causes them: `Namespace shop`, `PlacementPolicy shop/web generation 4`, `Cluster taiwan`.
    pub cause: String,
    /// Number of member copies that would be removed, as known when they were held.
    pub copies: u64,
    /// For people.
    pub message: String,
    /// What to do with them; set by `fedctl confirm`.
    pub decision: HeldDecision,
}

/// What a person decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeldDecision {
    /// Nothing yet: nothing is removed.
    #[default]
    Undecided,
    /// Remove the copies.
    Remove,
    /// Leave the copies in the members, unmanaged.
    Release,
}

/// A deleted template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrashSpec {
    /// As in the manifest.
    pub api_version: String,
    /// As in the manifest.
    pub kind: String,
    /// The plural, as in the URL.
    pub resource: String,
    /// Empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The template as JSON, without fields that the server sets.
    pub manifest: String,
    /// Clusters that held a copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// When the controller deletes this object, RFC 3339.
    pub expires: String,
}

/// Empty: these kinds have no status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SafetyStatus {}
