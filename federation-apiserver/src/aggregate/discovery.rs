//! What other servers serve, in the forms of discovery and OpenAPI.

use kube_schema::openapi::Extension;
use serde_json::{Map, Value, json};

use super::External;

/// A group version in aggregated discovery (KEP-3352). One whose server does not answer is stale.
pub(crate) fn discovered(external: &External) -> Value {
    let current = external.remote_api.as_ref().is_some_and(|remote_api| remote_api.current);
    json!({
        "version": external.version,
        "resources": aggregated_resources(external),
        "freshness": if current { "Current" } else { "Stale" },
    })
}

/// An APIResourceList as the resources of aggregated discovery.
fn aggregated_resources(external: &External) -> Vec<Value> {
    let list = external.remote_api.as_ref().map(|remote_api| &remote_api.resources);
    let listed = list.and_then(|list| list["resources"].as_array()).map(Vec::as_slice).unwrap_or_default();
    let name = |resource: &Value| resource["name"].as_str().unwrap_or_default().to_owned();
    let own = listed.iter().filter(|resource| !name(resource).contains('/'));
    own.map(|resource| {
        let mut shown = Map::new();
        let plural = name(resource);
        shown.insert("resource".into(), plural.as_str().into());
        shown.insert("responseKind".into(), reply(external, resource));
        let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
        shown.insert("scope".into(), scope.into());
        for (from, to) in [
            ("singularName", "singularResource"),
            ("verbs", "verbs"),
            ("shortNames", "shortNames"),
            ("categories", "categories"),
        ] {
            if !resource[from].is_null() {
                shown.insert(to.into(), resource[from].clone());
            }
        }
        let parts = listed.iter().filter_map(|part| {
            let part_name = name(part);
            let sub = part_name.strip_prefix(&plural)?.strip_prefix('/')?;
            Some(json!({"subresource": sub, "responseKind": reply(external, part), "verbs": part["verbs"]}))
        });
        let parts: Vec<_> = parts.collect();
        if !parts.is_empty() {
            shown.insert("subresources".into(), parts.into());
        }
        Value::Object(shown)
    })
    .collect()
}

fn reply(external: &External, resource: &Value) -> Value {
    let text = |field: &str, own: &str| {
        resource[field].as_str().filter(|text| !text.is_empty()).unwrap_or(own).to_owned()
    };
    json!({
        "group": text("group", &external.group),
        "version": text("version", &external.version),
        "kind": resource["kind"],
    })
}

/// What they add to the OpenAPI documents.
pub(crate) fn extensions(external: &[std::sync::Arc<External>]) -> Vec<Extension> {
    let known = external.iter().filter_map(|external| Some((external, external.remote_api.as_ref()?)));
    known
        .map(|(external, remote_api)| Extension {
            key: external.path().trim_start_matches('/').to_owned(),
            v3: remote_api.openapi_v3.clone(),
            v2: remote_api.openapi_v2.clone(),
        })
        .collect()
}
