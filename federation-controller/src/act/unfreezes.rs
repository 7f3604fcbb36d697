//! Who ended a freeze, why and when: the ConfigMap `federation-system/unfreezes`, one key for each, the newest 50.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

use federation_core::api::marks::SYSTEM_NAMESPACE;

const NAME: &str = "unfreezes";
/// A freeze is rare: these are years, and some kilobytes.
const KEPT: usize = 50;

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unfreeze {
    pub(crate) by: String,
    pub(crate) reason: String,
    /// Unix milliseconds.
    #[serde(rename = "atMillis")]
    pub(crate) at_ms: i64,
    /// Why it was frozen.
    pub(crate) freeze: String,
    pub(crate) clusters: Vec<String>,
}

/// Keeps a word, durably.
///
/// # Errors
/// When the ConfigMap cannot be written.
pub(crate) async fn keep(client: &Client, unfreeze: &Unfreeze) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    // Keys sort by time until the year 2286.
    let key = format!("{:013}", unfreeze.at_ms);
    let text = serde_json::to_string(unfreeze).map_err(kube::Error::SerdeError)?;
    let Some(there) = api.get_opt(NAME).await? else {
        let made = ConfigMap {
            metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(key, text)])),
            ..ConfigMap::default()
        };
        return api.create(&PostParams::default(), &made).await.map(drop);
    };
    let data = there.data.unwrap_or_default();
    let mut change = BTreeMap::from([(key, json!(text))]);
    let surplus = (data.len() + 1).saturating_sub(KEPT);
    change.extend(data.into_keys().take(surplus).map(|old| (old, json!(null))));
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(json!({"data": change}))).await.map(drop)
}

/// The last word; none if there never was one.
///
/// # Errors
/// When the ConfigMap cannot be read.
pub(crate) async fn last(client: &Client) -> Result<Option<Unfreeze>, kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let data = api.get_opt(NAME).await?.and_then(|map| map.data).unwrap_or_default();
    Ok(data.values().next_back().and_then(|text| serde_json::from_str(text).ok()))
}
