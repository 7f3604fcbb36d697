//! What agents did by contingency plans: the ConfigMap `federation-system/contingency-acts`, one key for each act, the newest 50.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use federation_core::api::marks::SYSTEM_NAMESPACE;

use super::api::Api;

const NAME: &str = "contingency-acts";
/// An act is rare: these are years, and some kilobytes.
pub(crate) const KEPT: usize = 50;

/// What one agent did at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ActedPlan {
    /// The Cluster's name.
    pub(crate) cluster: String,
    /// Of the plans.
    pub(crate) epoch: u64,
    /// The agent's own count.
    pub(crate) revision: u64,
    /// Names of the losses.
    pub(crate) losses: Vec<String>,
    /// What it runs for them.
    pub(crate) workloads: Vec<ActedWorkload>,
    /// When the hub heard of it, Unix milliseconds.
    #[serde(rename = "heardMillis")]
    pub(crate) heard_ms: i64,
}

/// A workload that was scaled up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ActedWorkload {
    /// `resource.group/namespace/name`.
    pub(crate) workload: String,
    /// At least so many.
    pub(crate) replicas: u32,
}

impl ActedPlan {
    /// Whether both are of the same act: an agent tells of it at each connection until it is taken in.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.cluster, self.epoch, self.revision) == (&other.cluster, other.epoch, other.revision)
    }
}

/// Keeps an act, durably.
///
/// # Errors
/// When the ConfigMap cannot be written.
pub(crate) async fn append(api: &Api, act: &ActedPlan) -> Result<(), kube::Error> {
    // Keys sort by time until the year 2286.
    let key = format!("{:013}.{}", act.heard_ms, act.cluster);
    let text = serde_json::to_string(act).map_err(kube::Error::SerdeError)?;
    let Some(data) = data(api).await? else {
        let made = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": SYSTEM_NAMESPACE},
            "data": BTreeMap::from([(key, text)]),
        });
        return api.write("POST", &collection(), &made).await.map(drop);
    };
    let mut change = BTreeMap::from([(key, json!(text))]);
    let surplus = (data.len() + 1).saturating_sub(KEPT);
    change.extend(data.into_keys().take(surplus).map(|old| (old, json!(null))));
    api.merge(&format!("{}/{NAME}", collection()), &json!({"data": change})).await.map(drop)
}

/// Every act that is kept, oldest first.
///
/// # Errors
/// When the ConfigMap cannot be read.
pub(crate) async fn read(api: &Api) -> Result<Vec<ActedPlan>, kube::Error> {
    let data = data(api).await?.unwrap_or_default();
    Ok(data.values().filter_map(|text| serde_json::from_str(text).ok()).collect())
}

/// What is in the ConfigMap, if it is there.
async fn data(api: &Api) -> Result<Option<BTreeMap<String, String>>, kube::Error> {
    let Some(found) = api.read(&format!("{}/{NAME}", collection())).await? else { return Ok(None) };
    let map: ConfigMap = serde_json::from_value(found).map_err(kube::Error::SerdeError)?;
    Ok(Some(map.data.unwrap_or_default()))
}

fn collection() -> String {
    format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps")
}
