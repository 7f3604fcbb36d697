//! The kinds that keep removals in bounds: DeletionBudget, HeldRemoval and Trash.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// How much one cause may remove before a person is asked.
    DeletionBudget, "deletionbudgets", k8s_openapi::ClusterResourceScope, DeletionBudgetSpec, SafetyStatus
}

kind! {
    /// Removals of one cause that are over budget: nothing of them happens until a person decides. Made by the controller, which
    /// deletes it once nothing is left to decide.
    HeldRemoval, "heldremovals", k8s_openapi::ClusterResourceScope, HeldRemovalSpec, SafetyStatus
}

kind! {
    /// A deleted template as its user last wrote it, kept for a grace time: `fedctl undo` makes it anew.
    Trash, "trash", k8s_openapi::ClusterResourceScope, TrashSpec, SafetyStatus
}

/// How much one cause (a Namespace's deletion, an edit of a policy, a cluster that leaves) may remove before a person is asked. Of
/// several budgets the tightest counts; without any, the defaults do. What a user deletes by its own name is never held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionBudgetSpec {
    /// Member copies that one cause may remove within the window. 100 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u32>,
    /// Share of all member copies that one cause may remove, where there are more than 20 of them: 1 to 100. 50 if unset. Does not
    /// count for the deletion of a Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent_of_fleet: Option<u32>,
    /// Seconds. 600 if unset.
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
    /// Member copies that would go, as far as was known when they were held.
    pub copies: u64,
    /// For people.
    pub message: String,
    /// What shall be done. `fedctl confirm` sets it.
    pub decision: HeldDecision,
}

/// What a person decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeldDecision {
    /// Nothing yet: nothing is removed.
    #[default]
    Undecided,
    /// The copies are removed, as was asked.
    Remove,
    /// The copies stay in the members, without the federation's marks.
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
    /// JSON of the template, without what the server writes.
    pub manifest: String,
    /// Clusters that held a copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// RFC 3339: the controller deletes this object then.
    pub expires: String,
}

/// These kinds have nothing to observe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SafetyStatus {}
