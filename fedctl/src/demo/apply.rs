//! Posts manifests as a user's client would.

use anyhow::{Context as _, Result};
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::discovery::ApiResource;

/// Creates every object of a multi-document YAML text, in order.
pub(crate) async fn create_all(client: &Client, yaml: &str) -> Result<()> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(yaml)?;
    for document in documents {
        let object: DynamicObject = serde_json::from_value(document)?;
        let types = object.types.clone().context("a manifest has apiVersion and kind")?;
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let plural = match types.kind.strip_suffix('y') {
            Some(stem) => format!("{}ies", stem.to_lowercase()),
            None => format!("{}s", types.kind.to_lowercase()),
        };
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: types.api_version.clone(),
            kind: types.kind.clone(),
            plural,
        };
        let namespace = object.metadata.namespace.clone().unwrap_or_else(|| "default".into());
        let name = object.metadata.name.clone().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        api.create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("creating {} {name}", types.kind))?;
    }
    Ok(())
}
